"""The servers under test, as data: how each starts, and how a bare stop of it goes.

In: nothing. Out: `SERVERS`. A row says what to expect of a *bare* stop, so that a new version that
stops differently fails a test; with the helper the tests expect the same of all rows.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.servers.kubelet import Image

ROOT: Final = Path(__file__).parents[2]
APPS: Final = Path(__file__).parent / "apps"
VENV: Final = ROOT / "build" / "servers" / "venv"
INSTALL: Final = "tests/servers/install"

KEPT, LOST, EITHER = "kept", "lost", "either"


@dataclass(frozen=True)
class Program:
    """One container: its command, and its configuration files in the Pod's directory."""

    command: tuple[str, ...]
    port: int = 8000
    files: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    user: int = 0
    own_signal: bool = True
    """Whether its official image has a stop signal of its own."""


@dataclass(frozen=True)
class Server:
    """One row. `bare`: by signal, the fate of the request in flight; PID 1 is the server."""

    name: str
    programs: dict[str, Program]
    profile: str
    version: tuple[str, ...]
    bare: dict[str, str]
    slow: str = "/slow"
    fast_body: bytes = b"fast\n"
    slow_body: bytes = b"slow\n"
    slow_seconds: float = 4.0
    grace: int = 5
    annotations: dict[str, str] = field(default_factory=dict)
    upstream: bool = False
    term_ends: bool = True
    """False: a bare TERM does not end it (no handler as PID 1, or a reload), only KILL does."""
    profile_ends: bool = True
    """False: as PID 1 it has no handler for its profile's signal either."""
    tini: str = ""
    """The fate of the request in flight below an init that forwards TERM; "": no difference."""
    for_ever: int | None = None
    """Requests that two clients that stay may lose at the drain's limit; None: not tried."""
    variant: bool = False
    """Another way to run a server that has a row already: not stopped in every way."""
    after: float = 0.0
    """Seconds that it takes by itself from the signal to its exit, when it is idle."""
    codes: frozenset[int] = frozenset({0})
    build: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def port(self) -> int:
        return next(iter(self.programs.values())).port

    @property
    def image_signal(self) -> str:
        """The signal that its official image asks for: the last one of `bare`."""
        return list(self.bare)[-1]


def python(program: str) -> str:
    return str(VENV / "bin" / program)


def _one(
    *command: str,
    files: tuple[tuple[str, str], ...] = (),
    env: tuple[tuple[str, str], ...] = (),
    user: int = 0,
) -> dict[str, Program]:
    return {"web": Program(command, files=files, env=env, user=user)}


def _package(name: str) -> tuple[str, ...]:
    return (python("python"), "-c", f"import importlib.metadata as m; print(m.version('{name}'))")


def _found(name: str) -> str:
    """Where a program is that Debian and the servers' lock lack; its name if nowhere."""
    return shutil.which(name) or name


_PATH = (("PYTHONPATH", str(APPS)),)
_FPM = str(
    next(iter(sorted(Path("/usr/sbin").glob("php-fpm[0-9]*"), reverse=True)), "/usr/sbin/php-fpm")
)
"""Debian names it after its version."""
_NGINX = ("/usr/sbin/nginx", "-p", "@DIR@", "-g", "daemon off;", "-c")


def _gunicorn(*options: str, app: str = "wsgi") -> dict[str, Program]:
    return _one(
        python("gunicorn"),
        "--bind=0.0.0.0:8000",
        "--worker-tmp-dir=/dev/shm",
        *options,
        app,
        env=_PATH,
    )


