# What there is of a gateway on a host, as YAML; changes nothing.
# Files come as mode, owner and base64 of their text. Argument: the files.

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
text() { [ -f "$1" ] && echo "$(stat -c '%a %u' "$1") $(base64 -w 0 "$1")"; }
truth() { "$@" >/dev/null 2>&1 && echo true || echo false; }

for manager in apt-get dnf none; do
    command -v $manager >/dev/null && break
done
echo "package_manager: ${manager%-get}"
# The apt module brings its own Python library when it needs it, but not in check mode.
[ "$manager" != apt-get ] || [ -d /usr/lib/python3/dist-packages/apt ] && echo "predictable: true" || echo "predictable: false"

program=/usr/sbin/haproxy
[ -x $program ] || program=
echo "program: '$program'"
echo "version: '$([ -z "$program" ] || $program -v 2>/dev/null | sed -n '1s/.*version \([0-9]*\.[0-9]*\).*/\1/p')'"
echo "active: $(truth systemctl is-active --quiet flagprov-gateway.service)"
echo "enabled: $(truth systemctl is-enabled --quiet flagprov-gateway.service)"
echo "agent_enabled: $(truth systemctl is-enabled --quiet flagprov-gateway-agent.service)"
# Under SELinux, HAProxy may only use the ports of a web server until it is told otherwise.
echo "ports_forbidden: $(command -v getsebool >/dev/null && getsebool haproxy_connect_any 2>/dev/null | grep -q 'off$' && echo true || echo false)"

echo "files:"
for file in $1; do
    echo "  '$file': '$(text "$file")'"
done
set --
for directory in /etc/flagprov-gateway /var/lib/flagprov-gateway; do
    [ -d "$directory" ] || set -- "$@" "$directory"
done
list missing_directories "$@"
