#!/bin/bash
# check_guides.sh - the pages in docs/guides, as somebody follows them: their files are written and their commands run, in
# order, with an installed copy and small frames. Trainings are cut short by options that are added to each command.
#
# A block of ```sh is run. Any other block is a file, which its first line names ("/* host.c - ..." or "# Makefile - ...").
# Before a block may stand <!-- needs: WORD... -->: commands, files, python:MODULE, pkg-config:PACKAGE, or camera, a driver of
# V4L2 that is made up (guides/camera.c). Where one is missing the block is a SKIP. <!-- not run: ... --> says why a block never
# is. Ends with "N passed, N failed".
# Builds.
set -u
cd "$(dirname "$0")/.." || exit 1
source=$PWD
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-guides.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
make=${MAKE:-make}

. test/support/claims.sh

# ---- What a reader has: an installed copy, frames, weights -----------------------------------------------
prefix=$tmp/prefix
claim "make install works" "$make" install PREFIX="$prefix" LIBDIR="$prefix/lib" INCLUDEDIR="$prefix/include" \
    BINDIR="$prefix/bin" DESTDIR= CUDA_PLUGIN=
small() # PROGRAM OPTION...: put it in front of the installed program, with more options at the end
{
    printf '#!/bin/bash\nexec "%s/bin/%s" "$@" %s\n' "$prefix" "$1" "${*:2}" >"$tmp/bin/$1" && chmod +x "$tmp/bin/$1"
}
mkdir "$tmp/bin"
small kdas-distill --size 64 --batch 2 --epochs 1 --max-steps 1 --pictures 1 --threads 1
small kdas-segment --threads 1
small kdas-evaluate --threads 1
ln -s "$prefix/bin/kdas-inspect" "$tmp/bin/"
ln -s "$(command -v "${CC:-gcc}")" "$tmp/bin/cc"
export PATH=$tmp/bin:$PATH PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib:${LD_LIBRARY_PATH:-} \
    CMAKE_PREFIX_PATH=$prefix KDAS_SOURCE=$source OMP_WAIT_POLICY=passive
unset MAKEFLAGS MAKELEVEL

own=$tmp/own
begin()
{
    kdas-distill --demo --out "$own" --scenes 8 --test-scenes 4 --teacher-scenes 8 --teacher lite_fpn1 --preset baseline &&
        mv "$own/data/TestDataset/scenes" "$own/data/TestDataset/mine"
}
claim "frames and weights can be made" begin
"${CC:-gcc}" -std=gnu11 -Wall -Wextra -Werror -shared -fPIC -o "$tmp/camera.so" test/guides/camera.c || failed=$((failed + 1))
python() { command -v python3 >/dev/null && python3 -c "import $1" 2>/dev/null; } # MODULE
if python torch && python safetensors; then
    python3 -c "import torch, sys; from safetensors.torch import load_file; torch.save(load_file(sys.argv[1]), sys.argv[2])" \
        "$own/teacher/best.safetensors" "$own/teacher.pth"
fi
command -v ffmpeg >/dev/null && ffmpeg -v error -f lavfi -i testsrc=size=640x480:rate=25:duration=0.2 "$own/in.mp4" </dev/null

