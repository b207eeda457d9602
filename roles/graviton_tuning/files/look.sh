# What processors a host has and how its kernel uses their memory, as YAML; changes nothing.
# Argument: files of ours.
files=$1

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
value() { sed -n "s/^$1[[:space:]]*:[[:space:]]*//p" /proc/cpuinfo | tr 'A-Z' 'a-z' | sort -u; }

echo "arch: '$(uname -m)'"

for manager in apt-get dnf none; do
    command -v $manager >/dev/null && break
done
echo "package_manager: ${manager%-get}"
# The apt module brings its own Python library and lists of packages when it needs them, but not in check mode.
listed() { [ -d /usr/lib/python3/dist-packages/apt ] && ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; }
[ "$manager" != apt-get ] || listed && echo "predictable: true" || echo "predictable: false"

container=$(systemd-detect-virt --container 2>/dev/null) || container=none
echo "container: ${container:-none}"

# Each kind of core once; a host of one kind has one line.
echo "processors: [$(awk -F '[[:space:]]*:[[:space:]]*' '
    /^CPU implementer/ {implementer = tolower($2)}
    /^CPU part/ {found = implementer " " tolower($2); if (!seen[found]++) printf "\047%s\047, ", found}' /proc/cpuinfo)]"
# shellcheck disable=SC2046
list features $(value Features | head -n 1)

machine=$(cat /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_name 2>/dev/null | tr '\n' ' ' | tr -d "'")
echo "machine: '${machine% }'"

nodes=$(ls -d /sys/devices/system/node/node[0-9]* 2>/dev/null | wc -l)
echo "nodes: $((nodes > 0 ? nodes : 1))"
PATH=$PATH:/usr/sbin:/sbin command -v numactl >/dev/null && echo "numactl: true" || echo "numactl: false"

# The word in brackets is the one that holds.
echo "hugepages: '$(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null)'"
echo "numa_balancing: '$(cat /proc/sys/kernel/numa_balancing 2>/dev/null)'"

# Files of ours as mode, owner and base64 of their text.
echo "files:"
for file in $files; do
    echo "  '$file': '$([ -f "$file" ] && echo "$(stat -c '%a %u' "$file") $(base64 -w 0 "$file")")'"
done
