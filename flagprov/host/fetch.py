"""Downloading weights with the hubs' own clients, on the controller or on one host of a site.

Also run as a script by a Python that has the clients: `python fetch.py`, the request on standard input.
Tokens, mirrors and proxies come from the environment that it is given, and are written nowhere.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# modelscope before 1.40 knows no revision but branches and tags, and its login writes the token to the disk.
CLIENTS = {"modelscope": "modelscope>=1.40,<2", "hf": "huggingface_hub>=0.30,<3"}
MODULES = {"modelscope": "modelscope_hub", "hf": "huggingface_hub"}
HOME = "/var/lib/flagprov/clients"
TRIES = 5
BLOCK = 1 << 20
LIST = "SHA256SUMS"
# Whom this host trusts, private authorities among them; the clients would go by a list of their own.
AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def scheme_of(source: str) -> str:
    scheme = source.split("://", 1)[0]
    return "https" if scheme == "http" else scheme


# The part that runs in the clients' Python


def script() -> None:
    """Answers one request: `list` gives revision and files, `get` downloads into a directory."""
    request = json.loads(sys.stdin.readline())
    work = {"modelscope": _modelscope, "hf": _hugging_face, "https": _web}[scheme_of(request["source"])]
    try:
        answer = work(request)
    except Exception as error:
        answer = {"error": "%s: %s" % (type(error).__name__, str(error)[:2000])}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


def _modelscope(request: dict[str, Any]) -> dict[str, Any]:
    name, revision = request["source"].split("://", 1)[1], request.get("revision") or "master"
    found = [entry for entry in _modelscope_files(name, revision) if entry.get("Type") != "tree"]
    files = [[entry["Path"], int(entry["Size"]), entry.get("Sha256") or ""] for entry in found]
    newest = max(found, key=lambda entry: entry.get("CommittedDate") or 0, default={})
    if request["op"] == "get":
        import_module("modelscope.hub.snapshot_download").snapshot_download(
            name, revision=revision, local_dir=request["folder"], allow_patterns=request.get("only") or None
        )
    return {"revision": request.get("revision") or newest.get("Revision") or revision, "files": files}


def _modelscope_files(name: str, revision: str) -> list[dict[str, Any]]:
    """As the server lists them; the client's own method leaves the sha256 out."""
    api = import_module("modelscope_hub.api").HubApi()
    return list(
        api.legacy.list_repo_files(repo_id=name, repo_type="model", revision=revision, recursive=True)
    )


def _hugging_face(request: dict[str, Any]) -> dict[str, Any]:
    hub = import_module("huggingface_hub")
    name, revision = request["source"].split("://", 1)[1], request.get("revision")
    info = hub.HfApi().model_info(name, revision=revision, files_metadata=True)
    files = [
        [entry.rfilename, int(entry.size or 0), entry.lfs.sha256 if entry.lfs else ""]
        for entry in info.siblings or ()
    ]
    if request["op"] == "get":
        hub.snapshot_download(
            name, revision=info.sha, local_dir=request["folder"], allow_patterns=request.get("only") or None
        )
    return {"revision": info.sha, "files": files}


def _web(request: dict[str, Any]) -> dict[str, Any]:
    """A directory with a checksum list, as sha256sum writes it; what broke off goes on where it was."""
    from urllib.request import urlopen

    base = request["source"].rstrip("/")
    with urlopen("%s/%s" % (base, LIST), timeout=60) as stream:
        text = stream.read().decode()
    files = []
    for line in text.splitlines():
        digest, _, path = line.strip().partition(" ")
        path = path.strip().lstrip("*")
        if len(digest) != 64 or not path or ".." in path.split("/") or path.startswith("/"):
            raise ValueError("%s/%s has a line that is not SHA256 and file: %r" % (base, LIST, line[:100]))
        size = _resume(base, path, digest, request["folder"]) if request["op"] == "get" else _size(base, path)
        files.append([path, size, digest])
    return {"revision": hashlib.sha256(text.encode()).hexdigest(), "files": files}


