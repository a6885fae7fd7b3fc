"""Pods of any shape, for hypothesis: valid ones, as an API server or a manifest would give them.

In: nothing. Out: strategies. Fields that none of our rules reads are scattered everywhere: they
must survive.
"""

from typing import Any

from hypothesis import strategies as st

from webhook.policy import KEYS, POD_KEYS

NAMES = ("web", "api", "db", "a", "app-1", "istio-proxy", "linkerd-proxy", "podgrace", "worker")
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)
PORTS = st.integers(1, 65535)
PATHS = st.sampled_from(["/", "/healthz", "/a b", "/ä", "/drain?container=web", "relative"])
WORDS = st.lists(
    st.one_of(
        TEXT, st.sampled_from(["sleep", "5", "--", "/bin/sh", "-c", "nginx", "$(VAR)", "tini"])
    ),
    min_size=1,
    max_size=5,
)
STRANGE = st.fixed_dictionaries(
    {},
    optional={"futureField": st.one_of(TEXT, st.integers(), st.none(), st.lists(TEXT, max_size=2))},
)


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Join objects."""
    return st.tuples(*parts).map(
        lambda found: {key: value for part in found for key, value in part.items()}
    )


def objects(
    required: dict[str, Any], optional: dict[str, Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Make an object, perhaps with a field of a newer API."""
    return merged(st.fixed_dictionaries(required, optional=optional), STRANGE)


HTTP = objects(
    {"port": PORTS},
    {
        "path": PATHS,
        "scheme": st.sampled_from(["HTTP", "HTTPS"]),
        "httpHeaders": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["Host", "X-A"]), "value": TEXT}),
            max_size=2,
        ),
    },
)
HANDLERS = st.one_of(
    st.fixed_dictionaries({"exec": st.fixed_dictionaries({"command": WORDS})}),
    st.fixed_dictionaries({"httpGet": HTTP}),
    st.fixed_dictionaries({"tcpSocket": st.fixed_dictionaries({"port": PORTS})}),
)
PROBES = merged(
    st.one_of(
        HANDLERS,
        st.fixed_dictionaries(
            {"grpc": st.fixed_dictionaries({"port": PORTS}, optional={"service": TEXT})}
        ),
    ),
    st.fixed_dictionaries(
        {},
        optional={"periodSeconds": st.integers(1, 60), "initialDelaySeconds": st.integers(0, 60)},
    ),
    STRANGE,
)

GRACED = merged(
    PROBES,
    st.fixed_dictionaries({}, optional={"terminationGracePeriodSeconds": st.integers(1, 90)}),
)
"""Liveness and startup probes; a readiness probe may not have a grace period of its own."""


def hooks(grace: int) -> st.SearchStrategy[dict[str, Any]]:
    """Make a lifecycle handler: a sleep no longer than the grace period, as the API demands."""
    return st.one_of(
        HANDLERS,
        st.fixed_dictionaries({"sleep": st.fixed_dictionaries({"seconds": st.integers(1, grace)})})
        if grace
        else HANDLERS,
    )


def lifecycles(grace: int) -> st.SearchStrategy[dict[str, Any]]:
    """Make a lifecycle."""
    return objects(
        {},
        {
            "preStop": hooks(grace),
            "postStart": hooks(grace),
            "stopSignal": st.sampled_from(["SIGUSR1", "SIGRTMIN+3"]),
        },
    )


