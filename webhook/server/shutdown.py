"""How the server stops: as it makes others stop.

In: TERM and INT. Out: `draining`, which sets readiness and every response, and the moment to close.
On TERM the server goes unready, keeps accepting and answering for its delay, says `Connection:
close` on each response so that pooled connections move on, and only then closes its ports, finishes
what is in flight, and ends with 0.

The API server does not repeat a POST whose connection was cut (kubernetes/kubernetes issue 127335),
and learns that a Pod is gone only after its endpoints have changed: closing at the signal loses
calls.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable


class Shutdown:
    """The way from serving to gone."""

    def __init__(self, delay: float, report: Callable[..., None]) -> None:
        self.delay = delay
        self.draining = False
        self._report = report
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handle the signals. For PID 1 of a container nobody else does."""
        loop.add_signal_handler(signal.SIGTERM, self._term)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)

    async def asked(self) -> None:
        """Wait for the first signal."""
        await self._asked.wait()

    async def delayed(self) -> None:
        """Wait for the delay to pass, or for a person at the terminal who presses ^C again."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self.delay)

    def _term(self) -> None:
        """Begin, once. A second TERM changes nothing: the drain is bounded already."""
        self._report(
            "signal",
            signal="TERM",
            note="already draining" if self.draining else f"draining for {self.delay:g} s",
        )
        self.draining = True
        self._asked.set()

    def _interrupt(self) -> None:
        if self.draining:
            self._hurry.set()
        self._report(
            "signal",
            signal="INT",
            note="closing now"
            if self.draining
            else f"draining for {self.delay:g} s; again to close now",
        )
        self.draining = True
        self._asked.set()
