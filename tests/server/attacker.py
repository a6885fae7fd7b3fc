"""Attack a server of this machine: `attacker.py ATTACK PORT CONNECTIONS SECONDS [tls]`.

A separate process at the lowest priority, so that honest callers wait for the server and not for
their share of the CPU. It ends by itself.
"""

import asyncio
import os
import ssl
import sys
import time

QUIET = "a client that is cut has what it came for"


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


class Attack:
    def __init__(self, port: int, end: float, secure: bool) -> None:
        self.port, self.end = port, end
        self.context = context() if secure else None

    async def connect(self, secure: bool = True) -> asyncio.StreamWriter:
        given = {"ssl": self.context} if secure and self.context else {}
        self.reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **given)
        return writer

    async def halfopen(self) -> None:
        """Connect, say nothing, connect again when cut or after a second."""
        writer = await self.connect(secure=False)
        await asyncio.sleep(1)
        writer.transport.abort()

    async def asked(self) -> None:
        """Ask for something cheap now and then on a connection that is kept."""
        writer = await self.connect()
        reader = self.reader
        while time.monotonic() < self.end:
            writer.write(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            if not await reader.read(4096):
                break
            await asyncio.sleep(1)
        writer.transport.abort()

    async def burst(self) -> None:
        """Begin a large body, and stop."""
        head = b"POST /mutate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        await self.hold(head + b"Content-Length: 3000000\r\n\r\n" + b" " * (250 << 10))

    async def pipeline(self) -> None:
        """Ask thousands of times, and read no answer."""
        await self.hold(b"GET /a HTTP/1.1\r\nA: bbbbbbbb\r\n\r\n" * 7000)

    async def hold(self, data: bytes) -> None:
        writer = await self.connect()
        writer.transport.pause_reading()
        writer.write(data)
        await asyncio.sleep(max(0.0, self.end - time.monotonic()))
        writer.transport.abort()

    async def over_and_over(self, name: str) -> None:
        while time.monotonic() < self.end:
            try:
                await asyncio.wait_for(getattr(self, name)(), 60)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.2)


async def main() -> None:
    name, port, connections, seconds, *secure = sys.argv[1:]
    attack = Attack(int(port), time.monotonic() + float(seconds), bool(secure))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # cut connections are what it is about
    await asyncio.gather(*(attack.over_and_over(name) for _ in range(int(connections))))


if __name__ == "__main__":
    os.nice(19)
    asyncio.run(main())
