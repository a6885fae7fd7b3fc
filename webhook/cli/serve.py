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

    def add(flag: str, default: str, text: str, shown: str = "", **more: Any) -> None:
        """Add a flag with its environment variable. `shown`: what no default means."""
        name = "PODGRACE_" + flag.removeprefix("--").replace("-", "_").upper()
        usual = f"; default: {default or shown}" if default or shown else ""
        made.add_argument(
            flag, default=os.environ.get(name, default), help=f"{text} (env {name}{usual})", **more
        )

    add("--host", "", "address of both listeners", "all")
    add("--port", "8443", "HTTPS port of POST /mutate", type=port, metavar="PORT")
    add(
        "--plain-port",
        "9090",
        "HTTP port of /livez, /readyz, /metrics",
        type=port,
        metavar="PORT",
    )
    add("--cert-dir", "/tls", "directory with tls.crt, tls.key and maybe ca.crt", metavar="DIR")
    add(
        "--drain-seconds",
        "15",
        "after TERM, serve this long, unready and closing connections",
        type=_between(0, 3600),
        metavar="SECONDS",
    )
    add(
        "--failure-policy",
        "Ignore",
        "as in the webhook configuration: an overloaded server allows with a warning, or answers"
        " 503",
        type=_word("Ignore", "Fail"),
        metavar="{Ignore,Fail}",
    )
    add(
        "--max-connections",
        "4096",
        "connections to the HTTPS port at a time",
        type=_between(8, 65536),
        metavar="N",
    )
    add(
        "--service-name",
        "",
        "DNS name by which API servers call; a certificate for another name is not served",
        "any",
        metavar="NAME",
    )
    add(
        "--api-servers",
        "",
        "addresses of API servers: their connections are never closed to make room",
        "none",
        type=_networks,
        metavar="CIDR,...",
    )
    add(
        "--tls-min-version",
        "1.2",
        "oldest TLS version to accept",
        type=_word("1.2", "1.3"),
        metavar="{1.2,1.3}",
    )
    add(
        "--client-ca",
        "",
        "serve only clients with a certificate of this CA: API servers that are set up to show one",
        "any client",
        metavar="FILE",
    )
    add(
        "--client-names",
        "",
        "and only with one of these names in it: common name, DNS or URI",
        "any name",
        type=_names,
        metavar="NAME,...",
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
        client_ca=args.client_ca or None,
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
