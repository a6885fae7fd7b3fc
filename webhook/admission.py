"""AdmissionReview in, AdmissionReview out: the webhook without a server.

In: the body of a POST and the configuration. Out: `Answer`: status, body, and what the server logs
and counts. Pure; the command line and the tests use the same code. Sockets, limits and deadlines
belong to `server`.

| the body                                       | status | answer                                |
|------------------------------------------------|--------|---------------------------------------|
| not JSON, not UTF-8, too deep, a wrong type    | 400    | {"error": ...}; failurePolicy decides |
| another apiVersion or kind, no request or uid  | 400    | the same, naming what is accepted     |
| not a Pod, not CREATE, sub-resource, no object | 200    | allowed, no patch, reason in the      |
|                                                |        | audit annotation                      |
| a Pod that is left alone                       | 200    | the same                              |
| a Pod that needs nothing                       | 200    | allowed, patch that only marks it     |
| a Pod that is patched                          | 200    | allowed, patch, warnings where a      |
|                                                |        | person should act                     |
| a bug of ours                                  | 200    | allowed, no patch, a warning          |
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from webhook.config import Config
from webhook.core.decision import Decision, Plan
from webhook.core.patch import Op, render
from webhook.core.plan import decide
from webhook.core.pod import ABSENT, Metadata, Pod, Raw, present
from webhook.core.reasons import REASONS
from webhook.core.size import oversized
from webhook.policy import resolve

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"

_WARNING_LENGTH: Final = 120
"""Characters, as the API advises (admission/v1 types): longer ones may be cut."""
_WARNED: Final = frozenset(code for code, reason in REASONS.items() if reason.warn)
_WARNINGS: Final = 8
"""All webhooks of a request share 4096 characters of warnings."""


class GroupVersionKind(msgspec.Struct, frozen=True, gc=False):
    """`request.kind`."""

    group: str = ""
    version: str = ""
    kind: str = ""


class Request(msgspec.Struct, rename="camel", gc=False):
    """The part of `request` that we read. The object stays raw until it is known to be a Pod."""

    uid: str = ""
    kind: GroupVersionKind = GroupVersionKind()
    sub_resource: str | None = None
    name: str | None = None
    namespace: str | None = None
    operation: str = ""
    object: Raw = ABSENT
    dry_run: bool | None = None


class Review(msgspec.Struct, rename="camel", gc=False):
    """The envelope."""

    api_version: str = ""
    kind: str = ""
    request: Request | None = None


class _Head(msgspec.Struct):
    """The fewest fields that allow an answer, for when the rest is not read."""

    request: "_Uid"


class _Uid(msgspec.Struct):
    uid: str


class Response(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """`response`; `allowed` stands first so that omit_defaults keeps it."""

    uid: str
    allowed: bool
    patch_type: str = ""
    patch: Raw = ABSENT
    warnings: list[str] = []
    audit_annotations: dict[str, str] = {}


class Reply(msgspec.Struct, rename="camel", gc=False):
    """The envelope of the answer."""

    api_version: str
    kind: str
    response: Response


class Answer(msgspec.Struct, gc=False):
    """What the server sends, logs and counts. `codes` come from `reasons.REASONS` only."""

    status: int
    body: bytes
    result: str
    codes: tuple[str, ...]
    log: dict[str, object]
    warnings: int = 0


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The answer about a Pod, whoever asks: `Answer` without the parts of a single request."""

    result: str
    codes: tuple[str, ...]
    audit: dict[str, str]
    warnings: list[str]
    ops: int = 0
    patch: Raw = ABSENT
    """A JSON string of base64, as it is sent."""


class Outcome(msgspec.Struct, gc=False):
    """A decided Pod: the plan and its operations."""

    plan: Plan
    ops: list[Op]


_review = msgspec.json.Decoder(Review)
_pod = msgspec.json.Decoder(Pod)
_head = msgspec.json.Decoder(_Head)
_encode = msgspec.json.Encoder().encode


def mutate(pod: Pod, config: Config, namespace: str = "", owner: str = "") -> Outcome:
    """Decide one Pod and write its patch.

    Raises `msgspec.ValidationError` for handlers that no API server would pass on.
    """
    plan = decide(pod, resolve(pod, config), config.operator, namespace, owner)
    return Outcome(plan, render(pod, plan))


def answer(body: bytes | bytearray, config: Config) -> Answer:
    """Answer one POST. Never raises, whatever the body holds."""
    return answer_by(body, lambda request: judge(request, config))


