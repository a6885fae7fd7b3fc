"""The command beside the load, the timeline, the Pods, and how the load ends."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.prove.servers import ANSWER, Server, answer, serve
from tests.prove.stage import Stage, settle
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
        "        self.send_response(200); self.send_header('Content-Length', '2'); "
        "self.end_headers(); self.wfile.write(b'ok')\n"
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
        stop = [sys.executable, "-c", f"import os; os.kill({server.pid}, 15)"]
        try:
            code = main(["prove", url, "--before", "1", "--after", "1", "--", *stop])
        finally:
            server.kill()
    out = capfd.readouterr().out
    assert code == 3
    begin = out.index("command began: ")
    assert "refused" not in out[out.index("WHEN") : begin]
    assert "refused" in out[begin:]
    assert "requests lost in" in out
    assert "Give --pods SELECTOR" in out.splitlines()[-1]


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
        (["http://127.0.0.1:1/", "--until-gone"], "--until-gone needs --pods"),
        (["http://127.0.0.1:1/", "--max-lost", "-1"], "'-1'"),
    ],
)
def test_wrong_arguments_are_named(
    argv: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prove", *argv])
    assert caught.value.code == 2
    usage, _, error = capsys.readouterr().err.partition("\n")
    assert usage == "usage: podgrace prove URL [options] [-- COMMAND ...]"
    assert names in error


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["http://127.0.0.1:1/"], "http://127.0.0.1:1/: the connection was refused"),
        (["ftp://127.0.0.1/"], "ftp://127.0.0.1/: accepted: http://"),
        (["http://127.0.0.1:99999/"], "Port out of range"),
        (["http://no-such-name.invalid/"], "no-such-name.invalid"),
        (["http://127.0.0.1:1/", "-H", "no colon"], "header 'no colon'"),
        (["http://127.0.0.1:1/", "-H", "Connection: close"], "prove writes this one itself"),
        (["http://127.0.0.1:1/", "-X", "GE T"], "method 'GE T'"),
        (["http://127.0.0.1:1/", "--ca", "/none"], "--ca /none: No such file or directory"),
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


def test_pods_come_and_go_in_the_timeline_and_the_load_outlasts_them(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, monkeypatch)
    stage.pod("old", ready=True)
    stage.endpoints("old")

    def play() -> None:
        while not (tmp_path / "began").exists():
            time.sleep(0.02)
        stage.pod("new")
        settle()
        stage.pod("new", ready=True)
        stage.endpoints("old", "new")
        stage.pod("old", ready=True, told=True)
        stage.endpoints("new", leaving=("old",))
        (tmp_path / "told").touch()
        while not (tmp_path / "done").exists():
            time.sleep(0.02)
        time.sleep(1)  # until the end of the command is seen
        record = '{"podgrace":"drain","waited_ms":700,"drain_end":"idle"}'
        stage.pod("old", told=True, ended=record)
        stage.pod("old", told=True, ended=record, gone=True)

    script = "touch began; until [ -e told ]; do sleep 0.05; done; touch done"
    command = ["sh", "-c", f"cd {tmp_path}; {script}"]
    words = ["--pods", "app=x", "-n", "shop", "--after", "0", "--until-gone", "-o", "json"]
    with serve(answer) as server:
        actor = threading.Thread(target=play)
        actor.start()
        assert main(["prove", server.url, *words, "--", *command]) == 0
        actor.join()
    report = json.loads(capfd.readouterr().out)
    what = [event["what"] for event in report["events"]]
    pods = [line for line in what if line.startswith("Pod")]
    assert sorted(pods) == sorted(
        [
            "Pod old ready",
            "Pod new made",
            "Pod new ready",
            "Pod new in endpoints",
            "Pod old told to stop",
            "Pod old out of endpoints",
            "Pod old gone",
        ]
    )
    assert what.index("command ended") < what.index("Pod old gone")
    old, new = report["pods"]
    assert old["old"]
    assert old["moments"]["drained"] == pytest.approx(old["moments"]["told"] + 0.7, abs=0.02)
    assert old["record"]["drain_end"] == "idle"
    assert new["moments"].keys() >= {"created", "scheduled", "started", "ready", "listed"}
    assert 0 < report["rolloutSeconds"] <= report["lastOldPodSeconds"] < 30
    assert report["troubles"] == []
    asked = "--watch --output-watch-events -o json --namespace shop"
    assert stage.asked == [
        f"get endpointslices.discovery.k8s.io {asked}",
        f"get pods --selector app=x {asked}",
    ]
    assert "secret" not in json.dumps(report)


def test_a_pod_that_stays_is_waited_for_until_a_limit_and_named(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, monkeypatch)
    stage.pod("stays", ready=True)
    words = ["--pods", "app=x", "--until-gone", "--duration", "1", "--after", "0"]
    with serve(answer) as server:
        assert main(["prove", server.url, *words]) == 0
    assert "not seen: Pods that did not come or go in time: stays" in capfd.readouterr().out


def test_pods_that_cannot_be_watched_are_an_error_endpoints_a_note(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, monkeypatch)
    stage.end("endpointslices", "endpointslices is forbidden")
    stage.end("pods", "pods is forbidden")
    with serve(answer) as server:
        assert main(["prove", server.url, "--pods", "app=x"]) == 1
        assert "--pods: pods is forbidden" in capfd.readouterr().err
        (tmp_path / "pods").write_text("")
        stage.pod("web", ready=True)
        assert main(["prove", server.url, "--pods", "app=x", "--duration", "1"]) == 0
    out = capfd.readouterr().out
    assert "not seen: EndpointSlices were no longer watched: endpointslices is forbidden" in out


@pytest.mark.parametrize("no_color", [True, False])
def test_colour_is_for_terminals_that_want_it(
    no_color: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    with serve(answer) as server:
        assert main(["prove", server.url, "--duration", "0.5"]) == 0
    assert ("\033[" in capsys.readouterr().out) is not no_color


def test_lost_requests_that_are_allowed_are_no_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def bad_once(server: Server, connection: socket.socket) -> None:
        if server.request(connection) != 5:
            connection.sendall(ANSWER)

    words = ["--connections", "0", "--duration", "1"]
    with serve(bad_once) as server:
        assert main(["prove", server.url, *words, "--max-lost", "1"]) == 0
    assert "1 of" in capsys.readouterr().out
    with serve(bad_once) as server:
        assert main(["prove", server.url, *words]) == 3


@pytest.mark.parametrize(("method", "tries"), [("POST", 1), ("PUT", 2)])
def test_a_method_and_body_are_sent_and_only_some_may_be_repeated(
    method: str, tries: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A used connection ends without a byte of answer: a PUT is sent again, a POST is lost."""
    heads: list[bytes] = []

    def read(server: Server, connection: socket.socket) -> None:
        number = 0
        while head := server.message(connection):
            heads.append(head)
            number += 1
            if len(heads) == 12:
                return
            connection.sendall(ANSWER)

    words = ["-X", method, "--body", "a=1", "-H", "Content-Type: text/plain", "--no-new"]
    with serve(read) as server:
        code = main(["prove", server.url, *words, "--duration", "1", "-o", "json"])
    report = json.loads(capsys.readouterr().out)
    assert all(head.startswith(method.encode() + b" / HTTP/1.1\r\n") for head in heads)
    assert all(head.endswith(b"\r\n\r\na=1") for head in heads)
    assert all(b"Content-Type: text/plain\r\n" in head for head in heads)
    assert (report["lost"], report["retried"]) == ((1, 0) if tries == 1 else (0, 1))
    assert code == (3 if tries == 1 else 0)


