/* sketch.c - what is kept of a frame for comparisons. */
#include "doctor/sketch.h"
#include <math.h>
#include <string.h>

enum { SIDE = SKETCH_SIDE, REACH = 4, FREQUENCIES = 11 };

/* ---- Cells ----------------------------------------------------------------------------------- */

typedef struct box {
    int64_t left, top, right, bottom;
} box;

/* The brightness that 95 of 100 pixels do not exceed. */
static int bright(const uint8_t *grey, int64_t pixels)
{
    int64_t count[256] = { 0 }, above = 0;
    int     level = 255;

    for (int64_t i = 0; i < pixels; i++)
        count[grey[i]]++;
    while (level > 0 && (above += count[level]) < pixels / 20)
        level--;
    return level;
}

/* The first and last line of which a tenth is brighter than a seventh of what is bright in the
 * frame. Line i has `length` pixels, `step` apart, from grey + i * line on. */
static bool content(int64_t ends[2], const uint8_t *grey, int64_t lines, int64_t line,
                    int64_t length, int64_t step, int limit)
{
    ends[0] = ends[1] = -1;
    for (int64_t i = 0; i < lines; i++) {
        int64_t lit = 0;

        for (int64_t k = 0; k < length; k++)
            lit += grey[i * line + k * step] > limit;
        if (10 * lit <= length) continue;
        if (ends[0] < 0) ends[0] = i;
        ends[1] = i + 1;
    }
    return ends[0] >= 0;
}

static box content_box(const uint8_t *grey, int64_t width, int64_t height)
{
    int     limit = 15 * bright(grey, width * height) / 100 + 4;
    box     all   = { 0, 0, width, height };
    int64_t x[2], y[2];

    if (!content(x, grey, width, 1, height, width, limit) ||
        !content(y, grey, height, width, width, 1, limit)) {
        return all;
    }
    if (8 * (x[1] - x[0]) < width || 8 * (y[1] - y[0]) < height) return all;
    return (box){ x[0], y[0], x[1], y[1] };
}

/* Cell by cell, the mean of the pixels in a box. Pixels on an edge count by the part inside. */
static void cell_means(float *out, const uint8_t *grey, int64_t width, const box *b)
{
    double across = (double)(b->right - b->left) / SIDE, down = (double)(b->bottom - b->top) / SIDE;

    for (int cell = 0; cell < SKETCH_CELLS; cell++) {
        double x0 = (double)b->left + cell % SIDE * across, x1 = x0 + across;
        double y0 = (double)b->top + cell / SIDE * down, y1 = y0 + down, sum = 0, area = 0;

        for (int64_t y = (int64_t)y0; (double)y < y1 - 1e-9; y++) {
            double high = fmin(y1, (double)(y + 1)) - fmax(y0, (double)y);

            for (int64_t x = (int64_t)x0; (double)x < x1 - 1e-9; x++) {
                double part = high * (fmin(x1, (double)(x + 1)) - fmax(x0, (double)x));

                sum += part * grey[y * width + x];
                area += part;
            }
        }
        out[cell] = (float)(sum / area);
    }
}

/* ---- The map --------------------------------------------------------------------------------- */

static int mirrored(int i) { return i < 0 ? -i : i >= SIDE ? 2 * (SIDE - 1) - i : i; }

/* Sums of 2 REACH + 1 cells in a row or column; beyond the edge the cells are mirrored. */
static void line_sums(float *out, const float *in, int step)
{
    for (int i = 0; i < SIDE; i++) {
        float sum = 0;

        for (int k = i - REACH; k <= i + REACH; k++)
            sum += in[mirrored(k) * step];
        out[i * step] = sum;
    }
}

static void surroundings(float *out, const float *in)
{
    float rows[SKETCH_CELLS];
    int   cells = (2 * REACH + 1) * (2 * REACH + 1);

    for (int y = 0; y < SIDE; y++)
        line_sums(rows + y * SIDE, in + y * SIDE, 1);
    for (int x = 0; x < SIDE; x++)
        line_sums(out + x, rows + x, SIDE);
    for (int i = 0; i < SKETCH_CELLS; i++)
        out[i] /= (float)cells;
}

