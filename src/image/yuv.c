/* yuv.c - YUV frames as RGB8, by integers: sample times weight, summed, rounded half up and
 * held to a byte. */
#include "image/yuv.h"
#include <math.h>

enum {
    FRACTION = 13
}; /* bits of a weight for 8-bit samples: the largest, 2.1, fits 16 with its sign */

/* The weights of red and blue in luma; green has the rest. */
static const struct {
    double red, blue;
} matrices[] = { [KDAS_MATRIX_BT601] = { 0.299, 0.114 }, [KDAS_MATRIX_BT709] = { 0.2126, 0.0722 } };

static kdas_matrix matrix_of(const kdas_view *view)
{
    if (view->matrix != KDAS_MATRIX_AUTO) return view->matrix;
    return view->height >= 720 ? KDAS_MATRIX_BT709 : KDAS_MATRIX_BT601;
}

/* A sample's units: those of luma from black to white and of chroma from end to end, and
 * where both are 0. */
typedef struct units {
    double luma, chroma, black, grey;
} units;

static units units_of(const kdas_view *view, int bits)
{
    double scale = 1 << (bits - 8), most = (1 << bits) - 1;

    if (view->range == KDAS_RANGE_FULL) return (units){ most, most, 0, 128 * scale };
    return (units){ 219 * scale, 224 * scale, 16 * scale, 128 * scale };
}

void kd_yuv_init(kd_yuv *yuv, const kdas_view *view, bool vectors)
{
    bool   deep = view->pixel == KDAS_PIXEL_P010;
    units  u    = units_of(view, deep ? 10 : 8);
    double r = matrices[matrix_of(view)].red, b = matrices[matrix_of(view)].blue, g = 1 - r - b;
    double weight[3]  = { r, g, b };
    double from[3][2] = { { 0, 2 * (1 - r) },
                          { -2 * b * (1 - b) / g, -2 * r * (1 - r) / g },
                          { 2 * (1 - b), 0 } };
    double one;

    *yuv = (kd_yuv){
        .view = view, .vectors = vectors, .deep = deep, .shift = FRACTION + (deep ? 2 : 0)
    };
    kd_view_planes(yuv->plane, view);
    one       = 255 * (double)(1 << yuv->shift);
    yuv->luma = (int16_t)lround(one / u.luma);
    for (int c = 0; c < 3; c++) {
        int32_t sum = 1 << (yuv->shift - 1);

        for (int k = 0; k < 2; k++) {
            yuv->chroma[c][k] = (int16_t)lround(one / u.chroma * from[c][k]);
            sum -= (int32_t)u.grey * yuv->chroma[c][k];
        }
        yuv->constant[c]    = sum - (int32_t)u.black * yuv->luma;
        yuv->from_rgb[0][c] = weight[c] * u.luma / 255;
        yuv->from_rgb[1][c] = ((c == 2) - weight[c]) / (2 * (1 - b)) * u.chroma / 255;
        yuv->from_rgb[2][c] = ((c == 0) - weight[c]) / (2 * (1 - r)) * u.chroma / 255;
    }
    yuv->zero[0] = u.black;
    yuv->zero[1] = yuv->zero[2] = u.grey;
}

void kd_yuv_colour(int out[3], const kd_yuv *yuv, const uint8_t rgb[3])
{
    int most = yuv->deep ? 1023 : 255;

    for (int i = 0; i < 3; i++) {
        double sum = yuv->zero[i];

        for (int c = 0; c < 3; c++)
            sum += yuv->from_rgb[i][c] * rgb[c];
        out[i] = (int)KD_MIN(lround(sum), (long)most);
    }
}

/* ---- Rows ---- */

kd_yuv_samples kd_yuv_samples_at(const kd_yuv *yuv, int64_t y, int64_t x)
{
    int             bytes = yuv->deep ? 2 : 1;
    bool            pairs = yuv->view->pixel != KDAS_PIXEL_I420;
    kd_yuv_samples  s     = { .step = pairs ? 2 * bytes : bytes };
    const kd_plane *p     = yuv->plane;

    s.luma = p[0].data + y * p[0].stride + x * bytes;
    s.cb   = p[1].data + y / 2 * p[1].stride + x / 2 * s.step;
    s.cr   = pairs ? s.cb + bytes : p[2].data + y / 2 * p[2].stride + x / 2;
    return s;
}

static inline int32_t sample(const uint8_t *at, bool deep)
{
    return deep ? (at[0] | at[1] << 8) >> 6 : *at;
}

static inline uint8_t held(int32_t value) { return (uint8_t)KD_MIN(KD_MAX(value, 0), 255); }

/* Pixels x .. n - 1; x is even, and `deep` a constant where it is used. */
static inline void plain_row(const kd_yuv *yuv, uint8_t *rgb, const kd_yuv_samples *from, int64_t x,
                             int64_t n, bool deep)
{
    for (; x < n; x += 2) {
        int32_t cb = sample(from->cb + x / 2 * from->step, deep), colour[3];
        int32_t cr = sample(from->cr + x / 2 * from->step, deep);

        for (int c = 0; c < 3; c++)
            colour[c] = yuv->constant[c] + yuv->chroma[c][0] * cb + yuv->chroma[c][1] * cr;
        for (int64_t i = x; i < KD_MIN(x + 2, n); i++) {
            int32_t luma = yuv->luma * sample(from->luma + i * (deep ? 2 : 1), deep);

            for (int c = 0; c < 3; c++)
                rgb[3 * i + c] = held((luma + colour[c]) >> yuv->shift);
        }
    }
}

void kd_yuv_row(const kd_yuv *yuv, uint8_t *rgb, int64_t y, int64_t begin, int64_t n)
{
    kd_yuv_samples from = kd_yuv_samples_at(yuv, y, begin);
    int64_t        done = yuv->vectors ? kd_yuv_row_avx2(yuv, rgb, &from, n) : 0;

    if (yuv->deep)
        plain_row(yuv, rgb, &from, done, n, true);
    else
        plain_row(yuv, rgb, &from, done, n, false);
}
