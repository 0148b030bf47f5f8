/* inverted.c - INVERTED: out = narrow(filter(widen(x))) + residual, with activations after widen and filter.
 *
 * The F wide channels are never in memory as a whole. They are computed panel by panel (PANEL channels) and, within a panel,
 * by bands of output rows. For each band, and in it for each panel: widen gives the rows that the filter reads, with zeros
 * around the image (those that the band before computed, too, were kept); the filter, whose values are between the limits of
 * its activation; the product with W2 for a group of panels, which is accumulated in f32. When all panels are done, the sums
 * and the residual go to out.
 *
 * The rows (n,y) of out are divided into row_parts parts, the panels into panel_parts; each pair is one task. Where panel_parts
 * is above 1, tasks have partial sums of out, which are added up in a fixed order. */
#include "backend/cpu/simd/gemm.h"

enum { X, W1, B1, WD, BD, W2, B2, RESIDUAL };
/* Most panels in one product with W2: 256 channels with vectors of 8 and 16. Pixels of a strip of the filter, whose sums are
 * independent: the CPU overlaps them. */
enum { GROUP = LANES == 16 ? 8 : 16, PIXELS = 8 };

typedef struct shape {
    int64_t N, H, W, C, F, O, Ho, Wo;
    int64_t k, stride, top, left;
    int64_t width;  /* pixels of a row of wide channels, with the zeros around it */
    int64_t halo;   /* rows that two bands read                                   */
    int64_t panels; /* of F                                                       */
    int64_t group;  /* panels of a product with W2                                */
    int64_t band;   /* rows of out                                                */
    int     row_parts, panel_parts;
} shape;

/* The scratch stays in the L2 cache, and products have enough rows to be fast. */
static int64_t band_of(const shape *s)
{
    int64_t pixels = 196608 / (3 * s->group * PANEL + s->C + s->O);
    int64_t rows   = (pixels > 400 ? 400 : pixels) / s->Wo;

    return rows < 1 ? 1 : rows > s->Ho ? s->Ho : rows;
}

static shape shape_of(const kdas_node_desc *node, int threads)
{
    const kdas_conv_attr *a = &((const kdas_inverted_attr *)node->attr)->filter;
    const int64_t        *x = node->in[X].dim, *y = node->out.dim;
    shape                 s = { .N           = x[0],
                                .H           = x[1],
                                .W           = x[2],
                                .C           = x[3],
                                .F           = node->in[W1].dim[0],
                                .O           = y[3],
                                .Ho          = y[1],
                                .Wo          = y[2],
                                .k           = node->in[WD].dim[2],
                                .stride      = a->stride,
                                .top         = a->pad[0],
                                .left        = a->pad[1],
                                .row_parts   = threads,
                                .panel_parts = 1 };

    s.width = (s.Wo - 1) * s.stride + s.k;
    if (s.width < s.left + s.W) s.width = s.left + s.W;
    s.halo   = s.k - s.stride;
    s.panels = ceil_div(s.F, PANEL);
    s.group  = ceil_div(s.panels, ceil_div(s.panels, GROUP));
    while (s.row_parts % 2 == 0 && s.N * s.Ho < 16 * s.row_parts &&
           s.panels >= 2 * s.group * s.panel_parts) {
        s.row_parts /= 2;
        s.panel_parts *= 2;
    }
    if (s.N * s.Ho < s.row_parts) s.row_parts = 1;
    s.band = band_of(&s);
    return s;
}

INLINE int64_t panel_width(const shape *s, int64_t p) { return width_at(p * PANEL, s->F); }
INLINE int64_t panel_cols(const shape *s, int64_t p) { return cols_at(p * PANEL, s->F); }

/* ---- parameters ---- */

typedef struct packed {
    unit  *w1;      /* W1^T (C,F), panels                                      */
    float *b1, *b2; /* padded with zeros                                       */
    float *filter;  /* for each panel (k k + 1, PANEL): taps and the bias      */
    unit  *w2;      /* for each group of panels its rows of W2^T (F,O), panels */
} packed;

