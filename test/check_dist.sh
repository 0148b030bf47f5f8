#!/bin/bash
# check_dist.sh - the source tarball and the recipe of Debian's packages, without the long build: `make check-dist` builds
# the one, `make deb` the other. Ends with "N passed, N failed".
# Builds.
set -u
cd "$(dirname "$0")/.." || exit 1
source=$PWD
tmp=$(mktemp -d "${TMPDIR:-/tmp}/kdas-dist.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
make=${MAKE:-make}

. test/support/claims.sh

name=kdas-$(sed -n 's/^#define KDAS_VERSION_[MP][A-Z]*  *//p' include/kdas/base.h | paste -sd.)
tree=$tmp/$name
dist() { "$make" -C "$1" --no-print-directory dist TARBALL="$2"; } # FOLDER TARBALL
members() { tar -tzf "$1" | grep -v '/$' | sort; }                 # TARBALL

# ---- The tarball ----
claim "make dist writes a tarball" dist . "$tmp/one.tar.gz"
claim "its files are in a folder of name and version" test "$(members "$tmp/one.tar.gz" | cut -d/ -f1 | sort -u)" = "$name"
if [ -e .git ] && command -v git >/dev/null; then
    committed() { diff <(git -c safe.directory='*' -C "$source" ls-tree -r --name-only HEAD | sed "s|^|$name/|" | sort) <(members "$tmp/one.tar.gz"); }
    claim "it has what is committed, and nothing else" committed
    again() { dist . "$tmp/two.tar.gz" && cmp "$tmp/one.tar.gz" "$tmp/two.tar.gz"; }
    claim "it is the same each time" again
fi
claim "it can be unpacked" tar -xzf "$tmp/one.tar.gz" -C "$tmp"
builds() { (cd "$tree" && "$make" V=1 build/release/src/io/crc.o && [ -s build/release/src/io/crc.o ]); }
claim "the unpacked tree builds, as a file shows" builds
mkdir -p "$tree"/{bin,lib/kdas,demo} && touch "$tree"/{bin/kdas-x,lib/libkdas.a,lib/libkdas.so.1,lib/kdas/libkdas-cuda.so,demo/x.png}
from_tree() { dist "$tree" "$tmp/three.tar.gz" && diff <(members "$tmp/one.tar.gz") <(members "$tmp/three.tar.gz"); }
claim "without git make dist leaves out what was built" from_tree
after() { mkdir "$tmp/twice" && tar -xzf "$tmp/three.tar.gz" -C "$tmp/twice" && diff -r "$tree/src" "$tmp/twice/$name/src"; }
claim "what it then writes is the same tree" after

# ---- Debian's packages ----
# debian/*.install share out what `make install` installs: each file is in one package.
stage=$tmp/stage
plugin=$tmp/libkdas-cuda.so
mpi=("$tmp"/libkdas-{mpi,openmpi,mpich}.so)
touch "$plugin" "${mpi[@]}"
claim "make install into a stage" "$make" install DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib/some-triplet INSTALL_RPATH=no \
    CUDA_PLUGIN="$plugin" MPI_PLUGINS="${mpi[*]}"
claim "programs have no path to the library if none is wanted" \
    test -z "$(readelf -d "$stage"/usr/bin/kdas-* | grep -E 'RPATH|RUNPATH')"
shared_out()
{
    local pattern
    : >"$tmp/taken"
    while read -r pattern; do
        (cd "$stage" && compgen -G "$pattern" >/dev/null) || { echo "$pattern is not installed"; return 1; }
        # shellcheck disable=SC2086 # a pattern
        (cd "$stage" && find $pattern ! -type d) >>"$tmp/taken"
    done < <(cat pkgconfig/debian/*.install)
    diff <(cd "$stage" && find usr ! -type d | sort) <(sort "$tmp/taken")
}
claim "every installed file is in one package" shared_out
described() { local f; for f in pkgconfig/debian/*.install; do grep -qx "Package: $(basename "$f" .install)" pkgconfig/debian/control || { echo "$f"; return 1; }; done; }
claim "every package is described" described
mkdir "$tmp/bin" && for tool in bash dirname env; do ln -s "$(command -v $tool)" "$tmp/bin/"; done
lacking() { ! PATH=$tmp/bin TARBALL=x VERSION=1 ABI=1 pkgconfig/deb >"$tmp/why" 2>&1 && grep "^deb: there is no dpkg-buildpackage.* dpkg-dev" "$tmp/why"; }
claim "without Debian's tools make deb names what it lacks" lacking

claims_end
