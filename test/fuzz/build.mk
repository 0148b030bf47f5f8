# Fuzzing (docs/testing.md): the targets of libFuzzer, one file each, and the suite that runs their seeds and kept
# inputs without it. Included by the Makefile. With CONFIG=fuzz the library is compiled by clang with coverage and
# sanitizers. Its vector kernels read no files: they are those of the release.
FUZZ_DIR     := test/fuzz
FUZZ_TARGETS := images safetensors pth container restore json text options views walk
FUZZ_SRC     := $(sort $(filter-out $(FUZZ_DIR)/entry.c,$(wildcard $(FUZZ_DIR)/*.c)))
FUZZ_OBJ      = $(FUZZ_SRC:%.c=$(B)/%.o)
FUZZ_BIN     := $(FUZZ_TARGETS:%=$(B)/$(FUZZ_DIR)/fuzz_%)
FUZZ_SIMD    := $(patsubst $(B)/%,build/release/%,$(filter $(B)/$(SIMD_DIR)/%,$(OBJ)))
FUZZ_DEPS    := clang libclang-rt-dev llvm
# Seconds of each target; the targets of ONLY alone.
SECONDS      ?= 60
FUZZ_WORK    := build/fuzz/work

ifeq ($(CONFIG),fuzz)
  # OpenMP's pragmas are ignored, so that all runs on one thread; its functions and header are gcc's, but
  # for an attribute of gcc alone.
  $(shell mkdir -p $(B)/include && rm -f $(B)/include/omp.h && sed 's/__malloc__ .omp_free./__malloc__/' \
    "$$(gcc -print-file-name=include/omp.h)" >$(B)/include/omp.h)
  LIB_CFLAGS := $(filter-out -fopenmp,$(LIB_CFLAGS)) -fopenmp=libgomp -isystem $(B)/include
  OBJ := $(filter-out $(B)/$(SIMD_DIR)/%,$(OBJ)) $(FUZZ_SIMD)
endif

# What guides the fuzzer is the library's coverage, not the tests' own.
$(B)/test/%.o: private SANITIZE := $(subst $(comma)fuzzer-no-link,,$(SANITIZE))
$(FUZZ_BIN): $(B)/$(FUZZ_DIR)/fuzz_%: $(FUZZ_DIR)/entry.c $(FUZZ_OBJ) $(SUPPORT) $(STATIC)
	$(call SAY,LINK)$(TEST_COMPILE) -fsanitize=fuzzer -DKD_FUZZ_TARGET=kd_fuzz_$* -o $@ $^ $(LIBS)
$(B)/test/check_fuzz_inputs: $(FUZZ_OBJ)

fuzz: ## fuzz each reader of files and more for SECONDS=60 (ONLY="images pth"); installs clang; keeps inputs that crash
	@.ci/deps $(BUILD_DEPS) check $(FUZZ_DEPS)
	@$(MAKE) -s --no-print-directory $(JOBS) $(FUZZ_SIMD) ONLY=
	@$(MAKE) --no-print-directory $(JOBS) CONFIG=fuzz CC=clang CFLAGS="-O1 -gline-tables-only" ONLY= fuzz-targets
	@SECONDS_EACH=$(SECONDS) WORK=$(FUZZ_WORK) $(FUZZ_DIR)/run.sh build/fuzz/$(FUZZ_DIR) $(or $(ONLY),$(FUZZ_TARGETS))
fuzz-targets: $(FUZZ_BIN)
.PHONY: fuzz fuzz-targets
