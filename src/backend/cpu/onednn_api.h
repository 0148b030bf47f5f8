/* onednn_api.h - what the files onednn*.c share: the device's part of oneDNN, and the differences between the C API of 2.6 and of
 * v3. No other file includes it.
 *
 * Scratch memory is caller-owned (user scratchpad mode). Memory objects are created once, without memory; a run sets their
 * pointers. Activations are channels-last (tag acdb) and dense. */
#ifndef KD_ONEDNN_API_H
#define KD_ONEDNN_API_H
#include <oneapi/dnnl/dnnl.h>
#include <string.h>
#include "backend/cpu/onednn.h"

struct kd_onednn {
    kdas_host      host;
    int            threads; /* of the device */
    dnnl_engine_t  engine;
    dnnl_cpu_isa_t isa;      /* what it uses in this process */
    dnnl_stream_t  stream[]; /* one for each part of a job   */
};

/* KDAS_EBACKEND or KDAS_ENOMEM: "oneDNN could not <what><whose>". */
kdas_status kd_onednn_failed(const kdas_host *host, dnnl_status_t s, const char *what,
                             const char *whose);

/* ---- the two interfaces ---- */

/* A convolution's operands as oneDNN counts them: x, weights, bias (absent: ndims 0), out. Weights are (O,I,kh,kw), or
 * (groups,O,I,kh,kw) with the channels of one group; the transposed convolution's, too. */
typedef struct geometry {
    dnnl_dims_t       x, w, b, out, stride, pad, pad_end, dilation;
    int               w_rank;
    dnnl_format_tag_t w_tag; /* the order in which PyTorch keeps them */
    dnnl_data_type_t  type;  /* of x, out and packed weights; others are f32 */
    bool              bias, transposed;
} geometry;

/* FNV-1a, continued from `hash`. */
static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    for (const unsigned char *at = bytes; count--; at++)
        hash = (hash ^ *at) * 0x100000001b3u;
    return hash;
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t       layout; /* a handle */
typedef const_dnnl_memory_desc_t layout_ref;
#define REF(l) (l)

static inline dnnl_status_t layout_make(layout *out, int rank, const dnnl_dims_t dims,
                                        dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(out, rank, dims, type, tag);
}
static inline void layout_free(layout *l)
{
    if (*l) dnnl_memory_desc_destroy(*l);
    *l = NULL;
}
static inline dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}
static inline uint64_t layout_hash(uint64_t hash, layout_ref l)
{
    static const dnnl_query_t lists[] = { dnnl_query_padded_dims, dnnl_query_strides,
                                          dnnl_query_inner_blks, dnnl_query_inner_idxs };
    int                       rank = 0, blocks = 0, type = 0;

    dnnl_memory_desc_query(l, dnnl_query_ndims_s32, &rank);
    dnnl_memory_desc_query(l, dnnl_query_inner_nblks_s32, &blocks);
    dnnl_memory_desc_query(l, dnnl_query_data_type, &type);
    hash = hash_bytes(hash, &type, sizeof type);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const dnnl_dims_t *dims = NULL;

        if (dnnl_memory_desc_query(l, lists[i], &dims) == dnnl_success && dims)
            hash = hash_bytes(hash, *dims, (size_t)(i < 2 ? rank : blocks) * sizeof(dnnl_dim_t));
    }
    return hash;
}
#else
typedef dnnl_memory_desc_t        layout; /* a value */
typedef const dnnl_memory_desc_t *layout_ref;
#define REF(l) (&(l))

static inline dnnl_status_t layout_make(layout *out, int rank, const dnnl_dims_t dims,
                                        dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(out, rank, dims, type, tag);
}
static inline void          layout_free(layout *l) { (void)l; }
static inline dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f);
}
static inline uint64_t layout_hash(uint64_t hash, layout_ref l)
{
    return hash_bytes(hash, l, sizeof *l);
}
#endif

typedef enum direction { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS } direction;

