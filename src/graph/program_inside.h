/* program_inside.h - the internals of a program, for compile.c, fuse.c, fold.c, plan.c and run.c
 * only. */
#ifndef KD_PROGRAM_INSIDE_H
#define KD_PROGRAM_INSIDE_H
#include "graph/graph_inside.h"
#include "graph/pack.h"
#include "graph/profile.h"
#include "graph/program.h"

/* A buffer and its liveness interval in ticks. Forward of node i is tick i, the caller's access
 * is tick `nodes`, backward of node i is tick 2 * nodes - i. plan.c assigns its offset in the
 * arena. */
typedef struct kd_storage {
    size_t bytes, offset;
    int    first, last; /* ticks; first > last: never used  */
    bool   bound;       /* caller-owned memory is used      */
    float *memory;
} kd_storage;

enum { KD_BLOCK_LAYERS = 3 };

/* Per-node data of a program. Storages are indices; -1: none. */
typedef struct kd_slot {
    /* NULL: an input, a parameter, or nothing to run (reshape, folded norm) */
    const kdas_kernel *kernel;
    kdas_plan          plan;
    kd_pack           *pack; /* NULL: nothing is packed or folded */
    int  root;  /* the node whose memory holds this value (itself, or a reshape's operand) */
    int  value; /* storage of the value           */
    int  grad;  /* storage of the gradient        */
    int  saved, packed, work_forward, work_backward;
    bool zero_grad;   /* the gradient is zeroed before its first writer adds into it */
    int  grad_writer; /* node whose backward writes the gradient first, -1: none, or the caller */
    int  fold;        /* index in program->fold for conv and linear with a folded norm, -1 */
    int  draw;        /* index in program->seed of a node that draws; -1: it does not      */
    uint32_t  add;    /* call->add of the backward                                         */
    bool      grad_written; /* kd_program_backward_of(): its gradient has been written           */
    int       layer[KD_BLOCK_LAYERS]; /* the layers of a fused block, -1: it is none               */
    kdas_call forward, backward;
} kd_slot;

/* Weights that a layer reads changed. They are rounded to 8 bits, if the node says so. Then a batch
 * norm is folded into the convolution or linear layer before it: w' = w s, b' = b s + t. The node's
 * pack holds the result. */
typedef struct kd_fold {
    int node, norm; /* norm -1: none                                       */
    int weight;     /* the operand of the node; the bias is the next one */
} kd_fold;

/* The parts of a program. Each is captured separately. */
typedef enum kd_capture_part {
    KD_CAPTURE_FORWARD,
    KD_CAPTURE_BACKWARD,
    KD_CAPTURE_PARTS
} kd_capture_part;

/* One captured part. The first run is plain, the second is captured, later ones launch the
 * graph. */
typedef struct kd_capture {
    void *graph; /* the backend's; NULL: none yet */
    bool  ran;   /* a plain run has succeeded     */
} kd_capture;

/* The graphs of a program for one set of caller-owned memory. A graph holds addresses, and
 * callers alternate between sets: two slots for batches, or the maps of an objective one after
 * the other. */
typedef struct kd_capture_set {
    float    **bound; /* caller-owned memory of program->bindable; NULL: in the arena */
    kd_capture part[KD_CAPTURE_PARTS];
    uint64_t   used; /* time of last use; 0: never */
} kd_capture_set;
enum { KD_CAPTURE_SETS = 16 };

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
    uint64_t      arena_moves;            /* count of the arena when pointers were last set */
    size_t        arena_bytes;            /* part that this program uses              */
    size_t        packed_bytes;           /* of all packs, shared or not            */
    uint64_t      version, stats_version; /* of the parameters when last packed */

    uint64_t *seed, *device_seed; /* one for each node that draws: host memory, device memory */
    int       draws;

    /* KD_CAPTURE_SETS of them. NULL: the device has no graphs, or this program cannot be
     * captured, as one with exchanges cannot. */
    kd_capture_set *capture;
    float         **capture_bound;
    int            *bindable; /* storages that may be caller-owned */
    int             bindable_count;
    uint64_t        capture_clock;
    kd_capture      pack_capture; /* packs of parameters, never caller-owned */

    struct kd_exchanges *exchanges; /* exchange.h; NULL: its graph has no EXCHANGE */

    kd_watch_fn watch; /* kd_program_watch(); NULL: nobody watches */
    void       *watch_user;

    const struct kd_gradient_watch *gradients; /* buckets.h; NULL: nobody watches */
    int *final; /* by bucket: the first node that reads one of its parameters */
    int  final_room, told;

    kd_profile_slot *profile;   /* for each node; NULL until it ran with the profile on */
    char             label[96]; /* its name in the profile                              */
};

struct kd_arena {
    kdas_context     *ctx;
    char             *memory;
    size_t            bytes;
    uint64_t          moves;
    const kd_program *values_of;  /* program whose outputs it holds; NULL: none           */
    const kd_program *forward_of; /* program whose backward can follow; NULL: none */
};

/* fuse.c: one node for a chain that the backend can run as one kernel. */
kdas_status kd_fuse(kd_program *p);
/* fold.c */
kdas_status kd_fold_find(kd_program *p);    /* choose pairs, before kernels are prepared */
kdas_status kd_fold_rounded(kd_program *p); /* add the layers that are only rounded      */
kdas_status kd_fold_compute(kd_program *p); /* fill outdated weights and biases          */
/* lower.c: activations go into the layers before them, and layers on grids become integer nodes, where
 * the backend has kernels for them. */
kdas_status kd_lower(kd_program *p);
/* inverted.c: one node for a block of layers that the backend can run as one kernel. */
kdas_status kd_fuse_blocks(kd_program *p);
/* Is `reader` alone in reading the value of `from`, and is the value read by no caller? */
bool kd_reads_alone(const kd_program *p, const kd_node *reader, const kd_node *from);
/* Whether the program computes with integers. */
static inline bool kd_has_integers(const kd_program *p)
{
    return p->graph->grids && !p->graph->watched && p->graph->mode == KD_INFER && p->ctx->integer;
}
/* The number of operands that read `of`. */
int kd_readers(const kd_program *p, const kd_node *of);
/* run.c: whether the pack of node i, if any, matches the current parameters. */
bool kd_pack_current(const kd_program *p, int i);
/* plan.c: storages, their intervals and offsets. */
kdas_status kd_plan(kd_program *p);
/* arena.c: reserve memory. */
kdas_status kd_arena_reserve(kd_arena *arena, size_t bytes);
/* run.c: set the pointers in all calls. Captures are discarded if the arena has moved. */
void kd_program_resolve(kd_program *p);
/* capture.c: allocate graphs and seeds, if the device has graphs. Call after planning. */
kdas_status kd_captures_create(kd_program *p);
void        kd_captures_destroy(kd_program *p);
void        kd_captures_drop(kd_program *p); /* discard all captures */
/* Run a part, or the packing. Launches its graph if there is one, and captures it after one
 * plain run. */
typedef kdas_status (*kd_run_fn)(kd_program *p);
kdas_status kd_capture_run(kd_program *p, kd_capture_part part, kd_run_fn run);
kdas_status kd_capture_pack(kd_program *p, kd_run_fn run);
/* buckets.c: the backward of node i comes next. Only where p->gradients is set. */
void kd_program_tell_gradients(kd_program *p, int i);
/* Set the seed of each node that draws, for this forward. */
kdas_status kd_program_seed(kd_program *p, uint64_t seed);

static inline bool kd_has_backward(const kd_program *p) { return p->graph->mode != KD_INFER; }

#endif
