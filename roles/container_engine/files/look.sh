# What a host's Docker Engine is and runs, as YAML; changes nothing.
# Files come as mode, owner and base64 of their text.
# Argument: the registries whose authorities are wanted.

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
text() { [ -f "$1" ] && echo "$(stat -c '%a %u' "$1") $(base64 -w 0 "$1")"; }
seconds() { timeout 20 "$@" 2>/dev/null; }

for manager in apt-get dnf none; do
    command -v $manager >/dev/null && break
done
echo "package_manager: ${manager%-get}"
# The apt module brings its own Python library when it needs it, but not in check mode.
[ "$manager" != apt-get ] || [ -d /usr/lib/python3/dist-packages/apt ] && echo "predictable: true" || echo "predictable: false"
. /etc/os-release
echo "distribution: '$ID'"
echo "distribution_version: '${VERSION_ID:-}'"

echo "machine: $(uname -m)"

program=$(command -v dockerd)
echo "program: '$program'"
# The package that it came with, so that one of another origin is not put beside it.
owner=
if [ -n "$program" ]; then
    for file in "$program" "$(readlink -f "$program")"; do
        if [ "$manager" = apt-get ]; then
            owner=$(dpkg-query --search "$file" 2>/dev/null | sed -n '1s/[:,].*//p')
        elif [ "$manager" = dnf ]; then
            owner=$(rpm -qf --queryformat '%{NAME}\n' "$file" 2>/dev/null) || owner=
        fi
        [ -z "$owner" ] || break
    done
fi
echo "owner: '$owner'"
echo "client: '$(command -v docker)'"
case $(readlink -f "$(command -v docker || echo /)") in
    */snap | */snap/*) echo "kind: snap" ;;
    *podman*) echo "kind: podman" ;;
    *) grep -qs podman "$(command -v docker)" && echo "kind: podman" || echo "kind: docker" ;;
esac

echo "enabled: $(systemctl is-enabled --quiet docker.service 2>/dev/null && echo true || echo false)"
active=$(systemctl is-active --quiet docker.service 2>/dev/null && echo true || echo false)
echo "active: $active"
echo "failed: $(systemctl is-failed --quiet docker.service 2>/dev/null && echo true || echo false)"

# A docker that is down is not asked: its socket would start it.
server=$([ $active = false ] || seconds docker version --format '{{.Server.Version}}')
echo "answers: $([ -n "$server" ] && echo true || echo false)"
installed=$([ -z "$program" ] || "$program" --version 2>/dev/null | sed 's/.*version \([0-9.]*\).*/\1/')
echo "version: '$(echo "${server:-$installed}" | sed 's/^\([0-9.]*\).*/\1/')'"

registries=$1
configured=/var/lib/docker
if [ -s /etc/docker/daemon.json ]; then
    configured=$(python3 -I -S -c 'import json
config = json.load(open("/etc/docker/daemon.json"))
print(config.get("data-root") or "/var/lib/docker")' 2>/dev/null) && echo "config_valid: true" || echo "config_valid: false"
else
    echo "config_valid: true"
fi
info=$([ -z "$server" ] || seconds docker info --format '{{.DockerRootDir}} {{.Images}} {{.Containers}} {{.CgroupDriver}}')
if [ -n "$info" ]; then
    # shellcheck disable=SC2086
    set -- $info
    echo "data_root: '$1'"
    echo "holds: $(($2 + $3))"
    cgroups=$4
else
    echo "data_root: '$configured'"
    echo "holds: $(ls -A "$configured"/image/*/imagedb/content/sha256 "$configured/containers" 2>/dev/null | grep -c '^[0-9a-f]')"
    cgroups=
fi

running=$([ -n "$server" ] && seconds docker ps --quiet --no-trunc)
# shellcheck disable=SC2046,SC2086
list running $([ -z "$running" ] || seconds docker inspect --format '{{slice .Name 1}}' $running)
# A reload of systemd takes GPUs that the runtime hook gave from containers under the systemd cgroup driver.
gpu='{{if and (or .HostConfig.DeviceRequests (eq .HostConfig.Runtime "nvidia")) (not .HostConfig.Privileged)}}{{slice .Name 1}}{{end}}'
# shellcheck disable=SC2046,SC2086
list gpu_containers $([ -z "$running" ] || [ "$cgroups" != systemd ] || seconds docker inspect --format "$gpu" $running)

# What is given on dockerd's command line must not stand in daemon.json as well.
pid=$(cat /run/docker.pid /var/run/docker.pid 2>/dev/null | head -n 1)
# shellcheck disable=SC2046
list flags $([ -z "$pid" ] || tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | sed -n 's/^--\([a-z-]*\).*/\1/p')
# Written, but not yet read by the daemon.
stale=false
for file in /etc/docker/daemon.json /etc/docker/flagprov-proxy.env \
    /usr/local/share/ca-certificates/flagprov-*.crt /etc/pki/ca-trust/source/anchors/flagprov-*.crt; do
    [ ! -e /run/docker.pid ] || [ ! "$file" -nt /run/docker.pid ] || stale=true
done
echo "stale: $stale"

echo "files:"
for file in /etc/docker/daemon.json /etc/docker/flagprov-proxy.env /etc/systemd/system/docker.service.d/flagprov-proxy.conf \
    /etc/systemd/system/flagprov@.service $(printf '/etc/docker/certs.d/%s/flagprov.crt ' $registries); do
    echo "  '$file': '$(text "$file")'"
done
set --
for directory in /etc/docker $(printf '/etc/docker/certs.d/%s ' $registries); do
    [ "$directory" = /etc/docker/certs.d/ ] || [ -d "$directory" ] || set -- "$@" "$directory"
done
list missing_directories "$@"
set --
for file in /etc/docker/certs.d/*/flagprov.crt; do
    [ ! -f "$file" ] || set -- "$@" "$file"
done
list authorities "$@"
# A kernel with AppArmor starts no container without its parser.
if grep -qs Y /sys/module/apparmor/parameters/enabled && ! command -v apparmor_parser >/dev/null; then
    echo "apparmor_parser_missing: true"
else
    echo "apparmor_parser_missing: false"
fi
