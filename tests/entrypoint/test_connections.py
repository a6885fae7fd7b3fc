"""Every kind of connection: whether the helper waits for it, by each means of observing."""

import os
import platform
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests import needs
from tests.entrypoint.conftest import PYTHON, Container, ended, get, read, until, victim, waits

NO_NETLINK = [PYTHON, str(Path(__file__).with_name("deny_netlink.py"))]


@pytest.fixture
def box(container: Callable[..., Container]) -> Container:
    made = container(*victim("--port=8000"))
    made.listening(8000)
    return made


def with_a_neighbour(container: Callable[..., Container]) -> Container:
    """Make a container whose port 8000 is watched, beside another server on port 9000."""
    box = container(
        "sh", "-c", f"{' '.join(victim('--port=8000'))} & exec {' '.join(victim('--port=9000'))}"
    )
    box.listening(8000)
    box.listening(9000)
    return box


def drain(
    box: Container, helper: str, *more: str, prefix: list[str] | None = None, **times: str
) -> "subprocess.Popen[str]":
    """Only look: --no-stop."""
    return box.exec(
        *(prefix or []), helper, "drain", *waits("--ports=8000", "--no-stop", *more, **times)
    )


def result(box: Container, hook: "subprocess.Popen[str]") -> dict[str, object]:
    assert ended(hook) == (0, "")
    return box.records("drain")[-1]


def in_time(box: Container, hook: "subprocess.Popen[str]", least: float = 0) -> dict[str, object]:
    """Check that it ended because nothing was in flight, and not before the answer was out."""
    record = result(box, hook)
    assert int(str(record["waited_ms"])) >= least * 1000
    assert (record["drain_end"], record["in_flight_end"]) == ("idle", 0)
    return record


# -- what does not hold a pod ----------------------------------------------------------------------


def test_nothing(helper: str, box: Container) -> None:
    record = in_time(box, drain(box, helper))
    assert record["in_flight_start"] == 0
    assert record["method"] == "sock_diag"


def test_idle_keep_alive(helper: str, box: Container) -> None:
    """Answered long ago, kept open: ten seconds after a tie at the latest."""
    with box.connect(8000) as one, box.connect(8000) as other:
        for connection in (one, other):
            get(connection, "/slow/0.1")
            read(connection)
        record = in_time(box, drain(box, helper))
        assert record["open"] == 2
        assert record["owed"] == 0


def test_a_silent_connection(helper: str, box: Container) -> None:
    """A preconnect or a health check that never sends a byte: a second old, it is ignored."""
    with box.connect(8000), box.connect(8000):
        record = in_time(box, drain(box, helper))
        assert record["open"] == 2


def test_a_silent_connection_whose_client_has_closed_its_side(helper: str, box: Container) -> None:
    """Not even the FIN counts as a byte. The victim closes; `stuck` below never would."""
    with box.connect(8000) as connection:
        connection.shutdown(socket.SHUT_WR)
        in_time(box, drain(box, helper))


def test_health_checks_whose_connections_the_server_leaves_open(
    helper: str, container: Callable[..., Container]
) -> None:
    """Such a check asks nothing, however young it is; one comes more often than once a second."""
    serve = (
        "import socket\n"
        "listener = socket.create_server(('', 8000))\n"
        "held = []\n"
        "while True: held.append(listener.accept())\n"
    )
    box = container(PYTHON, "-c", serve)
    box.listening(8000)
    with Traffic(box, 0.3, keep=False, hasty=True):
        in_time(box, drain(box, helper))


def test_connections_of_the_application_itself(
    helper: str, container: Callable[..., Container]
) -> None:
    """It calls a back end on another port and waits: ports that are not named do not count."""
    box = with_a_neighbour(container)
    with box.connect(9000) as backend:
        get(backend, "/slow/60")
        record = in_time(box, drain(box, helper))
        assert record["open"] == 0


# -- what holds it until it is done ----------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1"], ids=["IPv4 on a dual-stack listener", "IPv6"]
)
def test_a_slow_request(helper: str, box: Container, host: str) -> None:
    with box.connect(8000, host) as connection:
        get(connection, "/slow/4")
        hook = drain(box, helper)
        read(connection)
        answered = time.monotonic()
        record = in_time(box, hook, 3)
        # Kept alive: it might go on sending, so it has to be calm for a moment first.
        assert time.monotonic() - answered >= 1.5
        assert int(str(record["in_flight_start"])) >= 1


