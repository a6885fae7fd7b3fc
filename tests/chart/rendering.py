"""Renders the chart with the real helm and reads the result.

In: values files and `--set` pairs. Out: objects by kind and name, or helm's own error. Needs no
cluster.
"""

import functools
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests import needs

CHART = Path(__file__).parents[2] / "charts" / "podgrace"
CI_FILES = sorted((CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "podgrace"

Object = dict[str, Any]


def need(tool: str) -> str:
    """Find helm or kubectl; Debian has no package of them."""
    return needs.program(tool)


@functools.cache
def run(*arguments: str, helm: str = "helm") -> subprocess.CompletedProcess[str]:
    """Run helm, once per call."""
    return subprocess.run([need(helm), *arguments], capture_output=True, text=True, check=False)


def text(
    *files: Path,
    sets: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    helm: str = "helm",
    name: str = "podgrace",
    namespace: str = NAMESPACE,
) -> str:
    """Render; if helm refuses, the test fails with its message."""
    done = template(*files, sets=sets, options=options, helm=helm, name=name, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return done.stdout


def template(
    *files: Path,
    sets: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    helm: str = "helm",
    name: str = "podgrace",
    namespace: str = NAMESPACE,
) -> subprocess.CompletedProcess[str]:
    """Render, or fail. A value in *sets* is JSON."""
    arguments = [argument for file in files for argument in ("--values", str(file))]
    arguments += [
        argument
        for path, value in (sets or {}).items()
        for argument in ("--set-json", f"{path}={value}")
    ]
    return run(
        "template", name, str(CHART), "--namespace", namespace, *arguments, *options, helm=helm
    )


def refusal(
    *files: Path, sets: Mapping[str, str] | None = None, options: tuple[str, ...] = ()
) -> str:
    """Render what helm must refuse; returns the message."""
    done = template(*files, sets=sets, options=options)
    assert done.returncode != 0, "helm accepted it"
    return done.stderr


@functools.cache
def _parsed(source: str) -> list[Object]:
    return [item for item in YAML(typ="safe", pure=True).load_all(source) if item is not None]


class Objects:
    """What was rendered."""

    def __init__(self, source: str) -> None:
        self.all: list[Object] = _parsed(source)

    def of(self, kind: str) -> list[Object]:
        """All of a kind, except those that only `helm test` makes."""
        return [item for item in self.all if item["kind"] == kind and not hook(item)]

    def one(self, kind: str, name: str | None = None) -> Object:
        """Give the only one of a kind, or of a kind and a name."""
        (found,) = [
            item for item in self.of(kind) if name is None or item["metadata"]["name"] == name
        ]
        return found

    def hooks(self) -> list[Object]:
        """List what `helm test` makes."""
        return [item for item in self.all if hook(item)]

    def pod(self) -> Object:
        """Spec of the webhook's Pod."""
        spec: Object = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    def container(self, name: str = "webhook") -> Object:
        """Give one of the Pod's containers."""
        (found,) = [item for item in self.pod()["containers"] if item["name"] == name]
        return dict(found)

    def kinds(self) -> set[str]:
        """All kinds, except hooks'."""
        return {item["kind"] for item in self.all if not hook(item)}


def hook(item: Object) -> bool:
    """Whether helm makes it only for a test."""
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


def objects(
    *files: Path,
    sets: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    name: str = "podgrace",
    namespace: str = NAMESPACE,
) -> Objects:
    """Render and parse."""
    return Objects(text(*files, sets=sets, options=options, name=name, namespace=namespace))


def ci(mode: str) -> Path:
    """Name the values file of a mode."""
    return CHART / "ci" / f"{mode}-values.yaml"
