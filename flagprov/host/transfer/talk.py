"""The two halves of a connection: one sends what the other lacks, the other checks and keeps it."""

from __future__ import annotations

import time

from flagprov.host.transfer import frames
from flagprov.host.transfer.frames import Broken, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flagprov.host.transfer.store import Incoming, Store

ALIVE_S = 0.4  # a sender that has nothing to send says so this often
SILENCE_S = 1.5  # a sender that says nothing for longer is asked whether it is still there
PATIENCE_S = 20.0  # a receiver may be slow, its network may be away for a moment
WRONG = 5  # chunks that may arrive damaged over one connection
LAG_S = 6.0  # the rates of the ones before us are compared over this time
LAG_PART = 0.04


class Behind(Exception):
    """The one before us is slower than the one before it: go around it."""


def send(link: Link, store: Store, sent: bytearray, before: Callable[[], int]) -> None:
    """Everything that the other side lacks, as it becomes available; returns when it has all or is gone."""
    low, said, vouched = 0, 0.0, False
    count = store.layout.count
    while True:
        while link.waiting(0):
            kind, length = link.hear()
            if kind == frames.DONE:
                return
            if kind != frames.AGAIN or length != 4:
                raise Broken("it says %r" % kind)
            index = link.number()
            if index < count:
                sent[index] = 0
                low, vouched = min(low, index), False
        if store.fault:
            link.say(frames.FAULT, {"fault": store.fault})
            return
        while low < count and sent[low]:
            low += 1
        store.ask(low)
        index = next((i for i in range(low, count) if store.have[i] and not sent[i]), -1)
        if index >= 0:
            digest, data = store.read(index)
            link.say_chunk(index, digest, data)
            sent[index] = 1
        elif low == count and store.sums is not None and not vouched:
            link.say(frames.SUMS, {"sums": store.sums, "chunks": frames.text(store.chunks)})
            vouched = True
        else:
            with store.changed:
                if not _news(store, sent, low, vouched):
                    store.changed.wait(0.1)
        now = time.monotonic()
        if now - said > ALIVE_S:
            link.say(frames.ALIVE, {"bytes": store.bytes, "before": before(), "hashed": store.hashed})
            said = now


def _news(store: Store, sent: bytearray, low: int, vouched: bool) -> bool:
    if store.fault:
        return True
    if low == store.layout.count:
        return store.sums is not None and not vouched
    return any(store.have[i] and not sent[i] for i in range(low, store.layout.count))


class Receiver:
    """What one connection brings; also knows how far the one before us is."""

    def __init__(self, store: Incoming, heard: Callable[[int], None]) -> None:
        self.store = store
        self.heard = heard  # how many bytes the sender has
        self.damaged = 0
        self._mended = False
        self._window: tuple[float, int, int, int] | None = None

    def run(self, link: Link, may_go_around: bool) -> None:
        store = self.store
        while not store.full:
            kind, length = link.hear()
            if kind == frames.CHUNK:
                index, digest, data, right = link.chunk(length)
                if index >= store.layout.count or len(data) != store.layout.length(index):
                    raise Broken("a chunk %d of %d bytes" % (index, len(data)))
                if right:
                    store.write(index, digest, memoryview(data))
                else:
                    self.damaged += 1
                    if self.damaged > WRONG:
                        text = "%d chunks arrived damaged, the last one of %s"
                        raise Broken(text % (self.damaged, store.layout.file_of(index)))
                    link.say_again(index)
                continue
            words = link.words(length)
            if kind == frames.SUMS:
                self._vouched(link, words)
            elif kind == frames.ALIVE:
                store.hashed = max(store.hashed, int(words.get("hashed", 0)))
                self._alive(words, may_go_around)
            elif kind == frames.FAULT:
                store.fail(str(words.get("fault")))
                return
            else:
                raise Broken("it says %r" % kind)
        link.say(frames.DONE)

    def _vouched(self, link: Link, words: dict[str, Any]) -> None:
        """The source has hashed everything: what we took up of an earlier run has to be the same."""
        chunks = frames.data(words["chunks"])
        wrong = self.store.differing(chunks)
        if wrong and self._mended:
            text = "%d chunks are not those of the source, the first one of %s"
            raise Broken(text % (len(wrong), self.store.layout.file_of(wrong[0])))
        self._mended = True
        for index in wrong:
            self.store.forget(index)
            link.say_again(index)
        if not wrong:
            self.store.vouch({str(path): str(digest) for path, digest in words["sums"].items()}, chunks)

    def _alive(self, words: dict[str, object], may_go_around: bool) -> None:
        """Who gets less than half of what the one before it gets, while we have all of it, holds us up.

        So does who gives us less than a third of what it gets: its link, or ours; another one may do better.
        """
        theirs, before, ours = int(str(words["bytes"])), int(str(words["before"])), self.store.bytes
        self.heard(theirs)
        now = time.monotonic()
        if not self._window:
            self._window = (now, theirs, before, ours)
        since, theirs_then, before_then, ours_then = self._window
        if now - since < LAG_S:
            return
        self._window = (now, theirs, before, ours)
        moved, mine = theirs - theirs_then, ours - ours_then
        much = max(8 * self.store.layout.chunk, LAG_PART * self.store.layout.total)
        waiting = theirs - ours <= 2 * self.store.layout.chunk
        starved = waiting and before - theirs > much and before - before_then > 2 * moved
        throttled = theirs - ours > much and moved > 3 * mine
        if may_go_around and (starved or throttled):
            raise Behind
