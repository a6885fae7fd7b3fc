"""The worst Pods that can be sent: none holds up the others.

An API server may pass on each of them: it reads requests of 3 MiB, stores objects of 1.5 MiB by
default, and accepts annotations of 256 KiB. We measure our own CPU time and memory, since wall time
depends on what else runs.
"""

import gc
import itertools
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from webhook import admission
from webhook.admission import Answer
from webhook.cli import manifests
from webhook.config import load
from webhook.core.names import PREFIX, STATUS_ANNOTATION
from webhook.core.size import MOST_CONTAINERS, MOST_HOOKS

Json = dict[str, Any]

SECONDS = 0.05
"""CPU, on a quiet machine. Other work makes caches cold: the best of some tries counts, and half as
much again is allowed."""
BYTES = 16 << 20
TRIES = 5

CONFIG = load(None)
KIB, MIB = 1 << 10, 1 << 20


def review(pod: Json) -> bytes:
    request = {
        "uid": "u",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "shop",
        "object": {"apiVersion": "v1", "kind": "Pod", **pod},
    }
    whole = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": request,
    }
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()


def cost(ask: Callable[[], object]) -> tuple[float, int]:
    """Measure CPU seconds (the least of some tries), and peak bytes."""
    best = float("inf")
    for _ in range(TRIES):
        gc.collect()
        began = time.process_time()
        ask()
        best = min(best, time.process_time() - began)
        if best < SECONDS / 2:
            break
    tracemalloc.start()
    try:
        ask()
        return best, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def pod(
    count: int = 1,
    annotations: dict[str, str] | None = None,
    spec: Json | None = None,
    **container: Any,
) -> Json:
    named = [{"name": f"c{i}", "image": "shop", **container} for i in range(count)]
    return {
        "metadata": {"name": "p", "annotations": annotations or {}},
        "spec": {"containers": named, **(spec or {})},
    }


