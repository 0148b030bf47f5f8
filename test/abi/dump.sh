#!/bin/sh
# dump.sh LIBRARY - what its public functions and types look like, for abidiff. Types that the public
# headers only name are left out: they may change at will; and so are the functions that KDAS_EXPERIMENTAL shows.
# Needs debug information (-g).
set -eu
cd "$(dirname "$0")/../.."
experimental=$(mktemp "${TMPDIR:-/tmp}/kdas-abi.XXXXXX")
trap 'rm -f "$experimental"' EXIT
printf '[suppress_function]\n  symbol_name_regexp = ^(%s)$\n  drop = yes\n' \
    "$(paste -sd'|' lib/libkdas-experimental.sym)" >"$experimental"
abidw --suppressions test/abi/public.abignore --suppressions "$experimental" --drop-private-types \
    --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed "$1"
