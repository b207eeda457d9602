#!/bin/sh
# A machine, not a container: with a compiler, headers of the kernel that runs, and a repository without dkms.
set -eu
for program in gcc make; do ln -sf /bin/true /usr/local/bin/$program; done
printf '#!/bin/sh\nexit 1\n' >/usr/local/bin/systemd-detect-virt
chmod 755 /usr/local/bin/systemd-detect-virt
mkdir -p "/lib/modules/$(uname -r)/build" /lib/modules/99.9.9 /boot
: >/boot/vmlinuz-99.9.9
printf 'Package: dkms\nPin: release *\nPin-Priority: -1\n' >/etc/apt/preferences.d/no-dkms
