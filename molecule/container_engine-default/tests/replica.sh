# The life of flagprov@NAME with a container of a shell; says what went well.
set -eu
container=flagprov-t-0 unit=flagprov@t-0.service

get() { docker inspect --format "{{.State.$1}}" $container 2>/dev/null; }
wait_for() { # 30 s until the command is true
    left=150
    until "$@"; do
        [ $((left -= 1)) -gt 0 ] || { echo "never: $*"; exit 1; }
        sleep 0.2
    done
}
up() { [ "$(get Running)" = true ]; }
up_again() { up && [ "$(get StartedAt)" != "$before" ]; }

tar -C / -ch bin/sh bin/sleep lib64 lib/x86_64-linux-gnu/libc.so.6 | docker import - tiny >/dev/null
docker create --name $container --init tiny sh -c 'trap "exit 0" TERM; while :; do sleep 1; done' >/dev/null
mkdir -p /var/lib/flagprov/replicas/t-0
echo 'exit 0' >/var/lib/flagprov/replicas/t-0/wait

systemctl enable --quiet --no-reload $unit
systemctl daemon-reload # as the next boot does: only then docker knows of whom to start with it
systemctl start $unit
wait_for up
before=$(get StartedAt)
docker kill $container >/dev/null
wait_for up_again && echo "killed"
systemctl reset-failed docker # three starts a minute are all that it allows itself
before=$(get StartedAt)
systemctl restart docker
wait_for up_again && echo "docker restarted"
systemctl reset-failed docker
before=$(get StartedAt)
systemctl stop docker.socket docker
systemctl start docker
wait_for up_again && echo "docker stopped and started"
systemctl stop $unit
up || echo "stopped"
systemctl is-failed --quiet $unit || echo "not failed"

systemctl disable --quiet --no-reload $unit
docker rm $container >/dev/null
docker rmi tiny >/dev/null
rm -r /var/lib/flagprov/replicas/t-0
