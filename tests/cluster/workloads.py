"""The servers under test, as Deployments: bare, with a plain sleep, with podgrace.

In: the name of a server and of a variant. Out: manifests. What is done to them belongs in
`mission`.

| variant  | what the manifest has                                                                |
|----------|--------------------------------------------------------------------------------------|
| bare     | image and port, nothing else                                                         |
| sleep    | `preStop.sleep: 5` everywhere, and podgrace's readiness probe: only the stop differs |
| podgrace | bare, and the label; where several servers share a Pod, podgrace.io/readiness-probe  |
"""

from typing import NamedTuple

from tests.cluster.kube import Tree, container, deployment, pod_template
from webhook.core.probe import TIMES

REPLICAS = 3
VARIANTS = ("bare", "sleep", "podgrace")


class Process(NamedTuple):
    """One container: name, port, and how its server starts: by the image or the Pod's command."""

    name: str
    port: int
    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


class Server(NamedTuple):
    """A server under test."""

    about: str
    processes: tuple[Process, ...]


def _one(about: str, *, args: tuple[str, ...] = (), command: tuple[str, ...] = ()) -> Server:
    return Server(about, (Process("app", 8080, args, command),))


_GUNICORN = (
    "gunicorn",
    "--bind=0.0.0.0:8080",
    "--workers=2",
    "--worker-class=gthread",
    "--threads=8",
    "demo.wsgi",
)
_UWSGI = (
    "uwsgi --plugins=http,python3 --http=0.0.0.0:8080 --master --processes=2 --threads=8 "
    "--virtualenv=/opt/python --module=demo.wsgi"
)

SERVERS = {
    "exits": _one("a server that exits at SIGTERM", args=("exits",)),
    "nginx": _one("nginx, by the image's entrypoint", args=("nginx",)),
    "gunicorn": _one("gunicorn with threads, by the Pod's command", command=_GUNICORN),
    "uwsgi": _one(
        "uWSGI with its HTTP router, by the Pod's command", command=tuple(_UWSGI.split())
    ),
    "php-fpm": Server(
        "php-fpm behind nginx, two containers",
        (Process("web", 8080, ("nginx-php",)), Process("php", 9000, ("php-fpm",))),
    ),
    "django": _one(
        "Django's development server, by the Pod's command",
        command=("python3", "/site/manage.py", "runserver", "0.0.0.0:8080"),
    ),
    "node": _one("Node without a signal handler, under tini", args=("node-tini",)),
    "demo": _one("the article's demo: nginx before gunicorn in one container", args=("demo",)),
}


def manifest(
    server: str,
    variant: str,
    image: str,
    *,
    replicas: int = REPLICAS,
    annotations: "dict[str, str] | None" = None,
) -> Tree:
    """Make the Deployment of one server in one variant.

    podgrace guesses no readiness probe where several servers share a Pod, and warns; nginx is up
    before php-fpm listens, so the author asks for one in each, by an annotation.
    """
    containers = []
    annotations = dict(annotations or {})
    if variant == "podgrace" and len(SERVERS[server].processes) > 1:
        annotations["podgrace.io/readiness-probe"] = "tcp"
    for process in SERVERS[server].processes:
        made = container(process.name, image, ports=[{"containerPort": process.port}])
        made |= {"args": [*process.args]} if process.args else {"command": [*process.command]}
        if variant == "sleep":
            made["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
            made["readinessProbe"] = {"tcpSocket": {"port": process.port}, **TIMES}
        containers.append(made)
    labels = {"podgrace.io/inject": "enabled"} if variant == "podgrace" else {}
    return deployment(
        server, replicas, pod_template(server, containers, labels=labels, annotations=annotations)
    )
