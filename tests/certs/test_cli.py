"""`podgrace certs ...` as a process: its output, its exit codes, and three of it at once."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs import Authority, Leaf, store
from certs.authority import BACKDATE
from certs.cli import main
from certs.records import read_authorities
from tests.certs.apiserver import CA, CONFIG, LEASE, NAMESPACE, TLS, ApiServer
from tests.certs.judges import shakes_hands
from tests.certs.replicas import judge_past, served, signers, trusts

DAY = timedelta(days=1)
COMMAND = [sys.executable, "-m", "certs"]
OURS = [
    "--secret",
    "tls",
    "--ca-secret",
    "ca",
    "--lease",
    "turn",
    "--webhook-configuration",
    "podgrace",
    "--service",
    "podgrace",
]


def certs(
    *arguments: object, status: int = 0, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd, env=environment
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


def cluster(api: ApiServer, *more: object) -> list[object]:
    return ["--api", api.url, "--namespace", NAMESPACE, *more]


def running(api: ApiServer, name: str, *more: str) -> "subprocess.Popen[str]":
    names = [*OURS, "--poll", "1s", *more]
    command = [*COMMAND, "run", *map(str, cluster(api)), *names]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "POD_NAME": name}
    )


@contextmanager
def manager(api: ApiServer, name: str, *more: str) -> "Iterator[subprocess.Popen[str]]":
    process = running(api, name, *more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait(what: str, condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def handles_term(process: "subprocess.Popen[str]") -> bool:
    """Tell whether a process is past its start: before that, TERM simply ends it."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def stop(process: "subprocess.Popen[str]") -> list[dict[str, object]]:
    """End it as the kubelet does; returns what it logged."""
    wait("its start", lambda: handles_term(process))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


# A directory.


def test_init_makes_what_a_client_accepts(tmp_path: Path) -> None:
    done = certs(
        "init", "--dir", tmp_path / "new" / "tls", "--name", "localhost", "--name", "127.0.0.1"
    )
    assert done.stdout == (
        f"wrote tls.crt, tls.key and ca.crt for localhost, 127.0.0.1 to {tmp_path}/new/tls\n"
        f"To trust them: curl --cacert {tmp_path}/new/tls/ca.crt ...\n"
    )
    files = store.read(tmp_path / "new" / "tls")
    assert shakes_hands(
        Leaf.load(files[store.CERT_FILE], files[store.KEY_FILE]),
        files[store.CA_FILE],
        "localhost",
        check_time=True,
    )


def test_check_of_a_good_directory(tmp_path: Path) -> None:
    certs("init", "--dir", tmp_path, "--name", "localhost")
    assert (
        certs("check", "--dir", tmp_path, "--name", "localhost").stdout
        == f"ok: {tmp_path}: fine, also for the next 7 days\n"
    )
    done = certs("check", "--dir", tmp_path, "--within", "61d", status=1)
    assert done.stderr.startswith(
        f"warning: {tmp_path}: tls.crt: CN=podgrace webhook,O=podgrace expires at "
    )
    done = certs("check", "--dir", tmp_path, "--name", "other.example", status=1)
    assert (
        done.stderr
        == f"error: {tmp_path}: tls.crt does not cover other.example; it covers localhost\n"
    )


