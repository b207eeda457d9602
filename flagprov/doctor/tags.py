"""What the name of an image claims: FlagRelease's long and compact forms. A hint about where it was built."""

from __future__ import annotations

import re
from dataclasses import dataclass

ARCHES = {
    "amd64": "x86_64", "x86_64": "x86_64", "x64": "x86_64",
    "arm64": "aarch64", "aarch64": "aarch64", "a64": "aarch64",
}  # fmt: skip
_KEYS = ("model", "tree", "gems", "scale", "cx", "python", "torch", "pcp", "gpu", "arc", "driver")
_LONG = re.compile(rf"-({'|'.join(_KEYS)})_")
_CODE = re.compile(r"([a-z]+)(\d{3})$")
_SDK = re.compile(r"(cuda|cann|dtk|maca|musa)[-_]?(\d.*)$")


@dataclass(frozen=True, slots=True)
class Tag:
    """None where the name does not say it."""

    form: str  # long, compact, or other
    vendor: str | None = None
    model: str | None = None
    code: str | None = None  # of the device: nvidia003, ascend001, ...
    arch: str | None = None  # as `uname -m` says
    sdk: str | None = None
    sdk_version: str | None = None
    driver: str | None = None
    flaggems: str | None = None
    python: str | None = None


def parse(reference: str) -> Tag:
    """The image's name without registry; its tag may say when it was built, or all of it."""
    name = reference.partition("@")[0].rsplit("/", 1)[-1]
    found = re.match(r"flagrelease-([a-z0-9]+)-release-model_", name)
    if found:
        return _long(name, found.group(1))
    return _compact(name) or Tag("other")


def _long(name: str, vendor: str) -> Tag:
    body = name.rpartition(":")[0] or name
    parts = _LONG.split(body)
    values = {key: _given(value) for key, value in zip(parts[1::2], parts[2::2], strict=True)}
    sdk, version = _sdk(values.get("pcp"))
    return Tag(
        form="long",
        vendor=vendor,
        model=values.get("model"),
        code=values.get("gpu"),
        arch=ARCHES.get(values.get("arc") or ""),
        sdk=sdk,
        sdk_version=version,
        driver=values.get("driver"),
        flaggems=values.get("gems"),
        python=values.get("python"),
    )


def _given(value: str) -> str | None:
    return None if value in ("none", "") else value


def _sdk(text: str | None) -> tuple[str | None, str | None]:
    found = _SDK.match(text or "")
    return (found.group(1), found.group(2)) if found else (None, None)


def _compact(name: str) -> Tag | None:
    """MODEL-CODE-gemsV-treeV-...-cpNNN-ptV-SDK-ARCH-DRIVER:TIME, the model with dashes of its own."""
    words = name.partition(":")[0].split("-")
    at = next((i for i, word in enumerate(words) if _CODE.match(word) and _gems(words, i)), None)
    if at is None:
        return None
    code = _CODE.match(words[at])
    assert code is not None
    rest = words[at + 1 :]
    arch = next((i for i, word in enumerate(rest) if word in ARCHES), None)
    sdk = next((word for word in rest if re.match(r"(cu|cann)\d+$", word)), "")
    python = next((word for word in rest if re.match(r"cp3\d+$", word)), "")
    driver = _given("-".join(rest[arch + 1 :])) if arch is not None else None
    return Tag(
        form="compact",
        vendor=code.group(1),
        model="-".join(words[:at]) or None,
        code=words[at],
        arch=ARCHES[rest[arch]] if arch is not None else None,
        sdk={"cu": "cuda", "cann": "cann"}.get(sdk.rstrip("0123456789")),
        sdk_version=_dotted(sdk.lstrip("cuan")) if sdk else None,
        driver=driver,
        flaggems=_given(rest[0].removeprefix("gems")),
        python=f"3.{python[3:]}" if python else None,
    )


def _gems(words: list[str], at: int) -> bool:
    return at + 1 < len(words) and words[at + 1].startswith("gems")


def _dotted(digits: str) -> str:
    """130 -> 13.0, 85 -> 8.5: all but the last digit are the major version."""
    return f"{digits[:-1]}.{digits[-1]}" if len(digits) > 1 else digits
