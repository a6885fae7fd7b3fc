"""The settings of `podgrace serve`, from flags and environment."""

from ipaddress import IPv4Network, IPv6Network
from typing import Literal

import msgspec

from webhook.server.limits import Limits


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Each is a flag of `podgrace serve`; docs/server.md has the table."""

    host: str = ""
    """Every address."""
    port: int = 8443
    cert: str
    key: str
    ca: str | None = None
    service_name: str = ""
    """Name by which API servers call; a certificate for another name is not served. Empty: any."""
    plain_host: str = ""
    plain_port: int = 9090
    drain_seconds: float = 15.0
    failure_policy: Literal["Ignore", "Fail"] = "Ignore"
    connections: int = Limits().connections
    tls_min_version: Literal["1.2", "1.3"] = "1.2"
    client_ca: str | None = None
    client_names: tuple[str, ...] = ()
    api_servers: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks whose connections are never closed to make room."""
