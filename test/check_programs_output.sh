#!/bin/bash
# check_programs_output.sh - what programs make of output that cannot be written: full devices, closed streams, pipes that nobody
# reads, files that cannot be replaced; and of signals that end them. See test/support/programs.sh.
# Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/support/programs.sh

# ---- Networks and frames --------------------------------------------------------------------------------
claim "a teacher and a student are trained" make_demo --preset baseline,paper
best=$demo/paper/best.safetensors sets=$data/TestDataset/scenes image=$data/TestDataset/scenes/images/scene00000.png
evaluate=(kdas-evaluate --weights "$best" --threads 1 --data "$sets")
doctor=(kdas-doctor --data "$data" --threads 1)
segment=(kdas-segment --weights "$best" --threads 1 --out "$tmp/seg" "$image")
export=(kdas-export --weights "$best" --out "$tmp/m.onnx")
bench=(kdas-bench --only student --batch 1 --size 64 --threads 1 --reps 1 --warm-up 1)
distill=(kdas-distill --data "$data" --teacher polyp_pvt_b0 --teacher-weights "$demo/teacher/best.safetensors" "${small[@]}"
    --val-fraction 0 --pictures 0)

# ---- Lost output ------------------------------------------------------------------------------------------
run() { timeout 300 "$bin/$1" "${@:2}"; }
code_of() # CODE PATTERN: the last exit code, and what stands on stderr; no pattern: nothing does
{
    local got=$?
    cat "$tmp/err"
    echo "exit code $got, expected $1 and stderr with '$2'"
    [ $got = "$1" ] && if [ -n "$2" ]; then grep -q -e "$2" "$tmp/err"; else [ ! -s "$tmp/err" ]; fi
}
full() { run "${@:2}" >/dev/full 2>"$tmp/err" </dev/null; code_of "$1" "cannot write to standard output: No space left"; } # CODE ...
closed() { run "${@:2}" >&- 2>"$tmp/err" </dev/null; code_of "$1" "cannot write to standard output: Bad file"; }
silent() { run "${@:2}" >&- 2>&- <&-; [ $? = "$1" ]; } # nobody can be told
quiet() { run "$@" >"$tmp/out" 2>&- </dev/null && [ -s "$tmp/out" ]; }
unread() # CODE PROGRAM ARGUMENT...: into a pipe that is closed already
{
    local code=$1 pipe got
    shift
    mkfifo "$tmp/pipe"
    sleep 600 >"$tmp/pipe" &
    pipe=$!
    exec 7<"$tmp/pipe" 8>"$tmp/pipe"
    kill $pipe
    exec 7<&-
    run "$@" >&8 2>"$tmp/err" </dev/null
    got=$?
    exec 8>&-
    rm "$tmp/pipe"
    cat "$tmp/err"
    echo "exit code $got, expected $code"
    [ $got = "$code" ] && ! grep "cannot" "$tmp/err"
}
lost() # NAME CODE PROGRAM ARGUMENT...: none of its output gets lost unnoticed
{
    local name=$1
    shift
    claim "$name into a full device has failed" full "$@"
    claim "$name into a closed output has failed" closed "$@"
    claim "$name that nobody reads ends quietly" unread 141 "${@:2}"
}
for program in kdas-distill kdas-segment kdas-inspect kdas-evaluate kdas-doctor kdas-export kdas-quantize kdas-bench; do
    [ $program = kdas-doctor ] && code=2 || code=1
    for option in --help --version --print-man --print-completion; do
        claim "$program $option into a full device has failed" full $code $program $option
    done
    claim "$program --help into a closed output has failed" closed $code $program --help
    claim "$program --help without any stream has failed" silent $code $program --help
    claim "$program --help that nobody reads ends quietly" unread 141 $program --help
    claim "$program --help needs no standard error" quiet $program --help