/* The layouts of one convolution. `any` and `any_f32` let the primitive choose: for the weights, for their gradient. */
typedef struct layouts {
    layout x, any, any_f32, b, out;
} layouts;

static inline void layouts_free(layouts *l)
{
    layout_free(&l->x);
    layout_free(&l->any);
    layout_free(&l->any_f32);
    layout_free(&l->b);
    layout_free(&l->out);
}

static inline dnnl_status_t layouts_make(layouts *l, const geometry *g)
{
    dnnl_status_t s = layout_make(&l->x, 4, g->x, g->type, dnnl_acdb);

    if (!s) s = layout_make(&l->any, g->w_rank, g->w, g->type, dnnl_format_tag_any);
    if (!s) s = layout_make(&l->any_f32, g->w_rank, g->w, dnnl_f32, dnnl_format_tag_any);
    if (!s) s = layout_make(&l->out, 4, g->out, g->type, dnnl_acdb);
    if (!s && g->bias) s = layout_make(&l->b, 1, g->b, dnnl_f32, dnnl_a);
    return s;
}

/* Both kinds of convolution have the same functions by other names. */
#if DNNL_VERSION_MAJOR >= 3
#define CALL(g, name, ...)                                                            \
    ((g)->transposed ? dnnl_deconvolution_##name##_primitive_desc_create(__VA_ARGS__) \
                     : dnnl_convolution_##name##_primitive_desc_create(__VA_ARGS__))
#else
#define CALL(g, name, ...)                                                        \
    ((g)->transposed ? dnnl_dilated_deconvolution_##name##_desc_init(__VA_ARGS__) \
                     : dnnl_dilated_convolution_##name##_desc_init(__VA_ARGS__))
#endif

/* The primitive descriptor of one direction; `hint`: that of the forward, for the other two. */
static inline dnnl_status_t describe(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                     direction way, const geometry *g, const layouts *l,
                                     const_dnnl_primitive_attr_t attr,
                                     const_dnnl_primitive_desc_t hint)
{
    const dnnl_alg_kind_t alg = g->transposed ? dnnl_deconvolution_direct : dnnl_convolution_direct;
    layout_ref            b   = g->bias ? REF(l->b) : NULL;
#if DNNL_VERSION_MAJOR >= 3
    switch (way) {
    case FORWARD:
        return CALL(g, forward, out, engine, dnnl_forward_training, alg, l->x, l->any, b, l->out,
                    g->stride, g->dilation, g->pad, g->pad_end, attr);
    case BACKWARD_DATA:
        return CALL(g, backward_data, out, engine, alg, l->x, l->any, l->out, g->stride,
                    g->dilation, g->pad, g->pad_end, hint, attr);
    default:
        return CALL(g, backward_weights, out, engine, alg, l->x, l->any_f32, b, l->out, g->stride,
                    g->dilation, g->pad, g->pad_end, hint, attr);
    }
#else
    dnnl_convolution_desc_t op; /* the other kind's is the same type */
    dnnl_status_t           s;

    if (way == FORWARD)
        s = CALL(g, forward, &op, dnnl_forward_training, alg, REF(l->x), REF(l->any), b,
                 REF(l->out), g->stride, g->dilation, g->pad, g->pad_end);
    else if (way == BACKWARD_DATA)
        s = CALL(g, backward_data, &op, alg, REF(l->x), REF(l->any), REF(l->out), g->stride,
                 g->dilation, g->pad, g->pad_end);
    else
        s = CALL(g, backward_weights, &op, alg, REF(l->x), REF(l->any_f32), b, REF(l->out),
                 g->stride, g->dilation, g->pad, g->pad_end);
    return s ? s : dnnl_primitive_desc_create(out, &op, attr, engine, hint);
#endif
}

static inline size_t layout_bytes(layout_ref l)
{
    return (dnnl_memory_desc_get_size(l) + 63) & ~(size_t)63;
}

#endif
