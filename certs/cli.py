"""`podgrace certs ...`: argv in, text and an exit code out.

| exit | meaning                                                      |
|------|--------------------------------------------------------------|
| 0    | done; nothing is wrong                                       |
| 1    | a certificate can't be used, or expires too soon (`check`);  |
|      | a directory or the API does not do what was asked            |
| 2    | wrong arguments                                              |

With --dir, `show` and `check` look at a directory; without, at the cluster.
"""

import argparse
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from certs import checks, metrics, records, store, survey
from certs.authority import CA_LIFE, LEAF_LIFE, general_names, service_names
from certs.errors import ApiConflict, BadMaterial, BadName, CertificateError, StoreError
from certs.kubernetes import Ask, Client, Server
from certs.local import ephemeral
from certs.manager import Manager, Settings
from certs.rotation import Policy

OK, WRONG, USAGE = range(3)
CONFLICTS = 10
SHORTEST: Final = timedelta(minutes=1)
"""Below this, a certificate could end between two looks."""
LONGEST_POLL: Final = timedelta(minutes=5)

TLS_TYPES: Final = ("self-managed", "cert-manager", "provided")
RELEASE, CA_SECRET = "podgrace", "podgrace-ca"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Reach(Protocol):
    """A way to the API with its own options, for callers that are not in a Pod.

    The webhook's command line brings one.
    """

    def add_options(self, made: argparse.ArgumentParser) -> None:
        """Add the options that choose a cluster, --namespace not among them."""
        ...

    def ask(self, args: argparse.Namespace) -> Ask:
        """Choose the way to the API."""
        ...


class InPod:
    """The way of a Pod, and of `kubectl proxy`: an address, a token, an authority."""

    def add_options(self, made: argparse.ArgumentParser) -> None:
        """Add --api and the options that go with it."""
        api_options(made)

    def ask(self, args: argparse.Namespace) -> Ask:
        """Use what is given, and for the rest what the kubelet gives to every Pod."""
        return Server.of(args.api, args.api_token, args.api_ca)


def add_parser(subparsers: Any, reach: Reach | None = None) -> None:
    """Add `certs` and its commands.

    Each sets `func`, which takes the arguments and returns the exit code. `reach`: how `show`,
    `check` and `renew` reach the cluster; `run` does so as a Pod.
    """
    reach = reach or InPod()
    text = "Make, inspect and rotate the certificates of the webhook."
    commands = subparsers.add_parser("certs", description=text, allow_abbrev=False).add_subparsers(
        metavar="COMMAND", required=True
    )
    _add_init(commands)
    _add_show(commands, reach)
    _add_check(commands, reach)
    _add_run(commands)
    _add_renew(commands, reach)


def _add_init(commands: Any) -> None:
    text = "Write certificates of a throw-away authority into a directory, for use on one machine."
    made = _command(commands, "init", _init, text)
    _directory(made)
    made.add_argument(
        "--name",
        action="append",
        required=True,
        type=_name,
        metavar="NAME",
        help="DNS name or IP address to serve; may be repeated",
    )


def _add_show(commands: Any, reach: Reach) -> None:
    text = "List the certificates of a directory (--dir), or of the cluster."
    made = _command(commands, "show", _show, text)
    _directory(made, required=False)
    _cluster(made, reach)
    made.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _add_check(commands: Any, reach: Reach) -> None:
    text = (
        "Exit 1 and say why if the certificates of a directory (--dir), or of the cluster, can't "
        "be served, or expire soon."
    )
    made = _command(commands, "check", _check, text)
    _directory(made, required=False)
    _cluster(made, reach)
    made.add_argument(
        "--within",
        type=duration,
        default=timedelta(days=7),
        metavar="TIME",
        help="how soon counts as soon, such as 12h or 7d (default: 7d)",
    )
    _names_option(
        made, "name that must be covered; may be repeated (default: in the cluster, the Service's)"
    )
    made.add_argument(
        "--wait",
        type=duration,
        default=timedelta(),
        metavar="TIME",
        help="check again until nothing is wrong, for up to this time",
    )
    made.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _add_run(commands: Any) -> None:
    text = "Keep a Deployment's certificates valid until stopped: beside the webhook, in each Pod."
    made = _command(commands, "run", _run, text)
    for option, help_ in (
        ("--namespace", "namespace of the webhook"),
        ("--ca-secret", "Secret of the authority; must exist, may be empty"),
        ("--service", "Service by which the API server calls the webhook"),
        (
            "--webhook-configuration",
            "MutatingWebhookConfiguration in which caBundle is kept up to date",
        ),
        ("--secret", "Secret of the serving certificate; must exist, may be empty"),
        ("--lease", "Lease of the replica that renews; must exist, may be empty"),
    ):
        made.add_argument(option, required=True, metavar="NAME", help=help_)
    _reached(made, InPod())
    _names_option(made, "another name to serve, such as the webhook URL's; may be repeated")
    made.add_argument(
        "--cluster-domain",
        default="cluster.local",
        metavar="DOMAIN",
        help="domain of Services (default: cluster.local)",
    )
    for option, default, help_ in (
        ("--leaf-life", LEAF_LIFE, "life of a serving certificate (default: 60d)"),
        ("--ca-life", CA_LIFE, "life of an authority (default: 1825d)"),
        (
            "--trust-wait",
            timedelta(minutes=5),
            "how long a new authority is published before it signs certificates (default: 5m)",
        ),
        ("--poll", timedelta(seconds=10), "time between two checks (default: 10s)"),
    ):
        made.add_argument(option, type=duration, default=default, metavar="TIME", help=help_)
    made.add_argument(
        "--metrics-port",
        type=_port,
        default=0,
        metavar="PORT",
        help="HTTP port of /metrics, /healthz and /startz (default: 0, none)",
    )


