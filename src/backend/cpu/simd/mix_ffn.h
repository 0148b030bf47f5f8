/* mix_ffn.h - what both directions of MIX_FFN share: shapes, packed parameters, and the maps of
 * hidden channels that never exist as a whole.
 *
 * Hidden channels are worked on panel by panel (PANEL of them, the last may have LANES), a band of
 * rows at a time. A band's map of one panel is dense, (rows, W, width), so it is what the matrix
 * product writes, what the depthwise filter walks along, and again a packed operand of the products
 * that sum over pixels. F is filled up to whole vectors with channels whose weights are zero.
 *
 * Work is divided in `depth` parts of the rows (n,y) times `across` parts of the panels. A part
 * recomputes the hidden rows just outside of its own. Parts across have partial sums of out and of
 * dx, which are joined in order. */
#ifndef KD_MIX_FFN_H
#define KD_MIX_FFN_H
#include "backend/cpu/simd/dwconv.h"
#include "backend/cpu/simd/fmath.h"
#include "backend/cpu/simd/gemm.h"

enum { FFN_X, FFN_W1, FFN_B1, FFN_WD, FFN_BD, FFN_W2, FFN_B2, FFN_RESIDUAL };

/* Rows of a panel's block of the filter: nine taps, the bias, the taps turned by 180 degrees; and of
 * its gradient: nine taps and the bias. */
enum { TAPS = 9, BIAS_ROW = 9, TURNED = 10, FILTER_ROWS = 19, FILTER_SUMS = 10 };
/* Panels that go into one product with W2 in forward: 128 channels, of long vectors. */
enum { GROUP = LANES == 16 ? 4 : 8 };

typedef struct ffn_shape {
    int64_t N, H, W, C, F, O;
    int64_t panels;
    int     depth, across;
    bool    keeps; /* forward keeps what fc1 gives for backward */
} ffn_shape;

/* fc1 again costs 2 C operations for each hidden value, to keep it 8 bytes of traffic. */
enum { KEEP_FROM = 48 };

INLINE ffn_shape ffn_shape_of(const kdas_node_desc *node, int threads)
{
    const int64_t *x = node->in[FFN_X].dim;
    ffn_shape      s = { .N      = x[0],
                         .H      = x[1],
                         .W      = x[2],
                         .C      = x[3],
                         .F      = node->in[FFN_W1].dim[0],
                         .O      = node->in[FFN_W2].dim[0],
                         .depth  = threads,
                         .across = 1 };

    s.panels = ceil_div(s.F, PANEL);
    s.keeps  = (node->wants & ~(1u << FFN_RESIDUAL)) && s.C >= KEEP_FROM;
    while (s.depth % 2 == 0 && s.N * s.H < 16 * s.depth && s.panels >= 2 * GROUP * s.across) {
        s.depth /= 2;
        s.across *= 2;
    }
    if (s.N * s.H < s.depth) s.depth = 1;
    return s;
}

/* Channels of panel p, those that fill up included; those that exist. */
INLINE int64_t panel_width(const ffn_shape *s, int64_t p) { return width_at(p * PANEL, s->F); }
INLINE int64_t panel_cols(const ffn_shape *s, int64_t p) { return cols_at(p * PANEL, s->F); }

/* ---- packed parameters ---- */

typedef struct ffn_packed {
    unit  *w1;      /* W1^T (C,F), panels                                     */
    float *b1, *b2; /* filled up with zeros                                   */
    float *filter;  /* for each panel (FILTER_ROWS, PANEL)                    */
    unit  *w2;      /* for each GROUP of panels its rows of W2^T (F,O), panels */
    unit  *back_w2; /* W2 (O,F), panels                                       */
    unit  *back_w1; /* for each GROUP of panels its rows of W1 (F,C), panels   */
} ffn_packed;

/* Places in `memory`; the bytes of all of them. */
INLINE size_t ffn_pack_layout(ffn_packed *p, const ffn_shape *s, bool backward, void *memory)
{
    void *at = memory;

    p->w1      = carve(&at, floats(packed_numel(s->C, s->F)));
    p->b1      = carve(&at, floats(s->panels * PANEL));
    p->b2      = carve(&at, floats(round_up(s->O, LANES)));
    p->filter  = carve(&at, floats(s->panels * FILTER_ROWS * PANEL));
    p->w2      = carve(&at, floats(ceil_div(s->panels, GROUP) * packed_numel(GROUP * PANEL, s->O)));
    p->back_w2 = backward ? carve(&at, floats(packed_numel(s->O, s->F))) : NULL;
    p->back_w1 =
        backward
            ? carve(&at, floats(ceil_div(s->panels, GROUP) * packed_numel(GROUP * PANEL, s->C)))
            : NULL;
    return (size_t)((char *)at - (char *)memory);
}

