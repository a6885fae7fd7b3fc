"""What a user's own preStop does: whether it stops the server, or makes it refuse.

In: a preStop handler. Out: `Effect`. A hook that stops the server or makes it refuse must run after
the drain, or it cuts the requests that the drain waits for; `prestop` takes care of that. A hook
that is not known here does something else (it deregisters, flushes, waits), and runs before.

How a hook is read:

1. A request is looked up in `PATHS` by the end of its path, whoever sends it: the kubelet, or curl,
   wget and the like to localhost. A request to another host concerns another server.
2. A shell line is read command by command, with respect for its quotes. The program, also one
   behind `env`, `exec`, `timeout`, `xargs` or a shell, is looked up in `STOPS` by its name and its
   words.
3. A text that `echo` sends to a socket, a pipe or a port is looked up in `TEXTS`.
4. A row marked as a guess relies on a single word. A file's name in an argument does not count:
   `touch /tmp/shutdown`.
5. Plain sleeps before the first such command are a delay: `sleep 15 && nginx -s quit`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from webhook.core.pod import Handler

LONGEST: Final = 1024
MOST_TOKENS: Final = 192
MOST_COMMANDS: Final = 24
"""How many characters, tokens and commands at the end of a line are read: more would hold up
others."""


class Effect(msgspec.Struct, frozen=True, gc=False):
    """What a hook does. `shown`: the words that say so, or ""; `delay`: seconds of sleep before."""

    shown: str = ""
    guess: bool = False
    delay: int = 0


NOTHING: Final = Effect()


class Stop(msgspec.Struct, frozen=True, gc=False):
    """One row: names of programs, what their words must match, and where this is documented."""

    programs: tuple[str, ...]
    words: re.Pattern[str]
    source: str
    guess: bool = False


class Path(msgspec.Struct, frozen=True, gc=False):
    """One row: the end of a path, and where this is documented."""

    end: re.Pattern[str]
    source: str
    guess: bool = False


def _stop(programs: str, words: str, source: str, *, guess: bool = False) -> Stop:
    return Stop(tuple(programs.split()), re.compile(words), source, guess)


def _path(end: str, source: str, *, guess: bool = False) -> Path:
    return Path(re.compile(rf"(?:.*/)?(?:{end})/?", re.IGNORECASE), source, guess)


PATHS: Final = (
    _path("actuator/shutdown", "Spring Boot, Actuator endpoints"),
    _path("quitquitquit|abortabortabort", "Envoy, administration interface; Cloud SQL Auth Proxy"),
    _path("drain_listeners|healthcheck/fail", "Envoy, administration interface"),
    _path("-/quit", "Prometheus, management API"),
    _path("v1/agent/leave", "Consul, agent HTTP API"),
    _path("wait-for-drain", "Knative, queue-proxy: it returns when its server is idle"),
    _path("(?:graceful[-_]?)?(?:shutdown|stop|quit|exit|terminate|halt|kill)", "", guess=True),
)

_ANY: Final = ""
_WORD: Final = r"(?:^|\s)(?:{})(?=\s|$)"

STOPS: Final = (
    _stop(
        "nginx openresty angie tengine", r"-s\s*(?:quit|stop)\b", "nginx, command-line parameters"
    ),
    _stop("wait-shutdown", _ANY, "ingress-nginx, cmd/waitshutdown: it stops nginx and waits"),
    _stop(
        "apachectl apache2ctl httpd apache2",
        _WORD.format("graceful-stop|stop"),
        "Apache httpd, apachectl",
    ),
    _stop("catalina.sh", _WORD.format("stop"), "Apache Tomcat, RUNNING.txt"),
    _stop("java", r"\bstart\.jar\b.*--stop\b", "Jetty, operations guide"),
    _stop("jboss-cli.sh", r"\bshutdown\b", "WildFly, management CLI"),
    _stop("asadmin", _WORD.format("stop-[a-z-]+"), "GlassFish, asadmin"),
    _stop("pumactl", _WORD.format("stop|halt"), "Puma, pumactl"),
    _stop("uwsgi", r"--stop\b", "uWSGI, options"),
    _stop(
        "passenger passenger-config", _WORD.format("stop|detach-process"), "Passenger, command line"
    ),
    _stop("caddy", _WORD.format("stop"), "Caddy, command line"),
    _stop("varnishadm", _WORD.format("stop"), "Varnish, varnish-cli"),
    _stop("squid", r"-k\s*(?:shutdown|interrupt|kill)\b", "Squid, squid(8)"),
    _stop("pm2", _WORD.format("stop|delete|kill"), "PM2, command line"),
    _stop(
        "pilot-agent",
        r"quitquitquit|drain_listeners|healthcheck/fail",
        "Istio, pilot-agent request",
    ),
    _stop("linkerd-await", r"--shutdown\b|-S\b", "linkerd-await, README"),
    _stop(
        "nodetool",
        _WORD.format("drain|stopdaemon|decommission|disable(?:binary|gossip|thrift)"),
        "Cassandra, nodetool",
    ),
    _stop("nats-server", r"(?:-sl|--signal)[\s=]*(?:ldm|quit|stop|term)", "NATS, signals"),
    _stop("rabbitmqctl", _WORD.format("stop|stop_app|shutdown"), "RabbitMQ, rabbitmqctl(8)"),
    _stop("rabbitmq-upgrade", _WORD.format("drain"), "RabbitMQ, rabbitmq-upgrade(8)"),
    _stop("redis-cli valkey-cli keydb-cli", r"(?i)\bshutdown\b", "Redis, SHUTDOWN"),
    _stop("mysqladmin mariadb-admin", _WORD.format("shutdown"), "MySQL, mysqladmin"),
    _stop("mysql mariadb", r"(?i)\bshutdown\b", "MySQL, SHUTDOWN statement"),
    _stop("mongo mongosh", r"shutdownServer|shutdown\s*:\s*1", "MongoDB, shutdown command"),
    _stop("mongod", r"--shutdown\b", "MongoDB, mongod options"),
    _stop("pg_ctl pg_ctlcluster", _WORD.format("stop"), "PostgreSQL, pg_ctl"),
    _stop("clickhouse-client clickhouse", r"(?i)\bsystem\s+shutdown\b", "ClickHouse, SYSTEM"),
    _stop("cockroach", _WORD.format("drain|quit"), "CockroachDB, node drain"),
    _stop("etcdctl", r"\bmember\s+remove\b", "etcd, runtime reconfiguration: it ends then"),
    _stop("consul", _WORD.format("leave"), "Consul, command line"),
    _stop("ejabberdctl emqx emqx_ctl vernemq", _WORD.format("stop|leave"), "their control scripts"),
    _stop(
        "kafka-server-stop kafka-server-stop.sh zookeeper-server-stop zookeeper-server-stop.sh",
        _ANY,
        "Apache Kafka, bin/",
    ),
    _stop("zkServer.sh", _WORD.format("stop"), "ZooKeeper, administrator's guide"),
    _stop("solr", _WORD.format("stop"), "Apache Solr, control script"),
    _stop("supervisorctl", _WORD.format("stop|shutdown"), "Supervisor, supervisorctl"),
    _stop("s6-svc", r"-[a-z]*[dkt]", "s6, s6-svc"),
    _stop("s6-svscanctl", r"-[a-z]*[tqb]", "s6, s6-svscanctl"),
    _stop("sv", _WORD.format("(?:force-)?(?:stop|shutdown)|down|exit|term|kill"), "runit, sv(8)"),
    _stop("systemctl", _WORD.format("stop|kill|poweroff|halt"), "systemd, systemctl(1)"),
    _stop("service rc-service invoke-rc.d", _WORD.format("stop"), "init scripts (LSB)"),
    _stop("start-stop-daemon", r"(?:^|\s)(?:--stop|-K)\b", "start-stop-daemon(8)"),
    _stop("postfix dovecot", _WORD.format("stop|abort"), "postfix(1), doveadm(1)"),
    _stop("rndc unbound-control", _WORD.format("stop|halt"), "rndc(8), unbound-control(8)"),
    _stop(
        "asterisk fs_cli",
        r"\b(?:core stop|core shutdown|fsctl shutdown|shutdown)\b",
        "their consoles",
    ),
    _stop("iptables ip6tables", r"-j\s*(?:REJECT|DROP)\b", "iptables(8): it refuses"),
    _stop("poweroff halt shutdown killall5", _ANY, "the system's own commands"),
)
"""Rows that are certain. `kill` and the like are read by their signal; any other word is a
guess."""

TEXTS: Final = (
    _stop("", r"^\s*(?:SHUTDOWN|shutdown)\s*$", "Tomcat, shutdown port; memcached; Redis"),
    _stop("", r"^\s*[qQ]\s*$", "uWSGI, Master FIFO"),
    _stop("", r"\b(?:shutdown|disable)\s+frontend\b", "HAProxy, management guide"),
    _stop("", r"^\s*(?:stop|quit|exit|terminate|kill)\b", "", guess=True),
)
"""What a server is told by a text, whoever sends it."""
_SAYS: Final = frozenset({"echo", "printf"})
_SENDS: Final = frozenset({"nc", "ncat", "netcat", "socat", "telnet"})
_REDIRECT: Final = re.compile(r"\s*[0-9]?>>?\s*(\S*)\s*$")
_CHANNEL: Final = re.compile(r"/dev/(?:tcp|udp)/.+|.*(?:fifo|pipe|\.sock|\.socket|\.ctl)")
"""A file that somebody reads at once."""

_KILLS: Final = frozenset({"kill", "pkill", "killall", "skill", "fuser"})
_NO_STOP: Final = frozenset({"0", "L", "CONT", "18", "STOP", "19", "TSTP", "20", "CHLD", "17"})
_OFTEN_NO_STOP: Final = frozenset({"HUP", "1", "USR1", "10", "USR2", "12", "WINCH", "28"})
_SIGNAL: Final = re.compile(
    r"(?:^|\s)-(?:-signal[=\s]|s\s*|n\s*)?(?:SIG)?([0-9]{1,2}|[A-Z][A-Z0-9]*|l)(?=\s|$)"
)

# fmt: off
_FILES: Final = frozenset([
    "touch", "echo", "printf", "rm", "mkdir", "cat", "cp", "mv", "ls", "ln", "test", "[", "[[",
    "true", "false", ":", "cd", "export", "set", "unset", "date", "logger", "chmod", "chown",
    "grep", "sed", "awk", "tee", "find", "wait", "read", "return", "exit", "source", ".",
])
# fmt: on
"""Programs whose words are files or text."""
# fmt: off
_VERBS: Final = frozenset([
    "stop", "shutdown", "quit", "terminate", "halt", "graceful-stop", "graceful-shutdown",
    "graceful_stop", "graceful_shutdown", "drain", "stop_app", "kill", "exit",
])
# fmt: on
_NAMED: Final = re.compile(
    r"(?<![a-z])(?:stop|shutdown|quit|terminate|kill|halt)(?![a-z])", re.IGNORECASE
)
_PRE: Final = re.compile(r"pre[-_.]?(?:stop|shutdown)", re.IGNORECASE)

# fmt: off
_SKIPPED: Final[Mapping[str, int]] = {
    **dict.fromkeys([
        "exec", "env", "sudo", "bundle", "nohup", "command", "busybox", "time", "timeout", "xargs",
        "nice", "setsid", "eval", "if", "then", "else", "elif", "do", "while", "until", "!", "{",
    ], 0),
    **dict.fromkeys(["gosu", "su-exec", "s6-setuidgid", "setuidgid", "chpst", "flock"], 1),
}
# fmt: on
"""Words in front of a program, and how many operands they have."""
_LOOPS: Final = frozenset({"while", "until", "for"})
_SHELLS: Final = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh", "su"})
_INTERPRETERS: Final = re.compile(r"python[0-9.]*|node|ruby|perl|php|sh|bash|ash|dash|zsh|ksh")

_TOKEN: Final = re.compile(
    r"'([^']*)'|\"((?:[^\"\\]|\\.)*)\"|(\|\||&&|[;&|()\n`]|\$\()|((?:\\.|[^\s'\"`;&|()\\])+)|(\s+)",
    re.DOTALL,
)
_COMMENT: Final = re.compile(r"(?:^|(?<=\s))#[^\n]*")
_URL: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>localhost|127\.[0-9.]+|\[::1?\]|0\.0\.0\.0|\$\{?\w+\}?"
    r"|\$\(hostname(?: -[a-zA-Z])?\))?(?P<port>:(?:[0-9]{1,5}|\$\{?\w+\}?))?"
    r"(?P<path>/[^\s?#'\"`;&|)]*)"
)
_SLEEP: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{0,6})?)([smh]?)")
_UNITS: Final[Mapping[str, int]] = {"": 1, "s": 1, "m": 60, "h": 3600}


def effect(user: Handler) -> Effect:
    """Look up a handler."""
    if user.http_get is not None:
        return _by_path(user.http_get.path or "/") or NOTHING
    words = (user.exec.command if user.exec is not None else None) or ()
    return _by_command(words, 0)


def _by_path(path: str) -> Effect | None:
    """Look up a request by its path."""
    bare = re.split(r"[?#]", path[:LONGEST], maxsplit=1)[0]
    for row in PATHS:
        if row.end.fullmatch(bare):
            return Effect(bare, row.guess)
    return None


def _by_command(words: Sequence[str], depth: int) -> Effect:
    """Look up a command line: its first command that stops something."""
    delay, looping, spoken = 0, False, ""
    for command in [*_commands(words)][-MOST_COMMANDS:]:
        head = _program(command)
        looping = looping or command[0] in _LOOPS
        if not head:
            continue
        name = head[0].rsplit("/", 1)[-1]
        sent, spoken = spoken, _spoken(head) if name in _SAYS else ""
        if name == "sleep":
            delay += 0 if looping else _seconds(head[1:])
            continue
        found = _by_command(head, depth + 1) if name in _SHELLS and depth < 2 else _one(name, head)
        if name in _SENDS and not found.shown:
            found = _sent(name, sent)
        delay += found.delay
        if found.shown:
            return replace(found, shown=found.shown[:80], delay=delay)
    # Sleep is a delay only before a stop: alone, only its author knows what it is for.
    return Effect(delay=delay) if depth else NOTHING


def _commands(words: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split what an exec handler runs into simple commands, each a list of words."""
    line = _line_of(words)
    if line is None:
        if words:
            yield words if len(words) <= MOST_TOKENS else words[:MOST_TOKENS]
        return
    command: list[str] = []
    joined = False
    line = _COMMENT.sub("", line[-LONGEST:])
    for single, double, operator, plain, blank in _TOKEN.findall(line)[-MOST_TOKENS:]:
        if operator:
            if command:
                yield command
            command, joined = [], False
        elif blank:
            joined = False
        else:
            word = single or double or plain or ""
            if joined:
                command[-1] += word
            else:
                command.append(word)
            joined = True
    if command:
        yield command