def _add_renew(commands: Any, reach: Reach) -> None:
    text = "Ask for a new serving certificate, or a new authority, before it is due."
    made = _command(commands, "renew", _renew, text)
    _namespace(made)
    made.add_argument(
        "--ca-secret",
        default=CA_SECRET,
        metavar="NAME",
        help=f"Secret of the authority (default: {CA_SECRET})",
    )
    _reached(made, reach)
    made.add_argument(
        "--authority",
        action="store_true",
        help="renew the authority as well; its serving certificates follow within minutes",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run `certs` alone; returns the exit code."""
    top = argparse.ArgumentParser(prog="podgrace", allow_abbrev=False)
    add_parser(top.add_subparsers(metavar="COMMAND", required=True))
    args = top.parse_args(["certs", *(sys.argv[1:] if argv is None else argv)])
    try:
        return int(args.func(args))
    except BrokenPipeError:
        sys.stderr.close()
        return OK
    except KeyboardInterrupt:
        return 130


def duration(text: str) -> timedelta:
    """Read a time such as 90s, 15m, 12h or 60d."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII):
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    raise argparse.ArgumentTypeError(
        f"{text!r}: accepted: a whole number and s, m, h or d, such as 90s or 60d"
    )


def _command(
    commands: Any, name: str, func: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, allow_abbrev=False
    )
    made.set_defaults(func=_told(func), parser=made)
    return made


def _directory(made: argparse.ArgumentParser, *, required: bool = True) -> None:
    made.add_argument(
        "--dir",
        required=required,
        type=Path,
        metavar="DIR",
        help=f"holds {store.CERT_FILE}, {store.KEY_FILE} and {store.CA_FILE}",
    )


def _names_option(made: argparse.ArgumentParser, text: str) -> None:
    made.add_argument("--name", action="append", default=[], type=_name, metavar="NAME", help=text)


def _namespace(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "-n",
        "--namespace",
        default=RELEASE,
        metavar="NAME",
        help=f"namespace of the webhook (default: {RELEASE})",
    )


def _cluster(made: argparse.ArgumentParser, reach: Reach) -> None:
    """Take the objects by name; the defaults are the names that the chart gives."""
    _namespace(made)
    made.add_argument(
        "--tls",
        choices=TLS_TYPES,
        default=TLS_TYPES[0],
        help=f"the chart's tls.type (default: {TLS_TYPES[0]})",
    )
    made.add_argument(
        "--release",
        default=RELEASE,
        metavar="NAME",
        help=f"full name of the release; begins the others (default: {RELEASE})",
    )
    made.add_argument("--service", metavar="NAME", help="Service of the webhook (default: RELEASE)")
    made.add_argument(
        "--secret", metavar="NAME", help="Secret of the serving certificate (default: RELEASE-tls)"
    )
    made.add_argument(
        "--ca-secret", metavar="NAME", help="Secret of the authority (default: RELEASE-ca)"
    )
    made.add_argument(
        "--lease", metavar="NAME", help="Lease of the replica that renews (default: RELEASE-certs)"
    )
    configuration = (
        "MutatingWebhookConfiguration (default: RELEASE, or RELEASE-NAMESPACE where the two differ)"
    )
    made.add_argument("--webhook-configuration", metavar="NAME", help=configuration)
    _reached(made, reach)


def _reached(made: argparse.ArgumentParser, reach: Reach) -> None:
    reach.add_options(made)
    made.set_defaults(reach=reach)


def api_options(made: argparse.ArgumentParser) -> None:
    """Add the options that name an API server and say how to connect."""
    made.add_argument(
        "--api",
        metavar="URL",
        help="API server (default: the cluster's); http://127.0.0.1:8001 beside `kubectl proxy`",
    )
    made.add_argument(
        "--api-token", type=Path, metavar="FILE", help="token for it (default: the Pod's)"
    )
    made.add_argument(
        "--api-ca",
        type=Path,
        metavar="FILE",
        help="authority of its certificate (default: the Pod's)",
    )


def _client(args: argparse.Namespace) -> Client:
    return Client(args.reach.ask(args), args.namespace)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: 0 to 65535")


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
    print(
        f"wrote {store.CERT_FILE}, {store.KEY_FILE} and {store.CA_FILE} for "
        f"{', '.join(args.name)} to {args.dir}"
    )
    print(f"To trust them: curl --cacert {args.dir / store.CA_FILE} ...")
    return OK


def _run(args: argparse.Namespace) -> int:
    policy = Policy(
        names=(*service_names(args.service, args.namespace, args.cluster_domain), *args.name),
        leaf_life=args.leaf_life,
        ca_life=args.ca_life,
        trust_wait=args.trust_wait,
    )
    settings = Settings(
        ca_secret=args.ca_secret,
        secret=args.secret,
        lease=args.lease,
        webhook_configuration=args.webhook_configuration,
        # A restarted container is not the one that held the Lease before: that one may have been
        # cut off in the middle of a write.
        identity=f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}",
        policy=policy,
        poll=args.poll.total_seconds(),
    )
    general_names(policy.names)
    if problem := _impossible(policy, args.poll):
        print(f"podgrace: {problem}", file=sys.stderr)
        return USAGE
    manager = Manager(settings, _client(args), _report)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = (
            metrics.listen(manager.figures, "", args.metrics_port) if args.metrics_port else None
        )
    except OSError as error:
        print(
            f"podgrace: can't listen on --metrics-port {args.metrics_port}: {error.strerror}",
            file=sys.stderr,
        )
        return WRONG
    _report(
        "started",
        identity=settings.identity,
        names=policy.names,
        leafLife=_span(policy.leaf_life),
        caLife=_span(policy.ca_life),
    )
    manager.run(stop)
    if server is not None:
        server.shutdown()
        server.server_close()
    _report("stopped")
    return OK


