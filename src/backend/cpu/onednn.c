/* onednn.c - see onednn.h. The first part covers the differences between oneDNN 2.6 and v3; the rest is common.
 *
 * Scratch memory is caller-owned (user scratchpad mode). Memory objects are created once, without memory; a run sets their
 * pointers. Activations are channels-last (tag acdb) and dense. */
#include <assert.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>
#include "backend/cpu/onednn.h"

struct kd_onednn {
    kdas_host      host;
    dnnl_engine_t  engine;
    dnnl_stream_t  stream;
    dnnl_cpu_isa_t isa; /* what it uses in this process */
};

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
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    for (const unsigned char *at = bytes; count--; at++)
        hash = (hash ^ *at) * 0x100000001b3u;
    return hash;
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t       layout; /* a handle */
typedef const_dnnl_memory_desc_t layout_ref;
#define REF(l) (l)

static dnnl_status_t layout_make(layout *out, int rank, const dnnl_dims_t dims,
                                 dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(out, rank, dims, type, tag);
}
static void layout_free(layout *l)
{
    if (*l) dnnl_memory_desc_destroy(*l);
    *l = NULL;
}
static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}
static uint64_t layout_hash(uint64_t hash, layout_ref l)
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

static dnnl_status_t layout_make(layout *out, int rank, const dnnl_dims_t dims,
                                 dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(out, rank, dims, type, tag);
}
static void          layout_free(layout *l) { (void)l; }
static dnnl_status_t append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f); }
static uint64_t layout_hash(uint64_t hash, layout_ref l) { return hash_bytes(hash, l, sizeof *l); }
#endif

typedef enum direction { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS } direction;

/* The layouts of one convolution. `any` and `any_f32` let the primitive choose: for the weights, for their gradient. */
typedef struct layouts {
    layout x, any, any_f32, b, out;
} layouts;

static void layouts_free(layouts *l)
{
    layout_free(&l->x);
    layout_free(&l->any);
    layout_free(&l->any_f32);
    layout_free(&l->b);
    layout_free(&l->out);
}

