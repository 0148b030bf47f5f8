/* augment.c - flips and rotation. They are done after the resize, where there are fewest pixels,
 * but turn the frame in its own shape: the result is that of rotating first, up to the order of
 * two filters. */
#include "data/augment.h"
#include "data/plain_math.h"

kd_augment kd_augment_draw(uint64_t seed, uint64_t epoch, uint64_t frame, double rotation)
{
    kd_random  r = kd_random_make(kd_mix64(seed ^ kd_mix64(epoch + 1)), frame);
    kd_augment a;
    double     turn;

    a.flip_x = kd_random_u64(&r) >> 63;
    a.flip_y = kd_random_u64(&r) >> 63;
    turn     = kd_random_between(&r, -rotation, rotation) / 360;
    a.cos    = kd_cos_turns(turn);
    a.sin    = kd_sin_turns(turn);
    return a;
}

/* Where output pixels come from, in units of 2^-32 pixels: u = ux x + uy y + u0, v likewise. */
struct map {
    int64_t ux, uy, u0, vx, vy, v0;
};

static int64_t fixed(double v)
{
    return v < 0 ? -(int64_t)(0.5 - v * 4294967296.0) : (int64_t)(v * 4294967296.0 + 0.5);
}

/* Undo the flips, then turn back around the middle. Without a turn all is whole: exact copies. */
static struct map map_make(const kd_augment *a, double aspect, int64_t width, int64_t height)
{
    double     cx = (double)(width - 1) / 2, cy = (double)(height - 1) / 2;
    double     along = a->sin / aspect, down = a->sin * aspect;
    double     fx = a->flip_x ? -1 : 1, fy = a->flip_y ? -1 : 1;
    struct map m = { fixed(fx * a->cos), fixed(fy * along),  0,
                     fixed(-fx * down),  fixed(fy * a->cos), 0 };

    /* the middle stays: u(cx, cy) = cx, v(cx, cy) = cy */
    m.u0 = fixed(cx - fx * a->cos * cx - fy * along * cy);
    m.v0 = fixed(cy + fx * down * cx - fy * a->cos * cy);
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
