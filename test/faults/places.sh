#!/bin/bash
# places.sh - disks that are full, folders that cannot be written or go away, pipes that nobody reads, and limits of the
# shell: a program ends with its status for a failure and a sentence about the file; no signal ends it, old files stay, and
# nothing half-written is left.
cd "$(dirname "$0")/../.." || exit 1
. test/faults/common.sh
out=$tmp/out weights=$tmp/in/teacher.safetensors test_set=$tmp/in/data/TestDataset/scenes

program() # ARGUMENT...: run; status in $rc, what it says in $tmp/stdout and $tmp/stderr
{
    (cd "$tmp" && timeout 120 "$@" >"$tmp/stdout" 2>"$tmp/stderr" </dev/null)
    rc=$?
}
fails() # LABEL PATTERN: it has failed, and says so
{
    if [ $rc != 1 ] && [ $rc != 2 ]; then
        wrong "$1: status $rc" "$tmp/stderr"
    elif ! grep -qE "^kdas-[a-z]+: .*$2" "$tmp/stderr"; then
        wrong "$1: no sentence with '$2'" "$tmp/stderr"
    elif find "$out" -name '*.tmp*' -o -name '*.part*' -o -name '.kdas-probe*' 2>/dev/null | grep . >"$tmp/differs"; then
        wrong "$1: is left" "$tmp/differs"
    else
        right
    fi
}
fine() { [ $rc = 0 ] && right || wrong "$1: status $rc" "$tmp/stderr"; }
fresh() { rm -rf "$out"; mkdir -p "$out"; }

# Each program that writes, in turn: sets command and the file that it writes first.
writers=(export quantize evaluate doctor segment distill)
if [ -n "$LONG" ]; then parts=(0 1 100 third half) descriptors=(4 5 6 7 8 9 10 11 12 14 16 20) step=20; else parts=(1 half) descriptors=(5 8) step=150; fi
describe()
{
    case $1 in
    export) file=x.onnx command=("$bin/kdas-export" --weights "$weights" --out "$out/x.onnx" "${small[@]}") ;;
    quantize)
        file=x.safetensors command=("$bin/kdas-quantize" --weights "$weights" --data in/data/TestDataset/scenes --out "$out/x.safetensors"
            --frames 2 --held-out 0 --probes 0 "${small[@]}")
        ;;
    evaluate) file=a.csv command=("$bin/kdas-evaluate" --weights "$weights" --data "$test_set" --csv "$out/a.csv" --threads 1) ;;
    doctor) file=keep.txt command=("$bin/kdas-doctor" --data in/data --report "$out" --keep "$out/keep.txt" --threads 1) ;;
    segment) file=scene00000_mask.png command=("$bin/kdas-segment" --weights "$weights" --out "$out" "${small[@]}" "$test_set") ;;
    distill)
        file=last.kdas command=("$bin/kdas-distill" --data in/data --out "$out" --epochs 1 --teacher-weights "$weights" "${net[@]}"
            "${small[@]}" --preset baseline)
        ;;
    esac
}

make_inputs

# ---- A full disk ---------------------------------------------------------------------------------------
for name in "${writers[@]}"; do
    describe "$name"
    fresh
    program env KDAS_FAULT_UNDER="$out" KDAS_FAULT_LOG="$tmp/calls" LD_PRELOAD="$shim" "${command[@]}"
    whole=$(du -sb --apparent-size "$out" | cut -f1)
    for part in "${parts[@]}"; do
        case $part in
        third) part=$((whole / 3)) ;;
        half) part=$((whole / 2)) ;;
        esac
        fresh
        echo "the old one" >"$out/$file"
        case $name in # which replaces no file of others; which gives an old one another name
        segment | distill) rm "$out/$file" ;;
        esac
        program env KDAS_FAULT_UNDER="$out" KDAS_FAULT_BYTES="$part" LD_PRELOAD="$shim" "${command[@]}"
        fails "$name on a disk with room for $part bytes" "No space left on device"
        case $name in
        export | evaluate) [ "$(cat "$out/$file")" = "the old one" ] || wrong "$name on a full disk: '$file' is not the old one" ;;
        esac
    done
done
# Less than a checkpoint takes, and more than weights do.
if mount -t tmpfs -o size=4m tmpfs "$(mkdir -p "$tmp/disk" && echo "$tmp/disk")" 2>/dev/null; then
    out=$tmp/disk/out
    describe distill
    program "${command[@]}"
    fails "training on a full disk" "No space left on device"
    mount -o remount,ro "$tmp/disk"
    program "${command[@]}"
    fails "training on a disk that cannot be written" "Read-only file system"
    umount "$tmp/disk"
    out=$tmp/out
