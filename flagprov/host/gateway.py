"""The gateway of this host: which replicas it knows, which of them get requests."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time

from flagprov.host import engine, gateway_proxy
from flagprov.host.files import read_json, replace
from flagprov.host.gateway_files import backend, backends_text, checked, options, place, routes_text
from flagprov.host.http import NoAnswer
from flagprov.host.shell import run, unit_state
from flagprov.host.wire import Blocked, done, progress, started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "/var/lib/flagprov"
HOME = "/var/lib/flagprov-gateway"
SETTINGS = "/etc/flagprov-gateway/settings.json"
BASE = "/etc/flagprov-gateway/haproxy.cfg"
UNITS = "/etc/systemd/system"
UNIT = "flagprov-gateway.service"
AGENT = "flagprov-gateway-agent.service"
SCHEMA_VERSION = 1
START = """\
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from flagprov.host.gateway_agent import main
main()
"""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The gateway operations of the wire."""
    verbs = {
        "show": show,
        "put": put,
        "admit": admit,
        "drain": drain,
        "remove": remove,
        "uninstall": uninstall,
    }
    return verbs[request["do"]](request)


def settings() -> dict[str, Any]:
    return dict(read_json(SETTINGS) or {})


def state() -> dict[str, Any]:
    found = read_json(os.path.join(HOME, "backends.json")) or {"releases": {}, "first": None}
    if found.get("schema_version", 0) > SCHEMA_VERSION:
        raise Blocked("gateway", "a newer flagprov wrote this gateway's servers", "update flagprov")
    return dict(found, schema_version=SCHEMA_VERSION)


