#!/bin/bash
# check_mpi.sh - the MPI plug-ins, with 1 to 4 processes on this machine: sums and their bits, votes, hosts with an MPI of their
# own, ranks that are lost in several ways, launchers and libraries of another MPI. Nothing may hang: each start has its
# seconds. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-mpi.XXXXXX") || exit 1
left() { pgrep -f "^$tmp/"; }
# shellcheck disable=SC2046 # a list of numbers
trap 'left >/dev/null && kill -KILL $(left); rm -rf "$tmp"' EXIT
lib=$PWD/lib
[ "${KDAS_BIN:-bin}" = bin ] || lib=$(cd "$(dirname "$KDAS_BIN")/lib" && pwd)
samples=$PWD/build/release/examples
[ "${KDAS_BIN:-bin}" = bin ] || samples=$(dirname "$KDAS_BIN")/examples
cc=${CC:-gcc}
. test/support/claims.sh

# Small machines, root, containers; each process may use all processors.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_MCA_btl=self,vader KDAS_BACKEND_PATH=$lib/kdas OMP_WAIT_POLICY=passive
flavours=()
for flavour in openmpi mpich; do
    if [ ! -f "$lib/kdas/libkdas-$flavour.so" ] || ! command -v "mpirun.$flavour" >/dev/null; then
        echo "SKIP: $flavour: there is no mpicc.$flavour or no mpirun.$flavour (make deps installs them)"
    else
        flavours+=("$flavour")
    fi
