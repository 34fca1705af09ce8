#!/usr/bin/env bash
# Put in place what the tests need beside Python: a Docker Engine, four images and a registry for
# more, podman, Chromium, the programs that stand in front of the server and watch it, those of the
# bench and of the chaos suite, and the Autobahn Testsuite where there is a Python 2.7.
# As root on Debian it installs what is missing; elsewhere it uses what it finds. Nothing is written
# into the repository. What was left out is said in one line, and is a failure when CI=true.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/plane_tx
left_out=()
# A bare PATH lacks the places where Debian keeps dockerd, iptables and debootstrap.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf 'provision: %s\n' "$*"; }

can_install() { [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

answers() { docker version >/dev/null 2>&1; }

has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# --- packages: Debian's own, and only those that are missing ------------------------------------

install_packages() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v iptables >/dev/null || missing+=(iptables)
    [ -x /usr/bin/chromium ] || missing+=(chromium)
    [ -x /bin/busybox ] || missing+=(busybox-static)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    command -v node >/dev/null || missing+=(nodejs)
    command -v tsc >/dev/null || missing+=(node-typescript)
    command -v docker-registry >/dev/null || missing+=(docker-registry)
    command -v podman >/dev/null || missing+=(podman runc)
    command -v catatonit >/dev/null || missing+=(catatonit)
    command -v nginx >/dev/null || missing+=(nginx-light)
    command -v haproxy >/dev/null || missing+=(haproxy)
    command -v caddy >/dev/null || missing+=(caddy)
    command -v promtool >/dev/null || missing+=(prometheus)
    command -v systemd-socket-activate >/dev/null || missing+=(systemd)
    command -v curl >/dev/null || missing+=(curl)
    command -v wrk >/dev/null || missing+=(wrk)
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    command -v ip >/dev/null || missing+=(iproute2)
    command -v unshare >/dev/null || missing+=(util-linux)
    has_faketime || missing+=(libfaketime)
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]} ..."
    apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "${missing[@]}" >"$cache/apt.log" 2>&1 ||
        { say "apt-get failed: $(tail -n 1 "$cache/apt.log") (all of it: $cache/apt.log)"; return 1; }
    no_service nginx nginx-light "${missing[@]}"
    no_service haproxy haproxy "${missing[@]}"
    no_service caddy caddy "${missing[@]}"
    no_service prometheus prometheus "${missing[@]}"
    no_service docker-registry docker-registry "${missing[@]}"
    no_service podman podman "${missing[@]}"
}

# no_service SERVICE PACKAGE INSTALLED...: Debian's package has just started it on a port of its own;
# only the program is wanted.
no_service() {
    local service=$1 package=$2
    shift 2
    case " $* " in *" $package "*)
        { service "$service" stop; update-rc.d "$service" disable; } >>"$cache/apt.log" 2>&1 || true ;;
    esac
}

# --- the Engine ---------------------------------------------------------------------------------

