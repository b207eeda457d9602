"""An image's build steps, run once in a container of it: what they change becomes a layer of a new image.

A job on one host, for all. Steps are typed and run as argv lists, nothing of them goes through a shell; only
packages of an index need a network: where there is such a step the container has one, for all its steps.
"""

from __future__ import annotations

import collections
import glob
import hashlib
import json
import os
import shutil
import time

from flagprov.host import docker, jobs
from flagprov.host.fetch import AUTHORITIES, hidden
from flagprov.host.files import read_json
from flagprov.host.shell import run
from flagprov.host.wire import Blocked, progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT = "/var/lib/flagprov/oci"
PROXIES = "/etc/docker/flagprov-proxy.env"  # of the role container_engine
PIP = "/etc/pip.conf"
LAYER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "image_layer.py")
INSIDE, WORK, PIP_INSIDE = "/flagprov", "/flagprov-build", "/flagprov-pip.conf"
TRUSTED_INSIDE = "/flagprov-authorities.crt"
TRUSTING = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")  # else each goes by a list of its own
LABEL = "io.flagprov.build"
LONGEST_S = 4 * 3600  # a container that nobody ends any more goes by itself
SHOWN = 30  # lines of a step that fails
PIECE = 1 << 20
INSTALL = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--force-reinstall", "--no-compile"]
QUIET = ["--no-cache-dir", "--no-input", "--disable-pip-version-check"]
ENVIRONMENT = {
    "HOME": WORK,
    "TMPDIR": WORK,
    "PYTHONDONTWRITEBYTECODE": "1",
    "SOURCE_DATE_EPOCH": "315532800",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",  # the image is the environment
}


def build(spec: dict[str, Any]) -> dict[str, Any]:
    """`name` says what comes out, `steps` how. Digest and size of the layer, which waits to be fetched."""
    target = _layer_of(str(spec["name"]))
    if not os.path.exists(target):  # else the controller went before it had fetched it
        _build(spec, target)
    return {"digest": _digest(target), "size": os.path.getsize(target)}


def layer(request: dict[str, Any]) -> dict[str, Any]:
    """The layer's next bytes; who asks from its end on has all of it, and it goes."""
    path, offset = _layer_of(str(request["name"])), int(request["offset"])
    if offset >= os.path.getsize(path):
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)
        return {"data": ""}
    import base64

    with open(path, "rb") as stream:
        stream.seek(offset)
        return {"data": base64.b64encode(stream.read(PIECE)).decode("ascii")}


def _layer_of(name: str) -> str:
    return os.path.join(ROOT, "build-%s" % os.path.basename(name), "layer.tar")


def _build(spec: dict[str, Any], target: str) -> None:
    image = docker.image_id(spec["reference"], spec["digests"])
    if not image:
        raise Blocked("build", "%s is not here" % spec["reference"], "run the command again")
    name, steps = _container(spec), spec["steps"]
    for other in {name, *left()}:
        remove(other)
    try:
        _start(name, image, os.path.join(os.path.dirname(target), "sources"), any("pip" in s for s in steps))
        for number, step in enumerate(steps, 1):
            _install(name, number, step, "step %d of %d, %s" % (number, len(steps), step["words"]))
        _take_layer(name, target)
    finally:
        remove(name)


def _start(name: str, image: str, sources: str, network: bool) -> None:
    """Idle; each step is an exec in it."""
    os.makedirs(sources, exist_ok=True)
    argv = ["docker", "run", "--detach", "--rm", "--name", name, "--label", "%s=1" % LABEL]
    argv += ["--runtime", "runc"]  # a vendor's would leave its driver's files among the changes
    argv += ["--user", "0:0", "--workdir", WORK, "--network", "host" if network else "none"]
    argv += ["-v", "%s:%s:ro" % (sources, INSIDE)]
    if network and os.path.isfile(PIP):
        argv += ["-v", "%s:%s:ro" % (PIP, PIP_INSIDE), "--env", "PIP_CONFIG_FILE=%s" % PIP_INSIDE]
    trusted = next(filter(os.path.isfile, AUTHORITIES), "")
    if network and trusted:
        argv += ["-v", "%s:%s:ro" % (trusted, TRUSTED_INSIDE)]
        argv += [word for variable in TRUSTING for word in ("--env", "%s=%s" % (variable, TRUSTED_INSIDE))]
    argv += ["--entrypoint", "python3", image, "-c", "import time; time.sleep(%d)" % LONGEST_S]
    said = run(argv, timeout=300)
    if said.code:
        raise Blocked("build", "no container can be made of %s" % image, "has the image a python3?", said.err)


