#!/bin/bash
# check_programs_distill.sh - kdas-distill: the demonstration, runs over folders, resumes, seeds, types, and what it
# refuses. Small synthetic frames throughout. See test/support/programs.sh.
# Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/support/programs.sh

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
claim "a wrong command line leaves nothing behind" none_exist "$tmp/x"

# ---- The demonstration, as small as it gets -----------------------------------------------------------
claim "kdas-distill --demo runs" make_demo
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
teacher=(--teacher polyp_pvt_b0 --teacher-weights "$demo/teacher/best.safetensors")
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
second_run() # FOLDER OUT OPTION...: into the folder of one that runs: refused at once, and nothing of the first is touched
{
    local pid i folder=$1
    shift
    "$bin/$d" "${run[@]}" --out "$folder" --epochs 10000 --save-every 1 >"$tmp/held.out" 2>&1 </dev/null &
    pid=$!
    for i in $(seq 300); do
        [ -s "$folder/last.kdas" ] && break
        sleep 0.1
    done
    ends 1 "process $pid writes a run into it" $d --data "$data" "${small[@]}" --val-fraction 0 --pictures 0 --max-steps 1 --out "$@" &&
        none_exist "$folder"/*.old
    i=$?
    kill -9 $pid
    wait $pid 2>/dev/null
    return $i
}
claim "a second run into a folder is refused by the id of the first" second_run "$tmp/held" "$tmp/held" "${teacher[@]}"
claim "so is one above it, which would train its teacher there" second_run "$tmp/many/teacher" "$tmp/many" \
    --teacher polyp_pvt_b0 --teacher-epochs 1
loses_a_line() # of log.csv
{
    cp -r "$tmp/whole" "$tmp/lost" && rm "$tmp/lost/figures.txt" && sed -i 2d "$tmp/lost/log.csv" || return 1
    ends 0 "log.csv' has only 0 of the 1 epochs before" $d "${run[@]}" --out "$tmp/lost" --max-steps 7 --resume
}
claim "epochs that are missing in the log are told" loses_a_line
lies() # figures that cannot be: they are measured again
{
    cp -r "$tmp/whole" "$tmp/lies" && sed -i 's/^0\.[0-9]*/-5/; s/ 0\.[0-9]*/ nan/' "$tmp/lies/figures.txt" || return 1
    ends 0 "" $d "${run[@]}" --out "$tmp/lies" --max-steps 6 --resume && ! grep -q "nan" "$tmp/lies/figures.txt"
}
claim "figures that cannot be are measured again" lies
other_teacher() # under the path of before: a finished training was guided by another one
{
    local guided=(--data "$data" --teacher polyp_pvt_b0 --teacher-weights "$tmp/guide.safetensors" "${small[@]}" --val-fraction 0
        --pictures 0 --max-steps 2 --out "$tmp/guided")
    cp "$demo/teacher/best.safetensors" "$tmp/guide.safetensors" && ends 0 "" $d "${guided[@]}" &&
        ends 0 "" $d "${guided[@]}" --resume && grep -q "teacher [0-9a-f]\{16\}" "$tmp/guided/figures.txt" || return 1
    cp "$tmp/guided/best.safetensors" "$tmp/guide.safetensors" # the same network, other values
    ends 1 "teacher" $d "${guided[@]}" --resume
}
claim "a finished training is not taken for one of another teacher" other_teacher
begins_anew() # a run without a checkpoint: the best weights of before have another name
{
    cp "$tmp/cut/best.safetensors" "$tmp/best" && rm "$tmp/cut/last.kdas" "$tmp/cut/figures.txt" || return 1
    ends 0 "" $d "${run[@]}" --out "$tmp/cut" --max-steps 2 --resume && cmp "$tmp/best" "$tmp/cut/best.safetensors.old"
}
claim "a run without a checkpoint is begun anew and keeps what there was" begins_anew
pipes() # nobody reads or writes them: they are not waited for
{
    mkdir "$tmp/pipes" && mkfifo "$tmp/pipes/report.html" || return 1
    ends 1 "report.html" $d "${run[@]}" --out "$tmp/pipes" --max-steps 1 || return 1
    rm "$tmp/pipes/report.html" "$tmp/pipes/figures.txt" && mkfifo "$tmp/pipes/figures.txt" || return 1
    timeout 100 "$bin/$d" "${run[@]}" --out "$tmp/pipes" --max-steps 1 --resume >/dev/null 2>&1 </dev/null
    [ $? != 124 ]
}
claim "a pipe in the place of a file is not waited for" pipes
others_list() # says that files outside of the folder were the program's
{
    mkdir -p "$tmp/theirs/data/TrainDataset" && echo precious >"$tmp/victim" || return 1
    echo "9 8b36f7d29e1eb0df ../../../victim" >"$tmp/theirs/data/TrainDataset/.written-by-kdas"
    echo "9 8b36f7d29e1eb0df $tmp/victim" >>"$tmp/theirs/data/TrainDataset/.written-by-kdas"
    ends 0 "" $d --demo --out "$tmp/theirs" --scenes 8 --test-scenes 0 --teacher-scenes 8 --teacher polyp_pvt_b0 --teacher-epochs 1 \
        --epochs 1 --max-steps 1 --pictures 0 "${small[@]}" && [ -s "$tmp/victim" ]
}
claim "a list of files that others wrote removes nothing outside of the folder" others_list
ln -s nowhere/below "$tmp/dangling"
claim "a link that leads nowhere is told as such" fails "No such file" $d "${run[@]}" --out "$tmp/dangling"
claim "a run that was interrupted can be taken up again" ends 0 "" $d "${run[@]}" --out "$tmp/long" --epochs 10000 \
    --max-steps 1 --resume