# ---- Reading a page ----------------------------------------------------------------------------------------
# Into the current folder: the files, and NN.sh with NN.needs; NN.unnamed is a block that is neither.
divide() # PAGE
{
    awk '
        /^<!-- (needs|not run): .* -->$/ { needs = $0; next }
        /^```[a-z]+$/ && !inside { inside = 1; kind = substr($0, 4); name = ""; n++; first = 1
            if (kind == "sh") { name = sprintf("%02d.sh", n); print needs >sprintf("%02d.needs", n) }
            needs = ""; next }
        /^```$/ && inside { inside = 0; next }
        inside && first && kind != "sh" { first = 0
            name = match($0, /^(\/\*|#) [A-Za-z0-9_.-]+ - /) ? $2 : sprintf("%02d.unnamed", n) }
        inside { print >name }' "$1"
}
lacks() # WORD...: prints what is missing
{
    local word
    for word; do
        case $word in
        python:*) python "${word#*:}" || echo "Python's ${word#*:}" ;;
        pkg-config:*) pkg-config --exists "${word#*:}" || echo "${word#*:}" ;;
        camera) [ -f "$tmp/camera.so" ] || echo "a camera" ;;
        *) [ -e "$word" ] || command -v "$word" >/dev/null || echo "$word" ;;
        esac
    done | paste -sd' '
}
follow() # NAME: of a page
{
    local block needs missing
    mkdir "$tmp/$1" && cd "$tmp/$1" || return
    cp -r "$own/data" polyps && cp "$own/best.safetensors" student.safetensors &&
        cp "$own/teacher/best.safetensors" teacher.safetensors &&
        cp teacher.safetensors efficientnet_lite1_as_if_published.whl
    cp "$own"/teacher.pth "$own"/in.mp4 "$source"/examples/*.c . 2>/dev/null
    divide "$source/docs/guides/$1.md"
    claim "guides/$1.md: each block is commands or a file with its name" test -z "$(compgen -G '*.unnamed')"
    claim "guides/$1.md has commands" test -n "$(compgen -G '*.sh')"
    for block in [0-9][0-9].sh; do
        needs=$(cat "${block%.sh}.needs")
        case $needs in "<!-- not run: "*) continue ;; esac
        needs=${needs#<!-- needs: } needs=${needs% -->}
        # shellcheck disable=SC2086 # words
        missing=$(lacks $needs)
        if [ -n "$missing" ]; then
            echo "SKIP: guides/$1.md, '$(head -n 1 "$block" | cut -c1-50)' needs $missing"
            continue
        fi
        [ "$needs" = camera ] && preload=$tmp/camera.so || preload=
        claim "guides/$1.md: $(head -n 1 "$block" | cut -c1-60)" env LD_PRELOAD="$preload" \
            timeout 300 bash -euo pipefail "$block" </dev/null
        cp "$tmp/said" "${block%.sh}.said"
    done
    cd "$source" || exit 1
}

for page in docs/guides/*.md; do
    follow "$(basename "$page" .md)"
done

# ---- What the commands left ----------------------------------------------------------------------------------
count() { test "$(find "$tmp/$2" -name "$3" 2>/dev/null | wc -l)" = "$1"; } # NUMBER FOLDER PATTERN
claim "the students are there, one for each row and seed" count 7 distil/run 'best.safetensors' # and the teacher
claim "the frames have masks" count 4 distil/masks '*_mask.png'
claim "the maps are there" count 8 teacher/cached '*.safetensors'
masks() { test "$(cat "$tmp"/video/*.said | grep -c '^[0-9.]* % of the frame is polyp, ')" = 3; }
claim "each frame of the camera is segmented" masks
if grep -q 'needs: ./gst ' "$tmp"/video/*.needs && [ -x "$tmp/video/gst" ]; then
    pulled() { cat "$tmp"/video/*.said | grep -qx '5 frames'; }
    claim "each frame of the GStreamer pipeline has a mask" pulled
fi
linked() { "$tmp/embed/host" | grep -qx polyp_pvt_b0 && readelf -d "$tmp/embed/host" | grep -q libkdas.so; }
claim "the host of the Makefile runs with the shared library" linked
static() { "$tmp/embed/$1" | grep -qx polyp_pvt_b0 && ! readelf -d "$tmp/embed/$1" | grep libkdas; } # HOST
claim "the host of the static library has the library inside" static host-archive
claim "so has the host of the sources" static host-static
whole() # the recipe's libraries are all that any part of libkdas.a needs
(
    cd "$tmp/embed" || return 1
    # shellcheck disable=SC2016 # the recipe's own variable
    sed 's|"$KDAS_SOURCE/lib/libkdas.a"|-Wl,--whole-archive & -Wl,--no-whole-archive|; s|host-static|host-whole|' \
        "$(grep -l 'lib/libkdas.a"' ./*.sh)" | bash -euo pipefail
)
claim "the host of the sources can use every part of it" whole
listed() { local p; for p in docs/guides/*.md; do grep -q "($p)" README.md || { echo "$p"; return 1; }; done; }
claim "README.md links every guide" listed

# The camera's YUYV is its NV12 in other words.
yuyv()
{
    cd "$tmp/video" || return 1
    for kind in NV12 YUYV; do
        CAMERA=$kind LD_PRELOAD=$tmp/camera.so ./v4l2_camera /dev/video0 student.safetensors 6 >"$kind" || return 1
    done
    [ "$(wc -l <NV12)" = 6 ] && ! grep '0.000$' NV12 && diff NV12 YUYV
}
claim "a camera of YUYV gives the same as one of NV12" yuyv

claims_end
