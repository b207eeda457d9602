#!/bin/sh
# An x86-64 container that shows an arm64 machine of two NUMA nodes. What the role sets there are files of the
# host's own, so that nothing of the machine below it is touched.
set -eu
printf '#!/bin/sh\n[ "$*" = -m ] && echo aarch64 || exec /usr/bin/uname "$@"\n' >/usr/local/bin/uname
printf '#!/bin/sh\necho none\nexit 1\n' >/usr/local/bin/systemd-detect-virt
chmod 755 /usr/local/bin/uname /usr/local/bin/systemd-detect-virt

shown=/usr/local/share/shown
mkdir -p $shown/node/node0 $shown/node/node1 $shown/hugepages
printf 'processor\t: 0\nFeatures\t: fp bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n' >$shown/cpuinfo
# A kernel's file is replaced by each writing, this one is overwritten from its beginning.
echo never >$shown/hugepages/enabled
echo 0 >$shown/numa_balancing
mount --bind $shown/cpuinfo /proc/cpuinfo
mount --bind $shown/node /sys/devices/system/node
mount --bind $shown/hugepages /sys/kernel/mm/transparent_hugepage
mount --bind $shown/numa_balancing /proc/sys/kernel/numa_balancing

# The kernel's own directory cannot be added to: it is seen through a layer above it.
mkdir -p /run/shown/dmi/id
echo 'Some Maker' >/run/shown/dmi/id/sys_vendor
echo "Model '1'" >/run/shown/dmi/id/product_name
mount -t overlay -o ro,lowerdir=/run/shown:/sys/class shown /sys/class
