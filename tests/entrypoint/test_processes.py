"""Nobody loses time: what runs before or beside the server has the rest of the patience.

Before podgrace an entrypoint script was PID 1, and its trap had the whole grace period. With `run`
as PID 1 the trap, the worker and the co-process must have theirs.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests import needs
from tests.entrypoint.conftest import (
    POD,
    PYTHON,
    SYSTEM_PYTHON,
    VETH,
    VICTIM,
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

TIDY = "i=0; while [ $i -lt 30 ]; do sleep 0.1; i=$((i+1)); done; echo tidied"
SERVER = " ".join(victim("--port=8000", "--on=TERM=exit"))
WORKER = f"{SYSTEM_PYTHON} {Path(VICTIM).with_name('worker.py')}"


def script(tmp_path: Path, name: str, *options: str) -> str:
    """Give the command line of a server of this name."""
    return " ".join([named(tmp_path, name), *options])


def stopped(box: Container) -> int:
    box.kill(signal.SIGTERM)
    return box.wait()


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "nothing but the script",
            f"trap '{TIDY}; exit 5' TERM; while :; do sleep 1 & wait $!; done",
        ),
        ("a server beside it", f"trap 'kill $!; {TIDY}; exit 5' TERM; {SERVER} & wait; wait"),
        ("its loop in the foreground", f"trap '{TIDY}; exit 5' TERM; while :; do sleep 1; done"),
    ],
)
def test_a_trap_runs_to_its_end(
    helper: str, container: Callable[..., Container], shell: str, name: str, text: str
) -> None:
    """The shell gets TERM itself, once, and nothing below it is told behind its back."""
    box = container(helper, "run", *waits("--detect"), "--", shell, "-c", f"echo {shell}; {text}")
    box.logged(shell)
    if "server" in name:
        box.listening(8000)
    time.sleep(0.3)
    assert stopped(box) == 5
    assert box.log.count("tidied") == 1
    assert f"TERM to {shell} (" in box.records("drain")[0]["stop"]
    assert box.records("stop")[0]["forced"] == "no"
    assert box.log.count("got 15") == (1 if "server" in name else 0)


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("beside", ["", "sleep 1000 & "], ids=["alone", "with a co-process"])
def test_a_server_in_the_foreground_is_told_and_then_the_trap(
    helper: str, container: Callable[..., Container], shell: str, beside: str
) -> None:
    """The shell runs its trap when its server has ended: TERM to it alone would stop nothing."""
    text = f"trap '{TIDY}; kill $!; exit 5' TERM; {beside}{SERVER}; exit 9"
    box = container(helper, "run", *waits(patience="20"), "--", shell, "-c", text)
    box.listening(8000)
    assert stopped(box) == 5
    assert box.log.index("got 15") < box.log.index("tidied")
    assert box.records("stop")[0]["forced"] == "no"


@pytest.mark.parametrize("more", ["", "<&0", "< /dev/null"])
@pytest.mark.parametrize("shell", ["dash", "bash", "bash -m"])
def test_a_server_in_the_background_is_left_to_the_trap(
    helper: str, container: Callable[..., Container], shell: str, more: str
) -> None:
    """Whatever it reads from: the trap runs at once, and a second TERM would mean "faster"."""
    text = f"trap 'kill $!; {TIDY}; exit 5' TERM; {SERVER} {more} & wait; wait"
    box = container(helper, "run", *waits(patience="20"), "--", *shell.split(), "-c", text)
    box.listening(8000)
    assert stopped(box) == 5
    assert box.log.count("got 15") == 1
    assert box.records("stop")[0]["forced"] == "no"


def test_a_job_in_the_foreground_is_left_to_the_loop(
    helper: str, container: Callable[..., Container]
) -> None:
    """A queue's script: TERM means no further job; the one at hand is finished."""
    job = f"{PYTHON} -c 'import time; print(1, flush=True); time.sleep(4); print(2, flush=True)'"
    text = f"trap stop=1 TERM; while [ -z $stop ]; do {job}; done; exit 5"
    box = container(helper, "run", *waits(), "--", "dash", "-c", text)
    box.logged("1\n")
    assert stopped(box) == 5
    lines = box.log.splitlines()
    assert lines.count("1") == lines.count("2")


