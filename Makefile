# libkdas. `make help` lists the targets; objects sit in build/<config>/, libraries in lib/, programs in bin/.
# New files need no line here: src/**/*.c, examples/*.c, test/check_* and test/support/*.c are found, and a program
# kdas-NAME by its src/programs/NAME/main.c.
VERSION   := $(shell sed -n 's/^.define KDAS_VERSION_[MP][A-Z]*  *//p' include/kdas/base.h | paste -sd.)
SOVERSION := $(shell sed -n 's/^.define KDAS_ABI  *//p' include/kdas/base.h)
PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR     ?= $(PREFIX)/bin
DESTDIR    ?=
# make predefines CC and CXX, so that ?= would not apply
ifneq ($(filter default undefined,$(origin CC)),)
CC := gcc
endif
ifneq ($(filter default undefined,$(origin CXX)),)
CXX := g++
endif
# release, asan (address and undefined behaviour), tsan (data races) or fuzz (clang; see `make fuzz`)
CONFIG   ?= release
FIXTURES ?= test/golden/fixtures

# ---- Flags ----------------------------------------------------------------------------------------
# CFLAGS, CXXFLAGS, CPPFLAGS and LDFLAGS are the builder's. For a oneDNN outside the system's folders:
#   make ONEDNN_CFLAGS=-I/opt/dnnl/include ONEDNN_LIBS="-L/opt/dnnl/lib -Wl,-rpath,/opt/dnnl/lib -ldnnl"
CFLAGS   ?= -O2 -g
CXXFLAGS ?= -O2 -g
ONEDNN_LIBS     ?= -ldnnl
OPENBLAS_CFLAGS := $(shell pkg-config --cflags openblas 2>/dev/null)
OPENBLAS_LIBS   := $(shell pkg-config --libs openblas 2>/dev/null || echo -lopenblas)
UTF8PROC_LIBS   := $(shell pkg-config --libs libutf8proc 2>/dev/null || echo -lutf8proc)
# TIFF is read where libtiff is there; without it a sentence says so.
HAS_TIFF        := $(shell pkg-config --exists 'libtiff-4 >= 4.5' 2>/dev/null && echo yes)
TIFF_CFLAGS     := $(if $(HAS_TIFF),-DKD_TIFF $(shell pkg-config --cflags libtiff-4))
TIFF_LIBS       := $(if $(HAS_TIFF),$(shell pkg-config --libs libtiff-4))
SYSTEM_LIBS     := -lz -lgomp -lpthread -ldl -lm
LIBS            := $(ONEDNN_LIBS) $(OPENBLAS_LIBS) $(UTF8PROC_LIBS) $(TIFF_LIBS) $(SYSTEM_LIBS)

# Between the arguments of a flag.
comma         := ,
WARN          := -Wall -Wextra -Wshadow -Wno-missing-field-initializers
C_WARN        := $(WARN) -Wstrict-prototypes -Wmissing-prototypes
SANITIZE_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -Wno-format-truncation
SANITIZE_tsan := -fsanitize=thread -fno-omit-frame-pointer -Wno-format-truncation
SANITIZE_fuzz := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SANITIZE      := $(SANITIZE_$(CONFIG))

LIB_CFLAGS  := -std=gnu11 -fPIC -fvisibility=hidden -fopenmp -fno-math-errno -fno-trapping-math
LIB_COMPILE  = $(CC) -Iinclude -Isrc -DKDAS_EXPERIMENTAL $(ONEDNN_CFLAGS) $(OPENBLAS_CFLAGS) $(CPPFLAGS) $(CFLAGS) \
               $(LIB_CFLAGS) $(C_WARN) $(SANITIZE)
TEST_COMPILE = $(LIB_COMPILE) -Itest
TEST_COMPILE_CXX = $(CXX) -std=c++17 -Iinclude -Itest -DKDAS_EXPERIMENTAL $(CPPFLAGS) $(CXXFLAGS) $(WARN) $(SANITIZE)
# Programs and samples see the public headers alone, as any host would; programs and kdas-bench have headers
# of their own in src/programs.
HOST_COMPILE     = $(CC) -std=gnu11 -Iinclude $(CPPFLAGS) $(CFLAGS) $(C_WARN) $(SANITIZE)
PROGRAM_COMPILE  = $(HOST_COMPILE) -I$(PROGRAM_DIR)
HOST_COMPILE_CXX = $(CXX) -std=c++17 -Iinclude $(CPPFLAGS) $(CXXFLAGS) $(WARN) $(SANITIZE)
LINK     = $(CC) $(SANITIZE) $(LDFLAGS)
LINK_CXX = $(CXX) $(SANITIZE) $(LDFLAGS)

