"""Images that are made from others by build steps: what pins them, and how they are called; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from flagprov.models.release import BuildStep, BuiltImage, Image

NAMES = "localhost/flagprov/"  # no registry is asked for such a name
_WAY_OF_BUILDING = 1  # another one makes other images of the same steps


def built(
    release: str, image: Image, commits: Mapping[str, str], known: Mapping[str, Sequence[str]]
) -> Image:
    """The image that the build steps make; the image itself where there are none, or one is not pinned.

    `commits` and `known` (name -> digests) are what a site has locked.
    """
    image = image.model_copy(update={"build": tuple(_pinned(step, commits) for step in image.build)})
    if not image.build or unpinned(image):
        return image
    reference = f"{NAMES}{release}:{_key(image)}"
    return BuiltImage(reference=reference, digests=tuple(known.get(reference, ())), base=image)


def unpinned(image: Image) -> str:
    """What of an image with build steps may be another one tomorrow; empty where nothing may."""
    if not image.digests:
        return f"{image.reference} has no locked digest"
    refs = [step for step in image.build if step.git and not step.commit]
    return "; ".join(f"{step.git} has no commit for {step.ref}" for step in refs)


def ref_name(step: BuildStep) -> str:
    """A step's key in a lock's commits."""
    return f"{step.git}#{step.ref}"


def words(step: BuildStep) -> str:
    """For progress, errors and the image's history."""
    if step.pip:
        return f"pip install {step.pip}"
    where = f" ({step.directory})" if step.directory else ""
    return f"pip install {step.git}@{step.commit}{where}"


def _pinned(step: BuildStep, commits: Mapping[str, str]) -> BuildStep:
    if step.commit or not step.git:
        return step
    return step.model_copy(update={"commit": commits.get(ref_name(step))})


def _key(image: Image) -> str:
    """Of all that decides what comes out."""
    steps = [step.model_dump(exclude={"ref"}) for step in image.build]
    text = json.dumps([_WAY_OF_BUILDING, sorted(image.digests), steps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
