"""`sidecar`: real HTTP, friendly and hostile, and the reports of other helpers."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

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

PORT = 15990
LINE = b'{"podgrace":"drain","container":"app","drain_end":"timeout","in_flight_end":3}'


def answer(name: str, delay: float = 0, most: float = 1, drain: float = 20) -> str:
    """Build what the sidecar's own command line says about one container."""
    return (
        f"--answer=container={name}&ports=8000&delay-min={delay}&quiet=0&delay-max={most}"
        f"&drain-timeout={drain}"
    )


@pytest.fixture
def box(helper: str, container: Callable[..., Container]) -> Container:
    made = container(
        helper, "sidecar", f"--port={PORT}", answer("app"), answer("late", delay=20, most=20)
    )
    made.listening(PORT)
    return made


def ask(
    box: Container,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    host: str = "127.0.0.1",
) -> tuple[int, str]:
    with box.inside():
        connection = http.client.HTTPConnection(host, PORT, timeout=60)
        connection.connect()
    connection.request(method, path, body)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def status(box: Container) -> dict[str, object]:
    code, text = ask(box, "/status")
    assert code == 200
    decoded: dict[str, object] = json.loads(text)
    return decoded


def test_it_answers(box: Container) -> None:
    assert ask(box, "/healthz") == (200, "ok\n")
    assert ask(box, "/healthz", host="::1") == (200, "ok\n")
    assert ask(box, "/healthz", "HEAD") == (200, "")
    assert status(box)["state"] == "serving"
    assert ask(box, "/nothing")[0] == 404
    assert ask(box, "/healthz", "POST", b"")[0] == 405
    assert ask(box, "/report")[0] == 405
    assert ask(box, "/healthz", "DELETE")[0] == 400


def test_metrics_parse(box: Container) -> None:
    """As Prometheus' own parser reads them."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    ask(box, "/report", "POST", LINE)
    families = {f.name: f for f in text_string_to_metric_families(ask(box, "/metrics")[1])}
    samples = {(s.name, *s.labels.values()): s.value for f in families.values() for s in f.samples}
    assert samples["podgrace_helper_drains_total", "timeout"] == 1
    assert samples["podgrace_helper_in_flight_at_end_total",] == 3
    assert all(f.documentation for f in families.values())


def test_records_are_kept_counted_and_printed(box: Container) -> None:
    """The last sixteen; each on the sidecar's own log, once."""
    for number in range(20):
        line = json.dumps(
            {"podgrace": "drain", "container": f"c{number}", "drain_end": "idle"},
            separators=(",", ":"),
        )
        assert ask(box, "/report", "POST", line.encode() + b"\n") == (200, "kept\n")
    assert [r["container"] for r in status(box)["records"]] == [f"c{n}" for n in range(4, 20)]  # type: ignore[attr-defined]
    assert [r["container"] for r in box.records("drain")] == [f"c{n}" for n in range(20)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b'{"podgrace":"drain"}\n{"podgrace":"drain"}',
        b'{"podgrace":"\x1b[31m"}',
        b'{"podgrace":"' + b"x" * 1100 + b'"}',
        b'{"other":1}',
        b'{"podgrace":"drain"} and more}',
        b'{"podgrace":"drain","container":app}',
        b'{"podgrace":"drain","container":"a"b"}',
        b'{"podgrace":"drain","container":"\\x41"}',
        b'{"podgrace":"drain","in_flight_end":01}',
        b'{"podgrace":"drain","in_flight_end":{}}',
        b'{"podgrace":"drain",}',
        b'{"podgrace":"tea"}',
    ],
)
def test_what_is_no_record_is_not_kept(box: Container, body: bytes) -> None:
    assert ask(box, "/report", "POST", body) == (400, "not a record\n")
    assert status(box)["records"] == []
    assert box.log == ""