# Whether process $1 is a $2 that runs: one that was killed keeps its name until it is reaped.
runs() {
    [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

# A daemon that was killed leaves its pid behind, and the next one takes it for a rival.
drop_stale_pid() {
    local file=$1 name=$2
    [ ! -e "$file" ] || runs "$(cat "$file")" "$name" || rm -f "$file"
}

engine_runs() {
    local pid
    for pid in $(pgrep -x dockerd); do
        ! runs "$pid" dockerd || return 0
    done
    return 1
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        systemctl start docker
    elif ! engine_runs; then
        drop_stale_pid /var/run/docker.pid dockerd
        drop_stale_pid /var/run/docker/containerd/containerd.pid containerd
        # Descriptor 9 is the lock of this script: a daemon that inherits it would keep it.
        setsid nohup dockerd >"$cache/dockerd.log" 2>&1 </dev/null 9>&- &
        say "started dockerd, which stays; it logs to $cache/dockerd.log"
    fi
    for _ in $(seq 60); do
        ! answers || return 0
        sleep 0.5
    done
    say "dockerd does not answer: $(tail -n 1 "$cache/dockerd.log" 2>/dev/null)"
    return 1
}

# --- the images, built here: no registry is asked -----------------------------------------------

build_busybox() {
    local root applet
    root=$(mktemp -d)
    mkdir -p "$root/bin" "$root/tmp" "$root/etc"
    cp /bin/busybox "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    tar -C "$root" -c . | docker import --change 'ENV PATH=/bin' --change 'CMD ["sh"]' \
        - plane-tx-test/busybox >/dev/null
    rm -rf "$root"
}

build_python() {
    local suite root tar
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    tar=$cache/python-$suite.tar
    if [ ! -e "$tar" ]; then
        say "making a root of $suite with python3 (once, about a minute) ..."
        root=$(mktemp -d)
        debootstrap --variant=minbase --include=python3-minimal,libpython3-stdlib \
            "$suite" "$root" >"$cache/debootstrap.log" 2>&1 ||
            { say "debootstrap failed: $(tail -n 1 "$cache/debootstrap.log")"; return 1; }
        rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/*
        tar -C "$root" --one-file-system -cf "$tar.part" .
        mv "$tar.part" "$tar"
        rm -rf "$root"
    fi
    docker import --change 'CMD ["python3"]' "$tar" plane-tx-test/python >/dev/null
}

# What the examples' recipes are built on here: pip, and the certificates that this box trusts, with
# which it reaches an index through a proxy of its own, if it has one.
build_pip() {
    local context
    context=$(mktemp -d)
    cp /etc/ssl/certs/ca-certificates.crt "$context/trusted.crt"
    cat >"$context/Dockerfile" <<'END'
FROM plane-tx-test/python
RUN apt-get -qq update \
    && apt-get -qq -y install --no-install-recommends python3-pip python3-venv >/dev/null \
    && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/lib/python3*/EXTERNALLY-MANAGED
COPY trusted.crt /etc/ssl/trusted-here.crt
ENV PIP_CERT=/etc/ssl/trusted-here.crt SSL_CERT_FILE=/etc/ssl/trusted-here.crt
END
    DOCKER_BUILDKIT=0 docker build --quiet --tag plane-tx-test/pip "$context" >"$cache/build.log" 2>&1 ||
        say "pip: $(tail -n 1 "$cache/build.log")"
    rm -rf "$context"
}

# Always asked: the Engine's own cache makes it instant unless the example has changed.
build_whiteboard() {
    DOCKER_BUILDKIT=0 docker build --quiet --build-arg BASE=plane-tx-test/python \
        --tag plane-tx-test/whiteboard "$here/examples/whiteboard" >"$cache/build.log" 2>&1 ||
        { say "whiteboard: $(tail -n 1 "$cache/build.log")"; return 1; }
}

build_images() {
    if can_install; then
        has_image plane-tx-test/busybox || build_busybox
        has_image plane-tx-test/python || build_python
        has_image plane-tx-test/pip || build_pip
    fi
    ! has_image plane-tx-test/python || build_whiteboard
}

# --- what is missing in the end -----------------------------------------------------------------

note_what_is_left_out() {
    local image missing=()
    "$here/tests/conformance/provide.sh" || left_out+=("Autobahn's tests (it is said above)")
    if answers; then
        for image in busybox python pip whiteboard; do
            has_image "plane-tx-test/$image" || missing+=("plane-tx-test/$image")
        done
        [ ${#missing[@]} = 0 ] || left_out+=("Docker tests (no image ${missing[*]})")
    else
        left_out+=("Docker tests (no Engine answers)")
    fi
    command -v docker-registry >/dev/null || left_out+=("tests of pulls (no docker-registry)")
    { command -v podman && command -v runc && command -v catatonit; } >/dev/null ||
        left_out+=("tests with podman (no podman, no runc or no catatonit)")
    { command -v ip && command -v unshare && command -v nsenter && has_faketime; } >/dev/null ||
        left_out+=("tests that do harm (no iproute2, no util-linux or no libfaketime)")
    [ -x /usr/bin/chromium ] || left_out+=("browser tests (no /usr/bin/chromium)")
    { command -v node && command -v tsc; } >/dev/null ||
        left_out+=("tests of the JavaScript client (no node or no tsc)")
    { command -v caddy && command -v haproxy && command -v promtool &&
        command -v systemd-socket-activate && command -v curl; } >/dev/null ||
        left_out+=("tests of conf/ (no caddy, no haproxy, no promtool, no systemd or no curl)")
    { command -v nginx && command -v wrk && command -v gcc; } >/dev/null ||
        left_out+=("tests of the bench (no nginx, no wrk or no gcc)")
}

main() {
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    ! command -v flock >/dev/null || flock 9
    if can_install; then
        install_packages && { answers || start_engine; } || true
    fi
    ! answers || build_images || true
    note_what_is_left_out
    if [ ${#left_out[@]} -gt 0 ]; then
        local cure="to have them, run \`make test\` as root on Debian"
        ! can_install || cure="the reason is said above, or in $cache"
        say "left out: $(printf '%s; ' "${left_out[@]}")$cure"
        [ "${CI:-}" != true ]
    fi
}

main
