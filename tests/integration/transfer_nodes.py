"""Nodes of a transfer as processes on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flagprov.distribute.certificates import Authority, new_authority, tls_name
from flagprov.distribute.content import Content, content_of
from flagprov.host.transfer.layout import listing, written

ROOT = Path(__file__).parents[2]
CODE = """
import json, sys
sys.path.insert(0, {root!r})
{first}
from flagprov.host.transfer.job import transfer
from flagprov.host.wire import Blocked, send
try:
    for result in transfer(json.loads(sys.stdin.readline())):
        send({{"result": result}})
except Blocked as problem:
    send({{"error": problem.wire()}})
"""


@dataclass
class Node:
    name: str
    process: subprocess.Popen[bytes]
    path: Path
    release: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.changed:
                self.events.append(json.loads(line))
                self.changed.notify_all()
        self.process.stdout.close()
        with self.changed:
            self.events.append({"end": True})
            self.changed.notify_all()

    def until(self, test: Any, timeout: float = 40.0) -> dict[str, Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: any(map(test, self.events)), timeout), self.events[-3:]
            return next(filter(test, self.events))

    def result(self) -> dict[str, Any]:
        answer = self.until(lambda event: "result" in event or "error" in event or "end" in event)
        assert "result" in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.until(lambda event: "error" in event)["error"]
        return found

    def arrived(self, count: int) -> None:
        self.until(lambda event: event.get("event", {}).get("data", {}).get("bytes", 0) >= count)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.ended()

    def ended(self) -> None:
        self.process.wait(timeout=20)
        self.until(lambda event: "end" in event)


class Hosts:
    """A source directory and hosts in a chain behind it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.source = folder / "source"
        self.source.mkdir()
        self.authority: Authority = new_authority()
        self.nodes: dict[str, Node] = {}
        self.all: list[Node] = []
        self.names: list[str] = []

    def content(self) -> Content:
        return content_of(listing(str(self.source)), written=written(str(self.source)))

    def spec(self, name: str, peers: list[str], /, **changes: Any) -> dict[str, Any]:
        content = self.content()
        if name not in self.names:
            self.names.append(name)
        for peer in peers:
            if peer not in self.names:
                self.names.append(peer)
        known = [
            {
                "name": peer,
                "tls_name": tls_name(peer),
                "addresses": ["127.0.0.1"],
                "port": self.port + self.names.index(peer),
            }
            for peer in peers
        ]
        return {
            "content": content.id,
            "path": str(self.folder / name / "model"),
            "files": content.files,
            "chunk": content.chunk,
            "port": self.port + self.names.index(name),
            "peers": known,
            "tls": self.authority.issue(tls_name(name), ["127.0.0.1"]),
            "release_file": str(self.folder / name / "release"),
            **changes,
        }

    def start(self, name: str, *peers: str, first: str = "", **changes: Any) -> Node:
        """`first` is code that the node runs before anything else: shorter patience, or where it dies."""
        (self.folder / name).mkdir(exist_ok=True)
        spec = self.spec(name, list(peers), **changes)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", CODE.format(root=str(ROOT), first=first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(spec).encode() + b"\n")
        process.stdin.close()
        node = Node(name, process, Path(spec["path"]), Path(spec["release_file"]))
        self.nodes[name] = node
        self.all.append(node)
        threading.Thread(target=node.listen, daemon=True).start()
        return node

    def start_source(self, **changes: Any) -> Node:
        return self.start("origin", path=str(self.source), source=True, **changes)

    def port_of(self, name: str) -> int:
        return self.port + self.names.index(name)

    def close(self) -> None:
        for node in self.all:
            if node.process.poll() is None:
                node.kill()
            node.ended()

    def same(self, node: Node) -> bool:
        return all(
            (node.path / name).read_bytes() == (self.source / name).read_bytes()
            for name, _, _ in self.content().files
        )
