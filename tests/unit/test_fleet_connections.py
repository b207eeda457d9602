"""From Ansible's ssh options and ssh_config to a Connection."""

from __future__ import annotations

import getpass
import shutil
from pathlib import Path
from typing import Any

import paramiko
import pytest

from flagprov import ssh_options
from flagprov.errors import InventoryError
from flagprov.fleet import fleet_of
from flagprov.models.fleet import Connection, Host
from flagprov.ssh_config import Resolver

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH's client")


def record(name: str = "h1", **changes: Any) -> dict[str, Any]:
    ssh = {"host": name, "timeout": 10, "ssh_args": "-C -o ControlMaster=auto -o ControlPersist=60s"}
    become = {"asked": None, "method": "sudo", "user": "root", "exe": "sudo", "password": None}
    whole: dict[str, Any] = {
        "name": name,
        "groups": ["h100"],
        "ssh": ssh | changes.pop("ssh", {}),
        "strict_variable": None,
        "become": become | changes.pop("become", {}),
        "connection": "ssh",
        "python": None,
        "variables": {"flagprov_chip": "nvidia-h100"} | changes.pop("variables", {}),
    }
    return whole | changes


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with an empty ~/.ssh, on a machine with an empty /etc/ssh."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setattr("flagprov.ssh_config._home", lambda: folder)
    monkeypatch.setattr(Resolver, "system", tmp_path / "etc")
    return folder


def host_of(record: dict[str, Any], tmp_path: Path) -> Host:
    answer = {"hosts": [record], "others": [], "serving": False}
    return fleet_of(tmp_path / "hosts.ini", None, answer).hosts[0]


def resolved(tmp_path: Path, home: Path, **ssh: Any) -> Connection:
    wanted = record(ssh=ssh)
    resolver = Resolver(tmp_path / "site", home=home, system=tmp_path / "etc")
    resolver.prepare([wanted])
    return resolver.connection(wanted)


