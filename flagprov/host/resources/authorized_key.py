"""One line in root's authorized_keys, known by the mark at its end; what others have there is left alone."""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import shutil
import sys

from flagprov.host import machine
from flagprov.host.files import replace
from flagprov.host.shell import run
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WITHOUT = "or leave out launch.ssh_port: the nodes are then not entered, and Ray joins them by itself"


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    ours = [line for line in _lines() if _marked(line, spec)]
    if spec.get("absent"):
        return {"lines": ours}
    return {"lines": ours, "wanted": _wanted(spec), "refused": _refused(str(spec["from"]))}


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    lines = observed["lines"]
    if spec.get("absent"):
        return [("remove", "it is there", "nothing")] if lines else []
    if observed["refused"]:
        return [("block", observed["refused"], "let root in from %s, %s" % (spec["from"], WITHOUT))]
    if not lines:
        return [
            ("create", "%s enters the replica's container by it, and nothing else" % spec["from"], "nothing")
        ]
    same = lines == [observed["wanted"]] and spec["key"] not in changed
    return [] if same else [("update", "it is another", "nothing")]


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    path = _path()
    lines = [line for line in _lines() if not _marked(line, spec)]
    if not spec.get("absent"):
        if not _key(spec):
            message = "no key in %s" % spec["key"]
            raise Blocked("authorized_key", message, "deploy this replica again")
        lines.append(_wanted(spec))
    if not lines:
        os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    mode = os.stat(path).st_mode & 0o7777 if os.path.exists(path) else 0o600
    replace(path, "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"), mode)


def _path() -> str:
    return os.path.realpath(os.path.join(pwd.getpwuid(0).pw_dir, ".ssh", "authorized_keys"))


def _lines() -> list[str]:
    """Lines as sshd reads them; `splitlines` would make two of one with a form feed in it."""
    try:
        with open(_path(), encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        return []
    return lines if lines[-1] else lines[:-1]


def _wanted(spec: dict[str, Any]) -> str:
    """With the Python that is here; not every host has one by the name of python3."""
    options = str(spec["options"]).replace("PYTHON", sys.executable, 1)
    return "%s %s %s" % (options, _key(spec), spec["mark"])


def _key(spec: dict[str, Any]) -> str:
    """The head's, which the last deploy left here; empty before the first one."""
    return machine.read(spec["key"]).strip()


def _marked(line: str, spec: dict[str, Any]) -> bool:
    return line.rstrip("\r").endswith(" " + spec["mark"])


def _refused(caller: str) -> str:
    """Why this host's sshd would not let root in by that line; empty where it would, or does not say."""
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    answer = run([sshd, "-T", "-C", "user=root,host=%s,addr=%s" % (caller, caller)], timeout=20)
    if answer.code == 127:
        return "this host has no sshd, by which its container would be entered"
    return refusal(answer.out)


def refusal(said: str) -> str:
    """In the words of `sshd -T`; where hosts are named with users, nothing is said."""
    settings: dict[str, list[str]] = {}
    for line in said.splitlines():
        name, _, value = line.partition(" ")
        settings.setdefault(name.lower(), []).append(value)
    if settings.get("permitrootlogin") == ["no"]:
        return "sshd lets root in by no key (PermitRootLogin no)"
    if settings.get("pubkeyauthentication") == ["no"]:
        return "sshd takes no keys (PubkeyAuthentication no)"
    methods = settings.get("authenticationmethods", ["any"])[0]
    if not {"any", "publickey"} & set(methods.split()):
        return "sshd wants more than a key (AuthenticationMethods %s)" % methods
    home = pwd.getpwuid(0).pw_dir
    files = settings.get("authorizedkeysfile", [".ssh/authorized_keys"])[0].split()
    places = [os.path.join(home, file.replace("%h", home).replace("%u", "root")) for file in files]
    if os.path.join(home, ".ssh/authorized_keys") not in places:
        return "sshd reads keys elsewhere (AuthorizedKeysFile %s)" % " ".join(files)
    return _kept_out(settings)


def _kept_out(settings: dict[str, list[str]]) -> str:
    groups = [grp.getgrgid(group).gr_name for group in os.getgrouplist("root", 0)]
    for kind, names in (("Users", ["root"]), ("Groups", groups)):
        allowed, denied = (settings.get(word + kind.lower()) for word in ("allow", "deny"))
        if allowed and not any(_fits(pattern.partition("@")[0], names) for pattern in allowed):
            return "sshd does not let root in (Allow%s %s)" % (kind, " ".join(allowed))
        if denied and any(_fits(pattern, names) for pattern in denied):
            return "sshd does not let root in (Deny%s %s)" % (kind, " ".join(denied))
    return ""


def _fits(pattern: str, names: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)
