/* mix_ffn.c - MIX_FFN forward: out = fc2(gelu(dwconv3x3(fc1(x)))) + residual. mix_ffn.h says how hidden channels are
 * blocked; mix_ffn_backward.c has the gradients.
 *
 * For each band of rows, and in it for each panel: fc1 of the new rows (the two halo rows above were kept from the band
 * before); the depthwise filter and GELU in registers; the product with W2, which is accumulated in f32 for the band. When
 * all panels are done, the sums and the residual go to out. */
#include "backend/cpu/simd/mix_ffn.h"

/* ---- parameters ---- */

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    ffn_shape    s  = ffn_shape_of(call->node, device->threads);
    const float *w1 = call->in[FFN_W1], *b1 = call->in[FFN_B1], *wd = call->in[FFN_WD],
                *bd = call->in[FFN_BD], *w2 = call->in[FFN_W2], *b2 = call->in[FFN_B2];
    ffn_packed p;

    memset(call->packed, 0, ffn_pack_layout(&p, &s, call->node->wants, call->packed));
    pack_panels(p.w1, w1, s.C, s.F, 1, s.C, 1.0f);
    if (b1) memcpy(p.b1, b1, (size_t)s.F * sizeof(float));
    if (b2) memcpy(p.b2, b2, (size_t)s.O * sizeof(float));
    for (int64_t f = 0; f < s.F; f++) {
        float *to = p.filter + f / PANEL * FILTER_ROWS * PANEL + f % PANEL;

        for (int64_t k = 0; k < TAPS; k++)
            to[k * PANEL] = to[(ROTATED + TAPS - 1 - k) * PANEL] = wd[f * TAPS + k];
        to[BIAS_ROW * PANEL] = bd ? bd[f] : 0;
    }
    if (call->node->wants) pack_panels(p.w2_backward, w2, s.O, s.F, s.F, 1, 1.0f);
    for (int64_t i = 0; i * GROUP * PANEL < s.F; i++) {
        int64_t f = i * GROUP * PANEL, n = s.F - f < GROUP * PANEL ? s.F - f : GROUP * PANEL;

        pack_panels(p.w2 + i * packed_numel(GROUP * PANEL, s.O), w2 + f, n, s.O, 1, s.F, 1.0f);
        if (call->node->wants)
            pack_panels(p.w1_backward + i * packed_numel(GROUP * PANEL, s.C), w1 + f * s.C, n, s.C,
                        s.C, 1, 1.0f);
    }
    return KDAS_OK;
}

/* ---- one task ---- */

/* Scratch of one task. */
typedef struct scratch {
    elem  *hidden;    /* fc1 of one panel: (band + 2, W, PANEL)               */
    elem  *halo;      /* for each panel, the last two rows, for the next band */
    elem  *activated; /* gelu of a group of panels: (band, W, GROUP PANEL)    */
    float *sums;      /* (band, W, O)                                         */
} scratch;

/* Rows of a band: the scratch stays in the L2 cache, and products have enough rows to be fast. */
static int64_t band_of(const ffn_shape *s)
{
    int64_t pixels = 196608 / (3 * GROUP * PANEL + s->C + s->O);

    return band_rows(s, pixels > 400 ? 400 : pixels);
}

static size_t scratch_layout(scratch *t, const ffn_shape *s, void *memory)
{
    int64_t band = band_of(s);
    void   *at   = memory;

    t->hidden    = bump_alloc(&at, elem_bytes((band + 2) * s->W * PANEL));
    t->halo      = bump_alloc(&at, elem_bytes(s->panels * 2 * s->W * PANEL));
    t->activated = bump_alloc(&at, elem_bytes(band * s->W * GROUP * PANEL));
    t->sums      = bump_alloc(&at, s->panel_parts > 1 ? 0 : float_bytes(band * s->W * s->O));
    return (size_t)((char *)at - (char *)memory);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    ffn_shape  s = ffn_shape_of(node, device->threads);
    ffn_packed p;
    scratch    t;

    plan->packed       = ffn_pack_layout(&p, &s, node->wants, NULL);
    plan->pack_key     = node->wants ? 2 : 1;
    plan->work_forward = scratch_layout(&t, &s, NULL) * (size_t)(s.row_parts * s.panel_parts);
    if (s.panel_parts > 1) plan->work_forward += float_bytes(s.panel_parts * numel(&node->out));
    if (s.saves_fc1) plan->saved = elem_bytes(s.N * s.panels * s.H * s.W * PANEL);
    if (node->wants) plan->work_backward = KD_SIMD(mix_ffn_backward_work)(&s, node->wants);
    return KDAS_OK;
}

/* gelu of n neighbouring outputs of the filter. */
INLINE void activate_strip(const int n, const elem *const row[3], const vec *w, vec bias, elem *to,
                           int64_t to_step, int64_t x, line l)
{
    vec sum[STRIP];

#pragma GCC unroll 4
    for (int j = 0; j < n; j++)
        sum[j] = bias;
    add_taps(sum, n, row, w, x, l, true, 0);
#pragma GCC unroll 4
    for (int j = 0; j < n; j++)
        store(to + (x + j) * to_step, sum[j] * normal_v(sum[j]));
}

/* gelu of the filtered row y of the hidden map `a`. */
static void activate_row(const ffn_shape *s, const row_view *a, const float *filter, int64_t y,
                         elem *to, int64_t to_step)
{
    line l = { s->W, a->step };

    for (int64_t c = 0; c < a->step; c += LANES) {
        const elem *row[3];
        vec         w[TAPS], bias = load(filter + BIAS_ROW * PANEL + c);

        three_rows_of(row, a, s, y, c);
        for (int k = 0; k < TAPS; k++)
            w[k] = load(filter + k * PANEL + c);
        BY_STRIPS(x, n, s->W, activate_strip(n, row, w, bias, to + c, to_step, x, l));
    }
}

