"""A small kubelet for one Pod, true to the order of events.

In: a Pod as the API server stored it, and what its images hold. Out: real processes: each container
is PID 1 of its own PID namespace, all of them in the Pod's one network namespace, with the
capabilities that a runtime gives. `stop` does what a kubelet does when a Pod is deleted
(kubernetes.io, "Pod Lifecycle": Termination of Pods):

    preStop of every container at once -> its stop signal to its PID 1
        -> at the end of the grace period SIGKILL -> sidecars last

At least two seconds lie between signal and kill. An image here is an entrypoint on this machine;
only the helper's path is translated.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from tests.servers.client import Connection
from tests.servers.network import Network
from webhook.core import names

START: Final = 60.0
"""Seconds that a program may take to start."""

_INSIDE: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("container.py")))
_ISOLATED: Final = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
_MINIMUM: Final = 2.0


@dataclass(frozen=True)
class Image:
    """What an image says about itself, beside its files."""

    entrypoint: tuple[str, ...] = ()
    stop_signal: str = "TERM"
    env: tuple[tuple[str, str], ...] = ()


@dataclass
class Running:
    """One container. Times by the monotonic clock, 0 for what did not happen."""

    name: str
    spec: dict[str, Any]
    image: Image
    user: int
    log: Path
    outer: "subprocess.Popen[bytes]"
    pid: int
    namespace: str
    hook_code: int | None = None
    hook_returned: float = 0.0
    signalled: float = 0.0
    exited: float = 0.0
    code: int | None = None
    killed: bool = False

    @property
    def alive(self) -> bool:
        return self.outer.poll() is None


@dataclass
class Pod:
    """A Pod on this node."""

    manifest: dict[str, Any]
    images: dict[str, Image]
    helper: Path
    directory: Path
    network: Network
    containers: list[Running] = field(default_factory=list)
    sidecars: list[Running] = field(default_factory=list)
    began: float = 0.0
    _open_files: list[BinaryIO] = field(default_factory=list)
    _stopping: bool = False

    # -- start -------------------------------------------------------------------------------------

    def start(self) -> None:
        spec = self.manifest["spec"]
        self._volume.mkdir(parents=True, exist_ok=True)
        self._volume.chmod(0o777)
        for container in spec.get("initContainers", ()):
            running = self._run(container, 65532)
            self.sidecars.append(running)
            after = container.get("lifecycle", {}).get("postStart")
            if after:
                self._exec(running, after["exec"]["command"], "postStart").wait(START)
        for container in spec["containers"]:
            self.containers.append(
                self._run(container, container.get("securityContext", {}).get("runAsUser", 0))
            )
            if probe := container.get("readinessProbe"):
                self.network.start(self._probe(probe, self.containers[-1]))

    def _run(self, container: dict[str, Any], user: int) -> Running:
        image = self.images.get(container["image"], Image())
        argv = self._argv(
            [*(container.get("command") or image.entrypoint), *container.get("args", ())]
        )
        log = self.directory / f"{container['name']}.log"
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PYTHONUNBUFFERED": "1",
            **dict(image.env),
        }
        outer = self.network.spawn(
            [*_ISOLATED, *_INSIDE, f"--user={user}", "--", *argv],
            self._open(log),
            self.directory,
            env,
        )
        pid = self._first_child(outer)
        # Held open until the end: the kernel gives a dead namespace's number to the next one.
        self._open_files.append(Path(f"/proc/{pid}/ns/pid").open("rb", buffering=0))  # noqa: SIM115 - closed in close
        return Running(
            container["name"], container, image, user, log, outer, pid, _pid_namespace(pid)
        )

    def _first_child(self, outer: "subprocess.Popen[bytes]") -> int:
        deadline = time.monotonic() + START
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        while time.monotonic() < deadline and outer.poll() is None:
            if found := children.read_text(encoding="ascii").split():
                return int(found[0])
            time.sleep(0.005)
        raise TimeoutError(f"unshare started nothing (exit code {outer.poll()})")

    def _open(self, path: Path) -> BinaryIO:
        log = path.open("ab", buffering=0)
        path.chmod(0o666)  # a runtime gives the container's user its own output
        self._open_files.append(log)
        return log

    @property
    def _volume(self) -> Path:
        return self.directory / "volume"

    def _argv(self, argv: Sequence[str]) -> list[str]:
        """Put the helper where it lies here; every other word stays as the webhook wrote it."""
        place = {
            names.HELPER: str(self._volume / Path(names.HELPER).name),
            names.IMAGE_HELPER: str(self.helper),
        }
        place[f"--install={names.MOUNT_PATH}"] = f"--install={self._volume}"
        place[names.MOUNT_PATH] = str(self._volume)
        return [place.get(word, word) for word in argv]

    def _exec(
        self, running: Running, command: Sequence[str], why: str
    ) -> "subprocess.Popen[bytes]":
        """Run a program inside a container that runs, as `kubectl exec` and hooks do."""
        enter = ("nsenter", "--target", str(running.pid), "--pid", "--mount", "--net")
        log = self._open(self.directory / f"{running.name}.{why}.log")
        argv = [*enter, *_INSIDE, f"--user={running.user}", "--", *self._argv(command)]
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.directory
        )

    async def _probe(self, probe: dict[str, Any], running: Running) -> None:
        """Probe readiness, also while the Pod terminates (kubernetes issue 124648)."""
        where = probe.get("httpGet") or probe.get("tcpSocket")
        while where and running.alive:
            connection = Connection(int(where["port"]))
            with contextlib.suppress(OSError):
                await connection.open()
                if "httpGet" in probe:
                    await connection.get(where.get("path", "/"), b"")
            await connection.end()
            await asyncio.sleep(probe.get("periodSeconds", 10))

    # -- stop --------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Delete the Pod, and wait until all of it is over."""
        self.begin_stop()
        self.await_stop()

    def begin_stop(self) -> None:
        self.began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._stop_one, args=(running,)) for running in self.containers
        ]
        for thread in self._threads:
            thread.start()

    def await_stop(self) -> None:
        for thread in self._threads:
            thread.join()
        for sidecar in self.sidecars:
            self._signal(sidecar, self._deadline())

    def _deadline(self) -> float:
        return self.began + float(self.manifest["spec"].get("terminationGracePeriodSeconds", 30))

    def _stop_one(self, running: Running) -> None:
        deadline = self._deadline()
        if hook := running.spec.get("lifecycle", {}).get("preStop"):
            self._hook(running, hook, deadline)
        self._signal(running, deadline)

    def _hook(self, running: Running, hook: dict[str, Any], deadline: float) -> None:
        if "exec" in hook:
            process = self._exec(running, hook["exec"]["command"], "preStop")
            while time.monotonic() < deadline and process.poll() is None and running.alive:
                time.sleep(0.005)
            if not running.alive:
                process.wait(10)  # it went with its PID namespace
            elif process.poll() is None:
                process.kill()
                process.wait(10)
            running.hook_code = process.returncode
        elif "sleep" in hook:
            end = min(deadline, time.monotonic() + hook["sleep"]["seconds"])
            while time.monotonic() < end and running.alive:
                time.sleep(0.005)
        else:
            get = hook["httpGet"]
            answer = self.network.start(_get(int(get["port"]), get["path"]))
            with contextlib.suppress(TimeoutError):
                answer.result(max(0.0, deadline - time.monotonic()))
        running.hook_returned = time.monotonic()

    def _signal(self, running: Running, deadline: float) -> None:
        if running.alive:
            running.signalled = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.Signals[f"SIG{running.image.stop_signal}"])
        deadline = max(deadline, time.monotonic() + _MINIMUM)
        while time.monotonic() < deadline and running.alive:
            time.sleep(0.005)
        if running.alive:
            running.killed = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
        code = running.outer.wait(30)
        running.exited = time.monotonic()
        # unshare cannot kill itself by SIGKILL in its child's manner, and says 1.
        running.code = 137 if running.killed else code if code >= 0 else 128 - code

    def close(self) -> None:
        """End whatever is left, when a test has failed in between."""
        for running in (*self.containers, *self.sidecars):
            if running.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running.pid, signal.SIGKILL)
                running.outer.wait(30)
        for log in self._open_files:
            log.close()

    # -- what is left ------------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        """Return the processes that live on in one of its PID namespaces."""
        ours = {running.namespace for running in (*self.containers, *self.sidecars)}
        return [
            entry.name
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _pid_namespace(int(entry.name)) in ours
        ]

    def logs(self) -> str:
        """Return all logs, for a test that has failed."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')}"
            for path in sorted(self.directory.glob("*.log"))
        )


async def _get(port: int, path: str) -> None:
    connection = Connection(port)
    await connection.get(path, b"")


def _pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""
