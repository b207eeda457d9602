"""One small module per kind of resource: `observe`, pure `diff`, `apply`.

observe(spec) -> dict: what is there, JSON values only
diff(spec, observed, changed) -> list of (action, reason, cost); `changed` names resources changed before it
apply(spec, observed) -> None, or what is there afterwards; raises Blocked
note(spec, observed) -> dict, where a kind has something to tell
"""

from __future__ import annotations

KINDS = (
    "authorized_key",
    "build",
    "claim",
    "container",
    "current",
    "directory",
    "file",
    "image",
    "image_facts",
    "probe",
    "slot",
    "tree",
    "unit",
    "weights",
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def load(kind: str) -> ModuleType:
    """The module of a kind; only what is asked for is imported."""
    if kind not in KINDS:
        raise ValueError("unknown kind of resource: %r" % kind)
    name = "flagprov.host.resources.%s" % kind
    return __import__(name, fromlist=["observe"])
