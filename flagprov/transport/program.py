"""The host program as it is sent: flagprov/host in one reproducible archive, named by its content."""

from __future__ import annotations

import base64
import hashlib
import io
import shlex
import tarfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROGRAMS = "/var/lib/flagprov/programs"
_PACKAGE = Path(__file__).parent.parent

# First thing that runs on the host; has to be understood by any Python, to say that it is too old.
_START = """\
import os, sys
here = os.path.dirname(os.path.abspath(__file__))
if sys.version_info < (3, 8):
    for name in ["python3.%d" % minor for minor in range(14, 7, -1)]:
        for folder in ["/usr/bin", "/usr/local/bin"]:
            if os.access(folder + "/" + name, os.X_OK):
                os.execv(folder + "/" + name, [name, "-I", "-S", os.path.join(here, "start.py")])
    sys.stdout.write('{"stub": "python", "version": "%d.%d"}\\n' % tuple(sys.version_info[:2]))
    sys.exit(0)
sys.stdout.write('{"stub": "ready"}\\n')
sys.stdout.flush()
sys.path.insert(0, here)
from flagprov.host.main import main
main()
"""

# Reads the archive from standard input, leaves it complete or not at all, and becomes the program.
_INSTALL = """\
import io, os, shutil, sys, tarfile, tempfile, zlib
base, name, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
keep, data = os.path.join(base, name), b""
while len(data) < size:
    part = os.read(0, size - len(data))
    if not part:
        sys.exit(1)
    data += part
def used():
    for pid in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as line:
                yield line.read()
        except (OSError, ValueError):
            pass
try:
    os.makedirs(base, 0o755, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=".", dir=base)
    try:
        archive = tarfile.open(fileobj=io.BytesIO(zlib.decompress(data)))
        for member in archive:
            path = os.path.join(temporary, member.name)
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            with open(path, "wb") as target:
                target.write(archive.extractfile(member).read())
                os.fchmod(target.fileno(), 0o644)
                target.flush()
                os.fsync(target.fileno())
        os.chmod(temporary, 0o755)
        try:
            os.rename(temporary, keep)
        except OSError:  # somebody else was quicker, and may run it already
            if not os.path.exists(os.path.join(keep, "start.py")):
                shutil.rmtree(keep, ignore_errors=True)
                os.rename(temporary, keep)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    others = [x for x in os.listdir(base) if x != name and not x.startswith(".")]
    others.sort(key=lambda x: os.stat(os.path.join(base, x)).st_mtime)
    if len(others) > 2:
        lines = list(used())
        for old in others[:-2]:
            if not any(old.encode() in line for line in lines):
                shutil.rmtree(os.path.join(base, old), ignore_errors=True)
except (OSError, zlib.error, tarfile.TarError) as error:
    import json
    sys.stdout.write(json.dumps({"stub": "install", "error": str(error)}) + "\\n")
    sys.exit(0)
os.execv(sys.executable, [sys.executable, "-I", "-S", os.path.join(keep, "start.py")])
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What is sent to hosts: files by name, and the hash that names them."""

    name: str
    files: tuple[tuple[str, bytes], ...]
    base: str = PROGRAMS

    @property
    def directory(self) -> str:
        return f"{self.base}/{self.name}"

    def archive(self) -> bytes:
        """The same bytes for the same files, wherever and whenever it is made."""
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in self.files:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return zlib.compress(target.getvalue(), 6)

    def run_command(self, python: str | None) -> str:
        """A shell script that becomes the program, or says what is missing."""
        return (
            f"d={shlex.quote(self.directory)}; {_find_python(python)}"
            '[ -f "$d/start.py" ] || { echo "{\\"stub\\": \\"missing\\"}"; exit 0; }; '
            'exec "$p" -I -S "$d/start.py"'
        )

    def install_command(self, python: str | None, size: int) -> str:
        """The same, but takes the archive from standard input first."""
        code = base64.b64encode(_INSTALL.encode()).decode()
        start = "import base64,sys;c=sys.argv.pop(1);exec(base64.b64decode(c))"
        return (
            f"{_find_python(python)}"
            f'exec "$p" -I -S -c "{start}" {code} {shlex.quote(self.base)} {self.name} {size}'
        )


def _find_python(python: str | None) -> str:
    places = [shlex.quote(python)] if python else []
    places += ["python3", "/usr/bin/python3", "/usr/libexec/platform-python"]
    return (
        f"for p in {' '.join(places)}; do "
        'command -v "$p" >/dev/null 2>&1 && break; p=; done; '
        '[ -n "$p" ] || { echo "{\\"stub\\": \\"python\\"}"; exit 0; }; '
    )


def of_files(files: dict[str, bytes], base: str = PROGRAMS) -> Program:
    """A Program of these files, which are to hold flagprov/host/main.py."""
    named = dict(files) | {"start.py": _START.encode(), "flagprov/__init__.py": b""}
    digest = hashlib.sha256()
    for name, content in sorted(named.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return Program(digest.hexdigest()[:32], tuple(sorted(named.items())), base)


@cache
def host_program() -> Program:
    """The program of this flagprov."""
    folder = _PACKAGE / "host"
    files = {
        f"flagprov/host/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*.py")
        if "__pycache__" not in path.parts
    }
    return of_files(files)
