"""A Job in the cluster loads while a command here disturbs: one report, nothing left behind.

    podgrace prove http://shop/ --pods app=shop -n shop --run-job -- kubectl rollout restart ...

1. Create the Job and its rights, under a unique name.
2. Follow its log until it says "loading": the clock of the load begins there.
3. The command runs here, between `--before` and `--after` seconds of load; the load lasts until
   every Pod of the selector has come or gone, with --until-gone until those of the beginning are
   gone.
4. Delete the Job. Its load ends at SIGTERM, and the rest of its log is the report; add the command
   to it.
5. Delete everything that was created, whatever happened: also at Ctrl-C, after which the report
   covers the time until then. A second Ctrl-C does not wait for it.

Needs these rights, through kubectl: create and delete for Jobs, and with --pods for
ServiceAccounts, Roles and RoleBindings (and what the Role grants); `get` for Pods and their logs.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable
from typing import Final, NamedTuple

from webhook.cli.prove import report
from webhook.cli.prove.target import LoadError
from webhook.cli.watching import disturbance

_START: Final = 180.0
"""Seconds until the Job must be loading: it may need a new node, and pull an image."""
_POLL: Final = 1.0
_HOPELESS: Final = ("failing to pull", "can't be pulled", "ErrImageNeverPull", "InvalidImageName")
"""Reasons of a container that will never start."""
_DONE: Final = ("Succeeded", "Failed")
_PODS: Final = (
    "{range .items[*]}{.metadata.uid},{.metadata.deletionTimestamp},{.status.phase},"
    '{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
)


class Errand(NamedTuple):
    """What is to be done. name: of the Job and its rights. kubectl: the program and its options.

    selector: of the Pods that are waited for; empty: none. before, after, settle: seconds.
    """

    name: str
    kubectl: tuple[str, ...]
    manifests: str
    command: tuple[str, ...]
    selector: str
    until_gone: bool
    before: float
    after: float
    settle: float


class _Ran(NamedTuple):
    """The command, on the clock of the load."""

    begin: float
    end: float
    code: int


def send(errand: Errand) -> report.Report:
    """Do it. Raises `LoadError` where nothing can be proved."""
    try:
        return asyncio.run(_Run(errand).run())
    finally:
        _clean(errand)


def _clean(errand: Errand) -> None:
    kinds = ("job", "rolebinding", "role", "serviceaccount")
    words = ["delete", *(f"{kind}/{errand.name}" for kind in kinds)]
    done = subprocess.run(
        [*errand.kubectl, *words, "--ignore-not-found", "--wait=false"],
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        by_hand = " ".join([*errand.kubectl, *words])
        print(f"podgrace: left behind: {done.stderr.strip()}; delete: {by_hand}", file=sys.stderr)


class _Run:
    """One run, from the Job's creation to its report."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._loading = asyncio.Event()
        self._began = 0.0
        self._log: list[bytes] = []

    async def run(self) -> report.Report:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(number, self._interrupt)
        errand = self._errand
        await self._kubectl("create", "-f", "-", given=errand.manifests)
        print(f"Job {errand.name} created; it will load", file=sys.stderr, flush=True)
        old = await self._pods() if errand.selector else {}
        log = asyncio.create_task(self._follow())
        ran: _Ran | None = None
        try:
            await self._first(self._loading.wait(), log)
            if self._loading.is_set() and errand.command:
                ran = await self._disturb(set(old))
            if not self._stop.is_set() and not errand.command:
                await self._first(asyncio.shield(log))  # it ends by itself
            await self._kubectl("delete", f"job/{errand.name}", "--wait=false")
            waits = {asyncio.ensure_future(self._hurry.wait()), log}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not log.done():
                raise LoadError("interrupted before the Job had reported")
            log.result()
        finally:
            log.cancel()
            await asyncio.gather(log, return_exceptions=True)
        found = report.parse(b"".join(self._log), f"the log of Job {errand.name}")
        if ran is None:
            return found
        return report.disturbed(found, errand.command, ran.begin, ran.end, ran.code)

    def _interrupt(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def _disturb(self, old: set[str]) -> _Ran | None:
        """Run the command, and wait until its load may end."""
        errand = self._errand
        await self._sleep(errand.before)
        if self._stop.is_set():
            return None
        begin = self._now()
        process = await disturbance.start(errand.command)
        await self._first(process.wait())
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        ran = _Ran(begin, self._now(), await process.wait())
        until = time.monotonic() + errand.settle
        while not self._stop.is_set():
            if errand.selector and not await self._settle(old, until):
                break
            # `kubectl rollout restart` comes back before the first Pod comes.
            if await self._stays_calm(old):
                break
        return ran

    async def _stays_calm(self, old: set[str]) -> bool:
        """Load for some more seconds; says whether no Pod came or went in that time."""
        end = time.monotonic() + self._errand.after
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            await self._sleep(min(_POLL, left))
            if self._errand.selector and await self._busy(old):
                return False
        return True

    async def _settle(self, old: set[str], until: float) -> bool:
        """Wait for the Pods that come and go; says whether they did in time."""
        while await self._busy(old):
            await self._sleep(_POLL)
            if self._stop.is_set() or time.monotonic() > until:
                return False
        return True

    async def _busy(self, old: set[str]) -> bool:
        """Say whether a Pod terminates, a new one isn't ready, or an awaited one is still there."""
        pods = await self._pods()
        awaited = old & pods.keys() if self._errand.until_gone else set()
        new = {uid for uid, state in pods.items() if state == "coming" and uid not in old}
        return bool(awaited or new or "going" in pods.values())

    async def _pods(self) -> dict[str, str]:
        """Say of each Pod, by its UID, whether it is coming, ready, going or done."""
        words = ["get", "pods", "--selector", self._errand.selector, "-o", f"jsonpath={_PODS}"]
        found = {}
        for line in (await self._kubectl(*words)).splitlines():
            uid, told, phase, ready = line.split(",")
            state = "ready" if ready == "True" else "coming"
            found[uid] = "going" if told else "done" if phase in _DONE else state
        return found

    # -- the Job's log

    async def _follow(self) -> None:
        """Read the log to its end. Raises `LoadError` if no load begins."""
        until = time.monotonic() + _START
        while not self._log:
            said = await self._read()
            if self._log or self._stop.is_set():
                break
            if time.monotonic() > until or any(word in said for word in _HOPELESS):
                raise LoadError(f"Job {self._errand.name} did not begin: {await self._why(said)}")
            await self._sleep(_POLL)
        if not self._loading.is_set():
            last = self._log[-1].decode(errors="replace").strip() if self._log else "interrupted"
            raise LoadError(f"Job {self._errand.name}: {last.removeprefix('podgrace: ')}")

    async def _read(self) -> str:
        """Follow the log once; returns kubectl's words if there is none yet."""
        pipe = asyncio.subprocess.PIPE
        words = ("logs", f"job/{self._errand.name}", "--follow", "--pod-running-timeout=30s")
        process = await asyncio.create_subprocess_exec(
            *self._errand.kubectl,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,  # Ctrl-C is ours
            limit=1 << 24,
        )
        if process.stdout is None or process.stderr is None:
            raise AssertionError
        said: deque[bytes] = deque(maxlen=3)
        errors = asyncio.create_task(_drain(process.stderr, said))
        try:
            async for line in process.stdout:
                if not self._loading.is_set():
                    sys.stderr.write(line.decode(errors="replace"))
                    sys.stderr.flush()
                self._log.append(line)
                if line.startswith(b"loading ") and not self._loading.is_set():
                    self._began = time.monotonic()
                    self._loading.set()
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await errors
        return b" ".join(line.strip() for line in said).decode(errors="replace")

    async def _why(self, said: str) -> str:
        """Say why a Job has not begun."""
        words = ["get", "events", f"--field-selector=involvedObject.name={self._errand.name}"]
        with contextlib.suppress(LoadError):
            told = await self._kubectl(*words, "-o", "jsonpath={.items[*].message}")
            return f"{said} ({told})" if told else said
        return said

    # -- waiting, and kubectl

    def _now(self) -> float:
        return time.monotonic() - self._began

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _first(
        self, what: Awaitable[object], log: "asyncio.Task[None] | None" = None
    ) -> None:
        """Wait for that, the end of the log, or the order to stop. Raises what they raise."""
        ours = {asyncio.ensure_future(_done(it)) for it in (what, self._stop.wait())}
        try:
            done, _ = await asyncio.wait(
                {*ours, *({log} if log else ())}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            for task in ours:
                task.cancel()
            await asyncio.gather(*ours, return_exceptions=True)

    async def _kubectl(self, *words: str, given: str = "") -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._errand.kubectl,
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise LoadError(f"kubectl, which --run-job needs: {error.strerror or error}") from error
        out, err = await process.communicate(given.encode())
        if process.returncode:
            raise LoadError(f"kubectl {words[0]}: {err.decode(errors='replace').strip()}")
        return out.decode(errors="replace")


async def _done(what: Awaitable[object]) -> None:
    await what


async def _drain(stream: asyncio.StreamReader, said: "deque[bytes]") -> None:
    async for line in stream:
        said.append(line)
