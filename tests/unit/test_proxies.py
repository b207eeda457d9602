"""Proxies lead outside: never to the fleet's own hosts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from flagprov.apply.assets import ansible_root
from flagprov.distribute.registry import registry_of
from flagprov.distribute.weights import hub_environment
from flagprov.errors import FlagprovError, UsageError
from flagprov.host.http import is_direct
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.proxies import addresses, keep_direct, no_proxy, outward

PROXY = "http://proxy.example:3128"
HOSTS = (
    Host("h1", Connection("192.0.2.1"), variables={"flagprov_address": "198.51.100.1"}),
    Host("h2", Connection("2001:db8::2")),
)
FLEET = Fleet(Path("lab.ini"), HOSTS, (Host("gw", Connection("192.0.2.9")),))


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for each in (name, name.upper()):
            monkeypatch.setenv(each, "")  # so that it is put back, whatever is done to it
            monkeypatch.delenv(each)


def test_all_names_of_the_fleet_are_known() -> None:
    found = [name for name in addresses(FLEET) if name]
    assert found == ["h1", "192.0.2.1", "198.51.100.1", "h2", "2001:db8::2", "gw", "192.0.2.9"]


def test_nothing_is_said_where_there_is_no_proxy() -> None:
    keep_direct(FLEET)
    assert "NO_PROXY" not in os.environ
    assert no_proxy({"no_proxy": "a"}, ["b"]) == {}


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_this_process_asks_the_fleet_directly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, PROXY)
    monkeypatch.setenv("NO_PROXY", "localhost, .site.example")
    keep_direct(FLEET)
    assert os.environ["NO_PROXY"].startswith("localhost,.site.example,h1,192.0.2.1,")
    with httpx.Client() as client:
        for url in ("https://192.0.2.1:5000/v2/", "https://h1/v2/", "https://gw/", "https://[2001:db8::2]/"):
            assert client._transport_for_url(httpx.URL(url)) is client._transport, url
        outside = client._transport_for_url(httpx.URL("https://hub.example/"))
        assert outside is not client._transport


def test_a_large_fleet_is_named_as_far_as_somebody_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel starts no program with a variable of more than 128 KiB."""
    hosts = tuple(
        Host(
            f"gpu{number:05}.rack{number % 40}.site.example",
            Connection(f"10.{number >> 8}.{number & 255}.7"),
            registries={"upstream.example": "gpu00007.rack7.site.example:5000/mirror"},
            variables={"container_engine_registry_mirrors": ["http://[2001:db8::2]:5000"]},
        )
        for number in range(3000)
    )
    fleet = Fleet(Path("lab.ini"), (*hosts, HOSTS[1]))
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "localhost,.corp.example")
    monkeypatch.setenv("HF_ENDPOINT", "http://10.1.2.7:8000")
    keep_direct(fleet, '{"weights": {"source": "https://gpu00009.rack9.site.example/m"}}')
    assert os.environ["NO_PROXY"].split(",") == [
        *("localhost", ".corp.example", "gpu00007.rack7.site.example", "gpu00009.rack9.site.example"),
        *("10.1.2.7", "2001:db8::2"),
    ]
    subprocess.run(["true"], check=True)
    monkeypatch.setenv("no_proxy", ",".join(name for name in addresses(fleet) if name))
    with pytest.raises(UsageError, match=r"NO_PROXY is \d+ KiB long") as caught:
        keep_direct(fleet)
    assert caught.value.exit_code == 2


LIST = "h1, .site.example,*.b.example,10.0.0.0/8,r.example:5000,::1,[2001:db8::2]:5000,fd00::/8,fe80::1%eth0,"