done
lost "a list of networks" 1 kdas-inspect
lost "a network" 1 kdas-inspect polyp_pvt_b0 --size 64
lost "a file's facts" 1 kdas-inspect "$best"
lost "a table of costs" 1 kdas-inspect --table
lost "a table of metrics" 1 "${evaluate[@]}"
lost "a table of metrics on standard output" 1 "${evaluate[@]}" --csv -
lost "a doctor's summary" 2 "${doctor[@]}"
lost "a doctor's list on standard output" 2 "${doctor[@]}" --keep -
lost "what was segmented" 1 "${segment[@]}"
lost "what was exported" 1 "${export[@]}"
lost "a benchmark" 1 "${bench[@]}"
stream() { head -c 12288 /dev/zero | "$bin/kdas-segment" --weights "$best" --threads 1 --quiet --raw 64x64:rgb24 2>"$tmp/err"; }
claim "a stream into a full device has failed" eval 'stream >/dev/full; code_of 1 "cannot write to standard output: No space left"'
claim "a stream into a closed output has failed" eval 'stream >&-; code_of 1 "cannot write to standard output: Bad file"'
no_input() { run kdas-segment --weights "$best" --threads 1 --quiet --raw 64x64:rgb24 <&- >"$tmp/out" 2>"$tmp/err"; code_of 1 "cannot read"; }
claim "a stream without an input has failed" no_input
claim "a worse status stays" eval 'run kdas-inspect --no-such-option 2>/dev/full; [ $? = 2 ]'
claim "a sentence that is lost stays a failure" eval 'run kdas-inspect unet9 2>&-; [ $? = 1 ]'
claim "a warning that is lost is a failure" eval 'run "${evaluate[@]}" --size 96 >"$tmp/out" 2>/dev/full; [ $? = 1 ]'
claim "the table is there all the same" grep -q "^scenes .*0\." "$tmp/out"
claim "a terminal's line stays a line" eval 'script -qec "$bin/kdas-inspect --version" /dev/null </dev/null | grep -q libkdas'

sample=build/release/examples/live_video
full_sample() { "$sample" >/dev/full 2>/dev/null; [ $? = 1 ]; }
if [ -x $sample ]; then
    claim "a sample into a full device has failed" full_sample
fi

# Streams that are closed at the start: no file takes their place and gets messages written into it.
no_stream() # ARGUMENT...: an evaluation with a warning and a table, without streams; the tables are the same
{
    run "${evaluate[@]}" --size 96 --csv "$tmp/bare.csv" --per-image "$tmp/bare2.csv" "$@" <&- >&- 2>&-
    [ $? = 1 ] && cmp "$tmp/bare.csv" "$tmp/streams.csv" && cmp "$tmp/bare2.csv" "$tmp/streams2.csv"
}
run "${evaluate[@]}" --size 96 --csv "$tmp/streams.csv" --per-image "$tmp/streams2.csv" >/dev/null 2>&1
claim "no message gets into a table" no_stream
bare_run() { run "${distill[@]}" --out "$tmp/bare" --max-steps 2 <&- >&- 2>&-; run "${distill[@]}" --out "$tmp/dressed" --max-steps 2 >/dev/null; }
claim "a training needs no stream" bare_run
claim "its weights are those of another" cmp "$tmp/bare/best.safetensors" "$tmp/dressed/best.safetensors"
claim "no message gets into its files" cmp "$tmp/bare/scores.csv" "$tmp/dressed/scores.csv"

