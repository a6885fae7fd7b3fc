"""Works beside a server: after TERM it tidies up for three seconds."""

import signal
import sys
import time


def tidy(*_: object) -> None:
    """Take as long as a queue takes to be handed back."""
    print("worker got TERM", flush=True)
    time.sleep(3)
    print("worker tidied", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, tidy)
print("worker is up", flush=True)
while True:
    time.sleep(1)
