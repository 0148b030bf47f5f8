/* onednn_conv.c - makes CONV2D and DECONV2D for oneDNN, see onednn.h. Each direction is cut into slabs (slabs.h), for each of
 * which there is a primitive for one thread. oneDNN chooses the layouts of weights. It may choose different ones for slabs of
 * different sizes: then the weights are packed once for each. */
#include "backend/cpu/onednn_pass.h"

/* ---- a primitive with its operands ---- */

static void exec_free(exec *e)
{
    for (int i = 0; i < e->args; i++)
        dnnl_memory_destroy(e->arg[i].memory);
    if (e->primitive) dnnl_primitive_destroy(e->primitive);
    *e = (exec){ 0 };
}

static dnnl_status_t exec_arg(exec *e, dnnl_engine_t engine, int name, layout_ref l)
{
    dnnl_status_t s = dnnl_memory_create(&e->arg[e->args].memory, l, engine, DNNL_MEMORY_NONE);

    if (s) return s;
    e->arg[e->args++].arg = name;
    return dnnl_success;
}

/* Make the primitive and its scratch operand; the others follow with exec_arg(). */
static dnnl_status_t exec_make(exec *e, dnnl_engine_t engine, const_dnnl_primitive_desc_t desc)
{
    layout_ref    scratch = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    dnnl_status_t s       = dnnl_primitive_create(&e->primitive, desc);

    if (s) return s;
    e->scratch = layout_bytes(scratch);
    return exec_arg(e, engine, DNNL_ARG_SCRATCHPAD, scratch);
}

/* ---- the convolution's shape ---- */

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

/* ---- slabs ---- */

static kd_rows rows_of(const geometry *g)
{
    return (kd_rows){ .images  = g->x[0],
                      .wide    = g->transposed ? g->out[2] : g->x[2],
                      .narrow  = g->transposed ? g->x[2] : g->out[2],
                      .stride  = g->stride[0],
                      .pad     = g->pad[0],
                      .pad_end = g->pad_end[0],
                      .window  = (g->w[g->w_rank - 2] - 1) * (g->dilation[0] + 1) + 1 };
}

/* Each row of what is computed belongs to one slab; the gradient of the weights is a sum over windows. */
static kd_cut cut_of(const geometry *g, direction way)
{
    return way != BACKWARD_WEIGHTS && g->transposed == (way == FORWARD) ? KD_CUT_WIDE
                                                                        : KD_CUT_NARROW;
}

/* The slab as a convolution. Where its last rows have no window of their own, a convolution ignores them, and a transposed one
 * cannot be stated. */
static geometry geometry_of_slab(const geometry *g, const kd_slab *s)
{
    geometry slab = *g;

    slab.x[0] = slab.out[0] = s->images;
    slab.x[2]               = g->transposed ? s->narrows : s->wides;
    slab.out[2]             = g->transposed ? s->wides : s->narrows;
    slab.pad[0]             = s->pad;
    slab.pad_end[0]         = g->transposed ? s->pad_end : KD_MAX(s->pad_end, 0);
    return slab;
}

static bool same_form(const kd_slab *a, const kd_slab *b)
{
    return a->images == b->images && a->wides == b->wides && a->narrows == b->narrows &&
           a->pad == b->pad && a->pad_end == b->pad_end;
}

/* Each slab of a gradient of weights has a copy of it, which must not cost too much memory. */
static int most_parts(const geometry *g, direction way, int threads)
{
    const int64_t room  = 64 << 20;
    int64_t       bytes = sizeof(float);

    if (way != BACKWARD_WEIGHTS) return threads;
    for (int i = 0; i < g->w_rank; i++)
        bytes *= g->w[i];
    return (int)KD_MAX(KD_MIN(room / bytes, (int64_t)threads), KD_MIN(threads, 2));
}

