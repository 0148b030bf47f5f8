/* mix_ffn_backward.c - MIX_FFN backward. The hidden maps are recomputed, but for the output of fc1 where saving it is
 * cheaper (saves_fc1).
 *
 * For a band of rows of x, panel by panel:
 *   a = fc1 of the rows around the band;  dg = dout W2
 *   in registers: z = dwconv(a), g = gelu(z), dz = dg gelu'(z)
 *   dW2 += dout^T g;  the filter's gradient += dz times a
 *   da = the rotated filter over dz;  dW1 += da^T x;  dx += da W1
 * A row of da needs three rows of dz, and a row of dz three of a: each panel keeps the last two rows of both, the halo, for
 * the band below. Each part of the rows has its own sums for the parameters, which are added up in a fixed order. */
#include "backend/cpu/simd/mix_ffn.h"

enum { PARAMS = 0x7e };

/* Sums for the parameters of one part of the rows. Its tasks share them: each writes those of its panels. */
typedef struct part_sums {
    float *w1;     /* for each panel (C, width): dW1 transposed */
    float *w2;     /* for each panel (O, width)                 */
    float *filter; /* for each panel (FILTER_SUMS, PANEL)       */
    float *b1, *b2;
} part_sums;

static size_t sums_layout(part_sums *t, const ffn_shape *s, void *memory)
{
    void *at = memory;

    t->w1     = bump_alloc(&at, float_bytes(s->panels * s->C * PANEL));
    t->w2     = bump_alloc(&at, float_bytes(s->panels * s->O * PANEL));
    t->filter = bump_alloc(&at, float_bytes(s->panels * FILTER_SUMS * PANEL));
    t->b1     = bump_alloc(&at, float_bytes(s->panels * PANEL));
    t->b2     = bump_alloc(&at, float_bytes(s->O));
    return (size_t)((char *)at - (char *)memory);
}

/* Scratch of one task: maps of one panel in a band, and the halo of every panel. */
typedef struct scratch {
    elem  *hidden, *hidden_halo; /* a: (band + 4, W, PANEL); two rows of each panel */
    elem  *dz_map, *dz_halo;     /* dg, then dz: (band + 2, W, PANEL); two rows     */
    elem  *activated;            /* g, then da: (band + 2, W, PANEL)                */
    elem  *group;                /* da of a group of panels: (band, W, GROUP PANEL) */
    float *dx;                   /* (band, W, C)                                    */
    unit  *x, *dout, *panel;     /* bf16: x and dout transposed; g or da as a panel */
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

    t->hidden      = bump_alloc(&at, s->saves_fc1 ? 0 : elem_bytes((band + 4) * row));
    t->hidden_halo = bump_alloc(&at, s->saves_fc1 ? 0 : elem_bytes(s->panels * 2 * row));
    t->dz_map      = bump_alloc(&at, elem_bytes((band + 2) * row));
    t->dz_halo     = bump_alloc(&at, elem_bytes(s->panels * 2 * row));
    t->activated   = bump_alloc(&at, elem_bytes((band + 2) * row));
    t->group       = bump_alloc(&at, elem_bytes(band * s->W * GROUP * PANEL));
    t->dx          = bump_alloc(&at, s->panel_parts > 1 ? 0 : float_bytes(band * s->W * s->C));
    t->x           = bump_alloc(&at, UNIT_DEPTH > 1 ? float_bytes(units_of(pixels) * s->C) : 0);
    t->dout        = bump_alloc(&at, UNIT_DEPTH > 1 ? float_bytes(units_of(pixels) * s->O) : 0);
    t->panel       = bump_alloc(&at, UNIT_DEPTH > 1 ? float_bytes(units_of(pixels) * PANEL) : 0);
    return (size_t)((char *)at - (char *)memory);
}

size_t KD_SIMD(mix_ffn_backward_work)(const ffn_shape *s, uint32_t wants)
{
    scratch   t;
    part_sums sums;
    size_t    bytes = scratch_layout(&t, s, NULL) * (size_t)(s->row_parts * s->panel_parts);

    if (wants & PARAMS) bytes += sums_layout(&sums, s, NULL) * (size_t)s->row_parts;
    if (s->panel_parts > 1) bytes += float_bytes(s->panel_parts * s->N * s->H * s->W * s->C);
    return bytes;
}

/* ---- rows of one panel ---- */

/* A task: one part of the rows and one of the panels. */
typedef struct task {
    const kdas_call *call;
    const ffn_shape *s;
    ffn_packed       w;
    scratch          t;
    part_sums        sums;
    float           *partial; /* its partial sums of dx; NULL: panel_parts is 1 */
    bool             hidden;  /* da is needed                                   */
    bool             adding;  /* sums hold values of an earlier band            */
} task;

/* z = the filter over a, for n pixels; g = gelu(z); dg becomes dz = dg gelu'(z). */
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

