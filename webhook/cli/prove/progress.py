"""How a run is going: one line at a terminal, rewritten twice a second; nothing anywhere else.

In: a load, and what was seen beside it. Out: text on standard error. Needs rich, an extra; without
it there is no such line.
"""

import asyncio
import sys
from collections.abc import Sequence

from webhook.cli.prove.clients import Load
from webhook.cli.prove.ledger import Seen
from webhook.cli.prove.report import happenings

_EVERY = 0.5


async def progress(load: Load, seen: Sequence[Seen]) -> None:
    """Show it until cancelled."""
    if not sys.stderr.isatty():
        return
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.live import Live  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        return
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text(line(load, seen), no_wrap=True, overflow="ellipsis"), refresh=True)
            await asyncio.sleep(_EVERY)


def line(load: Load, seen: Sequence[Seen]) -> str:
    """Say how it is going."""
    sent, lost, retried = load.counts()
    events = happenings(tuple(seen))
    last = f"   {events[-1].at:.1f} s: {events[-1].what}" if events else ""
    return f"{load.now():6.1f} s   {sent} sent   {lost} lost   {retried} retried{last}"