def _address(base: str, path: str) -> str:
    from urllib.parse import quote

    return "%s/%s" % (base, quote(path))


def _size(base: str, path: str) -> int:
    from urllib.request import Request, urlopen

    with urlopen(Request(_address(base, path), method="HEAD"), timeout=60) as answer:
        return int(answer.headers["Content-Length"])


def _resume(base: str, path: str, digest: str, folder: str) -> int:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    place = os.path.join(folder, path)
    part = place + ".part"
    if os.path.exists(place) and _digest(place) == digest:
        return os.path.getsize(place)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    problem = ""
    for attempt in range(TRIES):
        have = os.path.getsize(part) if os.path.exists(part) else 0
        head = {"Range": "bytes=%d-" % have} if have else {}
        try:
            with urlopen(Request(_address(base, path), headers=head), timeout=60) as answer:
                with open(part, "ab" if have and answer.status == 206 else "wb") as stream:
                    left = int(answer.headers.get("Content-Length") or 0)
                    for block in iter(lambda: answer.read(BLOCK), b""):
                        stream.write(block)
                        left -= len(block)
            if left > 0:
                raise OSError("the connection broke off")
        except HTTPError as error:
            if error.code != 416:  # asked for more than there is: the part is whole, or wrong
                raise
        except OSError as error:
            problem = str(error)
            time.sleep(min(2**attempt, 10) / 10)
            continue
        if _digest(part) == digest:
            os.rename(part, place)
            return os.path.getsize(place)
        problem = "its sha256 is not the one of %s" % LIST
        if os.path.getsize(part) <= have or not have:
            os.unlink(part)
    raise ValueError("%s: %s" % (_address(base, path), problem))


def _digest(path: str) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            sha.update(block)
    return sha.hexdigest()


# The part that asks it


class FetchError(Exception):
    """The client's words."""


