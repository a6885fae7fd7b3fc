"""A real Celery on its file-system broker: no task is lost in a stop, also below a shell."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.servers.catalog import APPS, python
from tests.servers.kubelet import START, Image, Pod
from tests.servers.network import Network
from tests.servers.scenario import HELPER, admitted
from webhook.core.names import INJECT_LABEL, PREFIX, STATUS_ANNOTATION

CELERY = (
    python("celery"),
    "--app=tasks",
    "worker",
    "--concurrency=2",
    "--loglevel=info",
    "--without-gossip",
    "--without-mingle",
)
LINE = f"cd . && {' '.join(CELERY)}; true"
SECONDS = 3.0
GRACE = 15

prepared = pytest.mark.usefixtures("_prepared")


@pytest.fixture
def _prepared() -> None:
    needs.root()
    if not os.access(python("celery"), os.X_OK):
        needs.absent("needs celery: tests/servers/install")
    if not HELPER.is_file():
        needs.absent("needs the helper: make helper")


class Tasks:
    """What the diary and the queue say."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def send(self, count: int) -> None:
        code = f"import tasks\nfor n in range({count}): tasks.work.delay(n, {SECONDS})"
        subprocess.run(
            [python("python"), "-c", code],
            check=True,
            cwd=self.directory,
            env={"PYTHONPATH": str(APPS), "PATH": os.environ["PATH"]},
            timeout=START,
        )

    def told(self, what: str) -> set[str]:
        diary = self.directory / "diary"
        lines = diary.read_text(encoding="utf-8").splitlines() if diary.exists() else []
        return {line.split()[1] for line in lines if line.startswith(f"{what} ")}

    def queued(self) -> int:
        return sum(
            json.loads(file.read_text())["headers"]["task"] == "tasks.work"
            for file in (self.directory / "queue").iterdir()
            if file.suffix == ".msg"
        )

    def await_begun(self, count: int) -> None:
        deadline = time.monotonic() + START
        while len(self.told("begin")) < count:
            assert time.monotonic() < deadline, f"of {count} tasks {self.told('begin')} began"
            time.sleep(0.05)


def labelled(container: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    """Write the Pod as its author would, and let the webhook see it."""
    return admitted(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "worker",
                "namespace": "servers",
                "labels": {INJECT_LABEL: "enabled"},
                "annotations": {PREFIX + key: value for key, value in annotations.items()},
            },
            "spec": {
                "containers": [{"name": "worker", "image": "team/worker:1", **container}],
                "terminationGracePeriodSeconds": GRACE,
                "restartPolicy": "Always",
            },
        }
    )


@contextmanager
def working(pod: dict[str, Any], entrypoint: tuple[str, ...], directory: Path) -> Iterator[Pod]:
    """Start the worker, and send it twice as many tasks as it can do at a time."""
    directory.chmod(0o755)
    helper = directory / "image" / HELPER.name
    helper.parent.mkdir()
    shutil.copy(HELPER, helper)
    network = Network()
    images = {"team/worker:1": Image(entrypoint, env=(("PYTHONPATH", str(APPS)),))}
    running = Pod(pod, images, helper, directory, network)
    try:
        running.start()
        tasks = Tasks(directory)
        tasks.send(4)
        tasks.await_begun(2)
        yield running
    finally:
        running.close()
        network.close()


def status(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pod["metadata"]["annotations"][STATUS_ANNOTATION])
    return found["containers"]["worker"]


@prepared
@pytest.mark.parametrize(
    ("container", "annotations", "image", "mode"),
    [
        pytest.param({"command": list(CELERY)}, {}, (), None, id="alone"),
        pytest.param({"command": ["sh", "-c", LINE]}, {}, (), "wrap", id="below-a-shell"),
        pytest.param({}, {"profile": "worker"}, ("sh", "-c", LINE), "hook", id="by-annotation"),
        pytest.param({}, {"profile": "celery"}, CELERY, "hook", id="by-annotation-alone"),
    ],
)
def test_no_task_is_lost(
    container: dict[str, Any],
    annotations: dict[str, str],
    image: tuple[str, ...],
    mode: str | None,
    directory: Path,
) -> None:
    pod = labelled(container, annotations)
    assert status(pod).get("mode") == mode
    tasks = Tasks(directory)
    with working(pod, image, directory) as running:
        running.stop()
        story = running.logs()
        assert not running.containers[0].killed, story
        begun, ended = tasks.told("begin"), tasks.told("end")
        assert begun == ended, story
        assert len(ended) + tasks.queued() == 4, story
        # Nothing is waited for but the tasks at hand.
        assert running.containers[0].exited - running.began < GRACE - 3, story


@prepared
def test_a_shell_alone_keeps_the_signal_to_itself(directory: Path) -> None:
    """What the profile is for: the same without podgrace is killed, and what it did is lost."""
    pod = labelled({"command": ["sh", "-c", LINE]}, {"mode": "off"})
    pod["spec"]["terminationGracePeriodSeconds"] = 2
    tasks = Tasks(directory)
    with working(pod, (), directory) as running:
        running.stop()
        assert running.containers[0].killed, running.logs()
        assert tasks.told("begin") != tasks.told("end"), running.logs()