class _Alone:
    """Look, then write: one at a time."""

    def __enter__(self) -> None:
        os.makedirs(HOME, exist_ok=True)
        self._stream = open(os.path.join(HOME, "lock"), "a")
        fcntl.flock(self._stream, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def show(request: dict[str, Any]) -> dict[str, Any]:
    """Every server with what flagprov wants of it, what HAProxy says and what the agent says."""
    mine = settings()
    known = state()
    provisioned = read_json(os.path.join(HOME, "provisioned.json")) or {}
    running = unit_state(UNIT).get("ActiveState") == "active"
    releases: dict[str, Any] = {}
    for release, found in known["releases"].items():
        live = gateway_proxy.servers(backend(release)) if running else {}
        releases[release] = {
            name: dict(server, live=live.get(name), agent=agent_says(name))
            for name, server in found["servers"].items()
        }
    return {
        "provisioned": provisioned.get("fingerprint"),
        "running": running,
        "url": mine.get("url", ""),
        "first": known.get("first"),
        "releases": releases,
    }


def put(request: dict[str, Any]) -> dict[str, Any]:
    """Servers of a release: new ones are known from now on and get no request before they are let in."""
    if not os.path.exists(SETTINGS):
        raise Blocked("gateway", "this host is no gateway yet", "flagprov deploy makes it one")
    wanted = request["servers"]
    path = str(request.get("path") or "/health")
    checked(request["release"], wanted, path)
    with _Alone():
        known = state()
        before = json.dumps(known, sort_keys=True)
        release = known["releases"].setdefault(request["release"], {"servers": {}})
        known["first"] = known.get("first") or request["release"]
        release["path"] = path
        added, moved = [], False
        for name, server in wanted.items():
            there = release["servers"].get(name)
            if there is None:
                added.append(name)
            elif place(there) != place(server):
                moved = True
            kept = there["state"] if there and place(there) == place(server) else "out"
            release["servers"][name] = dict(server, state=kept)
        renewed = _renew_agent()
        if json.dumps(known, sort_keys=True) != before or renewed:
            _write(known)
            if not (added and not moved and _added_live(request["release"], release["servers"], added)):
                _reload()
        _start()
    return {"changes": len(added) + moved}


def admit(request: dict[str, Any]) -> dict[str, Any]:
    """Let a replica in once it answers from here, and the agent agrees."""
    release, name = request["release"], request["replica"]
    server = _server(release, name)
    started("verify", "let %s in" % name, "a completion through %s" % place(server), name)
    begun = time.monotonic()
    deadline = begun + float(request.get("deadline_s", 60))
    proof = None
    while True:
        try:
            if server["readiness"] in engine.PATHS:
                proof = engine.completion(dict(server, replica=name), 4, timeout=30)
            break
        except NoAnswer as error:
            if time.monotonic() > deadline:
                message = "%s does not answer at %s from this gateway: %s" % (name, place(server), error)
                raise Blocked("gateway", message, "is its port open for the gateway?", replica=name) from None
            time.sleep(0.5)
    while (agent_says(name) or {}).get("state") != "up":
        if time.monotonic() > deadline:
            said = agent_says(name)
            message = "the agent does not let %s in: %s" % (name, said["detail"] if said else "it is silent")
            raise Blocked("gateway", message, "journalctl -u %s" % AGENT, replica=name)
        time.sleep(0.2)
    _set(release, name, "in")
    where = "%s/%s" % (backend(release), name)
    gateway_proxy.do("set server %s health up" % where)
    gateway_proxy.do("set server %s agent up" % where)
    gateway_proxy.everywhere("set server %s state ready" % where)
    while not _status(release, name).startswith("UP"):
        if time.monotonic() > deadline:
            message = "HAProxy keeps %s out: %s" % (name, _status(release, name))
            _set(release, name, "out")
            gateway_proxy.everywhere("set server %s state maint" % where)
            raise Blocked("gateway", message, "journalctl -u %s" % UNIT, replica=name)
        time.sleep(0.2)
    done(time.monotonic() - begun)
    return {"completion": proof}


def drain(request: dict[str, Any]) -> dict[str, Any]:
    """No new requests to these replicas; returns when those that they have are done, or at the deadline."""
    release = request["release"]
    known = state()["releases"].get(release, {}).get("servers", {})
    names = [name for name in request["replicas"] if name in known]
    for name in names:
        _set(release, name, "out")
    if not names or unit_state(UNIT).get("ActiveState") != "active":
        return {"sessions": 0, "replicas": names}
    for name in names:
        gateway_proxy.everywhere("set server %s/%s state drain" % (backend(release), name))
    left = _wait_for_end(release, names, float(request.get("deadline_s", 300)))
    for name in names:
        gateway_proxy.do("set server %s/%s state maint" % (backend(release), name))
    return {"sessions": left, "replicas": names}


def _wait_for_end(release: str, names: list[str], deadline_s: float) -> int:
    """How many requests are left."""
    begun = said = time.monotonic()
    started("serve", "drain %s" % ", ".join(names), "no new requests; those at work may end", None)
    while True:
        live = gateway_proxy.servers(backend(release))
        left = sum(int(live[name]["sessions"]) for name in names if name in live)
        waited = time.monotonic() - begun
        if not left or waited > deadline_s:
            done(waited)
            return left
        if time.monotonic() - said > 2:
            said = time.monotonic()
            progress("%d requests are left after %d s" % (left, waited))
        time.sleep(0.1)


def remove(request: dict[str, Any]) -> dict[str, Any]:
    """Forget replicas; the last one takes the release's backend with it."""
    with _Alone():
        known = state()
        release = known["releases"].get(request["release"])
        gone = [name for name in request["replicas"] if release and name in release["servers"]]
        if not gone:
            return {"changes": 0}
        assert release
        for name in gone:
            del release["servers"][name]
        if not release["servers"]:
            del known["releases"][request["release"]]
            if known.get("first") == request["release"]:
                known["first"] = min(known["releases"], default=None)
        _write(known)
        _reload()
    return {"changes": len(gone)}


def uninstall(request: dict[str, Any]) -> dict[str, Any]:
    """No gateway here any more, unless it serves something; HAProxy's package stays."""
    if state()["releases"] or not os.path.isdir(HOME):
        return {"changes": 0}
    for unit in (UNIT, AGENT):
        run(["systemctl", "disable", "--now", "--no-reload", unit], timeout=120)
        path = os.path.join(UNITS, unit)
        if os.path.exists(path):
            os.unlink(path)
    folders = [os.path.dirname(SETTINGS), HOME]
    if not os.path.exists(os.path.join(STATE, "provisioned")):  # it never served itself
        folders.append(STATE)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return {"changes": 1}


def agent_says(name: str) -> Any:
    """State and detail of a replica, None where the agent does not know it or is not there."""
    try:
        port = int(settings().get("agent_port", 9199))
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"? %s\n" % name.encode())
            return json.loads(connection.makefile().readline() or "null")
    except (OSError, ValueError):
        return None


