/* op_run.h - runs one case of op_cases.h on one kernel of any backend, and hunts for broken
 * promises: memory that a kernel may not read holds NaN (out before forward, scratch, gradients
 * that it sets, operands that it did not list in `needs`), memory that it may not write is
 * compared afterwards, and every block ends with a guard. */
#ifndef KD_TEST_OP_RUN_H
#define KD_TEST_OP_RUN_H
#include "op/op.h"
#include "support/op_cases.h"

typedef struct kd_op_place {
    const kdas_backend *backend; /* whose memory and enter/leave; NULL: host memory */
    kdas_device        *device;
} kd_op_place;

typedef struct kd_op_options {
    /* Gradients start from known values, which the kernel adds to; else they start unknown
     * (KDAS_KERNEL_SETS) or at zero. */
    bool add;
    bool forward_only; /* no gradient is wanted                                       */
    bool inplace;      /* where allowed: out in in[0]'s memory, din[0] in dout's      */
    /* KDAS_BF16 or KDAS_F16: activations (and their gradients) hold values that this type can: on a
     * backend's kernel, in this type; on the reference, in f32. Host arrays are float all the same.
     * 0: everything is f32. */
    int32_t  half;
    uint64_t seed; /* for call->seed                                              */
} kd_op_options;

struct kd_op_block; /* device memory with its guard */

/* A case in progress. The arrays are host memory: values to upload before, results after. */
typedef struct kd_op_run {
    const kd_op_case  *test;
    const kdas_kernel *kernel;
    kdas_node_desc     node;
    bool               supported;      /* what the kernel's supports() said; else nothing ran */
    float        *in[KDAS_MAX_INPUTS]; /* may be changed between runs; state inputs are updated */
    void         *out;                 /* float, or one double (SUM_SQUARES)                  */
    float        *dout;
    float        *din[KDAS_MAX_INPUTS]; /* NULL: not wanted                                    */
    kd_op_options options;
    kd_op_place   place;
    kdas_plan     plan;
    kdas_call     call;
    struct kd_op_block *blocks;
    int                 block_count;
} kd_op_run;

/* The node of a case, as a backend's kernel under `options` (NULL: all 0) gets it. */
kdas_status kd_op_node(kdas_node_desc *node, const kd_op_case *test, const kd_op_options *options);
/* Whether devices need a kernel for the op: a RESHAPE is another name of its operand, and the host does an EXCHANGE. */
static inline bool kd_op_needs_kernel(int32_t op)
{
    return op != KDAS_OP_RESHAPE && op != KDAS_OP_EXCHANGE;
}
/* The first row of a backend's table that can do a node, as the library would choose; NULL: none can. */
const kdas_kernel *kd_op_kernel_for(const kdas_backend *backend, kdas_device *device,
                                    const kdas_node_desc *node);

/* Infer, fill, prepare. `kernel` NULL: the reference; `place` and `options` NULL: host memory,
 * all 0. Close it also after a failure. */
kdas_status kd_op_open(kd_op_run *run, const kd_op_case *test, const kdas_kernel *kernel,
                       const kd_op_place *place, const kd_op_options *options);
/* Upload the inputs, pack, run forward, bring `out` and state inputs back. */
kdas_status kd_op_forward(kd_op_run *run);
/* Run backward on what forward left, bring `din` back. */
kdas_status kd_op_backward(kd_op_run *run);
void        kd_op_close(kd_op_run *run);

/* All of it: open, forward and, unless nothing is wanted, backward. */
kdas_status kd_op_run_case(kd_op_run *run, const kd_op_case *test, const kdas_kernel *kernel,
                           const kd_op_place *place, const kd_op_options *options);

/* Compare out, updated states and gradients of two runs of a case. A negative tolerance: same bits.
 * False: `why` receives a sentence with the worst element. */
bool kd_op_same(const kd_op_run *got, const kd_op_run *want, double tolerance, char *why,
                size_t size);

/* Bytes of an operand of this shape; bit mask of inputs that the case's op writes. */
size_t   kd_op_bytes(const kdas_desc *desc);
uint32_t kd_op_state(const kd_op_case *test);
/* The reference kernel of an op or an update. */
const kdas_kernel *kd_op_reference(int32_t op);

#endif