static void activate_row(const ffn_shape *s, const row_view *a, const float *filter, int64_t y,
                         elem *g, elem *dg)
{
    line l = { s->W, a->step };

    for (int64_t c = 0; c < a->step; c += LANES) {
        const elem *row[3];
        vec         w[TAPS], bias = load(filter + BIAS_ROW * PANEL + c);

        three_rows_of(row, a, s, y, c);
        for (int k = 0; k < TAPS; k++)
            w[k] = load(filter + k * PANEL + c);
        BY_STRIPS(x, n, s->W, activate_strip(n, row, w, bias, g + c, dg + c, x, l));
    }
}

INLINE void filter_grad_strip(const int n, const elem *const row[3], const elem *dz, vec *sum,
                              int64_t x, line l)
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

/* sums (FILTER_SUMS, PANEL) += the gradients of the filter and its bias from row y of dz. */
static void filter_grad_row(const ffn_shape *s, const row_view *a, const elem *dz, int64_t y,
                            float *sums)
{
    line l = { s->W, a->step };

    for (int64_t c = 0; c < a->step; c += LANES) {
        const elem *row[3];
        vec         sum[FILTER_SUMS];

        three_rows_of(row, a, s, y, c);
        for (int k = 0; k < FILTER_SUMS; k++)
            sum[k] = load(sums + k * PANEL + c);
        BY_STRIPS(x, n, s->W, filter_grad_strip(n, row, dz + c, sum, x, l));
        for (int k = 0; k < FILTER_SUMS; k++)
            store(sums + k * PANEL + c, sum[k]);
    }
}

INLINE vec data_grad_strip(const int n, const elem *const row[3], const vec *w, elem *da,
                           elem *group, int64_t x, line l)
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

/* Row y of da, from dz, into the map of its panel and that of its group; db1 += its sum. */
static void data_grad_row(const ffn_shape *s, const row_view *dz, const float *filter, int64_t y,
                          elem *da, elem *group, float *db1)
{
    line l = { s->W, dz->step };

    for (int64_t c = 0; c < dz->step; c += LANES) {
        const elem *row[3];
        vec         w[TAPS], sum = load(db1 + c);

        three_rows_of(row, dz, s, y, c);
        for (int k = 0; k < TAPS; k++)
            w[k] = load(filter + (ROTATED + k) * PANEL + c);
        BY_STRIPS(x, n, s->W, sum += data_grad_strip(n, row, w, da + c, group + c, x, l));
        store(db1 + c, sum);
    }
}

/* ---- a band ---- */

/* The rows that a band computes. */
typedef struct row_ranges {
    int64_t a0, a1; /* new rows of a  */
    int64_t z0, z1; /* new rows of dz */
    int64_t o0,
        o1; /* new rows of dz without the halo: only they add to the parameters' gradients */
} row_ranges;

static row_ranges row_ranges_of(const ffn_shape *s, const row_band *b)
{
    bool       first = b->begin == b->y0;
    row_ranges r;

    r.z1 = b->end < s->H ? b->end + 1 : s->H;
    r.z0 = !first ? b->begin + 1 : b->begin > 0 ? b->begin - 1 : 0;
    r.a1 = r.z1 < s->H ? r.z1 + 1 : s->H;
    r.a0 = !first ? b->begin + 2 : r.z0 > 0 ? r.z0 - 1 : 0;
    if (r.a0 > r.a1) r.a0 = r.a1;
    r.o0 = r.z0 > b->y0 ? r.z0 : b->y0;
    r.o1 = r.z1 < b->y1 ? r.z1 : b->y1;
    return r;
}

/* The rows of a that the band needs: saved by forward, or the halo and fc1 of the new rows. */
static row_view hidden_view(const task *k, const row_band *b, const row_ranges *r, int64_t p)
{
    const ffn_shape *s     = k->s;
    bool             first = b->begin == b->y0;
    row_view         a     = { k->t.hidden, first ? b->begin - 2 : b->begin, panel_width(s, p) };
    elem            *halo  = k->t.hidden_halo + p * 2 * s->W * PANEL;

    if (s->saves_fc1) {
        a.at    = (elem *)k->call->saved + (b->n * s->panels + p) * s->H * s->W * PANEL;
        a.first = 0;
        return a;
    }
    if (!first) copy_rows(a.at, halo, s, a.step, s->H - b->begin < 2 ? s->H - b->begin : 2);
    fc1_rows(s, &k->w, k->call->in[FFN_X], b->n, p, &a, r->a0, r->a1);
    if (b->end < b->y1)
        copy_rows(halo, row_at(&a, s, b->end), s, a.step, s->H - b->end < 2 ? s->H - b->end : 2);
    return a;
}

