"""Real nodes over real TLS: what arrives is what was sent, whoever dies meanwhile."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flagprov.distribute.certificates import new_authority, tls_name
from flagprov.distribute.fan_images import parcels
from flagprov.distribute.layouts import BLOBS, ImageLayout
from flagprov.host.layers import arrived
from flagprov.host.transfer import frames, manifest
from flagprov.host.transfer.frames import Link
from flagprov.host.transfer.layout import Layout
from flagprov.host.transfer.store import Incoming
from flagprov.host.transfer.talk import Receiver
from tests.integration.transfer_nodes import Hosts

SIZE = 12 << 20
CAP = 6 << 20  # slow enough that something can happen half-way


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    made = Hosts(tmp_path, 20000 + port % 9000)
    (made.source / "model.bin").write_bytes(os.urandom(SIZE))
    (made.source / "sub").mkdir()
    for number in range(30):
        (made.source / "sub" / f"{number}.txt").write_bytes(os.urandom(100 * number))
    yield made
    made.close()


def test_a_chain_brings_every_file_and_a_manifest(hosts: Hosts) -> None:
    hosts.start_source()
    first, second = hosts.start("h1", "origin"), hosts.start("h2", "h1", "origin")
    assert first.result()["changed"] == 31
    assert second.result()["damaged"] == 0
    assert hosts.same(first) and hosts.same(second)
    entries = manifest.read(str(second.path))
    assert len(entries) == 31 and all(manifest.unchanged(str(second.path), e) for e in entries.values())
    assert [p.name for p in second.path.parent.iterdir()] == ["model"]
    assert not manifest.deep_faults(str(second.path), [])


def test_the_second_run_moves_nothing(hosts: Hosts) -> None:
    hosts.start_source()
    hosts.start("h1", "origin").result()
    hosts.nodes["h1"].kill()
    assert hosts.start("h1", "origin").result() == {"changed": 0, "bytes": 0}


def test_nodes_end_by_themselves_when_they_are_released(hosts: Hosts) -> None:
    source, node = hosts.start_source(), hosts.start("h1", "origin")
    node.result()
    for each in (source, node):
        each.release.touch()
        assert each.process.wait(timeout=10) == 0


def test_a_dead_host_is_stepped_over(hosts: Hosts) -> None:
    hosts.start_source(cap=CAP)
    middle = hosts.start("h1", "origin")
    last = hosts.start("h2", "h1", "origin")
    last.arrived(SIZE // 4)
    middle.kill()
    last.result()
    assert hosts.same(last)


def test_a_killed_host_takes_up_where_it_was(hosts: Hosts) -> None:
    hosts.start_source(cap=CAP)
    node = hosts.start("h1", "origin")
    node.arrived(SIZE // 3)
    node.kill()
    assert not node.path.exists()  # nothing half is ever seen at its place
    again = hosts.start("h1", "origin")
    assert again.result()["bytes"] < SIZE * 3 / 4
    assert hosts.same(again)


def test_what_was_written_meanwhile_at_the_source_is_not_mixed_in(hosts: Hosts) -> None:
    source = hosts.start_source(cap=CAP)
    node = hosts.start("h1", "origin")
    node.arrived(SIZE // 3)
    for each in (node, source):
        each.kill()
    before = hosts.content().id
    (hosts.source / "model.bin").write_bytes(os.urandom(SIZE))
    assert hosts.content().id != before
    hosts.start_source()
    again = hosts.start("h1", "origin")
    again.result()
    assert hosts.same(again)
    again.kill()
    (hosts.source / "model.bin").write_bytes(os.urandom(SIZE))
    hosts.nodes["origin"].kill()
    hosts.start_source()
    again = hosts.start("h1", "origin")
    assert again.result()["changed"] == 31
    assert hosts.same(again)


def test_wrong_chunks_of_an_earlier_run_are_brought_anew(hosts: Hosts) -> None:
    """Whatever the name of the transfer says: the source's digests decide."""
    source = hosts.start_source(cap=CAP, content="same")
    node = hosts.start("h1", "origin", content="same")
    node.arrived(SIZE // 3)
    for each in (node, source):
        each.kill()
    (hosts.source / "model.bin").write_bytes(os.urandom(SIZE))
    hosts.start_source(content="same")
    middle = hosts.start("h1", "origin", content="same")
    last = hosts.start("h2", "h1", "origin", content="same")
    assert middle.result()["damaged"] == last.result()["damaged"] == 0
    assert hosts.same(middle) and hosts.same(last)


def test_a_late_host_needs_no_source(hosts: Hosts) -> None:
    source = hosts.start_source()
    hosts.start("h1", "origin").result()
    source.kill()
    late = hosts.start("h2", "h1", "origin")
    late.result()
    assert hosts.same(late)


def test_a_slow_cap_is_kept_without_a_break(hosts: Hosts) -> None:
    """A chunk takes far longer than a receiver's patience."""
    cap = 64 << 10
    (hosts.source / "model.bin").write_bytes(os.urandom(256 << 10))
    for path in (hosts.source / "sub").iterdir():
        path.unlink()
    hosts.start_source(cap=cap)
    node = hosts.start("h1", "origin")
    begun = time.monotonic()
    node.result()
    assert 3.0 < time.monotonic() - begun < 8.0
    notes = [event["event"]["data"].get("note") for event in node.events if "event" in event]
    assert not any(notes), notes
    assert hosts.same(node)


def test_only_what_differs_is_brought_anew(hosts: Hosts) -> None:
    source = hosts.start_source()
    node = hosts.start("h1", "origin")
    sums = source.result()["sums"]
    node.result()
    node.kill()
    files = [(path, size, sums[path]) for path, size, _ in hosts.content().files]
    (node.path / "sub" / "29.txt").write_bytes(b"short")
    again = hosts.start("h1", "origin", files=files)
    assert again.result()["changed"] == 1
    assert hosts.same(again)


def test_each_host_gets_what_it_lacks_of_an_image_and_the_source_sends_it_once(hosts: Hosts) -> None:
    folder = hosts.source / BLOBS
    folder.mkdir(parents=True)
    blobs = []
    for size in (1, 3 << 20, 2 << 20, 2):  # as configuration, two layers and manifest
        data = os.urandom(size)
        blobs.append((f"sha256:{hashlib.sha256(data).hexdigest()}", size))
        (folder / blobs[-1][0].removeprefix("sha256:")).write_bytes(data)
    config, base, top, itself = (digest for digest, _ in blobs)
    layout = ImageLayout(hosts.source, "r/m:1", itself, tuple(blobs), tuple(blobs[1:3]))
    held = {"h1": {base}, "h2": set[str](), "h3": {base}}
    for names, digests in parcels(layout.blobs, held).items():
        content = layout.part(digests)
        part = {"content": content.id, "files": content.files, "chunk": content.chunk}
        hosts.start_source(**part)
        before = "origin"
        nodes = []
        for name in names:
            place = str(hosts.folder / name / "oci" / content.id)
            nodes.append(hosts.start(name, before, path=place, **part))
            before = name
        assert {node.result()["bytes"] for node in nodes} == {content.total}
        for node in (*nodes, hosts.nodes["origin"]):
            node.kill()
    for name, lacked in (("h1", {config, top, itself}), ("h2", {config, base, top, itself})):
        assert arrived(str(hosts.folder / name / "oci")) == lacked
    assert arrived(str(hosts.folder / "h3/oci")) == arrived(str(hosts.folder / "h1/oci"))


def test_a_source_that_differs_from_the_lock_is_refused_everywhere(hosts: Hosts) -> None:
    files = [(path, size, "0" * 64) for path, size, _ in hosts.content().files]
    hosts.start_source(files=files)
    node = hosts.start("h1", "origin", files=files)
    assert "lock or manifest say" in node.error()["message"]
    assert not node.path.exists()


def test_what_does_not_fit_is_refused_before_the_first_byte(hosts: Hosts) -> None:
    files = [("model.bin", 1 << 60, "")]
    error = hosts.start("h1", files=files, chunk=1 << 50).error()
    assert "MiB free" in error["message"] and error["remedy"]


def test_a_certificate_of_another_run_or_address_is_turned_away(hosts: Hosts) -> None:
    hosts.start_source()
    spec = hosts.spec("h1", ["origin"])
    stranger = new_authority().issue(tls_name("h1"), ["127.0.0.1"])
    moved = hosts.authority.issue(tls_name("h1"), ["192.0.2.9"])
    for tls in ({**stranger, "ca": spec["tls"]["ca"]}, moved):
        node = hosts.start("h1", "origin", tls=tls)
        node.until(lambda event: event.get("event", {}).get("data", {}).get("orphan"))
        assert node.events[-1]["event"]["data"]["bytes"] == 0
        node.kill()


def test_a_chunk_that_arrives_damaged_is_asked_for_again(tmp_path: Path) -> None:
    data = os.urandom(4096)
    layout = Layout([("a.bin", len(data), "")], 4096)
    store = Incoming(str(tmp_path / "model"), layout, "id")
    store.open()
    here, there = socket.socketpair()
    with here, there:
        receiver = Receiver(store, lambda count: None)
        thread = threading.Thread(target=receiver.run, args=(Link(here, 10.0), False))  # type: ignore[arg-type]
        thread.start()
        link = Link(there, 10.0)  # type: ignore[arg-type]
        digest = hashlib.sha256(data).digest()
        link.say_chunk(0, digest, memoryview(data[:-1] + bytes([data[-1] ^ 1])))
        assert link.hear() == (frames.AGAIN, 4)
        assert link.number() == 0
        assert not store.have[0]
        link.say_chunk(0, digest, memoryview(data))
        sums = {"a.bin": hashlib.sha256(data).hexdigest()}
        link.say(frames.SUMS, {"sums": sums, "chunks": frames.text(digest)})
        assert link.hear()[0] == frames.DONE
        thread.join()
    assert receiver.damaged == 1
    store.finish({})
    assert (tmp_path / "model" / "a.bin").read_bytes() == data