/* ---- a band of one panel ---- */

/* Rows of a map of `step` channels; row y is at `at` + (y - first) W step. */
typedef struct row_map {
    elem   *at;
    int64_t first, step;
} row_map;

INLINE elem *row_at(const row_map *r, const ffn_shape *s, int64_t y)
{
    return r->at + (y - r->first) * s->W * r->step;
}

/* The three rows around row y, from channel c on. */
INLINE void three_rows_of(const elem *row[3], const row_map *r, const ffn_shape *s, int64_t y,
                          int64_t c)
{
    for (int i = 0; i < 3; i++) {
        int64_t at = y - 1 + i;

        row[i] = at >= 0 && at < s->H ? row_at(r, s, at) + c : NULL;
    }
}

/* fc1 for rows y0 .. y1-1 of image n. */
INLINE void hidden_rows(const ffn_shape *s, const ffn_packed *w, const elem *x, int64_t n,
                        int64_t p, const row_map *a, int64_t y0, int64_t y1)
{
    if (y0 < y1)
        gemm_near((y1 - y0) * s->W, panel_width(s, p), s->C, x + (n * s->H + y0) * s->W * s->C,
                  s->C, 1, w->w1 + p * PANEL * units_of(s->C), w->b1 + p * PANEL, row_at(a, s, y0),
                  a->step, SET);
}

INLINE void copy_rows(elem *to, const elem *from, const ffn_shape *s, int64_t step, int64_t count)
{
    if (count > 0) memcpy(to, from, (size_t)(count * s->W * step) * sizeof *to);
}

/* `count` elements of `to` become, or are added to, the sum of `parts` partial sums, which lie `ld`
 * apart, and of `other`, if it is there. */
INLINE void join_sums(elem *to, const float *part, int parts, int64_t ld, const elem *other,
                      int64_t count, bool add)
{
    for (int64_t i0 = 0; i0 < count; i0 += 256) {
        int64_t n = count - i0 < 256 ? count - i0 : 256;
        float   sum[256];

        for (int64_t i = 0; i < n; i++)
            sum[i] = (add ? num(to[i0 + i]) : 0.0f) + (other ? num(other[i0 + i]) : 0.0f);
        for (int t = 0; t < parts; t++)
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                sum[i] += part[t * ld + i0 + i];
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            set(to[i0 + i], sum[i]);
    }
}

/* The same for whole maps, by all threads. */
INLINE void join_maps(const kdas_device *device, elem *to, const float *part, int parts,
                      const elem *other, int64_t count, bool add)
{
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t i0 = line_part_begin(count, t, device->threads);
        int64_t i1 = line_part_begin(count, t + 1, device->threads);

        join_sums(to + i0, part ? part + i0 : NULL, parts, count, other ? other + i0 : NULL,
                  i1 - i0, add);
    }
}

/* A stretch of rows of one image, and the band of it in hand. */
typedef struct row_band {
    int64_t n, y0, y1;     /* the stretch                               */
    int64_t begin, end;    /* the band                                  */
    int64_t panel, panels; /* the part's first panel, and past its last */
} row_band;

/* The next stretch of a part's rows, *r of N H on; false: there is none. */
INLINE bool next_stretch(const ffn_shape *s, int64_t *r, int64_t end, row_band *b)
{
    if (*r >= end) return false;
    b->n  = *r / s->H;
    b->y0 = *r % s->H;
    b->y1 = s->H - b->y0 < end - *r ? s->H : b->y0 + end - *r;
    *r += b->y1 - b->y0;
    return true;
}

/* Band i of `bands` of the stretch, of even height. */
INLINE void set_band(row_band *b, int64_t i, int64_t bands)
{
    b->begin = b->y0 + part_begin(b->y1 - b->y0, i, bands);
    b->end   = b->y0 + part_begin(b->y1 - b->y0, i + 1, bands);
}

/* Part a of the panels, in whole groups. */
INLINE void set_panels(const ffn_shape *s, row_band *b, int a)
{
    int64_t groups = ceil_div(s->panels, GROUP), end = part_begin(groups, a + 1, s->across) * GROUP;

    b->panel  = part_begin(groups, a, s->across) * GROUP;
    b->panels = end < s->panels ? end : s->panels;
}

/* Rows of a band of `pixels`, W of them in a row. */
INLINE int64_t band_rows(const ffn_shape *s, int64_t pixels)
{
    int64_t rows = pixels / s->W;

    return rows < 1 ? 1 : rows > s->H ? s->H : rows;
}

kdas_status KD_SIMD(mix_ffn_backward)(kdas_device *device, const kdas_call *call);
size_t      KD_SIMD(mix_ffn_backward_work)(const ffn_shape *s, uint32_t wants);

#endif