/* Normalise each cell by its surroundings. Returns the deviation of all cells. */
static double normalise(float *map)
{
    float  square[SKETCH_CELLS], mean[SKETCH_CELLS], power[SKETCH_CELLS];
    double sum = 0, squares = 0, deviation;

    for (int i = 0; i < SKETCH_CELLS; i++) {
        square[i] = map[i] * map[i];
        sum += map[i];
        squares += square[i];
    }
    sum /= SKETCH_CELLS;
    deviation = sqrt(fmax(0, squares / SKETCH_CELLS - sum * sum));
    surroundings(mean, map);
    surroundings(power, square);
    for (int i = 0; i < SKETCH_CELLS; i++) {
        double local = sqrt(fmax(0, (double)power[i] - (double)mean[i] * mean[i]));

        map[i] = (float)((map[i] - mean[i]) / (local + 0.06 * deviation + 0.2));
    }
    return deviation;
}

/* ---- Variants and hashes --------------------------------------------------------------------- */

const char *sketch_variant(int variant)
{
    static const char *const words[SKETCH_VARIANTS] = {
        "as it is",
        "mirrored left to right",
        "mirrored top to bottom",
        "turned by 180 degrees",
        "mirrored along the diagonal",
        "turned by 90 degrees to the right",
        "turned by 90 degrees to the left",
        "mirrored along the other diagonal",
    };

    return words[variant];
}

/* The cell of a frame that a variant of it shows at (y,x). Bit 0 mirrors left to right, bit 1 top
 * to bottom, and bit 2 exchanges rows and columns first. */
static int source(int variant, int y, int x)
{
    if (variant & 1) x = SIDE - 1 - x;
    if (variant & 2) y = SIDE - 1 - y;
    return variant & 4 ? x * SIDE + y : y * SIDE + x;
}

static uint64_t hash_of(const float *map, int variant)
{
    static const double pi                      = 3.14159265358979323846;
    double              rows[FREQUENCIES][SIDE] = { { 0 } };
    uint64_t            hash                    = 0;

    for (int v = 0; v < FREQUENCIES; v++) {
        for (int y = 0; y < SIDE; y++) {
            double wave = cos(pi * (y + 0.5) * v / SIDE);

            for (int x = 0; x < SIDE; x++)
                rows[v][x] += wave * map[source(variant, y, x)];
        }
    }
    for (int v = 0; v < FREQUENCIES; v++) {
        for (int u = 0; u + v < FREQUENCIES; u++) {
            double sum = 0;

            if (u + v == 0 || (u == 5 && v == 5)) continue; /* 64 bits remain */
            for (int x = 0; x < SIDE; x++)
                sum += cos(pi * (x + 0.5) * u / SIDE) * rows[v][x];
            hash = hash << 1 | (sum > 0);
        }
    }
    return hash;
}

void sketch_make(sketch *out, const uint8_t *grey, const uint8_t *mask, int64_t width,
                 int64_t height)
{
    box   b = content_box(grey, width, height);
    float cells[SKETCH_CELLS];

    memset(out, 0, sizeof *out);
    if (mask) {
        cell_means(cells, mask, width, &b);
        for (int i = 0; i < SKETCH_CELLS; i++)
            out->mask[i] = (uint8_t)lrintf(cells[i]);
    }
    cell_means(out->map, grey, width, &b);
    out->flat = normalise(out->map) < 3;
    for (int v = 0; v < SKETCH_VARIANTS; v++)
        out->hash[v] = hash_of(out->map, v);
}

/* ---- Comparison ------------------------------------------------------------------------------ */

static const double centre = (SIDE - 1) / 2.0;

/* Where a pose looks in `b` for cell (y,x) of `a`; false outside. */
static bool look_at(const pose *p, int y, int x, int corner[2], double part[2])
{
    double u = centre + p->scale_x * (x - centre) + p->shift_x;
    double v = centre + p->scale_y * (y - centre) + p->shift_y;

    if (!(u >= 0 && v >= 0 && u <= SIDE - 1 && v <= SIDE - 1)) return false;
    corner[0] = u >= SIDE - 1 ? SIDE - 2 : (int)u;
    corner[1] = v >= SIDE - 1 ? SIDE - 2 : (int)v;
    part[0]   = u - corner[0];
    part[1]   = v - corner[1];
    return true;
}

/* Sums over the cells that a pose has in common: for the correlation, and the normal equations of a
 * least-squares step, which takes `b` times `gain` for `a`. */
typedef struct sums {
    double n, a, b, aa, bb, ab;
    double left[4][4], right[4];
} sums;

