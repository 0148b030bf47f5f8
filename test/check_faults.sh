#!/bin/bash
# check_faults.sh - faults put into the library and the programs: allocations and file calls that fail, disks that are
# full, kills. `make check` runs a short form of each; LONG=1 (make check-faults) all of it, for about half an hour, with
# progress and tables. ONLY="kills places": those parts. test/faults has the parts; build.mk builds what they need.
# Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
LONG=${LONG:-}
export LONG FAULTS=${FAULTS:-build/release/test/faults} KDAS_BIN=${KDAS_BIN:-bin}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-check-faults.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
export FAULTS_INPUTS=$tmp/inputs # which the first script makes
passed=0 failed=0

allocations() # once for single allocations, once for all from one on
{
    local place rc=0
    for place in "" ${LONG:+--lasting}; do
        mkdir -p "$tmp/a$place"
        "$FAULTS/allocations" ${LONG:+--every} $place "$tmp/a$place" || rc=1
        rm -rf "$tmp/a$place"
    done
    return $rc
}

part() # NAME COMMAND...
{
    local good wrong began=$SECONDS
    [[ " ${ONLY:-$1} " = *" $1 "* ]] || return
    printf -- '-- %s\n' "$1"
    ONLY='' "${@:2}" 2>&1 | tee "$tmp/said" | grep -vE '^[0-9]+ passed, [0-9]+ failed$'
    read -r good wrong < <(awk '/^[0-9]+ passed, [0-9]+ failed$/ { good += $1; wrong += $3; any = 1 }
        END { print good + 0, any ? wrong + 0 : 1 }' "$tmp/said")
    passed=$((passed + good)) failed=$((failed + wrong))
    [ -z "$LONG" ] || printf -- '-- %s: %d passed, %d failed, %d s\n' "$1" "$good" "$wrong" $((SECONDS - began))
}

part allocations allocations
part file_calls test/faults/file_calls.sh
part named test/faults/named.sh
part places test/faults/places.sh
part kills test/faults/kills.sh
[ -z "$LONG" ] || part kill_ranks test/faults/kill_ranks.sh
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
