#!/bin/bash
# check_cmake.sh - find_package(kdas) on an installed copy: C and C++ hosts with the shared and the static library, after
# the installed tree was moved; versions that it stands for and that it does not. Ends with "N passed, N failed".
# Builds.
set -u
cd "$(dirname "$0")/.." || exit 1
command -v cmake >/dev/null || { echo "SKIP: find_package(kdas) needs cmake"; echo "0 passed, 0 failed"; exit 0; }
source=$PWD
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-cmake.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
make=${MAKE:-make}
export CC=${CC:-gcc} CXX=${CXX:-g++}

. test/support/claims.sh

number() { sed -n "s/^#define KDAS_$1  *//p" include/kdas/base.h; }
major=$(number VERSION_MAJOR) minor=$(number VERSION_MINOR) patch=$(number VERSION_PATCH) abi=$(number ABI)
version=$major.$minor.$patch
place=$tmp/first
lib=lib/$("$CC" -print-multiarch 2>/dev/null) # where Debian has libraries, and CMake looks
installed=(PREFIX="$place" LIBDIR="$place/$lib" INCLUDEDIR="$place/include" BINDIR="$place/bin" DESTDIR= CUDA_PLUGIN=)
claim "make install works" "$make" install "${installed[@]}"

# ---- Hosts ----
host() # PLACE: configure, build and run the four programs
{
    local program
    rm -rf "$tmp/host"
    cmake -S test/package -B "$tmp/host" -DSOURCES="$source/test/abi" -DWANTED="$major.$minor" -DCMAKE_PREFIX_PATH="$1" &&
        cmake --build "$tmp/host" || return 1
    for program in {c,cpp}_{kdas,kdas_static}; do
        (cd "$tmp" && env -u LD_LIBRARY_PATH OMP_WAIT_POLICY=passive "$tmp/host/$program") || return 1
    done
}
needs() { readelf -d "$tmp/host/$1" | sed -n 's/.*(NEEDED).*\[\(libkdas.*\)\]/\1/p'; }
by_soname() { [ "$(needs c_kdas) $(needs cpp_kdas)" = "libkdas.so.$abi libkdas.so.$abi" ]; }
alone() { [ -z "$(needs c_kdas_static)$(needs cpp_kdas_static)" ]; }
mv "$place" "$tmp/second" && place=$tmp/second
claim "in the tree that was moved C and C++ hosts build with both targets, and run" host "$place"
claim "kdas::kdas is the shared library, by its soname" by_soname
claim "kdas::kdas_static asks for no libkdas.so" alone
no_trace() { ! grep -rn "$tmp" "$place/$lib/cmake"; }
claim "its files name no place" no_trace

# ---- Versions and components ----
finds() # WORDS OF FIND_PACKAGE
{
    rm -rf "$tmp/found"
    cmake -S test/package/found -B "$tmp/found" -DWANTED="$1" -Dkdas_DIR="$place/$lib/cmake/kdas" 2>&1
}
says() { finds "$1" | grep "$2"; } # WORDS PATTERN
refuses() { finds "$1" | tr -s '\n ' ' ' >"$tmp/answer" && cat "$tmp/answer" && grep -q "not found: $2" "$tmp/answer"; }
claim "it tells version, ABI and places" says "" \
    "found $version ABI $abi SHARED_LIBRARY $place/include $place/$lib\$"
claim "it is what it is" says "$version EXACT" "found $version"
claim "it stands for its minor version" says "$major.$minor" "found $version"
claim "it lies in a range" says "$major.$minor...$((major + 1))" "found $version"
claim "it is not a newer patch" refuses "$major.$minor.$((patch + 1))" ".*considered: $version"
claim "it is not the next minor version" refuses "$major.$((minor + 1))" ".*considered: $version"
claim "it is not the next major version" refuses "$((major + 1))" ".*considered: $version"
[ "$major" -gt 0 ] || claim "before 1.0 it is not the last minor version" refuses "$major.$((minor - 1))" ".*considered: $version"
claim "it is not outside of a range" refuses "0.0.1...<$version" ".*considered: $version"
claim "a component that it lacks is named" refuses "COMPONENTS python" "libkdas has no component 'python'"
rm "$place/$lib"/libkdas.so*
claim "without the shared library kdas::kdas is the static one" says "COMPONENTS static" "found $version .*INTERFACE_LIBRARY"
claim "the shared one is then missed by who asks" refuses "COMPONENTS shared" "libkdas has no component 'shared'"
rm "$place/$lib/libkdas.a"
claim "without any library it is not found" refuses "" "neither libkdas.so.$version nor libkdas.a"

claims_end
