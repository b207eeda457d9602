"""Image facts from what the probe printed inside the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flagprov.errors import VersionError
from flagprov.models.image import SCHEMA_VERSION, ImageFacts


def parse_facts(digest: str, data: Mapping[str, Any]) -> ImageFacts:
    """The probe's answer as a value; keys that a newer probe adds are ignored, a newer schema is refused."""
    version = data.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise VersionError(
            f"facts of image {digest} have schema version {version}; this flagprov knows {SCHEMA_VERSION}",
            remedy="use a newer flagprov, or remove the file on the host to have the image probed again",
        )
    env, user = data.get("env"), data.get("user")
    return ImageFacts(
        digest=digest,
        arch=str(data.get("arch") or ""),
        python=str(data.get("python") or ""),
        options=_words(data.get("options")),
        flaggems_enable=_words(data.get("flaggems_enable")),
        ssh=data.get("ssh") is True,
        sshd=data.get("sshd") is True,
        user=user if isinstance(user, int) and user > 0 else 0,
        users=_numbers(data.get("users")),
        env={str(key): str(value) for key, value in env.items()} if isinstance(env, Mapping) else {},
        vllm=_text(data.get("vllm")),
        flagscale=_text(data.get("flagscale")),
        flagscale_deploy=_text(data.get("flagscale_deploy")),
        flaggems=_text(data.get("flaggems")),
        flaggems_error=_text(data.get("flaggems_error")),
        flaggems_by=_text(data.get("flaggems_by")),
        torch=_text(data.get("torch")),
        ray=_text(data.get("ray")),
        cuda=_text(data.get("cuda")),
        cann=_text(data.get("cann")),
    )


def _numbers(value: Any) -> dict[str, int]:
    entries = value.items() if isinstance(value, Mapping) else ()
    return {str(key): number for key, number in entries if isinstance(number, int) and number >= 0}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()
