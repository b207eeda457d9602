"""Two nodes over a pair of sockets."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path

from flagprov.host.transfer import talk
from flagprov.host.transfer.frames import Link
from flagprov.host.transfer.layout import Layout
from flagprov.host.transfer.store import Incoming, Source, Store


class Plain(socket.socket):
    """As much of a TLS socket as a link asks of one."""

    def pending(self) -> int:
        return 0


def brought(store: Store, incoming: Incoming) -> talk.Receiver:
    """Everything that the one has to the other."""
    here, there = (Plain(fileno=end.detach()) for end in socket.socketpair())
    with here, there:
        ends = Link(there, 10.0), Link(here, 10.0)  # type: ignore[arg-type]
        sent = bytearray(incoming.have)
        thread = threading.Thread(target=talk.send, args=(ends[0], store, sent, lambda: store.bytes))
        thread.start()
        receiver = talk.Receiver(incoming, lambda count: None)
        receiver.run(ends[1], False)
        thread.join()
    return receiver


def test_chunks_of_another_content_are_replaced_down_the_chain(tmp_path: Path) -> None:
    data = os.urandom(5 * 4096 + 7)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.bin").write_bytes(data)
    layout = Layout([("a.bin", len(data), "")], 4096)
    source = Source(str(tmp_path / "source"), layout)
    source.hash()
    stores = [Incoming(str(tmp_path / name), layout, "id") for name in ("one", "two")]
    old = os.urandom(4096)
    for store in stores:
        store.open()
        for index in (1, 3):
            store.write(index, hashlib.sha256(old).digest(), memoryview(bytearray(old)))
    first, second = stores
    assert brought(source, first).damaged == 0
    assert brought(first, second).damaged == 0
    for store in stores:
        assert store.chunks == source.chunks and store.full
        assert store.hashed == len(data)  # also where it comes through another one
        store.finish({})
    assert (tmp_path / "two" / "a.bin").read_bytes() == (tmp_path / "one" / "a.bin").read_bytes() == data


def test_a_source_hashes_no_further_ahead_than_somebody_asks(tmp_path: Path) -> None:
    data = os.urandom(40 * 1024)
    (tmp_path / "a.bin").write_bytes(data)
    layout = Layout([("a.bin", len(data), "")], 1024)
    source = Source(str(tmp_path), layout, ahead=4)
    thread = threading.Thread(target=source.hash)
    thread.start()
    with source.changed:
        assert source.changed.wait_for(lambda: source.bytes == 4 * 1024, 5)
    late = Incoming(str(tmp_path / "late"), layout, "id")
    late.open()
    for index in range(30):  # it has the beginning from somebody else
        piece = data[index * 1024 : (index + 1) * 1024]
        late.write(index, hashlib.sha256(piece).digest(), memoryview(bytearray(piece)))
    brought(source, late)
    thread.join(5)
    assert not thread.is_alive() and late.full
    late.close()


def test_a_source_that_nobody_asks_ends(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(9000))
    source = Source(str(tmp_path), Layout([("a.bin", 9000, "")], 1024), ahead=2)
    thread = threading.Thread(target=source.hash)
    thread.start()
    source.stop()
    thread.join(5)
    assert not thread.is_alive() and source.sums is None and not source.fault
