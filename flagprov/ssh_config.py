"""From Ansible's ssh options and ssh_config to a Connection; OpenSSH itself (`ssh -G`) reads its files."""

from __future__ import annotations

import getpass
import glob
import os
import pwd
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flagprov.errors import InventoryError
from flagprov.models.fleet import Connection, Secret
from flagprov.ssh_options import (
    ALGORITHMS,
    HARMLESS,
    HONOURED,
    check_args,
    check_config,
    named_options,
    split_args,
)

Options = Mapping[str, Sequence[str]]

_KEY_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass
class Resolver:
    """Resolves the hosts of one inventory; remembers what `ssh -G` said."""

    site: Path
    home: Path = field(default_factory=lambda: _home())
    system: Path = Path("/etc/ssh")
    _said: dict[tuple[str, ...], Options] = field(default_factory=dict)
    _plain: bool | None = None

    def prepare(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Asks ssh for all hosts at once, where it has to be asked."""
        from concurrent.futures import ThreadPoolExecutor

        asked = {(*_words(record), _address(record)): None for record in records if self._must_ask(record)}
        if len(asked) > 1:
            with ThreadPoolExecutor(max_workers=min(16, 2 * (os.cpu_count() or 1))) as pool:
                list(pool.map(lambda words: self._try_ask(words), asked))

    def connection(self, record: Mapping[str, Any]) -> Connection:
        """The Connection of one host as the inventory reader describes it."""
        host, ssh = str(record["name"]), record["ssh"]
        key = _key_file(ssh)
        if key is not None and not Path(key).exists() and not Path(f"{key}.pub").exists():
            raise InventoryError(
                f"{host}: ansible_ssh_private_key_file: no such file: {key}",
                remedy="Correct the path, or leave it out to use ssh-agent and the usual keys.",
            )
        if self._must_ask(record):
            options = self._ask(host, (*_words(record), _address(record)))
            check_config(host, options)
        else:
            options = self._defaults(_address(record), ssh) | _simple_options(host, ssh)
        connection = self._from_options(host, options, seen=(), config_file=_config_file(host, record))
        password = ssh.get("password")
        if not _yes(options, "passwordauthentication"):
            password = None
        timeout = options.get("connecttimeout", ["none"])[0]
        return replace(
            connection,
            password=Secret(str(password)) if password is not None else None,
            key_passphrase=_secret(ssh.get("private_key_passphrase")),
            connect_timeout_s=float(timeout if timeout not in ("none", "0") else ssh.get("timeout") or 10),
        )

    def _must_ask(self, record: Mapping[str, Any]) -> bool:
        """False in the common case: nothing but defaults, which we know without starting ssh."""
        host, ssh = str(record["name"]), record["ssh"]
        if self._plain is None:
            user, system = self.home / ".ssh/config", self.system / "ssh_config"
            self._plain = _harmless_file(user, user.parent) and _harmless_file(system, self.system)
        asked = not self._plain
        for name, variable in _VARIABLES.items():
            words = split_args(host, variable, ssh.get(name) or "")
            check_args(host, variable, words)
            asked = asked or any(n in HONOURED - _SIMPLE for n, _, _ in named_options(host, variable, words))
        return asked

    def _try_ask(self, words: tuple[str, ...]) -> None:
        try:
            self._ask(words[-1], words)
        except InventoryError:
            return  # said again, with the host's name, when it is resolved

    def _ask(self, host: str, words: tuple[str, ...]) -> Options:
        if words not in self._said:
            try:
                done = subprocess.run(
                    ["ssh", "-G", *words[:-1], "--", words[-1]],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            except OSError as error:
                raise InventoryError(
                    f"{host}: ssh_config needs OpenSSH's client, which cannot be started: {error.strerror}",
                    remedy="Install it (Debian: apt install openssh-client).",
                ) from error
            if done.returncode != 0:
                why = " ".join(done.stderr.split()) or f"ssh -G ends with {done.returncode}"
                raise InventoryError(f"{host}: ssh_config: {why}", remedy="Correct the SSH option it names.")
            said: dict[str, list[str]] = {}
            for line in done.stdout.splitlines():
                name, _, value = line.partition(" ")
                said.setdefault(name.lower(), []).append(value)
            self._said[words] = said
        return self._said[words]

    def _defaults(self, address: str, ssh: Mapping[str, Any]) -> dict[str, Sequence[str]]:
        known = [str(self.home / ".ssh/known_hosts"), str(self.home / ".ssh/known_hosts2")]
        key = _key_file(ssh)
        return {
            "hostname": [address],
            "user": [str(ssh.get("remote_user") or getpass.getuser())],
            "port": [str(ssh.get("port") or 22)],
            "identityfile": [key] if key else [f"~/.ssh/{name}" for name in _KEY_NAMES],
            "userknownhostsfile": [" ".join(known)],
            "globalknownhostsfile": ["/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"],
        }

    def _from_options(
        self,
        host: str,
        options: Options,
        seen: tuple[str, ...],
        config_file: tuple[str, ...],
        jumps: str | None = None,
    ) -> Connection:
        def first(name: str, default: str = "") -> str:
            return options[name][0] if options.get(name) else default

        address, port, user = first("hostname"), _port(host, first("port", "22")), first("user")
        tokens = {"h": address, "p": str(port), "r": user, "n": first("host", address), "%": "%"}
        tokens |= {"d": str(self.home), "u": getpass.getuser(), "i": str(os.getuid())}
        tokens |= {"k": first("hostkeyalias", address), "l": socket.gethostname(), "j": ""}

        def paths(name: str) -> list[str]:
            words = " ".join(options.get(name, [])).split()
            return [self._expand(word, tokens) for word in words if word != "none"]

        chain = jumps if jumps is not None else first("proxyjump", "none")
        command = first("proxycommand", "none")
        agent = first("identityagent", "SSH_AUTH_SOCK")
        keys = _yes(options, "pubkeyauthentication") and "publickey" in first(
            "preferredauthentications", "publickey"
        )
        known = (
            str(self.site.absolute() / "known_hosts"),
            *paths("userknownhostsfile"),
            *paths("globalknownhostsfile"),
        )
        proxy = None
        if chain not in ("", "none"):
            proxy = self._jump(host, chain, (*seen, f"{user}@{address}:{port}"), config_file)
        return Connection(
            address=address,
            port=port,
            user=user,
            identity_files=tuple(self._expand(f.strip('"'), tokens) for f in options.get("identityfile", []))
            if keys
            else (),
            identities_only=first("identitiesonly", "no") in ("yes", "true"),
            known_hosts=known,
            host_key_alias=options["hostkeyalias"][0] if options.get("hostkeyalias") else None,
            proxy=proxy,
            proxy_command=_tokens(command, tokens) if proxy is None and command != "none" else None,
            agent=keys and agent != "none",
            agent_socket=None if agent in ("SSH_AUTH_SOCK", "none") else self._expand(agent, tokens),
            algorithms=self._algorithms(host, options),
            family=first("addressfamily", "any"),
            bind_address=first("bindaddress") or None,
        )

    def _jump(
        self,
        host: str,
        chain: str,
        seen: tuple[str, ...],
        config_file: tuple[str, ...],
    ) -> Connection:
        """The last jump of `a,b,c`, the jumps before it nested in it."""
        rest, _, last = chain.rpartition(",")
        match = re.fullmatch(
            r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:]+)(?::(?P<port>\d+))?/?", last.strip()
        )
        if match is None or match["host"].startswith("-"):
            raise InventoryError(f"{host}: ProxyJump: {last!r} is not [user@]host[:port]")
        words = list(config_file)
        words += ["-l", match["user"]] if match["user"] else []
        words += ["-p", match["port"]] if match["port"] else []
        name = match["host"].strip("[]")
        if self._plain and not config_file:
            ssh = {"remote_user": match["user"], "port": match["port"]}
            options: Options = self._defaults(name, ssh)
        else:
            options = self._ask(host, (*words, name))
            check_config(host, options)
        label = f"{options['user'][0]}@{options['hostname'][0]}:{options['port'][0]}"
        if label in seen:
            raise InventoryError(f"{host}: ProxyJump goes in a circle: {' -> '.join([*seen, label])}")
        return self._from_options(host, options, seen, config_file, jumps=rest or None)

    def _algorithms(self, host: str, options: Options) -> tuple[tuple[str, tuple[str, ...]], ...]:
        if "ciphers" not in options:
            return ()
        usual = self._ask(host, ("-F", "none", "localhost"))
        chosen = []
        for option, (kind, known) in ALGORITHMS.items():
            if options.get(option) == usual.get(option):
                continue
            names = [name.strip() for name in options[option][0].split(",")]
            names = ["curve25519-sha256@libssh.org" if n == "curve25519-sha256" else n for n in names]
            fitting = tuple(dict.fromkeys(name for name in names if name in known))
            if not fitting:
                raise InventoryError(
                    f"{host}: ssh_config: flagprov cannot honour {option} {options[option][0]}",
                    remedy=f"Allow one of {', '.join(sorted(known))}.",
                )
            chosen.append((kind, fitting))
        return tuple(chosen)

    def _expand(self, text: str, tokens: Mapping[str, str]) -> str:
        text = re.sub(r"\$\{(\w+)\}|^\$(\w+)$", lambda m: os.environ.get(m[1] or m[2], ""), text)
        if text == "~" or text.startswith("~/"):
            text = str(self.home) + text[1:]
        return _tokens(str(Path(text).expanduser()) if text.startswith("~") else text, tokens)


def _home() -> Path:
    """As OpenSSH sees it: from the user database, whatever HOME says."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path.home()


_SIMPLE = frozenset(
    {
        "connecttimeout",
        "globalknownhostsfile",
        "hostkeyalias",
        "proxyjump",
        "stricthostkeychecking",
        "userknownhostsfile",
    }
)
_VARIABLES = {  # in the order in which Ansible hands them to ssh
    "ssh_args": "ansible_ssh_args",
    "ssh_common_args": "ansible_ssh_common_args",
    "ssh_extra_args": "ansible_ssh_extra_args",
}


def _address(record: Mapping[str, Any]) -> str:
    address = str(record["ssh"].get("host") or record["name"]).strip("[]")
    if address.startswith("-") or not address or any(c.isspace() for c in address):
        raise InventoryError(f"{record['name']}: ansible_host: {address!r} is not the name of a host")
    return address


def _words(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The words that Ansible would give to ssh, in its order (the first value wins there)."""
    host, ssh = str(record["name"]), record["ssh"]
    words = list(split_args(host, "ansible_ssh_args", ssh.get("ssh_args") or ""))
    for name, value in (
        ("Port", ssh.get("port")),
        ("IdentityFile", _key_file(ssh)),
        ("User", ssh.get("remote_user")),
    ):
        if value is not None:
            words += ["-o", f"{name}={value}" if name == "Port" else f'{name}="{value}"']
    for name in ("ssh_common_args", "ssh_extra_args"):
        words += split_args(host, _VARIABLES[name], ssh.get(name) or "")
    return tuple(words)


def _simple_options(host: str, ssh: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The options that mean just what they say; the first value wins, as with ssh."""
    found: dict[str, Sequence[str]] = {}
    for name, variable in _VARIABLES.items():
        for option, value, _ in named_options(
            host, variable, split_args(host, variable, ssh.get(name) or "")
        ):
            if option in _SIMPLE:
                found.setdefault(option, [value])
    return found


def _config_file(host: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """`-F FILE` of the options; ssh hands it on to its jumps."""
    for variable in _VARIABLES:
        words = split_args(host, _VARIABLES[variable], record["ssh"].get(variable) or "")
        for name, value, _ in named_options(host, _VARIABLES[variable], words):
            if name == "configfile":
                return ("-F", value)
    return ()


def _harmless_file(path: Path, base: Path, depth: int = 0) -> bool:
    """True where a config file, with those that it includes, says nothing that matters to us."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    for line in lines:
        name, _, value = line.strip().replace("=", " ", 1).replace("\t", " ").partition(" ")
        name = name.lower()
        if name == "include" and depth < 8:
            for word in value.split():
                pattern = str(base / Path(word.strip('"')).expanduser())
                if not all(_harmless_file(Path(p), base, depth + 1) for p in glob.glob(pattern)):  # noqa: PTH207
                    return False
        elif name and not name.startswith("#") and name not in ("host", "match") and name not in HARMLESS:
            return False
    return True


def _key_file(ssh: Mapping[str, Any]) -> str | None:
    """As Ansible takes it: relative to here, with ~ for HOME."""
    key = ssh.get("private_key_file")
    return str(Path(key).expanduser().absolute()) if key else None


def _yes(options: Options, name: str) -> bool:
    return options.get(name, ["yes"])[0] not in ("no", "false")


def _secret(value: object) -> Secret | None:
    return None if value is None else Secret(str(value))


def _port(host: str, text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InventoryError(f"{host}: ansible_port: {text!r} is not a port")
    return int(text)


def _tokens(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda m: tokens.get(m[1], m[0]), text)
