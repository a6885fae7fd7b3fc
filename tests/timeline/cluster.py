"""A stand-in for kubectl whose cluster is a folder: what is created comes up at once.

A new Pod is Ready 0.2 s later at 127.0.0.1; a deleted one is told at once and gone 0.2 s later.
`deleted`, `created` and `asked` record the calls.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

KUBECTL = """#!/usr/bin/env python3
import json, pathlib, sys, time
here = pathlib.Path(sys.argv[0]).parent
words = [word for word in sys.argv[1:] if not word.startswith(("--kubeconfig", "--context"))]
def note(name, text):
    with (here / name).open("a") as file:
        file.write(text + chr(10))
def tell(resource, kind, tree):
    note(resource, json.dumps({"type": kind, "object": tree}))
note("asked", " ".join(sys.argv[1:]))
def up(tree):
    tree = json.loads(json.dumps(tree))
    ready = [{"type": t, "status": "True"} for t in ("PodScheduled", "ContainersReady", "Ready")]
    tree["status"] = {"phase": "Running", "podIP": "127.0.0.1", "conditions": ready,
        "containerStatuses": [{"name": "server", "ready": True, "state": {"running": {}}}]}
    return tree
verb = words[0]
if verb == "create":
    tree = json.load(sys.stdin)
    meta, kind = tree["metadata"], tree["kind"]
    meta.update(uid="uid-" + meta["name"], namespace="scratch")
    note("created", json.dumps(tree))
    if kind == "Service":
        tree["spec"].setdefault("clusterIP", "127.0.0.1")
        tell("endpointslices", "ADDED", {"metadata": {"name": meta["name"] + "-1", "labels":
            {"kubernetes.io/service-name": meta["name"]}}})
    print(json.dumps(tree), flush=True)
    if kind == "Pod" and "asks" not in meta["name"]:
        tell("pods", "ADDED", tree)
        (here / ("pod-" + meta["name"])).write_text(json.dumps(tree))
        time.sleep(0.2)
        tell("pods", "MODIFIED", up(tree))
elif verb == "delete":
    note("deleted", " ".join(words[1:]))
    if words[1] == "pod":
        tree = up(json.loads((here / ("pod-" + words[2])).read_text()))
        tree["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        tell("pods", "MODIFIED", tree)
        time.sleep(0.2)
        tell("pods", "DELETED", tree)
elif "--watch" in words:
    resource = words[1].split(".")[0]
    with (here / resource).open() as source:
        line = ""
        while True:
            line += source.readline()
            if not line.endswith(chr(10)):
                time.sleep(0.02)
                continue
            print(json.dumps(json.loads(line), indent=4), flush=True)
            line = ""
elif words[1] == "node" and (here / "get-nodes").exists():
    nodes = json.loads((here / "get-nodes").read_text())["items"]
    found = [node for node in nodes if node["metadata"]["name"] == words[2]]
    if not found:
        sys.exit('Error from server (NotFound): nodes "' + words[2] + '" not found')
    print(json.dumps(found[0]))
else:
    name = "get-" + words[1]
    if not (here / name).exists():
        sys.exit('Error from server (Forbidden): ' + words[1] + ' is forbidden')
    print((here / name).read_text())
"""


class Folder:
    """The cluster."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        kubectl = folder / "kubectl"
        kubectl.write_text(KUBECTL)
        kubectl.chmod(0o755)
        for name in ("pods", "endpointslices", "created", "deleted", "asked"):
            (folder / name).touch()
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def holds(self, resource: str, tree: dict[str, Any]) -> None:
        """Say what `kubectl get RESOURCE` gives."""
        (self.folder / f"get-{resource}").write_text(json.dumps(tree))

    def tell(self, resource: str, kind: str, tree: dict[str, Any]) -> None:
        with (self.folder / resource).open("a") as stream:
            stream.write(json.dumps({"type": kind, "object": tree}) + "\n")

    @property
    def created(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines("created")]

    def lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()
