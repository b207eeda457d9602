# Runs model.py inside the engine image before its layers are packed: enter.sh ROOT VLLM COMMON.
# The mounts live in the caller's own mount namespace and go with it.
set -e
mount --bind "$2" "$1/usr/local/lib/python3.11/dist-packages"
mount --bind "$3" "$1/mnt"
mount -t proc proc "$1/proc"
exec env -i PATH=/usr/sbin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/mnt \
    chroot "$1" /usr/bin/python3 /root/model.py /root/model
