"""A real sshd on loopback, as an ordinary process with its own keys and configuration."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.transport.program import Program, of_files

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)

# Stands in for flagprov/host: answers with what it was asked, its own pid and what it is.
MAIN = b"""
import json, os, select, sys
def main():
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "die":
            sys.stderr.write("last words\\n")
            sys.exit(3)
        if request["op"] == "error":
            answer = {"error": {"step": "probe", "message": "no", "remedy": "do", "log": "why"}}
        elif request["op"] == "noise":
            sys.stdout.write("hello\\n")
            sys.stdout.flush()
            continue
        else:
            for number in range(request.get("events", 0)):
                sys.stdout.write(json.dumps({"event": {"kind": "note", "text": str(number)}}) + "\\n")
            if request["op"] == "hang":
                sys.stdout.flush()
                sys.stdin.read()
            if request["op"] == "work":
                select.select([], [], [], request["seconds"])
            answer = {"result": {"asked": request, "pid": os.getpid(), "uid": os.getuid()}}
        sys.stdout.write(json.dumps(answer) + "\\n")
        sys.stdout.flush()
"""


def program(base: Path) -> Program:
    """A small program that is kept under base instead of /var/lib."""
    files = {"flagprov/host/__init__.py": b"", "flagprov/host/main.py": MAIN}
    return of_files(files, base=str(base))


@dataclass
class Sshd:
    """One sshd process."""

    folder: Path
    options: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("ed25519",)
    port: int = 0
    environment: str = ""
    process: subprocess.Popen[bytes] | None = None
    user: str = field(default_factory=getpass.getuser)

    def start(self) -> Sshd:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.port == 0:
            self.port = free_port()
        if not (self.folder / "id").exists():
            keygen(self.folder / "id")
        for kind in self.kinds:
            if not (self.folder / f"host_{kind}").exists():
                keygen(self.folder / f"host_{kind}", kind)
        (self.folder / "authorized_keys").write_text((self.folder / "id.pub").read_text())
        lines = [
            f"ListenAddress 127.0.0.1:{self.port}",
            *(f"HostKey {self.folder}/host_{kind}" for kind in self.kinds),
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            f"PidFile {self.folder}/pid",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "UseDNS no",
            f"SetEnv HOME={self.folder} {self.environment}",  # keeps this machine's shell start files out
            *self.options,
        ]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        assert SSHD is not None
        Path("/run/sshd").mkdir(exist_ok=True)  # its unit file makes it where systemd runs
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self._wait()
        return self

    def stop(self) -> None:
        if self.process is None:
            return
        for child in self.children():
            kill(child)
        self.process.terminate()
        self.process.wait(timeout=10)
        self.process = None

    def children(self) -> list[int]:
        """The processes that serve its connections, and what they started."""
        assert self.process is not None
        return descendants(self.process.pid)

    def restart(self) -> None:
        self.stop()
        self.start()

    def connection(self, **changes: object) -> Connection:
        values: dict[str, object] = {
            "address": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "identity_files": (str(self.folder / "id"),),
            "known_hosts": (str(self.folder / "known_hosts"),),
            "agent": False,
        }
        return Connection(**(values | changes))  # type: ignore[arg-type]

    def host(self, name: str = "one", **changes: object) -> Host:
        return Host(name, self.connection(**changes))

    def know(self, port: int | None = None) -> None:
        """Writes known_hosts with all its keys."""
        lines = []
        for kind in self.kinds:
            key = " ".join((self.folder / f"host_{kind}.pub").read_text().split()[:2])
            lines.append(f"[127.0.0.1]:{port or self.port} {key}")
        (self.folder / "known_hosts").write_text("\n".join(lines) + "\n")

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as stream:
                    if stream.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
        raise RuntimeError((self.folder / "log").read_text())


def fleet(*hosts: Host) -> Fleet:
    return Fleet(Path("/nonexistent/inventory.ini"), hosts)


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in children:
        found += [*descendants(int(child)), int(child)]
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
