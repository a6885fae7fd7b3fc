# ruff: noqa: INP001, T201 - a script of the Makefile, no package
"""Measure the helper, beside tini and dumb-init if installed: `bench.py BUILD-DIRECTORY`, as root.

size       bytes of each file
memory     VmRSS of `sidecar` after it has answered on every path
start      from spawn to exit of `true`, through each of them, 400 times by turns; median and 90 %
           of what comes on top of `true` alone
return     from the last byte of an answer (then the server closes) to the end of `drain`, 30 times;
           median and maximum; with idle connections in the Pod (10 times), and with as many in
           another network namespace of the node
busy       CPU time of `drain` in a second of a long wait, with as many
idle       context switches of `run` and `sidecar` in ten seconds of doing nothing
"""

import contextlib
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

BUILD = Path(sys.argv[1]).resolve()
HELPER = str(BUILD / "podgrace-helper")
INSIDE = f"ip link set lo up; {sys.executable} {__file__} {BUILD}"


def row(name: str, value: str) -> None:
    """Print one line of the table."""
    print(f"| {name} | {value} |", flush=True)


def spawned(argv: list[str]) -> float:
    """Milliseconds from spawn to exit."""
    began = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, {"PATH": os.defpath})
    os.waitpid(pid, 0)
    return (time.perf_counter() - began) * 1000


def start() -> None:
    """Compare starts. By turns, so that other load on the machine hits all alike."""
    true = "/bin/true"
    ways = {"alone": [true], "podgrace-helper run": [HELPER, "run", "--", true]}
    for name, words in (
        ("tini", ["-s", "--", true]),
        ("tini-static", ["-s", "--", true]),
        ("dumb-init", ["--", true]),
    ):
        if path := shutil.which(name):
            ways[name] = [path, *words]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(400):
        for name, argv in ways.items():
            times[name].append(spawned(argv))
    base = statistics.median(times.pop("alone"))
    row("start of `true` alone", f"{base:.2f} ms")
    for name, found in times.items():
        median, most = statistics.median(found) - base, statistics.quantiles(found, n=10)[-1] - base
        row(f"added by {name}", f"{median:.2f} ms (90 %: {most:.2f} ms)")


