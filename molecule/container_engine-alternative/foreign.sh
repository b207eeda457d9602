#!/bin/sh
# Runs a container that is not ours, of nothing but a shell.
set -eu
tar -C / -ch bin/sh bin/sleep lib64 lib/x86_64-linux-gnu/libc.so.6 | docker import - tiny
docker run --detach --name foreign --init tiny sleep infinity
