#!/bin/bash
# check_regions.sh - the library's parallel regions run on its own threads (src/base/regions.h): no object calls libgomp for a
# region, so OpenMP makes no threads for the library.
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
lib=lib
[ "${KDAS_BIN:-bin}" = bin ] || lib=$(dirname "$KDAS_BIN")/lib
passed=0 failed=0
claim() # TEXT COMMAND...
{
    if "${@:2}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$1"
    fi
}
undefined() { nm -u "$1" 2>/dev/null | awk '{ print $NF }'; }
no_region() { ! undefined "$1" | grep -E '^(GOMP_|__kmpc_|omp_get_(thread_num|num_threads)(@|$))'; }
calls_region() { [ "$(undefined "$1" | grep -cx kd_region)" -gt 50 ]; }
claim "the static library calls no function of OpenMP for regions" no_region "$lib/libkdas.a"
claim "the shared library calls none either" no_region "$lib/libkdas.so"
claim "its kernels call the library's own" calls_region "$lib/libkdas.a"
printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]
