#!/usr/bin/env python3
import json

hosts = {"dyn-1.example.com": {"ansible_host": "10.9.0.1"}}
groups = {"h100": {"hosts": list(hosts), "vars": {"flagprov_chip": "nvidia-h100"}}}
print(json.dumps({**groups, "_meta": {"hostvars": hosts}}))