def test_check_waits_for_what_is_still_to_come(tmp_path: Path) -> None:
    """As a start-up step: another container makes the files meanwhile."""
    command = [*COMMAND, "check", "--dir", str(tmp_path), "--wait", "60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(0.5)  # so that it waits as a rule; either order is right
        certs("init", "--dir", tmp_path, "--name", "localhost")
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "fine" in out


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_directory_without_certificates_is_an_error_that_says_what_is_expected(
    tmp_path: Path, command: str
) -> None:
    done = certs(command, "--dir", tmp_path, status=1)
    assert done.stdout == ""
    assert (
        f"{tmp_path} holds no certificates; expected tls.crt, tls.key and perhaps ca.crt"
        in done.stderr
    )


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in certs("show", "--dir", tmp_path / "file", status=1).stderr
    assert (
        f"can't write certificates to {tmp_path}/file: "
        in certs("init", "--dir", tmp_path / "file", "--name", "a", status=1).stderr
    )


def test_show_says_the_same_in_both_formats(tmp_path: Path) -> None:
    certs("init", "--dir", tmp_path, "--name", "localhost")
    rows = json.loads(certs("show", "--dir", tmp_path, "-o", "json").stdout)
    table = certs("show", "--dir", tmp_path).stdout
    assert [(row["file"], row["role"]) for row in rows] == [
        ("tls.crt", "serving"),
        ("ca.crt", "trusted"),
    ]
    assert rows[0]["names"] == ["localhost"] and rows[0]["issuer"] == rows[1]["subject"]
    for row in rows:
        assert row["sha256"] in table and row["subject"] in table
    assert "59 days left" in table


def test_show_says_what_expired(tmp_path: Path) -> None:
    then = datetime.now(UTC) - 70 * DAY
    authority = Authority.create(now=then)
    leaf = authority.issue("localhost", now=then)
    store.write(tmp_path, {store.CERT_FILE: leaf.cert_pem, store.KEY_FILE: leaf.key_pem})
    assert re.search(r"EXPIRED (9|10) days ago", certs("show", "--dir", tmp_path).stdout)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["init", "--dir", "x"], "required: --name"),
        (["init", "--dir", "x", "--name", "a_b"], "'a_b' is neither an IP address nor a DNS name"),
        (
            ["check", "--dir", "x", "--within", "soon"],
            "'soon': accepted: a whole number and s, m, h or d",
        ),
        (["check", "--dir", "x", "--wit", "1d"], "unrecognized arguments"),
        (["run", "--poll", "1s"], "required: --namespace"),
        (
            ["run", *OURS, "--namespace", "n", "--metrics-port", "70000"],
            "'70000': accepted: 0 to 65535",
        ),
        (
            ["run", *OURS, "--namespace", "n", "--leaf-life", "30s"],
            "--leaf-life is 30 seconds; accepted: 60 seconds or more",
        ),
        (
            ["run", *OURS, "--namespace", "n", "--ca-life", "90d"],
            "--ca-life is 90 days; accepted: at least three times",
        ),
        (
            ["run", *OURS, "--namespace", "n", "--trust-wait", "400d"],
            "--trust-wait is 400 days; accepted: at most a sixth",
        ),
        (
            ["run", *OURS, "--namespace", "n", "--poll", "1h"],
            "--poll is 60 minutes; accepted: 1s to 5m",
        ),
        (["show", "--tls", "magic"], "invalid choice: 'magic'"),
        ([], "required: COMMAND"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_exit_2_and_say_what_is_accepted(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = certs(*arguments, status=2, cwd=tmp_path)
    assert told in done.stderr
    assert not list(tmp_path.iterdir()), "and nothing was done"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    certs("init", "--dir", tmp_path, "--name", "localhost")
    shell = f"{sys.executable} -m certs show --dir {tmp_path} | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr


# A cluster.


def test_outside_a_cluster_it_says_how_to_reach_one() -> None:
    for command in ("show", "check", "renew"):
        assert (
            "start `kubectl proxy` and give --api http://127.0.0.1:8001"
            in certs(command, status=1).stderr
        )


def test_a_whole_life(api: ApiServer) -> None:
    """Start, look, renew the leaf, renew the authority, stop; each step by a person's command."""
    looked = [*cluster(api), *OURS]
    assert "holds no authority" in certs("check", *looked, status=1).stderr
    with manager(api, "a", "--trust-wait", "3s") as process:
        wait("a pair", lambda: api.data(TLS))
        done = certs("check", *looked, "--wait", "60s")
        assert done.stderr == ""
        for about in (
            "clock: ",
            "Secret ca: authority",
            "Secret ca: phase: steady",
            "Secret tls: serving certificate",
            "Lease turn: a_",
        ):
            assert f"ok: {about}" in done.stdout, done.stdout
        assert done.stdout.count("trusts the serving certificate") == 2
        roles = [
            (row["file"], row["role"])
            for row in json.loads(certs("show", *looked, "-o", "json").stdout)
        ]
        assert roles == [
            ("Secret ca", "signer"),
            ("Secret tls tls.crt", "serving"),
            ("Secret tls ca.crt", "trusted"),
            ("webhook a.podgrace.io", "trusted"),
            ("webhook b.podgrace.io", "trusted"),
        ]
        # A request is timed to the second, and the leaf must be older.
        made = (
            Leaf.load(
                api.data(TLS)[store.CERT_FILE], api.data(TLS)[store.KEY_FILE]
            ).certificate.not_before
            + BACKDATE
        )
        wait("the next second", lambda: datetime.now(UTC) > made + timedelta(seconds=1.1))
        assert "asked for" in certs("renew", *cluster(api), "--ca-secret", "ca").stdout
        wait("a new leaf", lambda: len(served(api)) == 2)
        assert len(signers(api)) == 1
        certs("renew", *cluster(api), "--ca-secret", "ca", "--authority")
        wait("a new authority", lambda: len(signers(api)) == 2)
        wait("its leaf", lambda: len(served(api)) >= 3)
        done = certs("check", *looked, "--wait", "60s")
        assert "phase: retiring" in done.stdout and "former authorities stay trusted" in done.stdout
        events = stop(process)
    assert [event["event"] for event in events][:2] == ["started", "lease_taken"]
    assert events[-1]["event"] == "stopped"
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(event["time"]))
        for event in events
    )
    assert api.objects[LEASE]["spec"]["holderIdentity"] == ""
    # The API server gives its time in whole seconds.
    judge_past(api, trust_wait=timedelta(seconds=2))
    assert "nobody holds it" in certs("check", *looked, status=1).stderr


