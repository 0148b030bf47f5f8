#!/bin/bash
# check_programs.sh - the programs as their users meet them: what they write, what they say of bad input,
# and their exit codes (0 fine, 1 failed, 2 wrong command line, 130 interrupted). Small synthetic frames
# throughout. KDAS_BIN names the folder of the programs. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
bin=$(realpath "${KDAS_BIN:-bin}")
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-programs.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT

. test/support/claims.sh

ends() # CODE PATTERN PROGRAM ARGUMENT...: the exit code, and what stands on stderr
{
    local code=$1 pattern=$2 program=$3 got
    shift 3
    timeout 300 "$bin/$program" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    cat "$tmp/out" "$tmp/err"
    echo "exit code $got, expected $code and stderr with '$pattern'"
    [ $got = "$code" ] && { [ -z "$pattern" ] || grep -q -e "$pattern" "$tmp/err"; }
}
wrong() { ends 2 "--help" "$@"; }      # a command line that cannot be meant
fails() { ends 1 "$2: .*$1" "${@:2}"; } # PATTERN PROGRAM ARGUMENT...
all_exist() { local f; for f in "$@"; do [ -s "$f" ] || { echo "no $f"; return 1; }; done; }
none_exist() { local f; for f in "$@"; do [ ! -e "$f" ] || { echo "there is $f"; return 1; }; done; }
says() # PATTERN PROGRAM ARGUMENT...
{
    "$bin/$2" "${@:3}" >"$tmp/out" 2>&1 || return 1
    grep -q -e "$1" "$tmp/out" || { cat "$tmp/out"; return 1; }
}

# ---- Every program explains itself --------------------------------------------------------------------
narrow() { ! "$bin/$1" --help | grep '.\{81\}'; }
for program in kdas-distill kdas-segment kdas-inspect kdas-evaluate kdas-doctor kdas-export kdas-bench; do
    claim "$program --help says how it is used" says "usage:\|Usage:" $program --help
    claim "the help of $program has lines of 80 columns" narrow $program
    claim "$program --version names the library" says "libkdas" $program --version
    claim "$program refuses an option that it lacks" ends 2 "no-such-option" $program --no-such-option
done

# ---- Command lines ------------------------------------------------------------------------------------
d=kdas-distill
claim "a run needs frames" wrong $d --out "$tmp/x"
claim "a run has one source of frames" wrong $d --data "$tmp" --demo --out "$tmp/x"
claim "a run needs a folder" wrong $d --data "$tmp"
claim "a batch is at least one image" wrong $d --demo --out "$tmp/x" --batch 0
claim "a size is divided by 32" wrong $d --demo --out "$tmp/x" --size 100
claim "a size is a number" wrong $d --demo --out "$tmp/x" --size 64xtall
claim "a learning rate is a number" wrong $d --demo --out "$tmp/x" --lr fast
claim "scales are a list of numbers" wrong $d --demo --out "$tmp/x" --scales 0.75,,1
claim "an option wants its value" wrong $d --demo --out
claim "no augmentation is none" ends 2 "--augment none" $d --demo --out "$tmp/x" --augment none --crop 0.5
claim "a zoom has two factors" ends 2 "--scale-jitter" $d --demo --out "$tmp/x" --scale-jitter 1.5:0.5
claim "patience needs frames held out" ends 2 "--patience" $d --demo --out "$tmp/x" --patience 2 --val-fraction 0
for program in kdas-distill kdas-segment kdas-inspect kdas-evaluate kdas-export kdas-bench; do
    claim "$program refuses ten thousand threads" ends 2 "threads .* 1024, not '10000'" $program --threads 10000
    claim "$program refuses less than no thread" wrong $program --threads -1
    claim "$program names the types that there are" ends 2 "f32|bf16|f16|tf32|auto, not 'f64'" $program --dtype f64
    claim "$program wants a whole type" wrong $program --dtype bf
done
claim "a wrong command line leaves nothing behind" none_exist "$tmp/x"

# ---- The demonstration, as small as it gets -----------------------------------------------------------
demo=$tmp/demo
small=(--size 64 --batch 4 --threads 1) # one: the machine may be busy with other tests
claim "kdas-distill --demo runs" ends 0 "" $d --demo --out "$demo" --scenes 16 --test-scenes 0 --epochs 2 \
    --teacher polyp_pvt_b0 --teacher-scenes 20 --teacher-epochs 1 --pictures 2 "${small[@]}"
cp "$tmp/out" "$tmp/demo.out"
claim "the demonstration leaves its frames" all_exist "$demo"/data/TrainDataset/{images,masks}/scene00015.png \
    "$demo"/data/TeacherDataset/{images,masks}/scene00019.png \
    "$demo"/data/TestDataset/scenes/{images,masks}/scene00003.png
for row in teacher baseline kl attention paper kdas; do
    claim "$row leaves checkpoint, weights and log" all_exist "$demo/$row"/{last.kdas,best.safetensors,log.csv}
done
mkdir -p "$tmp/full/data/TrainDataset/images"
cp "$demo/data/TrainDataset/images/scene00001.png" "$tmp/full/data/TrainDataset/images/mine.png"
claim "a demonstration does not remove pictures of others" fails "TrainDataset/images' holds pictures" $d --demo \
    --out "$tmp/full" --scenes 4 "${small[@]}"
