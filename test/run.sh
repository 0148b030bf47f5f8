#!/bin/bash
# run.sh - run tests one after another and sum them up. Each argument is a command: a suite, a sample or a
# script. A suite's counts are read from Check's closing line, others from "N passed, N failed"; a command
# that prints neither counts as one. What fails is named again at the end; the exit status is then 1.
set -u
# Threads that spin while they wait cost a loaded machine dearly; the suites' parallel regions are tiny.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
logs=${LOGS:-build/log}
mkdir -p "$logs"
ran=0 passed=0 failed=0 skipped=0 bad=()
declare -A seen=()

for command in "$@"; do
    name=$(basename "$(tr ' ' '\n' <<<"$command" | grep -m1 -E 'check_|examples/' || echo "$command")")
    seen[$name]=$((${seen[$name]:-0} + 1))
    [ "${seen[$name]}" = 1 ] || name=$name-${seen[$name]} # the same program again: a log of its own
    log=$logs/$name.log
    printf '== %s\n' "$name"
    bash -c "exec timeout 7200 $command" 2>&1 </dev/null | tee "$log"
    rc=${PIPESTATUS[0]}
    # "97%: Checks: 40, Failures: 1, Errors: 0" (a program may have several) or "39 passed, 1 failed"
    read -r good wrong < <(awk '
        /^[0-9]+%: Checks: / { gsub(/[^0-9 ]/, ""); good += $2 - $3 - $4; wrong += $3 + $4 }
        /^[0-9]+ passed, [0-9]+ failed/ { good += $1; wrong += $3 }
        END { print good + 0, wrong + 0 }' "$log")
    if [ $((good + wrong)) = 0 ]; then
        [ "$rc" = 0 ] && good=1 || wrong=1
    fi
    ran=$((ran + 1)) passed=$((passed + good)) failed=$((failed + wrong))
    skipped=$((skipped + $(grep -c '^SKIP' "$log")))
    if [ "$rc" != 0 ] || [ "$wrong" != 0 ]; then
        bad+=("$name (exit status $rc, log: $log)")
    fi
done

for name in ${bad[@]+"${bad[@]}"}; do
    printf 'FAILED: %s\n' "$name"
done
printf '%s: %d test programs, %d of them failed; %d checks passed, %d failed, %d lines of SKIP\n' \
    "${SUMMARY:-check}" "$ran" "${#bad[@]}" "$passed" "$failed" "$skipped"
[ "${#bad[@]}" = 0 ]