# ---- Files that cannot be written ---------------------------------------------------------------------------
# What a program writes is put into place when it is whole. A limit on the size of files is a full disk.
crowded() { (trap '' XFSZ; ulimit -f 0; "$bin/$1" "${@:2}" 2>&1 >/dev/null </dev/null) | cat >"$tmp/err"; return "${PIPESTATUS[0]}"; }
stays() # CODE FILE PROGRAM ARGUMENT...: an old file stays where the new one has no room, and the sentence names it
{
    local code=$1 file=$2
    shift 2
    mkdir -p "$(dirname "$file")"
    rm -rf "$file" && echo old >"$file" || return 1
    crowded "$@"
    code_of "$code" "cannot write '$file': File too large" && [ "$(cat "$file")" = old ] && no_remains "$(dirname "$file")"
}
no_remains() { ! find "$1" -name '*.tmp*' -o -name '*.part' | grep .; }
claim "a table stays where the new one has no room" stays 1 "$tmp/old.csv" "${evaluate[@]}" --csv "$tmp/old.csv"
claim "and one of every image" stays 1 "$tmp/old.csv" "${evaluate[@]}" --per-image "$tmp/old.csv"
claim "and the findings of the doctor" stays 2 "$tmp/old.csv" "${doctor[@]}" --csv "$tmp/old.csv"
claim "and its list" stays 2 "$tmp/old.txt" "${doctor[@]}" --keep "$tmp/old.txt"
claim "and its page" stays 2 "$tmp/report/doctor.html" "${doctor[@]}" --report "$tmp/report"
claim "and an exported network" stays 1 "$tmp/old.onnx" kdas-export --weights "$best" --out "$tmp/old.onnx"
claim "and a profile" stays 1 "$tmp/old.tsv" "${bench[@]}" --profile-tsv "$tmp/old.tsv"
claim "a table into a full device has failed" fails "cannot write '/dev/full': No space left" "${evaluate[@]}" --csv /dev/full
read_only() # CODE FILE PROGRAM ARGUMENT...
{
    local code=$1 file=$2
    ends "$code" "cannot write '$file': \(Permission denied\|Read-only\|Operation not permitted\)" "${@:3}"
}
if [ -d /sys/kernel ]; then
    claim "a folder that cannot be written is named" read_only 1 /sys/kernel/x.csv "${evaluate[@]}" --csv /sys/kernel/x.csv
    claim "also by the doctor" read_only 2 /sys/kernel/x.csv "${doctor[@]}" --csv /sys/kernel/x.csv
    claim "also by a benchmark" read_only 1 /sys/kernel/x.tsv "${bench[@]}" --profile-tsv /sys/kernel/x.tsv
fi
mkdir "$tmp/folder.csv"
claim "a folder is no table" fails "cannot write '$tmp/folder.csv': Is a directory" "${evaluate[@]}" --csv "$tmp/folder.csv"
ln -s real.csv "$tmp/link.csv" && echo old >"$tmp/real.csv" && chmod 640 "$tmp/real.csv"
followed() { run "${evaluate[@]}" --csv "$tmp/link.csv" && [ -L "$tmp/link.csv" ] && grep -q meanDice "$tmp/real.csv" &&
    [ "$(stat -c %a "$tmp/real.csv")" = 640 ]; }
claim "a link is followed, and the file keeps its mode" followed
echo "of others" >"$tmp/mine.csv.tmp"
claim "a file beside it is of others" run "${evaluate[@]}" --csv "$tmp/mine.csv"
claim "and is left alone" grep -q "of others" "$tmp/mine.csv.tmp"
through() { run "${evaluate[@]}" --csv /dev/fd/9 9>"$tmp/nine.csv" && cmp "$tmp/nine.csv" "$tmp/mine.csv"; }
claim "an open file is written as it is" through

# Files of a run: each is made impossible in turn.
spoilt() # FILE: a folder stands where the run writes FILE
{
    rm -rf "$tmp/spoilt" && mkdir -p "$tmp/spoilt/$1/x" || return 1
    fails "cannot write '$tmp/spoilt/$1': Is a directory" "${distill[@]}" --preset baseline --max-steps 1 --out "$tmp/spoilt"
}
for file in scores.csv summary.csv report.html; do
    claim "a run names $file that it cannot write" spoilt $file
done
figures_spoilt() { mkdir -p "$tmp/spoilt2/figures.txt/x"; fails "cannot write '$tmp/spoilt2/figures.txt': Is a directory" \
    "${distill[@]}" --preset baseline --max-steps 1 --resume --out "$tmp/spoilt2"; }