def words(size: int) -> str:
    """Give an entrypoint with many commands in one shell line."""
    return json.dumps(["sh", "-c", " ;" + "a;" * (size // 2)])


def many(size: int, key: Callable[[int], str], value: str) -> dict[str, str]:
    """Give as many annotations as fit."""
    each = len(key(10_000)) + len(value)
    return {key(i): value for i in range(size // each)}


def forged(size: int, record: str) -> str:
    """Give a status annotation with as many containers as fit."""
    each = len(record) + 9
    rows = ",".join(f'"{i:x}":{record}' for i in range(size // each))
    return '{"version":"x","containers":{' + rows + "}}"


PORTS = [{"containerPort": 8080}]
SMALL: Json = {"ports": PORTS}
FULL: Json = {
    "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 9000, "name": "grpc"}],
    "command": ["sh", "-c", "exec /app --listen=:8080"],
    "livenessProbe": {"httpGet": {"path": "/l", "port": "http"}, "periodSeconds": 3},
    "startupProbe": {"httpGet": {"path": "/s", "port": "grpc"}},
    "env": [{"name": "A", "value": "b"}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    "resources": {"requests": {"cpu": "1m"}, "limits": {"cpu": "2m"}},
}
GRACE = {"terminationGracePeriodSeconds": 0}

COUNTS = (1, MOST_CONTAINERS, 1000)


def _shared() -> dict[str, Json]:
    """Make annotations that apply to all containers."""
    made: dict[str, Json] = {}
    for count, size in itertools.product(COUNTS, (4000, 200 * KIB)):
        for kind, text in (
            ("words", words(size)),
            ("bytes", json.dumps(["x" * size])),
            ("argv", json.dumps(["a"] * min(256, size // 6))),
        ):
            annotations = {PREFIX + "ports": "80,81", PREFIX + "entrypoint": text}
            made[f"{count} containers, entrypoint of {size} {kind}"] = pod(count, annotations)
    return made


def _annotations() -> dict[str, Json]:
    """Fill the 256 KiB of annotations."""
    size = 250 * KIB
    made = {
        "unknown": many(size, lambda i: f"{PREFIX}{i:x}", ""),
        "long unknown": {f"{PREFIX}{'x' * 30_000}{i}": "1" for i in range(8)},
        "no container": many(size, lambda i: f"{PREFIX}delay.{i:x}", "5"),
        "invalid": {f"{PREFIX}delay.c{i}": "x" * 600 for i in range(400)},
        "others": many(size, lambda i: f"{i:x}", ""),
        "wide": {"note": "\N{ROCKET}" * (size // 4)},
        "all of ours": {
            f"{PREFIX}{key}.c{i}": value
            for i in range(1000)
            for key, value in (("delay", "7"), ("ports", "80"), ("drain-timeout", "9"))
        },
        "each its own entrypoint": {f"{PREFIX}entrypoint.c{i}": words(500) for i in range(400)},
        **{
            f"status of {name}": {STATUS_ANNOTATION: forged(size, record)}
            for name, record in (
                ("nothing", "{}"),
                ("lists", '{"codes":[],"empty":[]}'),
                ("words", '{"entrypoint":["a","b"],"empty":["lifecycle"]}'),
                ("hooks", '{"preStop":{"exec":{"command":["a"]}}}'),
            )
        },
        "status of one long list": {
            STATUS_ANNOTATION: '{"containers":{"c0":{"codes":['
            + ",".join(['"a"'] * (size // 4))
            + "]}}}"
        },
        "status of text": {STATUS_ANNOTATION: '{"version":"' + "\N{ROCKET}" * (size // 4) + '"}'},
    }
    return {
        f"{count} containers, annotations: {name}": pod(count, text, spec, **container)
        for name, text in made.items()
        for count, spec, container in (
            (1, {}, SMALL),
            (MOST_CONTAINERS, GRACE, SMALL),
            (MOST_CONTAINERS, {}, FULL),
        )
    }


def _containers() -> dict[str, Json]:
    """Make many containers."""
    made = {}
    for count in COUNTS:
        for name, container in (("bare", {}), ("small", SMALL), ("full", FULL)):
            made[f"{count} containers, {name}"] = pod(count, **container)
            made[f"{count} init containers, {name}"] = pod(
                spec={
                    "initContainers": [
                        {"name": f"i{i}", "restartPolicy": "Always", **container}
                        for i in range(count)
                    ]
                },
                **SMALL,
            )
    return made


def _commands() -> dict[str, Json]:
    """Make hooks and probes that take long to read."""
    made = {}
    for count, line in itertools.product(
        (1, MOST_HOOKS, MOST_CONTAINERS),
        (";a" * 500, "kill -0 " * 120, "(/a:1" * 200, "sleep 1;" * 120, "sh -c 'sh -c " * 80),
    ):
        asks = {"exec": {"command": ["sh", "-c", "kill -0 2 =1 " * 100]}}
        stop = {"exec": {"command": ["sh", "-c", line]}}
        hooks: Json = {"lifecycle": {"postStart": asks, "preStop": stop}}
        made[f"{count} containers, hooks of {line[:9]!r}"] = pod(count, **{**FULL, **hooks})
        probes: Json = {"livenessProbe": asks, "readinessProbe": stop, "startupProbe": asks}
        command = {"command": ["sh", "-c", line]}
        made[f"{count} containers, probes of {line[:9]!r}"] = pod(
            count, **{**FULL, **probes, **command, "lifecycle": {"postStart": asks}}
        )
    return made


def _lines() -> dict[str, Json]:
    """Make a long command line for each container."""
    return {
        f"{count} containers, own lines of {line[:6]!r}": pod(
            count, **{**FULL, "command": ["sh", "-c", line]}
        )
        for count in (1, MOST_CONTAINERS)
        for line in ("a;" * 2000, "env " * 1000, "a/b " * 1000, "exec " * 800)
    }


def _sizes() -> dict[str, Json]:
    """Fill one field, up to what etcd stores and what an API server reads."""
    made: dict[str, Json] = {}
    for size in (380 * KIB, 1400 * KIB):
        fields: dict[str, Json] = {
            "ports": {"ports": [{"containerPort": 1 + i % 60_000} for i in range(size // 25)]},
            "named ports": {
                "ports": [
                    {"name": f"p{i}", "containerPort": 1 + i, "protocol": "TCP"}
                    for i in range(size // 60)
                ],
                "livenessProbe": {"httpGet": {"path": "/", "port": "none"}},
            },
            "env": {"env": [{"name": f"A{i}", "value": ""} for i in range(size // 30)], **SMALL},
            "one env": {"env": [{"name": "A", "value": "b" * size}], **SMALL},
            "args of letters": {"args": ["a"] * (size // 4), **SMALL},
            "args of words": {"args": ["-" + "a" * 20] * (size // 24), **SMALL},
            "one arg": {"args": ["x" * size], **SMALL},
            "one wide arg": {"args": ["\N{ROCKET}" + "x" * size], **SMALL},
            "shell": {"command": ["sh", "-c", "a;" * (size // 2)], **SMALL},
            "shell of launchers": {"command": ["sh", "-c", "env " * (size // 4)], **SMALL},
            "launchers": {"command": ["env"] * (size // 6), **SMALL},
            "slashes": {"command": ["sh", "-c", "a/" * (size // 2)], **SMALL},
            "mounts": {
                "volumeMounts": [{"name": "", "mountPath": ""}] * (size // 28),
                **SMALL,
            },
            "mounts of slashes": {
                "volumeMounts": [{"name": "v", "mountPath": "/" * size}],
                **SMALL,
            },
            "hook of words": {
                "lifecycle": {"preStop": {"exec": {"command": ["a"] * (size // 4)}}},
                **SMALL,
            },
            "hook of shell": {
                "lifecycle": {
                    "preStop": {"exec": {"command": ["sh", "-c", "a/sleep;" * (size // 8)]}}
                },
                **SMALL,
            },
            "hook of blanks": {
                "lifecycle": {"preStop": {"exec": {"command": ["sh -c" + " " * size]}}},
                **SMALL,
            },
            "wide hook": {
                "lifecycle": {"preStop": {"exec": {"command": ["\N{ROCKET}" + "x" * size]}}},
                **SMALL,
            },
            "hook with headers": {
                "lifecycle": {
                    "preStop": {
                        "httpGet": {
                            "port": 80,
                            "path": "/",
                            "httpHeaders": [{"name": "A", "value": "b"}] * (size // 26),
                        }
                    }
                },
                **SMALL,
            },
            "hook with a header": {
                "lifecycle": {
                    "preStop": {
                        "httpGet": {"port": 80, "httpHeaders": [{"name": "A", "value": "b" * size}]}
                    }
                },
                **SMALL,
            },
            "hook with a path": {
                "lifecycle": {
                    "preStop": {"httpGet": {"port": 80, "path": "/drain?container=" + "b" * size}}
                },
                **SMALL,
            },
            "probe with headers": {
                "livenessProbe": {
                    "httpGet": {
                        "port": 80,
                        "path": "/",
                        "httpHeaders": [{"name": "A", "value": "b"}] * (size // 26),
                    }
                },
                **SMALL,
            },
            "probe of words": {
                "livenessProbe": {"exec": {"command": ["a"] * (size // 4)}},
                **SMALL,
            },
            "image": {"image": "nginx:" + "/" * size, **SMALL},
            "name": {"name": "c" * size, **SMALL},
            "quantity": {"resources": {"requests": {"cpu": "9" * size}}, **SMALL},
            "resources": {
                "resources": {"requests": {f"a/{i}": "1" for i in range(size // 14)}},
                **SMALL,
            },
        }
        made |= {
            f"{size // KIB} KiB, {name}": {
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c", "image": "shop", **field}]},
            }
            for name, field in fields.items()
        }
        made |= {
            f"{size // KIB} KiB, {name}": pod(spec=spec, **SMALL)
            for name, spec in {
                "volumes": {"volumes": [{"name": f"{i:x}"} for i in range(size // 16)]},
                "labels of nodes": {"nodeSelector": {f"{i:x}": "" for i in range(size // 10)}},
                "affinity": {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {
                                        "matchExpressions": [
                                            {
                                                "key": "kubernetes.io/os",
                                                "operator": "In",
                                                "values": ["windows"],
                                            }
                                        ]
                                    }
                                ]
                                * (size // 90)
                            }
                        }
                    }
                },
                "pull secrets": {
                    "imagePullSecrets": [{"name": f"{i:x}"} for i in range(size // 16)]
                },
            }.items()
        }
    return made


FAMILIES: dict[str, Callable[[], dict[str, Json]]] = {
    "shared by all containers": _shared,
    "annotations": _annotations,
    "containers": _containers,
    "commands": _commands,
    "lines": _lines,
    "sizes": _sizes,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_pod_costs_more_than_its_share(family: str) -> None:
    over = {}
    for name, made in FAMILIES[family]().items():
        body = review(made)
        if len(body) > 3 * MIB:
            continue

        def ask(body: bytes = body) -> Answer:
            return admission.answer(body, CONFIG)  # not from a cache

        seconds, peak = cost(ask)
        if seconds > SECONDS * 1.5 or peak > BYTES:
            over[name] = f"{seconds * 1e3:.0f} ms, {peak / MIB:.1f} MiB"
    assert over == {}


def test_the_measure_sees_what_is_too_much() -> None:
    """What one Pod once cost: a shell line was read for each of its containers."""
    line = json.loads(words(20 * KIB))[2]
    seconds, _ = cost(lambda: [line.split(";")[-1:] for _ in range(4000)])
    assert seconds > SECONDS


def test_the_command_line_has_the_same_bounds() -> None:
    """The same code decides manifests on disk; its parts are bounded one by one."""
    text = json.dumps({"apiVersion": "v1", "kind": "Pod"} | pod(300, **SMALL))
    (workload,) = manifests.read(text, "x").workloads
    assert [d.code for d in manifests.decided(workload, CONFIG).plan.decisions] == ["oversized"]
