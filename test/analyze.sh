#!/bin/bash
# analyze.sh - what compilers and analyzers say without running anything: gcc's warnings of conversions over the files that
# read what others wrote, clang's analyzer and cppcheck over the library and the programs. No finding is left: one that is
# wrong is answered in the source, by an assert or an initial value, or in test/sanitize with its reason.
# Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
read -r -a openblas < <(pkg-config --cflags openblas 2>/dev/null) || true
library=(-std=gnu11 -Iinclude -Isrc -DKDAS_EXPERIMENTAL -fopenmp ${openblas[@]+"${openblas[@]}"})
program=(-std=gnu11 -Iinclude -Isrc/programs)
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0 failed=0

count() # FILE: its findings are in $log
{
    if [ -s "$log" ]; then
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$1"
        head -n 40 "$log"
    else
        passed=$((passed + 1))
    fi
}

# Vector code and the plug-in have compilers of their own; stb's headers are not ours.
sources() { find "$@" -name '*.c' -not -path '*/simd/*' -not -path '*/cuda/*' -not -path '*/mpi/*' | sort; }

set_flags() # FILE: as a part of the library or of a program; what the analyzer cannot see from one file is told
{
    flags=("${library[@]}") told=()
    case $1 in
    src/programs/*) flags=("${program[@]}") ;;
    src/base/status.c) ;;
    *) told=(-include test/sanitize/analyzer.h) ;;
    esac
}

for file in $(sources src/io src/image src/data src/programs/arguments); do
    set_flags "$file"
    ${CC:-gcc} "${flags[@]}" -fsyntax-only -Wconversion -Wsign-conversion -Wno-unknown-pragmas "$file" 2>&1 |
        grep -E '(warning|error):' | grep -v '/stb/' >"$log"
    count "$file (gcc -Wconversion)"
done
for file in $(sources src); do
    set_flags "$file"
    clang --analyze -Xclang -analyzer-output=text "${flags[@]}" ${told[@]+"${told[@]}"} "$file" -o /dev/null >"$log" 2>&1
    count "$file (clang --analyze)"
done
cppcheck -q --std=c11 --enable=warning,portability,performance --suppressions-list=test/sanitize/cppcheck.supp \
    -DKDAS_EXPERIMENTAL -Iinclude -Isrc -Isrc/programs $(sources src) >"$log" 2>&1
count "src (cppcheck)"
printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]