done
if [ ${#flavours[@]} = 0 ]; then
    echo "0 passed, 0 failed"
    exit 0
fi

flags=(-std=gnu11 -O1 -Wall -Wextra -Werror -Iinclude)
against=(-L"$lib" -lkdas -Wl,-rpath,"$lib")
claim "the host compiles" "$cc" "${flags[@]}" -o "$tmp/host" test/mpi/host.c "${against[@]}"
claim "the host that loads the library compiles" "$cc" "${flags[@]}" "-DLOADED=\"$lib/libkdas.so\"" -o "$tmp/loaded" test/mpi/host.c -ldl
claim "the caller of the table compiles" "$cc" "${flags[@]}" -o "$tmp/table" test/mpi/table.c -ldl
claim "what makes a launcher slow compiles" "$cc" "${flags[@]}" -shared -fPIC -o "$tmp/slow.so" test/mpi/slow.c -ldl
for flavour in "${flavours[@]}"; do
    claim "the host with $flavour of its own compiles" env OMPI_CC="$cc" MPICH_CC="$cc" "mpicc.$flavour" "${flags[@]}" -DOWN_MPI \
        -o "$tmp/own_$flavour" test/mpi/host.c "${against[@]}"
done

# start NAME SECONDS COMMAND...: in the background, up to four at once. Its output is then in $tmp/NAME.out, its exit status in
# $tmp/NAME.rc: "late" if it took longer.
start()
{
    while [ "$(jobs -rp | wc -l)" -ge 4 ]; do wait -n; done
    {
        local begin=$SECONDS rc
        timeout -k 2 "$2" "${@:3}" >"$tmp/$1.out" 2>&1 </dev/null
        rc=$?
        [ $((SECONDS - begin)) -lt "$2" ] || rc=late
        echo $rc >"$tmp/$1.rc"
    } 2>/dev/null &
}
# each FLAVOUR: start all that is asked below
each()
{
    local f=$1 run=mpirun.$1 n
    for n in 2 3 4; do
        start "$f.table$n" 60 "$run" -n $n "$tmp/table" "$lib/kdas/libkdas-$f.so"
    done
    start "$f.fine" 60 "$run" -n 3 "$tmp/host" "$f" fine
    start "$f.loaded" 60 "$run" -n 2 "$tmp/loaded" "$f" fine
    for n in disagree vote again fork twice; do
        start "$f.$n" 60 "$run" -n 3 "$tmp/host" "$f" $n
    done
    for n in own single over; do
        start "$f.$n" 60 "$run" -n 2 "$tmp/own_$f" "$f" $n
    done
    start "$f.split" 60 "$run" -n 4 "$tmp/own_$f" "$f" split
    start "$f.alone" 60 "$tmp/host" "$f" fine
    start "$f.alone_loaded" 60 "$tmp/loaded" "$f" fine
    for n in killed stopped early early_error; do
        start "$f.$n" 60 "$run" -n 3 "$tmp/host" "$f" $n 3
    done
    start "$f.example" 60 "$run" -n 2 "$samples/ranks" "$f"
    start "$f.trains" 60 "$run" -n 2 "$samples/ranks_train" "$f"
    start "$f.abort" 60 "$run" -n 2 "$tmp/host" "$f" abort
    # shellcheck disable=SC2016 # expanded there
    start "$f.absent" 60 "$run" -n 2 bash -c 'RANK_HERE=${OMPI_COMM_WORLD_RANK:-$PMI_RANK} exec "$@"' - "$tmp/host" "$f" absent 2
}
for flavour in "${flavours[@]}"; do each "$flavour"; done
if [ ${#flavours[@]} = 2 ]; then
    start launcher.openmpi 60 mpirun.openmpi -n 2 "$tmp/host" mpich fine
    start launcher.mpich 60 mpirun.mpich -n 2 "$tmp/host" openmpi fine
    start library.openmpi 60 mpirun.openmpi -n 2 "$tmp/own_openmpi" mpich own
    start library.mpich 60 mpirun.mpich -n 2 "$tmp/own_mpich" openmpi own
fi
[[ " ${flavours[*]} " != *" mpich "* ]] ||
    start mpich.slow 60 env LD_PRELOAD="$tmp/slow.so" mpirun.mpich -n 3 env -u LD_PRELOAD "$tmp/host" mpich early 3
[[ " ${flavours[*]} " != *" openmpi "* ]] ||
    start openmpi.recovered 60 mpirun.openmpi --enable-recovery -n 3 "$tmp/host" openmpi killed 3
wait

# ends NAME STATUS [LINES SENTENCE]...: it ended in time with this status ("error": any but 0), and so many lines of its
# output have the sentence, an extended regular expression. LINES "some": at least one, because launchers end the others when
# a process has failed.
ends()
{
    local name=$1 rc lines
    rc=$(cat "$tmp/$name.rc")
    echo "exit status $rc" && cat "$tmp/$name.out"
    [ "$rc" != late ] || return 1
    case $2 in error) [ "$rc" != 0 ] || return 1 ;; *) [ "$rc" = "$2" ] || return 1 ;; esac
    shift 2
    while [ $# -gt 0 ]; do
        lines=$(grep -cE "$2" "$tmp/$name.out")
        [ "$lines" = "$1" ] || { [ "$1" = some ] && [ "$lines" -gt 0 ]; } || { echo "not $1 lines of: $2"; return 1; }
        shift 2
    done
}
# All processes have ended with the code. MPICH's launcher gave 1 once, of some hundred runs on a busy machine, and why was not
# found: then MPI itself must have said that it aborts with it.
aborts()
{
    ends "$1" 9 0 "fine" || ends "$1" error 1 "^Abort\(9\)" 0 "fine"
}
trains()
{
    ends "$1" 0 1 "^step 5: loss" 2 "^rank [01] of 2: student" &&
        [ "$(sed -n 's/^rank .*: student //p' "$tmp/$1.out" | sort -u | wc -l)" = 1 ]
}
late='rank 0 of 3: sum: the other ranks did not answer within 3 seconds'
for f in "${flavours[@]}"; do
    for n in 2 3 4; do
        claim "$f: sums of $n ranks have the bits of a sum in their order" ends "$f.table$n" 0 1 "table: fine: .* [0-9.]+, $n ranks on 1 host"
    done
    claim "$f: three ranks sum, broadcast, agree and vote" ends "$f.fine" 0 3 "^rank [0-2]: fine"
    claim "$f: so does a host that loads libkdas by dlopen" ends "$f.loaded" 0 2 "^rank [01]: fine"
    claim "$f: a difference is told to all" ends "$f.disagree" 0 3 "rank 2 has another batch than rank 0: '16' and not '8'"
    claim "$f: a failure is told to all" ends "$f.vote" 0 3 "rank 2: .*there is no rank 99 of 3" 3 "kdas_ranks_sum\(\): ranks call it for different numbers"
    claim "$f: ranks may leave, and join again" ends "$f.again" 0 6 "3 ranks on 1 host" 3 "fine"
    claim "$f: two handles over the same ranks may be used at once" ends "$f.twice" 0 3 "fine"
    claim "$f: the exit of a forked child ends nothing" ends "$f.fork" 0 3 "fine"
    claim "$f: a host may have started MPI itself" ends "$f.own" 0 2 "fine"
    claim "$f: it must have done so for threads" ends "$f.single" error some "must call MPI_Init_thread with MPI_THREAD_SERIALIZED"
    claim "$f: it must not have ended MPI" ends "$f.over" error some "MPI has been ended in this process"
    claim "$f: a host's communicators make two groups" ends "$f.split" 0 4 "2 ranks on 1 host" 4 "fine"
    claim "$f: without a launcher there is one rank" ends "$f.alone" 0 1 "1 rank on 1 host" 1 "fine"
    claim "$f: so there is where libkdas is loaded" ends "$f.alone_loaded" 0 1 "1 rank on 1 host" 1 "fine"
    claim "$f: the launcher ends the others when a rank is killed" ends "$f.killed" error 0 "did not fail"
    claim "$f: a stopped rank is given up, rank 0 saves, all end" ends "$f.stopped" 3 1 "$late" 1 "rank 0: has saved" 1 "rank 0: last words"
    claim "$f: so is a rank that leaves early" ends "$f.early" error 1 "$late" 1 "rank 0: last words"
    claim "$f: a rank that leaves with an error ends all" ends "$f.early_error" 5 0 "did not fail"
    claim "$f: the sample that trains has one loss and one student" trains "$f.trains"
    claim "$f: the sample runs" ends "$f.example" 0 1 "^.* 2 ranks on 1 host: pi is about 3.141593"
    claim "$f: abort ends all" aborts "$f.abort"
    claim "$f: a process that does not join is not waited for" ends "$f.absent" error 1 "MPI_Init_thread: it did not return within 2 seconds"
done
if [ ${#flavours[@]} = 2 ]; then
    claim "MPICH says that it was started by Open MPI's launcher" ends launcher.openmpi error some "Open MPI's mpirun has started 2 processes"
    claim "Open MPI says that it was started by MPICH's launcher" ends launcher.mpich error some "MPICH's mpiexec.* has started 2 processes"
    claim "a host with Open MPI is not mixed with MPICH" ends library.openmpi error some "built for MPICH, but the process has loaded 'Open MPI"
    claim "a host with MPICH is not mixed with Open MPI" ends library.mpich error some "built for Open MPI, but the process has loaded 'MPICH"
fi
[ ! -f "$tmp/mpich.slow.rc" ] ||
    claim "what rank 0 says last is seen, also where the launcher comes late to read it" ends mpich.slow 3 1 "rank 0: has saved" 1 "rank 0: last words"
[ ! -f "$tmp/openmpi.recovered.rc" ] ||
    claim "where the launcher lets them, ranks survive a killed one until they have saved" ends openmpi.recovered 0 1 "$late" 1 "rank 0: has saved"
none_left() { for _ in 1 2 3 4 5 6; do left || return 0; sleep 0.5; done; return 1; }
claim "no process is left" none_left

claims_end
