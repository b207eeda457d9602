"""Checks of directories, mounts and space."""

from __future__ import annotations

from flagprov.doctor.subject import Subject, Verdict, failed, gib, ok, unknown, warning, worst
from flagprov.models.facts import PathFacts

LOW_SHARE = 10  # a tenth of the disk


def mounts(subject: Subject) -> Verdict | None:
    """Every directory that the release mounts is there, answers, and is the mount that it is meant to be."""
    found: list[Verdict] = []
    shown: list[str] = []
    serving = subject.serving
    wanted = [each.rstrip("/") for each in serving.sources] if serving else []
    spare = [each.rstrip("/") for each in serving.optional] if serving else []
    for path in subject.facts.paths or ():
        if path.path in spare and not path.exists:  # docker would make a directory of it
            shown.append(f"the container goes without {path.path}, which is not here")
        if serving and path.path not in wanted:
            continue
        verdict = _path(subject, path)
        if verdict:
            found.append(verdict)
        else:
            where = f"{path.source} ({path.type})" if path.point != "/" else "the root file system"
            shown.append(f"{path.path} on {where}")
    if subject.facts.paths is None:
        return unknown(subject.unknown("paths"), "see `findmnt`")
    return worst(found, ", ".join(shown)) if found or shown else None


def _path(subject: Subject, path: PathFacts) -> Verdict | None:
    planned = path.planned_point
    if not path.answers:
        return failed(
            f"{path.path}: {path.source or 'its mount'} does not answer",
            f"is its server up? umount -l {path.point or path.path}, then mount it again",
        )
    if planned and planned != path.point and len(planned) > len(path.point or ""):
        return failed(
            f"{planned} is not mounted; /etc/fstab has {path.planned_source} there", f"mount {planned}"
        )
    others = {
        name: mount
        for name, facts in subject.peers.items()
        for mount in [facts.path(path.path)]
        if mount and mount.network
    }
    if not path.network and others:
        name, mount = next(iter(others.items()))
        return failed(
            f"{path.path} is no network mount here, on {name} it is {mount.source}",
            f"mount {mount.source} on {mount.point}",
        )
    missing = not path.exists
    unmounted = path.empty and path.point == "/" and _for_weights(subject, path.path)
    if (missing or unmounted) and path.point == "/" and _of_site(subject, path.path):
        what = "is not there yet" if missing else "is empty"
        return warning(
            f"{path.path} {what}, and nothing is to be mounted there: weights go to the root file system",
            "is that meant? else mount the weights' storage there",
        )
    if missing:
        return failed(f"{path.path} is not there", f"mount or make {path.path}, or set flagprov_weights_root")
    different = {name: mount.source for name, mount in others.items() if mount.source != path.source}
    if path.network and different:
        name, source = next(iter(different.items()))
        return warning(
            f"{path.path} is {path.source}, on {name} it is {source}", "mount the same export on all hosts"
        )
    if unmounted:
        return failed(
            f"{path.path} is an empty directory of the root file system", f"mount {path.path}; see /etc/fstab"
        )
    return None


def _of_site(subject: Subject, path: str) -> bool:
    """Where the site itself says that weights lie, and /etc/fstab and the other hosts mount nothing."""
    root = (subject.host.weights_root or "").rstrip("/")
    return bool(root) and (path == root or path.startswith(root + "/"))


def _for_weights(subject: Subject, path: str) -> bool:
    """Directories of the system, such as /usr/local/sbin, may well be empty."""
    if subject.serving is None:
        return True
    return subject.serving.weights == path or subject.serving.weights.startswith(path.rstrip("/") + "/")


def space(subject: Subject) -> Verdict | None:
    """Room for the image where docker keeps images; it is unpacked there."""
    engine = subject.facts.docker
    if engine is None:
        return None
    remedy = "docker system df; docker image prune; or move docker's data root"
    image = subject.facts.image
    need = image.need_mib if subject.serving and image else 0
    if engine.free_mib < need:
        return failed(
            f"{gib(engine.free_mib)} free in {engine.root}, the image needs about {gib(need)}", remedy
        )
    if engine.free_mib * LOW_SHARE < engine.total_mib:
        return warning(f"{gib(engine.free_mib)} of {gib(engine.total_mib)} free in {engine.root}", remedy)
    return ok(f"{gib(engine.free_mib)} free in {engine.root}")
