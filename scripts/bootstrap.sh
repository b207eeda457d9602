#!/bin/bash
# Makes .venv, and installs what makes it: scripts/bootstrap.sh [lab|tests]
# With `lab` it first makes sure that this machine can carry the lab, so that the answer comes at once;
# with `tests` it also brings the sshd that the tests start for themselves.
set -euo pipefail
cd "$(dirname "$0")/.."

refuse() {
    printf '%s\n' "flagprov: $1" >&2
    exit 2
}

# shellcheck source=/dev/null
system=$( . /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-}" || echo unknown)
if [ -n "${1:-}" ]; then
    lacks=
    [ "$(id -u)" = 0 ] || lacks="$lacks
  - root: run it with sudo, or in a root shell"
    [ "$system" = "debian 12" ] || lacks="$lacks
  - Debian 12 (this is $system): use a Debian 12 machine, or a virtual machine with it"
    [ "$(uname -m)" = x86_64 ] || lacks="$lacks
  - an x86_64 processor (this is $(uname -m)): the lab's engine is built for it"
    [ -z "$lacks" ] || refuse "the lab cannot run here; it needs$lacks
Without these, \`make check\` still works."
fi

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    refuse "Python 3.11 or newer is needed as python3. On Debian 12: apt-get install python3 python3-venv"
fi

packages() {
    echo "installing $*"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

if ! [ -x .venv/bin/python ] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        refuse "Python's venv module is missing. On Debian or Ubuntu, as root: apt-get install python3-venv"
    packages python3-venv
fi

if [ "${1:-}" = tests ] && ! [ -x /usr/sbin/sshd ]; then
    # The machine itself gets no SSH service of it.
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        packages openssh-server
    else
        trap 'rm -f "$policy"' EXIT
        install -m 0755 /dev/stdin "$policy" <<< $'#!/bin/sh\nexit 101'
        packages openssh-server
        rm "$policy"
    fi
fi

if [ "${1:-}" = tests ] && ! command -v gpg-agent >/dev/null; then
    packages gpg gpg-agent # bundles sign their lists of packages
fi

stamp=$(cat pyproject.toml <(python3 --version) | sha256sum | cut -d ' ' -f 1)
if [ "$(cat .venv/.flagprov 2>/dev/null)" != "$stamp" ]; then
    echo "making .venv"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' 2> >(grep -v WARNING >&2)
    echo "$stamp" > .venv/.flagprov
fi

# Where Python keeps nothing that it compiles (PYTHONDONTWRITEBYTECODE), every command would begin with that.
.venv/bin/python -m compileall -q flagprov