SERVERS: Final = {
    server.name: server
    for server in (
        Server(
            "nginx",
            _one(*_NGINX, "nginx.conf", files=(("nginx.conf", "nginx.conf"),)),
            "nginx",
            ("/usr/sbin/nginx", "-v"),
            {"TERM": LOST, "QUIT": KEPT},
            upstream=True,
            for_ever=2,
        ),
        Server(
            "gunicorn-sync",
            _gunicorn("--workers=6"),
            "gunicorn",
            _package("gunicorn"),
            {"TERM": KEPT},
        ),
        Server(
            "gunicorn-gthread",
            _gunicorn("--workers=2", "--threads=12"),
            "gunicorn",
            _package("gunicorn"),
            {"TERM": KEPT},
            after=2.0,
            for_ever=2,
        ),
        Server(
            "gunicorn-uvicorn",
            _gunicorn(
                "--workers=2", "--worker-class=uvicorn_worker.UvicornWorker", app="asgi:application"
            ),
            "gunicorn",
            _package("gunicorn"),
            {"TERM": KEPT},
            variant=True,
        ),
        Server(
            "uwsgi",
            _one(
                python("uwsgi"),
                "--master",
                "--http=:8000",
                "--http-keepalive=60",
                "--processes=2",
                "--threads=12",
                "--module=wsgi",
                env=_PATH,
            ),
            "uwsgi",
            _package("uwsgi"),
            {"TERM": LOST},
            term_ends=False,
            after=2.0,
        ),
        Server(
            "php-fpm",
            {
                "web": Program(
                    (*_NGINX, "nginx-php.conf"),
                    8000,
                    (("nginx-php.conf", "nginx-php.conf"), ("index.php", "index.php")),
                ),
                "php": Program(
                    (_FPM, "--nodaemonize", "--fpm-config=@DIR@/php-fpm.conf"),
                    9000,
                    (("php-fpm.conf", "php-fpm.conf"),),
                ),
            },
            "php-fpm",
            (_FPM, "--version"),
            {"TERM": LOST, "QUIT": LOST},
        ),
        Server(
            "apache-event",
            _one(
                "/usr/sbin/apache2",
                "-DFOREGROUND",
                "-f",
                "@DIR@/apache.conf",
                files=(("apache.conf", "apache.conf:event"),),
            ),
            "apache",
            ("/usr/sbin/apache2", "-v"),
            {"TERM": LOST, "WINCH": KEPT},
            upstream=True,
            after=1.0,
            for_ever=2,
        ),
        Server(
            "apache-prefork",
            _one(
                "/usr/sbin/apache2",
                "-DFOREGROUND",
                "-f",
                "@DIR@/apache.conf",
                files=(("apache.conf", "apache.conf:prefork"),),
            ),
            "apache",
            ("/usr/sbin/apache2", "-v"),
            {"TERM": LOST, "WINCH": KEPT},
            upstream=True,
            after=6.0,
            variant=True,
        ),
        Server(
            "haproxy",
            _one(
                "/usr/sbin/haproxy",
                "-W",
                "-db",
                "-f",
                "@DIR@/haproxy.cfg",
                files=(("haproxy.cfg", "haproxy.cfg"),),
                user=99,
            ),
            "haproxy",
            ("/usr/sbin/haproxy", "-v"),
            {"TERM": LOST, "USR1": KEPT},
            upstream=True,
        ),
        Server(
            "uvicorn",
            _one(
                python("uvicorn"),
                "--host=0.0.0.0",
                "--no-access-log",
                "asgi:application",
                env=_PATH,
            ),
            "uvicorn",
            _package("uvicorn"),
            {"TERM": KEPT},
            codes=frozenset({0, 143}),
            for_ever=2,
        ),
        Server(
            "uvicorn-workers",
            _one(
                python("uvicorn"),
                "--host=0.0.0.0",
                "--no-access-log",
                "--workers=2",
                "asgi:application",
                env=_PATH,
            ),
            "uvicorn",
            _package("uvicorn"),
            {"TERM": KEPT},
            after=1.0,
            variant=True,
        ),
        Server(
            "granian",
            _one(
                python("granian"),
                "--host=0.0.0.0",
                "--interface=asgi",
                "--workers=2",
                "asgi:application",
                env=_PATH,
            ),
            "granian",
            _package("granian"),
            {"TERM": KEPT},
        ),
        Server(
            "hypercorn-workers",
            _one(
                python("hypercorn"),
                "--bind=0.0.0.0:8000",
                "--workers=2",
                "asgi:application",
                env=_PATH,
            ),
            "hypercorn",
            _package("hypercorn"),
            {"TERM": LOST},
            after=1.0,
        ),
        Server(
            "waitress",
            _one(
                python("waitress-serve"),
                "--listen=0.0.0.0:8000",
                "--threads=24",
                "wsgi:application",
                env=_PATH,
            ),
            "waitress",
            _package("waitress"),
            {"TERM": KEPT},
            term_ends=False,
            tini=LOST,
            after=1.0,
        ),
        Server(
            "runserver",
            _one(python("python"), str(APPS / "manage.py"), "runserver", "0.0.0.0:8000", env=_PATH),
            "dev-server",
            _package("django"),
            {"TERM": LOST},
            fast_body=b"OK",
            slow_body=b"Sleep finished",
            after=1.0,
        ),
        Server(
            "runserver-noreload",
            _one(
                python("python"),
                str(APPS / "manage.py"),
                "runserver",
                "--noreload",
                "0.0.0.0:8000",
                env=_PATH,
            ),
            "dev-server",
            _package("django"),
            {"TERM": KEPT},
            fast_body=b"OK",
            slow_body=b"Sleep finished",
            term_ends=False,
            tini=LOST,
            codes=frozenset({0, 143}),
            variant=True,
        ),
        Server(
            "node",
            _one(
                "/usr/bin/node", "@DIR@/server.js", files=(("server.js", "server.js"),), user=1000
            ),
            "node",
            ("/usr/bin/node", "--version"),
            {"TERM": KEPT},
            term_ends=False,
            profile_ends=False,
            tini=LOST,
            codes=frozenset({143}),
        ),
        Server(
            "node-handler",
            _one(
                "/usr/bin/node",
                "@DIR@/server.js",
                files=(("server.js", "server.js"),),
                env=(("GRACEFUL", "1"),),
                user=1000,
            ),
            "node",
            ("/usr/bin/node", "--version"),
            {"TERM": KEPT},
            after=6.0,
            for_ever=2,
            variant=True,
        ),
        Server(
            "java",
            _one(
                "/usr/bin/java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", "@BUILD@", "Main"
            ),
            "java",
            ("/usr/bin/java", "-version"),
            {"TERM": LOST},
            codes=frozenset({143}),
            build=("/usr/bin/javac", "-d", "@BUILD@", str(APPS / "Main.java")),
            after=1.0,
        ),
    )
}

