"""A host's facts as values of `models.facts`; an unexpected form is an error, never a guess."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from flagprov.errors import HostError, VersionError
from flagprov.models.facts import SCHEMA_VERSION, HostFacts

T = TypeVar("T")


def read_facts(host: str, answer: Mapping[str, Any]) -> HostFacts:
    version = answer.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise VersionError(
            f"{host}: its facts have version {version}, this flagprov reads up to {SCHEMA_VERSION}",
            remedy="use a newer flagprov",
        )
    try:
        return build(HostFacts, answer)
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(host, "facts", f"its answer is not understood: {error}") from None


def build(kind: type[T], value: Any, where: str = "") -> T:
    """A dataclass from a mapping, with its nested ones; keys that a newer host program adds are ignored."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{where or kind.__name__}: a mapping was expected")
    given = {}
    for field, hint in _fields(kind):  # type: ignore[arg-type]  # a class is hashable
        path = f"{where}.{field.name}".lstrip(".")
        if field.name in value:
            given[field.name] = _convert(hint, value[field.name], path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise KeyError(f"{path} is missing")
    return kind(**given)


@cache
def _fields(kind: type[Any]) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field, hints[field.name]) for field in dataclasses.fields(kind))


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(each for each in arguments if each is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]  # a class, as get_type_hints gives it
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{where}: a list was expected")
        return tuple(_convert(arguments[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    if origin is not None:  # Mapping[str, X]
        if not isinstance(value, Mapping):
            raise TypeError(f"{where}: a mapping was expected")
        return {str(key): _convert(arguments[1], each, f"{where}.{key}") for key, each in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError(f"{where}: {hint.__name__} was expected, found {value!r}")
    return value