def _impossible(policy: Policy, poll: timedelta) -> str | None:
    """Say which times do not fit together."""
    if policy.leaf_life < SHORTEST:
        return f"--leaf-life is {_span(policy.leaf_life)}; accepted: {_span(SHORTEST)} or more"
    if policy.ca_life < 3 * policy.leaf_life:
        return (
            f"--ca-life is {_span(policy.ca_life)};"
            f" accepted: at least three times --leaf-life, which is {_span(policy.leaf_life)}"
        )
    if policy.trust_wait > policy.ca_life / 6:
        return (
            f"--trust-wait is {_span(policy.trust_wait)};"
            f" accepted: at most a sixth of --ca-life, which is {_span(policy.ca_life)}"
        )
    if not timedelta(seconds=1) <= poll <= LONGEST_POLL:
        return f"--poll is {_span(poll)}; accepted: 1s to 5m"
    return None


def _renew(args: argparse.Namespace) -> int:
    client = _client(args)
    for _ in range(CONFLICTS):
        secret = client.secret(args.ca_secret)
        # By the API server's clock, like whoever acts on it: this machine may be a laptop.
        now = (datetime.now(UTC) + client.skew).replace(microsecond=0)
        stored = records.read_authorities(secret.data)
        if stored.signer is None:
            raise BadMaterial(
                f"Secret {args.ca_secret} in {args.namespace} holds no authority yet: is "
                "`podgrace certs run` running?"
            )
        wish = replace(
            stored,
            renew_leaf_before=now,
            renew_authority_before=now if args.authority else stored.renew_authority_before,
        )
        try:
            client.save_secret(secret, records.write_authorities(wish))
        except ApiConflict:
            continue
        what = (
            "the authority and then the serving certificate"
            if args.authority
            else "the serving certificate"
        )
        print(f"asked for; `podgrace certs run` renews {what} at its next look, and logs it")
        return OK
    raise ApiConflict(
        f"Secret {args.ca_secret} in {args.namespace} changed {CONFLICTS} times while we tried to "
        "write it"
    )


