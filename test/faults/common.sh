# common.sh - for the scripts of test/faults, which source it from the project's root. Needs KDAS_BIN (the programs) and
# FAULTS (what build.mk has built). FAULTS_TMP is where the files lie (default: memory, where there is some: each run
# writes hundreds of MB, and syncs). LONG=1 is the long form.
set -u
bin=$(realpath "${KDAS_BIN:-bin}")
built=$(realpath "${FAULTS:-build/release/test/faults}")
shim=$built/shim.so
in_memory=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)
[ "${in_memory:-0}" -gt 2000000 ] && [ -w /dev/shm ] && place=/dev/shm || place=${TMPDIR:-/tmp}
tmp=$(mktemp -d "${FAULTS_TMP:-$place}/kdas-faults.XXXXXX") || exit 1
tmp=$(realpath "$tmp")
trap 'chmod -R u+w "$tmp" 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
LONG=${LONG:-}
# Thin networks (test/support/thin.h), unless the programs are others'.
thin=$(realpath "${KDAS_THIN:-build/release/test/thin}")
[ "$bin" != "$(realpath bin)" ] || [ ! -d "$thin" ] || export LD_LIBRARY_PATH=$thin
export LC_ALL=C OMP_WAIT_POLICY=passive
small=(--threads 1 --quiet)
net=(--student lite_fpn0 --size 32 --batch 2 --workers 0 --pictures 1)

passed=0 failed=0
right() { passed=$((passed + 1)); }
wrong() # TEXT [FILE]: what went wrong, and the end of a file about it
{
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$1"
    [ -z "${2:-}" ] || sed 's/^/    /' "$2" | tail -n 8
}
claims_end()
{
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ]
}
say() { printf '%s\n' "$*"; }
progress() { [ -z "$LONG" ] || say "  $(date +%T) $*"; }

# Frames, a teacher, weights: $tmp/in/data, $tmp/in/teacher.safetensors, $tmp/in/last.kdas. Made once: kept as
# FAULTS_INPUTS, where that is set, for the scripts that follow.
make_inputs()
{
    if [ -d "${FAULTS_INPUTS:-}" ]; then
        cp -r "$FAULTS_INPUTS" "$tmp/in"
        return
    fi
    mkdir -p "$tmp/in"
    "$bin/kdas-distill" --demo --out "$tmp/in/demo" --scenes 6 --test-scenes 2 --epochs 1 --teacher lite_fpn0 \
        --teacher-scenes 4 --teacher-epochs 1 "${net[@]}" "${small[@]}" --preset baseline >"$tmp/made" 2>&1 || {
        cat "$tmp/made"
        exit 1
    }
    mv "$tmp/in/demo/data" "$tmp/in/data"
    mv "$tmp/in/demo/teacher/best.safetensors" "$tmp/in/teacher.safetensors"
    mv "$tmp/in/demo/last.kdas" "$tmp/in/last.kdas"
    rm -rf "$tmp/in/demo"
    [ -z "${FAULTS_INPUTS:-}" ] || cp -r "$tmp/in" "$FAULTS_INPUTS"
}

# Whether two checkpoints are one but for the list of resumes.
same_checkpoint() { "$built/same" "$1" "$2"; }
