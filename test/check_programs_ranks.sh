#!/bin/bash
# check_programs_ranks.sh - kdas-distill, kdas-evaluate and kdas-doctor with --ranks, two and three processes on this machine
# under mpirun: tables and files of one process, one voice, one exit code, signals. SKIPs without the plug-in or its mpirun.
# Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
. test/support/programs.sh
lib=$PWD/lib
[ "${KDAS_BIN:-bin}" = bin ] || lib=$(cd "$(dirname "$KDAS_BIN")/lib" && pwd)
for flavour in openmpi mpich none; do
    [ -f "$lib/kdas/libkdas-$flavour.so" ] && command -v "mpirun.$flavour" >/dev/null && break
done
if [ $flavour = none ]; then
    echo "SKIP: there is no plug-in for MPI in lib/kdas, or no mpirun for it (make deps installs them)"
    echo "0 passed, 0 failed"
    exit 0
fi
# Small machines, root, containers; each process may use all processors.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_btl=self,vader
export KDAS_BACKEND_PATH=$lib/kdas OMP_WAIT_POLICY=passive

# ranks_end CODE PATTERN N PROGRAM ARGUMENT...: the exit code, and what stands on stderr. mpirun adds lines of its own.
ranks_end()
{
    local code=$1 pattern=$2 n=$3 program=$4 got
    timeout 200 "mpirun.$flavour" -n "$n" "$bin/$program" --ranks $flavour --ranks-timeout 100 --threads 1 "${@:5}" \
        >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    cat "$tmp/out" "$tmp/err"
    echo "exit code $got, expected $code and stderr with '$pattern'"
    [ $got = "$code" ] && { [ -z "$pattern" ] || grep -q -e "$pattern" "$tmp/err"; }
}
# differ PATTERN PROGRAM "ARGUMENT... of rank 0" "... of rank 1": both end at once, with this sentence, said once.
differ()
{
    local all=("$bin/$2" --ranks $flavour --ranks-timeout 100 --threads 1)

    # shellcheck disable=SC2086 # lists of words
    timeout 60 "mpirun.$flavour" -n 1 "${all[@]}" $3 : -n 1 "${all[@]}" $4 >"$tmp/out" 2>"$tmp/err" </dev/null
    [ $? = 1 ] && times 1 "$1" "$tmp/err" || { cat "$tmp/out" "$tmp/err"; return 1; }
}
times() # N PATTERN FILE
{
    [ "$(grep -c -e "$2" "$3")" = "$1" ] || { cat "$3"; return 1; }
}

frames=$tmp/demo/data small=(--student lite_fpn0 --preset baseline --size 64 --val-fraction 0.3 --pictures 0)
claim "frames and weights" ends 0 "" kdas-distill --demo --out "$demo" --scenes 12 --test-scenes 7 --epochs 1 --teacher-epochs 1 \
    --teacher-scenes 8 --threads 1 --batch 4 --quiet "${small[@]}"
weights=$demo/best.safetensors set=$frames/TestDataset/scenes

# ---- kdas-evaluate
same_tables() # N
{
    ranks_end 0 "" "$1" kdas-evaluate --weights "$weights" --data "$set" --csv "$tmp/n.csv" --per-image "$tmp/n_each.csv" &&
        cmp "$tmp/one.csv" "$tmp/n.csv" && cmp "$tmp/one_each.csv" "$tmp/n_each.csv" && times 1 "^scenes  " "$tmp/out"
}
claim "kdas-evaluate alone" ends 0 "" kdas-evaluate --weights "$weights" --data "$set" --csv "$tmp/one.csv" \
    --per-image "$tmp/one_each.csv" --threads 1
claim "two ranks give its tables, to the bit, and print them once" same_tables 2
claim "so do three" same_tables 3
same_guide() # the first command of the guide, for two ranks
{
    local command
    command=$(awk '/^    mpirun -n 4 /, !/\\$/' docs/cluster.md | tr -d '\\\n')
    command=${command/mpirun -n 4 --bind-to none/mpirun.$flavour -n 2} command=${command/--ranks mpi/--ranks $flavour}
    command=${command/--data polyps/--data $frames} command=${command/teacher.safetensors/$weights}
    command=${command/--out run/--out $tmp/guide} command=${command/kdas-distill/$bin/kdas-distill}
    echo "$command"
    # shellcheck disable=SC2086 # words
    timeout 200 $command --threads 1 --student lite_fpn0 --size 64 --epochs 1 --max-steps 1 --pictures 0 --quiet </dev/null &&
        [ -s "$tmp/guide/best.safetensors" ]
}
claim "the guide's command trains" same_guide
alone_of_two()
{
    timeout 200 "mpirun.$flavour" -n 2 "$bin/kdas-evaluate" --weights "$weights" --data "$set" --threads 1 >"$tmp/out" 2>&1 </dev/null &&
        times 2 "warning: this is one of 2 processes (.*), and without --ranks each does all of the work" "$tmp/out"
}
claim "a launcher without --ranks is noticed" alone_of_two
claim "ranks with other numbers of sets are told" differ "rank 1 has another number of sets" kdas-evaluate \
    "--weights $weights --data $set" "--weights $weights --data $set $set"
claim "and with other weights" differ "rank 1 has another model to evaluate" kdas-evaluate \
    "--weights $weights --data $set" "--weights $demo/teacher/best.safetensors --data $set"
