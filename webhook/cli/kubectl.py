"""One call to the Kubernetes API by way of kubectl: `kubectl get --raw PATH`.

In: method, path, body. Out: a `Reply`. kubectl brings the kubeconfig, its contexts, exec plugins,
proxies and, in a Pod, the ServiceAccount; we bring no client. A call costs about 0.1 s of CPU,
which is the start of kubectl. What a status means to a command does not belong here.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

_VERBS: Final = {
    "GET": ("get",),
    "POST": ("create", "-f", "-"),
    "PUT": ("replace", "-f", "-"),
}
"""The kubectl commands that take --raw; server-side apply has none."""

_STATUS: Final = {
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "AlreadyExists": 409,
    "Conflict": 409,
    "Expired": 410,
    "Gone": 410,
    "RequestEntityTooLarge": 413,
    "Invalid": 422,
    "TooManyRequests": 429,
    "InternalError": 500,
    "ServiceUnavailable": 503,
    "ServerTimeout": 500,
    "Timeout": 504,
}
"""The reasons of `metav1.Status` and their codes (apimachinery, api/errors)."""

_SERVER: Final = re.compile(r"Error from server(?: \((\w+)\))?: (.*)", re.DOTALL)
_INVALID: Final = re.compile(r"The \S+ \".*\" is invalid: .*|The request is invalid.*", re.DOTALL)
_LOG: Final = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ ")
"""A line of kubectl's own log, which repeats what its last line says."""


_TUNNEL_SECONDS: Final = 15
"""Seconds until `kubectl port-forward` has to listen."""


class Reply(NamedTuple):
    """What came back of a call.

    `status` is HTTP's, or 0 where no API server answered. `body` is that of a 2xx; for everything
    else `told` says in the API server's or the client's words what is wrong.
    """

    status: int
    body: bytes = b""
    told: str = ""
    warnings: tuple[str, ...] = ()


class Kubectl(NamedTuple):
    """kubectl with the options that choose a cluster."""

    program: str
    options: tuple[str, ...] = ()

    def ask(self, method: str, path: str, body: bytes | None, seconds: int) -> Reply:
        """Make one call, which may take `seconds`. A login by a plugin takes its time."""
        verb, *more = _VERBS[method]
        words = [verb, f"--request-timeout={seconds}s", "--raw", path, *more]
        return reply(*self.run(words, body))

    def namespace(self) -> str:
        """Give the namespace of the context; "" if it names none."""
        # `config view` never prints credentials unless it is told to.
        code, out, _ = self.run(["config", "view", "--minify", "-o", "jsonpath={..namespace}"])
        return out.decode(errors="replace").strip() if code == 0 else ""

    @contextlib.contextmanager
    def tunnel(
        self, namespace: str, pod: str, _address: str, port: int
    ) -> Iterator[tuple[str, int]]:
        """Reach a Pod's port through `kubectl port-forward`. Raises OSError with its words."""
        words = ["--namespace", namespace, "port-forward", f"pod/{pod}", f":{port}"]
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(
                [self.program, *self.options, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
            ) as process,
        ):
            late = threading.Timer(_TUNNEL_SECONDS, process.terminate)
            late.start()
            try:
                first = (process.stdout.readline() if process.stdout else b"").decode()
                late.cancel()
                match = re.search(r":(\d+) -> ", first)
                if match is None:
                    process.terminate()
                    process.wait()
                    said.seek(0)
                    told = said.read().decode(errors="replace").strip()
                    raise OSError(reply(1, b"", told).told or "kubectl port-forward said nothing")
                yield "127.0.0.1", int(match[1])
            finally:
                late.cancel()
                process.terminate()

    def run(self, words: Sequence[str], body: bytes | None = None) -> tuple[int, bytes, str]:
        """Run kubectl; give its exit code, standard output and standard error."""
        # A plugin may ask for a password, if somebody is there to type it.
        stdin = None if sys.stdin is not None and sys.stdin.isatty() else subprocess.DEVNULL
        try:
            done: subprocess.CompletedProcess[bytes] = subprocess.run(
                [self.program, *self.options, *words],
                stdin=stdin if body is None else None,
                input=body,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            return 1, b"", f"{self.program}: {error.strerror or error}"
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def reply(code: int, out: bytes, err: str) -> Reply:
    """Read what kubectl printed: each warning has its own line, the rest is the error."""
    lines = [line for line in err.splitlines() if not _LOG.match(line)]
    warnings = tuple(
        line.removeprefix("Warning: ") for line in lines if line.startswith("Warning: ")
    )
    if code == 0:
        return Reply(200, out, "", warnings)
    told = "\n".join(line for line in lines if not line.startswith("Warning: ")).strip()
    if match := _SERVER.search(told):
        return Reply(_STATUS.get(match[1] or "", 500), b"", match[2].strip(), warnings)
    if match := _INVALID.search(told):
        return Reply(422, b"", match[0], warnings)
    if "(Unauthorized)" in told:
        return Reply(401, b"", told.removeprefix("error: "), warnings)
    last = told.splitlines()[-1] if told else f"kubectl ended with {code}"
    return Reply(0, b"", last.removeprefix("error: "), warnings)
