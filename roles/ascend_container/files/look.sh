# What of Ascend's software containers can use on a host, and what docker knows of it, as YAML; changes nothing.
# Arguments: the CANN toolkit's directory, VERSION=OLDEST-DRIVER pairs, the runtime's program, its least version, the
# lock that its installer holds.
cann=$1 pairs=$2 runtime=$3 least=$4 lock=$5
ascend=/usr/local/Ascend config=/etc/docker/daemon.json

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
seconds() { timeout 20 "$@" 2>/dev/null; }
value() { sed -n "s/^$2=//p" "$1" 2>/dev/null | head -n 1 | tr -d "'"; }
# 24.1.rc2 comes before 24.1.0, and 25.3.rc1.b061 after 25.3.rc1.
ordered() { printf '%s\n' "$1" "$2" | sed 's/\.\([rR][cC]\)/~\1/' | tr '[:upper:]' '[:lower:]' | sort -V -C; }

echo "arch: '$(uname -m)'"

# What a mount needs: a directory, or a file which must not be one.
echo "kinds:"
for path in $ascend/driver /usr/local/dcmi /etc/ascend_install.info /etc/hccn.conf /usr/local/bin/npu-smi /usr/local/sbin/npu-smi; do
    if [ -d "$path" ]; then kind=directory; elif [ -s "$path" ]; then kind=file; elif [ -e "$path" ]; then kind=empty; else kind=missing; fi
    echo "  '$path': $kind"
done
driver=$(value $ascend/driver/version.info Version)
echo "driver: '$driver'"

set --
for part in "$cann/set_env.sh" "$cann/../nnal/atb/set_env.sh"; do
    [ -s "$part" ] || set -- "$@" "$part"
done
list cann_missing "$@"
version=
for file in "$cann"/latest/*/ascend_toolkit_install.info "$cann"/*/ascend_toolkit_install.info "$cann"/ascend_toolkit_install.info; do
    [ -n "$version" ] || version=$(value "$file" version)
done
echo "cann: '$version'"
wants=
for pair in $pairs; do
    case $version in "${pair%%=*}" | "${pair%%=*}".*) wants=${pair#*=} ;; esac
done
echo "cann_wants: '$wants'"
[ -z "$wants" ] || ordered "$wants" "${driver:-0}" && echo "cann_fits: true" || echo "cann_fits: false"

echo "program: $([ -x "$runtime" ] && echo true || echo false)"
# Its installer's note: the program answers as runc does. Those from before version 5 have none.
version=$(value "$(dirname "$runtime")/ascend_docker_runtime_install.info" version | sed 's/^[vV]//')
echo "runtime: '$version'"
[ -z "$least" ] || ordered "$least" "${version:-0}" && echo "runtime_good: true" || echo "runtime_good: false"
[ -e "$lock" ] && ! flock --nonblock "$lock" true && echo "busy: true" || echo "busy: false"
program=$(command -v dockerd)
echo "docker: '$program'"
active=$(systemctl is-active --quiet docker.service 2>/dev/null && echo true || echo false)
echo "active: $active"
[ $active = false ] || known=$(seconds docker info --format '{{json .Runtimes}}')
echo "known: $(case ${known:-} in *"\"ascend\":{\"path\":\"$runtime\""*) echo true ;; *) echo false ;; esac)"
if [ -s $config ] && ! python3 -I -S -c 'import json, sys
sys.exit(not isinstance(json.load(open(sys.argv[1])), dict))' $config 2>/dev/null; then
    echo "config_valid: false"
else
    echo "config_valid: true"
fi
echo "config: '$([ ! -s $config ] || base64 -w 0 $config)'"
# Written, but not yet read by the daemon.
[ ! -e /run/docker.pid ] || [ ! $config -nt /run/docker.pid ] && echo "stale: false" || echo "stale: true"
running=$([ $active = false ] || seconds docker ps --format '{{.Names}}')
# shellcheck disable=SC2086
list running $running
