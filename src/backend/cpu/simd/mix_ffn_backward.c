/* mix_ffn_backward.c - the gradients of MIX_FFN. Nothing of the hidden maps was kept but, where that
 * is cheaper than to compute it again, what fc1 gave.
 *
 * For a band of rows of x, panel by panel: a = fc1 of the rows around it; dg = dout W2; then, in
 * registers, z = dwconv(a), g = gelu(z) and dz = dg gelu'(z); dW2 += dout^T g; dWd += dz with a;
 * da = the turned filter over dz; dW1 += da^T x; dx += da W1. A row of da needs three of dz, and one of
 * dz three of a: each panel keeps the last two rows of both for the band below. A part has sums of
 * its own for the parameters, which are joined in order. */
#include "backend/cpu/simd/mix_ffn.h"

enum { PARAMS = 0x7e };

/* One part's sums for the parameters, shared by the parts across, each in its panels. */
typedef struct part_sums {
    float *w1;     /* for each panel (C, width): dW1 transposed */
    float *w2;     /* for each panel (O, width)                 */
    float *filter; /* for each panel (FILTER_SUMS, PANEL)       */
    float *b1, *b2;
} part_sums;

static size_t sums_layout(part_sums *t, const ffn_shape *s, void *memory)
{
    void *at = memory;

    t->w1     = carve(&at, floats(s->panels * s->C * PANEL));
    t->w2     = carve(&at, floats(s->panels * s->O * PANEL));
    t->filter = carve(&at, floats(s->panels * FILTER_SUMS * PANEL));
    t->b1     = carve(&at, floats(s->panels * PANEL));
    t->b2     = carve(&at, floats(s->O));
    return (size_t)((char *)at - (char *)memory);
}

/* Scratch of one part: maps of one panel in a band, and what is kept of every panel. */
typedef struct scratch {
    elem  *hidden, *above_hidden;     /* a: (band + 4, W, PANEL); two rows of each panel */
    elem  *gradient, *above_gradient; /* dg, then dz: (band + 2, W, PANEL); two rows     */
    elem  *active;                    /* g, then da: (band + 2, W, PANEL)                */
    elem  *group;                     /* da of a group of panels: (band, W, GROUP PANEL)  */
    float *dx;                        /* (band, W, C)                                    */
    unit  *x, *dout, *panel;          /* bf16: both, and one of g and da, brought into units     */
} scratch;

static int64_t band_of(const ffn_shape *s)
{
    int64_t pixels = 327680 / (3 * PANEL + 2 * s->C + s->O);

    return band_rows(s, pixels > 400 ? 400 : pixels);
}

static size_t scratch_layout(scratch *t, const ffn_shape *s, void *memory)
{
    int64_t band = band_of(s), row = s->W * PANEL, pixels = (band + 2) * s->W;
    void   *at = memory;

    t->hidden         = carve(&at, s->keeps ? 0 : elems((band + 4) * row));
    t->above_hidden   = carve(&at, s->keeps ? 0 : elems(s->panels * 2 * row));
    t->gradient       = carve(&at, elems((band + 2) * row));
    t->above_gradient = carve(&at, elems(s->panels * 2 * row));
    t->active         = carve(&at, elems((band + 2) * row));
    t->group          = carve(&at, elems(band * s->W * GROUP * PANEL));
    t->dx             = carve(&at, s->across > 1 ? 0 : floats(band * s->W * s->C));
    t->x              = carve(&at, DEPTH > 1 ? floats(units_of(pixels) * s->C) : 0);
    t->dout           = carve(&at, DEPTH > 1 ? floats(units_of(pixels) * s->O) : 0);
    t->panel          = carve(&at, DEPTH > 1 ? floats(units_of(pixels) * PANEL) : 0);
    return (size_t)((char *)at - (char *)memory);
}

size_t KD_SIMD(mix_ffn_backward_work)(const ffn_shape *s, uint32_t wants)
{
    scratch   t;
    part_sums sums;
    size_t    bytes = scratch_layout(&t, s, NULL) * (size_t)(s->depth * s->across);

    if (wants & PARAMS) bytes += sums_layout(&sums, s, NULL) * (size_t)s->depth;
    if (s->across > 1) bytes += floats(s->across * s->N * s->H * s->W * s->C);
    return bytes;
}

/* ---- rows of one panel ---- */

