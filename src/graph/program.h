/* program.h - a compiled graph: a flat list of prepared kernels over one planned arena. */
#ifndef KD_PROGRAM_H
#define KD_PROGRAM_H
#include "graph/device.h"
#include "graph/graph.h"

typedef struct kd_program kd_program;

/* Whoever keeps programs of many sizes keeps so many, and lets go of the one that was used longest ago. */
enum { KD_PROGRAMS_MOST = 32 };

/* Memory that several programs use in turn; it grows to the largest need. What a program left in it is gone
 * once another has run. It must outlive its programs. */
typedef struct kd_arena kd_arena;
kd_arena               *kd_arena_create(kdas_context *ctx);
void                    kd_arena_destroy(kd_arena *arena);
/* Give the memory back if it is more than `bytes`, with what lies in it; the next run takes what it needs. */
void kd_arena_trim(kd_arena *arena, size_t bytes);

/* Compile and keep the graph (it belongs to the program, also on failure). A program with a backward has
 * the gradients of its outputs as inputs of that backward: see kd_program_grad(). */
kdas_status kd_program_create(kd_program **out, kd_graph *g, kd_arena *arena);
void        kd_program_destroy(kd_program *p);
kd_graph   *kd_program_graph(kd_program *p);
/* What the profile calls it: "polyp_pvt_b0 train 16x352x352". */
void kd_program_label(kd_program *p, const char *format, ...) KD_PRINTF(2, 3);

/* Device memory of a kept node (input, output, kept tap): its value, and its gradient (NULL: it has none).
 * It moves when another program makes the arena grow: ask again for each step. */
float *kd_program_value(kd_program *p, const kd_node *node);
float *kd_program_grad(kd_program *p, const kd_node *node);

/* An input's value lives in memory of the caller: lend it before the first run, and again at any time. Its
 * gradient is in the arena, unless `grad` (may be NULL) lends memory for it. */
void kd_program_bind(kd_program *p, const kd_node *input, float *value, float *grad);

/* Run. `seed` decides random draws. Backward adds into the parameters' gradients, and sets those of the
 * inputs. Gradients of outputs and kept taps are what the caller last put there. */
kdas_status kd_program_forward(kd_program *p, uint64_t seed);
kdas_status kd_program_backward(kd_program *p);
/* Backward of one output alone, whatever lies at the others, where the graph keeps its tape: any number of
 * times after a forward. Inputs that the output does not depend on get zeros. */
kdas_status kd_program_backward_of(kd_program *p, const kd_node *output);
/* KDAS_ESTATE where no backward can follow: it had one, or was for inference, or others have run since. */
kdas_status kd_program_check_backward(const kd_program *p);
/* Whether outputs and kept taps of its last forward are still in the arena: no other program has run there, or made it
 * grow, and the forward did not fail. */
bool kd_program_holds(const kd_program *p);

/* Bytes: the arena, what kernels keep packed, and the sum of all buffers without any sharing. */
typedef struct kd_program_memory {
    size_t arena, packed, unshared;
} kd_program_memory;
kd_program_memory kd_program_memory_use(const kd_program *p);

#endif
