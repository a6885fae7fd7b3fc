"""The one way in which every command reaches a cluster.

In: the options that kubectl has too (`add_options`). Out: a `Cluster`, which reads an object, reads
lists page by page, and asks for a dry run. It goes through kubectl; in a Pod without one, it calls
the API itself as the Pod's ServiceAccount; with --api it calls that address. It keeps nothing, and
only `replace` changes anything. What an object means does not belong here.

    cluster.add_options(made, everywhere=True, selector=True)     # in add_parser
    reach = cluster.of(args)                                      # in run
    node = reach.get("/api/v1/nodes/one")
    for pod in reach.items(reach.listing("v1", "pods"), Pod, selector=args.selector): ...

Every error is a `ClusterError`, which main prints: it names the thing, the place and the remedy.
"""

import argparse
import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from webhook.cli.exits import Unusable
from webhook.cli.kubectl import Kubectl, Reply
from webhook.core.names import TOKEN_PATH

PAGE: Final = 500
"""Objects that one call reads: the API server's own advice, and what kubectl asks for."""
READ_SECONDS: Final = 60
"""Seconds for one read; a page of large Pods is some 10 MB."""
WRITE_SECONDS: Final = 40
"""Seconds for a write: it may pass through other webhooks, each of which may take 30 s."""
RESTARTS: Final = 3
"""How often to begin a list again when its page token expires (410: usually after 5 minutes)."""
AGENT: Final = "podgrace"

ACCOUNT: Final = Path(TOKEN_PATH)
"""Files of the Pod's own ServiceAccount, where this is a Pod."""
_LIST_BYTES: Final = 256 << 20
_FORBIDDEN: Final = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)?'
)

T = TypeVar("T")