static void add_cell(sums *s, double a, const float *b, const double part[2], double x, double y,
                     double gain)
{
    double top     = b[0] + part[0] * (b[1] - b[0]);
    double bottom  = b[SIDE] + part[0] * (b[SIDE + 1] - b[SIDE]);
    double value   = top + part[1] * (bottom - top);
    double slope_x = gain * (b[1] - b[0] + part[1] * (b[SIDE + 1] - b[SIDE] - b[1] + b[0]));
    double slope_y = gain * (bottom - top), rest = a - gain * value;
    double by[4] = { slope_x * (x - centre), slope_x, slope_y * (y - centre), slope_y };

    s->n++;
    s->a += a;
    s->b += value;
    s->aa += a * a;
    s->bb += value * value;
    s->ab += a * value;
    for (int i = 0; i < 4; i++) {
        s->right[i] += by[i] * rest;
        for (int k = 0; k <= i; k++)
            s->left[i][k] += by[i] * by[k];
    }
}

static sums sums_of(const float *a, const float *b, const pose *p, double gain)
{
    sums s = { 0 };

    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            int    corner[2];
            double part[2];

            if (look_at(p, y, x, corner, part))
                add_cell(&s, a[y * SIDE + x], b + corner[1] * SIDE + corner[0], part, x, y, gain);
        }
    }
    return s;
}

/* Solve the damped normal equations by Cholesky's factors, in place. False if they are singular. */
static bool solve(sums *s, double step[4])
{
    for (int i = 0; i < 4; i++) {
        s->left[i][i] = s->left[i][i] * 1.01 + 1e-6;
        for (int k = 0; k <= i; k++) {
            double sum = s->left[i][k];

            for (int j = 0; j < k; j++)
                sum -= s->left[i][j] * s->left[k][j];
            if (i == k && sum <= 0) return false;
            s->left[i][k] = i == k ? sqrt(sum) : sum / s->left[k][k];
        }
    }
    for (int i = 0; i < 4; i++) {
        step[i] = s->right[i];
        for (int k = 0; k < i; k++)
            step[i] -= s->left[i][k] * step[k];
        step[i] /= s->left[i][i];
    }
    for (int i = 3; i >= 0; i--) {
        for (int k = i + 1; k < 4; k++)
            step[i] -= s->left[k][i] * step[k];
        step[i] /= s->left[i][i];
    }
    return true;
}

static double correlation(const sums *s)
{
    double a = s->aa - s->a * s->a / s->n, b = s->bb - s->b * s->b / s->n;

    return a > 1e-9 && b > 1e-9 ? (s->ab - s->a * s->b / s->n) / sqrt(a * b) : 0;
}

/* A pose that a crop or a shift between two frames of a video may have. */
static bool allowed(const pose *p)
{
    return p->scale_x > 0.7 && p->scale_x < 1.43 && p->scale_y > 0.7 && p->scale_y < 1.43 &&
           fabs(p->shift_x) < 6 && fabs(p->shift_y) < 6;
}

double sketch_compare(const sketch *a, const sketch *b, int variant, pose *at)
{
    float  turned[SKETCH_CELLS];
    pose   p    = { 1, 0, 1, 0 };
    double best = -1, gain = 1;

    for (int i = 0; i < SKETCH_CELLS; i++)
        turned[i] = b->map[source(variant, i / SIDE, i % SIDE)];
    if (at) *at = p;
    for (int round = 0; round < 12; round++) {
        double step[4], now;
        sums   s = sums_of(a->map, turned, &p, gain);

        if (s.n < 0.7 * SKETCH_CELLS) break;
        now = correlation(&s);
        if (now > best) {
            if (at) *at = p;
            if (round > 2 && now < best + 1e-4) round = 11; /* it has settled */
            best = now;
        }
        if ((round == 0 && now < 0.15) || (round == 4 && best < 0.4)) break;
        gain = s.bb > 0 && s.ab > 0 ? s.ab / s.bb : gain;
        if (!solve(&s, step)) break;
        p.scale_x += step[0];
        p.shift_x += step[1];
        p.scale_y += step[2];
        p.shift_y += step[3];
        if (!allowed(&p)) break;
    }
    return best;
}

double sketch_mask_dice(const sketch *a, const sketch *b, int variant, const pose *at)
{
    double both = 0, sum = 0;

    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            int    corner[2], value;
            double part[2];

            if (!look_at(at, y, x, corner, part)) continue;
            value = b->mask[source(variant, corner[1] + (part[1] >= 0.5),
                                   corner[0] + (part[0] >= 0.5))];
            both += fmin(a->mask[y * SIDE + x], value);
            sum += a->mask[y * SIDE + x] + value;
        }
    }
    return sum > 0 ? 2 * both / sum : 1;
}
