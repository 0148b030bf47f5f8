/* param.h - a model's parameters: one list of names, one flat block of values on the device, and
 * one block of gradients for the trainable ones. Values keep PyTorch's order. */
#ifndef KD_PARAM_H
#define KD_PARAM_H
#include <kdas/backend.h>
#include "base/context.h"

typedef enum kd_init_rule {
    KD_INIT_ZERO,
    KD_INIT_ONE,
    KD_INIT_NORMAL,    /* mean 0, standard deviation a                     */
    KD_INIT_UNIFORM,   /* within +-a                                       */
    KD_INIT_TRUNCATED, /* NORMAL, but drawn again where it is beyond 2a  */
} kd_init_rule;

typedef enum kd_param_kind {
    KD_TRAINABLE, /* has a gradient; the first part of the block */
    KD_BUFFER,    /* running statistics                          */
    KD_IDLE,   /* in files and in the number of parameters, but read by no op and never trained */
    KD_COUNTER /* training batches seen: one number, kept on the host, int64 in files */
} kd_param_kind;

typedef struct kd_init {
    kd_param_kind kind;
    kd_init_rule  rule;
    float         a;
    bool          idle; /* a buffer or counter of a part that never runs: no batch changes it */
} kd_init;

typedef struct kd_param_entry {
    char   *name;
    int     rank;
    int64_t dim[KDAS_MAX_DIMS]; /* trailing ones */
    int64_t count;              /* elements      */
    int64_t offset;             /* in elements: into values, and into grads if trainable */
    kd_init init;
    int64_t counter; /* the value of a KD_COUNTER */
    bool    undrawn; /* its initial value is still to be drawn */
} kd_param_entry;

typedef struct kd_params kd_params;

kdas_status kd_params_create(kd_params **out, kdas_context *ctx);
void        kd_params_destroy(kd_params *p);

/* Index of `name`. A new name is added if the list is not sealed. Returns a negative status and
 * sets the message if the shape differs from the known one, if the name is new and the list
 * sealed, or if memory runs out. */
int kd_params_declare(kd_params *p, const char *name, kd_init init, int rank, const int64_t *dims);
int kd_params_find(const kd_params *p, const char *name); /* -1: none */
/* Whether no op reads it: a parameter, buffer or counter of a part that never runs. */
static inline bool kd_param_is_idle(const kd_param_entry *e)
{
    return e->init.kind == KD_IDLE || e->init.idle;
}

/* Whether it is the range of a grid (kd_on_grid). */
bool kd_param_is_range(const kd_param_entry *e);
bool kd_is_range_name(const char *name); /* by its name alone */

/* Seal the list and allocate the blocks. Values are zero until initialised. */
kdas_status kd_params_seal(kd_params *p, bool gradients);
/* Draw initial values. The same seed gives the same values in any order of names. In host memory
 * a value is drawn when it is first needed: one that is written before, from a file, never is. */
kdas_status kd_params_init(kd_params *p, uint64_t seed);

int                   kd_params_count(const kd_params *p);
const kd_param_entry *kd_params_at(const kd_params *p, int i);
int64_t kd_params_numbers(const kd_params *p);   /* trainable and idle, sealed or not   */
int64_t kd_params_trainable(const kd_params *p); /* elements of the block of gradients */
int64_t kd_params_running(const kd_params *p);   /* elements that training forwards change: they
                                                    follow the trainable ones            */
int64_t kd_params_total(const kd_params *p);     /* elements of the block of values    */

float *kd_params_values(kd_params *p); /* device memory, total elements     */
float *kd_params_grads(
    kd_params *p); /* device memory, trainable elements; NULL without gradients */

/* Increased when values change, so that kernels repack their copies. */
uint64_t kd_params_version(const kd_params *p);
void     kd_params_touch(kd_params *p);
void     kd_params_touch_update(kd_params *p); /* the same, by an update of finite gradients */
/* The same for the buffers only. A training forward changes them. */
uint64_t kd_params_stats_version(const kd_params *p);
void     kd_params_touch_stats(kd_params *p);

/* KDAS_ENUMERIC, with the names of the network and of the tensor, where a value that ops read is not
 * finite. Values are looked at once after each change, other calls cost nothing. `training`: those
 * that updates and training forwards have made since are not looked at, since the gradients and the
 * loss of a step are. (param_check.c) */
kdas_status kd_params_check(kd_params *p, const char *network, bool training);

/* Set all gradients to zero. `label` is the row's name in the profile. */
kdas_status kd_params_zero_grads(kd_params *p, const char *label);
/* Call when a backward has failed. The gradients are then incomplete and must not be used until
 * they are zeroed. */
void kd_params_spoil_grads(kd_params *p);
bool kd_params_grads_spoilt(const kd_params *p);

/* Add one to every KD_COUNTER that is not idle. */
void kd_params_count_up(kd_params *p);
/* All counters, by index. Other entries are skipped. */
void kd_params_read_counters(const kd_params *p, int64_t *to);
void kd_params_write_counters(kd_params *p, const int64_t *from);

/* The list of packs of these parameters (pack.h). */
struct kd_pack **kd_params_packs(kd_params *p);

/* Copies between an entry (or its gradient) and host memory. */
kdas_status kd_params_read(kd_params *p, int i, float *to);
kdas_status kd_params_read_grad(kd_params *p, int i, float *to);
kdas_status kd_params_write(kd_params *p, int i, const float *from);
/* What an entry of KD_COUNTER can be written with: a number of batches, 0 to 2^53. */
bool kd_is_counter_value(float value);

#endif