/* What a task works with: one part of the rows and of the panels. */
typedef struct task {
    const kdas_call *call;
    const ffn_shape *s;
    ffn_packed       w;
    scratch          t;
    part_sums        sums;
    float           *partial; /* dx of this part across, or NULL: there is one alone */
    bool             hidden;  /* the gradient of a is needed                         */
    bool             again;   /* sums hold values of an earlier band                 */
} task;

/* n pixels of z = the filter over a; g = gelu(z), dg becomes dz. */
INLINE void activate_strip(const int n, const elem *const row[3], const vec *w, vec bias, elem *g,
                           elem *dg, int64_t x, line l)
{
    vec sum[STRIP];

#pragma GCC unroll 4
    for (int j = 0; j < n; j++)
        sum[j] = bias;
    add_taps(sum, n, row, w, x, l, true, 0);
#pragma GCC unroll 4
    for (int j = 0; j < n; j++) {
        vec   z = sum[j], below = normal_v(z);
        elem *at = dg + (x + j) * l.step;

        store(g + (x + j) * l.step, z * below);
        store(at, load(at) * (below + 0.398942280f * z * exp_v(-0.5f * z * z)));
    }
}

static void activate_row(const ffn_shape *s, const row_map *a, const float *filter, int64_t y,
                         elem *g, elem *dg)
{
    line l = { s->W, a->step };

    for (int64_t c = 0; c < a->step; c += LANES) {
        const elem *row[3];
        vec         w[TAPS], bias = load(filter + BIAS_ROW * PANEL + c);

        three_rows_of(row, a, s, y, c);
        for (int k = 0; k < TAPS; k++)
            w[k] = load(filter + k * PANEL + c);
        BY_STRIPS(s->W, x, n, activate_strip(n, row, w, bias, g + c, dg + c, x, l));
    }
}

INLINE void filter_strip(const int n, const elem *const row[3], const elem *dz, vec *sum, int64_t x,
                         line l)
{
    vec g[WEIGHTS_STRIP];

#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        g[j] = load(dz + (x + j) * l.step);
        sum[BIAS_ROW] += g[j];
    }
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++)
        if (row[i]) add_products(sum + 3 * i, n, row[i], g, x, l, true, 0);
}

/* sums += what row y of dz gives for the filter and its bias. */
static void filter_row(const ffn_shape *s, const row_map *a, const elem *dz, int64_t y, float *sums)
{
    line l = { s->W, a->step };

    for (int64_t c = 0; c < a->step; c += LANES) {
        const elem *row[3];
        vec         sum[FILTER_SUMS];

        three_rows_of(row, a, s, y, c);
        for (int k = 0; k < FILTER_SUMS; k++)
            sum[k] = load(sums + k * PANEL + c);
        BY_STRIPS(s->W, x, n, filter_strip(n, row, dz + c, sum, x, l));
        for (int k = 0; k < FILTER_SUMS; k++)
            store(sums + k * PANEL + c, sum[k]);
    }
}

INLINE vec turned_strip(const int n, const elem *const row[3], const vec *w, elem *da, elem *group,
                        int64_t x, line l)
{
    vec sum[STRIP] = { { 0 } }, all = { 0 };

    add_taps(sum, n, row, w, x, l, true, 0);
#pragma GCC unroll 4
    for (int j = 0; j < n; j++) {
        store(da + (x + j) * l.step, sum[j]);
        store(group + (x + j) * GROUP * PANEL, sum[j]);
        all += sum[j];
    }
    return all;
}

/* Row y of da, from dz, into its own map and that of its group; db1 += its sum. */
static void turned_row(const ffn_shape *s, const row_map *dz, const float *filter, int64_t y,
                       elem *da, elem *group, float *db1)
{
    line l = { s->W, dz->step };

    for (int64_t c = 0; c < dz->step; c += LANES) {
        const elem *row[3];
        vec         w[TAPS], sum = load(db1 + c);

        three_rows_of(row, dz, s, y, c);
        for (int k = 0; k < TAPS; k++)
            w[k] = load(filter + (TURNED + k) * PANEL + c);
        BY_STRIPS(s->W, x, n, sum += turned_strip(n, row, w, da + c, group + c, x, l));
        store(db1 + c, sum);
    }
}

/* ---- a band ---- */

/* Rows in which a band has something to do. */
typedef struct span {
    int64_t a0, a1; /* rows of a that are new  */
    int64_t z0, z1; /* rows of dz that are new */
    int64_t o0, o1; /* of those, the part's own: only they count for the parameters */
} span;

