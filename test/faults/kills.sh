#!/bin/bash
# kills.sh - trainings that are killed, and resumed until they are done. Their weights, log.csv, scores and checkpoints
# are those of a run that was left alone, bit by bit; what a kill leaves is whole. Half of the kills come at a random
# moment, half right before a random file call, which can be repeated exactly; some of the resumed runs are killed, too.
# Then the signals that ask a run to stop: it saves, and ends with 130.
#
#   KILLS=N    kills in all (3; with LONG=1: 200);  SIGNALS=N  (1; 30)
#   SEED=N     of moments and calls (printed; default: the time)
cd "$(dirname "$0")/../.." || exit 1
. test/faults/common.sh
kills=${KILLS:-$([ -n "$LONG" ] && echo 200 || echo 3)}
signals=${SIGNALS:-$([ -n "$LONG" ] && echo 30 || echo 1)}
seed=${SEED:-$(date +%s)}
RANDOM=$((seed % 32768))
say "seed $seed: $kills kills, $signals signals"

common=(--data in/data --teacher lite_fpn0 --teacher-weights in/teacher.safetensors --student lite_fpn0 --batch 2 --pictures 1
    --save-every 1 --resume "${small[@]}")
names=("bf16" "two presets" "scales")
options_of() # CONFIGURATION: sets options
{
    case $1 in
    0) options=(--size 32 --preset baseline --dtype auto --epochs 3 --augment strong --workers 0) ;;
    1) options=(--size 32 --preset kdas,baseline --feature normalised --ema 0.9 --epochs 2 --accumulate 2 --workers 1) ;;
    2) options=(--size 64 --scales 0.75,1,1.25 --preset paper --epochs 2 --schedule cosine --clip 1 --workers 2) ;;
    esac
}

# Run the configuration into $tmp/run; sets pid.
begin() # SETTING...: of the shim
{
    (cd "$tmp" && exec env KDAS_FAULT_CLOCK=1 "$@" LD_PRELOAD="$shim" "$bin/kdas-distill" "${common[@]}" "${options[@]}" --out run \
        >"$tmp/stdout" 2>"$tmp/stderr" </dev/null) &
    pid=$!
}
end() { wait "$pid" 2>/dev/null; rc=$?; }
random() { echo $((RANDOM * 32768 + RANDOM)); }
part_of() { awk -v t="$1" -v r="$(random)" 'BEGIN { printf "%.3f", t * 1.03 * (r % 100000) / 100000 }'; } # SECONDS: a random part

# What a kill leaves: files that can be read, lines that are whole.
is_whole()
{
    local file
    find "$tmp/run" \( -name last.kdas -o -name best.safetensors -o -name log.csv \) >"$tmp/files"
    while read -r file; do
        case $file in
        *.csv) [ -z "$(tail -c1 "$file")" ] || { echo "$file ends within a line"; return 1; } ;;
        *) "$bin/kdas-inspect" "$file" >"$tmp/inspected" 2>&1 || { cat "$tmp/inspected"; return 1; } ;;
        esac
    done <"$tmp/files"
}

is_good() # CONFIGURATION: the run's results are those of the one that was left alone
{
    local good=$tmp/good$1 file
    diff -rq -x last.kdas -x run.json -x report.html -x '*.tmp-*' -x .kdas-lock -x '.kdas-probe-*' "$good" "$tmp/run" || return 1
    for file in $(cd "$good" && find . -name last.kdas); do
        same_checkpoint "$good/$file" "$tmp/run/$file" || return 1
    done
}