INLINE int64_t filter_floats(const shape *s) { return (s->k * s->k + 1) * PANEL; }
INLINE int64_t group_units(const shape *s) { return packed_numel(s->group * PANEL, s->O); }

static size_t packed_layout(packed *p, const shape *s, void *memory)
{
    void *at = memory;

    p->w1     = bump_alloc(&at, float_bytes(packed_numel(s->C, s->F)));
    p->b1     = bump_alloc(&at, float_bytes(s->panels * PANEL));
    p->b2     = bump_alloc(&at, float_bytes(round_up(s->O, LANES)));
    p->filter = bump_alloc(&at, float_bytes(s->panels * filter_floats(s)));
    p->w2     = bump_alloc(&at, float_bytes(ceil_div(s->panels, s->group) * group_units(s)));
    return (size_t)((char *)at - (char *)memory);
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape        s  = shape_of(call->node, device->threads);
    const float *w1 = call->in[W1], *b1 = call->in[B1], *wd = call->in[WD], *bd = call->in[BD],
                *w2 = call->in[W2], *b2 = call->in[B2];
    int64_t taps = s.k * s.k, group = s.group * PANEL;
    packed  p;

    memset(call->packed, 0, packed_layout(&p, &s, call->packed));
    pack_panels(p.w1, w1, s.C, s.F, 1, s.C, 1.0f);
    if (b1) memcpy(p.b1, b1, (size_t)s.F * sizeof(float));
    if (b2) memcpy(p.b2, b2, (size_t)s.O * sizeof(float));
    for (int64_t f = 0; f < s.F; f++) {
        float *to = p.filter + f / PANEL * filter_floats(&s) + f % PANEL;

        for (int64_t k = 0; k < taps; k++)
            to[k * PANEL] = wd[f * taps + k];
        to[taps * PANEL] = bd ? bd[f] : 0;
    }
    for (int64_t f = 0; f < s.F; f += group)
        pack_panels(p.w2 + f / group * group_units(&s), w2 + f, s.F - f < group ? s.F - f : group,
                    s.O, 1, s.F, 1.0f);
    return KDAS_OK;
}

/* ---- scratch of one task ---- */

typedef struct scratch {
    elem  *wide;     /* one panel of the rows that a band reads: (rows, width, PANEL) */
    elem  *halo;     /* for each panel, its last rows, for the next band              */
    elem  *zeros;    /* a row                                                         */
    elem  *filtered; /* a group of panels: (band, Wo, group PANEL)                    */
    float *sums;     /* (band, Wo, O)                                                 */
} scratch;

INLINE int64_t row_elems(const shape *s) { return s->width * PANEL; }
INLINE int64_t wide_rows(const shape *s) { return s->band * s->stride + s->halo; }

static size_t scratch_layout(scratch *t, const shape *s, void *memory)
{
    void *at = memory;

    t->wide     = bump_alloc(&at, elem_bytes(wide_rows(s) * row_elems(s)));
    t->zeros    = bump_alloc(&at, elem_bytes(row_elems(s)));
    t->halo     = bump_alloc(&at, elem_bytes(s->panels * s->halo * row_elems(s)));
    t->filtered = bump_alloc(&at, elem_bytes(s->band * s->Wo * s->group * PANEL));
    t->sums     = bump_alloc(&at, s->panel_parts > 1 ? 0 : float_bytes(s->band * s->Wo * s->O));
    return (size_t)((char *)at - (char *)memory);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape   s = shape_of(node, device->threads);
    packed  p;
    scratch t;

    plan->packed       = packed_layout(&p, &s, NULL);
    plan->pack_key     = 1;
    plan->work_forward = scratch_layout(&t, &s, NULL) * (size_t)(s.row_parts * s.panel_parts);
    if (s.panel_parts > 1) plan->work_forward += float_bytes(s.panel_parts * numel(&node->out));
    return KDAS_OK;
}

/* ---- the filter ---- */

