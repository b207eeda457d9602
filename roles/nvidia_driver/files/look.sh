# What a host's NVIDIA driver is: on the bus, in packages, on disk, loaded, in use; as YAML. Changes nothing.
# Arguments: files of the role.
set -u
files=$1

list() { name=$1; shift; printf '%s: [' "$name"; [ $# = 0 ] || printf "'%s'," "$@"; echo ']'; }
there() { command -v "$1" >/dev/null 2>&1; }
flag() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name: true"; else echo "$name: false"; fi; }
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

for manager in apt-get dnf none; do
    there $manager && break
done
echo "package_manager: ${manager%-get}"
[ "$manager" != apt-get ] || [ -d /usr/lib/python3/dist-packages/apt ] && echo "predictable: true" || echo "predictable: false"
. /etc/os-release
echo "distribution: '$ID'"
echo "distribution_version: '${VERSION_ID:-}'"
echo "machine: $(uname -m)"

# The kernel that boots next: what the boot loader says, else the newest, else (in a container) the one that runs.
running=$(uname -r)
next=$(grubby --default-kernel 2>/dev/null | sed -n 's|.*/vmlinuz-||p')
[ -n "$next" ] || next=$(for image in /boot/vmlinuz-*; do echo "${image#/boot/vmlinuz-}"; done |
    grep -v -e '^\*$' -e rescue | while read -r name; do [ ! -d "/lib/modules/$name" ] || echo "$name"; done | sort -V | tail -n 1)
next=${next:-$running}
echo "kernel: '$running'"
echo "kernel_next: '$next'"
flag headers test -d "/lib/modules/$next/build"

gpus= switches=0
for device in /sys/bus/pci/devices/*; do
    [ "$(cat "$device/vendor" 2>/dev/null)" = 0x10de ] || continue
    case $(cat "$device/class") in
        0x0300* | 0x0302*) gpus="$gpus $(cat "$device/device")" ;;
        0x0680*) switches=$((switches + 1)) ;;
    esac
done
# shellcheck disable=SC2086
list gpus $gpus
echo "switches: $switches"

secure=false
if there mokutil; then
    mokutil --sb-state 2>/dev/null | grep -q 'SecureBoot enabled' && secure=true
else
    for variable in /sys/firmware/efi/efivars/SecureBoot-*; do
        [ "$(od -An -t u1 -j 4 -N 1 "$variable" 2>/dev/null | tr -d ' ')" != 1 ] || secure=true
    done
fi
echo "secure_boot: $secure"
# dkms signs with one of these, which the firmware must have been told of.
key= enrolled=false
for file in /var/lib/dkms/mok.pub /var/lib/shim-signed/mok/MOK.der; do
    [ -e "$file" ] || continue
    key=$file
    if mokutil --test-key "$file" 2>&1 | grep -q 'already enrolled'; then enrolled=true; break; fi
done
echo "signing_key: '$key'"
echo "signing_key_enrolled: $enrolled"

version=$(sed -n 's/^NVRM version: .*  \([0-9][0-9.]*\)  .*/\1/p' /proc/driver/nvidia/version 2>/dev/null)
echo "loaded: '$version'"
flag loaded_open grep -q 'Open Kernel Module' /proc/driver/nvidia/version
flag nouveau test -d /sys/module/nouveau
echo "disk: '$(modinfo -k "$next" -F version nvidia 2>/dev/null)'"
echo "disk_running: '$(modinfo -k "$running" -F version nvidia 2>/dev/null)'"
flag disk_open sh -c "modinfo -k '$next' -F license nvidia | grep -q GPL"
echo "signer: '$(modinfo -k "$next" -F signer nvidia 2>/dev/null | tr -d "'")'"
reported=$([ -z "$version" ] || timeout 120 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
case $reported in [0-9]*) ;; *) reported= ;; esac
echo "reported: '$reported'"

# Parts that must be of one version: name and upstream version.
parts='^(lib)?nvidia-(headless|dkms|kernel|kmod|utils|compute|driver|smi|fabric-?manager|persistenced|open|gl|extra|decode|encode|fbc1|cfg1?|ml|nscq|no-dkms)|^kmod-nvidia|^cuda-drivers'
echo "packages:"
if [ "$manager" = apt-get ]; then
    dpkg-query --show --showformat '${db:Status-Status} ${Package} ${Version}\n' '*nvidia*' 'cuda-drivers*' 2>/dev/null | sed -n 's/^installed //p'
else
    rpm -qa --queryformat '%{NAME} %{VERSION}\n' '*nvidia*' 'cuda-drivers*' 2>/dev/null
fi | awk -v parts="$parts" '{sub(/^[0-9]+:/, "", $2); sub(/-.*/, "", $2)} $1 ~ parts && $2 ~ /^[1-9][0-9][0-9]\.[0-9.]+$/ {printf "  '\''%s'\'': '\''%s'\''\n", $1, $2}'
if [ "$manager" = apt-get ]; then
    # shellcheck disable=SC2046
    list broken $(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' '*nvidia*' 2>/dev/null | awk '$1 ~ /^(half|unpacked)/ {print $2}')
    # Those that bring new kernels (linux-image-generic-hwe-22.04), and the one that boots next.
    # shellcheck disable=SC2046
    list kernel_packages $(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' 'linux-image-*' 'linux-headers-*' \
        'linux-modules-*' 'linux-generic*' 'linux-virtual*' 'linux-server*' 'linux-aws*' 'linux-azure*' 'linux-gcp*' 2>/dev/null |
        awk -v kernel="$next" '$1 == "installed" && ($2 !~ /[0-9]\.[0-9]+\.[0-9]/ || index($2, kernel)) {print $2}')
    # shellcheck disable=SC2046
    list held $(apt-mark showhold 2>/dev/null)
    echo "excluded: ''"
else
    list broken
    list kernel_packages
    list held
    echo "excluded: '$(sed -n 's/^excludepkgs *= *//p' /etc/dnf/dnf.conf 2>/dev/null | tail -n 1)'"
fi
# Written after the initial ramdisk was.
stale=false
for image in "/boot/initrd.img-$next" "/boot/initramfs-$next.img"; do
    if [ -e "$image" ] && [ /etc/modprobe.d/flagprov-nvidia.conf -nt "$image" ]; then stale=true; fi
done
echo "ramdisk_stale: $stale"
flag runfile test -e /usr/bin/nvidia-uninstall

flag persistence systemctl is-enabled --quiet nvidia-persistenced.service
flag persistence_active systemctl is-active --quiet nvidia-persistenced.service
# The vendor's own line, without what the role adds to it.
echo "persistence_start: '$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/nvidia-persistenced.service /lib/systemd/system/nvidia-persistenced.service 2>/dev/null | head -n 1 | tr -d "'")'"
flag fabric_manager systemctl is-enabled --quiet nvidia-fabricmanager.service
flag fabric_manager_active systemctl is-active --quiet nvidia-fabricmanager.service

# Who computes: processes that have a device open, those that the driver names, containers with GPUs.
set --
for pid in $(find /proc/[0-9]*/fd -lname '/dev/nvidia*' -printf '%h\n' 2>/dev/null | cut -d / -f 3 | sort -un); do
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
        '' | nvidia-persiste* | nv-fabricmanage* | nv-hostengine | nvidia-smi | modprobe) ;;
        *) set -- "$@" "$(tr -d "'" <"/proc/$pid/comm") (pid $pid)" ;;
    esac
done
if [ -n "$reported" ]; then
    while IFS=, read -r pid name; do
        case $pid in '' | *[!0-9]*) ;; *) set -- "$@" "$(echo "$name" | tr -d "'" | sed 's/^ //') (pid $pid)" ;; esac
    done <<EOF
$(timeout 60 nvidia-smi --query-compute-apps=pid,process_name --format=csv,noheader 2>/dev/null)
EOF
fi
list users "$@"
gpu='{{if or .HostConfig.DeviceRequests (eq .HostConfig.Runtime "nvidia")}}{{slice .Name 1}}{{end}}'
ids=$(systemctl is-active --quiet docker.service && timeout 20 docker ps --quiet --no-trunc 2>/dev/null)
# shellcheck disable=SC2046,SC2086
list containers $([ -z "$ids" ] || timeout 20 docker inspect --format "$gpu" $ids 2>/dev/null)

echo "files:"
for file in $files; do
    echo "  '$file': '$([ -f "$file" ] && echo "$(stat -c '%a %u' "$file") $(base64 -w 0 "$file")")'"
done
