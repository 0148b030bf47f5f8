/* resize.c - RESIZE: bilinear, x (N,H,W,C) -> (N,H',W',C), separably: one axis after the other.
 *
 * prepare() makes tables for both axes. Forward, for an output row: interpolate two rows of x into scratch, then two of its
 * pixels for each output. Backward gathers, it does not scatter: a row of dx sums over the output rows that read it, which
 * are consecutive, then each pixel over its columns. So no two threads write to one place, and the order of a sum is
 * fixed. */
#include "backend/cpu/simd/simd.h"

/* One axis from `in` to `out` samples. Output i is x[at0] + share (x[at1] - x[at0]); sample j of x
 * went into outputs first[j] .. first[j] + count[j] - 1 with weights from weight[begin[j]] on. */
typedef struct axis {
    int64_t  in, out;
    int32_t *at0, *at1;
    float   *share;
    int32_t *first, *count, *begin;
    float   *weight; /* 2 out */
} axis;

typedef struct tables {
    axis high, wide;
} tables;

static size_t axis_bytes(int64_t in, int64_t out)
{
    return 5 * float_bytes(out) + 3 * float_bytes(in);
}

static void bump_alloc_axis(axis *a, void **at)
{
    a->at0    = bump_alloc(at, float_bytes(a->out));
    a->at1    = bump_alloc(at, float_bytes(a->out));
    a->share  = bump_alloc(at, float_bytes(a->out));
    a->first  = bump_alloc(at, float_bytes(a->in));
    a->count  = bump_alloc(at, float_bytes(a->in));
    a->begin  = bump_alloc(at, float_bytes(a->in));
    a->weight = bump_alloc(at, 2 * float_bytes(a->out));
}

static void fill_forward(axis *a, bool align)
{
    double ratio = !align       ? (double)a->in / (double)a->out
                   : a->out > 1 ? (double)(a->in - 1) / (double)(a->out - 1)
                                : 0;

    for (int64_t i = 0; i < a->out; i++) {
        double  from = align ? (double)i * ratio : ((double)i + 0.5) * ratio - 0.5;
        int64_t at;

        if (from < 0) from = 0;
        at          = KD_MIN((int64_t)from, a->in - 1);
        a->at0[i]   = (int32_t)at;
        a->at1[i]   = (int32_t)KD_MIN(at + 1, a->in - 1);
        a->share[i] = (float)(from - (double)at);
    }
}

/* The inverse table. Positions rise with i, so the outputs of each sample are consecutive. */
static void fill_backward(axis *a)
{
    int32_t used = 0;

    for (int32_t j = 0, low = 0; j < a->in; j++) {
        while (low < a->out && a->at1[low] < j)
            low++;
        a->first[j] = low;
        a->begin[j] = used;
        for (int32_t i = low; i < a->out && a->at0[i] <= j; i++)
            a->weight[used++] =
                (a->at0[i] == j ? 1.0f - a->share[i] : 0) + (a->at1[i] == j ? a->share[i] : 0);
        a->count[j] = used - a->begin[j];
    }
}

/* A row of x, and room for what pick() loads past its end. */
static size_t mixed_bytes(int64_t n) { return float_bytes(n + LANES); }

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    const kdas_resize_attr *attr = node->attr;
    const int64_t          *x = node->in[0].dim, *y = node->out.dim;
    size_t                  bytes = axis_bytes(x[1], y[1]) + axis_bytes(x[2], y[2]);
    tables *t = device->host.alloc(device->host.user, float_bytes(sizeof *t) + bytes);
    void   *at;

    if (!t) return device->host.fail(KDAS_ENOMEM, "resize: no memory for its tables");
    *t = (tables){ { .in = x[1], .out = y[1] }, { .in = x[2], .out = y[2] } };
    at = (char *)t + float_bytes(sizeof *t);
    bump_alloc_axis(&t->high, &at);
    bump_alloc_axis(&t->wide, &at);
    fill_forward(&t->high, attr->align);
    fill_forward(&t->wide, attr->align);
    fill_backward(&t->high);
    fill_backward(&t->wide);
    plan->state         = t;
    plan->work_forward  = mixed_bytes(x[2] * x[3]) * (size_t)device->threads;
    plan->work_backward = float_bytes(y[2] * y[3]) * (size_t)device->threads;
    return KDAS_OK;
}

/* ---- forward ---- */

/* mixed (n) = r0 + share (r1 - r0) */
static void mix_rows(const elem *r0, const elem *r1, float share, float *mixed, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        mixed[i] = num(r0[i]) + share * (num(r1[i]) - num(r0[i]));
}

/* Lane i: p[at[i]]. Where `near`, all of them lie in the vector from p[first] on. */
INLINE vec pick(const float *p, const int32_t *at, int32_t first, bool near)
{
    vec v;

#if defined(KD_AVX512)
    if (near)
        return (vec)_mm512_permutexvar_ps(
            _mm512_sub_epi32(_mm512_loadu_si512(at), _mm512_set1_epi32(first)),
            _mm512_loadu_ps(p + first));
#elif defined(__AVX2__)
    if (near)
        return (vec)_mm256_permutevar8x32_ps(
            _mm256_loadu_ps(p + first),
            _mm256_sub_epi32(_mm256_loadu_si256((const __m256i_u *)at), _mm256_set1_epi32(first)));
#else
    (void)first, (void)near;
#endif
    for (int i = 0; i < LANES; i++)
        v[i] = p[at[i]];
    return v;
}

