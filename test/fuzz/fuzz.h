/* fuzz.h - targets of the fuzzer: functions that are called with any bytes, and claims that must hold for all of them.
 * libFuzzer runs them by entry.c; check_fuzz_inputs.c runs seeds and kept inputs. Claims are Check's assertions. */
#ifndef KD_FUZZ_H
#define KD_FUZZ_H
#include <kdas/kdas.h>
#include <stdbool.h>
#include "base/base.h"

/* Alter the first `size` bytes of `data`, which has room for `max`; returns the new size. */
typedef size_t kd_fuzz_mutator(uint8_t *data, size_t size, size_t max);

typedef struct kd_fuzz_target {
    const char *name;
    void (*run)(const uint8_t *data, size_t size);
    /* Alter an input by `any`, then repair what would refuse it at once: lengths and checksums. NULL: `any` alone. */
    size_t (*mutate)(uint8_t *data, size_t size, size_t max, unsigned seed, kd_fuzz_mutator *any);
    void (*seeds)(void); /* give each first input to kd_fuzz_seed(); NULL: there are none */
} kd_fuzz_target;

/* One line for each file of targets; build.mk lists their names. */
extern const kd_fuzz_target kd_fuzz_images, kd_fuzz_safetensors, kd_fuzz_pth, kd_fuzz_container,
    kd_fuzz_restore, kd_fuzz_json, kd_fuzz_text, kd_fuzz_options, kd_fuzz_views, kd_fuzz_walk;

/* ---- common.c ---- */

/* The most memory that the contexts below give out at a time: more is KDAS_ENOMEM. */
#define KD_FUZZ_MEMORY (64u << 20)

/* A context that is memory alone; kd_fuzz_end() claims that all has been given back. */
kdas_context *kd_fuzz_begin(void);
void          kd_fuzz_end(void);
/* A context on the CPU with one thread, made once. */
kdas_context *kd_fuzz_device(void);
/* Bytes that it has given out. */
size_t kd_fuzz_used(void);

/* A regular file with these bytes, until the next call. */
const char *kd_fuzz_file(const uint8_t *data, size_t size);
/* "<folder>/name", in a folder of this process that is removed at its end. The last four stay valid. */
const char *kd_fuzz_path(const char *name);
/* Claim that the status is KDAS_OK or one that bad bytes may give: KDAS_EFORMAT, KDAS_ENOMEM or `other`; and that a
 * failure has a sentence. True: KDAS_OK. */
bool kd_fuzz_refused_well(kdas_status st, kdas_status other);

/* Where seeds go: one file each. */
extern void (*kd_fuzz_keep_seed)(const char *name, const uint8_t *data, size_t size);
void kd_fuzz_seed(const char *name, const void *data, size_t size);
void kd_fuzz_seed_file(const char *name, const char *path);

/* An input that is read as numbers; after its end all are 0. */
typedef struct kd_fuzz_bytes {
    const uint8_t *at, *end;
} kd_fuzz_bytes;
uint8_t  kd_fuzz_byte(kd_fuzz_bytes *b);
uint64_t kd_fuzz_number(kd_fuzz_bytes *b, int bytes); /* little-endian */
/* Up to `max` bytes as a text without NUL, into `to` of max + 1; a byte before them says how many. */
const char *kd_fuzz_some_text(kd_fuzz_bytes *b, char *to, size_t max);
/* A number at and beyond the edges of 32 and 64 bits, or any. */
int64_t kd_fuzz_whole(kd_fuzz_bytes *b);
double  kd_fuzz_real(kd_fuzz_bytes *b);

/* ---- repair.c: mutators for files that check themselves ---- */

size_t kd_fuzz_mutate_png(uint8_t *data, size_t size, size_t max, unsigned seed,
                          kd_fuzz_mutator *any);
size_t kd_fuzz_mutate_safetensors(uint8_t *data, size_t size, size_t max, unsigned seed,
                                  kd_fuzz_mutator *any);
size_t kd_fuzz_mutate_zip(uint8_t *data, size_t size, size_t max, unsigned seed,
                          kd_fuzz_mutator *any);

/* ---- small.c: a small network that files of weights are loaded into ---- */

/* Read all that the library says about a file of weights, then load it with options that depend on `how`. Claims that
 * a load that fails changes nothing. */
void kd_fuzz_load_as(const char *path, unsigned how);
/* The same for files with tensors as a network has them, and for one in eight of the others: to say what they are, the
 * library builds all networks that it knows. */
void kd_fuzz_load(const char *path, const uint8_t *data, size_t size, int64_t tensors);
/* The same network in a new context-wide handle: for seeds. */
kdas_model *kd_fuzz_small_model(kdas_context *ctx);

#endif
