#!/bin/sh
# plugin.sh KIND OUT - build a shared object whose functions take every type of kdas/KIND.h: backend or collective. Plug-ins are
# built against that header, yet the library exports no function with its types; this makes abidw see them.
set -eu
cd "$(dirname "$0")/../.."
{
    echo "#include <kdas/$1.h>"
    echo "const kdas_$1 *kdas_$1_entry(void) { return 0; }"
    sed -nE 's/^\} (kdas_[a-z_]+);.*/\1/p' include/kdas/$1.h | while read -r type; do
        echo "void take_$type(const $type *value) { (void)value; }"
    done
} | ${CC:-gcc} -std=c99 -g -Iinclude -shared -fPIC -Wl,-soname,libkdas-plugin.so -x c -o "$2" -
