#!/bin/bash
# check_tiles.sh - what the compiler made of the kernels on AMX tiles, which no test may run where the CPU has none:
# the library holds the instructions, and a function that configures tiles releases them at its end.
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
lib=lib/libkdas.so
[ "${KDAS_BIN:-bin}" = bin ] || lib=$(dirname "$KDAS_BIN")/lib/libkdas.so
passed=0 failed=0
if ! command -v objdump >/dev/null; then
    echo "SKIP: there is no objdump"
    exit 0
fi
# For each function with tiles, a line: how many times it configures, releases, multiplies in bf16, and in integers.
tiles=$(objdump -d --no-show-raw-insn "$lib" | awk '
    function tell() { if (c + r + p + i) print name, c + 0, r + 0, p + 0, i + 0; c = r = p = i = 0 }
    /^[0-9a-f]+ </ { tell(); name = $2 }
    $2 == "ldtilecfg" { c++ }
    $2 == "tilerelease" { r++ }
    $2 == "tdpbf16ps" { p++ }
    $2 == "tdpbusd" { i++ }
    END { tell() }')
claim() # TEXT COMMAND...
{
    if "${@:2}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n%s\n' "$1" "$tiles"
    fi
}
each() { [ -n "$tiles" ] && awk "!($1) { bad = 1 } END { exit bad }" <<<"$tiles"; }
claim "each of the four files with products in bf16 multiplies tiles" [ "$(awk '$4 > 0' <<<"$tiles" | wc -l)" -ge 4 ]
claim "so does each of the two with products of integers" [ "$(awk '$5 > 0' <<<"$tiles" | wc -l)" -ge 2 ]
claim "who configures tiles releases them, who multiplies has configured" each '$2 == 1 && $3 == 1 && $4 + $5 > 0'
claim "nobody multiplies tiles of both kinds" each '!$4 || !$5'
printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]