def test_a_trap_decides_what_its_server_gets(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """QUIT is what nginx wants; the trap says USR2, and its author will know why."""
    server = script(tmp_path, "nginx", "--port=8000", "--on=USR2=exit", "--on=QUIT=print")
    text = f"trap 'kill -USR2 $!; wait; {TIDY}' TERM; {server} & wait; wait"
    box = container(helper, "run", *waits("--detect"), "--", "sh", "-c", text)
    box.listening(8000)
    assert stopped(box) == 0
    assert "tidied" in box.log
    assert [line for line in box.log.splitlines() if line.startswith("got")] == ["got 12"]
    assert box.records("drain")[0]["profile"] == "nginx"


MANAGER = """
import signal, subprocess, sys, time
child, asked = subprocess.Popen(sys.argv[2:]), []
signal.signal(15, lambda *_: asked.append(1))
while not asked and child.poll() is None:
    time.sleep(0.1)
if not asked:
    print("nobody told the manager", flush=True)
elif sys.argv[1] == "passes it on":
    child.terminate()
    child.wait()
    time.sleep(3)
    print("manager tidied", flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize("kind", ["passes it on", "keeps it"])
def test_a_program_that_stops_what_it_has_started(
    helper: str, container: Callable[..., Container], kind: str
) -> None:
    """A trap in another language than a shell's. If it forgets its server, we signal then."""
    server = victim("--port=8000", "--on=TERM=exit")
    box = container(helper, "run", *waits(), "--", PYTHON, "-c", MANAGER, kind, *server)
    box.listening(8000)
    assert stopped(box) == 7
    assert "nobody told the manager" not in box.log
    assert ("manager tidied" in box.log) is (kind == "passes it on")
    assert box.log.count("got 15") == 1
    assert box.records("stop")[0]["forced"] == "no"


def test_a_master_without_the_socket_gets_the_signal_that_was_given(
    released: str, container: Callable[..., Container]
) -> None:
    """Workers of SO_REUSEPORT listen each for itself; the program is the same."""
    text = (
        "import os, signal, socket, sys, time\n"
        "if os.fork():\n"
        "    for n in (2, 15): signal.signal(n, lambda n, _: (print('master', n), sys.exit(8)))\n"
        "else:\n"
        "    server = socket.create_server(('', 8000))\n"
        "while True: time.sleep(1)\n"
    )
    options = waits("--signal=INT")
    box = container(
        released, "run", *options, "--", "sh", "-c", 'exec "$@"', "-", PYTHON, "-uc", text
    )
    box.listening(8000)
    assert stopped(box) == 8
    assert "master 2" in box.log


def test_what_runs_beside_the_server_is_told_when_it_has_ended(
    helper: str, container: Callable[..., Container]
) -> None:
    """The worker's three seconds are more than it used to get, and less than the patience."""
    box = container(helper, "run", *waits(), "--", "sh", "-c", f"{WORKER} & {SERVER}; echo shell")
    box.listening(8000)
    box.logged("worker is up")
    assert stopped(box) == 0
    log = box.log
    assert log.index("got 15") < log.index("worker got TERM") < log.index("worker tidied")
    assert log.count("worker got TERM") == 1
    assert box.records("stop")[0]["forced"] == "no"


def test_what_runs_beside_the_server_is_forced_when_patience_is_over(
    released: str, container: Callable[..., Container]
) -> None:
    deaf = " ".join(victim("--on=TERM=print"))
    box = container(
        released, "run", *waits(patience="3"), "--", "sh", "-c", f"{deaf} & {SERVER}; wait"
    )
    box.listening(8000)
    until(lambda: box.log.count("ready") == 2, "both are up")
    began = time.monotonic()
    stopped(box)
    assert time.monotonic() - began >= 5
    assert box.log.count("got 15") == 3, "the server; the other when it had ended; by force"
    assert box.records("stop")[0]["forced"] == "kill"


def test_what_a_script_does_after_its_server_is_done_to_the_end(
    helper: str, container: Callable[..., Container]
) -> None:
    """A shell without a trap would die of a TERM in the middle of it."""
    box = container(helper, "run", *waits(), "--", "sh", "-c", f"{SERVER}; {TIDY}; sleep 1; exit 6")
    box.listening(8000)
    assert stopped(box) == 6
    assert "tidied" in box.log


def test_a_second_server_gets_its_own_signal(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """First nginx, as it is at the front; then php-fpm, whose TERM would be a quick end."""
    front = script(tmp_path, "nginx", "--port=8000", "--on=QUIT=exit", "--on=TERM=print")
    back = script(tmp_path, "php-fpm", "--on=QUIT=exit", "--on=TERM=print")
    box = container(
        helper, "run", *waits("--detect"), "--", "sh", "-c", f"{back} & {front} & wait; wait"
    )
    box.listening(8000)
    until(lambda: box.log.count("ready") == 2, "both are up")
    stopped(box)
    assert [line for line in box.log.splitlines() if line.startswith("got")] == ["got 3"] * 2
    assert "QUIT to nginx (" in box.records("drain")[0]["stop"]


AS_USER = "setpriv --reuid=12345 --regid=12345 --clear-groups"
NO_PTRACE = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]


def test_below_gosu_every_program_is_told(
    released: str, container: Callable[..., Container]
) -> None:
    """Root may not look into another user's sockets: nobody knows which is the server."""
    server = f"{SYSTEM_PYTHON} {VICTIM} --port=8000 --on=TERM=finish"
    text = f"{AS_USER} {WORKER} & {AS_USER} {server} & sleep 0.1; wait; wait; echo over"
    box = container(released, "run", *waits(), "--", "sh", "-c", text, prefix=NO_PTRACE)
    box.listening(8000)
    box.logged("worker is up")
    assert stopped(box) == 0
    assert box.log.count("worker got TERM") == box.log.count("got 15") == 1
    assert "worker tidied" in box.log
    assert "over" in box.log
    assert "the others get their signal too" in box.log
    assert box.records("stop")[0]["forced"] == "no"


def test_a_sleep_is_not_the_server(helper: str, container: Callable[..., Container]) -> None:
    """It is what the script happens to be doing; TERM to it would stop nothing."""
    box = container(
        helper, "run", *waits(), "--", "sh", "-c", "echo up; while :; do sleep 0.3; done"
    )
    box.logged("up")
    assert stopped(box) == 143
    assert "TERM to sh (" in box.records("drain")[0]["stop"]
    assert box.records("stop")[0]["forced"] == "no"


# -- a hook beside PID 1 ------------------------------------------------------------------------


def told(box: Container, helper: str, *options: str) -> None:
    """Run a hook, then do the kubelet's part."""
    hook = box.exec(helper, "drain", *waits("--ports=8000", *options))
    assert ended(hook)[0] in (0, 137, -9)
    with suppress(ProcessLookupError):  # it may have ended by then
        box.kill(signal.SIGTERM)


FRONT = """
import signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:])
signal.signal(15, lambda *_: sys.exit(7))
sys.exit(child.wait())
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "at its cap"])
def test_a_pid_1_that_keeps_term_to_itself(
    helper: str, container: Callable[..., Container], busy: bool
) -> None:
    """It would end and take the server with it: the hook tells the server before."""
    box = container(PYTHON, "-c", FRONT, *victim("--port=8000", "--on=TERM=exit"))
    box.listening(8000)
    if busy:
        with box.connect(8000) as connection:
            get(connection, "/slow/60")
            told(box, helper, "--drain-timeout=1")
    else:
        told(box, helper)
    box.wait()
    assert box.log.count("got 15") == 1


@pytest.mark.parametrize("init", [[], ["tini", "--"]], ids=["as PID 1", "below tini"])
def test_a_hook_leaves_the_trap_its_signal(
    helper: str, container: Callable[..., Container], init: list[str]
) -> None:
    """It comes from the kubelet, straight or through tini, and finds everything as it was."""
    text = f"trap 'kill $!; {TIDY}; exit 5' TERM; {SERVER} & wait; wait"
    needs.programs(*init[:1])
    box = container(*init, "sh", "-c", text)
    box.listening(8000)
    assert ended(box.exec(helper, "drain", *waits("--ports=8000", "--detect")))[0] == 0
    assert box.records("drain")[0]["stop"] == "left to the kubelet"
    assert stopped(box) == 5
    assert "tidied" in box.log
    assert box.log.count("got 15") == 1


def test_below_an_init_and_a_shell_the_server_hears_of_it(
    helper: str, container: Callable[..., Container]
) -> None:
    """TERM from tini goes to the shell, which dies of it: nobody would have told the server."""
    needs.programs("tini")
    box = container("tini", "--", "sh", "-c", f"{SERVER}; exit 5")
    box.listening(8000)
    told(box, helper)
    box.wait()
    assert box.log.count("got 15") == 1


RUNSVDIR = """
import os, signal, subprocess, sys
signal.signal(15, lambda *_: os._exit(0))
subprocess.call(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("dumb-init --single-child", ["dumb-init", "-c", "--", "sh", "-c", "{}; :"]),
        ("dumb-init", ["dumb-init", "--", "sh", "-c", "setsid -w {}; :"]),
        ("runsvdir", ["{where}/runsvdir", "sh", "-c", "{}; :"]),
        ("init", ["{where}/init"]),
    ],
)
def test_an_init_whose_term_does_not_reach_the_server(
    released: str,
    container: Callable[..., Container],
    tmp_path: Path,
    name: str,
    argv: list[str],
) -> None:
    """One tells its child only, one its group, one nobody, and a script called init is deaf."""
    server = " ".join(victim("--port=8000", "--on=TERM=print"))
    for init, text in (
        ("runsvdir", f"#!{PYTHON}\n{RUNSVDIR}"),
        ("init", f"#!/bin/sh\n{server}\n:"),
    ):
        (tmp_path / init).write_text(text)
        (tmp_path / init).chmod(0o755)
    if name.startswith("dumb-init"):
        needs.programs("dumb-init")
    box = container(*[word.format(server, where=tmp_path) for word in argv])
    box.listening(8000)
    with box.connect(8000) as connection:
        get(connection, "/slow/60")
        told(box, released, "--drain-timeout=1", "--patience=2")
    box.logged("got 15")


