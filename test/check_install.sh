#!/bin/bash
# check_install.sh - install, and let strangers in: a C and a C++ program that know nothing but pkg-config
# build against the installed copy, shared and static, and run. So does the README's program, by the README's line, and
# what the documentation has of whole C files. Then a staged install (DESTDIR) with another
# LIBDIR, its programs, the plug-ins (of CUDA the emulated one), and the removal of everything. Ends with "N passed, N
# failed".
# Builds.
set -u
cd "$(dirname "$0")/.." || exit 1
source=$PWD
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-install.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
cc=${CC:-gcc} cxx=${CXX:-g++} make=${MAKE:-make}

. test/support/claims.sh

# ---- An installed copy, in a folder of its own ----
prefix=$tmp/prefix
plain=(PREFIX="$prefix" LIBDIR="$prefix/lib" INCLUDEDIR="$prefix/include" BINDIR="$prefix/bin" DESTDIR= CUDA_PLUGIN= MPI_PLUGINS=)
claim "make install works" "$make" install "${plain[@]}"
claim "kdas.pc states the version of the headers" \
    test "$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --modversion kdas)" = \
    "$(sed -n 's/^#define KDAS_VERSION_[MP][A-Z]*  *//p' include/kdas/base.h | paste -sd.)"
claim "every public header and ops.def is installed" diff -r include/kdas "$prefix/include/kdas"

# asks PROGRAM: for the device "cuda"; the library's sentence if it has none
asks() { env -u KDAS_BACKEND_PATH -u LD_LIBRARY_PATH OMP_WAIT_POLICY=passive "$1" pvt_v2_b0 --size 64 --device cuda; }
no_plugin() { ! asks "$prefix/bin/kdas-inspect" 2>"$tmp/why" && grep "there is no device 'cuda'.* '$prefix/.*/kdas'" "$tmp/why"; }
claim "without the CUDA plug-in an installed program says so, and where it looked" no_plugin

# The second copy has no shared library, so that -lkdas can only mean the static one.
cp -a "$prefix" "$tmp/static" || exit 1
rm -f "$tmp"/static/lib/libkdas.so*
sed -i "s|^\(.*\)=$prefix|\1=$tmp/static|" "$tmp/static/lib/pkgconfig/kdas.pc"

stranger() # COMPILER STANDARD SOURCE COPY [--static]: build outside the tree and run
{
    local program=$tmp/stranger flags libs mode=${5:---shared}
    flags=$(PKG_CONFIG_PATH=$4/lib/pkgconfig pkg-config --cflags kdas) || return 1
    libs=$(PKG_CONFIG_PATH=$4/lib/pkgconfig pkg-config "$mode" --libs kdas) || return 1
    rm -f "$program"
    # shellcheck disable=SC2086 # flags are lists of words
    (cd "$tmp" && "$1" "-std=$2" -Wall -Wextra -pedantic -Werror $flags -o "$program" "$source/$3" $libs) &&
        (cd "$tmp" && LD_LIBRARY_PATH=$4/lib:${LD_LIBRARY_PATH:-} "$program")
}
c=test/abi/stranger.c cpp=test/abi/stranger.cpp static=$tmp/static
claim "a C99 program builds against the shared library and runs" stranger "$cc" c99 $c "$prefix"
claim "a C++ program builds against the shared library and runs" stranger "$cxx" c++11 $cpp "$prefix"
claim "a C99 program builds against the static library and runs" stranger "$cc" c99 $c "$static" --static
claim "a C++ program builds against the static library and runs" stranger "$cxx" c++11 $cpp "$static" --static
alone() { stranger "$cc" c99 $c "$static" --static && ! readelf -d "$tmp/stranger" | grep libkdas; }
claim "a static program does not ask for libkdas.so" alone

