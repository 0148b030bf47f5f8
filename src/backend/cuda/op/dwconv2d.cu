/* dwconv2d.cu - DWCONV2D: the 3x3 filter of the networks by dwconv.h, any other output by output. Gradients of filters are
 * summed over parts of the rows, which are added up in order. */
#include "backend/cuda/op/dwconv.h"

/* ---- 3x3, stride 1, padding 1 ---- */

KERNEL(dwconv2d_same)(dwconv_job j) { DISPATCH_WIDTH(j.width, dwconv_walk, DW_PLAIN, &j); }

/* sums[k] += x at tap k times dy, for the outputs of row y; sums[9] += dy. A column of x contributes to three outputs: the one at
 * its right by the left tap, its own by the middle one, the one at its left by the right one. */
static __device__ __forceinline__ void add_row(quad sums[DW_TAPS + 1], const dwconv_job *j,
                                               const elem *x, const elem *dy, int y,
                                               const int width)
{
    int64_t line = (int64_t)j->w * j->c;
    quad    zero = { { 0, 0, 0, 0 } }, left = zero, own = zero, right = load(dy, width);

    for (int at = 0; at < j->w; at++) {
        left  = own;
        own   = right;
        right = zero;
        EACH_VALUE(i, width) sums[DW_TAPS].v[i] += own.v[i];
        if (at + 1 < j->w) right = load(dy + (int64_t)(at + 1) * j->c, width);
        EACH_VALUE(k, 3)
        {
            quad v = zero;

            if (y + k >= 1 && y + k <= j->h)
                v = load(x + (k - 1) * line + (int64_t)at * j->c, width);
            EACH_VALUE(i, width)
            {
                sums[3 * k].v[i] += v.v[i] * right.v[i];
                sums[3 * k + 1].v[i] += v.v[i] * own.v[i];
                sums[3 * k + 2].v[i] += v.v[i] * left.v[i];
            }
        }
    }
}

/* parts[p][k][c], k = 9: of the bias. A block has 32 times `width` channels of one part of the rows; each of its eight warps
 * has every eighth row. */
static __device__ __forceinline__ void add_part(const dwconv_job *j, const elem *dy, float *parts,
                                                int64_t part_rows, const int width)
{
    __shared__ float all[DW_ROWS][DW_TAPS + 1][128];
    int              lane = threadIdx.x % 32 * width, c = (int)blockIdx.x * 32 * width + lane;
    int64_t          first = blockIdx.y * part_rows;
    int64_t          end   = first + part_rows < j->rows ? first + part_rows : j->rows;
    quad             sums[DW_TAPS + 1], zero = { { 0, 0, 0, 0 } };

    EACH_VALUE(k, DW_TAPS + 1) sums[k] = zero;
    for (int64_t r = first + threadIdx.x / 32; c < j->c && r < end; r += DW_ROWS) {
        int64_t start = r * j->w * j->c + c;

        add_row(sums, j, j->x + start, dy + start, (int)(r % j->h), width);
    }
    EACH_VALUE(k, DW_TAPS + 1)
    EACH_VALUE(i, width) all[threadIdx.x / 32][k][lane + i] = sums[k].v[i];
    __syncthreads();
    for (int i = threadIdx.x; i < (DW_TAPS + 1) * 32 * width; i += KD_BLOCK) {
        int   k = i / (32 * width), at = i % (32 * width);
        int   channel = (int)blockIdx.x * 32 * width + at;
        float sum     = 0;

        for (int row = 0; row < DW_ROWS; row++)
            sum += all[row][k][at];
        if (channel < j->c) parts[((int64_t)blockIdx.y * (DW_TAPS + 1) + k) * j->c + channel] = sum;
    }
}

KERNEL(dwconv2d_same_parts)(dwconv_job j, const elem *dy, float *parts, int64_t part_rows)
{
    DISPATCH_WIDTH(j.width, add_part, &j, dy, parts, part_rows);
}

/* ---- any ---- */

KERNEL(dwconv2d_forward)
(elem *y, const elem *x, const float *filter, const float *bias, dwconv_shape s)
{
    EACH(at, s.n * s.p * s.q * s.c)
    {
        int64_t c = at % s.c, r = at / s.c, n = r / (s.p * s.q);
        int64_t top  = r / s.q % s.p * s.stride - s.top;
        int64_t left = r % s.q * s.stride - s.left;
        float   sum  = bias ? bias[c] : 0;

        for (int64_t i = 0; i < s.kh; i++)
            for (int64_t j = 0; j < s.kw; j++) {
                if (top + i < 0 || top + i >= s.h || left + j < 0 || left + j >= s.w) continue;
                sum += num(x[((n * s.h + top + i) * s.w + left + j) * s.c + c]) *
                       filter[(i * s.kw + j) * s.c + c];
            }
        set(&y[at], sum);
    }
}

