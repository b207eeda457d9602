"""Many hosts on this machine: loopback addresses, sixteen to each sshd, which is all that one listens on.

They live in namespaces of their own: they see their own processes, and what flagprov keeps of itself in
/var/lib/flagprov is gone with them.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PORT = 2200
EACH = 16  # addresses of an sshd
STATE = Path("/var/lib/flagprov")
INSIDE = """\
mount -t tmpfs tmpfs "$1" && shift || exit 1
for config in "$@"; do /usr/sbin/sshd -D -e -f "$config" 2>"$config.log" & done
wait
"""


@dataclass(frozen=True)
class Simulated:
    """Hosts that answer, and addresses where nobody ever does."""

    folder: Path
    addresses: tuple[str, ...]
    silent: tuple[str, ...]

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / ".flagprov" / "known_hosts"

    def inventory(self, name: str, addresses: Sequence[str]) -> Path:
        lines = [f"simulated{n:04} ansible_host={address}" for n, address in enumerate(addresses)]
        values = {
            "ansible_port": PORT, "ansible_user": "root", "ansible_ssh_private_key_file": self.key,
            "flagprov_chip": "cpu-x86",
        }  # fmt: skip
        variables = [f"{key}={value}" for key, value in values.items()]
        path = self.folder / f"{name}.ini"
        path.write_text("\n".join(["[simulated]", *lines, "", "[simulated:vars]", *variables, ""]))
        return path

    def some_silent(self) -> list[str]:
        """Every tenth host does not answer."""
        return [self.silent[n // 10] if n % 10 == 9 else here for n, here in enumerate(self.addresses)]


@contextlib.contextmanager
def simulated(folder: Path, count: int) -> Iterator[Simulated]:
    """As many hosts, until the end of the block."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / ".flagprov").mkdir(parents=True)
    addresses = tuple(f"127.8.{n // 250}.{n % 250 + 1}" for n in range(count))
    silent = tuple(f"127.9.{n // 250}.{n % 250 + 1}" for n in range(count // 10))
    hosts = Simulated(folder, addresses, silent)
    for key in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    kind, public = (folder / "host_key.pub").read_text().split()[:2]
    hosts.known_hosts.write_text("".join(f"[{a}]:{PORT} {kind} {public}\n" for a in (*addresses, *silent)))
    configs = [_config(hosts, n, addresses[n : n + EACH]) for n in range(0, count, EACH)]
    made = not STATE.exists()
    STATE.mkdir(parents=True, exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen([*command, "bash", "-c", INSIDE, "hosts", STATE, *configs])
    try:
        for address in addresses[::EACH]:
            _wait_for(process, address)
        with contextlib.ExitStack() as stack:
            for address in silent:
                stack.enter_context(_silence(address))
            yield hosts
    finally:
        process.kill()
        process.wait()
        if made:
            STATE.rmdir()


def _config(hosts: Simulated, number: int, addresses: Sequence[str]) -> Path:
    path = hosts.folder / f"sshd-{number}"
    lines = [
        *(f"ListenAddress {address}:{PORT}" for address in addresses),
        f"HostKey {hosts.folder / 'host_key'}",
        f"AuthorizedKeysFile {hosts.key}.pub",
        f"SetEnv HOME={hosts.folder}",  # keeps this machine's ~/.bashrc out
        *("PidFile none", "StrictModes no", "UsePAM no", "PasswordAuthentication no", "UseDNS no"),
        *("KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "MaxStartups 1000:30:1000"),
        *("PrintMotd no", "PrintLastLog no"),
    ]
    path.write_text("\n".join([*lines, ""]))
    return path


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    while process.poll() is None:
        try:
            socket.create_connection((address, PORT), 5).close()
        except ConnectionRefusedError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        else:
            return
    raise SystemExit("the simulated hosts do not start: is this root, and is there a /usr/sbin/sshd?")


@contextlib.contextmanager
def _silence(address: str) -> Iterator[None]:
    """A host that is not there: its queue of connections is full, so that the kernel drops what comes."""
    with socket.socket() as listener, socket.socket() as only:
        listener.bind((address, PORT))
        listener.listen(0)
        only.connect((address, PORT))
        yield
