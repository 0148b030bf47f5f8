#!/bin/bash
# check_fuzz_run.sh - test/fuzz/run.sh, which `make fuzz` ends with: its table, and what it does with an input that crashes.
# The fuzzers are scripts here. Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-fuzz-run.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT

. test/support/claims.sh

fuzzer() # NAME COMMANDS: writes a seed if asked to, else counts and runs the commands
{
    cat >"$tmp/fuzz_$1" <<END
#!/bin/bash
[ -n "\${KD_FUZZ_SEEDS:-}" ] && { echo seed >"\$KD_FUZZ_SEEDS/one"; exit 0; }
printf '%s\n' "\$@" >"$tmp/$1.options"
echo "#3 NEW cov: 41 ft: 50 corp: 7/9b lim: 4 exec/s: 1"
echo "#90 DONE cov: 42 ft: 50 corp: 8/9b lim: 4 exec/s: 1"
echo "stat::number_of_executed_units: 90"
$2
END
    chmod +x "$tmp/fuzz_$1"
}
run() { SECONDS_EACH=3 WORK=$tmp/runs test/fuzz/run.sh "$tmp" "$@" >"$tmp/table" 2>&1; }
row() { grep -Eqx "$1 +$2 +$3 +$4 +[0-9]+ +$5" "$tmp/table"; } # TARGET EXECUTIONS EDGES CORPUS CRASHES

fuzzer fine ""
# shellcheck disable=SC2016 # the script's own variables
fuzzer broken 'for o in "$@"; do case $o in -artifact_prefix=*) kept=${o#*=}crash-1 ;; esac; done
echo x >"$kept"; echo "==1==ERROR: AddressSanitizer: heap-use"; echo "Test unit written to $kept"; exit 77'

claim "where nothing is found it succeeds" run fine
claim "the table has executions, edges, corpus and crashes" row fine 90 42 8 0
claim "it runs for the seconds that were asked for" grep -qx -- "-max_total_time=3" "$tmp/fine.options"
claim "it begins with the target's seeds" test -f "$tmp/runs/fine/seeds/one"
fails() { ! run "$@"; }
claim "an input that crashes is a failure" fails broken fine
claim "the input is named" grep -q "kept: $tmp/runs/broken/found/crash-1$" "$tmp/table"
claim "and kept" test -f "$tmp/runs/broken/found/crash-1"
claim "what was wrong is said" grep -q "ERROR: AddressSanitizer: heap-use" "$tmp/table"
claim "its row counts it" row broken 90 42 8 1
claim "the targets behind it run, too" row fine 90 42 8 0
claim "a target that is not there is a failure" fails nothing
claim "every target has a fuzzer's name" \
    test "$(sed -n 's/^FUZZ_TARGETS := //p' test/fuzz/build.mk | tr ' ' '\n' | sort)" = \
    "$(grep -oh 'kd_fuzz_target kd_fuzz_[a-z]* =' test/fuzz/*.c | sed 's/.*kd_fuzz_\([a-z]*\) =/\1/' | sort)"

claims_end