class TestPlain:
    def test_defaults_start_no_ssh(self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        found = resolved(tmp_path, home)
        assert found.address == "h1"
        assert (found.port, found.user, found.agent, found.proxy) == (22, getpass.getuser(), True, None)
        assert found.identity_files[0] == str(home / ".ssh/id_ed25519")
        assert found.known_hosts[:2] == (str(tmp_path / "site/known_hosts"), str(home / ".ssh/known_hosts"))

    def test_simple_options_start_no_ssh(
        self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        found = resolved(
            tmp_path,
            home,
            ssh_common_args="-o UserKnownHostsFile=~/mine -o ProxyJump=a@b1:23,b2 -o HostKeyAlias=x",
            remote_user="ops",
            port="2222",
            password="geheim",
        )
        assert found.known_hosts[1] == str(home / "mine")
        assert found.host_key_alias == "x"
        assert (found.user, found.port) == ("ops", 2222)
        assert found.password is not None
        assert found.password.reveal() == "geheim"
        last = found.proxy
        assert last is not None
        assert (last.address, last.port, last.user) == ("b2", 22, getpass.getuser())
        assert last.proxy is not None
        assert (last.proxy.address, last.proxy.port, last.proxy.user) == ("b1", 23, "a")
        assert last.proxy.proxy is None

    def test_comments_and_harmless_options_are_plain(self, tmp_path: Path, home: Path) -> None:
        (tmp_path / "etc/ssh_config.d").mkdir(parents=True)
        (tmp_path / "etc/ssh_config").write_text(
            "Include ssh_config.d/*.conf\nHost *\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n"
        )
        (tmp_path / "etc/ssh_config.d/a.conf").write_text("# nothing\nServerAliveInterval=5\n")
        assert not Resolver(tmp_path, home, tmp_path / "etc")._must_ask(record())
        (tmp_path / "etc/ssh_config.d/a.conf").write_text("Host h1\n  HostName x\n")
        assert Resolver(tmp_path, home, tmp_path / "etc")._must_ask(record())

    def test_ipv6_and_key_file(self, tmp_path: Path, home: Path) -> None:
        (tmp_path / "key").touch()
        found = resolved(tmp_path, home, host="[2001:db8::1]", private_key_file=str(tmp_path / "key"))
        assert found.address == "2001:db8::1"
        assert found.identity_files == (str(tmp_path / "key"),)

    def test_missing_key_file(self, tmp_path: Path, home: Path) -> None:
        with pytest.raises(InventoryError, match="h1: ansible_ssh_private_key_file: no such file"):
            resolved(tmp_path, home, private_key_file=str(tmp_path / "gone"))

    @pytest.mark.parametrize("address", ["-oProxyCommand=x", "a b", ""])
    def test_address_that_is_none(self, tmp_path: Path, home: Path, address: str) -> None:
        found = record(name="h1", ssh={"host": address or " "})
        with pytest.raises(InventoryError, match="is not the name of a host"):
            Resolver(tmp_path, home, tmp_path).connection(found)

    def test_port_that_is_none(self, tmp_path: Path, home: Path) -> None:
        with pytest.raises(InventoryError, match="'ssh' is not a port"):
            resolved(tmp_path, home, port="ssh")


@needs_ssh
class TestSshConfig:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        return tmp_path / "config"

    def ask(self, tmp_path: Path, home: Path, config: Path, text: str, **ssh: Any) -> Connection:
        config.write_text(text)
        return resolved(tmp_path, home, ssh_common_args=f"-F {config}", **ssh)

    def test_include_match_and_names(self, tmp_path: Path, home: Path, config: Path) -> None:
        (tmp_path / "more").write_text("Host h1\n  HostName real.example.com\n  Port 2200\n")
        found = self.ask(
            tmp_path,
            home,
            config,
            f"Include {tmp_path}/more\n"
            "Match host real.example.com user ops\n  IdentityFile ~/.ssh/%h_%r\n  IdentitiesOnly yes\n"
            "Host *\n  IdentityAgent /run/%r.sock\n  AddressFamily inet\n",
            remote_user="ops",
        )
        assert (found.address, found.port, found.user) == ("real.example.com", 2200, "ops")
        assert found.identity_files == (str(home / ".ssh/real.example.com_ops"),)
        assert found.identities_only
        assert found.agent_socket == "/run/ops.sock"
        assert found.family == "inet"
        assert found.algorithms == ()

    def test_inventory_is_stronger(self, tmp_path: Path, home: Path, config: Path) -> None:
        found = self.ask(tmp_path, home, config, "Host *\n User a\n Port 1\n", remote_user="b", port="2")
        assert (found.user, found.port) == ("b", 2)

    def test_jumps_have_their_own_config(self, tmp_path: Path, home: Path, config: Path) -> None:
        found = self.ask(
            tmp_path,
            home,
            config,
            "Host h1\n ProxyJump me@bastion:2022,inner\n"
            "Host inner\n User in\n"
            "Host bastion\n HostName b.example.com\n IdentityFile /k\n",
        )
        assert found.proxy is not None
        assert (found.proxy.address, found.proxy.user) == ("inner", "in")
        bastion = found.proxy.proxy
        assert bastion is not None
        assert (bastion.address, bastion.port, bastion.user) == ("b.example.com", 2022, "me")
        assert bastion.identity_files == ("/k",)

    def test_jump_host_that_is_its_own_jump(self, tmp_path: Path, home: Path, config: Path) -> None:
        with pytest.raises(InventoryError, match="jumphost loop via bastion"):
            self.ask(tmp_path, home, config, "Host *\n ProxyJump bastion\n")
        with pytest.raises(InventoryError, match="circle"):
            resolved(tmp_path, home, ssh_common_args="-J h1")

    def test_jumps_in_a_circle(self, tmp_path: Path, home: Path, config: Path) -> None:
        with pytest.raises(InventoryError, match="circle"):
            self.ask(
                tmp_path, home, config, "Host h1\n ProxyJump a\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n"
            )

    def test_proxy_command(self, tmp_path: Path, home: Path) -> None:
        found = resolved(
            tmp_path, home, ssh_common_args='-o ProxyCommand="nc -X 5 %h %p %%"', remote_user="ops"
        )
        assert found.proxy_command == "nc -X 5 h1 22 %"

    def test_algorithms(self, tmp_path: Path, home: Path, config: Path) -> None:
        found = self.ask(
            tmp_path, home, config, "KexAlgorithms curve25519-sha256,ecdh-sha2-nistp256\nMACs hmac-sha2-512\n"
        )
        assert dict(found.algorithms) == {
            "kex": ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"),
            "macs": ("hmac-sha2-512",),
        }
        with pytest.raises(InventoryError, match="cannot honour ciphers"):
            self.ask(tmp_path, home, config, "Ciphers chacha20-poly1305@openssh.com\n")

    def test_public_key_login_off(self, tmp_path: Path, home: Path, config: Path) -> None:
        found = self.ask(tmp_path, home, config, "PubkeyAuthentication no\n", password="x")
        assert (found.identity_files, found.agent) == ((), False)
        assert found.password is not None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("StrictHostKeyChecking no", "weakens the check of host keys"),
            ("UserKnownHostsFile /dev/null", "throws host keys away"),
            ("ProxyCommand ssh -o StrictHostKeyChecking=no -W %h:%p b", "weakens the check"),
            ("PKCS11Provider /lib/x.so", "cannot honour the SSH option pkcs11provider"),
            ("RemoteCommand tmux attach", "cannot honour the SSH option remotecommand"),
            ("Nonsense yes", "nonsense"),
        ],
    )
    def test_refused(self, tmp_path: Path, home: Path, config: Path, text: str, said: str) -> None:
        with pytest.raises(InventoryError) as caught:
            self.ask(tmp_path, home, config, f"Host h1\n {text}\n")
        assert said in str(caught.value).replace("Nonsense", "nonsense")
        assert str(caught.value).startswith("h1: ssh_config: ")

    def test_accept_new_is_less_than_we_ask_for(self, tmp_path: Path, home: Path, config: Path) -> None:
        self.ask(tmp_path, home, config, "StrictHostKeyChecking accept-new\n")


