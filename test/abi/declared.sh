#!/bin/sh
# declared.sh - what the public headers declare, read through the preprocessor so that nothing hides in a
# macro:  declared.sh def           FUNCTION(name) for each function, OPTIONS(type) for each option struct
#         declared.sh headers       #include lines of all public headers
#         declared.sh stable        names of the functions that are there without KDAS_EXPERIMENTAL
#         declared.sh experimental  names of those that only it shows
set -eu
cd "$(dirname "$0")/../.."

headers()
{
    for h in include/kdas/*.h; do
        echo "#include <kdas/$(basename "$h")>"
    done
}

# A function is the name before the first '(' of a declaration that carries the export attribute.
names() # FLAG...: of the preprocessor
{
    headers | ${CC:-gcc} -std=c99 -Iinclude "$@" -E -P -x c - | tr '\n' ' ' |
        grep -o '__attribute__((visibility("default")))[^;(]*(' |
        sed -e 's/ *($//' -e 's/.*[ *]//' | LC_ALL=C sort -u
}

definitions()
{
    all=$(names -DKDAS_EXPERIMENTAL)
    test -n "$all" || { echo "declared.sh: the headers declare nothing" >&2; exit 1; }
    for n in $all; do
        echo "FUNCTION($n)"
    done
    for n in $all; do
        case $n in *_options_init) echo "OPTIONS(${n%_init})" ;; esac
    done
}

case $1 in
headers) headers ;;
stable) names ;;
experimental)
    stable=$(names)
    names -DKDAS_EXPERIMENTAL | grep -vxF "$stable"
    ;;
def) definitions ;;
esac
