# package.mk - install and uninstall, the source tarball, and Debian's packages.
DATADIR       ?= $(PREFIX)/share
MANDIR        ?= $(DATADIR)/man
COMPLETIONDIR ?= $(DATADIR)/bash-completion/completions
CMAKEDIR      := $(LIBDIR)/cmake/kdas

# Installed programs are linked anew: the path from BINDIR to LIBDIR is not that of the build tree. INSTALL_RPATH=no does
# without a path, for a LIBDIR where the system looks anyway. Plug-ins come along: the MPI ones, and the CUDA one if it was built
# (MPI_PLUGINS= and CUDA_PLUGIN= do without); libkdas finds them in the folder kdas beside itself. Each program prints its man page and its completion.
D := $(DESTDIR)
INSTALL_RPATH ?= yes
FROM_CMAKE     = $(shell realpath -m --relative-to=$(CMAKEDIR) $(1))
empty         :=
space         := $(empty) $(empty)
PRIVATE_LIST   = $(subst $(space),;,$(strip $(LIBS)))
FILL = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
  -e 's|@VERSION@|$(VERSION)|' -e 's|@ABI@|$(SOVERSION)|' -e 's|@PRIVATE@|$(1)|' \
  -e 's|@TO_LIBDIR@|$(call FROM_CMAKE,$(LIBDIR))|' -e 's|@TO_INCLUDEDIR@|$(call FROM_CMAKE,$(INCLUDEDIR))|'
install: all ## install under PREFIX (LIBDIR, INCLUDEDIR, BINDIR, DATADIR; all below DESTDIR)
	install -d $(D)$(LIBDIR)/pkgconfig $(D)$(CMAKEDIR) $(D)$(INCLUDEDIR)/kdas $(D)$(BINDIR) $(D)$(MANDIR)/man1 \
	  $(D)$(COMPLETIONDIR)
	install -m 755 $(SHARED) $(D)$(LIBDIR)/
	ln -sf libkdas.so.$(VERSION) $(D)$(LIBDIR)/libkdas.so.$(SOVERSION)
	ln -sf libkdas.so.$(SOVERSION) $(D)$(LIBDIR)/libkdas.so
	install -m 644 $(STATIC) $(D)$(LIBDIR)/
	install -m 644 $(HEADERS) $(D)$(INCLUDEDIR)/kdas/
	$(call FILL,$(ONEDNN_LIBS) $(TIFF_LIBS) $(SYSTEM_LIBS)) pkgconfig/kdas.pc.in >$(D)$(LIBDIR)/pkgconfig/kdas.pc
	set -e; for file in kdas-config.cmake kdas-config-version.cmake; do \
	  $(call FILL,$(PRIVATE_LIST)) pkgconfig/$$file.in >$(D)$(CMAKEDIR)/$$file; done
	set -e; for plugin in $(CUDA_PLUGIN) $(MPI_PLUGINS); do \
	  test ! -f $$plugin || install -D -m 755 $$plugin $(D)$(LIBDIR)/kdas/$${plugin##*/}; done
	set -e; $(foreach p,$(PROGRAM_NAMES),$(LINK) -o $(D)$(BINDIR)/kdas-$(p) $(call PROGRAM_OWN,$(p)) \
	  $(PROGRAM_SHARED) $(SHARED) -lpthread -lm $(if $(filter-out no,$(INSTALL_RPATH)),$(call RPATH,$(BINDIR),$(LIBDIR)));)
	set -e; for p in $(PROGRAM_NAMES); do \
	  $(BINOUT)/kdas-$$p --print-man >$(D)$(MANDIR)/man1/kdas-$$p.1; \
	  $(BINOUT)/kdas-$$p --print-completion >$(D)$(COMPLETIONDIR)/kdas-$$p; done
uninstall: ## remove what install put there
	rm -f $(addprefix $(D)$(LIBDIR)/,libkdas.so libkdas.so.$(SOVERSION) libkdas.so.$(VERSION) libkdas.a \
	  pkgconfig/kdas.pc kdas/libkdas-cuda.so $(MPI_EVERY:%=kdas/libkdas-%.so)) $(addprefix $(D)$(BINDIR)/,$(notdir $(PROGRAMS))) \
	  $(PROGRAM_NAMES:%=$(D)$(MANDIR)/man1/kdas-%.1) $(PROGRAM_NAMES:%=$(D)$(COMPLETIONDIR)/kdas-%)
	rm -rf $(D)$(INCLUDEDIR)/kdas $(D)$(CMAKEDIR)
	test ! -d $(D)$(LIBDIR)/kdas || rmdir --ignore-fail-on-non-empty $(D)$(LIBDIR)/kdas
	test ! -d $(D)$(LIBDIR)/cmake || rmdir --ignore-fail-on-non-empty $(D)$(LIBDIR)/cmake

# The sources as committed; in an unpacked tarball, its files without what was built.
TARBALL := build/kdas-$(VERSION).tar.gz
BUILT   := build bin demo out bench/out lib/kdas lib/libkdas.a lib/libkdas.so*
dist: ## write the source tarball build/kdas-VERSION.tar.gz
	@mkdir -p $(dir $(TARBALL))
	@if [ -e .git ]; then \
	  git -c safe.directory='*' diff-index --quiet HEAD || echo "dist: changes that are not committed are left out" >&2; \
	  git -c safe.directory='*' archive --format=tar --prefix=kdas-$(VERSION)/ HEAD >$(TARBALL).tar; \
	else \
	  tar -cf $(TARBALL).tar $(BUILT:%=--exclude='./%') --sort=name --owner=0 --group=0 --numeric-owner \
	    --mtime="@$$(stat -c %Y CHANGELOG.md)" --transform='flags=r;s|^\.|kdas-$(VERSION)|' .; \
	fi
	@gzip -9n <$(TARBALL).tar >$(TARBALL) && rm $(TARBALL).tar && echo "$(TARBALL)"
check-dist: dist ## unpack the tarball, build there without git, run three suites, and install
	@rm -rf build/dist && mkdir -p build/dist && tar -xzf $(TARBALL) -C build/dist
	@$(MAKE) --no-print-directory -C build/dist/kdas-$(VERSION) $(JOBS) all
	@$(MAKE) --no-print-directory -C build/dist/kdas-$(VERSION) $(JOBS) check-suites ONLY="base io loss"
	@$(MAKE) --no-print-directory -C build/dist/kdas-$(VERSION) install DESTDIR=$(CURDIR)/build/dist/root >/dev/null
	@rm -rf build/dist && echo "check-dist: fine"

# Debian's packages are built from the tarball, in build/deb. CUDA=no: without the CUDA plug-in
deb: dist ## build Debian packages in build/deb (CUDA=no: without the CUDA plug-in)
	@TARBALL=$(TARBALL) VERSION=$(VERSION) ABI=$(SOVERSION) NVCC="$(NVCC)" CUDA="$(CUDA)" pkgconfig/deb

.PHONY: install uninstall dist check-dist deb
