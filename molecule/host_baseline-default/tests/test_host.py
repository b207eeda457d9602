"""A host after host_baseline with its defaults."""

from __future__ import annotations

from typing import Any


def test_tree(host: Any) -> None:
    for name in ("", "programs", "caches", "jobs", "replicas", "images"):
        directory = host.file(f"/var/lib/flagprov/{name}")
        assert directory.is_directory
        assert (directory.user, directory.group, directory.mode) == ("root", "root", 0o755)


def test_limits_hold_for_a_login(host: Any) -> None:
    written = host.file("/etc/security/limits.d/90-flagprov.conf")
    assert written.mode == 0o644
    assert "root - nofile " in written.content_string
    asked = next(line.split()[-1] for line in written.content_string.splitlines() if "root - nofile" in line)
    # A login of its own: pam_limits refuses the session when a limit cannot be set.
    assert host.run("su - root -c 'ulimit -n'").stdout.strip() == asked


def test_kernel_settings(host: Any) -> None:
    assert int(host.file("/proc/sys/net/core/somaxconn").content_string) >= 4096
    written = host.file("/etc/sysctl.d/90-flagprov.conf").content_string
    assert "net.core.somaxconn = " in written
    # The machine's own settings are not a container's to change.
    assert "\nvm.max_map_count" not in written
    assert "# vm.max_map_count" in written


def test_no_time_service_is_installed_in_a_container(host: Any) -> None:
    assert host.run("systemctl is-active systemd-timesyncd chrony").rc != 0