@pytest.mark.parametrize(
    ("host", "direct"),
    [
        ("h1:5000", True),
        ("h12", False),
        ("a.site.example", True),
        ("A.b.example:80", True),
        ("othersite.example", False),
        ("10.1.2.3:5000", True),
        ("11.1.2.3", False),
        ("r.example:5000", True),
        ("r.example", False),
        ("[fd00:1::2]:5000", True),
        ("fd00:1::2", True),
        ("[2001:db8::2]:5000", True),
        ("[2001:db8::2]", False),
        ("127.0.0.1:5000", True),
        ("localhost", True),
        ("hub.example", False),
    ],
)
def test_whom_a_list_leads_to_directly(host: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_direct(host, LIST) is direct
    assert is_direct(host, "*")
    used: list[str] = []

    def way(**said: Any) -> httpx.MockTransport:
        used.append(said["proxy"] or "")
        return httpx.MockTransport(lambda request: httpx.Response(404))

    monkeypatch.setattr(httpx, "HTTPTransport", way)
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("ALL_PROXY", "socks5://other.example")
    monkeypatch.setenv("NO_PROXY", LIST)
    with httpx.Client(transport=outward(httpx.create_ssl_context())) as client:
        for scheme in ("https", "http"):
            client.get(f"{scheme}://{f'[{host}]' if host.startswith('fd') else host}/v2/")
    assert used == ([""] if direct else [PROXY])


def test_a_proxy_that_is_none_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://u:secret@proxy.example:3128")
    with registry_of("r.example/a:1") as registry, pytest.raises(FlagprovError, match="proxy") as caught:
        registry.has("sha256:0")
    assert "secret" not in caught.value.message


def test_a_host_downloads_by_its_own_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other.example:1")
    monkeypatch.setenv("HF_TOKEN", "hf_1")
    assert hub_environment({}, ["h1"]) == {
        "HTTPS_PROXY": "http://other.example:1", "HF_TOKEN": "hf_1", "no_proxy": "h1", "NO_PROXY": "h1"
    }  # fmt: skip
    found = hub_environment({"flagprov_https_proxy": PROXY, "flagprov_no_proxy": ".site.example"}, ["h1"])
    assert found["HTTPS_PROXY"] == found["https_proxy"] == PROXY
    assert found["NO_PROXY"] == found["no_proxy"] == ".site.example,h1"


def role(name: str, expression: str, **variables: Any) -> Any:
    """What the role makes of these variables."""
    loader = DataLoader()
    known: dict[str, Any] = {"groups": {"all": ["h1", "registry-host"]}}
    for file in ("defaults", "vars"):
        known |= loader.load_from_file(
            str(ansible_root() / f"roles/{name}/{file}/main.yml"), trusted_as_template=True
        )
    templar = Templar(loader, variables=known | variables)
    return templar.template(trust_as_template(expression))


def test_authorities_of_one_name_would_take_each_others_place() -> None:
    loader = DataLoader()
    tasks = loader.load_from_file(str(ansible_root() / "roles/host_baseline/tasks/preflight.yml"))
    (when,) = [task["when"] for task in tasks if task["name"] == "Refuse authorities of one name"]
    for files, refused in (
        (["a/ca.pem", "b/ca.crt"], True),
        (["a/one.pem", "a/two.pem"], False),
        ([], False),
    ):
        found = role("host_baseline", f"{{{{ {when} }}}}", host_baseline_ca_certificates=files)
        assert found is refused


def test_an_authority_that_is_on_the_list_no_more_is_taken_back() -> None:
    folder = "/etc/pki/ca-trust/source/anchors"
    there = [f"{folder}/flagprov-gone.crt", f"{folder}/flagprov-site.crt"]
    for files, unwanted in ((["ca/site.pem"], there[:1]), ([], there), (["site.crt", "gone.pem"], [])):
        seen = {"authorities": there, "package_manager": "dnf"}
        variables = {"host_baseline_ca_certificates": files, "_host_baseline_look": seen}
        assert role("host_baseline", "{{ _host_baseline_ca_unwanted }}", **variables) == unwanted
        assert role("host_baseline", "{{ _host_baseline_ca_fresh }}", **variables) == "update-ca-trust"
    there = [f"/etc/docker/certs.d/{name}/flagprov.crt" for name in ("r.example:5000", "gone.example")]
    variables = {
        "container_engine_registry_cas": {"r.example:5000": "ca.pem"},
        "_container_engine_look": {"authorities": there},
    }
    assert role("container_engine", "{{ _container_engine_authorities_unwanted }}", **variables) == there[1:]


def test_an_authority_is_taken_back_in_one_step(tmp_path: Path) -> None:
    """What is gone, and still trusted, no later look would find."""
    loader = DataLoader()
    tasks = loader.load_from_file(
        str(ansible_root() / "roles/host_baseline/tasks/authorities.yml"), trusted_as_template=True
    )
    (command,) = [task["ansible.builtin.command"] for task in tasks if "ansible.builtin.command" in task]
    there = [tmp_path / "flagprov-a b.crt", tmp_path / "flagprov-c.crt"]
    for file in there:
        file.touch()
    update = tmp_path / "update-ca-certificates"
    update.write_text(f'#!/bin/sh\necho "$@" $(ls {tmp_path} | grep crt) > {tmp_path}/updated\n')
    update.chmod(0o755)
    seen = {"authorities": [str(file) for file in there], "package_manager": "apt"}
    argv = role("host_baseline", command["argv"], _host_baseline_look=seen)
    subprocess.run(argv, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    assert (tmp_path / "updated").read_text() == "--fresh\n"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, ""),
        ({"flagprov_registries": {"a": "h1:5000/a"}}, ""),
        ({"flagprov_https_proxy": PROXY, "flagprov_no_proxy": ".b"}, ".b"),
        (
            {"flagprov_https_proxy": PROXY, "flagprov_registries": {"a": "h1:5000/a", "b": "hub.example/b"}},
            "h1",
        ),
        (
            {
                "container_engine_http_proxy": PROXY,
                "container_engine_no_proxy": "localhost, 10.0.0.1",
                "container_engine_insecure_registries": ["10.0.0.1:5000", "172.32.0.1", "172.31.0.1:80"],
                "container_engine_registry_mirrors": [
                    "https://registry-host:5001",
                    "https://mirror.example/",
                ],
            },
            "localhost,10.0.0.1,registry-host,172.31.0.1",
        ),
        (
            {
                "flagprov_https_proxy": PROXY,
                "flagprov_registries": {"a": "[fd00::1]:5000/a", "b": "[2001:db8::9]:5000"},
                "container_engine_insecure_registries": ["10.1.0.0/16", "192.0.2.0/24", "fd00:2::/64"],
            },
            "fd00::1,10.1.0.0/16,fd00:2::/64",
        ),
    ],
)
def test_dockerd_asks_the_sites_own_registries_directly(variables: dict[str, Any], wanted: str) -> None:
    assert role("container_engine", "{{ _container_engine_no_proxy }}", **variables) == wanted


def test_the_authorities_of_a_host_are_trusted_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    class Context:
        def load_verify_locations(self, file: Path) -> None:
            loaded.append(file.name)

    monkeypatch.setattr(httpx, "create_ssl_context", Context)
    monkeypatch.setattr(httpx, "Client", lambda **_: None)
    variables: dict[str, Any] = {"host_baseline_ca_certificates": [str(tmp_path / "site.pem")]}
    variables["container_engine_registry_cas"] = {"r.example:443": str(tmp_path / "registry.pem")}
    host = Host("h1", Connection("192.0.2.1"), variables=variables)
    with pytest.raises(FlagprovError, match="no such file"):
        registry_of("r.example:443/a:1", host)
    for name in ("site.pem", "registry.pem"):
        (tmp_path / name).touch()
    registry_of("r.example:443/a:1", host)
    registry_of("other.example/a:1", host)
    assert loaded == ["registry.pem", "site.pem", "site.pem"]
