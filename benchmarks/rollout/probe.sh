# The floor of a look at many hosts: one connection, this script, one short answer. It reads and changes nothing,
# and is about as long as a check of one service on one host usually is.
fine=0 wrong=0
good() { fine=$((fine + 1)); }
bad() { wrong=$((wrong + 1)); }
is() { if "$@" >/dev/null 2>&1; then good; else bad; fi; }

folder() { # path, mode
    [ -d "$1" ] && [ "$(stat -c %a -- "$1")" = "$2" ] && good || bad
}

holds() { # path; what it should hold comes on standard input
    wanted=$(cat)
    if [ -r "$1" ] && [ "$(< "$1")" = "$wanted" ]; then good; else bad; fi
}

folder /etc 755
folder /usr/bin 755
is [ -x /bin/sh ]
is getent passwd root
is [ -w /tmp ]

holds /var/lib/probed/engine.json <<'END'
{
  "model": "/models/Qwen3-4B",
  "served_model_name": "qwen3-4b",
  "host": "0.0.0.0",
  "port": 9010,
  "dtype": "bfloat16",
  "max_model_len": 32768,
  "max_num_seqs": 32,
  "gpu_memory_utilization": 0.9,
  "tensor_parallel_size": 8,
  "pipeline_parallel_size": 1,
  "enable_prefix_caching": true,
  "enable_chunked_prefill": true,
  "disable_log_requests": true
}
END

holds /var/lib/probed/environment <<'END'
CUDA_DEVICE_MAX_CONNECTIONS=1
NCCL_DEBUG=WARN
NCCL_IB_HCA=mlx5_0,mlx5_1,mlx5_2,mlx5_3
NCCL_IB_GID_INDEX=3
NCCL_SOCKET_IFNAME=eth0
GLOO_SOCKET_IFNAME=eth0
OMP_NUM_THREADS=8
HF_HUB_OFFLINE=1
TRANSFORMERS_OFFLINE=1
VLLM_WORKER_MULTIPROC_METHOD=spawn
VLLM_LOGGING_LEVEL=INFO
PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
LD_LIBRARY_PATH=/usr/local/cuda/lib64:/usr/lib/x86_64-linux-gnu
NVIDIA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7
NVIDIA_DRIVER_CAPABILITIES=compute,utility
TOKENIZERS_PARALLELISM=false
END

holds /etc/systemd/system/probed.service <<'END'
[Unit]
Description=An engine that answers
After=network-online.target docker.service
Requires=docker.service

[Service]
ExecStart=/usr/bin/docker start --attach probed
ExecStop=/usr/bin/docker stop --time 120 probed
SyslogIdentifier=probed
Restart=on-failure
RestartSec=10
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
END

read -r load _ < /proc/loadavg
while read -r key value _; do
    case $key in
        MemAvailable:) memory=$((value / 1024)) ;;
    esac
done < /proc/meminfo
read -r up _ < /proc/uptime
{ read -r _; read -r space; } < <(df --output=avail -m /)
machine=$(uname -m)
is dpkg -s bash

printf '{"host": "%s", "machine": "%s", "up": "%s", "load": "%s", ' "$HOSTNAME" "$machine" "$up" "$load"
printf '"memory_mib": %s, "space_mib": %s, ' "${memory:-0}" "${space:-0}"
printf '"fine": %d, "wrong": %d}\n' "$fine" "$wrong"
[ "$fine" -ge 5 ]