def test_a_worker_of_pid_1_is_left_to_it(
    released: str, container: Callable[..., Container]
) -> None:
    """Forked by PID 1 and the same program: that is a master, and the kubelet's TERM is for it."""
    text = (
        "import os, signal, socket, time\n"
        "if os.fork():\n"
        "    signal.signal(15, lambda *_: os._exit(0))\n"
        "else:\n"
        "    server = socket.create_server(('', 8000))\n"
        "    signal.signal(15, lambda *_: os.write(1, b'worker got 15\\n'))\n"
        "while True: time.sleep(1)\n"
    )
    box = container(PYTHON, "-c", text)
    box.listening(8000)
    told(box, released)
    box.wait()
    assert box.records("drain")[0]["stop"] == "left to the kubelet"
    assert "worker got 15" not in box.log


PAUSE = """
import signal, time
signal.signal(15, lambda *_: print("the Pod is gone", flush=True))
print("paused", flush=True)
while True: time.sleep(1)
"""


def test_the_pause_container_is_never_stopped(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """A Pod that shares its PID namespace: what the containers run hangs below nobody."""
    pause = tmp_path / "pause"
    pause.write_text(f"#!{PYTHON}\n{PAUSE}")
    pause.chmod(0o755)
    box = container(str(pause))
    box.logged("paused")
    for signal_option in ("--signal=TERM", "--signal=QUIT", "--target=child"):
        assert ended(box.exec(helper, "drain", *waits(signal_option, most="1")))[0] == 0
    assert box.running
    assert "the Pod is gone" not in box.log
    assert {r["stop"] for r in box.records("drain")} == {"left to the kubelet"}


def test_pid_1_of_another_container_is_never_stopped(
    helper: str, container: Callable[..., Container]
) -> None:
    """It has another name than pause, but the server is not below it, or it has its own files."""
    for inside in ([], ["unshare", "--mount", "--"]):
        box = container(*victim("--on=QUIT=print"))
        box.logged("ready")
        server = box.exec(*victim("--port=8000"))
        box.listening(8000)
        hook = box.exec(*inside, helper, "drain", *waits("--ports=8000", "--signal=QUIT"))
        assert ended(hook)[0] == 0
        assert "got 3" not in box.log
        assert box.records("drain")[0]["stop"] == "left to the kubelet"
        subprocess.run(["pkill", "-KILL", "-P", str(server.pid)], check=False)


# -- little to go by ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proc", ["mount -t tmpfs none /proc", "umount /proc"], ids=["empty", "of other processes"]
)
def test_without_proc_the_command_is_stopped_all_the_same(
    released: str, container: Callable[..., Container], proc: str
) -> None:
    """Nothing says what runs: the command, its group, and for PID 1 all."""
    deaf = " ".join(victim("--on=ALL=ignore"))
    quoted = f"setsid {deaf} & {SERVER}"
    box = container(
        released, "run", *waits(patience="2"), "--", "sh", "-c", f"echo up; {quoted}", prepare=proc
    )
    until(lambda: box.log.count("ready") == 2, "both are up")
    stopped(box)
    assert box.records("stop")[0]["forced"] == "kill"


