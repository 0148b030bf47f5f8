#!/bin/bash
# check_toolkit.sh - look at the CUDA plug-in that the toolkit built: what it exports and needs, for which cards it
# has code, and that on a machine without a card or its driver it loads and says so. No card is needed. Ends with "N
# passed, N failed"; "SKIP" and why where there is no toolkit.
# From make: CC, PLUGIN (its path), ARCHS (such as "75 80"), SOURCES (how many objects have device code), WORK, SHARED
# (the library), KDAS_BIN.
set -u
cd "$(dirname "$0")/../.." || exit 1
cc=${CC:-gcc} plugin=${PLUGIN:-lib/kdas/libkdas-cuda.so} work=${WORK:-build/cuda-parts} bin=${KDAS_BIN:-bin}
passed=0 failed=0

claim() # TEXT COMMAND...
{
    local text=$1
    shift
    mkdir -p "$work"
    if "$@" >"$work/said" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$text"
        sed 's/^/    /' "$work/said"
    fi
}

if [ -z "${ARCHS:-}" ]; then
    echo "SKIP: there is no nvcc, so the plug-in is not built with a toolkit"
    echo "0 passed, 0 failed"
    exit 0
fi

exports()
{
    nm -D --defined-only "$plugin" | awk '{ print $3 }' | tee "$work/exports"
    [ "$(cat "$work/exports")" = kdas_backend_entry ]
}
claim "the plug-in exports its entry and nothing else" exports

# needs FILE: the libraries that are loaded with it
needs() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | tee "$work/needs"; }
stands_alone() { needs "$plugin" && ! grep -E '^lib(kdas|cuda|cudart)\.' "$work/needs"; }
claim "the plug-in needs neither libkdas nor the driver in order to load" stands_alone
is_plain() { needs "${SHARED:-lib/libkdas.so}" && ! grep -E '^lib(cu|nv)' "$work/needs"; }
claim "libkdas needs nothing of NVIDIA's" is_plain

fatbin() { "$cc" -std=gnu11 -O1 -Wall -Wextra -Werror -o "$work/fatbin" test/cuda/fatbin.c; }
claim "the reader of device code compiles" fatbin
has_code()
{
    local arch lowest=1000 containers
    "$work/fatbin" "$plugin" | tee "$work/code" || return 1
    containers=$(wc -l <"$work/code")
    [ "$containers" = "${SOURCES:-$containers}" ] || { echo "$containers objects with code, not $SOURCES" && return 1; }
    for arch in $ARCHS; do
        ! grep -vw "sm_$arch" "$work/code" || { echo "these lack sm_$arch" && return 1; }
        [ "$arch" -ge $lowest ] || lowest=$arch
    done
    ! grep -vw "compute_$lowest" "$work/code" || { echo "these lack PTX of compute_$lowest" && return 1; }
}
claim "every source has machine code for sm_{$(tr ' ' ',' <<<"$ARCHS")}, and PTX of the lowest" has_code

# A host asks for the device. Without NVIDIA's device files there can be no card.
asks()
{
    KDAS_BACKEND_PATH=$(dirname "$plugin") OMP_WAIT_POLICY=passive "$bin/kdas-inspect" pvt_v2_b0 --size 64 --device "$1" \
        2>&1 | tee "$work/answer"
    return "${PIPESTATUS[0]}"
}
no_card() { ! asks cuda && grep -E "'cuda' cannot be used: there is no NVIDIA (driver|card)" "$work/answer"; }
if [ -e /dev/nvidiactl ] || [ -e /dev/dxg ]; then
    claim "a host computes on the card" asks cuda
else
    claim "a host is told in a sentence that there is no card" no_card
fi
no_number() { ! asks cuda:99 && grep "'cuda:99' cannot be used: there is no" "$work/answer"; }
claim "a host is told in a sentence that there is no card 99" no_number

printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]
