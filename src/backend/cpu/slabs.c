/* slabs.c - see slabs.h. */
#include "backend/cpu/slabs.h"

/* Rows begin .. end-1 of the narrow side, and the rows of the wide side under their windows. */
static bool cut_narrow(kd_slab *s, const kd_rows *r, int64_t begin, int64_t end)
{
    int64_t top = begin * r->stride - r->pad, bottom = (end - 1) * r->stride - r->pad + r->window;
    int64_t first = KD_MAX(top, 0), last = KD_MIN(bottom, r->wide);

    s->narrow  = begin;
    s->narrows = end - begin;
    s->wide    = first;
    s->wides   = last - first;
    s->pad     = first - top;
    s->pad_end = bottom - last;
    return s->wides > 0 && s->pad < r->window && s->pad_end < r->window;
}

/* Rows begin .. end-1 of the wide side, and the windows that reach them. `begin` is the first row of a stride. */
static bool cut_wide(kd_slab *s, const kd_rows *r, int64_t begin, int64_t end)
{
    int64_t above =
        begin + r->pad - r->window + 1; /* of the first window's row, times the stride */
    int64_t first = above > 0 ? (above + r->stride - 1) / r->stride : 0;
    int64_t last  = KD_MIN((end - 1 + r->pad) / r->stride + 1, r->narrow);

    s->wide    = begin;
    s->wides   = end - begin;
    s->narrow  = first;
    s->narrows = last - first;
    s->pad     = begin - (first * r->stride - r->pad);
    s->pad_end = (last - 1) * r->stride - r->pad + r->window - end;
    return s->narrows > 0 && s->pad >= 0 && s->pad < r->window && s->pad_end > -r->stride;
}

/* Rows begin .. end-1 of `images` images from `image` on; of several, all rows. */
static bool add(kd_slab *s, const kd_rows *r, kd_cut cut, int64_t image, int64_t images,
                int64_t begin, int64_t end)
{
    *s = (kd_slab){ .part    = s->part,
                    .image   = image,
                    .images  = images,
                    .wides   = r->wide,
                    .narrows = r->narrow,
                    .pad     = r->pad,
                    .pad_end = r->pad_end };
    if (begin == 0 && end == (cut == KD_CUT_WIDE ? r->wide : r->narrow)) return true;
    return cut == KD_CUT_WIDE ? cut_wide(s, r, begin, end) : cut_narrow(s, r, begin, end);
}

/* A place in the rows of all images. Inside an image of the wide side it is the first row of a stride. */
typedef struct place {
    int64_t image, row;
} place;

static place place_of(const kd_rows *r, kd_cut cut, int64_t part, int64_t parts)
{
    int64_t rows = cut == KD_CUT_WIDE ? r->wide : r->narrow, at = r->images * rows * part / parts;
    place   p = { at / rows, at % rows };

    if (cut == KD_CUT_WIDE && p.row) p.row = KD_MAX(p.row - (p.row + r->pad) % r->stride, 0);
    return p;
}

/* The slabs of one part; their number, or -1. */
static int cut_part(kd_slab *out, const kd_rows *r, kd_cut cut, place from, place to, int part)
{
    int64_t rows = cut == KD_CUT_WIDE ? r->wide : r->narrow;
    int     n    = 0;

    while (from.image < to.image || (from.image == to.image && from.row < to.row)) {
        int64_t images = from.row == 0 && from.image < to.image ? to.image - from.image : 1;
        int64_t end    = from.image < to.image ? rows : to.row;

        out[n].part = part;
        if (!add(&out[n], r, cut, from.image, images, from.row, end)) return -1;
        n++;
        from = end == rows ? (place){ from.image + images, 0 } : to;
    }
    return n;
}

int kd_slabs_cut(kd_slab *out, const kd_rows *r, kd_cut cut, int parts)
{
    int64_t rows = r->images * (cut == KD_CUT_WIDE ? r->wide : r->narrow);
    int     n    = 0;

    parts = (int)KD_MIN(rows, (int64_t)parts);
    for (int part = 0; part < parts; part++) {
        place from = place_of(r, cut, part, parts), to = place_of(r, cut, part + 1, parts);
        int   more = cut_part(out + n, r, cut, from, to, part);

        if (more < 0) break;
        n += more;
        if (part == parts - 1) return n;
    }
    out[0].part = 0;
    add(&out[0], r, cut, 0, r->images, 0, cut == KD_CUT_WIDE ? r->wide : r->narrow);
    return 1;
}
