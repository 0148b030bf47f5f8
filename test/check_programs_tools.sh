#!/bin/bash
# check_programs_tools.sh - what all programs have in common, kdas-evaluate, kdas-export, kdas-inspect and kdas-bench. See
# test/support/programs.sh.
# Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/support/programs.sh

# ---- Every program explains itself --------------------------------------------------------------------
narrow() { ! "$bin/$1" --help | grep '.\{81\}'; }
for program in kdas-distill kdas-segment kdas-inspect kdas-evaluate kdas-doctor kdas-export kdas-quantize kdas-bench; do
    claim "$program --help says how it is used" says "usage:\|Usage:" $program --help
    claim "the help of $program has lines of 80 columns" narrow $program
    claim "$program --version names the library" says "libkdas" $program --version
    claim "$program refuses an option that it lacks" ends 2 "no-such-option" $program --no-such-option
done

for program in kdas-distill kdas-segment kdas-inspect kdas-evaluate kdas-export kdas-bench; do
    claim "$program refuses ten thousand threads" ends 2 "threads .* 1024, not '10000'" $program --threads 10000
    claim "$program refuses less than no thread" wrong $program --threads -1
    claim "$program names the types that there are" ends 2 "f32|bf16|f16|tf32|auto|int8, not 'f64'" $program --dtype f64
    claim "$program names the ways to wait that there are" ends 2 "auto|spin|sleep, not 'doze'" $program --wait doze
    claim "$program wants a whole type" wrong $program --dtype bf
done

# ---- Networks and frames for the rest -------------------------------------------------------------------
d=kdas-distill o=(--out "$tmp/bad")
claim "a teacher and a student are trained" make_demo --preset baseline,paper

# ---- kdas-evaluate agrees with kdas-distill -----------------------------------------------------------
same_figures()
{
    "$bin/kdas-evaluate" --model polyp_pvt_b0 --weights "$demo/paper/best.safetensors" --size 64 --threads 1 \
        --data "$data/TestDataset/scenes" --csv "$tmp/figures.csv" || return 1
    cat "$tmp/figures.csv" "$demo/scores.csv"
    awk -F, '
        function columns(   i) { for (i = 1; i <= NF; i++) at[$i] = i }
        FNR == 1 { columns(); file++; next }
        file == 1 { dice = $at["meanDice"]; wfm = $at["wFm"] }
        file == 2 && $2 == "paper" { same = dice == $at["meanDice"] && wfm == $at["wFm"] && dice != "" }
        END { exit !same }' "$tmp/figures.csv" "$demo/scores.csv"
}
claim "kdas-evaluate finds the figures of kdas-distill" same_figures

to_standard_output() # the table is alone there; what is for people goes to standard error
{
    (cd "$tmp" && "$bin/kdas-evaluate" --weights "$demo/paper/best.safetensors" --size 64 --threads 1 \
        --data "$data/TestDataset/scenes" --csv - >"$tmp/out" 2>"$tmp/err") || return 1
    cat "$tmp/out" "$tmp/err"
    cmp "$tmp/out" "$tmp/figures.csv" && grep -q "^scenes " "$tmp/err" && none_exist "$tmp/-"
}
claim "a table goes to standard output" to_standard_output
claim "one table at a time" wrong kdas-evaluate --weights a.safetensors --data "$data" --csv - --per-image -
usual_network() # where neither the weights nor an option name it: the same as in kdas-segment
{
    ends 1 "model 'polyp_pvt_b0' has no tensor" kdas-evaluate --weights test/golden/pytorch/sets.pth --weights-entry model \
        --data "$data/TestDataset/scenes" &&
        ends 1 "model 'polyp_pvt_b0' has no tensor" kdas-segment --weights test/golden/pytorch/sets.pth \
            --weights-entry model --out "$tmp/x" "$data/TestDataset/scenes/images/scene00000.png"
}
claim "weights that name no network are those of the usual one" usual_network

# ---- Weights know what they are -------------------------------------------------------------------------
best=$demo/paper/best.safetensors sets=$data/TestDataset/scenes
own_size() # without --size and --model: the figures of the run
{
    "$bin/kdas-evaluate" --weights "$best" --threads 1 --data "$sets" --csv "$tmp/own.csv" >"$tmp/out" 2>"$tmp/err" || return 1
    cat "$tmp/out" "$tmp/err"
    grep -q "^polyp_pvt_b0 at 64x64, the size that its weights were trained for$" "$tmp/out" && [ ! -s "$tmp/err" ] &&
        cmp "$tmp/own.csv" "$tmp/figures.csv"
}
claim "kdas-evaluate takes size and network from the weights" own_size
claim "another size is warned of" ends 0 "warning: .*96x96, but its weights were trained at 64x64" kdas-evaluate \
    --weights "$best" --size 96 --threads 1 --data "$sets"
