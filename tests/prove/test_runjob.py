"""--run-job: what is created is deleted, whatever happens, and the report comes back.

The Job is real in all but its Pod: a stand-in for kubectl starts `podgrace prove` with the words of
the Job that it was given, shows what that prints as the log, and sends it SIGTERM when the Job is
deleted.
"""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.prove.servers import answer, serve
from webhook.cli import main

KUBECTL = """#!{python}
import os, pathlib, signal, subprocess, sys, time
sys.path[:0] = {path!r}
from ruamel.yaml import YAML
here, words = pathlib.Path(sys.argv[0]).parent, sys.argv[1:]
with (here / "asked").open("a") as asked:
    asked.write(" ".join(words) + chr(10))
words = [word for word in words if word not in ("--namespace", "shop")]
if words[0] == "create":
    text = sys.stdin.read()
    (here / "manifests").write_text(text)
    job = list(YAML(typ="safe").load_all(text))[-1]
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    for name in ("--pods", "--namespace"):
        if name in args:
            del args[args.index(name) : args.index(name) + 2]
    log = (here / "log").open("wb")
    run = [{python!r}, "-m", "webhook.cli", *args]
    process = subprocess.Popen(run, stdout=log, stderr=log, start_new_session=True)
    (here / "pid").write_text(str(process.pid))
elif words[0] == "logs":
    if (here / "refused").exists():
        sys.exit((here / "refused").read_text())
    pid, at = int((here / "pid").read_text()), 0
    while True:
        try:
            state = pathlib.Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = "Z"
        data = (here / "log").read_bytes()
        sys.stdout.write(data[at:].decode())
        sys.stdout.flush()
        at = len(data)
        if state == "Z":
            break
        time.sleep(0.05)
elif words[:2] == ["get", "pods"]:
    lines = (here / "pods").read_text().splitlines() if (here / "pods").exists() else []
    print(lines[0] if lines else "a,,Running,True")
    if len(lines) > 1:
        (here / "pods").write_text(chr(10).join(lines[1:]))
elif words[0] == "delete" and (here / "pid").exists():
    try:
        os.kill(int((here / "pid").read_text()), signal.SIGTERM)
    except ProcessLookupError:
        pass
"""
KINDS = ("job", "rolebinding", "role", "serviceaccount")


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL.format(python=sys.executable, path=sys.path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    return tmp_path


def asked(kubectl: Path, verb: str) -> list[str]:
    return [line for line in (kubectl / "asked").read_text().splitlines() if f"{verb} " in line]


def check_deleted(kubectl: Path) -> None:
    (*_, job) = YAML(typ="safe").load_all(io.StringIO((kubectl / "manifests").read_text()))
    name = job["metadata"]["name"]
    assert name.startswith("podgrace-prove-")
    last = asked(kubectl, "delete")[-1]
    assert all(f"{kind}/{name}" in last for kind in KINDS)


def test_the_command_runs_here_while_the_job_loads_and_the_report_has_both(
    kubectl: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (kubectl / "pods").write_text(
        "a,,Running,True\na,now,Running,True\nb,,Pending,\nb,,Running,True"
    )
    words = ["--pods", "app=shop", "-n", "shop", "--run-job", "--before", "0.5", "--after", "0.5"]
    words += ["--rate", "10", "--html", str(tmp_path / "run.html"), "-o", "json"]
    with serve(answer) as server:
        code = main(["prove", server.url, *words, "--", "sh", "-c", "echo rolled"])
    out = capfd.readouterr()
    assert code == 0, out
    report = json.loads(out.out)
    assert "rolled" in out.err
    assert report["lost"] == 0 < report["sent"]
    assert report["commandExit"] == 0
    assert report["events"][0]["what"] == "command began: sh -c 'echo rolled'"
    assert report["events"][0]["at"] >= 0.5
    assert "rolled" in (tmp_path / "run.html").read_text(encoding="utf-8")
    assert len(asked(kubectl, "get pods")) >= 4
    assert all(line.startswith("--namespace shop ") for line in asked(kubectl, "delete"))
    check_deleted(kubectl)


def test_an_interrupt_brings_back_what_was_met_and_deletes_all(kubectl: Path) -> None:
    with serve(answer) as server:
        words = [sys.executable, "-m", "webhook.cli", "prove", server.url, "--run-job"]
        words += ["--before", "0", "-o", "json", "--", "sh", "-c", "echo began >&2; sleep 60"]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            while process.stderr.readline() != "began\n":
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
    report = json.loads(out)
    assert process.returncode == 1, err  # the command did not end well: that proves nothing
    assert report["commandExit"] == -signal.SIGTERM
    assert report["sent"] > 0
    check_deleted(kubectl)


@pytest.mark.parametrize("why", ["no answer", "no image"])
def test_a_job_that_does_not_begin_is_told_and_deleted(
    why: str, kubectl: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if why == "no image":
        (kubectl / "refused").write_text("waiting to start: image can't be pulled")
    words = ["http://127.0.0.1:1/", "--run-job", "--", "touch", str(kubectl / "ran")]
    assert main(["prove", *words]) == 1
    said = "the connection was refused" if why == "no answer" else "image can't be pulled"
    assert said in capfd.readouterr().err.splitlines()[-1]
    assert not (kubectl / "ran").exists()
    check_deleted(kubectl)


def test_what_the_webhooks_image_cannot_speak_is_refused_with_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for option in ("--job", "--run-job"):
        assert main(["prove", "grpc://shop:50051", option]) == 1
        assert "name one with --image" in capsys.readouterr().err
    assert main(["prove", "grpc://shop:50051", "--job", "--image", "example/prove:1"]) == 0
    assert main(["prove", "http://shop/", "--slow-url", "sse://shop/x", "--job"]) == 0


def test_a_body_goes_with_the_job_if_it_is_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text('{"a": 1}')
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert (
        main(["prove", "http://shop/", "-X", "POST", "--body", f"@{tmp_path}/text", "--job"]) == 0
    )
    (job,) = YAML(typ="safe").load_all(io.StringIO(capsys.readouterr().out))
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--body") + 1] == '{"a": 1}'
    assert main(["prove", "http://shop/", "--body", f"@{tmp_path}/bytes", "--job"]) == 1
    assert "not UTF-8" in capsys.readouterr().err
