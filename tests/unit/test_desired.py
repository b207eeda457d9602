"""The container that each release of the catalog gets on its chip, against tests/cases/containers.

A golden file changes only together with a release or a deliberate difference: look at the diff, then
`FLAGPROV_UPDATE_CASES=1 pytest tests/unit/test_desired.py` writes it anew.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.apply.assets import ansible_root
from flagprov.catalog import list_releases, load_release
from flagprov.chips import load_chips
from flagprov.container import create_body, optional_sources, size_bytes
from flagprov.desired import absent, emptied, host_desired, unneeded
from flagprov.errors import ReleaseError
from flagprov.least import least
from flagprov.models.desired import Node, Replica, Stage
from flagprov.models.fleet import Connection, Host
from flagprov.models.image import ImageFacts
from flagprov.models.observed import Running, Survey
from flagprov.runner_keys import make_runner_keys
from flagprov.serving import STATE, Serving, launch_inputs, site_reference

CASES = Path(__file__).parents[1] / "cases" / "containers"
PAIRS = [(release.name, chip) for release in list_releases() for chip in release.variants]


def serving(release_name: str, chip: str, host: Host | None = None, facts: bool = True) -> Serving:
    release = load_release(release_name)
    variant = release.variants[chip]
    survey = Survey(
        host="h1",
        arch="x86_64",
        os="Debian",
        kernel="6",
        cpus=8,
        memory_mib=1 << 20,
        docker_version="20.10.24",
        provisioned=None,
        devices={},
        running=(),
        facts={"numa": [{"cpus": "0-95", "memory_mib": 1 << 19}] * 2},
    )
    known = (
        ImageFacts(
            digest="sha256:" + "0" * 64,
            arch="amd64",
            python="3.12.3",
            flagscale="0.8.0",
            vllm="0.9.0",
            flaggems={"graviton4": "5.3.0", "cpu-x86": None}.get(chip, "2.2"),
        )
        if facts
        else None
    )
    replica = Replica(f"{release.name}-0", release.name, chip, ("h1",), tuple(range(variant.devices)), 9010)
    host = host or Host("h1", Connection("192.0.2.1"), chip=chip)
    return Serving(release, variant, load_chips()[chip], replica, host, survey, known, "probe")


def with_user(user: str, of_image: int = 0) -> Serving:
    each = serving("qwen3-tiny-standin", "cpu-x86")
    assert each.facts is not None
    container = each.variant.container.model_copy(update={"user": user})
    facts = replace(each.facts, user=of_image, users={"root": 0, "vllm": 2000})
    return replace(each, variant=each.variant.model_copy(update={"container": container}), facts=facts)


@pytest.mark.parametrize(
    ("user", "of_image", "number"),
    [
        ("", 0, 0),
        ("", 1000, 1000),
        ("root", 1000, 0),
        ("0:0", 1000, 0),
        ("1000", 0, 1000),
        ("1000:100", 0, 1000),
        ("vllm", 0, 2000),
        ("vllm:users", 0, 2000),
    ],
)
def test_a_containers_user_gets_what_it_writes_and_reads_and_nobody_else(
    user: str, of_image: int, number: int
) -> None:
    """Keys go into the environment, and every user of a host could read them."""
    each = with_user(user, of_image)
    found = {resource.name: resource.spec for resource in host_desired("h1", [each]).resources}
    (tree,) = [spec for spec in found.values() if "files" in spec]
    assert (tree["private"], tree["owner"]) == (["launch.json", "start.sh"], number)
    assert set(tree["private"]) <= tree["files"].keys()
    assert json.loads(tree["files"]["launch.json"]).get("user", 0) == number
    (cache,) = [spec for name, spec in found.items() if "/caches/" in name]
    assert (cache["mode"], cache["owner"]) == ("0755", number)
    assert cache["path"].endswith(f"-{number}") == bool(number)


def test_what_was_set_is_for_root_alone() -> None:
    """A value of `--set` may be a key."""
    each = replace(serving("qwen3-tiny-standin", "cpu-x86"), sets=("env.VLLM_API_KEY=secret",))
    specs = [resource.spec for resource in host_desired("h1", [each]).resources]
    assert [spec["mode"] for spec in specs if "secret" in str(spec.get("content"))] == ["0600"]


def test_a_user_that_the_image_lacks_is_refused_before_anything_starts() -> None:
    with pytest.raises(ReleaseError, match=r"container\.user 'vlm' is no user of image"):
        host_desired("h1", [with_user("vlm")])


@pytest.mark.parametrize(("release", "chip"), PAIRS, ids=[f"{r}-{c}" for r, c in PAIRS])
def test_the_container_of_a_card(release: str, chip: str) -> None:
    body = create_body(serving(release, chip))
    check_case(body, f"{release}-{chip}")


def test_docker_waits_longer_than_the_launcher_needs_at_most() -> None:
    """Its grace for the requests, then three times five seconds for what is left of the engine."""
    each = serving("qwen3-tiny-standin", "cpu-x86")
    assert create_body(each)["StopTimeout"] >= launch_inputs(each).stop_grace_s + 20


def check_case(body: dict[str, Any], name: str) -> None:
    path = CASES / f"{name}.json"
    text = json.dumps(body, indent=1, sort_keys=True) + "\n"
    if os.environ.get("FLAGPROV_UPDATE_CASES"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def with_least(base: Serving) -> Serving:
    return replace(base, variant=least(base.variant, base.release.weights.path, base.chip))


@pytest.mark.parametrize(("release", "chip"), PAIRS, ids=[f"{r}-{c}" for r, c in PAIRS])
def test_the_container_with_no_more_than_it_needs(release: str, chip: str) -> None:
    base = with_least(serving(release, chip))
    body = create_body(base)
    check_case(body, f"{release}-{chip}-least")
    host = body["HostConfig"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges" in host["SecurityOpt"]
    own = [mount["Target"] for mount in host["Mounts"] if not mount["ReadOnly"]]
    assert own == ["/run/flagprov", "/var/lib/flagprov/cache"]
    assert any(base.release.weights.path.startswith(mount["Target"]) for mount in host["Mounts"])


def test_a_replica_that_is_not_privileged_gets_its_own_devices_and_counts_them_anew() -> None:
    base = with_least(serving("robobrain2-7b-fp8", "nvidia-h100"))
    base = replace(base, replica=replace(base.replica, devices=(4, 5, 6, 7)))
    body = create_body(base)
    nodes = [device["PathOnHost"] for device in body["HostConfig"]["Devices"]]
    assert nodes[:4] == ["/dev/nvidia4", "/dev/nvidia5", "/dev/nvidia6", "/dev/nvidia7"]
    assert "/dev/nvidiactl" in nodes
    assert body["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["4", "5", "6", "7"]
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3" in body["Env"]


def test_several_hosts_need_their_fast_network() -> None:
    base = serving("qwq-32b", "nvidia-h100")
    base = with_least(replace(base, variant=base.variant.model_copy(update={"nodes": 2})))
    host = create_body(base)["HostConfig"]
    assert "IPC_LOCK" in host["CapAdd"]
    assert {"Name": "memlock", "Soft": -1, "Hard": -1} in host["Ulimits"]
    assert "/dev/infiniband" in [device["PathOnHost"] for device in host["Devices"]]
    assert "/dev/infiniband" in optional_sources(base)  # not every site has it


@pytest.mark.parametrize(("release", "chip"), PAIRS, ids=[f"{r}-{c}" for r, c in PAIRS])
def test_what_every_container_has_and_lacks(release: str, chip: str) -> None:
    body = create_body(serving(release, chip))
    assert body["HostConfig"]["Init"] is True
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert "AutoRemove" not in body["HostConfig"]
    assert body["HostConfig"].get("ShmSize", 0) <= (1 << 40) // 2
    targets = [mount["Target"] for mount in body["HostConfig"]["Mounts"]]
    assert len(set(targets)) == len(targets)
    if chip == "graviton4":
        assert "DeviceRequests" not in body["HostConfig"]


def test_stages_are_in_order_and_later_ones_wait_for_the_image_facts() -> None:
    whole = host_desired("h1", [serving("qwen3-tiny", "cpu-x86")])
    stages = [resource.stage for resource in whole.resources]
    assert stages == sorted(stages)
    assert stages[-1] is Stage.VERIFY
    first = host_desired("h1", [serving("qwen3-tiny", "cpu-x86", facts=False)])
    assert {resource.kind for resource in first.resources} == {"image", "image_facts", "weights", "claim"}
    assert "qwen3-tiny" not in first.pending
    assert first.pending.startswith("configuration and container follow")


def test_the_same_input_gives_the_same_bytes() -> None:
    one, two = (host_desired("h1", [serving("qwen3-tiny", "cpu-x86")]) for _ in range(2))
    assert [r.wire() for r in one.resources] == [r.wire() for r in two.resources]


def changed_by(**changes: Any) -> set[str]:
    """Kinds of resources, files by name, that are others with another variant."""
    base = serving("qwen3-tiny-standin", "cpu-x86")
    other = replace(base, variant=base.variant.model_copy(update=changes))
    found = []
    for each in (base, other):
        resources = host_desired("h1", [each]).resources
        found.append({(r.kind, r.name): r.spec for r in resources})
    names = {key for key in found[0].keys() | found[1].keys() if found[0].get(key) != found[1].get(key)}
    return {kind if kind != "file" else name.rsplit("/", 1)[-1] for kind, name in names}


def test_another_value_of_the_engine_is_another_configuration_in_the_same_container() -> None:
    serve = serving("qwen3-tiny-standin", "cpu-x86").variant.serve
    assert changed_by(serve={**serve, "max_num_seqs": 7}) == {"tree", "current", "record.json"}


def test_another_environment_is_another_container() -> None:
    """Docker gives it to all that is started in there, also by hand."""
    env = serving("qwen3-tiny-standin", "cpu-x86").variant.env
    assert changed_by(env={**env, "WORD": "new"}) == {"tree", "current", "record.json", "container"}


def test_a_launcher_is_called_by_the_link_that_leads_to_its_configuration() -> None:
    each = serving("qwen3-tiny-standin", "cpu-x86")
    for slot in ("", ".b"):
        here = replace(each, replica=replace(each.replica, slot=slot))
        found = {resource.kind: resource for resource in host_desired("h1", [here]).resources}
        configs = f"/var/lib/flagprov/replicas/qwen3-tiny-standin-0{slot}/configs"
        link, config = found["current"].spec, found["tree"].name
        assert (link["path"], link["config"]) == (f"{configs}/current", config)
        assert config.startswith(f"{configs}/")
        body = found["container"].spec["create"]
        assert body["Entrypoint"] == ["python3", f"{configs}/current/launcher.py"]
        # All of them, read-only: a link that is mounted would lead for ever where it led at the start.
        assert [m["ReadOnly"] for m in body["HostConfig"]["Mounts"] if m["Target"] == configs] == [True]
        assert found["unit"].spec["after"] == [found["container"].name]
        assert link["path"] in found["probe"].spec["after"]
        assert (link["container"], link["unit"]) == (found["container"].name, found["unit"].name)


def test_another_configuration_runs_only_once_all_of_it_is_there() -> None:
    resources = host_desired("h1", [serving("qwen3-tiny-standin", "cpu-x86")]).resources
    kinds = [resource.kind for resource in resources]
    order = [kinds.index(kind) for kind in ("tree", "container", "current", "unit", "probe")]
    assert order == sorted(order)


def environment_of(host: Serving) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in create_body(host)["Env"])


def test_what_is_set_by_hand_wins_over_what_follows_from_the_host() -> None:
    base = serving("qwen2-7b", "graviton4")
    assert environment_of(base)["VLLM_CPU_OMP_THREADS_BIND"] == "0-94"
    own = {"VLLM_CPU_KVCACHE_SPACE": "40", "OMP_NUM_THREADS": "64"}
    variant = base.variant.model_copy(update={"env": {**base.variant.env, **own}})
    found = environment_of(replace(base, variant=variant))
    assert found["VLLM_CPU_KVCACHE_SPACE"] == "40"
    assert found["OMP_NUM_THREADS"] == "64"
    assert "VLLM_CPU_OMP_THREADS_BIND" not in found  # it would hold 95 threads


def test_flaggems_is_switched_on_only_where_the_image_has_it() -> None:
    base = serving("qwen2-7b", "graviton4")
    assert environment_of(base)["USE_FLAGGEMS"] == "1"
    assert base.facts
    without = replace(base, facts=replace(base.facts, flaggems=None))
    assert "USE_FLAGGEMS" not in environment_of(without)


def test_a_site_maps_weights_and_registries() -> None:
    host = Host(
        "h1",
        Connection("192.0.2.1"),
        chip="nvidia-h100",
        weights_root="/mnt/models",
        registries={"flagrelease-registry.cn-beijing.cr.aliyuncs.com": "mirror.example:5000"},
    )
    resources = host_desired("h1", [serving("qwq-32b", "nvidia-h100", host)]).resources
    by_kind = {resource.kind: resource for resource in resources}
    assert by_kind["weights"].name == "/mnt/models/QwQ-32B"
    assert by_kind["image"].name.startswith("mirror.example:5000/flagrelease/flagrelease:")
    mounts = by_kind["container"].spec["create"]["HostConfig"]["Mounts"]
    assert {"Type": "bind", "Source": "/mnt/models", "Target": "/nfs", "ReadOnly": False} in mounts


@pytest.mark.parametrize(
    ("reference", "mapped"),
    [
        ("a.example/x:1", "m:5000/x:1"),
        ("a.example/team/x:1", "n:5000/x:1"),
        ("a.example.org/x:1", "a.example.org/x:1"),
    ],
)
def test_the_longest_registry_prefix_wins(reference: str, mapped: str) -> None:
    assert site_reference(reference, {"a.example": "m:5000", "a.example/team": "n:5000"}) == mapped


def test_sizes_as_docker_reads_them() -> None:
    assert [size_bytes(text) for text in ("5", "1k", "2M", "32G")] == [5, 1024, 2 << 20, 32 << 30]
    with pytest.raises(ValueError, match="not a size"):
        size_bytes("1T")


def test_a_rank_beside_the_head_has_a_probe_of_its_own_and_no_port() -> None:
    nodes = (Node("h1", "192.0.2.1", "eth0"), Node("h2", "192.0.2.2", "eth0"))
    base = serving("qwen3-tiny", "cpu-x86")
    launch = base.variant.launch.model_copy(update={"kind": "nodes"})
    replica = replace(base.replica, hosts=("h1", "h2"), nodes=nodes)
    group = replace(base, replica=replica, variant=base.variant.model_copy(update={"launch": launch}))
    worker = replace(group, host=Host("h2", Connection("192.0.2.2"), chip="cpu-x86"))
    by_host = [
        {resource.kind: resource for resource in host_desired(s.host.name, [s]).resources}
        for s in (group, worker)
    ]
    assert [found["claim"].spec["ports"] for found in by_host] == [[9010, 10010, 10011], []]
    assert [found["probe"].name for found in by_host] == [
        "endpoint of qwen3-tiny-0",
        "rank 1 of qwen3-tiny-0",
    ]
    assert [found["probe"].spec["readiness"] for found in by_host] == ["chat", "rank"]
    labels = [found["container"].spec["create"]["Labels"] for found in by_host]
    assert [found["io.flagprov.rank"] for found in labels] == ["0", "1"]
    assert labels[0]["io.flagprov.rendezvous"] == "10010"
    records = [json.loads(found["file"].spec["content"]) for found in by_host]
    assert [record["rank"] for record in records] == [0, 1]
    assert records[1]["nodes"][1] == {"host": "h2", "address": "192.0.2.2", "interface": "eth0"}


def entered(sshd: bool) -> tuple[Serving, Serving]:
    """Head and worker of a replica whose nodes FlagScale enters."""
    key = "ssh-ed25519 AAAA"
    nodes = (Node("h1", "192.0.2.1", "eth0", key), Node("h2", "192.0.2.2", "eth0", key))
    base = serving("qwen3-tiny", "cpu-x86")
    assert base.facts is not None
    launch = base.variant.launch.model_copy(update={"kind": "flagscale", "ssh_port": 22})
    head = replace(
        base,
        replica=replace(base.replica, hosts=("h1", "h2"), nodes=nodes),
        variant=base.variant.model_copy(update={"launch": launch}),
        facts=replace(base.facts, sshd=sshd, ssh=True, ray="2.55.0"),
        keys=make_runner_keys(),
    )
    return head, replace(head, host=Host("h2", Connection("192.0.2.2"), chip="cpu-x86"))


@pytest.mark.parametrize("sshd", [True, False])
def test_a_container_cannot_write_where_its_host_writes_as_root(sshd: bool) -> None:
    """A link put there would lead the host's root elsewhere."""
    for each, keyed in zip(entered(sshd), (True, sshd), strict=True):
        resources = host_desired(each.host.name, [each]).resources
        (container,) = [resource for resource in resources if resource.kind == "container"]
        mounts = container.spec["create"]["HostConfig"]["Mounts"]
        ours = [mount for mount in mounts if mount["Source"].startswith("/var/lib/flagprov/replicas/")]
        writable = [mount["Source"] + "/" for mount in ours if not mount["ReadOnly"]]
        paths = [resource.spec["path"] for resource in resources if resource.kind in ("file", "directory")]
        assert not [path for path in paths if path.startswith(tuple(writable))]
        keys = [mount["Source"] for mount in mounts if mount["Target"] == "/run/flagprov-ssh"]
        assert keys == (["/var/lib/flagprov/replicas/qwen3-tiny-0/ssh"] if keyed else [])


