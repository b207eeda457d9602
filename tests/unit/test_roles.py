"""The roles keep to their one shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.apply.assets import ansible_root
from flagprov.chips import load_chips
from flagprov.choosing import DEFAULT_PORT
from flagprov.cluster import SSH, meeting_port, ray_ports, rendezvous_port

ROOT = ansible_root()
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
PHASES = ("install", "configure", "run")
PREFIXES = ("", "_", "__")
DESIRED = "flagprov.flagprov.release_desired"
MODULES = ("ansible.builtin.", "flagprov.flagprov.")


def read(role: str, path: str) -> Any:
    file = ROOT / "roles" / role / path
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}


def thin(role: str) -> bool:
    """Roles of a release only hand over what flagprov's own code has decided."""
    dependencies = [each["role"] for each in read(role, "meta/main.yml")["dependencies"]]
    return role == "release_desired" or DESIRED in dependencies


THIN = [role for role in ROLES if thin(role)]


def tasks_of(role: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """All tasks of a role, those in blocks too."""
    for file in sorted((ROOT / "roles" / role).glob("[th]a*/*.yml")):
        waiting = list(yaml.safe_load(file.read_text(encoding="utf-8")))
        while waiting:
            task = waiting.pop(0)
            yield file, task
            for part in ("block", "rescue", "always"):
                waiting += task.get(part, [])


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_specified_and_nothing_else(role: str) -> None:
    options = read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read(role, "defaults/main.yml")
    assert options.keys() == defaults.keys()
    for name, option in options.items():
        assert option["description"], name
        if "default" in option:
            assert option["default"] == defaults[name], name


@pytest.mark.parametrize("role", ROLES)
def test_names_say_whose_a_variable_is(role: str) -> None:
    assert all(name.startswith(f"{role}_") for name in read(role, "defaults/main.yml"))
    assert all(name.startswith(f"_{role}_") for name in read(role, "vars/main.yml"))
    registered = [task["register"] for _, task in tasks_of(role) if "register" in task]
    assert all(name.startswith(f"__{role}_") for name in registered)


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_used(role: str) -> None:
    names = [*read(role, "defaults/main.yml"), *read(role, "vars/main.yml")]
    files = [path for path in (ROOT / "roles" / role).rglob("*") if path.suffix in (".yml", ".j2")]
    texts = [path.read_text(encoding="utf-8") for path in files if "meta" not in path.parts]
    for name in names:
        used = sum(len(re.findall(rf"(?<!\w){name}(?!\w)", text)) for text in texts)
        assert used > 1, f"{name} is set and never read"


@pytest.mark.parametrize("role", [role for role in ROLES if role not in THIN])
def test_phases_and_tags(role: str) -> None:
    main = read(role, "tasks/main.yml")
    files = [task["ansible.builtin.import_tasks"] for task in main]
    assert files == ["preflight.yml", "install.yml", "configure.yml", "run.yml"]
    assert main[0]["tags"] == [f"{role}_{phase}" for phase in PHASES]
    assert [task["tags"] for task in main[1:]] == [[f"{role}_{phase}"] for phase in PHASES]


@pytest.mark.parametrize("role", THIN)
def test_thin_roles_have_one_phase(role: str) -> None:
    tags = ["always"] if role == "release_desired" else [f"{role}_run"]
    assert all(task["tags"] == tags for task in read(role, "tasks/main.yml"))


@pytest.mark.parametrize("role", ROLES)
def test_only_modules_of_ansible_itself_and_in_thin_roles_ours(role: str) -> None:
    allowed = MODULES if role in THIN else MODULES[:1]
    for file, task in tasks_of(role):
        if "block" in task:
            continue
        modules = [key for key in task if "." in key]
        assert len(modules) == 1 and modules[0].startswith(allowed), f"{file}: {task['name']}"


@pytest.mark.parametrize("role", ROLES)
def test_commands_are_honest_about_change(role: str) -> None:
    for file, task in tasks_of(role):
        if {"ansible.builtin.command", "ansible.builtin.shell", "ansible.builtin.raw"} & task.keys():
            assert "changed_when" in task, f"{file}: {task['name']}"


@pytest.mark.parametrize("role", ROLES)
def test_every_refusal_says_the_way_out(role: str) -> None:
    refusals = [task["ansible.builtin.fail"] for _, task in tasks_of(role) if "ansible.builtin.fail" in task]
    for refusal in refusals:
        assert "remedy" in refusal["msg"], refusal["msg"]
        assert "inventory_hostname" in refusal["msg"], refusal["msg"]


def test_every_role_that_a_chip_names_is_there() -> None:
    for chip in load_chips().values():
        assert set(chip.roles) <= set(ROLES), chip.name


def test_playbooks_are_short_and_of_roles_only() -> None:
    for file in (ROOT / "playbooks").glob("*.yml"):
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 30, file
        for play in yaml.safe_load(text):
            tasks = [task for part in ("pre_tasks", "tasks", "post_tasks") for task in play.get(part, [])]
            assert all(
                {"ansible.builtin.import_role", "ansible.builtin.include_role"} & set(t) for t in tasks
            )


def test_handlers_of_different_roles_have_different_names() -> None:
    """Their names are one space in a play, where the last role's would be run for all."""
    names = [task["name"] for role in ROLES for task in read(role, "handlers/main.yml") or []]
    assert sorted(set(names)) == sorted(names)


def test_the_firewall_closes_every_port_of_a_replica_over_several_hosts() -> None:
    named = ray_ports(DEFAULT_PORT)
    workers = range(named.pop("min-worker-port"), named.pop("max-worker-port") + 1)
    base = rendezvous_port(DEFAULT_PORT)
    closed: set[int] = set()
    for entry in read("firewall", "defaults/main.yml")["firewall_peer_ports"]:
        first, _, last = str(entry).partition("-")
        closed |= set(range(int(first), int(last or first) + 1))
    assert closed == {base, meeting_port(DEFAULT_PORT), base + SSH, *named.values(), *workers}
    options = read("firewall", "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert (
        options["firewall_peer_ports"]["default"]
        == read("firewall", "defaults/main.yml")["firewall_peer_ports"]
    )


def expressions(text: str) -> list[str]:
    """What Jinja evaluates of a text."""
    return re.findall(r"\{[{%](.*?)[%}]\}", text, re.DOTALL)


def evaluated(value: Any, bare: bool = False) -> Iterator[str]:
    """All that Jinja evaluates in tasks or variables; conditions are expressions without braces."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from evaluated(each, key in ("when", "changed_when", "failed_when", "until", "that"))
    elif isinstance(value, list):
        for each in value:
            yield from evaluated(each, bare)
    elif isinstance(value, str):
        yield from [value] if bare else expressions(value)


@pytest.mark.parametrize("role", ROLES)
def test_booleans_may_come_from_an_ini_inventory_where_they_are_strings(role: str) -> None:
    specs = read(role, "meta/argument_specs.yml")["argument_specs"]
    options = {name: each for spec in specs.values() for name, each in spec.get("options", {}).items()}
    booleans = [name for name, option in options.items() if option["type"] == "bool"]
    used = list(evaluated(read(role, "vars/main.yml")))
    used += [text for _, task in tasks_of(role) for text in evaluated(task)]
    for template in sorted((ROOT / "roles" / role / "templates").glob("*.j2")):
        used += expressions(template.read_text(encoding="utf-8"))
    for name in booleans:
        for text in used:
            assert not re.search(rf"(?<![\w']){name}(?!\w|'|\s*\|\s*bool)", text), text