class TestRefusedArguments:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("-o StrictHostKeyChecking=no", "StrictHostKeyChecking=no weakens the check of host keys"),
            ("-oStrictHostKeyChecking=accept-new", "weakens"),
            ("-o 'UserKnownHostsFile /dev/null'", "throws host keys away"),
            ("-L 80:localhost:80", "cannot honour the SSH option -L 80:localhost:80"),
            ("-o CertificateFile=/c", "cannot honour the SSH option CertificateFile=/c"),
            ("-o Bogus=1", "cannot honour the SSH option Bogus=1"),
            ("-vN", "cannot honour the SSH option -N"),
            ("-I /lib/p.so", "cannot honour the SSH option -I /lib/p.so"),
            ("bastion", "'bastion' is not an option of ssh"),
            ("-o 'x", "no closing quotation"),
            ("-J", "-J lacks its value"),
        ],
    )
    def test_names_option_and_host(self, tmp_path: Path, home: Path, words: str, said: str) -> None:
        with pytest.raises(InventoryError) as caught:
            resolved(tmp_path, home, ssh_extra_args=words)
        assert f"h1: ansible_ssh_extra_args: {said}" in str(caught.value) or said in str(caught.value)
        assert str(caught.value).startswith("h1: ansible_ssh_extra_args: ")

    def test_what_does_not_matter_passes(self, tmp_path: Path, home: Path) -> None:
        resolved(tmp_path, home, ssh_args="-C -q -vvv -A -o ServerAliveInterval=5 -o ControlPath=/x")

    def test_our_ssh_speaks_what_we_claim(self) -> None:
        claimed = dict(ssh_options.ALGORITHMS.values())
        transport = paramiko.Transport
        for kind, names in (
            ("kex", claimed["kex"]),
            ("ciphers", claimed["ciphers"]),
            ("macs", claimed["macs"]),
        ):
            assert names <= set(getattr(transport, f"_preferred_{kind}")), kind
        assert claimed["keys"] <= set(transport._preferred_keys)  # type: ignore[attr-defined]


