"""The bounds of `connection` and `limits`: clients that do what no API server does are cut.

The deadlines are the real ones (10 s), so the slow clients of a test run side by side.
"""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.server.serving import (
    ENDURANCE,
    REVIEW,
    Response,
    Served,
    encode,
    receive,
    review,
    served,
    until,
)
from tests.server.test_answers import expect_ordinary, filled, patch_of

MIB = 1 << 20
REVIEW_BYTES = REVIEW.read_bytes()
HEAD = b"POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as server:
        yield server
        assert server.events("failed", "uvicorn") == []


@contextmanager
def flooding(server: Served, data: bytes) -> Iterator[ssl.SSLSocket]:
    """Send until the server has had enough, or says something."""
    with server.raw() as secure:
        for at in range(0, len(data), 65536):
            if select.select([secure], [], [], 0)[0]:
                break
            try:
                secure.sendall(data[at : at + 65536])
            except OSError:
                break
        yield secure


def closed(secure: socket.socket) -> bool:
    """Wait for the end of a connection."""
    try:
        while secure.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        return True
    except TimeoutError:
        return False
    return True


# -- bytes -----------------------------------------------------------------------------------------


def test_413_for_a_body_over_3_mib_before_it_is_read(server: Served):
    with server.raw() as secure:
        secure.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (3 * MIB + 1))
        answer = receive(secure)
    assert answer.status == 413
    assert answer.json() == {"error": f"body: {3 * MIB + 1} bytes: accepted: up to {3 * MIB}"}
    assert answer.headers["connection"] == "close"


def test_413_reaches_a_client_that_sends_it_all(server: Served):
    """Closing at once would reset the answer away."""
    answer = server.ask(b"x" * (4 * MIB))
    assert answer.status == 413
    expect_ordinary(server)


def test_413_for_a_chunked_body_counted_as_it_comes(server: Served):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with flooding(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 60) as secure:
        assert receive(secure).status == 413
    expect_ordinary(server)


def test_3_mib_exactly_are_read(server: Served):
    body = REVIEW_BYTES + b" " * (3 * MIB - len(REVIEW_BYTES))
    assert patch_of(server.ask(body))


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X-A: " + b"a" * 30 * MIB,
        HEAD + b"".join(b"X-%d: %b\r\n" % (i, b"a" * 100) for i in range(20_000)),
        b"POST /" + b"a" * MIB,
        HEAD + b"X-A: " + b"a" * (17 << 10) + b"\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["one-of-30MiB", "20000", "a-path-of-1MiB", "one-of-17KiB"],
)
def test_431_for_a_flood_of_headers(server: Served, head: bytes):
    before = server.memory("VmHWM")
    with flooding(server, head) as secure:
        assert receive(secure).status == 431
        assert server.memory("VmHWM") - before < 4 * MIB
    expect_ordinary(server)


def test_headers_of_15_kib_are_read(server: Served):
    assert patch_of(server.ask(REVIEW_BYTES, X_Long="a" * (15 << 10)))


def test_431_for_endless_trailers(server: Served):
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with flooding(server, head + b"X-A: aaaaaaaaaaaaaaaa\r\n" * 100_000) as secure:
        assert receive(secure).status == 431


def test_431_for_chunk_extensions_without_end(server: Served):
    with flooding(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * MIB) as secure:
        assert receive(secure).status == 431


# -- time ------------------------------------------------------------------------------------------


def drip(
    connect: Callable[[], socket.socket], data: bytes, every: float = 0.5
) -> tuple[float, Response | None]:
    """Send byte by byte until the server gives up; returns the time and its answer, if any."""
    start, answer = time.monotonic(), []
    with connect() as connection:
        connection.settimeout(ENDURANCE)

        def read() -> None:
            try:
                answer.append(receive(connection))
            except (OSError, ValueError, Exception):  # noqa: BLE001 - no answer is what it is
                return

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        for i in range(len(data)):
            try:
                connection.sendall(data[i : i + 1])
            except OSError:
                break
            reader.join(every)
            if not reader.is_alive():
                break
        reader.join(ENDURANCE)
    return time.monotonic() - start, answer[0] if answer else None


