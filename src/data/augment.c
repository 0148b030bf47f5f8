/* augment.c - flips, rotation, zoom and crop. They run after the resize, which leaves the fewest
 * pixels. The rotation is done in the frame's original aspect ratio, so the result equals rotating
 * first, except for the order of two filters. */
#include "data/augment.h"
#include <math.h>
#include "base/plain_math.h"

/* Uniform in the logarithm from low to high; exactly low where they are equal. */
static double between_logs(kd_random *r, double low, double high)
{
    double t = kd_random_unit(r);

    return low < high ? low * kd_plain_exp(t * kd_plain_log(high / low)) : low;
}

/* A crop window. Its area is `area` times the frame's and its aspect ratio is `shape` times the
 * frame's, as far as it fits. */
static void window(double *x, double *y, double *width, double *height, kd_random *r, double area,
                   double shape)
{
    double across = kd_random_unit(r), down = kd_random_unit(r);

    shape   = KD_MAX(area, KD_MIN(shape, 1 / area));
    *width  = KD_MIN(sqrt(area * shape), 1.0);
    *height = KD_MIN(sqrt(area / shape), 1.0);
    *x      = across * (1 - *width);
    *y      = down * (1 - *height);
}

static void draw_geometry(kd_augment *a, kd_random *r, const kd_augment_rules *rules)
{
    double turn, area, shape;

    a->flip_x = kd_random_u64(r) >> 63;
    a->flip_y = kd_random_u64(r) >> 63;
    turn      = kd_random_between(r, -rules->rotation, rules->rotation) / 360;
    a->cos    = kd_cos_turns(turn);
    a->sin    = kd_sin_turns(turn);
    a->zoom   = between_logs(r, rules->scale_min, rules->scale_max);
    area      = kd_random_between(r, rules->crop, 1);
    shape     = between_logs(r, 1 / rules->crop_aspect, rules->crop_aspect);
    window(&a->crop_x, &a->crop_y, &a->crop_width, &a->crop_height, r, area, shape);
    if (rules->crop < 1) return;
    a->crop_x = a->crop_y = 0;
    a->crop_width = a->crop_height = 1;
}

/* A factor around 1; exactly 1 where `by` is 0. */
static double factor(kd_random *r, double by) { return 1 + kd_random_between(r, -by, by); }

static void draw_colours(kd_augment *a, kd_random *r, const kd_augment_rules *rules)
{
    double area, shape, chance;

    a->brightness = factor(r, rules->brightness);
    a->contrast   = factor(r, rules->contrast);
    a->saturation = factor(r, rules->saturation);
    a->hue        = kd_random_between(r, -rules->hue, rules->hue);
    chance        = kd_random_unit(r);
    a->blur       = kd_random_between(r, 0.1, 2);
    if (chance >= rules->blur) a->blur = 0;
    chance = kd_random_unit(r);
    area   = kd_random_between(r, 0.02, 0.2);
    shape  = between_logs(r, 0.5, 2);
    window(&a->cutout_x, &a->cutout_y, &a->cutout_width, &a->cutout_height, r, area, shape);
    if (chance >= rules->cutout) a->cutout_width = 0;
}

kd_augment kd_augment_draw(uint64_t seed, uint64_t epoch, uint64_t view,
                           const kd_augment_rules *rules)
{
    kd_random  r = kd_random_make(kd_mix64(seed ^ kd_mix64(epoch + 1)), view);
    kd_augment a;

    draw_geometry(&a, &r, rules);
    draw_colours(&a, &r, rules);
    return a;
}

/* The source position of output pixels, in units of 2^-32 pixels: u = ux x + uy y + u0,
 * v = vx x + vy y + v0. */
struct map {
    int64_t ux, uy, u0, vx, vy, v0;
};

static int64_t fixed(double v)
{
    return v < 0 ? -(int64_t)(0.5 - v * 4294967296.0) : (int64_t)(v * 4294967296.0 + 0.5);
}

/* The mapping of a view. kd_augment_apply warps every plane of a frame (colours, mask, other
 * planes) by it. A view is the frame cropped and enlarged, then rotated in its own aspect ratio and
 * zoomed about the middle, then flipped. This is the inverse: from the middle of the output to the
 * middle of the crop. Beyond the edges of a crop the frame continues. With flips alone all numbers
 * are whole, so copies are exact. */