class TestBecome:
    def test_root_stays_plain(self, tmp_path: Path, home: Path) -> None:
        host = host_of(record(ssh={"remote_user": "root"}, become={"asked": True, "password": "x"}), tmp_path)
        assert not host.connection.become

    def test_others_use_sudo(self, tmp_path: Path, home: Path) -> None:
        host = host_of(record(ssh={"remote_user": "ops"}, become={"password": "x"}), tmp_path)
        assert host.connection.become
        assert host.connection.become_password is not None
        assert "x" not in repr(host.connection.become_password)

    @pytest.mark.parametrize(
        ("become", "said"),
        [
            ({"asked": False}, "ansible_become is false"),
            ({"method": "su"}, "ansible_become_method su cannot be honoured"),
            ({"user": "svc"}, "ansible_become_user svc cannot be honoured"),
            ({"exe": "/opt/pbrun"}, "ansible_become_exe /opt/pbrun cannot be honoured"),
        ],
    )
    def test_refused(self, tmp_path: Path, home: Path, become: dict[str, Any], said: str) -> None:
        with pytest.raises(InventoryError, match=said):
            host_of(record(ssh={"remote_user": "ops"}, become=become), tmp_path)


class TestVariables:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"connection": "docker"}, "h1: ansible_connection docker cannot be honoured"),
            ({"connection": "local"}, "ansible_connection local"),
            ({"strict_variable": "ansible_host_key_checking"}, "ansible_host_key_checking: false weakens"),
            ({"ssh": {"ssh_executable": "/opt/tsh"}}, "ansible_ssh_executable cannot be honoured"),
            ({"ssh": {"private_key": "-----"}}, "ansible_ssh_private_key cannot be honoured"),
            ({"variables": {"flagprov_chip": "nvidia-h1000"}}, "Did you mean nvidia-h100"),
            ({"variables": {"flagprov_chip": ["a"]}}, "has no flagprov_chip"),
            ({"variables": {"flagprov_settings": "serve: 1"}}, "flagprov_settings: a mapping is expected"),
            ({"variables": {"flagprov_weights_root": "srv"}}, "not an absolute path"),
            ({"variables": {"flagprov_registries": {"a": 1}}}, "flagprov_registries: a: a text is expected"),
            ({"variables": {"flagprov_site": 7}}, "flagprov_site: a text is expected"),
        ],
    )
    def test_refused(self, tmp_path: Path, home: Path, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(InventoryError) as caught:
            host_of(record(**changes), tmp_path)
        assert said in str(caught.value)
        assert "h1: " in str(caught.value)

    def test_missing_inventory_names_the_nearest(self, tmp_path: Path) -> None:
        from flagprov.fleet import load_fleet

        (tmp_path / "ascend.ini").touch()
        with pytest.raises(InventoryError, match=r"Did you mean ascend.ini"):
            load_fleet(tmp_path / "asend.ini")
        with pytest.raises(InventoryError, match="there is no directory"):
            load_fleet(tmp_path / "nowhere/x.ini")

    def test_all_hosts_are_of_others(self, tmp_path: Path) -> None:
        with pytest.raises(InventoryError, match="--limit web: matches no host that has flagprov_chip"):
            fleet_of(tmp_path / "x.ini", "web", {"hosts": [], "others": ["a"], "serving": False})
        with pytest.raises(InventoryError, match="a: is not in group flagprov_serving"):
            fleet_of(tmp_path / "x.ini", "b,a", {"hosts": [record()], "others": ["a"], "serving": True})
