"""The command, run as a user runs it.

In: arguments and standard input. Out: exit code and both streams; asserted for every run: no
traceback, no bug. `spawned` is a separate process; `podgrace` runs in this process, which is
faster.
"""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from webhook.cli import main

FOLDER = Path(__file__).parent
WORKLOADS = FOLDER / "workloads"


class Ran(NamedTuple):
    """What came of it."""

    code: int
    out: str
    err: str


def spawned(*args: str, stdin: str | bytes = b"", env: dict[str, str] | None = None) -> Ran:
    """Run `podgrace` in a process."""
    whole = {**os.environ, "PYTHONPATH": str(FOLDER.parent.parent), **(env or {})}
    ran = subprocess.run(
        [sys.executable, "-m", "webhook.cli", *args],
        input=_bytes(stdin),
        capture_output=True,
        env=whole,
        timeout=120,
        check=False,
    )
    return _judged(ran.returncode, ran.stdout, ran.stderr)


def podgrace(*args: str, stdin: str | bytes = b"", env: dict[str, str] | None = None) -> Ran:
    """Run `podgrace` here."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    with (
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(_bytes(stdin)))),
        mock.patch.dict(os.environ, env or {}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = main(args)
        except SystemExit as stop:
            code = int(stop.code or 0)
    for stream in (out, err):
        stream.flush()
    return _judged(code, out.buffer.getvalue(), err.buffer.getvalue())  # type: ignore[attr-defined]


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _judged(code: int, out: bytes, err: bytes) -> Ran:
    said = err.decode(errors="replace")
    assert "Traceback" not in said, said
    assert "a bug in podgrace" not in said, said
    assert code in (0, 1, 2, 3), (code, said)
    return Ran(code, out.decode(errors="surrogateescape"), said)
