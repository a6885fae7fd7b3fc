"""A client that asks again and again, on real sockets, and over a line as in a Pod."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.timeline.test_dns import reply
from webhook.cli.timeline.observer import Observer
from webhook.cli.timeline.remote import Remote
from webhook.cli.timeline.sight import CHECKED, STOPPING, Question, Sample
from webhook.cli.timeline.workload import serve

PODGRACE = (sys.executable, "-m", "webhook.cli")
HOME = "127.0.0.1"


def free() -> int:
    with socket.create_server((HOME, 0)) as it:
        port: int = it.getsockname()[1]
        return port


async def until(true: Callable[[], object], limit: float = 20) -> None:
    async with asyncio.timeout(limit):
        while not true():  # noqa: ASYNC110 - what is waited for is a list of the test's own
            await asyncio.sleep(0.02)


def asked(question: Question, enough: Callable[[list[Sample]], object]) -> list[Sample]:
    """Ask until it is enough."""

    async def run() -> list[Sample]:
        found: list[Sample] = []
        observer = Observer(found.append)
        observer.ask([question])
        await until(lambda: enough(found))
        await observer.stop()
        return found

    return asyncio.run(run())


def test_our_own_server_says_who_it_is_and_what_has_happened_to_it() -> None:
    """Its whole life: late, up, asked by its readiness probe, told to stop, gone."""
    port = free()
    question = Question("direct/me", "http", HOME, port, 0.02)

    async def run() -> list[Sample]:
        found: list[Sample] = []
        observer = Observer(found.append)
        observer.ask([question])
        server = asyncio.create_task(serve(port, 0.3, 0.5, "me"))
        await until(lambda: any(it.good for it in found))
        reader, writer = await asyncio.open_connection(HOME, port)
        writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await until(lambda: any(CHECKED in it.said for it in found))
        os.kill(os.getpid(), signal.SIGTERM)
        await server
        await until(lambda: found[-1].answer == "refused")
        await observer.stop()
        return found

    found = asyncio.run(run())
    states = list(dict.fromkeys((it.answer, it.who, it.said) for it in found))
    # Those that were asked just when it ended may be reset.
    assert [state for state in states if state[0] != "reset"] == [
        ("refused", (), ()),
        ("200", ("me",), ()),
        ("200", ("me",), (CHECKED,)),
        ("200", ("me",), (CHECKED, STOPPING)),
    ]
    times = [it.at for it in found if it.answer == "refused"]
    assert times[-1] > times[0] + 0.8


def test_any_other_server_is_known_by_its_pods_name_in_the_answer() -> None:
    async def run() -> list[Sample]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 503 No\r\nX-Served-By: shop-7f-abc\r\n\r\nsorry")
            writer.close()

        server = await asyncio.start_server(answer, HOME, 0)
        port = server.sockets[0].getsockname()[1]
        found: list[Sample] = []
        observer = Observer(found.append)
        pods = ("shop-7f-abc", "shop-7f-xyz")
        observer.ask([Question("service", "http", HOME, port, 0.02, pods=pods)])
        await until(lambda: found)
        await observer.stop()
        server.close()
        return found

    found = asyncio.run(run())
    assert found[0].answer == "503"
    assert found[0].who == ("shop-7f-abc",)
    assert not found[0].good


def test_a_connection_tells_accepted_or_refused() -> None:
    with socket.create_server((HOME, 0)) as server:
        question = Question("service", "tcp", HOME, server.getsockname()[1], 0.02)
        found = asked(question, lambda it: len(it) > 2)
    assert {it.answer for it in found} == {"accepted"}
    gone = asked(question, lambda it: len(it) > 2)
    assert {it.answer for it in gone} == {"refused"}


def test_a_server_that_accepts_and_says_nothing_is_a_timeout_and_others_are_asked_meanwhile() -> (
    None
):
    with socket.create_server((HOME, 0)) as server:
        question = Question("service", "http", HOME, server.getsockname()[1], 0.1)
        found = asked(question, lambda it: len(it) > 3)
    assert {it.answer for it in found} == {"timeout"}
    assert found[1].at - found[0].at < 1.5  # each waits 2 s


def test_a_name_is_asked_of_a_server_over_udp() -> None:
    async def run() -> list[Sample]:
        loop = asyncio.get_running_loop()

        class Server(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: object) -> None:
                self.transport.sendto(b"noise", addr)  # type: ignore[attr-defined]
                self.transport.sendto(reply(data, b"\x0a\0\0\x05"), addr)  # type: ignore[attr-defined]

        transport, _ = await loop.create_datagram_endpoint(Server, local_addr=(HOME, 0))
        port = transport.get_extra_info("sockname")[1]
        found: list[Sample] = []
        observer = Observer(found.append)
        observer.ask([Question("headless", "dns", HOME, port, 0.02, host="shop.svc.")])
        await until(lambda: found)
        transport.close()
        await until(lambda: not found[-1].good)
        await observer.stop()
        return found

    found = asyncio.run(run())
    assert (found[0].answer, found[0].who, found[0].ttl) == ("NOERROR", ("10.0.0.5",), 30)
    assert found[-1].answer in ("refused", "timeout")


def test_at_the_end_of_a_line_it_asks_the_same_on_our_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    async def run() -> tuple[list[tuple[str, Sample]], float, Remote, int | None]:
        found: list[tuple[str, Sample]] = []
        words = (*PODGRACE, "timeline", "--as", "observer")
        remote = Remote("node-2", words, lambda place, sample: found.append((place, sample)))
        await remote.start()
        await until(lambda: remote.aligned.is_set() or remote.over.is_set(), 60)
        assert not remote.over.is_set(), remote.why
        with socket.create_server((HOME, 0)) as server:
            begin = asyncio.get_running_loop().time()
            port = server.getsockname()[1]
            remote.ask([Question("service", "tcp", HOME, port, 0.02)])
            await until(lambda: len(found) > 5, 60)
        remote.ask([])
        process = remote._process
        assert process
        assert process.stdin
        process.stdin.close()  # the line is cut: the observer ends by itself
        code = await asyncio.wait_for(process.wait(), 30)
        await remote.stop()
        return found, begin, remote, code

    found, begin, remote, code = asyncio.run(run())
    assert {place for place, _ in found} == {"node-2"}
    assert {sample.answer for _, sample in found[:5]} == {"accepted"}
    # It is the same machine's clock: what it says may be wrong by half of the quickest ping.
    assert abs(found[0][1].at - begin) < 30
    assert found[0][1].at > begin - remote.unsure - 0.01
    assert code == 0


def test_a_line_that_can_not_be_had_says_why() -> None:
    async def run() -> str:
        remote = Remote("node-2", ("sh", "-c", "echo no such Pod >&2; exit 1"), lambda *_: None)
        await remote.start()
        await until(remote.over.is_set)
        await remote.stop()
        return remote.why

    assert asyncio.run(run()) == "no such Pod"