/* The gradient of input (h, w): the sum over the outputs that read it, those p with h = p stride - top + i, 0 <= i < kh. */
KERNEL(dwconv2d_backward)(elem *dx, const elem *dy, const float *filter, int add, dwconv_shape s)
{
    EACH(at, s.n * s.h * s.w * s.c)
    {
        int64_t c = at % s.c, r = at / s.c, n = r / (s.h * s.w);
        int64_t h = r / s.w % s.h + s.top, w = r % s.w + s.left;
        int64_t p0  = h < s.kh ? 0 : (h - s.kh) / s.stride + 1;
        int64_t q0  = w < s.kw ? 0 : (w - s.kw) / s.stride + 1;
        float   sum = 0;

        for (int64_t p = p0; p < s.p && p * s.stride <= h; p++)
            for (int64_t q = q0; q < s.q && q * s.stride <= w; q++)
                sum += num(dy[((n * s.p + p) * s.q + q) * s.c + c]) *
                       filter[((h - p * s.stride) * s.kw + w - q * s.stride) * s.c + c];
        accumulate(&dx[at], sum, add);
    }
}

/* parts[p][k][c], k = taps: of the bias. A block has 32 channels, one part of the outputs, and one k. */
KERNEL(dwconv2d_parts)
(const elem *x, const elem *dy, float *parts, int64_t part_rows, dwconv_shape s)
{
    __shared__ float all[DW_ROWS][32];
    int64_t          c = (int64_t)blockIdx.x * 32 + threadIdx.x % 32, taps = s.kh * s.kw;
    int64_t          k = blockIdx.z, rows = s.n * s.p * s.q, first = blockIdx.y * part_rows;
    int64_t          end = first + part_rows < rows ? first + part_rows : rows;
    float            sum = 0;

    for (int64_t r = first + threadIdx.x / 32; c < s.c && r < end; r += DW_ROWS) {
        int64_t h = r / s.q % s.p * s.stride - s.top + k / s.kw;
        int64_t w = r % s.q * s.stride - s.left + k % s.kw, n = r / (s.p * s.q);
        float   g = num(dy[r * s.c + c]);

        if (k == taps)
            sum += g;
        else if (h >= 0 && h < s.h && w >= 0 && w < s.w)
            sum += g * num(x[((n * s.h + h) * s.w + w) * s.c + c]);
    }
    all[threadIdx.x / 32][threadIdx.x % 32] = sum;
    __syncthreads();
    if (threadIdx.x >= 32 || c >= s.c) return;
    for (int i = 1; i < DW_ROWS; i++)
        sum += all[i][threadIdx.x];
    parts[(blockIdx.y * (taps + 1) + k) * s.c + c] = sum;
}

/* ---- parameters ---- */

/* dw[c][k] += the sum of parts[p][k][c] over p; db[c], of k = taps. A block has 32 channels of
 * one k. */
KERNEL(dwconv2d_add)
(float *dw, float *db, const float *parts, int64_t count, int64_t taps, int64_t channels)
{
    __shared__ float all[DW_ROWS][32];
    int64_t          c = (int64_t)blockIdx.x * 32 + threadIdx.x % 32, k = blockIdx.y;
    float            sum = 0, *to = k < taps ? dw : db;

    for (int64_t p = threadIdx.x / 32; to && c < channels && p < count; p += DW_ROWS)
        sum += parts[(p * (taps + 1) + k) * channels + c];
    all[threadIdx.x / 32][threadIdx.x % 32] = sum;
    __syncthreads();
    if (threadIdx.x >= 32 || c >= channels || !to) return;
    for (int i = 1; i < DW_ROWS; i++)
        sum += all[i][threadIdx.x];
    to[k < taps ? c * taps + k : c] += sum;
}

KERNEL(dwconv2d_pack)(float *packed, const float *w, int64_t taps, int64_t channels)
{
    EACH(i, taps * channels) packed[i] = w[i % channels * taps + i / channels];
}

#ifdef KD_HOST

/* The number of parts and the rows of a part (3x3: rows of the map; else single outputs), for the sums of parameters: enough
 * blocks to fill a card together with those along the channels. */
static int64_t parts_of(const dwconv_shape *s, int64_t *part_rows)
{
    int64_t rows   = dwconv_is_same(s) ? s->n * s->h : s->n * s->p * s->q;
    int64_t groups = KD_CEIL(s->c, dwconv_is_same(s) && s->c % 4 == 0 ? 128 : 32);
    int64_t parts  = KD_MAX(KD_MIN(1024 / groups, KD_CEIL(rows, DW_ROWS)), (int64_t)1);

    *part_rows = KD_CEIL(rows, parts);
    return KD_CEIL(rows, *part_rows);
}

size_t KD_TYPED(kd_cuda_dwconv_parts_bytes)(const dwconv_shape *s)
{
    int64_t part_rows;

    return (size_t)(parts_of(s, &part_rows) * (s->kh * s->kw + 1) * s->c) * sizeof(float);
}

kdas_status KD_TYPED(kd_cuda_dwconv_pack)(kdas_device *device, float *packed, const float *w,
                                          int64_t taps, int64_t channels)
{
    return LAUNCH_EACH(device, dwconv2d_pack, taps * channels, packed, w, taps, channels);
}

