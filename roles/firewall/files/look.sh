# What firewalls a host has, what of ours is in them, and who asks from where, as YAML; changes nothing.
# Arguments: serving ports, peers' ports, SSH ports, clients, peers, files of ours.
files=$6

LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH
list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
yes() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }

for manager in apt-get dnf none; do
    command -v $manager >/dev/null && break
done
echo "package_manager: ${manager%-get}"
# The apt module brings its own Python library when it needs it, but not in check mode.
[ "$manager" != apt-get ] || [ -d /usr/lib/python3/dist-packages/apt ] && echo "predictable: true" || echo "predictable: false"

# The connection in use is in the environment of a process above this one: sudo does not pass it on.
pid=$$ port=
while [ -z "$port" ] && [ "${pid:-0}" -gt 1 ]; do
    port=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=.* //p')
    pid=$(awk '/^PPid/ {print $2}' "/proc/$pid/status" 2>/dev/null)
done
listening=$(sshd -T 2>/dev/null | awk '$1 == "port" {print $2}'
    systemctl show --property Listen ssh.socket sshd.socket 2>/dev/null | sed -n 's/^Listen=.*:\([0-9]*\) (Stream)/\1/p')
# shellcheck disable=SC2086
ssh=$(printf '%s\n' $port $listening $3 | sort -nu | tr '\n' ' ')
# shellcheck disable=SC2086
list ssh_ports $ssh

# Ports and addresses in one form; SSH's ports are cut out of what is closed to others.
python3 -I -S - "$ssh" "$1" "$2" "$4" "$5" <<'END'
import ipaddress
import sys

wrong = []
networks = {}


def ports(text):
    found = set()
    for word in text.split():
        first, _, last = word.partition("-")
        try:
            low, high = int(first), int(last or first)
        except ValueError:
            low = high = 0
        if 0 < low <= high < 65536:
            found.update(range(low, high + 1))
        else:
            wrong.append("port " + word)
    return found


def spans(found):
    parts = []
    for port in sorted(found):
        if parts and port == parts[-1][1] + 1:
            parts[-1][1] = port
        else:
            parts.append([port, port])
    return ["%d" % low if low == high else "%d-%d" % (low, high) for low, high in parts]


def addresses(text):
    found = {4: [], 6: []}
    for word in text.split():
        try:
            network = ipaddress.ip_network(word, strict=False)
            found[network.version].append(network)
        except ValueError:
            wrong.append("address " + word)
    texts = {}
    for version, each in found.items():
        whole = []
        for network in ipaddress.collapse_addresses(each):
            # Everybody as two halves, which every firewall takes for addresses like others.
            whole += network.subnets() if network.prefixlen == 0 else [network]
        texts[version] = [
            str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in whole
        ]
    return texts


ssh, serving, peering, clients, peers = sys.argv[1:]
kept = ports(ssh)
serving = ports(serving)
print("serving: %r" % spans(serving - kept))
print("peering: %r" % spans(ports(peering) - serving - kept))
for name, text in (("clients", clients), ("peers", peers)):
    found = addresses(text)
    print("%s: {v4: %r, v6: %r}" % (name, found[4], found[6]))
print("wrong: %r" % [word.replace("'", "") for word in wrong])
END

# nftables: whether our table is in the kernel, from which text, and which others drop what they do not know.
echo "nft: $(yes command -v nft)"
echo "nft_loaded: '$(nft list table inet flagprov 2>/dev/null | sed -n 's/.*comment "flagprov \([0-9a-f]*\)".*/\1/p')'"
echo "nft_table: $(yes nft list table inet flagprov)"
echo "nft_unit: $(yes systemctl is-active --quiet flagprov-firewall.service)"
# shellcheck disable=SC2046
list nft_links $(ls -d /etc/systemd/system/*.wants/flagprov-firewall.service 2>/dev/null)
echo "nft_dropping: '$(nft list chains 2>/dev/null | awk '
    /^table/ {table = $2 " " $3}
    /^\tchain/ {chain = $2}
    /hook input/ && /policy drop/ && table != "inet flagprov" {print table " " chain; exit}')'"

echo "firewalld: $(yes command -v firewall-cmd)"
active=$(yes systemctl is-active --quiet firewalld.service)
echo "firewalld_active: $active"
echo "firewalld_enabled: $(yes systemctl is-enabled --quiet firewalld.service)"
echo "firewalld_version: '$(firewall-offline-cmd --version 2>/dev/null)'"
if [ "$active" = true ]; then
    ours=$(firewall-cmd --policy=flagprov --list-rich-rules 2>&1 | sort)
    written=$(firewall-cmd --permanent --policy=flagprov --list-rich-rules 2>&1 | sort)
    echo "firewalld_current: $(yes [ "$ours" = "$written" ])"
    # What a reload would take away; interfaces are given to their zones again.
    zones() { firewall-cmd "$@" --list-all-zones | sed 's/ (.*)$//' | grep -v '^  interfaces:'; }
    echo "firewalld_saved: $(yes [ "$(zones; firewall-cmd --direct --get-all-rules)" = \
        "$(zones --permanent; firewall-cmd --permanent --direct --get-all-rules)" ])"
else
    echo "firewalld_current: true"
    echo "firewalld_saved: true"
fi
# shellcheck disable=SC2046
list firewalld_ssh $(firewall-offline-cmd --list-ports 2>/dev/null) $(firewall-offline-cmd --list-services 2>/dev/null)

echo "ufw: $(yes command -v ufw)"
echo "ufw_active: $(ufw status 2>/dev/null | grep -qx 'Status: active' && echo true || echo false)"
echo "ufw_ours:"
ufw show added 2>/dev/null | sed -n "s/^ufw \(.*\) comment 'flagprov'$/  - '\1'/p"
echo "ufw_added:"
ufw show added 2>/dev/null | sed -n "/^ufw /{ s/^ufw \([^']*\).*/\1/; s/ comment \$//; s/.*/  - '&'/p }"

# Files of ours as mode, owner and base64 of their text.
echo "files:"
for file in $files; do
    echo "  '$file': '$([ -f "$file" ] && echo "$(stat -c '%a %u' "$file") $(base64 -w 0 "$file")")'"
done
