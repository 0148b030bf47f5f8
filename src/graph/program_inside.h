/* program_inside.h - the inside of a program, for compile.c, fuse.c, fold.c, plan.c and run.c alone. */
#ifndef KD_PROGRAM_INSIDE_H
#define KD_PROGRAM_INSIDE_H
#include "graph/graph_inside.h"
#include "graph/profile.h"
#include "graph/program.h"

/* A stretch of memory with a life, in ticks: forward of node i at i, the caller's turn at `nodes`,
 * backward of node i at 2 * nodes - i. plan.c gives it a place in the arena. */
typedef struct kd_storage {
    size_t bytes, offset;
    int    first, last; /* ticks; first > last: never used  */
    bool   bound;       /* the caller's memory is used      */
    float *memory;
} kd_storage;

/* What a program keeps for each node. Storages are indices, -1: none. */
typedef struct kd_slot {
    /* NULL: an input, a parameter, or nothing to run (reshape, folded norm) */
    const kdas_kernel *kernel;
    kdas_plan          plan;
    int  root;  /* the node whose memory this one's value is (itself, or what it reshapes) */
    int  value; /* storage of the value           */
    int  grad;  /* storage of the gradient        */
    int  saved, packed, work_forward, work_backward;
    bool zero_grad;   /* the gradient is zeroed before its first writer adds into it */
    int  grad_writer; /* node whose backward writes the gradient first, -1: none, or the caller */
    int  fold;        /* index in program->fold for conv and linear with a folded norm, -1 */
    uint32_t  add;    /* call->add of the backward                                         */
    bool      given;  /* kd_program_backward_of(): something has been put in its gradient  */
    kdas_call forward, backward;
} kd_slot;

/* A batch norm folded into the convolution or linear before it: w' = w s, b' = b s + t. */
typedef struct kd_fold {
    int    node, norm;
    float *weight, *bias; /* device memory */
} kd_fold;

struct kd_program {
    kdas_context *ctx;
    kd_graph     *graph;
    int           nodes;
    kd_slot      *slot;
    kd_storage   *storage;
    size_t        storages, storage_capacity;
    kd_fold      *fold;
    size_t        folds, fold_capacity;
    kd_arena     *arena;
    uint64_t      arena_moves; /* of the arena when pointers were last set */
    size_t        arena_bytes; /* of it that this program uses             */
    char         *packed;
    size_t        packed_bytes;
    uint64_t      version, stats_version; /* of the parameters when last packed */

    kd_profile_slot *profile;   /* for each node; NULL until it ran with the profile on */
    char             label[96]; /* what the profile calls it                            */
};

struct kd_arena {
    kdas_context     *ctx;
    char             *memory;
    size_t            bytes;
    uint64_t          moves;
    const kd_program *forward_of; /* whose forward it holds, NULL: nobody's */
};

/* fuse.c: one node for chains that the backend can do in one go. */
kdas_status kd_fuse(kd_program *p);
/* fold.c */
kdas_status kd_fold_find(kd_program *p);    /* choose pairs, before kernels are prepared */
kdas_status kd_fold_compute(kd_program *p); /* fill weight and bias                     */
/* plan.c: storages, their lives and places. */
kdas_status kd_plan(kd_program *p);
/* arena.c: make room. */
kdas_status kd_arena_reserve(kd_arena *arena, size_t bytes);
/* run.c: set the pointers in all calls. */
void kd_program_resolve(kd_program *p);

static inline bool kd_has_backward(const kd_program *p) { return p->graph->mode != KD_INFER; }

#endif
