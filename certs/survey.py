"""The webhook's certificates in the cluster, seen from outside, and what is wrong with them.

In: the API's answers. Out: lines for a person, good news too. Nothing is written, and one object
that can't be read does not hide the others. What is wrong in one directory belongs to
`certs.checks`; what to do about it, to `certs.rotation`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from certs import checks, records, rotation, store
from certs.authority import Certificate, load_bundle
from certs.errors import ApiError, ApiMissing, CertificateError
from certs.kubernetes import Client, Json, Webhooks
from certs.manager import SKEW_LIMIT

OVERDUE: Final = timedelta(hours=1)
"""How late a renewal must be before we tell a person. It takes seconds."""
SILENT: Final = timedelta(minutes=5)
"""How long a Lease may go without a renewal. A failing holder waits up to two and a half minutes
between two looks."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Names:
    """Which objects to look at. Empty `ca_secret` or `lease`: cert-manager or the like renews."""

    service: str
    secret: str
    webhook_configuration: str
    ca_secret: str = ""
    lease: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One result. `level` is ok, warning, or error: calls of the webhook fail, or soon will."""

    level: str
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What was read; an error in place of an object that can't be read."""

    names: Names
    now: datetime
    """The API server's time."""
    skew: timedelta
    files: dict[str, bytes] | CertificateError
    webhooks: Webhooks | CertificateError
    authorities: records.Authorities | CertificateError | None = None
    lease: Json | CertificateError | None = None


