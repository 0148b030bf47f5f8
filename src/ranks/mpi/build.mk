# build.mk - the MPI plug-ins, which `make` builds where it finds an MPI's compiler; MPICC= does without. One plug-in is
# for one MPI: "mpi" for MPICC; "openmpi" and "mpich" where Debian's mpicc.openmpi and mpicc.mpich are.
MPICC   ?= mpicc
MPI_DIR := src/ranks/mpi
MPI_C   := $(sort $(wildcard $(MPI_DIR)/*.c))
MPI_CC_mpi     := $(if $(MPICC),$(shell command -v $(MPICC) 2>/dev/null))
MPI_CC_openmpi := $(if $(MPICC),$(shell command -v mpicc.openmpi 2>/dev/null))
MPI_CC_mpich   := $(if $(MPICC),$(shell command -v mpicc.mpich 2>/dev/null))
MPI_EVERY      := mpi openmpi mpich
MPI_NAMES      := $(foreach name,$(MPI_EVERY),$(if $(MPI_CC_$(name)),$(name)))
MPI_PLUGINS    := $(MPI_NAMES:%=$(LIBOUT)/kdas/libkdas-%.so)

# The compilers of MPIs are this one with more flags.
MPI_FLAGS = -std=gnu11 -Iinclude $(CPPFLAGS) $(CFLAGS) -O3 -fPIC -fvisibility=hidden $(C_WARN) $(SANITIZE)
define MPI_RULES
$(B)/mpi/$(1)/.flags: FORCE
	$$(call KEEP,$$(MPI_CC_$(1)) $$(CC) $$(MPI_FLAGS))
$(B)/mpi/$(1)/%.o: $(MPI_DIR)/%.c $(B)/mpi/$(1)/.flags
	@mkdir -p $$(@D)
	$$(call SAY,MPI)OMPI_CC="$$(CC)" MPICH_CC="$$(CC)" $$(MPI_CC_$(1)) $$(MPI_FLAGS) -MMD -MP -c $$< -o $$@
# Nothing but the entry is seen from outside, and it stays loaded: it ends MPI at the process's end.
$(LIBOUT)/kdas/libkdas-$(1).so: $(MPI_C:$(MPI_DIR)/%.c=$(B)/mpi/$(1)/%.o) lib/libkdas-plugin.map
	@mkdir -p $$(@D)
	$$(call SAY,LINK)OMPI_CC="$$(CC)" MPICH_CC="$$(CC)" $$(MPI_CC_$(1)) $$(SANITIZE) $$(LDFLAGS) -shared \
	  -Wl,--version-script=lib/libkdas-plugin.map -Wl,--no-undefined -Wl,-z,nodelete -o $$@ $$(filter %.o,$$^) -lpthread -ldl
-include $(MPI_C:$(MPI_DIR)/%.c=$(B)/mpi/$(1)/%.d)
endef
$(foreach name,$(MPI_NAMES),$(eval $(call MPI_RULES,$(name))))

mpi: $(MPI_PLUGINS) ## build lib/kdas/libkdas-mpi.so and others, where there is an MPI (part of `make`)
	@$(if $(MPI_PLUGINS)$(if $(MPICC),,no),,echo "mpi: there is no '$(MPICC)', so no plug-in is built: install libopenmpi-dev or libmpich-dev")
.PHONY: mpi
