"""The runner's SSH port: an sshd in this container, reached on the cluster network with the replica's key.

Where the image has none, it is the sshd of the host, which enters this container by `docker exec`.
Keys come from the controller into a folder of their own (0600), which is mounted to be read only; what is
made here lies in the experiment's directory.
Whoever is let in runs a command in the engine's own environment of this node, and nothing else.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from flagprov.host.launcher_launch import shell_script
from flagprov.host.launcher_log import say
from flagprov.host.launcher_node import Node
from flagprov.host.launcher_processes import name_of
from flagprov.host.launcher_start import describe
from flagprov.host.machine import listening

CALLERS = ("key", "known_hosts")
KEYS = (*CALLERS, "host_key", "authorized_keys")
# Of this shell, not of a node.
OWN = ("PWD", "OLDPWD", "SHLVL", "_", "SSH_ORIGINAL_COMMAND", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
# What a recording of today is safe with tomorrow; OpenSSH before 8.5 has none of them.
KEX = ("mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com")
KEX_OLDER = ("curve25519-sha256", "curve25519-sha256@libssh.org")
# As old as the oldest of KEX. One at a time is what keeps handshakes from costing all the processors (DHEat).
ONE_AT_A_TIME = "PerSourceMaxStartups 1"
CIPHERS = "aes256-gcm@openssh.com,aes128-gcm@openssh.com"
MACS = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com"

DAEMON = """# Written by flagprov: one user, one key, one address, one command.
Port %(port)d
ListenAddress %(address)s
HostKey %(keys)s/host_key
AuthorizedKeysFile %(keys)s/authorized_keys
AllowUsers %(user)s
PermitRootLogin prohibit-password
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
DisableForwarding yes
PermitTTY no
PermitUserRC no
# By it bash takes itself for an inner shell, and does not run the image's .bashrc, which may wait or leave.
SetEnv SHLVL=2
# Its own folder is 0700; what lies above is the image's affair.
StrictModes no
PidFile none
MaxStartups 64
LoginGraceTime 20
%(startups)s
LogLevel ERROR
HostKeyAlgorithms ssh-ed25519
# Its name before OpenSSH 8.5, which all know.
PubkeyAcceptedKeyTypes ssh-ed25519
KexAlgorithms %(kex)s
Ciphers %(ciphers)s
MACs %(macs)s
ForceCommand %(enter)s
"""
CLIENT = """# Written by flagprov: the replica's nodes, and nobody else.
Host *
  User %(user)s
  # From where the key opens, which need not be the interface's first address.
  BindAddress %(address)s
  IdentityFile %(keys)s/key
  IdentitiesOnly yes
  UserKnownHostsFile %(keys)s/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  HostKeyAlgorithms ssh-ed25519
  %(kex)s
  BatchMode yes
  ConnectTimeout 10
  ServerAliveInterval 10
