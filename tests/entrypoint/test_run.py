"""`run`: signals, exit codes, orphans, and the sequence observe, stop, patience, TERM, KILL."""

import os
import platform
import pty
import random
import signal
import socket
import subprocess
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

AT_ONCE = (
    "--delay-min=0",
    "--quiet=0",
    "--delay-max=0",
    "--drain-timeout=0",
    "--no-observe",
    "--ports=1",
)
FORWARDED = [
    n for n in range(1, 65) if n not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, 32, 33)
]


def code_of(*argv: str) -> int:
    return subprocess.run(
        argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    ).returncode


def test_every_exit_code_is_passed_on(helper: str) -> None:
    """0 to 255, as the command gave them."""
    running = {
        n: subprocess.Popen([helper, "run", "--", "sh", "-c", f"exit {n}"]) for n in range(256)
    }
    assert {n: p.wait(60) for n, p in running.items()} == {n: n for n in range(256)}


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 15])
def test_death_by_a_signal_is_told_as_a_shell_does(helper: str, number: int) -> None:
    assert (
        code_of(helper, "run", "--", "sh", "-c", f"ulimit -c 0; kill -{number} $$") == 128 + number
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [("/nowhere", 127), ("nowhere-on-the-path", 127), ("/etc/passwd", 126), ("/etc", 126)],
)
def test_a_command_that_cannot_run(helper: str, command: str, code: int) -> None:
    """127 not found, 126 not executable; the message names the command and the reason."""
    done = subprocess.run(
        [helper, "run", "--", command], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code
    assert f"podgrace-helper: cannot run {command}: " in done.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["run"], "needs a command"),
        (["run", "--ports=0", "--", "true"], '"0"'),
        (["run", "--ports=80,70000", "--", "true"], '"80,70000"'),
        (["run", "--signal=NOPE", "--", "true"], '"NOPE"'),
        (["run", "--delay-min", "--", "true"], "--delay-min needs a value"),
        (["run", "--delay-min=-1", "--", "true"], '"-1"'),
        (["run", "--bogus", "--", "true"], '"--bogus"'),
        (["run", "--no-stop", "--", "true"], '"--no-stop"'),
        (["nonsense"], '"nonsense"'),
        (["drain", "--hook=before"], "--hook needs exactly one"),
        (["drain", "--hook-sleep=1"], "--hook=before or --hook=after"),
        (["drain", "word"], '"word"'),
        (["drain", "--container=a/b"], '"a/b"'),
        (["drain", "--report=localhost:1"], '"localhost:1"'),
        (["install"], "needs a directory"),
    ],
)
def test_own_failures_have_their_own_code(helper: str, options: list[str], named: str) -> None:
    """125, and a message that names what was not understood."""
    done = subprocess.run(
        [helper, *options], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 125
    assert named in done.stderr
    assert done.stdout == ""


def test_options_end_at_the_command(helper: str) -> None:
    """Flags of the command are the command's, with and without the two dashes."""
    for dashes in ([], ["--"]):
        done = subprocess.run(
            [helper, "run", "--patience=1", *dashes, "echo", "--patience=2", "--"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout == "--patience=2 --\n"


def start(argv: list[str], where: Path) -> tuple["subprocess.Popen[bytes]", Callable[[], str]]:
    path = where / f"out-{time.monotonic_ns()}"
    with path.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    until(lambda: "ready" in path.read_text(), "the command is ready")
    return process, path.read_text


def test_every_signal_is_forwarded_again_and_again(helper: str, tmp_path: Path) -> None:
    """1 to 64 except KILL, STOP and TERM, three times each; the test below has 32 and 33.

    C libraries keep those two.
    """
    needs.programs("pkill")
    process, out = start([helper, "run", "--", *victim("--on=ALL=print")], tmp_path)
    for number in FORWARDED:
        for times in (1, 2, 3):
            process.send_signal(number)
            until(
                lambda n=number, t=times: out().splitlines().count(f"got {n}") == t,
                f"signal {number} arrived {times} times",
            )
    process.kill()
    process.wait()
    subprocess.run(["pkill", "-9", "-f", f"{VICTIM} --on=ALL=print$"], check=False)


@pytest.mark.parametrize("number", [32, 33])
def test_signals_that_c_libraries_hide_are_forwarded(
    helper: str, tmp_path: Path, number: int
) -> None:
    process, _ = start([helper, "run", "--", "sh", "-c", "echo ready; exec sleep 60"], tmp_path)
    process.send_signal(number)
    assert process.wait(30) == 128 + number


def test_a_terminal_at_the_start_sends_nothing(helper: str) -> None:
    """As a session's leader with a terminal: the command gets the foreground and no signal.

    No HUP, no CONT, no TTOU.
    """
    show = (
        "import os; print('foreground' if os.tcgetpgrp(0) == os.getpgrp() else 'background', "
        "flush=True)"
    )
    script = f"{show}; os.execv({PYTHON!r}, {victim('--on=ALL=print')!r})"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(helper, [helper, "run", *AT_ONCE, "--", PYTHON, "-c", script])  # noqa: S606
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.kill(pid, signal.SIGUSR1)
    while b"got 10" not in seen:
        seen += os.read(terminal, 1000)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert b"foreground" in seen
    assert seen.count(b"got") == 1


def test_a_signal_at_any_moment_of_the_start(released: str) -> None:
    """TERM before, between and after fork and exec: the command ends, its code says so.

    Nothing hangs and nothing stays.
    """
    chance = random.Random(5)  # noqa: S311
    codes = set()
    for _ in range(60):
        process = subprocess.Popen(
            [released, "run", *AT_ONCE, "--", "sleep", "61.17"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(chance.random() * 0.006)
        process.terminate()
        codes.add(process.wait(30))
    # -15: it came before signals were blocked. To PID 1 of a container the kernel does not deliver
    # it then.
    assert codes <= {143, -15}
    assert 143 in codes
    needs.programs("pgrep")
    assert (
        subprocess.run(["pgrep", "-f", "sleep 61.17"], check=False, capture_output=True).stdout
        == b""
    )


def zombies(parent: int) -> int:
    needs.programs("ps")
    found = subprocess.run(
        ["ps", "--ppid", str(parent), "-o", "stat="], check=False, capture_output=True, text=True
    ).stdout
    return sum(line.startswith("Z") for line in found.splitlines())


@pytest.mark.parametrize("init", [True, False], ids=["as PID 1", "beside another"])
def test_orphans_are_reaped(
    helper: str, container: Callable[..., Container], tmp_path: Path, init: bool
) -> None:
    """Two hundred grandchildren whose parents are gone leave no zombie."""
    script = "for i in $(seq 200); do (true &); done; echo ready; exec sleep 60"
    if init:
        box = container(helper, "run", "--", "sh", "-c", script)
        box.logged("ready")
        until(lambda: zombies(box.pid) == 0, "no zombie")
        return
    process, _ = start([helper, "run", *AT_ONCE, "--", "sh", "-c", script], tmp_path)
    until(lambda: zombies(process.pid) == 0, "no zombie")
    assert zombies(os.getpid()) == 0
    process.terminate()
    assert process.wait(30) == 143


def test_no_signal_is_blocked_or_ignored_in_the_command(helper: str) -> None:
    """A shell's background job ignores INT and QUIT, as do its children; the command does not."""
    script = f"trap '' INT QUIT HUP TERM USR1; exec {helper} run -- cat /proc/self/status"
    text = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    masks = {
        line.split()[0]: int(line.split()[1], 16)
        for line in text.splitlines()
        if line.startswith(("SigBlk", "SigIgn"))
    }
    assert masks == {"SigBlk:": 0, "SigIgn:": 0}


# -- the stop --------------------------------------------------------------------------------------


def test_a_request_in_flight_is_finished_first(
    helper: str, container: Callable[..., Container]
) -> None:
    """The victim has no handler: TERM would cut the request. Observed first, it does not."""
    box = container(helper, "run", *waits("--ports=8000", "--detect"), "--", *victim("--port=8000"))
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        box.kill(signal.SIGTERM)
        assert read(connection).startswith(b"HTTP/1.1 200")
    assert box.wait() == 143
    (drain,) = box.records("drain")
    assert drain["in_flight_start"] >= 1
    assert (drain["by"], drain["method"], drain["drain_end"], drain["in_flight_end"]) == (
        "signal",
        "sock_diag",
        "idle",
        0,
    )
    (stop,) = box.records("stop")
    assert (stop["forced"], stop["exit"]) == ("no", 143)


def test_without_observing_the_same_request_is_lost(
    released: str, container: Callable[..., Container]
) -> None:
    """The baseline that makes the test above mean something."""
    box = container(released, "run", *AT_ONCE, "--", *victim("--port=8000"))
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        time.sleep(0.1)
        box.kill(signal.SIGTERM)
        with pytest.raises((AssertionError, ConnectionError)):
            read(connection)


def test_the_delay_serves_new_connections(helper: str, container: Callable[..., Container]) -> None:
    box = container(
        helper, "run", *waits("--ports=8000", delay="2", most="4"), "--", *victim("--port=8000")
    )
    box.listening(8000)
    box.kill(signal.SIGTERM)
    box.logged("draining first")
    # What comes and goes before the second look may have ended before the first: it does not count.
    time.sleep(0.5)
    with box.connect(8000) as connection:
        get(connection, "/close/0")
        read(connection)
    assert box.wait() == 143
    assert box.records("drain")[0]["new_connections"] >= 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_stop_signal_is_swallowed(
    helper: str, container: Callable[..., Container], second: int
) -> None:
    """QUIT finishes; whatever came after it would have meant "faster". One signal, once."""
    box = container(
        helper,
        "run",
        *waits("--ports=8000", "--signal=QUIT", drain="0"),
        "--stop-on=INT,QUIT",
        "--",
        *victim("--port=8000", "--on=ALL=print", "--on=QUIT=finish"),
    )
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/3")
        box.kill(signal.SIGTERM)
        box.kill(second)
        box.logged("got 3")
        box.kill(second)
        box.kill(signal.SIGTERM)
        read(connection)
    assert box.wait() == 0
    assert [line for line in box.log.splitlines() if line.startswith("got")] == ["got 3"]


def test_stop_on_makes_another_signal_the_stop(
    helper: str, container: Callable[..., Container]
) -> None:
    """Images whose STOPSIGNAL is WINCH, USR1 or a real-time signal."""
    for number, word in ((signal.SIGWINCH, "WINCH"), (signal.SIGUSR1, "USR1"), (37, "RTMIN+3")):
        box = container(
            helper,
            "run",
            *waits("--ports=8000"),
            f"--stop-on={word}",
            "--",
            *victim("--port=8000", "--on=TERM=exit"),
        )
        box.listening(8000)
        box.kill(number)
        assert box.wait() == 0
        assert "got 15" in box.log


def test_a_detected_profile_brings_its_own_stop_signals(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """A script called haproxy: USR1 stops it, so it gets USR1; USR2 (reload) is passed on."""
    box = container(
        helper,
        "run",
        *waits("--ports=8000", "--detect"),
        "--",
        named(tmp_path, "haproxy"),
        "--port=8000",
        "--on=USR2=print",
        "--on=USR1=exit",
    )
    box.listening(8000)
    box.kill(signal.SIGUSR2)
    box.logged("got 12")
    box.kill(signal.SIGUSR1)
    assert box.wait() == 0
    assert box.records("drain")[0]["profile"] == "haproxy"
    assert "got 10" in box.log


def test_a_command_that_ignores_everything_is_killed(
    helper: str, container: Callable[..., Container]
) -> None:
    """Patience, TERM, two seconds, KILL; the remaining patience is said once a second."""
    box = container(
        helper,
        "run",
        *waits("--ports=8000", patience="3"),
        "--",
        *victim("--port=8000", "--on=ALL=ignore", "--children=2"),
    )
    box.listening(8000)
    began = time.monotonic()
    box.kill(signal.SIGTERM)
    assert box.wait() == 137
    assert time.monotonic() - began >= 5
    (stop,) = box.records("stop")
    assert stop["forced"] == "kill"
    assert box.log.count("s of patience left") == 2


def test_the_end_is_noticed_between_two_words(
    helper: str, container: Callable[..., Container]
) -> None:
    """With a patience of a minute a server that ends at once is not waited for."""
    box = container(
        helper, "run", *waits("--ports=8000", patience="60"), "--", *victim("--port=8000")
    )
    box.listening(8000)
    box.kill(signal.SIGTERM)
    assert box.wait() == 143
    assert box.records("stop")[0]["stop_ms"] < 5000
    assert "patience left" not in box.log


def test_a_shell_in_front_is_not_the_server(
    helper: str, container: Callable[..., Container]
) -> None:
    """TERM to the shell would orphan the server: it gets it, and the shell ends with its code."""
    script = f"echo shell; {' '.join(victim('--port=8000', '--on=TERM=exit'))}; exit 9"
    box = container(helper, "run", *waits("--ports=8000"), "--", "sh", "-c", script)
    box.listening(8000)
    box.kill(signal.SIGTERM)
    assert box.wait() == 9
    assert "got 15" in box.log


def test_the_group_gets_it_only_when_asked(
    helper: str, container: Callable[..., Container]
) -> None:
    for target, count in (("server", 1), ("group", 3)):
        box = container(
            helper,
            "run",
            *waits("--ports=8000", f"--target={target}", patience="1"),
            "--",
            *victim("--port=8000", "--on=TERM=print", "--children=2"),
        )
        box.listening(8000)
        box.kill(signal.SIGTERM)
        box.logged("patience has run out")
        assert box.log.split("patience has run out")[0].count("got 15") == count
        box.wait()


@pytest.mark.parametrize(
    ("command", "falls"), [("true", False), ("false", True), ("/nowhere", True)]
)
def test_a_stop_command_that_fails_is_followed_by_the_signal(
    helper: str, container: Callable[..., Container], command: str, falls: bool
) -> None:
    box = container(
        helper,
        "run",
        *waits("--ports=8000", f"--stop-command={command}", patience="1"),
        "--",
        *victim("--port=8000", "--on=TERM=exit"),
    )
    box.listening(8000)
    box.kill(signal.SIGTERM)
    assert box.wait() == 0
    assert ("patience has run out" in box.log) is not falls


def test_a_stop_command_stops(helper: str, container: Callable[..., Container]) -> None:
    """Split at blanks, looked up on PATH, run inside."""
    box = container(
        helper,
        "run",
        *waits("--ports=8000", "--stop-command=pkill -USR2 -f victim.py"),
        "--",
        *victim("--port=8000", "--on=USR2=exit", "--on=TERM=print"),
    )
    box.listening(8000)
    box.kill(signal.SIGTERM)
    assert box.wait() == 0
    assert "got 12" in box.log
    assert "got 15" not in box.log


FULL = """
import os, signal, socket
signal.signal(15, lambda *_: os._exit(0))
door = socket.create_server(("", 8000))
client = door.accept()[0]
client.setblocking(False)
try:
    while True: client.send(b"x" * 65536)
except BlockingIOError: print("full", flush=True)
while True: signal.pause()
"""


@pytest.mark.parametrize("ports", [["--ports=8000"], []], ids=["named", "not named"])
def test_what_the_kernel_still_has_is_sent(
    helper: str, container: Callable[..., Container], ports: list[str]
) -> None:
    """The network of a Pod may end with its last process: that one waits for a moment."""
    box = container(helper, "run", *waits(*ports, drain="0"), "--", PYTHON, "-c", FULL)
    until(lambda: ":1F40 " in Path(f"/proc/{box.pid}/net/tcp").read_text(), "it listens")
    with box.inside():
        client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", 8000))
    box.logged("full")
    box.kill(signal.SIGTERM)
    until(lambda: box.records("stop"), "the server has ended")
    began = time.monotonic()
    box.wait()
    assert time.monotonic() - began > 1
    client.close()


DENY = [PYTHON, str(Path(VICTIM).with_name("deny_calls.py"))]
FORBIDDEN = {
    "x86_64": {"signalfd4": "289", "pipe2": "293"},
    "aarch64": {"signalfd4": "74", "pipe2": "59"},
}


@pytest.mark.parametrize("call", ["signalfd4", "pipe2"])
def test_a_sandbox_that_forbids_it_is_no_reason_not_to_start(
    released: str, container: Callable[..., Container], call: str
) -> None:
    """As a seccomp profile that was recorded without the helper: the server runs as it did then."""
    number = FORBIDDEN[platform.machine()][call]
    server = victim("--port=8000", "--on=TERM=exit")
    box = container(*DENY, number, released, "run", *waits(), "--", *server)
    box.listening(8000)
    assert "runs without the helper" in box.log
    box.kill(signal.SIGTERM)
    assert box.wait() == 0


def test_what_a_command_leaves_behind_is_ended(helper: str, tmp_path: Path) -> None:
    """A command that ends by itself ends the container, orphans included, with its own code."""
    process, out = start(
        [
            helper,
            "run",
            "--",
            "sh",
            "-c",
            f"setsid {' '.join(victim('--on=ALL=ignore'))} & sleep 1; exit 4",
        ],
        tmp_path,
    )
    orphan = int(out().split("ready ")[1].split()[0])
    assert process.wait(30) == 4
    assert not Path(f"/proc/{orphan}").exists()


# -- with a hook -----------------------------------------------------------------------------------


def test_the_hook_asks_and_the_signal_stops(
    helper: str, container: Callable[..., Container]
) -> None:
    """PID 1 drains once; then the hook returns 0; the signal that follows stops without a drain."""
    options = waits("--ports=8000")
    box = container(helper, "run", *options, "--stop-on=INT,QUIT", "--", *victim("--port=8000"))
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        hook = box.exec(helper, "drain", *options)
        assert read(connection)
        assert ended(hook) == (0, "")
    assert box.running
    box.kill(signal.SIGQUIT)
    assert box.wait() == 143
    assert [r["by"] for r in box.records("drain")] == ["hook"]


def test_hooks_at_once_end_together(helper: str, container: Callable[..., Container]) -> None:
    options = waits("--ports=8000", delay="2", most="3")
    box = container(helper, "run", *options, "--", *victim("--port=8000"))
    box.listening(8000)
    hooks = [box.exec(helper, "drain", *options) for _ in range(3)]
    assert [ended(hook)[0] for hook in hooks] == [0, 0, 0]
    assert len(box.records("drain")) == 1
    assert box.running


@pytest.mark.parametrize("when", ["drained", "at it"])
def test_each_hook_has_a_verdict_of_its_own(
    helper: str, container: Callable[..., Container], when: str
) -> None:
    """Somebody calls it by hand; then the kubelet does, and its delay begins with its call."""
    options = waits("--ports=8000", delay="2", most="3")
    box = container(helper, "run", *options, "--", *victim("--port=8000", "--on=TERM=exit"))
    box.listening(8000)
    first = box.exec(helper, "drain", *options)
    box.logged("the hook asks to drain")
    if when == "drained":
        assert ended(first)[0] == 0
    else:
        time.sleep(1)
    began = time.monotonic()
    assert ended(box.exec(helper, "drain", *options))[0] == 0
    assert time.monotonic() - began >= 2
    box.kill(signal.SIGTERM)
    assert box.wait() == 0
    assert {r["by"] for r in box.records("drain")} == {"hook"}


def test_a_hook_that_is_gone_leaves_all_as_it_was(
    helper: str, container: Callable[..., Container]
) -> None:
    """Somebody interrupts it: the server goes on serving; a later stop drains again."""
    options = waits("--ports=8000", delay="20", most="20")
    box = container(helper, "run", *options, "--", *victim("--port=8000"))
    box.listening(8000)
    hook = box.exec(helper, "drain", *options)
    box.logged("the hook asks to drain")
    subprocess.run(["pkill", "-KILL", "-P", str(hook.pid)], check=False)
    box.logged("serving on")
    with box.connect(8000) as connection:
        get(connection)
        read(connection)


def test_a_signal_while_the_hook_waits_means_hurry(
    helper: str, container: Callable[..., Container]
) -> None:
    """The kubelet signals in the middle of a hook only when the grace period is over."""
    options = waits("--ports=8000", delay="60", most="60")
    box = container(helper, "run", *options, "--", *victim("--port=8000"))
    box.listening(8000)
    box.exec(helper, "drain", *options)
    box.logged("the hook asks to drain")
    box.kill(signal.SIGTERM)
    assert box.wait() == 143
    assert box.records("drain")[0]["delay_end"] == "signal"


def test_any_usual_stop_signal_after_the_hook_is_the_stop(
    helper: str, container: Callable[..., Container]
) -> None:
    """The image's STOPSIGNAL is unknown: after a hook has drained, any usual stop signal is it."""
    for number in (signal.SIGWINCH, signal.SIGUSR1, 37):
        box = container(
            helper,
            "run",
            *waits("--ports=8000"),
            "--",
            *victim("--port=8000", "--on=TERM=exit", f"--on={int(number)}=print"),
        )
        box.listening(8000)
        assert ended(box.exec(helper, "drain", *waits("--ports=8000")))[0] == 0
        box.kill(number)
        assert box.wait() == 0
        assert f"got {int(number)}" not in box.log


def test_a_verdict_grows_old(released: str, container: Callable[..., Container]) -> None:
    """No stop follows the hook: half a minute later (that is the promise) all is as before.

    Signals mean what they meant, such as USR1 "reopen your logs", and a stop drains again.
    """
    handlers = [f"--on={word}=print" for word in ("USR1", "WINCH", "INT", "QUIT")]
    server = victim("--port=8000", *handlers)
    box = container(released, "run", *waits("--ports=8000"), "--", *server)
    box.listening(8000)
    assert ended(box.exec(released, "drain", *waits("--ports=8000")))[0] == 0
    time.sleep(31)
    for number in (signal.SIGUSR1, signal.SIGWINCH, signal.SIGINT, signal.SIGQUIT):
        box.kill(number)
        box.logged(f"got {int(number)}")
    with box.connect(8000) as connection:
        get(connection, "/close/2")
        box.kill(signal.SIGTERM)
        read(connection)
    assert box.wait() == 143
    assert [r["by"] for r in box.records("drain")] == ["hook", "signal"]


def test_the_kubelet_has_half_a_minute_from_the_hooks_end(
    released: str, container: Callable[..., Container]
) -> None:
    """The user's own hook comes after the drain and takes 32 s: what is counted is its end."""
    options = waits("--ports=8000")
    box = container(released, "run", *options, "--", *victim("--port=8000", "--on=TERM=exit"))
    box.listening(8000)
    hook = box.exec(released, "drain", *options, "--hook=after", "--hook-sleep=32")
    assert ended(hook, 60)[0] == 0
    box.kill(signal.SIGQUIT)
    assert box.wait() == 0
    assert len(box.records("drain")) == 1


def test_any_user_and_a_read_only_root(released: str, container: Callable[..., Container]) -> None:
    box = container(
        released,
        "run",
        *waits("--ports=8000"),
        "--",
        SYSTEM_PYTHON,
        VICTIM,
        "--port=8000",
        prepare="mount -o remount,bind,ro /",
        prefix=["setpriv", "--reuid=12345", "--regid=54321", "--clear-groups", "--no-new-privs"],
    )
    box.listening(8000)
    assert ended(box.exec(released, "drain", *waits("--ports=8000")))[0] == 0
    box.kill(signal.SIGTERM)
    assert box.wait() == 143
    assert box.records("drain")[0]["method"] == "sock_diag"
