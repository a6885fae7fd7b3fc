"""How fast `podgrace plan` is: a made cluster of 5 000 workloads and 15 000 Pods, each output once.

Run by `make bench`. Out: seconds, seconds of CPU and the most memory, of a process of its own each.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKLOADS = int(os.environ.get("WORKLOADS", "5000"))
MAKE = (
    "import sys; from tests.plan.clusters import dump;"
    "open(sys.argv[2], 'wb').write(dump(int(sys.argv[1])))"
)
"""In a process of its own: what starts another hands its own most memory on to it."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump.json"
        subprocess.run([sys.executable, "-c", MAKE, str(WORKLOADS), str(path)], check=True)
        size = path.stat().st_size >> 20
        print(f"podgrace plan: {WORKLOADS} workloads, {3 * WORKLOADS} Pods, a dump of {size} MiB")
        for output in ("table", "json", "html"):
            words = [sys.executable, "-m", "webhook.cli", "plan", "-f", str(path), "-o", output]
            start = time.perf_counter()
            with subprocess.Popen(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            took = time.perf_counter() - start
            if process.returncode:
                raise SystemExit(f"plan ended with {process.returncode}")
            cpu = used.ru_utime + used.ru_stime
            memory = used.ru_maxrss >> 10
            print(f"  {output:6} {took:6.1f} s, {cpu:5.1f} s of CPU, {memory} MiB")


main()
