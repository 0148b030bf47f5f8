#!/bin/bash
# file_calls.sh - each program, with one file call after another failing. A program that meets a failure says which file
# and why, and ends with its status for a failure; or it survives, and its results are those of a run without one. Files
# are the old ones or the new ones, and no temporary file is left. A training is then resumed: its end has the same bits.
# Of calls that read or write data, each file's first, middle and last are taken; of others all. The short form (without
# LONG) takes some of these. ONLY="export segment": those rows.
cd "$(dirname "$0")/../.." || exit 1
. test/faults/common.sh

work=$tmp/w out=$tmp/w/out
declare -a rows=()

# ---- The programs ------------------------------------------------------------------------------------
# For each row: `old` makes what stands in $out before (of an earlier run), `command` is what runs; fine: its status.
scenarios=(inspect checkpoint evaluate segment maps export quantize doctor distill again demo)
of_segment=("$bin/kdas-segment" --weights w/in/teacher.safetensors --out w/out --probability "${small[@]}" w/in/data/TestDataset/scenes)
of_maps=("$bin/kdas-segment" --weights w/in/teacher.safetensors --out w/out --maps --maps-as logits "${small[@]}" w/in/data/TestDataset/scenes)
of_train=("$bin/kdas-distill" --data w/in/data --out w/out --epochs 1 --save-every 2 --teacher-weights w/in/teacher.safetensors
    "${net[@]}" "${small[@]}" --resume)

describe() # ROW: sets command, old, kind
{
    old=(true) kind=once
    case $1 in
    inspect) command=("$bin/kdas-inspect" w/in/teacher.safetensors) ;;
    checkpoint) command=("$bin/kdas-inspect" w/in/last.kdas) ;;
    evaluate)
        command=("$bin/kdas-evaluate" --weights w/in/teacher.safetensors --data w/in/data/TestDataset/scenes --csv w/out/sets.csv
            --per-image w/out/images.csv --threads 1)
        old=(cp w/in/data/TestDataset/scenes/images/scene00000.png w/out/sets.csv)
        ;;
    segment) command=("${of_segment[@]}") old=("${of_segment[@]}" --threshold 0.3) ;;
    maps) command=("${of_maps[@]}") old=("${of_maps[@]}" --size 64) ;;
    export)
        command=("$bin/kdas-export" --weights w/in/teacher.safetensors --out w/out/x.onnx "${small[@]}")
        old=(cp w/in/last.kdas w/out/x.onnx)
        ;;
    quantize)
        command=("$bin/kdas-quantize" --weights w/in/teacher.safetensors --data w/in/data/TestDataset/scenes --out w/out/x.safetensors
            --csv w/out/layers.csv --frames 1 --held-out 0 --probes 0 "${small[@]}")
        old=(cp w/in/last.kdas w/out/x.safetensors)
        ;;
    doctor) # to which a file that cannot be read is a finding
        kind=finds
        command=("$bin/kdas-doctor" --data w/in/data --csv w/out/found.csv --report w/out --keep w/out/keep.txt --drop w/out/drop.txt
            --sequence 0.5 --threads 1)
        old=(cp w/in/data/TestDataset/scenes/images/scene00000.png w/out/keep.txt)
        ;;
    distill) command=("${of_train[@]}" --preset baseline,kdas --ema 0.9) kind=train ;;
    again) # an older run's files are set aside
        command=("${of_train[@]:0:${#of_train[@]}-1}" --preset baseline --max-steps 2) old=("${of_train[@]}" --preset baseline) kind=anew
        ;;
    demo)
        command=("$bin/kdas-distill" --demo --out w/out --scenes 5 --test-scenes 1 --teacher-scenes 0 --epochs 1 --teacher-epochs 1
            --teacher lite_fpn0 --preset baseline "${net[@]}" "${small[@]}" --resume)
        kind=train
        ;;
    esac
}

# ---- One run -----------------------------------------------------------------------------------------

# Run the command in a fresh $out: status in $rc; what it says in $tmp/stdout and $tmp/stderr.
run() # SETTING...: of the shim
{
    rm -rf "$out"
    cp -r "$tmp/old" "$out"
    : >"$tmp/calls"
    (cd "$tmp" && env KDAS_FAULT_UNDER="$work" KDAS_FAULT_CLOCK=1 KDAS_FAULT_LOG="$tmp/calls" "$@" LD_PRELOAD="$shim" \
        timeout 120 "${command[@]}" >"$tmp/stdout" 2>"$tmp/stderr" </dev/null)
    rc=$?
}

# run.json and the report know of a resume.
whole() # FOLDER: whether it is as a run without a failure leaves it
{
    local file
    diff -rq -x last.kdas -x run.json -x report.html -x '*.old' "$tmp/good" "$1" >"$tmp/differs" || return 1
    (cd "$tmp/good" && find . -name last.kdas) >"$tmp/checkpoints"
    while read -r file; do
        same_checkpoint "$tmp/good/$file" "$1/$file" >"$tmp/differs" 2>&1 || return 1
    done <"$tmp/checkpoints"
}

