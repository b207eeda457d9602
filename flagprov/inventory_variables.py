"""What the variables of an inventory's hosts may say; raises InventoryErrors that name host and variable."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from flagprov.errors import InventoryError

_CHIPS = Path(__file__).with_name("chips")
SUFFIXES = (  # all variables flagprov_... that there are, those of playbooks too
    *("chip", "settings", "weights_root", "registries", "images", "fetch_on", "site", "address"),
    *("transfer_mib_s", "cluster_address", "cluster_interface", "cluster_rdma", "serving_address"),
    *("ascend_access", "cann", "cann_path", "hooks", "webhook", "http_proxy", "https_proxy", "no_proxy"),
    *("allow_disruption", "allow_reboot", "batch", "set", "hosts"),
)
_CHOICES = {"flagprov_ascend_access": ("mounts", "runtime"), "flagprov_cann": ("image", "host")}
_CHOICES |= {"flagprov_images": ("registry", "fan-out")}


def check_variables(record: Mapping[str, Any]) -> None:
    """Of a host that serves."""
    _check_spelling(record)
    name, variables = record["name"], record["variables"]
    chip = variables.get("flagprov_chip")
    if not isinstance(chip, str) or not chip:
        raise InventoryError(
            f"{name}: has no flagprov_chip",
            remedy="Set flagprov_chip for the host or its group, for example flagprov_chip=nvidia-h100.",
        )
    known = _chip_names()
    if chip not in known:
        raise InventoryError(f"{name}: flagprov_chip: no chip {chip!r}", remedy=nearest(chip, known))
    wanted = {"flagprov_settings": "a mapping", "flagprov_registries": "a mapping"}
    wanted |= {"flagprov_weights_root": "a text", "flagprov_site": "a text"}
    wanted |= {"flagprov_cann_path": "a text"}
    for variable, form in wanted.items():
        value = variables.get(variable)
        if value is not None and not isinstance(value, dict if form == "a mapping" else str):
            raise InventoryError(
                f"{name}: {variable}: {form} is expected, not {value!r}",
                remedy=f"Write {variable} in group_vars or host_vars as {form}.",
            )
    for variable, words in _CHOICES.items():
        if variables.get(variable, words[0]) not in words:
            raise InventoryError(
                f"{name}: {variable}: {variables[variable]!r} is not one of {', '.join(words)}",
                remedy=f"Write {variable}={words[0]} or {variable}={words[1]}.",
            )
    for variable in ("flagprov_weights_root", "flagprov_cann_path"):
        path = variables.get(variable)
        if path is not None and not path.startswith("/"):
            raise InventoryError(f"{name}: {variable}: {path!r} is not an absolute path")
    rate = variables.get("flagprov_transfer_mib_s")
    if rate and not _is_rate(rate):
        raise InventoryError(
            f"{name}: flagprov_transfer_mib_s: {rate!r} is not a number of MiB/s",
            remedy="Write flagprov_transfer_mib_s=100, or leave it out: no limit.",
        )
    webhook = variables.get("flagprov_webhook")
    if webhook and not _is_address(webhook):  # not shown: it may have a token
        raise InventoryError(
            f"{name}: flagprov_webhook: is no address with http:// or https:// and a host",
            remedy="Write flagprov_webhook=https://HOST/PATH, or leave it out.",
        )
    for registry, place in (variables.get("flagprov_registries") or {}).items():
        if not isinstance(place, str):
            raise InventoryError(
                f"{name}: flagprov_registries: {registry}: a text is expected, not {place!r}"
            )


def _check_spelling(record: Mapping[str, Any]) -> None:
    """A variable that is nearly one of ours would be ignored in silence; a site's other ones are its own."""
    import difflib

    for variable in record["variables"]:
        ours, _, suffix = variable.partition("_")
        if ours != "flagprov" or suffix in SUFFIXES:
            continue
        near = difflib.get_close_matches(suffix, SUFFIXES, n=1, cutoff=0.8)
        if near:
            raise InventoryError(
                f"{record['name']}: {variable}: there is no such variable",
                remedy=f"Did you mean flagprov_{near[0]}?",
            )


def check_fetching(record: Mapping[str, Any], strangers: Collection[str], inventory: Path) -> None:
    """`strangers`: those hosts that are named to download, and are none of the inventory with a chip."""
    named = str(record["variables"].get("flagprov_fetch_on") or "")
    if named in strangers:
        raise InventoryError(
            f"{record['name']}: flagprov_fetch_on: {named} is no host of {inventory} that serves",
            remedy="Name one as the inventory does, or leave it out: the controller downloads then.",
        )


def _is_address(value: object) -> bool:
    from urllib.parse import urlsplit

    if not isinstance(value, str) or len(value.split()) != 1:
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False


def _is_rate(value: object) -> bool:
    try:
        return 0 <= float(str(value)) < float("inf")
    except ValueError:
        return False


def nearest(word: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"There is {', '.join(sorted(names)[:10])}." if 0 < len(names) <= 10 else ""


def _chip_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _CHIPS.glob("*.yaml")))