static span span_of(const ffn_shape *s, const row_band *b)
{
    bool first = b->begin == b->y0;
    span r;

    r.z1 = b->end < s->H ? b->end + 1 : s->H;
    r.z0 = !first ? b->begin + 1 : b->begin > 0 ? b->begin - 1 : 0;
    r.a1 = r.z1 < s->H ? r.z1 + 1 : s->H;
    r.a0 = !first ? b->begin + 2 : r.z0 > 0 ? r.z0 - 1 : 0;
    if (r.a0 > r.a1) r.a0 = r.a1;
    r.o0 = r.z0 > b->y0 ? r.z0 : b->y0;
    r.o1 = r.z1 < b->y1 ? r.z1 : b->y1;
    return r;
}

/* The rows of a that the band needs: kept, or those above it and fc1 of the new ones. */
static row_map hidden_of(const task *k, const row_band *b, const span *r, int64_t p)
{
    const ffn_shape *s     = k->s;
    bool             first = b->begin == b->y0;
    row_map          a     = { k->t.hidden, first ? b->begin - 2 : b->begin, panel_width(s, p) };
    elem            *above = k->t.above_hidden + p * 2 * s->W * PANEL;

    if (s->keeps) {
        a.at    = (elem *)k->call->saved + (b->n * s->panels + p) * s->H * s->W * PANEL;
        a.first = 0;
        return a;
    }
    if (!first) copy_rows(a.at, above, s, a.step, s->H - b->begin < 2 ? s->H - b->begin : 2);
    hidden_rows(s, &k->w, k->call->in[FFN_X], b->n, p, &a, r->a0, r->a1);
    if (b->end < b->y1)
        copy_rows(above, row_at(&a, s, b->end), s, a.step, s->H - b->end < 2 ? s->H - b->end : 2);
    return a;
}

/* C (M, width) += A^T B, summed over pixels: A (pixels, M) are elements, or units in bf16; B (pixels,
 * width) a panel. */
static void add_outer(const task *k, int64_t pixels, int64_t M, int64_t width, const elem *a,
                      const unit *units, const elem *b, float *c)
{
#ifdef KD_HALF
    (void)a;
    pair_rows(k->t.panel, b, pixels, width, width);
    gemm_turned(M, width, pixels, units, k->t.panel, c, width, put_of(k->again));
#else
    (void)units;
    gemm_near(M, width, pixels, a, 1, M, b, NULL, c, width, put_of(k->again));
#endif
}

/* g and dz of the new rows of one panel, and what they give for W2 and the filter. */
static row_map activate_panel(const task *k, const row_band *b, const span *r, int64_t p)
{
    const ffn_shape *s      = k->s;
    const elem      *dout   = (const elem *)k->call->dout + (b->n * s->H + r->z0) * s->W * s->O;
    const float     *filter = k->w.filter + p * FILTER_ROWS * PANEL;
    bool             first  = b->begin == b->y0;
    row_map          a = hidden_of(k, b, r, p), dz = { k->t.gradient, b->begin - 1, a.step };
    row_map          g     = { k->t.active, r->z0, a.step };
    elem            *above = k->t.above_gradient + p * 2 * s->W * PANEL;

    if (!first) copy_rows(dz.at, above, s, dz.step, 2);
    if (r->z0 < r->z1)
        gemm_near((r->z1 - r->z0) * s->W, a.step, s->O, dout, s->O, 1,
                  k->w.back_w2 + p * PANEL * units_of(s->O), NULL, row_at(&dz, s, r->z0), dz.step,
                  SET);
    for (int64_t y = r->z0; y < r->z1; y++)
        activate_row(s, &a, filter, y, row_at(&g, s, y), row_at(&dz, s, y));
    if (b->end < b->y1) copy_rows(above, row_at(&dz, s, b->end - 1), s, dz.step, 2);
    if (r->o0 >= r->o1) return dz;
    if (k->call->din[FFN_W2])
        add_outer(k, (r->o1 - r->o0) * s->W, s->O, a.step, dout + (r->o0 - r->z0) * s->W * s->O,
                  k->t.dout, row_at(&g, s, r->o0), k->sums.w2 + p * s->O * PANEL);
    if (k->call->din[FFN_WD] || k->call->din[FFN_BD])
        for (int64_t y = r->o0; y < r->o1; y++)
            filter_row(s, &a, row_at(&dz, s, y), y, k->sums.filter + p * FILTER_SUMS * PANEL);
    return dz;
}

