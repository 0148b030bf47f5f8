#!/bin/bash
# check_deps.sh - .ci/deps, which `make check` and `make demo` begin with, on machines that are made up: dpkg-query,
# apt-get, sudo and id are scripts here. Ends with "N passed, N failed".
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-deps.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

claim() # TEXT COMMAND...
{
    local text=$1
    shift
    if "$@" >"$tmp/why" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$text"
        cat "$tmp/why" "$tmp/said" "$tmp/called" | sed 's/^/    /'
    fi
}

tool() { printf '#!/bin/bash\n%s\n' "$2" >"$tmp/bin/$1" && chmod +x "$tmp/bin/$1"; } # NAME SCRIPT
machine() # UID INSTALLED...: a Debian without sudo
{
    rm -rf "${tmp:?}/bin" && mkdir "$tmp/bin" && : >"$tmp/called"
    ln -s "$(command -v bash)" "$(command -v grep)" "$(command -v env)" "$tmp/bin/"
    tool id "echo $1"
    # shellcheck disable=SC2016
    tool dpkg-query 'case " '"${*:2}"' " in *" ${*: -1} "*) echo "install ok installed" ;; *) exit 1 ;; esac'
    tool apt-get "echo apt-get \"\$@\" >>'$tmp/called'"
}
deps() { PATH=$tmp/bin .ci/deps "$@" >"$tmp/said" 2>&1; }
refuses() { deps one two three && return 1; grep -q "^deps: .*$1" "$tmp/said"; }
silent() { [ ! -s "$tmp/called" ] && [ ! -s "$tmp/said" ]; }

machine 0 one two three
claim "where nothing is missing it succeeds" deps one two three
claim "nothing is called or said there" silent
machine 0 two
claim "root installs what is missing" deps one two three
claim "that and nothing else" grep -qx "apt-get install -y --no-install-recommends one three" "$tmp/called"
claim "package lists come first" grep -q "^apt-get update" <(head -n 1 "$tmp/called")
machine 1000 two
claim "a user without sudo reads which packages are missing" refuses "neither root nor sudo.* one three$"
claim "apt-get is not called for that user" test ! -s "$tmp/called"
tool sudo "echo sudo >>'$tmp/called'; exec \"\$@\""
claim "a user with sudo installs by it" deps one two three
claim "sudo was asked" grep -q sudo "$tmp/called"
machine 1000 one two three
claim "a user needs no sudo where nothing is missing" deps one two three
machine 0
# shellcheck disable=SC2016 # the script's own argument
tool apt-get '[ "$1" = install ] && { echo "E: Unable to locate package" >&2; exit 100; }; exit 0'
claim "an installation that fails names the packages" refuses "could not install.* one two three$"
machine 0
rm "$tmp/bin/dpkg-query"
claim "a system that is no Debian goes on" deps one two
claim "it reads what is needed" grep -q "one two" "$tmp/said"

printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]
