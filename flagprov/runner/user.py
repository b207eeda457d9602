"""Whose processes run in a replica's container, by number: the host's folders are handed to nobody else."""

from __future__ import annotations

from flagprov.errors import ReleaseError
from flagprov.models.image import ImageFacts
from flagprov.models.release import Variant
from flagprov.runner.inputs import LaunchInputs

ROOT = 0
NOBODY = 65534  # for a name while nobody has looked into the image


def container_user(variant: Variant, facts: ImageFacts | None) -> int:
    """As docker reads it: the release's or the image's own, a name by the image's passwd."""
    name = variant.container.user.partition(":")[0]
    if name.isdecimal():
        return int(name)
    if name in ("", "root"):
        return facts.user if facts and not name else ROOT
    return facts.users.get(name, NOBODY) if facts else NOBODY


def check_user(launch: LaunchInputs) -> None:
    name, facts = launch.variant.container.user.partition(":")[0], launch.facts
    if facts is None or name in ("", "root", *facts.users) or name.isdecimal():
        return
    raise ReleaseError(
        f"release {launch.release}: container.user {name!r} is no user of image "
        f"{launch.variant.image.reference}",
        remedy="name one that its /etc/passwd has, or give the user's number",
    )
