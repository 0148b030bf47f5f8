/* int8_conv2d.c - CONV2D and LINEAR of integers: x (N,H,W,C) in numbers, w (O,C,kh,kw), [b (O)].
 *
 * A convolution is a product of rows of taps: those of a block of output pixels are copied side by side, (pixels, kh kw C),
 * with x's zero in the padding. A linear layer's rows are there already, unless C is no multiple of UNIT_DEPTH or the products
 * are of words.
 * packed: the layer (int8_layer.h) | the grid of x | what requantises. */
#include "backend/cpu/simd/int8_layer.h"
#include "backend/cpu/simd/int8_winograd.h"

typedef struct shape {
    int64_t H, W, C, O, Ho, Wo, kh, kw, stride, dilation, top, left;
    bool    rows;      /* each row of taps is a pixel of x */
    int64_t pixels;    /* N Ho Wo */
    int64_t block, ld; /* of copied rows: pixels, and elements of a row; ld 0: nothing is copied */
} shape;

enum { BLOCK_BYTES = 98304, PAGE_BYTES = 4096, ELEMENT = sizeof(a_number) };

static shape shape_of(const kdas_node_desc *node)
{
    const kdas_conv_attr *a = node->op == KDAS_OP_CONV2D ? node->attr : NULL;
    const int64_t        *x = node->in[0].dim, *w = node->in[1].dim, *y = node->out.dim;
    shape                 s = { .H        = x[1],
                                .W        = x[2],
                                .C        = x[3],
                                .O        = y[3],
                                .Ho       = y[1],
                                .Wo       = y[2],
                                .kh       = a ? w[2] : 1,
                                .kw       = a ? w[3] : 1,
                                .stride   = a ? a->stride : 1,
                                .dilation = a ? a->dilation : 1,
                                .top      = a ? a->pad[0] : 0,
                                .left     = a ? a->pad[1] : 0,
                                .pixels   = row_count(&node->out) };
    int64_t               K = s.kh * s.kw * s.C;

    s.rows = K == s.C && s.stride == 1 && !s.top && !s.left && s.Ho == s.H && s.Wo == s.W;
    if (s.rows && K % UNIT_DEPTH == 0 && ELEMENT == 1) return s;
    s.ld = round_up(K, 16);
    if (s.ld * ELEMENT % PAGE_BYTES == 0) /* else all rows compete for the same sets of a cache */
        s.ld += 64 / ELEMENT;
    s.block = BLOCK_BYTES / ELEMENT / s.ld / GEMM_ROWS * GEMM_ROWS;
    s.block = s.block < GEMM_ROWS ? GEMM_ROWS : s.block > 8 * GEMM_ROWS ? 8 * GEMM_ROWS : s.block;
    return s;
}

/* Another kernel, where that is faster, or NULL. */
static const kd_cpu_kernel *other(const kdas_node_desc *node)
{
#ifdef KD_WORDS
    if (KD_SIMD(int8_winograd_applies)(node)) return &KD_SIMD(int8_winograd);
#endif
    (void)node;
    return NULL;
}

static size_t rows_bytes(const shape *s)
{
    return float_bytes(s->block * s->ld * ELEMENT / 4 + 16);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape   s  = shape_of(node);
    int64_t K  = s.kh * s.kw * s.C;
    void   *at = NULL;

    if (other(node)) return other(node)->prepare(device, node, plan);
    int8_layer_at(&at, K, s.O);
    plan->packed       = (size_t)((char *)at - (char *)NULL) + float_bytes(sizeof(tail) / 4 + 1);
    plan->pack_key     = 1;
    plan->work_forward = rows_bytes(&s) * (size_t)device->threads;
    if (plan->work_forward < (size_t)K) plan->work_forward = (size_t)K; /* pack() has a row there */
    return KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape       s   = shape_of(call->node);
    void       *at  = call->packed;
    int8_layer  l   = int8_layer_at(&at, s.kh * s.kw * s.C, s.O);
    tail       *t   = at;
    bool        u8  = call->node->out.dtype == KDAS_U8;
    const char *op  = call->node->op == KDAS_OP_CONV2D ? "conv2d" : "linear";
    kd_grid     out = { 0 };

    if (other(call->node)) return other(call->node)->pack(device, call);
    KD_RETURN(find_grids(t, &out, device, call, op));
    int8_layer_fill(&l, call->in[1], call->in[2], s.C, s.kh * s.kw, &t->x, u8 ? &out : NULL,
                    call->work);
    return KDAS_OK;
}

