"""Servers that finish by themselves get their signal while requests still come.

The signal comes once no new connection comes in.
"""

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import needs
from tests.entrypoint.conftest import (
    POD,
    PYTHON,
    SYSTEM_PYTHON,
    VETH,
    Container,
    client_of,
    ended,
    get,
    named,
    read,
    until,
    victim,
    waits,
)
from webhook.config.file import Defaults

SLOW = """
import http.server, socketserver, sys, time
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(float(self.path.strip("/") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    do_POST = do_GET
    def log_message(self, *_): pass
Server(("127.0.0.1", 8081), Answer).serve_forever()
"""

NGINX = """
daemon off; worker_processes 2; pid {where}/pid; error_log stderr;
events {{ }}
http {{
    access_log off; client_body_temp_path {where}; proxy_temp_path {where};
    fastcgi_temp_path {where}; uwsgi_temp_path {where}; scgi_temp_path {where};
    server {{ listen 8000; location / {{ proxy_pass http://127.0.0.1:8081; }} }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend all
    bind :8000
    default_backend slow
backend slow
    server one 127.0.0.1:8081
"""


class Server:
    """One that is behind a proxy of the Pod's own, and how the proxy is started."""

    def __init__(self, name: str, where: Path) -> None:
        program = needs.program(name)
        config = where / f"{name}.conf"
        config.write_text({"nginx": NGINX, "haproxy": HAPROXY}[name].format(where=where))
        where.chmod(0o777)
        self.argv = {
            "nginx": [program, "-e", "stderr", "-c", str(config)],
            "haproxy": [program, "-W", "-db", "-f", str(config)],
        }[name]
        self.signal = {"nginx": "QUIT", "haproxy": "USR1"}[name]


class Client:
    """Requests on one connection, with no pause, until the server closes it between two answers."""

    def __init__(self, client: Container, method: str) -> None:
        self.client, self.method = client, method
        self.done, self.cut = 0, 0
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        request = f"{self.method} /0.02 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
        with self.client.connect(8000, POD) as connection:
            while True:
                answer = b""
                with contextlib.suppress(OSError):
                    connection.sendall(request)
                    while not answer.endswith(b"ok") and (more := connection.recv(4096)):
                        answer += more
                if not answer.endswith(b"ok"):
                    self.cut += bool(answer)
                    break
                self.done += 1
                if b"connection: close" in answer.lower():
                    break
        self.closed.set()


def options(*more: str, drain: str = "20") -> list[str]:
    return waits("--ports=8000", *more, delay="0.5", quiet="1.5", most="8", drain=drain)


def stop(box: Container, hook_argv: Sequence[str]) -> tuple[int, float]:
    """As a kubelet does: the hook, then TERM. Returns the hook's exit code and when it returned."""
    hook = box.exec(*hook_argv)
    code = hook.wait(60)
    returned = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        box.kill(signal.SIGTERM)
    return code, returned


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["hook", "wrap"])
def test_clients_that_never_pause_do_not_hold_it(
    helper: str, container: Callable[..., Container], tmp_path: Path, name: str, wrapped: bool
) -> None:
    """It gets the signal while they go on; it finishes its long answer; the TERM cuts nothing."""
    server = Server(name, tmp_path)
    argv = options("--finishes", f"--signal={server.signal}", f"--match={name}")
    box = container(*([helper, "run", *argv, "--"] if wrapped else []), *server.argv, prepare=VETH)
    box.exec(SYSTEM_PYTHON, "-c", SLOW)
    box.listening(8081)
    box.listening(8000)
    client = client_of(box, container)
    clients = [Client(client, method) for method in ("GET", "POST")]
    until(lambda: all(c.done for c in clients), "they are answered")
    with client.connect(8000, POD) as slow:
        get(slow, "/6")
        time.sleep(0.3)
        began = time.monotonic()
        code, returned = stop(box, [helper, "drain", *argv])
        answer = b""
        with contextlib.suppress(OSError):
            while more := slow.recv(4096):
                answer += more
        answered = time.monotonic()
    assert answer.endswith(b"ok"), box.log
    assert answered - began < 30
    assert code == 0, box.log  # else the kubelet reports a failed hook
    if not wrapped:
        assert returned - began > 3, "TERM would have cut it"
    assert all(c.closed.wait(10) for c in clients)
    assert sum(c.cut for c in clients) == 0
    box.wait()
    assert time.monotonic() - answered < 20
    (record,) = box.records("drain")
    assert (record["delay_end"], record["drain_end"]) == ("quiet", "finishes")
    assert record["finishing"] >= 1
    assert record["in_flight_end"] == 0
    assert record["new_requests"] > 10


