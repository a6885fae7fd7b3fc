"""The command line itself: exit codes, errors, help; nothing a user types shows a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import webhook.cli
import webhook.config
from tests.cli.command import WORKLOADS, podgrace, spawned
from webhook import __version__

NGINX = str(WORKLOADS / "nginx.yaml")


def test_version() -> None:
    assert spawned("version") == podgrace("version") == (0, f"podgrace {__version__}\n", "")


def test_profiles() -> None:
    table = podgrace("profiles").out
    assert "nginx" in table
    assert "QUIT" in table
    names = {profile["name"] for profile in json.loads(podgrace("profiles", "-o", "json").out)}
    assert {"nginx", "postgres", "generic"} <= names


USAGE = [
    (),
    ("dance",),
    ("inject",),
    ("inject", "-f"),
    ("inject", "-f", NGINX, "--nope"),
    ("explain", "-f", NGINX, "-o", "xml"),
    ("serve", "--port", "99999"),
    ("serve", "--port", "x"),
    ("serve", "--drain-seconds", "long"),
]


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_wrong_arguments(args: tuple[str, ...]) -> None:
    ran = podgrace(*args)
    assert (ran.code, ran.out) == (2, "")
    assert "usage: podgrace" in ran.err


def test_a_word_too_many_shows_the_usage_of_its_command() -> None:
    for command in (("version",), ("certs", "show")):
        ran = podgrace(*command, "extra")
        usage = f"usage: podgrace {' '.join(command)} "
        assert ran.code == 2 and ran.err.startswith(usage)
        assert ran.err.endswith("error: unrecognized arguments: extra\n")


def test_every_command_has_help() -> None:
    commands = ("inject", "uninject", "explain", "audit", "profiles", "version", "serve", "demo")
    top = podgrace("--help").out
    for command in commands:
        assert f"    {command} " in top
    for command in commands[:4]:
        assert "--filename" in podgrace(command, "--help").out


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert podgrace("inject", "-f", str(tmp_path / "none.yaml")) == (
        1,
        "",
        f"podgrace: {tmp_path}/none.yaml: No such file or directory\n",
    )
    assert podgrace("inject", "-f", str(tmp_path)) == (
        1,
        "",
        f"podgrace: {tmp_path}: a directory; accepted: one file, or - for standard input\n",
    )
    assert (
        podgrace("inject", "-f", NGINX, "--config", str(tmp_path / "c")).err
        == f"podgrace: {tmp_path}/c: No such file or directory\n"
    )


def test_a_bad_configuration_names_all_problems(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("{helpr: 1, defaults: {mode: x}}", encoding="utf-8")
    for ran in (
        podgrace("explain", "-f", NGINX, "--config", str(config)),
        podgrace("profiles", env={"PODGRACE_CONFIG": str(config)}),
    ):
        assert (ran.code, ran.out) == (1, "")
        assert "helpr: unknown key; nearest known: helper" in ran.err
    config.write_bytes(b"\xff")
    assert "UTF-8" in podgrace("profiles", "--config", str(config)).err


def test_a_reader_that_stops_reading() -> None:
    """`podgrace inject -f big | head -1` is no error."""
    text = "---\n".join([(WORKLOADS / "nginx.yaml").read_text(encoding="utf-8")] * 40)
    command = f'"{sys.executable}" -m webhook.cli inject -f - 2>/dev/null'
    shell = command + " | head -1; exit ${PIPESTATUS[0]}"
    root = Path(webhook.cli.__file__).parent.parent.parent
    ran = subprocess.run(
        ["bash", "-c", shell],
        input=text.encode(),
        capture_output=True,
        cwd=root,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert b"Traceback" not in ran.stderr


def test_a_bug_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(webhook.config, "load", broken)
    assert webhook.cli.main(["profiles"]) == 4
    assert (
        "a bug in podgrace, please report it: ZeroDivisionError in broken"
        in capsys.readouterr().err
    )


WORDS = [
    "inject",
    "explain",
    "audit",
    "uninject",
    "profiles",
    "version",
    "-f",
    NGINX,
    "-",
    "-o",
    "json",
    "--diff",
    "--check",
    "--config",
    "",
    "é",
    "-x",
]


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    args=st.lists(st.sampled_from(WORDS), max_size=5),
    text=st.one_of(st.text(max_size=60), st.binary(max_size=60)),
)
def test_any_arguments_and_any_input(
    args: list[str], text: str | bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this process, since a thousand of them take a while."""
    path = tmp_path / "input"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    with path.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        try:
            code = webhook.cli.main(args)
        except SystemExit as stop:
            code = stop.code
    assert code in (0, 1, 2, 3)


PIECES = [
    "apiVersion: v1\n",
    "kind: Pod\n",
    "kind: List\n",
    "spec:\n",
    "  containers:\n",
    "  - name: a\n",
    "    image: x\n",
    "items:\n",
    "---\n",
    "...\n",
]
PIECES += [
    "    ports: [{containerPort: 80}]\n",
    "- ",
    "  ",
    "\t",
    "&a ",
    "*a ",
    "<<: ",
    "%YAML 1.1\n",
    "# c\n",
    "'",
    '"',
    "|\n",
    "{",
    "}",
    "[",
    ": ",
    "\r\n",
    "!!x ",
]


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=14),
    command=st.sampled_from(["inject", "uninject", "explain", "audit"]),
)
def test_any_yaml(pieces: list[str], command: str, tmp_path: Path) -> None:
    path = tmp_path / "input.yaml"
    path.write_text("".join(pieces), encoding="utf-8", newline="")
    assert webhook.cli.main([command, "-f", str(path)]) in (0, 1, 3)
