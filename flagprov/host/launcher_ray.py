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
from typing import Any, Dict, List, Mapping, Optional, Sequence

from flagprov.host.http import listens
from flagprov.host.launcher_log import say
from flagprov.host.launcher_node import Node
from flagprov.host.launcher_processes import send
from flagprov.host.launcher_start import NotStarted, describe

START_S = 120.0  # what Ray gets to start on a node, and the nodes to join
ASK_S = 60.0
LOOK_S = 30.0  # between two counts while the engine serves; each costs a start of Python
CLIENT = "ray-client-server-port"
HEAD_ONLY = ("port", CLIENT, "dashboard-port")
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
# A minimal Ray has no client, and refuses to be told of its port.
python=$(sed -n '1s/^#!//p' "$(type -P ray)")
case $python in *python*) ;; *) python=python3 ;; esac # a shell comes first where its path is long
if [ -n "$head" ] && $python -c 'import grpc' 2>/dev/null; then options+=(%(client)s); fi
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
        only = ["--%s=%d" % each for each in named if each[0] in HEAD_ONLY and each[0] != CLIENT]
        only += ["--include-dashboard=false", "--disable-usage-stats"]
        text = WRAPPER % {
            "joined": shlex.quote("--address=%s" % self.place()),
            "only": " ".join(only),
            "client": "--%s=%d" % (CLIENT, self.ports[CLIENT]) if CLIENT in self.ports else "",
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


def span(node: Node, ray: Ray) -> int:
    """Ray's head, then the other nodes, then all of them counted; the pid of the head's part."""
    assert node.peers
    head = node.spawn(ray.start(head=True))
    up = node.wait_until(
        lambda: head in node.ended or node.called_off() or listens(ray.head, ray.port()), START_S
    )
    if not up:
        raise NotStarted("Ray's head does not listen on %s port %d" % (ray.head, ray.port()))
    _check(node, head)
    node.peers.tell("ray")
    count(node, ray, head)
    return head


def count(node: Node, ray: Ray, head: Optional[int] = None) -> None:
    """Returns when Ray has all nodes; an engine beside half of a Ray is no replica."""
    seen, deadline = 0, time.monotonic() + START_S
    while not node.called_off():
        if head is not None:
            _check(node, head)
        seen = nodes_in(ask(node, ray.asked()))
        if seen >= ray.nodes:
            ray.seen, ray.asked_at = seen, time.monotonic()
            say("Ray has all %d nodes" % seen)
            return
        if time.monotonic() > deadline:
            raise NotStarted("Ray has %d of %d nodes; why is in /tmp/ray of a node" % (seen, ray.nodes))


def join(node: Node, ray: Ray) -> Optional[int]:
    """On a rank beside the head, when the head's Ray is there; None where a stop came first."""
    peers = node.peers
    assert peers
    node.wait_until(lambda: peers.spans or node.called_off(), 2 * START_S)
    if peers.spans:
        return node.spawn(ray.start(head=False))
    if not node.called_off():
        raise NotStarted("%s has started no Ray" % peers.name(0))
    return None


def _check(node: Node, pid: int) -> None:
    if pid in node.ended:
        raise NotStarted("Ray did not start (%s); its own lines are above" % describe(node.ended[pid]))


def look(node: Node, ray: Ray) -> None:
    """Count the nodes now and then, without waiting for the answer; none is no news."""
    now, path = time.monotonic(), os.path.join(node.exp, "nodes")
    if ray.asking is None:
        if now - ray.asked_at >= LOOK_S:
            ray.asked_at = now
            open(path, "wb").close()
            ray.asking = node.spawn(ray.asked(), path)
    elif ray.asking in node.ended:
        if not node.ended[ray.asking]:
            with open(path, encoding="utf-8", errors="replace") as file:
                ray.seen = nodes_in(file.read())
        ray.asking = None
    elif now - ray.asked_at > ASK_S:
        send([ray.asking], signal.SIGKILL)


def ask(node: Node, argv: Sequence[str]) -> str:
    """A command's output; the loop goes on meanwhile, so that nobody takes us for dead.

    A Ray that has lost a node may take a minute to say anything; the launchers know it in seconds.
    """
    path = os.path.join(node.exp, "answer")
    open(path, "wb").close()
    pid = node.spawn(argv, path)
    node.wait_until(lambda: pid in node.ended or node.called_off(), ASK_S)
    send([pid] if pid not in node.ended else [], signal.SIGKILL)
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
