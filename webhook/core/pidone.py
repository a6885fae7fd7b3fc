"""Who names PID 1: a probe, a hook or a command line that addresses that process.

In: the words of a command line. Out: yes or no. In mode wrap the helper is PID 1: `jcmd 1` finds no
JVM there, `kill 1` reaches the wrong program, and /proc/1 describes the wrong one. So such a
container is not wrapped; that belongs to `ladder`.

| what names it                            | examples                                            |
|------------------------------------------|-----------------------------------------------------|
| /proc/1                                  | readlink /proc/1/exe; echo > /proc/1/fd/1           |
| a program that takes a PID, and a word   | jcmd 1 VM.uptime; kill -0 1; nsenter -t 1; ps -p 1; |
| that is 1, or an option with the value 1 | tail --pid=1; strace -p1                            |
| a PID that is compared with 1 or set to  | [ $(pidof java) = 1 ]; PID=1; [ $$ -eq 1 ];         |
| it, or whose parent is 1                 | pgrep -P 1; ps --ppid 1                             |
"""

import re
from collections.abc import Sequence
from typing import Final

_MAYBE: Final = re.compile(
    r"/proc/1(?![0-9])|(?<![\w./:-])1(?![\w./:-])|=1(?![\w.])|-[pPt]1(?![\w.])"
)
_PROC: Final = re.compile(r"/proc/1(?![0-9])")
_PID: Final = re.compile(r"pid|pgrep|pkill|\$\$", re.IGNORECASE)
_COMPARED: Final = re.compile(
    r"""(?:=|\s-(?:eq|ne)|\s-P|--(?:ppid|parent)|\bgrep\s+-\w*[wx]\w*)\s*["']?1(?![\w./-])"""
)
"""Read only where a word such as pidof says that the number is a PID."""
_COMMANDS: Final = re.compile(r"[;&|\n]+")
_WORDS: Final = re.compile(r"[^\s()`'\"<>{}]+")
_ONE: Final = re.compile(r"1|--?[\w-]+=1|-[pt]1")
_LONGEST: Final = 1024

# fmt: off
_TAKES_PID: Final = frozenset([
    "kill", "jcmd", "jstack", "jmap", "jinfo", "jstat", "jattach", "jhsdb", "arthas",
    "async-profiler", "asprof", "nsenter", "ps", "top", "pmap", "pstree", "pwdx", "pidstat",
    "strace", "ltrace", "gdb", "gcore", "lsof", "tail", "prlimit", "renice", "ionice", "chrt",
    "taskset", "waitpid", "py-spy", "pyrasite", "rbspy", "phpspy", "perf", "dotnet-trace",
    "dotnet-dump", "dotnet-counters", "dotnet-gcdump", "gops", "eu-stack", "pstack", "reptyr",
    "crictl",
])
# fmt: on
"""Programs that take the number of a process."""


def names_pid_1(words: Sequence[str]) -> bool:
    """Whether a command line, or a shell line in it, names PID 1."""
    line = " ".join(words)[:_LONGEST]
    if "1" not in line or not _MAYBE.search(line):
        return False
    if _PROC.search(line) or (_PID.search(line) and _COMPARED.search(line)):
        return True
    for command in _COMMANDS.split(line):
        found = _WORDS.findall(command)
        for at, word in enumerate(found):
            if word.rsplit("/", 1)[-1] in _TAKES_PID:
                return any([_ONE.fullmatch(after) for after in found[at + 1 :]])  # noqa: C419
    return False
