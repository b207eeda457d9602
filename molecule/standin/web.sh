#!/bin/bash
# Offers the lab's model at http://127.0.0.1:8088, as a site's web server would.
set -e
cp -a /srv/models/Qwen3-Tiny /srv/web
cd /srv/web
sha256sum -- * > SHA256SUMS
systemd-run --quiet --unit web --working-directory /srv/web python3 -m http.server --bind 127.0.0.1 8088
