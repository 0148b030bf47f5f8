#!/bin/bash
# named.sh - faults that were found once, each by its name. What cannot be seen is not taken for what is not there.
cd "$(dirname "$0")/../.." || exit 1
. test/faults/common.sh
. test/support/claims.sh
out=$tmp/out

# Run a program while the calls of a kind on paths with an ending fail; status in $rc.
with() # CALLS ENDING AT HOW PROGRAM ARGUMENT...
{
    local calls=$1 ending=$2 at=$3 how=$4
    shift 4
    env KDAS_FAULT_UNDER="$tmp" KDAS_FAULT_CALLS="$calls" KDAS_FAULT_PATH="$ending" KDAS_FAULT_AT="$at" KDAS_FAULT_HOW="$how" \
        LD_PRELOAD="$shim" "$bin/$@" >"$tmp/stdout" 2>"$tmp/stderr" </dev/null
    rc=$?
    cat "$tmp/stderr"
}
refused() { with "$@"; [ $rc = 1 ] && grep -q "Input/output error" "$tmp/stderr"; }

make_inputs
set_dir=$tmp/in/data/TestDataset/scenes weights=$tmp/in/teacher.safetensors
train=(kdas-distill --data "$tmp/in/data" --out "$out" --teacher-weights "$weights" "${net[@]}" "${small[@]}" --preset baseline)
segment=(kdas-segment --weights "$weights" --out "$out" "${small[@]}" "$set_dir")

# ---- A run and its files -----------------------------------------------------------------------------
claim "a run is made" with none none 0 EIO "${train[@]}" --epochs 1
cp -r "$out" "$tmp/kept"
same() { local f; for f in last.kdas best.safetensors log.csv; do cmp "$tmp/kept/$f" "$out/$f" || return 1; done; }
claim "a run that cannot see its checkpoint does not begin anew" refused stat last.kdas 1+ EIO "${train[@]}" --epochs 2 --resume
claim "its files are as they were" same
claim "a run that cannot see its log does not begin a new one" refused stat log.csv 1+ EIO "${train[@]}" --epochs 2 --resume
claim "its files are as they were, too" same
set_aside() { with access last.kdas 1+ EIO "${train[@]}" --epochs 1 && [ -e "$out/last.kdas.old" ]; }
claim "an old run that cannot be seen is set aside, not overwritten" set_aside
claim "the scores of other weights than the best are not told" refused access,open,stat best.safetensors 1+ EIO "${train[@]}" \
    --epochs 1 --resume

# ---- Folders of frames ------------------------------------------------------------------------------
rm -rf "$out"
claim "a folder of images that cannot be seen is not passed over" refused stat scenes/images 1+ EIO "${segment[@]}"
claim "a folder of masks that cannot be seen is not passed over" refused stat scenes/masks 1+ EIO kdas-evaluate --weights "$weights" \
    --data "$set_dir" --threads 1

# ---- The list of the files that a program wrote ------------------------------------------------------
rm -rf "$out"
claim "frames are segmented" with none none 0 EIO "${segment[@]}"
claim "a list that cannot be read is named" refused open .written-by-kdas 1 EIO "${segment[@]}"
claim "an own file that cannot be read is named" refused open scene00000_mask.png 1 EIO "${segment[@]}"
claim "frames are segmented again" with none none 0 EIO "${segment[@]}"
echo mine >"$out/scene00001_mask.png"
mine() { refused lstat scene00001_mask.png 1+ EIO "${segment[@]}"; [ "$(cat "$out/scene00001_mask.png")" = mine ]; }
claim "a file of others that cannot be seen is not overwritten" mine
rm -rf "$out"
killed() { with open .written-by-kdas "$1" kill "${segment[@]}"; [ $rc = 137 ] && with none none 0 EIO "${segment[@]}" && [ $rc = 0 ]; }
claim "a segmentation that is killed at its list can be made again" killed 2
cut() { rm -rf "$out"; with write .written-by-kdas "$1" kill "${segment[@]}"; [ $rc = 137 ] && with none none 0 EIO "${segment[@]}" && [ $rc = 0 ]; }
for n in 1 2 3 4; do
    claim "one that is killed before line $n of its list, too" cut $n
done
half() { printf '12 00ff' >>"$out/.written-by-kdas"; with none none 0 EIO "${segment[@]}"; with none none 0 EIO "${segment[@]}"; [ $rc = 0 ]; }
claim "half a line at the list's end spoils no other" half
demo=(kdas-distill --demo --out "$out" --scenes 4 --test-scenes 1 --teacher-scenes 0 --epochs 1 --teacher-epochs 1 --teacher lite_fpn0
    --preset baseline "${net[@]}" "${small[@]}")
again() { rm -rf "$out"; with "$@" "${demo[@]}"; [ $rc != 0 ] && with none none 0 EIO "${demo[@]}" && [ $rc = 0 ]; }
claim "a demonstration that was killed after a picture can be made again" again rename scene00002.png 2 kill
claim "one whose folder could not be synced, too" again fsync images/ 2 EIO
claims_end