def test_the_answer_to_a_head_has_no_body(capsys: pytest.CaptureFixture[str]) -> None:
    def head(server: Server, connection: socket.socket) -> None:
        while server.request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")

    with serve(head) as server:
        assert main(["prove", server.url, "-X", "head", "--duration", "1", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["clients"]["keep-alive"]["reconnected"] == 0


def test_a_rollout_that_was_only_asked_for_is_waited_for(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kubectl rollout restart` comes back before the first new Pod is there."""
    stage = Stage(tmp_path, monkeypatch)
    stage.pod("old", ready=True)

    def play() -> None:
        while not (tmp_path / "asked-for").exists():
            time.sleep(0.02)
        time.sleep(0.5)
        stage.pod("new")
        time.sleep(3)
        stage.pod("new", ready=True)
        stage.pod("old", ready=True, told=True)
        time.sleep(1)
        stage.pod("old", told=True, gone=True)

    words = ["--pods", "app=x", "--before", "0", "--after", "2", "--rate", "5", "-o", "json"]
    with serve(answer) as server:
        actor = threading.Thread(target=play)
        actor.start()
        done = ["touch", str(tmp_path / "asked-for")]
        assert main(["prove", server.url, *words, "--", *done]) == 0
        actor.join()
    report = json.loads(capfd.readouterr().out)
    assert report["events"][-1]["what"] == "Pod old gone"
    assert report["seconds"] >= report["events"][-1]["at"] + 2
    assert report["rolloutSeconds"] < report["lastOldPodSeconds"]
