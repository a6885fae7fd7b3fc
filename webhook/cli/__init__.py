"""The command `podgrace`: argv in, text and an exit code out (see `exits`).

Errors are one line on standard error that names the thing, the place and what is accepted. No
traceback reaches a user. Each command is a module with an `add_parser`. Only the module of the
command that runs is imported: help and completion start at once, and a server that runs for months
holds no other command's libraries. `certs` brings its own.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from webhook.cli.exits import BUG, OK, STOPPED, UNUSABLE, Unusable


class Command(NamedTuple):
    """Where a command is, and what it does, in a line."""

    module: str
    text: str
    function: str = "add_parser"


COMMANDS: Final = {
    "check": Command("check", "Check that podgrace is installed soundly, or works in a namespace."),
    "audit": Command("audit", "List running Pods that are opted in and slipped through."),
    "plan": Command("plan", "Say who loses requests today, and what podgrace would do to each."),
    "explain": Command(
        "workloads", "Say what would be done to each container, and why.", "add_explain"
    ),
    "inject": Command(
        "workloads", "Write manifests as the webhook would admit them.", "add_inject"
    ),
    "uninject": Command(
        "workloads", "Remove everything that podgrace has added to manifests.", "add_uninject"
    ),
    "prove": Command("prove", "Load a workload during a rollout, and count what it loses."),
    "timeline": Command("timeline", "Say what happens when, while a Pod comes and goes."),
    "profiles": Command("profiles", "List the servers that podgrace knows how to stop."),
    "certs": Command("certificates", "Make, inspect and rotate the certificates of the webhook."),
    "demo": Command("demo", "Serve once and show what happens to a sample Pod."),
    "serve": Command("serve", "Serve the webhook until stopped."),
    "completion": Command("completion", "Print a shell's completion of podgrace."),
    "version": Command("version", "Print the version."),
}


def program() -> str:
    """Give the name by which we were called: `kubectl podgrace` where kubectl did."""
    called = Path(sys.argv[0]).name.removesuffix(".exe")
    return "kubectl podgrace" if called == "kubectl-podgrace" else "podgrace"


def parser(first: str = "") -> argparse.ArgumentParser:
    """Build the command line: every command's name, and the options of the one that is `first`."""
    top = argparse.ArgumentParser(
        prog=program(),
        description="Rolling updates of any Kubernetes workload without one lost request.",
        epilog=f"`{program()} COMMAND --help` explains a command.",
    )
    top.add_argument("--version", action="store_true", help=argparse.SUPPRESS)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        if name == first:
            module = import_module(f"webhook.cli.{command.module}")
            getattr(module, command.function)(commands)
        else:
            commands.add_parser(name, help=command.text)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        words[0] = "version"
    try:
        if words[:1] == ["__complete"]:
            from webhook.cli.completion import complete  # noqa: PLC0415

            return complete(words[1:], parser)
        top = parser(words[0] if words else "")
        args, unknown = top.parse_known_args(words)
        if unknown:
            getattr(args, "parser", top).error(f"unrecognized arguments: {' '.join(unknown)}")
        return int(args.func(args))
    except Unusable as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader has closed the pipe: nothing can take the rest of the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        return _fail(f"{error.filename or 'podgrace'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        from webhook.config import ConfigError  # noqa: PLC0415 - loaded by whoever raised it

        if isinstance(error, ConfigError):
            return _fail(str(error))
        frame = traceback.extract_tb(error.__traceback__)[-1]
        _fail(
            f"a bug in podgrace, please report it: {type(error).__name__}"
            f" in {frame.name}, line {frame.lineno}"
        )
        return BUG


def complete() -> int:
    """Complete `kubectl podgrace`: kubectl calls `kubectl_complete-podgrace` with what is typed."""
    return main(["__complete", *sys.argv[1:]])


def _fail(message: str) -> int:
    print(f"podgrace: {message}", file=sys.stderr)
    return UNUSABLE