alike() # what survives leaves everything as a run without a failure does
{
    diff -rq "$tmp/good" "$out" >"$tmp/differs" && cmp "$tmp/stdout" "$tmp/good.stdout" >>"$tmp/differs"
}

# Each file is an old or a new one, or in a training a whole one.
kept() # the output of what is wrong is in $tmp/differs
{
    local file
    : >"$tmp/differs"
    (cd "$out" && find . -type f) | while read -r file; do
        [ -f "$tmp/good/$file" ] && cmp -s "$out/$file" "$tmp/good/$file" && continue
        [ -f "$tmp/old/$file" ] && cmp -s "$out/$file" "$tmp/old/$file" && continue
        case $file in
        *.tmp* | *.part* | *.kdas-probe* | *.jpeg | *.jpg) echo "left: $file" ;;
        */.written-by-kdas) ;; # a list that grows with the files
        *.safetensors | *.kdas | *.old | *run.json)
            [ $kind != once ] && { [ "${file##*.}" = json ] || "$bin/kdas-inspect" "$out/$file" >/dev/null 2>&1; } || echo "damaged: $file"
            ;;
        *) [ $kind != once ] && [ "$(tail -c1 "$out/$file" | od -An -c | tr -d ' ')" = '\n' ] || echo "neither old nor new: $file" ;;
        esac
    done >"$tmp/differs"
    [ ! -s "$tmp/differs" ]
}

reason_of() # HOW: the words for it
{
    case $1 in
    EIO) echo "Input/output error" ;;
    ENOSPC) echo "No space left on device" ;;
    EDQUOT) echo "Disk quota exceeded" ;;
    EMFILE) echo "Too many open files" ;;
    EINTR) echo "Interrupted system call" ;;
    EROFS) echo "Read-only file system" ;;
    *) echo . ;;
    esac
}

# The sentence names the file or its folder, and says why.
told() # PATH HOW
{
    local name
    name=$(basename "$1" | sed -E 's/^\.kdas-probe.*//; s/\.(tmp|part).*//; s/\.old$//')
    [ -n "$name" ] || name=$(basename "$(dirname "$1")")
    # A program that cannot look at a path may take it for missing, or for no folder, and says that.
    case $3 in
    stat | lstat | access | realpath) set -- "$1" none ;;
    esac
    { grep -E "^kdas-[a-z]+: " "$tmp/stderr"; [ $kind != finds ] || cat "$tmp/stdout"; } | grep -F "$name" | grep -q "$(reason_of "$2")"
}

# What may differ where the status is that of a run without a failure: kdas-inspect leaves out the size of a file that it
# cannot look at, and what cannot be removed is left.
tolerated() # ROW CALL
{
    case $1:$2 in
    inspect:stat | checkpoint:stat) return 0 ;;
    *:unlink) ! grep -qvE "Only in .*: (\.kdas-probe-|.*\.tmp-)" "$tmp/differs" ;;
    *) return 1 ;;
    esac
}

judge() # ROW N HOW
{
    local call path label
    read -r call path < <(sed -n 's/^! [0-9]* //p' "$tmp/calls" | head -1)
    path=${path#"$tmp/"}
    label="$1: $3 of call $2, ${call:-none} $path: "
    faults=$((faults + 1))
    if [ "$rc" = "$fine" ] && { alike || tolerated "$1" "$call"; }; then
        survived=$((survived + 1))
        echo "$1 $call $3" >>"$tmp/survived"
        right
    elif [ "$rc" = "$fine" ] && [ "$kind" = once ]; then
        wrong "$label status $rc, but the results differ" "$tmp/differs"
    elif [ "$rc" != "$fine" ] && [ "$rc" -gt 2 ]; then
        wrong "$label status $rc" "$tmp/stderr"
    elif [ "$rc" != "$fine" ] && [ "$3" = short ]; then
        wrong "$label must be continued" "$tmp/stderr"
    elif [ "$rc" != "$fine" ] && ! told "$path" "$3" "$call"; then
        wrong "$label no sentence names the file and the reason" "$tmp/stderr"
    elif ! kept && [ "$call" != unlink ]; then
        wrong "$label status $rc" "$tmp/differs"
    elif [ "$kind" = train ] && ! resumes; then
        wrong "$label cannot be resumed to the same end" "$tmp/differs"
    else
        [ "$rc" = "$fine" ] && wrong "$label status 0, but the results differ" "$tmp/differs" || right
    fi
}

resumes()
{
    (cd "$tmp" && KDAS_FAULT_CLOCK=1 LD_PRELOAD="$shim" "${command[@]}" >"$tmp/differs" 2>&1 </dev/null) && whole "$out"
}

# ---- One row -----------------------------------------------------------------------------------------

# Of the calls in $tmp/calls: "number call" of those to try.
pick() # MOST: of reads and writes of one file
{
    sed -E 's/\.(tmp|kdas-probe)-[0-9]+(-[0-9]+)?/.\1/' "$tmp/calls" | awk -v most="$1" '
        { at[NR] = $1; call[NR] = $2; key[NR] = $2 " " $3; of[key[NR]]++ }
        END {
            for (i = 1; i <= NR; i++) {
                k = key[i]; n = ++seen[k]; c = of[k]
                data = call[i] ~ /read|write/
                if (!data || c <= most || n == 1 || n == c || (most > 2 && n == int((c + 1) / 2))) print at[i], call[i]
            }
        }'
}

hows_of() # CALL: what can befall it
{
    case $1 in
    open | opendir) echo EIO EMFILE EINTR ENOSPC EDQUOT ;;
    write | pwrite | writev) echo ENOSPC EIO EINTR EDQUOT ;;
    fsync | close | rename | mkdir | fdatasync | ftruncate) echo EIO ENOSPC EDQUOT EINTR ;;
    unlink) echo EIO EROFS ;;
    read | pread) echo EIO EINTR ;;
    *) echo EIO ;;
    esac
}