@pytest.mark.parametrize("sshd", [True, False])
def test_no_part_of_a_key_is_kept_in_a_history(sshd: bool) -> None:
    """Another controller's would come back with a rollback, beside files of this one's."""
    keys = entered(sshd)[0].keys
    assert keys is not None
    parts = [keys.key.splitlines()[1], keys.host_key.splitlines()[1], keys.public_key, keys.public_host_key]
    for each in entered(sshd):
        each = replace(each, keys=keys)
        for resource in host_desired(each.host.name, [each]).resources:
            if not resource.spec.get("secret"):
                assert not [part for part in parts if part in json.dumps(resource.wire())], resource.name


@pytest.mark.parametrize(("sshd", "port"), [(True, 22), (False, None)])
def test_the_port_of_a_hosts_own_sshd_is_held_by_no_replica(sshd: bool, port: int | None) -> None:
    """Another replica on the same hosts is entered by it, too."""
    for each in entered(sshd):
        named = {resource.name: resource.spec for resource in host_desired(each.host.name, [each]).resources}
        record = named["/var/lib/flagprov/replicas/qwen3-tiny-0/record.json"]["content"]
        assert json.loads(record)["launch"] == {"kind": "flagscale", "ssh_port": port}


def test_the_hosts_own_sshd_lets_the_head_in_and_the_key_is_on_the_head_alone() -> None:
    head, worker = entered(sshd=False)
    folder = "/var/lib/flagprov/replicas/qwen3-tiny-0"
    on_head, on_worker = (
        {resource.name: resource.spec for resource in host_desired(each.host.name, [each]).resources}
        for each in (head, worker)
    )
    entry = "root's key for qwen3-tiny-0"
    assert on_head[entry]["absent"]
    assert f'command="PYTHON -I {folder}/enter flagprov-qwen3-tiny-0"' in on_worker[entry]["options"]
    assert on_worker[entry]["key"] in on_worker
    assert on_worker[f"{folder}/enter"]["mode"] == "0700"
    assert {f"{folder}/ssh/key", f"{folder}/ssh/known_hosts"} <= on_head.keys()
    assert not {f"{folder}/ssh/key", f"{folder}/ssh/known_hosts"} & on_worker.keys()
    running = Running("qwen3-tiny-0", "qwen3-tiny", "cpu-x86", ("h1", "h2"), (0,), 9010, "running")
    (gone,) = [each.spec for each in absent(running) if each.kind == "authorized_key"]
    assert gone == on_head[entry]


