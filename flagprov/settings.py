"""Settings on top of a release: what the inventory says for a host, and one run's --set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from flagprov.catalog.fit import parallel
from flagprov.documents.check import nearest, problems
from flagprov.documents.document import dotted, parse
from flagprov.errors import ReleaseError, SettingsError
from flagprov.models.release import Image, Release, ServeValue, Variant
from flagprov.models.settings import Settings

_MAPS = ("serve", "env")
# Taken as they are, like env: never a number or true.
_TEXTS = ("image", "operators", "shm_size", "container_profile")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*$")
_SETS = "--set"
_SWITCH = "USE_FLAGGEMS"


def parse_sets(sets: Sequence[str]) -> dict[str, Any]:
    """`serve.max_num_seqs=32` and the like to nested settings; of two with one key the later holds."""
    settings: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise SettingsError(
                f"--set {text}: not KEY=VALUE", remedy="For example: --set serve.max_num_seqs=32"
            )
        section, _, name = key.partition(".")
        _check_key(key, section, name)
        if section in _MAPS:
            settings.setdefault(section, {})[name] = _value(key, value, as_text=section == "env")
        else:
            settings[section] = _value(key, value, as_text=section in _TEXTS)
    return settings


def merge_settings(
    host_settings: Mapping[str, Any],
    sets: Mapping[str, Any] | None = None,
    *,
    where: str = "flagprov_settings",
) -> Settings:
    """The inventory's settings with those of parse_sets over them; `where` says whose they are in errors."""
    merged: dict[str, Any] = dict(_checked(host_settings, where).model_dump(exclude_unset=True))
    for key, value in (sets or {}).items():
        merged[key] = {**merged.get(key, {}), **value} if key in _MAPS else value
    return _checked(merged, _SETS)


def apply_settings(release: Release, variant: Variant, settings: Settings) -> Variant:
    """The variant as this fleet wants it; `replicas` is placement's and changes nothing here."""
    changes: dict[str, Any] = {}
    serve = _over(variant.serve, settings.serve)
    if settings.port is not None:
        serve["port"] = settings.port
    operators = settings.operators or variant.operators
    serve = _eager(serve, variant, operators, settings)
    if serve != variant.serve:
        changes["serve"] = serve
    env = _env(variant, operators, settings)
    if env != variant.env:
        changes["env"] = env
    for key in ("operators", "devices", "nodes"):
        value = getattr(settings, key)
        if value is not None:
            changes[key] = value
    if settings.shm_size is not None:
        changes["container"] = variant.container.model_copy(update={"shm_size": settings.shm_size})
    if settings.image is not None:
        changes["image"] = _image(variant.image, settings.image)
    if settings.deadline_s is not None:
        readiness = variant.readiness or release.readiness
        changes["readiness"] = readiness.model_copy(update={"deadline_s": settings.deadline_s})
    if not changes:
        return variant
    changed = variant.model_copy(update=changes)
    if changed.nodes > 1:
        return changed  # how the model is cut over them is seen when it is spread
    for path, text in parallel(changed, release.model):
        raise SettingsError(
            f"settings for {release.name}: {dotted(path)}: {text}",
            remedy="Set devices (and nodes) and serve.tensor_parallel_size so that they agree.",
        )
    return changed


def _check_key(key: str, section: str, name: str) -> None:
    if section not in Settings.model_fields:
        raise SettingsError(f"--set {key}: unknown key{_meant(key, section)}")
    if section not in _MAPS:
        if name:
            raise SettingsError(
                f"--set {key}: {section} has no keys below it", remedy=f"Write {section}=VALUE"
            )
        return
    if not name:
        raise SettingsError(f"--set {key}: which one?", remedy=f"Write {section}.NAME=VALUE")
    if not _NAME.match(name):
        spelled = name.replace("-", "_")
        hint = f"; did you mean {section}.{spelled}?" if _NAME.match(spelled) else ""
        remedy = f"Write a map as a whole: '{key.rpartition('.')[0]}={{...}}'" if "." in name else ""
        raise SettingsError(f"--set {key}: not a possible name{hint}", remedy=remedy)


def _meant(key: str, section: str) -> str:
    """The nearest setting; a bare engine argument or variable belongs to serve or env."""
    hint = nearest(section, Settings.model_fields)
    spelled = key.replace("-", "_")
    if hint.startswith("; did you mean") or not _NAME.match(spelled):
        return hint
    return f"; did you mean {'env' if spelled.isupper() else 'serve'}.{spelled}?"


def _value(key: str, text: str, *, as_text: bool) -> Any:
    if as_text:
        return text
    try:
        return parse(text, f"--set {key}").value
    except ReleaseError as error:
        raise SettingsError(error.message, remedy="Put the value in quotes, as in YAML.") from error


def _checked(settings: Mapping[str, Any], where: str) -> Settings:
    try:
        text = json.dumps(dict(settings))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{where}: {error}") from error
    try:
        return Settings.model_validate_json(text, strict=True)
    except ValidationError as error:
        joint = " " if where == _SETS else "."
        lines = [f"{where}{joint}{dotted(path)}: {words}" for path, words in problems(error, Settings)]
        raise SettingsError(
            "\n".join(lines), remedy="All settings are described in docs/releases.md"
        ) from error


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """null takes away."""
    return {
        key: value for key, value in {**base, **changes}.items() if not (key in changes and value is None)
    }


def _eager(
    serve: dict[str, ServeValue], variant: Variant, operators: str, settings: Settings
) -> dict[str, ServeValue]:
    """enforce_eager follows the operators, unless a setting says otherwise: no graph can be captured while
    FlagGems compiles its kernels, and without FlagGems a card's enforce_eager has no reason any more."""
    if "enforce_eager" in settings.serve or variant.launch.kind == "command":
        return serve
    if operators == "flaggems":
        return {**serve, "enforce_eager": True}
    if variant.operators == "flaggems":
        return {name: value for name, value in serve.items() if name != "enforce_eager"}
    return serve


def _env(variant: Variant, operators: str, settings: Settings) -> dict[str, str]:
    if _SWITCH in settings.env:
        raise SettingsError(
            f"env.{_SWITCH}: FlagGems is switched by the setting `operators`",
            remedy="Write operators: flaggems, or operators: native",
        )
    env: dict[str, str] = _over(variant.env, settings.env)
    if operators == "native":
        env.pop(_SWITCH, None)
    elif variant.operators == "native":
        env[_SWITCH] = "1"
    return env


def _image(image: Image, wanted: str) -> Image:
    """A bare digest names the release's own image; a reference may carry one (NAME@sha256:...)."""
    name, at, digest = ("", "@", wanted) if wanted.startswith("sha256:") else wanted.partition("@")
    try:
        other = Image(reference=name or image.reference, digests=(digest,) if at else ())
    except ValidationError:
        other = None
    if other is None or not wanted or wanted.startswith("@"):
        raise SettingsError(
            f"image: {wanted!r} is not a reference or digest",
            remedy="Write registry/name:tag, registry/name@sha256:..., or sha256:... with its 64 digits",
        )
    return image.model_copy(update={"digests": other.digests}) if not name else other