static dnnl_status_t layouts_make(layouts *l, const geometry *g)
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
static dnnl_status_t describe(dnnl_primitive_desc_t *out, dnnl_engine_t engine, direction way,
                              const geometry *g, const layouts *l, const_dnnl_primitive_attr_t attr,
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

static size_t layout_bytes(layout_ref l)
{
    return (dnnl_memory_desc_get_size(l) + 63) & ~(size_t)63;
}

/* ---- device ---- */

static kdas_status failed(const kdas_host *host, dnnl_status_t s, const char *what,
                          const char *whose)
{
    return host->fail(s == dnnl_out_of_memory ? KDAS_ENOMEM : KDAS_EBACKEND,
                      "cpu: oneDNN could not %s%s (its status %d)", what, whose, (int)s);
}

/* The limit holds for the process, and asking for it settles it. So the first device decides, and no later one takes
 * instructions away from a device that has been opened. */
static dnnl_cpu_isa_t limit_isa(const kdas_host *host, const char *isa)
{
    const dnnl_cpu_isa_t most = !strcmp(isa, "avx512") ? dnnl_cpu_isa_avx512_core_bf16
                                : !strcmp(isa, "avx2") ? dnnl_cpu_isa_avx2
                                                       : dnnl_cpu_isa_sse41;
    const bool           any  = !strcmp(isa, "amx");
    dnnl_status_t        s    = any ? dnnl_success : dnnl_set_max_cpu_isa(most);
    dnnl_cpu_isa_t       got  = dnnl_get_effective_cpu_isa();

    /* an instruction set is a bit mask that includes the sets below it */
    if (s != dnnl_success && got & ~most)
        host->log(host->user, KDAS_LOG_INFO,
                  "cpu: oneDNN was in use already and keeps its instruction set; own kernels obey");
    return got;
}

static bool includes(dnnl_cpu_isa_t isa, dnnl_cpu_isa_t part) { return (isa & part) == part; }

bool kd_onednn_has_bf16(const kd_onednn *dnn)
{
    return includes(dnn->isa, dnnl_cpu_isa_avx512_core_bf16);
}

const char *kd_onednn_isa(const kd_onednn *dnn)
{
    return includes(dnn->isa, dnnl_cpu_isa_avx512_core_amx)    ? "amx"
           : includes(dnn->isa, dnnl_cpu_isa_avx512_core_bf16) ? "avx512 with bf16"
           : includes(dnn->isa, dnnl_cpu_isa_avx512_core)      ? "avx512 without bf16"
           : includes(dnn->isa, dnnl_cpu_isa_avx2)             ? "avx2"
                                                               : "plain";
}

kdas_status kd_onednn_open(kd_onednn **out, const kdas_host *host, const char *isa)
{
    kd_onednn    *dnn = host->alloc(host->user, sizeof *dnn);
    dnnl_status_t s;

    *out = NULL;
    if (!dnn) return host->fail(KDAS_ENOMEM, "cpu: no memory for oneDNN's engine");
    *dnn     = (kd_onednn){ .host = *host };
    dnn->isa = limit_isa(host, isa);
    s        = dnnl_engine_create(&dnn->engine, dnnl_cpu, 0);
    if (!s) s = dnnl_stream_create(&dnn->stream, dnn->engine, dnnl_stream_default_flags);
    if (s) {
        kd_onednn_close(dnn);
        return failed(host, s, "start", "");
    }
    *out = dnn;
    return KDAS_OK;
}

void kd_onednn_close(kd_onednn *dnn)
{
    kdas_host host;

    if (!dnn) return;
    host = dnn->host;
    if (dnn->stream) dnnl_stream_destroy(dnn->stream);
    if (dnn->engine) dnnl_engine_destroy(dnn->engine);
    host.free(host.user, dnn);
}

void kd_onednn_version(char *text, size_t size)
{
    const dnnl_version_t *v = dnnl_version();

    snprintf(text, size, "%d.%d.%d", v->major, v->minor, v->patch);
}

/* ---- a prepared primitive with its operands ---- */

enum { MAX_ARGS = 5 };

typedef struct pass {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t  arg[MAX_ARGS];
    int              args;
    size_t           scratch; /* bytes */
} pass;

static void pass_free(pass *p)
{
    for (int i = 0; i < p->args; i++)
        dnnl_memory_destroy(p->arg[i].memory);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    *p = (pass){ 0 };
}

static dnnl_status_t pass_arg(pass *p, dnnl_engine_t engine, int name, layout_ref l)
{
    dnnl_status_t s = dnnl_memory_create(&p->arg[p->args].memory, l, engine, DNNL_MEMORY_NONE);

    if (s) return s;
    p->arg[p->args++].arg = name;
    return dnnl_success;
}

/* Make the primitive and its scratch operand; the others follow with pass_arg(). */
static dnnl_status_t pass_make(pass *p, dnnl_engine_t engine, const_dnnl_primitive_desc_t desc)
{
    layout_ref    scratch = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    dnnl_status_t s       = dnnl_primitive_create(&p->primitive, desc);

    if (s) return s;
    p->scratch = layout_bytes(scratch);
    return pass_arg(p, engine, DNNL_ARG_SCRATCHPAD, scratch);
}

/* Run it; the pointers are in the order of the operands, scratch first. */
static dnnl_status_t pass_run(pass *p, dnnl_stream_t stream, void *const *pointer)
{
    dnnl_status_t s;

    for (int i = 0; i < p->args; i++) {
        s = dnnl_memory_set_data_handle(p->arg[i].memory, pointer[i]);
        if (s) return s;
    }
    s = dnnl_primitive_execute(p->primitive, stream, p->args, p->arg);
    return s ? s : dnnl_stream_wait(stream);
}

/* ---- convolution ---- */

struct kd_conv {
    kd_onednn  *dnn;
    const char *name; /* of the op */
    geometry    g;
    pass        forward, data, weights;
    pass        pack_forward, pack_data; /* PyTorch's layout to the primitives' */
    pass        unpack;                  /* the reverse, added                  */
    size_t      packed_forward;          /* bytes of the forward's weights      */
    uint64_t    pack_key;                /* hash of the packed layouts          */
    size_t      fresh_weights, fresh_bias;
};

/* The weights' dimensions and PyTorch's order of them: (O,I,kh,kw), the groups one after the other along O; transposed,
 * (I,O,kh,kw). */
static void set_weights(geometry *g, const int64_t *w, int64_t groups)
{
    if (g->transposed) {
        memcpy(g->w, (dnnl_dims_t){ w[1], w[0], w[2], w[3] }, sizeof g->w);
        g->w_rank = 4;
        g->w_tag  = dnnl_bacd;
    } else if (groups > 1) {
        memcpy(g->w, (dnnl_dims_t){ groups, w[0] / groups, w[1], w[2], w[3] }, sizeof g->w);
        g->w_rank = 5;
        g->w_tag  = dnnl_abcde;
    } else {
        memcpy(g->w, (dnnl_dims_t){ w[0], w[1], w[2], w[3] }, sizeof g->w);
        g->w_rank = 4;
        g->w_tag  = dnnl_abcd;
    }
}

static geometry geometry_of(const kdas_node_desc *node)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *x = node->in[0].dim, *out = node->out.dim;
    geometry              g = {
                     .x          = { x[0], x[3], x[1], x[2] },
                     .b          = { out[3] },
                     .out        = { out[0], out[3], out[1], out[2] },
                     .stride     = { a->stride, a->stride },
                     .dilation   = { a->dilation - 1, a->dilation - 1 },
                     .pad        = { a->pad[0], a->pad[1] },
                     .pad_end    = { a->pad_end[0], a->pad_end[1] },
                     .type       = node->in[0].dtype == KDAS_BF16 ? dnnl_bf16 : dnnl_f32,
                     .bias       = node->inputs > 2 && node->in[2].dim[0] != 0,
                     .transposed = node->op == KDAS_OP_DECONV2D,
    };

    set_weights(&g, node->in[1].dim, a->groups);
    return g;
}

