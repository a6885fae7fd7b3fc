"""Run a command under a seccomp filter that refuses netlink: `deny_netlink.py CMD..`."""

import ctypes
import os
import platform
import struct
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM

program = [
    (LOAD, 0, 0, 0),
    (EQUAL, 0, 3, SOCKET),
    (LOAD, 0, 0, 16),  # the first argument: the family
    (EQUAL, 0, 1, 16),  # AF_NETLINK
    (RETURN, 0, 0, REFUSE),
    (RETURN, 0, 0, ALLOW),
]


class Fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


code = b"".join(struct.pack("HBBI", op, yes, no, value) for op, yes, no, value in program)
held = ctypes.create_string_buffer(code)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, ctypes.byref(Fprog(len(program), ctypes.addressof(held))), 0, 0) != 0:
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606
