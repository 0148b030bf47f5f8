/* weighted_f.c - weighted F-measure: errors on the polyp are excused by their neighbours, errors
 * on the background weigh more the farther they lie from the polyp.
 *
 * After Margolin, Zelnik-Manor, Tal, "How to evaluate foreground maps?", CVPR 2014. Errors are
 * |p - g|. A background pixel takes over the error of the nearest polyp pixel, the result is
 * blurred (7x7 Gaussian of sigma 5, borders repeated), and a polyp pixel counts the smaller of its
 * own and the blurred error. The image streams through row by row: a ring of seven blurred rows is
 * all that the window needs. */
#include <math.h>
#include "base/context.h"
#include "metric/metric.h"

#define RADIUS 3
#define TAPS   (2 * RADIUS + 1)

typedef struct blur {
    const kd_pair *pair;
    double         tap[TAPS];        /* the Gaussian is a product: along rows, then down columns */
    double         level[KD_LEVELS]; /* v / 255                                                  */
    double        *padded;           /* (W + 2 * RADIUS): errors of a row, its ends repeated     */
    double        *ring;             /* (TAPS, W): rows blurred along x; row y at y % TAPS       */
    int32_t       *columns, *squares, *sites;     /* (W) each, see kd_nearest_in_row             */
    int16_t       *rows, *below;                  /* (H,W) and (W), see kd_nearest_rows          */
    double         polyp_error, background_error; /* sums of the weighted errors                 */
} blur;

static void set_tables(blur *b)
{
    double sum = 0;

    for (int i = 0; i < TAPS; i++)
        sum += b->tap[i] = exp(-(i - RADIUS) * (i - RADIUS) / 50.0);
    for (int i = 0; i < TAPS; i++)
        b->tap[i] /= sum;
    for (int v = 0; v < KD_LEVELS; v++)
        b->level[v] = v / 255.0;
}

/* One block holds all arrays, the widest elements first. NULL: out of memory. */
static void *set_arrays(blur *b, kdas_context *ctx)
{
    size_t w = (size_t)b->pair->width, h = (size_t)b->pair->height;
    size_t doubles = (TAPS + 1) * w + 2 * RADIUS;
    void  *block   = kd_alloc(ctx, doubles * sizeof(double) + 3 * w * sizeof(int32_t) +
                                       (h + 1) * w * sizeof(int16_t));

    if (!block) return NULL;
    b->padded  = block;
    b->ring    = b->padded + w + 2 * RADIUS;
    b->columns = (int32_t *)(b->ring + TAPS * w);
    b->squares = b->columns + w;
    b->sites   = b->squares + w;
    b->rows    = (int16_t *)(b->sites + w);
    b->below   = b->rows + h * w;
    return block;
}

/* Take in row y: background errors are weighed and summed, all errors blurred along the row. */
static void enter_row(blur *b, int64_t y)
{
    const kd_pair *pair = b->pair;
    int64_t        w    = pair->width;
    const uint8_t *p    = pair->prediction + y * pair->prediction_stride;
    const uint8_t *g    = pair->truth + y * pair->truth_stride;
    const int16_t *rows = b->rows + y * w;
    double        *e    = b->padded + RADIUS;
    double        *out  = b->ring + y % TAPS * w;
    double        *t    = b->tap;

    kd_nearest_in_row(b->columns, b->squares, b->sites, rows, y, w);
    for (int64_t x = 0; x < w; x++) {
        int64_t column = b->columns[x]; /* its own on the polyp */
        int64_t from   = rows[column] * pair->prediction_stride + column;

        e[x] = b->level[255 - pair->prediction[from]];
        if (!kd_is_polyp(g[x]) && p[x])
            b->background_error += b->level[p[x]] * (2 - exp(-M_LN2 / 5 * sqrt(b->squares[x])));
    }
    for (int i = 1; i <= RADIUS; i++) {
        e[-i]        = e[0];
        e[w - 1 + i] = e[w - 1];
    }
    for (int64_t x = 0; x < w; x++)
        out[x] = t[3] * e[x] + t[2] * (e[x - 1] + e[x + 1]) + t[1] * (e[x - 2] + e[x + 2]) +
                 t[0] * (e[x - 3] + e[x + 3]);
}

/* Finish row y, once the rows below it that the window reaches are in: blur down the columns, where
 * there is polyp. */
static void leave_row(blur *b, int64_t y)
{
    const kd_pair *pair = b->pair;
    const uint8_t *p    = pair->prediction + y * pair->prediction_stride;
    const uint8_t *g    = pair->truth + y * pair->truth_stride;
    const double  *line[TAPS];

    for (int i = 0; i < TAPS; i++) {
        int64_t from = KD_MIN(KD_MAX(y + i - RADIUS, 0), pair->height - 1);

        line[i] = b->ring + from % TAPS * pair->width;
    }
    for (int64_t x = 0; x < pair->width; x++) {
        double blurred = 0;

        if (!kd_is_polyp(g[x])) continue;
        for (int i = 0; i < TAPS; i++)
            blurred += b->tap[i] * line[i][x];
        b->polyp_error += fmin(blurred, b->level[255 - p[x]]);
    }
}

kdas_status kd_weighted_f(double *out, kdas_context *ctx, const kd_pair *pair,
                          const kd_tally *tally)
{
    blur   b     = { .pair = pair };
    double polyp = (double)tally->polyp;
    double hit, recall, precision;
    void  *block;

    if (tally->polyp == 0) {
        *out = 0;
        return KDAS_OK;
    }
    block = set_arrays(&b, ctx);
    if (!block) return KDAS_ENOMEM;
    set_tables(&b);
    kd_nearest_rows(b.rows, b.below, pair);
    for (int64_t y = 0; y < pair->height + RADIUS; y++) {
        if (y < pair->height) enter_row(&b, y);
        if (y >= RADIUS) leave_row(&b, y - RADIUS);
    }
    kd_free(ctx, block);

    hit       = polyp - b.polyp_error;
    recall    = 1 - b.polyp_error / polyp;
    precision = hit / (hit + b.background_error + KD_EPS);
    *out      = 2 * recall * precision / (recall + precision + KD_EPS);
    return KDAS_OK;
}