/* Pixels of one value: a vector of outputs at a time. */
static void mix_single(const axis *w, const float *mixed, elem *out)
{
    int64_t x = 0;

    for (; x + LANES <= w->out; x += LANES) {
        int32_t first = w->at0[x];
        bool    near  = w->at1[x + LANES - 1] - first < LANES;
        vec     v0    = pick(mixed, w->at0 + x, first, near);
        vec     v1    = pick(mixed, w->at1 + x, first, near);

        store(out + x, v0 + load_f(w->share + x) * (v1 - v0));
    }
    for (; x < w->out; x++) {
        float v0 = mixed[w->at0[x]], v1 = mixed[w->at1[x]];

        set(out[x], v0 + w->share[x] * (v1 - v0));
    }
}

static void forward_row(const tables *t, const elem *image, float *mixed, elem *out, int64_t y,
                        int64_t C)
{
    const axis *w = &t->wide;
    int64_t     n = w->in * C;

    mix_rows(image + t->high.at0[y] * n, image + t->high.at1[y] * n, t->high.share[y], mixed, n);
    if (C == 1) {
        mix_single(w, mixed, out);
        return;
    }
    for (int64_t x = 0; x < w->out; x++, out += C) {
        const float *p0 = mixed + w->at0[x] * C, *p1 = mixed + w->at1[x] * C;
        float        share = w->share[x];

#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            set(out[c], p0[c] + share * (p1[c] - p0[c]));
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const tables *t   = call->state;
    const elem   *x   = call->in[0];
    elem         *out = call->out;
    int64_t       C = call->node->out.dim[3], rows = call->node->out.dim[0] * t->high.out;

#pragma omp parallel for schedule(static)
    for (int p = 0; p < device->threads; p++) {
        float *mixed = (float *)((char *)call->work + mixed_bytes(t->wide.in * C) * (size_t)p);

        for (int64_t r = part_begin(rows, p, device->threads);
             r < part_begin(rows, p + 1, device->threads); r++)
            forward_row(t, x + r / t->high.out * t->high.in * t->wide.in * C, mixed,
                        out + r * t->wide.out * C, r % t->high.out, C);
    }
    return KDAS_OK;
}

/* ---- backward ---- */

/* mixed (n) = the weighted sum of the output rows that read row y of x. */
static void gather_rows(const axis *h, const elem *dimage, int64_t y, float *mixed, int64_t n)
{
    const float *weight = h->weight + h->begin[y];
    const elem  *row    = dimage + h->first[y] * n;

    memset(mixed, 0, (size_t)n * sizeof(float));
    for (int32_t k = 0; k < h->count[y]; k++, row += n) {
        float share = weight[k];

#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            mixed[i] += share * num(row[i]);
    }
}

/* `mixed`: scratch of a row of the output. */
static void backward_row(const tables *t, const elem *dimage, float *mixed, elem *dx, int64_t y,
                         int64_t C, bool add)
{
    const axis *w = &t->wide;

    gather_rows(&t->high, dimage, y, mixed, w->out * C);
    for (int64_t x = 0; x < w->in; x++, dx += C) {
        const float *from = mixed + w->first[x] * C, *weight = w->weight + w->begin[x];
        int32_t      count = w->count[x];

        if (C == 1) {
            float sum = 0;

#pragma omp simd reduction(+ : sum)
            for (int32_t k = 0; k < count; k++)
                sum += weight[k] * from[k];
            accumulate(dx[0], sum, add);
            continue;
        }
        EACH_VECTOR(c, left, whole, C)
        {
            vec sum = { 0 };

            for (int32_t k = 0; k < count; k++)
                sum += weight[k] * load_some(from + k * C + c, whole, left);
            if (add) sum += load_some(dx + c, whole, left);
            store_some(dx + c, sum, whole, left);
        }
    }
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const tables *t    = call->state;
    const elem   *dout = call->dout;
    elem         *dx   = call->din[0];
    int64_t       C = call->node->out.dim[3], rows = call->node->out.dim[0] * t->high.in;

#pragma omp parallel for schedule(static)
    for (int p = 0; p < device->threads; p++) {
        float *mixed = (float *)((char *)call->work + float_bytes(t->wide.out * C) * (size_t)p);

        for (int64_t r = part_begin(rows, p, device->threads);
             r < part_begin(rows, p + 1, device->threads); r++)
            backward_row(t, dout + r / t->high.in * t->high.out * t->wide.out * C, mixed,
                         dx + r * t->wide.in * C, r % t->high.in, C, adds(call, 0));
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(resize) = { .prepare  = prepare,
                                        .forward  = forward,
                                        .backward = backward };