claim "a run names figures.txt that it cannot write" figures_spoilt
beside() # parts of others stay, and are in nobody's way
{
    mkdir -p "$tmp/beside"/{scores.csv,summary.csv,report.html,figures.txt}.part || return 1
    run "${distill[@]}" --preset baseline --max-steps 1 --out "$tmp/beside" &&
        all_exist "$tmp/beside"/{scores.csv,summary.csv,report.html,figures.txt}{,.part}
}
claim "two runs do not share parts of files" beside

# ---- Signals and pipes, while a network is trained ----------------------------------------------------------
started() # until the first checkpoint of the run in $tmp/$1 is there
{
    for _ in $(seq 600); do
        [ -s "$tmp/$1/last.kdas" ] && return
        sleep 0.1
    done
    return 1
}
long=("${distill[@]}" --epochs 10000 --save-every 1)
ended_by() # NAME SIGNAL...: one after the other, at once
{
    local pid code name=$1 signal
    shift
    # the tests themselves may run under nohup
    env --default-signal=HUP "$bin/${long[0]}" "${long[@]:1}" --out "$tmp/$name" >"$tmp/out" 2>&1 </dev/null &
    pid=$!
    started "$name"
    for signal in "$@"; do kill -"$signal" $pid; done
    wait $pid
    code=$?
    cat "$tmp/out"
    echo "exit code $code"
    [ $code = 130 ] && grep -q "interrupted; .* goes on" "$tmp/out"
}
claim "a terminal that closes ends a training as Ctrl-C does" ended_by hup HUP
claim "it can be taken up again" ends 0 "" "${long[@]}" --out "$tmp/hup" --max-steps 1 --resume
claim "also one that says so several times" ended_by hups HUP HUP HUP
claim "a limit of CPU time ends it alike" ended_by xcpu XCPU XCPU
claim "also where the shell then ends it" ended_by hupterm HUP TERM
under_nohup() # goes on
{
    local pid code
    (trap '' HUP; exec "$bin/${long[0]}" "${long[@]:1}" --out "$tmp/nohup" >"$tmp/out" 2>&1 </dev/null) &
    pid=$!
    started nohup && kill -HUP $pid && sleep 1 && kill -0 $pid || return 1
    kill -TERM $pid
    wait $pid
    code=$?
    cat "$tmp/out"
    [ $code = 130 ]
}
claim "under nohup a training goes on" under_nohup
unread_run() # NAME: its first line is read, and nothing more
{
    "$bin/${distill[0]}" "${distill[@]:1}" --out "$tmp/$1" --epochs 3 2>&1 | head -n 1
    echo "exit codes ${PIPESTATUS[*]}"
}
whole_run() { run "${distill[@]}" --out "$tmp/read" --epochs 3 >/dev/null; }
claim "a training whose output nobody reads goes on" eval 'unread_run unread | grep "exit codes 141 0"'
claim "the same is read to its end" whole_run
claim "both have the same weights" cmp "$tmp/read/best.safetensors" "$tmp/unread/best.safetensors"
claim "and figures" cmp "$tmp/read/scores.csv" "$tmp/unread/scores.csv"
claim "and a report" all_exist "$tmp"/{read,unread}/report.html
full_run() { run "${distill[@]}" --out "$tmp/fullrun" --epochs 3 >/dev/full 2>"$tmp/err"; code_of 1 "cannot write to standard output"; }
claim "a training into a full device goes on, and has failed to tell" full_run
claim "its weights are whole" cmp "$tmp/read/best.safetensors" "$tmp/fullrun/best.safetensors"
unread_doctor() # the summary is not read on, the list is written
{
    run "${doctor[@]}" --keep "$tmp/keep.txt" 2>&1 | true
    [ -s "$tmp/keep.txt" ]
}
claim "a doctor whose summary nobody reads writes its list" unread_doctor
no_longer_read() { run "${evaluate[@]}" "$sets" "$sets" --csv "$tmp/three.csv" 2>&1 | true; [ "$(wc -l <"$tmp/three.csv")" = 4 ]; }
claim "an evaluation whose table nobody reads writes its file" no_longer_read

claims_end
