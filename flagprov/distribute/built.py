"""Images with build steps: built once, on one host, then brought to the others as one more layer.

The base comes to every host as any image does. What the steps change in it is a layer that the controller
keeps, with a configuration and a manifest of its own: the same parts give the same digests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flagprov.apply.converge import OnEvent, host_event
from flagprov.desired import image_resource
from flagprov.distribute.disk import on_disk
from flagprov.distribute.fan_images import CACHE, Images, Upstream, cache_of, refused
from flagprov.errors import FlagprovError, HostError, UnreachableError
from flagprov.models.event import Event
from flagprov.models.fleet import Host
from flagprov.models.observed import Look, Survey
from flagprov.models.release import BuildStep, BuiltImage
from flagprov.preparation import Job
from flagprov.serving import STATE
from flagprov.transport import Connections, Session

if TYPE_CHECKING:
    from flagprov.distribute.layouts import ImageLayout

DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"

Kind = tuple[str, str]  # the image's name, and for which processor


def lacking(looks: Mapping[str, Look]) -> list[str]:
    """Hosts whose look says that an image is to be built."""
    return [
        name
        for name, seen in looks.items()
        if any(change.kind == "image" and change.action == "build" for change in seen.changes)
    ]


def answerable(job: Job, looks: Mapping[str, Look], surveys: Mapping[str, Survey]) -> dict[str, Look]:
    """The looks, where a base that is gone or moved is a problem, unless the image has been built already."""
    found = dict(looks)
    names = lacking(looks)
    if not names:
        return found
    with ExitStack() as stack:
        upstream = Upstream(job, lambda event: None, stack)
        for host in [host for host in job.fleet.hosts if host.name in names]:
            kind = _kind(job, host, surveys)
            try:
                if not _root(job, kind).joinpath("index.json").exists():
                    upstream.ask(host, kind[1])
            except FlagprovError as error:
                found[host.name] = refused(job, host, found[host.name], error)
    return found


def bring(
    job: Job,
    connections: Connections,
    looks: Mapping[str, Look],
    surveys: Mapping[str, Survey],
    excluded: Collection[str],
    on_event: OnEvent,
    lease: Mapping[str, Any] | None = None,
) -> Images:
    """Bases first, then each image that hosts lack, once."""
    images = Images(job, connections, on_event, lease, built=True)
    names = set(lacking(looks)) - set(excluded)
    if names:
        hosts = [host for host in job.fleet.hosts if host.name in names]
        with ExitStack() as stack:
            _Building(job, connections, on_event, lease, surveys, images, stack).bring(hosts)
    return images


@dataclass(slots=True)
class _Building:
    job: Job
    connections: Connections
    on_event: OnEvent
    lease: Mapping[str, Any] | None
    surveys: Mapping[str, Survey]
    images: Images
    stack: ExitStack
    _found: dict[Kind, ImageLayout] = field(default_factory=dict)

    def bring(self, hosts: Sequence[Host]) -> None:
        begun = time.monotonic()
        based = self.connections.each(hosts, self._base)
        self.images.failures.update({name: e for name, e in based.items() if isinstance(e, HostError)})
        groups: dict[Kind, list[Host]] = {}
        for host in hosts:
            if host.name not in self.images.failures:
                groups.setdefault(_kind(self.job, host, self.surveys), []).append(host)
        for kind, members in groups.items():
            self._prepare(kind, members)
        ready = [host for host in hosts if host.name not in self.images.failures]
        took = time.monotonic() - begun
        self.images.bring(
            ready, self.surveys, lambda host, arch: self._found[_kind(self.job, host, self.surveys)]
        )
        for name, outcome in self.images.outcomes.items():
            seconds = {"image": round(outcome.seconds["image"] + took, 3)}
            self.images.outcomes[name] = replace(outcome, seconds=seconds)
        self.images.touched = tuple(host.name for host in hosts)

    def _base(self, session: Session) -> None:
        """What the image is made from, as any image comes."""
        base = image_resource(self._image(session.host).base, session.host)
        session.ask(
            {"op": "converge", "resources": [base.wire()], "lease": self.lease},
            lambda message: self.on_event(host_event(session.host.name, message)),
        )

    def _prepare(self, kind: Kind, hosts: Sequence[Host]) -> None:
        """Find the image among what was built before, or build it; all of these hosts fail with it."""
        from flagprov.distribute.layouts import lying, read_layout

        root = _root(self.job, kind)
        try:
            with on_disk(cache_of(self.job), CACHE):
                if not (root / "index.json").exists():
                    self._build_on_one(kind, hosts, root)
                layout = lying(read_layout(root))
                self._accept(hosts, layout, root)
        except FlagprovError as error:
            failures = {host.name: _failure(host.name, error) for host in hosts}
            self.images.failures.update(failures)
            return
        self._found[kind] = layout

    def _build_on_one(self, kind: Kind, hosts: Sequence[Host], root: Path) -> None:
        """On the first that answers: what fails on one would fail on all."""
        for host in hosts:
            try:
                self._build(host, kind, root)
            except UnreachableError:
                if host is hosts[-1]:
                    raise
            else:
                return

    def _build(self, host: Host, kind: Kind, root: Path) -> None:
        from flagprov.distribute.images import check_locked
        from flagprov.distribute.layouts import put_layout

        image = self._image(host)
        name = root.name.removeprefix("built-")
        base = image_resource(image.base, host).spec
        reference = str(base["reference"])
        source = Upstream(self.job, self.on_event, self.stack).source(host, reference)
        parts = source.parts([kind[1]])
        check_locked(reference, parts, {str(host.chip): image.base.digests})
        data, media_type = parts.manifests[0]
        configuration = b"".join(source.blob(str(json.loads(data)["config"]["digest"])))
        self._send_sources(host, image, f"{STATE}/oci/build-{name}/sources")
        spec = {
            "name": name,
            "reference": reference,
            "digests": list(parts.digests),  # others may be accepted, too: their layers are not these
            "steps": [_step(step) for step in image.base.build],
        }
        answer = self._run(self.connections.session(host), spec, f"build {kind[0]}")
        digest, size = str(answer["digest"]), int(answer["size"])
        layer = root / "layer.part"
        self._fetch_layer(host, name, digest, size, layer)
        config, manifest = derived(configuration, data, digest, size, _words(image))
        put_layout(root, kind[0], manifest, media_type, config, layer, digest)

    def _send_sources(self, host: Host, image: BuiltImage, path: str) -> None:
        from flagprov.distribute.content import Here, content_of
        from flagprov.distribute.fan_out import Target, Transfer
        from flagprov.distribute.sources import archive
        from flagprov.host.transfer.manifest import file_digest

        steps = [(step.git, step.commit) for step in image.base.build if step.git and step.commit]
        if not steps:
            return
        folder = cache_of(self.job) / "sources"
        files = []
        for repository, commit in dict.fromkeys(steps):
            self.on_event(Event(time.time(), "", "progress", "image", "build", f"fetching {repository}"))
            file = archive(repository, commit, folder)
            files.append((file.name, file.stat().st_size, file_digest(str(file))))
        reached = self.connections.session(host).ask({"op": "reach", "path": path})
        target = Target(host, path, tuple(reached["addresses"]))
        content = content_of(files, {"source": image.reference})
        transfer = Transfer(
            *(self.connections, self.job.site, content, Here(folder), [target], self.on_event),
            lease=self.lease,
            stage="image",
        )
        answer = transfer.run()[host.name]
        if isinstance(answer, HostError):
            raise answer

    def _fetch_layer(self, host: Host, name: str, digest: str, size: int, target: Path) -> None:
        session, sha, have = self.connections.session(host), hashlib.sha256(), 0
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            while have < size:
                answer = session.ask({"op": "layer", "name": name, "offset": have})
                piece = base64.b64decode(answer["data"])
                sha.update(piece)
                stream.write(piece)
                have += len(piece)
                if not piece:
                    break
        if f"sha256:{sha.hexdigest()}" != digest:
            target.unlink()
            raise HostError(host.name, "build", "the layer did not arrive whole", remedy="run it again")
        session.ask({"op": "layer", "name": name, "offset": size})  # it may go there

    def _accept(self, hosts: Sequence[Host], layout: ImageLayout, root: Path) -> None:
        """It is known by its digest from now on; where it was known before, it has to be the same."""
        from flagprov.distribute.layouts import known_as

        config = layout.blobs[0][0]
        for host in hosts:
            image, release = self._image(host), self.job.release.name
            lock = self.job.site.lock_file(release)
            known = known_as(root, image.digests)
            if known and not {config, layout.manifest} & known:
                raise FlagprovError(
                    f"{image.reference}: it came out other than the one that is locked",
                    remedy=f"to take this one, remove its name from {lock} and deploy again",
                )
            if not known:
                self.job.site.lock_image(release, str(host.chip), image.reference, config)

    def _image(self, host: Host) -> BuiltImage:
        image = self.job.variants[host.name].image
        assert isinstance(image, BuiltImage), "its look asks for a build"
        return image

    def _run(self, session: Session, spec: Mapping[str, Any], step: str) -> dict[str, Any]:
        name = session.host.name

        def said(message: Mapping[str, Any]) -> None:
            self.on_event(host_event(name, {**message, "stage": "image", "step": step}))

        begun = time.monotonic()
        self.on_event(Event(time.time(), name, "started", "image", step))
        answer = session.ask({"op": "build", "spec": spec, "lease": self.lease}, said)
        seconds = {"seconds": round(time.monotonic() - begun, 3)}
        self.on_event(Event(time.time(), name, "done", "image", step, data=seconds))
        return answer


def derived(
    configuration: bytes, manifest: bytes, layer: str, size: int, words: Sequence[str]
) -> tuple[bytes, bytes]:
    """Configuration and manifest of an image with one layer more, which is not compressed."""
    config, listed = json.loads(configuration), json.loads(manifest)
    config["rootfs"]["diff_ids"].append(layer)
    if "history" in config:
        created = str(config.get("created") or "1970-01-01T00:00:00Z")
        config["history"].append({"created": created, "created_by": "; ".join(words), "comment": "flagprov"})
    written = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    of_docker = "docker" in str(listed["config"].get("mediaType"))
    kind = DOCKER_LAYER if of_docker else OCI_LAYER
    listed["config"] |= {"digest": f"sha256:{hashlib.sha256(written).hexdigest()}", "size": len(written)}
    listed["layers"].append({"mediaType": kind, "digest": layer, "size": size})
    return written, json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()


def _failure(host: str, error: FlagprovError) -> HostError:
    """What went wrong with a build, as each host has it that waits for it."""
    if not isinstance(error, HostError):
        return HostError(host, "build", error.message, remedy=error.remedy)
    if error.host == host:
        return error
    return HostError(host, "build", f"on {error.host}: {error.message}", remedy=error.remedy, log=error.log)


def _kind(job: Job, host: Host, surveys: Mapping[str, Survey]) -> Kind:
    from flagprov.distribute.images import ARCHITECTURES

    arch = surveys[host.name].arch
    return job.variants[host.name].image.reference, ARCHITECTURES.get(arch, arch)


def _root(job: Job, kind: Kind) -> Path:
    from flagprov.distribute.layouts import built_root

    return built_root(cache_of(job), *kind)


def _words(image: BuiltImage) -> list[str]:
    from flagprov.catalog.building import words

    return [words(step) for step in image.base.build]


def _step(step: BuildStep) -> dict[str, str]:
    """As the host reads it."""
    from flagprov.catalog.building import words

    said = {"words": words(step), "python": step.python}
    if step.pip:
        return {**said, "pip": step.pip}
    return {
        **said,
        "archive": f"{step.commit}.tar",
        "directory": step.directory or "",
        "version": step.version or "",
    }
