/* int8_layer.h - the packed parameters of a layer of integers, and its product.
 *
 * packed: weights as panels | start sums | factors | offsets, one for each output channel, padded to whole panels. The start
 * sum of a channel is -zero times the sum of its weights, so that x's numbers can be multiplied as they are. */
#ifndef KD_INT8_LAYER_H
#define KD_INT8_LAYER_H
#include "backend/cpu/simd/gemm.h"

enum { RANGE_X = 3, RANGE_OUT = 4 }; /* inputs of an integer node */

typedef struct int8_layer {
    unit    *w;
    int32_t *start;
    float   *factor, *offset;
    int64_t  K, N; /* of the product; K is rounded up to UNIT_DEPTH */
} int8_layer;

/* Lay the arrays out at *at, and move it past them. */
INLINE int8_layer int8_layer_at(void **at, int64_t K, int64_t N)
{
    int64_t    padded = round_up(N, PANEL);
    int8_layer l      = { .K = round_up(K, UNIT_DEPTH), .N = N };

    l.w      = bump_alloc(at, float_bytes(packed_numel(l.K, N)));
    l.start  = bump_alloc(at, float_bytes(padded));
    l.factor = bump_alloc(at, float_bytes(padded));
    l.offset = bump_alloc(at, float_bytes(padded));
    return l;
}

/* One weight into the panels: row k, column n. */
INLINE void put_weight(int8_layer *l, int64_t k, int64_t n, int8_t q)
{
    int64_t   panel = n / PANEL * PANEL;
    unit     *at    = l->w + panel * units_of(l->K) + k / UNIT_DEPTH * width_at(panel, l->N);
    b_weight *to    = (b_weight *)(at + (n - panel));

    to[k % UNIT_DEPTH] = q;
}

/* Zeros, for a layer that is filled channel by channel. */
INLINE void int8_layer_clear(int8_layer *l)
{
    memset(l->w, 0, float_bytes(packed_numel(l->K, l->N)));
    for (int64_t n = 0; n < round_up(l->N, PANEL); n++) {
        l->start[n]  = 0;
        l->factor[n] = l->offset[n] = 0;
    }
}

/* What requantises channel n, and its `count` weights as numbers in q. `out` may be NULL. */
INLINE void int8_layer_channel(int8_layer *l, int64_t n, int8_t *q, const float *w, float bias,
                               int64_t count, const kd_grid *x, const kd_grid *out)
{
    int32_t sum;
    float   scale = kd_weights_to_grid(q, w, count, 1, &sum);

    l->start[n] = -x->zero * sum;
    kd_requantise_channel(&l->factor[n], &l->offset[n], x, scale, bias, out);
}

/* Fill it with weights (N, C, taps), where k counts (taps, C). `q`: room for one channel's weights. `b` and `out` may be
 * NULL. */
static void __attribute__((unused))
int8_layer_fill(int8_layer *l, const float *w, const float *b, int64_t C, int64_t taps,
                const kd_grid *x, const kd_grid *out, int8_t *q)
{
    int64_t count = C * taps;

    int8_layer_clear(l);
    for (int64_t n = 0; n < l->N; n++) {
        int8_layer_channel(l, n, q, w + n * count, b ? b[n] : 0, count, x, out);
        for (int64_t c = 0; c < C; c++)
            for (int64_t t = 0; t < taps; t++)
                put_weight(l, t * C + c, n, q[c * taps + t]);
    }
}

/* `count` numbers as elements of A. */
INLINE void copy_numbers(a_number *to, const uint8_t *from, int64_t count)
{
    if (sizeof *to == sizeof *from)
        memcpy(to, from, (size_t)count);
    else
        for (int64_t i = 0; i < count; i++)
            to[i] = from[i];
}
/* The same of one number. */
INLINE void fill_numbers(a_number *to, uint8_t number, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = number;
}

/* C (M,N), rows `ld` bytes apart = the requantised product of A, rows `rs` numbers apart, with the weights. */
INLINE void int8_product(const int8_layer *l, int64_t M, const a_number *a, int64_t rs, void *c,
                         int64_t ld, c_type type, kd_requantise r, bool in_cache)
{
    gemm_of_operands(
        M, l->N, l->K,
        (a_operand){ (const char *)a, rs * (int64_t)sizeof *a, sizeof(unit), in_cache }, l->w,
        (const float *)l->start, (c_operand){ c, ld, type, l->factor, l->offset, r });
}

/* The grid of input i. KDAS_ESTATE: its range is empty. */
static inline __attribute__((unused)) kdas_status grid_of_input(kd_grid *g, kdas_device *device,
                                                                const kdas_call *call, int i,
                                                                const char *op)
{
    *g = kd_grid_of(call->in[i]);
    if (g->scale > 0) return KDAS_OK;
    return device->host.fail(KDAS_ESTATE,
                             "%s: the range of %s is empty; the model was not calibrated "
                             "(kdas-quantize)",
                             op,
                             call->node->op != KDAS_OP_MIX_FFN && i == RANGE_OUT
                                 ? "the numbers that it gives to the layer after it"
                                 : "its numbers");
}

/* What CONV2D, DWCONV2D and LINEAR keep behind their packed weights: the grid of x, and what requantises. */
typedef struct tail {
    kd_grid       x;
    kd_requantise r;
} tail;

/* Fill it by the node's ranges; *out is the grid of the result, where that is numbers. KDAS_ESTATE: a range is empty. */
static inline __attribute__((unused)) kdas_status find_grids(tail *t, kd_grid *out,
                                                             kdas_device     *device,
                                                             const kdas_call *call, const char *op)
{
    bool u8 = call->node->out.dtype == KDAS_U8;

    KD_RETURN(grid_of_input(&t->x, device, call, RANGE_X, op));
    if (u8) KD_RETURN(grid_of_input(out, device, call, RANGE_OUT, op));
    t->r = kd_requantise_of(u8 ? out : NULL, call->node->post);
    return KDAS_OK;
}

#endif
