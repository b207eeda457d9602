"""Hosts as network namespaces behind links of a set bandwidth, each with its own sshd and directories.

They share this machine's disk, so their files lie in memory: what is measured is the network's part.
There is no systemd in them; two small scripts stand in for what jobs need of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

STATE, DATA = Path("/var/lib/flagprov"), Path("/srv/flagprov-bench")

SYSTEMD_RUN = """#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
    --unit) unit=$2; shift 2 ;;
    --description) shift 2 ;;
    --*) shift ;;
    *) break ;;
  esac
done
mkdir -p /var/lib/flagprov/units
setsid "$@" >/var/lib/flagprov/units/$unit.log 2>&1 </dev/null &
echo $! >/var/lib/flagprov/units/$unit
"""
SYSTEMCTL = """#!/bin/sh
cd /var/lib/flagprov/units 2>/dev/null || exit 0
case $1 in
  show)
    for last; do :; done
    if [ -f "$last" ] && kill -0 "$(cat "$last")" 2>/dev/null
    then echo ActiveState=active; else echo ActiveState=inactive; fi ;;
  stop)
    for unit in $2; do [ -f "$unit" ] && kill "$(cat "$unit")" 2>/dev/null; rm -f "$unit"; done ;;
esac
exit 0
"""


def run(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Fleet:
    count: int
    folder: Path  # in memory
    mbit: int = 200
    prefix: str = "fpb"  # of the names of namespaces and links
    net: str = "10.231.7"
    sshd: list[subprocess.Popen[bytes]] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)

    def __enter__(self) -> Fleet:
        self.down()
        try:
            self._up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def name(self, index: int) -> str:
        return f"{self.prefix}{index}"

    def device(self, index: int) -> str:
        return f"{self.prefix}v{index}"

    def address(self, index: int) -> str:
        return f"{self.net}.{10 + index}"

    @property
    def bridge(self) -> str:
        return f"{self.prefix}ench0"

    @property
    def forwarded(self) -> tuple[str, ...]:
        return "FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT"

    def data(self, index: int) -> Path:
        return self.folder / self.name(index) / "data"

    @property
    def key(self) -> Path:
        return self.folder / "id"

    @property
    def ssh_options(self) -> list[str]:
        pairs = {
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "LogLevel": "ERROR",
        }
        return ["-F", "none", *(word for key, value in pairs.items() for word in ("-o", f"{key}={value}"))]

    def _up(self) -> None:
        self.folder.mkdir(parents=True)
        for path in (STATE, DATA):
            if not path.exists():
                path.mkdir(parents=True)
                self.made.append(path)
        for name in ("id", "host"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name))
        shutil.copy(self.folder / "id.pub", self.folder / "authorized_keys")
        host_key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        (self.folder / "known_hosts").write_text(
            "".join(f"{self.address(i)} {host_key}\n" for i in range(self.count))
        )
        tools = self.folder / "bin"
        tools.mkdir()
        for name, text in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.net}.1/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        if shutil.which("iptables"):  # docker's own rules drop what is forwarded by other bridges
            run("iptables", "-I", *self.forwarded, check=False)
        self._limit(self.bridge)
        for index in range(self.count):
            self._host(index)
        for index in range(self.count):
            self._wait(index)

    def _limit(self, device: str, namespace: str = "") -> None:
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        words = f"qdisc replace dev {device} root tbf rate {self.mbit}mbit burst 256k latency 100ms"
        run(*inside, "tc", *words.split())

    def _host(self, index: int) -> None:
        name, device = self.name(index), self.device(index)
        run("ip", "netns", "add", name)
        run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", device, "master", self.bridge, "up")
        for words in (f"addr add {self.address(index)}/24 dev eth0", "link set eth0 up", "link set lo up"):
            run("ip", "-n", name, *words.split())
        self._limit(device)
        self._limit("eth0", name)
        own = self.folder / name
        for part in ("data", "state"):
            (own / part).mkdir(parents=True)
        config = [
            f"ListenAddress {self.address(index)}:22", f"HostKey {self.folder}/host",
            f"AuthorizedKeysFile {self.folder}/authorized_keys", f"PidFile {own}/pid",
            "UsePAM no", "StrictModes no", "PermitRootLogin prohibit-password", "UseDNS no",
            "Subsystem sftp internal-sftp",
            # The system's own Python, as on a host: a version manager's shims take a second to start.
            f"SetEnv PATH={self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME={own}",
        ]  # fmt: skip
        (own / "sshd_config").write_text("\n".join(config) + "\n")
        self.start(index)

    def start(self, index: int) -> None:
        own = self.folder / self.name(index)
        script = (
            f"mount --bind {own}/data {DATA}; mount --bind {own}/state {STATE}; "
            f"exec /usr/sbin/sshd -D -e -f {own}/sshd_config"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        argv = ["ip", "netns", "exec", self.name(index), "unshare", "-m", "sh", "-c", script]
        with (own / "log").open("ab") as log:
            self.sshd.append(
                subprocess.Popen(
                    argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
                )
            )

    def _wait(self, index: int) -> None:
        for _ in range(200):
            argv = ["ssh", *self.ssh_options, f"root@{self.address(index)}", "true"]
            if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise SystemExit(f"{self.name(index)}: sshd does not answer")

    def link(self, index: int, state: str) -> None:
        """Its cable: `up` or `down`."""
        run("ip", "link", "set", self.device(index), state)

    def kill(self, index: int) -> None:
        """The host is gone without a word."""
        self.link(index, "down")
        for pid in run("ip", "netns", "pids", self.name(index), check=False).split():
            with_signal(int(pid), signal.SIGKILL)

    def revive(self, index: int) -> None:
        self.link(index, "up")
        self.start(index)
        self._wait(index)

    def end_jobs(self) -> None:
        """Let nodes that still serve go, before the next measurement."""
        for index in range(self.count):
            units = self.folder / self.name(index) / "state" / "units"
            for file in units.glob("*.service") if units.exists() else ():
                with_signal(int(file.read_text()), signal.SIGKILL)
                file.unlink()

    def uplink_bytes(self) -> int:
        """What the source has sent to the hosts."""
        return int(Path(f"/sys/class/net/{self.bridge}/statistics/tx_bytes").read_text())

    def clean(self) -> None:
        for index in range(self.count):
            for path in self.data(index).iterdir():  # the directory itself is mounted
                shutil.rmtree(path)

    def down(self) -> None:
        for index in range(64):
            name = self.name(index)
            if Path(f"/run/netns/{name}").exists():
                for pid in run("ip", "netns", "pids", name, check=False).split():
                    with_signal(int(pid), signal.SIGKILL)
                run("ip", "netns", "del", name, check=False)
            if Path(f"/sys/class/net/{self.device(index)}").exists():  # namespaces go when they like
                run("ip", "link", "del", self.device(index), check=False)
        run("ip", "link", "del", self.bridge, check=False)
        if shutil.which("iptables"):
            run("iptables", "-D", *self.forwarded, check=False)
        for process in self.sshd:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in self.made:
            shutil.rmtree(path, ignore_errors=True)


def with_signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
