#!/bin/sh
# exported.sh LIBRARY - the names that a shared library exports, sorted, without the version node itself.
set -eu
nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u
