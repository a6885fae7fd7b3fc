"""What a command line says about its server's ports: where it listens, and who may connect.

In: the words of a command as the user wrote them, before we wrap it. Out: `Told`. The words may
hold options, addresses, and whole shell lines. We know nothing about the program, so we read with
caution: if a word might close a port to others, we assume that it does.

| the words                                            | say                                      |
|------------------------------------------------------|------------------------------------------|
| --port=8080, --bind 0.0.0.0:8080, -p 8080, PORT=8080 | it listens on 8080                       |
| --listen=127.0.0.1:8080, localhost:8080, [::1]:8080  | it listens on 8080, for its own Pod only |
| --http.host=127.0.0.1 --http.port=8080               | the same                                 |
| --bind-address 127.0.0.1                             | every port is for its own Pod only       |
| --bind=unix:/run/app.sock, and no port               | the same                                 |
| --udp=:8090                                          | 8090 is UDP                              |
| --upstream=127.0.0.1:8080, --db-host=127.0.0.1       | nothing: it sends requests there         |
| --metrics-addr=:9100                                 | nothing: users do not go there           |
| uvicorn, flask run..., and no address of its own     | every port is for its own Pod only: that |
|                                                      | is the server's default                  |
| --leader-elect, --election-id=x, flock FILE          | only one of many opens the port          |
| --peers=a,b, --join=a, --seeds=a, SEED_NODES=a       | it may wait for others before it opens   |
| nc, ncat, socat, TCP-LISTEN:80, tcpserver, xinetd    | each connection starts the work          |
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

MOST_WORDS: Final = 256
MOST_LETTERS: Final = 8192
"""How much of a command line is read. Longer ones hold a script; their first words still count."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """What the words say. `loopback_only`: a loopback address without a port, or a Unix socket.

    `peers`: it is told of other members of its cluster.
    """

    listens: frozenset[int] = frozenset()
    loopback: frozenset[int] = frozenset()
    udp: frozenset[int] = frozenset()
    loopback_only: bool = False
    elects: bool = False
    peers: bool = False
    per_connection: bool = False

    def closed(self, port: int) -> bool:
        """Whether a port is open only to the Pod itself."""
        return port in self.loopback or (self.loopback_only and port not in self.listens)


NOTHING: Final = Told()

TOOLS: Final = frozenset(
    {"nc", "ncat", "netcat", "nc.openbsd", "nc.traditional", "socat", "tcpserver", "tcpsvd"}
    | {"inetd", "xinetd", "websocketd", "busybox-nc", "systemd-socket-activate"}
    | {"s6-tcpserver", "s6-tcpserver4", "s6-tcpserver6"}
)
"""Programs that start their work with each connection, or end with it."""
_TOOL_ADDRESS: Final = re.compile(r"(?:tcp|openssl|sctp)[46]?-l(?:isten)?:", re.IGNORECASE)
"""An address of socat, which is often the image's entrypoint."""

_LOCAL: Final[Mapping[str, str]] = {
    **dict.fromkeys(["uvicorn", "gunicorn", "hypercorn", "granian", "daphne"], ""),
    **dict.fromkeys(["manage.py", "django-admin"], "runserver"),
    "flask": "run",
    "fastapi": "dev",
}
"""Servers that listen on loopback unless they are told an address, and the word that starts them.
From the documentation of each. A configuration file (-c, --config) may tell them, too."""

_ELECTS: Final = re.compile(
    "leader-?elect|leader-?lease|election-?(id|name|namespace)|lease-?(name|id|duration|lock)"
    "|lock-?(object-?)?(name|file)|enable-?leader|leader-?for-?life|elect-?leader"
)
_PEERS: Final = re.compile(
    "(?:^|-)(?:peers?|seeds|seed-(?:nodes?|hosts?|list|urls?)|join|jgroups|hazelcast|hz|gossip|raft"
    "|memberlist|initial-cluster|bootstrap-expect|quorum)(?:-|$)"
)
"""Options that name the other members of a cluster. A `--seed` is a number for chance."""
_OFF: Final = frozenset({"false", "0", "no", "off", "disabled"})

_HERE: Final = frozenset(
    {"http", "https", "web", "www", "server", "serve", "listen", "listener", "bind", "grpc", "h2c"}
    | {"api", "app", "application", "public", "rest", "tcp", "udp", "rpc", "client", "service"}
    | {"main", "default", "insecure", "secure", "network", "net", "s", "addr", "address", "ip"}
)
"""Words of an option that mean the server's own address. Any other word (db, upstream, metrics,
proxy...) means another server's, or a port that users do not need."""

_LAST: Final = frozenset(
    {"port", "ports", "addr", "address", "addresses", "host", "hostname", "bind", "binding"}
    | {"listen", "listener", "ip", "interface", "urls", "http", "https", "web", "grpc"}
    | {"udp", "tcp"}
)
"""How the names of options with an address end."""

