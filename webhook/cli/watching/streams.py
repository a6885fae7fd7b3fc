"""Watches of the Kubernetes API, as streams of events.

In: a resource, a label selector, a namespace. Out: (type, object) as the API reports them. Two
ways, the same stream: `kubectl`, with the user's own rights and configuration; or, without kubectl,
the API itself as the ServiceAccount of the Pod that this runs in. Only reads.
"""

import asyncio
import codecs
import contextlib
import json
import os
import shutil
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

from webhook.cli.cluster import ACCOUNT
from webhook.cli.exits import Unusable

_LINE: Final = 8 << 20
"""Bytes of one event: etcd holds 1.5 MiB an object, managedFields and JSON may double that."""
_AGAIN: Final = 1.0
"""Seconds until a watch that the API server has ended begins again."""

Event = tuple[str, Any]


class WatchError(Unusable):
    """The cluster can't be watched; the message says why."""


class Resource(NamedTuple):
    """What is watched."""

    kubectl: str
    path: str
    selector: str
    namespace: str


class Stream(Protocol):
    """A watch: `events` until `close`; `why` says what ended it before."""

    why: str

    def events(self) -> AsyncGenerator[Event, None]:
        """Give each event as it comes."""
        ...

    async def close(self) -> None:
        """Watch no longer."""
        ...


def resources(selector: str, service: str, namespace: str) -> tuple[Resource, Resource]:
    """Name what to watch: the Pods of a selector, the EndpointSlices of one Service or all."""
    of_service = f"kubernetes.io/service-name={service}" if service else ""
    return (
        Resource("pods", "/api/v1/namespaces/{}/pods", selector, namespace),
        Resource(
            "endpointslices.discovery.k8s.io",
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
            of_service,
            namespace,
        ),
    )


def stream(resource: Resource, options: Sequence[str] = ()) -> Stream:
    """Choose the way: kubectl where there is one, else the Pod's own ServiceAccount.

    `options` choose kubectl's cluster (`cluster.kubectl_options`).
    """
    if shutil.which("kubectl") is None and (ACCOUNT / "token").exists():
        return Api(resource)
    return Kubectl(resource, options)


class Kubectl:
    """`kubectl get --watch`."""

    def __init__(self, resource: Resource, options: Sequence[str] = ()) -> None:
        self.why = ""
        self._words = ["kubectl", *options, "get", resource.kubectl]
        self._words += ["--selector", resource.selector] if resource.selector else []
        self._words += ["--watch", "--output-watch-events", "-o", "json"]
        self._words += ["--namespace", resource.namespace] if resource.namespace else []
        self._process: asyncio.subprocess.Process | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        """Give each event. kubectl writes JSON objects one after another, with line ends inside."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._words, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            raise WatchError(
                f"kubectl, which watches the cluster: {error.strerror or error}"
            ) from error
        if process.stdout is None or process.stderr is None:
            raise AssertionError
        said: deque[bytes] = deque(maxlen=3)
        listener = asyncio.create_task(_listen(process.stderr, said))
        decoder, text = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")("replace")
        buffer = ""
        while data := await process.stdout.read(1 << 16):
            buffer += text.decode(data)
            while buffer := buffer.lstrip():
                try:
                    tree, end = decoder.raw_decode(buffer)
                except json.JSONDecodeError:
                    break
                buffer = buffer[end:]
                yield tree["type"], tree["object"]
        await listener
        code = await process.wait()
        last = b" ".join(line.strip() for line in said).decode(errors="replace")
        self.why = last or f"kubectl ended with {code}"

    async def close(self) -> None:
        """End kubectl."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()


async def _listen(stream: asyncio.StreamReader, said: "deque[bytes]") -> None:
    while line := await stream.readline():
        said.append(line)


class Api:
    """A watch of the API server itself, begun again whenever the server ends it.

    It uses HTTP/1.0, so that events come as plain lines. A watch that begins without a version
    first reports what is there: it misses only what came and went in between.
    """

    def __init__(
        self,
        resource: Resource,
        account: Path = ACCOUNT,
        host: str | None = None,
        port: str | None = None,
    ) -> None:
        self.why = ""
        self._account = account
        self._host = host or os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
        self._port = int(port or os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
        namespace = resource.namespace or (account / "namespace").read_text().strip()
        query = f"?watch=1&labelSelector={quote(resource.selector, safe='')}"
        self._path = resource.path.format(quote(namespace, safe="")) + query
        self._writer: asyncio.StreamWriter | None = None
        self._closed = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """Give each event."""
        while not self._closed:
            try:
                async for event in self._once():
                    yield event
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.why = f"the API server: {getattr(error, 'strerror', None) or error}"
            if self.why:
                return
            await asyncio.sleep(_AGAIN)

    async def _once(self) -> AsyncGenerator[Event, None]:
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        reader, self._writer = await asyncio.open_connection(
            self._host, self._port, ssl=context, limit=_LINE
        )
        token = (self._account / "token").read_text().strip()
        request = (
            f"GET {self._path} HTTP/1.0\r\nHost: {self._host}\r\nAccept: application/json\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        )
        self._writer.write(request.encode("ascii"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = head.split(" ", 2)[1]
        if status != "200":
            answer = json.loads(await reader.read() or b"{}")
            raise ValueError(f"{status} {answer.get('message', '')}".strip())
        while line := await reader.readline():
            tree = json.loads(line)
            if tree["type"] == "ERROR":
                return
            yield tree["type"], tree["object"]

    async def close(self) -> None:
        """Hang up."""
        self._closed = True
        if self._writer is not None:
            self._writer.transport.abort()