def test_a_slow_request_on_an_ipv4_listener(
    helper: str, container: Callable[..., Container]
) -> None:
    box = container(*victim("--port=8000", "--host=0.0.0.0"))
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/3")
        hook = drain(box, helper)
        read(connection)
        assert int(str(in_time(box, hook, 2)["in_flight_start"])) >= 1


def test_a_client_that_has_closed_its_side_and_waits(helper: str, box: Container) -> None:
    """CLOSE_WAIT: the answer is still owed, and delivered."""
    with box.connect(8000) as connection:
        get(connection, "/close/3")
        connection.shutdown(socket.SHUT_WR)
        hook = drain(box, helper)
        read(connection)
        in_time(box, hook, 2)


def test_an_upload_that_takes_its_time(helper: str, box: Container) -> None:
    """Bytes come in and none go out; they are not new requests, so the delay gets no longer."""
    with box.connect(8000) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: victim\r\nContent-Length: 30\r\n\r\n")
        hook = drain(box, helper, quiet="0.5", most="15")
        for _ in range(30):
            connection.sendall(b"x")
            time.sleep(0.1)
        read(connection)
        record = in_time(box, hook, 2)
        assert record["new_requests"] == 0
        assert record["delay_end"] == "quiet"


def test_an_answer_in_pieces(helper: str, box: Container) -> None:
    """Between two pieces it looks idle; the young last byte gives it away."""
    with box.connect(8000) as connection:
        get(connection, "/stream/4/1")
        hook = drain(box, helper)
        assert read(connection, b"0\r\n\r\n").count(b"bit") == 4
        in_time(box, hook, 3)


def test_bytes_that_the_client_has_not_taken(
    helper: str, container: Callable[..., Container]
) -> None:
    """The program has written its answer, closed, and could exit; the kernel still has it."""
    script = (
        "import socket,time\ns=socket.create_server(('127.0.0.1',8000))\n"
        "print('ready',flush=True)\n"
        "while True:\n c,_=s.accept()\n if not c.recv(100): continue\n"
        " c.setsockopt(socket.SOL_SOCKET,socket.SO_SNDBUF,4000000)\n c.send(b'x'*3000000)\n"
        " c.close()\n"
    )
    box = container(PYTHON, "-c", script)
    box.listening(8000)
    with box.inside(), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", 8000))
        connection.sendall(b"now")
        hook = drain(box, helper)
        time.sleep(2.5)
        assert hook.poll() is None
        while connection.recv(1 << 20):
            pass
        assert int(str(in_time(box, hook)["in_flight_start"])) >= 1


def test_the_accept_queue(helper: str, container: Callable[..., Container]) -> None:
    """Connections that the server has not accepted: closing the listener would reset them.

    Here nobody ever accepts.
    """
    box = container(*victim("--port=8000", "--no-accept"))
    box.logged("ready")
    with box.connect(8000) as one, box.connect(8000) as _other:
        get(one)
        record = result(box, drain(box, helper, drain="3"))
        assert (record["drain_end"], record["queued"], record["in_flight_end"]) == ("timeout", 2, 2)


STREAMS = """
import socket, threading, time
def one(c, n):
    time.sleep(n)
    c.sendall(b"%d" % n)
def serve(c):
    while d := c.recv(1):
        threading.Thread(target=one, args=(c, int(d)), daemon=True).start()
s = socket.create_server(("127.0.0.1", 8000))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


def stream_answers(connection: socket.socket, last: bytes) -> bytes:
    got = b""
    while last not in got:
        got += connection.recv(100)
    return got


def test_several_streams_that_were_under_way(
    helper: str, container: Callable[..., Container]
) -> None:
    """As in HTTP/2. A second answer without a request in between shows that a third may come."""
    box = container(PYTHON, "-c", STREAMS)
    box.listening(8000)
    with box.connect(8000) as connection:
        connection.sendall(b"127")
        hook = drain(box, helper)
        assert stream_answers(connection, b"7") == b"127"
        assert hook.poll() is None
        in_time(box, hook, 5)


def test_a_stream_that_begins_while_another_is_owed(
    helper: str, container: Callable[..., Container]
) -> None:
    """Its own answer comes first, and says nothing about the other."""
    box = container(PYTHON, "-c", STREAMS)
    box.listening(8000)
    with box.connect(8000) as connection:
        connection.sendall(b"7")
        hook = drain(box, helper, most="3", quiet="1")
        time.sleep(1)
        connection.sendall(b"1")
        assert stream_answers(connection, b"7") == b"17"
        assert hook.poll() is None
        in_time(box, hook, 5)


HANDSHAKE = """
import socket, threading, time
def serve(c):
    c.recv(10)
    c.sendall(b".")
    time.sleep(6)
    try:
        c.sendall(b"answer")
    except OSError:
        pass
    c.close()
