# What a host is and has, as YAML; changes nothing.
# Arguments: the root of flagprov's tree, its directories, key=least for sysctl, programs, files.
root=$1 directories=$2 settings=$3 programs=$4 files=$5

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }

[ -d /run/systemd/system ] && echo "systemd: true" || echo "systemd: false"

for manager in apt-get dnf none; do
    command -v $manager >/dev/null && break
done
echo "package_manager: ${manager%-get}"
# The apt module brings its own Python library when it needs it, but not in check mode.
[ "$manager" != apt-get ] || [ -d /usr/lib/python3/dist-packages/apt ] && echo "predictable: true" || echo "predictable: false"

container=$(systemd-detect-virt --container 2>/dev/null) || container=none
echo "container: ${container:-none}"

# A container sees the machine's own settings beside those of its network; only the latter are its to set.
below=false values=
for setting in $settings; do
    key=${setting%%=*}
    case $container:$key in
        none:* | *:net.*) ;;
        *) continue ;;
    esac
    file=/proc/sys/$(echo "$key" | tr . /)
    [ -w "$file" ] || continue
    value=$(awk '{print $1; exit}' "$file")
    [ "$value" -ge "${setting#*=}" ] || below=true
    values="$values$key: $value, "
done
echo "sysctl: {$values}"
echo "sysctl_below: $below"

shm=$(df --block-size=1 --output=size /dev/shm 2>/dev/null | tail -n 1)
echo "shm: ${shm:-0}"

# The highest limits that a login can be given: pam_limits fails the login above them.
capabilities=$(awk '/^CapEff/ {print $2}' /proc/self/status)
if [ $((0x$(echo "$capabilities" | cut -c 9-10) & 1)) = 1 ]; then # CAP_SYS_RESOURCE is bit 24
    echo "ceilings: {nofile: $(cat /proc/sys/fs/nr_open)}"
else
    awk 'function kilo(limit) {return limit == "unlimited" ? limit : int(limit / 1024)}
         /^Max open files/ {nofile = $5}
         /^Max processes/ {nproc = $4}
         /^Max locked memory/ {memlock = kilo($5)}
         /^Max stack size/ {stack = kilo($5)}
         END {printf "ceilings: {nofile: %s, nproc: %s, memlock: %s, stack: %s}\n", nofile, nproc, memlock, stack}' /proc/1/limits
fi

set --
for program in $programs; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || set -- "$@" "$program"
done
list missing_commands "$@"

set --
for directory in "$root" $directories; do
    case $directory in
        /*) path=$directory ;;
        *) path=$root/$directory ;;
    esac
    [ "$(stat -c '%F %a %u' "$path" 2>/dev/null)" = "directory 755 0" ] || set -- "$@" "$path"
done
list wrong_directories "$@"

# Authorities that the role brought, by their names.
set --
for file in /usr/local/share/ca-certificates/flagprov-*.crt /etc/pki/ca-trust/source/anchors/flagprov-*.crt; do
    [ ! -f "$file" ] || set -- "$@" "$file"
done
list authorities "$@"

echo "outside: $([ -e /usr/local/sbin/flagprov-outside ] && echo true || echo false)"

services="systemd-timesyncd.service chronyd.service chrony.service ntpd.service ntp.service ntpsec.service openntpd.service ptp4l.service"
# shellcheck disable=SC2086
if systemctl is-active $services 2>/dev/null | grep -qx active; then
    echo "time_sync_active: true"
else
    echo "time_sync_active: false"
fi
# shellcheck disable=SC2086
set -- $(systemctl list-unit-files --no-legend --type=service $services 2>/dev/null | awk '$2 != "alias" {print $1; exit}')
echo "time_sync_unit: '${1:-}'"

# Files of ours as mode, owner and base64 of their text.
echo "files:"
for file in $files; do
    echo "  '$file': '$([ -f "$file" ] && echo "$(stat -c '%a %u' "$file") $(base64 -w 0 "$file")")'"
done
