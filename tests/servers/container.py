"""The inside of a container's start: a runtime's steps from namespaces to the image's program.

Run as a program: `container.py [--user UID] -- CMD...`. Takes the capabilities that container
runtimes do not give (so that looking into another user's process fails here as it does there),
forbids new privileges, resets signals, opens a session, becomes CMD.
"""

import argparse
import ctypes
import os
import signal
import sys

KEPT = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})
"""The default set of containerd and Docker, without SYS_PTRACE and NET_ADMIN.

CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP (numbers: capability.h).
"""

PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", type=int, default=0)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    # Programs that signal their process group must not reach the test's, which a PID namespace
    # alone does not keep them from.
    os.setsid()
    libc = ctypes.CDLL(None, use_errno=True)
    capability = 0
    while (
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
        if capability not in KEPT
        else capability < 64
    ):
        capability += 1
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if asked.user:
        os.setgroups([])
        os.setresgid(asked.user, asked.user, asked.user)
        os.setresuid(asked.user, asked.user, asked.user)
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(asked.command[0], asked.command)  # noqa: S606 - that is its purpose
    except OSError as error:
        sys.exit(f"{asked.command[0]}: {error.strerror}")


main()