claim "another network is refused" fails "weights of polyp_pvt_b0, not of lite_fpn0: leave out --model" kdas-evaluate \
    --model lite_fpn0 --weights "$best" --data "$sets"
claim "kdas-segment says the size" says "polyp_pvt_b0 at 64x64, the size" kdas-segment --weights "$best" --threads 1 \
    --out "$tmp/own" "$sets/images/scene00000.png"
same_mask() { "$bin/kdas-segment" --weights "$best" --size 64 --threads 1 --quiet --out "$tmp/told" "$sets/images/scene00000.png" &&
    cmp "$tmp/own/scene00000_mask.png" "$tmp/told/scene00000_mask.png"; }
claim "and draws the mask of that size" same_mask
claim "a student is taught at the size of its teacher" says "networks run at 64x64, .* teacher's weights" $d --data "$data" \
    --teacher-weights "$demo/teacher/best.safetensors" --batch 4 --threads 1 --val-fraction 0 --pictures 0 --out "$tmp/sized" --max-steps 1
claim "its network is that of the file" grep -q "taught by polyp_pvt_b0" "$tmp/sized/report.html"
claim "a teacher of another network is refused" fails "not of lite_fpn0: leave out --teacher" $d --data "$data" --teacher lite_fpn0 \
    --teacher-weights "$demo/teacher/best.safetensors" "${o[@]}"
valid_json() { python3 -m json.tool "$1" >"$tmp/json" || return 1; cat "$tmp/json"; grep -q '"hash": "fnv1a64:[0-9a-f]\{16\}"' "$1"; }
if command -v python3 >/dev/null; then
    odd="$tmp/odd \"\\ $(printf '\377')"
    mkdir "$odd"
    cp "$demo/teacher/best.safetensors" "$odd/t.safetensors"
    claim "weights may lie under any name" ends 0 "" $d --data "$data" --teacher-weights "$odd/t.safetensors" --size 64 --batch 4 \
        --threads 1 --val-fraction 0 --pictures 0 --out "$tmp/odd" --max-steps 1
    claim "run.json is JSON all the same" valid_json "$tmp/odd/run.json"
else
    echo "SKIP: JSON is checked with python3"
fi
claim "every training has its run.json" all_exist "$demo"/{teacher,paper}/run.json

# ---- A size is checked before anything is printed ----------------------------------------------------------
# Weights of a network that takes one size alone.
cat >"$tmp/save.c" <<'END'
#include <kdas/model.h>
int main(int argc, char **argv)
{
    kdas_context *context;
    kdas_model   *model;

    return argc != 3 || kdas_context_create(&context, NULL) || kdas_model_create(&model, context, argv[1], NULL) ||
           kdas_model_save(model, argv[2]);
}
END
"${CC:-gcc}" -Iinclude -o "$tmp/save" "$tmp/save.c" "$bin/../lib/libkdas.so" -Wl,-rpath,"$bin/../lib"
claim "weights of TransNetR are written" "$tmp/save" transnetr "$tmp/fixed.safetensors"
fixed=(--weights "$tmp/fixed.safetensors" --size 64 --threads 1)
refused_first() # PROGRAM ARGUMENT...
{
    fails "'transnetr' takes images of 256x256 alone, not of 64x64" "$@" && [ ! -s "$tmp/out" ] && [ "$(wc -l <"$tmp/err")" = 1 ]
}
claim "kdas-evaluate refuses a size first" refused_first kdas-evaluate "${fixed[@]}" --data "$sets"
claim "kdas-segment refuses a size first" refused_first kdas-segment "${fixed[@]}" --out "$tmp/fixed" "$sets/images/scene00000.png"
claim "kdas-segment refuses it first in a pipe" refused_first kdas-segment "${fixed[@]}" --raw 64x64:rgb24
claim "kdas-export refuses a size first" refused_first kdas-export "${fixed[@]}" --out "$tmp/m.onnx"
claim "kdas-inspect refuses a size first" refused_first kdas-inspect transnetr --size 64
claim "kdas-inspect refuses it first of a file" refused_first kdas-inspect "$tmp/fixed.safetensors" --size 64
claim "kdas-distill refuses a size first" refused_first $d --data "$data" --preset baseline --student transnetr --size 64 \
    --batch 1 --threads 1 "${o[@]}"