def ports() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Make declared ports with unique names."""
    port = objects(
        {"containerPort": PORTS},
        {
            "name": st.sampled_from(["http", "metrics", "api", "x"]),
            "protocol": st.sampled_from(["TCP", "UDP"]),
        },
    )
    return st.lists(port, max_size=3, unique_by=lambda p: p.get("name", p["containerPort"]))


def containers(name: str, grace: int) -> st.SearchStrategy[dict[str, Any]]:
    """Make one container."""
    mounts = st.lists(
        objects(
            {
                "name": st.just("data"),
                "mountPath": st.sampled_from(["/data", "/.podgrace", "/.podgrace/", "/x"]),
            },
            {"readOnly": st.booleans()},
        ),
        max_size=3,
        unique_by=lambda mount: mount["mountPath"].rstrip("/"),
    )
    return objects(
        {
            "name": st.just(name),
            "image": st.sampled_from(["nginx", "r.example/shop:1", "postgres:17", "redis"]),
        },
        {
            "command": WORDS,
            "args": st.one_of(WORDS, st.just([])),
            "ports": ports(),
            "lifecycle": lifecycles(grace),
            "readinessProbe": PROBES,
            "livenessProbe": GRACED,
            "startupProbe": GRACED,
            "volumeMounts": mounts,
            "env": st.lists(st.fixed_dictionaries({"name": TEXT, "value": TEXT}), max_size=2),
            "resources": st.sampled_from(
                [{}, {"requests": {"cpu": "100m"}}, {"limits": {"cpu": "1", "memory": "1Gi"}}]
            ),
        },
    )


VALUES = st.one_of(
    TEXT,
    st.integers(-1, 4000).map(str),
    st.sampled_from(
        [
            "enabled",
            "disabled",
            "auto",
            "off",
            "sleep",
            "hook",
            "wrap",
            "keep",
            "before",
            "after",
            "http",
            "tcp",
            "grpc",
            "nginx",
            "/p",
        ]
    ),
    st.sampled_from(['["/app/server"]', "8080", "8080,9090", "30s", "2m"]),
)


def annotations() -> st.SearchStrategy[dict[str, str]]:
    """Make ours with good and bad values, and others'."""
    keys = [f"podgrace.io/{key}" for key in (*KEYS, *POD_KEYS)]
    ours = st.sampled_from([*keys, *(f"{key}.web" for key in keys), "podgrace.io/nonsense"])
    return st.dictionaries(
        st.one_of(ours, st.sampled_from(["team.example/a~b", "note"])), VALUES, max_size=6
    )


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """Make a whole Pod."""
    grace = draw(st.sampled_from([None, 0, 1, 2, 5, 30, 31, 120, 3600]))
    length = 30 if grace is None else grace
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    cut = draw(st.integers(1, len(names)))
    spec: dict[str, Any] = {
        "containers": [draw(containers(name, length)) for name in names[:cut]],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    if grace is not None:
        spec["terminationGracePeriodSeconds"] = grace
    inits = []
    for name in names[cut:]:
        container = draw(containers(name, length))
        if draw(st.booleans()):
            container["restartPolicy"] = "Always"
        else:
            for key in ("lifecycle", "readinessProbe", "livenessProbe", "startupProbe"):
                container.pop(key, None)
        inits.append(container)
    if inits or draw(st.booleans()):
        spec["initContainers"] = inits
    if draw(st.integers(0, 9)) == 0:
        spec["volumes"].append({"name": "podgrace", "emptyDir": {}})
    spec |= draw(
        objects(
            {},
            {
                "hostNetwork": st.booleans(),
                "shareProcessNamespace": st.booleans(),
                "restartPolicy": st.sampled_from(["Always", "Always", "Never"]),
                "os": st.sampled_from([{"name": "linux"}, {"name": "windows"}]),
                "nodeSelector": st.sampled_from([{}, {"kubernetes.io/os": "windows"}]),
                "securityContext": st.sampled_from(
                    [{}, {"runAsUser": 0}, {"runAsUser": 1000, "fsGroup": 1}]
                ),
                "resources": st.sampled_from(
                    [{}, {"requests": {"cpu": "1"}}, {"limits": {"cpu": "5m", "memory": "1Mi"}}]
                ),
            },
        )
    )
    metadata = draw(
        objects(
            {},
            {
                "name": st.just("p"),
                "labels": st.sampled_from(
                    [
                        {},
                        {"podgrace.io/inject": "enabled"},
                        {"podgrace.io/inject": "disabled"},
                        {"app": "x"},
                    ]
                ),
                "annotations": annotations(),
            },
        )
    )
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, **draw(STRANGE)}
