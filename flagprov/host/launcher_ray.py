"""Ray over the nodes of a replica: its fixed ports, its start on this node, and who has joined.

A command `ray` of our own comes first on the PATH, so that FlagScale's generated script, whoever enters a
container and we ourselves start Ray with the same ports, and none of them is left to chance.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import time
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from flagprov.host.launcher_log import say
from flagprov.host.launcher_processes import send
from flagprov.host.launcher_start import NotStarted, describe, listens, spawn

if TYPE_CHECKING:
    from flagprov.host.launcher import Launcher

START_S = 120.0  # what Ray gets to start on a node, and the nodes to join
ASK_S = 60.0
LOOK_S = 30.0  # between two counts while the engine serves; each costs a start of Python
HEAD_ONLY = ("port", "ray-client-server-port", "dashboard-port")
CONFIG_ROOT = "VLLM_CONFIG_ROOT"
NOT_COPIED = "ray_non_carry_over_env_vars.json"  # vLLM's name for it
FIRST = "first"  # below the experiment's directory; before everything else on the PATH
DAEMONS = ("raylet", "gcs_server")  # as the kernel names them
NODE = re.compile(r"^\s*\d+ node_\w+", re.MULTILINE)

WRAPPER = """#!/bin/bash
# Written by flagprov: Ray with the ports of this replica, whoever starts it.
own=$(dirname "$(realpath "$0")")
PATH=$(echo "$PATH" | tr : '\\n' | grep -vFx "$own" | paste -sd:)
export PATH
if [ "${1-}" != start ]; then exec ray "$@"; fi
shift
head=
options=()
for word do
    case $word in
        --head) head=1; options+=("$word") ;;
        --port=*) ;;
        --address=*) options+=(%(joined)s) ;;
        *) options+=("$word") ;;
    esac
done
[ -z "$head" ] || options+=(%(only)s)
exec ray start "${options[@]}" %(fixed)s
"""


class Ray:
    """One node's part of a replica's Ray."""

    def __init__(self, said: Mapping[str, Any], exp: str) -> None:
        self.ports = {str(name): int(port) for name, port in said["ports"].items()}
        self.address, self.head = str(said["address"]), str(said["head"])
        self.nodes = int(said["nodes"])
        self.resources = [str(word) for word in said["resources"]]
        self.own = [str(name) for name in said.get("own", ())]
        self.folder = os.path.join(exp, FIRST)
        self.seen: Optional[int] = None  # nodes, when they were counted last
        self.asked_at = 0.0
        self.asking: Optional[int] = None  # pid of the command that counts

    def place(self) -> str:
        host = "[%s]" % self.head if ":" in self.head else self.head
        return "%s:%d" % (host, self.port())

    def port(self) -> int:
        return self.ports["port"]

    def write(self, env: Dict[str, str]) -> None:
        """The wrapper; the same path on every node, since FlagScale calls the head's there."""
        os.makedirs(self.folder, exist_ok=True)
        if CONFIG_ROOT not in env:
            env[CONFIG_ROOT] = os.path.join(self.folder, "vllm")
            os.makedirs(env[CONFIG_ROOT], exist_ok=True)
            with open(os.path.join(env[CONFIG_ROOT], NOT_COPIED), "w", encoding="utf-8") as file:
                json.dump(self.own, file)
        path = os.path.join(self.folder, "ray")
        named = sorted(self.ports.items())
        fixed = ["--%s=%d" % each for each in named if each[0] not in HEAD_ONLY]
        only = ["--%s=%d" % each for each in named if each[0] in HEAD_ONLY]
        only += ["--include-dashboard=false", "--disable-usage-stats"]
        text = WRAPPER % {
            "joined": shlex.quote("--address=%s" % self.place()),
            "only": " ".join(only),
            "fixed": " ".join(["--node-ip-address=%s" % shlex.quote(self.address), *fixed]),
        }
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def start(self, head: bool) -> List[str]:
        """Stays in the foreground, and ends when one of Ray's processes here does."""
        how = ["--head"] if head else ["--address=%s" % self.place()]
        return ["ray", "start", *how, "--block", *self.resources]

    def asked(self) -> List[str]:
        return ["ray", "status", "--address", self.place()]