/* A reorder of weights to another layout; `add`: adds to it. */
static dnnl_status_t make_reorder(pass *p, kd_onednn *dnn, layout_ref from, layout_ref to, bool add)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t       ops  = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t         s    = dnnl_primitive_attr_create(&attr);

    if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!s && add) s = dnnl_post_ops_create(&ops);
    if (!s && add) s = append_sum(ops);
    if (!s && add) s = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (!s) s = dnnl_reorder_primitive_desc_create(&desc, from, dnn->engine, to, dnn->engine, attr);
    if (!s) s = pass_make(p, dnn->engine, desc);
    if (!s) s = pass_arg(p, dnn->engine, DNNL_ARG_FROM, from);
    if (!s) s = pass_arg(p, dnn->engine, DNNL_ARG_TO, to);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

static dnnl_status_t make_forward(kd_conv *c, const_dnnl_primitive_desc_t desc, const layouts *l,
                                  layout_ref plain)
{
    dnnl_engine_t engine = c->dnn->engine;
    layout_ref    w      = dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
    dnnl_status_t s      = pass_make(&c->forward, engine, desc);

    c->packed_forward = layout_bytes(w);
    c->pack_key       = layout_hash(c->pack_key, w);
    if (!s) s = pass_arg(&c->forward, engine, DNNL_ARG_SRC, REF(l->x));
    if (!s) s = pass_arg(&c->forward, engine, DNNL_ARG_WEIGHTS, w);
    if (!s) s = pass_arg(&c->forward, engine, DNNL_ARG_DST, REF(l->out));
    if (!s && c->g.bias) s = pass_arg(&c->forward, engine, DNNL_ARG_BIAS, REF(l->b));
    return s ? s : make_reorder(&c->pack_forward, c->dnn, plain, w, false);
}