/* da of the band's rows of one panel, and what it gives for W1 and b1. */
static void hidden_panel(const task *k, const row_band *b, int64_t p, const row_map *dz)
{
    const ffn_shape *s      = k->s;
    const float     *filter = k->w.filter + p * FILTER_ROWS * PANEL;
    const elem      *x  = (const elem *)k->call->in[FFN_X] + (b->n * s->H + b->begin) * s->W * s->C;
    row_map          da = { k->t.active, b->begin, dz->step };
    float            none[PANEL] = { 0 };

    for (int64_t y = b->begin; y < b->end; y++)
        turned_row(s, dz, filter, y, row_at(&da, s, y),
                   k->t.group + ((y - b->begin) * s->W * GROUP + p % GROUP) * PANEL,
                   k->sums.b1 ? k->sums.b1 + p * PANEL : none);
    if (k->call->din[FFN_W1])
        add_outer(k, (b->end - b->begin) * s->W, s->C, da.step, x, k->t.x, da.at,
                  k->sums.w1 + p * s->C * PANEL);
}

/* What da of the group of panels that ends with p gives for x. */
static void add_group(const task *k, const row_band *b, int64_t p, float *dx)
{
    const ffn_shape *s = k->s;
    int64_t          g = p / GROUP, f = g * GROUP * PANEL;

    gemm_near((b->end - b->begin) * s->W, s->C, p * PANEL + panel_cols(s, p) - f, k->t.group,
              GROUP * PANEL, 1, k->w.back_w1 + g * packed_numel(GROUP * PANEL, s->C), NULL, dx,
              s->C, put_of(g * GROUP > b->panel));
}

/* sums (n) += the rows of dout. */
static void add_columns(float *sum, const elem *dy, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++)
#pragma omp simd
        for (int64_t o = 0; o < n; o++)
            sum[o] += num(dy[r * n + o]);
}

static void backward_band(const task *k, const row_band *b)
{
    const ffn_shape *s    = k->s;
    const kdas_call *call = k->call;
    span             r    = span_of(s, b);
    int64_t at = (b->n * s->H + b->begin) * s->W * s->C, count = (b->end - b->begin) * s->W * s->C;
    float  *dx = !call->din[FFN_X] ? NULL : k->partial ? k->partial + at : k->t.dx;
#ifdef KD_HALF
    const elem *own = (const elem *)call->dout + (b->n * s->H + r.o0) * s->W * s->O;

    if (call->din[FFN_W2] && r.o0 < r.o1)
        turn_rows(k->t.dout, own, (r.o1 - r.o0) * s->W, s->O, s->O);
    if (call->din[FFN_W1])
        turn_rows(k->t.x, (const elem *)call->in[FFN_X] + at, count / s->C, s->C, s->C);
#endif
    for (int64_t p = b->panel; p < b->panels; p++) {
        row_map dz = activate_panel(k, b, &r, p);

        if (k->hidden) hidden_panel(k, b, p, &dz);
        if (dx && (p % GROUP == GROUP - 1 || p + 1 == b->panels)) add_group(k, b, p, dx);
    }
    if (b->panel == 0 && call->din[FFN_B2])
        add_columns(k->sums.b2, (const elem *)call->dout + (b->n * s->H + b->begin) * s->W * s->O,
                    count / s->C, s->O);
    if (dx && !k->partial)
        join_sums((elem *)call->din[FFN_X] + at, dx, 1, 0, NULL, count, adds(call, FFN_X));
}

/* ---- all of it ---- */

/* Part d of the rows, a of the panels. */
static void backward_part(task *k, int d, int a)
{
    const ffn_shape *s    = k->s;
    int64_t          rows = s->N * s->H, r = part_begin(rows, d, s->depth);
    row_band         b;

    set_panels(s, &b, a);
    if (k->sums.b1) {
        int64_t count = b.panels - b.panel;

        memset(k->sums.filter + b.panel * FILTER_SUMS * PANEL, 0,
               (size_t)(count * FILTER_SUMS * PANEL) * sizeof(float));
        memset(k->sums.b1 + b.panel * PANEL, 0, (size_t)(count * PANEL) * sizeof(float));
        if (a == 0) memset(k->sums.b2, 0, (size_t)s->O * sizeof(float));
    }
    while (next_stretch(s, &r, part_begin(rows, d + 1, s->depth), &b)) {
        int64_t bands = ceil_div(b.y1 - b.y0, band_of(s));

        for (int64_t i = 0; i < bands; i++) {
            set_band(&b, i, bands);
            backward_band(k, &b);
            k->again = true;
        }
    }
}

