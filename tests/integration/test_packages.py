"""Packages of a bundle, with the real tools: fetched by apt, listed, signed, and taken by apt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import jinja2
import pytest

from flagprov.apply.assets import ansible_root, collections_path
from flagprov.apply.provision import offline
from flagprov.distribute import repository, system_packages, wheels
from flagprov.distribute.needs import Package
from flagprov.errors import FlagprovError, UsageError
from flagprov.host.packages import platform

TEMPLATES = ansible_root() / "roles" / "host_baseline" / "templates" / "packages"
DEBIAN = f"debian-12-{os.uname().machine}"

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no apt here")


def deb(folder: Path, name: str, version: str, depends: str = "") -> Path:
    tree = folder / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr" / "share").mkdir(parents=True)
    (tree / "usr" / "share" / name).write_text(f"{version}\n")
    about = tree / "usr" / "share" / "doc" / name / "copyright"
    about.parent.mkdir(parents=True)
    about.write_text(
        "Format: https://example.org\n\nFiles: *\nCopyright: t\n other\nLicense: MIT or BSD\n text\n"
    )
    fields = [f"Package: {name}", f"Version: {version}", "Architecture: all", "Maintainer: t <t@example.org>"]
    fields += [f"Depends: {depends}"] if depends else []
    (tree / "DEBIAN" / "control").write_text("\n".join([*fields, "Description: a test", ""]))
    file = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, file], check=True, capture_output=True)
    return file


class Host:
    """apt with the settings that the role writes, and a root of its own."""

    def __init__(self, root: Path, brought: bool = True) -> None:
        self.root, self.packages = root, root / "packages"
        for folder in ("packages/lists/partial", "archives/partial"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        loader = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES))
        words = {
            "_host_baseline_packages_folder": str(self.packages),
            "flagprov_packages": {"h1": brought},
            "inventory_hostname": "h1",
        }
        for name in ("apt.conf", "sources.list"):
            (self.packages / name).write_text(loader.get_template(f"{name}.j2").render(words) + "\n")

    def apt(self, *words: str) -> subprocess.CompletedProcess[str]:
        ours = {
            "Dir::State::status": self.root / "status", "Dir::Cache::archives": self.root / "archives",
            "Debug::NoLocking": "true", "APT::Sandbox::User": "root",
        }  # fmt: skip
        options = [word for name, value in ours.items() for word in ("-o", f"{name}={value}")]
        environment = {**os.environ, "APT_CONFIG": str(self.packages / "apt.conf"), "LC_ALL": "C"}
        command = ["apt-get", "--yes", "--quiet", *options, *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    tmp_path.chmod(0o755)
    made = Host(tmp_path / "host")
    files = [
        deb(tmp_path, "flagprov-one", "1:1.0+b~rc-1", "flagprov-two"),
        deb(tmp_path, "flagprov-two", "2.0"),
    ]
    found = repository.build(files, DEBIAN, made.packages / "files")
    assert [(each.path, each.version, each.licence) for each in found] == [
        ("flagprov-one_1.0+b~rc-1_all.deb", "1:1.0+b~rc-1", "MIT or BSD"),
        ("flagprov-two_2.0_all.deb", "2.0", "MIT or BSD"),
    ]
    yield made


def test_apt_takes_a_package_and_what_it_needs_from_the_bundle_alone(host: Host) -> None:
    updated = host.apt("update")
    assert updated.returncode == 0 and "W:" not in updated.stderr, updated
    assert "file:" in updated.stdout and "http" not in updated.stdout
    asked = host.apt("--download-only", "install", "--print-uris", "flagprov-one").stdout
    assert f"'file:{host.packages}/files/./flagprov-one_1.0+b~rc-1_all.deb'" in unquote(asked)
    assert "flagprov-two_2.0_all.deb" in asked
    assert host.apt("--simulate", "install", "flagprov-one").returncode == 0
    assert "Unable to locate package bash" in host.apt("--simulate", "install", "bash").stderr


def test_settings_of_the_host_lead_to_no_other_source(host: Host) -> None:
    parts = host.root / "parts"
    parts.mkdir()
    own = (
        *('APT::Default-Release "bookworm";', 'Dir::Etc::SourceParts "/etc/apt/sources.list.d";'),
        'Dir::Etc::SourceList "/etc/apt/sources.list";',
    )
    (parts / "99own").write_text("\n".join(own) + "\n")
    settings = host.packages / "apt.conf"
    settings.write_text(f'Dir::Etc::Parts "{parts}";\n{settings.read_text()}')
    updated = host.apt("update")
    assert updated.returncode == 0 and "http" not in updated.stdout, updated
    assert host.apt("--simulate", "install", "flagprov-one").returncode == 0


def test_a_list_that_was_changed_is_not_believed(host: Host) -> None:
    packages = host.packages / "files" / "Packages"
    packages.write_text(packages.read_text().replace("2.0", "2.1"))
    assert host.apt("update").returncode != 0
    release = host.packages / "files" / "Release"
    release.write_text(release.read_text().replace("flagprov", "somebody"))
    said = host.apt("update")
    assert said.returncode != 0 and "BADSIG" in said.stdout + said.stderr, said


def test_a_package_that_was_changed_is_not_installed(host: Host) -> None:
    assert host.apt("update").returncode == 0
    file = host.packages / "files" / "flagprov-two_2.0_all.deb"
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    said = host.apt("--download-only", "install", "flagprov-two")
    assert said.returncode != 0 and "Hash Sum mismatch" in said.stdout + said.stderr, said


def test_a_host_without_packages_has_no_source_at_all(tmp_path: Path) -> None:
    host = Host(tmp_path, brought=False)
    updated = host.apt("update")
    assert updated.returncode == 0 and ":" not in updated.stdout, updated
    assert "Unable to locate package" in host.apt("--simulate", "install", "hello").stderr


# A host of its own for a while: no network, its own files over this machine's.
ALONE = """
set -e
mount -t tmpfs tmpfs "$1"
for folder in usr var etc; do
    mkdir -p "$1/$folder/new" "$1/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$1/$folder/new,workdir=$1/$folder/work" "/$folder"
