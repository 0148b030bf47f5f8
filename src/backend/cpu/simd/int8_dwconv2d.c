/* int8_dwconv2d.c - DWCONV2D of integers: x (N,H,W,C) in numbers, w (C,1,kh,kw), [b (C)]. int8_filter.h has the filter.
 *
 * Rows of x are copied into a ring of kh rows, with x's zero around them, so that the filter needs no borders.
 * packed: the filter | the grid of x | what requantises. */
#include "backend/cpu/simd/int8_filter.h"
#include "backend/cpu/simd/int8_layer.h"

static int8_filter filter_at(void **at, const kdas_node_desc *node)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *w = node->in[1].dim;

    return int8_filter_at(at, w[0], w[2], w[3], a->stride);
}

/* A thread's ring of rows: row y is at (y mod kh) rows. */
typedef struct ring {
    uint8_t *memory;
    int64_t  bytes; /* of a row: what is read for a row of outputs, and the whole row of x */
} ring;

static int64_t ring_row_bytes(const kdas_node_desc *node, const int8_filter *f)
{
    const kdas_conv_attr *a      = node->attr;
    int64_t               read   = filter_row_bytes(f, node->out.dim[2]);
    int64_t               copied = round_up((a->pad[1] + node->in[0].dim[2]) * f->C, 64);

    return read > copied ? read : copied;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    void       *at = NULL;
    int8_filter f  = filter_at(&at, node);

    bump_alloc(&at, float_bytes(sizeof(tail) / 4 + 1));
    plan->packed       = (size_t)((char *)at - (char *)NULL);
    plan->pack_key     = 1;
    plan->work_forward = (size_t)(ring_row_bytes(node, &f) * f.kh * device->threads);
    return KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    void       *at  = call->packed;
    int8_filter f   = filter_at(&at, call->node);
    tail       *t   = at;
    bool        u8  = call->node->out.dtype == KDAS_U8;
    kd_grid     out = { 0 };

    KD_RETURN(find_grids(t, &out, device, call, "dwconv2d"));
    int8_filter_fill(&f, call->in[1], call->in[2], &t->x, u8 ? &out : NULL, call->work);
    return KDAS_OK;
}

static uint8_t *ring_at(const ring *k, int64_t y, int64_t kh)
{
    return k->memory + (y % kh + kh) % kh * k->bytes;
}

/* Copy row y of the image into the ring; rows above and below it are x's zero. */
static void fetch_row(const ring *k, const kdas_node_desc *node, const uint8_t *image, int64_t y,
                      int zero)
{
    const kdas_conv_attr *a    = node->attr;
    const int64_t        *x    = node->in[0].dim;
    int64_t               left = a->pad[1] * x[3], width = x[2] * x[3];
    uint8_t              *to = ring_at(k, y, node->in[1].dim[2]);

    if (y < 0 || y >= x[1]) {
        memset(to, zero, (size_t)k->bytes);
        return;
    }
    memset(to, zero, (size_t)left);
    memcpy(to + left, image + y * width, (size_t)width);
    memset(to + left + width, zero, (size_t)(k->bytes - left - width));
}

/* Output rows r0 .. r1-1, over the images. */
static void forward_part(const kdas_call *call, int64_t r0, int64_t r1, uint8_t *memory)
{
    const kdas_node_desc *node = call->node;
    const kdas_conv_attr *a    = node->attr;
    const int64_t        *x = node->in[0].dim, *y = node->out.dim;
    c_type                type = c_type_of(&node->out);
    void                 *at   = call->packed;
    int8_filter           f    = filter_at(&at, node);
    const tail           *l    = at;
    ring                  k    = { memory, ring_row_bytes(node, &f) };
    int64_t               next = 0; /* the first row that is not in the ring yet */
    const uint8_t        *row[MOST_FILTER_ROWS];

    for (int64_t r = r0; r < r1; r++) {
        int64_t        first = r % y[1] * a->stride - a->pad[0];
        const uint8_t *image = (const uint8_t *)call->in[0] + r / y[1] * x[1] * x[2] * x[3];

        if (r == r0 || r % y[1] == 0 || next < first) next = first;
        for (; next < first + f.kh; next++)
            fetch_row(&k, node, image, next, l->x.zero);
        for (int64_t i = 0; i < f.kh; i++)
            row[i] = ring_at(&k, first + i, f.kh);
        filter_row((char *)call->out + r * y[2] * y[3] * c_size_of(type), &f, row, y[2], type,
                   l->r);
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    int64_t     rows  = call->node->out.dim[0] * call->node->out.dim[1];
    int         parts = device->threads;
    void       *at    = NULL;
    int8_filter f     = filter_at(&at, call->node);
    int64_t     each  = ring_row_bytes(call->node, &f) * f.kh;

#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++)
        forward_part(call, part_begin(rows, t, parts), part_begin(rows, t + 1, parts),
                     (uint8_t *)call->work + each * t);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(dwconv2d) = { .prepare = prepare, .pack = pack, .forward = forward };