/* n neighbouring outputs for LANES channels. `row`: where the window of the first begins. */
INLINE void filter_strip(const int k, const int step, const int n, const elem *const row[],
                         const float *w, elem *to, int64_t to_step, limits l)
{
    vec sum[PIXELS];

#pragma GCC unroll 8
    for (int q = 0; q < n; q++)
        sum[q] = load(w + k * k * PANEL);
    for (int i = 0; i < k; i++)
#pragma GCC unroll 5
        for (int t = 0; t < k; t++) {
            vec tap = load(w + (i * k + t) * PANEL);

#pragma GCC unroll 8
            for (int q = 0; q < n; q++)
                sum[q] += tap * load(row[i] + (q * step + t) * PANEL);
        }
#pragma GCC unroll 8
    for (int q = 0; q < n; q++)
        store(to + q * to_step, clamp_v(sum[q], l));
}

/* A row of outputs. The last strip may overlap the one before. */
INLINE void filter_strips(const int k, const int step, const int n, const elem *const from[],
                          const float *w, elem *to, int64_t to_step, int64_t width, limits l)
{
    for (int64_t x = 0; x < width; x += n) {
        int64_t     at = x + n > width ? width - n : x;
        const elem *row[5];

        for (int i = 0; i < k; i++)
            row[i] = from[i] + at * step * PANEL;
        filter_strip(k, step, n, row, w, to + at * to_step, to_step, l);
    }
}

INLINE void filter_lanes(const int k, const int step, const elem *const from[], const float *w,
                         elem *to, int64_t to_step, int64_t width, limits l)
{
    const int n = k == 3 || LANES == 16 ? PIXELS : PIXELS / 2; /* what registers have room for */

    if (width >= n)
        filter_strips(k, step, n, from, w, to, to_step, width, l);
    else if (width >= 4)
        filter_strips(k, step, 4, from, w, to, to_step, width, l);
    else
        filter_strips(k, step, 1, from, w, to, to_step, width, l);
}

/* ---- a band ---- */

/* Output rows y0 .. y1-1 of image n, the current band of them, and the panels of the task. */
typedef struct band {
    int64_t n, y0, y1, begin, end, panel, panels;
} band;

/* The first row that output row y reads; it may be outside of the image. */
INLINE int64_t first_row(const shape *s, int64_t y) { return y * s->stride - s->top; }

/* What the call's tasks share. */
typedef struct job {
    const kdas_call          *call;
    const kdas_inverted_attr *attr;
    const shape              *s;
    packed                    w;
} job;

/* `count` tiles of `rows` pixels of a whole panel. */
INLINE void widen_tiles(const int rows, int64_t count, const elem *x, int64_t C, const unit *w,
                        const float *bias, elem *to, int32_t post)
{
    for (int64_t t = 0; t < count; t++, x += rows * C, to += rows * PANEL) {
        a_operand from = { (const char *)x, C * (int64_t)sizeof *x, sizeof(unit), true };
        c_operand c    = { (char *)to, PANEL * (int64_t)sizeof *to, !HALF, SET, post };

        micro_kernel(rows, 2, units_of(C), &from, w, bias, &c, 0);
    }
}

static __attribute__((noinline)) void widen_tiles_any(int64_t rows, int64_t count, const elem *x,
                                                      int64_t C, const unit *w, const float *bias,
                                                      elem *to, int32_t post)
{
    switch (rows) {
    case 1: widen_tiles(1, count, x, C, w, bias, to, post); break;
    case 2: widen_tiles(2, count, x, C, w, bias, to, post); break;
    case 3: widen_tiles(3, count, x, C, w, bias, to, post); break;
    case 4: widen_tiles(4, count, x, C, w, bias, to, post); break;
    case 5: widen_tiles(5, count, x, C, w, bias, to, post); break;
#if defined(__AVX2__)
    case 6: widen_tiles(6, count, x, C, w, bias, to, post); break;
#endif
#if defined(KD_AVX512)
    case 7: widen_tiles(7, count, x, C, w, bias, to, post); break;
    case 8: widen_tiles(8, count, x, C, w, bias, to, post); break;
    case 9: widen_tiles(9, count, x, C, w, bias, to, post); break;
    case 10: widen_tiles(10, count, x, C, w, bias, to, post); break;
    case 11: widen_tiles(11, count, x, C, w, bias, to, post); break;
    case 12: widen_tiles(12, count, x, C, w, bias, to, post); break;
    case 13: widen_tiles(13, count, x, C, w, bias, to, post); break;
    case 14: widen_tiles(14, count, x, C, w, bias, to, post); break;
#endif
    default: break;
    }
}

