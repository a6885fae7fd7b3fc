"""What a user's own preStop does: every table row, its spellings, and what only looks like it."""

import pytest

from webhook.core.pod import Exec, Handler, HttpGet
from webhook.core.prestop import literal_sleep
from webhook.core.stops import LONGEST, PATHS, STOPS, Effect, effect


def shell(line: str) -> Handler:
    return Handler(exec=Exec(["/bin/sh", "-c", line]))


def argv(*words: str) -> Handler:
    return Handler(exec=Exec(list(words)))


def get(path: str) -> Handler:
    return Handler(http_get=HttpGet(8080, path))


STOP = [
    "nginx -s quit",
    "/usr/sbin/nginx -s stop",
    "openresty -s quit",
    "/wait-shutdown",
    "apachectl graceful-stop",
    "apachectl -k graceful-stop",
    "httpd -k stop",
    "/opt/tomcat/bin/catalina.sh stop 10 -force",
    "jboss-cli.sh --connect command=:shutdown",
    "asadmin stop-domain",
    "bundle exec pumactl stop",
    "uwsgi --stop /run/uwsgi.pid",
    "passenger stop",
    "caddy stop",
    "varnishadm stop",
    "squid -k shutdown",
    "pm2 stop all",
    "pilot-agent request POST quitquitquit",
    "linkerd-await --shutdown -- true",
    "nodetool -u a -pw b drain",
    "nats-server -sl=ldm=/run/nats.pid",
    "nats-server --signal ldm",
    "rabbitmqctl stop",
    "rabbitmq-upgrade drain --timeout 60",
    "redis-cli -a secret SHUTDOWN NOSAVE",
    "valkey-cli shutdown",
    "mysqladmin -uroot -psecret shutdown",
    "mysql -e SHUTDOWN",
    "mongosh admin --eval 'db.shutdownServer()'",
    "mongod --shutdown",
    "pg_ctl -D /data stop -m fast",
    "clickhouse-client -q 'SYSTEM SHUTDOWN'",
    "cockroach node drain 1",
    "consul leave",
    "ejabberdctl stop",
    "kafka-server-stop.sh",
    "zkServer.sh stop",
    "solr stop -all",
    "supervisorctl stop all",
    "supervisorctl -c /etc/s.conf shutdown",
    "s6-svc -wD -d /run/service/web",
    "s6-svscanctl -t /run/service",
    "sv force-stop web",
    "systemctl stop web",
    "service nginx stop",
    "start-stop-daemon --stop --name web",
    "postfix stop",
    "unbound-control stop",
    "asterisk -rx 'core stop gracefully'",
    "iptables -A INPUT -p tcp --dport 8080 -j REJECT; sleep 5",
    "java -jar /opt/jetty/start.jar STOP.PORT=8079 STOP.KEY=x --stop",
    "etcdctl --endpoints=x member remove $(cat /var/lib/etcd/id)",
    "poweroff",
    "kill 1",
    "kill -QUIT $(cat /run/web.pid)",
    "kill -s TERM `pidof web`",
    "kill -9 -1",
    "pkill -f gunicorn",
    "killall -q web",
    "fuser -k 8080/tcp",
    "pidof web | xargs kill -INT",
    "curl -s -XPOST http://127.0.0.1:9901/quitquitquit",
    "curl -X POST localhost:15000/drain_listeners?graceful",
    "wget -qO- --post-data= http://localhost:9901/healthcheck/fail",
    "curl -X POST http://[::1]:8080/actuator/shutdown",
    'curl -X POST "http://${POD_IP}:8080/actuator/shutdown"',
    "curl --unix-socket /run/x http://localhost/quitquitquit",
    "python3 -c \"import urllib.request as u; u.urlopen('http://localhost:9090/-/quit')\"",
]
SENT = [
    "echo SHUTDOWN | nc localhost 8005",
    "sleep 5; printf 'SHUTDOWN\\n' | nc -w 1 127.0.0.1 8005",
    "echo SHUTDOWN > /dev/tcp/localhost/8005",
    "echo -n shutdown | socat - TCP:localhost:11211",
    "echo 'disable frontend www' | socat stdio /run/haproxy.sock; sleep 10",
    'echo "shutdown frontend www" | socat - UNIX-CONNECT:/run/haproxy.sock',
    "echo q > /tmp/master-fifo",
    "echo Q >/run/uwsgi.fifo",
]
WRAPPED = [
    "exec nginx -s quit",
    "env A=b nginx -s quit",
    "A=b nginx -s quit",
    "timeout -k 5 30 nginx -s quit",
    "sudo -n nginx -s quit",
    "gosu www-data nginx -s quit",
    "touch /tmp/off && nginx -s quit",
    "if pgrep nginx; then nginx -s quit; fi",
    "(sleep 1; nginx -s quit)",
    "{ nginx -s quit; }",
    "test -e /off || nginx -s quit",
    "bash -lc 'nginx -s quit'",
    "sh -c \"sh -c 'nginx -s quit'\"",
    "echo bye\nnginx -s quit\nsleep 5",
    "nginx -s quit & wait",
    "# goodbye\nnginx -s quit",
]
GUESSES = [
    "/app/bin/server stop",
    "python manage.py shutdown",
    "sh /scripts/stop.sh",
    "/opt/graceful-shutdown.sh --now",
    "bash /graceful_stop",
    "echo stop > /run/server.ctl",
    "echo quit | nc localhost 9000",
    "kill -HUP 1",
    "pkill -USR1 haproxy",
    "curl localhost:8080/shutdown",
    "curl -X POST http://localhost:8080/api/stop",
]
NOTHING = [
    "touch /tmp/shutdown; sleep 20",
    "echo shutdown > /tmp/state",
    "echo shutdown > /tmp/shutdown.log",
    "echo stopping | nc -u log.svc 514",
    "echo 'show stat' | socat stdio /run/haproxy.sock",
    "echo 'set server www/a state drain' | socat stdio /run/haproxy.sock",
    "echo shutdown; sleep 5; nc -z localhost 8080; sleep 5",
    "rm -f /run/stop && sleep 10",
    "echo 'done; kill it'",
    "# kill 1\nsleep 3",
    "sleep 15",
    "nginx -s reload",
    "kill -0 1",
    "kill -l",
    "kill -CONT 1",
    "java -jar /app.jar --stop-words=a",
    "etcdctl member list",
    "redis-cli bgsave",
    "rabbitmqctl status",
    "nodetool flush",
    "supervisorctl status",
    "/scripts/pre-stop.sh",
    "/app/preStop",
    "/app/unstoppable",
    "curl http://registry.svc:8080/shutdown",
    "curl https://example.com/quitquitquit",
    "curl -X PUT http://localhost:8500/v1/agent/service/deregister/web",
    "curl localhost:8080/shutdown-status",
    "curl localhost:8080/health",
    "cp /etc/kill /tmp",
    "fuser 8080/tcp",
    "",
]


