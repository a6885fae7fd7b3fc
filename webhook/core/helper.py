"""The helper's command line: the contract with `entrypoint/`, written and read back.

In: settings of one container. Out: argv of the preStop hook and of PID 1; and back from these, what
the user had before. What an option means belongs to the helper's manual (`podgrace-helper --help`);
tests run these command lines with the built binary.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from webhook.core.names import HELPER
from webhook.core.pod import Handler, HttpGet
from webhook.core.profile import Profile

MAX_HEADERS: Final = 32
LONGEST: Final = 7 * 24 * 3600
"""The most that the helper takes: headers of a hook, seconds."""


class Waits(msgspec.Struct, frozen=True, gc=False):
    """The times of one container, in seconds, fitted into the budget."""

    delay_min: int
    quiet: int
    delay_max: int
    drain: int
    patience: int


def common(
    container: str,
    ports: Sequence[int],
    waits: Waits,
    profile: Profile,
    *,
    generic: bool,
    observe: bool,
    probe_period: int,
    report: int,
    message: str | None,
) -> list[str]:
    """Build the options that `drain` and `run` share.

    `generic`: the helper finds the profile itself. `observe`: it waits for requests. `message`: the
    file for its record, "" for none, None for Kubernetes' default.
    """
    argv = [f"--container={container}"]
    # Without ports it watches every listener.
    if ports:
        argv.append("--ports=" + ",".join(map(str, ports)))
    argv += (
        f"--delay-min={waits.delay_min}",
        f"--quiet={waits.quiet}",
        f"--delay-max={waits.delay_max}",
        f"--drain-timeout={waits.drain}",
        f"--patience={waits.patience}",
    )
    if generic:
        argv.append("--detect")
    else:
        argv.append(f"--signal={profile.signal}")
        if profile.stop_command:
            argv.append(f"--stop-command={profile.stop_command}")
        if profile.target != "server":
            argv.append(f"--target={profile.target}")
        if profile.match:
            argv.append("--match=" + ",".join(profile.match))
        if profile.finishes and observe:
            argv.append("--finishes")
    if not observe:
        argv.append("--no-observe")
    # Traffic from a front proxy or a mesh over loopback counts like any other.
    argv.append("--loopback")
    if probe_period:
        argv.append(f"--probe-period={probe_period}")
    if report:
        argv.append(f"--report=127.0.0.1:{report}")
    if message is not None:
        argv.append(f"--termination-message={message}")
    return argv


def run(options: Sequence[str], stop_on: Sequence[str], command: Sequence[str]) -> list[str]:
    """Wrap a command: the helper as PID 1."""
    return [HELPER, "run", *options, "--stop-on=" + ",".join(stop_on), "--", *command]


def drain(
    options: Sequence[str],
    *,
    stop: bool,
    order: str,
    user: Handler | None,
    timeout: int = 0,
    offline: str = "",
) -> list[str]:
    """Build the preStop exec.

    `order`: whether the user's own handler (exec, http or sleep) runs "before" or "after" ours.
    `timeout`: seconds after which it is ended, 0 for none. `offline`: a URL in its place.
    """
    argv = [HELPER, "drain", *options]
    if not stop:
        argv.append("--no-stop")
    if user is not None:
        if timeout:
            argv.append(f"--hook-timeout={timeout}")
        argv += (_HOOK + order, *hook(user))
    elif offline:
        # It has a host, unlike a user's hook here, so `unhook` does not mistake it for one.
        argv += (f"--hook-timeout={timeout}", f"{_HOOK}before", f"--hook-url={offline}")
    return argv


def hook(user: Handler) -> list[str]:
    """Spell the user's own handler as the last words of the command line."""
    if user.sleep is not None:
        return [f"--hook-sleep={user.sleep.seconds}"]
    if user.http_get is not None:
        return _url(user.http_get)
    return ["--", *((user.exec and user.exec.command) or ())]


def ask(container: str, port: int) -> dict[str, object]:
    """Build an httpGet preStop: the sidecar waits for what `answer` says.

    The header tells it from a user's.
    """
    headers = [{"name": name, "value": value} for name, value in _MARK]
    return {"path": _PATH + container, "port": port, "scheme": "HTTP", "httpHeaders": headers}


def answer(container: str, ports: Sequence[int], waits: Waits, probe_period: int) -> str:
    """Build what the sidecar waits for when the kubelet asks about one container."""
    parts = [f"container={container}"]
    if ports:
        parts.append("ports=" + ",".join(map(str, ports)))
    parts += (
        f"delay-min={waits.delay_min}",
        f"quiet={waits.quiet}",
        f"delay-max={waits.delay_max}",
        f"drain-timeout={waits.drain}",
    )
    if probe_period:
        parts.append(f"probe-period={probe_period}")
    return "&".join(parts)


def unwrap(words: list[str] | None) -> list[str] | None:
    """Take `HELPER run ... --` out of a command or args, wherever another wrapper has moved it.

    Returns the same list if it is not there.
    """
    if words and HELPER in words:
        at = words.index(HELPER)
        if words[at + 1 : at + 2] == ["run"] and "--" in words[at:]:
            return words[:at] + words[words.index("--", at) + 1 :]
    return words


def is_drain(own: Handler, container: str) -> bool:
    """Whether a preStop is one of ours."""
    if own.exec is not None and own.exec.command:
        return own.exec.command[:2] == [HELPER, "drain"]
    get = own.http_get
    if get is None or get.path != _PATH + container:
        return False
    return tuple((header.name, header.value) for header in get.http_headers or ()) == _MARK


def hook_of(own: Handler) -> list[str]:
    """Find the user's handler in a preStop of ours: the words that `hook` wrote."""
    argv = (own.exec.command if own.exec is not None else None) or []
    for i, word in enumerate(argv):
        if word.startswith(_HOOK):
            return argv[i + 1 :]
    return []


def unhook(words: Sequence[str]) -> dict[str, object] | None:
    """Turn such words back into a handler, except a port's name and an unset path."""
    head = words[0] if words else ""
    if head == "--":
        return {"exec": {"command": list(words[1:])}}
    if head.startswith(_SLEEP) and head[len(_SLEEP) :].isdigit():
        return {"sleep": {"seconds": int(head[len(_SLEEP) :])}}
    found = _URL.fullmatch(head)
    if found is None:
        return None
    get: dict[str, object] = {"path": found[2], "port": int(found[1]), "scheme": "HTTP"}
    headers = [
        word[len(_HEADER) :].partition(":") for word in words[1:] if word.startswith(_HEADER)
    ]
    if headers:
        get["httpHeaders"] = [{"name": name, "value": value} for name, _, value in headers]
    return {"httpGet": get}


_PATH: Final = "/drain?container="
_MARK: Final = (("X-Podgrace", "drain"),)
_HOOK: Final = "--hook="
_SLEEP: Final = "--hook-sleep="
_HEADER: Final = "--hook-header="
_URL: Final = re.compile(r"--hook-url=http://:([0-9]{1,5})(/.*)")


def _url(get: HttpGet) -> list[str]:
    path = get.path or "/"
    return [
        f"--hook-url=http://:{get.port}{path if path.startswith('/') else '/' + path}",
        *(f"{_HEADER}{header.name}:{header.value}" for header in get.http_headers or ()),
    ]
