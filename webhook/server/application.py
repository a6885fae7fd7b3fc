"""What is answered on the HTTPS port: `POST /mutate` and `/mutate/CLASS`, and errors for all else.

In: complete requests. Out: responses. Deciding belongs in `admission`; bounds on connections and
bytes in `connection` and `limits`. Only `admission` reads the body, as bytes: FastAPI's 422 never
reaches an API server.

| the request                                             | status | body                        |
|---------------------------------------------------------|--------|-----------------------------|
| a review                                                | 200    | AdmissionReview             |
| a large review for which there is no room or no time    | 200    | allowed, no patch, a warning|
| the same with `--failure-policy Fail`                   | 503    | {"error": ...}              |
| not a review                                            | 400    | {"error": ...}              |
| not HTTP; an upgrade with a body                        | 400    | {"error": ...}              |
| without an accepted client certificate (`--client-ca`)  | 403    | {"error": ...}              |
| another path                                            | 404    | {"error": ...}              |
| another method                                          | 405    | {"error": ...}, header Allow|
| not complete within 10 s                                | 408    | {"error": ...}              |
| body over 3 MiB                                         | 413    | {"error": ...}              |
| another content type, or compressed                     | 415    | {"error": ...}              |
| headers over 16 KiB                                     | 431    | {"error": ...}              |
| a bug of ours outside the decision                      | 500    | {"error": ...}              |

Each class of namespaces has its own path, so that no API access is needed to know it. For a class
that is not in the configuration the defaults decide: in an upgrade, API servers call new paths
before every replica has read the new configuration.

Where decisions run: ordinary reviews on the event loop, because they take less time than handing
them to a thread; reviews over 64 KiB on one thread beside it, so that none of them delays another
answer by more than a turn of the interpreter.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from time import monotonic
from typing import Final

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi import Response as HTTPResponse
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from webhook import admission
from webhook.config import Config
from webhook.server.connection import Request, Response, Route, Routes, error
from webhook.server.replicas import Replicas
from webhook.server.telemetry import Metrics

PATH: Final = "/mutate"
LARGE: Final = 64 << 10
"""Bytes. Reviews of Pods are mostly below 20 KiB."""

_TYPE: Final = b"application/json"
_UID = re.compile(rb'"request"\s*:\s*\{\s*"uid"\s*:\s*("[0-9A-Za-z-]{1,64}")')
_DURATION = re.compile(
    rb"(?:^|&)timeout=(?:([0-9]{1,3})m)?(?:([0-9]{1,4}(?:\.[0-9]{1,9})?)s)?(?:&|$)"
)


class Mutate:
    """`POST /mutate`: content type, the time that is left, the decision, one answer."""

    def __init__(self, config: Config, metrics: Metrics, policy: str) -> None:
        self._metrics, self._fail = metrics, policy == "Fail"
        self._rest = Replicas(config)
        self._classes = {name: Replicas(of_class) for name, of_class in config.classes.items()}
        self._aside = ThreadPoolExecutor(1, "large")
        self.large = 0
        metrics.counters(
            "podgrace_decisions",
            "Pods decided about, and those like one before.",
            "how",
            self._counts,
        )
        self._shed = metrics.counter(
            "podgrace_overload",
            "Reviews answered without a decision.",
            "cause",
            ("bytes", "deadline"),
        )

    def paths(self) -> dict[str, Route]:
        """Give what answers at each path."""
        replicas = {PATH: self._rest}
        replicas |= {f"{PATH}/{name}": of_class for name, of_class in self._classes.items()}
        return {path: partial(self._answer, one) for path, one in replicas.items()}

    def _counts(self) -> dict[str, int]:
        counts = [one.counts for one in (self._rest, *self._classes.values())]
        return {how: sum(count[how] for count in counts) for how in counts[0]}

    def _answer(
        self, replicas: Replicas, request: Request
    ) -> "Response | asyncio.Future[Response]":
        """Answer a request: at once, or later if it is a large one."""
        refusal = _unacceptable(request)
        if refusal is not None:
            return refusal
        if request.shed:
            return self._overloaded(request, "bytes")
        if self._late(request):
            return self._overloaded(request, "deadline")
        if len(request.body) > LARGE:
            return asyncio.ensure_future(self._later(replicas, request))
        return self._counted(request, admission.answer_by(request.body, replicas.judge))

    async def _later(self, replicas: Replicas, request: Request) -> Response:
        self.large += 1
        try:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._aside, self._decide, replicas, request)
        finally:
            self.large -= 1
        if answer is None:
            return self._overloaded(request, "deadline")
        return self._counted(request, answer)

    def _decide(self, replicas: Replicas, request: Request) -> admission.Answer | None:
        """Decide on the thread for large reviews; None: it waited there for too long."""
        if self._late(request):
            return None
        return admission.answer(request.body, replicas.config)

    def _late(self, request: Request) -> bool:
        limit = _timeout(request.query) if request.query else 0.0
        return bool(limit) and monotonic() - request.began >= limit

    def _counted(self, request: Request, answer: admission.Answer) -> Response:
        self._metrics.call(answer, len(request.body), monotonic() - request.began)
        return Response(answer.status, answer.body)

    def _overloaded(self, request: Request, cause: str) -> Response:
        self._shed[cause] += 1
        found = _UID.search(request.body)
        if self._fail or found is None:
            return error(503, f"overloaded: {cause}", (b"retry-after", b"1"))
        body = b'{"request":{"uid":' + found[1] + b"}}"
        return self._counted(request, admission.allow(body, "overload"))


def routes(mutate: Mutate) -> Routes:
    """Give the routes that are answered below the application, for speed."""
    return {(b"POST", path.encode()): answer for path, answer in mutate.paths().items()}


def application(
    mutate: Mutate, counted: Callable[[int], None], failed: Callable[[Exception], None]
) -> FastAPI:
    """Build the whole application: the same route in other spellings, and errors."""
    app = FastAPI(title="podgrace", openapi_url=None, redirect_slashes=False)
    shape_errors(app, counted, failed)

    paths = mutate.paths()

    @app.post(PATH)
    @app.post(PATH + "/{name}")
    async def post(request: HTTPRequest) -> HTTPResponse:
        raw = Request(
            request.scope["headers"],
            request.scope["query_string"],
            await request.body(),
            monotonic(),
        )
        answer = paths.get(request.url.path, paths[PATH])(raw)
        found = answer if isinstance(answer, Response) else await answer
        counted(found.status)
        headers = {name.decode(): value.decode() for name, value in found.headers}
        return HTTPResponse(found.body, found.status, headers, "application/json")

    return app


def shape_errors(
    app: FastAPI, counted: Callable[[int], None], failed: Callable[[Exception], None]
) -> None:
    """Give Starlette's own errors our shape, and nobody a traceback."""

    @app.exception_handler(HTTPException)
    async def answer(request: HTTPRequest, problem: HTTPException) -> HTTPResponse:
        counted(problem.status_code)
        text = f"{request.method} {request.url.path[:64]}: {problem.detail}"
        return JSONResponse({"error": text}, problem.status_code, problem.headers)

    @app.middleware("http")
    async def guard(request: HTTPRequest, call_next: Callable) -> HTTPResponse:  # type: ignore[type-arg]
        try:
            found: HTTPResponse = await call_next(request)
        except Exception as bug:  # noqa: BLE001 - as `Connection` does for the routes beneath
            failed(bug)
            counted(500)
            return JSONResponse({"error": "podgrace failed: see its log"}, 500)
        return found


def _unacceptable(request: Request) -> Response | None:
    """Check the headers."""
    kind = b""
    for name, value in request.headers:
        if name == b"content-type":
            kind = value
        elif name == b"content-encoding" and value != b"identity":
            return error(415, f"Content-Encoding {_shown(value)}: accepted: none")
    if kind != _TYPE and kind.split(b";")[0].strip().lower() != _TYPE:
        return error(415, f"Content-Type {_shown(kind)}: accepted: application/json")
    return None


@lru_cache(64)
def _timeout(query: bytes) -> float:
    """Read how many seconds the API server waits; 0 if it does not say."""
    found = _DURATION.search(query)
    return 60.0 * int(found[1] or 0) + float(found[2] or 0) if found else 0.0


def _shown(value: bytes) -> str:
    return repr(value[:64].decode("ascii", "replace"))