def test_three_processes_started_together_agree(api: ApiServer) -> None:
    with (
        manager(api, "a") as a,
        manager(api, "b") as b,
        manager(api, "c") as c,
    ):
        wait("a pair", lambda: api.data(TLS))
        for process in (a, b, c):
            stop(process)
    assert len(signers(api)) == len(served(api)) == 1


def test_a_leader_cut_off_in_the_middle_is_replaced(api: ApiServer) -> None:
    """SIGKILL during its write; the next one waits for the Lease and goes on."""
    with manager(api, "a") as first:

        def kill(_method: str, path: str) -> None:
            if path == CONFIG:
                first.kill()
                first.wait()

        api.before_write = kill
        wait("the kill", lambda: first.poll() is not None)
    api.before_write = lambda _method, _path: None
    with manager(api, "b") as second:
        wait("a pair", lambda: api.data(TLS), 120)
        stop(second)
    assert len(signers(api)) == len(served(api)) == 1
    judge_past(api)


def test_figures_are_served_while_it_runs(api: ApiServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with manager(api, "a", "--metrics-port", str(port)) as process:
        wait("a pair", lambda: api.data(TLS))

        def text(path: str = "metrics") -> str:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/{path}", timeout=10
                ) as answer:
                    return str(answer.read().decode())
            except (OSError, http.client.HTTPException):
                return ""

        wait("the leader's figures", lambda: 'podgrace_certs_phase{phase="steady"} 1' in text())
        assert "podgrace_certs_leader 1" in text()
        assert text("startz") == "ok\n"
        stop(process)


def test_a_port_that_is_taken_is_named(api: ApiServer) -> None:
    done = certs("run", *cluster(api), *OURS, "--metrics-port", api.port, status=1)
    assert (
        done.stderr
        == f"podgrace: can't listen on --metrics-port {api.port}: Address already in use\n"
    )


