"""What two nodes say to each other: a kind, a length, a body; over TLS."""

from __future__ import annotations

import base64
import hashlib
import json
import select
import struct

from flagprov.host.transfer.pace import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

HELLO, CHUNK, AGAIN, SUMS, ALIVE, FAULT, DONE = b"H", b"C", b"A", b"S", b"P", b"F", b"D"
HEAD = struct.Struct(">cI")
CHUNK_HEAD = struct.Struct(">I32s")
SLICE = 256 << 10  # the most that one send waits for
LONGEST_WORDS = 64 << 20
LONGEST_CHUNK = 64 << 20


class Broken(Exception):
    """The other side is gone, silent, or talks nonsense."""


class Link:
    """One connection; used by one thread."""

    def __init__(self, sock: ssl.SSLSocket, silence_s: float, pace: Pace | None = None) -> None:
        self.sock = sock
        self.pace = pace or Pace()
        sock.settimeout(silence_s)

    def close(self) -> None:
        try:
            self.sock.close()
        except OSError:
            pass

    def say(self, kind: bytes, words: dict[str, Any] | None = None) -> None:
        body = json.dumps(words or {}, separators=(",", ":")).encode()
        self._send(HEAD.pack(kind, len(body)) + body)

    def say_again(self, index: int) -> None:
        self._send(HEAD.pack(AGAIN, 4) + struct.pack(">I", index))

    def say_chunk(self, index: int, digest: bytes, data: memoryview) -> None:
        self._send(HEAD.pack(CHUNK, CHUNK_HEAD.size + len(data)) + CHUNK_HEAD.pack(index, digest))
        self._send(data)

    def _send(self, data: Any) -> None:
        view = memoryview(data)
        size = self.pace.piece(SLICE)
        try:
            for start in range(0, len(view), size):
                piece = view[start : start + size]
                self.pace.take(len(piece))
                self.sock.sendall(piece)
        except (OSError, ValueError) as error:
            raise Broken(str(error) or type(error).__name__) from None

    def waiting(self, seconds: float) -> bool:
        """Whether the other side has said something that was not read yet."""
        try:
            if self.sock.pending():
                return True
            poll = select.poll()
            poll.register(self.sock.fileno(), select.POLLIN)
            return bool(poll.poll(int(seconds * 1000)))
        except (OSError, ValueError) as error:
            raise Broken(str(error)) from None

    def hear(self) -> tuple[bytes, int]:
        """Kind and length of what comes next; any byte proves that the other side lives."""
        kind, length = HEAD.unpack(self._read(HEAD.size))
        if length > (LONGEST_CHUNK if kind == CHUNK else LONGEST_WORDS):
            raise Broken("a frame of %d bytes" % length)
        return kind, length

    def words(self, length: int) -> dict[str, Any]:
        try:
            value = json.loads(bytes(self._read(length)).decode("utf-8"))
        except ValueError:
            raise Broken("words that are not JSON") from None
        if not isinstance(value, dict):
            raise Broken("words that are no object")
        return value

    def chunk(self, length: int) -> tuple[int, bytes, bytearray, bool]:
        """Index, digest, data, and whether the data has that digest."""
        index, digest = CHUNK_HEAD.unpack(self._read(CHUNK_HEAD.size))
        data = self._read(length - CHUNK_HEAD.size)
        return index, digest, data, hashlib.sha256(data).digest() == digest

    def number(self) -> int:
        return int(struct.unpack(">I", self._read(4))[0])

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        view, got = memoryview(data), 0
        while got < length:
            try:
                count = self.sock.recv_into(view[got:])
            except (OSError, ValueError) as error:
                raise Broken(str(error) or type(error).__name__) from None
            if not count:
                raise Broken("it hung up")
            got += count
        return data


def text(data: bytes) -> str:
    """Bytes among words."""
    return base64.b64encode(data).decode()


def data(words: str) -> bytes:
    try:
        return base64.b64decode(words)
    except ValueError:
        raise Broken("words that are not base64") from None


def packed(have: bytearray) -> str:
    """A bitmap as text, for a greeting."""
    import zlib

    return text(zlib.compress(bytes(have), 1))


def unpacked(words: str, count: int) -> bytearray:
    import zlib

    try:
        have = bytearray(zlib.decompressobj().decompress(data(words), count + 1))
    except zlib.error:
        raise Broken("a map that cannot be read") from None
    if len(have) != count:
        raise Broken("its map has %d chunks, ours %d" % (len(have), count))
    return have
