/* int8_winograd.c - CONV2D of integers whose filters are 3x3, with stride 1, by Winograd's F(4x4, 3x3) in exact integers:
 * x (N,H,W,C) in numbers, w (O,C,3,3), [b (O)]. For copies that multiply words. int8_conv2d.c chooses the nodes.
 *
 * The points are 0, 1, -1, 2, -2 and infinity. Inputs at the points are whole numbers of at most 20400, and the filters there,
 * each multiplied by the denominator of its point, of at most 6223: both fit words. Results are 576 = 9 * 64 times the sums. All
 * is computed modulo 2^32, where a multiplication by the inverse of 9 divides exactly; a shift divides by 64. This has the bits
 * of the plain sum as long as 64 times that fits 32 bits: of at most GROUP channels. More are computed in groups, whose sums are
 * added.
 *
 * A block of tiles of 4x4 outputs is computed in three steps, as in conv2d.c: inputs to points, (TAPS,tiles,C); a product with
 * the filters at each point, (TAPS,tiles,O); points to sums.
 * packed: of each group, TAPS times panels (channels,O) | what requantises (int8_layer.h, without weights) | the tail. */
#include "backend/cpu/simd/int8_layer.h"
#include "backend/cpu/simd/int8_winograd.h"

enum { SIDE = 4, WINDOW = SIDE + 2, TAPS = WINDOW * WINDOW, FILTER = 3, PIXELS = SIDE * SIDE };
enum { MOST_TILES = 48, GROUP = 112, WORDS = 16 };

typedef int16_t  words __attribute__((vector_size(WORDS * sizeof(int16_t)), aligned(2), may_alias));
typedef uint32_t sums __attribute__((vector_size(LANES * sizeof(uint32_t)), aligned(4), may_alias));

typedef struct shape {
    int64_t N, H, W, C, Ho, Wo, O, pad_y, pad_x;
    int64_t down, across, tiles; /* tiles of an image; of all */
    int64_t block;               /* tiles of a block          */
    int64_t group, groups;       /* channels of a group       */
} shape;

static shape shape_of(const kdas_node_desc *node, int parts)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *x = node->in[0].dim, *y = node->out.dim;
    shape                 s = { .N     = x[0],
                                .H     = x[1],
                                .W     = x[2],
                                .C     = x[3],
                                .Ho    = y[1],
                                .Wo    = y[2],
                                .O     = y[3],
                                .pad_y = a->pad[0],
                                .pad_x = a->pad[1] };

    s.down   = ceil_div(s.Ho, SIDE);
    s.across = ceil_div(s.Wo, SIDE);
    s.tiles  = s.N * s.down * s.across;
    s.block  = ceil_div(s.tiles, parts);
    s.block  = ceil_div(s.block, ceil_div(s.block, MOST_TILES));
    s.groups = ceil_div(s.C, GROUP);
    s.group  = round_up(ceil_div(s.C, s.groups), WORDS);
    s.groups = ceil_div(s.C, s.group);
    return s;
}

bool KD_SIMD(int8_winograd_applies)(const kdas_node_desc *node)
{
    const int64_t         fewest = 16, enough = 32, few = 80 * 80, small = 1 << 18;
    const int64_t        *w = node->in[1].dim;
    const kdas_conv_attr *a = node->attr;
    shape                 s;

    if (node->op != KDAS_OP_CONV2D || w[2] != FILTER || w[3] != FILTER || a->stride != 1 ||
        a->dilation != 1 || a->groups != 1)
        return false;
    s = shape_of(node, 1);
    return s.C >= fewest && s.O >= fewest && (s.tiles >= enough || s.C * s.O <= few) &&
           TAPS * s.C * s.O <= KD_MAX(s.N * (s.H * s.W * s.C + s.Ho * s.Wo * s.O), small);
}

/* ---- memory ---- */

/* Elements from one point's values to the next point's, which are not to compete for the same sets of a cache. */
INLINE int64_t spaced(int64_t n) { return round_up(n, 32) + 32; }

INLINE int64_t columns_of(const shape *s) { return round_up(s->O, LANES); }
INLINE int64_t inputs_point(const shape *s) { return spaced(s->block * s->group); }
INLINE int64_t products_point(const shape *s) { return spaced(s->block * columns_of(s)); }
/* Units of the filters at a point. */
INLINE int64_t filters_point(const shape *s) { return spaced(packed_numel(s->group, s->O)); }