def test_status_and_reports_are_for_the_pod_only(
    helper: str, container: Callable[..., Container]
) -> None:
    """From another address: /drain, /healthz and /metrics answer, the others do not."""
    box = container(helper, "sidecar", f"--port={PORT}", "--listen=pod", answer("app"))
    box.listening(PORT)
    client = container(
        "sleep",
        "600",
        prepare="ip link add eth0 type veth peer name peer; ip addr add 10.9.9.1/24 dev eth0; ip "
        "link set eth0 up",
    )
    until(
        lambda: (
            b"eth0"
            in subprocess.run(
                ["nsenter", "-t", str(client.pid), "-n", "ip", "addr"],
                check=True,
                capture_output=True,
            ).stdout
        ),
        "eth0",
    )
    until(
        lambda: (
            subprocess.run(
                [
                    "nsenter",
                    "-t",
                    str(client.pid),
                    "-n",
                    "ip",
                    "link",
                    "set",
                    "peer",
                    "netns",
                    str(box.pid),
                ],
                check=False,
            ).returncode
            == 0
        ),
        "peer",
    )
    subprocess.run(
        [
            "nsenter",
            "-t",
            str(box.pid),
            "-n",
            "sh",
            "-c",
            "ip addr add 10.9.9.2/24 dev peer; ip link set peer up",
        ],
        check=True,
    )
    assert ask(client, "/healthz", host="10.9.9.2")[0] == 200
    assert ask(client, "/metrics", host="10.9.9.2")[0] == 200
    assert ask(client, DRAIN, host="10.9.9.2")[0] == 200
    assert ask(client, "/status", host="10.9.9.2")[0] == 403
    assert ask(client, "/report", "POST", LINE, host="10.9.9.2")[0] == 403


# -- /drain ----------------------------------------------------------------------------------------

DRAIN = "/drain?container=app"
LATE = "/drain?container=late"


@pytest.fixture
def served(box: Container) -> Container:
    """Put an application beside the sidecar, in the same network."""
    box.exec(*victim("--port=8000", "--on=ALL=print"))
    box.listening(8000)
    return box


def test_drain_blocks_until_the_answer_is_out(served: Container) -> None:
    with served.connect(8000) as connection:
        get(connection, "/close/3")
        began = time.monotonic()
        code, text = ask(served, DRAIN)
        assert code == 200
        assert time.monotonic() - began >= 2.5
        record = json.loads(text)
        assert (record["by"], record["drain_end"], record["stop"]) == (
            "sidecar",
            "idle",
            "left to the kubelet",
        )
        read(connection)
    assert status(served)["state"] == "drained"
    assert served.records("drain") == [record]


def test_drain_stops_nothing(served: Container) -> None:
    """A healthy pod that is asked to drain, by whomever, serves on."""
    assert ask(served, DRAIN)[0] == 200
    with served.connect(8000) as connection:
        get(connection)
        read(connection)
    assert served.running