claim "they are there" all_exist "$tmp/full/data/TrainDataset/images/mine.png"
claim "the demonstration leaves figures and a report" all_exist "$demo"/{scores.csv,report.html}
claim "a picture is drawn of each frame that was asked for" test "$(ls "$demo"/overlays | grep -c '\.png$')" = 2
left_over() { ! find "$demo" -name '*.part*' -o -name '*.tmp*' -o -name '.kdas-*' | grep .; }
claim "nothing half-written is left" left_over
table() { grep -c "^  \(teacher\|baseline\|kl\|attention\|paper\|kdas\) .*0\.[0-9]" "$tmp/demo.out" | grep -qx 6; }
claim "the table has the teacher and the five rows" table
finite() { ! grep -i -n "nan\|inf," "$demo/scores.csv" "$demo"/*/log.csv; }
claim "every figure is a number" finite

report=$demo/report.html
alone() { ! grep -n -i -e '<script' -e 'https\?://' -e '<link' -e '@import' -e 'url(' "$report"; }
claim "the report stands alone" alone
count() { [ "$(grep -o -e "$2" "$report" | wc -l)" = "$1" ]; }
claim "the report holds the pictures" count 2 'src="data:image/jpeg;base64,'
claim "the report has the curves" count 11 '<svg '
claim "the report has the field's columns" count 1 '<th>meanDice</th><th>meanIoU</th><th>wFm</th>'
claim "the report tells the command" grep -q -- '--demo --out' "$report"
claim "the report tells the split" grep -q 'split hash [0-9a-f]\{16\}' "$report"
balanced() # every element that is opened is closed
{
    local tag
    for tag in main figure svg table tr td th ul li dl dd dt div h2 h3 p b; do
        [ "$(grep -o "<$tag[ >]" "$report" | wc -l)" = "$(grep -o "</$tag>" "$report" | wc -l)" ] || { echo "$tag"; return 1; }
    done
}
claim "the report's elements are closed" balanced

# ---- From folders; broken off and taken up again ------------------------------------------------------
data=$demo/data teacher=(--teacher polyp_pvt_b0 --teacher-weights "$demo/teacher/best.safetensors")
run=(--data "$data" "${teacher[@]}" "${small[@]}" --val-fraction 0 --pictures 0)
claim "a run over folders ends well" ends 0 "" $d "${run[@]}" --out "$tmp/whole" --max-steps 6
claim "a run writes events for TensorBoard" ends 0 "" $d "${run[@]}" --out "$tmp/board-run" --max-steps 2 --preset baseline \
    --tensorboard "$tmp/board"
claim "each training has its folder of events" all_exist "$tmp"/board/student/events.out.tfevents.*
claim "a run can be cut short" ends 0 "" $d "${run[@]}" --out "$tmp/cut" --max-steps 3
claim "a run goes on where it stopped" ends 0 "" $d "${run[@]}" --out "$tmp/cut" --max-steps 6 --resume
claim "a run taken up again ends with the same bits" cmp "$tmp/whole/best.safetensors" "$tmp/cut/best.safetensors"
claim "a run that starts anew keeps the old one" ends 0 "" $d "${run[@]}" --out "$tmp/cut" --max-steps 1
claim "the old run's files have other names" cmp "$tmp/whole/best.safetensors" "$tmp/cut/best.safetensors.old"
claim "a student starts from weights" ends 0 "" $d "${run[@]}" --out "$tmp/warm" --max-steps 1 --preset baseline \
    --student-weights "$tmp/whole/best.safetensors"
claim "a student's backbone starts from weights" ends 0 "" $d "${run[@]}" --out "$tmp/warm" --max-steps 1 --preset baseline \
    --backbone-weights "$tmp/whole/best.safetensors"

interrupted() # a long run, ended by Ctrl-C as soon as its first checkpoint is there
{
    local pid code i
    "$bin/$d" "${run[@]}" --out "$tmp/long" --epochs 10000 --save-every 1 >"$tmp/long.out" 2>&1 </dev/null &
    pid=$!
    for i in $(seq 300); do
        [ -s "$tmp/long/last.kdas" ] && break
        sleep 0.1
    done
    kill -INT $pid
    wait $pid
    code=$?
    cat "$tmp/long.out"
    echo "exit code $code"
    [ $code = 130 ] && [ -s "$tmp/long/last.kdas" ]
}
claim "Ctrl-C saves and ends with 130" interrupted
second_run() # into the folder of one that runs: refused at once, and nothing of the first is touched
{
    local pid i
    "$bin/$d" "${run[@]}" --out "$tmp/held" --epochs 10000 --save-every 1 >"$tmp/held.out" 2>&1 </dev/null &
    pid=$!
    for i in $(seq 300); do
        [ -s "$tmp/held/last.kdas" ] && break
        sleep 0.1
    done
    ends 1 "process $pid writes a run into it" $d "${run[@]}" --out "$tmp/held" && none_exist "$tmp"/held/*.old
    i=$?
    kill -9 $pid
    wait $pid 2>/dev/null
    return $i
}
claim "a second run into a folder is refused by the id of the first" second_run
claim "a run that was interrupted can be taken up again" ends 0 "" $d "${run[@]}" --out "$tmp/long" --epochs 10000 \
    --max-steps 1 --resume

# ---- Several seeds ------------------------------------------------------------------------------------
claim "seeds are whole numbers" wrong $d --demo --out "$tmp/x" --seeds 1,two
claim "seeds differ" wrong $d --demo --out "$tmp/x" --seeds 1,2,1
claim "a list of seeds has no hole" wrong $d --demo --out "$tmp/x" --seeds 1,,2
claim "seeds are not below 0" wrong $d --demo --out "$tmp/x" --seeds=-1
many=(--data "$data" "${teacher[@]}" "${small[@]}" --val-fraction 0.25 --epochs 2 --preset baseline,kl,paper)
claim "rows are trained with several seeds" ends 0 "" $d "${many[@]}" --pictures 1 --seeds 2,1,7 --out "$tmp/seeds"
cp "$tmp/out" "$tmp/seeds.out"
for row in baseline kl paper; do
    claim "each seed of $row has a folder" all_exist "$tmp/seeds/$row"/seed-{1,2,7}/{last.kdas,best.safetensors,log.csv}
done
# fields AWK FILE...: with the fields by name, as f["meanDice"]
fields() { awk -F, 'FNR == 1 { for (i = 1; i <= NF; i++) name[i] = $i; next } { for (i = 1; i <= NF; i++) f[name[i]] = $i }'" $1" "${@:2}"; }
claim "scores.csv has a row for each seed" test "$(fields '{ print f["model"], f["seed"] }' "$tmp/seeds/scores.csv" | sort |
    paste -sd,)" = "baseline 1,baseline 2,baseline 7,kl 1,kl 2,kl 7,paper 1,paper 2,paper 7,teacher "
mean_and_spread() # of summary.csv, from scores.csv
{
    fields '
        FILENAME ~ /scores/ { dice[f["model"], f["seed"]] = f["meanDice"] }
        FILENAME ~ /summary/ && f["metric"] == "meanDice" && f["model"] != "teacher" {
            m = f["model"]; a = dice[m, 1]; b = dice[m, 2]; c = dice[m, 7]; mean = (a + b + c) / 3
            spread = sqrt(((a - mean) ^ 2 + (b - mean) ^ 2 + (c - mean) ^ 2) / 2)
            off = f["mean"] - mean; wide = f["deviation"] - spread
            print m, mean, spread
            if (off ^ 2 > 1e-24 || wide ^ 2 > 1e-18) bad = 1
            if (m == "baseline") next
            a -= dice["baseline", 1]; b -= dice["baseline", 2]; c -= dice["baseline", 7]
            off = f["difference"] - (a + b + c) / 3
            sign = a + b + c > 0 ? 1 : -1
            if (off ^ 2 > 1e-24 || f["agree"] != (a * sign > 0) + (b * sign > 0) + (c * sign > 0)) bad = 1
            rows++
        }
        END { exit bad || rows != 2 }' "$tmp/seeds/scores.csv" "$tmp/seeds/summary.csv"
}
claim "summary.csv has mean, spread and difference to the baseline" mean_and_spread
in_table() { grep -q "^  paper  *0\.[0-9]*+-\.[0-9]* .* [+-]0\.[0-9]*+-\.[0-9]* [123]/3$" "$tmp/seeds.out"; }
claim "the table has them, too" in_table
ahead='\(is ahead of\|No row is clearly ahead\).* over 3 seeds'
claim "a sentence says whether a row is ahead" grep -q "$ahead" "$tmp/seeds.out"
claim "it is the first line of the report" grep -q "^<p class=\"verdict\">.*$ahead" "$tmp/seeds/report.html"
split_of() { grep -o 'Validation</dt><dd><code>[^<]*' "$1"; }
one_seed() # the same run with --seed 7, but for the split, which is that of --seed
{
    "$bin/$d" "${run[@]}" --val-fraction 0 --preset baseline --epochs 2 --seed 7 --out "$tmp/seven" &&
        "$bin/$d" "${run[@]}" --val-fraction 0 --preset baseline --epochs 2 --seeds 7 --out "$tmp/sevens" &&
        cmp "$tmp/seven/best.safetensors" "$tmp/sevens/seed-7/best.safetensors"
}
claim "a seed of a list gives the bits of --seed" one_seed
same_split()
{
    "$bin/$d" "${many[@]}" --pictures 0 --preset baseline --seeds 5 --out "$tmp/other" &&
        [ -n "$(split_of "$tmp/other/report.html")" ] &&
        [ "$(split_of "$tmp/other/report.html")" = "$(split_of "$tmp/seeds/report.html")" ]
}
claim "all seeds are judged on the same frames held out" same_split
again=("${many[@]}" --pictures 0 --save-every 1 --out "$tmp/killed" --resume)
killed() # SIGNAL ROW/SEED: the same in $tmp/killed, ended while that training is under way
{
    local pid i
    "$bin/$d" "${again[@]}" --seeds 2,1,7 >"$tmp/out" 2>&1 </dev/null &
    pid=$!
    for i in $(seq 1200); do
        [ -s "$tmp/killed/$2/last.kdas" ] && break
        sleep 0.05
    done
    kill -"$1" $pid
    wait $pid 2>/dev/null
    [ ! -e "$tmp/killed/report.html" ] || { echo "it was not stopped"; return 1; }
}
trained() { grep -c "^[a-z]* seed $1  epoch" "$tmp/out"; }
finished() { stat -c '%n %Y %s' "$tmp"/killed/*/seed-"$1"/{last.kdas,figures.txt}; } # SEED
went_on() # SEED: what was finished of it is neither trained nor measured again
{
    finished "$1" | diff "$tmp/before" - && [ "$(trained "$1")" = 0 ]
}
goes_on() # with the scores of the unbroken run
{
    ends 0 "" $d "${again[@]}" --seeds 2,1,7 || return 1
    went_on 1 && [ "$(trained 2)" = 0 ] && cmp "$tmp/seeds/scores.csv" "$tmp/killed/scores.csv" &&
        cmp "$tmp/seeds/paper/seed-7/best.safetensors" "$tmp/killed/paper/seed-7/best.safetensors"
}
claim "a study is stopped by SIGINT in the fifth of nine trainings" killed INT kl/seed-1
finished 2 >"$tmp/before"
claim "it goes on, and is stopped by SIGKILL in the eighth" killed KILL kl/seed-7
claim "what was finished before SIGINT is left alone" went_on 2
finished 1 >"$tmp/before"
claim "it goes on once more and ends as if it had not been stopped" goes_on
nothing_left() { ends 0 "" $d "${again[@]}" --seeds 2,1,7 && ! grep " epoch " "$tmp/out"; }
claim "a finished study has nothing left to do" nothing_left
one_more() { ends 0 "" $d "${again[@]}" --seeds 2,1,7,8 && [ "$(trained 8)" = 6 ] && [ "$(trained 1)" = 0 ]; }
claim "a seed more trains that seed alone" one_more
other_recipe() # figures of another command are no longer taken
{
    ends 0 "" $d "${again[@]}" --seeds 2,1,7 --epochs 3 && [ "$(trained 2)" = 3 ] && [ "$(trained 7)" = 3 ] &&
        ! cmp "$tmp/seeds/scores.csv" "$tmp/killed/scores.csv"
}
claim "more epochs train on" other_recipe
anew() # a run from the start that is stopped goes on with what is its own alone
{
    "$bin/$d" "${many[@]}" --pictures 1 --seeds 2,1,7 --out "$tmp/seeds" --max-steps 1 &&
        none_exist "$tmp/seeds/paper/seed-7/figures.txt.part" &&
        all_exist "$tmp/seeds/paper/seed-7"/{figures.txt,last.kdas,best.safetensors,log.csv}.old
}
claim "a run that starts anew keeps the old one of every seed" anew

