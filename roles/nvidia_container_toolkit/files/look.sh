# What a host's container toolkit is and what docker knows of it, as YAML; changes nothing.
# Arguments: packages, where the CDI specification is (or nothing), files of the role.
set -u
packages=$1 specification=$2 files=$3
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
there() { command -v "$1" >/dev/null 2>&1; }
flag() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name: true"; else echo "$name: false"; fi; }

for manager in apt-get dnf none; do
    there $manager && break
done
echo "package_manager: ${manager%-get}"

echo "packages:"
for name in $packages; do
    if [ "$manager" = apt-get ]; then
        version=$(dpkg-query --show --showformat '${db:Status-Status} ${Version}' "$name" 2>/dev/null | sed -n 's/^installed //p')
    else
        version=$(rpm -q --queryformat '%{VERSION}' "$name" 2>/dev/null) || version=
    fi
    echo "  '$name': '$(echo "$version" | sed 's/-.*//; s/~rc/-rc/')'"
done
# shellcheck disable=SC2046
list held $([ "$manager" != apt-get ] || apt-mark showhold 2>/dev/null)
echo "excluded: '$(sed -n 's/^excludepkgs *= *//p' /etc/dnf/dnf.conf 2>/dev/null | tail -n 1)'"
flag hook command -v nvidia-container-runtime-hook

driver=$(sed -n 's/^NVRM version: .*  \([0-9][0-9.]*\)  .*/\1/p' /proc/driver/nvidia/version 2>/dev/null)
echo "driver: '$driver'"
# Specifications of another driver than the one that is loaded. The toolkit's own service writes one from 1.18 on, and
# that one counts more than all in /etc/cdi.
set --
for file in $specification $([ -z "$driver" ] || [ ! -e /run/cdi/nvidia.yaml ] || echo /run/cdi/nvidia.yaml); do
    [ -n "$driver" ] && grep -qsF "$driver" "$file" || set -- "$@" "$file"
done
list stale "$@"

flag docker command -v dockerd
flag active systemctl is-active --quiet docker.service
# Driver of control groups first. A docker that is down is not asked: its socket would start it.
info=$(systemctl is-active --quiet docker.service &&
    timeout 20 docker info --format '{{.CgroupDriver}}{{range $name, $one := .Runtimes}} {{$name}}{{end}}' 2>/dev/null)
# shellcheck disable=SC2086
set -- $info
cgroups=${1:-}
[ $# = 0 ] || shift
flag answers test -n "$cgroups"
list runtimes "$@"
running=$([ -z "$cgroups" ] || timeout 20 docker ps --quiet --no-trunc 2>/dev/null)
# shellcheck disable=SC2046,SC2086
list running $([ -z "$running" ] || timeout 20 docker inspect --format '{{slice .Name 1}}' $running 2>/dev/null)
gpu='{{if and (or .HostConfig.DeviceRequests (eq .HostConfig.Runtime "nvidia")) (not .HostConfig.Privileged)}}{{slice .Name 1}}{{end}}'
# shellcheck disable=SC2046,SC2086
list gpu_containers $([ -z "$running" ] || [ "$cgroups" != systemd ] || timeout 20 docker inspect --format "$gpu" $running 2>/dev/null)
echo "config: '$([ -s /etc/docker/daemon.json ] && base64 -w 0 /etc/docker/daemon.json)'"
flag config_valid sh -c '[ ! -s /etc/docker/daemon.json ] || python3 -I -S -c "
import json
assert isinstance(json.load(open(\"/etc/docker/daemon.json\")), dict)"'

echo "files:"
for file in $files; do
    echo "  '$file': '$([ -f "$file" ] && echo "$(stat -c '%a %u' "$file") $(base64 -w 0 "$file")")'"
done
