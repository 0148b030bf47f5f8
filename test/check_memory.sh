#!/bin/bash
# check_memory.sh - which of the library's objects can reach the C library's allocator: the one that gives a
# context its default hooks, and no other; nor do any call what hands memory out by itself. (check_hooks counts
# what happens.) Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
library=${STATIC:-lib/libkdas.a}
passed=0 failed=0

# lines "OBJECT NAME": what each object needs of others
needs=$(nm -A -u "$library" 2>/dev/null | sed -E 's/^[^:]*:([^:]*): +U /\1 /')

only() # TEXT PATTERN [OBJECT]: names that match are needed by OBJECT alone
{
    local who
    who=$(awk -v p="^($2)\$" -v o="${3:-}" '$2 ~ p && $1 != o { print $1 " needs " $2 }' <<<"$needs")
    if [ -z "$who" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n%s\n' "$1" "$who"
    fi
}

if [ -f "$library" ] && grep -qx 'context.o malloc' <<<"$needs"; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAILED: the objects of '$library' can be read, and the default hooks are malloc and free"
fi
only "malloc and free are the default hooks alone" 'malloc|free' context.o
only "nothing takes memory past the hooks" 'calloc|realloc|reallocarray|memalign|aligned_alloc|posix_memalign|valloc|pvalloc|mmap|sbrk'
only "nothing is given memory to free" 'strdup|strndup|__strdup|__strndup|v?asprintf|__v?asprintf_chk|getline|getdelim|open_memstream|scandir'

printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]
