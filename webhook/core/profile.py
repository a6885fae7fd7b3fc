"""A profile: how to stop one kind of server, and how to recognise it.

In: profiles as values (`webhook.profiles` reads them from a file). Out: the profile for a
container, found by its command or its image. How a command is read belongs to `launchers`; what the
helper does with a profile belongs to `helper` and to the helper itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from webhook.core.launchers import Launchers, Program, basename

_SIGNALS: Final = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT TSTP TTIN "
    "TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
SIGNALS: Final = frozenset(_SIGNALS.split())
"""Signals, without SIG, that a profile may name: those of signal(7) that can be caught."""

MATCH: Final = re.compile(r"[^\s,/*\"]+\*?( [^\s,\"]+)?")
"""A program's name, or that and the beginning of one of its arguments."""

OFFLINE: Final = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}/[!-~]*")
"""The URL that tells a server to leave its registry: the server itself, so loopback only."""

MOST_ARGUMENTS: Final = 256
"""How many arguments of a program are read."""


class Profile(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One server's way to stop. Times in whole seconds; 0 means the default.

    See the head of profiles.toml for each field.
    """

    name: str = ""
    match: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    front: bool = False
    standalone: bool = False
    worker: bool = False
    signal: str = "TERM"
    stop_command: str = ""
    offline: str = ""
    stop_on: tuple[str, ...] = ("INT", "QUIT")
    target: Literal["server", "child", "group"] = "server"
    observe: bool = True
    finishes: bool = False
    patience: int = 0
    drain_timeout: int = 0
    caveat: str = ""

    def __post_init__(self) -> None:
        """Check what the helper and the generated C rely on. Raises `ValueError`."""
        for signal in (self.signal, *self.stop_on):
            if signal not in SIGNALS:
                raise ValueError(f"signal {signal!r}: accepted: {', '.join(sorted(SIGNALS))}")
        for entry in self.match:
            if not MATCH.fullmatch(entry):
                raise ValueError(f"match {entry!r}: accepted: a name, or a name and an argument")
        for image in self.images:
            if not image or set(image) & set("/:@ "):
                raise ValueError(f"images {image!r}: accepted: the last path element, without tag")
        for port in self.ports:
            if not 1 <= port <= 65535:
                raise ValueError(f"ports {port}: accepted: 1 to 65535")
        if self.offline and not OFFLINE.fullmatch(self.offline):
            raise ValueError(f"offline {self.offline!r}: accepted: http://127.0.0.1:PORT/PATH")
        if min(self.patience, self.drain_timeout) < 0:
            raise ValueError("patience and drain-timeout: accepted: 0 or more")
        if self.finishes and not self.observe:
            raise ValueError("finishes: of use only where requests are observed")
        if self.worker and (self.ports or self.observe or self.front or self.standalone):
            raise ValueError("worker: it has no ports, so observe must be false")


GENERIC = Profile(
    name="generic",
    caveat="Unknown server: waits until nothing is in flight, then TERM to whoever owns the ports.",
)


class Index:
    """Profiles by name, by command and by image; and the launchers."""

    def __init__(self, profiles: Iterable[Profile], launchers: Launchers) -> None:
        """Index them: if two profiles match, the earlier one wins."""
        self.launchers = launchers
        self.by_name: dict[str, Profile] = {GENERIC.name: GENERIC}
        self._by_match: dict[str, list[tuple[str, Profile]]] = {}
        self._by_image: dict[str, Profile] = {}
        prefixes: list[str] = []
        for profile in profiles:
            self.by_name[profile.name] = profile
            for entry in profile.match:
                name, _, argument = entry.partition(" ")
                if name.endswith("*"):
                    name = name[:-1]
                    prefixes.append(name)
                self._by_match.setdefault(name, []).append((argument, profile))
            for image in profile.images:
                self._by_image.setdefault(image, profile)
        self._prefixes = tuple(prefixes)

    def by_command(self, argv: Sequence[str]) -> Profile | None:
        """Look up a command: the first program it starts that matches a profile."""
        return self.by_programs(self.launchers.programs(argv))

    def by_programs(self, programs: Iterable[Program]) -> Profile | None:
        """Look up the programs that a command starts."""
        for program in programs:
            if (found := self._profile(program)) is not None:
                return found
        return None

    def keeper(self, programs: Iterable[Program]) -> str:
        """Return the program of a command that keeps TERM from the server, or "".

        That is a shell that keeps running in front of it; `exec` replaces the shell.
        """
        keeper = ""
        for program in programs:
            if self._profile(program):
                return keeper
            if program.launcher is not None and program.launcher.keeps:
                keeper = program.name
            elif program.name == "exec":
                keeper = ""
        return ""

    def by_image(self, image: str, args: Sequence[str] = ()) -> Profile | None:
        """Look up a container without a known command: by its arguments, then by its image.

        Most entrypoints run their arguments if these name a program. An image is matched by the
        last element of its path, without tag and digest.
        """
        named = bool(args) and not args[0].startswith("-")
        if named and (found := self.by_command(args)):
            return found
        name = image_name(image)
        found = self._by_image.get(name)
        if found is None or not named:
            return found
        # A shell that starts something else is the whole command; `vault agent` is not
        # `vault server`, though the image is the same.
        words = [word for word, profile in self._by_match.get(name, ()) if profile is found]
        other = words and not any(arg.startswith(tuple(words)) for arg in args)
        return None if other or self.launchers.find(basename(args[0])) is not None else found

    def _profile(self, program: Program) -> Profile | None:
        name = program.name
        entries = self._by_match.get(name)
        if entries is None and name.startswith(self._prefixes):
            entries = next(self._by_match[p] for p in self._prefixes if name.startswith(p))
        for argument, profile in entries or ():
            if not argument or _has(program, argument):
                return profile
        if found := _BITNAMI.search(program.path):
            return self._by_image.get(found[1])
        return None


_BITNAMI: Final = re.compile(r"/bitnami/scripts/([a-z0-9-]+)/run\.sh$")
"""Images of this family start their server with a script that has the image's name."""


def _has(program: Program, argument: str) -> bool:
    words = program.words
    end = min(len(words), program.at + MOST_ARGUMENTS)
    return any([words[i].startswith(argument) for i in range(program.at, end)])  # noqa: C419


def image_name(image: str) -> str:
    """`registry.example/team/nginx:1.27@sha256:...` -> `nginx`."""
    return basename(image).split("@", 1)[0].split(":", 1)[0]


def merged(base: Mapping[str, Profile], extra: Mapping[str, Profile], known: Launchers) -> Index:
    """Index the built-in profiles with the operator's own, which win."""
    return Index(({**extra, **{k: v for k, v in base.items() if k not in extra}}).values(), known)