def test_slow_clients_are_answered_408_or_cut_after_ten_seconds(alone: Served):
    def tcp() -> socket.socket:
        return socket.create_connection(("127.0.0.1", alone.port))

    def tls() -> socket.socket:
        return alone.context.wrap_socket(tcp(), server_hostname="localhost")

    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 400
    body = HEAD + b"Content-Length: 100\r\n\r\n"

    def body_after_head() -> socket.socket:
        connection = tls()
        connection.sendall(body)
        return connection

    def second_call() -> socket.socket:
        connection = tls()
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(REVIEW_BYTES) + REVIEW_BYTES)
        assert receive(connection).status == 200
        return connection

    cases = {
        "no hello": (tcp, b"", None),
        "half a hello": (tcp, hello, None),
        "no request": (tls, b"", None),
        "slow head": (tls, HEAD * 2, 408),
        "slow body": (body_after_head, b"{" * 99, 408),
        "silent in the body": (body_after_head, b"{", 408),
        "slow second head": (second_call, HEAD * 2, 408),
        "empty lines": (tls, b"\r\n" * 100, None),
    }
    with ThreadPoolExecutor(len(cases) + 1) as pool:
        running = {
            name: pool.submit(drip, connect, data) for name, (connect, data, _) in cases.items()
        }
        until(lambda: alone.metric("podgrace_connections") >= len(cases) - 1, "all are connected")
        expect_ordinary(alone)  # while all of them are at it
        for name, future in running.items():
            took, answer = future.result()
            assert 8 < took < 10 + ENDURANCE / 2, (name, took)
            assert (answer and answer.status) == cases[name][2], name
    assert alone.metric("podgrace_http_responses_total", status="408") == 4
    until(lambda: alone.metric("podgrace_connections") == 0, "all are gone")


# -- numbers ---------------------------------------------------------------------------------------


def test_idle_connections_never_lock_an_api_server_out(tmp_path: Path):
    """All places are taken by silent clients: a new client gets in, and the oldest goes."""
    with served(tmp_path, "--max-connections", "16") as server, ExitStack() as stack:
        connection = server.connect()  # an API server's, kept alive
        connection.request("POST", "/mutate", REVIEW_BYTES, {"Content-Type": "application/json"})
        assert connection.getresponse().read()
        silent = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=ENDURANCE)
            )
            for _ in range(40)
        ]
        for _ in range(3):
            expect_ordinary(server)
        assert server.metric("podgrace_connections") <= 17
        assert server.metric("podgrace_connections_events_total", event="evicted") > 0
        assert closed(silent[0]), "the oldest went first"
        connection.request("POST", "/mutate", REVIEW_BYTES, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200, "one that has asked before is kept"
        connection.close()


def test_as_many_callers_as_places_are_all_answered(tmp_path: Path):
    with served(tmp_path, "--max-connections", "24") as server, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.ask(REVIEW_BYTES).status, range(64)))
        assert answers == [200] * 64


def test_handshakes_that_fail_never_cost_another_connection(alone: Served):
    """Descriptors are reused at once: one that is closed twice closes a stranger's."""

    def fail(_: int) -> None:
        with socket.create_connection(("127.0.0.1", alone.port), timeout=ENDURANCE) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            closed(plain)

    with ThreadPoolExecutor(8) as pool:
        failing = [pool.submit(fail, number) for number in range(400)]
        statuses = [alone.ask(REVIEW_BYTES).status for _ in range(100)]
        for future in failing:
            future.result()
    assert statuses == [200] * 100
    until(
        lambda: alone.metric("podgrace_connections_events_total", event="handshake-failed") == 400,
        "each is counted, once",
    )


# -- overload --------------------------------------------------------------------------------------


def hold(server: Served, stack: ExitStack, count: int, size: int) -> list[ssl.SSLSocket]:
    """Send all of a large body but its end, on each of many connections."""
    found = []
    for _ in range(count):
        secure = stack.enter_context(server.raw())
        with suppress(OSError):
            secure.sendall(
                HEAD + b"Content-Length: %d\r\n\r\n" % (size + 1) + REVIEW_BYTES.ljust(size)
            )
        found.append(secure)
    return found


