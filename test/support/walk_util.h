/* walk_util.h - a random walk over the public handles, and the small model of them that knows which status each call must
 * give. walk_util.c: the world, and what makes and destroys handles. walk_calls.c and
 * walk_distill.c: what is done with them. walk_fault.c: calls whose memory runs out. */
#ifndef KD_TEST_WALK_UTIL_H
#define KD_TEST_WALK_UTIL_H
#include <kdas/kdas.h>
#include <stdbool.h>
#include "base/base.h"
#include "support/run_util.h"

enum { WALK_CONTEXTS = 2, WALK_MODELS = 4, WALK_OF_EACH = 2, WALK_BATCHES = 4 };
enum { WALK_TAPS = 4, WALK_PROGRAMS = 32, WALK_LINES = 24, WALK_LOADERS = 99, WALK_NONE = -1 };

/* A size and mode that a model has compiled, and what it needs of the memory of activations. */
typedef struct walk_program {
    kdas_mode mode;
    int64_t   n, side;
    size_t    arena;
} walk_program;

typedef struct walk_model {
    kdas_model *h;
    int         ctx, users;
    bool        lite, trainable, kept[WALK_TAPS];
    bool values, differentiable; /* of the last forward, still there; a backward can follow */
    bool spoilt;                 /* a backward has failed since the gradients were zeroed   */
    long generation, zeroed; /* move with each forward, and whenever values go; with each zeroing */
    size_t       arena;
    walk_program program[WALK_PROGRAMS];
    int          programs;
    uint64_t     seen; /* kdas_model_generation() before the call */
    int batch; /* that the last forward read, and a backward can; WALK_LOADERS: the loader's; WALK_NONE */
    bool ran; /* there was a forward */
} walk_model;

typedef struct walk_loss {
    kdas_loss *h;
    int        ctx, users;
    bool       maps, features; /* that it needs of a teacher */
} walk_loss;

typedef struct walk_optim {
    kdas_optim *h;
    int         model, users;
    bool        beside; /* trains projections, too */
} walk_optim;

typedef struct walk_distiller {
    kdas_distiller *h;
    int             teacher, student, loss, optim;
    bool            pending;           /* a forward waits for its backward        */
    int             batch;             /* that the forward read                   */
    long            reads[2];          /* generations that it needs; -1: not      */
    int             micro, accumulate; /* gathered, and wanted                    */
    long            zeroed;            /* of the student, when gathering began    */
    int             saved;             /* micro-batches in its checkpoint; -1: none */
    int given; /* images that the maps set for the next forward are of; 0: none are set */
} walk_distiller;

typedef struct walk_segmenter {
    kdas_segmenter *h;
    int             model;
    int64_t         side;
} walk_segmenter;

typedef struct walk_batch {
    kdas_batch *h;
    int         ctx;
    int64_t     n, side;
} walk_batch;

typedef struct walk_loader {
    kdas_dataset *frames;
    kdas_loader  *h;
    int           ctx;
    kdas_batch   *got; /* of the last call, and the distiller that is to step on it next */
    int           at;
} walk_loader;

/* The allocation of a call that fails. */
typedef struct walk_fault {
    bool on;      /* this walk has failures */
    long k;       /* that one of the call, from 1; 0: none */
    bool after;   /* and all after it, until the call ends */
    bool failed;  /* the call gave KDAS_ENOMEM */
    bool again;   /* it is made again, with the same choices */
    int  redo;    /* the batch to forward again before a backward is made again; WALK_NONE */
    bool differs; /* micro-batches were dropped: results are not those of a walk without failures */
    long failures; /* calls that gave KDAS_ENOMEM */
    long unharmed; /* calls that gave what they must although an allocation failed */
} walk_fault;