/* C (M, width) += A^T B, summed over pixels. A (pixels, M) is elements, in bf16 `units` from transpose_rows();
 * B (pixels, width) is a panel. */
static void add_outer_product(const task *k, int64_t pixels, int64_t M, int64_t width,
                              const elem *a, const unit *units, const elem *b, float *c)
{
#ifdef KD_HALF
    (void)a;
    interleave_rows(k->t.panel, b, pixels, width, width);
    gemm_transposed_a(M, width, pixels, units, k->t.panel, c, width, store_mode_of(k->adding));
#else
    (void)units;
    gemm_cached_a(M, width, pixels, a, 1, M, b, NULL, c, width, store_mode_of(k->adding));
#endif
}

/* g and dz of the new rows of one panel; accumulates the gradients of W2 and the filter. */
static row_view activate_panel(const task *k, const row_band *b, const row_ranges *r, int64_t p)
{
    const ffn_shape *s      = k->s;
    const elem      *dout   = (const elem *)k->call->dout + (b->n * s->H + r->z0) * s->W * s->O;
    const float     *filter = k->w.filter + p * FILTER_ROWS * PANEL;
    bool             first  = b->begin == b->y0;
    row_view         a = hidden_view(k, b, r, p), dz = { k->t.dz_map, b->begin - 1, a.step };
    row_view         g    = { k->t.activated, r->z0, a.step };
    elem            *halo = k->t.dz_halo + p * 2 * s->W * PANEL;

    if (!first) copy_rows(dz.at, halo, s, dz.step, 2);
    if (r->z0 < r->z1)
        gemm_cached_a((r->z1 - r->z0) * s->W, a.step, s->O, dout, s->O, 1,
                      k->w.w2_backward + p * PANEL * units_of(s->O), NULL, row_at(&dz, s, r->z0),
                      dz.step, SET);
    for (int64_t y = r->z0; y < r->z1; y++)
        activate_row(s, &a, filter, y, row_at(&g, s, y), row_at(&dz, s, y));
    if (b->end < b->y1) copy_rows(halo, row_at(&dz, s, b->end - 1), s, dz.step, 2);
    if (r->o0 >= r->o1) return dz;
    if (k->call->din[FFN_W2])
        add_outer_product(k, (r->o1 - r->o0) * s->W, s->O, a.step,
                          dout + (r->o0 - r->z0) * s->W * s->O, k->t.dout, row_at(&g, s, r->o0),
                          k->sums.w2 + p * s->O * PANEL);
    if (k->call->din[FFN_WD] || k->call->din[FFN_BD])
        for (int64_t y = r->o0; y < r->o1; y++)
            filter_grad_row(s, &a, row_at(&dz, s, y), y, k->sums.filter + p * FILTER_SUMS * PANEL);
    return dz;
}

/* da of the band's rows of one panel; accumulates the gradients of W1 and b1. */
static void fc1_grad_panel(const task *k, const row_band *b, int64_t p, const row_view *dz)
{
    const ffn_shape *s      = k->s;
    const float     *filter = k->w.filter + p * FILTER_ROWS * PANEL;
    const elem      *x  = (const elem *)k->call->in[FFN_X] + (b->n * s->H + b->begin) * s->W * s->C;
    row_view         da = { k->t.activated, b->begin, dz->step };
    float            none[PANEL] = { 0 };

    for (int64_t y = b->begin; y < b->end; y++)
        data_grad_row(s, dz, filter, y, row_at(&da, s, y),
                      k->t.group + ((y - b->begin) * s->W * GROUP + p % GROUP) * PANEL,
                      k->sums.b1 ? k->sums.b1 + p * PANEL : none);
    if (k->call->din[FFN_W1])
        add_outer_product(k, (b->end - b->begin) * s->W, s->C, da.step, x, k->t.x, da.at,
                          k->sums.w1 + p * s->C * PANEL);
}

/* dx += da W1 for the group of panels that ends with p. */
static void add_dx_of_group(const task *k, const row_band *b, int64_t p, float *dx)
{
    const ffn_shape *s = k->s;
    int64_t          g = p / GROUP, f = g * GROUP * PANEL;

    gemm_cached_a((b->end - b->begin) * s->W, s->C, p * PANEL + panel_cols(s, p) - f, k->t.group,
                  GROUP * PANEL, 1, k->w.w1_backward + g * packed_numel(GROUP * PANEL, s->C), NULL,
                  dx, s->C, store_mode_of(g * GROUP > b->panel));
}

