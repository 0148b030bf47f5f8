#!/bin/bash
# check.sh - the promises of the ABI, one line each: symbols, headers, names that link, types, growth. Called by
# `make check-abi`, which sets the names in capitals.
set -u
passed=0 failed=0
here=$(dirname "$0")
mkdir -p "$WORK"

# claim TEXT COMMAND...: run, show what it says if it fails, and count.
claim()
{
    local text=$1
    shift
    if "$@" >"$WORK/said" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$text"
        sed 's/^/    /' "$WORK/said"
    fi
}

# ---- Symbols: the lists kept, the headers' declarations and the library agree. Two tiers: what is promised, and what
# only KDAS_EXPERIMENTAL shows ----
experimental=${SYMBOLS%.sym}-experimental.sym
"$here/exported.sh" "$SHARED" >"$WORK/exported" || exit 1
sed -n 's/^FUNCTION(\(.*\))$/\1/p' "$DECLARED" | LC_ALL=C sort >"$WORK/declared"
LC_ALL=C sort "$SYMBOLS" "$experimental" >"$WORK/listed"
for tier in stable experimental; do
    CC=$CC "$here/declared.sh" $tier >"$WORK/$tier" || exit 1
done
only_ours() { ! grep -v '^kdas_' "$WORK/exported"; }
# Other people's globals in the static library would clash at a host's link.
static_ours()
{
    ! nm -g --defined-only "$STATIC" 2>/dev/null | awk 'NF == 3 && $2 ~ /[A-Z]/ { print $3 }' |
        grep -vE '^(kdas|kd)_|^__(asan|odr|tsan|ubsan)'
}
abi=$(sed -n 's/^#define KDAS_ABI  *//p' include/kdas/base.h)
soname_ours() { readelf -d "$SHARED" | grep -F "[libkdas.so.$abi]"; }
claim "the library exports what $SYMBOLS and $experimental list" diff -u "$WORK/listed" "$WORK/exported"
claim "$SYMBOLS lists what the headers declare" diff -u "$SYMBOLS" "$WORK/stable"
claim "$experimental lists what KDAS_EXPERIMENTAL shows besides" diff -u "$experimental" "$WORK/experimental"
claim "the library exports what the headers declare" diff -u "$WORK/declared" "$WORK/exported"
claim "every exported name begins with kdas_" only_ours
claim "every global name of the static library begins with kdas_ or kd_" static_ours
claim "the soname carries KDAS_ABI" soname_ours

