#!/bin/bash
# check_programs_segment.sh - kdas-segment: pictures, raw video in a pipe, and maps that teach a student. See
# test/support/programs.sh.
# Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
. test/support/programs.sh

# ---- Networks and frames --------------------------------------------------------------------------------
d=kdas-distill o=(--out "$tmp/bad")
claim "a teacher and a student are trained" make_demo --preset baseline,paper
run=(--data "$data" --teacher polyp_pvt_b0 --teacher-weights "$demo/teacher/best.safetensors" "${small[@]}" --val-fraction 0
    --pictures 0)

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
begun() # a list that names a file before it was written is no proof that the file is the program's
{
    rm -rf "$tmp/begun" && mkdir "$tmp/begun" || return 1
    cp "$scenes/scene00003.png" "$tmp/begun/scene00000_mask.png"
    echo "18446744073709551615 0000000000000000 scene00000_mask.png" >"$tmp/begun/.written-by-kdas"
    fails "begun/scene00000_mask.png.*--force" $s "${net[@]}" --quiet --out "$tmp/begun" "$scenes/scene00000.png" &&
        cmp "$scenes/scene00003.png" "$tmp/begun/scene00000_mask.png"
}
claim "a file of others that a list only names stays" begun
leftover() # of a process that is gone; of one that lives
{
    local gone
    gone=$(bash -c 'echo $$')
    touch "$tmp/again/.kdas-put-$gone.png" "$tmp/again/.kdas-put-$$.png"
    ends 0 "" $s "${seg_again[@]}" && [ ! -e "$tmp/again/.kdas-put-$gone.png" ] && [ -e "$tmp/again/.kdas-put-$$.png" ] &&
        rm "$tmp/again/.kdas-put-$$.png" && [ "$(find "$tmp/again" -name '.kdas-put*' | wc -l)" = 0 ]
}
claim "what killed runs have left beside the pictures is removed" leftover
linked() # a picture whose place is a link: where it leads is written to; its rights stay
{
    mkdir -p "$tmp/far" && mv "$tmp/again/scene00001_mask.png" "$tmp/far/mask.png" && chmod 640 "$tmp/far/mask.png" || return 1
    ln -s "$tmp/far/mask.png" "$tmp/again/scene00001_mask.png" && chmod 604 "$tmp/again/scene00000_mask.png" || return 1
    ends 0 "" $s "${seg_again[@]}" --threshold 0.3 && [ -L "$tmp/again/scene00001_mask.png" ] &&
        [ "$(stat -c %a "$tmp/far/mask.png" "$tmp/again/scene00000_mask.png" | xargs)" = "640 604" ] &&
        ends 0 "" $s "${seg_again[@]}"
}
claim "a picture is written through a link and keeps its rights" linked
mkdir "$tmp/listed" && mkfifo "$tmp/listed/.written-by-kdas"
claim "a pipe in the place of the list is not waited for" fails "cannot read '.*written-by-kdas'" $s "${net[@]}" --quiet \
    --out "$tmp/listed" "$scenes/scene00000.png"
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
one=$((frame / 3)) # bytes of a mask
late() # LIMIT PATTERN: nothing can be done in a microsecond; the first mask is repeated LIMIT times
{
    piped 0 "deadline of 0.001 ms: $2" --raw "$side:rgb24" --quiet --timing --deadline 0.001 --repeat-limit "$1" &&
        cmp -n $one "$tmp/piped" "$tmp/masks.gray" && cmp -n $one "$tmp/piped" "$tmp/piped" 0 $one
}
claim "a deadline that is too short repeats masks" late 2 "2 repeated (1 at once, 1 given up, at most [0-9.]* ms), 1 late"
claim "all of them" cmp -n $one "$tmp/piped" "$tmp/piped" 0 $((2 * one))
claim "but not for ever" late 1 "1 repeated (0 at once, 1 given up, at most [0-9.]* ms), 2 late"
claim "and the next mask is its own" cmp -n $one "$tmp/piped" "$tmp/masks.gray" $((2 * one)) $((2 * one))
in_time() { piped 0 "deadline of 600000 ms: 0 repeated" --raw "$side:rgb24" --deadline 600000 && cmp "$tmp/piped" "$tmp/masks.gray"; }
claim "a long deadline changes no mask" in_time
times_alone() { piped 0 "^  p99/p50 *[0-9.]*$" --raw "$side:rgb24" --quiet --timing && ! grep deadline "$tmp/err"; }
claim "times can be said by a quiet stream" times_alone
pinned() { piped 0 "" --raw "$side:rgb24" --quiet --pin && cmp "$tmp/piped" "$tmp/masks.gray"; }
claim "bound threads draw the same masks" pinned
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
claim "a deadline has a sign" wrong $s "${raw[@]}" 64x64:rgb24 --deadline -1
claim "a deadline is a number" wrong $s "${raw[@]}" 64x64:rgb24 --deadline soon
claim "a deadline is not above ten minutes" wrong $s "${raw[@]}" 64x64:rgb24 --deadline 600001
claim "some frame is computed at last" wrong $s "${raw[@]}" 64x64:rgb24 --deadline 40 --repeat-limit 1001
claim "a limit of repeated frames is one from 1 on" wrong $s "${raw[@]}" 64x64:rgb24 --deadline 40 --repeat-limit 0
claim "without a deadline nothing is repeated" ends 2 "goes with --deadline" $s "${raw[@]}" 64x64:rgb24 --repeat-limit 3
claim "pictures have no deadline" ends 2 "go with --raw" $s "${net[@]}" --out "$tmp/seg" --deadline 40 "$tmp/scene00000.png"
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

claims_end