s = socket.create_server(("127.0.0.1", 8000))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


def test_in_and_out_within_one_tick_of_the_clock(
    helper: str, container: Callable[..., Container]
) -> None:
    """As with TLS: the request ties with the handshake's last bytes, and is still in flight."""
    box = container(PYTHON, "-c", HANDSHAKE)
    box.listening(8000)

    def tie() -> socket.socket | None:
        connection = box.connect(8000)
        connection.sendall(b"hello")
        assert connection.recv(10) == b"."
        port = connection.getsockname()[1]
        command = [
            "nsenter",
            "-t",
            str(box.pid),
            "--net",
            "--",
            "ss",
            "-tinH",
            f"sport = :8000 and dport = :{port}",
        ]
        words = dict(
            w.split(":", 1)
            for w in subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout.split()
            if ":" in w
        )
        # ss leaves out an age of 0.
        if words.get("lastsnd", "0") == words.get("lastrcv", "0"):
            return connection
        connection.close()
        return None

    with until(tie, "a tie") as connection:
        hook = drain(box, helper)
        assert connection.recv(10) == b"answer"
        in_time(box, hook, 3)


# -- what never ends: the cap ----------------------------------------------------------------------


def test_server_sent_events(helper: str, box: Container) -> None:
    with box.connect(8000) as connection:
        get(connection, "/sse/0.5")
        record = result(box, drain(box, helper, drain="4"))
        assert (record["drain_end"], record["in_flight_end"]) == ("timeout", 1)


def test_a_websocket(helper: str, box: Container) -> None:
    """In use it holds the Pod up to the cap; silent it does not: nobody can tell its purpose."""
    with box.connect(8000) as connection:
        get(connection, "/ws")
        read(connection, b"\r\n\r\n")
        over = threading.Event()

        def talk() -> None:
            while not over.wait(0.3):
                connection.sendall(b"ping")
                connection.recv(100)

        talker = threading.Thread(target=talk)
        talker.start()
        record = result(box, drain(box, helper, drain="4"))
        over.set()
        talker.join()
        assert record["drain_end"] == "timeout"
        in_time(box, drain(box, helper))


# -- the delay: what is new ------------------------------------------------------------------------


class Traffic:
    """Requests again and again, until told to end."""

    def __init__(self, box: Container, pause: float, *, keep: bool, hasty: bool = False) -> None:
        self.box, self.pause, self.keep, self.hasty = box, pause, keep, hasty
        self.done = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        connection: socket.socket | None = None
        while not self.over.wait(self.pause):
            connection = connection or self.box.connect(8000)
            if not self.hasty:
                get(connection)
                read(connection)
            self.done += 1
            if not self.keep:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        self.thread.start()
        until(lambda: self.done, "first request")
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


@pytest.mark.parametrize(
    "keep", [True, False], ids=["on one connection", "on new ones, closed by the client at once"]
)
def test_traffic_that_goes_on_meets_delay_max(helper: str, box: Container, keep: bool) -> None:
    """Each request is new; the delay lasts as long as they come, and no longer than its maximum."""
    with Traffic(box, 0.3, keep=keep):
        record = result(box, drain(box, helper, quiet="1.5", most="4", drain="0"))
    assert record["delay_end"] == "max"
    assert int(str(record["new_requests" if keep else "new_connections"])) >= 3


def test_the_delay_ends_when_traffic_does(helper: str, box: Container) -> None:
    with Traffic(box, 0.1, keep=False) as traffic:
        hook = drain(box, helper, quiet="2", most="60")
        done = traffic.done
        until(lambda: traffic.done > done + 10, "requests during the delay")
        assert hook.poll() is None
    record = in_time(box, hook)
    assert record["delay_end"] == "quiet"


@pytest.mark.parametrize("hasty", [False, True], ids=["http", "tcp"])
def test_probes_are_no_traffic(helper: str, box: Container, hasty: bool) -> None:
    """The kubelet probes readiness on, once a period; that alone does not hold the delay open."""
    with Traffic(box, 1.0, keep=False, hasty=hasty):
        record = in_time(box, drain(box, helper, "--probe-period=1", quiet="3", most="60"))
        assert record["delay_end"] == "quiet"
        assert int(str(record["probes"])) >= 2


def test_traffic_beside_probes_is_traffic(helper: str, box: Container) -> None:
    with Traffic(box, 1.0, keep=False), Traffic(box, 0.4, keep=False):
        record = result(box, drain(box, helper, "--probe-period=1", quiet="2", most="6", drain="0"))
        assert record["delay_end"] == "max"