def test_a_new_connection_is_a_reason_to_wait(
    released: str, container: Callable[..., Container]
) -> None:
    """A load balancer that still sends new ones has not deregistered the Pod."""
    box = container(*victim("--port=8000", "--on=TERM=finish"))
    box.listening(8000)
    over = threading.Event()

    def come() -> None:
        while not over.wait(0.3):
            with box.connect(8000) as connection:
                get(connection)
                read(connection)

    thread = threading.Thread(target=come)
    thread.start()
    hook = box.exec(released, "drain", *options("--finishes"))
    ended(hook)
    over.set()
    thread.join()
    assert box.records("drain")[0]["delay_end"] == "max"


def test_a_neighbour_that_still_asks_is_waited_for(
    released: str, container: Callable[..., Container]
) -> None:
    """Requests from inside of the Pod still count: the caller serves on, and finds nobody else."""
    box = container(*victim("--port=8000", "--on=TERM=finish"))
    box.listening(8000)
    over = threading.Event()

    def ask() -> None:
        with box.connect(8000) as connection:
            while not over.wait(0.1):
                get(connection)
                read(connection)

    thread = threading.Thread(target=ask)
    thread.start()
    ended(box.exec(released, "drain", *options("--finishes", drain="1")))
    over.set()
    thread.join()
    record = box.records("drain")[0]
    assert record["delay_end"] == "max"


def test_an_answer_for_a_neighbour_is_waited_for(
    released: str, container: Callable[..., Container]
) -> None:
    box = container(*victim("--port=8000", "--on=TERM=finish"))
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/4")
        hook = box.exec(released, "drain", *options("--finishes"))
        read(connection)
        assert ended(hook)[0] == 0
    assert box.records("drain")[0]["drain_ms"] >= 500


def test_the_users_hook_runs_when_nothing_is_in_flight(
    released: str, container: Callable[..., Container]
) -> None:
    """It comes after, and may end the server: so the drain is the usual one."""
    server = " ".join(victim("--port=8000", "--on=TERM=exit"))
    box = container("sh", "-c", f"{server}; sleep 60", prepare=VETH)
    box.listening(8000)
    client = client_of(box, container)
    with client.connect(8000, POD) as connection:
        get(connection, "/close/4")
        argv = [
            *options("--finishes"),
            "--hook=after",
            "--",
            "sh",
            "-c",
            "pkill -TERM python; true",
        ]
        hook = box.exec(released, "drain", *argv)
        read(connection)
        ended(hook)
    assert box.records("drain")[0]["drain_end"] == "idle"


def test_a_shell_in_front_is_deaf_to_term(
    released: str, container: Callable[..., Container]
) -> None:
    """So the hook returns at once, and the process that stays behind signals, with all its time."""
    server = " ".join(victim("--port=8000", "--on=TERM=finish"))
    box = container("sh", "-c", f"{server}; exit 5")
    box.listening(8000)
    code, _ = stop(box, [released, "drain", *options("--finishes")])
    assert code == 0
    assert box.wait() == 5
    assert box.log.count("got 15") == 1
    assert box.records("drain")[0]["drain_end"] == "finishes"


def test_an_endless_stream_is_kept_up_to_the_cap(
    released: str, container: Callable[..., Container]
) -> None:
    """drain-timeout and patience are the server's, one after the other; then TERM and KILL."""
    server = " ".join(victim("--port=8000", "--on=USR1=print"))
    box = container("sh", "-c", f"{server}; exit 5")
    box.listening(8000)
    argv = waits(
        "--ports=8000", "--finishes", "--signal=USR1", delay="0", most="1", drain="3", patience="2"
    )
    stop(box, [released, "drain", *argv])
    box.logged("got 10")
    began = time.monotonic()
    box.wait()
    assert time.monotonic() - began >= 4  # what the signal did not end, TERM did: no record is left


@pytest.mark.parametrize("wrapped", [False, True], ids=["hook", "wrap"])
def test_what_a_trap_sends_nobody_knows(
    helper: str, container: Callable[..., Container], tmp_path: Path, wrapped: bool
) -> None:
    """After QUIT nginx finishes; this trap sends TERM, after which nginx does not."""
    server = named(tmp_path, "nginx")
    text = f"trap 'kill $!; wait' TERM; {server} --port=8000 --on=TERM=exit & wait; wait"
    argv = options("--detect")
    run = [helper, "run", *argv, "--"] if wrapped else []
    box = container(*run, "sh", "-c", text, prepare=VETH)
    box.listening(8000)
    with client_of(box, container).connect(8000, POD) as connection:
        get(connection, "/close/5")
        time.sleep(0.3)
        stop(box, [helper, "drain", *argv])
        assert read(connection).endswith(b"ok")
    box.wait()
    record = box.records("drain")[0]
    assert (record["profile"], record["drain_end"]) == ("nginx", "idle")


