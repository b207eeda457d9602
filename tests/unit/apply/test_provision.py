"""Provisioning without Ansible: what it is given, and what becomes of what it says."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flagprov.apply import provision as module
from flagprov.apply.assets import ansible_root
from flagprov.apply.provision import fingerprint, provision
from flagprov.models.event import Event
from flagprov.models.fleet import Connection, Fleet, Host

CONNECTION = Connection("192.0.2.1", known_hosts=("/site/.flagprov/known hosts", "/root/.ssh/known_hosts"))
HOST = Host("one", CONNECTION, "cpu-x86", variables={"container_engine_no_proxy": "localhost", "other": 1})


class Ansible:
    """Stands in for the module ansible_runner: says what it is told to, and keeps what it was given."""

    def __init__(self, say: Callable[[dict[str, Any]], int] = lambda given: 0) -> None:
        self.say = say
        self.given: dict[str, Any] = {}

    def run(self, **given: Any) -> SimpleNamespace:
        self.given = given
        artifacts = Path(given["private_data_dir"]) / "artifacts" / given["ident"]
        artifacts.mkdir(parents=True)
        (artifacts / "command").write_text(json.dumps({"command": ["x"], "env": {"TOKEN": "secret"}}))
        given["status_handler"]({"status": "running"}, runner_config=None)
        return SimpleNamespace(rc=self.say(given), status="")


def done(*hosts: str) -> Callable[[dict[str, Any]], int]:
    def say(given: dict[str, Any]) -> int:
        processed = dict.fromkeys(hosts, 1)
        given["event_handler"]({"event": "playbook_on_stats", "event_data": {"processed": processed}})
        return 0

    return say


@pytest.fixture
def ansible(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, Any]], int]], Ansible]:
    def install(say: Callable[[dict[str, Any]], int]) -> Ansible:
        stand_in = Ansible(say)
        monkeypatch.setitem(sys.modules, "ansible_runner", stand_in)
        return stand_in

    return install


def test_fingerprint_follows_role_variables_only() -> None:
    assert fingerprint(HOST) == fingerprint(replace(HOST, name="two", connection=Connection("192.0.2.2")))
    assert fingerprint(HOST) == fingerprint(replace(HOST, variables={**HOST.variables, "other": 2}))
    assert fingerprint(HOST) != fingerprint(
        replace(HOST, variables={"container_engine_no_proxy": "localhost,.example"})
    )


def test_fingerprint_follows_how_containers_get_at_npus() -> None:
    host = replace(HOST, chip="ascend-a2")
    kinds = ({}, {"flagprov_ascend_access": "runtime"}, {"flagprov_cann": "host"})
    assert len({fingerprint(replace(host, variables=variables)) for variables in kinds}) == 3


def test_registries_count_where_docker_has_a_proxy_and_not_else() -> None:
    def seen(**variables: Any) -> set[str]:
        return {
            fingerprint(replace(HOST, variables=variables, registries=registries))
            for registries in ({}, {"docker.io": "10.0.0.1:5000"})
        }

    assert len(seen()) == 1
    assert len(seen(flagprov_https_proxy="http://proxy.example:3128")) == 2


def test_fingerprint_follows_the_files_that_variables_name(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    host = replace(HOST, variables={"container_engine_registry_cas": {"registry:5000": str(authority)}})
    absent = fingerprint(host)
    authority.write_text("one")
    first = fingerprint(host)
    authority.write_text("two")
    assert len({absent, first, fingerprint(host)}) == 3


def test_what_ansible_is_given(ansible: Any, tmp_path: Path) -> None:
    runner = ansible(done("one"))
    fleet = Fleet(tmp_path / "hosts.ini", (HOST,))
    outcomes = provision(fleet, [HOST], lambda event: None, directory=tmp_path, allow_disruption=True)
    assert outcomes["one"].state == "unchanged"
    given = runner.given
    assert given["inventory"] == str(tmp_path / "hosts.ini")
    assert Path(given["limit"].removeprefix("@")).read_text() == "one\n"
    assert given["extravars"] == {
        "flagprov_fingerprints": {"one": fingerprint(HOST)},
        "flagprov_allow_disruption": True,
        "flagprov_allow_reboot": False,
        "flagprov_batch": "100%",
    }
    settings = given["envvars"]
    assert settings["ANSIBLE_FORKS"] == "1"
    assert settings["ANSIBLE_PIPELINING"] == "true"
    assert "StrictHostKeyChecking=yes" in settings["ANSIBLE_SSH_ARGS"]
    assert '"/site/.flagprov/known hosts" "/root/.ssh/known_hosts"' in settings["ANSIBLE_SSH_ARGS"]


def test_run_directory_is_private_and_keeps_no_environment(ansible: Any, tmp_path: Path) -> None:
    ansible(done("one"))
    provision(Fleet(tmp_path / "hosts.ini", (HOST,)), [HOST], lambda event: None, directory=tmp_path)
    assert stat.S_IMODE((tmp_path / "ansible").stat().st_mode) == 0o700
    kept = json.loads((tmp_path / "ansible/artifacts/provision/command").read_text())
    assert kept == {"command": ["x"]}


def test_the_users_ssh_arguments_follow_ours(
    ansible: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ansible.cfg").write_text("[ssh_connection]\nssh_args = -o Compression=yes\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANSIBLE_CONFIG", raising=False)
    monkeypatch.delenv("ANSIBLE_SSH_ARGS", raising=False)
    runner = ansible(done("one"))
    provision(Fleet(tmp_path / "hosts.ini", (HOST,)), [HOST], lambda event: None, directory=tmp_path)
    assert runner.given["envvars"]["ANSIBLE_SSH_ARGS"].endswith(" -o Compression=yes")
    assert runner.given["project_dir"] == str(tmp_path)


def test_an_error_of_ansible_itself_is_every_hosts_outcome(ansible: Any, tmp_path: Path) -> None:
    def say(given: dict[str, Any]) -> int:
        stdout = Path(given["private_data_dir"]) / "artifacts" / given["ident"] / "stdout"
        stdout.write_text("[WARNING]: something\n[ERROR]: the role 'x' was not found\nOrigin: file\n")
        return 4

    ansible(say)
    events: list[Event] = []
    outcome = provision(Fleet(tmp_path / "hosts.ini", (HOST,)), [HOST], events.append, directory=tmp_path)[
        "one"
    ]
    assert (outcome.state, outcome.message) == ("failed", "the role 'x' was not found")
    assert "artifacts/provision/stdout" in outcome.remedy
    assert [event.kind for event in events] == ["started", "failed"]


def test_an_interrupt_stops_ansible(ansible: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    class Executor(module.ThreadPoolExecutor):
        def submit(self, run: Any, /, *args: Any, **kwargs: Any) -> Any:
            seen.append(run.keywords["cancel_callback"]())
            stop = run.keywords["cancel_callback"]
            real = super().submit(lambda: seen.append(_until(stop)))
            monkeypatch.setattr(real, "result", _interrupt)
            return real

    def _until(stop: Callable[[], bool]) -> bool:
        while not stop():
            pass
        return True

    def _interrupt() -> None:
        raise KeyboardInterrupt

    ansible(done("one"))
    monkeypatch.setattr(module, "ThreadPoolExecutor", Executor)
    with pytest.raises(KeyboardInterrupt):
        provision(Fleet(tmp_path / "hosts.ini", (HOST,)), [HOST], lambda event: None, directory=tmp_path)
    assert seen == [False, True]


def test_from_a_bundle_roles_see_no_other_source(ansible: Any, tmp_path: Path) -> None:
    runner = ansible(done("one"))
    fleet = Fleet(tmp_path / "hosts.ini", (HOST,))
    provision(fleet, [HOST], lambda event: None, directory=tmp_path, packages={"one": True})
    given = runner.given["extravars"]
    assert given["flagprov_packages"] == {"one": True}
    assert given["nvidia_driver_repository"] == given["nvidia_container_toolkit_repository"] == "host"
    assert given["container_engine_repository"].startswith("/")  # a directory
    assert given["flagprov_outside"]["APT_CONFIG"] == "/var/lib/flagprov/packages/apt.conf"
    provision(fleet, [HOST], lambda event: None, directory=tmp_path)
    assert "flagprov_packages" not in runner.given["extravars"]


@pytest.mark.parametrize("playbook", ["provision.yml", "gateway.yml"])
def test_playbooks_keep_package_managers_to_the_bundle(playbook: str) -> None:
    """What the settings say is checked with real tools elsewhere; here, that no play leaves them out."""
    for play in yaml.safe_load((ansible_root() / "playbooks" / playbook).read_text(encoding="utf-8")):
        assert "flagprov_outside" in play["environment"]
        assert "flagprov_dnf_config" in play["module_defaults"]["ansible.builtin.dnf"]["conf_file"]


def test_nothing_else_of_the_roles_asks_an_address() -> None:
    """Each of these has no say, or is refused, in a deploy from a bundle."""
    known = (
        "_container_engine_key", "_nvidia_container_toolkit_key", "_nvidia_driver_key",  # of repositories
        "ascend_driver_source", "ascend_container_runtime_source",
    )  # fmt: skip
    for path in (ansible_root() / "roles").glob("*/tasks/*.yml"):
        for number, text in enumerate(lines := path.read_text(encoding="utf-8").splitlines()):
            if "ansible.builtin.get_url:" in text or "ansible.builtin.uri:" in text:
                assert any(name in lines[number + 1] for name in known), f"{path}: {lines[number + 1]}"
    for script in (ansible_root() / "roles").glob("*/files/*.sh"):
        text = script.read_text(encoding="utf-8")
        assert "curl" not in text and "wget" not in text
        for line in text.splitlines():
            assert "dnf -q" not in line or "${FLAGPROV_DNF:-}" in line, f"{script}: {line}"
