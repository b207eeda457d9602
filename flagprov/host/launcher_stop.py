"""How an engine is ended: what answers HTTP first, and then whatever is left of it."""

from __future__ import annotations

import re
import signal
import time
from typing import List, Optional

from flagprov.host.http import NoAnswer, request
from flagprov.host.launcher_log import say
from flagprov.host.launcher_node import Node
from flagprov.host.launcher_processes import command_line, is_front, send

SETTLE_S = 5.0  # what the engine's other processes get to end by themselves


def stop(node: Node) -> None:
    """An orderly end, after the requests that run."""
    grace = float(node.launch.get("stop_grace_s", 60))
    deadline = time.monotonic() + grace
    if node.peers:
        node.peers.leave(node.wait_until, grace * 0.9)
    if node.launch.get("drain") == "outside":
        drain(node, grace)
    ends = front(node)
    send(ends, signal.SIGTERM)
    node.wait_until(lambda: not set(ends) & set(node.ours()), max(1.0, deadline - time.monotonic()))
    sweep(node)


def front(node: Node) -> List[int]:
    """The process that answers HTTP; all that we started where it cannot be told."""
    ours = node.ours()
    return [pid for pid in ours if is_front(command_line(pid))][:1] or ours


def drain(node: Node, seconds: float) -> None:
    """For engines which drop their requests at SIGTERM: wait until none is left."""
    port = int(node.launch.get("port", 0))
    asked = in_flight(node.address, port)
    if asked:
        say("waiting for %d requests" % asked)
    deadline = time.monotonic() + seconds
    while asked and time.monotonic() < deadline:
        node.turn()
        asked = in_flight(node.address, port)


def in_flight(address: str, port: int) -> Optional[float]:
    """Requests that run or wait, from the engine's metrics; None where it does not say."""
    try:
        text = request(address, port, "/metrics", timeout=2)[1].decode("utf-8", "replace")
    except NoAnswer:
        return None
    values = re.findall(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? (\S+)", text, re.MULTILINE)
    return sum(float(value) for value in values) if values else None


def sweep(node: Node) -> int:
    """End what is left of the engine; the number of processes which had to be ended."""
    settle = float(node.launch.get("settle_s", SETTLE_S))
    if node.wait_until(lambda: not node.ours(), settle):
        return 0
    left = node.ours()
    send(left, signal.SIGTERM)
    if not node.wait_until(lambda: not node.ours(), settle):
        send(node.ours(), signal.SIGKILL)
        node.wait_until(lambda: not node.ours(), SETTLE_S)
    return len(left)
