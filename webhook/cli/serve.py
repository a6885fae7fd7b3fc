"""`podgrace serve`: the webhook itself, until it is stopped.

In: options, each with its environment variable. Out: a running server, and its exit code. The
server is `webhook.server`; no other command's libraries are loaded, since it runs for months.
"""

import argparse
import math
import os
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from webhook.cli.arguments import add_config, command, config, port
from webhook.cli.exits import Unusable


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    made = command(commands, "serve", run, "Serve the webhook until stopped.")
    add_config(made)
    add, env = made.add_argument, os.environ.get
    add(
        "--host",
        default=env("PODGRACE_HOST", ""),
        help="address of both listeners; default: all (env PODGRACE_HOST)",
    )
    add(
        "--port",
        type=port,
        default=env("PODGRACE_PORT", "8443"),
        help="HTTPS port of POST /mutate (env PODGRACE_PORT)",
    )
    add(
        "--plain-port",
        type=port,
        default=env("PODGRACE_PLAIN_PORT", "9090"),
        help="HTTP port of /livez, /readyz, /metrics (env PODGRACE_PLAIN_PORT)",
    )
    add(
        "--cert-dir",
        default=env("PODGRACE_CERT_DIR", "/tls"),
        metavar="DIR",
        help="directory with tls.crt, tls.key and maybe ca.crt (env PODGRACE_CERT_DIR)",
    )
    add(
        "--drain-seconds",
        type=_between(0, 3600),
        default=env("PODGRACE_DRAIN_SECONDS", "15"),
        metavar="SECONDS",
        help="after TERM, serve this long, unready and closing connections "
        "(env PODGRACE_DRAIN_SECONDS; default 15)",
    )
    add(
        "--failure-policy",
        type=_word("Ignore", "Fail"),
        default=env("PODGRACE_FAILURE_POLICY", "Ignore"),
        metavar="{Ignore,Fail}",
        help="as in the webhook configuration: an overloaded server allows with a warning, "
        "or answers 503 (env PODGRACE_FAILURE_POLICY)",
    )
    add(
        "--max-connections",
        type=_between(8, 65536),
        default=env("PODGRACE_MAX_CONNECTIONS", "4096"),
        metavar="N",
        help="connections to the HTTPS port at a time (env PODGRACE_MAX_CONNECTIONS; default 4096)",
    )
    add(
        "--service-name",
        default=env("PODGRACE_SERVICE_NAME", ""),
        metavar="NAME",
        help="DNS name by which API servers call; a certificate for another name is not served "
        "(env PODGRACE_SERVICE_NAME; default: any)",
    )
    add(
        "--api-servers",
        type=_networks,
        default=env("PODGRACE_API_SERVERS", ""),
        metavar="CIDR,...",
        help="addresses of API servers: their connections are never closed to make room "
        "(env PODGRACE_API_SERVERS)",
    )
    add(
        "--tls-min-version",
        type=_word("1.2", "1.3"),
        default=env("PODGRACE_TLS_MIN_VERSION", "1.2"),
        metavar="{1.2,1.3}",
        help="oldest TLS version to accept (env PODGRACE_TLS_MIN_VERSION)",
    )
    add(
        "--client-ca",
        default=env("PODGRACE_CLIENT_CA") or None,
        metavar="FILE",
        help="serve only clients with a certificate of this CA: API servers that are set up to "
        "show one (env PODGRACE_CLIENT_CA)",
    )
    add(
        "--client-names",
        type=_names,
        default=env("PODGRACE_CLIENT_NAMES", ""),
        metavar="NAME,...",
        help="and only with one of these names in it: common name, DNS or URI "
        "(env PODGRACE_CLIENT_NAMES)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve. Raises `Unusable` where options do not fit together."""
    # 20 MB that help does not need.
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
        raise Unusable(
            "--client-names: needs --client-ca, which says whose certificates are believed"
        )
    return serve(config(args), options)


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
