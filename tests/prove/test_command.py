"""The command beside the load, the timeline, the Pods, and how the load ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prove.servers import ANSWER, Server, answer, serve
from webhook.cli import main

PROVE = (sys.executable, "-m", "webhook.cli", "prove")


def test_the_command_runs_in_the_middle_and_is_in_the_timeline(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serve(answer) as server:
        code = main(
            [
                "prove",
                server.url,
                "--before",
                "0.5",
                "--after",
                "0.5",
                "-o",
                "json",
                "--",
                "sh",
                "-c",
                "echo seen; sleep 0.3",
            ]
        )
    out = capfd.readouterr()
    report = json.loads(out.out)
    assert code == 0
    assert "seen" in out.err
    assert report["commandExit"] == 0
    assert 0.3 <= report["commandSeconds"] < 10
    assert [event["what"] for event in report["events"]] == [
        "command began: sh -c 'echo seen; sleep 0.3'",
        "command ended",
    ]
    assert report["events"][0]["at"] >= 0.5
    assert report["seconds"] >= report["events"][1]["at"] + 0.5


def test_a_command_that_stops_the_server_gives_losses_after_its_begin(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The whole of it: a server that dies at TERM, and the command that sends it."""
    script = tmp_path / "server.py"
    script.write_text(
        "import http.server, pathlib\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.send_header('Content-Length', '2'); self.end_headers(); self.wfile.write(b'ok')\n"
        "    def log_message(self, *a): pass\n"
        "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
        "print(s.server_port, flush=True)\n"
        "s.serve_forever()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        code = main(["prove", url, "--before", "1", "--after", "1", "--", "kill", str(server.pid)])
    out = capfd.readouterr().out
    assert code == 3
    begin = out.index("command began: kill")
    assert "refused" not in out[out.index("WHEN") : begin]
    assert "refused" in out[begin:]
    assert "requests lost in" in out.splitlines()[-1]


def test_a_failed_command_proves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with serve(answer) as server:
        assert main(["prove", server.url, "--before", "0", "--after", "0", "--", "false"]) == 1
    assert "the command ended with 1: it proves nothing" in capfd.readouterr().out


def test_a_command_that_does_not_exist_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with serve(answer) as server:
        assert main(["prove", server.url, "--before", "0", "--", "no-such-program"]) == 1
    assert "podgrace: no-such-program: No such file or directory" in capfd.readouterr().err


def test_options_may_stand_on_both_sides_of_the_url(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(answer) as server:
        assert (
            main(
                [
                    "prove",
                    "--rate",
                    "10",
                    server.url,
                    "--duration",
                    "1",
                    "-o",
                    "json",
                    "--connections",
                    "2",
                ]
            )
            == 0
        )
    assert json.loads(capsys.readouterr().out)["sent"] in range(8, 24)


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["http://127.0.0.1:1/", "--rate", "0"], "'0'"),
        (["http://127.0.0.1:1/", "--no-such"], "'--no-such'"),
        (["http://127.0.0.1:1/", "kubectl"], "'kubectl'"),
        (["http://127.0.0.1:1/", "--expect", "2xx"], "'2xx'"),
        (["http://127.0.0.1:1/", "--no-new", "--connections", "0"], "leave no client"),
        (["http://127.0.0.1:1/", "--until-eof", "--", "true"], "one of the two"),
    ],
)
def test_wrong_arguments_are_named(
    argv: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prove", *argv])
    assert caught.value.code == 2
    assert names in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["http://127.0.0.1:1/"], "http://127.0.0.1:1/: the connection was refused"),
        (["ftp://127.0.0.1/"], "ftp://127.0.0.1/: accepted: http://"),
        (["http://127.0.0.1:99999/"], "Port out of range"),
        (["http://no-such-name.invalid/"], "no-such-name.invalid"),
        (["http://127.0.0.1:1/", "-H", "no colon"], "header 'no colon'"),
    ],
)
def test_a_target_that_cannot_be_used_is_named_before_the_command_runs(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["prove", *argv, "--", "touch", str(tmp_path / "ran")]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_a_wrong_first_status_is_told_with_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    def missing(server: Server, connection: object) -> None:
        while server.request(connection):  # type: ignore[arg-type]
            connection.sendall(ANSWER.replace(b"200 OK", b"404 Not Found"))  # type: ignore[attr-defined]

    with serve(missing) as server:
        assert main(["prove", server.url]) == 1
        assert "status 404; name it with --expect" in capsys.readouterr().err
        assert main(["prove", server.url, "--expect", "200,404", "--duration", "0.5"]) == 0


def test_the_load_goes_on_until_standard_input_ends() -> None:
    with serve(answer) as server:
        command = [*PROVE, server.url, "--until-eof", "-o", "json"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr
            assert process.stderr.readline().startswith("loading http://127.0.0.1")
            out, _ = process.communicate("", timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["lost"] == 0


def test_an_interrupt_ends_the_load_and_reports() -> None:
    with serve(answer) as server:
        command = [*PROVE, server.url, "--duration", "600"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "none of" in out.splitlines()[-1]


KUBECTL = """#!/usr/bin/env python3
import json, pathlib, signal, sys, time
assert sys.argv[1:] == "get pods --selector app=x --watch --output-watch-events -o json --namespace shop".split(), sys.argv
def tell(kind, name, ready=False, going=False):
    meta = {"name": name, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {})}
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    print(json.dumps({"type": kind, "object": {"metadata": meta, "status": status}}, indent=4))
    sys.stdout.flush()
tell("ADDED", "old", ready=True)
tell("ADDED", "new")
tell("MODIFIED", "new")
tell("MODIFIED", "new", ready=True)
tell("MODIFIED", "old", ready=True, going=True)
tell("MODIFIED", "old", going=True)
here = pathlib.Path(sys.argv[0]).parent
(here / "told").touch()
while not (here / "ended").exists():
    time.sleep(0.05)
time.sleep(0.5)
tell("DELETED", "old", going=True)
signal.pause()
"""


def test_pods_come_and_go_in_the_timeline_and_the_load_outlasts_them(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool's own stream, in its own shape (recorded from kubectl 1.36: objects one after another, each over many lines)."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = ["sh", "-c", f"cd {tmp_path}; until [ -e told ]; do sleep 0.05; done; touch ended"]
    with serve(answer) as server:
        assert (
            main(
                [
                    "prove",
                    server.url,
                    "--pods",
                    "app=x",
                    "-n",
                    "shop",
                    "--after",
                    "0",
                    "-o",
                    "json",
                    "--",
                    *command,
                ]
            )
            == 0
        )
    report = json.loads(capfd.readouterr().out)
    what = [event["what"] for event in report["events"]]
    assert [line for line in what if line.startswith("Pod")] == [
        "Pod old ready",
        "Pod new made",
        "Pod new ready",
        "Pod old told to stop",
        "Pod old gone",
    ]
    assert what.index("command ended") < what.index("Pod old gone")
