"""`/` answers after 20 ms, `/slow` after four seconds: any WSGI server."""

import time
from typing import Any


def application(environ: Any, start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = b"fast\n"
    slow = environ["PATH_INFO"] == "/slow"
    time.sleep(4 if slow else 0.02)
    if slow:
        body = b"slow\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
