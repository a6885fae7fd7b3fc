"""A profile: how one kind of server wants to be stopped; and how it is recognised.

In: profiles as values (who reads the table from a file is `webhook.profiles`). Out: the profile for a container, with where
it was seen. What the helper does with a profile belongs to `helper` and to the helper itself.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec


class Profile(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One server's way to stop. Times in whole seconds; 0 means the default. See the head of profiles.toml for each field."""

    name: str = ""
    match: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    signal: str = "TERM"
    stop_command: str = ""
    stop_on: tuple[str, ...] = ("INT", "QUIT")
    target: str = "server"
    observe: bool = True
    patience: int = 0
    drain_timeout: int = 0
    caveat: str = ""


_SIGNALS = "HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF"
SIGNALS: Final = frozenset([*_SIGNALS.split(), "WINCH", "IO", "PWR", "SYS"])
"""Names, without SIG, that a profile may use: those of signal(7) that can be caught."""

GENERIC = Profile(
    name="generic",
    caveat="Unknown server: waits until nothing is in flight, then TERM to whoever owns the ports.",
)

_LAUNCHERS = frozenset(
    [
        "sh",
        "bash",
        "ash",
        "dash",
        "zsh",
        "busybox",
        "env",
        "exec",
        "perl",
        "ruby",
        "tini",
        "tini-static",
        "dumb-init",
        "catatonit",
        "docker-init",
        "gosu",
        "su-exec",
        "setpriv",
        "nice",
        "stdbuf",
        "poetry",
        "pipenv",
        "uv",
        "run",
        "opentelemetry-instrument",
        "ddtrace-run",
        "newrelic-admin",
        "run-program",
        "s6-setuidgid",
        "with-contenv",
    ],
)
_AS_USER = frozenset({"gosu", "su-exec", "s6-setuidgid"})
"""Launchers whose next word is a user, not a program."""


class Index:
    """Profiles by name, by process name and by image name."""

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self.by_name: dict[str, Profile] = {GENERIC.name: GENERIC}
        self._by_match: dict[str, Profile] = {}
        self._by_image: dict[str, Profile] = {}
        for profile in profiles:
            self.by_name[profile.name] = profile
            self._by_match |= dict.fromkeys(profile.match, profile)
            self._by_image |= dict.fromkeys(profile.images, profile)

    def by_command(self, argv: Iterable[str]) -> Profile | None:
        """Look a command up. Words after the first count only behind a launcher (a shell, an interpreter, an init)."""
        return next(
            (found for name in _program_names(argv) if (found := self._by_match.get(name))), None
        )

    def by_image(self, image: str) -> Profile | None:
        """Look an image up by the last element of its path, without tag and digest."""
        return self._by_image.get(image_name(image))


def image_name(image: str) -> str:
    """`registry.example/team/nginx:1.27@sha256:...` -> `nginx`."""
    return image.rsplit("/", 1)[-1].split("@", 1)[0].split(":", 1)[0]


def basename(word: str) -> str:
    """Last element of a path."""
    return word.rsplit("/", 1)[-1]


def _program_names(argv: Iterable[str]) -> Iterator[str]:
    skip = False
    for word in argv:
        if skip or word.startswith("-") or "=" in word:
            skip = False
            continue
        if " " in word:
            # A line of shell: its last command is the one that stays.
            for line in reversed(_COMMANDS.split(word.replace("'", "").replace('"', ""))):
                yield from _program_names(line.split())
            return
        name = basename(word)
        yield name
        skip = name in _AS_USER
        if not (name in _LAUNCHERS or name.startswith("python") or name.endswith("entrypoint.sh")):
            return


_COMMANDS = re.compile(r"[;&|\n]+")


def merged(base: Mapping[str, Profile], extra: Mapping[str, Profile]) -> Index:
    """Index the built-in profiles with the operator's own, which win."""
    return Index({**base, **extra}.values())