def test_renew_without_an_authority_asks_whether_anybody_runs(api: ApiServer) -> None:
    done = certs("renew", *cluster(api), "--ca-secret", "ca", status=1)
    assert done.stderr == (
        "podgrace: Secret ca in system holds no authority yet: is `podgrace certs run` running?\n"
    )


def test_renew_of_a_secret_that_is_not_there_or_not_ours_to_read(api: ApiServer) -> None:
    assert "404" in certs("renew", *cluster(api), "--ca-secret", "other", status=1).stderr
    api.refused[f"GET {CA}"] = 403
    assert (
        f"podgrace: GET {CA}: 403 refused by the test"
        in certs("renew", *cluster(api), "--ca-secret", "ca", status=1).stderr
    )


def test_renew_tries_again_on_a_conflict(api: ApiServer) -> None:
    with manager(api, "a") as process:
        wait("a pair", lambda: api.data(TLS))
        stop(process)
    conflicts = api.conflicts
    left = [3]

    def interfere(_method: str, path: str) -> None:
        if path == CA and left[0]:
            left[0] -= 1
            api.put(path, {**api.objects[path]})

    api.before_write = interfere
    certs("renew", *cluster(api), "--ca-secret", "ca")
    assert api.conflicts == conflicts + 3
    assert read_authorities(api.data(CA)).renew_leaf_before is not None


def test_other_modes_look_at_less(api: ApiServer) -> None:
    """With cert-manager there is neither our own authority nor a Lease."""
    authority = Authority.create(now=datetime.now(UTC))
    leaf = authority.issue("podgrace.system.svc", now=datetime.now(UTC))
    api.edit(
        TLS,
        {
            store.CERT_FILE: leaf.cert_pem,
            store.KEY_FILE: leaf.key_pem,
            store.CA_FILE: authority.cert_pem,
        },
    )
    for number in (0, 1):
        api.edit_bundle(number, authority.cert_pem)
    del api.objects[CA], api.objects[LEASE]
    done = certs("check", *cluster(api), *OURS, "--tls", "cert-manager")
    assert "authority:" not in done.stdout and "Lease" not in done.stdout
    assert "404" in certs("check", *cluster(api), *OURS, status=1).stderr
    assert trusts(api.bundles()[0], leaf)


def test_the_documented_commands_exist() -> None:
    """The commands in docs/certificates.md are understood."""
    text = (Path(__file__).parents[2] / "docs" / "certificates.md").read_text()
    told = re.findall(r"podgrace (certs [a-z]+)((?: --?[a-z-]+(?:[ =][A-Za-z0-9:/.]+)?)*)", text)
    assert len(told) > 5
    for command, options in told:
        shown = certs(*command.split()[1:], "--help").stdout
        for option in re.findall(r"--?[a-z][a-z-]*", options):
            assert re.search(rf"(^|\s){option}\b", shown), f"{command} has no {option}"


def test_main_takes_argv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--dir", str(tmp_path), "--name", "localhost"]) == 0
    assert main(["check", "--dir", str(tmp_path)]) == 0
    assert "fine" in capsys.readouterr().out


def test_the_programs_own_name_leads_here_too(tmp_path: Path) -> None:
    """`podgrace certs` and `python -m certs` are the same; the second does not load the webhook."""
    certs("init", "--dir", tmp_path, "--name", "localhost")
    whole = subprocess.run(
        [
            sys.executable,
            "-m",
            "webhook.cli",
            "certs",
            "show",
            "--dir",
            str(tmp_path),
            "-o",
            "json",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(whole.stdout) == json.loads(
        certs("show", "--dir", tmp_path, "-o", "json").stdout
    )
    script = (
        "import sys, certs.cli; print([name for name in sys.modules"
        " if name.split('.')[0] in ('webhook', 'fastapi', 'msgspec')])"
    )
    alone = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert alone.stdout == "[]\n"