/* A row of x (W,C), widened to panel p. Products over few channels: what gemm() does for each tile would cost as much as
 * they do. So tiles of a whole panel, of two heights, are computed one after the other. */
static void widen_row(const job *j, const elem *x, int64_t p, elem *to)
{
    const shape *s     = j->s;
    const unit  *w     = j->w.w1 + p * PANEL * units_of(s->C);
    const float *bias  = j->w.b1 + p * PANEL;
    int64_t      tiles = ceil_div(s->W, TILE_ROWS), rows = ceil_div(s->W, tiles);
    int64_t high = s->W - tiles * (rows - 1); /* tiles with `rows` rows; others have one less */
    int32_t post = j->attr->widened;

    if (panel_width(s, p) < PANEL || s->C % UNIT_DEPTH ||
        s->C * (int64_t)sizeof(elem) % PAGE == 0) {
        gemm_from(s->W, panel_width(s, p), s->C, x, s->C, 1, true, w, bias, to, PANEL, SET, post);
        return;
    }
    widen_tiles_any(rows, high, x, s->C, w, bias, to, post);
    widen_tiles_any(rows - 1, tiles - high, x + high * rows * s->C, s->C, w, bias,
                    to + high * rows * PANEL, post);
}

/* Row y of panel p, filtered. */
static void filter_row(const job *j, const scratch *t, const band *b, int64_t p, int64_t y,
                       elem *to)
{
    const shape *s    = j->s;
    int64_t      step = s->group * PANEL, first = first_row(s, b->begin);
    const float *w = j->w.filter + p * filter_floats(s);
    limits       l = limits_of(j->attr->filtered);

    for (int64_t c = 0; c < panel_width(s, p); c += LANES) {
        const elem *row[5];

        for (int i = 0; i < s->k; i++) {
            int64_t at = first_row(s, y) + i;

            row[i] = at < 0 || at >= s->H ? t->zeros : t->wide + (at - first) * row_elems(s) + c;
        }
        switch (10 * s->k + s->stride) {
        case 31: filter_lanes(3, 1, row, w + c, to + c, step, s->Wo, l); break;
        case 32: filter_lanes(3, 2, row, w + c, to + c, step, s->Wo, l); break;
        case 51: filter_lanes(5, 1, row, w + c, to + c, step, s->Wo, l); break;
        default: filter_lanes(5, 2, row, w + c, to + c, step, s->Wo, l); break;
        }
    }
}

/* Panel p of the band, widened and filtered, into `to`. Each row is filtered as soon as the rows that it reads are there, and
 * so in the L1 cache. */
static void filter_panel(const job *j, const scratch *t, const band *b, int64_t p, elem *to)
{
    const shape *s     = j->s;
    int64_t      first = first_row(s, b->begin), next = first, row = row_elems(s);
    elem        *halo = t->halo + p * s->halo * row;
    const elem  *x    = (const elem *)j->call->in[X] + b->n * s->H * s->W * s->C;

    if (b->begin > b->y0) {
        memcpy(t->wide, halo, (size_t)(s->halo * row) * sizeof(elem));
        next += s->halo;
    }
    for (int64_t y = b->begin; y < b->end; y++, to += s->Wo * s->group * PANEL) {
        for (int64_t end = first_row(s, y) + s->k; next < end; next++)
            if (next >= 0 && next < s->H)
                widen_row(j, x + next * s->W * s->C, p,
                          t->wide + (next - first) * row + s->left * PANEL);
        filter_row(j, t, b, p, y, to);
    }
    if (b->end < b->y1)
        memcpy(halo, t->wide + (next - s->halo - first) * row,
               (size_t)(s->halo * row) * sizeof(elem));
}

