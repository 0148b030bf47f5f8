#!/bin/bash
# run.sh - run tests and sum them up. Each argument is a command: a suite, a sample or a script. A suite's
# counts are read from Check's closing line, others from "N passed, N failed"; a command that prints neither
# counts as one. What fails is named again at the end; the exit status is then 1.
# Up to AT_ONCE commands (default: the processors, at most 4) run at once, in their order, but scripts run alone:
# they measure memory. Those with the line "# Runs beside others." do not; of those with the line "# Builds." one
# runs at a time, beside others that do not build. What a command prints appears when it ends.
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

marked() { [[ $1 = *.sh ]] && grep -qx "# $2" "$1"; } # COMMAND LINE
alone() { [[ $1 = *.sh ]] && ! marked "$1" "Runs beside others." && ! marked "$1" "Builds."; }
building() # whether one that builds runs
{
    local pid
    for pid in "${!name_of[@]}"; do
        marked "test/${name_of[$pid]}" "Builds." && return
    done
    return 1
}

may_start() # COMMAND
{
    if alone "$1"; then
        [ ${#name_of[@]} = 0 ]
    else
        ! marked "$1" "Builds." || ! building
    fi
}

waiting=("$@")
while [ ${#waiting[@]} -gt 0 ]; do
    finish $((at_once - 1))
    for i in "${!waiting[@]}"; do
        command=${waiting[$i]}
        if may_start "$command"; then
            unset "waiting[$i]"
            start "$command"
            ! alone "$command" || finish 0
            continue 2
        fi
        ! alone "$command" || break # those behind it wait for it
    done
    finish $((${#name_of[@]} - 1)) # until one of them ends
done
finish 0

for name in ${bad[@]+"${bad[@]}"}; do
    printf 'FAILED: %s\n' "$name"
done
printf '%s: %d test programs, %d of them failed; %d checks passed, %d failed, %d lines of SKIP\n' \
    "${SUMMARY:-check}" "$ran" "${#bad[@]}" "$passed" "$failed" "$skipped"
[ "${#bad[@]}" = 0 ]
