#!/bin/bash
# run.sh - run tests and sum them up. Each argument is a command: a suite, a sample or a script. A suite's
# counts are read from Check's closing line, others from "N passed, N failed"; a command that prints neither
# counts as one. What fails is named again at the end; the exit status is then 1.
# Up to AT_ONCE commands (default: the processors, at most 4) run at once, but scripts run alone: they
# measure memory, and they build. Those with the line "# Runs beside others." do not. What a command prints
# appears when it ends.
set -u
# Threads that spin while they wait cost a loaded machine dearly; the suites' parallel regions are tiny.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
processors=$(nproc)
at_once=${AT_ONCE:-$((processors < 4 ? processors : 4))}
logs=${LOGS:-build/log}
mkdir -p "$logs"
ran=0 passed=0 failed=0 skipped=0 bad=()
declare -A seen=() name_of=() began=() # names so far; process to name; name to seconds

start() # COMMAND: in the background
{
    local name
    name=$(basename "$(tr ' ' '\n' <<<"$1" | grep -m1 -E 'check_|examples/' || echo "${1%% *}")")
    seen[$name]=$((${seen[$name]:-0} + 1))
    [ "${seen[$name]}" = 1 ] || name=$name-${seen[$name]} # the same program again: a log of its own
    bash -c "exec timeout 7200 $1" >"$logs/$name.log" 2>&1 </dev/null &
    name_of[$!]=$name began[$name]=$SECONDS
}

tell() # NAME STATUS: what it printed, and its counts
{
    local name=$1 rc=$2 log=$logs/$1.log good wrong
    printf '== %s (%d s)\n' "$name" $((SECONDS - began[$name]))
    cat "$log"
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
}

finish() # MOST: wait until no more than so many run
{
    local pid rc
    while [ ${#name_of[@]} -gt "$1" ]; do
        pid=
        wait -n -p pid "${!name_of[@]}"
        rc=$?
        tell "${name_of[$pid]}" $rc
        unset "name_of[$pid]"
    done
}

stop() # a signal: what runs ends, too
{
    kill "${!name_of[@]}" 2>/dev/null
    exit 130
}
trap stop INT TERM HUP

alone() { [[ $1 = *.sh ]] && ! grep -qx '# Runs beside others.' "$1"; }

for command in "$@"; do
    if alone "$command"; then
        finish 0
        start "$command"
        finish 0
    else
        finish $((at_once - 1))
        start "$command"
    fi
done
finish 0

for name in ${bad[@]+"${bad[@]}"}; do
    printf 'FAILED: %s\n' "$name"
done
printf '%s: %d test programs, %d of them failed; %d checks passed, %d failed, %d lines of SKIP\n' \
    "${SUMMARY:-check}" "$ran" "${#bad[@]}" "$passed" "$failed" "$skipped"
[ "${#bad[@]}" = 0 ]
