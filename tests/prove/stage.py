"""A stand-in for kubectl with a scripted cluster: tests say what the API reports, and when.

The stream has the shape of kubectl 1.36 (recorded): JSON objects one after another, each over many
lines.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

KUBECTL = """#!/usr/bin/env python3
import json, pathlib, sys, time
here = pathlib.Path(sys.argv[0]).parent
with (here / "asked").open("a") as asked:
    asked.write(" ".join(sys.argv[1:]) + chr(10))
resource = sys.argv[2].split(".")[0]
with (here / resource).open() as source:
    line = ""
    while True:
        line += source.readline()
        if not line.endswith(chr(10)):
            time.sleep(0.02)
            continue
        if line.startswith("end "):
            sys.exit(line[4:].strip())
        print(json.dumps(json.loads(line), indent=4), flush=True)
        line = ""
"""


class Stage:
    """What the API tells. Every call is one event of a watch."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        kubectl = folder / "kubectl"
        kubectl.write_text(KUBECTL)
        kubectl.chmod(0o755)
        for resource in ("pods", "endpointslices"):
            (folder / resource).touch()
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        self._known: set[str] = set()

    @property
    def asked(self) -> list[str]:
        return sorted((self.folder / "asked").read_text().splitlines())

    def tell(self, resource: str, kind: str, tree: dict[str, Any]) -> None:
        with (self.folder / resource).open("a") as stream:
            stream.write(json.dumps({"type": kind, "object": tree}) + "\n")

    def end(self, resource: str, why: str) -> None:
        with (self.folder / resource).open("a") as stream:
            stream.write(f"end {why}\n")

    def pod(
        self,
        name: str,
        *,
        ready: bool = False,
        told: bool = False,
        ended: str | None = None,
        gone: bool = False,
        restarts: int = 0,
        probe: bool = False,
        address: str = "",
        pre_stop: dict[str, Any] | None = None,
    ) -> None:
        meta = {"name": name, "uid": f"uid-{name}"}
        if told or gone:
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        container: dict[str, Any] = {"name": "web", "env": [{"name": "KEY", "value": "secret"}]}
        if probe:
            container["readinessProbe"] = {"tcpSocket": {"port": 80}}
        if pre_stop:
            container["lifecycle"] = {"preStop": pre_stop}
        state = {"running": {}} if ended is None else {"terminated": {"message": ended}}
        status = {
            "podIP": address,
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": str(ready)},
            ],
            "containerStatuses": [{"name": "web", "state": state, "restartCount": restarts}],
        }
        kind = "DELETED" if gone else "MODIFIED" if name in self._known else "ADDED"
        self._known.add(name)
        tree = {"metadata": meta, "spec": {"containers": [container]}, "status": status}
        self.tell("pods", kind, tree)

    def endpoints(self, *ready: str, leaving: tuple[str, ...] = (), service: str = "shop") -> None:
        rows = [
            {
                "targetRef": {"kind": "Pod", "name": name},
                "conditions": {"ready": name in ready, "terminating": name in leaving},
            }
            for name in (*ready, *leaving)
        ]
        meta = {"name": f"{service}-1", "labels": {"kubernetes.io/service-name": service}}
        self.tell("endpointslices", "MODIFIED", {"metadata": meta, "endpoints": rows})


def settle() -> None:
    """Give an event the time to arrive."""
    time.sleep(0.3)
