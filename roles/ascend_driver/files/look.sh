# What a host's Ascend driver is and who uses it, as YAML; changes nothing.
# Arguments: the least version, the one that would be installed, user, group, further members of the group, the lock that
# an installer holds.
least=$1 pinned=$2 user=$3 group=$4 members=$5 lock=$6
ascend=/usr/local/Ascend info=/etc/ascend_install.info

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
yes() { name=$1; shift; "$@" && echo "$name: true" || echo "$name: false"; }
text() { printf '%s' "$1" | tr -d "'\n" | tr -s '\t ' ' '; }
seconds() { timeout 60 "$@" 2>/dev/null; }
value() { sed -n "s/^$2=//p" "$1" 2>/dev/null | head -n 1; }
# 24.1.rc2 comes before 24.1.0, and 25.3.rc1.b061 after 25.3.rc1.
ordered() { printf '%s\n' "$1" "$2" | sed 's/\.\([rR][cC]\)/~\1/' | tr '[:upper:]' '[:lower:]' | sort -V -C; }

echo "arch: '$(uname -m)'"

# The kernel that runs, and the one that boots next: what the boot loader says, else the newest.
running=$(uname -r)
next=$(grubby --default-kernel 2>/dev/null | sed -n 's|.*/vmlinuz-||p')
[ -n "$next" ] || next=$(for image in /boot/vmlinuz-*; do echo "${image#/boot/vmlinuz-}"; done |
    grep -v -e '^\*$' -e rescue | while read -r name; do [ ! -d "/lib/modules/$name" ] || echo "$name"; done | sort -V | tail -n 1)
set --
for kernel in $(printf '%s\n' "$running" "${next:-$running}" | uniq); do
    [ -e "/lib/modules/$kernel/build" ] || set -- "$@" "$kernel"
done
list headerless "$@"

for manager in apt-get dnf none; do
    command -v $manager >/dev/null && break
done
echo "package_manager: ${manager%-get}"
# Firmware is not a guest's to install, and a container has no kernel of its own to compile for.
container=$(systemd-detect-virt --container --quiet 2>/dev/null && echo true || echo false)
echo "container: $container"
echo "guest: $([ $container = false ] && systemd-detect-virt --vm --quiet 2>/dev/null && echo true || echo false)"

driver=$(value $ascend/driver/version.info Version)
echo "driver: '$(text "$driver")'"
echo "firmware: '$(text "$(value $ascend/firmware/version.info Version)")'"
yes good ordered "$least" "${driver:-0}"
yes newer eval '[ -n "$driver" ] && [ -n "$pinned" ] && ! ordered "$driver" "$pinned"'
yes upgrade_tool test -e $ascend/driver/tools/upgrade-tool

# Docker makes empty directories of files that it should mount and that are missing.
set --
for file in $info /usr/local/bin/npu-smi /usr/local/sbin/npu-smi; do
    [ ! -d "$file" ] || set -- "$@" "$file"
done
list directories "$@"

tool=
for file in /usr/local/bin/npu-smi /usr/local/sbin/npu-smi "$(command -v npu-smi)"; do
    [ -f "$file" ] && [ -x "$file" ] && tool=$file && break
done
echo "tool: '$tool'"

place=$(value $info Driver_Install_Path_Param)
echo "elsewhere: '$([ "${place%/}" = $ascend ] || text "$place")'"

half=
status=$(value $info Driver_Install_Status)
noted=$(value $info Driver_Install_Type)
if [ -n "$status" ] && [ "$status" != complete ]; then
    half="$info says $status"
elif [ -n "$driver" ] && [ -z "$noted" ]; then
    half="$info does not know of it"
elif [ -z "$driver" ] && [ -n "$noted" ]; then
    half="$info knows of it, and $ascend/driver/version.info is missing"
elif [ -n "$driver" ] && [ -z "$tool" ]; then
    half="npu-smi is missing"
fi
echo "half: '$(text "$half")'"

# What is loaded is what answers.
said='' loaded=''
if [ -n "$tool" ]; then
    said=$(timeout 60 "$tool" info 2>&1) || said="npu-smi: $(echo "$said" | head -n 3)"
    loaded=$(echo "$said" | sed -n 's/^| npu-smi .*Version: *\([^ |]*\).*/\1/p' | head -n 1)
fi
echo "loaded: '$(text "$loaded")'"
echo "said: '$([ -n "$loaded" ] || text "$said" | cut -c 1-300)'"
# Installed since this host started. Its first process started with it, in a container too; in ticks since the machine did.
started=$(($(sed -n 's/^btime //p' /proc/stat) + $(sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20) / $(getconf CLK_TCK)))
[ -e $ascend/driver/version.info ] &&
    [ "$(stat -c %Z $ascend/driver/version.info)" -ge "$started" ] && echo "new: true" || echo "new: false"
[ -e /run/flagprov-ascend-reboot ] && echo "noted: true" || echo "noted: false"
yes busy eval '[ -e "$lock" ] && ! flock --nonblock "$lock" true'

# Who would notice a change: programs that hold a device, and running containers that can. Replicas of ours can be stopped,
# with all that is in them; the others are not ours to end.
docker=$(command -v docker >/dev/null && systemctl is-active --quiet docker.service && echo true || echo false)
ours=$([ $docker = false ] || seconds docker ps --quiet --no-trunc --filter label=io.flagprov.replica)
set --
for pid in $(echo "$said" | sed -n '/Process id/,$p' | awk -F '|' 'NF == 6 && $3 ~ /^ *[0-9]+ *$/ {print $3 + 0}') \
    $(find /proc/[0-9]*/fd -lname '/dev/davinci[0-9]*' 2>/dev/null | cut -d / -f 3); do
    [ -n "$ours" ] && grep -qsF "$ours" "/proc/$pid/cgroup" && continue
    name=$(tr -cd '[:alnum:]._-' <"/proc/$pid/comm" 2>/dev/null)
    set -- "$@" "$pid${name:+/$name}"
done
# shellcheck disable=SC2046
list processes $([ $# = 0 ] || printf '%s\n' "$@" | sort -u)
containers() {
    [ $docker = true ] || return 0
    running=$(seconds docker ps --quiet --no-trunc)
    # shellcheck disable=SC2086
    [ -z "$running" ] || seconds docker inspect --format '{{if not (index .Config.Labels "io.flagprov.replica")}}{{slice .Name 1}} {{.HostConfig.Runtime}} {{range .HostConfig.Devices}}{{.PathOnHost}} {{end}}{{range .Mounts}}{{.Source}} {{end}}{{end}}' $running |
        grep -E ' ascend |/dev/davinci|/usr/local/Ascend' | cut -d ' ' -f 1
}
# shellcheck disable=SC2046
list containers $(containers)
# shellcheck disable=SC2046
list replicas $(systemctl list-units --plain --no-legend --state=active,activating,reloading 'flagprov@*.service' | awk '{print $1}')

set --
for program in gcc make; do
    command -v $program >/dev/null || set -- "$@" "$program"
done
list missing_tools "$@"
yes dkms eval 'command -v dkms >/dev/null'

yes group_exists eval 'getent group "$group" >/dev/null'
yes user_fits eval 'id -Gn "$user" 2>/dev/null | tr " " "\n" | grep -qxF "$group"'
set --
for member in $members; do
    id -Gn "$member" 2>/dev/null | tr ' ' '\n' | grep -qxF "$group" || set -- "$@" "$member"
done
list missing_members "$@"
