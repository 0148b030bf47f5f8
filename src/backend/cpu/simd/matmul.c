/* matmul.c - MATMUL: alpha op(a) op(b) for each (image, head) of a (N,H,.,.) and b (N,H,.,.).
 *
 * Forward and both gradients are one strided product. Its task is one matrix and a chunk of its columns; the columns of B are
 * packed into the thread's scratch. */
#include "backend/cpu/simd/gemm.h"

enum { CHUNK = 8 * PANEL };

/* C (M,N) = alpha A (M,K) B (K,N), for `batches` matrices, each dense in memory. */
typedef struct product {
    int64_t      M, N, K, batches;
    const float *a, *b;
    int64_t      rs_a, cs_a, rs_b, cs_b; /* row and column strides of A and B */
    float       *c;                      /* dense                             */
    float        alpha;
    bool         add;
} product;

static size_t part_bytes(int64_t k) { return float_bytes(packed_numel(k, CHUNK)); }

static void run(const product *p, int parts, char *work)
{
    int64_t chunks = ceil_div(p->N, CHUNK), tasks = p->batches * chunks;

#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        float *panels = (float *)(work + (size_t)t * part_bytes(p->K));

        for (int64_t i = part_begin(tasks, t, parts); i < part_begin(tasks, t + 1, parts); i++) {
            int64_t batch = i / chunks, n = i % chunks * CHUNK;
            int64_t cols = p->N - n < CHUNK ? p->N - n : CHUNK;

            pack_panels(panels, p->b + batch * p->K * p->N + n * p->cs_b, p->K, cols, p->rs_b,
                        p->cs_b, p->alpha);
            gemm(p->M, cols, p->K, p->a + batch * p->M * p->K, p->rs_a, p->cs_a, panels, NULL,
                 p->c + batch * p->M * p->N + n, p->N, store_mode_of(p->add));
        }
    }
}

static product forward_product(const kdas_node_desc *node)
{
    const kdas_matmul_attr *attr = node->attr;
    const kdas_desc        *a = &node->in[0], *out = &node->out, *b = &node->in[1];

    return (product){
        .M       = out->dim[2],
        .N       = out->dim[3],
        .K       = a->dim[attr->transpose_a ? 2 : 3],
        .batches = out->dim[0] * out->dim[1],
        .rs_a    = attr->transpose_a ? 1 : a->dim[3],
        .cs_a    = attr->transpose_a ? a->dim[3] : 1,
        .rs_b    = attr->transpose_b ? 1 : b->dim[3],
        .cs_b    = attr->transpose_b ? b->dim[3] : 1,
        .alpha   = attr->alpha,
    };
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    product p       = forward_product(node);
    size_t  threads = (size_t)device->threads;

    plan->work_forward  = threads * part_bytes(p.K);
    plan->work_backward = threads * part_bytes(KD_MAX(KD_MAX(p.M, p.N), p.K));
    return KDAS_OK;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    product p = forward_product(call->node);

    p.a = call->in[0];
    p.b = call->in[1];
    p.c = call->out;
    run(&p, device->threads, call->work);
    return KDAS_OK;
}

/* With G = dout (M,N): the gradient of op(a) is G op(b)^T, that of op(b) is op(a)^T G. The gradient of an operand that is
 * stored transposed is computed transposed. */
static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const product           f    = forward_product(call->node);
    const kdas_matmul_attr *attr = call->node->attr;
    const float            *a = call->in[0], *b = call->in[1], *g = call->dout;

    if (call->din[0]) {
        product p = {
            .batches = f.batches, .c = call->din[0], .alpha = f.alpha, .add = adds(call, 0)
        };

        p.K = f.N;
        if (attr->transpose_a) { /* (K,M) = op(b) G^T */
            p.M = f.K, p.N = f.M;
            p.a = b, p.rs_a = f.rs_b, p.cs_a = f.cs_b;
            p.b = g, p.rs_b = 1, p.cs_b = f.N;
        } else {
            p.M = f.M, p.N = f.K;
            p.a = g, p.rs_a = f.N, p.cs_a = 1;
            p.b = b, p.rs_b = f.cs_b, p.cs_b = f.rs_b;
        }
        run(&p, device->threads, call->work);
    }
    if (call->din[1]) {
        product p = {
            .batches = f.batches, .c = call->din[1], .alpha = f.alpha, .add = adds(call, 1)
        };

        p.K = f.M;
        if (attr->transpose_b) { /* (N,K) = G^T op(a) */
            p.M = f.N, p.N = f.K;
            p.a = g, p.rs_a = 1, p.cs_a = f.N;
            p.b = a, p.rs_b = f.rs_a, p.cs_b = f.cs_a;
        } else {
            p.M = f.K, p.N = f.N;
            p.a = a, p.rs_a = f.cs_a, p.cs_a = f.rs_a;
            p.b = g, p.rs_b = f.N, p.cs_b = 1;
        }
        run(&p, device->threads, call->work);
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(matmul) = { .prepare  = prepare,
                                        .forward  = forward,
                                        .backward = backward };
