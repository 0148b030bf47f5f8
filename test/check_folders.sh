#!/bin/bash
# check_folders.sh - the programs on folders as they come to users: flat and nested sets, lists, what systems leave
# behind, damaged frames, sizes that differ, and what one program writes and another reads. KDAS_BIN names the folder
# of the programs. Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=$(realpath "${KDAS_BIN:-bin}")
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-folders.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT

. test/support/claims.sh
ends() # CODE PATTERN PROGRAM ARGUMENT...: the exit code, and what stands on either output
{
    local code=$1 pattern=$2 program=$3 got
    timeout 300 "$bin/$program" "${@:4}" >"$tmp/out" 2>&1 </dev/null
    got=$?
    cat "$tmp/out"
    echo "exit code $got, expected $code and '$pattern'"
    [ $got = "$code" ] && { [ -z "$pattern" ] || grep -q -e "$pattern" "$tmp/out"; }
}
lacks() { ! grep -e "$1" "$tmp/out"; } # PATTERN: the last output has it not
holds() { grep -q -e "$1" "$2" || { cat "$2"; return 1; }; }
exist() { local f; for f in "$@"; do [ -s "$f" ] || { echo "no $f"; return 1; }; done; }
cut() { local n; n=$(stat -c %s "$1") && truncate -s $((n * 2 / 3)) "$1"; } # FILE: a part of it
copy() { rm -rf "$tmp/set" && cp -r "$frames" "$tmp/set"; }

# Frames, and a network that has learned a little.
d=kdas-distill e=kdas-evaluate s=kdas-segment
net=(--size 32 --threads 1)
small=("${net[@]}" --student lite_fpn0 --preset baseline --batch 2 --max-steps 1 --pictures 0)
claim "frames are made" ends 0 "" $d --demo "${small[@]}" --scenes 6 --test-scenes 3 --teacher-scenes 0 --out "$tmp/made"
frames=$tmp/made/data/TrainDataset tests=$tmp/made/data/TestDataset/scenes
weights=(--model lite_fpn0 --weights "$tmp/made/best.safetensors" "${net[@]}")
train() { ends "$1" "$2" $d --data "$3" "${small[@]}" --val-fraction 0 --out "$tmp/run" "${@:4}"; } # CODE PATTERN DIR ...
evaluate() { ends "$1" "$2" $e "${weights[@]}" --data "${@:3}"; } # CODE PATTERN DIR ...