"""One program, or two that belong together, each stopped alone."""

FINISHING: Final = {
    server.name: server
    for server in (
        *(s for s in SERVERS.values() if not s.name.startswith(("runserver", "java"))),
        Server(
            "lighttpd",
            _one(
                "/usr/sbin/lighttpd",
                "-D",
                "-f",
                "@DIR@/lighttpd.conf",
                files=(("lighttpd.conf", "lighttpd.conf"),),
            ),
            "lighttpd",
            ("/usr/sbin/lighttpd", "-v"),
            {"INT": KEPT},
            upstream=True,
        ),
        Server(
            "caddy",
            _one(
                "/usr/bin/caddy",
                "run",
                "--adapter=caddyfile",
                "--config=@DIR@/Caddyfile",
                files=(("Caddyfile", "Caddyfile"),),
                env=(("HOME", "/tmp"),),
            ),
            "caddy",
            ("/usr/bin/caddy", "version"),
            {"TERM": KEPT},
            upstream=True,
        ),
        Server(
            "go-http",
            _one("@BUILD@/main"),
            "go-http",
            ("go", "version"),
            {"TERM": KEPT},
            build=("go", "build", "-o", "@BUILD@/main", str(APPS / "main.go")),
            needs=("go",),
        ),
        Server(
            "traefik",
            _one(
                _found("traefik"),
                "--entryPoints.web.address=:8000",
                "--providers.file.filename=@DIR@/routes.yml",
                files=(("routes.yml", "traefik-routes.yml"),),
            ),
            "traefik",
            (_found("traefik"), "version"),
            {"TERM": KEPT},
            upstream=True,
        ),
        Server(
            "envoy",
            _one(
                _found("envoy"),
                "--config-path",
                "@DIR@/envoy.yaml",
                "--concurrency",
                "2",
                files=(("envoy.yaml", "envoy.yaml"),),
            ),
            "envoy",
            ("sh", "-c", "envoy --version | grep -oE '[0-9]+[.][0-9]+[.][0-9]+'"),
            {"TERM": LOST},
            upstream=True,
        ),
    )
}
"""Servers whose clients are never sent away: what happens to requests that never pause."""

