#!/bin/sh
# Emulated by flagprov: takes away what the @KIND@ package brought.
set -eu
if [ @KIND@ = driver ]; then
    systemctl disable --quiet --no-reload flagprov-emulated-ascend.service 2>/dev/null || true
    rm -rf /etc/systemd/system/flagprov-emulated-ascend.service /usr/local/dcmi \
        /usr/local/bin/npu-smi /usr/local/sbin/npu-smi /usr/local/Ascend/driver
    sed -i '/^Driver_/d' /etc/ascend_install.info
else
    rm -rf /usr/local/Ascend/firmware
    sed -i '/^Firmware_/d' /etc/ascend_install.info
fi
grep -q _Install_Type= /etc/ascend_install.info || rm -f /etc/ascend_install.info
echo "[@NAME@] [$(date '+%F %T')] [INFO]@NAME@ package uninstalled successfully! Reboot needed for uninstallation to take effect!"