# ---- Layouts ------------------------------------------------------------------------------------------
mkdir -p "$tmp/flat/TrainDataset" && cp -r "$frames"/* "$tmp/flat/TrainDataset" && cp -r "$tests" "$tmp/flat/TestDataset"
claim "a flat TestDataset is one test set" train 0 "^TestDataset (3 frames)" "$tmp/flat"
claim "a set alone is trained on, and that is said" train 0 "no 'TrainDataset'" "$frames"
claim "nothing to measure on is said" grep -q "nothing was measured" "$tmp/out"
claim "the report is written all the same" exist "$tmp/run/report.html"
claim "the report says it, too" holds "no test sets, and no frames held out" "$tmp/run/report.html"
mkdir "$tmp/flat/TestDataset.empty" && mv "$tmp/flat/TestDataset" "$tmp/flat/kept" &&
    mv "$tmp/flat/TestDataset.empty" "$tmp/flat/TestDataset"
claim "an empty TestDataset is no test set" train 0 "nothing was measured" "$tmp/flat" --seeds 1,2
claim "a folder too high is answered with the right one" evaluate 1 "'TrainDataset' is such a folder" "$tmp/made/data"
claim "a collection needs frames to train on" train 1 "it has .*A collection has TrainDataset" "$tmp/made/data/TestDataset"
mkdir -p "$tmp/video/Frame/case1" "$tmp/video/GT/case1"
cp "$tests"/images/* "$tmp/video/Frame/case1" && cp "$tests"/masks/* "$tmp/video/GT/case1"
claim "folders of sequences are read" evaluate 0 "^video" "$tmp/video" --per-image "$tmp/video.csv"
claim "names carry the path" holds "^video,case1/scene00000," "$tmp/video.csv"

# ---- Lists --------------------------------------------------------------------------------------------
printf 'scene00000\nscene00001.png\n' >"$tmp/train.txt"
printf 'images/scene00002.png\r\n' >"$tmp/val.txt"
printf 'scene00003\nscene00004\n' >"$tmp/test.txt"
lists=(--train-list "$tmp/train.txt" --val-list "$tmp/val.txt" --test-list "$tmp/test.txt")
claim "a split may be lists of names" train 0 "^2 frames to train on, 1 held out; test sets: test 2" "$frames" "${lists[@]}"
echo scene00001 >>"$tmp/test.txt"
claim "a frame is not trained on and tested" train 1 "scene00001.png' is trained on and in the test set" "$frames" "${lists[@]}"
echo scene00009 >"$tmp/val.txt"
claim "a name without a frame is named with its line" train 1 "'scene00009' in line 1" "$frames" "${lists[@]}"
claim "a list to hold out wants one to train on" ends 2 "train-list" $d --data "$frames" --out "$tmp/x" --val-list "$tmp/val.txt"
claim "kdas-evaluate takes a list" evaluate 0 "" "$frames" --list "$tmp/train.txt" --csv "$tmp/list.csv"
claim "it has two frames" holds "^TrainDataset,2," "$tmp/list.csv"

# ---- What systems leave -------------------------------------------------------------------------------
left=$tmp/left/TestDataset/scenes
mkdir -p "$left" && cp -r "$tests"/* "$left" && cp -r "$frames" "$tmp/left/TrainDataset"
mkdir -p "$tmp/left/TestDataset/"{__MACOSX/scenes/images,@eaDir,.ipynb_checkpoints} "$left/images/@eaDir"
for f in images/._scene00000.png masks/._scene00000.png images/Thumbs.db masks/desktop.ini images/@eaDir/a.jpg; do
    echo x >"$left/$f"
done
claim "what systems leave is no test set" train 0 "test sets: scenes 3$" "$tmp/left"
claim "and is not spoken of" lacks "warning"
mkdir "$tmp/truth" && cp "$left"/masks/scene* "$tmp/truth"
claim "nor is it a prediction or a mask" ends 0 "" $e --predictions "$tmp/truth" --masks "$left/masks"
claim "nor a frame to segment" ends 0 "scene00002.png" $s "${weights[@]}" --out "$tmp/left/out" "$left/images"
claim "and is not spoken of there" lacks "warning\|Thumbs"

# ---- Damaged frames -----------------------------------------------------------------------------------
copy && cut "$tmp/set/images/scene00003.png"
claim "a damaged frame is named" train 1 "scene00003.png" "$tmp/set"
claim "it is found before the training begins" lacks "frames to train on"
claim "--skip-bad leaves it out" train 0 "^5 frames to train on" "$tmp/set" --skip-bad
claim "the end says so" grep -q "^left out of training: scene00003: .*scene00003.png" "$tmp/out"
claim "so does the report" holds "left out.*scene00003.png" "$tmp/run/report.html"
claim "such a run is resumed" train 0 "" "$tmp/set" --skip-bad --resume
claim "kdas-evaluate refuses it" evaluate 1 "scene00003.png" "$tmp/set"
claim "kdas-evaluate leaves it out" evaluate 0 "^left out of .*: scene00003: " "$tmp/set" --skip-bad
claim "kdas-segment fails with it" ends 1 "1 of 6 images failed" $s "${weights[@]}" --out "$tmp/seg" "$tmp/set"
claim "kdas-segment leaves it out" ends 0 "1 of 6 images left out" $s "${weights[@]}" --skip-bad --out "$tmp/seg" "$tmp/set"

# ---- Sizes --------------------------------------------------------------------------------------------
claim "maps are made" ends 0 "" $s "${weights[@]}" --quiet --maps --maps-as png8 --out "$tmp/maps" "$tests"
maps=(--predictions "$tmp/maps" --masks "$tests/masks")
claim "maps of the network's size are refused with an offer" ends 1 "32 x 32.*128 x 128.*--resize-predictions" $e "${maps[@]}"
claim "they are resized on request" ends 0 "^maps" $e "${maps[@]}" --resize-predictions
copy && cp "$tmp/maps/scene00000.png" "$tmp/set/masks/scene00000.png"
claim "a mask of another size is refused with an offer" train 1 "32x32.*128x128.*--resize-masks" "$tmp/set"
claim "kdas-distill resizes it on request" train 0 "^6 frames to train on" "$tmp/set" --resize-masks
claim "kdas-evaluate resizes it on request" evaluate 0 "masks resized: 1" "$tmp/set" --resize-masks
claim "--resize-masks is of a model" ends 2 "resize-masks" $e "${maps[@]}" --resize-masks

# ---- What one program writes, another reads -----------------------------------------------------------
claim "kdas-segment takes a folder" ends 0 "" $s "${weights[@]}" --quiet --probability --out "$tmp/video/out" "$tmp/video"
claim "results keep the folders" exist "$tmp"/video/out/case1/scene0000{0,1,2}_{mask,overlay,probability}.png
claim "probabilities are predictions" ends 0 "^out" $e --predictions "$tmp/video/out" --masks "$tmp/video/GT"
claim "masks and overlays beside them are not spoken of" lacks "warning"
claim "maps of nested frames are written" ends 0 "" $s "${weights[@]}" --quiet --maps --out "$tmp/taught" "$tmp/video"
claim "and learned from" ends 0 "^2 frames to train on, 1 held out" $d --data "$tmp/video" --student lite_fpn0 --teacher-maps "$tmp/taught" \
    "${net[@]}" --batch 2 --max-steps 1 --val-fraction 0.34 --pictures 3 --out "$tmp/pupil"
claim "two files of one name are refused" ends 1 "would both be written" $s "${weights[@]}" --out "$tmp/x" "$tmp/video" \
    "$tmp/video/Frame"

claim "an --out that holds the images is refused" ends 1 "choose another --out" $s "${weights[@]}" --out "$tests/images" "$tests"

ln -s nowhere "$tmp/loose"
claim "a folder that cannot be made says why" ends 1 "make the folder '$tmp/loose': No such file" $s "${weights[@]}" --out "$tmp/loose/x" "$tests"

# ---- Tables and limits --------------------------------------------------------------------------------
cp "$tmp/made/best.safetensors" "$tmp/kept.safetensors"
tables=(--weights "$tmp/kept.safetensors" --data "$tests")
claim "a table does not replace the weights" ends 2 "would replace the weights" $e "${tables[@]}" --csv "$tmp/kept.safetensors"
claim "which are as before" cmp "$tmp/kept.safetensors" "$tmp/made/best.safetensors"
claim "two tables are two files" ends 2 "same file" $e "${tables[@]}" --csv "$tmp/t.csv" --per-image "$tmp/t.csv"
ln -s "$tmp" "$tmp/here" && ln -s nowhere.csv "$tmp/dangling.csv" && ln -s dangling.csv "$tmp/twice.csv"
for other in "$tmp/./t.csv" "$tmp//t.csv" "$tmp/here/t.csv" "$tmp/none/../t.csv" "$(realpath --relative-to=. "$tmp")/t.csv"; do
    claim "two tables are two files: ${other#"$tmp"}" ends 2 "same file" $e "${tables[@]}" --csv "$tmp/t.csv" --per-image "$other"
done
echo kept >"$tmp/there.csv" && ln -s there.csv "$tmp/link.csv"
claim "also one that is there, by a link" ends 2 "same file" $e "${tables[@]}" --csv "$tmp/there.csv" --per-image "$tmp/link.csv"
claim "which stays" grep -qx kept "$tmp/there.csv"
claim "a link to a file that is not there yet is that file" ends 2 "same file" $e "${tables[@]}" --csv "$tmp/nowhere.csv" \
    --per-image "$tmp/twice.csv"
claim "standard output has two names" ends 2 "same file" $e "${tables[@]}" --csv - --per-image /dev/stdout
claim "two files are not one" ends 0 "" $e "${tables[@]}" --csv "$tmp/t1.csv" --per-image "$tmp/dangling.csv"
claim "one is written through its links" exist "$tmp/t1.csv" "$tmp/nowhere.csv"
claim "a table is no file of the report" ends 2 "file of the report" kdas-doctor --train "$tests" --csv "$tmp/page/../page/doctor.html" \
    --report "$tmp/page"
claim "so are findings and a list" ends 2 "two outputs" kdas-doctor --train "$tests" --csv "$tmp/t.csv" --keep "$tmp/t.csv"
limited() ( mkdir -p "$tmp/limit" && ulimit -f 1000 && ends 1 "cannot write.*large" kdas-export --weights "$tmp/kept.safetensors" --out "$tmp/limit/m.onnx" )
claim "a limit on the size of files is said" limited
claim "and nothing is left of the file" rmdir "$tmp/limit"

copy && mv "$tmp/set/masks/scene00001.png" "$tmp/set/masks/scene00001_mask.png"
claim "a mask of another name is shown" train 1 "called 'scene00001' like its image; there is 'scene00001_mask.png'" "$tmp/set"
printf 'scene00000\n' | iconv -t UTF-16 >"$tmp/wide.txt"
claim "a list in UTF-16 is told" evaluate 1 "UTF-16; save it as UTF-8" "$tests" --list "$tmp/wide.txt"

odd=$tmp/odd/'a,"b"'
mkdir -p "$odd" && cp -r "$tests"/* "$odd"
mv "$odd/images/scene00000.png" "$odd/images/c, \"d\".png" && mv "$odd/masks/scene00000.png" "$odd/masks/c, \"d\".png"
claim "names with commas and quotes are read" evaluate 0 "" "$odd" --per-image "$tmp/odd.csv"
claim "and quoted in tables" holds '^"a,""b""","c, ""d""",' "$tmp/odd.csv"
mkdir "$tmp/odd/TestDataset" && mv "$odd" "$tmp/odd/TestDataset" && cp -r "$frames" "$tmp/odd/TrainDataset"
claim "also as the name of a test set" train 0 "" "$tmp/odd"
claim "which is quoted in scores.csv" holds '^"a,""b""",student,1,3,' "$tmp/run/scores.csv"
claim "and in summary.csv" holds '^"a,""b""",student,1,meanDice,' "$tmp/run/summary.csv"

claims_end