static dnnl_status_t make_data(kd_conv *c, const_dnnl_primitive_desc_t desc, const layouts *l,
                               layout_ref plain, size_t *packed)
{
    dnnl_engine_t engine = c->dnn->engine;
    layout_ref    w      = dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
    dnnl_status_t s      = pass_make(&c->data, engine, desc);

    *packed += layout_bytes(w);
    c->pack_key = layout_hash(c->pack_key, w);
    if (!s) s = pass_arg(&c->data, engine, DNNL_ARG_DIFF_DST, REF(l->out));
    if (!s) s = pass_arg(&c->data, engine, DNNL_ARG_WEIGHTS, w);
    if (!s) s = pass_arg(&c->data, engine, DNNL_ARG_DIFF_SRC, REF(l->x));
    return s ? s : make_reorder(&c->pack_data, c->dnn, plain, w, false);
}

static dnnl_status_t make_weights(kd_conv *c, const_dnnl_primitive_desc_t desc, const layouts *l,
                                  layout_ref plain)
{
    dnnl_engine_t engine = c->dnn->engine;
    layout_ref    w      = dnnl_primitive_desc_query_md(desc, dnnl_query_diff_weights_md, 0);
    dnnl_status_t s      = pass_make(&c->weights, engine, desc);

    c->fresh_weights = layout_bytes(w);
    c->fresh_bias    = c->g.bias ? layout_bytes(REF(l->b)) : 0;
    if (!s) s = pass_arg(&c->weights, engine, DNNL_ARG_SRC, REF(l->x));
    if (!s) s = pass_arg(&c->weights, engine, DNNL_ARG_DIFF_DST, REF(l->out));
    if (!s) s = pass_arg(&c->weights, engine, DNNL_ARG_DIFF_WEIGHTS, w);
    if (!s && c->g.bias) s = pass_arg(&c->weights, engine, DNNL_ARG_DIFF_BIAS, REF(l->b));
    return s ? s : make_reorder(&c->unpack, c->dnn, w, plain, true);
}

/* Make all passes that `wants` asks for. */
static dnnl_status_t make_passes(kd_conv *c, uint32_t wants, size_t *packed)
{
    dnnl_engine_t         engine  = c->dnn->engine;
    dnnl_primitive_attr_t attr    = NULL;
    dnnl_primitive_desc_t forward = NULL, data = NULL, weights = NULL;
    layouts               l;
    layout                plain;
    dnnl_status_t         s;

    memset(&l, 0, sizeof l);
    memset(&plain, 0, sizeof plain);
    s = layouts_make(&l, &c->g);
    if (!s) s = layout_make(&plain, c->g.w_rank, c->g.w, dnnl_f32, c->g.w_tag);
    if (!s) s = dnnl_primitive_attr_create(&attr);
    if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!s) s = describe(&forward, engine, FORWARD, &c->g, &l, attr, NULL);
    if (!s) s = make_forward(c, forward, &l, REF(plain));
    *packed = c->packed_forward;
    if (!s && (wants & 1)) s = describe(&data, engine, BACKWARD_DATA, &c->g, &l, attr, forward);
    if (!s && (wants & 1)) s = make_data(c, data, &l, REF(plain), packed);
    if (!s && (wants & 6))
        s = describe(&weights, engine, BACKWARD_WEIGHTS, &c->g, &l, attr, forward);
    if (!s && (wants & 6)) s = make_weights(c, weights, &l, REF(plain));
    if (weights) dnnl_primitive_desc_destroy(weights);
    if (data) dnnl_primitive_desc_destroy(data);
    if (forward) dnnl_primitive_desc_destroy(forward);
    if (attr) dnnl_primitive_attr_destroy(attr);
    layout_free(&plain);
    layouts_free(&l);
    return s;
}