def ask(
    python: str,
    request: dict[str, Any],
    environment: dict[str, str],
    report: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Run the script and say meanwhile how many bytes have arrived."""
    # Not as `python fetch.py`: the modules beside this file would hide the standard library's.
    code = "import runpy, sys; sys.path[:] = [p for p in sys.path if p]; runpy.run_path(%r, None, '__main__')"
    child = subprocess.Popen(
        [python, "-c", code % os.path.abspath(__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        universal_newlines=True,
        errors="replace",
    )
    try:
        words = json.dumps(request) + "\n"
        while True:
            try:
                out, err = child.communicate(words, timeout=1)
                break
            except subprocess.TimeoutExpired:
                words = ""
                if report and request.get("folder"):
                    report(_bytes_in(request["folder"]))
    except BaseException:
        child.kill()
        child.communicate()
        raise
    try:
        answer = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = err.strip().splitlines()[-1:] or ["status %d" % child.returncode]
        raise FetchError(last[0]) from None
    if "error" in answer:
        raise FetchError(hidden(answer["error"], environment))
    return dict(answer)


def hidden(text: str, environment: dict[str, str]) -> str:
    """Without the tokens and passwords of the environment."""
    for name, value in environment.items():
        if len(value) > 5 and any(word in name.upper() for word in ("TOKEN", "PASSWORD", "SECRET")):
            text = text.replace(value, "[redacted]")
        if name.lower().endswith("_proxy") and "@" in value:
            login = value.split("://")[-1].rpartition("@")[0]
            text = text.replace(value, "[proxy]").replace(login + "@", "[redacted]@")
    return text


def is_full(words: str) -> bool:
    """Whether a client's last words are of a full disk."""
    return any(os.strerror(code) in words for code in (errno.ENOSPC, errno.EDQUOT))


def _bytes_in(folder: str) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.path.getsize(os.path.join(base, name))
            except OSError:
                continue
    return total


def python_with(scheme: str, environment: dict[str, str]) -> str:
    """A Python on this host that has the client; made once where there is none."""
    if scheme == "https":
        return sys.executable
    module = MODULES[scheme]
    own = os.path.join(HOME, "bin", "python3")
    for python in (own, sys.executable):
        probe = [python, "-c", "import %s" % module]
        if os.path.exists(python) and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return python
    for argv in (
        [sys.executable, "-m", "venv", HOME],
        [own, "-m", "pip", "install", "--quiet", CLIENTS[scheme]],
    ):
        done = subprocess.run(argv, capture_output=True, env=environment, check=False)
        if done.returncode:
            words = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
            raise FetchError(hidden("%s cannot be installed here: %s" % (module, words[-1:]), environment))
    return own


def fetch(spec: dict[str, Any]) -> dict[str, Any]:
    """As a job on a host: a source's files to their place, whole and hashed, or not at all."""
    from flagprov.host.transfer.mounts import refuse_unmounted
    from flagprov.host.wire import Blocked, progress

    forget = os.path.join("/var/lib/flagprov/jobs", str(spec.get("job")), "spec.json")
    if os.path.exists(forget):
        os.unlink(forget)  # the environment has tokens
    environment = dict(os.environ, **_trusted(), **spec.get("environment", {}))
    target = spec["path"].rstrip("/")
    refuse_unmounted(target)
    folder = target + ".flagprov-fetch"
    os.makedirs(folder, exist_ok=True)
    request = {"source": spec["source"], "revision": spec.get("revision"), "folder": folder}
    remedy = "check that this host reaches the hub (HTTPS_PROXY, MODELSCOPE_ENDPOINT, HF_ENDPOINT)"

    def report(have: int) -> None:
        progress("%d MiB downloaded" % (have >> 20), {"bytes": have})

    try:
        python = python_with(scheme_of(spec["source"]), environment)
        listed = ask(python, dict(request, op="list"), environment)
        free, total = _free(folder), sum(int(entry[1]) for entry in listed["files"])
        if total - _bytes_in(folder) > free:
            remedy = "free space there, or name another host"
            raise FetchError("%d MiB are needed, %s has %d" % (total >> 20, folder, free >> 20))
        answer = ask(python, dict(request, op="get"), environment, report)
        return {"revision": answer["revision"], "files": _put(spec, folder, target, answer["files"])}
    except FetchError as error:
        if is_full(str(error)):
            remedy = "free space in %s, then run again: what has arrived is kept" % folder
        raise Blocked("weights", "%s: %s" % (spec["source"], error), remedy) from None


def _trusted() -> dict[str, str]:
    bundle = next(filter(os.path.isfile, AUTHORITIES), "")
    return {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle} if bundle else {}


def _free(folder: str) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _put(spec: dict[str, Any], folder: str, target: str, files: list[list[Any]]) -> list[list[Any]]:
    from flagprov.host.transfer import manifest

    locked = {path: digest for path, _, digest in spec.get("files") or ()}
    sums = {}
    for path, size, digest in files:
        place = os.path.join(folder, path)
        if not os.path.isfile(place) or os.path.getsize(place) != size:
            raise FetchError("%s is not whole" % path)
        sums[path] = _digest(place)
        for wanted, whose in ((digest, "the hub's"), (locked.get(path), "the locked one")):
            if wanted and wanted != sums[path]:
                os.unlink(place)
                raise FetchError("%s: its sha256 is not %s; it was removed" % (path, whose))
    origin = {"source": spec["source"], "revision": spec.get("revision")}
    manifest.promise(target, sums, origin, folder)
    for path, _, _ in files:
        os.makedirs(os.path.dirname(os.path.join(target, path)), exist_ok=True)
        os.rename(os.path.join(folder, path), os.path.join(target, path))
    manifest.settle(target, sums, origin)
    shutil.rmtree(folder, ignore_errors=True)
    return [[path, size, sums[path]] for path, size, _ in files]


if __name__ == "__main__":
    script()
