"""A container's log, followed while it runs: it is gone as soon as its Pod is.

In: a container. Out: its lines of JSON.
"""

import contextlib
import json
import subprocess
import threading

from tests.cluster.kube import Tree


class Follower:
    """`lines` grows until `close`. Lines that are no JSON object are left out."""

    def __init__(self, namespace: str, pod: str, container: str) -> None:
        self.lines: list[Tree] = []
        command = ["kubectl", "logs", "-f", "-n", namespace, pod, "-c", container]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=pipe, stderr=null, text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                if line.startswith("{"):
                    self.lines.append(json.loads(line))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout
        self._process.stdout.close()