def test_whoever_holds_large_bodies_back_goes_first(alone: Served):
    """More than there is memory for: the API server's own calls get a decision, small or large."""
    with ExitStack() as stack:
        holding = hold(alone, stack, 30, 5 * MIB // 2)
        assert patch_of(alone.ask(REVIEW_BYTES.ljust(2 * MIB)))
        expect_ordinary(alone)
        assert alone.metric("podgrace_connections_events_total", event="evicted") > 0
        assert alone.metric("podgrace_connections_bytes") <= 48 * MIB
        assert alone.metric("podgrace_overload_total", cause="bytes") == 0
        assert closed(holding[0]), "the oldest"
        holding[-1].sendall(b" ")
        assert patch_of(receive(holding[-1])), "the newest is whole, and decided about"
    assert alone.memory("VmHWM") < 192 * MIB


@pytest.mark.parametrize(("policy", "status"), [("Ignore", 200), ("Fail", 503)])
def test_large_bodies_for_which_there_is_no_room_are_answered_without_a_decision(
    tmp_path: Path, policy: str, status: int
):
    """With nobody to go: here all are trusted, as API servers are where the operator names them."""
    with (
        served(tmp_path, "--failure-policy", policy, "--api-servers", "127.0.0.0/8") as server,
        ExitStack() as stack,
    ):
        # 48 MiB are for bodies: room for 16 of these, and a further one does not fit.
        holding = hold(server, stack, 20, 2900 << 10)
        until(
            lambda: server.metric("podgrace_connections_events_total", event="refused") == 4,
            "what there is no room for is not kept",
        )
        answer = server.ask(REVIEW_BYTES.ljust(2900 << 10))
        assert answer.status == status
        if status == 200:
            response = answer.json()["response"]
            assert (response["allowed"], response["auditAnnotations"]["codes"]) == (
                True,
                "overload",
            )
            assert response["uid"] in REVIEW_BYTES.decode()
            assert "overloaded" in response["warnings"][0]
        else:
            assert answer.headers["retry-after"] == "1"
        assert server.metric("podgrace_overload_total", cause="bytes") == 1
        assert server.metric("podgrace_connections_events_total", event="evicted") == 0
        expect_ordinary(server)  # an ordinary Pod is not large
        for secure in holding:
            secure.sendall(b" ")
        answers = [receive(secure) for secure in holding]
        decided = [a for a in answers if a.status == 200 and "patch" in a.json()["response"]]
        assert len(decided) == 16, "those that were kept are decided about"
        assert patch_of(server.ask(REVIEW_BYTES.ljust(2 * MIB)))


def test_a_long_decision_holds_up_nobody_else(tmp_path: Path):
    """A decision is made to take a second: the others are answered while it runs."""
    program = tmp_path / "slow.py"
    program.write_text(SLOW)
    with served(tmp_path / "tls", main=[str(program)]) as server, ThreadPoolExecutor(1) as pool:
        large = pool.submit(server.ask, REVIEW_BYTES.ljust(MIB))
        until(lambda: server.metric("podgrace_large_reviews") == 1, "it is being decided")
        answered = 0
        while not large.done():
            expect_ordinary(server)
            answered += 1
        assert patch_of(large.result())
        assert answered > 3


SLOW = """
import sys, time
from webhook import admission, cli
quick = admission.answer
def slow(*given):
    end = time.monotonic() + 2
    while time.monotonic() < end:
        sum(range(1000))
    return quick(*given)
admission.answer = slow
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_call_whose_own_time_has_passed_is_not_decided_about(server: Served):
    with server.raw() as secure:
        secure.sendall(
            HEAD.replace(b"/mutate", b"/mutate?timeout=0.5s")
            + b"Content-Length: %d\r\n\r\n" % len(REVIEW_BYTES)
        )
        time.sleep(1)  # the time itself is what this is about
        secure.sendall(REVIEW_BYTES)
        answer = receive(secure)
    assert answer.json()["response"]["auditAnnotations"]["codes"] == "overload"
    assert server.metric("podgrace_overload_total", cause="deadline") == 1


# -- memory ----------------------------------------------------------------------------------------


def test_memory_is_bounded_whatever_is_sent_at_once(alone: Served):
    """Hostile bodies, as many as allowed and more, over and over: memory peaks as at first."""
    bodies = [
        filled('{"spec":{"containers":[', "[]", "]}}", 3 * MIB),
        filled('{"spec":{"containers":[', '{"name":""}', "]}}", 3 << 19),
        filled('{"spec":{"containers":[{"name":"a"}],"volumes":[', "{}", "]}}", 3 << 19),
        filled(
            '{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80}],"args":[',
            '""',
            "]}]}}",
            3 << 19,
        ),
        filled(
            '{"metadata":{"annotations":{"a":"b"}},"spec":{"containers":[{"name":"a"}],"x":[',
            "{}",
            "]}}",
            3 * MIB,
        ),
        b"[" * 3 * MIB,
    ]
    at_rest = alone.memory()
    with ThreadPoolExecutor(16) as pool:
        for _ in range(2):
            # 503: over the budget, and not even a uid could be read; 408: a client that this
            # machine slowed down.
            assert set(pool.map(lambda body: alone.ask(body).status, bodies * 4)) <= {
                200,
                400,
                408,
                503,
            }
    peak = alone.memory("VmHWM")
    print(f"{at_rest / MIB:.0f} -> {peak / MIB:.0f} MiB")
    assert peak < at_rest + 140 * MIB
    expect_ordinary(alone)


def test_memory_is_flat_over_thousands_of_different_pods(alone: Served):
    """What is remembered has an end, and nothing else is kept."""
    connection = alone.connect()
    text = encode(review()).replace(b'"spec": {', b'"spec": {"hostname": "h0000000", ', 1)
    assert b"h0000000" in text

    def call(numbers: range) -> None:
        for number in numbers:
            body = text.replace(b"h0000000", b"h%07d" % number)
            connection.request("POST", "/mutate", body, {"Content-Type": "application/json"})
            assert connection.getresponse().read()

    call(range(1000))
    before = alone.memory()
    call(range(1000, 4000))
    connection.close()
    assert alone.metric("podgrace_decisions_total", how="decided") == 4000
    assert alone.memory() - before < 3 * MIB
