"""The helper's command line: the contract with `entrypoint/`, both ways.

In: settings of one container. Out: argv of the preStop hook and of PID 1, and back: what the user had before it. The meaning
of an option belongs to the helper's manual (`podgrace-helper --help`); tests run what is written here against the built binary.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from webhook.core.names import HELPER
from webhook.core.pod import Exec, Handler, HttpGet
from webhook.core.profile import Profile


class Waits(msgspec.Struct, frozen=True):
    """The times of one container, in seconds, as they fit into the budget."""

    delay_min: int
    quiet: int
    delay_max: int
    drain: int
    patience: int


def common(
    container: str, ports: Sequence[int], waits: Waits, profile: Profile, *, generic: bool, probe_period: int, report: int
) -> list[str]:
    """Build the options that `drain` and `run` share."""
    argv = [f"--container={container}"]
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
    if not profile.observe:
        argv.append("--no-observe")
    # What a front proxy or a mesh sends to the container over loopback is traffic like any other.
    argv.append("--loopback")
    if probe_period:
        argv.append(f"--probe-period={probe_period}")
    if report:
        argv.append(f"--report=127.0.0.1:{report}")
    return argv


def run(options: Sequence[str], stop_on: Sequence[str], command: Sequence[str]) -> list[str]:
    """Wrap a command: the helper as PID 1."""
    return [HELPER, "run", *options, "--stop-on=" + ",".join(stop_on), "--", *command]


def drain(options: Sequence[str], *, stop: bool, order: str, user: Handler | None) -> list[str]:
    """Build the preStop exec. `order`: "before" or "after" ours for the user's own handler, which must be exec, http or sleep."""
    argv = [HELPER, "drain", *options]
    if not stop:
        argv.append("--no-stop")
    if user is None:
        return argv
    argv.append(f"--hook={order}")
    if user.sleep is not None:
        argv.append(f"--hook-sleep={user.sleep.seconds}")
    elif user.http_get is not None:
        argv += _url(user.http_get)
    elif user.exec is not None:
        argv += ("--", *(user.exec.command or ()))
    return argv


def drain_path(container: str, ports: Sequence[int], waits: Waits) -> str:
    """Build the same for the sidecar's HTTP port, as an httpGet path."""
    return (
        f"/drain?container={container}&ports={','.join(map(str, ports))}&delay-min={waits.delay_min}&quiet={waits.quiet}"
        f"&delay-max={waits.delay_max}&drain-timeout={waits.drain}"
    )


def unwrap(command: Sequence[str]) -> list[str] | None:
    """Give back the command that was wrapped; None if this one is not ours."""
    if len(command) > 2 and command[0] == HELPER and command[1] == "run" and "--" in command:
        return list(command[command.index("--") + 1 :])
    return None


def is_drain(handler: Handler) -> bool:
    """Whether a preStop is one of ours."""
    if handler.exec is not None and handler.exec.command:
        return handler.exec.command[:2] == [HELPER, "drain"]
    return handler.http_get is not None and (handler.http_get.path or "").startswith("/drain?container=")


STOP_WORDS: Final = ("kill", "pkill", "killall", "graceful-stop", " quit", " stop", "shutdown", "halt")
"""What tells a hook that stops the server: it must run after the drain, or it cuts what the drain waits for."""


def stops_server(hook: Exec) -> bool:
    """Whether the user's exec hook looks as if it stops the server by itself."""
    text = " ".join(hook.command or ())
    return any(word in text for word in STOP_WORDS)


def literal_sleep(user: Handler) -> int | None:
    """How long the user's hook lasts, in seconds, where it can be read off: a native sleep or a plain `sleep N`."""
    if user.sleep is not None:
        return user.sleep.seconds
    if user.exec is None:
        return None
    words = " ".join(user.exec.command or ()).split()
    if words[:1] and words[0].rsplit("/", 1)[-1] in ("sh", "bash", "ash", "dash") and words[1:2] == ["-c"]:
        words = words[2:]
    if len(words) == 2 and words[0].rsplit("/", 1)[-1] == "sleep":
        number = words[1].removesuffix("s")
        return -(-int(float(number) * 1000) // 1000) if number.replace(".", "", 1).isdigit() else None
    return None


def _url(get: HttpGet) -> list[str]:
    path = get.path or "/"
    return [
        f"--hook-url=http://{get.host or ''}:{get.port}{path if path.startswith('/') else '/' + path}",
        *(f"--hook-header={header.name}:{header.value}" for header in get.http_headers or ()),
    ]
