"""What the lookups share: flagprov's own code on the controller, and answers that one run computes once."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ansible import constants
from ansible.errors import AnsibleError

_ROOT = Path(__file__).resolve().parents[2]


def flagprov_package() -> Path:
    """The directory of the Python package; of this checkout where the collection is one."""
    if (_ROOT / "flagprov" / "__init__.py").is_file() and str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))
    found = importlib.util.find_spec("flagprov")
    if found is None or not found.origin:
        raise AnsibleError(
            f"flagprov's Python package is not installed for {sys.executable}\n"
            "remedy: install it where ansible-playbook runs (docs/ansible.md)"
        )
    return Path(found.origin).parent


def once(name: str, key: Any, compute: Callable[[], Any]) -> Any:
    """The JSON that `compute` returns, computed by one of this run's processes for all of them."""
    with in_turn(name, key) as stream:
        stream.seek(0)
        kept = stream.read()
        if kept:
            return json.loads(kept)
        value = compute()
        stream.write(json.dumps(value))
        return value


@contextmanager
def in_turn(name: str, key: Any) -> Iterator[IO[str]]:
    """One of this run's processes after the other; they share the file."""
    text = json.dumps(key, sort_keys=True, default=str)
    folder = Path(constants.DEFAULT_LOCAL_TMP)  # private to this run, and removed at its end
    file = folder / f"flagprov-{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    with file.open("a+", encoding="utf-8") as stream:
        file.chmod(0o600)
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def inventory_of(variables: Mapping[str, Any]) -> Path:
    """The one inventory of this run, as flagprov takes it."""
    sources = [str(source) for source in variables.get("ansible_inventory_sources") or ()]
    if len(sources) != 1 or sources[0].endswith(","):
        raise AnsibleError(
            f"flagprov takes one inventory, and there {'are' if sources[1:] else 'is'} {sources or 'none'}\n"
            "remedy: name one file or directory with -i; a directory may hold several files"
        )
    return Path(sources[0])
