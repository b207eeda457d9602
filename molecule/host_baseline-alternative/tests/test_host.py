"""A host that had no Python, after host_baseline with nearly every variable changed."""

from __future__ import annotations

from typing import Any


def test_missing_programs_were_brought(host: Any) -> None:
    assert host.run("python3 -c 'import ssl, json'").rc == 0
    assert host.package("ca-certificates").is_installed


def test_limits(host: Any) -> None:
    written = host.file("/etc/security/limits.d/90-flagprov.conf").content_string
    assert "memlock" not in written
    assert host.run("su - root -c 'ulimit -n'").rc == 0


def test_kernel_settings(host: Any) -> None:
    assert host.file("/proc/sys/net/core/somaxconn").content_string.strip() == "8192"
    assert "# no.such.key" in host.file("/etc/sysctl.d/90-flagprov.conf").content_string


def test_shared_memory_has_its_size_now_and_at_boot(host: Any) -> None:
    assert host.check_output("df --block-size=1M --output=size /dev/shm | tail -n 1").strip() == "96"
    assert "tmpfs /dev/shm tmpfs rw,nosuid,nodev,size=96m 0 0" in host.file("/etc/fstab").content_string


def test_the_authority_is_trusted(host: Any) -> None:
    assert host.file("/usr/local/share/ca-certificates/flagprov-site-ca.crt").mode == 0o644
    trusted = host.file("/etc/ssl/certs/flagprov-site-ca.pem")
    assert trusted.is_symlink
    assert trusted.linked_to == "/usr/local/share/ca-certificates/flagprov-site-ca.crt"


def test_an_authority_that_is_on_the_list_no_more_is_gone(host: Any) -> None:
    assert not host.file("/usr/local/share/ca-certificates/flagprov-gone.crt").exists
    assert host.file("/usr/local/share/ca-certificates/own.crt").exists
    assert not host.file("/etc/ssl/certs/flagprov-gone.pem").exists
    assert host.file("/etc/ssl/certs/own.pem").exists


def test_the_time_service_that_was_there_was_started(host: Any) -> None:
    assert host.service("chrony").is_running
    assert host.service("chrony").is_enabled
    assert not host.package("systemd-timesyncd").is_installed
