#!/bin/bash
# check_programs_quantize.sh - kdas-quantize, and what the other programs make of its files. See test/support/programs.sh.
# Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/support/programs.sh

claim "students are trained" make_demo --preset baseline,paper
weights=$demo/paper/best.safetensors int8=$tmp/int8.safetensors scenes=$data/TestDataset/scenes
q=kdas-quantize few=(--weights "$weights" --data "$data" --frames 6 --threads 1)
fast=("${few[@]}" --probes 0 --held-out 0)
integers() { "$bin/kdas-inspect" --dtype int8 >/dev/null 2>&1; } # whether this CPU has them

# ---- The file --------------------------------------------------------------------------------------------
claim "a network is put on grids" ends 0 "" $q "${few[@]}" --out "$int8" --held-out 4 --probes 1 --csv "$tmp/layers.csv"
cp "$tmp/out" "$tmp/printed" 2>/dev/null
# The thin polyp_pvt_b0 has 52 layers on grids: 31 in its four blocks (8 each, 7 in the last one, which does not reduce).
claim "its layers are listed" eval '[ $(grep -c "^backbone\.block" "$tmp/printed") = 31 ]'
claim "with the error of all of them" grep -q "^error of the network's answer with all of them rounded: [0-9.]*%" "$tmp/printed"
claim "and the sizes of the files" grep -q "int8.safetensors: [0-9.]* MB; .*best.safetensors: [0-9.]* MB" "$tmp/printed"
claim "the Dice is measured before and after" grep -q "^mean Dice of 4 other frames: 0.[0-9]* as it was, 0.[0-9]* on grids" "$tmp/printed"
if integers; then claim "with integers, too" grep -q "on grids, 0.[0-9]* with integers$" "$tmp/printed"; fi
quarter() { [ $(($(stat -c %s "$int8") * 10)) -lt $(($(stat -c %s "$weights") * 4)) ]; }
claim "the file is about a quarter as large" quarter
ranges() # every layer has one, of two ends
{
    awk -F, 'NR > 1 { n++; if (!($3 <= 0 && $4 > 0 && $5 >= 0 && $5 < 0.05 && $6 > 0 && $6 < 0.2 && $8 > 0)) { print; bad = 1 } }
        END { exit bad || n != 52 }' "$tmp/layers.csv"
}
claim "the table has a range and errors for each layer" ranges
claim "kdas-inspect says what it is" says "quantization  *int8" kdas-inspect "$int8"
claim "and which layers are wide" says "wide  *backbone.patch_embed1.proj out_CFM out_SAM" kdas-inspect "$int8"
same_again() { "$bin/$q" "${fast[@]}" --out "$tmp/again.safetensors" --quiet && cmp "$int8" "$tmp/again.safetensors"; }
claim "the same frames give the same file, silently" same_again

# ---- Other programs ----------------------------------------------------------------------------------------
dice() { "$bin/kdas-evaluate" --weights "$1" --data "$scenes" --size 64 --threads 1 "${@:2}" --csv - 2>/dev/null | sed -n 2p | cut -d, -f4; }
near() # A B: both numbers, at most 0.02 apart
{
    echo "$1 $2"
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a - b < 0.02 && b - a < 0.02) }'
}
before=$(dice "$weights")
claim "kdas-evaluate opens it" near "$before" "$(dice "$int8")"
claim "kdas-segment opens it" ends 0 "" kdas-segment --weights "$int8" --out "$tmp/masks" --size 64 --threads 1 "$scenes"
claim "and so does kdas-segment --dtype auto" ends 0 "" kdas-segment --weights "$int8" --out "$tmp/auto" --size 64 --threads 1 \
    --dtype auto "$scenes"
if integers; then
    claim "kdas-evaluate computes with integers" near "$before" "$(dice "$int8" --dtype int8)"
    not_same() { [ "$(dice "$int8" --dtype int8)" != "$(dice "$int8")" ]; }
    claim "which is another computation" not_same
    for program in kdas-evaluate kdas-segment; do
        case $program in
        kdas-evaluate) rest=(--data "$scenes") ;;
        *) rest=(--out "$tmp/no" "$scenes") ;;
        esac
        claim "$program --dtype int8 wants a model on grids" \
            fails "has no ranges.*kdas-quantize --weights" $program --dtype int8 --weights "$weights" --size 64 "${rest[@]}"
    done
fi

# ---- Options -----------------------------------------------------------------------------------------------
for method in min-max percentile mse; do
    claim "--method $method" ends 0 "" $q "${fast[@]}" --out "$tmp/$method.safetensors" --method $method