# ---- In bf16, where the processor can; there are two ways without it everywhere ------------------------
claim "bf16 where it cannot be had is refused" fails "bf16" $d "${run[@]}" --out "$tmp/half" --dtype bf16 --isa avx2
for type in f16 tf32; do
    claim "$type on a device without it is refused" fails "$type" $d "${run[@]}" --out "$tmp/half" --dtype $type
done
claim "auto takes f32 there and says so" ends 0 "computing in f32" $d "${run[@]}" --out "$tmp/auto" --max-steps 3 \
    --dtype auto --isa avx2
claim "kdas-evaluate refuses bf16 where it cannot be had" fails "bf16" kdas-evaluate --model polyp_pvt_b0 --weights \
    "$demo/paper/best.safetensors" --size 64 --data "$data/TestDataset/scenes" --dtype bf16 --device reference
if says "polyp" kdas-inspect --dtype bf16; then
    half=("${run[@]}" --dtype bf16)
    claim "a run in bf16 ends well" ends 0 "" $d "${half[@]}" --out "$tmp/half" --max-steps 6
    claim "it says what it computes in" grep -q '^libkdas .*, in bf16$' "$tmp/out"
    claim "its report says so" grep -q 'in bf16</code>' "$tmp/half/report.html"
    differs() { ! cmp "$tmp/whole/best.safetensors" "$tmp/half/best.safetensors"; }
    claim "it was computed in bf16" differs
    close_to_f32() # the mean loss of the last epoch, within a twentieth
    {
        awk -F, 'FNR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
            { total[FILENAME] = $at["total"]; print FILENAME, $at["total"] }
            END { a = total[ARGV[1]]; b = total[ARGV[2]]; exit !(a > 0 && b > 0.95 * a && b < 1.05 * a) }' \
            "$tmp/whole/log.csv" "$tmp/half/log.csv"
    }
    claim "its losses are near those of f32" close_to_f32
    claim "a run in bf16 can be cut short" ends 0 "" $d "${half[@]}" --out "$tmp/halfcut" --max-steps 3
    cp -r "$tmp/halfcut" "$tmp/mixed_types"
    claim "a run in bf16 is taken up" ends 0 "" $d "${half[@]}" --out "$tmp/halfcut" --max-steps 6 --resume
    claim "it ends with the bits of the unbroken one" cmp "$tmp/half/best.safetensors" "$tmp/halfcut/best.safetensors"
    claim "a run may go on in the other type and says so" ends 0 "precision is 'f32' from here on; .*last.kdas' had 'bf16'" $d \
        "${run[@]}" --out "$tmp/mixed_types" --max-steps 6 --resume
    claim "kdas-evaluate takes bf16" says "scenes" kdas-evaluate --model polyp_pvt_b0 --weights \
        "$tmp/half/best.safetensors" --size 64 --threads 1 --data "$data/TestDataset/scenes" --dtype bf16
else
    echo "SKIP: this processor has no products in bf16"
fi

# ---- Views and averages --------------------------------------------------------------------------------
strong=("${run[@]}" --preset baseline --augment strong --ema 0.9 --empty-share 0)
claim "strong views and an average" ends 0 "" $d "${strong[@]}" --out "$tmp/strong" --max-steps 6
claim "such a run can be cut short" ends 0 "" $d "${strong[@]}" --out "$tmp/strongcut" --max-steps 3
claim "and taken up" ends 0 "" $d "${strong[@]}" --out "$tmp/strongcut" --max-steps 6 --resume
claim "with the same bits" cmp "$tmp/strong/best.safetensors" "$tmp/strongcut/best.safetensors"
stops() { says "stopped early" $d "${run[@]}" --preset baseline --out "$tmp/early" --val-fraction 0.3 --epochs 60 --lr 1e-9 --patience 1; }
claim "a run that gets no better stops" stops

