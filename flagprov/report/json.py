"""Values of `models` as JSON: one document, `schema_version` first, nothing secret in it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Set
from enum import Enum
from pathlib import Path
from typing import Any

from flagprov.errors import FlagprovError, HostError
from flagprov.models.desired import Stage
from flagprov.models.fleet import Secret
from flagprov.models.outcome import Outcome
from flagprov.models.plan import Plan

SCHEMA_VERSION = 1


def plain(value: Any) -> Any:
    """Any value of `models` as dicts, lists and scalars."""
    match value:
        case None | bool() | str():
            return value
        case Secret():
            return str(value)
        case Stage():
            return value.label
        case Enum():
            return plain(value.value)
        case float():
            return value if math.isfinite(value) else None
        case int():
            return int(value)
        case Path():
            return str(value)
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case Set():
            return sorted((plain(item) for item in value), key=repr)
        case list() | tuple():
            return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):  # pydantic, without importing it
        return plain(value.model_dump(mode="json"))
    raise TypeError(f"no JSON form of {type(value).__name__}")


def document(value: Any) -> str:
    """Exactly one JSON document; ASCII only, so that no terminal obeys what a host said."""
    body = plain(value)
    version = {"schema_version": body.get("schema_version", SCHEMA_VERSION)}
    return json.dumps({**version, **{k: v for k, v in body.items() if k != "schema_version"}}, indent=2)


def of_plan(plan: Plan) -> dict[str, Any]:
    return {**plain(plan), "changes": plan.changes}


def of_outcome(outcome: Outcome) -> dict[str, Any]:
    return {**plain(outcome), "succeeded": outcome.succeeded, "changes": outcome.changes}


def of_status(outcome: Outcome) -> dict[str, Any]:
    return {
        "schema_version": outcome.schema_version,
        "replicas": plain(outcome.replicas),
        "hosts": plain(outcome.hosts),
        "gateways": plain(outcome.gateways),
        "notes": plain(outcome.notes),
    }


def of_error(error: FlagprovError) -> dict[str, Any]:
    """What stands on standard output in JSON mode when the command ended with a message."""
    found = {"kind": type(error).__name__, "message": error.message, "remedy": error.remedy}
    if isinstance(error, HostError):
        found |= {"host": error.host, "step": error.step, "log": error.log}
    return {"schema_version": SCHEMA_VERSION, "error": found}
