# libkdas. `make help` lists the targets; objects sit in build/<config>/.
VERSION := 0.1.0
SOVERSION := 0
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR ?= $(PREFIX)/bin
DESTDIR ?=
CC ?= gcc
CXX ?= g++
CONFIG ?= release

CFLAGS ?= -O2 -g
CPPFLAGS += -Iinclude -Isrc $(ONEDNN_CFLAGS)
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-missing-field-initializers
KD_CFLAGS := -std=gnu11 -fPIC -fvisibility=hidden -fopenmp -fno-math-errno -fno-trapping-math $(WARN)
ONEDNN_LIBS ?= -ldnnl
OPENBLAS_CFLAGS := $(shell pkg-config --cflags openblas 2>/dev/null)
OPENBLAS_LIBS := $(shell pkg-config --libs openblas 2>/dev/null || echo -lopenblas)
LIBS := $(ONEDNN_LIBS) $(OPENBLAS_LIBS) -lcjson -lgomp -lpthread -ldl -lm
CPPFLAGS += $(OPENBLAS_CFLAGS)

ifeq ($(CONFIG),asan)
  KD_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
  LDFLAGS += -fsanitize=address,undefined
endif
ifeq ($(CONFIG),tsan)
  KD_CFLAGS += -fsanitize=thread
  LDFLAGS += -fsanitize=thread
endif

B := build/$(CONFIG)
ifeq ($(CONFIG),release)
  LIBOUT := lib
  BINOUT := bin
else
  LIBOUT := $(B)/lib
  BINOUT := $(B)/bin
endif

# One source, three instruction sets: files in simd/ are compiled once for each.
SIMD_SRC := $(wildcard src/backend/cpu/simd/*.c)
SRC := $(filter-out $(SIMD_SRC),$(shell find src -name '*.c' -not -path 'src/backend/cuda/*' | sort))
OBJ := $(SRC:%.c=$(B)/%.o) \
       $(foreach i,avx512 avx2 plain,$(SIMD_SRC:src/backend/cpu/simd/%.c=$(B)/src/backend/cpu/simd/%.$(i).o))
SIMD_avx512 := -DKD_ISA=avx512 -march=x86-64-v4 -mprefer-vector-width=512
SIMD_avx2 := -DKD_ISA=avx2 -march=x86-64-v3
SIMD_plain := -DKD_ISA=plain
SIMD_CFLAGS := -O3 -ffast-math -fno-finite-math-only

SHARED := $(LIBOUT)/libkdas.so.$(VERSION)
STATIC := $(LIBOUT)/libkdas.a
PROGRAMS := $(patsubst examples/%.c,$(BINOUT)/%,$(wildcard examples/kdas-*.c))
SAMPLES := $(patsubst examples/%.c,$(B)/examples/%,$(filter-out $(wildcard examples/kdas-*.c),$(wildcard examples/*.c))) \
           $(patsubst examples/%.cpp,$(B)/examples/%,$(wildcard examples/*.cpp))

all: lib programs ## build the libraries and the programs
lib: $(SHARED) $(STATIC)
programs: $(PROGRAMS) $(SAMPLES)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(KD_CFLAGS) -MMD -MP -c $< -o $@

define simd_rule
$(B)/src/backend/cpu/simd/%.$(1).o: src/backend/cpu/simd/%.c
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(KD_CFLAGS) $$(SIMD_CFLAGS) $$(SIMD_$(1)) -MMD -MP -c $$< -o $$@
endef
$(foreach i,avx512 avx2 plain,$(eval $(call simd_rule,$(i))))

$(SHARED): $(OBJ) lib/libkdas.map
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,libkdas.so.$(SOVERSION) -Wl,--version-script=lib/libkdas.map -Wl,--no-undefined \
	  $(LDFLAGS) -o $@ $(OBJ) $(LIBS)
	ln -sf libkdas.so.$(VERSION) $(LIBOUT)/libkdas.so.$(SOVERSION)
	ln -sf libkdas.so.$(SOVERSION) $(LIBOUT)/libkdas.so

$(STATIC): $(OBJ)
	@mkdir -p $(@D)
	rm -f $@
	ar rcs $@ $(OBJ)

-include $(OBJ:.o=.d)
.PHONY: all lib programs
