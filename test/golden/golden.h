/* golden.h - running the cases that a manifest.tsv lists, whatever their names and sizes. */
#ifndef KD_GOLDEN_H
#define KD_GOLDEN_H
#include <kdas/kdas.h>
#include <stdbool.h>
#include <stdio.h>

#define GOLDEN_TEXT 160

/* One line of the manifest: a kind, the name of its files, and parameters. */
typedef struct golden_case {
    kdas_context *ctx;
    const char   *folder;
    bool          reference; /* the device runs the reference kernels */
    char          kind[GOLDEN_TEXT], name[GOLDEN_TEXT];
    char          key[24][GOLDEN_TEXT], value[24][GOLDEN_TEXT];
    int           pairs;
    double        worst; /* largest error, as a share of its bound's unit */
    double        bound;
    char          where[GOLDEN_TEXT]; /* what was worst */
} golden_case;

/* Parameters of the case; a missing one ends the case: *ok becomes false. */
const char *golden_text(const golden_case *c, const char *key, bool *ok);
int64_t     golden_int(const golden_case *c, const char *key, bool *ok);
double      golden_real(const golden_case *c, const char *key, bool *ok);

/* The bound of a case that runs networks, for what they compute in: bf16 has 7 bits of fraction, f16 and
 * TF32 have 10. */
static inline double golden_bound(const golden_case *c, double f32, double bf16)
{
    switch (kdas_context_precision(c->ctx)) {
    case KDAS_PRECISION_F32: return f32;
    case KDAS_PRECISION_BF16: return bf16;
    default: return bf16 / 8;
    }
}

/* What losses are multiplied by before backward, so that f16 has gradients as small as those of these cases.
 * Less than a run starts with: an overflow here is not to be skipped. */
static inline float golden_scale(const golden_case *c)
{
    return kdas_context_precision(c->ctx) == KDAS_PRECISION_F16 ? 1024.0f : 1.0f;
}

/* Note an error; the largest one is printed. */
void golden_note(golden_case *c, double error, const char *where);

/* A table of the folder, "name.tsv": rows of columns, '#' lines passed over. NULL: cannot be read. */
typedef struct golden_table {
    int   rows, columns[4096];
    char *cell[4096][6];
    char *text;
} golden_table;
golden_table *golden_read_table(const golden_case *c, const char *name);
void          golden_free_table(golden_table *t);
/* Row whose first cell is `key`, -1: none. */
int golden_row(const golden_table *t, const char *key);

/* A tensor of "name.safetensors" as floats; the caller frees it. NULL: cannot be read. */
float *golden_tensor(const golden_case *c, const char *name, const char *tensor, int64_t *count,
                     int64_t dims[4]);

/* Compare a tensor (in PyTorch's order) with a row's sum, L2 norm and probe: the errors relative to the norm (for
 * the sum and the probe, to norm * sqrt(n / 3), their size for a random tensor, times the bound). */
double golden_digest_error(const golden_table *t, int row, const char *key, const float *values,
                           int64_t n);

/* Fill a model's tensors as the reference's fill_model does. */
kdas_status golden_fill_model(kdas_model *model, const char *prefix);
/* Images drawn by name into a new batch, and ellipses as its masks unless `mask` is NULL. */
kdas_status golden_batch(kdas_batch **out, const golden_case *c, const char *image,
                         const char *mask, int64_t n, int64_t h, int64_t w);

/* The kinds; true: ran to the end (the errors are then judged), false: could not run, and why is printed. */
bool golden_forward(golden_case *c);
bool golden_losses(golden_case *c);
bool golden_grad(golden_case *c);
bool golden_adamw(golden_case *c);
bool golden_objective(golden_case *c);
bool golden_guidance(golden_case *c);
bool golden_feature(golden_case *c);
bool golden_metrics(golden_case *c);
bool golden_resize(golden_case *c);

/* Say why a case could not run; returns false. */
bool golden_stop(const golden_case *c, const char *why);
#define GOLDEN_DO(c, call)                     \
    do {                                       \
        if ((call) != KDAS_OK) {               \
            golden_stop(c, kdas_last_error()); \
            goto done;                         \
        }                                      \
    } while (0)

#endif
