/* program.h - a compiled graph: a flat list of prepared kernels over one planned arena. */
#ifndef KD_PROGRAM_H
#define KD_PROGRAM_H
#include "graph/graph.h"

typedef struct kd_program kd_program;

/* Compile and keep the graph (it belongs to the program, also on failure). A program with a backward has
 * the gradients of its outputs as inputs of that backward: see kd_program_grad(). */
kdas_status kd_program_create(kd_program **out, kd_graph *g);
void        kd_program_destroy(kd_program *p);
kd_graph   *kd_program_graph(kd_program *p);

/* Device memory of a kept node (input, output, kept tap): its value, and its gradient (NULL: it has none). */
float *kd_program_value(kd_program *p, const kd_node *node);
float *kd_program_grad(kd_program *p, const kd_node *node);

/* Let an input live in memory of the caller instead of the arena; again at any time. `grad` may be NULL:
 * the gradient then stays in the arena, or is dropped if the input wants none. */
void kd_program_bind(kd_program *p, const kd_node *input, float *value, float *grad);

/* Run. `seed` decides random draws. Backward adds into the parameters' gradients, and sets those of the
 * inputs. Gradients of outputs and kept taps are what the caller last put there. */
kdas_status kd_program_forward(kd_program *p, uint64_t seed);
kdas_status kd_program_backward(kd_program *p);

/* Bytes: the arena, what kernels keep packed, and the sum of all buffers without any sharing. */
typedef struct kd_program_memory {
    size_t arena, packed, unshared;
} kd_program_memory;
kd_program_memory kd_program_memory_use(const kd_program *p);

/* Device helpers over the context's backend. */
void       *kd_device_alloc(kdas_context *ctx, size_t bytes);
void        kd_device_free(kdas_context *ctx, void *memory);
kdas_status kd_device_upload(kdas_context *ctx, void *to, const void *from, size_t bytes);
kdas_status kd_device_download(kdas_context *ctx, void *to, const void *from, size_t bytes);
kdas_status kd_device_zero(kdas_context *ctx, void *memory, size_t bytes);
/* Run an UPDATE kernel of the device, or its reference. */
kdas_status kd_device_update(kdas_context *ctx, int32_t op, const kdas_call *call);

#endif
