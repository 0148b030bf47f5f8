#!/bin/bash
# check_manual.sh - what the programs print for `make install`: man pages, which groff reads without a warning and which
# name what --help names, and completions, which bash runs. KDAS_BIN names the folder of the programs. Ends with "N passed,
# N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=$(realpath "${KDAS_BIN:-bin}")
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-manual.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT

. test/support/claims.sh

programs=() # those that are installed
for main in src/programs/*/main.c; do
    programs+=("kdas-$(basename "$(dirname "$main")")")
done
command -v groff >/dev/null || echo "SKIP: reading the man pages needs groff"

# ---- Man pages ----
page() { "$bin/$1" --print-man; }
reads() # PROGRAM: the page as text in $tmp/text, without a warning
{
    page "$1" | groff -ww -man -Tascii -P-cbou -rLL=400n >"$tmp/text" 2>"$tmp/warned" || return 1
    cat "$tmp/warned"
    [ ! -s "$tmp/warned" ]
}
words() { grep -o "[^ ]*" | sort -u; }
names_all() # PROGRAM: every word of the help is in the page, but for those about the help itself
{
    "$bin/$1" --help | sed '/^  --help /d; s/^usage://; s/^Exit status: //' | words >"$tmp/help"
    words <"$tmp/text" >"$tmp/page"
    ! comm -23 "$tmp/help" "$tmp/page" | grep .
}
in_order() # PROGRAM: the options of the help, and no others, in the same order
{
    "$bin/$1" --help | sed -n 's/^  \(--[a-z-]*\) .*/\1/p' >"$tmp/help"
    sed -n '/^OPTIONS/,/^ENVIRONMENT/s/^       \(--[a-z-]*\).*/\1/p' "$tmp/text" >"$tmp/page"
    [ -s "$tmp/help" ] && diff "$tmp/help" "$tmp/page"
}
refers() { local p; for p in "${programs[@]}"; do [ "$p" = "$1" ] || grep -q "$p(1)" "$tmp/text" || { echo "$p"; return 1; }; done; }
twice() { cmp <(page "$1") <(cd / && env TZ=Asia/Tokyo LC_ALL=C "$bin/$1" --print-man); }
whatis() { page "$1" | grep -A1 '^\.SH NAME' | grep -q '^kdas\\-[a-z]* \\- [a-z]'; }
once() { test "$("$bin/$1" --help | grep -c '^Exit status: ')" = 1; }
for p in "${programs[@]}"; do
    claim "the help of $p says its exit statuses once" once "$p"
    claim "$p prints the same page everywhere" twice "$p"
    claim "$p has a line for whatis" whatis "$p"
    command -v groff >/dev/null || continue
    claim "groff reads the page of $p without a warning" reads "$p"
    claim "the page of $p has every word of its help" names_all "$p"
    claim "the page of $p has its options in their order" in_order "$p"
    claim "the page of $p refers to the other programs" refers "$p"
done

# ---- Completion ----
# complete_in FOLDER WORD...: what bash offers for the last word
cat >"$tmp/complete.sh" <<'EOF'
source "$1"; cd "$2" || exit 1; shift 2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
"$(complete -p "$1" | sed 's/.*-F \([^ ]*\) .*/\1/')" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>&1
printf '%s\n' "${COMPREPLY[@]}"
EOF
offers() # EXPECTED WORD...: words, divided by blanks
{
    local expected=$1 got
    shift
    "$bin/$1" --print-completion >"$tmp/completion" || return 1
    got=$(bash "$tmp/complete.sh" "$tmp/completion" "$tmp/files" "$@" | sort | paste -sd' ')
    echo "offered '$got', expected '$expected'"
    [ "$got" = "$expected" ]
}
every() # PROGRAM: the options of the help
{
    offers "$("$bin/$1" --help | sed -n 's/^  \(--[a-z-]*\) .*/\1/p' | sort | paste -sd' ')" "$1" -
}
mkdir -p "$tmp/files/a folder" && touch "$tmp/files/a file"
for p in "${programs[@]}"; do
    claim "bash completes every option of $p" every "$p"
done
claim "the words of a choice are completed" offers "limited" kdas-segment --range l
claim "so they are after =" offers "full limited" kdas-segment --range =
claim "and in the midst of it" offers "full" kdas-segment --range = f
claim "models are completed" offers "lite_fpn0 lite_fpn1 lite_fpn2 lite_fpn3 lite_fpn4" kdas-distill --student lite
for program in kdas-evaluate kdas-export kdas-quantize kdas-segment; do
    claim "$program --model is completed" offers "polyp_pvt_b0" "$program" --model polyp_pvt_b0
done
claim "and where a name stands alone" offers "pvt_v2_b0" kdas-inspect pvt_v2_b0
claim "a file is completed, with its blank" offers "a file a folder" kdas-segment --weights a
claim "only folders are where a folder is wanted" offers "a folder" kdas-segment --out a
claim "a number is not completed" offers "" kdas-segment --threads a
claim "other words are files" offers "a file a folder" kdas-segment a

claims_end