done
claim "methods differ" eval '! cmp -s "$tmp/min-max.safetensors" "$tmp/percentile.safetensors"'
wide_is() { "$bin/$q" "${fast[@]}" --out "$tmp/wide.safetensors" "${@:2}" >/dev/null && says "wide  *$1\$" kdas-inspect "$tmp/wide.safetensors"; }
claim "--wide names layers" wide_is "out_SAM CFM.conv4.conv" --wide out_SAM,CFM.conv4.conv
claim "--wide none: all layers are on grids" wide_is "" --wide none
claim "--most-wide keeps the worst layers wide" wide_is "out_SAM [a-z].* [a-zA-Z].*" --wide out_SAM --most-wide 2 --wide-error 0 --probes 1
claim "frames without masks will do" ends 0 "" $q --weights "$weights" --data "$scenes/images" --no-masks --frames 4 --probes 0 \
    --out "$tmp/unlabelled.safetensors" --threads 1
claim "an int8 file is calibrated again" ends 0 "" $q "${fast[@]}" --weights "$tmp/wide.safetensors" --out "$tmp/twice.safetensors"
claim "with its own wide layers" says "wide  *out_SAM [a-z]" kdas-inspect "$tmp/twice.safetensors"
claim "where all frames are needed, it is said" says "no Dice: all frames" $q --weights "$weights" --data "$data" --frames 1000 --probes 0 \
    --out "$tmp/all.safetensors" --threads 1

# ---- Refusals ----------------------------------------------------------------------------------------------
claim "weights must be named" wrong $q --data "$data" --out "$tmp/x"
claim "and frames" wrong $q --weights "$weights" --out "$tmp/x"
claim "and a file to write" wrong $q --weights "$weights" --data "$data"
claim "which is not the weights" ends 2 "would replace the weights" $q "${few[@]}" --out "$weights"
claim "nor standard output" ends 2 "wants a file" $q "${few[@]}" --out -
claim "a method must be one" ends 2 "min-max|percentile|mse" $q "${few[@]}" --out "$tmp/x" --method best
claim "a percentile, too" wrong $q "${few[@]}" --out "$tmp/x" --percentile 20
claim "a wide layer that is none is named" fails "no layer 'nonsense'" $q "${few[@]}" --out "$tmp/x" --wide nonsense
claim "so is a folder that is none" fails "nowhere" $q --weights "$weights" --data "$tmp/nowhere" --out "$tmp/x"
claim "so is a file that is none" fails "nofile" $q --weights "$tmp/nofile" --data "$data" --out "$tmp/x"
claim "a place for no file is refused before any frame is read" \
    fails "cannot write '$tmp/nowhere/x'" $q --weights "$weights" --data "$tmp/no-frames" --out "$tmp/nowhere/x"
claim "so is one for no table" fails "cannot write '$tmp/nowhere/x.csv'" $q --weights "$weights" --data "$tmp/no-frames" \
    --out "$tmp/x" --csv "$tmp/nowhere/x.csv"
frame=$(find "$data/TrainDataset/images" -type f | sort | head -1)
mask=$(find "$data/TrainDataset/masks" -type f | sort | head -1)
same_sums() { [ "$(cat "$frame" "$mask" "$tmp/list.txt" | cksum)" = "$sums" ]; }
basename "$frame" >"$tmp/list.txt"
sums=$(cat "$frame" "$mask" "$tmp/list.txt" | cksum)
ln -s "$mask" "$tmp/link"
claim "a frame is not written over" fails "--out '.*' would replace a frame" $q "${few[@]}" --out "$frame"
claim "nor a mask through a link" fails "--out '.*' would replace a frame" $q "${few[@]}" --out "$tmp/link"
claim "nor by the table" fails "--csv '.*' would replace a frame" $q "${few[@]}" --out "$tmp/x" --csv "$frame"
claim "nor the list of frames" ends 2 "would replace the list" $q "${few[@]}" --out "$tmp/list.txt" --list "$tmp/list.txt"
claim "nor by the table, either" ends 2 "would replace the list" $q "${few[@]}" --out "$tmp/x" --list "$tmp/list.txt" --csv "$tmp/list.txt"
claim "they are as they were" same_sums
claim "too few frames are told with folder and option" fails "'$data' has 1 frame to find ranges on, and 16 .*--frames 1 takes" \
    $q --weights "$weights" --data "$data" --out "$tmp/x" --list "$tmp/list.txt"
claim "which takes it" ends 0 "" $q --weights "$weights" --data "$data" --out "$tmp/one.safetensors" --list "$tmp/list.txt" \
    --frames 1 --probes 0 --threads 1
claim "a choice of wide layers that leaves no grid is refused" fails "nothing of 'polyp_pvt_b0' would be left on grids" \
    $q "${few[@]}" --out "$tmp/x" --most-wide 10000 --wide-error 0 --probes 1
claim "nothing is written then" none_exist "$tmp/x"

claims_end
