"""What a pipeline gets: JUnit, Markdown, one table of several runs, a Job, a progress line."""

import contextlib
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from ruamel.yaml import YAML

from tests.prove.runs import run
from tests.prove.servers import answer, serve
from webhook.cli import main
from webhook.cli.prove.forward import forwarded, is_loopback
from webhook.cli.prove.junit import junit
from webhook.cli.prove.markdown import markdown
from webhook.cli.prove.report import Report, write


def changed(report: Report, **fields: Any) -> Report:
    return Report(**{name: getattr(report, name) for name in report.__struct_fields__} | fields)


def test_junit_fails_the_client_that_lost_too_many() -> None:
    report = run(losses=60)
    suite = ET.fromstring(junit([report]))[0]  # noqa: S314 - our own
    case = suite.find("testcase[@name='new: no request is lost']/failure")
    assert suite.get("failures") == "1"
    assert case is not None
    assert case.get("message", "").startswith("60 of 1000 requests lost: ")
    assert suite.find("properties/property[@name='lost']").get("value") == "60"  # type: ignore[union-attr]
    assert "raise podgrace.io/delay-min" in suite.findtext("system-out", "")


def test_junit_obeys_max_lost_and_tells_of_a_failed_command() -> None:
    suite = ET.fromstring(junit([changed(run(), max_lost=60, command_exit=2)]))[0]  # noqa: S314
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")
    assert "ended with 2" in suite.find("testcase[@name='command']/error").get("message", "")  # type: ignore[union-attr]


def test_junit_is_xml_whatever_a_title_holds() -> None:
    made = junit([changed(run(), title="<&>\x00\ud800")])
    assert ET.fromstring(made)[0].get("name") == "podgrace prove <&>\ufffd\ufffd"  # noqa: S314


def test_markdown_holds_the_verdict_a_table_and_what_to_do() -> None:
    made = markdown([changed(run(), title="a|b<img>")])
    assert made.startswith("### ❌ a\\|b&lt;img>: 60 of 1000 requests lost, 1 retried")
    assert "| new | 1000 | 940 | 60 |" in made
    assert "* Deregistration: " in made


def test_several_runs_are_one_table_and_one_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for title, losses in {"bare": 60, "sleep": 9, "podgrace": 0}.items():
        files.append(str(tmp_path / f"{title}.json"))
        Path(files[-1]).write_text(write(run(title=title, losses=losses)), encoding="utf-8")
    page = tmp_path / "beside.html"
    assert main(["prove", "compare", *files, "--html", str(page)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["RUN", "SENT", "LOST", "RETRIED"]
    assert [row.split()[:3] for row in rows] == [
        ["bare", "1000", "60"],
        ["sleep", "1000", "9"],
        ["podgrace", "1000", "0"],
    ]
    html = page.read_text(encoding="utf-8")
    assert html.count("<figure>") == 3
    assert "3 runs beside each other" in html
    # The same, for a merge request.
    summary = tmp_path / "summary.md"
    assert main(["prove", "compare", *files, "--markdown", str(summary)]) == 0
    assert "| sleep | 1000 | 9 |" in summary.read_text(encoding="utf-8")


def test_a_comparison_says_if_the_loads_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, requests in (("a", 1000), ("b", 2000)):
        report = run(title=name, requests=requests)
        (tmp_path / name).write_text(write(report), encoding="utf-8")
    assert main(["prove", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "not the same load: 33.3, 66.7 requests a second" in capsys.readouterr().out


def test_a_report_from_the_log_of_a_pod_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_text("loading http://shop/\n" + write(run()), encoding="utf-8")
    assert main(["prove", "compare", str(log)]) == 0
    assert "60 of 1000 requests lost" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", "no report", '{"podgrace": "prove/1"}'])
def test_what_is_no_report_is_named(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text(content)
    assert main(["prove", "compare", str(tmp_path / "x")]) == 1
    assert f"{tmp_path}/x: not a report of podgrace prove" in capsys.readouterr().err


def test_a_terminal_sees_how_it_goes_and_a_log_does_not() -> None:
    with serve(answer) as server:
        words = [sys.executable, "-m", "webhook.cli", "prove", server.url, "--duration", "2"]
        quiet = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs, env=env) as process:
            os.close(theirs)
            seen = b"".join(_until_end(ours))
            os.close(ours)
        assert process.returncode == 0
    assert quiet.stderr == f"loading {server.url}\n"
    assert b" sent " in seen
    assert b" 0 lost " in seen


def _until_end(terminal: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # how a terminal ends
        while data := os.read(terminal, 4096):
            yield data


# -- where the clients are


def test_a_job_has_the_least_rights_and_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["http://shop/", "--rate", "50", "--pods", "app=shop", "-n", "shop", "-H", "A: b"]
    assert main(["prove", *words, "--expect", "200,404", "--job", "--image", "example/x:1"]) == 0
    account, role, binding, job = YAML(typ="safe").load_all(io.StringIO(capsys.readouterr().out))
    assert [rule["verbs"] for rule in role["rules"]] == [["watch"], ["watch"]]
    assert [rule["resources"] for rule in role["rules"]] == [["pods"], ["endpointslices"]]
    assert {tree["metadata"]["namespace"] for tree in (account, role, binding, job)} == {"shop"}
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == "example/x:1"
    assert container["args"] == [
        *("prove", "http://shop/", "--pods", "app=shop", "--namespace", "shop", "--rate", "50"),
        *("--expect", "200,404", "--header", "A: b", "--until-gone", "-o", "json"),
    ]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["restartPolicy"] == "Never"
    assert job["spec"]["activeDeadlineSeconds"] > 900


def test_a_job_that_watches_nothing_has_no_rights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "http://shop/", "--job"]) == 0
    (job,) = YAML(typ="safe").load_all(io.StringIO(capsys.readouterr().out))
    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--pods", "a=b"], "-n is needed: a Job watches --pods in its own namespace"),
        (["--until-eof"], "--until-eof: a Job has no standard input"),
        (["--", "true"], "--job takes no command"),
    ],
    ids=["no -n", "eof", "command"],
)
def test_what_a_job_cannot_do_is_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["prove", "http://shop/", "--job", *words])
    assert says in capsys.readouterr().err


def test_files_of_this_machine_are_not_in_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "http://shop/", "--job", "--ca", "ca.crt"]) == 1
    assert "the Job has no such file" in capsys.readouterr().err


def test_a_port_forward_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real process with that command line; kubectl itself is not needed for it."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("import time; time.sleep(60)")
    with serve(answer) as server:
        words = ["port-forward", "-n", "shop", "svc/shop", f"{server.port}:80"]
        with subprocess.Popen([sys.executable, str(kubectl), *words]) as process:
            try:
                assert main(["prove", server.url]) == 1
            finally:
                process.kill()
        err = capsys.readouterr().err
        assert "is the end of a `kubectl port-forward`: a tunnel to one Pod" in err
        assert server.count == 0


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        ("kubectl port-forward svc/shop 8080:80", True),
        ("/usr/bin/kubectl -n x port-forward pod/a 8080", True),
        ("kubectl port-forward pod/a :80", True),
        ("kubectl port-forward pod/a 9090:8080", False),
        ("kubectl get pods", False),
        ("vim port-forward 8080", False),
    ],
)
def test_which_process_forwards_a_port(command: str, is_one: bool) -> None:
    assert forwarded(8080, [command.split()]) is is_one


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("shop", False)],
)
def test_which_host_is_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here
