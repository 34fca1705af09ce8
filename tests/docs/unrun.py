"""The commands of README.md and docs/ that no test can run, and why; a page has no others."""

from __future__ import annotations

UNRUN = {
    "git clone URL plane_tx && cd plane_tx": "a page's steps run in a tree like a clone",
    "make run": "tests/test_make.py runs it",
    "make test": "it would run itself",
    "plane-tx events": "it never ends; tests/cli/test_watching.py runs it",
    "mkdir -m 700 /srv/plane-mounts/@default": "there are no mounts of Plane's here",
    "mv /srv/plane-mounts/notes /srv/plane-mounts/@default/notes": "as the line above",
    "python3 -m venv /opt/plane_tx": "it would install below /opt",
    "/opt/plane_tx/bin/pip install --constraint constraints.txt '.[cli]'": "as above",
    "/opt/plane_tx/bin/pip install --upgrade --constraint constraints.txt '.[cli]'": "as above",
    "/opt/plane_tx/bin/plane-tx doctor --config /etc/plane_tx/plane.toml": "tests/cli runs it",
    "install -D -m 644 conf/systemd/plane.toml /etc/plane_tx/plane.toml": "it would write to /etc",
    "install -m 644 conf/systemd/plane_tx.service conf/systemd/plane_tx-control.socket"
    " conf/systemd/plane_tx-proxy.socket /etc/systemd/system": "as above",
    "systemctl daemon-reload": "no systemd runs here; tests/conf starts what the units say",
    "systemctl enable --now plane_tx-control.socket plane_tx-proxy.socket plane_tx.service": (
        "as above"
    ),
    "systemctl status plane_tx.service": "as above",
    "systemctl restart plane_tx.service": "as above",
    "iptables -I DOCKER-USER -d 169.254.169.254 -j DROP": "it would change this box's firewall",
    "docker build --tag plane_tx --file conf/docker/Dockerfile .": "tests/conf builds it",
    "DOCKER_GROUP=$(stat -c %g /var/run/docker.sock)"
    " docker compose --file conf/docker/compose.yaml up --detach": "it would run on after the test",
}
