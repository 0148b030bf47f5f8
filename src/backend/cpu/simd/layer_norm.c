/* layer_norm.c - LAYER_NORM over the last axis: y = (x - mean) / sqrt(var + eps) g + b, x (rows,C).
 *
 * saved: mean and r = 1/sqrt(var + eps) of each row, (rows,2). The variance is two-pass: the mean first, then the squared
 * distances from it. Backward, with h = (x - mean) r, the normalised row, and e = dy g:
 *   dx = r (e - mean(e) - h mean(e h)),  dg = sum dy h,  db = sum dy. */
#include "backend/cpu/simd/simd.h"

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t C = node->in[0].dim[3];

    plan->saved         = float_bytes(2 * row_count(&node->in[0]));
    plan->work_backward = 2 * float_bytes(C) * (size_t)device->threads;
    return KDAS_OK;
}

/* Four rows at a time: their sums are independent, so that additions overlap, and one square root serves all four. */
enum { ROWS = 4 };
typedef float quad __attribute__((vector_size(ROWS * sizeof(float))));

/* Fold v to a vector of four lanes with the same sum. */
INLINE quad fold_lanes(vec v)
{
#if defined(KD_AVX512)
    __m256 h =
        _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));

    return (quad)_mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
#elif defined(__AVX2__)
    return (quad)_mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
#else
    return (quad)v;
#endif
}

/* The sum of the lanes of each of four vectors. */
INLINE quad lanes_sums(const vec v[ROWS])
{
    __m128 a = (__m128)fold_lanes(v[0]), b = (__m128)fold_lanes(v[1]), c = (__m128)fold_lanes(v[2]),
           d = (__m128)fold_lanes(v[3]);

    _MM_TRANSPOSE4_PS(a, b, c, d);
    return (quad)_mm_add_ps(_mm_add_ps(a, b), _mm_add_ps(c, d));
}

/* `rows` rows, 1 to ROWS. `exact`: C is a multiple of LANES. Both are constants. */
INLINE void forward_rows(const elem *x, const float *g, const float *b, elem *y, float *saved,
                         int64_t C, float eps, const int rows, const bool exact)
{
    vec  sum[ROWS] = { 0 }, squares[ROWS] = { 0 };
    quad mean, r;

    EACH_VECTOR(c, left, whole, C)
    for (int i = 0; i < rows; i++)
        sum[i] += load_some(x + i * C + c, exact || whole, left);
    mean = lanes_sums(sum) / (float)C;
    EACH_VECTOR(c, left, whole, C)
    for (int i = 0; i < rows; i++) {
        vec d = load_some(x + i * C + c, exact || whole, left) - mean[i];

        d = masked(d, exact || whole, left);
        squares[i] += d * d;
    }
    r = 1.0f / (quad)_mm_sqrt_ps((__m128)(lanes_sums(squares) / (float)C + eps));
    EACH_VECTOR(c, left, whole, C)
    {
        vec gain = load_some(g + c, exact || whole, left);
        vec bias = load_some(b + c, exact || whole, left);

        for (int i = 0; i < rows; i++)
            store_some(y + i * C + c,
                       (load_some(x + i * C + c, exact || whole, left) - mean[i]) * r[i] * gain +
                           bias,
                       exact || whole, left);
    }
    for (int i = 0; i < rows; i++) {
        saved[2 * i]     = mean[i];
        saved[2 * i + 1] = r[i];
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const elem  *x = call->in[0];
    const float *g = call->in[1], *b = call->in[2];
    elem        *y     = call->out;
    float       *saved = call->saved;
    int64_t      rows = row_count(&call->node->out), C = call->node->out.dim[3];
    float        eps = ((const kdas_norm_attr *)call->node->attr)->eps;

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r += ROWS) {
        const elem *from = x + r * C;
        elem       *to   = y + r * C;

        if (r + ROWS > rows)
            for (int64_t i = 0; i < rows - r; i++)
                forward_rows(from + i * C, g, b, to + i * C, saved + 2 * (r + i), C, eps, 1, false);
        else if (C % LANES == 0)
            forward_rows(from, g, b, to, saved + 2 * r, C, eps, ROWS, true);
        else
            forward_rows(from, g, b, to, saved + 2 * r, C, eps, ROWS, false);
    }
    return KDAS_OK;
}