static void cut(pass *p, const geometry *g, direction way, int threads)
{
    const kd_rows rows  = rows_of(g);
    bool          exact = true;

    p->parts  = most_parts(g, way, threads);
    p->pieces = kd_slabs_cut(p->slab, &rows, cut_of(g, way), p->parts);
    for (int i = 0; i < p->pieces; i++)
        exact = exact && (!g->transposed || p->slab[i].pad_end >= 0);
    if (!exact) p->pieces = kd_slabs_cut(p->slab, &rows, cut_of(g, way), 1);
    p->parts = p->slab[p->pieces - 1].part + 1;
}

/* ---- making ---- */

/* A reorder of weights to another layout; `add`: adds to it. */
static dnnl_status_t make_reorder(exec *e, kd_onednn *dnn, layout_ref from, layout_ref to, bool add)
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
    if (!s) s = exec_make(e, dnn->engine, desc);
    if (!s) s = exec_arg(e, dnn->engine, DNNL_ARG_FROM, from);
    if (!s) s = exec_arg(e, dnn->engine, DNNL_ARG_TO, to);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

static layout_ref weights_of(const_dnnl_primitive_desc_t desc, direction way)
{
    return dnnl_primitive_desc_query_md(
        desc, way == BACKWARD_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
}

/* The operands in the order of the arrays in each(). */
static dnnl_status_t add_operands(exec *e, dnnl_engine_t engine, direction way, const layouts *l,
                                  layout_ref w, bool bias)
{
    dnnl_status_t s;

    switch (way) {
    case FORWARD:
        s = exec_arg(e, engine, DNNL_ARG_SRC, REF(l->x));
        if (!s) s = exec_arg(e, engine, DNNL_ARG_DST, REF(l->out));
        if (!s) s = exec_arg(e, engine, DNNL_ARG_WEIGHTS, w);
        return s || !bias ? s : exec_arg(e, engine, DNNL_ARG_BIAS, REF(l->b));
    case BACKWARD_DATA:
        s = exec_arg(e, engine, DNNL_ARG_DIFF_SRC, REF(l->x));
        if (!s) s = exec_arg(e, engine, DNNL_ARG_DIFF_DST, REF(l->out));
        return s ? s : exec_arg(e, engine, DNNL_ARG_WEIGHTS, w);
    default:
        s = exec_arg(e, engine, DNNL_ARG_SRC, REF(l->x));
        if (!s) s = exec_arg(e, engine, DNNL_ARG_DIFF_DST, REF(l->out));
        if (!s) s = exec_arg(e, engine, DNNL_ARG_DIFF_WEIGHTS, w);
        return s || !bias ? s : exec_arg(e, engine, DNNL_ARG_DIFF_BIAS, REF(l->b));
    }
}

/* The primitive descriptor of one direction. */
static dnnl_status_t describe_form(dnnl_primitive_desc_t *out, dnnl_engine_t engine, direction way,
                                   const geometry *g, const layouts *l)
{
    dnnl_primitive_attr_t attr    = NULL;
    dnnl_primitive_desc_t forward = NULL;
    dnnl_status_t         s       = dnnl_primitive_attr_create(&attr);

    if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!s) s = describe(&forward, engine, FORWARD, g, l, attr, NULL);
    if (!s && way != FORWARD) s = describe(out, engine, way, g, l, attr, forward);
    if (!s && way == FORWARD) {
        *out    = forward;
        forward = NULL;
    }
    if (forward) dnnl_primitive_desc_destroy(forward);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

/* The place of the descriptor's layout of weights in p->order, where it is put if it is new; then `desc` is taken. */
static dnnl_status_t find_order(int *out, kd_conv *c, pass *p, direction way,
                                dnnl_primitive_desc_t *desc)
{
    layout_ref    w = weights_of(*desc, way);
    layout        plain;
    dnnl_status_t s;
    order        *o;

    for (*out = 0; *out < p->orders; ++*out)
        if (dnnl_memory_desc_equal(weights_of(p->order[*out].desc, way), w)) return dnnl_success;
    o        = &p->order[p->orders++];
    o->desc  = *desc;
    o->bytes = layout_bytes(w);
    o->at    = o == p->order ? 0 : o[-1].at + o[-1].bytes;
    *desc    = NULL;
    if (way != BACKWARD_WEIGHTS) c->pack_key = layout_hash(c->pack_key, w);
    memset(&plain, 0, sizeof plain);
    s = layout_make(&plain, c->g.w_rank, c->g.w, dnnl_f32, c->g.w_tag);
    if (!s && way == BACKWARD_WEIGHTS)
        s = make_reorder(&o->move, c->dnn, w, REF(plain), true);
    else if (!s)
        s = make_reorder(&o->move, c->dnn, REF(plain), w, false);
    layout_free(&plain);
    return s;
}

static size_t bytes_of_rows(const geometry *g, const dnnl_dims_t d, int64_t image, int64_t row)
{
    return (size_t)((image * d[2] + row) * d[3] * d[1]) *
           (g->type == dnnl_bf16 ? 2 : sizeof(float));
}

static dnnl_status_t make_piece(kd_conv *c, pass *p, int i, direction way, const layouts *l,
                                const_dnnl_primitive_desc_t desc, int at, bool bias)
{
    const kd_slab *slab   = &p->slab[i];
    piece         *it     = &p->piece[i];
    dnnl_engine_t  engine = c->dnn->engine;
    dnnl_status_t  s      = exec_make(&it->e, engine, desc);

    it->part  = slab->part;
    it->order = at;
    it->x_at =
        bytes_of_rows(&c->g, c->g.x, slab->image, c->g.transposed ? slab->narrow : slab->wide);
    it->out_at =
        bytes_of_rows(&c->g, c->g.out, slab->image, c->g.transposed ? slab->wide : slab->narrow);
    p->scratch = KD_MAX(p->scratch, it->e.scratch);
    return s ? s : add_operands(&it->e, engine, way, l, weights_of(desc, way), bias);
}

/* All slabs that have the form of slab `first`. */
static dnnl_status_t make_form(kd_conv *c, pass *p, int first, direction way)
{
    geometry              g    = geometry_of_slab(&c->g, &p->slab[first]);
    dnnl_primitive_desc_t desc = NULL;
    layouts               l;
    dnnl_status_t         s;
    int                   at = 0;

    memset(&l, 0, sizeof l);
    g.bias = g.bias && !(way == BACKWARD_WEIGHTS && g.transposed);
    s      = layouts_make(&l, &g);
    if (!s) s = describe_form(&desc, c->dnn->engine, way, &g, &l);
    if (!s) s = find_order(&at, c, p, way, &desc);
    for (int i = first; i < p->pieces && !s; i++)
        if (!p->piece[i].e.primitive && same_form(&p->slab[i], &p->slab[first]))
            s = make_piece(c, p, i, way, &l, desc ? desc : p->order[at].desc, at, g.bias);
    if (desc) dnnl_primitive_desc_destroy(desc);
    layouts_free(&l);
    return s;
}

static dnnl_status_t make_pass(kd_conv *c, pass *p, direction way)
{
    const kdas_host *host = &c->dnn->host;
    const size_t     most = (size_t)c->dnn->threads * KD_SLABS_OF_PART;
    dnnl_status_t    s    = dnnl_success;

    p->slab = host->alloc(host->user, most * sizeof *p->slab);
    if (!p->slab) return dnnl_out_of_memory;
    cut(p, &c->g, way, c->dnn->threads);
    p->piece = host->alloc(host->user, (size_t)p->pieces * sizeof *p->piece);
    p->order = host->alloc(host->user, (size_t)p->pieces * sizeof *p->order);
    if (!p->piece || !p->order) {
        p->pieces = 0;
        return dnnl_out_of_memory;
    }
    memset(p->piece, 0, (size_t)p->pieces * sizeof *p->piece);
    memset(p->order, 0, (size_t)p->pieces * sizeof *p->order);
    for (int i = 0; i < p->pieces && !s; i++)
        if (!p->piece[i].e.primitive) s = make_form(c, p, i, way);
    host->free(host->user, p->slab);
    p->slab = NULL;
    return s;
}

static void pass_free(const kdas_host *host, pass *p)
{
    for (int i = 0; i < p->pieces; i++)
        exec_free(&p->piece[i].e);
    for (int i = 0; i < p->orders; i++) {
        exec_free(&p->order[i].move);
        if (p->order[i].desc) dnnl_primitive_desc_destroy(p->order[i].desc);
    }
    if (p->slab) host->free(host->user, p->slab);
    if (p->piece) host->free(host->user, p->piece);
    if (p->order) host->free(host->user, p->order);
    *p = (pass){ 0 };
}

static size_t packed_bytes(const pass *p)
{
    return p->orders ? p->order[p->orders - 1].at + p->order[p->orders - 1].bytes : 0;
}

/* Scratch of reorders; those of pack() have none. */
static size_t move_scratch(const pass *p)
{
    size_t most = 0;

    for (int i = 0; i < p->orders; i++)
        most = KD_MAX(most, p->order[i].move.scratch);
    return most;
}

static dnnl_status_t make_passes(kd_conv *c, uint32_t wants)
{
    dnnl_status_t s = make_pass(c, &c->forward, FORWARD);

    if (!s && (wants & 1)) s = make_pass(c, &c->data, BACKWARD_DATA);
    if (!s && (wants & 6)) s = make_pass(c, &c->weights, BACKWARD_WEIGHTS);
    return s;
}

kdas_status kd_conv_create(kd_conv **out, kd_onednn *dnn, const kdas_node_desc *node,
                           kd_conv_sizes *sizes)
{
    const char   *name = node->op == KDAS_OP_DECONV2D ? "deconv2d" : "conv2d";
    kd_conv      *c    = dnn->host.alloc(dnn->host.user, sizeof *c);
    dnnl_status_t s;
    size_t        work;

    *out = NULL;
    if (!c) return dnn->host.fail(KDAS_ENOMEM, "%s: no memory for its plan", name);
    *c = (kd_conv){
        .dnn = dnn, .name = name, .g = geometry_of(node), .pack_key = 0xcbf29ce484222325u
    };
    s = make_passes(c, node->wants);
    if (s) {
        kd_conv_destroy(c);
        return kd_onednn_failed(&dnn->host, s, "prepare ", name);
    }
    if (move_scratch(&c->forward) || move_scratch(&c->data)) {
        kd_conv_destroy(c);
        return dnn->host.fail(KDAS_EBACKEND, "%s: oneDNN wants scratch memory to reorder weights",
                              name);
    }
    c->packed_forward = packed_bytes(&c->forward);
    for (int i = 0; i < c->weights.orders; i++)
        c->fresh = KD_MAX(c->fresh, c->weights.order[i].bytes);
    c->fresh_bias = c->g.bias ? ((size_t)c->g.b[0] * sizeof(float) + 63) & ~(size_t)63 : 0;
    work = KD_MAX((size_t)c->weights.parts * c->weights.scratch, move_scratch(&c->weights));
    sizes->packed   = c->packed_forward + packed_bytes(&c->data);
    sizes->pack_key = c->pack_key | 1;
    sizes->forward  = (size_t)c->forward.parts * c->forward.scratch;
    sizes->data     = (size_t)c->data.parts * c->data.scratch;
    sizes->weights =
        (size_t)c->weights.pieces * c->fresh + (size_t)kd_conv_biases(c) * c->fresh_bias + work;
    *out = c;
    return KDAS_OK;
}

void kd_conv_destroy(kd_conv *c)
{
    kdas_host host;

    if (!c) return;
    host = c->dnn->host;
    pass_free(&host, &c->forward);
    pass_free(&host, &c->data);
    pass_free(&host, &c->weights);
    host.free(host.user, c);
}