cp -r "$set" "$tmp/cut"
for file in "$tmp"/cut/images/*6.*; do head -c 500 "$file" >"$tmp/x" && mv "$tmp/x" "$file"; done
claim "a frame that cannot be read fails all, and is named once" eval \
    'ranks_end 1 "kdas-evaluate: rank 1: frame .*cut off" 2 kdas-evaluate --weights "$weights" --data "$tmp/cut" && times 1 "cut off" "$tmp/err"'

# ---- kdas-doctor
cp -r "$frames" "$tmp/sick"
for kind in images masks; do
    cp "$tmp/sick/TrainDataset/$kind/scene00001.png" "$tmp/sick/TestDataset/scenes/$kind/other.png"
    cp "$tmp/sick/TrainDataset/$kind/scene00002.png" "$tmp/sick/TrainDataset/$kind/again.png"
done
head -c 500 "$frames/TrainDataset/images/scene00003.png" >"$tmp/sick/TrainDataset/images/scene00003.png"
same_findings() # N
{
    ranks_end 1 "" "$1" kdas-doctor --data "$tmp/sick" --csv "$tmp/n.csv" --keep "$tmp/n.keep" &&
        cmp "$tmp/one.csv" "$tmp/n.csv" && cmp "$tmp/one.keep" "$tmp/n.keep" && cmp "$tmp/one.out" "$tmp/out"
}
claim "kdas-doctor alone" ends 1 "" kdas-doctor --data "$tmp/sick" --csv "$tmp/one.csv" --keep "$tmp/one.keep"
cp "$tmp/out" "$tmp/one.out"
claim "two ranks find the same" same_findings 2
claim "so do three" same_findings 3

# ---- kdas-distill
run=(kdas-distill --data "$frames" "${small[@]}" --batch 2)
claim "two ranks train a student" ranks_end 0 "" 2 "${run[@]}" --epochs 2 --out "$tmp/two"
claim "one of them prints" times 1 "student  epoch 2/2" "$tmp/out"
claim "and writes" all_exist "$tmp"/two/{last.kdas,best.safetensors,log.csv,run.json,report.html,scores.csv}
claim "run.json says how many there are" grep -q '"ranks": 2' "$tmp/two/run.json"
claim "a teacher is trained by all, and taught by" ranks_end 0 "" 2 "${run[@]}" --preset kdas --teacher lite_fpn0 \
    --teacher-epochs 1 --epochs 1 --quiet --out "$tmp/taught"
claim "a folder that cannot be made fails all" ranks_end 1 "cannot make the folder" 2 "${run[@]}" --out /proc/none
claim "without the plug-in there is a sentence" fails "there is no collective 'nix'" kdas-distill --ranks nix "${run[@]:1}" \
    --out "$tmp/none"

# Command lines that differ in what the ranks do together.
cp -r "$frames" "$tmp/more" && cp -r "$tmp/more/TestDataset/scenes" "$tmp/more/TestDataset/again"
line="${small[*]} --batch 2 --epochs 1 --out $tmp/differ"
claim "ranks with other trainings are told" differ "rank 1 has another list of trainings than rank 0: .*seed 1,2" kdas-distill \
    "--data $frames $line" "--data $frames $line --seeds 1,2"
claim "and with other test sets, before the first step" differ "rank 1 has another list of sets to measure on" kdas-distill \
    "--data $frames $line" "--data $tmp/more $line"
claim "nothing was trained" eval '[ ! -e "$tmp/differ/last.kdas" ]'

# A run that is asked to stop at one of its ranks, then goes on.
stops() # SIGNAL FOLDER
{
    local pid job
    (ranks_end 130 "goes on" 2 "${run[@]}" --epochs 400 --out "$2" >"$2.said" 2>&1) &
    job=$!
    for _ in $(seq 300); do [ -s "$2/log.csv" ] && break; sleep 0.1; done
    pid=$(pgrep -f "^$bin/kdas-distill .*--out $2( |\$)" | tail -n 1)
    [ -n "$pid" ] && kill "-$1" "$pid"
    wait $job || { cat "$2.said"; return 1; }
}
claim "SIGUSR1 to one rank stops all, with one exit code" stops USR1 "$tmp/stopped"
claim "and the run is saved" all_exist "$tmp/stopped/last.kdas"
claim "SIGTERM does so, too" stops TERM "$tmp/ended"
last=$(($(tail -n 1 "$tmp/stopped/log.csv" | cut -d, -f1) + 2))
claim "it goes on" ranks_end 0 "" 2 "${run[@]}" --epochs $last --resume --quiet --out "$tmp/stopped"
claim "as does one process with as many images" ends 0 "" "${run[@]}" --batch 4 --epochs $((last + 1)) --threads 1 --resume \
    --quiet --out "$tmp/stopped"
claim "the log has each epoch once" eval \
    '[ "$(cut -d, -f1 "$tmp/stopped/log.csv" | sort -u | wc -l)" = "$(wc -l <"$tmp/stopped/log.csv")" ]'
claim "of another number of images it does not" ranks_end 1 "batch size is 4, here it is 2" 2 "${run[@]}" --batch 1 \
    --epochs $((last + 2)) --resume --quiet --out "$tmp/stopped"
claims_end