def look(
    client: Client, names: Names, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Survey:
    """Read everything once."""
    files = _tried(lambda: client.secret(names.secret).data)
    webhooks = _tried(lambda: client.webhooks(names.webhook_configuration))
    authorities = (
        _tried(lambda: records.read_authorities(client.secret(names.ca_secret).data))
        if names.ca_secret
        else None
    )
    lease = _tried(lambda: client.lease(names.lease)) if names.lease else None
    return Survey(names, clock() + client.skew, client.skew, files, webhooks, authorities, lease)


def certificates(survey: Survey) -> list[checks.Entry]:
    """List every certificate there is, and where."""
    found: list[checks.Entry] = []
    names = survey.names
    if isinstance(survey.authorities, records.Authorities):
        for role, authority in (
            ("signer", survey.authorities.signer),
            ("next", survey.authorities.next),
        ):
            if authority is not None:
                found.append(checks.Entry(f"Secret {names.ca_secret}", role, authority.certificate))
        found += [
            checks.Entry(f"Secret {names.ca_secret}", "retired", item.certificate)
            for item in survey.authorities.retired
        ]
    if isinstance(survey.files, dict):
        found += [
            checks.Entry(f"Secret {names.secret} {e.file}", e.role, e.certificate)
            for e in checks.entries(survey.files)
        ]
    if isinstance(survey.webhooks, Webhooks):
        for entry, bundle in survey.webhooks.bundles.items():
            found += [
                checks.Entry(f"webhook {entry}", "trusted", item) for item in load_bundle(bundle)
            ]
    return found


def problems(survey: Survey) -> list[str]:
    """Say which objects can't be read."""
    found = [
        str(part)
        for part in (survey.files, survey.webhooks, survey.authorities, survey.lease)
        if isinstance(part, Exception)
    ]
    return [*found, _ELSEWHERE] if _is_elsewhere(survey) else found


def judge(survey: Survey, *, within: timedelta, covered: Iterable[str]) -> list[Line]:
    """Say what is right or wrong with each object."""
    return [
        *_clock(survey),
        *((Line("error", "release", _ELSEWHERE),) if _is_elsewhere(survey) else ()),
        *_authority(survey, within),
        *_serving(survey, within, covered),
        *_trust(survey),
        *_holder(survey),
    ]


_ELSEWHERE: Final = "none of its objects is there: are -n NAMESPACE and --release NAME right?"


def _is_elsewhere(survey: Survey) -> bool:
    """Whether the release seems to have another name or namespace."""
    return all(isinstance(part, ApiMissing) for part in (survey.files, survey.webhooks))


def _tried(read: Callable[[], T]) -> T | CertificateError:
    try:
        return read()
    except CertificateError as error:
        return error


def _clock(survey: Survey) -> Iterator[Line]:
    seconds = round(abs(survey.skew.total_seconds()))
    if all(isinstance(part, ApiError) for part in (survey.files, survey.webhooks)) and not seconds:
        return  # it never answered
    if abs(survey.skew) > SKEW_LIMIT:
        yield Line(
            "warning",
            "clock",
            f"ours and the API server's are {seconds} s apart;"
            " what follows is judged by the API server's",
        )
    else:
        yield Line("ok", "clock", "ours agrees with the API server's")


def _unreadable(about: str, error: CertificateError, *, made_by: str) -> Line:
    hint = f": {made_by} makes it" if isinstance(error, ApiMissing) else ""
    return Line("error", about, f"{error}{hint}")


def _authority(survey: Survey, within: timedelta) -> Iterator[Line]:
    about, found, now = f"Secret {survey.names.ca_secret}", survey.authorities, survey.now
    if found is None:
        return
    if isinstance(found, CertificateError):
        yield _unreadable(about, found, made_by="`helm upgrade`")
        return
    yield from (Line("error", about, problem) for problem in found.problems)
    phase = rotation.phase(found)
    if found.signer is None:
        yield Line(
            "error",
            about,
            "holds no authority: does `podgrace certs run` run, and may it write here?",
        )
    else:
        yield from _life(about, "authority", found.signer.certificate, now, within)
    if found.next is not None:
        since = found.next_trusted_since
        state = (
            f"published since {since:%Y-%m-%d %H:%M:%S} UTC; it signs when every API server knows "
            "it"
            if since
            else "not yet published"
        )
        yield Line("ok", about, f"the next authority is made, and {state}")
        if since is not None and now > since + OVERDUE + rotation.Policy(()).trust_wait:
            yield Line(
                "warning",
                about,
                f"the rotation of the authority has been waiting since {since:%Y-%m-%d %H:%M} "
                "UTC: it should go on",
            )
    if found.retired:
        last = max(item.until for item in found.retired)
        yield Line(
            "ok",
            about,
            f"{len(found.retired)} former authorities stay trusted, the last until "
            f"{last:%Y-%m-%d %H:%M} UTC",
        )
    yield Line("ok" if phase != "missing" else "warning", about, f"phase: {phase}")


def _serving(survey: Survey, within: timedelta, covered: Iterable[str]) -> Iterator[Line]:
    about, files = f"Secret {survey.names.secret}", survey.files
    if isinstance(files, CertificateError):
        yield _unreadable(about, files, made_by="`helm upgrade`, cert-manager or a person")
        return
    found = checks.findings(files, now=survey.now, within=within, names=covered)
    yield from (Line("error" if item.fatal else "warning", about, item.text) for item in found)
    leaf = next(iter(load_bundle(files.get(store.CERT_FILE, b""))), None)
    if leaf is None:
        return
    if survey.names.ca_secret and survey.now >= leaf.renew_at + OVERDUE:
        yield Line(
            "warning",
            about,
            f"should have been renewed at {leaf.renew_at:%Y-%m-%d %H:%M} UTC: see the log of "
            "`podgrace certs run`",
        )
    if not found:
        yield Line(
            "ok",
            about,
            f"serving certificate: {_left(leaf, survey.now)}, for {', '.join(sorted(leaf.names))}",
        )


def _trust(survey: Survey) -> Iterator[Line]:
    name, webhooks = survey.names.webhook_configuration, survey.webhooks
    about = f"MutatingWebhookConfiguration {name}"
    if isinstance(webhooks, CertificateError):
        yield _unreadable(about, webhooks, made_by="`helm upgrade`")
        return
    if not webhooks.bundles:
        yield Line("error", about, "has no entry: the webhook sees no Pod")
    chain = (
        load_bundle(survey.files.get(store.CERT_FILE, b""))
        if isinstance(survey.files, dict)
        else ()
    )
    for entry, bundle in webhooks.bundles.items():
        trusted = load_bundle(bundle)
        if not trusted:
            # Then the API server uses the authorities of its own machine.
            level = "error" if survey.names.ca_secret else "warning"
            yield Line(
                level, about, f"{entry}: caBundle holds no certificate ({len(bundle)} bytes)"
            )
        elif not chain:
            yield Line("ok", about, f"{entry}: caBundle holds {len(trusted)} certificates")
        elif anchor := checks.anchor(chain[0], chain[1:], trusted):
            if survey.now >= anchor.not_after:
                yield Line(
                    "error",
                    about,
                    f"{entry}: caBundle trusts the serving certificate by an authority that has "
                    "expired",
                )
            else:
                yield Line(
                    "ok",
                    about,
                    f"{entry}: caBundle ({len(trusted)} certificates) trusts the serving "
                    "certificate",
                )
        else:
            yield Line(
                "error",
                about,
                f"{entry}: caBundle ({len(trusted)} certificates) does not trust the serving "
                "certificate",
            )


def _holder(survey: Survey) -> Iterator[Line]:
    about, lease = f"Lease {survey.names.lease}", survey.lease
    if lease is None:
        return
    if isinstance(lease, CertificateError):
        yield _unreadable(about, lease, made_by="`helm upgrade`")
        return
    spec = lease.get("spec") or {}
    holder, renewed = spec.get("holderIdentity"), _time(spec.get("renewTime"))
    if not holder or renewed is None:
        yield Line("warning", about, "nobody holds it: no replica renews certificates")
    elif survey.now > renewed + SILENT:
        yield Line(
            "warning",
            about,
            f"{holder} holds it, and was last heard of at {renewed:%Y-%m-%d %H:%M:%S} UTC: nobody "
            "renews",
        )
    else:
        yield Line("ok", about, f"{holder} renews the certificates")


def _life(
    about: str, what: str, certificate: Certificate, now: datetime, within: timedelta
) -> Iterator[Line]:
    end = f"{certificate.not_after:%Y-%m-%d %H:%M:%S} UTC"
    if now >= certificate.not_after:
        yield Line("error", about, f"the {what} expired at {end}")
    elif now + within >= certificate.not_after:
        yield Line("warning", about, f"the {what} expires at {end}")
    else:
        yield Line("ok", about, f"{what}: {_left(certificate, now)}")


def _left(certificate: Certificate, now: datetime) -> str:
    days = (certificate.not_after - now) // timedelta(days=1)
    return f"{days} days left, until {certificate.not_after:%Y-%m-%d} UTC"


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