_SHORT: Final = {"p": "port", "b": "bind", "l": "listen", "a": "address", "i": "ip", "S": "listen"}
_SHORT_HOSTS: Final = {"H": "host", "h": "host"}
_EMPTY: Final = frozenset[int]()
EMPTY: Final[Mapping[str, str]] = {}
_VARIABLES: Final = re.compile(
    "((HTTP|SERVER|LISTEN|BIND|APP|WEB)_)?(PORT|HOST|ADDR|ADDRESS|BIND|LISTEN|LISTEN_ADDR)"
    "|(UVICORN|GRANIAN|FLASK_RUN|NUXT|NITRO)_(HOST|PORT)|(ASPNETCORE|DOTNET)_URLS"
)
"""Variables that say where the program itself listens."""
_SETTING: Final = re.compile("(ASPNETCORE|DOTNET|UVICORN|GRANIAN|FLASK_RUN|NUXT|NITRO)_")
"""How they begin where the program's name stands before the option's."""
_WORDS: Final = frozenset(
    {"GUNICORN_CMD_ARGS", "JAVA_OPTS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "CATALINA_OPTS"}
)
"""Variables whose value is read as more arguments."""

_ADDRESS: Final = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+]*):(?://)?)?"
    r"(?P<host>\[[0-9A-Fa-f:.]*(?:%\w*)?\]|\*|\+|[A-Za-z0-9][A-Za-z0-9._-]*)?"
    r":(?P<port>[0-9]{1,5})(?:/.*)?"
)
_LOOPBACK: Final = re.compile(
    r"\[?(?:(?:::ffff:)?127(?:\.[0-9]{1,3}){1,3}|::1|0*(?::0*){6,7}:0*1"
    r"|localhost\d?(?:\.localdomain)?|ip6-localhost)\]?",
    re.IGNORECASE,
)
_ANYWHERE: Final = frozenset(
    {"", "*", "+", "0.0.0.0", "0", "[::]", "[]", "[0:0:0:0:0:0:0:0]"}  # noqa: S104 - it is read
)
_SOME: Final = re.compile("[.:*$0-9]")
"""What an address has, though it may be a variable; `--interface asgi` names none."""
_CUT: Final = re.compile(r"[\s'\"`;&|(){}<>,]+")
_PARTS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_ATTACHED: Final = re.compile(r"-([A-Za-z])((?:[0-9:\[*]|localhost).*)")
_WORTH: Final = re.compile(
    r":?\d\d|unix:|\.sock|127\.|::1|localhost|elect|lease|leader|lock"
    r"|\bn(et)?c(at)?\b|socat|tcp|inetd|websocketd|-l(isten)?:"
    r"|peer|seed|join|jgroups|hazelcast|hz|gossip|raft|memberlist|cluster|quorum|expect"
    r"|corn\b|granian|daphne|manage\.py|django-admin|flask|fastapi",
    re.IGNORECASE,
)
"""What a line must hold for any row of the table to fit."""
_NAMED: Final = re.compile(r"(?:--?|-D)?([A-Za-z][\w.-]*)=(.*)", re.DOTALL)


def read(words: Sequence[str], environment: Mapping[str, str] = EMPTY) -> Told:
    """Read a command, its arguments, and the values in its environment."""
    if not words and not environment:
        return NOTHING
    tokens = list(_tokens([*words, *(environment[n] for n in environment if n in _WORDS)]))
    if not environment and _WORTH.search(" ".join(tokens)) is None:
        return NOTHING
    reading = _Reading()
    for name, value in _options(tokens):
        reading.take(name, value)
    for name, value in environment.items():
        if len(name) < 40 and (
            _VARIABLES.fullmatch(name)
            or _ELECTS.search(dashed := _dashed(name))
            or _PEERS.search(dashed)
        ):
            reading.take(_SETTING.sub("", name), value[:80])
    return reading.told(
        per_connection=any(
            t.rsplit("/", 1)[-1] in TOOLS or _TOOL_ADDRESS.match(t) is not None for t in tokens
        ),
        locked=any(t.rsplit("/", 1)[-1] == "flock" for t in tokens),
        local=_is_local(tokens),
    )


def is_loopback(host: str) -> bool:
    """Whether an address is the Pod's own: 127.0.0.0/8, ::1, localhost."""
    return _LOOPBACK.fullmatch(host) is not None


