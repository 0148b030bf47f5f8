#!/bin/sh
# dump.sh LIBRARY - what its public functions and types look like, for abidiff. Types that the public
# headers only name are left out: they may change at will. Needs debug information (-g).
set -eu
exec abidw --suppressions "$(dirname "$0")/public.abignore" --drop-private-types --no-corpus-path \
    --no-comp-dir-path --no-show-locs --no-elf-needed "$1"