# ---- What is wrong is found before work begins --------------------------------------------------------
o=(--out "$tmp/bad")
claim "a missing folder is named" fails "$tmp/nowhere" $d --data "$tmp/nowhere" --preset baseline "${o[@]}" "${small[@]}"
claim "an objective that needs a teacher says so" fails "teacher" $d --data "$data" "${o[@]}" "${small[@]}"
claim "an unknown student is named" fails "polyp_pvt_b9" $d "${run[@]}" "${o[@]}" --student polyp_pvt_b9
claim "an unknown preset is named" fails "nonsense" $d "${run[@]}" "${o[@]}" --preset paper,nonsense
claim "an unknown guidance is named" fails "nonsense" $d "${run[@]}" "${o[@]}" --guidance nonsense
claim "an unknown device is named" fails "nonsense" $d "${run[@]}" "${o[@]}" --device nonsense
claim "missing weights are named" fails "$tmp/none.safetensors" $d --data "$data" "${o[@]}" \
    --teacher-weights "$tmp/none.safetensors"
echo "these are no weights" >"$tmp/text.safetensors"
claim "a file that holds no weights is named" fails "text.safetensors" $d --data "$data" "${o[@]}" \
    --teacher-weights "$tmp/text.safetensors"
claim "weights of another model are refused" fails "best.safetensors" $d --data "$data" "${o[@]}" \
    --teacher polyp_pvt_b1 --teacher-weights "$demo/teacher/best.safetensors"
claim "weights that hold no such backbone are refused" fails "no tensor of the part 'backbone.' of model 'lite_fpn0'" \
    $d "${run[@]}" "${o[@]}" --preset baseline --student lite_fpn0 --backbone-weights "$tmp/whole/best.safetensors"
claim "weights and a backbone's exclude each other" wrong $d "${run[@]}" "${o[@]}" \
    --student-weights "$tmp/whole/best.safetensors" --backbone-weights "$tmp/whole/best.safetensors"
claim "a checkpoint of another model is refused" fails "last.kdas" $d "${run[@]}" --out "$tmp/cut" --resume \
    --student polyp_pvt_b1
claim "a warm-up longer than the run is refused before the teacher is trained" fails "warm" $d --data "$data" \
    --teacher polyp_pvt_b0 --teacher-epochs 9 --epochs 1 --schedule cosine --warmup 20 "${small[@]}" "${o[@]}"
claim "no teacher was trained for it" none_exist "$tmp/bad/teacher/last.kdas"
claim "a folder below a file cannot be made" fails "$tmp/text.safetensors" $d "${run[@]}" \
    --out "$tmp/text.safetensors/out"
claim "nothing was trained on the way" none_exist "$tmp"/bad/{log.csv,last.kdas,report.html}

broken=$tmp/broken
copy() { rm -rf "$broken" && cp -r "$data" "$broken"; }
base=(--data "$broken" --preset baseline "${o[@]}" "${small[@]}" --max-steps 1 --pictures 0)
copy && rm "$broken/TrainDataset/masks/scene00003.png"
claim "an image without a mask is named" fails "scene00003" $d "${base[@]}"
claim "an image without a mask can be left out" ends 0 "scene00003" $d "${base[@]}" --skip-bad
copy && echo "no image" >"$broken/TestDataset/scenes/images/scene00001.png"
claim "a text file named .png is named" fails "scene00001.png" $d "${base[@]}"
copy && head -c 2000 "$data/TrainDataset/images/scene00002.png" >"$broken/TrainDataset/images/scene00002.png"
claim "an image that breaks off is named" fails "scene00002" $d "${base[@]}" --max-steps 0 --epochs 1
copy && rm -r "$broken/TestDataset"
claim "a run without test sets is measured on the frames held out" ends 0 "" $d "${base[@]}" --max-steps 1