done
mkdir -p /var/lib/flagprov/packages
cp -r "$2" /var/lib/flagprov/packages/files
shift 2
exec "$@"
"""
PLAY = """
- hosts: h1
  gather_facts: false
  environment: "{{ flagprov_outside }}"
  module_defaults: {ansible.builtin.dnf: {conf_file: "{{ flagprov_dnf_config | default('') }}"}}
  tasks:
    - ansible.builtin.import_role: {name: flagprov.flagprov.host_baseline, tasks_from: packages}
    - ansible.builtin.apt: {name: flagprov-one, update_cache: true, cache_valid_time: 60}
    - ansible.builtin.command: cat /usr/share/flagprov-one /usr/share/flagprov-two
      register: there
    - ansible.builtin.apt: {name: hello, update_cache: true}
      register: other
      failed_when: "'No package matching' not in other.msg"
    - ansible.builtin.debug: {msg: "both {{ there.stdout_lines | join(' ') }}"}
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/lib/python3/dist-packages/apt").is_dir(),
    reason="no root, or no apt module",
)
def test_roles_need_no_network(host: Host, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "variables.json").write_text(json.dumps(offline({"h1": True})))
    (tmp_path / "mount").mkdir()
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path()), "ANSIBLE_NOCOLOR": "1"}
    words = ["-i", "h1,", "-c", "local", "-e", "ansible_python_interpreter=/usr/bin/python3"]
    command = [Path(sys.executable).parent / "ansible-playbook", *words, "-e", f"@{tmp_path}/variables.json"]
    alone = ["unshare", "--mount", "--net", "--propagation", "private", "bash", "-c", ALONE, "alone"]
    done = subprocess.run(
        [*alone, tmp_path / "mount", host.packages / "files", *command, tmp_path / "play.yml"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "both 1:1.0+b~rc-1 2.0" in done.stdout, done.stdout
    assert not Path("/usr/share/flagprov-one").exists()


def test_only_packages_of_one_kind_for_that_processor(tmp_path: Path) -> None:
    file = deb(tmp_path, "flagprov-one", "1.0")
    text = (tmp_path / "tree-flagprov-one" / "DEBIAN" / "control").read_text()
    (tmp_path / "tree-flagprov-one" / "DEBIAN" / "control").write_text(text.replace(": all", ": armhf"))
    other = tmp_path / "other.deb"
    tree = tmp_path / "tree-flagprov-one"
    subprocess.run(["dpkg-deb", "--build", tree, other], check=True, capture_output=True)
    with pytest.raises(UsageError, match="is for armhf"):
        repository.build([file, other], DEBIAN, tmp_path / "made")
    with pytest.raises(UsageError, match=r"\.deb and \.rpm, where"):
        repository.build([file, tmp_path / "a.rpm"], DEBIAN, tmp_path / "made")


@pytest.mark.skipif(
    not shutil.which("createrepo_c") or not shutil.which("rpmbuild"), reason="no tools for rpm"
)
def test_a_repository_for_dnf_is_listed_and_signed(tmp_path: Path) -> None:
    spec = tmp_path / "one.spec"
    head = "Name: flagprov-one\nVersion: 1.0\nRelease: 1\nSummary: a test\nLicense: MIT\nBuildArch: noarch\n"
    spec.write_text(f"{head}%description\na test\n%files\n")
    subprocess.run(
        ["rpmbuild", "-bb", "--define", f"_topdir {tmp_path}/top", spec], check=True, capture_output=True
    )
    target = tmp_path / "made"
    files = system_packages.given(tmp_path / "top")
    (found,) = repository.build(files, "openeuler-22.03-x86_64", target)
    assert (found.name, found.version, found.licence) == ("flagprov-one", "1.0-1", "MIT")
    keyring = tmp_path / "key.gpg"
    key = (target / "key.asc").read_bytes()
    subprocess.run(["gpg", "--dearmor", "--output", keyring], input=key, check=True, capture_output=True)
    listed = target / "repodata" / "repomd.xml"
    verify = ["gpgv", "--keyring", keyring, f"{listed}.asc", listed]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    listed.write_text(listed.read_text() + " ")
    assert subprocess.run(verify, capture_output=True, check=False).returncode != 0


def test_apt_fetches_a_package_with_all_that_it_depends_on(tmp_path: Path) -> None:
    packages = [Package(("no-such-package", "numactl"))]
    files = system_packages.fetch(platform(), packages, tmp_path / "first", lambda text: None)
    names = {file.name.partition("_")[0] for file in files}
    assert {"numactl", "libnuma1", "libc6"} <= names and all(file.is_file() for file in files)
    again = system_packages.fetch(platform(), packages, tmp_path / "first", lambda text: None)
    assert again == files  # what is there already is named all the same
    with pytest.raises(FlagprovError, match="offers no no-such-package"):
        system_packages.fetch(
            platform(), [Package(("no-such-package",))], tmp_path / "first", lambda text: None
        )


def test_another_platform_is_told_how_to_do_it() -> None:
    with pytest.raises(UsageError) as caught:
        system_packages.fetch("ubuntu-18.04-x86_64", [Package(("docker.io",))], Path("/nowhere"), print)
    assert "apt-get install --download-only" in caught.value.remedy and "--packages" in caught.value.remedy


def test_the_controller_can_be_set_up_from_wheels_alone(tmp_path: Path) -> None:
    found = wheels.fetch(tmp_path / "wheels")
    assert {"flagprov", "ansible-core", "cryptography"} <= {each.name for each in found}
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path / "wheels")]
    done = subprocess.run(
        [*pip, "--target", tmp_path / "there", "flagprov"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "flagprov" / "cli" / "main.py").is_file()
    assert (tmp_path / "there" / "ansible_collections" / "flagprov" / "flagprov" / "roles").is_dir()
