"""Launchers: which program a command finally starts, behind shells, inits, npm and the like.

In: tables of launchers as values (`webhook.profiles` reads them from launchers.toml; the helper is
built from the same file), and a command's words. Out: the programs that it starts, in order, the
server last; and the init among them. Which profile a program has belongs to `profile`.

How a command is read, word by word:

1. A program's name is the last element of its path.
2. A name that is not a launcher's is the server; its arguments follow.
3. After a launcher, its options, their values, its operands and NAME=VALUE are skipped; the next
   word is a program again.
4. If a launcher takes a shell line, the last command of the line is tried first: it keeps running.
5. A script whose name ends in "entrypoint.sh" runs the words after it. Any other script does so
   only after "--", as wait-for-it.sh does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

MOST_LAUNCHERS: Final = 16
MOST_COMMANDS: Final = 32
LONGEST_LINE: Final = 1024
"""How much is read: launchers in a row, commands of a line, characters at its end. Real ones have a
handful; longer ones must not cost others time."""

_BLANK: Final = re.compile(r"\s")
_COMMANDS: Final = re.compile(r"[;&|\n]+")
_QUOTES: Final = str.maketrans("", "", "'\"\\")


class Launcher(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One kind of launcher. See the head of launchers.toml for each field."""

    names: tuple[str, ...]
    lines: bool = False
    operands: int = 0
    values: tuple[str, ...] = ()
    subcommands: tuple[str, ...] = ()
    script: bool = False
    interpreter: bool = False
    builtin: bool = False
    init: Literal["", "any", "only"] = ""
    forwards: bool = False
    keeps: bool = False

    def __post_init__(self) -> None:
        """Check what the generated C relies on. Raises `ValueError`."""
        for name in self.names:
            if not NAME.fullmatch(name):
                raise ValueError(f"name {name!r}: accepted: no blank, comma, slash, or inner '*'")
        if not 0 <= self.operands <= 9:
            raise ValueError(f"operands {self.operands}: accepted: 0 to 9")


NAME: Final = re.compile(r"[^\s,/*\"]+\*?")
"""A program's name, as it stands in the tables."""

_NONE: Final = Launcher(names=())
_SCRIPT: Final = Launcher(names=("entrypoint.sh",), lines=True)


class Program(msgspec.Struct, frozen=True, gc=False):
    """A program that a command starts, and where its arguments begin in `words`."""

    name: str
    path: str
    words: Sequence[str]
    at: int
    launcher: Launcher | None


class Launchers:
    """All kinds, by name."""

    def __init__(self, kinds: Mapping[str, Launcher]) -> None:
        """Index the kinds. Raises `ValueError` for a name that two of them have."""
        self._by_name: dict[str, Launcher] = {}
        self._by_prefix: dict[str, Launcher] = {}
        for kind, launcher in kinds.items():
            for name in launcher.names:
                known = self._by_prefix if name.endswith("*") else self._by_name
                if name.rstrip("*") in known:
                    raise ValueError(f"launchers.{kind}: {name!r} is in another table already")
                known[name.rstrip("*")] = launcher
        self._prefixes = tuple(self._by_prefix)

    def find(self, name: str) -> Launcher | None:
        """Return the kind of launcher that a program is, None for any other program."""
        found = self._by_name.get(name)
        if found is None and name.startswith(self._prefixes):
            found = next(self._by_prefix[p] for p in self._prefixes if name.startswith(p))
        return found

    def programs(self, words: Sequence[str]) -> Iterator[Program]:
        """Yield what a command starts, launchers first; a shell line's last command first."""
        at, launcher = 0, None
        for _ in range(MOST_LAUNCHERS):
            at = _next(words, at, launcher)
            if at >= len(words):
                return
            word = words[at]
            if launcher is not None and launcher.lines and _BLANK.search(word):
                commands = _COMMANDS.split(word[-LONGEST_LINE:].translate(_QUOTES))
                for command in reversed(commands[-MOST_COMMANDS:]):
                    yield from self.programs(command.split())
                return
            at += 1
            name = basename(word)
            launcher = self.find(name)
            if launcher is None and name.endswith(".sh"):
                launcher = _SCRIPT
                if not name.endswith("entrypoint.sh"):
                    yield Program(name, word, words, at, None)
                    at = _behind_dashes(words, at)
                    continue
            yield Program(name, word, words, at, launcher)
            if launcher is None:
                return

    def init(self, programs: Iterable[Program]) -> str:
        """Return the name of the init that keeps a command from being wrapped, or "".

        It may be the command itself, or stand behind shells, scripts and `exec`: whoever put it
        there expects it to be PID 1. Some refuse to run as anything else, such as `/init` of
        s6-overlay.
        """
        for program in programs:
            kind = program.launcher
            if kind is not None and kind.init:
                return program.name
            if kind is None and program.name.endswith(".sh") and program.at < len(program.words):
                # Such a script probably runs its first argument. If not, we lose one rung.
                name = basename(program.words[program.at])
                found = self.find(name)
                if found is not None and found.init == "only":
                    return name
        return ""


def basename(word: str) -> str:
    """Last element of a path."""
    return word.rsplit("/", 1)[-1]


def _next(words: Sequence[str], at: int, launcher: Launcher | None) -> int:
    """Return the index of the next program, from `at` on."""
    if launcher is None:
        launcher = _NONE
    operands, lines = launcher.operands, launcher.lines
    values, subcommands = launcher.values, launcher.subcommands
    while at < len(words):
        word = words[at]
        if word == "--":
            return at + 1
        if word.startswith(("-", "+")):
            # bash -euo pipefail: the last of several letters takes the value.
            several = lines and len(word) > 2 and word[1] != "-"
            at += 2 if word in values or (several and word[0] + word[-1] in values) else 1
        elif _BLANK.search(word):
            break
        elif "=" in word or word in subcommands:
            at += 1
        elif operands:
            operands -= 1
            at += 1
        else:
            break
    return at


def _behind_dashes(words: Sequence[str], at: int) -> int:
    while at < len(words) and words[at] != "--":
        at += 1
    return at
