"""The way into a container that has no sshd: what `docker exec` brings becomes a child of the launcher.

A process of `docker exec` has no parent in the container, so the launcher would neither see nor end what it
starts. It only hands over its script and its three streams, and comes back with the exit code.

    launcher_door.py serve SOCKET ENTER     the launcher's child; ENTER runs in the node's environment
    launcher_door.py call SOCKET SCRIPT     what `docker exec` runs
"""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
import time

STREAMS = (0, 1, 2)
PATIENCE_S = 20.0  # for a door that is about to open
NOT_THERE = 75


def serve(path: str, enter: str) -> None:
    """One process for each caller; the kernel takes those that have ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.umask(0o022)
    listener.listen(8)
    while True:
        caller, _ = listener.accept()
        if not os.fork():
            listener.close()
            try:
                answer(caller, enter)
            finally:
                os._exit(0)
        caller.close()


def answer(caller: socket.socket, enter: str) -> None:
    """Run the caller's script on the caller's streams."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    streams = array.array("i")
    _, ancillary, _, _ = caller.recvmsg(1, socket.CMSG_SPACE(len(STREAMS) * streams.itemsize))
    streams.frombytes(ancillary[0][2])
    script = b"".join(iter(lambda: caller.recv(65536), b""))
    env = dict(os.environ, SSH_ORIGINAL_COMMAND=os.fsdecode(script))
    code = subprocess.call([enter], env=env, stdin=streams[0], stdout=streams[1], stderr=streams[2])
    caller.sendall(b"%d" % (code if code >= 0 else 128 - code))


def call(path: str, script: str) -> int:
    with socket.socket(socket.AF_UNIX) as door:
        if not _opened(door, path):
            sys.stderr.write("flagprov: the launcher of this container lets nobody in now\n")
            return NOT_THERE
        door.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", STREAMS))])
        door.sendall(os.fsencode(script))
        door.shutdown(socket.SHUT_WR)
        return int(door.recv(16) or NOT_THERE)


def _opened(door: socket.socket, path: str) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            door.connect(path)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
        time.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    sys.exit(call(*sys.argv[2:]))
