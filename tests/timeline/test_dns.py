"""Questions to a DNS server, as bytes: what is written can be read; junk is no answer."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.cli.timeline import dns
from webhook.cli.timeline.observer import nameserver

NAME = "shop.default.svc.cluster.local."


def reply(question: bytes, *addresses: bytes, code: int = 0, ttl: int = 30) -> bytes:
    """Answer as CoreDNS does: the question again, and records whose name points at it."""
    number = question[:2]
    head = number + struct.pack("!5H", 0x8500 | code, 1, len(addresses), 0, 0)
    records = [
        b"\xc0\x0c" + struct.pack("!HHIH", 1 if len(it) == 4 else 28, 1, ttl, len(it)) + it
        for it in addresses
    ]
    return head + question[12:] + b"".join(records)


def test_a_question_is_what_a_resolver_sends() -> None:
    asked = dns.question(0xABCD, NAME)
    assert asked[:12] == bytes.fromhex("abcd01000001000000000000")
    assert asked[12:] == (b"\x04shop\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01")
    assert dns.question(1, NAME, six=True).endswith(b"\x00\x1c\x00\x01")


def test_an_answer_gives_addresses_in_order_and_the_shortest_time_to_live() -> None:
    asked = dns.question(7, NAME)
    found = dns.answer(reply(asked, b"\x0a\0\0\x09", b"\x0a\0\0\x05"), 7)
    assert found == dns.Answer("NOERROR", ("10.0.0.5", "10.0.0.9"), 30)
    six = dns.answer(reply(dns.question(7, NAME, six=True), bytes(15) + b"\1"), 7)
    assert six == dns.Answer("NOERROR", ("::1",), 30)
    assert dns.answer(reply(asked, code=3), 7) == dns.Answer("NXDOMAIN", (), -1)


def test_an_answer_to_another_question_is_none() -> None:
    asked = dns.question(7, NAME)
    assert dns.answer(reply(asked), 8) is None
    assert dns.answer(asked, 7) is None  # a question, not an answer


@given(st.binary(max_size=200))
def test_garbage_is_no_answer_and_no_error(data: bytes) -> None:
    dns.answer(data, 7)
    dns.answer(dns.question(7, NAME)[:2] + b"\x85\x00" + data, 7)


@given(st.integers(0, 60))
def test_a_cut_answer_is_none_or_shorter(size: int) -> None:
    whole = reply(dns.question(7, NAME), b"\x0a\0\0\x05")
    found = dns.answer(whole[:size], 7)
    assert found is None or found.addresses in ((), ("10.0.0.5",))


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no DNS name"):
        dns.question(1, name)


def test_the_places_own_server_is_the_first_of_its_resolver() -> None:
    text = "# mine\nsearch svc.cluster.local\nnameserver 10.96.0.10\nnameserver 9.9.9.9\n"
    assert nameserver(text) == "10.96.0.10"
    assert nameserver("options ndots:5\n") == "127.0.0.1"