# ---- Headers: each alone, as C and as C++, with every compiler at hand ----
alone() # COMPILER STANDARD LANGUAGE HEADER [FLAG]
{
    echo "#include <kdas/$(basename "$4")>" |
        "$1" "-std=$2" -Iinclude -Wall -Wextra -Wshadow -pedantic -Werror ${5:+"$5"} -fsyntax-only -x "$3" -
}
for header in include/kdas/*.h; do
    for compiler in "$CC" clang; do
        command -v "$compiler" >/dev/null || continue
        for standard in c99 c17; do
            claim "$header alone: $compiler -std=$standard" alone "$compiler" $standard c "$header"
            claim "$header alone, experimental: $compiler -std=$standard" alone "$compiler" $standard c "$header" \
                -DKDAS_EXPERIMENTAL
        done
    done
    for compiler in "$CXX" clang++; do
        command -v "$compiler" >/dev/null || continue
        for standard in c++98 c++17; do
            claim "$header alone: $compiler -std=$standard" alone "$compiler" $standard c++ "$header"
            claim "$header alone, experimental: $compiler -std=$standard" alone "$compiler" $standard c++ "$header" \
                -DKDAS_EXPERIMENTAL
        done
    done
done
umbrella() # every header for users, but not the one for plug-in authors
{
    local missing=0
    for header in include/kdas/*.h; do
        name=$(basename "$header")
        case $name in kdas.h | backend.h | collective.h) continue ;; esac
        grep -q "^#include <kdas/$name>" include/kdas/kdas.h || { echo "missing: $name"; missing=1; }
    done
    return $missing
}
claim "kdas/kdas.h includes every header for users" umbrella
claim "every docstring says since when, and how it fails" "$here/docs.sh" include/kdas/*.h

# ---- Structs: all of their bytes have a name ----
no_holes() # COMPILER STANDARD LANGUAGE
{
    for header in include/kdas/*.h; do
        echo "#include <kdas/$(basename "$header")>"
    done | "$1" "-std=$2" -Iinclude -DKDAS_EXPERIMENTAL -Wpadded -Werror -fsyntax-only -x "$3" -
}
for compiler in "$CC" clang; do
    command -v "$compiler" >/dev/null || continue
    claim "no struct has padding: $compiler" no_holes "$compiler" c99 c
done
for compiler in "$CXX" clang++; do
    command -v "$compiler" >/dev/null || continue
    claim "no struct has padding: $compiler" no_holes "$compiler" c++17 c++
done
# The check itself can fail
holes() { ! echo 'struct hole { char c; double d; } hole;' | "$CC" -Wpadded -Werror -fsyntax-only -x c -; }
claim "a struct with padding would be noticed" holes

# ---- Links: a program that takes the address of every declared function ----
{
    for header in include/kdas/*.h; do
        echo "#include <kdas/$(basename "$header")>"
    done
    cat <<END
#include <stdio.h>
typedef void (*function)(void);
#define FUNCTION(name) (function)name,
#define OPTIONS(name)
static function volatile all[] = {
#include "$(realpath "$DECLARED")"
};
int main(void)
{
    unsigned i, n = 0;

    for (i = 0; i < sizeof all / sizeof all[0]; i++)
        n += all[i] != 0;
    printf("%u\\n", n);
    return 0;
}
END
} >"$WORK/every_name.c"
links() # COMPILER LIBRARY...: link it, run it, and it has found every function
{
    local program=$WORK/every_name compiler=$1
    shift
    "$compiler" -Iinclude -DKDAS_EXPERIMENTAL -o "$program" -x "$language" "$WORK/every_name.c" -x none "$@" || return 1
    LD_LIBRARY_PATH=$(dirname "$SHARED"):${LD_LIBRARY_PATH:-} "$program" | tee "$WORK/found"
    [ "$(cat "$WORK/found")" = "$(wc -l <"$WORK/declared")" ]
}
# shellcheck disable=SC2086 # LIBS is a list of words
{
    language=c
    claim "every declared name links to the shared library from C" links "$CC" "$SHARED"
    claim "every declared name links to the static library from C" links "$CC" "$STATIC" $LIBS
    language=c++
    claim "every declared name links to the shared library from C++" links "$CXX" "$SHARED"
    claim "every declared name links to the static library from C++" links "$CXX" "$STATIC" $LIBS
}

# ---- Types: functions and structs against the kept dumps, for hosts and for plug-ins ----
# Added functions are for the list of symbols to show. Everything else that abidiff sees needs a decision: a
# break, or one of the changes that docs/abi.md allows, which `make abi-dump` then records.
unbroken() # DUMP LIBRARY
{
    [ -f "$1" ] || { echo "there is no $1; make abi-dump writes it"; return 1; }
    command -v abidiff >/dev/null || { echo "there is no abidiff; make deps installs it"; return 1; }
    "$here/dump.sh" "$2" >"$WORK/now.abi" && abidiff --no-added-syms "$1" "$WORK/now.abi"
}
plugin() { CC=$CC "$here/plugin.sh" "$1" "$WORK/plugin_$1.so" && unbroken "$2" "$WORK/plugin_$1.so"; }
claim "functions and types are those of $DUMP" unbroken "$DUMP" "$SHARED"
claim "types of backends are those of $PLUGIN_DUMP" plugin backend "$PLUGIN_DUMP"
claim "types of collectives are those of $COLLECTIVE_DUMP" plugin collective "$COLLECTIVE_DUMP"

# ---- Growth: programs and libraries of which one knows a loss term more ----
if [ -n "${LIB_COMPILE:-}" ]; then
    claim "programs and libraries with another number of terms work together" "$here/growth.sh"
fi

printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]