def test_a_client_that_hangs_up_ends_its_drain(served: Container) -> None:
    """The state clears itself: nothing is left behind of a hook that was cut."""
    with served.connect(PORT) as connection:
        connection.sendall(f"GET {LATE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: status(served)["state"] == "draining", "draining")
        assert status(served)["draining"] == ["late"]
    until(lambda: status(served)["state"] == "serving", "serving again")
    assert served.records("drain") == []


def test_each_caller_has_a_verdict_of_his_own(served: Container) -> None:
    """Whoever asked before, a request that is in flight now is waited for."""
    assert ask(served, DRAIN)[0] == 200
    with served.connect(8000) as connection:
        get(connection, "/close/3")
        began = time.monotonic()
        code, text = ask(served, DRAIN)
        assert code == 200
        assert time.monotonic() - began >= 2.5
        assert json.loads(text)["in_flight_start"] == 1
        read(connection)
    assert len(served.records("drain")) == 2


def test_callers_share_the_looks_and_not_the_time(served: Container) -> None:
    """One that comes later, while another waits, waits its own delay."""
    with served.connect(PORT) as first:
        first.sendall(f"GET {LATE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: status(served)["draining"] == ["late"], "the first waits")
        record = json.loads(ask(served, DRAIN)[1])
        assert (record["container"], record["delay_end"]) == ("app", "quiet")
        assert status(served)["draining"] == ["late"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "container=",
        "container=other",
        "container=app&delay-min=0",
        "container=app&container=late",
        "delay-max=604800&container=app",
        "ports=8000",
        "container=ap%00p",
    ],
)
def test_what_is_waited_for_is_not_the_callers_to_say(box: Container, query: str) -> None:
    code, _ = ask(box, f"/drain?{query}")
    assert code in (400, 404)
    assert status(box)["draining"] == []


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("ports=80", "no container=NAME"),
        ("container=app&ports=0", "--ports"),
        ("container=app&signal=KILL", "signal=KILL"),
        ("container=a/b", "--container"),
        ("container=app&delay-min=soon", "--delay-min"),
    ],
)
def test_an_answer_that_is_not_understood_is_said_at_once(
    released: str, query: str, why: str
) -> None:
    """When the sidecar starts, not when the hook comes."""
    done = subprocess.run(
        [released, "sidecar", "--dry-run", f"--answer={query}"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 125
    assert why in done.stderr


def outside(box: Container, addresses: int) -> list[str]:
    """Give the box addresses that are not loopback, to call it from and at."""
    found = [f"10.8.0.{n + 1}" for n in range(addresses)]
    commands = "; ".join(f"ip addr add {address}/32 dev lo" for address in found)
    subprocess.run(["nsenter", "-t", str(box.pid), "--net", "--", "sh", "-c", commands], check=True)
    return found


def call(box: Container, path: str, source: str, host: str) -> socket.socket:
    with box.inside():
        made = socket.create_connection((host, PORT), timeout=60, source_address=(source, 0))
    made.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return made


def test_strangers_do_not_keep_the_kubelet_out(
    helper: str, container: Callable[..., Container]
) -> None:
    """Callers that ask a hundred times, as often as allowed, have places; so has the next one."""
    box = container(
        helper,
        "sidecar",
        f"--port={PORT}",
        "--listen=pod",
        answer("app", delay=3, most=3),
        answer("late", delay=60, most=60),
    )
    box.listening(PORT)
    box.exec(*victim("--port=8000"))
    box.listening(8000)
    pod, kubelet, *strangers = outside(box, 8)
    held = [call(box, LATE, strangers[0], pod) for _ in range(100)]
    held += [call(box, LATE, stranger, pod) for stranger in strangers for _ in range(16)]
    with call(box, DRAIN, kubelet, pod) as real:
        # More of them, while it waits.
        held += [call(box, LATE, stranger, pod) for stranger in strangers for _ in range(16)]
        assert b"200 OK" in read(real, b"}\n")
        assert status(box)["draining"] == ["late"]
        with call(box, "/healthz", kubelet, pod) as probe:
            assert b"200 OK" in read(probe, b"ok\n")
        assert ask(box, "/drain?container=app")[0] == 200  # from inside as well
    for connection in held:
        connection.close()
    until(lambda: status(box)["state"] in ("serving", "drained"), "nobody waits any more")


def test_by_default_nobody_outside_reaches_it(box: Container) -> None:
    """Only an httpGet hook or the operator's metrics need more than loopback."""
    (pod,) = outside(box, 1)
    assert ask(box, "/healthz")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        ask(box, "/healthz", host=pod)


def test_many_callers_of_a_crowded_pod_cost_one_table(
    released: str, container: Callable[..., Container]
) -> None:
    """Fifty callers over two thousand connections: memory for what was seen is held once."""
    box = container("sh", "-c", f"ulimit -n 8192; exec {' '.join(victim('--port=8000'))}")
    box.listening(8000)
    sidecar = box.exec(released, "sidecar", f"--port={PORT}", answer("app", delay=60, most=60))
    box.listening(PORT)
    held = [box.connect(8000) for _ in range(2000)]
    waiting = [box.connect(PORT) for _ in range(50)]
    for connection in waiting:
        connection.sendall(f"GET {DRAIN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    until(lambda: status(box)["draining"] == ["app"], "they wait")
    time.sleep(1)
    pid = until(lambda: helper_pid(box), "its process")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    assert peak < 2048, "KB"
    assert sidecar.poll() is None
    for connection in (*held, *waiting):
        connection.close()


def helper_pid(box: Container) -> int:
    """Find the sidecar that was started beside PID 1."""
    inside = os.readlink(f"/proc/{box.pid}/ns/pid")  # noqa: PTH115
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not entry.name.isdigit() or os.readlink(entry / "ns/pid") != inside:  # noqa: PTH115
                continue
            if b"\0sidecar\0" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    return 0


# -- clients that mean no good ---------------------------------------------------------------------


def test_clients_that_say_nothing_lock_nobody_out(box: Container) -> None:
    """A hundred of them; a real one is still answered, and they are hung up on."""
    held = [box.connect(PORT) for _ in range(100)]
    assert ask(box, "/healthz")[0] == 200
    for connection in held:
        connection.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(10) == b""
        connection.close()


def test_a_client_that_speaks_a_byte_at_a_time(box: Container) -> None:
    """Has a few seconds for all of it, not for each."""
    began = time.monotonic()
    with box.connect(PORT) as connection:
        try:
            for byte in b"GET /healthz HTTP/1.1\r\nX-Slow: " + b"y" * 200:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)
        except OSError:
            pass
        else:
            pytest.fail("was not hung up on")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 3000,
        b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n\r\n",
        b"POST /report HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /report HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /report HTTP/1.1\r\nContent-Length: 4000\r\n\r\n",
        b"POST /report HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /drain?%zz HTTP/1.1\r\n\r\n",
        b"\0" * 2048,
    ],
)
def test_what_is_no_request(box: Container, data: bytes) -> None:
    """Gets a 4xx, or nothing; and the next one is served."""
    with box.connect(PORT) as connection:
        answer = b""
        # It may be answered and hung up on before all of it has been sent.
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(4096):
                answer += more
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert ask(box, "/healthz")[0] == 200