@pytest.mark.parametrize("line", [*STOP, *WRAPPED, *SENT])
def test_it_stops_the_server(line: str) -> None:
    found = effect(shell(line))
    assert found.shown
    assert not found.guess


@pytest.mark.parametrize("line", GUESSES)
def test_a_guess_is_called_one(line: str) -> None:
    found = effect(shell(line))
    assert found.shown
    assert found.guess


@pytest.mark.parametrize("line", NOTHING)
def test_it_only_looks_like_it(line: str) -> None:
    assert effect(shell(line)).shown == ""


def test_an_argv_without_a_shell_is_read_the_same() -> None:
    assert effect(argv("/bin/kill", "-s", "QUIT", "1")).shown
    assert effect(argv("nginx", "-s", "quit")).shown
    assert effect(argv("/bin/sh", "/scripts/stop.sh")).guess
    assert not effect(argv("touch", "/tmp/stop")).shown
    assert not effect(argv("/bin/echo", "a; kill 1")).shown
    assert effect(Handler()).shown == effect(argv()).shown == ""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/actuator/shutdown", "sure"),
        ("/manage/actuator/shutdown/", "sure"),
        ("/quitquitquit", "sure"),
        ("/drain_listeners?graceful", "sure"),
        ("/healthcheck/fail", "sure"),
        ("/-/quit", "sure"),
        ("/v1/agent/leave", "sure"),
        ("/wait-for-drain", "sure"),
        ("/shutdown", "guess"),
        ("/api/Stop", "guess"),
        ("/graceful-shutdown", "guess"),
        ("/", ""),
        ("/prestop", ""),
        ("/stop/later", ""),
        ("/actuator/health", ""),
        ("/drain", ""),
        ("/v1/agent/service/deregister/web", ""),
    ],
)
def test_requests(path: str, found: str) -> None:
    seen = effect(get(path))
    assert ("guess" if seen.guess else "sure" if seen.shown else "") == found


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("sleep 15 && nginx -s quit", 15),
        ("sleep 1.5; sleep 2s; kill 1", 4),
        ("sleep 1m; kill 1", 60),
        ("nginx -s quit; sleep 5", 0),
        ("while test -e /x; do sleep 1; done; kill 1", 0),
        ("sleep infinity; kill 1", 0),
        ("bash -c 'sleep 5; kill 1'", 5),
        ("sleep 20", 0),
    ],
)
def test_sleeps_ahead_of_a_stop_are_a_delay(line: str, seconds: int) -> None:
    assert effect(shell(line)).delay == seconds


@pytest.mark.parametrize(
    "user",
    [
        *map(shell, ("sleep 3", "/bin/sleep 2.5", "$BIN/sleep 3s", " sleep  3 ")),
        argv("sleep", "3"),
        argv("/usr/bin/sleep", "3"),
    ],
)
def test_a_plain_sleep_stops_nothing(user: Handler) -> None:
    """So if a hook's length is known, what it does need not be read."""
    assert literal_sleep(user) == 3
    assert effect(user) == Effect()


@pytest.mark.parametrize("line", ["poweroff;/bin/sleep 3", "x|/sleep 3", "'halt'/sleep 3"])
def test_a_command_in_front_of_a_sleep_is_no_plain_sleep(line: str) -> None:
    assert literal_sleep(shell(line)) is None


def test_no_password_is_shown() -> None:
    assert effect(shell("redis-cli -a secret shutdown")).shown == "redis-cli shutdown"
    assert effect(shell("mysqladmin -psecret shutdown")).shown == "mysqladmin shutdown"


def test_of_a_long_script_the_end_is_read() -> None:
    assert effect(shell("true\n" * LONGEST + "kill 1")).shown


def test_every_certain_row_has_its_source_and_an_example() -> None:
    programs = {line.split()[0].rsplit("/", 1)[-1] for line in STOP} | {"pumactl"}
    for row in STOPS:
        assert row.source
        assert programs & set(row.programs), f"no example of {row.programs}"
    assert all(row.source for row in PATHS if not row.guess)