SVSCAN = """
import signal, subprocess, sys, time
child = subprocess.Popen(sys.argv[1:])
def stop(*_):
    child.terminate()
    time.sleep(1)
    sys.exit(0)
signal.signal(15, stop)
child.wait()
"""


@pytest.mark.parametrize("init", ["dumb-init", "s6-svscan"])
def test_an_init_that_leaves_no_time_to_finish(
    helper: str, container: Callable[..., Container], tmp_path: Path, init: str
) -> None:
    """dumb-init ends with the shell, which TERM ends at once; s6 kills after its own limit."""
    supervisor = tmp_path / "s6-svscan"
    supervisor.write_text(f"#!{PYTHON}\n{SVSCAN}")
    supervisor.chmod(0o755)
    server = victim("--port=8000", "--on=TERM=finish")
    if init == "dumb-init":
        needs.programs(init)
        argv = [init, "--", "sh", "-c", f"{' '.join(server)}; exit 5"]
    else:
        argv = [str(supervisor), *server]
    box = container(*argv, prepare=VETH)
    box.listening(8000)
    with client_of(box, container).connect(8000, POD) as connection:
        get(connection, "/close/5")
        time.sleep(0.3)
        stop(box, [helper, "drain", *options("--finishes")])
        assert read(connection).endswith(b"ok")
    box.wait()


SOCKETS = """
import os, signal, socket, subprocess, sys
door = socket.create_server(("", 8000))
child = subprocess.Popen([*sys.argv[1:], str(door.fileno())], pass_fds=[door.fileno()])
signal.signal(15, lambda *_: os._exit(7))
child.wait()
while True: signal.pause()
"""

WORKER = """#!{python}
import signal, socket, sys
signal.signal(3, lambda *_: sys.exit(0))
door = socket.socket(fileno=int(sys.argv[1]))
while True:
    door.accept()[0].close()
"""


def test_a_socket_that_stays_open_does_not_hold_it(
    released: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """PID 1 has opened it, and keeps it for the next server; what is waited for is this one."""
    server = tmp_path / "nginx"
    server.write_text(WORKER.format(python=PYTHON))
    server.chmod(0o755)
    opener = tmp_path / "opener"
    opener.write_text(SOCKETS)
    box = container(PYTHON, str(opener), str(server))
    box.listening(8000)
    argv = options("--detect", "--patience=60", drain="60")
    began = time.monotonic()
    assert ended(box.exec(released, "drain", *argv), 100)[0] == 0
    assert time.monotonic() - began < 50
    assert box.records("drain")[0]["stop"].startswith("QUIT to nginx")
    box.kill(signal.SIGTERM)
    assert box.wait() == 7


# -- the termination message -----------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if '"podgrace":"drain"' in line]


def drained(
    helper: str, container: Callable[..., Container], path: Path | str, *, wrapped: bool = False
) -> Container:
    argv = waits("--ports=8000", f"--termination-message={path}")
    server = victim("--port=8000", "--on=TERM=exit")
    box = container(*([helper, "run", *argv, "--"] if wrapped else []), *server)
    box.listening(8000)
    assert ended(box.exec(helper, "drain", *argv))[0] == 0
    box.kill(signal.SIGTERM)
    box.wait()
    return box


@pytest.mark.parametrize("wrapped", [False, True], ids=["hook", "wrap"])
def test_the_record_is_in_the_termination_message(
    helper: str, container: Callable[..., Container], tmp_path: Path, wrapped: bool
) -> None:
    """The kubelet has made an empty file; so the Pod's status tells what the drain was."""
    path = tmp_path / "termination-log"
    path.touch()
    box = drained(helper, container, path, wrapped=wrapped)
    (line,) = lines(path)
    assert line in box.log
    assert path.stat().st_size <= 4096


def test_what_the_application_wrote_stays(
    released: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    path = tmp_path / "termination-log"
    path.write_text("out of licences")
    drained(released, container, path)
    assert path.read_text() == "out of licences"


def test_nothing_is_made_and_no_link_is_followed(
    released: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.touch()
    link = tmp_path / "link"
    link.symlink_to(other)
    missing = tmp_path / "missing"
    for path in (link, missing, "", "/dev/null"):
        drained(released, container, path)
    assert other.read_text() == ""
    assert not missing.exists()


# -- one default for all ---------------------------------------------------------------------------


def test_the_defaults_of_the_delay_are_the_webhooks(released: str) -> None:
    """By hand and injected, the helper waits the same."""
    done = subprocess.run(
        [released, "drain", "--dry-run"], check=True, capture_output=True, text=True
    )
    seen = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    ours = Defaults()
    assert [
        int(seen[f"{name}-ms"]) for name in ("delay-min", "quiet", "delay-max", "drain-timeout")
    ] == [1000 * n for n in (ours.delay_min, ours.quiet, ours.delay_max, ours.drain_timeout)]
