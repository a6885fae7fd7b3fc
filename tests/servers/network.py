"""A new network namespace, and a client's thread inside it.

In: coroutines and commands. Out: what they return. The thread of a `Network` lives in a new network
namespace (namespaces are a thread's own), so its sockets and the children that it spawns do too,
while the test stays where it is. The namespace goes with the thread and the last child. Needs
CAP_SYS_ADMIN. What is sent belongs in `client`.
"""

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Network:
    """One Pod's network."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, args=(ready,), daemon=True)
        self._thread.start()
        ready.result(10)

    def _live(self, ready: Future[None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            number = ctypes.get_errno()
            ready.set_exception(OSError(number, f"unshare(CLONE_NEWNET): {os.strerror(number)}"))
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = struct.pack("16sh14x", b"lo", 0)
            (flags,) = struct.unpack("16xh14x", fcntl.ioctl(probe, SIOCGIFFLAGS, request))
            fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(ready.set_result, None)
        self._loop.run_forever()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin something inside."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, function: Callable[[], T]) -> T:
        """Do something short inside."""

        async def inside() -> T:
            return function()

        return self.start(inside()).result(30)

    def spawn(
        self, command: Sequence[str], log: BinaryIO, cwd: Path, env: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Start a program inside."""
        return self.call(
            lambda: subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
            )
        )

    def close(self) -> None:
        """End the thread, with all that runs in it."""

        async def cancel() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.start(cancel()).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