def _line_of(words: Sequence[str]) -> str | None:
    """Give the line that a shell gets with -c."""
    head = _program(words)
    if head and head[0].rsplit("/", 1)[-1] in _SHELLS:
        for i, word in enumerate(head[1:8], 1):
            if word[:1] == "-" and word[-1] == "c" and i + 1 < len(head):
                return head[i + 1]
    return None


def _program(words: Sequence[str]) -> Sequence[str]:
    """Skip what stands in front of a program: variables, keywords, and programs that run others."""
    operands = 0
    for at, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        if name in _SKIPPED:
            operands = _SKIPPED[name]
        elif (at and word[:1] == "-") or ("=" in word and word.partition("=")[0].isidentifier()):
            continue
        elif operands or _SLEEP.fullmatch(word):
            operands = max(0, operands - 1)  # no program is called as a number
        else:
            return words[at:] if at else words
        if at > MOST_COMMANDS:
            break
    return ()


def _one(name: str, words: Sequence[str]) -> Effect:
    """Look up one simple command."""
    said = " ".join(words[1:])[:LONGEST]
    if name in _KILLS:
        return _killed(name, said)
    for row in _BY_PROGRAM.get(name, ()):
        if found := row.words.search(said):
            # Only what matched: other words may be a password.
            return Effect(f"{name} {found[0].strip()}".strip(), row.guess)
    if name in _SAYS:
        where = _REDIRECT.search(said)
        if where is not None and _CHANNEL.fullmatch(where[1]):
            return _sent(name, _REDIRECT.sub("", _spoken(words)))
    if name in _FILES:
        return NOTHING
    for url in _URL.finditer(said) if "/" in said and ":" in said else ():
        local = url["host"] or (not url["scheme"] and url["port"])
        if local and (url["scheme"] or url["port"]) and (request := _by_path(url["path"])):
            return request
    return _guess(name, words)