def test_the_front_is_stopped_before_what_is_behind_it(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """Both listen, no ports are named, and the back end, on loopback, was started first."""
    back = script(tmp_path, "gunicorn", "--port=9000", "--host=127.0.0.1", "--on=TERM=exit")
    front = script(tmp_path, "nginx", "--port=8000", "--on=QUIT=exit")
    box = container(
        helper, "run", *waits("--detect"), "--", "sh", "-c", f"{back} & {front} & wait; wait"
    )
    box.listening(8000)
    box.listening(9000)
    stopped(box)
    assert box.records("drain")[0]["stop"].startswith("QUIT to nginx")
    assert [x for x in box.log.splitlines() if x.startswith("got")] == ["got 3", "got 15"]


def test_the_front_decides_what_is_waited_for(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """What runs behind it finishes by itself after its signal; the front ends at once."""
    back = script(tmp_path, "nginx", "--port=9000", "--host=127.0.0.1", "--on=QUIT=exit")
    front = script(tmp_path, "hypercorn", "--port=8000", "--on=TERM=exit")
    argv = ["sh", "-c", f"{back} & sleep 0.3; {front} & wait; wait"]
    box = container(helper, "run", *waits("--detect"), "--", *argv, prepare=VETH)
    box.listening(8000)
    box.listening(9000)
    with client_of(box, container).connect(8000, POD) as connection:
        get(connection, "/close/3")
        time.sleep(0.3)
        box.kill(signal.SIGTERM)
        assert read(connection).endswith(b"ok")
    assert box.wait() == 0
    assert box.records("drain")[0]["profile"] == "hypercorn"


THREADS = """
import ctypes, socket, threading
server = socket.create_server(("", 8000))
def serve():
    while True:
        server.accept()[0].close()
threading.Thread(target=serve).start()
libc = ctypes.CDLL(None)
libc.syscall({"x86_64": 60, "aarch64": 93}[__import__("platform").machine()], 0)
"""


def test_a_server_whose_first_thread_has_ended(
    released: str, container: Callable[..., Container]
) -> None:
    """The kernel calls it a zombie, and its other threads serve on: it has to be told."""
    text = f"'{PYTHON}' -c '{THREADS}'; echo ended $?"
    box = container(released, "run", *waits(patience="60"), "--", "sh", "-c", text)
    box.listening(8000)
    box.kill(signal.SIGTERM)
    box.logged("ended 143")
    assert box.wait() == 0


def test_names_cannot_write_to_a_terminal(
    helper: str, container: Callable[..., Container], tmp_path: Path
) -> None:
    """A process may call itself anything; on standard error that is printable ASCII."""
    name = "\x1b]0;ev\xeel\x07\r"
    file = tmp_path / name
    file.symlink_to(SYSTEM_PYTHON)
    box = container(helper, "run", *waits(), "--", str(file), VICTIM, "--port=8000")
    box.listening(8000)
    stopped(box)
    ours = [x for x in box.path.read_bytes().split(b"\n") if x.startswith(b"podgrace-helper")]
    assert any(b"\\x1b]0;ev\\xc3\\xael\\x07\\x0d" in line for line in ours)
    assert all(byte >= 0x20 for line in ours for byte in line)


def test_what_nobody_asked_for_is_not_recorded(released: str) -> None:
    """The command ends by itself, and what it leaves behind is ended: the output is its own."""
    text = f"setsid {' '.join(victim('--on=ALL=ignore'))} & sleep 1; echo result; exit 4"
    done = subprocess.run(
        [released, "run", "--", "sh", "-c", text], check=False, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert "result" in done.stdout
    assert '"podgrace"' not in done.stdout + done.stderr


def test_standard_output_is_the_applications(released: str) -> None:
    """Not one byte of the helper in it; what it has to say is on standard error."""
    with subprocess.Popen(
        [released, "run", *waits(), "--", *victim("--port=0", "--on=TERM=exit")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert [line.split()[0] for line in (first + out).splitlines()] == ["ready", "got"]
    records = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [r["podgrace"] for r in records] == ["drain", "stop"]


OLD_KERNEL = [PYTHON, str(Path(VICTIM).with_name("deny_calls.py")), "434,424"]


def test_signals_arrive_where_the_kernel_knows_no_descriptors_of_processes(
    released: str, container: Callable[..., Container]
) -> None:
    """pidfd_open and pidfd_send_signal are refused, as by a seccomp profile of 2018."""
    box = container(
        *OLD_KERNEL, released, "run", *waits(), "--", "sh", "-c", f"{WORKER} & {SERVER}; wait"
    )
    box.listening(8000)
    box.logged("worker is up")
    assert stopped(box) == 0
    assert "got 15" in box.log
    assert "worker tidied" in box.log
