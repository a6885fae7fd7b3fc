"""A server to be stopped: prints what happens to it, and answers as badly as real ones do.

`victim.py [--port N] [--host H] [--on SIG=exit|ignore|finish|print].. [--no-accept] [--children
N]`. Without --on it has no handler at all, as most programs have none. Paths: / at once, /slow/S
after S seconds, /stream/N/S N pieces S seconds apart, /sse/S an event every S seconds for ever, /ws
an upgrade and then an echo, /close/S as /slow but closing. POST reads its body.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time

busy = 0
ending = False
lock = threading.Lock()


def tell(*words: object) -> None:
    """Write one line, at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def head(connection: socket.socket, held: bytes) -> tuple[list[str], dict[str, str], bytes]:
    """Read a request's head; what came after it is given back."""
    while b"\r\n\r\n" not in held:
        data = connection.recv(65536)
        if not data:
            raise EOFError
        held += data
    text, rest = held.split(b"\r\n\r\n", 1)
    first, *lines = text.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    return first.split(), fields, rest


def pieces(connection: socket.socket, count: int, pause: float) -> None:
    """Answer in pieces."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(count):
        connection.sendall(b"4\r\nbit\n\r\n")
        time.sleep(pause)
    connection.sendall(b"0\r\n\r\n")


def answer(
    connection: socket.socket, words: list[str], fields: dict[str, str], rest: bytes
) -> bytes | None:
    """Answer one request; None if the connection is over."""
    method, path = words[0], words[1].strip("/").split("/")
    if method == "POST":
        wanted = int(fields.get("content-length", "0"))
        while len(rest) < wanted:
            data = connection.recv(65536)
            if not data:
                raise EOFError
            rest += data
        rest = rest[wanted:]
    if path[0] in ("slow", "close"):
        time.sleep(float(path[1]))
    if path[0] == "stream":
        pieces(connection, int(path[1]), float(path[2]))
        return rest
    if path[0] == "sse":
        pieces(connection, 10**6, float(path[1]))
    if path[0] == "ws":
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        while data := connection.recv(4096):
            connection.sendall(data)
        return None
    close = path[0] == "close"
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
        + (b"Connection: close\r\n" if close else b"")
        + b"\r\nok"
    )
    return None if close else rest


def serve(connection: socket.socket) -> None:
    """Serve one connection to its end."""
    global busy  # noqa: PLW0603
    held = b""
    with connection:
        try:
            while True:
                words, fields, held = head(connection, held)
                with lock:
                    busy += 1
                try:
                    rest = answer(connection, words, fields, held)
                finally:
                    with lock:
                        busy -= 1
                if rest is None:
                    return
                held = rest
        except (EOFError, OSError):
            return


def finish() -> None:
    """End when nothing is in flight, as a graceful server does."""
    while busy:
        time.sleep(0.01)
    os._exit(0)


def handler(what: str, listener: socket.socket | None) -> object:
    """Make a signal handler of a word."""

    def handle(number: int, _frame: object) -> None:
        global ending  # noqa: PLW0603
        tell("got", number)
        if what == "exit":
            os._exit(0)
        if what == "finish" and not ending:
            ending = True
            if listener is not None:
                listener.close()
            threading.Thread(target=finish).start()

    return signal.SIG_IGN if what == "ignore" else handle


def main() -> None:
    """Listen, say so, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="")
    parser.add_argument("--on", action="append", default=[])
    parser.add_argument("--no-accept", action="store_true")
    parser.add_argument("--children", type=int, default=0)
    options, _ = parser.parse_known_args()
    listener = None
    if options.port:
        six = ":" in options.host or not options.host
        listener = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not options.host:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((options.host or "::", options.port))
        listener.listen(16)
    for pair in options.on:
        name, what = pair.split("=")
        numbers = (
            [n for n in range(1, 65) if n not in (9, 19, 32, 33)]
            if name == "ALL"
            else [int(name) if name.isdigit() else signal.Signals["SIG" + name]]
        )
        for number in numbers:
            signal.signal(number, handler(what, listener))
    for _ in range(options.children):
        if os.fork() == 0:
            listener = None
            break
    tell("ready", os.getpid())
    if listener is None or options.no_accept:
        while True:
            signal.pause()
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            signal.pause()
            continue
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
