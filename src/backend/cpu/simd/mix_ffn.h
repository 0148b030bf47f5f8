/* mix_ffn.h - what mix_ffn.c (forward) and mix_ffn_backward.c share: shapes, packed parameters and row bands. Neither
 * of the two files needs the other but for the declarations at the end, from which mix_ffn.c makes the op's record.
 *
 * The maps of the F hidden channels are never in memory as a whole. They are computed panel by panel (PANEL channels; the
 * last panel may have LANES) and, within a panel, by bands of rows. The map of one panel in one band is dense,
 * (rows, W, width): gemm() writes it as its C, the depthwise filter reads it, and the products that sum over pixels take it
 * as a packed B. F is padded to whole vectors with channels whose weights are zero.
 *
 * The rows (n,y) are divided into row_parts parts, the panels into panel_parts; each pair is one task. A task recomputes the
 * halo: the hidden rows just outside of its own. Where panel_parts is above 1, tasks have partial sums of out and of dx,
 * which are added up in a fixed order. */
#ifndef KD_MIX_FFN_H
#define KD_MIX_FFN_H
#include "backend/cpu/simd/dwconv.h"
#include "backend/cpu/simd/fmath.h"
#include "backend/cpu/simd/gemm.h"

enum { FFN_X, FFN_W1, FFN_B1, FFN_WD, FFN_BD, FFN_W2, FFN_B2, FFN_RESIDUAL };

/* Rows of a panel's filter block: nine taps, the bias, and the nine taps rotated by 180 degrees; and of the block's
 * gradient: nine taps and the bias. */
enum { TAPS = 9, BIAS_ROW = 9, ROTATED = 10, FILTER_ROWS = 19, FILTER_SUMS = 10 };
/* Panels in one product with W2: 128 channels with vectors of 8 and 16. */
enum { GROUP = LANES == 16 ? 4 : 8 };

typedef struct ffn_shape {
    int64_t N, H, W, C, F, O;
    int64_t panels;
    int     row_parts, panel_parts;
    bool    saves_fc1; /* forward saves the output of fc1 for backward */
} ffn_shape;

/* Recomputing fc1 costs 2 C operations for each hidden value; saving it costs 8 bytes of traffic. From so many
 * channels on it is saved. */
enum { SAVE_FC1_FROM = 48 };

INLINE ffn_shape ffn_shape_of(const kdas_node_desc *node, int threads)
{
    const int64_t *x = node->in[FFN_X].dim;
    ffn_shape      s = { .N           = x[0],
                         .H           = x[1],
                         .W           = x[2],
                         .C           = x[3],
                         .F           = node->in[FFN_W1].dim[0],
                         .O           = node->in[FFN_W2].dim[0],
                         .row_parts   = threads,
                         .panel_parts = 1 };

    s.panels    = ceil_div(s.F, PANEL);
    s.saves_fc1 = (node->wants & ~(1u << FFN_RESIDUAL)) && s.C >= SAVE_FC1_FROM;
    while (s.row_parts % 2 == 0 && s.N * s.H < 16 * s.row_parts &&
           s.panels >= 2 * GROUP * s.panel_parts) {
        s.row_parts /= 2;
        s.panel_parts *= 2;
    }
    if (s.N * s.H < s.row_parts) s.row_parts = 1;
    return s;
}

/* Channels of panel p, with padding; without. */
INLINE int64_t panel_width(const ffn_shape *s, int64_t p) { return width_at(p * PANEL, s->F); }
INLINE int64_t panel_cols(const ffn_shape *s, int64_t p) { return cols_at(p * PANEL, s->F); }

/* ---- packed parameters ---- */

typedef struct ffn_packed {
    unit  *w1;          /* W1^T (C,F), panels                                      */
    float *b1, *b2;     /* padded with zeros                                       */
    float *filter;      /* for each panel (FILTER_ROWS, PANEL)                     */
    unit  *w2;          /* for each GROUP of panels its rows of W2^T (F,O), panels */
    unit  *w2_backward; /* W2 (O,F), panels                                        */
    unit  *w1_backward; /* for each GROUP of panels its rows of W1 (F,C), panels   */
} ffn_packed;

/* Lay the arrays out in `memory` (NULL: only measure); returns the bytes of all of them. */
INLINE size_t ffn_pack_layout(ffn_packed *p, const ffn_shape *s, bool backward, void *memory)
{
    void *at = memory;

    p->w1          = bump_alloc(&at, float_bytes(packed_numel(s->C, s->F)));
    p->b1          = bump_alloc(&at, float_bytes(s->panels * PANEL));
    p->b2          = bump_alloc(&at, float_bytes(round_up(s->O, LANES)));
    p->filter      = bump_alloc(&at, float_bytes(s->panels * FILTER_ROWS * PANEL));
    p->w2          = bump_alloc(&at,
                                float_bytes(ceil_div(s->panels, GROUP) * packed_numel(GROUP * PANEL, s->O)));
    p->w2_backward = backward ? bump_alloc(&at, float_bytes(packed_numel(s->O, s->F))) : NULL;
    p->w1_backward = backward ? bump_alloc(&at, float_bytes(ceil_div(s->panels, GROUP) *
                                                            packed_numel(GROUP * PANEL, s->C)))
                              : NULL;
    return (size_t)((char *)at - (char *)memory);
}