# ---- Masks --------------------------------------------------------------------------------------------
bmp() # FILE VALUE: 128x128 pixels; those of the left half are VALUE (octal), the others 0
{
    printf 'BM\66\300\0\0\0\0\0\0\66\0\0\0\50\0\0\0\200\0\0\0\200\0\0\0\1\0\30\0' >"$1"
    head -c 24 /dev/zero >>"$1"
    for _ in {1..128}; do printf "\\$2%.0s" {1..192}; head -c 192 /dev/zero; done >>"$1"
}
masks_of() # VALUE: every mask of the copy is such a file
{
    local mask
    copy
    bmp "$tmp/mask.bmp" "$1"
    for mask in "$broken"/T*/masks/*.png "$broken"/T*/*/masks/*.png; do
        rm "$mask" && cp "$tmp/mask.bmp" "${mask%.png}.bmp"
    done
}
claim "there is no such mask rule" ends 2 "bright" $d "${base[@]}" --mask-rule loud
masks_of 1
claim "masks of class numbers are read, and said to be" ends 0 "brightest value is 1.*'nonzero'" $d "${base[@]}"
claim "by another rule they are empty, and refused" fails "none of the .* brightest value is 1" $d "${base[@]}" \
    --mask-rule bright
claim "unless that is meant" ends 0 "" $d "${base[@]}" --mask-rule bright --allow-empty
bmp "$tmp/all.bmp" 377
mkdir -p "$tmp/marked" "$tmp/labels" && cp "$tmp/all.bmp" "$tmp/marked/a.bmp" && cp "$tmp/mask.bmp" "$tmp/labels/a.bmp"
right() { ends 0 "'nonzero'" kdas-evaluate --predictions "$tmp/marked" --masks "$tmp/labels" && grep -q "marked .* 1.000" "$tmp/out"; }
claim "kdas-evaluate reads them alike" right
claim "kdas-evaluate follows a rule" ends 0 "1 of 1 masks" kdas-evaluate --predictions "$tmp/marked" --masks "$tmp/labels" \
    --mask-rule bright --allow-empty
claim "and refuses masks without any polyp" fails "rule 'bright'" kdas-evaluate --predictions "$tmp/marked" \
    --masks "$tmp/labels" --mask-rule bright
masks_of 0
claim "a set without any polyp is refused" fails "none of the .* brightest value is 0" $d "${base[@]}"

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

# ---- What a resume makes of changes -----------------------------------------------------------------------
cut=(--data "$data" "${small[@]}" --preset baseline --val-fraction 0.25 --pictures 0)
for schedule in cosine step; do
    claim "a run is cut, $schedule" ends 0 "" $d "${cut[@]}" --schedule $schedule --epochs 3 --max-steps 3 --out "$tmp/c-$schedule"
done
again() # CODE PATTERN SCHEDULE OPTION...: taken up with other options
{
    rm -rf "$tmp/again" && cp -r "$tmp/c-$3" "$tmp/again" &&
        ends "$1" "$2" $d "${cut[@]}" --schedule "$3" --out "$tmp/again" --resume "${@:4}"
}
quiet_of() { again 0 "resumed after" cosine "${@:2}" && ! grep "$1" "$tmp/err"; } # PATTERN OPTION...
claim "without the limit it goes on, without a warning" quiet_of warning --epochs 3
claim "that is said" grep -q "limit of steps .* is 0 from here on; .* had 3" "$tmp/err"
claim "a run that was not cut" ends 0 "" $d "${cut[@]}" --schedule cosine --epochs 3 --out "$tmp/c-whole"
claim "has the same weights" cmp "$tmp/c-whole/best.safetensors" "$tmp/again/best.safetensors"
claim "a cosine does not speak of steps" quiet_of step_every --epochs 6
claim "more epochs are said" grep -q "number of epochs is 6 from here on; .* had 3" "$tmp/err"
claim "steps become longer with the run" again 0 "optim.step_every is 6" step --epochs 6
claim "a tenth at each third" awk -F, 'NR == 7 { last = $3 } END { exit !(last > 0.9e-6 && last < 1.1e-6) }' "$tmp/again/log.csv"
claim "another batch is refused, and how to go on is said" again 1 "batch size is 4, here it is 2; give it the former value" cosine --epochs 3 --batch 2
claim "another size is refused" again 1 "is 64, here it is 96" cosine --epochs 3 --size 96
claim "another rate is said" again 0 "optim.lr goes on at 0.0001" cosine --epochs 3 --lr 1e-2
claim "another seed is refused" again 1 "seed is '1', here it is '2'" cosine --epochs 3 --seed 2
claim "another split is refused" again 1 "put frames, split and held-out share back" cosine --epochs 3 --val-fraction 0.5
cp -r "$data" "$tmp/moved" && mv "$tmp/moved/TrainDataset/images/scene00015.png" "$tmp/moved/TrainDataset/images/a.png" &&
    mv "$tmp/moved/TrainDataset/masks/scene00015.png" "$tmp/moved/TrainDataset/masks/a.png"
claim "as many frames, but others, are refused" again 1 "hash of the training frames" cosine --epochs 3 --data "$tmp/moved"
rm -rf "$tmp/again" "$tmp/moved"

# ---- kdas-segment -------------------------------------------------------------------------------------
s=kdas-segment scenes=$data/TestDataset/scenes/images
net=(--weights "$demo/paper/best.safetensors" --size 64 --threads 1)
claim "kdas-segment draws frames" ends 0 "" $s "${net[@]}" --out "$tmp/seg" "$scenes"/scene0000{0,1}.png
claim "mask and overlay are written" all_exist "$tmp"/seg/scene0000{0,1}_{mask,overlay}.png
size_of() { od -An -tx1 -j16 -N8 "$1"; } # width and height, from the PNG's header
same_size() { [ "$(size_of "$tmp/seg/scene00000_mask.png")" = "$(size_of "$scenes/scene00000.png")" ]; }
claim "a mask has its frame's size" same_size
claim "a threshold that nothing reaches gives an empty mask" ends 0 "" $s "${net[@]}" --out "$tmp/none" \
    --threshold 1 "$scenes/scene00000.png"
claim "without a mask the frame is untouched" cmp "$tmp/none/scene00000_overlay.png" "$scenes/scene00000.png"

# Compares frame, overlay and mask, where some of the frame is polyp.
cat >"$tmp/outside.c" <<'END'
#include <kdas/image.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    kdas_context *c;
    kdas_image   *image[3];
    kdas_view     v[3];
    long          outside = 0, inside = 0, area = 0;

    if (argc != 4 || kdas_context_create(&c, NULL)) return 1;
    for (int i = 0; i < 3; i++) {
        if (kdas_image_load(&image[i], c, argv[i + 1], i == 2 ? KDAS_PIXEL_GREY8 : KDAS_PIXEL_RGB8)) return 1;
        v[i] = kdas_image_view(image[i]);
    }
    for (long i = 0; i < v[0].width * v[0].height; i++) {
        int polyp = ((const unsigned char *)v[2].data)[i] > 127;
        int differs = memcmp((const char *)v[0].data + 3 * i, (const char *)v[1].data + 3 * i, 3) != 0;

        area += polyp;
        inside += polyp && differs;
        outside += !polyp && differs;
    }
    printf("%ld of %ld pixels changed inside, %ld outside\n", inside, area, outside);
    return !(area > 0 && inside > area / 2 && outside == 0);
}
END
untouched()
{
    local t
    "${CC:-gcc}" -Iinclude -o "$tmp/outside" "$tmp/outside.c" "$bin/../lib/libkdas.so" -Wl,-rpath,"$bin/../lib" || return 1
    for t in $(LC_ALL=C seq 0.30 0.01 0.70); do # whichever divides this barely trained network's map
        "$bin/$s" "${net[@]}" --out "$tmp/part" --threshold $t "$scenes/scene00002.png" | tee "$tmp/part.txt" || return 1
        grep -q ' \(0\|100\)\.0 % polyp' "$tmp/part.txt" && continue
        "$tmp/outside" "$scenes/scene00002.png" "$tmp/part/scene00002_overlay.png" "$tmp/part/scene00002_mask.png"
        return
    done
    return 1
}
claim "pixels outside the mask are untouched" untouched
echo "no image" >"$tmp/text.png"
claim "a file that is no image is named" fails "text.png" $s "${net[@]}" --out "$tmp/mixed" "$tmp/text.png" "$scenes/scene00000.png"
claim "the other frames are drawn all the same" all_exist "$tmp/mixed/scene00000_mask.png"
claim "nothing is drawn of a file that is no image" none_exist "$tmp/mixed/text_mask.png"
cp "$scenes/scene00000.png" "$tmp/scene00000.png"
claim "two frames of one name are refused" fails "scene00000" $s "${net[@]}" --out "$tmp/twice" "$tmp/scene00000.png" "$scenes/scene00000.png"
claim "missing weights are named by kdas-segment" fails "none.safetensors" $s --weights "$tmp/none.safetensors" --out "$tmp/seg" "$tmp/scene00000.png"
claim "a whole module is named by kdas-segment" fails "whole module.*state_dict" $s --weights test/golden/pytorch/module.pth \
    --out "$tmp/seg" "$tmp/scene00000.png"
claim "a missing entry of a .pth file is named" fails "no entry 'other'.*'model', 'ema.module'" $s \
    --weights test/golden/pytorch/sets.pth --weights-entry other --out "$tmp/seg" "$tmp/scene00000.png"
claim "a checkpoint is told from weights" fails "checkpoint.*best.safetensors" $s --weights "$demo/paper/last.kdas" \
    --out "$tmp/seg" "$tmp/scene00000.png"
claim "weights of another network are named" fails "has the weights of polyp_pvt_b0, not of lite_fpn0" $s --model lite_fpn0 \
    --weights "$demo/paper/best.safetensors" --out "$tmp/seg" "$tmp/scene00000.png"
# What others have put into --out stays.
seg_again=("${net[@]}" --quiet --out "$tmp/again" "$scenes"/scene0000{0,1}.png)
claim "frames are drawn into a new folder" ends 0 "" $s "${seg_again[@]}"
claim "and again, over its own pictures" ends 0 "" $s "${seg_again[@]}"
cp "$scenes/scene00003.png" "$tmp/again/scene00000_mask.png"
claim "a mask that was corrected by hand stays" fails "again/scene00000_mask.png.*--force" $s "${seg_again[@]}"
claim "with its bits" cmp "$scenes/scene00003.png" "$tmp/again/scene00000_mask.png"
claim "it is replaced where that is meant" ends 0 "" $s "${seg_again[@]}" --force
claim "from then on it is the program's own" ends 0 "" $s "${seg_again[@]}"
cp -r "$data/TestDataset/scenes" "$tmp/set"
claim "maps do not replace the masks of a set" fails "set/masks/scene00000.png' and other files" $s "${net[@]}" --maps \
    --out "$tmp/set/masks" "$tmp/set/images"
claim "none of them" diff -r "$data/TestDataset/scenes/masks" "$tmp/set/masks"
cp "$demo/paper/best.safetensors" "$tmp/scene00000.safetensors"
claim "maps do not replace the weights" fails "over the weights" $s --weights "$tmp/scene00000.safetensors" --maps \
    --maps-as logits --force --out "$tmp" "$scenes/scene00000.png"
claim "standard output is no folder" wrong $s "${net[@]}" --out - "$scenes/scene00000.png"
mkdir "$tmp/bare"
claim "a folder without images is named" fails "'$tmp/bare'" $s "${net[@]}" --out "$tmp/seg" "$tmp/bare"
claim "kdas-segment needs weights" wrong $s --out "$tmp/seg" "$tmp/scene00000.png"
claim "kdas-segment needs an image" wrong $s "${net[@]}" --out "$tmp/seg"

# ---- kdas-segment in a pipe ---------------------------------------------------------------------------
# Pixels of pictures as raw video, and what a stream of overlays may change.
cat >"$tmp/raw.c" <<'END'
#include <kdas/image.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static unsigned char *file(const char *path, size_t *size)
{
    FILE          *f = fopen(path, "rb");
    unsigned char *bytes = malloc(1 << 24);

    *size = f ? fread(bytes, 1, 1 << 24, f) : 0;
    return bytes;
}
/* Frames of side WxH in the file, of YUV kind, matrix and range given, as rgb24. */
static int as_rgb(char **argv)
{
    size_t         n;
    unsigned char *bytes = file(argv[2], &n), *rgb = malloc(1 << 24);
    int            w, h, deep = !strcmp(argv[4], "p010le"), apart = !strcmp(argv[4], "yuv420p");
    kdas_view      v = { 0 };
    size_t         luma, chroma, frame;

    if (sscanf(argv[3], "%dx%d", &w, &h) != 2) return 1;
    v.width = w, v.height = h;
    v.pixel  = deep ? KDAS_PIXEL_P010 : apart ? KDAS_PIXEL_I420 : KDAS_PIXEL_NV12;
    v.matrix = atoi(argv[5]) == 709 ? KDAS_MATRIX_BT709 : KDAS_MATRIX_BT601;
    v.range  = !strcmp(argv[6], "full") ? KDAS_RANGE_FULL : KDAS_RANGE_LIMITED;
    luma     = (size_t)(w * h) << deep;
    chroma   = (size_t)((w + 1) / 2 * ((h + 1) / 2)) << deep;
    frame    = luma + 2 * chroma;
    for (size_t at = 0; at + frame <= n; at += frame) {
        v.data      = bytes + at;
        v.chroma[0] = bytes + at + luma;
        v.chroma[1] = apart ? bytes + at + luma + chroma : NULL;
        if (kdas_view_convert(&v, rgb, 0, KDAS_PIXEL_RGB8)) return 1;
        fwrite(rgb, 1, (size_t)(w * h * 3), stdout);
    }
    return 0;
}
int main(int argc, char **argv) /* gray|rgb24 IMAGE..., size IMAGE, outside FRAMES OVERLAYS MASKS, as FRAMES SIDE ... */
{
    kdas_context *c;
    kdas_pixel    pixel = argc > 1 && !strcmp(argv[1], "gray") ? KDAS_PIXEL_GREY8 : KDAS_PIXEL_RGB8;

    if (argc == 5 && !strcmp(argv[1], "outside")) {
        size_t         n[3], inside = 0, outside = 0;
        unsigned char *b[3];

        for (int i = 0; i < 3; i++)
            b[i] = file(argv[2 + i], &n[i]);
        for (size_t i = 0; i < n[0] && n[1] == n[0]; i++)
            *(b[2][i / 3] ? &inside : &outside) += b[0][i] != b[1][i];
        printf("%zu, %zu, %zu bytes; %zu changed inside, %zu outside\n", n[0], n[1], n[2], inside, outside);
        return !(n[0] == n[1] && n[0] == 3 * n[2] && inside > 0 && outside == 0);
    }
    if (argc == 7 && !strcmp(argv[1], "as")) return as_rgb(argv);
    if (kdas_context_create(&c, NULL)) return 1;
    for (int i = 2; i < argc; i++) {
        kdas_image *image;
        kdas_view   v;

        if (kdas_image_load(&image, c, argv[i], pixel)) return 1;
        v = kdas_image_view(image);
        if (!strcmp(argv[1], "size"))
            printf("%ldx%ld\n", (long)v.width, (long)v.height);
        else
            fwrite(v.data, 1, (size_t)(v.stride * v.height), stdout);
    }
    return 0;
}
END
"${CC:-gcc}" -Iinclude -o "$tmp/raw" "$tmp/raw.c" "$bin/../lib/libkdas.so" -Wl,-rpath,"$bin/../lib"
three=("$scenes"/scene0000{0,1,2}.png) video=$tmp/video.rgb
"$tmp/raw" rgb24 "${three[@]}" >"$video"
side=$("$tmp/raw" size "${three[0]}") frame=$(($(stat -c %s "$video") / 3))
# A threshold that divides the network's maps, as found for the pictures above.
for t in $(LC_ALL=C seq 0.30 0.01 0.70); do
    "$bin/$s" "${net[@]}" --raw "$side:rgb24" --threshold $t --quiet <"$video" >"$tmp/masks.gray" || break
    [ "$(tr -d '\0' <"$tmp/masks.gray" | wc -c)" -gt 100 ] && [ "$(tr -d '\377' <"$tmp/masks.gray" | wc -c)" -gt 100 ] && break
done
piped() # CODE PATTERN ARGUMENT...: the exit code and stderr of a stream from "$video" to $tmp/piped
{
    local code=$1 pattern=$2 got
    shift 2
    timeout 300 "$bin/$s" "${net[@]}" --threshold $t "$@" <"$video" >"$tmp/piped" 2>"$tmp/err"
    got=$?
    cat "$tmp/err"
    echo "exit code $got, expected $code and stderr with '$pattern'"
    [ $got = "$code" ] && if [ -n "$pattern" ]; then grep -q -e "$pattern" "$tmp/err"; else [ ! -s "$tmp/err" ]; fi
}
stream_masks() # the pictures' own
{
    piped 0 "network *[0-9.]* *[0-9.]* *[0-9.]*$" --raw "$side:rgb24" - && grep -q "3 frames of $side" "$tmp/err" &&
        "$bin/$s" "${net[@]}" --threshold $t --out "$tmp/stills" "${three[@]}" &&
        "$tmp/raw" gray "$tmp"/stills/scene0000{0,1,2}_mask.png >"$tmp/stills.gray" && cmp "$tmp/stills.gray" "$tmp/piped"
}
claim "a stream's masks are those of its pictures, and it says how long they took" stream_masks
claim "a quiet stream says nothing" piped 0 "" --raw "$side:rgb24" --quiet
stream_overlays() { piped 0 "" --raw "$side:rgb24" --overlay --quiet && "$tmp/raw" outside "$video" "$tmp/piped" "$tmp/masks.gray"; }
claim "a stream's overlays change nothing outside the masks" stream_overlays
claim "a stream is smoothed" piped 0 "" --raw "$side:rgb24" --smoothing 0.9 --hysteresis 0.2 --quiet
smoothed() { ! cmp "$tmp/piped" "$tmp/masks.gray" && cmp -n $((frame / 3)) "$tmp/piped" "$tmp/masks.gray"; }
claim "smoothing leaves the first frame and changes others" smoothed
stream_probabilities() { piped 0 "" --raw "$side:rgb24" --probability --quiet && [ "$(stat -c %s "$tmp/piped")" = $frame ]; }
claim "a stream of probabilities has a byte for each pixel" stream_probabilities
stream_in_auto() # masks alike but for pixels near the threshold
{
    piped 0 "${1:-}" --raw "$side:rgb24" --quiet --dtype auto ${1:+--isa avx2} || return 1
    cmp -l "$tmp/piped" "$tmp/masks.gray" | wc -l >"$tmp/apart"
    echo "of $frame pixels are apart: $(cat "$tmp/apart")"
    [ "$(stat -c %s "$tmp/piped")" = $frame ] && [ $(($(cat "$tmp/apart") * 10)) -lt $frame ]
}
if says "polyp" kdas-inspect --dtype bf16; then
    claim "a stream takes what the processor has" stream_in_auto
fi
claim "a stream on a processor without bf16 is in f32 and says so" stream_in_auto "computing in f32"
piped_bf16() { piped 1 "bf16" --raw "$side:rgb24" --dtype bf16 --isa avx2 && [ ! -s "$tmp/piped" ]; }
claim "a stream in bf16 without such a processor is refused" piped_bf16
# The same bytes as YUV frames of an odd size: noisy, but frames. The network says of them what it says of them as rgb24.
yuv_side=95x63 yuv_pixels=$((95 * 63)) yuv_frame=$((95 * 63 + 2 * 48 * 32))
stream_yuv() # FORMAT BYTES-A-SAMPLE MATRIX RANGE ARGUMENT...
{
    local format=$1 bytes=$2 matrix=$3 range=$4 whole=$video video=$tmp/video.yuv
    shift 4
    head -c $((yuv_frame * bytes * 2)) "$whole" >"$video"
    "$tmp/raw" as "$video" $yuv_side "$format" "$matrix" "$range" >"$tmp/yuv.rgb"
    piped 0 "" --raw "$yuv_side:$format" --probability --quiet "$@" || return 1
    cp "$tmp/piped" "$tmp/yuv.gray"
    video=$tmp/yuv.rgb
    piped 0 "" --raw "$yuv_side:rgb24" --probability --quiet || return 1
    [ "$(stat -c %s "$tmp/yuv.gray")" = $((yuv_pixels * 2)) ] && cmp "$tmp/yuv.gray" "$tmp/piped"
}
claim "a stream of nv12 has the probabilities of its colours" stream_yuv nv12 1 601 limited
claim "a stream of yuv420p in full range has, too" stream_yuv yuv420p 1 601 full --range full
claim "a stream of p010le by bt709 has, too" stream_yuv p010le 2 709 limited --matrix bt709
stream_yuv_overlays() # in the frame's format, and nothing drawn where no mask is: with a threshold of 1, nothing at all
{
    local whole=$video video=$tmp/video.yuv
    head -c $((yuv_frame * 2)) "$whole" >"$video"
    piped 0 "" --raw "$yuv_side:nv12" --overlay --quiet --threshold 1 && cmp "$tmp/piped" "$video" &&
        piped 0 "" --raw "$yuv_side:nv12" --overlay --quiet --threshold 0 &&
        [ "$(stat -c %s "$tmp/piped")" = $((yuv_frame * 2)) ] && ! cmp -s "$tmp/piped" "$video"
}
claim "a stream of nv12 is drawn on in its planes" stream_yuv_overlays
head -c $((frame * 2 + 1000)) "$video" >"$tmp/cut.rgb"
video=$tmp/cut.rgb
claim "a stream that ends in a frame's midst says so" piped 1 "1000 bytes into frame 3, which has $frame" --raw "$side:rgb24"
claim "the whole frames before are written" cmp "$tmp/piped" <(head -c $((frame / 3 * 2)) "$tmp/masks.gray")
video=/dev/null
claim "a stream without a frame has failed" piped 1 "no frame" --raw "$side:rgb24"
video=$tmp/video.rgb
closed() # nobody reads on: it stops and is quiet
{
    local codes
    for i in $(seq 50); do cat "$video"; done 2>/dev/null |
        "$bin/$s" "${net[@]}" --quiet --raw "$side:rgb24" --overlay 2>"$tmp/err" | head -c 10 >/dev/null
    codes=("${PIPESTATUS[@]}")
    echo "exit codes ${codes[*]}"
    cat "$tmp/err"
    [ "${codes[1]}" = 141 ] && [ ! -s "$tmp/err" ]
}
claim "a stream that nobody reads ends quietly" closed
stopped() # a camera that sends no further frame
{
    local pid code i
    mkfifo "$tmp/camera" || return 1
    : >"$tmp/piped"
    "$bin/$s" "${net[@]}" --raw "$side:rgb24" <"$tmp/camera" >>"$tmp/piped" 2>"$tmp/err" &
    pid=$!
    exec 7>"$tmp/camera"
    head -c $((frame + 9)) "$video" >&7
    for i in $(seq 300); do
        [ "$(stat -c %s "$tmp/piped")" = $((frame / 3)) ] && break
        sleep 0.1
    done
    kill -INT $pid
    wait $pid
    code=$?
    exec 7>&-
    cat "$tmp/err"
    echo "exit code $code"
    [ $code = 130 ] && grep -q "1 frame of" "$tmp/err"
}
claim "Ctrl-C ends a stream that waits for its next frame" stopped
raw=("${net[@]}" --raw)
claim "a format is width, height and a name" wrong $s "${raw[@]}" 640x480
claim "an unknown format is named" ends 2 "yuv444p" $s "${raw[@]}" 640x480:yuv444p
claim "matrix and range are of YUV frames" wrong $s "${raw[@]}" 64x64:rgb24 --range full
claim "there are two matrices" wrong $s "${raw[@]}" 64x64:nv12 --matrix bt2020
claim "pictures have no matrix" wrong $s "${net[@]}" --out "$tmp/seg" --matrix bt709 "$tmp/scene00000.png"
claim "a width is a number" wrong $s "${raw[@]}" widex480:rgb24
claim "a frame has pixels" wrong $s "${raw[@]}" 0x480:rgb24
claim "a frame is not too large" wrong $s "${raw[@]}" 16385x2:rgb24
claim "a frame's area is bounded" wrong $s "${raw[@]}" 16384x16384:gray
claim "a size has no sign" wrong $s "${raw[@]}" -- -640x480:rgb24
claim "a stream wants no folder" wrong $s "${raw[@]}" 64x64:rgb24 --out "$tmp/seg"
claim "a stream wants no image" wrong $s "${raw[@]}" 64x64:rgb24 "$tmp/scene00000.png"
claim "a stream writes one kind of frames" wrong $s "${raw[@]}" 64x64:rgb24 --overlay --probability
claim "the past never has all the weight" wrong $s "${raw[@]}" 64x64:rgb24 --smoothing 1
claim "hysteresis is not above a threshold" wrong $s "${raw[@]}" 64x64:rgb24 --threshold 0.5 --hysteresis 0.6
claim "nor above that of the weights" fails "not 0 to the threshold" $s "${raw[@]}" 64x64:rgb24 --hysteresis 0.6
claim "pictures have no past" wrong $s "${net[@]}" --out "$tmp/seg" --smoothing 0.5 "$tmp/scene00000.png"
claim "missing weights are named in a stream" fails "none.safetensors" $s --weights "$tmp/none.safetensors" --raw 64x64:gray

# ---- A teacher's maps, and frames without masks -------------------------------------------------------
train=$data/TrainDataset/images maps=$tmp/maps
claim "kdas-segment writes maps" ends 0 "" $s --weights "$demo/teacher/best.safetensors" --size 64 --threads 1 --quiet \
    --maps --out "$maps" "$train"/*.png
only_maps() { [ "$(ls "$maps" | wc -l)" = 16 ] && all_exist "$maps/scene00015.png"; }
claim "maps are all that it writes then" only_maps
cp "$train/scene00000.png" "$tmp/precious.png"
claim "maps are not written over the images" fails "would be written over" $s --weights "$demo/teacher/best.safetensors" \
    --size 64 --threads 1 --quiet --maps --out "$tmp" "$tmp/precious.png"
claim "the image is what it was" cmp "$train/scene00000.png" "$tmp/precious.png"
deep() { [ "$(od -An -tx1 -j16 -N10 "$1" | tr -d ' \n')" = 000000400000004010"00" ]; } # 64 x 64, 16 bits, grey
claim "a map has the network's size and 16 bits" deep "$maps/scene00000.png"
claim "maps may have 8 bits" ends 0 "" $s "${net[@]}" --maps --maps-as png8 --out "$tmp/maps8" "$train/scene00000.png"
claim "maps may be logits" ends 0 "" $s "${net[@]}" --maps --maps-as logits --out "$tmp/logits" "$train"/*.png
claim "logits are written as safetensors" all_exist "$tmp/logits/scene00015.safetensors"
claim "maps and probabilities exclude each other" wrong $s "${net[@]}" --maps --probability --out "$tmp/x" a.png
# PraNet answers with the last of its four maps.
once=(--data "$data" "${small[@]}" --batch 16 --val-fraction 0 --pictures 0 --epochs 1 --max-steps 1 --augment none)
claim "PraNet learns for a step" ends 0 "" $d "${once[@]}" --preset baseline --student pranet --out "$tmp/pranet"
pranet=(--teacher pranet --teacher-weights "$tmp/pranet/best.safetensors")
claim "its maps are written" ends 0 "" $s --weights "$tmp/pranet/best.safetensors" --size 64 --threads 1 --quiet \
    --maps --maps-as logits --out "$tmp/pranet/maps" "$train"/*.png
claim "it teaches" ends 0 "" $d "${once[@]}" --preset kl --pair answer "${pranet[@]}" --out "$tmp/pranet/live"
claim "its maps teach" ends 0 "" $d "${once[@]}" --preset kl --teacher-maps "$tmp/pranet/maps" --out "$tmp/pranet/cached"
kd_of() { awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "kd_raw") k = i } NR == 2 { print $k }' "$1/log.csv"; }
same_guidance() { echo "$(kd_of "$tmp/pranet/live") $(kd_of "$tmp/pranet/cached")" |
    awk '{ print; d = $1 - $2; exit !($1 > 0 && d < 1e-4 * $1 && -d < 1e-4 * $1) }'; }
claim "both guide alike: a map is the answer" same_guidance
claim "a stream has no maps" wrong $s "${net[@]}" --raw 64x64:rgb24 --maps
cached=(--data "$data" "${small[@]}" --val-fraction 0.2 --pictures 0)
claim "a student learns from maps" ends 0 "" $d "${cached[@]}" --teacher-maps "$maps" --out "$tmp/cached" --max-steps 6
taught() { ! cmp "$tmp/cached/best.safetensors" "$tmp/alone/best.safetensors"; }
claim "the same student learns alone" ends 0 "" $d "${cached[@]}" --preset baseline --out "$tmp/alone" --max-steps 6
claim "the maps made a difference" taught
claim "its report says what taught it" grep -q "taught by maps" "$tmp/cached/report.html"
all=("${cached[@]}" --val-fraction 0 --teacher-maps "$maps")
claim "a run with maps ends well" ends 0 "" $d "${all[@]}" --out "$tmp/uncut" --max-steps 6
claim "a run with maps can be cut short" ends 0 "" $d "${all[@]}" --out "$tmp/cachedcut" --max-steps 3
claim "a run with maps is taken up" ends 0 "" $d "${all[@]}" --out "$tmp/cachedcut" --max-steps 6 --resume
claim "it ends with the bits of the unbroken run" cmp "$tmp/uncut/best.safetensors" "$tmp/cachedcut/best.safetensors"
claim "several folders are averaged" ends 0 "" $d "${cached[@]}" --teacher-maps "$maps,$tmp/logits" --out "$tmp/mean" --max-steps 1
claim "a folder of maps that is not there is named" fails "nowhere" $d "${cached[@]}" --teacher-maps "$tmp/nowhere" "${o[@]}"
claim "missing maps are counted" fails "no map for 1[0-9] of the 1[0-9] frames" $d "${cached[@]}" --teacher-maps "$tmp/maps8" "${o[@]}"
claim "maps and weights of a teacher exclude each other" wrong $d "${run[@]}" --teacher-maps "$maps" "${o[@]}"
mkdir "$tmp/more"
for i in 0 1 2 3; do cp "$scenes/scene0000$i.png" "$tmp/more/new$i.png"; done
claim "frames without masks learn from a teacher" ends 0 "" $d "${run[@]}" --unlabelled "$tmp/more" --out "$tmp/un1" --max-steps 2
claim "it says how many there are" grep -q "20 frames to train on (4 without masks)" "$tmp/out"
claim "also where the objective has no guidance" ends 0 "" $d "${run[@]}" --preset baseline --unlabelled "$tmp/more" \
    --out "$tmp/un2" --max-steps 2
claim "they want a teacher" fails "frames without masks need a teacher" $d "${cached[@]}" --preset baseline \
    --unlabelled "$tmp/more" "${o[@]}"
claim "they want maps, too" fails "no map for 4 of the 1[0-9] frames" $d "${cached[@]}" --teacher-maps "$maps" \
    --unlabelled "$tmp/more" "${o[@]}"
claim "maps are made for them" ends 0 "" $s --weights "$demo/teacher/best.safetensors" --size 64 --threads 1 --quiet \
    --maps --out "$maps" "$tmp/more"/*.png
claim "frames without masks learn from maps" ends 0 "" $d "${cached[@]}" --teacher-maps "$maps" --unlabelled "$tmp/more" \
    --out "$tmp/un3" --max-steps 4
claim "a teacher is trained on the frames with masks" ends 0 "" $d "${cached[@]}" --teacher polyp_pvt_b0 --teacher-epochs 1 \
    --unlabelled "$tmp/more" --out "$tmp/un4" --max-steps 1
claim "a folder without frames is named" fails "nothing" $d "${run[@]}" --unlabelled "$tmp/nothing" "${o[@]}"

# ---- kdas-export ---------------------------------------------------------------------------------------
x=kdas-export best=$demo/teacher/best.safetensors
holds() { grep -aqF -e "$2" "$1"; } # FILE TEXT
claim "an ONNX file does not go to standard output" wrong $x --weights "$best" --out -
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
claim "kdas-inspect knows the published count of parameters" says "polyp_pvt_b0 *3650740 *1\.904 " $i
claim "kdas-inspect knows lite_fpn's parameters and operations" says "lite_fpn1 *3903553 *1\.591 " $i
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
claim "maps are weights of nobody's network" says "network *not named" $i "$tmp/logits/scene00015.safetensors"
claim "kdas-inspect names a file that is none of them" fails "text.safetensors" $i "$tmp/text.safetensors"
claim "kdas-inspect names a file that is not there" fails "none.safetensors" $i "$tmp/none.safetensors"
claim "kdas-inspect refuses two models" wrong $i polyp_pvt_b0 polyp_pvt_b1
claim "kdas-inspect counts the paper's student as the paper does" says \
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
        $8 < 0 || NF != 11 { exit 2 }
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

claims_end