typedef struct packed {
    unit      *w; /* (groups, TAPS) panels */
    int8_layer layer;
    tail      *tail;
} packed;

static size_t packed_layout(packed *p, const shape *s, void *memory)
{
    void *at = memory;

    p->w     = bump_alloc(&at, float_bytes(s->groups * TAPS * filters_point(s)));
    p->layer = int8_layer_at(&at, 0, s->O);
    p->tail  = bump_alloc(&at, float_bytes(sizeof(tail) / 4 + 1));
    return (size_t)((char *)at - (char *)memory);
}

/* Scratch of a part. */
typedef struct scratch {
    uint8_t  *none;     /* a group's channels of a pixel in the padding */
    int16_t  *inputs;   /* (TAPS, block, group)   */
    uint32_t *products; /* (TAPS, block, columns) */
    uint32_t *sums;     /* (block, PIXELS, columns); of a single group one tile at a time */
} scratch;

static size_t scratch_layout(scratch *t, const shape *s, void *memory)
{
    void   *at   = memory;
    int64_t kept = s->groups > 1 ? s->block : 1;

    t->none     = bump_alloc(&at, float_bytes(s->group / 4));
    t->inputs   = bump_alloc(&at, float_bytes(TAPS * inputs_point(s) / 2));
    t->products = bump_alloc(&at, float_bytes(TAPS * products_point(s)));
    t->sums     = bump_alloc(&at, float_bytes(kept * PIXELS * columns_of(s)));
    return (size_t)((char *)at - (char *)memory);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape   s = shape_of(node, device->threads);
    packed  p;
    scratch t;
    size_t  row = (size_t)(s.C * FILTER * FILTER);

    plan->packed       = packed_layout(&p, &s, NULL);
    plan->pack_key     = 2;
    plan->work_forward = scratch_layout(&t, &s, NULL) * (size_t)device->threads;
    if (plan->work_forward < row) plan->work_forward = row; /* pack() has a row there */
    return KDAS_OK;
}

/* ---- the filters ---- */

/* G g, times the denominators: 6 from 3, `step` apart. */
INLINE void filter_to_points(int *out, const int *g, const int step)
{
    int even = g[0] + g[2 * step], odd = g[step], far = g[0] + 4 * g[2 * step], twice = 2 * odd;
    int first = g[0], last = g[2 * step];

    out[0]        = first;
    out[step]     = even + odd;
    out[2 * step] = even - odd;
    out[3 * step] = far + twice;
    out[4 * step] = far - twice;
    out[5 * step] = last;
}

/* The filter q (3,3) from channel c to channel o. */
static void put_filter(const packed *p, const shape *s, int64_t c, int64_t o, const int8_t *q)
{
    int64_t panel = o / PANEL * PANEL, k = c % s->group;
    int64_t place =
        panel * units_of(s->group) + k / UNIT_DEPTH * width_at(panel, s->O) + (o - panel);
    unit *at = p->w + c / s->group * TAPS * filters_point(s) + place;
    int   square[TAPS];

    for (int i = 0; i < FILTER; i++)
        for (int j = 0; j < FILTER; j++)
            square[i * WINDOW + j] = q[i * FILTER + j];
    for (int j = 0; j < FILTER; j++)
        filter_to_points(square + j, square + j, WINDOW);
    for (int i = 0; i < WINDOW; i++)
        filter_to_points(square + i * WINDOW, square + i * WINDOW, 1);
    for (int t = 0; t < TAPS; t++)
        ((b_weight *)(at + t * filters_point(s)))[k % UNIT_DEPTH] = (b_weight)square[t];
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    shape                 s    = shape_of(node, device->threads);
    const float          *w = call->in[1], *b = call->in[2];
    int64_t               count = s.C * FILTER * FILTER;
    int8_t               *q     = call->work;
    bool                  u8    = node->out.dtype == KDAS_U8;
    kd_grid               out   = { 0 };
    packed                p;

    packed_layout(&p, &s, call->packed);
    KD_RETURN(find_grids(p.tail, &out, device, call, "conv2d"));
    memset(p.w, 0, float_bytes(s.groups * TAPS * filters_point(&s)));
    int8_layer_clear(&p.layer);
    for (int64_t o = 0; o < s.O; o++) {
        int8_layer_channel(&p.layer, o, q, w + o * count, b ? b[o] : 0, count, &p.tail->x,
                           u8 ? &out : NULL);
        for (int64_t c = 0; c < s.C; c++)
            put_filter(&p, &s, c, o, q + c * FILTER * FILTER);
    }
    return KDAS_OK;
}

