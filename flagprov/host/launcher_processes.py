"""The launcher's view of its own processes: who descends from whom, which one answers HTTP."""

from __future__ import annotations

import ctypes
import os
from typing import Dict, List, Mapping, Sequence

PR_SET_CHILD_SUBREAPER = 36
ENDED = (b"Z", b"X")  # states of what only waits to be reaped


def adopt_orphans() -> bool:
    """Whether what our descendants leave behind comes to us from now on."""
    try:
        return not ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        return False


def processes() -> Dict[int, int]:
    """pid -> parent of every process that is not a zombie."""
    found = {}
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else []
        if fields and fields[0] not in ENDED:
            found[int(name)] = int(fields[1])
    return found


def _stat(pid: int) -> List[bytes]:
    """What stands behind the name: state, parent, and more; empty where there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def still_there(pids: Sequence[int]) -> bool:
    """Whether none of these processes has ended; a zombie has."""
    return all(fields and fields[0] not in ENDED for fields in map(_stat, pids))


def descendants(root: int, table: Mapping[int, int]) -> List[int]:
    """Everything below root, parents before children."""
    below: List[int] = []
    level = [root]
    while level:
        level = sorted(pid for pid, parent in table.items() if parent in level)
        below.extend(level)
    return below


def children_of(pid: int) -> List[int]:
    """Cheaper than a walk through /proc; empty where the kernel does not say."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def name_of(pid: int) -> str:
    try:
        with open("/proc/%d/comm" % pid, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def stopped(pids: Sequence[int]) -> List[str]:
    """Those that a SIGSTOP holds, in words; a debugger's are none of them."""
    return ["%s (%d)" % (name_of(pid), pid) for pid in pids if _stat(pid)[:1] == [b"T"]]


def command_line(pid: int) -> List[str]:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read().decode("utf-8", "replace").split("\0")[:-1]
    except OSError:
        return []


def named(pids: Sequence[int]) -> List[Dict[str, object]]:
    """Those that answer HTTP or have one of vLLM's names: what an engine consists of."""
    found: List[Dict[str, object]] = []
    for pid in pids:
        argv = command_line(pid)
        name = next((word for word in argv[:4] if word.startswith("VLLM::")), "")
        if name or is_front(argv):
            found.append({"pid": pid, "name": (name or "API server").strip()})
    return found


def workers(pids: Sequence[int]) -> List[int]:
    """Those which vLLM itself names: its engine and workers."""
    return [pid for pid in pids if any(word.startswith("VLLM::") for word in command_line(pid)[:4])]


def is_front(argv: Sequence[str]) -> bool:
    """Whether this is the process that answers HTTP: `vllm serve`, possibly behind its interpreter."""
    if not argv:
        return False
    if argv[0].startswith("VLLM::APIServer"):
        return True
    names = [os.path.basename(word) for word in argv[:3]]
    return names[:2] == ["vllm", "serve"] or names[1:3] == ["vllm", "serve"]


def send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
