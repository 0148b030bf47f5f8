#!/bin/bash
# fresh.sh - the README's two commands on a bare machine: makes a Debian 12 in a temporary folder (debootstrap),
# puts git, make and a clone of HEAD into it, nothing else, and runs `make demo` and `make check` there.
#
#   test/fresh.sh [--quick] [demo|check]...       both by default, each in a system of its own
#
# --quick: a demo of few frames, and three of the suites; minutes instead of an hour.
# MIRROR=URL is where packages come from; apt's settings of proxies are taken along. Needs root and debootstrap;
# where they are missing it says so and ends with 77.
set -euo pipefail
source=$(realpath "$(dirname "$0")/..")
suite=bookworm mirror=${MIRROR:-http://deb.debian.org/debian}
quick=no commands=()

skip() { echo "SKIP: fresh.sh needs $1"; exit 77; }

for argument; do
    case $argument in
    --quick) quick=yes ;;
    demo | check) commands+=("$argument") ;;
    *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
[ ${#commands[@]} -gt 0 ] || commands=(demo check)
[ "$(id -u)" = 0 ] || skip "root"
for tool in debootstrap unshare git; do
    command -v $tool >/dev/null || skip "$tool (Debian: apt-get install debootstrap util-linux git)"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/kdas-fresh.XXXXXX")
root=$work/root
# What is mounted below it is mounted for one command alone, see inside().
trap 'rm -rf --one-file-system "$work"' EXIT
export http_proxy=${http_proxy:-} https_proxy=${https_proxy:-}

# inside COMMAND...: in the new system, with its /proc and the devices of this one, and an empty environment
inside()
{
    # shellcheck disable=SC2016 # the inner shell's arguments
    unshare --mount --fork sh -c '
        mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && cd / || exit 1
        exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
            http_proxy="$http_proxy" https_proxy="$https_proxy" DEBIAN_FRONTEND=noninteractive "$@"' "$root" "$@"
}
# Debian's smallest system, with git, make and the sources
bare()
{
    rm -rf --one-file-system "$root"
    debootstrap --variant=minbase $suite "$root" "$mirror"
    cat /etc/resolv.conf >"$root/etc/resolv.conf"
    apt-config dump | grep -E '^Acquire::(https?|Check-)' >"$root/etc/apt/apt.conf.d/90fresh" || true
    inside apt-get update
    inside apt-get install -y --no-install-recommends git make
    git clone --quiet --no-hardlinks "$source" "$root/root/libkdas"
}

declare -A few=([demo]="DEMO=--scenes 16 --epochs 1 --teacher-scenes 16 --teacher-epochs 1 --pictures 1" [check]="ONLY=base io loss")
failed=0
for command in "${commands[@]}"; do
    echo "== a bare $suite for make $command"
    (bare) >"$work/log" 2>&1 || { tail -n 20 "$work/log"; echo "FAILED: the system itself"; exit 1; }
    arguments=()
    [ $quick = no ] || arguments=("${few[$command]}")
    inside make -C /root/libkdas "$command" ${arguments[@]+"${arguments[@]}"} ||
        { echo "FAILED: make $command"; failed=$((failed + 1)); }
done
echo "$((${#commands[@]} - failed)) passed, $failed failed"
[ $failed = 0 ]