claim "kdas-bench refuses a size first" refused_first kdas-bench --student transnetr --size 64 --threads 1 --profile
none_first() { fails "no model 'unet9'" kdas-bench --only student --teacher unet9 --size 64 --threads 1 && [ ! -s "$tmp/out" ]; }
claim "kdas-bench refuses an unknown network first" none_first
no_table() { fails "nowhere" kdas-evaluate --weights "$best" --threads 1 --data "$tmp/nowhere" && ! grep meanDic "$tmp/out"; }
claim "kdas-evaluate prints no table of a folder that is not there" no_table

# ---- kdas-export ---------------------------------------------------------------------------------------
x=kdas-export best=$demo/teacher/best.safetensors
holds() { grep -aqF -e "$2" "$1"; } # FILE TEXT
claim "an ONNX file does not go to standard output" wrong $x --weights "$best" --out -
claim "kdas-export writes floats of floats" ends 0 "" $x --weights "$best" --size 64 --floats --out "$tmp/f.onnx"
claim "kdas-export writes a file" ends 0 "" $x --weights "$best" --size 64 --sigmoid --input bytes --out "$tmp/m.onnx"
claim "network and size are the weights' own" says "polyp_pvt_b0 at 64x64, the size that its weights were trained for" \
    $x --weights "$best" --sigmoid --input bytes --out "$tmp/m.onnx"
claim "the file names its network" holds "$tmp/m.onnx" polyp_pvt_b0
claim "the file gives probabilities" holds "$tmp/m.onnx" probability
claim "sizes may be free" ends 0 "" $x --weights "$best" --free-size --free-batch --layout nhwc --maps each --quiet --out "$tmp/m.onnx"
claim "a free file names its axes" holds "$tmp/m.onnx" height
cp "$tmp/m.onnx" "$tmp/kept.onnx"
claim "weights of another network are refused" fails "lite_fpn0" $x --weights "$best" --model lite_fpn0 --out "$tmp/m.onnx"
claim "an unknown network is named" fails "unet9" $x --weights "$best" --model unet9 --out "$tmp/m.onnx"
claim "a folder that is not there is named" fails "nowhere/m.onnx" $x --weights "$best" --out "$tmp/nowhere/m.onnx"
claim "what failed has changed nothing" cmp "$tmp/m.onnx" "$tmp/kept.onnx"
claim "kdas-export needs weights" wrong $x --out "$tmp/m.onnx"
claim "kdas-export needs a file to write" wrong $x --weights "$best"
claim "the weights are not replaced" ends 2 "would replace the weights" $x --weights "$best" --out "$best"
claim "kdas-export takes one network" wrong $x --weights "$best" --out "$tmp/m.onnx" lite_fpn0
claim "a layout is one of two" ends 2 "nchw|nhwc, not 'chwn'" $x --weights "$best" --out "$tmp/m.onnx" --layout chwn

# ---- kdas-inspect -------------------------------------------------------------------------------------
i=kdas-inspect
claim "kdas-inspect lists the models" says "polyp_pvt_b5 " $i
claim "kdas-inspect knows the published count of parameters" real says "polyp_pvt_b0 *3650740 *1\.904 " $i
claim "kdas-inspect knows lite_fpn's parameters and operations" real says "lite_fpn1 *3903553 *1\.591 " $i
claim "kdas-inspect prints taps" says "tap *cfm " $i polyp_pvt_b0 --size 64
claim "kdas-inspect takes frames that are not square" says "output *P2 *2x64x96x1" $i polyp_pvt_b0 --size 64x96 --batch 2
claim "kdas-inspect prints the memory of a step" says "training step *[0-9.]* MiB" $i polyp_pvt_b0 --size 64
claim "kdas-inspect names an unknown model" fails "unet9" $i unet9
claim "kdas-inspect names the network that was meant" \
    fails "no file 'Polyp-pvt-bo', and there is no model .*'polyp_pvt_b0'" $i Polyp-pvt-bo
claim "kdas-inspect says what weights are" says "training_frames *[0-9a-f]\{16\}" $i "$best"
claim "their network and size" says "GMACs at 64x64, the size that the weights were trained for" $i "$best"
claim "what a checkpoint is" says "a checkpoint of kdas_train" $i "$demo/paper/last.kdas"
claim "and where it stands" says "best so far *[0-9.]* in epoch" $i "$demo/paper/last.kdas"
cp "$demo/paper/last.kdas" "$tmp/renamed.safetensors"
claim "by its content and not by its name" says "a checkpoint of kdas_train" $i "$tmp/renamed.safetensors"
claim "kdas-segment writes logits" ends 0 "" kdas-segment --weights "$best" --size 64 --threads 1 --quiet --maps \
    --maps-as logits --out "$tmp/logits" "$data/TrainDataset/images/scene00015.png"
