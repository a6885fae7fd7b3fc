"""What reads options, queries, HTTP, netlink and /proc, under broken input, with sanitizers.

A minute of it on CI. Netlink and /proc also as a whole, with a kernel that answers late, in part,
with errors, or not at all, and processes that end while they are looked at.
"""

import os
import subprocess

from tests import needs
from tests.entrypoint.conftest import BUILD, _make


def test_broken_input_breaks_nothing() -> None:
    """Always the same seed; the corpus in entrypoint/fuzz/corpus has all earlier findings."""
    needs.programs("cc")
    _make("build/fuzz")
    seconds = "60" if os.environ.get("CI") else "5"
    corpus = BUILD.parent / "fuzz" / "corpus"
    done = subprocess.run(
        [BUILD / "fuzz", seconds, corpus],
        check=False,
        capture_output=True,
        text=True,
        cwd=BUILD,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    inputs, runs = (int(word) for word in done.stdout.replace(",", "").split() if word.isdigit())
    assert inputs == len(list(corpus.iterdir()))
    assert runs > 10_000
