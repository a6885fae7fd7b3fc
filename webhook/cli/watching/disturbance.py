"""The user's command that rolls a workload while it is watched: words in, a process out."""

import asyncio
import sys
from collections.abc import Sequence

from webhook.cli.exits import Unusable


async def start(command: Sequence[str]) -> asyncio.subprocess.Process:
    """Start it. What it prints goes to standard error: standard output is the report's.

    Raises `Unusable` if it cannot be started.
    """
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
        )
    except OSError as error:
        raise Unusable(f"{command[0]}: {error.strerror or error}") from error