def answer_by(body: bytes | bytearray, judged: Callable[[Request], tuple[Verdict, str]]) -> Answer:
    """Answer one POST about a Pod. `judged` is `judge`, or a cache in front of it."""
    try:
        review = _review.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _invalid(f"body is not an {KIND}: {_brief(error)}")
    request = review.request
    if review.api_version != API_VERSION or review.kind != KIND:
        return _invalid(
            f"apiVersion {review.api_version[:64]!r}, kind {review.kind[:64]!r}:"
            f" accepted: {API_VERSION}, {KIND}"
        )
    if request is None or not request.uid:
        return _invalid("request is missing" if request is None else "request.uid is missing")
    skip = _not_ours(request)
    if skip:
        return _reply(request, _verdict("skipped", [Decision(skip)]))
    try:
        verdict, name = judged(request)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _invalid(f"request.object is not a Pod: {_brief(error)}")
    except Exception as error:  # noqa: BLE001 - our bug is never the user's outage
        made = _reply(request, _verdict("bug", [Decision("bug")]))
        made.log |= {"error": type(error).__name__, "at": place(error)}
        return made
    return _reply(request, verdict, name)


def judge(request: Request, config: Config) -> tuple[Verdict, str]:
    """Judge the Pod of a request; returns its name, too.

    Raises what `mutate` raises, and `msgspec.DecodeError` if the object is not a Pod.
    """
    pod = _pod.decode(request.object)
    outcome = mutate(pod, config, request.namespace or "")
    result = (
        "skipped"
        if outcome.plan.skip or outcome.plan.idle
        else "patched"
        if outcome.ops
        else "unchanged"
    )
    return _verdict(result, outcome.plan.decisions, outcome.ops), name_of(pod.metadata)


def allow(body: bytes | bytearray, code: str) -> Answer:
    """Answer without deciding (overload): allowed, no patch, the code's warning.

    Only the uid is read.
    """
    try:
        uid = _head.decode(body).request.uid
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _invalid(f"body is not an {KIND}: {_brief(error)}")
    return _reply(Request(uid=uid), _verdict("skipped", [Decision(code)]))


def sentence(decision: Decision) -> str:
    """Put a decision into words."""
    text = REASONS[decision.code].sentence
    return f"{text} ({decision.detail})" if decision.detail else text


def place(error: BaseException | None) -> str:
    """Name the line that raised.

    That and the type are all we say about an error: its message could quote a Pod.
    """
    trace = error.__traceback__ if error is not None else None
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"


def _not_ours(request: Request) -> str:
    kind = request.kind
    if request.sub_resource:
        return "sub-resource"
    if kind.kind != "Pod" or kind.group or kind.version != "v1" or present(request.object) is None:
        return "not-create" if request.operation in ("DELETE", "CONNECT") else "not-a-pod"
    if request.operation != "CREATE":
        return "not-create"
    return "oversized" if oversized(request.object) else ""


def name_of(metadata: Metadata | None) -> str:
    """Give a Pod's name, or the prefix that it will be generated from."""
    return "" if metadata is None else metadata.name or metadata.generate_name or ""


def _verdict(result: str, decisions: Sequence[Decision], ops: Sequence[Op] = ()) -> Verdict:
    codes = tuple(dict.fromkeys([decision.code for decision in decisions]))
    warnings: list[str] = []
    if not _WARNED.isdisjoint(codes):
        warnings = [_warning(d) for d in decisions if d.code in _WARNED]
    # Bytes are base64 in msgspec's JSON.
    patch = Raw(_encode(_encode(ops))) if ops else ABSENT
    return Verdict(
        result,
        codes,
        {"result": result, "codes": ",".join(codes)},
        warnings[:_WARNINGS],
        len(ops),
        patch,
    )


def _reply(request: Request, verdict: Verdict, name: str = "") -> Answer:
    patch_type = "JSONPatch" if verdict.patch else ""
    response = Response(
        request.uid, True, patch_type, verdict.patch, verdict.warnings, verdict.audit
    )
    log: dict[str, Any] = {
        "uid": request.uid,
        "namespace": request.namespace or "",
        "name": request.name or name,
        "operation": request.operation,
        "dryRun": bool(request.dry_run),
        "result": verdict.result,
        "codes": verdict.codes,
        "ops": verdict.ops,
    }
    reply = _encode(Reply(API_VERSION, KIND, response))
    return Answer(200, reply, verdict.result, verdict.codes, log, len(verdict.warnings))


def _warning(decision: Decision) -> str:
    where = f"podgrace: {decision.container}: " if decision.container else "podgrace: "
    text = where + sentence(decision)
    return text if len(text) <= _WARNING_LENGTH else text[: _WARNING_LENGTH - 3] + "..."


def _invalid(why: str) -> Answer:
    return Answer(400, _encode({"error": why}), "invalid", (), {"result": "invalid", "error": why})


def _brief(error: Exception) -> str:
    """Shorten an error. msgspec's messages name the place and the types, never a value."""
    return (str(error) or type(error).__name__)[:160]
