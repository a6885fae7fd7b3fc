"""Hooks of one container that ask another one of the same Pod: neither waits for the other.

The Pod's containers share a network and no processes: the neighbour here is a second PID namespace.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.entrypoint.conftest import (
    SYSTEM_PYTHON,
    Container,
    ended,
    get,
    read,
    until,
    victim,
    waits,
)

NEIGHBOUR = ["unshare", "--pid", "--fork", "--mount-proc", "--"]
ASK = "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=60).read()"


@pytest.fixture(params=["", "127.0.0.1", "::1"], ids=["any address", "IPv4", "IPv6"])
def box(container: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    options = [f"--host={request.param}"] if request.param else []
    made = container(
        *victim("--port=8000", *options),
        prepare="ip addr add 10.1.2.3/32 dev lo; ip route add default via 10.1.2.3 dev lo || :",
    )
    host = request.param or "127.0.0.1"
    until(lambda: _accepts(made, host), "the server accepts")
    made.host = host
    return made


def _accepts(box: Container, host: str) -> bool:
    try:
        box.connect(8000, host).close()
    except OSError:
        return False
    return True


def asking(box: Container) -> int:
    """Count the requests that the server is at: connections with bytes in and none out."""
    with box.inside():
        shown = subprocess.run(
            ["ss", "-Htni", "state", "established", "sport", "= :8000"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    return shown.count("bytes_received") - shown.count("bytes_sent")


def hook_of_a_neighbour(box: Container, helper: str, *hook: str) -> "subprocess.Popen[str]":
    """Run a preStop hook of another container, whose own ports nobody uses."""
    options = waits("--ports=9", "--no-stop")
    asks = box.exec(*NEIGHBOUR, helper, "drain", *options, "--hook=before", *hook)
    until(lambda: asking(box) == 1, "the hook waits for its answer")
    return asks


def url(box: Any, path: str) -> str:
    return f"http://[{box.host}]:8000{path}" if ":" in box.host else f"http://{box.host}:8000{path}"


def kinds(box: Any, path: str) -> list[Sequence[str]]:
    """Build the hooks that ask: a GET, a program, one below a shell."""
    where = url(box, path)
    return [
        [f"--hook-url={where}"],
        ["--", SYSTEM_PYTHON, "-c", ASK, where],
        ["--", "sh", "-c", f"{SYSTEM_PYTHON} -c '{ASK}' '{where}'; true"],
    ]


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["GET", "program", "below a shell"])
def test_a_hooks_request_is_not_owed(helper: str, box: Any, kind: int) -> None:
    """The answer comes long after our limit, perhaps because it waits for us: we end before."""
    asks = hook_of_a_neighbour(box, helper, *kinds(box, "/slow/40")[kind])
    ours = box.exec(helper, "drain", *waits("--ports=8000", "--no-stop", drain="8"))
    assert ended(ours)[0] == 0
    (record,) = box.records("drain")
    assert (record["drain_end"], record["in_flight_end"]) == ("idle", 0)
    assert asks.poll() is None, "the hook was to be still waiting"


def test_a_request_beside_it_is_owed(helper: str, box: Any) -> None:
    """From inside of the Pod as well, as of a proxy there that asks for its clients."""
    asks = hook_of_a_neighbour(box, helper, f"--hook-url={url(box, '/slow/20')}")
    with box.connect(8000, box.host) as proxy:
        get(proxy, "/slow/4")
        began = time.monotonic()
        ours = box.exec(helper, "drain", *waits("--ports=8000", "--no-stop"))
        read(proxy)
        answered = time.monotonic() - began
    assert ended(ours)[0] == 0
    (record,) = box.records("drain")
    assert (record["drain_end"], record["in_flight_end"]) == ("idle", 0)
    assert record["waited_ms"] >= (answered - 1) * 1000
    assert record["in_flight_start"] == 1
    assert asks.poll() is None, "the hook was to be still waiting"


def test_what_runs_beside_a_hook_is_no_hook(helper: str, box: Any) -> None:
    """A neighbour's proxy, in the same container as a hook that runs: its request is owed."""
    where = url(box, "/slow/4")
    script = (
        f"{SYSTEM_PYTHON} -c '{ASK}' '{where}' & "
        f"{helper} drain {' '.join(waits('--ports=9', '--no-stop'))} --hook=before --hook-sleep=20"
    )
    asks = box.exec(*NEIGHBOUR, "sh", "-c", script)
    until(lambda: asking(box) == 1, "the proxy waits for its answer")
    began = time.monotonic()
    ours = box.exec(helper, "drain", *waits("--ports=8000", "--no-stop"))
    until(lambda: asking(box) == 0, "the answer is out")
    answered = time.monotonic() - began
    assert ended(ours)[0] == 0
    (record,) = box.records("drain")
    assert record["in_flight_start"] == 1
    assert record["waited_ms"] >= (answered - 1) * 1000
    asks.kill()


def test_who_vouches_is_of_the_same_user(
    released: str, container: Callable[..., Container]
) -> None:
    """Names can be taken by anybody in the network, which may be the node's."""
    box = container(*victim("--port=8000"))
    box.listening(8000)
    lie = (
        "import os, socket, sys, time; os.setuid(4711); s = socket.socket(socket.AF_UNIX);"
        "s.bind('\\0podgrace/asks/' + sys.argv[1]); s.listen(8); print('lies', flush=True);"
        "time.sleep(60)"
    )
    with box.connect(8000) as client:
        get(client, "/slow/3")
        inode = str(os.fstat(client.fileno()).st_ino)
        liar = box.exec(*NEIGHBOUR, SYSTEM_PYTHON, "-c", lie, inode)
        until(lambda: f"podgrace/asks/{inode}" in _names(box), "the name is taken")
        ours = box.exec(released, "drain", *waits("--ports=8000", "--no-stop"))
        read(client)
    assert ended(ours)[0] == 0
    (record,) = box.records("drain")
    assert record["in_flight_start"] == 1
    liar.kill()


def _names(box: Container) -> str:
    return Path(f"/proc/{box.pid}/net/unix").read_text()