def _report(event: str, /, **fields: object) -> None:
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": event,
        **fields,
    }
    print(json.dumps(line, default=str), flush=True)


def _names(args: argparse.Namespace) -> survey.Names:
    ours, release = args.tls == TLS_TYPES[0], args.release
    configuration = release if release == args.namespace else f"{release}-{args.namespace}"
    return survey.Names(
        service=args.service or release,
        secret=args.secret or f"{release}-tls",
        webhook_configuration=args.webhook_configuration or configuration,
        ca_secret=(args.ca_secret or f"{release}-ca") if ours else "",
        lease=(args.lease or f"{release}-certs") if ours else "",
    )


def _show(args: argparse.Namespace) -> int:
    problems: list[str] = []
    if args.dir is not None:
        found = checks.entries(_files(args.dir))
    else:
        seen = survey.look(_client(args), _names(args))
        found, problems = survey.certificates(seen), survey.problems(seen)
    if args.output == "json":
        print(json.dumps([_row(entry) for entry in found], indent=2))
    else:
        _print(found)
    for problem in problems:
        print(f"podgrace: {problem}", file=sys.stderr)
    return WRONG if problems else OK


def _row(entry: checks.Entry) -> dict[str, Any]:
    certificate = entry.certificate
    return {
        "file": entry.file,
        "role": entry.role,
        "subject": certificate.raw.subject.rfc4514_string(),
        "issuer": certificate.raw.issuer.rfc4514_string(),
        "serial": f"{certificate.raw.serial_number:032x}",
        "names": sorted(certificate.names),
        "notBefore": certificate.not_before.isoformat(),
        "notAfter": certificate.not_after.isoformat(),
        "sha256": certificate.fingerprint,
    }


def _print(found: list[checks.Entry]) -> None:
    now = datetime.now(UTC)
    for entry in found:
        certificate = entry.certificate
        left = certificate.not_after - now
        state = f"{_span(left)} left" if left > timedelta() else f"EXPIRED {_span(-left)} ago"
        print(f"{entry.file}  {entry.role}  {certificate.raw.subject.rfc4514_string()}")
        print(f"    issuer   {certificate.raw.issuer.rfc4514_string()}")
        if certificate.names:
            print(f"    names    {', '.join(sorted(certificate.names))}")
        print(
            f"    valid    {certificate.not_before:%Y-%m-%d %H:%M}"
            f" to {certificate.not_after:%Y-%m-%d %H:%M} UTC: {state}"
        )
        print(f"    sha256   {certificate.fingerprint}")
    if not found:
        print("no certificate")


def _check(args: argparse.Namespace) -> int:
    end = time.monotonic() + args.wait.total_seconds()
    while True:
        lines = _lines(args)
        wrong = any(line.level != "ok" for line in lines)
        if not wrong or time.monotonic() >= end:
            break
        time.sleep(1)
    if args.output == "json":
        print(
            json.dumps(
                [{"level": line.level, "about": line.about, "text": line.text} for line in lines],
                indent=2,
            )
        )
        return WRONG if wrong else OK
    for line in lines:
        print(
            f"{line.level}: {line.about}: {line.text}",
            file=sys.stdout if line.level == "ok" else sys.stderr,
        )
    return WRONG if wrong else OK


def _lines(args: argparse.Namespace) -> list[survey.Line]:
    """Look once at the directory or the cluster."""
    if args.dir is None:
        names = _names(args)
        covered = args.name or [f"{names.service}.{args.namespace}.svc"]
        return survey.judge(survey.look(_client(args), names), within=args.within, covered=covered)
    about = str(args.dir)
    try:
        found = checks.findings(
            _files(args.dir), now=datetime.now(UTC), within=args.within, names=args.name
        )
    except StoreError as error:
        return [survey.Line("error", about, str(error))]
    lines = [survey.Line("error" if item.fatal else "warning", about, item.text) for item in found]
    return lines or [survey.Line("ok", about, f"fine, also for the next {_span(args.within)}")]


def _files(directory: Path) -> dict[str, bytes]:
    try:
        files = store.read(directory)
    except OSError as error:
        raise StoreError(f"can't read {error.filename or directory}: {error.strerror}") from error
    if not files:
        raise StoreError(
            f"{directory} holds no certificates; expected {store.CERT_FILE}, {store.KEY_FILE}"
            f" and perhaps {store.CA_FILE}"
        )
    return files


def _span(time: timedelta) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if time.total_seconds() >= 2 * size:
            return f"{time.total_seconds() // size:.0f} {unit}"
    return f"{time.total_seconds():.0f} seconds"