def test_a_port_where_nobody_listens_needs_no_delay(
    helper: str, container: Callable[..., Container]
) -> None:
    """A worker without a port, or a server that has not come up: nothing can come in."""
    box = container(*victim())
    box.logged("ready")
    for ports in (["--ports=8000"], []):
        hook = box.exec(helper, "drain", *waits(*ports, "--no-stop", delay="20", most="30"))
        assert result(box, hook)["delay_end"] == "not-listening"


def test_ports_that_were_declared_wrong(helper: str, box: Container) -> None:
    """The Pod says 80, the server listens on 8000: no reason to stop it during a request."""
    with box.connect(8000) as connection:
        get(connection, "/close/3")
        hook = box.exec(helper, "drain", *waits("--ports=80", "--no-stop"))
        read(connection)
        assert int(str(in_time(box, hook, 2)["in_flight_start"])) >= 1


def test_without_ports_all_that_listen_count(helper: str, box: Container) -> None:
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        hook = box.exec(helper, "drain", *waits("--no-stop"))
        read(connection)
        assert int(str(in_time(box, hook, 1)["in_flight_start"])) >= 1


# -- from where, and by which means ----------------------------------------------------------------


def test_loopback_counts_by_option(helper: str, box: Container) -> None:
    """Without --loopback, connections from 127.0.0.1 or the Pod's own address do not count."""
    with box.connect(8000) as connection:
        get(connection, "/slow/60")
        options = [o for o in waits("--ports=8000", "--no-stop") if o != "--loopback"]
        assert in_time(box, box.exec(helper, "drain", *options))["open"] == 0


def test_from_outside_without_loopback(helper: str, container: Callable[..., Container]) -> None:
    """A real client, on the other end of a pair of interfaces, counts either way."""
    box = container(
        *victim("--port=8000"),
        prepare="ip link add eth0 type veth peer name peer; ip netns 2>/dev/null; ip addr add "
        "10.9.9.2/24 dev eth0; ip link set eth0 up",
    )
    box.listening(8000)
    client = container("sleep", "600")
    subprocess.run(
        [
            "nsenter",
            "-t",
            str(box.pid),
            "--net",
            "--",
            "ip",
            "link",
            "set",
            "peer",
            "netns",
            str(client.pid),
        ],
        check=True,
    )
    subprocess.run(
        [
            "nsenter",
            "-t",
            str(client.pid),
            "--net",
            "--",
            "sh",
            "-c",
            "ip addr add 10.9.9.1/24 dev peer; ip link set peer up",
        ],
        check=True,
    )
    with client.connect(8000, "10.9.9.2") as connection:
        get(connection, "/close/3")
        options = [o for o in waits("--ports=8000", "--no-stop") if o != "--loopback"]
        hook = box.exec(helper, "drain", *options)
        read(connection)
        assert in_time(box, hook, 2)["in_flight_start"] == 1


def test_without_netlink_the_text_table_serves(helper: str, box: Container) -> None:
    """It cannot tell idle from in flight: every open connection holds, up to the cap."""
    with box.connect(8000) as connection:
        get(connection, "/close/3")
        hook = drain(box, helper, prefix=NO_NETLINK)
        read(connection)
        code, said = ended(hook)
        assert code == 0
        record = box.records("drain")[-1]
        assert (record["method"], record["drain_end"], record["in_flight_start"]) == (
            "proc",
            "idle",
            1,
        )
        assert said == ""
    with box.connect(8000):
        record = result(box, drain(box, helper, prefix=NO_NETLINK, drain="2"))
        assert (record["drain_end"], record["unsure"]) == ("timeout", 1)


def test_the_text_table_sees_new_connections_too(released: str, box: Container) -> None:
    with Traffic(box, 0.3, keep=False):
        record = result(
            box, drain(box, released, prefix=NO_NETLINK, quiet="1.5", most="4", drain="0")
        )
    assert (record["method"], record["delay_end"]) == ("proc", "max")


def test_with_neither_the_fixed_times_serve(
    helper: str, container: Callable[..., Container]
) -> None:
    """No /proc/net (a restricted mount) and no netlink: wait the full time, and say so."""
    box = container(*victim("--port=8000"), prepare="mount -t proc -o subset=pid proc /proc")
    box.listening(8000)
    hook = drain(box, helper, prefix=NO_NETLINK, most="2", drain="2")
    assert ended(hook)[0] == 0
    record = box.records("drain")[-1]
    assert (record["method"], record["delay_end"], record["drain_end"]) == ("time", "time", "time")
    assert int(str(record["waited_ms"])) >= 4000
    assert "does not tell about sockets" in box.log