/* Save the rows of fc1 that are in the range, without the halo, for backward: (H, W, step) for each image and panel. */
static void save_fc1_rows(const kdas_device *device, const kdas_call *call, const ffn_shape *s,
                          const row_band *b, int64_t p, const row_view *a, int64_t from, int64_t to)
{
    elem   *saved = (elem *)call->saved + (b->n * s->panels + p) * s->H * s->W * PANEL;
    int64_t y0 = from > b->y0 ? from : b->y0, y1 = to < b->y1 ? to : b->y1;
    int64_t count = (y1 - y0) * s->W * a->step, at = y0 * s->W * a->step;

    if (y0 >= y1) return;
    if (PANEL < LINE || a->step != PANEL ||
        !streams(device, saved + at, LINE, (size_t)(s->N * s->H * s->W * s->F) * sizeof(elem))) {
        memcpy(saved + at, row_at(a, s, y0), (size_t)count * sizeof(elem));
        return;
    }
    for (int64_t i = 0; i < count; i += LANES)
        stream(saved + at + i, load(row_at(a, s, y0) + i));
}

/* gelu of one panel of a band, into `to`. */
static void activate_panel(const kdas_device *device, const kdas_call *call, const ffn_shape *s,
                           const ffn_packed *w, const scratch *t, const row_band *b, int64_t p,
                           elem *to)
{
    row_view a     = { t->hidden, b->begin - 1, panel_width(s, p) };
    elem    *halo  = t->halo + p * 2 * s->W * PANEL;
    bool     first = b->begin == b->y0;
    int64_t  from  = first ? (b->begin > 0 ? b->begin - 1 : 0) : b->begin + 1;
    int64_t  until = b->end < s->H ? b->end + 1 : s->H;

    if (!first) copy_rows(a.at, halo, s, a.step, 2);
    fc1_rows(s, w, call->in[FFN_X], b->n, p, &a, from, until);
    if (s->saves_fc1) save_fc1_rows(device, call, s, b, p, &a, from, until);
    if (b->end < b->y1) copy_rows(halo, row_at(&a, s, b->end - 1), s, a.step, 2);
    for (int64_t y = b->begin; y < b->end; y++)
        activate_row(s, &a, w->filter + p * FILTER_ROWS * PANEL, y,
                     to + (y - b->begin) * s->W * GROUP * PANEL, GROUP * PANEL);
}

static void forward_band(const kdas_device *device, const kdas_call *call, const ffn_shape *s,
                         const ffn_packed *w, const scratch *t, const row_band *b, float *partial)
{
    int64_t     pixels = (b->end - b->begin) * s->W, at = (b->n * s->H + b->begin) * s->W * s->O;
    float      *sums     = partial ? partial + at : t->sums;
    const elem *residual = call->in[FFN_RESIDUAL];

    for (int64_t p = b->panel; p < b->panels; p += GROUP) {
        int64_t cols = 0;

        for (int64_t i = p; i < p + GROUP && i < b->panels; i++) {
            activate_panel(device, call, s, w, t, b, i, t->activated + (i - p) * PANEL);
            cols += panel_cols(s, i);
        }
        gemm_cached_a(pixels, s->O, cols, t->activated, GROUP * PANEL, 1,
                      w->w2 + p / GROUP * packed_numel(GROUP * PANEL, s->O), p == 0 ? w->b2 : NULL,
                      sums, s->O, store_mode_of(p > b->panel));
    }
    if (!partial)
        reduce_partials((elem *)call->out + at, sums, 1, 0, residual ? residual + at : NULL,
                        pixels * s->O, false);
}

/* Task (d, a): part d of the rows, part a of the panels. `partial`: its partial sums of out; NULL if there is one part. */
static void forward_part(const kdas_device *device, const kdas_call *call, const ffn_shape *s,
                         const scratch *t, int d, int a, float *partial)
{
    int64_t    rows = s->N * s->H, r = part_begin(rows, d, s->row_parts);
    ffn_packed w;
    row_band   b;

    ffn_pack_layout(&w, s, call->node->wants, call->packed);
    set_panels(s, &b, a);
    while (next_row_range(s, &r, part_begin(rows, d + 1, s->row_parts), &b)) {
        int64_t bands = ceil_div(b.y1 - b.y0, band_of(s));

        for (int64_t i = 0; i < bands; i++) {
            set_band(&b, i, bands);
            forward_band(device, call, s, &w, t, &b, partial);
        }
    }
    stream_done();
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    ffn_shape s     = ffn_shape_of(call->node, device->threads);
    int64_t   count = numel(&call->node->out);
    void     *at    = call->work;
    float *partial = s.panel_parts > 1 ? bump_alloc(&at, float_bytes(s.panel_parts * count)) : NULL;

#pragma omp parallel for schedule(static)
    for (int i = 0; i < s.row_parts * s.panel_parts; i++) {
        scratch t;
        size_t  bytes = scratch_layout(&t, &s, NULL);

        scratch_layout(&t, &s, (char *)at + bytes * (size_t)i);
        forward_part(device, call, &s, &t, i / s.panel_parts, i % s.panel_parts,
                     partial ? partial + i % s.panel_parts * count : NULL);
    }
    if (partial)
        reduce_maps(device, call->out, partial, s.panel_parts, call->in[FFN_RESIDUAL], count,
                    false);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(mix_ffn) = {
    .prepare  = prepare,
    .pack     = pack,
    .forward  = forward,
    .backward = KD_SIMD(mix_ffn_backward),
};