claim "maps are weights of nobody's network" says "network *not named" $i "$tmp/logits/scene00015.safetensors"
echo "these are no weights" >"$tmp/text.safetensors"
claim "kdas-inspect names a file that is none of them" fails "text.safetensors" $i "$tmp/text.safetensors"
claim "kdas-inspect names a file that is not there" fails "none.safetensors" $i "$tmp/none.safetensors"
claim "kdas-inspect refuses two models" wrong $i polyp_pvt_b0 polyp_pvt_b1
claim "kdas-inspect counts the paper's student as the paper does" real says \
    "KDAS *polyp_pvt_b0 *384x384 *3\.65 *3\.7 *2\.319 *2\.011 *2\.342 *2\.01 " $i --table
claim "the paper's table has a size for each row" wrong $i --table --size 96
claim "the paper's table has its own networks" wrong $i polyp_pvt_b0 --table
claim "kdas-inspect says how maps make an answer" says "^answer *the sum of its maps" $i polyp_pvt_b0 --size 64
claim "kdas-inspect says which colours a network has" says "^colours *RGB, .* mean 0\.485 0\.456 0\.406" $i polyp_pvt_b0 --size 64

# ---- kdas-bench ---------------------------------------------------------------------------------------
b=kdas-bench
tiny=(--teacher polyp_pvt_b0 --batch 2 --size 64 --threads 1 --reps 1 --warm-up 1)
figures() # NAME...: a row of each, in this order, with four columns of numbers
{
    printf '%s\n' "$@" >"$tmp/expected"
    grep -v '^#' "$tmp/bench" >"$tmp/rows"
    cut -f1 "$tmp/rows" | diff "$tmp/expected" - || return 1
    awk -F'\t' 'NF != 4 || !($2 > 0 && $3 > 0 && $4 > 0) { print; bad = 1 } END { exit bad }' "$tmp/rows"
}
claim "kdas-bench times inference, a step and frames" ends 0 "" $b "${tiny[@]}" --frame 200x100 \
    --profile-tsv "$tmp/profile.tsv"
cp "$tmp/out" "$tmp/bench"
claim "kdas-bench prints a row for each figure" figures infer_student_b1 infer_student_b2 infer_teacher_b1 \
    infer_teacher_b2 frame_network frame_200x100 step_b2
claim "kdas-bench tells what is inside the timer" grep -q '^# inside the timer:' "$tmp/bench"
claim "kdas-bench measures the machine" grep -q '^# measured: gemm [0-9.]* GFLOP/s (f32), triad [0-9.]* GB/s$' "$tmp/bench"
claim "kdas-bench tells the step's share of the machine" grep -q \
    '^# step_b2: [0-9.]* GFLOP .* [0-9.]* GFLOP/s, [0-9.]*% of the gemm rate$' "$tmp/bench"
claim "kdas-bench tells what a whole frame costs" grep -q '^# frame_200x100 takes [0-9.]* times' "$tmp/bench"
claim "kdas-bench times a student alone" ends 0 "" $b "${tiny[@]}" --teacher none --only step,student
claim "kdas-bench grows no network of one size" ends 2 "images of any size" $b --grow --student transnetr
claim "kdas-bench infers no teacher that is not there" ends 2 "without a teacher" $b --teacher none
for title in op program node; do
    claim "a profile has a table by $title for each figure" test "$(grep -c "^# $title .*share" "$tmp/bench")" = 5
done
tsv_sound() # the operations of a step: student forward and twice that backward, teacher forward
{
    awk -F'\t' '
        $1 == "step_b2" && $4 ~ /^(conv2d|dwconv2d|linear|attention|matmul|mix_ffn)$/ && $3 ~ /polyp/ { flop += $9 }
        $8 < 0 || NF != 12 { exit 2 }
        END { print flop; exit !(flop > 0) }' "$tmp/profile.tsv" >"$tmp/flop" || return 1
    cat "$tmp/flop" "$tmp/bench"
    awk -v flop="$(cat "$tmp/flop")" '/^# step_b2: / { ratio = flop / ($3 * 1e9) }
        END { print ratio; exit !(ratio > 0.7 && ratio < 1.2) }' "$tmp/bench" # the line has one digit after the point
}
claim "the profile's file holds the operations of the step" tsv_sound
claim "kdas-bench times what it is asked for" ends 0 "" $b "${tiny[@]}" --only student,step --phases
cp "$tmp/out" "$tmp/bench"
claim "the step is split into its phases" figures infer_student_b1 infer_student_b2 step_b2 "  teacher" \
    "  student_forward" "  objective_backward" "  update"