# ---- What the documentation shows ----
shown() # FILE: its first block of C
{
    awk '/^```c$/ { inside = 1; next } /^```$/ && inside { exit } inside' "$1"
}
readme=$tmp/readme
mkdir "$readme"
shown README.md >"$readme/host.c"
in_readme() # COMMAND...: in a folder of its own, with the installed library
{
    (cd "$readme" && PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib:${LD_LIBRARY_PATH:-} \
        OMP_WAIT_POLICY=passive bash -c "$*")
}
strict="$cc -std=c99 -Wall -Wextra -pedantic -Werror \$(pkg-config --cflags kdas)"
# shellcheck disable=SC2016 # expanded there
line=$(grep -m1 -o 'cc host\.c \$(pkg-config --cflags --libs kdas)' README.md)
claim "the README's program is strict C99" in_readme "$strict -c -o host.o host.c"
claim "it is built by the README's line" in_readme "${line:-false}"
fails() { ! in_readme "./a.out 2>why" && grep "$1" "$readme/why"; } # WHY
claim "without its files it fails, and says why" fails "TrainDataset.*KDAS_ENOTFOUND"
claim "the files that it wants can be made" in_readme \
    "$cc -std=gnu11 \$(pkg-config --cflags kdas) -o data '$source/test/readme/data.c' \$(pkg-config --libs kdas) && ./data"
claim "it trains, and saves the student" in_readme "./a.out >losses && test -s student.safetensors"
claim "it prints the loss of each step" grep -qxE '[0-9.]+' "$readme/losses"
truncate -s 200 "$readme/TrainDataset/images/1.png"
claim "on a damaged frame it fails, and names it" fails "1.png.*KDAS_EFORMAT"
live() { shown docs/live.md >"$readme/live.c" && in_readme "$strict -c -o live.o live.c"; }
claim "what docs/live.md shows compiles" live

# ---- A staged copy, as a packager makes it ----
stage=$tmp/stage
staged=(PREFIX=/usr LIBDIR=/usr/lib/some-triplet INCLUDEDIR=/usr/include BINDIR=/usr/bin DESTDIR="$stage")
emulated=$source/build/release/emulated/libkdas-cuda.so
[ -f "$emulated" ] && staged+=(CUDA_PLUGIN="$emulated") || staged+=(CUDA_PLUGIN=)
claim "make install honours DESTDIR and LIBDIR" "$make" install "${staged[@]}"
inside() { [ "$(ls "$stage")" = usr ] && [ -e "$stage/usr/lib/some-triplet/libkdas.so" ]; }
claim "a staged install writes below DESTDIR alone" inside
clean_pc() { ! grep -n "$tmp" "$stage/usr/lib/some-triplet/pkgconfig/kdas.pc"; }
claim "kdas.pc does not know DESTDIR" clean_pc
finds_library() # PROGRAM: the staged copy, by a path relative to itself, not the one in the build tree
{
    LD_LIBRARY_PATH='' ldd "$1" | tee "$tmp/ldd"
    found=$(awk '/libkdas/ { print $3 }' "$tmp/ldd")
    [ "$(realpath "$found")" = "$(realpath "$stage/usr/lib/some-triplet/libkdas.so")" ]
}
for program in "$stage"/usr/bin/*; do
    [ -x "$program" ] || continue
    claim "installed $(basename "$program") finds the installed library" finds_library "$program"
done
if [ -f "$emulated" ]; then
    claim "an installed program finds the CUDA plug-in beside the installed library" asks "$stage/usr/bin/kdas-inspect"
else
    echo "SKIP: the CUDA plug-in is installed, found and removed: build it by 'make emulated' first"
fi
mpi=$(ls lib/kdas/libkdas-{mpi,openmpi,mpich}.so 2>/dev/null | xargs -rn1 basename)
same_plugins() { [ "$(ls "$stage/usr/lib/some-triplet/kdas" | grep -v cuda)" = "$(sort <<<"$mpi")" ]; }
if [ -n "$mpi" ]; then
    claim "the MPI plug-ins are installed beside the library" same_plugins
else
    echo "SKIP: the MPI plug-ins are installed and removed: there is no MPI"
fi
claim "make uninstall works" "$make" uninstall "${staged[@]}"
nothing_left() { ! find "$stage" ! -type d | grep . && [ ! -e "$stage/usr/lib/some-triplet/kdas" ]; }
claim "make uninstall leaves no file behind" nothing_left

claims_end
