"""A whole small transfer in this process: a source, two hosts in a chain, TLS on loopback."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.distribute.certificates import new_authority, tls_name
from flagprov.distribute.content import content_of
from flagprov.host.transfer import job, manifest
from flagprov.host.transfer.layout import Layout, listing, written
from flagprov.host.transfer.node import Node
from flagprov.host.transfer.store import Incoming, Source
from flagprov.host.wire import Blocked

AUTHORITY = new_authority()


class Chain:
    """Its nodes are released at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.ports: dict[str, int] = {}
        self.threads: list[threading.Thread] = []
        self.results: dict[str, Any] = {}

    def spec(self, name: str, peers: Sequence[str], **more: Any) -> dict[str, Any]:
        content = content_of(listing(str(self.source)), written=written(str(self.source)))
        for each in (name, *peers):
            if each not in self.ports:
                with socket.create_server(("127.0.0.1", 0)) as sock:
                    self.ports[each] = sock.getsockname()[1]
        known = [
            {"name": p, "tls_name": tls_name(p), "addresses": ["127.0.0.1"], "port": self.ports[p]}
            for p in peers
        ]
        (self.folder / name).mkdir(exist_ok=True)
        return {
            "content": content.id,
            "path": str(self.folder / name / "model"),
            "files": content.files,
            "chunk": content.chunk,
            "port": self.ports[name],
            "peers": known,
            "tls": AUTHORITY.issue(tls_name(name), ["127.0.0.1"]),
            "release_file": str(self.folder / name / "release"),
            **more,
        }

    def start(self, name: str, *peers: str, **more: Any) -> threading.Event:
        spec, done = self.spec(name, peers, **more), threading.Event()

        def work() -> None:
            try:
                for result in job.transfer(spec):
                    self.results[name] = result
                    done.set()
            except Exception as error:
                self.results[name] = error
                done.set()

        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()
        return done

    def end(self) -> None:
        for name in self.ports:
            (self.folder / name / "release").touch()
        for thread in self.threads:
            thread.join(10)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(tmp_path)
    (made.source / "sub").mkdir(parents=True)
    (made.source / "model.bin").write_bytes(os.urandom(700_000))
    (made.source / "sub" / "config.json").write_text("{}")
    return made


def test_the_sources_host_and_two_others_have_the_same(chain: Chain) -> None:
    place = str(chain.folder / "origin" / "own")
    waits = [
        chain.start("origin", path=str(chain.source), source=True, place=place),
        chain.start("h1", "origin"),
        chain.start("h2", "h1", "origin"),
    ]
    assert all(done.wait(20) for done in waits), chain.results
    chain.end()
    assert [chain.results[name]["changed"] for name in ("origin", "h1", "h2")] == [2, 2, 2]
    sums = [
        manifest.read(str(path))
        for path in (Path(place), chain.folder / "h1/model", chain.folder / "h2/model")
    ]
    assert len({tuple((p, e["sha256"]) for p, e in known.items()) for known in sums}) == 1
    assert not manifest.deep_faults(str(chain.folder / "h2/model"), [])


def test_the_same_again_moves_nothing_and_another_content_everything(chain: Chain) -> None:
    chain.start("origin", path=str(chain.source), source=True)
    assert chain.start("h1", "origin").wait(20)
    assert chain.results["h1"]["changed"] == 2
    again = Chain(chain.folder)
    assert again.start("h1", "origin").wait(20)
    assert again.results["h1"] == {"changed": 0, "bytes": 0}
    chain.end()
    for name in ("origin", "h1"):
        (chain.folder / name / "release").unlink()
    (chain.source / "model.bin").write_bytes(os.urandom(700_000))
    new = Chain(chain.folder)
    new.start("origin", path=str(chain.source), source=True)
    assert new.start("h1", "origin").wait(20)
    new.end()
    assert new.results["h1"]["changed"] == 2, new.results
    assert (chain.folder / "h1/model/model.bin").read_bytes() == (chain.source / "model.bin").read_bytes()


def test_only_a_sources_trouble_is_told_to_the_ones_behind(chain: Chain) -> None:
    """A full disk in the middle of the chain would have ended the transfer on all hosts after it."""
    spec = chain.spec("h1", [])
    layout = Layout(list(spec["files"]), spec["chunk"])
    full = Blocked("weights", "/srv/model.bin: No space left on device")
    middle = Node(spec, Incoming(spec["path"], layout, spec["content"]))
    source = Node(spec, Source(str(chain.source), layout, host="nas1"))
    for node in (middle, source):
        node._break(full)
        assert node.broken is full
    assert middle.store.fault == ""
    assert source.store.fault == f"nas1: {full.message}"


def test_a_source_that_hashes_what_others_have_already_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that was cut off late lacks only the end, which the source reads last."""
    now = [0.0]
    monkeypatch.setattr(job, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Late:
        """Lacks its last bytes until `begins`; its source has come as far as `hashed` says."""

        layout = SimpleNamespace(total=1000)
        fault, bytes, hashed, alive = "", 900, 0, True
        changed = threading.Condition()

        @property
        def full(self) -> bool:
            now[0] += 40
            self.hashed += self.alive
            return now[0] > 600

    node: Any = SimpleNamespace(broken=None, note="", orphan=False, sender="", spec={"port": 1})
    store: Any = Late()
    job._arrive(node, store)
    now[0], store.alive = 0.0, False
    with pytest.raises(Blocked, match="nothing has arrived"):
        job._arrive(node, store)