@pytest.mark.parametrize("sshd", [True, False])
def test_what_is_put_back_finds_the_keys_of_the_other_way_in(sshd: bool) -> None:
    """Keys are in no history: what the last deploy left has to do for either way."""
    before, after = entered(not sshd), entered(sshd)
    after = (replace(after[0], keys=before[0].keys), replace(after[1], keys=before[0].keys))
    for old, new in zip(before, after, strict=True):
        kept = {r.name: r.spec for r in host_desired(old.host.name, [old]).resources}
        there = {r.name: r.spec for r in host_desired(new.host.name, [new]).resources}
        history = [spec for spec in kept.values() if not spec.get("secret")]
        assert [spec["mark"] for spec in history if "mark" in spec] == ["flagprov qwen3-tiny-0"]
        needed = {name for name, spec in kept.items() if spec.get("secret")}
        if new.rank:  # the head's alone; a worker that was in the other way has its own from then
            needed = {name for name in needed if not name.endswith(("/key", "/known_hosts"))}
        assert {name: kept[name] for name in needed} == {name: there.get(name) for name in needed}


def test_what_starts_beside_the_old_one_shares_its_name_record_and_history_and_nothing_else() -> None:
    """So that both can be there at once, and whoever reads the record finds one replica."""
    first = serving("qwen3-tiny-standin", "cpu-x86")
    second = replace(first, replica=replace(first.replica, port=9110, slot=".b"))
    name = first.replica.name
    found = {
        slot: {(r.kind, r.name): r for r in host_desired("h1", [each]).resources}
        for slot, each in (("", first), (".b", second))
    }
    record = f"/var/lib/flagprov/replicas/{name}/record.json"
    assert {each.replica for each in found[".b"].values()} == {name}
    assert ("file", record) in found[""].keys() & found[".b"].keys()
    assert json.loads(found[".b"]["file", record].spec["content"])["replica"]["slot"] == ".b"
    assert "slot" not in json.loads(found[""]["file", record].spec["content"])["replica"]
    own = {
        slot: {resource.name for (kind, _), resource in here.items() if kind in ("container", "unit", "tree")}
        for slot, here in found.items()
    }
    assert not own[""] & own[".b"]
    body = found[".b"]["container", f"flagprov-{name}.b"].spec
    mounts = {mount["Target"]: mount["Source"] for mount in body["create"]["HostConfig"]["Mounts"]}
    assert mounts["/run/flagprov"] == f"/var/lib/flagprov/replicas/{name}.b/run"
    assert (body["unit"], body["folder"]) == (
        f"flagprov@{name}.b.service", f"/var/lib/flagprov/replicas/{name}.b"
    )  # fmt: skip
    assert body["create"]["Labels"]["io.flagprov.replica"] == name