POLL = {"x86_64": "7", "aarch64": "73"}


def test_without_poll_it_waits_all_the_same(released: str, box: Container) -> None:
    """A sandbox refuses it: a wait is still a wait, not a loop that takes a core."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    deny = [PYTHON, str(Path(__file__).with_name("deny_calls.py")), POLL[platform.machine()]]
    hook = drain(box, released, prefix=deny, delay="4", most="4", drain="0")
    assert ended(hook)[0] == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert busy < 1, "seconds of the processor"


def test_many_connections(released: str, container: Callable[..., Container]) -> None:
    """Two thousand idle ones and one in flight."""
    box = container("sh", "-c", f"ulimit -n 8192; exec {' '.join(victim('--port=8000'))}")
    box.listening(8000)
    held = [box.connect(8000) for _ in range(2000)]
    until(lambda: box.running, "the server is up")
    with box.connect(8000) as connection:
        get(connection, "/close/4")
        hook = drain(box, released)
        read(connection)
        record = in_time(box, hook, 2)
        assert record["open"] == 2000
    for one in held:
        one.close()


def test_traffic_on_other_ports_is_not_ours(
    released: str, container: Callable[..., Container]
) -> None:
    """Short connections to a port beside (a scrape each second) do not hold the delay."""
    box = with_a_neighbour(container)
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(0.2):
            with box.connect(9000) as connection:
                get(connection)
                read(connection)

    thread = threading.Thread(target=scrape)
    thread.start()
    record = in_time(box, drain(box, released, quiet="1.5", most="60"))
    over.set()
    thread.join()
    assert (record["delay_end"], record["new_connections"]) == ("quiet", 0)


def test_a_crowd_on_other_ports_is_not_ours(
    released: str, container: Callable[..., Container]
) -> None:
    """More of them between two looks than the kernel can queue for us."""
    box = with_a_neighbour(container)
    hook = drain(box, released, quiet="1.5", most="60")
    children = Path(f"/proc/{hook.pid}/task/{hook.pid}/children")
    pid = int(until(lambda: children.read_text().split(), "the helper is there")[0])
    time.sleep(0.5)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(400):
        box.connect(9000).close()
    for stopped in (pid, hook.pid):  # nsenter stops with its program
        os.kill(stopped, signal.SIGCONT)
    record = in_time(box, hook)
    assert (record["delay_end"], record["new_connections"]) == ("quiet", 0)


def test_more_ports_than_anybody_names(released: str, container: Callable[..., Container]) -> None:
    """Each of a few hundred, scattered, is looked at."""
    ports = [9000 + 2 * n for n in range(300)]
    script = (
        "import socket, sys, threading, time\n"
        "def one(c):\n c.recv(99); time.sleep(3); c.sendall(b'x'); c.close()\n"
        "def serve(s):\n while True: threading.Thread(target=one, args=(s.accept()[0],)).start()\n"
        "for p in map(int, sys.argv[1:]):\n"
        " threading.Thread(target=serve, args=(socket.create_server(('127.0.0.1', p)),)).start()\n"
        "print('ready', flush=True)\n"
    )
    box = container(PYTHON, "-c", script, *map(str, ports))
    box.logged("ready")
    for named in (["--ports=" + ",".join(map(str, ports))], []):
        with box.connect(ports[-1]) as connection:
            connection.sendall(b"x")
            hook = box.exec(released, "drain", *waits(*named, "--no-stop"))
            assert connection.recv(10) == b"x"
            assert int(str(in_time(box, hook, 2)["in_flight_start"])) == 1


def test_a_look_that_fails_is_no_reason_to_end(
    released: str, container: Callable[..., Container]
) -> None:
    """One netlink call in the delay fails, by strace: the next is asked, the answer waited for."""
    needs.programs("strace")
    box = container(*victim("--port=8000"))
    box.listening(8000)
    fail = ["strace", "-o", "/dev/null", "-e", "trace=sendmsg", "-e"]
    for when, method in (("7", "sock_diag"), ("7+", "proc")):
        with box.connect(8000) as connection:
            get(connection, "/close/4")
            prefix = [*fail, f"inject=sendmsg:error=ENOBUFS:when={when}"]
            hook = drain(box, released, prefix=prefix, quiet="1", most="3")
            read(connection)
            assert ended(hook)[0] == 0
            record = box.records("drain")[-1]
            assert record["delay_end"] in ("quiet", "max"), record
            assert (record["method"], record["drain_end"]) == (method, "idle")
            assert record["waited_ms"] >= 2500
