"""`podgrace certs ...`: argv in, text and an exit code out.

| exit | meaning                                                      |
|------|--------------------------------------------------------------|
| 0    | done; nothing is wrong                                       |
| 1    | a certificate can't be used, or expires too soon (`check`)   |
| 2    | wrong arguments                                              |
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from certs import checks, store
from certs.authority import general_names
from certs.errors import BadName, CertificateError, StoreError
from certs.local import ephemeral

OK, WRONG = 0, 1

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_parser(subparsers: Any) -> None:
    """Add `certs` and what is below it; each sets `func`, which takes the arguments and returns the exit code."""
    text = "Make, look at and rotate the certificates of the webhook."
    commands = subparsers.add_parser("certs", help=text, description=text, allow_abbrev=False).add_subparsers(
        metavar="COMMAND", required=True
    )

    made = _command(commands, "init", _init, "Write a throw-away authority's certificates into a directory, for use on one machine.")
    _directory(made)
    made.add_argument(
        "--name", action="append", required=True, type=_name, metavar="NAME", help="DNS name or IP address to serve; may be repeated"
    )

    made = _command(commands, "show", _show, "List the certificates of a directory.")
    _directory(made)
    made.add_argument("-o", "--output", choices=("table", "json"), default="table")

    made = _command(commands, "check", _check, "Exit 1 and say why if the certificates of a directory can't be served, or expire soon.")
    _directory(made)
    made.add_argument(
        "--within", type=duration, default=timedelta(days=7), metavar="TIME", help="how soon is soon, such as 12h or 7d (default: 7d)"
    )
    made.add_argument("--name", action="append", default=[], type=_name, metavar="NAME", help="name that must be covered; may be repeated")


def duration(text: str) -> timedelta:
    """Read a time such as 90s, 15m, 12h or 60d."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII):
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: a whole number and s, m, h or d, such as 90s or 60d")


def _command(commands: Any, name: str, func: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    made.set_defaults(func=_told(func))
    return made


def _directory(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--dir", required=True, type=Path, metavar="DIR", help=f"holds {store.CERT_FILE}, {store.KEY_FILE} and {store.CA_FILE}"
    )


def _told(func: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Turn what the package raises on purpose into one line and an exit code."""

    def run(args: argparse.Namespace) -> int:
        try:
            return func(args)
        except CertificateError as error:
            print(f"podgrace: {error}", file=sys.stderr)
            return WRONG

    return run


def _name(text: str) -> str:
    try:
        general_names([text])
    except BadName as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _init(args: argparse.Namespace) -> int:
    ephemeral(args.dir, args.name)
    print(f"wrote {store.CERT_FILE}, {store.KEY_FILE} and {store.CA_FILE} for {', '.join(args.name)} to {args.dir}")
    print(f"Clients that shall trust them: curl --cacert {args.dir / store.CA_FILE} ...")
    return OK


def _show(args: argparse.Namespace) -> int:
    files = _files(args.dir)
    now = datetime.now(UTC)
    found = checks.entries(files)
    if args.output == "json":
        rows = [
            {
                "file": entry.file,
                "role": entry.role,
                "subject": entry.certificate.raw.subject.rfc4514_string(),
                "issuer": entry.certificate.raw.issuer.rfc4514_string(),
                "serial": f"{entry.certificate.raw.serial_number:032x}",
                "names": sorted(entry.certificate.names),
                "notBefore": entry.certificate.not_before.isoformat(),
                "notAfter": entry.certificate.not_after.isoformat(),
                "sha256": entry.certificate.fingerprint,
            }
            for entry in found
        ]
        print(json.dumps(rows, indent=2))
        return OK
    for entry in found:
        certificate = entry.certificate
        left = certificate.not_after - now
        state = f"{_span(left)} left" if left > timedelta() else f"EXPIRED {_span(-left)} ago"
        print(f"{entry.file}  {entry.role}  {certificate.raw.subject.rfc4514_string()}")
        print(f"    issuer   {certificate.raw.issuer.rfc4514_string()}")
        if certificate.names:
            print(f"    names    {', '.join(sorted(certificate.names))}")
        print(f"    valid    {certificate.not_before:%Y-%m-%d %H:%M} to {certificate.not_after:%Y-%m-%d %H:%M} UTC: {state}")
        print(f"    sha256   {certificate.fingerprint}")
    return OK


def _check(args: argparse.Namespace) -> int:
    found = checks.findings(_files(args.dir), now=datetime.now(UTC), within=args.within, names=args.name)
    for finding in found:
        print(f"{'error' if finding.fatal else 'warning'}: {args.dir}: {finding.text}", file=sys.stderr)
    if not found:
        print(f"{args.dir}: fine, and for the next {_span(args.within)}")
    return WRONG if found else OK


def _files(directory: Path) -> dict[str, bytes]:
    files = store.read(directory)
    if not files:
        raise StoreError(f"{directory} holds no certificates; expected {store.CERT_FILE}, {store.KEY_FILE} and perhaps {store.CA_FILE}")
    return files


def _span(time: timedelta) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if time.total_seconds() >= 2 * size:
            return f"{time.total_seconds() // size:.0f} {unit}"
    return f"{time.total_seconds():.0f} seconds"
