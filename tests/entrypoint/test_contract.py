"""The built helper understands all that the webhook writes into Pods, as it was meant."""

import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.core.passes import once
from tests.core.pods import pods
from tests.core.test_golden import FILES, configured, load
from tests.entrypoint.conftest import Container, until
from webhook.config import Config, parse
from webhook.core.names import HELPER, IMAGE_HELPER, SIDECAR


def understood(helper: str, argv: list[str]) -> dict[str, list[str]]:
    """Let the helper print what it made of a command line: --dry-run, as the first option."""
    done = subprocess.run(
        [helper, argv[1], "--dry-run", *argv[2:]],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), (argv, done.stderr)
    found: dict[str, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        found[name].append(value)
    return found


def given_as(argv: list[str]) -> dict[str, list[str]]:
    """Read the words ourselves, by the plainest means there is."""
    words = argv[2 : argv.index("--")] if "--" in argv else argv[2:]
    found: dict[str, list[str]] = defaultdict(list)
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        found[name].append(value)
    return found


def check(helper: str, argv: list[str]) -> None:
    """Compare the two."""
    seen, meant = understood(helper, argv), given_as(argv)
    assert seen["container"] == meant["container"]
    assert seen["port"] == [port for ports in meant["ports"] for port in ports.split(",")]
    for name in (
        "delay-min",
        "quiet",
        "delay-max",
        "drain-timeout",
        "patience",
        "probe-period",
        "hook-timeout",
        "hook-sleep",
    ):
        if name in meant and not (
            name == "delay-min" and int(meant[name][0]) > int(meant["delay-max"][0])
        ):
            assert seen[f"{name}-ms"] == [str(int(meant[name][0]) * 1000)], name
    assert seen["observe"] == ["0" if "no-observe" in meant else "1"]
    assert seen["loopback"] == ["1"]
    assert seen["detect"] == ["1" if "detect" in meant else "0"]
    assert seen["signal"] == (meant["signal"] or ["TERM"])
    assert seen["target"] == (meant["target"] or ["server"])
    assert seen["match"] == (meant["match"] or [""])
    assert seen["stop-command"] == (meant["stop-command"] or [""])
    assert seen["report-port"] == [v.split(":")[1] for v in meant["report"]] or ["0"]
    assert seen["hook"] == (meant["hook"] or ["none"])
    assert seen["hook-url"] == (meant["hook-url"] or [""])
    assert seen["hook-header"] == meant["hook-header"]
    if argv[1] == "run":
        assert sorted(seen["stop-on"]) == sorted(
            w for words in meant["stop-on"] for w in words.split(",") if w
        )
    else:
        assert seen["stop"] == ["0" if "no-stop" in meant else "1"]
    if "--" in argv and not any("\n" in word for word in argv):
        assert seen["argument"] == argv[argv.index("--") + 1 :]


def commands(pod: dict[str, Any]) -> list[list[str]]:
    """Find every command line of ours in a Pod."""
    found = []
    for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
        hook = ((container.get("lifecycle") or {}).get("preStop") or {}).get("exec") or {}
        found += [
            words
            for words in (container.get("command"), hook.get("command"))
            if words and words[0] == HELPER
        ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_pods(released: str, path: Path) -> None:
    """Each Pod of tests/pods, as it leaves the webhook."""
    case = load(path)
    patched, _, _ = once(case["pod"], configured(case), case.get("namespace", ""))
    for argv in commands(patched):
        check(released, argv)


def test_there_is_something_to_compare() -> None:
    """Among the golden Pods are wrapped commands, hooks of each kind, a path for the sidecar."""
    seen = set()
    for path in FILES:
        case = load(path)
        patched, _, _ = once(case["pod"], configured(case), case.get("namespace", ""))
        for argv in commands(patched):
            seen |= {argv[1], *(word.split("=")[0] for word in argv[2:] if word.startswith("--"))}
    wanted = (
        "run",
        "drain",
        "--ports",
        "--detect",
        "--signal",
        "--match",
        "--no-observe",
        "--no-stop",
        "--probe-period",
        "--report",
        "--hook",
    )
    assert seen >= {*wanted, "--hook-url", "--hook-sleep", "--stop-on", "--"}


CONFIG = parse("{}")


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(pod=pods())
def test_generated_pods(released: str, pod: dict[str, Any]) -> None:
    """Pods of any shape."""
    patched, _, _ = once(pod, CONFIG)
    for argv in commands(patched):
        check(released, argv)


def sidecar_of(config: Config) -> dict[str, Any]:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"podgrace.io/inject": "enabled"}},
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": "x",
                    "command": ["/server"],
                    "ports": [{"containerPort": 8080}],
                }
            ]
        },
    }
    patched, _, _ = once(pod, config)
    return next(c for c in patched["spec"]["initContainers"] if c["name"] == SIDECAR)


def test_the_sidecar(released: str) -> None:
    """Its command and its postStart."""
    sidecar = sidecar_of(CONFIG)
    command, install = sidecar["command"], sidecar["lifecycle"]["postStart"]["exec"]["command"]
    assert command[0] == install[0] == IMAGE_HELPER
    seen = understood(released, command)
    assert seen["dir"] == [install[2]]
    assert int(seen["serve-port"][0]) > 0
    assert install[1] == "install"


def test_the_path_for_the_sidecar(released: str, container: Any) -> None:
    """Each path that the webhook writes has its answer in the sidecar's command.

    Such paths are for containers without a mount.
    """
    asked = 0
    for path in FILES:
        case = load(path)
        patched, _, _ = once(case["pod"], configured(case), case.get("namespace", ""))
        gets = [
            ((one.get("lifecycle") or {}).get("preStop") or {}).get("httpGet") or {}
            for one in patched["spec"]["containers"]
        ]
        paths = {get["path"] for get in gets if get.get("httpHeaders") == MARK}
        if not paths:
            continue
        command = next(c for c in patched["spec"]["initContainers"] if c["name"] == "podgrace")[
            "command"
        ]
        words = [word for word in command[2:] if not word.startswith("--install=")]
        box: Container = container(released, "sidecar", *words)
        box.listening(15990)
        for one in paths:
            with box.connect(15990) as connection:
                connection.sendall(f"GET {one} HTTP/1.1\r\nHost: pod\r\n\r\n".encode())
                answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200"), (one, answer)
            asked += 1
        assert until(lambda box=box: box.records("drain"), "a record")[0]["by"] == "sidecar"
    assert asked


MARK = [{"name": "X-Podgrace", "value": "drain"}]