# One source, several instruction sets (int8_*.c: those for integers): files in simd/ are compiled once for each; for bf16, those that
# have such kernels; for amx and amx_int8, those with matrix products, and for tests with the tiles emulated. (The
# tiles' instructions are in assembly, which needs no flag of the compiler.)
SIMD_ISAS   := avx512 avx2 plain bf16 amx vnni avxvnni avx2_int8 amx_int8 \
               emulated_f32 emulated_bf16 emulated_vnni emulated_avxvnni emulated_amx emulated_amx_int8
SIMD_bf16   := -DKD_ISA=bf16 -DKD_HALF -march=x86-64-v4 -mavx512bf16 -mprefer-vector-width=512
SIMD_amx    := $(filter-out -DKD_ISA=bf16,$(SIMD_bf16)) -DKD_ISA=amx -DKD_AMX
AMX_FILES   := attention deconv2d linear mix_ffn mix_ffn_backward table
HALF_FILES  := activation arith attention batch_norm deconv2d dwconv2d layer_norm linear mix_ffn mix_ffn_backward quantize resize \
               shape table window
SIMD_vnni   := -DKD_ISA=vnni -DKD_INT8 -march=x86-64-v4 -mavx512vnni -mprefer-vector-width=512
SIMD_avxvnni := -DKD_ISA=avxvnni -DKD_INT8 -march=x86-64-v3 -mavxvnni
SIMD_avx2_int8 := -DKD_ISA=avx2_int8 -DKD_INT8 -march=x86-64-v3
SIMD_amx_int8 := $(filter-out -DKD_ISA=vnni,$(SIMD_vnni)) -DKD_ISA=amx_int8 -DKD_AMX
INT8_FILES  := int8_conv2d int8_dwconv2d int8_mix_ffn table
WORDS_FILES := int8_winograd
AMX_INT8_FILES := int8_conv2d int8_mix_ffn table
# The instructions of AVX-512 and of AMX in C and AVX2, for tests on any CPU with that (simd/avx512.h, simd/amx.h)
IN_AVX2     := -DKD_AVX512_EMULATED -march=x86-64-v3 -Og -Wno-psabi
SIMD_emulated_f32  := -DKD_ISA=emulated_f32 $(IN_AVX2)
SIMD_emulated_bf16 := -DKD_ISA=emulated_bf16 -DKD_HALF $(IN_AVX2)
SIMD_emulated_vnni := -DKD_ISA=emulated_vnni -DKD_INT8 $(IN_AVX2)
# -mavxvnni only chooses the form: without optimisation the compiler makes none of its instructions
SIMD_emulated_avxvnni := -DKD_ISA=emulated_avxvnni -DKD_INT8 -march=x86-64-v3 -mavxvnni -include src/backend/cpu/simd/avx512.h -Og -Wno-psabi
SIMD_emulated_amx  := -DKD_ISA=emulated_amx -DKD_HALF -DKD_AMX -DKD_AMX_EMULATED $(IN_AVX2)
SIMD_emulated_amx_int8 := -DKD_ISA=emulated_amx_int8 -DKD_INT8 -DKD_AMX -DKD_AMX_EMULATED $(IN_AVX2)
SIMD_avx512 := -DKD_ISA=avx512 -march=x86-64-v4 -mprefer-vector-width=512
SIMD_avx2   := -DKD_ISA=avx2 -march=x86-64-v3
SIMD_plain  := -DKD_ISA=plain
# src/base/regions.h needs the names in the assembler's output: no link-time optimisation.
SIMD_CFLAGS := -O3 -ffast-math -fno-finite-math-only -fno-lto

# ---- Files ----------------------------------------------------------------------------------------
B := build/$(CONFIG)
ifeq ($(CONFIG),release)
  LIBOUT := lib
  BINOUT := bin
else
  LIBOUT := $(B)/lib
  BINOUT := $(B)/bin
endif

