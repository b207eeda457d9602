"""Writing so that a reader, or a power cut, never finds half a file."""

from __future__ import annotations

import json
import os
import stat

MOST_FOREIGN = 1 << 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def digest(content: bytes) -> str:
    import hashlib  # loads OpenSSL, and who only reads has no need of it

    return hashlib.sha256(content).hexdigest()


def replace(path: str, content: bytes, mode: int, *, sync: bool = True) -> None:
    """Write beside the path, sync, rename over it; without `sync` where nobody looks before `settle`."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = "%s.%d.new" % (path, os.getpid())
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            if sync:
                os.fsync(stream.fileno())
        os.rename(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def settle(folder: str) -> None:
    """All files below are on the disk; together they are much quicker there than one after the other."""
    for here, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(here, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def read_json(path: str) -> Any:
    """None where the file is missing or not JSON."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def read_foreign(path: str) -> dict[str, Any]:
    """Of a file that a container can write: follows no link, waits for no pipe; empty where it is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = json.loads(stream.read(MOST_FOREIGN)) if regular else None
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def typed(data: Any, form: dict[str, Any]) -> bool:
    """Whether this is an object whose values are of these types; what may be missing may be None."""
    return isinstance(data, dict) and all(isinstance(data.get(key), kind) for key, kind in form.items())
