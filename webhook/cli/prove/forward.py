"""Is a URL the end of a `kubectl port-forward`? Then there is nothing to prove through it.

In: a host and a port; the command lines of this machine's processes. Out: yes or no. A port-forward
is a tunnel to one Pod, chosen when it began: it bypasses the Service, and ends with that Pod.
Losses through it are the tunnel's.
"""

import contextlib
import ipaddress
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_PORTS: Final = re.compile(r"(\d*)(?::(\d+|[a-z0-9-]+))?")
REASON: Final = (
    "is the end of a `kubectl port-forward`: a tunnel to one Pod, chosen when it began, which "
    "passes by the Service and ends with that Pod. Ask an address that clients use, or run where "
    "they are: `podgrace prove URL --run-job -n NAMESPACE ...` does it in a Job"
)


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def forwarded(port: int, commands: Iterable[list[str]]) -> bool:
    """Say whether one of these processes forwards this local port.

    `8080:80` and `8080` say which; with `:80` kubectl chooses a port, so any may be it.
    """
    return any(
        port in found or 0 in found for words in commands if (found := set(_local_ports(words)))
    )


def _local_ports(words: list[str]) -> Iterator[int]:
    names = [word.rpartition("/")[2].removesuffix(".exe") for word in words]
    if "kubectl" not in names or "port-forward" not in words:
        return
    for word in words[words.index("port-forward") + 1 :]:
        match = _PORTS.fullmatch(word)
        if match and (match[1] or match[2]):
            yield int(match[1] or 0)


def processes() -> Iterator[list[str]]:
    """Give the command line of each process that may be looked at."""
    if Path("/proc/self/cmdline").exists():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                yield path.read_bytes().decode(errors="replace").split("\0")[:-1]
        return
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["ps", "-A", "-o", "args="], capture_output=True, text=True, timeout=10, check=True
        )
        yield from (line.split() for line in done.stdout.splitlines())