def test_what_stops_or_takes_away_a_replica_does_so_in_both_slots() -> None:
    """Whichever it is in, and whatever a run that was cut off has left."""
    running = Running("m-0", "m", "graviton4", ("h1",), (0,), 9110, "running", ".b")
    found = [(resource.kind, resource.name) for resource in absent(running)]
    assert found == [
        ("unit", "flagprov@m-0.service"),
        ("unit", "flagprov@m-0.b.service"),
        ("container", "flagprov-m-0.b"),
        ("container", "flagprov-m-0"),
        ("directory", "/var/lib/flagprov/replicas/m-0.b"),
        ("directory", "/var/lib/flagprov/replicas/m-0"),
    ]


def test_the_baseline_role_prepares_the_folder_that_all_else_looks_into() -> None:
    """It was once a setting: a host that had another one was provisioned again in every deploy."""
    role = ansible_root() / "roles/host_baseline"
    assert (
        yaml.safe_load((role / "vars/main.yml").read_text(encoding="utf-8"))["_host_baseline_root"] == STATE
    )
    assert "host_baseline_root" not in yaml.safe_load(
        (role / "defaults/main.yml").read_text(encoding="utf-8")
    )


def test_what_takes_everything_takes_a_proxys_login_too() -> None:
    """Provisioning that failed leaves it, where nothing but a later run would find it."""
    variables = (ansible_root() / "roles/host_baseline/vars/main.yml").read_text(encoding="utf-8")
    path = yaml.safe_load(variables)["_host_baseline_outside_file"]
    nothing = {"images": [], "weights": [], "directories": [], "builds": []}
    for found in (emptied(), unneeded(nothing)):
        (login,) = [resource for resource in found if resource.kind == "file" and resource.name == path]
        assert login.spec["absent"] and "login" in login.spec["reason"]
