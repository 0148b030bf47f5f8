# build.mk - the CUDA plug-in: `make cuda` with the toolkit, and its emulation on the CPU, which tests need
# and which needs no toolkit. One source in op/ is compiled once for each type of activations.
NVCC      ?= nvcc
# Asked for when first needed, and once: other targets do not wait for it.
ifndef CUDA_HOME
CUDA_HOME   = $(eval CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v $(NVCC) 2>/dev/null))))$(CUDA_HOME)
endif
# The cards that the toolkit can build for, of those that have been thought of; and PTX of the lowest for others.
ifndef CUDA_ARCHS
CUDA_ARCHS  = $(eval CUDA_ARCHS := $(filter 70 75 80 86 89 90 100,$(patsubst sm_%,%,$(shell $(NVCC) --list-gpu-code 2>/dev/null))))$(CUDA_ARCHS)
endif
# cuDNN, where the toolkit's folders have it; CUDNN= does without
CUDNN     ?= $(if $(wildcard $(CUDA_HOME)/include/cudnn.h /usr/include/cudnn.h /usr/include/x86_64-linux-gnu/cudnn.h),yes)

CUDA_DIR := src/backend/cuda
CUDA_C   := $(sort $(wildcard $(CUDA_DIR)/*.c))
CUDA_OPS := $(sort $(wildcard $(CUDA_DIR)/op/*.cu))
# Those without activations of 16 bits
CUDA_F32_OPS := $(filter $(CUDA_DIR)/op/loss%.cu $(CUDA_DIR)/op/update.cu $(CUDA_DIR)/op/cast.cu $(CUDA_DIR)/op/softmax.cu \
                       $(CUDA_DIR)/op/recolour.cu,$(CUDA_OPS))
CUDA_OBJ := $(CUDA_C:%.c=%.o) $(CUDA_OPS:%.cu=%.f32.o) \
            $(foreach type,f16 bf16,$(patsubst %.cu,%.$(type).o,$(filter-out $(CUDA_F32_OPS),$(CUDA_OPS))))

# ---- With the toolkit -----------------------------------------------------------------------------
CUDA_LOWEST  = $(firstword $(CUDA_ARCHS))
CUDA_CODE    = $(foreach a,$(CUDA_ARCHS),-gencode=arch=compute_$(a),code=sm_$(a)) \
               -gencode=arch=compute_$(CUDA_LOWEST),code=compute_$(CUDA_LOWEST)
NVCCFLAGS   ?= -O3
NVCC_COMPILE = $(NVCC) -std=c++17 -Iinclude -Isrc $(if $(CUDNN),-DKD_CUDNN) $(CPPFLAGS) $(NVCCFLAGS) -Xcompiler -fPIC,-fvisibility=hidden
CUDA_CC      = $(CC) -std=gnu11 -Iinclude -Isrc -isystem $(CUDA_HOME)/include $(if $(CUDNN),-DKD_CUDNN) $(CPPFLAGS) \
               $(CFLAGS) -fPIC -fvisibility=hidden $(C_WARN)
CUDA_LIBS    = -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 $(if $(CUDNN),-lcudnn) -lcublas -lcudart_static \
               -lstdc++ -lrt -lpthread -ldl -lm
CUDA_PLUGIN := $(LIBOUT)/kdas/libkdas-cuda.so
CB          := $(B)/cuda

cuda: cuda-toolkit $(CUDA_PLUGIN) ## build lib/kdas/libkdas-cuda.so with the CUDA toolkit
cuda-toolkit:
	@test -n "$(CUDA_HOME)" || { echo "cuda: there is no '$(NVCC)': install the CUDA toolkit, or set NVCC=.../bin/nvcc"; exit 1; }
	@test -n "$(CUDA_ARCHS)" || { echo "cuda: '$(NVCC)' builds for no card that is known here"; exit 1; }
$(CB)/.flags: FORCE
	$(call KEEP,$(NVCC_COMPILE) $(CUDA_CODE) $(CUDA_CC))
$(CB)/%.o: %.c $(CB)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(CUDA_CC) -MMD -MP -c $< -o $@
define CUDA_RULE
$(CB)/%.$(1).o: %.cu $(CB)/.flags
	@mkdir -p $$(@D)
	$$(call SAY,NVCC)$$(NVCC_COMPILE) $$(CUDA_CODE) -DKD_TYPE_$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach type,f32 f16 bf16,$(eval $(call CUDA_RULE,$(type))))
# Nothing but the entry is seen from outside, and it stays loaded: CUDA runs code at the process's end.
$(CUDA_PLUGIN): $(CUDA_OBJ:%=$(CB)/%) lib/libkdas-plugin.map
	@mkdir -p $(@D)
	$(call SAY,LINK)$(CC) $(LDFLAGS) -shared -Wl,--version-script=lib/libkdas-plugin.map -Wl,--no-undefined -Wl,-z,nodelete \
	  -o $@ $(CUDA_OBJ:%=$(CB)/%) $(CUDA_LIBS)

# What can be known of it without a card; see the scripts.
# CUDA_HEADERS=yes: more of it, for 2.4 GB
CUDA_SEEN := build/cuda-parts
check-cuda-build: lib programs $(if $(shell command -v $(NVCC) 2>/dev/null),cuda) ## inspect the CUDA plug-in, and compile its kernels for the V100
	@CC="$(CC)" PLUGIN=$(CUDA_PLUGIN) ARCHS="$(CUDA_ARCHS)" SOURCES=$(words $(filter-out $(CUDA_C:%.c=%.o),$(CUDA_OBJ))) \
	  OPS="$(CUDA_OPS)" F32_OPS="$(CUDA_F32_OPS)" SHARED=$(SHARED) WORK=$(CUDA_SEEN) \
	  SUMMARY=check-cuda-build $(RUN) test/cuda/check_toolkit.sh test/cuda/check_volta.sh

# ---- Emulated on the CPU --------------------------------------------------------------------------
EMULATOR_DIR := test/emulator
EMULATOR_SRC := $(sort $(wildcard $(EMULATOR_DIR)/*.c $(EMULATOR_DIR)/*.cpp))
EB           := $(B)/emulated
EMULATOR_OBJ := $(patsubst %,$(EB)/%.o,$(basename $(EMULATOR_SRC)))
EMULATED_PLUGIN := $(EB)/libkdas-cuda.so
EMULATED_CC   = $(CC) -std=gnu11 -Iinclude -Isrc -I$(EMULATOR_DIR) -DKD_CUDNN $(OPENBLAS_CFLAGS) $(CPPFLAGS) $(CFLAGS) \
                -fPIC -fvisibility=hidden $(C_WARN) $(SANITIZE)
EMULATED_CXX  = $(CXX) -std=c++17 -Iinclude -Isrc -I$(EMULATOR_DIR) -DKD_CUDNN $(OPENBLAS_CFLAGS) $(CPPFLAGS) $(CXXFLAGS) \
                -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math $(WARN) -Wno-unknown-pragmas $(SANITIZE)
# Checks in kernels, which the emulation reports; where sanitizers are on, they are theirs.
EMULATED_CHECKS := $(if $(SANITIZE),,-fsanitize=alignment,bounds -fno-sanitize-recover=all)

$(EB)/.flags: FORCE
	$(call KEEP,$(EMULATED_CC) $(EMULATED_CXX) $(EMULATED_CHECKS))
$(EB)/%.o: %.c $(EB)/.flags
	@mkdir -p $(@D)
	$(call SAY,CC)$(EMULATED_CC) -MMD -MP -c $< -o $@
$(EB)/%.o: %.cpp $(EB)/.flags
	@mkdir -p $(@D)
	$(call SAY,CXX)$(EMULATED_CXX) -MMD -MP -c $< -o $@
define EMULATED_RULE
$(EB)/%.$(1).o: %.cu $(EB)/.flags
	@mkdir -p $$(@D)
	$$(call SAY,CXX)$$(EMULATED_CXX) $(EMULATED_CHECKS) -include cuda_runtime.h -x c++ -DKD_TYPE_$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach type,f32 f16 bf16,$(eval $(call EMULATED_RULE,$(type))))
$(EMULATED_PLUGIN): $(CUDA_OBJ:%=$(EB)/%) $(EMULATOR_OBJ)
	@mkdir -p $(@D)
	$(call SAY,LINK)$(CXX) $(SANITIZE) $(LDFLAGS) -shared $(if $(SANITIZE),-Wl$(comma)-z$(comma)nodelete) -Wl,--no-undefined -o $@ $^ $(OPENBLAS_LIBS) -lpthread -ldl -lm
$(filter $(B)/test/check_cuda%,$(C_SUITES)): | $(EMULATED_PLUGIN)
# What the emulation itself is tested with: kernels in a suite that has it inside.
EMULATOR_SUITES := $(patsubst %.cpp,$(B)/%,$(filter test/check_emulator%,$(SUITE_CXX)))
$(EMULATOR_SUITES:%=%.o): $(B)/%.o: %.cpp $(EB)/.flags
	@mkdir -p $(@D)
	$(call SAY,CXX)$(EMULATED_CXX) $(EMULATED_CHECKS) -Itest $(CHECK_CFLAGS) -MMD -MP -c $< -o $@
$(EMULATOR_SUITES): $(EMULATOR_OBJ)
emulated: $(EMULATED_PLUGIN) ## build the CUDA plug-in for the emulated card (for tests)

-include $(CUDA_OBJ:%.o=$(CB)/%.d) $(CUDA_OBJ:%.o=$(EB)/%.d) $(EMULATOR_OBJ:.o=.d)
.PHONY: cuda cuda-toolkit check-cuda-build emulated
