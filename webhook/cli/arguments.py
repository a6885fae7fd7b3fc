"""Arguments that several commands share, and how to parse them.

In: argparse's parsers. Out: the same with options added; `with_text` gives a command the file that
-f names, and the configuration. What chooses a cluster is in `cluster`, -o in `terminal`.
"""

import argparse
import gc
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from webhook.cli.exits import Unusable

if TYPE_CHECKING:
    from webhook.config import Config

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Run = Callable[[argparse.Namespace], int]


def command(
    commands: Any, name: str, func: Run, text: str, examples: str = "", **more: Any
) -> argparse.ArgumentParser:
    """Add a command to the top parser's; `examples` are lines of shell."""
    lines = "".join(f"  {line}\n" for line in examples.strip().splitlines())
    # The formatter that leaves the examples alone does not wrap the description.
    about = textwrap.fill(text, shutil.get_terminal_size().columns - 2)
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        description=about,
        epilog=f"Examples:\n{lines}" if lines else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **more,
    )
    made.set_defaults(func=func, parser=made)
    return made


def add_config(made: argparse.ArgumentParser) -> None:
    """Add --config."""
    made.add_argument(
        "--config",
        default=os.environ.get("PODGRACE_CONFIG"),
        metavar="FILE",
        help="configuration (env PODGRACE_CONFIG)",
    )


def add_class(made: argparse.ArgumentParser) -> None:
    """Add --class."""
    made.add_argument(
        "--class",
        dest="class_name",
        default="",
        metavar="NAME",
        help="decide as in a namespace of this class of the configuration",
    )


def add_file(made: argparse.ArgumentParser, *, instead: str = "") -> None:
    """Add -f for manifests, or for what may be read `instead` of the cluster."""
    made.add_argument(
        "-f",
        "--filename",
        required=not instead,
        metavar="FILE",
        help=f"{instead or 'manifest with one or more documents'}; - is standard input",
    )


def port(text: str) -> int:
    """Read a port."""
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: 0 to 65535")


def duration(text: str) -> timedelta:
    """Read a time such as 90s, 15m, 12h or 60d."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII):
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    raise argparse.ArgumentTypeError(
        f"{text!r}: accepted: a whole number and s, m, h or d, such as 90s or 60d"
    )


def config(args: argparse.Namespace) -> "Config":
    """Read the configuration that --config names, and take the class that --class names.

    Raises `ConfigError`, and `Unusable` for a class that is not there.
    """
    from webhook.config import load  # noqa: PLC0415 - 0.1 s that no help needs

    found, name = load(args.config), getattr(args, "class_name", "")
    if name and name not in found.classes:
        known = ", ".join(sorted(found.classes)) or "none: the configuration has no classes"
        raise Unusable(f"--class {name}: accepted: {known}")
    return found.of(name)


def with_text(run: "Callable[[argparse.Namespace, str, str, Config], int]") -> Run:
    """Give a command the text that -f names, exactly as it is there, and the configuration."""

    def command(args: argparse.Namespace) -> int:
        settings = config(args)
        where = "standard input" if args.filename == "-" else args.filename
        if Path(args.filename).is_dir():
            raise Unusable(f"{where}: a directory; accepted: one file, or - for standard input")
        data = sys.stdin.buffer.read() if args.filename == "-" else Path(args.filename).read_bytes()
        # Trees of a million nodes without a cycle: collecting would take a third of the time.
        gc.disable()
        try:
            return run(args, data.decode(), where, settings)
        except UnicodeDecodeError as error:
            raise Unusable(f"{where}: not UTF-8 at byte {error.start}") from error
        except UnicodeEncodeError as error:
            raise Unusable(f"{where}: half a surrogate pair, which no text can hold") from error
        finally:
            gc.enable()

    return command
