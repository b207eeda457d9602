"""From a YAML document to a model; what is wrong is said with file, line, key and what was expected."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from flagprov.documents.document import Document, dotted
from flagprov.errors import ReleaseError, VersionError

Model = TypeVar("Model", bound=BaseModel)
Problem = tuple[tuple[str | int, ...], str]  # path, what is wrong there

_MOST_SHOWN = 12
_PATTERNS = {  # of the models' types, in words; a test sees to it that none is missing
    r"^[a-z0-9][a-z0-9.-]{0,62}$": "small letters, digits, dots and dashes",
    r"^sha256:[0-9a-f]{64}$": "sha256: and 64 hexadecimal digits",
    r"^[0-9a-f]{64}$": "64 hexadecimal digits",
    r"^/[^\x00\n]*$": "an absolute path",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "a variable's name: letters, digits and underscores",
    r"^[A-Za-z][A-Za-z0-9_]*$": "an engine argument with underscores, such as max_num_seqs",
    r"^((modelscope|hf|https?|file)://[^\s]+|[A-Za-z0-9][A-Za-z0-9_.-]*:/[^\s/]+[^\s]*)$": (
        "modelscope://ID, hf://ID, https://..., file:///PATH or HOST:/PATH"
    ),
    r"^(https?://[^\s/@]+/[^\s]+|ssh://[^\s-][^\s]*|file:///[^\s]+)$": (
        "https://..., ssh://... or file:///PATH, without a password"
    ),
    r"^[0-9a-f]{40}$": "a whole commit, 40 hexadecimal digits",
    r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$": "a branch or tag",
    r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$": "a path inside the repository",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*$": "NAME==VERSION",
    r"^[A-Za-z0-9][A-Za-z0-9.+!-]*$": "a version",
    r"^[A-Za-z0-9_/][A-Za-z0-9_./-]*$": "python3, or the path of a Python in the image",
    r"^[^\s]+$": "a name without spaces",
    r"^([0-9]+[bkmgBKMG]?)?$": "a size such as 32g",
    r"^[0-9]+[bkmgBKMG]?$": "a size such as 32g",
}
_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def read_model(document: Document, model: type[Model], remedy: str = "") -> Model:
    """Validate strictly: no text for a number, no unknown key."""
    value = document.value
    if value is None:
        raise ReleaseError(f"{document.file}: the file is empty", remedy=remedy)
    if not isinstance(value, dict):
        raise ReleaseError(f"{document.file}:1: expected a mapping, found {_shown(value)}", remedy=remedy)
    check_version(value, f"{document.file}:{document.line(('schema_version',))}", _current(model))
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        found = [(document.line(path), path, text) for path, text in problems(error, model, document)]
        found.sort(key=lambda problem: problem[0])
        lines = [
            f"{document.file}:{line}: {dotted(path) or 'the whole file'}: {text}"
            for line, path, text in found
        ]
        if len(lines) > _MOST_SHOWN:
            lines = [*lines[:_MOST_SHOWN], f"... and {len(lines) - _MOST_SHOWN} more"]
        raise ReleaseError("\n".join(lines), remedy=remedy) from error


def check_version(value: dict[str, Any], where: str, ours: int) -> None:
    """A file of a newer schema is refused as such, before its unknown keys are."""
    version = value.get("schema_version", ours)
    if isinstance(version, int) and version > ours:
        raise VersionError(
            f"{where}: schema_version: the file has version {version}, this flagprov reads up to {ours}",
            remedy="Use a newer flagprov, or write the file for this one.",
        )


def problems(
    error: ValidationError, model: type[BaseModel], document: Document | None = None
) -> list[Problem]:
    """One problem per path, in words."""
    seen: dict[tuple[str | int, ...], str] = {}
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        path = document.known(location) if document else tuple(part for part in location if part != "[key]")
        if "serve" in path and "[key]" not in location and path.index("serve") + 1 < len(path):
            path = path[: path.index("serve") + 2]  # a union: pydantic reports each of its members
            seen[path] = (
                f"expected a scalar, a list of scalars or a map of scalars, found {_shown(detail['input'])}"
            )
            continue
        if detail["type"] == "missing":
            path = (*path, location[-1])
        seen.setdefault(path, _words(detail, path, model))
    return list(seen.items())


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or all there is when nothing is near."""
    names = sorted(known)
    close = difflib.get_close_matches(word.replace("-", "_"), names, 1) or difflib.get_close_matches(
        word, names, 1
    )
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(names)}"


def _words(detail: Any, path: Sequence[str | int], model: type[BaseModel]) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    about = _about(model, path)
    if "[key]" in detail["loc"]:
        return f"not a possible name: expected {_pattern(context)}, found {_shown(value)}"
    if kind == "extra_forbidden":
        holder = _annotation(model, path[:-1])
        return "unknown key" + (nearest(str(path[-1]), holder.model_fields) if _is_model(holder) else "")
    if kind == "missing":
        return "this key is missing" + about
    if kind in _KINDS:
        hint = ""
        if kind == "string_type" and isinstance(value, int | float):
            hint = " (put it in quotes)"
        elif kind in ("int_type", "float_type") and isinstance(value, str) and value.isdigit():
            hint = " (write it without quotes)"
        return f"expected {_KINDS[kind]}, found {_shown(value)}{hint}{about}"
    if kind == "literal_error":
        return f"expected {context['expected']}, found {_shown(value)}{about}"
    if kind == "string_pattern_mismatch":
        return f"expected {_pattern(context)}, found {_shown(value)}"
    if kind == "too_short":
        return f"must not be empty{about}"
    if kind == "value_error":
        return str(context["error"])
    return f"{str(detail['msg']).replace('Input should be', 'must be')}, found {_shown(value)}{about}"


def _pattern(context: Mapping[str, Any]) -> str:
    pattern = str(context.get("pattern"))
    return _PATTERNS.get(pattern, f"what matches {pattern}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _about(model: type[BaseModel], path: Sequence[str | int]) -> str:
    holder = _annotation(model, path[:-1]) if path else None
    if not _is_model(holder):
        return ""
    field = holder.model_fields.get(str(path[-1]))
    return f": {field.description}" if field and field.description else ""


def _annotation(kind: Any, path: Sequence[str | int]) -> Any:
    """The type that stands at path below a model; None where path leaves it."""
    for part in path:
        kind = _bare(kind)
        if _is_model(kind):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif get_origin(kind) in (tuple, list):
            kind = get_args(kind)[0]
        else:
            return None
    return _bare(kind)


def _bare(kind: Any) -> Any:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        return _bare(members[0]) if len(members) == 1 else kind
    return kind


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _current(model: type[BaseModel]) -> int:
    field = model.model_fields.get("schema_version")
    return int(field.default) if field else 1