def status(pid: int, *names: str) -> dict[str, int]:
    """Read numbers of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {
        name: int(line.split()[1])
        for line in lines
        for name in names
        if line.startswith(name + ":")
    }


def free_port() -> int:
    """Find a port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def answered(port: int) -> None:
    """Ask the sidecar on every path."""
    for path in (
        "healthz",
        "metrics",
        "status",
        "drain?container=a&ports=1&delay-min=0&quiet=0&delay-max=0&drain-timeout=0",
        "nothing",
    ):
        while True:
            with (
                contextlib.suppress(ConnectionRefusedError),
                socket.create_connection(("127.0.0.1", port)) as client,
            ):
                client.sendall(f"GET /{path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
                while client.recv(65536):
                    pass
                break
            time.sleep(0.01)


def idle() -> None:
    """Measure memory and wakeups."""
    port = free_port()
    sidecar = subprocess.Popen([HELPER, "sidecar", f"--port={port}"], stdout=subprocess.DEVNULL)
    run = subprocess.Popen(
        [HELPER, "run", "--no-observe", "--delay-max=0", "--", "sleep", "600"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    answered(port)
    row("resident memory of `sidecar`", f"{status(sidecar.pid, 'VmRSS')['VmRSS']} KB")
    row("resident memory of `run`", f"{status(run.pid, 'VmRSS')['VmRSS']} KB")
    time.sleep(1)
    switches = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    before = [status(p.pid, *switches) for p in (sidecar, run)]
    time.sleep(10)
    for name, was, process in zip(("sidecar", "run"), before, (sidecar, run), strict=True):
        now = status(process.pid, *switches)
        row(f"wakeups of `{name}` in 10 s", str(sum(now.values()) - sum(was.values())))
        process.terminate()
        process.wait()


def crowd(count: int, each: int = 4000) -> tuple[str, list[int]]:
    """Hold idle connections in separate processes: ports, and the processes to kill."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65000")
    ports, holders = [], []
    for _ in range(0, count, each):
        read, write = os.pipe()
        holders.append(os.fork())
        if holders[-1] == 0:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            server = socket.create_server(("127.0.0.1", 0), backlog=1024)
            held = [server]
            for _ in range(min(each, count)):
                held += (socket.create_connection(server.getsockname()), server.accept()[0])
            os.write(write, str(server.getsockname()[1]).encode())
            time.sleep(1000)
            os._exit(0)
        ports.append(os.read(read, 10).decode())
    time.sleep(1.5)  # a silent one is idle after a second
    return ",".join(ports), holders


def busy(ports: str) -> float:
    """Measure how much of a core a long wait takes."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    held, _ = server.accept()
    client.sendall(b"question")
    hook = subprocess.Popen(
        [
            HELPER,
            "drain",
            "--container=busy",
            f"--ports={server.getsockname()[1]},{ports}",
            "--delay-min=0",
            "--quiet=0",
            "--delay-max=0",
            "--loopback",
            "--no-stop",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)

    def used() -> float:
        fields = Path(f"/proc/{hook.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(10)
    share = (used() - before) * 10
    hook.terminate()
    hook.wait()
    client.close()
    held.close()
    return share


def returned(beside: str = "1", times_of: int = 30, what: str = "") -> None:
    """Measure the time from the last byte to the end of the hook."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    last = [0.0]

    def serve() -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                time.sleep(0.5 + os.urandom(1)[0] / 512)
                connection.sendall(b"answer")
                last[0] = time.perf_counter()

    threading.Thread(target=serve, daemon=True).start()
    times = []
    for _ in range(times_of):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"question")
        hook = subprocess.Popen(
            [
                HELPER,
                "drain",
                "--container=bench",
                f"--ports={port},{beside}",
                "--delay-min=0",
                "--quiet=0",
                "--delay-max=0",
                "--loopback",
                "--no-stop",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        reader = threading.Thread(target=lambda c=client: [c.recv(100), c.recv(100), c.close()])
        reader.start()
        hook.wait()
        times.append((time.perf_counter() - last[0]) * 1000)
        reader.join()
    row(
        f"last byte to return of `drain`{what}",
        f"{statistics.median(times):.0f} ms (at most {max(times):.0f} ms)",
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        if sys.argv[2] == "node":
            returned(times_of=10, what=", 20000 connections elsewhere on the node")
            row("busy in a long wait, 20000 elsewhere on the node", f"{busy('1'):.1f} % of a core")
            sys.exit()
        returned()
        row("busy in a long wait", f"{busy('1'):.1f} % of a core")
        for count in (1000, 20000):
            beside, holders = crowd(count)
            returned(beside, 10, f", {count} idle connections in the Pod")
            share = busy(beside)
            row(f"busy in a long wait, {count} in the Pod", f"{share:.1f} % of a core")
            if count == 20000:
                subprocess.run(["unshare", "-n", "--", "sh", "-c", INSIDE + " node"], check=True)
            for holder in holders:
                os.kill(holder, signal.SIGKILL)
                os.waitpid(holder, 0)
        sys.exit()
    print("| what | measured |\n|---|---|")
    for file in ("podgrace-helper-x86_64", "podgrace-helper-aarch64"):
        if (BUILD / file).exists():
            row(f"size of {file}", f"{(BUILD / file).stat().st_size} bytes")
    start()
    idle()
    # In separate namespaces: no other hook interferes, and the hook opens no log of this machine.
    inside = f"exec 2>/dev/null; {INSIDE} inside | grep '^|'"
    subprocess.run(
        ["unshare", "-n", "-p", "-f", "--mount-proc", "--", "sh", "-c", inside], check=True
    )