typedef struct kd_test_walk {
    kd_random      r;
    const uint8_t *choice; /* bytes that choose instead, so many; NULL: none. After them all is 0 */
    size_t         choices;
    uint64_t       seed;
    kd_test_meter  meter[WALK_CONTEXTS];
    kdas_context  *ctx[WALK_CONTEXTS];
    bool           cancelled[WALK_CONTEXTS];
    walk_model     model[WALK_MODELS];
    walk_loss      loss[WALK_OF_EACH];
    walk_optim     optim[WALK_OF_EACH];
    walk_distiller distiller[WALK_OF_EACH];
    walk_segmenter segmenter[WALK_OF_EACH];
    walk_batch     batch[WALK_BATCHES];
    walk_loader    loader;
    char           line[WALK_LINES][160]; /* the last calls */
    long           calls, ok;
    char           folder[64];
    walk_fault     fault;
    uint64_t       hash; /* of what was read and reported */
} kd_test_walk;

void kd_test_walk_begin(kd_test_walk *w, uint64_t seed);
void kd_test_walk_step(kd_test_walk *w);
/* The same, but allocation k of the call fails, if it makes so many, and where `after` all that follow. Returns whether the
 * call gave KDAS_ENOMEM. */
bool kd_test_walk_step_without(kd_test_walk *w, long k, bool after);
/* A step in which each `stride`-th allocation fails in turn, from number `first` on, until the call succeeds. */
void kd_test_walk_step_dense(kd_test_walk *w, long first, long stride);
/* A hash of what was read and reported, and of the values of all models. */
uint64_t kd_test_walk_hash(const kd_test_walk *w);
/* Allocations so far. */
long kd_test_walk_allocations(const kd_test_walk *w);
/* Destroy all, and see that all memory has come back. */
void kd_test_walk_end(kd_test_walk *w);

/* ---- walk_util.c, for walk_calls.c ---- */

/* One of n, or of the slots in use; WALK_NONE: there is none. */
int walk_pick(kd_test_walk *w, int n);
int walk_pick_model(kd_test_walk *w);
int walk_pick_batch(kd_test_walk *w);
int walk_pick_distiller(kd_test_walk *w);
/* Note a call down, with its status, and fail the test unless it is the one wanted. Returns false if it is KDAS_ENOMEM
 * because the walk has taken its memory; then the caller applies what such a failure does. */
bool walk_expect(kd_test_walk *w, kdas_status got, kdas_status wanted, const char *format, ...)
    KD_PRINTF(4, 5);
/* The values of a model's forward are gone. */
void walk_lose(walk_model *m);
/* A size was compiled: what it needs of memory may have taken the values. */
void walk_compiled(walk_model *m, kdas_mode mode, int64_t n, int64_t side);
/* A forward was tried, with this status. */
void walk_ran(walk_model *m, int batch, kdas_mode mode, int64_t n, int64_t side, kdas_status st);
/* A batch was changed or destroyed: no backward can read it again. */
void walk_change_batch(kd_test_walk *w, int batch);

/* What a network says of a batch's size. */
static inline kdas_status walk_size_status(const walk_batch *b)
{
    return b->side % 32 ? KDAS_ESHAPE : KDAS_OK;
}

/* ---- walk_calls.c ---- */
void walk_call(kd_test_walk *w);

/* ---- walk_distill.c, for walk_calls.c ---- */
void walk_distiller_forward(kd_test_walk *w);
void walk_distiller_backward(kd_test_walk *w);
void walk_distiller_update(kd_test_walk *w);
void walk_distiller_step(kd_test_walk *w);
void walk_set_maps(kd_test_walk *w);
void walk_checkpoint(kd_test_walk *w);
/* A step of distiller i on batch b, which is number `number`. False: it ran out of memory. */
bool walk_step_on(kd_test_walk *w, int i, const walk_batch *b, int number, bool report);

/* ---- walk_fault.c ---- */

/* Let the allocation fail that is due; a step does it before its first call. */
void walk_arm(kd_test_walk *w);
/* Whether one has failed since; and no more of them. */
bool walk_refused(const kd_test_walk *w);
bool walk_disarm(kd_test_walk *w);
/* Mix bytes into the walk's hash. */
void walk_note(kd_test_walk *w, const void *bytes, size_t count);
/* Look up what is left of a model after a call failed that does not run it: its values, or nothing. */
void walk_look(walk_model *m);
/* The same after one that may have run it so. */
void walk_look_run(walk_model *m, int batch);
/* A hash of a model's values. */
uint64_t walk_weights(const walk_model *m);

#endif
