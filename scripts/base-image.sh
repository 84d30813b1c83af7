#!/bin/sh
# Makes a base image for agents where no registry can be reached: Debian's Python from Debian's
# packages, by mmdebstrap, with this machine's CA bundle. Kept and used again while neither the
# recipe nor the bundle changes. The image's name is the last line on stdout; all else goes to stderr.
#
#   scripts/base-image.sh [--ca FILE]      --ca adds one more CA certificate (PEM), for tests
#
# Needs root (or a user whom mmdebstrap can serve) and Docker Engine.
set -eu

suite=trixie
python=3.13
recipe=1 # counts up when what follows changes what is in the image
name=rapidclaw-base:$python
bundle=/etc/ssl/certs/ca-certificates.crt
extra=

say() { echo "base-image: $*" >&2; }
fail() { say "$*"; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
    --ca) [ $# -ge 2 ] || fail "--ca needs a file"; extra=$2; shift 2 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 0 ;;
    *) fail "unknown argument: $1" ;;
    esac
done
[ -z "$extra" ] || [ -r "$extra" ] || fail "cannot read $extra"

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
# Debian's mirrors are asked as apt would, so that its proxy settings hold.
install_packages() {
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends "$@" >&2 ||
        { $sudo apt-get update >&2 && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends "$@" >&2; }
}
[ -r "$bundle" ] || install_packages ca-certificates
command -v docker >/dev/null || fail "there is no docker command (apt-get install docker.io)"
docker version >/dev/null 2>&1 || fail "Docker Engine does not answer (systemctl start docker, or: setsid dockerd >/tmp/dockerd.log 2>&1 &)"

# An image with more CAs is one of its own, so that tests do not change what others build on.
if [ -n "$extra" ]; then
    name=$name-ca$(sha256sum <"$extra" | cut -c1-8)
fi
key=$(cat "$bundle" ${extra:+"$extra"} | sha256sum | cut -c1-16)
key=$recipe-$suite-$python-$key

if [ "$(docker image inspect -f '{{index .Config.Labels "dev.rapidclaw.base"}}' "$name" 2>/dev/null)" = "$key" ]; then
    say "$name is there ($key)"
    echo "$name"
    exit 0
fi

command -v mmdebstrap >/dev/null || install_packages mmdebstrap
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir "$work/certs"
cat "$bundle" ${extra:+"$extra"} >"$work/certs/ca-certificates.crt"
chmod -R a+rX "$work"

# Debian 12 does not know the newest suites' keys; its own key ring is enough for trixie since 12.1.
say "making $name ($key) from Debian $suite; this takes about half a minute"
# shellcheck disable=SC2016 # mmdebstrap expands $1, not we
mmdebstrap --variant=apt --components=main \
    --include=python3,python3-pip,ca-certificates,passwd \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --customize-hook="copy-in $work/certs/ca-certificates.crt /etc/ssl/certs/" \
    --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
    --customize-hook='ln -sf python3 "$1"/usr/bin/python' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/*' \
    "$suite" "$work/base.tar" >&2
version=$(tar -xOf "$work/base.tar" ./var/lib/dpkg/status |
    sed -n '/^Package: python3-minimal$/,/^$/s/^Version: \([0-9.]*\).*/\1/p')
[ -n "$version" ] || fail "the image holds no python3"
docker import \
    -c "ENV PYTHON_VERSION=$version" \
    -c "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    -c "ENV LANG=C.UTF-8" \
    -c "LABEL dev.rapidclaw.base=$key" \
    -c 'CMD ["python3"]' \
    "$work/base.tar" "$name" >&2
echo "$name"
