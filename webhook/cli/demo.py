"""`podgrace demo`: the real server, real TLS, one recorded AdmissionReview, and what came of it.

In: nothing but the package's own sample, as an API server sent it. Out: what a person wants to see:
the decision for each container with its reason, the patch, the Pod before and after. Nothing
outlives it: the certificates are thrown away.
"""

import argparse
import base64
import copy
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jsonpatch
import msgspec

from certs.local import ephemeral
from webhook.admission import Review, mutate
from webhook.cli import scalars, show, terminal
from webhook.cli.arguments import add_config, command, config
from webhook.core.pod import Pod

_DEADLINE: Final = 20.0
"""Seconds for the server to become ready; it takes well under one."""


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    text = "Serve once with throw-away certificates and show what happens to a sample Pod."
    add_config(command(commands, "demo", run, text))


def run(args: argparse.Namespace) -> int:
    """Serve, ask, show. Returns 0 if the answer is a patch that applies."""
    colour = terminal.coloured()
    body = files("webhook").joinpath("samples/demo.json").read_bytes()
    directory = Path(tempfile.mkdtemp(prefix="podgrace-demo-"))
    try:
        ephemeral(directory, ["localhost"])
        answer, took = _ask(directory, body, args.config)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    review = msgspec.json.decode(body, type=Review)
    before = json.loads(body)["request"]["object"]
    patch = json.loads(base64.b64decode(answer["response"]["patch"]))
    after = jsonpatch.apply_patch(copy.deepcopy(before), patch)
    request = review.request
    outcome = mutate(
        msgspec.json.decode(request.object if request else b"", type=Pod),
        config(args),
        "samples",
    )

    def heading(text: str) -> None:
        print("\n" + terminal.bold(text, colour=colour))

    print(
        f"POST /mutate over TLS, verified against the demo's own CA: allowed, {len(patch)} "
        f"operations, {took * 1000:.1f} ms"
    )
    heading("What is done to each container, and why")
    print(show.explanation(outcome))
    heading("The patch")
    for op in patch:
        print(
            f"{op['op']:7} {op['path']}"
            + terminal.dim(
                "  " + json.dumps(op["value"])[:100] if "value" in op else "", colour=colour
            )
        )
    heading("The Pod, before and after")
    print(show.diff(_yaml(before), _yaml(after), "pod", colour=colour), end="")
    for warning in answer["response"].get("warnings", ()):
        print(f"warning: {warning}")
    return 0


def _ask(directory: Path, body: bytes, config: str | None) -> tuple[dict[str, Any], float]:
    """Start the server in a process of its own, ask it once it is ready, stop it."""
    command = [
        sys.executable,
        "-m",
        "webhook.cli",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--plain-port",
        "0",
        "--cert-dir",
        str(directory),
    ]
    if config:
        command += ["--config", config]
    log = (directory / "log").open("w+")
    server = subprocess.Popen(
        [*command, "--drain-seconds", "0"], stdout=log, stderr=subprocess.STDOUT
    )
    try:
        port = _wait_for_port(server, Path(log.name))
        context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=10)
        connection.connect()
        start = time.perf_counter()
        connection.request("POST", "/mutate", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        took = time.perf_counter() - start
        connection.close()
        return answer, took
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)
        log.close()


def _wait_for_port(server: "subprocess.Popen[bytes]", log: Path) -> int:
    """Read the port from the server's own log line `listening`."""
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end and server.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and (event := json.loads(line)).get("event") == "listening":
                return int(event["port"])
        time.sleep(0.02)
    raise OSError(f"the demo's server did not start: {log.read_text(encoding='utf-8')[-500:]}")


def _yaml(tree: Any) -> str:
    tree = copy.deepcopy(tree)
    tree["metadata"].pop("managedFields", None)
    return "".join(f"{line}\n" for line in scalars.block(tree, 0, scalars.Layout()))
