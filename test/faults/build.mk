# Faults: allocations, file calls and kills. Included by the Makefile.
FAULTS_DIR := test/faults
FB         := $(B)/test/faults
FAULT_FILES := $(FB)/shim.so $(FB)/same $(FB)/allocations
check-built check-faults: export FAULTS := $(FB)

# No sanitizer: the shim is loaded in front of the C library.
$(FB)/shim.so: $(FAULTS_DIR)/shim.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(CC) -std=gnu11 -O2 -g $(C_WARN) -fPIC -shared -o $@ $< -ldl
# Reads what the library wrote, with the library's inside.
$(FB)/same: $(FB)/same.o $(STATIC)
	$(call SAY,LINK)$(LINK) -o $@ $< $(STATIC) $(LIBS)
# A host: it sees public headers alone.
STARVED := $(FB)/allocations.o $(FB)/starved.o
$(STARVED): $(FB)/%.o: $(FAULTS_DIR)/%.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(HOST_COMPILE) -MMD -MP -c $< -o $@
$(FB)/allocations: $(STARVED) $(SHARED)
	$(call SAY,LINK)$(LINK) -o $@ $(STARVED) $(SHARED) $(call RPATH,$(FB),$(LIBOUT))
tests: $(FAULT_FILES)
check-faults: all $(FAULT_FILES) ## make allocations, file calls and disks fail, and kill runs: the long form, about half an hour
	@LONG=1 test/check_faults.sh
-include $(FB)/same.d $(STARVED:.o=.d)
.PHONY: check-faults