class ClusterError(Unusable):
    """The cluster did not do what was asked. `status` is HTTP's, 0 if no API server answered."""

    def __init__(self, message: str, status: int = 0, told: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.told = told or message
        """The API server's own words."""


class Forbidden(ClusterError):
    """401 or 403: not logged in, or not allowed. The message says which right is missing."""


class Missing(ClusterError):
    """404: the object is not there, or the API server does not know the kind."""


class _Expired(ClusterError):
    """410: the token of a page is too old."""


class _Metadata(msgspec.Struct):
    next: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    items: list[msgspec.Raw] | None = None


class _Identified(msgspec.Struct):
    uid: str = ""


class _Item(msgspec.Struct):
    metadata: _Identified = msgspec.field(default_factory=_Identified)


def add_options(
    made: argparse.ArgumentParser,
    *,
    namespace: bool = True,
    everywhere: bool = False,
    selector: bool = False,
    api: bool = True,
) -> None:
    """Add the options that choose a cluster, and what is looked at there.

    `namespace`: -n; `everywhere`: -A; `selector`: -l. Without `api` kubectl is the only way, for
    commands that watch and attach.
    """
    group = made.add_argument_group("cluster", "As kubectl has them; they obey KUBECONFIG.")
    add = group.add_argument
    add("--kubeconfig", default="", metavar="FILE", help="configuration of kubectl")
    add("--context", default="", metavar="NAME", help="context in it (default: the current one)")
    if namespace:
        add("-n", "--namespace", default="", metavar="NAME", help="default: the context's")
    if everywhere:
        add("-A", "--all-namespaces", action="store_true", help="look at all namespaces")
    if selector:
        add("-l", "--selector", default="", metavar="LABELS", help="such as app=shop,tier!=cache")
    if not api:
        return
    add("--api", metavar="URL", help="call this API server, without kubectl")
    add("--api-token", type=Path, metavar="FILE", help="token for --api (default: the Pod's)")
    add("--api-ca", type=Path, metavar="FILE", help="authority for --api (default: the Pod's)")


def kubectl_options(args: argparse.Namespace) -> tuple[str, ...]:
    """Give the options that choose a cluster as kubectl takes them, without the namespace."""
    given = (("--kubeconfig", args.kubeconfig), ("--context", args.context))
    return tuple(f"{name}={value}" for name, value in given if value)


def of(args: argparse.Namespace) -> "Cluster":
    """Choose the way: --api, else kubectl, else the Pod's own account. Raises `ClusterError`."""
    everywhere = getattr(args, "all_namespaces", False)
    return Cluster(_way(args), args.namespace, everywhere=everywhere)


def _way(args: argparse.Namespace) -> "Way":
    options = kubectl_options(args)
    if args.api:
        return Direct(args.api, args.api_token, args.api_ca)
    if program := shutil.which("kubectl"):
        return Kubectl(program, options)
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not options:
        return Direct(None, args.api_token, args.api_ca)
    raise ClusterError(
        "no kubectl on the PATH, and this is not a Pod with a ServiceAccount: install kubectl,"
        " or start `kubectl proxy` elsewhere and give --api http://127.0.0.1:8001"
    )


class Way(Protocol):
    """How one call is made."""

    def ask(self, method: str, path: str, body: bytes | None, seconds: int) -> Reply:
        """Make one call."""
        ...

    def namespace(self) -> str:
        """Give the namespace that is meant where none is named; "" if there is none."""
        ...

    def tunnel(
        self, namespace: str, pod: str, address: str, port: int
    ) -> AbstractContextManager[tuple[str, int]]:
        """Reach a Pod's port: gives host and port. Raises OSError."""
        ...


class Direct:
    """The API itself, over HTTP: in a Pod, and for --api."""

    def __init__(self, url: str | None, token: Path | None, ca: Path | None) -> None:
        self._given = url, token, ca

    def ask(self, method: str, path: str, body: bytes | None, seconds: int) -> Reply:
        """Make one call."""
        # TLS and HTTP take 50 ms to import, and most commands go through kubectl.
        from certs.errors import ApiError  # noqa: PLC0415
        from certs.kubernetes import Server, exchange, message  # noqa: PLC0415

        try:
            answer = exchange(
                Server.of(*self._given),
                method,
                path,
                body,
                agent=AGENT,
                seconds=seconds,
                limit=_LIST_BYTES,
            )
        except ApiError as error:
            return Reply(0, told=str(error))
        if 200 <= answer.status < 300:
            return Reply(answer.status, answer.content, "", answer.warnings)
        return Reply(answer.status, b"", message(answer), answer.warnings)

    @contextlib.contextmanager
    def tunnel(
        self, _namespace: str, _pod: str, address: str, port: int
    ) -> Iterator[tuple[str, int]]:
        """Give the Pod's own address: in the cluster it can be reached."""
        if self._given[0]:
            raise OSError("--api cannot reach Pods; kubectl can")
        yield address, port

    def namespace(self) -> str:
        """Give the Pod's own, where this is a Pod."""
        try:
            return (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        except OSError:
            return ""


class Cluster:
    """A cluster. Its methods may be called from several threads: each call stands alone."""

    def __init__(self, way: Way, namespace: str = "", *, everywhere: bool = False) -> None:
        self._way = way
        self._namespace = namespace
        self.everywhere = everywhere

    @property
    def namespace(self) -> str:
        """The namespace that is meant: -n, else the context's, else `default`."""
        if not self._namespace:
            self._namespace = self._way.namespace() or "default"
        return self._namespace

    def listing(self, version: str, resource: str, *, namespaced: bool = True) -> str:
        """Give the path of a list: of our namespace, or of all with -A or without `namespaced`.

        `version` is like `v1` or `apps/v1`, `resource` a plural like `deployments`.
        """
        base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        if self.everywhere or not namespaced:
            return f"{base}/{resource}"
        return f"{base}/namespaces/{quote(self.namespace, safe='')}/{resource}"

    def get(self, path: str, kind: type[T] = dict) -> T:  # type: ignore[assignment]
        """Read what is at a path. Raises `Forbidden`, `Missing`, `ClusterError`."""
        return _decoded(self._ask("GET", path).body, kind, path)

    def items(self, path: str, kind: type[T] = dict, *, selector: str = "") -> Iterator[T]:  # type: ignore[assignment]
        """Read a list page by page; each item is parsed when it is asked for.

        Items of a list have no `kind` or `apiVersion`: the API server leaves them out. Raises as
        `get` does. If the page token expires, begins again and skips items already given.
        """
        given: set[int] = set()
        for left in reversed(range(RESTARTS)):
            try:
                yield from self._pages(path, kind, selector, given)
            except _Expired:
                if not left:
                    raise
            else:
                return

    def _pages(self, path: str, kind: type[T], selector: str, given: set[int]) -> Iterator[T]:
        """Give the items whose uid is not in `given`, and add them to it."""
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        again = bool(given)
        while True:
            try:
                reply = self._ask("GET", f"{path}?{urlencode(query)}")
            except ClusterError as error:
                if selector and error.status == 400:
                    raise ClusterError(f"selector {selector!r}: {error.told}", 400) from None
                raise
            page = _decoded(reply.body, _Page, path)
            for raw in page.items or ():
                uid = hash(_decoded(raw, _Item, path).metadata.uid)
                if again and uid in given:
                    continue
                given.add(uid)
                yield _decoded(raw, kind, path)
            if not page.metadata.next:
                return
            query["continue"] = page.metadata.next

    def dry_run(self, path: str, body: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Create as a dry run. Gives the object and the warnings.

        It goes through admission like any other (server-side dry run). Raises as `get` does, with
        the API server's words in `told`.
        """
        query = urlencode({"dryRun": "All", "fieldManager": AGENT})
        reply = self._ask("POST", f"{path}?{query}", body)
        return _decoded(reply.body, dict, path), reply.warnings

    def create(self, path: str, body: Any) -> dict[str, Any]:
        """Create what is not stored, such as a SelfSubjectReview."""
        return _decoded(self._ask("POST", path, body).body, dict, path)

    @contextlib.contextmanager
    def tunnel(
        self, namespace: str, pod: str, address: str, port: int
    ) -> Iterator[tuple[str, int]]:
        """Reach a Pod's port for as long as the context lasts: gives host and port."""
        with contextlib.ExitStack() as stack:
            try:
                where = stack.enter_context(self._way.tunnel(namespace, pod, address, port))
            except OSError as error:
                told = str(error)
                needed = needs(told)
                remedy = f"; needed: {needed}" if needed else ""
                raise ClusterError(
                    f"port {port} of Pod {namespace}/{pod}: {told}{remedy}", 1
                ) from error
            yield where

    def ask(self, method: str, path: str, body: Any = None) -> Reply:
        """Make one call (GET, POST or PUT), and give whatever comes back."""
        sent = None if body is None else msgspec.json.encode(body)
        return self._way.ask(method, path, sent, READ_SECONDS if sent is None else WRITE_SECONDS)

    def _ask(self, method: str, path: str, body: Any = None) -> Reply:
        reply = self.ask(method, path, body)
        if 200 <= reply.status < 300:
            return reply
        raise failed(f"{method} {path.partition('?')[0]}", reply)


def _decoded(content: bytes | msgspec.Raw, kind: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ClusterError(f"GET {path}: unexpected answer: {error}") from None


def failed(what: str, reply: Reply) -> ClusterError:
    """Make the error of a reply that is not 2xx: it names the thing, the place and the remedy."""
    told = reply.told or "no reason given"
    if reply.status == 401:
        return Forbidden(
            f"{what}: not logged in to the cluster: {told}: renew the login of this context",
            401,
            told,
        )
    if reply.status == 403:
        needed = needs(told)
        remedy = f"; needed: {needed}" if needed else ""
        return Forbidden(f"{what}: {told}{remedy}", 403, told)
    if reply.status == 404:
        return Missing(f"{what}: {told}", 404, told)
    if reply.status == 410:
        return _Expired(f"{what}: {told}", 410, told)
    if reply.status:
        return ClusterError(f"{what}: {told}", reply.status, told)
    remedy = next((text for pattern, text in _REMEDIES if re.search(pattern, told)), "")
    return ClusterError(told + (f": {remedy}" if remedy else ""), 0, told)


def needs(told: str) -> str:
    """Name the right that a refusal is about, as a Role writes it; "" if it is about none."""
    match = _FORBIDDEN.search(told)
    if match is None:
        return ""
    group = f".{match['group']}" if match["group"] else ""
    where = f"in namespace {match['namespace']}" if match["namespace"] else "in the whole cluster"
    return f"the right to {match['verb']} {match['resource']}{group} {where}"


_REMEDIES: Final = (
    (r"context .* does not exist", "`kubectl config get-contexts` lists those that do"),
    (
        r"localhost:8080 was refused",
        "no kubeconfig was found: give --kubeconfig, or set KUBECONFIG",
    ),
    (
        r"refused",
        "is the cluster up, and is this its context? see `kubectl config current-context`",
    ),
    (r"no such host", "does this machine reach the cluster's network (VPN, DNS)?"),
    (
        r"(?i)timeout|deadline exceeded",
        "does this machine reach the cluster's network (VPN, proxy)?",
    ),
    (
        r"executable .* (?:not found|failed)|getting credentials",
        "the context's login program fails",
    ),
    (r"x509|certificate", "the kubeconfig's certificate-authority-data is not this cluster's"),
    (r"no such file or directory", "--kubeconfig or KUBECONFIG names no file"),
)
"""What kubectl says when it cannot reach an API server, and what helps."""
