"""docs/server.md agrees with the code."""

import re
from pathlib import Path

from webhook.cli import parser
from webhook.server import ServeOptions
from webhook.server.channel import PLAIN_COST, TLS_COST
from webhook.server.limits import Limits

MANUAL = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")


def test_every_flag_and_its_variable_is_in_the_manual():
    serve = parser("serve")._subparsers._group_actions[0].choices["serve"]
    flags = {
        action.option_strings[0]: re.search(r"env (PODGRACE_[A-Z_]+)", action.help or "")
        for action in serve._actions[1:]
    }
    written = dict(re.findall(r"^\| `(--[a-z-]+)` \| `([A-Z_]+)` \|", MANUAL, re.MULTILINE))
    assert written == {flag: found and found[1] for flag, found in flags.items()}


def test_the_defaults_in_the_manual_are_those_of_the_program():
    defaults = dict(
        re.findall(r"^\| `(--[a-z-]+)` \| `[A-Z_]+` \| ([^|]+) \|", MANUAL, re.MULTILINE)
    )
    options = ServeOptions(cert="", key="")
    assert defaults["--port"] == str(options.port)
    assert defaults["--plain-port"] == str(options.plain_port)
    assert float(defaults["--drain-seconds"]) == options.drain_seconds
    assert defaults["--failure-policy"] == options.failure_policy
    assert int(defaults["--max-connections"]) == options.connections
    assert defaults["--tls-min-version"] == options.tls_min_version


def test_the_bounds_in_the_manual_are_those_of_the_program():
    limits = Limits()
    assert (limits.head, limits.body, limits.seconds, limits.idle) == (16 << 10, 3 << 20, 10, 120)
    assert (limits.connections, limits.memory) == (4096, 64 << 20)
    assert (PLAIN_COST, TLS_COST) == (4 << 10, 44 << 10)
    for said in ("10 s each", "120 s", "4096", "16 KiB, 3 MiB", "64 MiB; bodies 48"):
        assert f"| {said} |" in MANUAL
    assert "4 KiB each, 44 KiB more once it speaks TLS" in MANUAL
