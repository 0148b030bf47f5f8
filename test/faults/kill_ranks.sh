#!/bin/bash
# kill_ranks.sh - trainings of two ranks under mpirun of which one is killed, or stopped for ever, at a random moment: all end
# within the timeout and a minute, and the resumed run's student and scores have the bits of a run that was left alone. SKIPs
# where there is no MPI.
#
#   KILLS=N    in all (2; with LONG=1: 50), every fifth a stop
#   CUTS=N     of the link between two hosts, network namespaces of this machine (0; with LONG=1 and for root: 5)
#   SEED=N     of moments (printed; default: the time)
cd "$(dirname "$0")/../.." || exit 1
. test/faults/common.sh
kills=${KILLS:-$([ -n "$LONG" ] && echo 50 || echo 2)}
cuts=${CUTS:-$([ -n "$LONG" ] && [ "$(id -u)" = 0 ] && echo 5 || echo 0)}
scratch=$tmp
. test/support/link.sh
trap 'link_down; chmod -R u+w "$tmp" 2>/dev/null; rm -rf "$tmp"' EXIT
seed=${SEED:-$(date +%s)}
RANDOM=$((seed % 32768))
lib=$(realpath "$bin/../lib")
if [ ! -f "$lib/kdas/libkdas-openmpi.so" ] || ! command -v mpirun.openmpi >/dev/null; then
    echo "SKIP: there is no plug-in for Open MPI in lib/kdas, or no mpirun for it (make deps installs them)"
    echo "0 passed, 0 failed"
    exit 0
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
here=(mpirun.openmpi --mca btl "self,vader" -n 2)
export KDAS_BACKEND_PATH=$lib/kdas
wait_for=8 # seconds that a rank waits for the others
say "seed $seed: $kills kills of a rank"
make_inputs

begin() # FOLDER [LAUNCHER...]
{
    local folder=$1
    shift
    [ $# -gt 0 ] || set -- "${here[@]}"
    (cd "$tmp" && exec env KDAS_BACKEND_PATH="$KDAS_BACKEND_PATH" "$@" -x KDAS_BACKEND_PATH "$bin/kdas-distill" --ranks openmpi --ranks-timeout $wait_for --data in/data \
        --student lite_fpn0 --preset baseline --size 32 --batch 1 --epochs 3 --val-fraction 0 --pictures 0 --save-every 1 --resume \
        "${small[@]}" --out "$folder" >"$tmp/stdout" 2>"$tmp/stderr" </dev/null) &
    pid=$!
}
end() { wait "$pid" 2>/dev/null; rc=$?; }
ranks_begin() # sets ranks, when both are there
{
    local i
    for ((i = 0; i < 1000; i++)); do
        mapfile -t ranks < <(pgrep -P "$pid" -x kdas-distill)
        [ ${#ranks[@]} -lt 2 ] || return
        sleep 0.02
    done
}
end_within() # SECONDS
{
    local i
    for ((i = 0; i < 10 * $1; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -0 "$pid" 2>/dev/null && { kill -KILL "$pid"; pkill -KILL -P "$pid"; rc=hangs; return; }
    end
}
ranks_end_within() # SECONDS
{
    local i
    for ((i = 0; i < 10 * $1; i++)); do
        pgrep -f "^[^ ]*kdas-distill .*--ranks-timeout $wait_for .*--out run" >/dev/null || return 0
        sleep 0.1
    done
    return 1
}
# What is left but times: the student, and each epoch's losses and scores.
results() { cksum <"$1/best.safetensors" && awk -F, -f test/faults/no_times.awk "$1/log.csv"; }
is_good() { [ "$(results "$tmp/good")" = "$(results "$tmp/run")" ]; }

begin good
ranks_begin
began=$(date +%s%N)
end
seconds=$(awk -v n=$(($(date +%s%N) - began)) 'BEGIN { printf "%.3f", n / 1e9 }')
[ $rc = 0 ] || { wrong "a run that is left alone" "$tmp/stderr"; claims_end; exit 1; }
begin run
end
is_good && right || wrong "two runs differ" "$tmp/stderr"
struck=0 longest=0 # some moments are after the end
for ((k = 0; struck < kills && k < 3 * kills && failed < 5; k++)); do
    rm -rf "$tmp/run"
    how=KILL
    [ $((struck % 5)) != 4 ] || how=STOP
    moment=$(awk -v t="$seconds" -v r="$RANDOM" 'BEGIN { printf "%.3f", t * 0.98 * r / 32768 }')
    label="SIG$how after $moment s:"
    begin run
    ranks_begin
    sleep "$moment"
    kill -$how "${ranks[RANDOM % ${#ranks[@]}]}" 2>/dev/null && struck=$((struck + 1))
    from=$SECONDS
    end_within $((wait_for + 60))
    [ $((SECONDS - from)) -le $longest ] || longest=$((SECONDS - from))
    [ "$rc" != hangs ] || { wrong "$label it hangs" "$tmp/stderr"; continue; }
    begin run
    end
    [ $rc = 0 ] || { wrong "$label cannot be resumed" "$tmp/stderr"; continue; }
    is_good || { wrong "$label ends with other results" "$tmp/stderr"; continue; }
    right
    progress "$label the same bits"
done
runs=$k
for ((k = 0; k < cuts && failed < 5; k++)); do
    rm -rf "$tmp/run"
    if ! link_up 10gbit 0 2>"$tmp/stderr"; then
        say "SKIP: no link can be made: $(head -n 1 "$tmp/stderr")"
        cuts=$k
        break
    fi
    moment=$(awk -v t="$seconds" -v r="$RANDOM" 'BEGIN { printf "%.3f", 0.5 + t * r / 32768 }')
    label="the link is cut after $moment s:"
    begin run "${across[@]}"
    sleep "$moment"
    link_cut
    from=$SECONDS
    ranks_end_within $((wait_for + 30)) || wrong "$label ranks hang" "$tmp/stderr"
    [ $((SECONDS - from)) -le $longest ] || longest=$((SECONDS - from))
    # mpirun itself waits for its daemon behind the link, as long as the system's TCP does.
    kill -KILL "$pid" 2>/dev/null
    end
    link_down
    begin run
    end
    [ $rc = 0 ] || { wrong "$label cannot be resumed" "$tmp/stderr"; continue; }
    is_good || { wrong "$label ends with other results" "$tmp/stderr"; continue; }
    right
    progress "$label the same bits"
done
say "$struck of $runs runs of $seconds s struck; the link was cut $cuts times; the last end came $longest s after it"
claims_end
