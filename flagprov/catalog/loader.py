"""Loading releases: by name from the catalog, or a user's own file by its path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from flagprov.catalog.building import built
from flagprov.catalog.fit import misfits
from flagprov.chips import load_chips
from flagprov.documents.check import read_model
from flagprov.documents.document import dotted, read
from flagprov.errors import ReleaseError
from flagprov.models.release import Lock, LockedImage, Release, Variant

_CATALOG = Path(__file__).parent / "releases"
_REMEDY = "The format: docs/releases.md; an example: flagprov releases show qwen3-4b --output yaml"


def release_names() -> tuple[str, ...]:
    """Names in the catalog; no file is opened."""
    return tuple(sorted(file.stem for file in _CATALOG.glob("*.yaml")))


def list_releases() -> tuple[Release, ...]:
    """Every release of the catalog, by name."""
    return tuple(load_release(name) for name in release_names())


def load_release(name_or_path: str) -> Release:
    """A release of the catalog by its name, or a file: what has a slash or ends in .yaml or .yml."""
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        return _load(Path(name_or_path))
    if name_or_path not in release_names():
        raise unknown_release(name_or_path)
    return _load(_CATALOG / f"{name_or_path}.yaml")


def variant_for(release: Release, chip: str) -> Variant:
    """What the release runs on that chip."""
    variant = release.variants.get(chip)
    if variant is None:
        raise ReleaseError(
            f"release {release.name} has no variant for {chip}; it has {', '.join(sorted(release.variants))}",
            remedy="Deploy to hosts of those chips (--limit), or add a variant in a file of your own.",
        )
    return variant


def with_lock(release: Release, path: Path) -> Release:
    """The release with what the site has locked, another name being another image, and with images that are
    built in the place of those that they are made from."""
    lock = _lock(path)
    variants = {}
    for chip, variant in release.variants.items():
        image, locked = variant.image, lock.variants.get(chip, LockedImage())
        named = locked.references.get(image.reference, ())
        digests = tuple(dict.fromkeys((*image.digests, *locked.digests, *named)))
        image = image.model_copy(update={"digests": digests})
        image = built(release.name, image, lock.commits, locked.references)
        variants[chip] = variant.model_copy(update={"image": image})
    update: dict[str, object] = {"variants": variants}
    if lock.weights and lock.weights.source == release.weights.source:
        update["weights"] = release.weights.model_copy(update={"revision": lock.weights.revision})
    return release.model_copy(update=update)


def _lock(path: Path) -> Lock:
    if not path.exists():
        return Lock()
    return read_model(read(path), Lock, f"Remove {path} and lock the images again.")  # JSON is YAML


def locked_names(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """Chip -> name of an image -> what it stood for when it was first pulled; of those in settings, too."""
    return {chip: dict(locked.references) for chip, locked in _lock(path).variants.items()}


def locked_files(release: Release, path: Path) -> tuple[tuple[str, int, str], ...]:
    """Path, size and sha256 of the weights' files as the site has locked them; empty without a lock."""
    if not path.exists():
        return ()
    lock = read_model(read(path), Lock, f"Remove {path} and lock the release again.")
    if lock.weights is None or lock.weights.source != release.weights.source:
        return ()
    return tuple((file.path, file.size, file.sha256) for file in lock.weights.files)


def _load(path: Path) -> Release:
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "there is no such file"
        raise ReleaseError(
            f"{path}: {what}",
            remedy="A release is given by the path of its YAML file, or by a name: flagprov releases list",
        )
    document = read(path)
    release = read_model(document, Release, _REMEDY)
    wrong = []
    for name, variant in release.variants.items():
        for key, text in misfits(release, name, variant, load_chips()):
            where = ("variants", name, *key)
            wrong.append(f"{document.file}:{document.line(where)}: {dotted(where)}: {text}")
    if wrong:
        raise ReleaseError("\n".join(wrong), remedy=_REMEDY)
    return release


def unknown_release(name: str, deployed: Iterable[str] = ()) -> ReleaseError:
    """With the nearest names, of the catalog and of what is deployed."""
    deployed = sorted(deployed)
    names = sorted({*release_names(), *deployed})
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, names, 3, 0.6)
    close += [
        known
        for known in names
        if known not in close and (known.startswith(wanted) or wanted.startswith(known))
    ]
    message = f"no release is called {name!r}"
    if close:
        message += f"; nearest: {', '.join(close)}"
    if Path(name).is_file():
        message += f"; a file is: write ./{name} to use it"
    remedy = "All names: flagprov releases list. A file of your own is given by its path."
    if deployed:
        remedy = f"Deployed: {', '.join(deployed)}. {remedy}"
    return ReleaseError(message, remedy=remedy)
