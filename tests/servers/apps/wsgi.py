"""`/` answers at once, `/slow` after four seconds: any WSGI server."""

import time
from typing import Any


def application(environ: Any, start_response: Any) -> list[bytes]:
    body = b"fast\n"
    if environ["PATH_INFO"] == "/slow":
        time.sleep(4)
        body = b"slow\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