kdas_status KD_TYPED(kd_cuda_dwconv_same)(kdas_device *device, const dwconv_job *job)
{
    return LAUNCH(device, dwconv2d_same, dwconv_blocks(job), KD_BLOCK, *job);
}

kdas_status KD_TYPED(kd_cuda_dwconv_parameters)(kdas_device *device, const dwconv_shape *s,
                                                const elem *x, const elem *dy, float *dw, float *db,
                                                float *parts)
{
    int64_t part_rows, count = parts_of(s, &part_rows), taps = s->kh * s->kw;

    if (dwconv_is_same(s)) {
        dwconv_job j = dwconv_job_of(device, s);

        j.x = x;
        KD_RETURN(LAUNCH(device, dwconv2d_same_parts,
                         dim3((unsigned)KD_CEIL(j.c, 32 * j.width), (unsigned)count), KD_BLOCK, j,
                         dy, parts, part_rows));
    } else
        KD_RETURN(LAUNCH(device, dwconv2d_parts,
                         dim3((unsigned)KD_CEIL(s->c, 32), (unsigned)count, (unsigned)(taps + 1)),
                         KD_BLOCK, x, dy, parts, part_rows, *s));
    return LAUNCH(device, dwconv2d_add, dim3((unsigned)KD_CEIL(s->c, 32), (unsigned)(taps + 1)),
                  KD_BLOCK, dw, db, parts, count, taps, s->c);
}

/* ---- the op ---- */

static dwconv_shape shape_of(const kdas_node_desc *node)
{
    const kdas_conv_attr *attr = (const kdas_conv_attr *)node->attr;
    const kdas_desc      *w    = &node->in[1];

    return dwconv_shape_of(node->in[0].dim, node->out.dim, w->dim[2], w->dim[3], attr->stride,
                           attr->pad[0], attr->pad[1]);
}

static kdas_status dwconv2d_prepare(kdas_device *device, const kdas_node_desc *node,
                                    kdas_plan *plan)
{
    dwconv_shape s = shape_of(node);

    if (s.kh * s.kw > 65534)
        return device->host.fail(KDAS_EUNSUPPORTED,
                                 "cuda:%d: dwconv2d: a filter of %lld x %lld is too large",
                                 device->index, (long long)s.kh, (long long)s.kw);
    plan->packed   = (size_t)(s.kh * s.kw * s.c) * sizeof(float);
    plan->pack_key = 1;
    if (node->wants & 6) plan->work_backward = KD_TYPED(kd_cuda_dwconv_parts_bytes)(&s);
    return KDAS_OK;
}

static kdas_status dwconv2d_pack(kdas_device *device, const kdas_call *call)
{
    dwconv_shape s = shape_of(call->node);

    return KD_TYPED(kd_cuda_dwconv_pack)(device, (float *)call->packed, (const float *)call->in[1],
                                         s.kh * s.kw, s.c);
}

static kdas_status dwconv2d_forward(kdas_device *device, const kdas_call *call)
{
    dwconv_shape s      = shape_of(call->node);
    const elem  *x      = (const elem *)call->in[0];
    const float *filter = (const float *)call->packed, *bias = (const float *)call->in[2];
    elem        *y = (elem *)call->out;
    dwconv_job   j;

    if (!dwconv_is_same(&s))
        return LAUNCH_EACH(device, dwconv2d_forward, elements(&call->node->out), y, x, filter, bias,
                           s);
    j        = dwconv_job_of(device, &s);
    j.x      = x;
    j.y      = y;
    j.filter = filter;
    j.bias   = bias;
    return KD_TYPED(kd_cuda_dwconv_same)(device, &j);
}

static kdas_status give_x(kdas_device *device, const kdas_call *call, const dwconv_shape *s)
{
    const elem  *dy     = (const elem *)call->dout;
    const float *filter = (const float *)call->packed;
    elem        *dx     = (elem *)call->din[0];
    dwconv_job   j;

    if (!dwconv_is_same(s))
        return LAUNCH_EACH(device, dwconv2d_backward, elements(&call->node->in[0]), dx, dy, filter,
                           adds(call, 0), *s);
    j         = dwconv_job_of(device, s);
    j.x       = dy;
    j.y       = dx;
    j.filter  = filter;
    j.rotated = 1;
    j.add     = adds(call, 0);
    return KD_TYPED(kd_cuda_dwconv_same)(device, &j);
}

static kdas_status dwconv2d_backward(kdas_device *device, const kdas_call *call)
{
    dwconv_shape s = shape_of(call->node);

    if (call->din[0]) KD_RETURN(give_x(device, call, &s));
    if (!call->din[1] && !call->din[2]) return KDAS_OK;
    return KD_TYPED(kd_cuda_dwconv_parameters)(device, &s, (const elem *)call->in[0],
                                               (const elem *)call->dout, (float *)call->din[1],
                                               (float *)call->din[2], (float *)call->work);
}

KD_OP(dwconv2d, dwconv2d_prepare, NULL, dwconv2d_pack, dwconv2d_forward, dwconv2d_backward)

#endif