/* ---- a band of one panel ---- */

/* A view of rows of a map of `step` channels: row y is at `at` + (y - first) W step. */
typedef struct row_view {
    elem   *at;
    int64_t first, step;
} row_view;

INLINE elem *row_at(const row_view *r, const ffn_shape *s, int64_t y)
{
    return r->at + (y - r->first) * s->W * r->step;
}

/* Rows y-1, y and y+1 from channel c on; NULL outside of the image. */
INLINE void three_rows_of(const elem *row[3], const row_view *r, const ffn_shape *s, int64_t y,
                          int64_t c)
{
    for (int i = 0; i < 3; i++) {
        int64_t at = y - 1 + i;

        row[i] = at >= 0 && at < s->H ? row_at(r, s, at) + c : NULL;
    }
}

/* fc1 of rows y0 .. y1-1 of image n, for panel p, into `a`. */
INLINE void fc1_rows(const ffn_shape *s, const ffn_packed *w, const elem *x, int64_t n, int64_t p,
                     const row_view *a, int64_t y0, int64_t y1)
{
    if (y0 < y1)
        gemm_cached_a((y1 - y0) * s->W, panel_width(s, p), s->C, x + (n * s->H + y0) * s->W * s->C,
                      s->C, 1, w->w1 + p * PANEL * units_of(s->C), w->b1 + p * PANEL,
                      row_at(a, s, y0), a->step, SET);
}

INLINE void copy_rows(elem *to, const elem *from, const ffn_shape *s, int64_t step, int64_t count)
{
    if (count > 0) memcpy(to, from, (size_t)(count * s->W * step) * sizeof *to);
}

/* to (count) = or += the sum of `parts` partial sums, which lie `ld` apart, and of `other`, if that is not
 * NULL. */
INLINE void reduce_partials(elem *to, const float *part, int parts, int64_t ld, const elem *other,
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

/* The same for whole maps, on all threads. */
INLINE void reduce_maps(const kdas_device *device, elem *to, const float *part, int parts,
                        const elem *other, int64_t count, bool add)
{
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t i0 = line_part_begin(count, t, device->threads);
        int64_t i1 = line_part_begin(count, t + 1, device->threads);

        reduce_partials(to + i0, part ? part + i0 : NULL, parts, count, other ? other + i0 : NULL,
                        i1 - i0, add);
    }
}

/* Rows y0 .. y1-1 of image n, and the current band of them. */
typedef struct row_band {
    int64_t n, y0, y1;     /* the range of rows                                */
    int64_t begin, end;    /* the band                                         */
    int64_t panel, panels; /* the first panel of the task, and the end of them */
} row_band;

/* The next range of rows of a task, which do not cross an image. *r is the row to begin with, of N H, and is moved past the
 * range; false: none is left. */
INLINE bool next_row_range(const ffn_shape *s, int64_t *r, int64_t end, row_band *b)
{
    if (*r >= end) return false;
    b->n  = *r / s->H;
    b->y0 = *r % s->H;
    b->y1 = s->H - b->y0 < end - *r ? s->H : b->y0 + end - *r;
    *r += b->y1 - b->y0;
    return true;
}

/* Band i of `bands` of nearly equal height. */
INLINE void set_band(row_band *b, int64_t i, int64_t bands)
{
    b->begin = b->y0 + part_begin(b->y1 - b->y0, i, bands);
    b->end   = b->y0 + part_begin(b->y1 - b->y0, i + 1, bands);
}

/* Part a of the panels, in whole groups. */
INLINE void set_panels(const ffn_shape *s, row_band *b, int a)
{
    int64_t groups = ceil_div(s->panels, GROUP),
            end    = part_begin(groups, a + 1, s->panel_parts) * GROUP;

    b->panel  = part_begin(groups, a, s->panel_parts) * GROUP;
    b->panels = end < s->panels ? end : s->panels;
}

/* The rows of a band of `pixels` pixels. */
INLINE int64_t band_rows(const ffn_shape *s, int64_t pixels)
{
    int64_t rows = pixels / s->W;

    return rows < 1 ? 1 : rows > s->H ? s->H : rows;
}

kdas_status KD_SIMD(mix_ffn_backward)(kdas_device *device, const kdas_call *call);
size_t      KD_SIMD(mix_ffn_backward_work)(const ffn_shape *s, uint32_t wants);

#endif