claim "kdas-bench times frames one by one" ends 0 "" $b "${tiny[@]}" --teacher none --only frames --frames 20 --frame 200x100 --threads 1
cp "$tmp/out" "$tmp/bench"
claim "kdas-bench prints percentiles, with bound threads, too" figures frames_200x100_p50 frames_200x100_p99 \
    frames_200x100_max frames_200x100_pin_p50 frames_200x100_pin_p99 frames_200x100_pin_max
rising() { awk -F'\t' '/^frames/ { if ($1 !~ /p50/ && $2 < last) exit 1; last = $2; n++ } END { exit n != 6 }' "$tmp/bench"; }
claim "percentiles rise" rising
claim "kdas-bench times a frame at least" wrong $b --only frames --frames 0
claim "kdas-bench tells how time and memory grow" ends 0 "" $b "${tiny[@]}" --size 32 --grow
growth() { [ "$(grep -v '^#' "$tmp/out" | awk -F'\t' 'NF == 10 && $6 >= 1 && $10 >= 1' | wc -l)" = 10 ]; }
claim "growth is told against the best line" growth
bf16() # where the processor or the library lacks it, a refusal that names it
{
    "$bin/$b" "${tiny[@]}" --only student --dtype bf16 >"$tmp/out" 2>&1 || { [ $? = 1 ] && grep -qi bf16 "$tmp/out"; }
}
claim "bf16 is timed, or refused with a sentence" bf16
OMP_NUM_THREADS=1 claim "no threads stands for the library's choice" ends 0 "" $b "${tiny[@]}" --only student --threads 0
claim "which the environment limits" grep -q "threads=1 " "$tmp/out"
claim "kdas-bench refuses a figure that it lacks" wrong $b --only step,walk
claim "a frame has a width and a height" wrong $b --frame 1080p
claim "a frame is not larger than can be" wrong $b --frame 100000x100
claim "growth is a table of its own" wrong $b --grow --profile
claim "a profile that cannot be written is named" fails "nowhere/profile.tsv" $b "${tiny[@]}" --profile-tsv "$tmp/nowhere/profile.tsv"
claim "kdas-bench names an unknown model" fails "unet9" $b "${tiny[@]}" --student unet9

# ---- bench/compare, as far as it goes without the peers ---------------------------------------------------
compare() # CODE PATTERN ARGUMENT...
{
    local code=$1 pattern=$2 got
    shift 2
    bench/compare --kdas-bench "$bin/kdas-bench" --venv "$tmp/venv" --reference "$tmp/nowhere" "$@" >"$tmp/out" 2>&1
    got=$?
    cat "$tmp/out"
    [ $got = "$code" ] && grep -q -e "$pattern" "$tmp/out"
}
if command -v python3 >/dev/null; then
    claim "compare without the peers' network is skipped" compare 0 "^SKIP: .*polyp_pvt.py"
    claim "compare says how it is used" compare 0 "--reference DIR" --help
    claim "compare refuses a peer that it lacks" compare 2 "there is no 'mxnet'" --only mxnet
    claim "compare refuses no round at all" compare 2 "0 is not from 1" --rounds 0
    claim "compare installs nothing for a wrong command line" none_exist "$tmp/venv"
else
    echo "SKIP: bench/compare needs python3"
fi

# ---- bench/int8, likewise ---------------------------------------------------------------------------------
int8() # CODE PATTERN ARGUMENT...
{
    local code=$1 pattern=$2 got
    shift 2
    bench/int8 --venv "$tmp/venv" "$@" >"$tmp/out" 2>&1
    got=$?
    cat "$tmp/out"
    [ $got = "$code" ] && grep -q -e "$pattern" "$tmp/out"
}
if command -v python3 >/dev/null; then
    claim "bench/int8 refuses a peer that it lacks" int8 2 "there is no 'mxnet'" --only mxnet
    claim "bench/int8 refuses a size that networks do not take" int8 2 "a multiple of 32" --size 100
    claim "bench/int8 refuses a library that is not there" int8 2 "nowhere.so" --library "$tmp/nowhere.so"
    claim "bench/int8 installs nothing for a wrong command line" none_exist "$tmp/venv"
else
    echo "SKIP: bench/int8 needs python3"
fi

claims_end
