/* colour.c - what a view does to a frame's colours. Drawn factors are rounded to integers, and
 * pixels are computed with integers alone. So a view has the same bits on every machine. */
#include "data/augment.h"
#include <math.h>
#include "base/plain_math.h"

/* ---- Colours ---- */

/* out[c] = sum m[c][k] in[k] + add[c] */
typedef struct colours {
    double m[3][3], add[3];
} colours;

static const double luma[3] = { 0.299, 0.587, 0.114 };

static double luma_of(const double rgb[3])
{
    return luma[0] * rgb[0] + luma[1] * rgb[1] + luma[2] * rgb[2];
}

/* Compose two maps: `c` first, then `by`. */
static void then(colours *c, double by[3][3])
{
    colours was = *c;

    for (int i = 0; i < 3; i++) {
        c->add[i] = by[i][0] * was.add[0] + by[i][1] * was.add[1] + by[i][2] * was.add[2];
        for (int k = 0; k < 3; k++)
            c->m[i][k] = by[i][0] * was.m[0][k] + by[i][1] * was.m[1][k] + by[i][2] * was.m[2][k];
    }
}

/* Away from a pixel's own luma, or towards it. */
static void saturate(colours *c, double s)
{
    double by[3][3];

    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
            by[i][k] = (1 - s) * luma[k] + (i == k ? s : 0);
    then(c, by);
}

/* Rotate around the axis of greys, which keeps R + G + B. A third of a turn maps red to green and
 * green to blue. */
static void turn(colours *c, double turns)
{
    double co = kd_cos_turns(turns), grey = (1 - co) / 3;
    double si       = kd_sin_turns(turns) * sqrt(1.0 / 3);
    double by[3][3] = { { grey + co, grey - si, grey + si },
                        { grey + si, grey + co, grey - si },
                        { grey - si, grey + si, grey + co } };

    then(c, by);
}

static bool changes_colours(const kd_augment *a)
{
    return a->brightness != 1 || a->contrast != 1 || a->saturation != 1 || a->hue != 0;
}

/* All as one affine map: brightness b multiplies, contrast c scales the distance from the luma of
 * the frame's mean (after brightness), then saturation, then hue. */
static colours make_colours(const kd_augment *a, const double mean[3])
{
    double  b = a->brightness, c = a->contrast, middle = (1 - c) * b * luma_of(mean);
    colours to = { { { b * c, 0, 0 }, { 0, b * c, 0 }, { 0, 0, b * c } },
                   { middle, middle, middle } };

    if (a->saturation != 1) saturate(&to, a->saturation);
    if (a->hue != 0) turn(&to, a->hue);
    return to;
}

static int32_t fixed(double v)
{
    return v < 0 ? -(int32_t)(0.5 - v * 65536) : (int32_t)(v * 65536 + 0.5);
}

static inline uint8_t to_byte(int32_t v) { return v < 0 ? 0 : (uint8_t)KD_MIN(v >> 16, 255); }

/* Factors in units of 2^-16; the sum is rounded to the nearest byte, halves up, and held within 0
 * and 255. */
static void change_colours(const colours *c, int64_t pixels, uint8_t *rgb)
{
    int32_t m[3][3], add[3];

    for (int i = 0; i < 3; i++) {
        add[i] = fixed(c->add[i]) + 32768;
        for (int k = 0; k < 3; k++)
            m[i][k] = fixed(c->m[i][k]);
    }
    for (int64_t p = 0; p < pixels; p++, rgb += 3) {
        int32_t r = rgb[0], g = rgb[1], b = rgb[2];

        for (int i = 0; i < 3; i++)
            rgb[i] = to_byte(m[i][0] * r + m[i][1] * g + m[i][2] * b + add[i]);
    }
}

static void mean_colour(double mean[3], const uint8_t *rgb, int64_t pixels)
{
    int64_t sum[3] = { 0, 0, 0 };

    for (int64_t p = 0; p < pixels; p++, rgb += 3)
        for (int k = 0; k < 3; k++)
            sum[k] += rgb[k];
    for (int k = 0; k < 3; k++)
        mean[k] = (double)sum[k] / (double)pixels;
}

/* ---- Blur ---- */

enum {
    RADIUS = 288,
    RUN    = 96
}; /* the widest, of sides of 16384; samples that are summed together */

/* Weights of a Gaussian at 0 .. the radius that is returned, whole in units of 2^-16 and of sum
 * 1. */