/* The taps of row `y` of the image for an output that begins at column x0. */
INLINE void copy_taps(a_number *to, const uint8_t *image, const shape *s, int64_t y, int64_t x0,
                      uint8_t zero)
{
    const uint8_t *row  = image + y * s->W * s->C;
    int64_t        last = x0 + (s->kw - 1) * s->dilation;

    if (y < 0 || y >= s->H) {
        fill_numbers(to, zero, s->kw * s->C);
    } else if (s->dilation == 1 && x0 >= 0 && last < s->W) {
        copy_numbers(to, row + x0 * s->C, s->kw * s->C);
    } else {
        for (int64_t j = 0; j < s->kw; j++, to += s->C) {
            int64_t x = x0 + j * s->dilation;

            if (x < 0 || x >= s->W)
                fill_numbers(to, zero, s->C);
            else
                copy_numbers(to, row + x * s->C, s->C);
        }
    }
}

/* The rows of pixels p .. p + count - 1, which are those of x. */
static void copy_pixels(a_number *to, const uint8_t *x, const shape *s, int64_t p, int64_t count)
{
    if (s->C == s->ld) {
        copy_numbers(to, x + p * s->C, count * s->C);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        copy_numbers(to + i * s->ld, x + (p + i) * s->C, s->C);
}

/* The rows of output pixels p .. p + count - 1. */
static void copy_rows_of_taps(a_number *to, const uint8_t *x, const shape *s, int64_t p,
                              int64_t count, uint8_t zero)
{
    for (int64_t i = 0; i < count; i++, to += s->ld) {
        int64_t        q = (p + i) % s->Wo, row = (p + i) / s->Wo % s->Ho;
        const uint8_t *image = x + (p + i) / s->Wo / s->Ho * s->H * s->W * s->C;

        for (int64_t k = 0; k < s->kh; k++)
            copy_taps(to + k * s->kw * s->C, image, s, row * s->stride - s->top + k * s->dilation,
                      q * s->stride - s->left, zero);
    }
}

static void forward_part(const kdas_call *call, const shape *s, int64_t p0, int64_t p1,
                         a_number *rows)
{
    void          *at   = call->packed;
    int8_layer     l    = int8_layer_at(&at, s->kh * s->kw * s->C, s->O);
    const tail    *t    = at;
    c_type         type = c_type_of(&call->node->out);
    int64_t        ld   = s->O * c_size_of(type);
    const uint8_t *x    = call->in[0];
    char          *y    = call->out;

    if (!s->ld) {
        int8_product(&l, p1 - p0, (const a_number *)(x + p0 * s->C), s->C, y + p0 * ld, ld, type,
                     t->r, false);
        return;
    }
    for (int64_t p = p0; p < p1; p += s->block) {
        int64_t n = p1 - p < s->block ? p1 - p : s->block;

        if (s->rows)
            copy_pixels(rows, x, s, p, n);
        else
            copy_rows_of_taps(rows, x, s, p, n, (uint8_t)t->x.zero);
        int8_product(&l, n, rows, s->ld, y + p * ld, ld, type, t->r, true);
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape s     = shape_of(call->node);
    int   parts = device->threads;

    if (other(call->node)) return other(call->node)->forward(device, call);
#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++)
        forward_part(call, &s, part_begin(s.pixels, t, parts), part_begin(s.pixels, t + 1, parts),
                     (a_number *)((char *)call->work + rows_bytes(&s) * (size_t)t));
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(conv2d) = { .prepare = prepare, .pack = pack, .forward = forward };
const kd_cpu_kernel KD_SIMD(linear) = { .prepare = prepare, .pack = pack, .forward = forward };