def _install(name: str, number: int, step: dict[str, Any], shown: str) -> None:
    progress(shown)
    target = step.get("pip")
    environment = dict(ENVIRONMENT)
    if target:
        environment.update(proxies())
    else:
        place = "%s/%d" % (WORK, number)
        archive = "%s/%s" % (INSIDE, step["archive"])
        _run(name, [step["python"], "-m", "tarfile", "-e", archive, place], environment, shown)
        target = os.path.join(place, step["directory"])
    if step.get("version"):
        environment["SETUPTOOLS_SCM_PRETEND_VERSION"] = step["version"]
    _run(name, [step["python"], *INSTALL, *QUIET, target], environment, shown)


def proxies() -> dict[str, str]:
    """As the inventory has them for dockerd."""
    found: dict[str, str] = {}
    try:
        with open(PROXIES, encoding="utf-8") as stream:
            pairs = [line.strip().partition("=") for line in stream if "=" in line]
    except OSError:
        return found
    for name, _, value in pairs:
        try:
            found[name] = str(json.loads(value))
        except ValueError:
            found[name] = value
    return found


def _run(name: str, argv: list[str], environment: dict[str, str], shown: str) -> None:
    """One program in the container; what it says is progress, and its last lines are kept for its failure."""
    import subprocess
    import threading

    # Values stay out of the command line, which everybody on the host can read: proxies have passwords.
    passed = [word for key in sorted(environment) for word in ("--env", key)]
    command = ["docker", "exec", "--user", "0:0", "--workdir", WORK, *passed, name, *argv]
    last = collections.deque(maxlen=SHOWN)  # type: collections.deque[str]
    said = 0.0
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, **environment),
        universal_newlines=True,
        errors="replace",
    ) as process:
        timer = threading.Timer(LONGEST_S, process.kill)
        timer.daemon = True
        timer.start()
        assert process.stdout
        for line in process.stdout:
            line = hidden(line.strip(), environment)
            last.append(line)
            if line and time.monotonic() - said > 1:
                said = time.monotonic()
                progress("%s: %s" % (shown, line[:200]))
        timer.cancel()
    if process.returncode:
        words = next((line for line in reversed(last) if line), "code %d" % process.returncode)
        raise Blocked("build", "%s: %s" % (shown, words[:500]), _remedy(" ".join(last)), "\n".join(last))


def _remedy(said: str) -> str:
    if "No module named pip" in said or "unable to start container process" in said:
        return "let the step's `python` name the Python of the image that has pip"
    if "No module named" in said or "BackendUnavailable" in said:
        return "pip brings nothing by itself: what is missing is a build step of its own, before this one"
    if "No matching distribution" in said or "onnection" in said or "name resolution" in said:
        return "check that this host reaches the package index (container_engine_https_proxy, /etc/pip.conf)"
    return "mend the release's build steps; the last lines of pip are in the log"


def _take_layer(name: str, target: str) -> None:
    """Written by a program inside, which sees the files as they are; read here as bytes, and nothing else."""
    import subprocess

    progress("taking what has changed")
    changes = json.dumps(docker.call("GET", "/containers/%s/changes" % docker.quote(name), timeout=600) or [])
    with open(LAYER, encoding="utf-8") as stream:
        program = stream.read()
    part = target + ".part"
    with open(part, "wb") as sink:
        done = subprocess.run(
            ["docker", "exec", "--interactive", "--user", "0:0", name, "python3", "-I", "-c", program],
            input=changes.encode(),
            stdout=sink,
            stderr=subprocess.PIPE,
            check=False,
        )
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip()
        raise Blocked("build", "what the steps changed cannot be read", "is the disk full?", words[-2000:])
    os.rename(part, target)


def _digest(path: str) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as stream:
        for piece in iter(lambda: stream.read(PIECE), b""):
            sha.update(piece)
    return "sha256:%s" % sha.hexdigest()


def left() -> list[str]:
    """Containers of builds that were killed: no job is at work with them any more."""
    query = docker.filters(label=["%s=1" % LABEL])
    found = docker.call("GET", "/containers/json?all=1&%s" % query) or []
    names = {str(name).lstrip("/") for container in found for name in container.get("Names") or []}
    return sorted(names - _at_work()) if names else []


def _at_work() -> set[str]:
    """By the jobs that run now."""
    found = set()
    for path in glob.glob(os.path.join(jobs.ROOT, "build-*", "spec.json")):
        job = read_json(path)
        if job and jobs.state_of(os.path.basename(os.path.dirname(path))) in jobs.RUNS:
            found.add(_container(job["spec"]))
    return found


def _container(spec: dict[str, Any]) -> str:
    return "flagprov-build-%s" % spec["name"]


def remove(name: str) -> None:
    run(["docker", "rm", "--force", "--volumes", name], timeout=120)