static int gaussian(uint32_t weight[RADIUS + 1], double sigma)
{
    int    radius = KD_MIN((int)(3 * sigma) + 1, RADIUS);
    double w[RADIUS + 1], sum = 1;

    for (int k = 1; k <= radius; k++) {
        double power = -(double)k * k / (2 * sigma * sigma);

        w[k] = power < -40 ? 0 : kd_plain_exp(power);
        sum += 2 * w[k];
    }
    weight[0] = 65536;
    for (int k = 1; k <= radius; k++) {
        weight[k] = (uint32_t)(w[k] / sum * 65536 + 0.5);
        weight[0] -= 2 * weight[k];
    }
    return radius;
}

/* A row of (width,3) into units of 2^-8; beyond its ends the last pixel is repeated. */
static void blur_row(uint16_t *to, const uint8_t *row, int64_t width, const uint32_t *weight,
                     int radius)
{
    for (int64_t x = 0; x < width; x++)
        for (int c = 0; c < 3; c++) {
            uint32_t sum = weight[0] * row[3 * x + c] + 128;

            for (int k = 1; k <= radius; k++) {
                int64_t left = KD_MAX(x - k, 0), right = KD_MIN(x + k, width - 1);

                sum += weight[k] * (uint32_t)(row[3 * left + c] + row[3 * right + c]);
            }
            to[3 * x + c] = (uint16_t)(sum >> 8);
        }
}

/* Row y of the blurred frame from rows of `from` (height,samples). */
static void blur_down(uint8_t *to, const uint16_t *from, int64_t y, int64_t height, int64_t samples,
                      const uint32_t *weight, int radius)
{
    for (int64_t first = 0; first < samples; first += RUN) {
        int64_t  n = KD_MIN(samples - first, RUN);
        uint32_t sum[RUN];

        for (int64_t i = 0; i < n; i++)
            sum[i] = weight[0] * from[y * samples + first + i] + 8388608;
        for (int k = 1; k <= radius; k++) {
            const uint16_t *up   = from + KD_MAX(y - k, 0) * samples + first;
            const uint16_t *down = from + KD_MIN(y + k, height - 1) * samples + first;

            for (int64_t i = 0; i < n; i++)
                sum[i] += weight[k] * ((uint32_t)up[i] + down[i]);
        }
        for (int64_t i = 0; i < n; i++)
            to[first + i] = (uint8_t)(sum[i] >> 24);
    }
}

/* sigma is that of a frame of 352 x 352, and grows with the sides. */
static void blur(double sigma, int64_t width, int64_t height, uint8_t *rgb, uint16_t *scratch)
{
    uint32_t weight[RADIUS + 1];
    int      radius = gaussian(weight, sigma * sqrt((double)width * (double)height) / 352);

    for (int64_t y = 0; y < height; y++)
        blur_row(scratch + 3 * width * y, rgb + 3 * width * y, width, weight, radius);
    for (int64_t y = 0; y < height; y++)
        blur_down(rgb + 3 * width * y, scratch, y, height, 3 * width, weight, radius);
}

/* ---- Cutout, and all of it ---- */

/* One colour over a rectangle: the frame's mean, as the view shows it. */
static void cut_out(const kd_augment *a, const double mean[3], int64_t width, int64_t height,
                    uint8_t *rgb)
{
    int64_t x = (int64_t)(a->cutout_x * (double)width), y = (int64_t)(a->cutout_y * (double)height);
    int64_t w    = (int64_t)(a->cutout_width * (double)width + 0.5);
    int64_t h    = (int64_t)(a->cutout_height * (double)height + 0.5);
    colours view = make_colours(a, mean);
    uint8_t fill[3];

    for (int i = 0; i < 3; i++)
        fill[i] = to_byte(fixed(view.m[i][0] * mean[0] + view.m[i][1] * mean[1] +
                                view.m[i][2] * mean[2] + view.add[i]) +
                          32768);
    for (int64_t j = y; j < KD_MIN(y + h, height); j++)
        for (int64_t i = x; i < KD_MIN(x + w, width); i++)
            for (int c = 0; c < 3; c++)
                rgb[3 * (j * width + i) + c] = fill[c];
}

bool kd_colour_acts(const kd_augment *a)
{
    return changes_colours(a) || a->blur > 0 || a->cutout_width > 0;
}

void kd_colour_apply(const kd_augment *a, int64_t width, int64_t height, uint8_t *rgb,
                     const uint8_t *from, uint16_t *scratch)
{
    double  mean[3];
    colours view;

    if (!kd_colour_acts(a)) return;
    mean_colour(mean, from, width * height);
    view = make_colours(a, mean);
    if (changes_colours(a)) change_colours(&view, width * height, rgb);
    if (a->blur > 0) blur(a->blur, width, height, rgb, scratch);
    if (a->cutout_width > 0) cut_out(a, mean, width, height, rgb);
}