HEADERS  := $(sort $(wildcard include/kdas/*.h include/kdas/*.def))
PROGRAM_DIR := src/programs
SIMD_DIR := src/backend/cpu/simd
SIMD_EVERY := $(sort $(wildcard $(SIMD_DIR)/*.c))
SIMD_SRC := $(filter-out $(SIMD_DIR)/int8_%,$(SIMD_EVERY))
SRC      := $(filter-out $(SIMD_EVERY),$(sort $(shell find src -name '*.c' -not -path 'src/backend/cuda/*' \
              -not -path 'src/ranks/mpi/*' \
              -not -path '$(PROGRAM_DIR)/*')))
OBJ      := $(SRC:%.c=$(B)/%.o) \
            $(foreach isa,avx512 avx2 plain,$(SIMD_SRC:%.c=$(B)/%.$(isa).o)) \
            $(HALF_FILES:%=$(B)/$(SIMD_DIR)/%.bf16.o) $(AMX_FILES:%=$(B)/$(SIMD_DIR)/%.amx.o) \
            $(foreach isa,vnni avxvnni avx2_int8,$(INT8_FILES:%=$(B)/$(SIMD_DIR)/%.$(isa).o)) \
            $(WORDS_FILES:%=$(B)/$(SIMD_DIR)/%.avx2_int8.o) \
            $(AMX_INT8_FILES:%=$(B)/$(SIMD_DIR)/%.amx_int8.o)
ifeq ($(CONFIG),tsan)
  # The kernels are those of the release: each part writes what is its own.
  OBJ := $(filter-out $(B)/$(SIMD_DIR)/%,$(OBJ)) $(patsubst $(B)/%,build/release/%,$(filter $(B)/$(SIMD_DIR)/%,$(OBJ)))
endif
SHARED   := $(LIBOUT)/libkdas.so.$(VERSION)
STATIC   := $(LIBOUT)/libkdas.a

# Programs to install: src/programs/NAME has the main.c of kdas-NAME and its other parts. Folders without a main.c
# hold what programs share.
PROGRAM_NAMES   := $(patsubst $(PROGRAM_DIR)/%/main.c,%,$(sort $(wildcard $(PROGRAM_DIR)/*/main.c)))
PROGRAM_SRC     := $(sort $(shell find $(PROGRAM_DIR) -name '*.c'))
PROGRAM_OWN      = $(patsubst %.c,$(B)/%.o,$(filter $(PROGRAM_DIR)/$(1)/%,$(PROGRAM_SRC)))
PROGRAM_SHARED  := $(patsubst %.c,$(B)/%.o,$(filter-out $(PROGRAM_NAMES:%=$(PROGRAM_DIR)/%/%),$(PROGRAM_SRC)))
PROGRAMS        := $(PROGRAM_NAMES:%=$(BINOUT)/kdas-%)
# Samples, for reading; `check` runs them.
SAMPLE_SRC  := $(sort $(wildcard examples/*.c))
SAMPLE_CXX  := $(sort $(wildcard examples/*.cpp))
BENCH_SRC   := $(sort $(wildcard bench/kdas-*.c))
BENCHES     := $(BENCH_SRC:bench/%.c=$(BINOUT)/%)
# They time what is internal, so they link the static library.
INSIDE_SRC  := $(sort $(wildcard bench/bench_*.c))
INSIDE      := $(INSIDE_SRC:%.c=$(B)/%)
# The other files of bench/ are parts of the benches.
BENCH_PARTS_SRC := $(filter-out $(BENCH_SRC) $(INSIDE_SRC),$(sort $(wildcard bench/*.c)))
BENCH_PARTS     := $(BENCH_PARTS_SRC:%.c=$(B)/%.o)
C_SAMPLES   := $(SAMPLE_SRC:%.c=$(B)/%)
CXX_SAMPLES := $(SAMPLE_CXX:%.cpp=$(B)/%)
SAMPLES     := $(C_SAMPLES) $(CXX_SAMPLES)

SUITE_SRC   := $(sort $(wildcard test/check_*.c))
SUITE_CXX   := $(sort $(wildcard test/check_*.cpp))
SUPPORT_SRC := $(sort $(wildcard test/support/*.c) $(filter-out $(SUITE_SRC),$(wildcard test/*.c)))
GOLDEN_SRC  := $(sort $(wildcard test/golden/*.c))
C_SUITES    := $(SUITE_SRC:%.c=$(B)/%)
CXX_SUITES  := $(SUITE_CXX:%.cpp=$(B)/%)
SUITES      := $(C_SUITES) $(CXX_SUITES)
# make check-suites ONLY="base context" runs check_base and check_context
ifdef ONLY
  SUITES := $(ONLY:%=$(B)/test/check_%)
endif
GOLDEN      := $(if $(GOLDEN_SRC),$(B)/test/golden/check_golden)
# Those that run beside others begin, since they take longest: see run.sh.
BESIDE      := $(shell grep -lxE '. (Runs beside others|Builds)[.]' test/check_*.sh)
ALONE       := $(filter-out $(BESIDE),$(sort $(wildcard test/check_*.sh)))
SUPPORT     := $(B)/test/libsupport.a
EMULATED_OBJ := $(SIMD_SRC:%.c=$(B)/%.emulated_f32.o) $(HALF_FILES:%=$(B)/$(SIMD_DIR)/%.emulated_bf16.o) \
                $(foreach isa,vnni avxvnni,$(INT8_FILES:%=$(B)/$(SIMD_DIR)/%.emulated_$(isa).o)) $(AMX_FILES:%=$(B)/$(SIMD_DIR)/%.emulated_amx.o) \
                $(AMX_INT8_FILES:%=$(B)/$(SIMD_DIR)/%.emulated_amx_int8.o)
EMULATED     := $(B)/test/libemulated.a
CHECK_CFLAGS := $(shell pkg-config --cflags check 2>/dev/null)
CHECK_LIBS   := $(shell pkg-config --libs check 2>/dev/null || echo -lcheck_pic -lrt -lm -lsubunit)
CHECK_LIBS   += -Wl,--wrap=_mark_point # test/support/mark.c
# test/support/thin.c, to which the library then refers
THIN_WRAP    := -Wl,--wrap=kd_pvt_v2 -Wl,--wrap=kd_same_conv_layer -Wl,--wrap=kd_random_normal
THIN_SHARED  := $(B)/test/thin/libkdas.so.$(SOVERSION)
CHECK_LINK    = $(filter %.o,$^) $(filter $(EMULATED),$^) $(THIN_WRAP) -Wl,--start-group $(SUPPORT) $(STATIC) -Wl,--end-group $(CHECK_LIBS) $(LIBS)

# Programs find the library by the path from their own folder to its: $(call RPATH,from,to)
RPATH     = -Wl,-rpath,'$$ORIGIN/$(shell realpath -m --relative-to=$(1) $(2))'
include test/fuzz/build.mk
EVERY_OBJ = $(OBJ) $(EMULATED_OBJ) $(FUZZ_OBJ) $(patsubst %.c,$(B)/%.o,$(PROGRAM_SRC) $(BENCH_SRC) $(BENCH_PARTS_SRC) $(INSIDE_SRC) $(SAMPLE_SRC) \
            $(SUITE_SRC) $(SUPPORT_SRC) $(GOLDEN_SRC)) $(patsubst %.cpp,$(B)/%.o,$(SAMPLE_CXX) $(SUITE_CXX))

# ---- Build ----------------------------------------------------------------------------------------
# A command is shown by its kind and its product; whole with V=1.
SAY = $(if $(V),,@printf '  %-4s %s\n' $(1) $@;)

all: lib programs mpi ## build the libraries, the programs, the samples, and a plug-in for each MPI (the default)
lib: $(SHARED) $(STATIC) ## build lib/libkdas.so and lib/libkdas.a
programs: $(PROGRAMS) $(BENCHES) $(SAMPLES) ## build bin/kdas-* and the samples

# The flags and the list of objects, written when they change: what depends on them is then made anew.
FORCE:
define KEEP
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(1))' >$@.new; cmp -s $@.new $@ || cp $@.new $@; rm -f $@.new
endef
$(B)/.flags: FORCE
	$(call KEEP,$(LIB_COMPILE) $(PROGRAM_COMPILE) $(HOST_COMPILE_CXX) $(TEST_COMPILE_CXX) $(SIMD_CFLAGS) $(foreach isa,$(SIMD_ISAS),$(SIMD_$(isa))))
$(B)/.objects: FORCE
	$(call KEEP,$(LINK) $(OBJ) $(LIBS))

$(B)/.tiff: FORCE
	$(call KEEP,$(TIFF_CFLAGS))
$(B)/src/image/tiff.o: LIB_COMPILE += $(TIFF_CFLAGS)
$(B)/src/image/tiff.o: $(B)/.tiff
# The image codecs overflow signed numbers, and rely on wrapping.
$(B)/src/image/codec.o: LIB_COMPILE += -fwrapv
$(B)/src/%.o: src/%.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(LIB_COMPILE) -MMD -MP -c $< -o $@
define SIMD_RULE
$(B)/$(SIMD_DIR)/%.$(1).o: $(SIMD_DIR)/%.c $(B)/.flags
	@mkdir -p $$(@D)
	$$(call SAY,CC)$$(LIB_COMPILE) $$(SIMD_CFLAGS) $$(SIMD_$(1)) -MMD -MP -c $$< -o $$@
endef
$(foreach isa,$(SIMD_ISAS),$(eval $(call SIMD_RULE,$(isa))))
$(B)/test/%.o: test/%.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(TEST_COMPILE) $(CHECK_CFLAGS) -I$(B)/test -DKD_EMULATED='"$(abspath $(B)/emulated)"' -MMD -MP -c $< -o $@
$(B)/test/%.o: test/%.cpp $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CXX)$(TEST_COMPILE_CXX) $(CHECK_CFLAGS) -I$(B)/test -MMD -MP -c $< -o $@
$(INSIDE:%=%.o): $(B)/%.o: %.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(TEST_COMPILE) -MMD -MP -c $< -o $@
$(B)/$(PROGRAM_DIR)/%.o: $(PROGRAM_DIR)/%.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(PROGRAM_COMPILE) -MMD -MP -c $< -o $@
$(B)/bench/%.o: bench/%.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(PROGRAM_COMPILE) -MMD -MP -c $< -o $@
$(B)/%.o: %.c $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(HOST_COMPILE) -MMD -MP -c $< -o $@
$(B)/%.o: %.cpp $(B)/.flags
	@mkdir -p $(@D)
	$(call SAY,CXX)$(HOST_COMPILE_CXX) -MMD -MP -c $< -o $@
-include $(EVERY_OBJ:.o=.d)

$(SHARED): $(OBJ) lib/libkdas.map $(B)/.objects
	@mkdir -p $(@D)
	$(call SAY,LINK)$(LINK) -shared -Wl,-soname,libkdas.so.$(SOVERSION) -Wl,--version-script=lib/libkdas.map \
	  -Wl,--no-undefined -o $@ $(OBJ) $(LIBS)
	@ln -sf libkdas.so.$(VERSION) $(LIBOUT)/libkdas.so.$(SOVERSION)
	@ln -sf libkdas.so.$(SOVERSION) $(LIBOUT)/libkdas.so
$(STATIC): $(OBJ) $(B)/.objects
	@mkdir -p $(@D)
	@rm -f $@
	$(call SAY,AR)ar rcs $@ $(OBJ)

$(foreach p,$(PROGRAM_NAMES),$(eval $(BINOUT)/kdas-$(p): $(call PROGRAM_OWN,$(p))))
$(PROGRAMS): $(PROGRAM_SHARED) $(SHARED)
	@mkdir -p $(@D)
	$(call SAY,LINK)$(LINK) -o $@ $(filter %.o,$^) $(SHARED) -lpthread -lm $(call RPATH,$(BINOUT),$(LIBOUT))
$(BENCHES): $(BINOUT)/%: $(B)/bench/%.o $(BENCH_PARTS) $(PROGRAM_SHARED) $(SHARED)
	@mkdir -p $(@D)
	$(call SAY,LINK)$(LINK) -o $@ $(filter %.o,$^) $(SHARED) -lpthread -lm $(call RPATH,$(BINOUT),$(LIBOUT))
$(C_SAMPLES): %: %.o $(SHARED)
	$(call SAY,LINK)$(LINK) -o $@ $< $(SHARED) -lm $(call RPATH,$(B)/examples,$(LIBOUT))
$(CXX_SAMPLES): %: %.o $(SHARED)
	$(call SAY,LINK)$(LINK_CXX) -o $@ $< $(SHARED) -lm $(call RPATH,$(B)/examples,$(LIBOUT))

# ---- Tests ----------------------------------------------------------------------------------------
include test/soak/build.mk
# Suites link the static library, so that they may call what is internal.
tests: all $(SUITES) $(GOLDEN) $(SOAK) $(THIN_SHARED) ## build every test
# The library with thin networks, for scripts that run the programs.
$(THIN_SHARED): $(B)/test/support/thin.o $(SHARED)
	@mkdir -p $(@D)
	$(call SAY,LINK)$(LINK) -shared -Wl,-soname,libkdas.so.$(SOVERSION) -Wl,--version-script=lib/libkdas.map \
	  -Wl,--no-undefined -Wl,-init,kd_test_thin_networks -o $@ $(OBJ) $< $(THIN_WRAP) $(LIBS)
$(B)/.support: FORCE
	$(call KEEP,$(SUPPORT_SRC))
$(SUPPORT): $(SUPPORT_SRC:%.c=$(B)/%.o) $(B)/.support
	@mkdir -p $(@D)
	@rm -f $@
	$(call SAY,AR)ar rcs $@ $(filter %.o,$^)
$(C_SUITES): %: %.o $(SUPPORT) $(STATIC)
	$(call SAY,LINK)$(LINK) -o $@ $(CHECK_LINK)
$(EMULATED): $(EMULATED_OBJ)
	@mkdir -p $(@D)
	@rm -f $@
	$(call SAY,AR)ar rcs $@ $^
$(B)/test/check_amx $(B)/test/check_int8 $(B)/test/check_kernels: $(EMULATED)
$(B)/test/check_stats: $(B)/$(PROGRAM_DIR)/distill/scores/stats.o
$(B)/test/check_doctor: | $(BINOUT)/kdas-doctor
$(B)/test/check_tensorboard: $(patsubst %,$(B)/$(PROGRAM_DIR)/%.o,distill/tensorboard system/files system/say system/sink system/streams)
$(CXX_SUITES): %: %.o $(SUPPORT) $(STATIC)
	$(call SAY,LINK)$(LINK_CXX) -o $@ $(CHECK_LINK)
$(B)/test/golden/check_golden: $(GOLDEN_SRC:%.c=$(B)/%.o) $(SUPPORT) $(STATIC)
	$(call SAY,LINK)$(LINK) -o $@ $(CHECK_LINK)

# What the headers declare, one line for a function, for the tests of the ABI.
$(B)/test/declared.def: $(HEADERS) test/abi/declared.sh
	@mkdir -p $(@D)
	@CC="$(CC)" test/abi/declared.sh def > $@
$(B)/test/every_header.h: $(HEADERS) test/abi/declared.sh
	@mkdir -p $(@D)
	@CC="$(CC)" test/abi/declared.sh headers > $@
$(patsubst test/%,$(B)/test/%.o,$(basename $(wildcard test/check_abi_*.c test/check_abi_*.cpp))): \
  $(B)/test/declared.def $(B)/test/every_header.h

# A test that hangs is killed; sanitizers slow all tests down, see check-all.
export CK_DEFAULT_TIMEOUT ?= 300
export KDAS_BIN := $(BINOUT)
RUN := LOGS=$(B)/log test/run.sh
ON_EMULATED := env KDAS_BACKEND_PATH=$(B)/emulated KDAS_EMULATOR_LOCK=0 $(if $(LONG),,GOLDEN_PIXELS=16384)
GOLDEN_RUN  := $(if $(GOLDEN),"$(GOLDEN) $(FIXTURES)" "$(GOLDEN) $(FIXTURES) cpu bf16" "$(ON_EMULATED) $(GOLDEN) $(FIXTURES) cuda")

# Two more makes: flags that pkg-config gives are read when make starts, before the packages are there.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc))
check: ## install missing packages, build and run all tests (ONLY="base data": those suites alone)
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory $(JOBS) $(if $(ONLY),$(SUITES),tests)
	@$(MAKE) --no-print-directory check-built
check-built: export KDAS_THIN := $(B)/test/thin
check-built:
	@CC="$(CC)" CXX="$(CXX)" MAKE="$(MAKE_COMMAND)" \
	  $(RUN) $(if $(ONLY),,$(BESIDE) $(GOLDEN_RUN)) $(SUITES) $(if $(ONLY),,$(SAMPLES) "$(SOAK) minutes 0" $(ALONE))
check-suites: $(if $(ONLY),$(SUITES),tests) ## check without its scripts; ONLY="base data" runs just those
	@$(RUN) $(SUITES) $(if $(ONLY),,$(GOLDEN_RUN) $(SAMPLES))
check-golden: $(GOLDEN) ## compare with the golden values in FIXTURES=DIR, on DEVICE=cpu, in DTYPE=f32, bf16, f16 or tf32
	$(GOLDEN) $(FIXTURES) $(or $(DEVICE),cpu) $(DTYPE)
# A Python with onnx, onnxruntime, openvino and numpy: python3 -m venv DIR; DIR/bin/pip install onnx onnxruntime openvino numpy
ONNX_PYTHON ?= python3
check-onnx: $(SHARED) ## compare exported ONNX files with libkdas (ONNX_PYTHON=DIR/bin/python; ONLY="lite_fpn0": those networks)
	@$(ONNX_PYTHON) test/onnx/compare.py $(SHARED) $(ONLY)
check-layers: $(STATIC) ## check the order of layers by includes and symbols, and which files use public functions alone
	@ARCHIVE=$(STATIC) OBJECTS=$(B)/src test/layers.sh
DUMP        := test/abi/libkdas-$(SOVERSION).abi
PLUGIN_DUMP := test/abi/backend-$(shell sed -n 's/^.define KDAS_BACKEND_ABI  *//p' include/kdas/backend.h).abi
COLLECTIVE_DUMP := test/abi/collective-$(shell sed -n 's/^.define KDAS_COLLECTIVE_ABI  *//p' include/kdas/collective.h).abi
check-abi: lib $(B)/test/declared.def ## compare symbols, headers and types with the kept ABI
	@CC="$(CC)" CXX="$(CXX)" SHARED=$(SHARED) STATIC=$(STATIC) LIBS="$(LIBS)" DECLARED=$(B)/test/declared.def \
	  SYMBOLS=lib/libkdas.sym DUMP=$(DUMP) PLUGIN_DUMP=$(PLUGIN_DUMP) COLLECTIVE_DUMP=$(COLLECTIVE_DUMP) WORK=$(B)/abi \
	  B=$(B) LIB_COMPILE="$(LIB_COMPILE)" LINK="$(LINK)" OBJ="$(OBJ)" ABI=$(SOVERSION) test/abi/check.sh
symbols: $(SHARED) ## write lib/libkdas.sym and lib/libkdas-experimental.sym (part of the ABI: look at the difference)
	@mkdir -p $(B)
	CC="$(CC)" test/abi/declared.sh experimental > $(B)/symbols && mv $(B)/symbols lib/libkdas-experimental.sym
	test/abi/exported.sh $(SHARED) | grep -vxFf lib/libkdas-experimental.sym > $(B)/symbols && mv $(B)/symbols lib/libkdas.sym
abi-dump: $(SHARED) ## write test/abi/*.abi from the library (part of the ABI, too)
	test/abi/dump.sh $(SHARED) > $(B)/dump && mv $(B)/dump $(DUMP)
	CC="$(CC)" test/abi/plugin.sh backend $(B)/plugin.so
	test/abi/dump.sh $(B)/plugin.so > $(B)/dump && mv $(B)/dump $(PLUGIN_DUMP)
	CC="$(CC)" test/abi/plugin.sh collective $(B)/plugin.so
	test/abi/dump.sh $(B)/plugin.so > $(B)/dump && mv $(B)/dump $(COLLECTIVE_DUMP)

abi-headers: ## copy the headers to test/abi (after a break of the ABI)
	rm -rf test/abi/headers-$(SOVERSION) && cp -r include test/abi/headers-$(SOVERSION)

# The compute libraries are not built for TSan, which does not look into them. All threads are the library's own.
NAMED = $(filter $(1:%=$(B)/test/check_%),$(SUITES))
# check_team limits the threads of the process, and TSan has one of its own.
TSAN_SUITES     ?= $(call NAMED,base context% data% device_batch far_batch host jobs loader% ranks segmenter_live step train_resume)
VALGRIND_RUN    ?= $(call NAMED,context%) $(B)/test/abi/stranger
SAN := $(CURDIR)/test/sanitize
VALGRIND := valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=9
check-all: ## run the tests under ASan and UBSan, those of threads under TSan, a small step under valgrind
	$(MAKE) CONFIG=asan check-asan
	$(MAKE) lib
	$(MAKE) CONFIG=tsan check-tsan
	$(MAKE) check-valgrind
check-asan: tests
	@ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LSAN_OPTIONS=suppressions=$(SAN)/lsan.supp:print_suppressions=0 CK_TIMEOUT_MULTIPLIER=4 \
	  $(RUN) $(SUITES) $(if $(ONLY),,$(GOLDEN_RUN) $(SAMPLES))
check-tsan: $(TSAN_SUITES)
	@TSAN_OPTIONS=suppressions=$(SAN)/tsan.supp:ignore_noninstrumented_modules=1:allocator_may_return_null=1 \
	  CK_TIMEOUT_MULTIPLIER=8 $(RUN) $(TSAN_SUITES)
$(B)/test/abi/stranger: %: %.o $(STATIC)
	$(call SAY,LINK)$(LINK) -o $@ $< $(STATIC) $(LIBS)
check-valgrind: $(VALGRIND_RUN)
	@CK_TIMEOUT_MULTIPLIER=20 $(RUN) $(VALGRIND_RUN:%="$(VALGRIND) %")

check-analyzers: ## install clang and cppcheck, and look for faults without running anything
	@.ci/deps clang cppcheck
	@CC="$(CC)" test/analyze.sh

$(INSIDE): %: %.o $(STATIC)
	$(call SAY,LINK)$(LINK) -o $@ $< $(STATIC) $(LIBS)
bench-kernels: $(INSIDE) ## measure single kernels of the CPU backend, and fused ones against their parts
	$(B)/bench/bench_kernels
	$(B)/bench/bench_fuse
bench: all ## measure speed and memory
	@test -x $(BINOUT)/kdas-bench || { echo "bench: there is no $(BINOUT)/kdas-bench"; exit 1; }
	$(BINOUT)/kdas-bench
bench-profile: all ## profile a step by op
	$(BINOUT)/kdas-bench --only step --profile
bench-compare: all ## time libkdas and its peers in turn; installs the peers outside this tree
	bench/compare

# ---- CUDA -----------------------------------------------------------------------------------------
include src/backend/cuda/build.mk

# ---- MPI ------------------------------------------------------------------------------------------
include src/ranks/mpi/build.mk

# ---- Machine --------------------------------------------------------------------------------------
BUILD_DEPS := gcc g++ make pkg-config $(if $(ONEDNN_CFLAGS),,libdnnl-dev) libopenblas-openmp-dev libstb-dev libjsmn-dev zlib1g-dev \
              libutf8proc-dev libtiff-dev
# Two MPIs, for whose plug-ins there are tests; a build does without, too
MPI_DEPS   := openmpi-bin libopenmpi-dev mpich libmpich-dev
# gfortran: openblas.pc names its library for static links, which check tries; locales: a test makes one with a comma;
# cmake: hosts find the installed library by it; groff-base: reads the man pages
CHECK_DEPS := check abigail-tools valgrind gfortran locales cmake groff-base $(MPI_DEPS)
deps: ## install missing packages (Debian)
	@.ci/deps $(BUILD_DEPS) $(CHECK_DEPS)
# DEMO="--scenes 16 --epochs 1": options for it
demo: ## install missing packages, build, and distil students on synthetic frames into demo/
	$(MAKE) deps CHECK_DEPS=
	$(MAKE) $(JOBS) all
	$(BINOUT)/kdas-distill --demo --out demo $(DEMO)

include test/faults/build.mk
include pkgconfig/package.mk

format: ## lay out the sources as .clang-format says
	clang-format -i $$(find include src examples test bench -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu')
clean: ## remove what was built
	rm -rf build bin lib/kdas lib/libkdas.so* lib/libkdas.a
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(filter-out %.d,$(MAKEFILE_LIST)) | expand -t 18

.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: bench-kernels bench-profile bench-compare all lib programs tests check check-built check-suites check-golden check-onnx check-layers check-abi check-all check-asan \
  check-tsan check-valgrind check-analyzers symbols abi-dump abi-headers bench deps demo format clean help FORCE
