"""YAML as people write it: strict, and every value knows its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flagprov.errors import ReleaseError

_PREFIX = "tag:yaml.org,2002:"
_PLAIN = {_PREFIX + tag for tag in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}
_MOST_NODES = 100_000  # aliases counted as often as they are used
_DEEPEST = 50

Path_ = tuple[str | int, ...]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.1 as Ansible reads it, less its traps: 12:30, 010, 1_000 and dates are text, 1e-3 is not."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if tag in _PLAIN - {_PREFIX + "int", _PREFIX + "float"}]
    for first, pairs in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _PREFIX + "int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _PREFIX + "float",
    re.compile(r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+][0-9]+)$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: the value, and where each part of it stands."""

    file: str
    value: Any
    root: yaml.Node | None

    def line(self, path: Sequence[str | int] = ()) -> int:
        """Line of the key (or item) at path; of the deepest known part where path leads nowhere."""
        node, line = self.root, 1
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line

    def known(self, path: Sequence[str | int]) -> Path_:
        """The parts of path that are really in the file; a validator's own words are left out."""
        node, kept = self.root, []
        for part in path:
            found = _child(node, part)
            if found is not None:
                kept.append(part)
                node = found[1]
        return tuple(kept)


def read(path: Path) -> Document:
    """Read a YAML file; every error names the file, and the line and column where there is one."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReleaseError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(text, str(path))


def parse(text: str, file: str) -> Document:
    """Parse one YAML document."""
    try:
        _refuse_depth(text, file)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            _inspect(root, file)
            value = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ReleaseError(_syntax(error, file)) from error
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise ReleaseError(f"{file}:{line}: {getattr(error, 'reason', None) or error}") from error
    return Document(file, value, root)


def dotted(path: Sequence[str | int]) -> str:
    """variants.ascend-a2.container.mounts[0].source"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _syntax(error: yaml.MarkedYAMLError, file: str) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    context = ""
    if error.context:
        context = f" ({error.context}"
        context += f" that begins in line {error.context_mark.line + 1})" if error.context_mark else ")"
    return f"{where}: not valid YAML: {error.problem}{context}"


def _refuse_depth(text: str, file: str) -> None:
    """The C parser composes by recursion, and a file can be deep enough to take the process down."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                where = f"{file}:{event.start_mark.line + 1}" if event.start_mark else file
                raise ReleaseError(f"{where}: nested deeper than {_DEEPEST} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # what `<<` brought in stands first
            if key.value == part:
                return key.start_mark.line + 1, value
    return None


def _inspect(root: yaml.Node | None, file: str) -> None:
    """Refuse double keys, keys that are no text, tags, and aliases that blow up."""
    sizes: dict[int, int] = {}

    def refuse(node: yaml.Node, why: str) -> ReleaseError:
        return ReleaseError(f"{file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}: {why}")

    def visit(node: yaml.Node) -> int:
        known = sizes.get(id(node))
        if known is not None:
            if known < 0:
                raise refuse(node, "an alias that holds itself")
            return known
        sizes[id(node)] = -1
        if node.tag not in _PLAIN:
            raise refuse(node, f"the tag {node.tag.replace(_PREFIX, '!!')} is not taken here")
        size = 1
        if isinstance(node, yaml.SequenceNode):
            size += sum(visit(item) for item in node.value)
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag not in {
                    _PREFIX + "str",
                    _PREFIX + "merge",
                }:
                    shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or map"
                    raise refuse(key, f"a key must be text, and {shown} is not: put it in quotes")
                if key.value in lines:
                    raise refuse(
                        key, f"the key {key.value!r} is there twice, first in line {lines[key.value]}"
                    )
                lines[key.value] = key.start_mark.line + 1
                size += visit(value)
        if size > _MOST_NODES:
            raise refuse(node, f"more than {_MOST_NODES} values")
        sizes[id(node)] = size
        return size

    if root is not None:
        visit(root)
