#!/bin/bash
# growth.sh - a program goes on working with a library that has a loss term more, and with one that has a term less. The
# library with one more is the same sources, with the enumeration, the table of names and the weights one row longer;
# only what sees kdas/loss.h is compiled again. The older program is compiled against headers-<ABI>, which are kept as they
# were. Called by check.sh, with the names in capitals set.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$PWD
grown=$root/$WORK/grown
[ -d "$here/headers-$ABI" ] || { echo "there is no $here/headers-$ABI; make abi-headers writes it"; exit 1; }
rm -rf "$grown"
mkdir -p "$grown/lib" "$grown/runs"
cp -r include src "$grown/"

# ---- One more term: half of the segmentation term once more, so that its value is known ----
add() # FILE WHAT SED...: and it must have changed
{
    local file=$grown/$1 what=$2
    shift 2
    cp "$file" "$file.was"
    sed -i -E "$@" "$file"
    ! cmp -s "$file" "$file.was" || { echo "growth.sh: cannot add $what to $file"; exit 1; }
}
add include/kdas/loss.h 'the number' 's/^(#define KDAS_TERMS +)4$/\15/'
add include/kdas/loss.h 'the enumerator' 's/^( *KDAS_TERM_FEATURE = 3)/\1, KDAS_TERM_EXTRA = 4/'
add src/loss/programs.c 'the name' '/kd_term_names\[KDAS_TERMS\] =/s/"feature"/"feature", "extra"/'
add src/loss/programs.c 'the weight' 's/^( *)default: return \(double\)o->feature_weight;/\1case KDAS_TERM_EXTRA: return 0.5 * (double)o->seg_weight;\n&/'
add src/loss/programs.c 'that it is there' 's/\[KDAS_TERM_SEG\] = true,/[KDAS_TERM_SEG] = true, [KDAS_TERM_EXTRA] = true,/'
add src/loss/programs.c 'its nodes' 's/value = t == KDAS_TERM_SEG /value = t == KDAS_TERM_SEG || t == KDAS_TERM_EXTRA /'

# ---- Its library ----
objects=
again=
for object in $OBJ; do
    if grep -q 'include/kdas/loss\.h' "${object%.o}.d"; then
        source=${object#"$B"/}
        objects="$objects $grown/${source%.o}.o"
        again="$again ${source%.o}.c"
    else
        objects="$objects $root/$object"
    fi
done
(
    cd "$grown"
    # shellcheck disable=SC2086 # lists of words
    printf '%s\n' $again | xargs -P "$(nproc)" -I{} sh -c "f={}; exec $LIB_COMPILE -c \"\$f\" -o \"\${f%.c}.o\""
)
# shellcheck disable=SC2086
$LINK -shared -Wl,-soname,"libkdas.so.$ABI" -Wl,--version-script=lib/libkdas.map -o "$grown/lib/libkdas.so.$ABI" $objects $LIBS

# ---- Programs of both, on libraries of both ----
lacks() # PATTERN FILE
{
    if grep "$1" "$2"; then return 1; fi
}
build() # NAME HEADERS
{
    "$CC" -std=c99 -Wall -Wextra -Werror -I"$2" -o "$grown/$1" "$here/consumer.c" "$SHARED" -lm
}
build older "$here/headers-$ABI"
build newer "$grown/include"
run() # PROGRAM LIBRARY ARGUMENT...
{
    local program=$grown/$1 library
    case $2 in
    older) library=$(dirname "$SHARED") ;;
    newer) library=$grown/lib ;;
    esac
    shift 2
    LD_LIBRARY_PATH=$library "$program" "$@"
}
for program in older newer; do
    for library in older newer; do
        run $program $library report >"$grown/$program-$library" || { echo "the $program program fails on the $library library"; exit 1; }
    done
    # What both libraries have is the same, to the last digit
    diff <(grep -v '^extra' "$grown/$program-older") <(grep -v '^extra' "$grown/$program-newer")
done
diff <(grep -v '^extra' "$grown/older-older") <(grep -v '^extra' "$grown/newer-older")
grep -q '^extra' "$grown/newer-newer"
lacks '^extra' "$grown/newer-older"

# A run that one library has begun is gone on with by the other, and its log.csv with it.
for first in older newer; do
    for second in older newer; do
        out=$grown/runs/$first-$second
        run older $first train "$out" 1 # amid an epoch
        run newer $second train "$out" 0
        [ "$(wc -l <"$out/log.csv")" = 3 ]
        case $second in
        older) lacks 'extra' "$out/log.csv" ;;
        newer) head -1 "$out/log.csv" | grep -q 'feature_gradient,extra_raw,extra_weighted,extra_gradient,images' ;;
        esac
        # every line has as many cells as the header
        awk -F, 'NR == 1 { n = NF } NF != n { exit 1 }' "$out/log.csv"
    done
done
