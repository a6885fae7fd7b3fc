"""The built helper, and containers to put it into: real processes in fresh namespaces."""

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import needs

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "entrypoint" / "build"
VICTIM = str(Path(__file__).with_name("victim.py"))
PYTHON = sys.executable
SYSTEM_PYTHON = (
    shutil.which("python3", path="/usr/bin:/usr/local/bin") or PYTHON
)  # one that every user may run
DEADLINE = 30.0

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _make(target: str) -> None:
    """Build what is missing, once, though several test processes ask for it."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            ["make", "-s", "-C", str(BUILD.parent), f"PYTHON={PYTHON}", target],
            check=True,
            timeout=280,
        )


def _helper(kind: str) -> str:
    if kind == "asan":
        needs.programs("cc")
        _make("asan")
        return str(BUILD / "podgrace-helper-asan")
    if given := os.environ.get("PODGRACE_HELPER"):
        return given
    _make("build/podgrace-helper")
    return str(BUILD / "podgrace-helper")


@pytest.fixture(scope="session", params=["release", pytest.param("asan", marks=pytest.mark.slow)])
def helper(request: pytest.FixtureRequest) -> str:
    """Path of the helper, as released and with sanitizers."""
    return _helper(request.param)


@pytest.fixture(scope="session")
def released() -> str:
    """Path of the helper as released: for what the sanitizers would only slow down."""
    return _helper("release")


def until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Wait for a condition; its value is returned."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail(f"after {deadline} s still not: {what}")


class Container:
    """PID 1 in its own namespaces, with a log; hooks start beside it, as from the kubelet."""

    def __init__(
        self, argv: Sequence[str], where: Path, *, prepare: str = "", prefix: Sequence[str] = ()
    ) -> None:
        self.path = where / f"log-{time.monotonic_ns()}"
        self._log = self.path.open("ab")
        self.path.chmod(0o666)
        self.prefix = list(prefix)
        script = f'ip link set lo up; {prepare or ":"}; exec "$@"'
        self.outer = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--pid",
                "--fork",
                "--mount",
                "--mount-proc",
                "--",
                "sh",
                "-c",
                script,
                "sh",
                *self.prefix,
                *argv,
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        self.pid = int(
            until(lambda: children.exists() and children.read_text().split()[:1], "PID 1 is there")[
                0
            ]
        )
        self._net = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        self._hooks: list[subprocess.Popen[str]] = []

    def exec(self, *argv: str, **more: Any) -> "subprocess.Popen[str]":
        """Start a process beside PID 1."""
        hook = subprocess.Popen(
            [
                "nsenter",
                "-t",
                str(self.pid),
                "--net",
                "--pid",
                "--mount",
                "--",
                *self.prefix,
                *argv,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        self._hooks.append(hook)
        return hook

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Create sockets in the container's network."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        assert _libc.setns(self._net, CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert _libc.setns(here, CLONE_NEWNET) == 0
            os.close(here)

    def connect(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Connect from inside."""
        with self.inside():
            return socket.create_connection((host, port), timeout=DEADLINE)

    def listening(self, port: int) -> None:
        """Wait until a port accepts."""

        def accepts() -> bool:
            with contextlib.suppress(OSError):
                self.connect(port).close()
                return True
            return False

        until(accepts, f"port {port} accepts")

    @property
    def log(self) -> str:
        """Everything that PID 1 and its children wrote."""
        return self.path.read_text()

    def logged(self, word: str) -> None:
        """Wait for a word in the log."""
        until(lambda: word in self.log, f"{word!r} in the log")

    def records(self, kind: str) -> list[dict[str, Any]]:
        """JSON lines of one kind."""
        return [
            r
            for line in self.log.splitlines()
            if line.startswith("{")
            if (r := json.loads(line))["podgrace"] == kind
        ]

    def kill(self, number: int) -> None:
        """Signal PID 1 from outside, as a runtime does."""
        os.kill(self.pid, number)

    @property
    def running(self) -> bool:
        """Whether PID 1 is there."""
        return self.outer.poll() is None

    def wait(self) -> int:
        """Exit code of PID 1."""
        return self.outer.wait(DEADLINE)

    def close(self) -> None:
        """End it all."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.outer.wait(DEADLINE)
        for hook in self._hooks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                hook.wait(5)
            hook.kill()
            hook.communicate()
        self._log.close()
        os.close(self._net)


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Make containers."""
    needs.root()
    needs.programs("unshare", "nsenter", "ip", "pkill", "ss")
    made: list[Container] = []

    def make(*argv: str, **more: Any) -> Container:
        made.append(Container(argv, tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def victim(*options: str) -> list[str]:
    """Build the command line of the victim."""
    return [PYTHON, VICTIM, *options]


def named(where: Path, name: str) -> str:
    """Make the victim known by a server's name: a script, as Python's servers are."""
    script = where / name
    script.write_text(f"#!{PYTHON}\nexec(open({VICTIM!r}).read())\n")
    script.chmod(0o755)
    return str(script)


def waits(
    *more: str,
    delay: str = "0",
    quiet: str = "0.2",
    most: str = "1",
    drain: str = "20",
    patience: str = "10",
) -> list[str]:
    """Build the helper's options with short times."""
    return [
        "--container=app",
        f"--delay-min={delay}",
        f"--quiet={quiet}",
        f"--delay-max={most}",
        f"--drain-timeout={drain}",
        f"--patience={patience}",
        "--loopback",
        *more,
    ]


def get(connection: socket.socket, path: str = "/") -> None:
    """Send a request, and nothing else."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: victim\r\n\r\n".encode())


def read(connection: socket.socket, ending: bytes = b"\r\n\r\nok") -> bytes:
    """Read an answer up to its end."""
    data = b""
    while not data.endswith(ending):
        more = connection.recv(65536)
        assert more, f"cut off after {data!r}"
        data += more
    return data


def ended(hook: "subprocess.Popen[str]", deadline: float = DEADLINE) -> tuple[int, str]:
    """Exit code of a hook, and what it wrote."""
    out, err = hook.communicate(timeout=deadline)
    return hook.returncode, out + err


VETH = (
    "ip link add eth0 type veth peer name peer; ip addr add 10.9.9.2/24 dev eth0; "
    "ip link set eth0 up"
)
POD = "10.9.9.2"


def client_of(box: Container, container: Callable[..., Container]) -> Container:
    """Make another network that reaches the Pod: clients in it are from outside."""
    client = container("sleep", "600")
    commands = (
        (box, f"ip link set peer netns {client.pid}"),
        (client, "ip addr add 10.9.9.1/24 dev peer; ip link set peer up"),
    )
    for one, command in commands:
        enter = ["nsenter", "-t", str(one.pid), "--net", "--", "sh", "-c", command]
        subprocess.run(enter, check=True)
    return client
