"""The command `podgrace`: argv in, text and an exit code out.

| exit | meaning                                                            |
|------|--------------------------------------------------------------------|
| 0    | done                                                               |
| 1    | the input, the configuration or a certificate cannot be used       |
| 2    | wrong arguments                                                    |
| 3    | `inject --check`: something is not injected as it would be;        |
|      | `audit`: a Pod slipped through; `prove`: requests were lost;       |
|      | `plan --diff`: something is worse than it was                      |
| 4    | a bug of podgrace's own                                            |

Errors are one line on standard error that names the thing, the place and what is accepted. No
traceback reaches a user. Subcommands live in modules of their own; `certs` brings its own.
"""

import argparse
import gc
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import msgspec

from webhook import __version__
from webhook.cli import audit, manifests, show, workloads
from webhook.cli.exits import BUG, OK, UNUSABLE, Unusable
from webhook.config import Config, ConfigError, load


def parser(first: str = "") -> argparse.ArgumentParser:
    """Build the command line.

    `first`: its first word, if known: the server runs for months without the others' libraries.
    """
    top = argparse.ArgumentParser(
        prog="podgrace",
        description="Rolling updates of any Kubernetes workload without one lost request.",
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, func: Any, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=text, allow_abbrev=False
        )
        made.set_defaults(func=func)
        return made

    def config_option(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--config",
            default=os.environ.get("PODGRACE_CONFIG"),
            metavar="FILE",
            help="configuration (env PODGRACE_CONFIG)",
        )

    def file_option(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "-f",
            "--filename",
            required=True,
            metavar="FILE",
            help="manifest with one or more documents; - is standard input",
        )

    run = command("serve", _serve, "Serve the webhook until stopped.")
    config_option(run)
    env = os.environ.get
    run.add_argument(
        "--host",
        default=env("PODGRACE_HOST", ""),
        help="address of both listeners; default: all (env PODGRACE_HOST)",
    )
    run.add_argument(
        "--port",
        type=_port,
        default=env("PODGRACE_PORT", "8443"),
        help="HTTPS port of POST /mutate (env PODGRACE_PORT)",
    )
    run.add_argument(
        "--plain-port",
        type=_port,
        default=env("PODGRACE_PLAIN_PORT", "9090"),
        help="HTTP port of /livez, /readyz, /metrics (env PODGRACE_PLAIN_PORT)",
    )
    run.add_argument(
        "--cert-dir",
        default=env("PODGRACE_CERT_DIR", "/tls"),
        metavar="DIR",
        help="holds tls.crt, tls.key and perhaps ca.crt (env PODGRACE_CERT_DIR)",
    )
    run.add_argument(
        "--drain-seconds",
        type=_between(0, 3600),
        default=env("PODGRACE_DRAIN_SECONDS", "15"),
        metavar="SECONDS",
        help="after TERM, serve this long, unready and closing connections "
        "(env PODGRACE_DRAIN_SECONDS; default 15)",
    )
    run.add_argument(
        "--failure-policy",
        type=_word("Ignore", "Fail"),
        default=env("PODGRACE_FAILURE_POLICY", "Ignore"),
        metavar="{Ignore,Fail}",
        help="that of the webhook configuration: an overloaded server allows with a warning, "
        "or answers 503 (env PODGRACE_FAILURE_POLICY)",
    )
    run.add_argument(
        "--max-connections",
        type=_between(8, 65536),
        default=env("PODGRACE_MAX_CONNECTIONS", "4096"),
        metavar="N",
        help="connections to the HTTPS port at a time (env PODGRACE_MAX_CONNECTIONS; default 4096)",
    )
    run.add_argument(
        "--service-name",
        default=env("PODGRACE_SERVICE_NAME", ""),
        metavar="NAME",
        help="DNS name by which API servers call; a certificate for another name is not served "
        "(env PODGRACE_SERVICE_NAME; default: any)",
    )
    run.add_argument(
        "--api-servers",
        type=_networks,
        default=env("PODGRACE_API_SERVERS", ""),
        metavar="CIDR,...",
        help="addresses of API servers: their connections are never closed to make room "
        "(env PODGRACE_API_SERVERS)",
    )
    run.add_argument(
        "--tls-min-version",
        type=_word("1.2", "1.3"),
        default=env("PODGRACE_TLS_MIN_VERSION", "1.2"),
        metavar="{1.2,1.3}",
        help="oldest TLS version that is spoken (env PODGRACE_TLS_MIN_VERSION)",
    )
    run.add_argument(
        "--client-ca",
        default=env("PODGRACE_CLIENT_CA") or None,
        metavar="FILE",
        help="serve only clients with a certificate of this CA: API servers that are set up to "
        "show one (env PODGRACE_CLIENT_CA)",
    )
    run.add_argument(
        "--client-names",
        type=_names,
        default=env("PODGRACE_CLIENT_NAMES", ""),
        metavar="NAME,...",
        help="and only with one of these names in it: common name, DNS or URI "
        "(env PODGRACE_CLIENT_NAMES)",
    )

    made = command(
        "inject", _file(workloads.inject), "Write manifests as the webhook would admit them."
    )
    file_option(made)
    config_option(made)
    made.add_argument("--diff", action="store_true", help="show what would change instead")
    made.add_argument(
        "--check", action="store_true", help="write nothing; exit 3 if anything would change"
    )

    made = command(
        "uninject",
        _file(workloads.uninject),
        "Take everything of podgrace's out of manifests again.",
    )
    file_option(made)
    config_option(made)
    made.add_argument("--diff", action="store_true", help="show what would change instead")

    made = command(
        "explain",
        _file(workloads.explain),
        "Say for every container what would be done, why, and what would change it.",
    )
    file_option(made)
    config_option(made)
    made.add_argument("-o", "--output", choices=("table", "json"), default="table")

    made = command(
        "audit",
        _file(audit.run),
        "List Pods that are opted in and slipped through, from the output of"
        " `kubectl get namespaces,pods -A -o json`.",
    )
    file_option(made)
    config_option(made)
    made.add_argument("-o", "--output", choices=("table", "json"), default="table")

    made = command("profiles", _profiles, "List the servers that podgrace knows how to stop.")
    config_option(made)
    made.add_argument("-o", "--output", choices=("table", "json"), default="table")

    command("version", _version, "Print the version.")
    if first != "serve":
        # 10 MB of cryptography.
        from certs.cli import add_parser as add_certs_parser  # noqa: PLC0415
        from webhook.cli import check, demo, prove, survey  # noqa: PLC0415

        made = command(
            "demo",
            demo.run,
            "Serve once with throw-away certificates and show what happens to a sample Pod.",
        )
        config_option(made)
        survey.add_parser(commands)
        prove.add_parser(commands)
        check.add_parser(commands)
        add_certs_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    args = parser(words[0] if words else "").parse_args(words)
    try:
        return int(args.func(args))
    except (ConfigError, manifests.ManifestError, Unusable) as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader has what it wanted; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        return _fail(f"{error.filename or 'podgrace'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        frame = traceback.extract_tb(error.__traceback__)[-1]
        _fail(
            f"a bug of podgrace's own, please report it: {type(error).__name__}"
            f" in {frame.name}, line {frame.lineno}"
        )
        return BUG


def _fail(message: str) -> int:
    print(f"podgrace: {message}", file=sys.stderr)
    return UNUSABLE


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: 0 to 65535")


def _between(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: {low:g} to {high:g}")

    return parse


def _word(*accepted: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text in accepted:
            return text
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: {', '.join(accepted)}")

    return parse


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(part) for part in _names(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: accepted: addresses or networks such as 10.0.0.1, 10.0.0.0/28: {error}"
        ) from error


def _config(args: argparse.Namespace) -> Config:
    return load(args.config)


def _file(
    run: Callable[[argparse.Namespace, str, str, Config], int],
) -> Callable[[argparse.Namespace], int]:
    """Give a command the text that -f names, exactly as it is there, and the configuration."""

    def command(args: argparse.Namespace) -> int:
        config = _config(args)
        where = "standard input" if args.filename == "-" else args.filename
        data = sys.stdin.buffer.read() if args.filename == "-" else Path(args.filename).read_bytes()
        # Trees of a million nodes and not one cycle: looking for some takes a third of the time.
        gc.disable()
        try:
            return run(args, data.decode(), where, config)
        except UnicodeDecodeError as error:
            raise manifests.ManifestError(f"{where}: not UTF-8 at byte {error.start}") from error
        except UnicodeEncodeError as error:
            raise manifests.ManifestError(
                f"{where}: half a surrogate pair, which no text can hold"
            ) from error
        finally:
            gc.enable()

    return command


def _serve(args: argparse.Namespace) -> int:
    # 20 MB that `certs run`, which runs beside it for months, does not need.
    from webhook.server import ServeOptions, serve  # noqa: PLC0415

    directory = Path(args.cert_dir)
    ca = directory / "ca.crt"
    options = ServeOptions(
        host=args.host,
        port=args.port,
        cert=str(directory / "tls.crt"),
        key=str(directory / "tls.key"),
        ca=str(ca),
        plain_host=args.host,
        plain_port=args.plain_port,
        drain_seconds=args.drain_seconds,
        failure_policy=args.failure_policy,
        connections=int(args.max_connections),
        tls_min_version=args.tls_min_version,
        client_ca=args.client_ca,
        client_names=args.client_names,
        service_name=args.service_name,
        api_servers=args.api_servers,
    )
    if options.client_names and not options.client_ca:
        return _fail(
            "--client-names: needs --client-ca, which says whose certificates are believed"
        )
    return serve(_config(args), options)


def _profiles(args: argparse.Namespace) -> int:
    profiles = _config(args).operator.profiles.by_name.values()
    if args.output == "json":
        print(msgspec.json.format(msgspec.json.encode(list(profiles)), indent=2).decode())
        return OK
    rows = [
        (
            p.name,
            p.signal,
            "nothing" if not p.observe else "connections" if p.finishes else "requests",
            f"{p.patience} s" if p.patience else "as before",
            ", ".join(p.match) or "-",
            p.caveat,
        )
        for p in profiles
    ]
    print(show.table(("NAME", "SIGNAL", "WAITS FOR", "PATIENCE", "SEEN AS", "CAVEAT"), rows))
    return OK


def _version(_: argparse.Namespace) -> int:
    print(f"podgrace {__version__}")
    return OK
