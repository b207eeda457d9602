# After rhel.sh: the same host by another name.
set -eu
cat >/usr/lib/os-release <<'EOF'
NAME="openEuler"
VERSION="22.03 (LTS-SP4)"
ID="openEuler"
VERSION_ID="22.03"
PRETTY_NAME="openEuler 22.03 (LTS-SP4)"
ANSI_COLOR="0;31"
EOF
rm -f /etc/redhat-release /etc/rocky-release
echo 'openEuler release 22.03 (LTS-SP4)' >/etc/openEuler-release
echo 22.03LTS_SP4 >/etc/dnf/vars/releasever