/* What the rows of a part share. `dg`, `db`: the sums of the part, padded to whole vectors. */
typedef struct gradients {
    const float *g;
    float       *dg, *db;
    int64_t      C;
    bool         add; /* to dx */
} gradients;

/* `rows` rows, as above; `dx` may be NULL, or dy itself. */
INLINE void backward_rows(const gradients *to, const elem *x, const elem *dy, const float *saved,
                          elem *dx, const int rows, const bool exact)
{
    const int64_t C           = to->C;
    const float  *g           = to->g;
    vec           e_sum[ROWS] = { 0 }, eh_sum[ROWS] = { 0 };
    quad          m1, m2;

    EACH_VECTOR(c, left, whole, C)
    {
        vec gain = load_some(g + c, exact || whole, left);
        vec dg = load_f(to->dg + c), db = load_f(to->db + c);

        for (int i = 0; i < rows; i++) {
            vec d = load_some(dy + i * C + c, exact || whole, left), e = d * gain;
            vec h =
                (load_some(x + i * C + c, exact || whole, left) - saved[2 * i]) * saved[2 * i + 1];

            e_sum[i] += e;
            eh_sum[i] += e * h;
            dg += d * h;
            db += d;
        }
        store_f(to->dg + c, dg);
        store_f(to->db + c, db);
    }
    if (!dx) return;
    m1 = lanes_sums(e_sum) / (float)C;
    m2 = lanes_sums(eh_sum) / (float)C;
    EACH_VECTOR(c, left, whole, C)
    {
        vec gain = load_some(g + c, exact || whole, left);

        for (int i = 0; i < rows; i++) {
            float mean = saved[2 * i], r = saved[2 * i + 1];
            vec   d = load_some(dy + i * C + c, exact || whole, left) * gain - m1[i] -
                    (load_some(x + i * C + c, exact || whole, left) - mean) * (r * m2[i]);

            /* C 1: the value is its mean, so dx is exactly 0; r would magnify rounding */
            d *= C > 1 ? r : 0;
            if (to->add) d += load_some(dx + i * C + c, exact || whole, left);
            store_some(dx + i * C + c, d, exact || whole, left);
        }
    }
}

static void backward_part(const gradients *to, const elem *x, const elem *dy, const float *saved,
                          elem *dx, int64_t rows)
{
    int64_t C = to->C, r = 0;

    memset(to->dg, 0, float_bytes(C));
    memset(to->db, 0, float_bytes(C));
    if (C % LANES == 0)
        for (; r + ROWS <= rows; r += ROWS)
            backward_rows(to, x + r * C, dy + r * C, saved + 2 * r, dx ? dx + r * C : NULL, ROWS,
                          true);
    for (; r < rows; r++)
        backward_rows(to, x + r * C, dy + r * C, saved + 2 * r, dx ? dx + r * C : NULL, 1, false);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const elem  *x = call->in[0], *dy = call->dout;
    const float *g = call->in[1], *saved = call->saved;
    elem        *dx   = call->din[0];
    float       *sums = call->work;
    int64_t      rows = row_count(&call->node->out), C = call->node->out.dim[3];
    int64_t      ld    = (int64_t)(float_bytes(C) / sizeof(float));
    int          parts = device->threads;

#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        float    *dg    = sums + 2 * t * ld;
        int64_t   begin = part_begin(rows, t, parts), end = part_begin(rows, t + 1, parts);
        gradients to = { g, dg, dg + ld, C, adds(call, 0) };

        backward_part(&to, x + begin * C, dy + begin * C, saved + 2 * begin,
                      dx ? dx + begin * C : NULL, end - begin);
    }
    if (call->din[1]) add_parts(call->din[1], sums, C, 2 * ld, parts);
    if (call->din[2]) add_parts(call->din[2], sums + ld, C, 2 * ld, parts);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(layer_norm) = {
    .prepare  = prepare,
    .forward  = forward,
    .backward = backward,
};
