# What a reboot would end, as YAML; changes nothing.

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
seconds() { timeout 30 "$@" 2>/dev/null; }

# Replicas of ours stop by their units and come back with the machine; other containers are not ours to end.
container='{{if not (.Label "io.flagprov.replica")}}{{.Names}}{{end}}'
# shellcheck disable=SC2046
list containers $(
    ! systemctl is-active --quiet docker.service || seconds docker ps --format "$container"
    ! command -v podman >/dev/null || seconds podman ps --format '{{.Names}}'
)
# shellcheck disable=SC2046
list replicas $(systemctl list-units --plain --no-legend --state=active,activating,reloading 'flagprov@*.service' | awk '{print $1}')

# Programs that compute on an accelerator now, but for those in replicas of ours.
ours=$(! systemctl is-active --quiet docker.service || seconds docker ps --quiet --no-trunc --filter label=io.flagprov.replica)
foreign() {
    while read -r pid name; do
        [ -n "$ours" ] && grep -qsF "$ours" "/proc/$pid/cgroup" || echo "$pid/$(basename -- "$name" | tr -cd '[:alnum:]._-')"
    done
}
npu=$(PATH=$PATH:/usr/local/sbin:/usr/local/bin command -v npu-smi)
# shellcheck disable=SC2046
list processes $(
    seconds nvidia-smi --query-compute-apps=pid,process_name --format=csv,noheader | sed -n 's/^ *\([0-9][0-9]*\), */\1 /p' | sort -u | foreign
    # The process table has four columns and comes last: NPU and chip, process id, name, memory.
    [ -z "$npu" ] || seconds "$npu" info | sed -n '/Process id/,$p' |
        awk -F '|' 'NF == 6 && $3 ~ /^ *[0-9]+ *$/ {split($3, pid, " "); split($4, name, " "); print pid[1], name[1]}' | sort -u | foreign
)