try_all() # ROW STRIDE MOST: with errors; the errors in turn where STRIDE > 0, else all of each
{
    local n call i=0 hows how
    pick "$3" >"$tmp/picked"
    while read -r n call; do
        read -ra hows < <(hows_of "$call")
        i=$((i + 1))
        [ "$2" = 0 ] || [ $((i % $2)) = 0 ] || continue
        [ "$2" = 0 ] || hows=("${hows[$((i / $2 % ${#hows[@]}))]}")
        for how in "${hows[@]}"; do
            run KDAS_FAULT_AT=$n KDAS_FAULT_HOW=$how
            judge "$1" $n $how
            [ $((faults % 200)) != 0 ] || progress "$1: $faults of about $(wc -l <"$tmp/picked") calls"
        done
    done <"$tmp/picked"
}

row() # ROW STRIDE MOST
{
    local began=$SECONDS calls n call
    faults=0 survived=0
    describe "$1"
    rm -rf "$work" "$tmp/old" "$tmp/good"
    mkdir -p "$out" "$tmp/old"
    cp -r "$tmp/in" "$work/in"
    (cd "$tmp" && KDAS_FAULT_CLOCK=1 LD_PRELOAD="$shim" "${old[@]}" >/dev/null 2>"$tmp/stderr") || wrong "$1: the older run" "$tmp/stderr"
    cp -r "$out/." "$tmp/old"
    run
    fine=$rc
    [ "$fine" = 0 ] || { [ "$1" = doctor ] && [ "$fine" = 1 ]; } || wrong "$1: status $fine without a failure" "$tmp/stderr"
    cp -r "$out" "$tmp/good"
    cp "$tmp/stdout" "$tmp/good.stdout"
    calls=$(wc -l <"$tmp/calls")
    run
    alike || wrong "$1: two runs without a failure differ" "$tmp/differs"
    cp "$tmp/calls" "$tmp/all"
    try_all "$1" "$2" "$3"
    run KDAS_FAULT_HOW=short
    pick 1 >"$tmp/picked"
    n=0
    while read -r call; do
        n=$((n + 1))
        [ "$2" = 0 ] || [ $((n % $2)) = 0 ] || continue
        run KDAS_FAULT_AT="${call% *}" KDAS_FAULT_HOW=short
        judge "$1" "${call% *}" short
    done <"$tmp/picked"
    run KDAS_FAULT_AT=1+ KDAS_FAULT_HOW=short # all reads and writes are short
    judge "$1" all short
    rows+=("$(printf '%-12s %8d %8d %10d %10d %8d' "$1" "$calls" "$faults" "$survived" $((faults - survived)) $((SECONDS - began)))")
    progress "${rows[-1]}"
}

make_inputs
[ -n "$LONG" ] || scenarios=(inspect evaluate segment export quantize doctor distill demo)
for name in ${ONLY:-${scenarios[@]}}; do
    case $name in
    distill | again | demo) if [ -n "$LONG" ]; then row $name 3 3; else row $name 200 2; fi ;;
    *) if [ -n "$LONG" ]; then row $name 0 3; else row $name 12 2; fi ;;
    esac
done
say "file calls   of a run   failed   survived    refused  seconds"
printf '%s\n' "${rows[@]}"
if [ -n "$LONG" ]; then
    say "survived, with the results of a run without a failure:"
    sort "$tmp/survived" | uniq -c | awk '{ print "  " $2 ": " $3 " " $4 " (" $1 ")" }'
fi
claims_end
