# programs.sh - for scripts that test the programs as their users meet them: exit codes, what stands on stderr, files. A script
# sources it from the project's root. It makes the folder $tmp, which goes when the script ends. KDAS_BIN names the folder of
# the programs ($bin). Exit codes are 0 fine, 1 failed, 2 wrong command line, 130 interrupted, 141 nobody reads the output.
bin=$(realpath "${KDAS_BIN:-bin}")
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-programs.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT

# Networks are thin (thin.h), by a library of their own, unless the programs are others': most runs here would take
# several times as long. real() runs a command with the programs' own library.
thin=$(realpath "${KDAS_THIN:-build/release/test/thin}")
[ "$bin" != "$(realpath bin)" ] || [ ! -d "$thin" ] || export LD_LIBRARY_PATH=$thin
real() { LD_LIBRARY_PATH="" "$@"; }

. test/support/claims.sh

ends() # CODE PATTERN PROGRAM ARGUMENT...: the exit code, and what stands on stderr
{
    local code=$1 pattern=$2 program=$3 got
    shift 3
    timeout 300 "$bin/$program" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    cat "$tmp/out" "$tmp/err"
    echo "exit code $got, expected $code and stderr with '$pattern'"
    [ $got = "$code" ] && { [ -z "$pattern" ] || grep -q -e "$pattern" "$tmp/err"; }
}
wrong() { ends 2 "--help" "$@"; }      # a command line that cannot be meant
fails() { ends 1 "$2: .*$1" "${@:2}"; } # PATTERN PROGRAM ARGUMENT...
all_exist() { local f; for f in "$@"; do [ -s "$f" ] || { echo "no $f"; return 1; }; done; }
none_exist() { local f; for f in "$@"; do [ ! -e "$f" ] || { echo "there is $f"; return 1; }; done; }
says() # PATTERN PROGRAM ARGUMENT...
{
    "$bin/$2" "${@:3}" >"$tmp/out" 2>&1 || return 1
    grep -q -e "$1" "$tmp/out" || { cat "$tmp/out"; return 1; }
}

# Options of a small training. One thread: the machine may be busy with other tests.
small=(--size 64 --batch 4 --threads 1)

# Frames and trained networks in $demo, its frames in $data: a teacher and a student for each of the presets.
demo=$tmp/demo data=$tmp/demo/data
make_demo() # OPTION...
{
    ends 0 "" kdas-distill --demo --out "$demo" --scenes 16 --test-scenes 0 --epochs 2 --teacher polyp_pvt_b0 \
        --teacher-scenes 20 --teacher-epochs 1 --pictures 2 "${small[@]}" "$@"
}