def _server(release: str, name: str) -> dict[str, Any]:
    try:
        return dict(state()["releases"][release]["servers"][name])
    except KeyError:
        raise Blocked("gateway", "%s is not known to this gateway" % name, "run deploy again") from None


def _status(release: str, name: str) -> str:
    return str(gateway_proxy.servers(backend(release)).get(name, {}).get("status", "unknown"))


def _set(release: str, name: str, wanted: str) -> None:
    """What a restart of HAProxy shall find."""
    with _Alone():
        known = state()
        server = known["releases"][release]["servers"][name]
        if server["state"] != wanted:
            server["state"] = wanted
            _write(known)


def _write(known: dict[str, Any]) -> None:
    """All files, once HAProxy has accepted them."""
    mine = settings()
    text = backends_text(known, int(mine.get("agent_port", 9199)))
    routes = routes_text(known, str(mine.get("default_release", "")))
    path = os.path.join(HOME, "backends.cfg")
    if _read(path) != text:
        candidate = os.path.join(HOME, "candidate.cfg")
        replace(candidate, text.encode(), 0o644)
        found = run(["haproxy", "-c", "-q", "-f", BASE, "-f", candidate], timeout=30)
        os.unlink(candidate)
        if found.code:
            said = "\n".join(line for line in (found.out + found.err).splitlines() if "ALERT" in line)
            raise Blocked("gateway", "HAProxy refuses its configuration", "see its words below", said)
        replace(path, text.encode(), 0o644)
    replace(os.path.join(HOME, "routes.map"), routes.encode(), 0o644)
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    replace(os.path.join(HOME, "backends.json"), text.encode(), 0o644)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return None


def _added_live(release: str, servers: dict[str, Any], added: list[str]) -> bool:
    """Servers that join a backend need no reload, where this HAProxy can do that."""
    if unit_state(UNIT).get("ActiveState") != "active":
        return False
    port = int(settings().get("agent_port", 9199))
    if not gateway_proxy.servers(backend(release)):
        return False
    for name in added:
        where = "%s/%s" % (backend(release), name)
        command = "add server %s %s %s" % (where, place(servers[name]), options(name, port))
        if "registered" not in gateway_proxy.ask(command):
            return False
        gateway_proxy.ask("enable health %s; enable agent %s" % (where, where))
    return True


def _reload() -> None:
    """A new worker takes over; the old one finishes what it has."""
    if unit_state(UNIT).get("ActiveState") != "active":
        return
    before = gateway_proxy.ask("show info")
    answer = run(["systemctl", "reload", UNIT], timeout=60)
    deadline = time.monotonic() + 20
    while answer.code == 0 and time.monotonic() < deadline:
        try:
            now = gateway_proxy.ask("show info")
        except Blocked:
            now = ""
        if _pid(now) not in ("", _pid(before)):
            return
        time.sleep(0.1)
    raise Blocked(
        "gateway", "HAProxy did not take up its new servers: %s" % answer.err.strip(), "journalctl -u " + UNIT
    )


def _pid(info: str) -> str:
    return next((line[5:] for line in info.splitlines() if line.startswith("Pid: ")), "")


def _start() -> None:
    for unit in (AGENT, UNIT):
        if unit_state(unit).get("ActiveState") not in ("active", "activating", "reloading"):
            run(["systemctl", "reset-failed", unit], timeout=20)
            answer = run(["systemctl", "start", unit], timeout=60)
            if answer.code:
                raise Blocked("gateway", "%s does not start" % unit, "journalctl -u %s" % unit)


def _renew_agent() -> bool:
    """The agent is this program's own code, in a place of its own; restarted only when it has changed."""
    here = os.path.dirname(os.path.abspath(__file__))
    files = {"start.py": START, "flagprov/__init__.py": ""}
    for name in os.listdir(here):
        if name.endswith(".py"):
            files["flagprov/host/%s" % name] = _read(os.path.join(here, name)) or ""
    folder = os.path.join(HOME, "agent")
    if all(_read(os.path.join(folder, name)) == text for name, text in files.items()):
        return False
    for name, text in files.items():
        replace(os.path.join(folder, name), text.encode(), 0o644)
    if unit_state(AGENT).get("ActiveState") == "active":
        run(["systemctl", "restart", AGENT], timeout=60)
    return True