def nodes_in(status: str) -> int:
    """Active nodes in the words of `ray status`."""
    active = status.partition("Active:")[2].partition("Pending:")[0]
    return len(NODE.findall(active))


def span(launcher: Launcher, ray: Ray) -> int:
    """Ray's head, then the other nodes, then all of them counted; the pid of the head's part."""
    peers = launcher.peers
    assert peers
    head = launcher.spawn(ray.start(head=True), launcher.env, launcher.output)
    up = launcher.wait_until(
        lambda: head in launcher.ended or launcher.stopping or listens(ray.head, ray.port()), START_S
    )
    if not up:
        raise NotStarted("Ray's head does not listen on %s port %d" % (ray.head, ray.port()))
    _check(launcher, head)
    peers.tell("ray")
    count(launcher, ray, head)
    return head


def count(launcher: Launcher, ray: Ray, head: Optional[int] = None) -> None:
    """Returns when Ray has all nodes; an engine beside half of a Ray is no replica."""
    seen, deadline = 0, time.monotonic() + START_S
    while not launcher.stopping and not (launcher.peers and launcher.peers.lost):
        if head is not None:
            _check(launcher, head)
        seen = nodes_in(ask(launcher, ray.asked()))
        if seen >= ray.nodes:
            ray.seen, ray.asked_at = seen, time.monotonic()
            say("Ray has all %d nodes" % seen)
            return
        if time.monotonic() > deadline:
            raise NotStarted("Ray has %d of %d nodes; why is in /tmp/ray of a node" % (seen, ray.nodes))


def join(launcher: Launcher, ray: Ray) -> Optional[int]:
    """A rank beside the head: FlagScale comes in by SSH, or it joins when the head's Ray is there."""
    peers = launcher.peers
    assert peers
    if launcher.daemon:
        return launcher.daemon
    launcher.wait_until(lambda: peers.spans or bool(peers.lost) or launcher.stopping, 2 * START_S)
    if peers.spans:
        return launcher.spawn(ray.start(head=False), launcher.env, launcher.output)
    if not peers.lost and not launcher.stopping:
        raise NotStarted("%s has started no Ray" % peers.name(0))
    return None


def _check(launcher: Launcher, pid: int) -> None:
    if pid in launcher.ended:
        raise NotStarted("Ray did not start (%s); its own lines are above" % describe(launcher.ended[pid]))


def look(launcher: Launcher, ray: Ray) -> None:
    """Count the nodes now and then, without waiting for the answer; none is no news."""
    now, path = time.monotonic(), os.path.join(launcher.exp, "nodes")
    if ray.asking is None:
        if now - ray.asked_at >= LOOK_S:
            ray.asked_at = now
            open(path, "wb").close()
            child = spawn(launcher.launch, ray.asked(), launcher.env, launcher.exp, path)
            launcher.children.append(child)
            ray.asking = child.pid
    elif ray.asking in launcher.ended:
        if not launcher.ended[ray.asking]:
            with open(path, encoding="utf-8", errors="replace") as file:
                ray.seen = nodes_in(file.read())
        ray.asking = None
    elif now - ray.asked_at > ASK_S:
        send([ray.asking], signal.SIGKILL)


def ask(launcher: Launcher, argv: Sequence[str]) -> str:
    """A command's output; the loop goes on meanwhile, so that nobody takes us for dead."""
    path = os.path.join(launcher.exp, "answer")
    open(path, "wb").close()
    child = spawn(launcher.launch, argv, launcher.env, launcher.exp, path)
    launcher.children.append(child)
    launcher.wait_until(lambda: child.pid in launcher.ended or launcher.stopping, ASK_S)
    send([child.pid] if child.pid not in launcher.ended else [], signal.SIGKILL)
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