@pytest.fixture
def reached(helper: str, container: Callable[..., Container]) -> Container:
    """Start a sidecar that all can reach, and a server beside it."""
    made = container(
        helper,
        "sidecar",
        f"--port={PORT}",
        "--listen=pod",
        answer("app"),
        answer("late", delay=60, most=60),
    )
    made.listening(PORT)
    made.exec(*victim("--port=8000"))
    made.listening(8000)
    return made


def test_who_waits_cannot_keep_it_busy(reached: Container) -> None:
    """What comes after the request is not read: the kernel stops who sends it."""
    pod, stranger = outside(reached, 2)
    with call(reached, LATE, stranger, pod) as connection:
        until(lambda: status(reached)["draining"] == ["late"], "it waits")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        connection.settimeout(2)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 20:
                sent += connection.send(b"x" * 4096)
        assert sent < 1 << 20
        assert status(reached)["draining"] == ["late"]


def test_callers_from_inside_leave_the_kubelet_a_place(reached: Container) -> None:
    """Another container of the Pod calls four hundred times."""
    pod, kubelet = outside(reached, 2)
    held = [reached.connect(PORT) for _ in range(3)]
    for _ in range(400):
        held.append(reached.connect(PORT))
        held[-1].sendall(f"GET {LATE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    until(lambda: status(reached)["draining"] == ["late"], "they wait")
    with call(reached, DRAIN, kubelet, pod) as real:
        assert b"200 OK" in read(real, b"}\n")
    for connection in held:
        connection.close()


def test_one_who_connects_all_the_time_is_the_one_to_leave(reached: Container) -> None:
    """A request that takes a moment to arrive keeps its place."""
    pod, kubelet, stranger = outside(reached, 3)

    def connect(source: str) -> socket.socket:
        with reached.inside():
            return socket.create_connection((pod, PORT), 60, (source, 0))

    with connect(kubelet) as real:
        real.sendall(b"GET /healthz HTTP/1.1\r\n")
        held = [connect(stranger) for _ in range(60)]
        assert ask(reached, "/healthz")[0] == 200
        real.sendall(b"Host: x\r\n\r\n")
        assert read(real, b"ok\n").startswith(b"HTTP/1.1 200")
    for connection in held:
        connection.close()


def test_callers_that_hang_up_cost_no_more_than_one_that_waits(
    released: str, container: Callable[..., Container]
) -> None:
    """Looks at three thousand connections have their distance, whoever asks for them."""
    text = "import signal, socket; s = socket.create_server(('', 8000), backlog=4096)"
    box = container(SYSTEM_PYTHON, "-c", f"{text}; signal.pause()")
    box.listening(8000)
    box.exec(released, "sidecar", f"--port={PORT}", answer("app", delay=60, most=60))
    box.listening(PORT)
    held = [box.connect(8000) for _ in range(3000)]
    stat = Path(f"/proc/{until(lambda: helper_pid(box), 'its process')}/stat")

    def busy() -> float:
        return sum(map(int, stat.read_text().rsplit(")", 1)[1].split()[11:13])) / 100

    before, began = busy(), time.monotonic()
    while time.monotonic() - began < 4:
        with box.connect(PORT) as connection:
            connection.sendall(f"GET {DRAIN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            time.sleep(0.002)
    assert busy() - before < 1.5, "seconds of the processor"
    for connection in held:
        connection.close()


# -- its own life ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_it_ends_at_once(box: Container, number: int) -> None:
    """Even while somebody waits: sidecars are signalled last."""
    with box.connect(PORT) as connection:
        connection.sendall(f"GET {LATE} HTTP/1.1\r\n\r\n".encode())
        until(lambda: status(box)["state"] == "draining", "draining")
        box.kill(number)
        assert box.wait() == 0


def test_other_signals_are_nothing_to_it(box: Container) -> None:
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGPIPE):
        box.kill(number)
    assert ask(box, "/healthz")[0] == 200


def test_without_a_port_it_only_installs(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """In a pod on the host's network: no port of the node is taken."""
    box = container(helper, "sidecar", f"--install={tmp_path}", "--port=0")
    until((tmp_path / "podgrace-helper").exists, "installed")
    until(
        lambda: "podgrace-helper" in (Path(f"/proc/{box.pid}/cmdline").read_text()), "it is itself"
    )
    assert not [
        line
        for line in Path(f"/proc/{box.pid}/net/tcp6").read_text().splitlines()[1:]
        if " 0A " in line
    ]
    until(
        lambda: "SigBlk:\tffff" in Path(f"/proc/{box.pid}/status").read_text(),
        "signals are blocked",
    )
    box.kill(signal.SIGTERM)
    assert box.wait() == 0


def test_it_neither_polls_nor_ticks_while_idle(
    released: str, container: Callable[..., Container]
) -> None:
    """Not one switch of context in three seconds, after it has served and been hung up on."""
    box = container(released, "sidecar", f"--port={PORT}")
    box.listening(PORT)
    assert ask(box, "/healthz")[0] == 200

    def switches() -> list[str]:
        return [
            line
            for line in Path(f"/proc/{box.pid}/status").read_text().splitlines()
            if "ctxt_switches" in line
        ]

    last: list[str] = []

    def settled() -> bool:
        nonlocal last
        now, last = last, switches()
        return now == last

    until(settled, "idle")
    before = switches()
    time.sleep(3)
    assert switches() == before


def test_its_memory(released: str, container: Callable[..., Container]) -> None:
    """At most 300 KB resident, after having served."""
    box = container(released, "sidecar", f"--port={PORT}", answer("app"))
    box.listening(PORT)
    for name in (
        "/healthz",
        "/metrics",
        "/status",
        DRAIN,
    ):
        assert ask(box, name)[0] == 200
    resident = next(
        line
        for line in Path(f"/proc/{box.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    assert int(resident.split()[1]) <= 300, resident


def test_helpers_report_to_it(helper: str, container: Callable[..., Container]) -> None:
    """The record is in both logs: the container's own, and the sidecar's, which outlives it."""
    options = waits("--ports=8000", f"--report=127.0.0.1:{PORT}")
    box = container(helper, "run", *options, "--", *victim("--port=8000", "--on=TERM=exit"))
    sidecar = box.exec(helper, "sidecar", f"--port={PORT}")
    box.listening(8000)
    box.listening(PORT)
    assert ended(box.exec(helper, "drain", *options, "--hook=before", "--hook-sleep=0"))[0] == 0
    kept = status(box)["records"]
    assert [r["podgrace"] for r in kept] == ["hook", "drain"]  # type: ignore[attr-defined]
    assert kept == [*box.records("hook"), *box.records("drain")]
    assert "podgrace_helper_hooks_total 1\n" in ask(box, "/metrics")[1]
    assert sidecar.poll() is None


def test_a_sidecar_that_does_not_answer_costs_half_a_second(
    helper: str, container: Callable[..., Container]
) -> None:
    options = waits("--ports=8000", f"--report=127.0.0.1:{PORT}")
    box = container(*victim("--port=8000"))
    box.listening(8000)
    box.exec(*victim(f"--port={PORT}", "--no-accept"))
    until(lambda: "0A" in Path(f"/proc/{box.pid}/net/tcp6").read_text(), "it listens")
    assert ended(box.exec(helper, "drain", *options))[0] == 0
    assert os.path.exists(f"/proc/{box.pid}")  # noqa: PTH110
