"""Run a command where the kernel refuses some system calls: `deny_calls.py NUMBER,.. CMD..`.

Uses a seccomp filter that answers EPERM, as old profiles of container runtimes do for calls that
they do not know.
"""

import ctypes
import os
import struct
import sys

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM

program = [(LOAD, 0, 0, 0)]
for number in map(int, sys.argv[1].split(",")):
    program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
program += [(RETURN, 0, 0, ALLOW)]


class Fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
held = ctypes.create_string_buffer(code)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, ctypes.byref(Fprog(len(program), ctypes.addressof(held))), 0, 0) != 0:
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
