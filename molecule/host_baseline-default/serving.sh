#!/bin/sh
# A replica as its unit has it, and an nvidia-smi that names a program.
set -eu
cat >/etc/systemd/system/flagprov@.service <<'UNIT'
[Service]
ExecStart=/bin/sleep infinity
ExecStop=/bin/touch /var/tmp/drained
[Install]
WantedBy=multi-user.target
UNIT
cat >/usr/local/bin/nvidia-smi <<'TOOL'
#!/bin/sh
echo "4711, /home/someone/train.py"
TOOL
chmod 755 /usr/local/bin/nvidia-smi
systemctl daemon-reload
systemctl enable --now flagprov@one.service
touch /run/before-the-reboot
