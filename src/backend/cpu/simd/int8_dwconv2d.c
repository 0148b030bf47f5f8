/* int8_dwconv2d.c - DWCONV2D of integers: x (N,H,W,C) in numbers, w (C,1,kh,kw), [b (C)]. int8_filter.h has the filter.
 *
 * packed: the filter | the grid of x | what requantises | a pixel of the padding. */
#include "backend/cpu/simd/int8_filter.h"
#include "backend/cpu/simd/int8_layer.h"

typedef struct tail {
    kd_grid       x;
    kd_requantise r;
} tail;

static int64_t taps_of(const kdas_node_desc *node)
{
    return node->in[1].dim[2] * node->in[1].dim[3];
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    int64_t C  = node->in[0].dim[3];
    void   *at = NULL;

    (void)device;
    int8_filter_at(&at, C, taps_of(node));
    bump_alloc(&at, float_bytes(sizeof(tail) / 4 + 1));
    bump_alloc(&at, float_bytes(C / 4 + 1));
    plan->packed       = (size_t)((char *)at - (char *)NULL);
    plan->pack_key     = 1;
    plan->work_forward = (size_t)taps_of(node); /* pack() has a channel's taps there */
    return KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    int64_t     C   = call->node->in[0].dim[3];
    void       *at  = call->packed;
    int8_filter f   = int8_filter_at(&at, C, taps_of(call->node));
    tail       *t   = bump_alloc(&at, float_bytes(sizeof(tail) / 4 + 1));
    bool        u8  = call->node->out.dtype == KDAS_U8;
    kd_grid     out = { 0 };

    KD_RETURN(grid_of_input(&t->x, device, call, RANGE_X, "dwconv2d"));
    if (u8) KD_RETURN(grid_of_input(&out, device, call, RANGE_OUT, "dwconv2d"));
    t->r = kd_requantise_of(u8 ? &out : NULL, call->node->post);
    int8_filter_fill(&f, call->in[1], call->in[2], &t->x, u8 ? &out : NULL, call->work);
    memset(at, t->x.zero, (size_t)C);
    return KDAS_OK;
}

/* The addresses of an output pixel's taps; in the padding, and past the last tap, `outside`. */
INLINE void find_taps(const uint8_t **tap, const kdas_node_desc *node, const uint8_t *image,
                      int64_t row, int64_t col, const uint8_t *outside, int64_t groups)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *x = node->in[0].dim, *w = node->in[1].dim;
    int64_t               y0 = row * a->stride - a->pad[0], x0 = col * a->stride - a->pad[1], t = 0;

    for (int64_t i = y0; i < y0 + w[2]; i++)
        for (int64_t j = x0; j < x0 + w[3]; j++)
            tap[t++] =
                i < 0 || i >= x[1] || j < 0 || j >= x[2] ? outside : image + (i * x[2] + j) * x[3];
    while (t < 4 * groups)
        tap[t++] = outside;
}

/* A pixel's values, as they are stored in `type`. */
static void value_pixel(char *to, const int8_filter *f, const uint8_t *const *tap, kd_requantise r,
                        c_type type)
{
    for (int64_t c = 0; c < f->C; c += FILTER_BLOCK) {
        int64_t n = f->C - c < FILTER_BLOCK ? f->C - c : FILTER_BLOCK;
        vec     v[4];
        float   sorted[FILTER_BLOCK];
        char    stored[FILTER_BLOCK * sizeof(float)];

        filter_sums(v, f, tap, c, n, r, (int)f->groups);
        for (int64_t i = 0; i < FILTER_BLOCK; i++)
            sorted[i] = ((const float *)v)[filter_lane(i)];
        for (int64_t i = 0; i < FILTER_BLOCK; i += LANES)
            if (type == C_BF16)
                store_bf16((uint16_t *)stored + i, load_f(sorted + i));
            else
                store_f((float *)stored + i, load_f(sorted + i));
        memcpy(to + c * c_size_of(type), stored, (size_t)(n * c_size_of(type)));
    }
}

/* Output rows r0 .. r1-1, over the images. */
static void forward_part(const kdas_call *call, int64_t r0, int64_t r1)
{
    const kdas_node_desc *node = call->node;
    const int64_t        *x = node->in[0].dim, *y = node->out.dim;
    c_type                type = c_type_of(&node->out);
    int64_t               ld   = y[3] * c_size_of(type);
    void                 *at   = call->packed;
    int8_filter           f    = int8_filter_at(&at, x[3], taps_of(node));
    const tail           *t    = bump_alloc(&at, float_bytes(sizeof(tail) / 4 + 1));
    const uint8_t        *tap[4 * MOST_GROUPS];

    for (int64_t r = r0; r < r1; r++) {
        const uint8_t *image = (const uint8_t *)call->in[0] + r / y[1] * x[1] * x[2] * x[3];
        char          *to    = (char *)call->out + r * y[2] * ld;

        for (int64_t q = 0; q < y[2]; q++, to += ld) {
            find_taps(tap, node, image, r % y[1], q, at, f.groups);
            if (type != C_NUMBERS)
                value_pixel(to, &f, tap, t->r, type);
            else if (f.groups == 3)
                filter_pixel((uint8_t *)to, &f, tap, t->r, 3);
            else if (f.groups == 7)
                filter_pixel((uint8_t *)to, &f, tap, t->r, 7);
            else
                filter_pixel((uint8_t *)to, &f, tap, t->r, (int)f.groups);
        }
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    int64_t rows  = call->node->out.dim[0] * call->node->out.dim[1];
    int     parts = device->threads;

#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++)
        forward_part(call, part_begin(rows, t, parts), part_begin(rows, t + 1, parts));
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(dwconv2d) = { .prepare = prepare, .pack = pack, .forward = forward };
