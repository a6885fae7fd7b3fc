"""What a start costs, counted in modules: the machine is noisy, a list of imports is not."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.cli.command import podgrace
from webhook.cli import COMMANDS, parser
from webhook.cli.completion import SCRIPTS

ROOT = Path(__file__).parents[2]
HEAVY = {
    "asyncio", "certs", "cryptography", "fastapi", "http", "jinja2", "jsonpatch", "msgspec",
    "prometheus_client", "rich", "ssl", "tomllib", "uvicorn", "yaml",
}  # fmt: skip


def loaded(*words: str) -> set[str]:
    """Give the modules that a run of the command has at its end."""
    script = (
        f"import sys; from webhook.cli import main; sys.argv[1:] = {list(words)!r}\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"sys = __import__('sys'); sys.path[:0] = ['{ROOT}']; {script}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words", [("--help",), ("version",), ("__complete", ""), ("completion", "bash"), ("dance",)]
)
def test_what_decides_nothing_loads_nothing(words: tuple[str, ...]) -> None:
    names = loaded(*words)
    assert not HEAVY & {name.partition(".")[0] for name in names}
    ours = {name for name in names if name.partition(".")[0] == "webhook"}
    assert len(ours) <= 7, ours


@pytest.mark.parametrize("command", ["check", "audit", "explain", "serve"])
def test_the_help_of_one_loads_no_other(command: str) -> None:
    names = loaded(command, "--help")
    assert not {"cryptography", "fastapi", "uvicorn", "prometheus_client"} & names
    assert "webhook.cli.prove" not in names


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says(name: str) -> None:
    command = COMMANDS[name]
    assert callable(getattr(import_module(f"webhook.cli.{command.module}"), command.function))
    help_ = podgrace(name, "--help").out
    assert help_.startswith(f"usage: podgrace {name}")


def complete(*words: str) -> tuple[list[str], str]:
    *found, files = podgrace("__complete", *words).out.splitlines()
    return found, files


def test_completion() -> None:
    commands = sorted(COMMANDS)
    assert complete("") == (commands, ":4")
    assert complete("e") == (["explain"], ":4")
    assert complete("explain", "-o", "") == (["json", "table", "yaml"], ":4")
    assert complete("explain", "--output=j") == (["--output=json"], ":4")
    assert complete("explain", "-f", "") == ([], ":0")
    assert complete("audit", "-o", "json", "--kubec") == (["--kubeconfig"], ":4")
    assert complete("certs", "s") == (["show"], ":4")
    assert complete("certs", "show", "--tls", "p") == (["provided"], ":4")
    assert complete("completion", "") == (sorted(SCRIPTS), ":4")
    assert complete("prove", "http://x/", "--", "") == ([], ":0")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_shell_has_a_script_that_asks_us(shell: str) -> None:
    assert "podgrace __complete" in podgrace("completion", shell).out


def test_bash_completes() -> None:
    """In the real shell, with a program of our name on the PATH."""
    script = (
        f'podgrace() {{ {sys.executable} -m webhook.cli "$@"; }}\n'
        f"source <(podgrace completion bash)\n"
        'COMP_WORDS=(podgrace explain -o js); COMP_CWORD=3; _podgrace; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert done.stdout == "json\n", done.stderr


def test_called_by_kubectl_help_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-podgrace"])
    assert parser().format_help().startswith("usage: kubectl podgrace ")


def test_the_version_as_others_ask_for_it() -> None:
    assert podgrace("--version") == podgrace("version")