kdas_status kd_conv_create(kd_conv **out, kd_onednn *dnn, const kdas_node_desc *node,
                           kd_conv_sizes *sizes)
{
    const char   *name = node->op == KDAS_OP_DECONV2D ? "deconv2d" : "conv2d";
    kd_conv      *c    = dnn->host.alloc(dnn->host.user, sizeof *c);
    dnnl_status_t s;

    *out = NULL;
    if (!c) return dnn->host.fail(KDAS_ENOMEM, "%s: no memory for its plan", name);
    *c = (kd_conv){
        .dnn = dnn, .name = name, .g = geometry_of(node), .pack_key = 0xcbf29ce484222325u
    };
    s = make_passes(c, node->wants, &sizes->packed);
    if (s) {
        kd_conv_destroy(c);
        return failed(&dnn->host, s, "prepare ", name);
    }
    sizes->pack_key = c->pack_key | 1;
    sizes->forward  = c->forward.scratch;
    sizes->data     = c->data.scratch;
    sizes->weights =
        c->fresh_weights + c->fresh_bias + KD_MAX(c->weights.scratch, c->unpack.scratch);
    /* pack() has no scratch */
    if (c->pack_forward.scratch || c->pack_data.scratch) {
        kd_conv_destroy(c);
        return dnn->host.fail(KDAS_EBACKEND, "%s: oneDNN wants scratch memory to reorder weights",
                              name);
    }
    *out = c;
    return KDAS_OK;
}

void kd_conv_destroy(kd_conv *c)
{
    kdas_host host;

    if (!c) return;
    host = c->dnn->host;
    pass_free(&c->forward);
    pass_free(&c->data);
    pass_free(&c->weights);
    pass_free(&c->pack_forward);
    pass_free(&c->pack_data);
    pass_free(&c->unpack);
    host.free(host.user, c);
}

/* `count` pointers, at least one for each operand. */
static kdas_status run(kd_conv *c, pass *p, void *const *pointer, size_t count, const char *what)
{
    dnnl_status_t s;

    assert((size_t)p->args <= count);
    s = pass_run(p, c->dnn->stream, pointer);

    return s ? failed(&c->dnn->host, s, what, c->name) : KDAS_OK;
}

kdas_status kd_conv_pack(kd_conv *c, const float *w, void *packed)
{
    void *to_forward[] = { NULL, (void *)w, packed };
    void *to_data[]    = { NULL, (void *)w, (char *)packed + c->packed_forward };

    KD_RETURN(run(c, &c->pack_forward, to_forward, KD_COUNT(to_forward), "pack the weights of "));
    return c->data.primitive
               ? run(c, &c->pack_data, to_data, KD_COUNT(to_data), "pack the weights of ")
               : KDAS_OK;
}

kdas_status kd_conv_forward(kd_conv *c, const void *x, const void *packed, const float *b,
                            void *out, void *work)
{
    void *pointer[] = { work, (void *)x, (void *)packed, out, (void *)b };

    return run(c, &c->forward, pointer, KD_COUNT(pointer), "run ");
}

kdas_status kd_conv_backward_data(kd_conv *c, const void *dout, const void *packed, void *dx,
                                  void *work)
{
    void *pointer[] = { work, (void *)dout, (char *)packed + c->packed_forward, dx };

    return run(c, &c->data, pointer, KD_COUNT(pointer), "compute the gradient of x of ");
}

kdas_status kd_conv_backward_weights(kd_conv *c, const void *x, const void *dout, float *dw,
                                     float *db, void *work)
{
    char  *scratch   = (char *)work + c->fresh_weights + c->fresh_bias;
    float *fresh_b   = (float *)((char *)work + c->fresh_weights);
    void  *pointer[] = { scratch, (void *)x, (void *)dout, work, fresh_b };
    void  *back[]    = { scratch, work, dw };

    KD_RETURN(
        run(c, &c->weights, pointer, KD_COUNT(pointer), "compute the gradient of the weights of "));
    for (int64_t i = 0; db && i < c->g.b[0]; i++)
        db[i] += fresh_b[i];
    return dw ? run(c, &c->unpack, back, KD_COUNT(back), "add the gradient of the weights of ")
              : KDAS_OK;
}