static struct map map_make(const kd_augment *a, double aspect, int64_t width, int64_t height)
{
    double     cx = (double)(width - 1) / 2, cy = (double)(height - 1) / 2;
    double     mx = (a->crop_x + a->crop_width / 2) * (double)width - 0.5;
    double     my = (a->crop_y + a->crop_height / 2) * (double)height - 0.5;
    double     kx = a->crop_width / a->zoom, ky = a->crop_height / a->zoom;
    double     along = a->sin / aspect, down = a->sin * aspect;
    double     fx = a->flip_x ? -1 : 1, fy = a->flip_y ? -1 : 1;
    double     ux = kx * fx * a->cos, uy = kx * fy * along;
    double     vx = ky * -fx * down, vy = ky * fy * a->cos;
    struct map m = { fixed(ux), fixed(uy), 0, fixed(vx), fixed(vy), 0 };

    m.u0 = fixed(mx - ux * cx - uy * cy);
    m.v0 = fixed(my - vx * cx - vy * cy);
    return m;
}

/* Bilinear at (u,v); neighbours outside are black, so that the edge is smooth. */
static inline void sample(uint8_t to[3], const uint8_t *from, int64_t width, int64_t height,
                          int64_t u, int64_t v)
{
    int64_t  x = u >> 32, y = v >> 32;
    uint32_t fx = (uint32_t)u >> 24, fy = (uint32_t)v >> 24;
    uint32_t w[4]   = { (256 - fx) * (256 - fy), fx * (256 - fy), (256 - fx) * fy, fx * fy };
    uint32_t sum[3] = { 32768, 32768, 32768 };

    for (int k = 0; k < 4; k++) {
        int64_t        i = x + (k & 1), j = y + (k >> 1);
        const uint8_t *p = from + 3 * (j * width + i);

        if (i < 0 || i >= width || j < 0 || j >= height) continue;
        for (int c = 0; c < 3; c++)
            sum[c] += w[k] * p[c];
    }
    for (int c = 0; c < 3; c++)
        to[c] = (uint8_t)(sum[c] >> 16);
}

/* The same where all neighbours are inside: most pixels. */
static inline void sample_inside(uint8_t to[3], const uint8_t *p, int64_t width, uint32_t fx,
                                 uint32_t fy)
{
    const uint8_t *q = p + 3 * width;
    uint32_t a = (256 - fx) * (256 - fy), b = fx * (256 - fy), c = (256 - fx) * fy, d = fx * fy;

    for (int k = 0; k < 3; k++)
        to[k] = (uint8_t)((a * p[k] + b * p[k + 3] + c * q[k] + d * q[k + 3] + 32768) >> 16);
}

void kd_augment_apply(const kd_augment *augment, double aspect, int64_t width, int64_t height,
                      uint8_t *rgb, uint8_t *mask, const uint8_t *from_rgb,
                      const uint8_t *from_mask)
{
    static const int64_t half = (int64_t)1 << 31;
    struct map           m    = map_make(augment, aspect, width, height);

    for (int64_t y = 0; y < height; y++) {
        int64_t u = m.uy * y + m.u0, v = m.vy * y + m.v0;

        for (int64_t x = 0; x < width; x++, u += m.ux, v += m.vx, rgb += 3, mask++) {
            int64_t i = u >> 32, j = v >> 32, near_i = (u + half) >> 32, near_j = (v + half) >> 32;

            if (i >= 0 && j >= 0 && i + 1 < width && j + 1 < height)
                sample_inside(rgb, from_rgb + 3 * (j * width + i), width, (uint32_t)u >> 24,
                              (uint32_t)v >> 24);
            else
                sample(rgb, from_rgb, width, height, u, v);
            *mask = near_i >= 0 && near_i < width && near_j >= 0 && near_j < height
                        ? from_mask[near_j * width + near_i]
                        : 0;
        }
    }
}

void kd_augment_plane(const kd_augment *augment, double aspect, int64_t width, int64_t height,
                      float *to, const float *from, float outside)
{
    struct map m = map_make(augment, aspect, width, height);

    for (int64_t y = 0; y < height; y++) {
        int64_t u = m.uy * y + m.u0, v = m.vy * y + m.v0;

        for (int64_t x = 0; x < width; x++, u += m.ux, v += m.vx) {
            float fx = (float)((uint32_t)u >> 24) / 256, fy = (float)((uint32_t)v >> 24) / 256;
            float w[4] = { (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy };
            float sum  = 0;

            for (int k = 0; k < 4; k++) {
                int64_t i = (u >> 32) + (k & 1), j = (v >> 32) + (k >> 1);

                sum += w[k] * (i < 0 || i >= width || j < 0 || j >= height ? outside
                                                                           : from[j * width + i]);
            }
            *to++ = sum;
        }
    }
}