# ---- Into integers ------------------------------------------------------------------------------------
claim "a list of layers goes with grids" ends 2 "--wide goes with --quantize" $d --demo --out "$tmp/x" --wide none
claim "a momentum of ranges does" ends 2 "--range-momentum goes with --quantize" $d --demo --out "$tmp/x" --range-momentum 0.1
claim "frozen ranges do" ends 2 "--freeze-ranges goes with --quantize" $d --demo --out "$tmp/x" --freeze-ranges 1
claim "ranges are not frozen from the start" ends 2 "--freeze-ranges wants fewer epochs" $d --demo --out "$tmp/x" --quantize \
    --epochs 2 --freeze-ranges 2
int8=("${run[@]}" --preset baseline --student-weights "$tmp/whole/best.safetensors")
claim "ranges that nothing sets are refused" fails "ranges of student" $d "${int8[@]}" --quantize --out "$tmp/x8" \
    --range-momentum 0 --max-steps 1
claim "a student is trained on grids from float weights" ends 0 "" $d "${int8[@]}" --quantize --out "$tmp/int8" --max-steps 6
cp "$tmp/out" "$tmp/int8.out"
claim "the table says so" grep -q "student int8" "$tmp/int8.out"
claim "the report does" grep -q "on 8-bit grids but for" "$tmp/int8/report.html"
claim "its best weights are for integers" grep -aq '"kdas.quantization":"int8"' "$tmp/int8/best.safetensors"
a_quarter() { [ $(($(stat -c %s "$tmp/int8/best.safetensors") * 3)) -lt "$(stat -c %s "$tmp/whole/best.safetensors")" ]; }
claim "they take less than a third of the floats" a_quarter
claim "a run on grids can be cut short" ends 0 "" $d "${int8[@]}" --quantize --out "$tmp/int8-cut" --max-steps 3
claim "it does not go on without them" fails "grid of the student's layers" $d "${int8[@]}" --out "$tmp/int8-cut" --max-steps 6 \
    --resume
claim "it goes on with them" ends 0 "" $d "${int8[@]}" --quantize --out "$tmp/int8-cut" --max-steps 6 --resume
claim "and ends with the same bits" cmp "$tmp/int8/best.safetensors" "$tmp/int8-cut/best.safetensors"

changed_start() # a finished training whose file of weights to start from is another one now: it is said, and the values stay
{
    local from=("${run[@]}" --preset baseline --student-weights "$tmp/start.safetensors" --out "$tmp/from" --max-steps 2)
    cp "$tmp/whole/best.safetensors" "$tmp/start.safetensors" && ends 0 "" $d "${from[@]}" || return 1
    grep -q "start [0-9a-f]\{16\}" "$tmp/from/figures.txt" && cp "$tmp/from/best.safetensors" "$tmp/from.best" || return 1
    ends 0 "" $d "${from[@]}" --resume && ! grep "has no effect" "$tmp/err" || return 1
    cp "$tmp/int8/best.safetensors" "$tmp/start.safetensors"
    ends 0 "start.safetensors' is not the file .* has no effect" $d "${from[@]}" --resume && cmp "$tmp/from/best.safetensors" "$tmp/from.best"
}
claim "another file to start from has no effect at a resume, which is said" changed_start

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
nameless() # PATTERN ARGUMENT...: nothing was printed or trained before, and no student is spoken of
{
    fails "$1" $d --data "$data" "${small[@]}" "${o[@]}" "${@:2}" && ! grep -q "student" "$tmp/err" && [ ! -s "$tmp/out" ]
}
claim "a teacher without maps is not called a student" nameless "'pvt_v2_b0' has no one-channel maps" --teacher pvt_v2_b0 \
    --teacher-epochs 1 --preset kl
claim "a network without maps learns no masks" nameless "'pvt_v2_b0' has no one-channel maps" --student pvt_v2_b0 --preset baseline
dropless() # said once, of two students and two seeds
{
    ends 0 "warning: drop_path is 0.3, and 'colonsegnet' .* no effect" $d --data "$data" "${small[@]}" --val-fraction 0 --pictures 0 \
        --student colonsegnet --drop-path 0.3 --preset baseline --seeds 1,2 --max-steps 1 --out "$tmp/dropless" &&
        [ "$(grep -c drop_path "$tmp/err")" = 1 ]
}
claim "a drop path without effect is said once" dropless
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
claim "another batch is refused, and how to go on is said" again 1 "batch size is 4, here it is 2; images of a rank times ranks must be the former value" cosine --epochs 3 --batch 2
claim "another size is refused" again 1 "is 64, here it is 96" cosine --epochs 3 --size 96
claim "another rate is said" again 0 "optim.lr goes on at 0.0001" cosine --epochs 3 --lr 1e-2
claim "another seed is refused" again 1 "seed is '1', here it is '2'" cosine --epochs 3 --seed 2
claim "another split is refused" again 1 "put frames, split and held-out share back" cosine --epochs 3 --val-fraction 0.5
cp -r "$data" "$tmp/moved" && mv "$tmp/moved/TrainDataset/images/scene00015.png" "$tmp/moved/TrainDataset/images/a.png" &&
    mv "$tmp/moved/TrainDataset/masks/scene00015.png" "$tmp/moved/TrainDataset/masks/a.png"
claim "as many frames, but others, are refused" again 1 "hash of the training frames" cosine --epochs 3 --data "$tmp/moved"
rm -rf "$tmp/again" "$tmp/moved"
claims_end
