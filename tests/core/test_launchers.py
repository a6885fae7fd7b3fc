"""Reading a command: which server it finally starts, and which init."""

import time
from itertools import chain, repeat

import pytest

from webhook.core.launchers import MOST_COMMANDS, Launcher, Launchers
from webhook.core.profile import Index
from webhook.profiles import BUILT_IN, LAUNCHERS

INDEX = Index(BUILT_IN.values(), LAUNCHERS)


@pytest.mark.parametrize(
    ("command", "profile"),
    [
        (["/usr/sbin/nginx", "-g", "daemon off;"], "nginx"),
        (["sh", "-c", "cd /srv; exec gunicorn shop.wsgi"], "gunicorn"),
        (["bash", "-euo", "pipefail", "-c", "migrate\nuvicorn shop:app"], "uvicorn"),
        (["sh", "-c", "if test -f x; then exec nginx -g 'daemon off;'; fi"], "nginx"),
        (["tini", "-g", "--", "gosu", "web", "granian", "shop:app"], "granian"),
        (["dumb-init", "--rewrite", "15:3", "nginx"], "nginx"),
        (["env", "-u", "DEBUG", "MODE=live", "haproxy", "-f", "/etc/haproxy.cfg"], "haproxy"),
        (["setpriv", "--reuid", "33", "--clear-groups", "apache2-foreground"], "apache"),
        (["su", "-s", "/bin/sh", "-c", "uwsgi --ini app.ini", "web"], "uwsgi"),
        (["sudo", "-E", "-u", "web", "gunicorn", "app"], "gunicorn"),
        (["nice", "-n", "5", "timeout", "-k", "5", "1d", "caddy", "run"], "caddy"),
        (["poetry", "run", "uvicorn", "shop:app"], "uvicorn"),
        (["uv", "run", "--python", "3.13", "--frozen", "gunicorn", "shop"], "gunicorn"),
        (["opentelemetry-instrument", "--traces_exporter", "otlp", "gunicorn"], "gunicorn"),
        (["newrelic-admin", "run-program", "gunicorn", "shop"], "gunicorn"),
        (["python3.12", "-W", "ignore", "-m", "hypercorn", "shop:app"], "hypercorn"),
        (["python", "manage.py", "runserver"], "dev-server"),
        (["npx", "next", "start"], "node"),
        (["/docker-entrypoint.sh", "nginx"], "nginx"),
        (["/wait-for-it.sh", "db:5432", "--", "gunicorn", "shop"], "gunicorn"),
        (["/usr/sbin/php-fpm8.9", "-F"], "php-fpm"),
        (["httpd-foreground"], "apache"),
        (["httpd", "-f", "/etc/httpd.conf", "-DFOREGROUND"], "apache"),
        (["httpd", "-f", "-p", "8080"], "busybox-httpd"),
        (["busybox", "httpd", "-fv"], "busybox-httpd"),
        (["sh", "-c", "cp -r /in /www && httpd -f -h /www"], "busybox-httpd"),
        (
            ["/opt/bitnami/scripts/nginx/entrypoint.sh", "/opt/bitnami/scripts/nginx/run.sh"],
            "nginx",
        ),
        # These only name a server.
        (["/wait-for-it.sh", "nginx:80"], None),
        (["curl", "nginx"], None),
        (["sh", "-c", "tail -f /var/log/nginx"], None),
        (["gosu", "nginx", "our-server"], None),
        (["sudo", "-u", "postgres", "our-server"], None),
        ([], None),
        (["sh", "-c"], None),
        (["tini"], None),
    ],
)
def test_a_command_is_looked_through(command: list[str], profile: str | None) -> None:
    found = INDEX.by_command(command)
    assert (found and found.name) == profile


@pytest.mark.parametrize(
    ("command", "init"),
    [
        (["/sbin/tini", "--", "app"], "tini"),
        (["/init"], "init"),
        (["/lib/systemd/systemd"], "systemd"),
        (["/.podgrace/podgrace-helper", "run", "--", "app"], "podgrace-helper"),
        (["busybox", "init"], "init"),
        (["sh", "-c", "chown app /data && exec /init"], "init"),
        (["/entrypoint.sh", "/sbin/init"], "init"),
        (["/usr/local/bin/start.sh", "/sbin/my_init"], "my_init"),
        (["sh", "/start.sh", "/init"], "init"),
        (["env", "A=b", "/sbin/init"], "init"),
        (["sh", "-c", "exec tini -- app"], "tini"),
        (["bash", "-c", "mkdir -p /run/s6; exec s6-svscan /run/s6"], "s6-svscan"),
        (["app", "/init"], ""),
        (["sh", "-c", "app --config /init"], ""),
        (["nginx"], ""),
        ([], ""),
    ],
)
def test_an_init_keeps_its_place(command: list[str], init: str) -> None:
    assert INDEX.launchers.init(INDEX.launchers.programs(command)) == init


def test_a_container_of_unknown_command_is_known_by_its_arguments_first() -> None:
    assert INDEX.by_image("hub.example/library/nginx:1.29@sha256:0").name == "nginx"
    assert INDEX.by_image("busybox", ["httpd", "-f"]).name == "busybox-httpd"
    assert INDEX.by_image("nginx", ["--upstream", "uvicorn"]).name == "nginx"
    assert INDEX.by_image("ours", ["--upstream", "uvicorn"]) is None


def test_a_name_has_one_kind() -> None:
    kind = Launcher(names=("sh",))
    with pytest.raises(ValueError, match=r"launchers\.b: 'sh' is in another table already"):
        Launchers({"a": kind, "b": kind})


@pytest.mark.parametrize("name", ["", "a b", "a,b", "/bin/sh", 'a"', "a*b"])
def test_a_name_is_one_that_c_can_hold(name: str) -> None:
    with pytest.raises(ValueError, match="accepted"):
        Launcher(names=(name,))


@pytest.mark.parametrize(
    "words",
    [
        ["env"] * 100_000,
        ["sh", "-c", "sh;" * 100_000 + " nginx"],
        ["sh", "-c", " " + "env " * 100_000],
        ["java", *["-Dx=y"] * 100_000],
        list(chain(["sh", "-c", *["-o"] * 50_000], repeat("=", 50_000))),
    ],
)
def test_the_longest_command_takes_no_time(words: list[str]) -> None:
    begin = time.process_time()
    INDEX.by_command(words)
    INDEX.launchers.init(INDEX.launchers.programs(words))
    assert time.process_time() - begin < 1.0


def test_of_a_long_line_the_end_is_read() -> None:
    words = ["sh", "-c", "x;" * 10_000 + " exec nginx"]
    assert INDEX.by_command(words).name == "nginx"
    words = ["sh", "-c", "nginx;" + "x;" * (MOST_COMMANDS + 1) + " y"]
    assert INDEX.by_command(words) is None