/* ---- a tile ---- */

/* B' d: 6 from 6. */
INLINE void to_points(words *out, const words *d, const int step)
{
    words even = d[4 * step] - 4 * d[2 * step], odd = d[3 * step] - 4 * d[step];
    words far = d[4 * step] - d[2 * step], twice = 2 * (d[3 * step] - d[step]);
    words first = 4 * d[0] - 5 * d[2 * step] + d[4 * step];
    words last  = 4 * d[step] - 5 * d[3 * step] + d[5 * step];

    out[0]        = first;
    out[step]     = even + odd;
    out[2 * step] = even - odd;
    out[3 * step] = far + twice;
    out[4 * step] = far - twice;
    out[5 * step] = last;
}

/* A' m, with each point divided by its denominator, times 24: 4 from 6. */
INLINE void from_points(sums *out, const sums *m, const int step)
{
    sums near = 4 * (m[step] + m[2 * step]), far = m[3 * step] + m[4 * step];
    sums less = 4 * (m[step] - m[2 * step]), less_far = 2 * (m[3 * step] - m[4 * step]);

    out[0]        = 6 * m[0] - near + far;
    out[step]     = less_far - less;
    out[2 * step] = 4 * far - near;
    out[3 * step] = 4 * less_far - less + 24 * m[5 * step];
}

/* A tile's place: image, first row and column of the outputs. */
typedef struct place {
    int64_t image, y, x;
} place;

INLINE place place_of(const shape *s, int64_t tile)
{
    int64_t row = tile / s->across;

    return (place){ row / s->down, row % s->down * SIDE, tile % s->across * SIDE };
}

/* WORDS numbers, or the first n. */
INLINE words load_numbers(const uint8_t *p, bool whole, int64_t n)
{
    uint8_t part[WORDS] = { 0 };

    if (!whole) p = memcpy(part, p, (size_t)n);
    return (words)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i_u *)p));
}

/* `count` channels from c0 on of a tile's inputs, to the points. `none`: such a pixel in the padding. */
static void inputs_to_points(const shape *s, const uint8_t *x, const uint8_t *none, place p,
                             int64_t c0, int64_t count, int16_t *to, int64_t point)
{
    const uint8_t *at[TAPS], *image = x + p.image * s->H * s->W * s->C + c0;

    for (int i = 0; i < WINDOW; i++)
        for (int j = 0; j < WINDOW; j++) {
            int64_t row = p.y - s->pad_y + i, col = p.x - s->pad_x + j;
            bool    inside = row >= 0 && row < s->H && col >= 0 && col < s->W;

            at[i * WINDOW + j] = inside ? image + (row * s->W + col) * s->C : none;
        }
    for (int64_t c = 0; c < count; c += WORDS) {
        bool  whole = c + WORDS <= count;
        words square[TAPS];

#pragma GCC unroll 36
        for (int t = 0; t < TAPS; t++)
            square[t] = load_numbers(at[t] + c, whole, count - c);
#pragma GCC unroll 6
        for (int j = 0; j < WINDOW; j++)
            to_points(square + j, square + j, WINDOW);
#pragma GCC unroll 6
        for (int i = 0; i < WINDOW; i++)
            to_points(square + i * WINDOW, square + i * WINDOW, 1);
#pragma GCC unroll 36
        for (int t = 0; t < TAPS; t++)
            *(words *)(to + t * point + c) = square[t];
    }
}

/* The sums of a tile's outputs, (PIXELS, columns), from its products; added to what is there, or to the start sums if
 * `first`. */
static void points_to_sums(const uint32_t *products, int64_t point, int64_t columns,
                           const int32_t *start, bool first, uint32_t *to)
{
    const uint32_t ninth = 0x38e38e39u;

    for (int64_t o = 0; o < columns; o += LANES) {
        const sums begin = *(const sums *)(start + o);
        sums       square[TAPS];

#pragma GCC unroll 36
        for (int t = 0; t < TAPS; t++)
            square[t] = *(const sums *)(products + t * point + o);
#pragma GCC unroll 6
        for (int j = 0; j < WINDOW; j++)
            from_points(square + j, square + j, WINDOW);
#pragma GCC unroll 4
        for (int i = 0; i < SIDE; i++)
            from_points(square + i * WINDOW, square + i * WINDOW, 1);
#pragma GCC unroll 16
        for (int t = 0; t < PIXELS; t++) {
            sums   *at    = (sums *)(to + t * columns + o);
            __m256i times = (__m256i)(square[t / SIDE * WINDOW + t % SIDE] * ninth);

            *at = (first ? begin : *at) + (sums)_mm256_srai_epi32(times, 6);
        }
    }
}

