"""Writing so that a reader, or a power cut, never finds half a file."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def digest(content: bytes) -> str:
    import hashlib  # loads OpenSSL, and who only reads has no need of it

    return hashlib.sha256(content).hexdigest()


def replace(path: str, content: bytes, mode: int) -> None:
    """Write beside the path, sync, rename over it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = "%s.%d.new" % (path, os.getpid())
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def read_json(path: str) -> Any:
    """None where the file is missing or not JSON."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None
