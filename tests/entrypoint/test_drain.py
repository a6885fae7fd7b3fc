"""`drain` where the application is PID 1, or below it: who stops what, and the user's own hook."""

import contextlib
import http.server
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import needs
from tests.entrypoint.conftest import (
    PYTHON,
    SYSTEM_PYTHON,
    VICTIM,
    Container,
    ended,
    get,
    named,
    read,
    until,
    victim,
    waits,
)

# -- who is stopped --------------------------------------------------------------------------------


def test_a_server_that_is_pid_1_and_wants_term_is_left_to_the_kubelet(
    helper: str, container: Callable[..., Container]
) -> None:
    """The kubelet's TERM comes as soon as the hook returns; the hook has done the rest."""
    box = container(*victim("--port=8000", "--on=TERM=exit"))
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        hook = box.exec(helper, "drain", *waits("--ports=8000"))
        read(connection)
        assert ended(hook) == (0, "")
    assert box.running
    assert "got" not in box.log
    assert box.records("drain")[0]["stop"] == "left to the kubelet"
    box.kill(signal.SIGTERM)
    assert box.wait() == 0


def test_a_server_that_is_pid_1_and_wants_another_signal_gets_it(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """Called nginx, so QUIT; the hook returns when nothing can be lost, never before the signal.

    Or it is killed with PID 1.
    """
    box = container(named(tmp_path, "nginx"), "--port=8000", "--on=QUIT=finish", "--on=TERM=print")
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        hook = box.exec(helper, "drain", *waits("--ports=8000", "--detect"))
        read(connection)
    assert ended(hook)[0] in (0, 137, -9)
    assert box.wait() == 0
    (record,) = box.records("drain")
    assert (record["profile"], record["stop"], record["in_flight_end"]) == (
        "nginx",
        "QUIT to nginx (1)",
        0,
    )
    assert box.log.count("got 3") == 1
    assert "got 15" not in box.log


def test_a_pid_1_that_does_not_end_does_not_hold_the_hook(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """Its listener is closed and nothing is owed: the rest is the kubelet's."""
    box = container(named(tmp_path, "nginx"), "--port=8000", "--on=QUIT=finish")
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/ws")  # in the victim's eyes in flight for ever, silent in the kernel's
        read(connection, b"\r\n\r\n")
        began = time.monotonic()
        hook = box.exec(helper, "drain", *waits("--ports=8000", "--detect", patience="60"))
        assert ended(hook, 60)[0] == 0
        assert time.monotonic() - began < 50
        assert box.running


def test_a_pid_1_without_a_handler_is_told(
    helper: str, container: Callable[..., Container]
) -> None:
    """The kernel delivers nothing to PID 1 that it does not handle: sending would be pretence."""
    box = container(*victim("--port=8000"))
    box.listening(8000)
    assert ended(box.exec(helper, "drain", *waits("--ports=8000", "--signal=QUIT")))[0] == 0
    box.logged("PID 1 has no handler for QUIT")
    assert box.running


@pytest.mark.parametrize("front", ["sh", "bash", "tini", "dumb-init"])
def test_behind_a_shell_or_an_init_the_server_itself_gets_the_signal(
    helper: str, container: Callable[..., Container], front: str
) -> None:
    """Found by the listening port, whatever stands in front; PID 1 ends by itself."""
    server = " ".join(victim("--port=8000", "--on=TERM=finish"))
    commands = {
        "sh": ["sh", "-c", f"{server}; exit 5"],
        "bash": ["bash", "-c", f"{server}; exit 5"],
        "tini": ["tini", "--", *server.split()],
        "dumb-init": ["dumb-init", "--", *server.split()],
    }
    needs.programs(front)
    box = container(*commands[front])
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        hook = box.exec(helper, "drain", *waits("--ports=8000", "--detect"))
        read(connection)
        assert ended(hook)[0] in (0, 137, -9)
    # The kubelet's turn: an init passes it on, a shell that is PID 1 never sees it.
    with contextlib.suppress(ProcessLookupError):
        box.kill(signal.SIGTERM)
    assert box.wait() == (5 if "sh" in front else 0)
    assert box.log.count("got 15") == 1


def test_the_master_is_chosen_and_not_a_worker(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """All of them have the listening socket; the topmost is the one that the others belong to."""
    script = named(tmp_path, "gunicorn")
    box = container("sh", "-c", f"{script} --port=8000 --on=TERM=print --children=3; :")
    box.listening(8000)
    until(lambda: box.log.count("ready") == 4, "all are up")
    master = int(box.log.split("ready ")[1].split()[0])
    box.exec(helper, "drain", *waits("--ports=8000", "--detect", patience="2"))
    box.logged("got 15")
    masters = min(int(line.split()[1]) for line in box.log.splitlines() if line.startswith("ready"))
    assert f"TERM to gunicorn ({masters})" in box.log
    assert master >= masters


def test_another_program_with_a_servers_name_is_not_taken(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """A script called redis-server runs beside it, higher up; the server has the port."""
    other, server = named(tmp_path, "redis-server"), named(tmp_path, "nginx")
    box = container(
        "sh", "-c", f"{other} --on=TERM=exit & sh -c '{server} --port=8000 --on=QUIT=exit; :'; wait"
    )
    box.listening(8000)
    box.exec(helper, "drain", *waits("--ports=8000", "--detect"))
    box.logged("got 3")
    assert box.records("drain")[0]["profile"] == "nginx"


def test_npm_in_front_of_node_is_skipped(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """`npm start` dies of a TERM without telling Node, which goes on serving as an orphan."""
    npm = tmp_path / "npm-cli.js"
    npm.write_text(
        f"#!{PYTHON}\nimport subprocess, sys; "
        f"sys.exit(subprocess.call({victim('--port=8000', '--on=TERM=exit')!r}))\n"
    )
    npm.chmod(0o755)
    box = container("sh", "-c", f"{npm} start; :")
    box.listening(8000)
    box.exec(helper, "drain", *waits("--ports=8000", "--detect"))
    box.logged("got 15")
    assert box.wait() == 0


def test_a_tree_that_ignores_everything_is_killed(
    helper: str, container: Callable[..., Container]
) -> None:
    """TERM after the patience, KILL two seconds later, even for children, but not for PID 1.

    PID 1 is a shell.
    """
    box = container(
        "sh",
        "-c",
        f"{' '.join(victim('--port=8000', '--on=ALL=ignore', '--children=2'))}; echo code $?; "
        "sleep 600",
    )
    box.listening(8000)
    hook = box.exec(helper, "drain", *waits("--ports=8000", patience="2"))
    assert ended(hook)[0] == 0
    box.logged("code 137")
    assert until(lambda: box.records("stop"), "the record")[0]["forced"] == "kill"
    assert box.running
    box.kill(signal.SIGKILL)


def test_patience_is_said_once_a_second(released: str, container: Callable[..., Container]) -> None:
    box = container("sh", "-c", f"{' '.join(victim('--port=8000', '--on=TERM=print'))}; sleep 600")
    box.listening(8000)
    ended(box.exec(released, "drain", *waits("--ports=8000", patience="4")))
    record = until(lambda: box.records("stop"), "the record")[0]
    words = [line.split(", ")[-1] for line in box.log.splitlines() if "patience left" in line]
    assert words == [f"{n} s of patience left" for n in (3, 2, 1)]
    assert record["forced"] == "kill"


def test_no_stop_stops_nothing(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    box = container("sh", "-c", f"{named(tmp_path, 'nginx')} --port=8000 --on=ALL=print; :")
    box.listening(8000)
    assert ended(box.exec(helper, "drain", *waits("--ports=8000", "--detect", "--no-stop"))) == (
        0,
        "",
    )
    assert "got" not in box.log
    assert box.records("drain")[0]["stop"] == "left to the kubelet"


def test_permanent_connections_are_not_waited_for(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """postgres: by its profile, or by --no-observe."""
    box = container(named(tmp_path, "postgres"), "--port=8000", "--on=INT=print")
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/slow/60")
        for option in ("--detect", "--no-observe"):
            hook = box.exec(
                helper, "drain", *waits("--ports=8000", option, "--signal=INT", patience="1")
            )
            assert ended(hook)[0] == 0
            assert box.records("drain")[-1]["drain_end"] == "not-observed"
    until(lambda: box.log.count("got 2") == 2, "INT came, each time")


def test_a_repeated_hook_stops_the_server_once(
    helper: str, container: Callable[..., Container]
) -> None:
    """To many servers a second signal means "faster"."""
    server = " ".join(victim("--port=8000", "--on=TERM=finish"))
    box = container("sh", "-c", f"{server}; sleep 600")
    box.listening(8000)
    options = waits("--ports=8000", drain="1")
    with box.connect(8000) as connection:
        get(connection, "/close/4")
        time.sleep(0.2)
        hooks = [box.exec(helper, "drain", *options) for _ in range(3)]
        read(connection)
    assert [ended(hook)[0] for hook in hooks] == [0, 0, 0]
    assert box.log.count("got 15") == 1
    assert box.log.count("another call of the hook stops this container") == 2
    assert len(box.records("drain")) == 3


@pytest.mark.parametrize("other", ["short", "long"])
def test_each_call_has_a_verdict_of_its_own(
    helper: str, container: Callable[..., Container], other: str
) -> None:
    """Somebody tries other times by hand, and the kubelet calls meanwhile."""
    box = container(*victim("--port=8000", "--on=TERM=exit"))
    box.listening(8000)
    delay, drain = {"short": ("1", "0"), "long": ("600", "600")}[other]
    hand = waits("--ports=8000", "--no-stop", delay=delay, most=delay, drain=drain)
    box.exec(helper, "drain", *hand)
    time.sleep(0.5)
    with box.connect(8000) as connection:
        get(connection, "/close/3")
        hook = box.exec(helper, "drain", *waits("--ports=8000"))
        read(connection)
        assert ended(hook)[0] == 0
    assert box.records("drain")[-1]["in_flight_end"] == 0
    box.kill(signal.SIGTERM)
    assert box.wait() == 0


def test_another_container_of_the_pod_is_no_first_hook(
    released: str, container: Callable[..., Container]
) -> None:
    """Containers share the network and so abstract sockets: the PID namespace tells them apart."""
    server = " ".join(victim("--port=8000", "--on=TERM=print"))
    box = container("sh", "-c", f"{server}; sleep 600")
    box.listening(8000)
    options = waits("--ports=8000", patience="6")
    with box.connect(8000) as connection:
        get(connection, "/slow/60")
        first = box.exec(released, "drain", *options, "--drain-timeout=0")
        unix = Path(f"/proc/{box.pid}/net/unix")
        until(lambda: "/stop/app" in unix.read_text(), "the first stops the server")
        apart = ["unshare", "--pid", "--fork", "--mount-proc", "--"]
        second = box.exec(*apart, released, "drain", *options, "--drain-timeout=0")
        assert ended(second)[0] == 0
    assert "another call" not in box.log
    assert ended(first)[0] == 0


def squat(box: Container, *roles: str) -> list[socket.socket]:
    """Take the names that the helper would take, from another PID namespace."""
    space = Path(f"/proc/{box.pid}/ns/pid").stat().st_ino
    made = []
    for role in roles:
        with box.inside():
            made.append(socket.socket(socket.AF_UNIX))
        made[-1].bind(f"\0podgrace/{space}/{role}/app")
        made[-1].listen(8)
    return made


@pytest.mark.parametrize("wrapped", [False, True], ids=["hook", "wrap"])
def test_a_stranger_who_has_the_name_decides_nothing(
    helper: str, container: Callable[..., Container], wrapped: bool
) -> None:
    """Containers share the network, and anybody in it may take any name."""
    options = waits("--ports=8000")
    server = victim("--port=8000", "--on=TERM=exit")
    # The names hold the PID namespace, so the container is there first, and waits for the word.
    argv = [helper, "run", *options, "--", *server] if wrapped else server
    box = container(
        "sh",
        "-c",
        'read word </tmp/go-$0; exec "$@"',
        str(os.getpid()),
        *argv,
        prepare=f"rm -f /tmp/go-{os.getpid()}; mkfifo /tmp/go-{os.getpid()}",
    )
    strangers = squat(box, "run", "stop")
    go = Path(f"/tmp/go-{os.getpid()}")
    until(go.exists, "the container waits")
    go.write_text("go\n")
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        hooks = [box.exec(helper, "drain", *options) for _ in range(2)]
        read(connection)
        assert [ended(hook)[0] for hook in hooks] == [0, 0]
    records = box.records("drain")
    assert all(record["in_flight_start"] >= 1 for record in records)
    assert all(record["in_flight_end"] == 0 for record in records)
    box.kill(signal.SIGTERM)
    assert box.wait() == 0
    assert box.records("drain") == records, "what the hooks drained is drained"
    go.unlink()
    for stranger in strangers:
        stranger.close()


@pytest.mark.parametrize("command", ["false", "/nowhere"])
@pytest.mark.parametrize("init", [False, True], ids=["below a shell", "as PID 1"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "at its cap"])
def test_a_stop_command_that_fails_is_followed_by_the_signal(
    helper: str, container: Callable[..., Container], command: str, init: bool, busy: bool
) -> None:
    """As `run` does it, on every path of a hook; long before the patience is over."""
    server = victim("--port=8000", "--on=USR1=exit")
    box = container(*(server if init else ["sh", "-c", f"{' '.join(server)}; sleep 600"]))
    box.listening(8000)
    options = waits("--ports=8000", f"--stop-command={command}", "--signal=USR1", patience="60")
    with contextlib.ExitStack() as stack:
        if busy:
            get(stack.enter_context(box.connect(8000)), "/slow/60")
            options.append("--drain-timeout=1")
        hook = box.exec(helper, "drain", *options)
        box.logged("got 10")
        assert ended(hook)[0] in (0, 137, -9)
    assert "patience has run out" not in box.log


@pytest.mark.parametrize("init", [False, True], ids=["below a shell", "as PID 1"])
def test_a_stop_command_that_hangs_does_not_hold_the_hook(
    helper: str, container: Callable[..., Container], init: bool
) -> None:
    """It has the hook's streams, and a runtime reads those to their end."""
    server = victim("--port=8000", "--on=TERM=exit")
    box = container(*(server if init else ["sh", "-c", f"{' '.join(server)}; sleep 600"]))
    box.listening(8000)
    options = waits("--ports=8000", "--stop-command=sleep 600", drain="0", patience="2")
    with box.connect(8000) as connection:
        get(connection, "/slow/60")
        time.sleep(0.2)
        assert ended(box.exec(helper, "drain", *options))[0] == 0  # reads them, too
    assert ("got 15" in box.log) is not init, "the kubelet's TERM is for PID 1"


def test_a_stop_command_that_is_too_long_is_followed_by_the_signal(
    helper: str, container: Callable[..., Container]
) -> None:
    """A part of it would be another command."""
    server = victim("--port=8000", "--on=TERM=exit")
    command = " ".join(["sleep", *(["0"] * 40), "600"])
    box = container(helper, "run", *waits(f"--stop-command={command}"), "--", *server)
    box.listening(8000)
    box.kill(signal.SIGTERM)
    assert box.wait() == 0
    assert "more than 31 words" in box.log
    assert "got 15" in box.log


def test_the_users_hook_takes_its_time_from_the_deadline(
    released: str, container: Callable[..., Container]
) -> None:
    box = container(*victim("--port=8000"))
    box.listening(8000)
    options = waits("--ports=8000", "--deadline=8", delay="60", most="60")
    hook = box.exec(released, "drain", *options, "--hook=before", "--hook-sleep=3")
    assert ended(hook)[0] == 0
    record = box.records("drain")[0]
    assert record["delay_end"] == "deadline"
    assert record["delay_ms"] < 2000


def test_a_deadline_cuts_it_all(helper: str, container: Callable[..., Container]) -> None:
    """A minute of delay does not fit into seven seconds of grace: it ends 4 s before they do."""
    box = container(*victim("--port=8000"))
    box.listening(8000)
    began = time.monotonic()
    assert (
        ended(
            box.exec(helper, "drain", *waits("--ports=8000", "--deadline=7", delay="60", most="60"))
        )[0]
        == 0
    )
    assert time.monotonic() - began < 30
    assert box.records("drain")[0]["delay_end"] == "deadline"


@pytest.mark.parametrize("user", [0, 12345])
def test_any_user_and_a_read_only_root(
    released: str, container: Callable[..., Container], user: int
) -> None:
    box = container(
        "sh",
        "-c",
        f"{SYSTEM_PYTHON} {VICTIM} --port=8000 --on=TERM=exit; :",
        prepare="mount -o remount,bind,ro /",
        prefix=[
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            "--no-new-privs",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ],
    )
    box.listening(8000)
    assert ended(box.exec(released, "drain", *waits("--ports=8000", "--detect")))[0] in (0, 137, -9)
    assert box.wait() == 0
    assert box.log.count("got 15") == 1


FULL_LOG = """
import os, socket, time
server = socket.create_server(("", 8000))
read, write = os.pipe()
os.set_blocking(write, False)
try:
    while True:
        os.write(write, b"x" * 4096)
except BlockingIOError:
    os.dup2(write, 1), os.dup2(write, 2)
time.sleep(600)
"""


def test_a_log_that_nobody_reads_does_not_hold_the_stop(
    helper: str, container: Callable[..., Container]
) -> None:
    """PID 1's output is a pipe that is full: the line is lost, the time is not."""
    box = container(PYTHON, "-c", FULL_LOG)
    until(
        lambda: str(Path(f"/proc/{box.pid}/fd/1").readlink()).startswith("pipe"), "its log is full"
    )
    assert (
        ended(box.exec(helper, "drain", *waits("--ports=8000"), "--hook=before", "--hook-sleep=0"))[
            0
        ]
        == 0
    )


# -- the user's own hook ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["hook", "wrap"])
def test_a_users_program_runs_before_or_after(
    helper: str, container: Callable[..., Container], order: str, wrapped: bool
) -> None:
    """Before the wait, or after the drain and before the stop; its words and its code are kept."""
    options = waits("--ports=8000")
    server = victim("--port=8000", "--on=TERM=exit")
    box = container(
        *(
            [helper, "run", *options, "--", *server]
            if wrapped
            else ["sh", "-c", f"{' '.join(server)}; sleep 600"]
        )
    )
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/3")
        hook = box.exec(
            helper,
            "drain",
            *options,
            f"--hook={order}",
            "--",
            "sh",
            "-c",
            "echo own $0 >>/proc/1/fd/1; exit 3",
            "--flag",
        )
        read(connection)
        assert ("own --flag" in box.log) is (order == "before")
    assert ended(hook)[0] == 0
    (record,) = box.records("hook")
    assert (record["order"], record["end"], record["code"]) == (order, "failed", 3)
    assert "own --flag" in box.log
    if not wrapped:
        box.logged("got 15")
        assert box.log.index("own --flag") < box.log.index("got 15")


def test_a_users_program_that_stops_the_server_itself(
    helper: str, container: Callable[..., Container]
) -> None:
    """`nginx -s quit; sleep 60`: runs after the drain, and ends with the container: no failure."""
    options = waits("--ports=8000")
    box = container(helper, "run", *options, "--", *victim("--port=8000", "--on=USR1=exit"))
    box.listening(8000)
    hook = box.exec(
        helper, "drain", *options, "--hook=after", "--", "sh", "-c", "pkill -USR1 python; sleep 60"
    )
    assert box.wait() == 0
    assert ended(hook)[0] == 0
    assert box.records("hook")[0]["end"] == "gone"


def test_a_users_program_that_hangs(helper: str, container: Callable[..., Container]) -> None:
    """Ended by --hook-timeout or by --deadline, with all that it started; the rest goes on."""
    box = container("sh", "-c", f"{' '.join(victim('--port=8000', '--on=TERM=exit'))}; sleep 600")
    box.listening(8000)
    script = "trap '' TERM; sleep 611 & wait; sleep 612"
    hook = box.exec(
        helper,
        "drain",
        *waits("--ports=8000", "--hook-timeout=1"),
        "--hook=before",
        "--",
        "sh",
        "-c",
        script,
    )
    assert ended(hook)[0] == 0
    assert box.records("hook")[0]["end"] == "timeout"
    box.logged("got 15")
    needs.programs("pgrep")
    until(lambda: ended(box.exec("pgrep", "-f", "sleep 61"))[1] == "", "nothing of it is left")


def test_a_users_program_that_is_not_there(
    helper: str, container: Callable[..., Container]
) -> None:
    box = container(*victim("--port=8000"))
    box.listening(8000)
    assert (
        ended(box.exec(helper, "drain", *waits("--ports=8000"), "--hook=before", "--", "/nowhere"))[
            0
        ]
        == 0
    )
    assert box.records("hook")[0]["code"] == 127
    assert "cannot run /nowhere" in box.log


def test_strict_makes_failures_visible(helper: str, container: Callable[..., Container]) -> None:
    """By default a hook returns 0 whatever happened; --strict says 1.

    A hook's failure changes nothing, it only makes an event.
    """
    box = container(*victim("--port=8000"))
    box.listening(8000)
    for more in (["--hook=before", "--", "false"], ["--hook=after", "--", "false"]):
        assert ended(box.exec(helper, "drain", *waits("--ports=8000"), *more))[0] == 0
        assert ended(box.exec(helper, "drain", *waits("--ports=8000"), "--strict", *more))[0] == 1
    with box.connect(8000) as connection:
        get(connection, "/slow/60")
        assert ended(box.exec(helper, "drain", *waits("--ports=8000", drain="1")))[0] == 0
        assert (
            ended(box.exec(helper, "drain", *waits("--ports=8000", drain="1"), "--strict"))[0] == 1
        )
    assert box.records("drain")[-1]["in_flight_end"] == 1


class Hook(http.server.BaseHTTPRequestHandler):
    seen: list[tuple[str, dict[str, str], float]] = []  # noqa: RUF012
    status, pause = 200, 0.0

    def do_GET(self) -> None:
        self.seen.append(
            (self.path, {k.lower(): v for k, v in self.headers.items()}, time.monotonic())
        )
        time.sleep(self.pause)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url_box(container: Callable[..., Container]) -> Container:
    """Make a container with a hook's server in it, on a Pod's address only."""
    box = container(
        *victim("--port=8000"),
        prepare="ip link add eth0 type veth peer name peer; ip addr add 10.1.2.3/24 dev eth0; ip "
        "link set eth0 up; ip link set peer up; "
        "ip route add default dev eth0",
    )
    box.listening(8000)
    Hook.seen.clear()
    Hook.status, Hook.pause = 200, 0.0
    with box.inside():
        server = socketserver.ThreadingTCPServer(("10.1.2.3", 9100), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return box


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("host", ["", "10.1.2.3"])
def test_a_users_url_is_called_as_the_kubelet_does(
    helper: str, url_box: Container, host: str, status: int
) -> None:
    """To the Pod's own address if none is given; with headers; waits, whatever the status."""
    Hook.status, Hook.pause = status, 1.5
    hook = url_box.exec(
        helper,
        "drain",
        *waits("--ports=8000"),
        "--hook=before",
        f"--hook-url=http://{host}:9100/stop?a=b",
        "--hook-header=X-One:two words",
        "--hook-header=Host:app",
    )
    assert ended(hook)[0] == 0
    ((path, headers, _),) = Hook.seen
    assert (path, headers["x-one"], headers["host"]) == ("/stop?a=b", "two words", "app")
    (record,) = url_box.records("hook")
    assert (record["end"], record["code"]) == ("done", 0)
    assert record["hook_ms"] >= 1400


STAYS = """
import socket, sys, time
door, held, answer = socket.create_server(("", 8100)), [], sys.argv[1].encode()
while True:
    held.append(door.accept()[0])
    held[-1].recv(4096)
    held[-1].sendall(b"HTTP/1.1 200 OK\\r\\n" + answer.replace(b"|", b"\\r\\n"))
"""


@pytest.mark.parametrize(
    "answer",
    ["Content-Length: 2||ok", "content-length:0||", "|" + "endless" * 2000],
    ids=["all of it", "nothing", "more than the kubelet reads"],
)
def test_a_users_url_is_over_with_its_answer(
    helper: str, container: Callable[..., Container], answer: str
) -> None:
    """Though the server does not close the connection."""
    box = container(*victim("--port=8000"))
    box.listening(8000)
    box.exec(PYTHON, "-c", STAYS, answer)
    box.listening(8100)
    options = waits("--ports=8000", "--strict", "--hook=before")
    assert ended(box.exec(helper, "drain", *options, "--hook-url=http://127.0.0.1:8100/"))[0] == 0
    assert box.records("hook")[0]["end"] == "done"


@pytest.mark.parametrize(
    "url",
    ["http://:9999/", "http://10.1.2.3:9999/", "http://name.example:80/", "http://10.1.2.3:port/"],
)
def test_a_users_url_that_does_not_answer(helper: str, url_box: Container, url: str) -> None:
    hook = url_box.exec(
        helper, "drain", *waits("--ports=8000"), "--hook=after", f"--hook-url={url}"
    )
    assert ended(hook)[0] == 0
    assert url_box.records("hook")[0]["end"] == "failed"
    assert url in url_box.log


def test_a_users_url_that_hangs(helper: str, url_box: Container) -> None:
    Hook.pause = 60
    hook = url_box.exec(
        helper,
        "drain",
        *waits("--ports=8000", "--hook-timeout=1"),
        "--hook=after",
        "--hook-url=http://:9100/",
    )
    assert ended(hook)[0] == 0
    assert url_box.records("hook")[0]["end"] == "timeout"


def test_a_users_sleep(helper: str, container: Callable[..., Container]) -> None:
    box = container(*victim("--port=8000"))
    box.listening(8000)
    assert (
        ended(
            box.exec(helper, "drain", *waits("--ports=8000"), "--hook=before", "--hook-sleep=1.5")
        )[0]
        == 0
    )
    assert 1500 <= box.records("hook")[0]["hook_ms"] < 20000