_DEMO: Final = {
    "slow": "/sleep",
    "fast_body": b"OK",
    "slow_body": b"Sleep finished",
    "slow_seconds": 10.0,
    "grace": 15,
    "annotations": {"drain-timeout": "10", "patience": "12"},
    "version": ("/usr/sbin/nginx", "-v"),
}

DEMOS: Final = {
    server.name: server
    for server in (
        Server(
            "demo-two-containers",
            {
                "web": Program(
                    (*_NGINX, "demo-nginx.conf"), 8000, (("demo-nginx.conf", "demo-nginx.conf"),)
                ),
                "app": Program(
                    (
                        python("gunicorn"),
                        "--bind=0.0.0.0:8001",
                        "--workers=4",
                        "--worker-tmp-dir=/dev/shm",
                        "p0.wsgi",
                    ),
                    8001,
                    env=_PATH,
                    own_signal=False,
                ),
            },
            "nginx,gunicorn",
            bare={"TERM": LOST, "QUIT": KEPT},
            **_DEMO,
        ),
        Server(
            "demo-one-container",
            _one(
                "/bin/bash",
                "@DIR@/demo.sh",
                files=(("demo.sh", "demo.sh"), ("demo-nginx.conf", "demo-nginx.conf")),
                env=_PATH,
            ),
            "generic",
            bare={"TERM": LOST, "QUIT": KEPT},
            needs=("/usr/sbin/nginx", python("gunicorn")),
            **_DEMO,
        ),
        Server(
            "demo-daemons",
            _one(
                "/bin/bash",
                "@DIR@/demo-daemons.sh",
                files=(
                    ("demo-daemons.sh", "demo-daemons.sh"),
                    ("demo-nginx.conf", "demo-nginx.conf"),
                ),
                env=_PATH,
            ),
            "generic",
            bare={"TERM": KEPT},
            term_ends=False,
            profile_ends=False,
            needs=("/usr/sbin/nginx", python("gunicorn")),
            **_DEMO,
        ),
    )
}
"""The article's own: nginx before gunicorn; a Django project whose /sleep takes ten seconds."""


def missing(server: Server) -> list[str]:
    """Return what the row needs and this machine lacks."""
    words = [
        *(program.command[0] for program in server.programs.values()),
        *server.build[:1],
        *server.needs,
    ]
    return sorted({word for word in words if "@" not in word and not shutil.which(word)})


def version(server: Server) -> str:
    """Ask the server itself."""
    done = subprocess.run(server.version, capture_output=True, text=True, check=False, timeout=60)
    words = (
        (done.stdout + done.stderr).replace("/", " ").replace(",", " ").replace('"', " ").split()
    )
    found = next(word.lstrip("vgo") for word in words if word.lstrip("vgo")[:1].isdigit())
    return found.partition("-")[0]


def images(
    server: Server, stop_signal: str, init: tuple[str, ...], directory: Path
) -> dict[str, Image]:
    """Lay the row's files into the Pod's directory, and describe its images."""
    made = {}
    build = ROOT / "build" / "servers" / server.profile
    (directory / "tmp").mkdir(parents=True, exist_ok=True)
    (directory / "tmp").chmod(0o777)

    def filled(text: str) -> str:
        return (
            text.replace("@DIR@", str(directory))
            .replace("@GUNICORN@", python("gunicorn"))
            .replace("@BUILD@", str(build))
        )

    if server.build and not build.exists():
        # Beside, then renamed: several tests start at the same time.
        beside = build.with_name(f"{build.name}.{os.getpid()}")
        beside.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [word.replace("@BUILD@", str(beside)) for word in server.build],
            check=True,
            timeout=120,
        )
        try:
            beside.rename(build)
        except OSError:
            shutil.rmtree(beside)
    for name, program in server.programs.items():
        for target, source in program.files:
            file, _, mpm = source.partition(":")
            (directory / target).write_text(
                filled((APPS / file).read_text(encoding="utf-8")).replace("@MPM@", mpm),
                encoding="utf-8",
            )
        command = tuple(filled(word) for word in program.command)
        made[f"registry.example/team/{name}:1"] = Image(
            (*init, *command), stop_signal if program.own_signal else "TERM", program.env
        )
    return made
