#!/bin/bash
# run.sh FOLDER TARGET... - run the fuzzers of FOLDER one after another, each for SECONDS_EACH, from its seeds, from the inputs
# that are kept in test/fuzz/found, and from what earlier runs have put into WORK. Prints a table. An input that crashes,
# hangs or leaks is kept in WORK/TARGET/found and named; the exit status is then 1.
set -u
folder=$1
shift
seconds=${SECONDS_EACH:-60} work=${WORK:-build/fuzz/work} bad=0
here=$(dirname "$0")
export ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=0:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
export LSAN_OPTIONS=suppressions=$here/../sanitize/lsan.supp:print_suppressions=0
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 OMP_THREAD_LIMIT=1 OMP_WAIT_POLICY=passive

last() { grep -oE "$1" "$log" | tail -n 1 | grep -oE '[0-9]+' | tail -n 1; } # PATTERN: the last number of the last match

printf '%-12s %12s %8s %8s %8s %8s\n' target executions edges corpus seconds crashes
for target in "$@"; do
    program=$folder/fuzz_$target home=$work/$target log=$work/$target.log
    [ -x "$program" ] || { echo "run.sh: there is no target '$target'"; exit 2; }
    mkdir -p "$home/corpus" "$home/found" "$home/seeds"
    KD_FUZZ_SEEDS=$home/seeds "$program" || exit 2
    dirs=("$home/corpus" "$home/seeds")
    [ ! -d "$here/found/$target" ] || dirs+=("$here/found/$target")
    options=(-max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=12288
             -artifact_prefix="$home/found/" -print_final_stats=1)
    [ ! -f "$here/$target.dict" ] || options+=(-dict="$here/$target.dict")
    begun=$(date +%s)
    "$program" "${options[@]}" "${dirs[@]}" >"$log" 2>&1
    rc=$? crashes=0
    if [ $rc != 0 ]; then
        crashes=1 bad=1
    fi
    printf '%-12s %12s %8s %8s %8s %8s\n' "$target" "$(last 'number_of_executed_units: *[0-9]+|^#[0-9]+')" \
        "$(last 'cov: [0-9]+')" "$(last 'corp: [0-9]+')" "$(($(date +%s) - begun))" "$crashes"
    if [ $rc != 0 ]; then
        grep -E -m 3 'ERROR: |runtime error: |last error: |^test/' "$log" | sed 's/^/    /'
        sed -n 's/.*Test unit written to /    kept: /p' "$log"
        echo "    log: $log; again: $program INPUT"
    fi
done
exit $bad