/* `count` pixels of a row of a tile, from their sums to C. */
static void store_row(const c_operand *c, const uint32_t *from, int64_t columns, int64_t O,
                      int64_t count)
{
    for (int64_t o = 0; o < O; o += PANEL) {
        c_operand to = from_column(c, o);
        float     tile[SIDE * PANEL];

        if (count == SIDE && O - o >= PANEL) {
            vec acc[SIDE][2];

#pragma GCC unroll 4
            for (int i = 0; i < SIDE; i++)
#pragma GCC unroll 2
                for (int j = 0; j < 2; j++)
                    acc[i][j] = load_f((const float *)(from + i * columns + o + j * LANES));
            store_tiles(&to, SIDE, 2, acc);
            continue;
        }
        for (int64_t i = 0; i < count; i++)
            memcpy(tile + i * PANEL, from + i * columns + o,
                   (size_t)KD_MIN(columns - o, PANEL) * sizeof(float));
        store_columns(&to, tile, count, KD_MIN(O - o, PANEL));
    }
}

static void store_tile_of_sums(const shape *s, const packed *p, const uint32_t *from, place at,
                               char *y, c_type type)
{
    int64_t size = c_size_of(type), columns = columns_of(s);
    int64_t rows = KD_MIN(s->Ho - at.y, SIDE), count = KD_MIN(s->Wo - at.x, SIDE);

    for (int64_t i = 0; i < rows; i++) {
        int64_t   pixel = (at.image * s->Ho + at.y + i) * s->Wo + at.x;
        c_operand c     = { y + pixel * s->O * size, s->O * size,     type,
                            p->layer.factor,         p->layer.offset, p->tail->r };

        store_row(&c, from + i * SIDE * columns, columns, s->O, count);
    }
}

/* ---- a block ---- */

/* Tiles b .. b+n-1. */
static void run_block(const kdas_call *call, const shape *s, const packed *p, const scratch *t,
                      int64_t b, int64_t n)
{
    int64_t in = inputs_point(s), out = products_point(s), columns = columns_of(s);

    for (int64_t g = 0; g < s->groups; g++) {
        int64_t     c0 = g * s->group, count = KD_MIN(s->C - c0, s->group);
        const unit *w = p->w + g * TAPS * filters_point(s);

        for (int64_t i = 0; i < n; i++)
            inputs_to_points(s, call->in[0], t->none, place_of(s, b + i), c0, count,
                             t->inputs + i * s->group, in);
        for (int k = 0; k < TAPS; k++)
            gemm_of_operands(
                n, columns, s->group,
                (a_operand){ (const char *)(t->inputs + k * in),
                             s->group * (int64_t)sizeof(a_number), sizeof(unit), true },
                w + k * filters_point(s), NULL,
                (c_operand){ (char *)(t->products + k * out), columns * (int64_t)sizeof(float),
                             C_SUMS, p->layer.factor, p->layer.offset, p->tail->r });
        for (int64_t i = 0; i < n; i++) {
            uint32_t *of = t->sums + (s->groups > 1 ? i * PIXELS * columns : 0);

            points_to_sums(t->products + i * columns, out, columns, p->layer.start, g == 0, of);
            if (g == s->groups - 1)
                store_tile_of_sums(s, p, of, place_of(s, b + i), call->out,
                                   c_type_of(&call->node->out));
        }
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    int   parts = device->threads;
    shape s     = shape_of(call->node, parts);

#pragma omp parallel for schedule(static)
    for (int i = 0; i < parts; i++) {
        packed  p;
        scratch t;
        size_t  each = scratch_layout(&t, &s, NULL);
        int64_t end  = part_begin(s.tiles, i + 1, parts);

        packed_layout(&p, &s, call->packed);
        scratch_layout(&t, &s, (char *)call->work + each * (size_t)i);
        memset(t.none, p.tail->x.zero, (size_t)s.group);
        for (int64_t b = part_begin(s.tiles, i, parts); b < end; b += s.block)
            run_block(call, &s, &p, &t, b, KD_MIN(end - b, s.block));
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(int8_winograd) = { .prepare = prepare,
                                               .pack    = pack,
                                               .forward = forward };