static void backward_band(const task *k, const row_band *b)
{
    const ffn_shape *s    = k->s;
    const kdas_call *call = k->call;
    row_ranges       r    = row_ranges_of(s, b);
    int64_t at = (b->n * s->H + b->begin) * s->W * s->C, count = (b->end - b->begin) * s->W * s->C;
    float  *dx = !call->din[FFN_X] ? NULL : k->partial ? k->partial + at : k->t.dx;
#ifdef KD_HALF
    const elem *own = (const elem *)call->dout + (b->n * s->H + r.o0) * s->W * s->O;

    if (call->din[FFN_W2] && r.o0 < r.o1)
        transpose_rows(k->t.dout, own, (r.o1 - r.o0) * s->W, s->O, s->O);
    if (call->din[FFN_W1])
        transpose_rows(k->t.x, (const elem *)call->in[FFN_X] + at, count / s->C, s->C, s->C);
#endif
    for (int64_t p = b->panel; p < b->panels; p++) {
        row_view dz = activate_panel(k, b, &r, p);

        if (k->hidden) fc1_grad_panel(k, b, p, &dz);
        if (dx && (p % GROUP == GROUP - 1 || p + 1 == b->panels)) add_dx_of_group(k, b, p, dx);
    }
    if (b->panel == 0 && call->din[FFN_B2])
        add_columns(k->sums.b2, (const elem *)call->dout + (b->n * s->H + b->begin) * s->W * s->O,
                    count / s->C, s->O);
    if (dx && !k->partial)
        reduce_partials((elem *)call->din[FFN_X] + at, dx, 1, 0, NULL, count, adds(call, FFN_X));
}

/* ---- the op ---- */

/* Task (d, a): part d of the rows, part a of the panels. */
static void backward_part(task *k, int d, int a)
{
    const ffn_shape *s    = k->s;
    int64_t          rows = s->N * s->H, r = part_begin(rows, d, s->row_parts);
    row_band         b;

    set_panels(s, &b, a);
    if (k->sums.b1) {
        int64_t count = b.panels - b.panel;

        memset(k->sums.filter + b.panel * FILTER_SUMS * PANEL, 0,
               (size_t)(count * FILTER_SUMS * PANEL) * sizeof(float));
        memset(k->sums.b1 + b.panel * PANEL, 0, (size_t)(count * PANEL) * sizeof(float));
        if (a == 0) memset(k->sums.b2, 0, (size_t)s->O * sizeof(float));
    }
    while (next_row_range(s, &r, part_begin(rows, d + 1, s->row_parts), &b)) {
        int64_t bands = ceil_div(b.y1 - b.y0, band_of(s));

        for (int64_t i = 0; i < bands; i++) {
            set_band(&b, i, bands);
            backward_band(k, &b);
            k->adding = true;
        }
    }
}

/* Add the sums of one part, for panel p, to the gradients of the parameters. */
static void reduce_panel(const kdas_call *call, const ffn_shape *s, const part_sums *t, int64_t p)
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

static void reduce_parameters(const kdas_call *call, const ffn_shape *s, char *memory, size_t bytes)
{
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < s->panels; p++)
        for (int d = 0; d < s->row_parts; d++) {
            part_sums t;

            sums_layout(&t, s, memory + bytes * (size_t)d);
            reduce_panel(call, s, &t, p);
        }
    for (int d = 0; call->din[FFN_B2] && d < s->row_parts; d++) {
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
    float    *partial =
        s->panel_parts > 1 ? bump_alloc(&at, float_bytes(s->panel_parts * count)) : NULL;
    char *all_sums = bump_alloc(&at, sums_bytes * (size_t)s->row_parts);

#pragma omp parallel for schedule(static)
    for (int i = 0; i < s->row_parts * s->panel_parts; i++) {
        task k = { .call    = call,
                   .s       = s,
                   .partial = partial ? partial + i % s->panel_parts * count : NULL,
                   .hidden  = call->din[FFN_X] || call->din[FFN_W1] || call->din[FFN_B1] };

        ffn_pack_layout(&k.w, s, true, call->packed);
        scratch_layout(&k.t, s, (char *)at + bytes * (size_t)i);
        if (sums_bytes)
            sums_layout(&k.sums, s, all_sums + sums_bytes * (size_t)(i / s->panel_parts));
        backward_part(&k, i / s->panel_parts, i % s->panel_parts);
    }
    if (sums_bytes) reduce_parameters(call, s, all_sums, sums_bytes);
    if (partial && call->din[FFN_X])
        reduce_maps(device, call->din[FFN_X], partial, s->panel_parts, NULL, count,
                    adds(call, FFN_X));
}

kdas_status KD_SIMD(mix_ffn_backward)(kdas_device *device, const kdas_call *call)
{
    ffn_shape s = ffn_shape_of(call->node, device->threads);

    if (call->node->wants & (PARAMS | 1u)) backward_parts(device, call, &s);
    if (call->din[FFN_RESIDUAL]) /* after dx, which may be the same memory */
        reduce_maps(device, call->din[FFN_RESIDUAL], NULL, 0, call->dout, numel(&call->node->out),
                    adds(call, FFN_RESIDUAL));
    return KDAS_OK;
}