class _Reading:
    """What was gathered so far from one command line; dropped when it has been read."""

    def __init__(self) -> None:
        self._listens: set[int] = set()
        self._loopback: set[int] = set()
        self._udp: set[int] = set()
        self._ports: dict[str, set[int]] = {}
        """By the head of the option's name: `http` for --http.port."""
        self._hosts: set[str] = set()
        """Heads of options that name a loopback address without a port."""
        self._elects = False
        self._peers = False
        self._socket = False
        self._open = False
        """An address that others reach was named."""

    def take(self, name: str, value: str) -> None:
        """Take an option and its value, or a bare word under the name ""."""
        parts = _dashed(name).split("-") if name else []
        if parts and _ELECTS.search("-".join(parts)) and value.lower() not in _OFF:
            self._elects = True
        if parts and _PEERS.search("-".join(parts)) and value.lower() not in _OFF:
            self._peers = True
        # Numbers at the end tell several of a kind apart: http2, listen0.
        while parts and parts[-1].isdigit():
            parts.pop()
        head, last = tuple(parts[:-1]), parts[-1] if parts else ""
        if parts and not (last in _LAST and _HERE.issuperset(head)):
            return
        for one in value.split(","):
            self._address("-".join(head), last, one.strip("'\""))

    def told(self, *, per_connection: bool, locked: bool, local: bool) -> Told:
        """Join hosts and ports that belong to the same options.

        `local`: its server listens on loopback unless it is told an address.
        """
        if local and not self._open:
            self._hosts.add("")
        open_to_all = set(self._listens)
        only = self._socket and not self._listens
        for head in self._hosts:
            ports = self._ports.get(head) or self._ports.get("")
            self._loopback |= ports or _EMPTY
            open_to_all -= ports or _EMPTY
            only |= not ports
        return Told(
            frozenset(open_to_all - self._loopback),
            frozenset(self._loopback),
            frozenset(self._udp),
            only,
            self._elects or locked,
            self._peers,
            per_connection,
        )

    def _address(self, head: str, last: str, text: str) -> None:
        if text.isascii() and text.isdigit() and len(text) < 6:
            if last in ("port", "ports", "http", "https", "listen", "listener", "bind", "udp"):
                self._port(head, last, int(text))
            return
        if last and is_loopback(text):
            self._hosts.add(head)
            return
        if last and text.startswith(("unix:", "/")):
            self._socket |= text.startswith("unix:") or text.endswith((".sock", ".socket"))
            return
        found = _ADDRESS.fullmatch(text)
        if found is None:
            self._open |= last not in ("", "port", "ports") and _SOME.search(text) is not None
            return
        host, port = found["host"] or "", int(found["port"])
        if is_loopback(host):
            self._loopback.add(port)
            return
        self._open |= bool(last) or host in _ANYWHERE
        if host in _ANYWHERE or (last in ("bind", "listen", "listener") and host):
            self._port(head, "udp" if found["scheme"] == "udp" else last, port)

    def _port(self, head: str, last: str, port: int) -> None:
        if not 1 <= port <= 65535:
            return
        if "udp" in (last, *head.split("-")):
            self._udp.add(port)
            return
        self._listens.add(port)
        self._ports.setdefault(head, set()).add(port)


def _is_local(tokens: Sequence[str]) -> bool:
    """Whether a server of `_LOCAL` is started, and no configuration file is named after it."""
    for at, token in enumerate(tokens):
        word = _LOCAL.get(token.rsplit("/", 1)[-1])
        if word is not None:
            rest = tokens[at + 1 :]
            configured = any(t == "-c" or t.startswith("--config") for t in rest)
            return not configured and (not word or word in rest)
    return False


def _dashed(name: str) -> str:
    """Spell a name with dashes: serverPort, SERVER_PORT and server.port are server-port."""
    return "-".join([part.lower() for part in _PARTS.findall(name)])


def _tokens(words: Sequence[str]) -> Iterator[str]:
    """Give the words one by one, those of a shell line too."""
    left = MOST_LETTERS
    for word in words[:MOST_WORDS]:
        text = word[:left]
        left -= len(text)
        if len(text) > 1 and _CUT.search(text):
            yield from (piece for piece in _CUT.split(text) if piece)
        else:
            yield text


def _options(tokens: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair options with their values: `--x=y`, `--x y`, `-x y`, `-xy`, `x=y`, and bare words."""
    waiting = ""
    for token in tokens:
        if (found := _NAMED.fullmatch(token)) is not None:
            if waiting:
                yield waiting, ""
            waiting = ""
            yield found[1].removeprefix("D") if token.startswith("-D") else found[1], found[2]
        elif (found := _ATTACHED.fullmatch(token)) is not None:
            waiting = ""
            yield _SHORT.get(found[1], ""), found[2]
        elif token.startswith("-") and len(token) > 1:
            if waiting:
                yield waiting, ""
            letter = token[1:] if len(token) == 2 else ""
            waiting = _SHORT.get(letter) or _SHORT_HOSTS.get(letter) or token.lstrip("-")
        else:
            yield waiting, token
            waiting = ""
    if waiting:
        yield waiting, ""
