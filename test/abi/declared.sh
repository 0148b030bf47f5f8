#!/bin/sh
# declared.sh - what the public headers declare, read through the preprocessor so that nothing hides in a
# macro:  declared.sh def      FUNCTION(name) for each function, OPTIONS(type) for each option struct
#         declared.sh headers  #include lines of all public headers
set -eu
cd "$(dirname "$0")/../.."

headers()
{
    for h in include/kdas/*.h; do
        echo "#include <kdas/$(basename "$h")>"
    done
}

if [ "$1" = headers ]; then
    headers
    exit
fi
# A function is the name before the first '(' of a declaration that carries the export attribute.
names=$(headers | ${CC:-gcc} -std=c99 -Iinclude -E -P -x c - | tr '\n' ' ' |
    grep -o '__attribute__((visibility("default")))[^;(]*(' |
    sed -e 's/ *($//' -e 's/.*[ *]//' | LC_ALL=C sort -u)
test -n "$names" || { echo "declared.sh: the headers declare nothing" >&2; exit 1; }
for n in $names; do
    echo "FUNCTION($n)"
done
for n in $names; do
    case $n in *_options_init) echo "OPTIONS(${n%_init})" ;; esac
done
