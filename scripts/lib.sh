# Shared by the verbs beside it: brings the machine to where the project runs. Sourced, never run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$here/.venv"

say() { printf '%s\n' "$*" >&2; }
die() { say "trueup: $*"; exit 1; }

# apt_install PACKAGE…: installs what dpkg does not have yet; needs root and Debian or Ubuntu.
apt_install() {
    local missing=() package
    command -v dpkg-query >/dev/null || { say "not a Debian or Ubuntu machine: install by hand: $*"; return 0; }
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    [ "$(id -u)" -eq 0 ] || { say "not root, so these packages stay missing: ${missing[*]}"; return 0; }
    say "installing ${missing[*]} …"
    local log; log=$(mktemp)
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${missing[@]}"; } >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; die "cannot install ${missing[*]}: see above"; }
    fi
    rm -f "$log"
}

# apt_install_peers PACKAGE…: the same for programs we test against; their daemons must not start on this machine, and
# policy-rc.d says so while they are installed.
apt_install_peers() {
    local policy=/usr/sbin/policy-rc.d made= status=0
    if [ "$(id -u)" -eq 0 ] && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=1
    fi
    (apt_install "$@") || status=$?
    [ -z "$made" ] || rm -f "$policy"
    return $status
}

# a Python of at least 3.11, by the names a machine may have it under
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$candidate"; return; }
    done
    die "cannot find Python 3.11 or newer; install python3.11 (Debian 12, 13 and Ubuntu 24.04 have it) or set PYTHON"
}

# set_up_venv [EXTRA]: creates .venv and installs the project; a stamp makes the second run quick. What the extra
# "dev" installs is enough for running too.
set_up_venv() {
    local extra="${1:-}" sum stamp python
    sum=$(sha256sum "$here/pyproject.toml" | cut -c1-16)
    stamp="$venv/.installed-${extra:-run}-$sum"
    [ -e "$stamp" ] || [ -e "$venv/.installed-dev-$sum" ] \
        && "$venv/bin/python" -c 'import agent' 2>/dev/null && return 0
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    say "setting up $venv …"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -e "$here${extra:+[$extra]}" >&2 \
        || die "cannot install the Python packages: see above (pip needs PyPI or a mirror of it)"
    rm -f "$venv"/.installed-"${extra:-run}"-*
    touch "$stamp"
}

runtime_packages=(busybox-static libnftables1)
test_packages=(nftables iproute2 curl strace gcc libc6-dev)
peer_packages=(docker.io docker-compose iptables docker-registry skopeo umoci firewalld prometheus)
vm_packages=(qemu-system-x86 qemu-system-common kmod apparmor e2fsprogs)