/* Join what the parts gathered for panel p. */
static void join_panel(const kdas_call *call, const ffn_shape *s, const part_sums *t, int64_t p)
{
    int64_t f0 = p * PANEL, cols = panel_cols(s, p), width = panel_width(s, p);
    float  *dw1 = call->din[FFN_W1], *db1 = call->din[FFN_B1], *dwd = call->din[FFN_WD],
          *dbd = call->din[FFN_BD], *dw2 = call->din[FFN_W2];
    const float *w1 = t->w1 + p * s->C * PANEL, *w2 = t->w2 + p * s->O * PANEL,
                *filter = t->filter + p * FILTER_SUMS * PANEL;

    for (int64_t f = 0; dw1 && f < cols; f++)
        for (int64_t c = 0; c < s->C; c++)
            dw1[(f0 + f) * s->C + c] += w1[c * width + f];
    for (int64_t o = 0; dw2 && o < s->O; o++)
        for (int64_t f = 0; f < cols; f++)
            dw2[o * s->F + f0 + f] += w2[o * width + f];
    for (int64_t f = 0; f < cols; f++) {
        for (int64_t i = 0; dwd && i < TAPS; i++)
            dwd[(f0 + f) * TAPS + i] += filter[i * PANEL + f];
        if (dbd) dbd[f0 + f] += filter[BIAS_ROW * PANEL + f];
        if (db1) db1[f0 + f] += t->b1[f0 + f];
    }
}

static void join_parameters(const kdas_call *call, const ffn_shape *s, char *memory, size_t bytes)
{
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < s->panels; p++)
        for (int d = 0; d < s->depth; d++) {
            part_sums t;

            sums_layout(&t, s, memory + bytes * (size_t)d);
            join_panel(call, s, &t, p);
        }
    for (int d = 0; call->din[FFN_B2] && d < s->depth; d++) {
        part_sums t;

        sums_layout(&t, s, memory + bytes * (size_t)d);
        for (int64_t o = 0; o < s->O; o++)
            ((float *)call->din[FFN_B2])[o] += t.b2[o];
    }
}

static void backward_parts(kdas_device *device, const kdas_call *call, const ffn_shape *s)
{
    int64_t   count = numel(&call->node->in[FFN_X]);
    uint32_t  wants = call->node->wants;
    part_sums sums;
    scratch   t;
    size_t    sums_bytes = wants & PARAMS ? sums_layout(&sums, s, NULL) : 0;
    size_t    bytes      = scratch_layout(&t, s, NULL);
    void     *at         = call->work;
    float    *partial    = s->across > 1 ? carve(&at, floats(s->across * count)) : NULL;
    char     *all_sums   = carve(&at, sums_bytes * (size_t)s->depth);

#pragma omp parallel for schedule(static)
    for (int i = 0; i < s->depth * s->across; i++) {
        task k = { .call    = call,
                   .s       = s,
                   .partial = partial ? partial + i % s->across * count : NULL,
                   .hidden  = call->din[FFN_X] || call->din[FFN_W1] || call->din[FFN_B1] };

        ffn_pack_layout(&k.w, s, true, call->packed);
        scratch_layout(&k.t, s, (char *)at + bytes * (size_t)i);
        if (sums_bytes) sums_layout(&k.sums, s, all_sums + sums_bytes * (size_t)(i / s->across));
        backward_part(&k, i / s->across, i % s->across);
    }
    if (sums_bytes) join_parameters(call, s, all_sums, sums_bytes);
    if (partial && call->din[FFN_X])
        join_maps(device, call->din[FFN_X], partial, s->across, NULL, count, adds(call, FFN_X));
}

kdas_status KD_SIMD(mix_ffn_backward)(kdas_device *device, const kdas_call *call)
{
    ffn_shape s = ffn_shape_of(call->node, device->threads);

    if (call->node->wants & (PARAMS | 1u)) backward_parts(device, call, &s);
    if (call->din[FFN_RESIDUAL]) /* after dx, which may be the same memory */
        join_maps(device, call->din[FFN_RESIDUAL], NULL, 0, call->dout, numel(&call->node->out),
                  adds(call, FFN_RESIDUAL));
    return KDAS_OK;
}