/* out (count) = the sum of `parts` partial sums, which lie `ld` apart, and of `other`, if that is not NULL. */
static void add_up(elem *out, const float *part, int parts, int64_t ld, const elem *other,
                   int64_t count)
{
    EACH_VECTOR(c, left, whole, count)
    {
        vec sum = other ? load_some(other + c, whole, left) : (vec){ 0 };

        for (int t = 0; t < parts; t++)
            sum += load_some(part + t * ld + c, whole, left);
        store_some(out + c, sum, whole, left);
    }
}

static void forward_band(const job *j, const scratch *t, const band *b, float *partial)
{
    const shape *s      = j->s;
    int64_t      pixels = (b->end - b->begin) * s->Wo, step = s->group * PANEL;
    int64_t      at       = (b->n * s->Ho + b->begin) * s->Wo * s->O;
    const elem  *residual = j->call->in[RESIDUAL];
    float       *sums     = partial ? partial + at : t->sums;

    for (int64_t p = b->panel; p < b->panels; p += s->group) {
        int64_t cols = 0;

        for (int64_t i = p; i < p + s->group && i < b->panels; i++) {
            filter_panel(j, t, b, i, t->filtered + (i - p) * PANEL);
            cols += panel_cols(s, i);
        }
        gemm_cached_a(pixels, s->O, cols, t->filtered, step, 1,
                      j->w.w2 + p / s->group * group_units(s), p == 0 ? j->w.b2 : NULL, sums, s->O,
                      store_mode_of(p > b->panel));
    }
    if (!partial)
        add_up((elem *)j->call->out + at, sums, 1, 0, residual ? residual + at : NULL,
               pixels * s->O);
}

/* Task (d, a): part d of the rows, part a of the panels. `partial`: its partial sums of out; NULL if there is one part. */
static void forward_part(const job *j, const scratch *t, int d, int a, float *partial)
{
    const shape *s      = j->s;
    int64_t      r      = part_begin(s->N * s->Ho, d, s->row_parts);
    int64_t      last   = part_begin(s->N * s->Ho, d + 1, s->row_parts);
    int64_t      groups = ceil_div(s->panels, s->group), rows;
    int64_t      end    = part_begin(groups, a + 1, s->panel_parts) * s->group;
    band         b      = { .panel  = part_begin(groups, a, s->panel_parts) * s->group,
                            .panels = end < s->panels ? end : s->panels };

    memset(t->wide, 0, (size_t)((char *)t->halo - (char *)t->wide)); /* zeros around the image */
    for (; r < last; r += rows) {
        rows = s->Ho - r % s->Ho < last - r ? s->Ho - r % s->Ho : last - r;
        b.n  = r / s->Ho;
        b.y0 = r % s->Ho;
        b.y1 = b.y0 + rows;
        for (int64_t bands = ceil_div(rows, s->band), i = 0; i < bands; i++) {
            b.begin = b.y0 + part_begin(rows, i, bands);
            b.end   = b.y0 + part_begin(rows, i + 1, bands);
            forward_band(j, t, &b, partial);
        }
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape   s      = shape_of(call->node, device->threads);
    int64_t count  = numel(&call->node->out);
    void   *at     = call->work;
    float *partial = s.panel_parts > 1 ? bump_alloc(&at, float_bytes(s.panel_parts * count)) : NULL;
    const elem *residual = call->in[RESIDUAL];
    job         j        = { .call = call, .attr = call->node->attr, .s = &s };

    packed_layout(&j.w, &s, call->packed);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < s.row_parts * s.panel_parts; i++) {
        scratch t;
        size_t  bytes = scratch_layout(&t, &s, NULL);

        scratch_layout(&t, &s, (char *)at + bytes * (size_t)i);
        forward_part(&j, &t, i / s.panel_parts, i % s.panel_parts,
                     partial ? partial + i % s.panel_parts * count : NULL);
    }
    if (!partial) return KDAS_OK;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t begin = line_part_begin(count, t, device->threads);

        add_up((elem *)call->out + begin, partial + begin, s.panel_parts, count,
               residual ? residual + begin : NULL,
               line_part_begin(count, t + 1, device->threads) - begin);
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(inverted) = { .prepare = prepare, .pack = pack, .forward = forward };
