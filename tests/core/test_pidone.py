"""Whoever names PID 1 keeps it: a probe, a hook or a command line."""

from typing import Any

import pytest

from tests.core.passes import judged
from webhook.config import parse
from webhook.core.pidone import names_pid_1

NAMES = [
    "jcmd 1 VM.uptime",
    "jstack -l 1 > /dumps/a",
    "/opt/java/bin/jmap -histo 1",
    "kill 1",
    "kill -HUP 1",
    "kill -0 1 || exit 1",
    "/bin/kill -s QUIT 1",
    "test -d /proc/1/fd",
    "readlink /proc/1/exe | grep -q python",
    "echo bye > /proc/1/fd/1",
    "cat /proc/1",
    "nsenter -t 1 -m true",
    "nsenter --target=1 true",
    "ps -o rss= -p 1",
    "ps --pid 1",
    "strace -p1",
    "tail --pid=1 -f /dev/null",
    "sleep 5; kill -TERM 1",
    "(kill 1)",
    "$(kill -0 1) && echo `jstat -gc 1`",
    'test "$(pidof java)" = 1',
    "[ $(pgrep -o java) -eq 1 ] || exit 2",
    "[ $(cat /run/web.pid) -eq 1 ]",
    "PID=1; kill -TERM $PID",
    "if [ $$ -ne 1 ]; then exit 3; fi",
    "pgrep -P 1 java",
    "pkill -HUP -P1",
    "ps -o pid= --ppid 1",
    "pidof java | grep -qx 1",
]
DOES_NOT = [
    "kill -1 77",
    "kill $(cat /run/1.pid)",
    "kill $(pgrep java)",
    "pgrep -x java",
    "sleep 1",
    "curl localhost:8080/1",
    "ls /proc/11/fd",
    "head -n 1 /etc/x",
    "test $(cat /state) = 1",
    "ps aux | grep -c 1",
    "redis-cli -n 1 ping",
    "pidof nginx || exit 1",
    "pgrep -x nginx >/dev/null 2>&1 || sleep 1",
    "test $(pgrep -c java) -ge 1",
    "pgrep nginx && curl -m 1 localhost",
    "[ $READY = 1 ]",
    "",
]


@pytest.mark.parametrize("line", NAMES)
def test_it_names_pid_1(line: str) -> None:
    assert names_pid_1(["sh", "-c", line])


@pytest.mark.parametrize("line", DOES_NOT)
def test_it_does_not(line: str) -> None:
    assert not names_pid_1(["sh", "-c", line])


ASKS: dict[str, Any] = {"exec": {"command": ["jcmd", "1", "VM.uptime"]}}


@pytest.mark.parametrize(
    "container",
    [
        {"livenessProbe": ASKS},
        {"startupProbe": ASKS},
        {"readinessProbe": ASKS},
        {"lifecycle": {"preStop": ASKS}},
        {"lifecycle": {"postStart": ASKS}},
        {"command": ["sh", "-c", "(sleep 60; kill 1) & exec java -jar /app.jar"]},
        {"command": ["/watch.sh"], "args": ["tail", "--pid=1"]},
    ],
)
def test_it_is_not_wrapped(container: dict[str, Any]) -> None:
    made = {"name": "api", "image": "x", "command": ["java"], "ports": [{"containerPort": 8080}]}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [made | container]}}
    patched, outcome = judged(pod, parse(""))
    assert patched["spec"]["containers"][0]["command"] == (made | container)["command"]
    assert {"names-pid-1", "hook"} <= {d.code for d in outcome.plan.decisions}