# A kill, and what comes after it. Sets killed to the kills that struck.
try() # CONFIGURATION
{
    local how moment label chain=0
    options_of "$1"
    rm -rf "$tmp/run"
    label="${names[$1]}:"
    killed=0
    while :; do
        how=$((RANDOM % 2))
        if [ $how = 0 ]; then
            moment=$(part_of "${seconds[$1]}")
            begin
            sleep "$moment"
            kill -KILL "$pid" 2>/dev/null
            label="$label after $moment s;"
        else
            moment=$((1 + $(random) % ${calls[$1]}))
            begin KDAS_FAULT_UNDER="$tmp/run" KDAS_FAULT_AT=$moment KDAS_FAULT_HOW=kill
            label="$label before call $moment;"
        fi
        end
        [ $rc = 137 ] && killed=$((killed + 1))
        [ $rc = 0 ] || [ $rc = 137 ] || { wrong "$label status $rc" "$tmp/stderr"; return; }
        is_whole >"$tmp/differs" 2>&1 || { wrong "$label what is left" "$tmp/differs"; return; }
        chain=$((chain + 1))
        [ $rc = 137 ] && [ $chain -lt 3 ] && [ $((RANDOM % 3)) = 0 ] || break
    done
    begin
    end
    [ $rc = 0 ] || { wrong "$label cannot be resumed" "$tmp/stderr"; return; }
    is_good "$1" >"$tmp/differs" 2>&1 || { wrong "$label ends with other results" "$tmp/differs"; return; }
    right
    progress "$label the same bits"
}

ask() # CONFIGURATION SIGNAL
{
    local moment label
    options_of "$1"
    rm -rf "$tmp/run"
    moment=$(part_of "${seconds[$1]}")
    label="${names[$1]}: SIG$2 after $moment s:"
    begin
    sleep "$moment"
    kill -"$2" "$pid" 2>/dev/null
    end
    case $rc in
    0 | 130) ;;
    129 | 143) [ ! -e "$tmp/run/last.kdas" ] || [ "$2" = HUP ] || { wrong "$label status $rc, in the midst of a run" "$tmp/stderr"; return; } ;;
    *) wrong "$label status $rc" "$tmp/stderr"; return ;;
    esac
    [ $rc != 130 ] || stopped=$((stopped + 1))
    is_whole >"$tmp/differs" 2>&1 || { wrong "$label what is left" "$tmp/differs"; return; }
    begin
    end
    [ $rc = 0 ] || { wrong "$label cannot be resumed" "$tmp/stderr"; return; }
    is_good "$1" >"$tmp/differs" 2>&1 || { wrong "$label ends with other results" "$tmp/differs"; return; }
    right
    progress "$label the same bits"
}

make_inputs
declare -a seconds=() calls=() struck=(0 0 0)
for c in 0 1 2; do # left alone
    options_of $c
    rm -rf "$tmp/run"
    began=$(date +%s%N)
    begin
    end
    seconds[c]=$(awk -v n=$(($(date +%s%N) - began)) 'BEGIN { printf "%.3f", n / 1e9 }')
    [ $rc = 0 ] || { wrong "${names[$c]}: a run that is left alone" "$tmp/stderr"; claims_end; exit 1; }
    mv "$tmp/run" "$tmp/good$c"
    begin KDAS_FAULT_UNDER="$tmp/run" KDAS_FAULT_LOG="$tmp/calls"
    end
    is_good $c >"$tmp/differs" 2>&1 && right || wrong "${names[$c]}: two runs differ" "$tmp/differs"
    calls[c]=$(wc -l <"$tmp/calls")
    rm -f "$tmp/calls"
done
total=0 c=0 stopped=0 runs=0
while [ $total -lt "$kills" ] && [ $failed -lt 20 ]; do
    try $c
    total=$((total + killed)) struck[c]=$((struck[c] + killed)) runs=$((runs + 1))
    c=$(((c + 1) % 3))
done
wanted=(TERM INT HUP)
for ((i = 0; i < signals && failed < 20; i++)); do
    ask $((i % 3)) ${wanted[(i / 3 + i) % 3]}
done
say "kills            of a run s   file calls      kills"
for c in 0 1 2; do printf '%-16s %10s %12d %10d\n' "${names[$c]}" "${seconds[$c]}" "${calls[$c]}" "${struck[$c]}"; done
say "$total kills in $runs runs; $signals signals, $stopped of them ended a run with 130; $SECONDS s"
claims_end