"""


class NoRunner(Exception):
    """The port cannot be opened; the message says why."""


OPEN_S = 20.0  # for the port of a node, which is then said to be missing; the ranks do not meet before


class Runner:
    """The files of both sides, and the daemon's command."""

    def __init__(self, launch: Mapping[str, Any], run: str) -> None:
        self.launch = launch
        self.port, self.address = int(launch["ssh"]["port"]), str(launch["ssh"]["address"])
        self.by_host = bool(launch["ssh"].get("by_host"))
        self.rank = int(launch.get("rank", 0))
        self.keys = str(launch["ssh"]["keys"])
        self.folder = os.path.join(run, "exp", "first")
        self.user = pwd.getpwuid(os.getuid()).pw_name

    def prepare(self, env: Mapping[str, str]) -> None:
        needed = KEYS if not self.by_host else () if self.rank else CALLERS
        lacking = [name for name in needed if not os.path.exists(os.path.join(self.keys, name))]
        if lacking:
            raise NoRunner("no %s in %s; deploy this replica again" % (", ".join(lacking), self.keys))
        os.makedirs(self.folder, exist_ok=True)
        self.write("enter", self.enter(env), 0o700)
        if needed:
            self.client()

    def client(self) -> None:
        # Of a host's own sshd nothing is known but its key.
        kex = "" if self.by_host else "KexAlgorithms %s" % ",".join(self.kex())
        text = CLIENT % {"user": self.user, "address": self.address, "keys": self.keys, "kex": kex}
        path = self.write("ssh_config", text, 0o600)
        self.write("ssh", '#!/bin/sh\nexec %s -F %s "$@"\n' % (self.tool("ssh"), shlex.quote(path)), 0o755)

    def enter(self, env: Mapping[str, str]) -> str:
        """What a caller's command runs in: this node's environment, the vendor's and the card's lines."""
        exports = [
            "export %s=%s" % (name, shlex.quote(value))
            for name, value in sorted(env.items())
            if name not in OWN and re.match(r"[A-Za-z_][A-Za-z0-9_]*$", name)
        ]
        script = shell_script(self.launch, ["bash", "-c"]).rstrip("\n") + ' "$SSH_ORIGINAL_COMMAND"\n'
        return "\n".join(["#!/bin/bash", *exports, script])

    def daemon(self) -> List[str]:
        """Who lets callers in: sshd in the foreground, with its configuration tried first."""
        if self.by_host:
            return self.door()
        sshd = self.tool("sshd")
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        path = self.write("sshd_config", DAEMON % self.values(), 0o600)
        done = subprocess.run([sshd, "-t", "-f", path], stderr=subprocess.PIPE, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise NoRunner("sshd refuses its configuration: %s" % said)
        return [sshd, "-D", "-e", "-f", path]

    def is_open(self) -> bool:
        """Whether callers can come; FlagScale's script does not try twice."""
        if self.by_host:
            return os.path.exists(self.socket())
        return self.port in listening()  # no connection, which a careful daemon would count

    def entrance(self) -> str:
        """What has to be open, in words."""
        if self.by_host:
            return "the door of its container, %s" % self.socket()
        return "the runner's port %d on %s" % (self.port, self.address)

    def socket(self) -> str:
        return os.path.join(self.folder, "door.socket")

    def door(self) -> List[str]:
        """For `docker exec`, whose processes would else be nobody's children."""
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher_door.py")
        place = self.socket()
        words = [shlex.quote(word) for word in (sys.executable, program, "call", place)]
        self.write("door", '#!/bin/sh\nexec %s "$1"\n' % " ".join(words), 0o700)
        return [sys.executable, program, "serve", place, os.path.join(self.folder, "enter")]

    def values(self) -> Dict[str, Any]:
        kex = self.kex()
        return {
            "port": self.port, "address": self.address, "keys": self.keys, "user": self.user,
            "kex": ",".join(kex), "ciphers": CIPHERS, "macs": MACS,
            "startups": "" if kex == KEX_OLDER else ONE_AT_A_TIME,
            "enter": os.path.join(self.folder, "enter"),
        }  # fmt: skip

    def kex(self) -> Tuple[str, ...]:
        """The best that this image's OpenSSH has, which is that of the other nodes."""
        asked = subprocess.run([self.tool("ssh"), "-Q", "kex"], stdout=subprocess.PIPE, check=False)
        known = asked.stdout.decode("utf-8", "replace").split()
        return tuple(name for name in KEX if name in known) or KEX_OLDER

    def tool(self, name: str) -> str:
        path = shutil.which(name) or "/usr/sbin/%s" % name
        if not os.path.exists(path):
            raise NoRunner("this image has no %s" % name)
        return path

    def write(self, name: str, text: str, mode: int) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path


def open_port(node: Node, runner: Runner, waiting: Callable[[str], None]) -> Optional[int]:
    """Pid of what lets callers in, once they can come; none on the head, which enters the others."""
    runner.prepare(node.env)
    if not runner.rank:
        return None
    if not runner.by_host:
        _await_address(node, runner.address, waiting)
    if node.stopping:
        return None
    daemon = node.spawn(runner.daemon(), plain=True)
    _await_open(node, runner, daemon, waiting)
    if daemon in node.ended and not node.stopping:
        how = describe(node.ended[daemon])
        raise NoRunner("the runner's port %d is not opened (%s); why is above" % (runner.port, how))
    return daemon


def _await_open(node: Node, runner: Runner, daemon: int, waiting: Callable[[str], None]) -> None:
    """However long that takes: a node that nobody can enter has nobody to meet."""

    def over() -> bool:
        return runner.is_open() or daemon in node.ended or node.stopping

    if node.wait_until(over, OPEN_S):
        return
    text = "waiting for %s" % runner.entrance()
    waiting(text)
    say("%s; %s has had %.0f s to open it" % (text, name_of(daemon) or "its daemon", OPEN_S))
    while not over():
        node.turn()
    waiting("")


def _await_address(node: Node, address: str, waiting: Callable[[str], None]) -> None:
    """After a boot the cluster network may come late, and sshd does not try twice."""
    if has_address(address):
        return
    text = "waiting for its own address %s" % address
    waiting(text)
    say(text)
    while not node.stopping and not has_address(address):
        node.turn()
    waiting("")


def has_address(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as asked:
        try:
            asked.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True
