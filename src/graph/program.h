/* program.h - a compiled graph: a flat list of prepared kernels over one planned arena. */
#ifndef KD_PROGRAM_H
#define KD_PROGRAM_H
#include "graph/device.h"
#include "graph/graph.h"

typedef struct kd_program kd_program;

/* The limit on programs that an owner keeps for its sizes. The least recently used one is
 * dropped first. */
enum { KD_PROGRAMS_MOST = 32 };

/* Memory that several programs share. It grows to the largest need. A program's contents are
 * lost once another has run. The arena must outlive its programs. */
typedef struct kd_arena kd_arena;
kd_arena               *kd_arena_create(kdas_context *ctx);
void                    kd_arena_destroy(kd_arena *arena);
/* Free the memory if it is larger than `bytes`. Its contents are lost. The next run allocates
 * what it needs. */
void kd_arena_trim(kd_arena *arena, size_t bytes);

/* Compile the graph. Ownership of the graph passes to the program, also on failure. In a program
 * with a backward, the gradients of the outputs are inputs of that backward: see
 * kd_program_grad(). */
kdas_status kd_program_create(kd_program **out, kd_graph *g, kd_arena *arena);
void        kd_program_destroy(kd_program *p);
kd_graph   *kd_program_graph(kd_program *p);
/* The program's name in the profile: "polyp_pvt_b0 train 16x352x352". */
void kd_program_label(kd_program *p, const char *format, ...) KD_PRINTF(2, 3);

/* Device memory of a kept node (input, output, kept tap): its value, and its gradient (NULL: it
 * has none). It moves when another program makes the arena grow, so call again for each step. */
float *kd_program_value(kd_program *p, const kd_node *node);
float *kd_program_grad(kd_program *p, const kd_node *node);

/* Bind an input's value to caller-owned memory: before the first run, and again at any time. The
 * gradient is in the arena, or in caller-owned memory if `grad` is not NULL. */
void kd_program_bind(kd_program *p, const kd_node *input, float *value, float *grad);

/* Look at the operand of every QUANTIZE that a forward runs, just before it runs: `value` is in device
 * memory, of the node's first operand. A failure ends the forward. The program then runs node by
 * node, without graphs of the device. `watch` NULL: no more. For graphs of kd_graph_watch_grids(). */
typedef kdas_status (*kd_watch_fn)(void *user, const kd_node *node, const float *value);
void kd_program_watch(kd_program *p, kd_watch_fn watch, void *user);

/* Run. `seed` decides random draws. Backward accumulates into the parameters' gradients, and
 * sets those of the inputs. The caller writes the gradients of outputs and kept taps before
 * backward. */
/* Over ranks (kd_graph_use_ranks) all run the same program: a forward or backward that fails on one before its last exchange
 * fails on all. */
kdas_status kd_program_forward(kd_program *p, uint64_t seed);
kdas_status kd_program_backward(kd_program *p);
/* Backward of one output only. The gradients at other outputs are ignored. The graph must keep
 * its tape. It may run any number of times after a forward. Inputs that the output does not
 * depend on get zeros. */
kdas_status kd_program_backward_of(kd_program *p, const kd_node *output);
/* KDAS_ESTATE where no backward can follow: it has already run, the forward was for inference,
 * or another program has run since. */
kdas_status kd_program_check_backward(const kd_program *p);
/* Whether the outputs and kept taps of the last forward are still in the arena. They are if the
 * forward succeeded, and no other program has run in the arena or made it grow. */
bool kd_program_holds(const kd_program *p);

/* Bytes: the arena, the kernels' packs, and the sum of all buffers without sharing. */
typedef struct kd_program_memory {
    size_t arena, packed, unshared;
} kd_program_memory;
kd_program_memory kd_program_memory_use(const kd_program *p);

#endif