def _spoken(words: Sequence[str]) -> str:
    """Give what `echo` or `printf` says, without options and the newline at its end."""
    said = " ".join(word for word in words[1:] if word not in ("-n", "-e", "-ne", "-en", "%s"))
    return said.replace("\\r", "").replace("\\n", "")[:LONGEST]


def _sent(name: str, text: str) -> Effect:
    """Look up a text that is sent to a server."""
    for row in TEXTS:
        if found := row.words.search(text):
            return Effect(f"{name} {found[0].strip()}", row.guess)
    return NOTHING


def _killed(name: str, said: str) -> Effect:
    """Read the signal that is sent: some stop nothing, some only sometimes (a guess)."""
    signal = _SIGNAL.search(said)
    what = (signal[1] if signal else "TERM").upper()
    if what in _NO_STOP or (name == "fuser" and not re.search(r"(?:^|\s)-\w*k", said)):
        return NOTHING
    return Effect(f"{name} {what}", what in _OFTEN_NO_STOP)


def _guess(name: str, words: Sequence[str]) -> Effect:
    """Guess by a verb among the first words, or by the program's own name."""
    script = words[1] if len(words) > 1 and _INTERPRETERS.fullmatch(name) else name
    own = script.rsplit("/", 1)[-1]
    if _NAMED.search(own) and " " not in own and _NAMED.search(_PRE.sub("", own)):
        return Effect(script, guess=True)
    verb = next((word for word in words[1:6] if word in _VERBS), "")
    return Effect(f"{name} {verb}", guess=True) if verb else NOTHING


def _seconds(words: Sequence[str]) -> int:
    found = _SLEEP.fullmatch(words[0]) if words else None
    return 0 if found is None else math.ceil(float(found[1]) * _UNITS[found[2]])


_BY_PROGRAM: Final[dict[str, list[Stop]]] = {}
for _row in STOPS:
    for _name in _row.programs:
        _BY_PROGRAM.setdefault(_name, []).append(_row)