else
    say "SKIP: file systems cannot be mounted here; the shim's full disk is tested"
fi

# ---- Nobody reads, or nobody can ---------------------------------------------------------------------
for command in "kdas-inspect $weights" "kdas-inspect" "kdas-distill --help" "kdas-export --version" \
    "kdas-evaluate --weights $weights --data $test_set --threads 1" "kdas-evaluate --weights $weights --data $test_set --threads 1 --csv -" \
    "kdas-doctor --data $tmp/in/data --threads 1" "kdas-segment --weights $weights --out $tmp/out --threads 1 $test_set"; do
    fresh
    (timeout 60 $bin/$command >/dev/full 2>"$tmp/stderr" </dev/null)
    rc=$?
    fails "$command > /dev/full" "No space left on device"
    fresh
    (timeout 60 $bin/$command 2>"$tmp/stderr" </dev/null; echo $? >"$tmp/rc") | true
    rc=$(cat "$tmp/rc")
    if [ "$rc" = 0 ] || [ "$rc" = 141 ]; then right; else wrong "$command | true: status $rc" "$tmp/stderr"; fi
    ! grep -q "^kdas-" "$tmp/stderr" || wrong "$command | true: speaks of it" "$tmp/stderr"
done
for name in evaluate doctor; do
    describe $name
    program "${command[@]/$out\/$file//dev/full}"
    fails "$name into /dev/full" "/dev/full.*No space left on device"
done

# ---- Folders -------------------------------------------------------------------------------------------
if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
    chmod -R go+rX "$tmp"
    for name in "${writers[@]}"; do
        describe $name
        fresh
        chmod 555 "$out"
        program setpriv --reuid=65534 --regid=65534 --clear-groups "${command[@]}"
        fails "$name into a folder that is not its own" "$(basename "$out").*Permission denied"
    done
else
    say "SKIP: there is no other user to be"
fi
for name in "${writers[@]}"; do
    describe $name
    rm -rf "$out"
    echo "a file" >"$out"
    program "${command[@]}"
    fails "$name into a file for a folder" "$(basename "$out")"
    rm -f "$out"
done
for ((i = 0; i < ${LONG:+10} + 1; i++)); do # removed while it trains
    fresh
    describe distill
    (cd "$tmp" && exec "${command[@]}" --epochs 200 --save-every 1 >"$tmp/stdout" 2>"$tmp/stderr" </dev/null) &
    pid=$!
    for ((t = 0; t < 600; t++)); do
        [ -s "$out/last.kdas" ] && break
        sleep 0.02
    done
    sleep 0.0$((RANDOM % 9))
    rm -rf "$out"
    [ -e "$out" ] && rm -rf "$out"
    wait $pid
    rc=$?
    if [ -e "$out" ]; then right; else fails "the folder goes away" "$(basename "$out")"; fi # made anew between the two
done

# ---- Limits of the shell -----------------------------------------------------------------------------
for name in "${writers[@]}"; do
    describe $name
    for blocks in 1 8; do # of 1024 bytes: the sentence itself is shorter
        fresh
        program bash -c "ulimit -f $blocks; exec \"\$@\"" - "${command[@]}"
        [ $rc = 0 ] && continue # its files are smaller
        fails "$name, files of $blocks KiB at most" "File too large"
    done
    for files in "${descriptors[@]}"; do
        fresh
        program bash -c "ulimit -n $files; exec \"\$@\"" - "${command[@]}"
        [ $rc = 0 ] || [ $rc = 127 ] && continue # enough, or the program cannot be loaded
        fails "$name, $files descriptors" "Too many open files"
    done
done
# Below some size OpenBLAS, while it is loaded, asks for memory without end; the first size that loads it is searched.
limited() { (ulimit -v $(($1 * 1024)); timeout 5 "$bin/kdas-export" --version >/dev/null 2>&1); }
least=100
while ! limited $least && [ $least -lt 1500 ]; do least=$((least + 50)); done
for name in "${writers[@]}"; do
    describe $name
    for ((megabytes = least; megabytes <= 1500; megabytes += step)); do
        fresh
        program bash -c "ulimit -v $((megabytes * 1024)); exec \"\$@\"" - "${command[@]}"
        case $rc$name in
        0*) break ;;
        1doctor) wrong "$name, $megabytes MB of addresses: 1 means that something was found" "$tmp/stderr" ;;
        1* | 2doctor) fails "$name, $megabytes MB of addresses" "memory|thread|Cannot allocate" ;;
        *) wrong "$name, $megabytes MB of addresses: status $rc" "$tmp/stderr" ;;
        esac
    done
    [ $rc = 0 ] || wrong "$name does not run with 1500 MB" "$tmp/stderr"
done
say "places and limits: $SECONDS s"
claims_end
