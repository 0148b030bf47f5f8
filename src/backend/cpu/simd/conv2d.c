/* conv2d.c - CONV2D whose filters are 3x3, with stride 1, by Winograd's transform (winograd.h): x (N,H,W,C), w (O,C,3,3), [b (O)] ->
 * (N,H',W',O). Products are a quarter of those of the plain sum. cpu/conv.c chooses the nodes; oneDNN has the others.
 *
 * The output is cut into tiles of 4x4 pixels, whose inputs are 6x6. A block of tiles is computed in three steps, each from cache:
 * inputs to points, (TAPS,tiles,C); a product with the filters at each point, (TAPS,tiles,O); points to outputs. The gradient of x is
 * the same of dy, with the filters turned around. That of w multiplies the inputs at the points with dy at the points.
 *
 * packed: bias, padded | w at the points, TAPS times panels (C,O) for y | the same as panels (O,C) for dx, if that is wanted. Where these
 * would need more memory than the maps, only the bias is packed: each call brings w to the points in rounds, which are some
 * channels of what it computes. Large sums of dw are taken in rounds, too.
 *
 * An input that is not finite reaches all outputs of the tiles that read it, as NaN.
 *
 * Blocks are divided among pixel_parts parts. Where there are few, each is also divided along the outputs' channels, into
 * wide_parts; for dw, along C. A result does not depend on the division, except dw: it is summed up part by part, in order. */
#include "backend/cpu/simd/gemm.h"
#include "backend/cpu/simd/winograd.h"

enum { MOST_TILES = 48 }; /* of a block */
enum { ROUND = 4 << 20 }; /* floats of a round: of filters at the points, or of sums of dw */

/* ---- what is convolved ---- */

typedef struct shape {
    int64_t N, H, W, C, Ho, Wo, O; /* read: (N,H,W,C); computed: (N,Ho,Wo,O) */
    int64_t pad_y, pad_x;          /* before the first row and column of what is read */
    int64_t down, across, tiles;   /* tiles of an image; of all */
    int     pixel_parts, wide_parts;
    int64_t block; /* tiles of a block */
    int64_t round; /* channels of a round: of what is computed; for dw, of what is read */
} shape;

/* The filters at the points need no more memory than the maps, or 1 MiB. */
static bool are_packed(const shape *s)
{
    const int64_t maps = s->N * (s->H * s->W * s->C + s->Ho * s->Wo * s->O);

    return TAPS * s->C * s->O <= KD_MAX(maps, 1 << 18);
}

static void divide_tiles(shape *s, int threads)
{
    s->pixel_parts = threads / s->wide_parts;
    s->block       = ceil_div(s->tiles, s->pixel_parts);
    s->block       = ceil_div(s->block, ceil_div(s->block, MOST_TILES));
}

static void divide(shape *s, int threads)
{
    const int64_t most = ROUND / (TAPS * s->C) / PANEL * PANEL;

    s->down       = ceil_div(s->Ho, SIDE);
    s->across     = ceil_div(s->Wo, SIDE);
    s->tiles      = s->N * s->down * s->across;
    s->round      = are_packed(s) ? s->O : KD_MIN(KD_MAX(most, PANEL), s->O);
    s->wide_parts = 1;
    while (s->wide_parts * 2 <= threads && threads % (s->wide_parts * 2) == 0 &&
           s->tiles * s->wide_parts < 2 * TILE_ROWS * threads &&
           s->round >= 2 * PANEL * s->wide_parts)
        s->wide_parts *= 2;
    divide_tiles(s, threads);
}

static shape shape_of(const kdas_node_desc *node, int threads)
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

    divide(&s, threads);
    return s;
}

/* The convolution that makes dx of dy. */
static shape data_shape(const kdas_node_desc *node, int threads)
{
    shape f = shape_of(node, threads), s = f;

    s.H     = f.Ho;
    s.W     = f.Wo;
    s.C     = f.O;
    s.Ho    = f.H;
    s.Wo    = f.W;
    s.O     = f.C;
    s.pad_y = FILTER - 1 - f.pad_y;
    s.pad_x = FILTER - 1 - f.pad_x;
    divide(&s, threads);
    return s;
}

/* ---- memory ---- */

/* Floats from one point's values to the next point's: a cache line more than they need, so that the points do not compete for the
 * same sets of a cache. */
INLINE int64_t spaced(int64_t floats) { return round_up(floats, 16) + 16; }

/* The values of a block: n channels each. */
INLINE int64_t row_of(int64_t n) { return round_up(n, LANES); }
INLINE int64_t point_of(const shape *s, int64_t n) { return spaced(s->block * row_of(n)); }

/* Filters at all points. */
INLINE int64_t filter_floats(int64_t C, int64_t O) { return spaced(packed_numel(C, O)); }
static size_t  filters_bytes(int64_t C, int64_t O)
{
    return float_bytes(TAPS * filter_floats(C, O));
}
static size_t bias_bytes(const shape *s) { return float_bytes(round_up(s->O, LANES)); }

/* Scratch of one task: zeros, a block's inputs at the points, its outputs there. */
static size_t zeros_bytes(const shape *s) { return float_bytes(row_of(KD_MAX(s->C, s->O))); }
static size_t task_bytes(const shape *s)
{
    return zeros_bytes(s) + float_bytes(TAPS * point_of(s, s->C)) +
           float_bytes(TAPS * point_of(s, s->O));
}
static size_t tasks_bytes(const shape *s)
{
    return task_bytes(s) * (size_t)(s->pixel_parts * s->wide_parts);
}

/* Scratch of a convolution: a round's filters, if they are not packed, and its tasks. */
static size_t round_bytes(const shape *s)
{
    return are_packed(s) ? 0 : filters_bytes(s->C, s->round);
}
static size_t convolve_bytes(const shape *s) { return round_bytes(s) + tasks_bytes(s); }

/* ---- packing ---- */

/* w (O,C,3,3), for y; its turned transpose (C,O,3,3), for dx. */
typedef struct filters {
    const float *w;
    int64_t      C, O;       /* of what is read and computed */
    int64_t      to_c, to_o; /* floats between neighbours along C, and along O */
    bool         turned;
} filters;

static filters filters_of(const kdas_call *call, bool turned)
{
    const int64_t *dim = call->node->in[1].dim;
    const float   *w   = call->in[1];

    return turned ? (filters){ w, dim[0], dim[1], 9 * dim[1], 9, true }
                  : (filters){ w, dim[1], dim[0], 9, 9 * dim[1], false };
}

/* `cols` filters from channel c to channels o..; the others of the vector are zero. */
static void pack_vector(const filters *f, float *packed, int64_t c, int64_t o, int64_t cols)
{
    const int64_t n    = o / PANEL * PANEL;
    float        *to   = packed + n * f->C + c * width_at(n, f->O) + (o - n);
    const float  *from = f->w + c * f->to_c + o * f->to_o;
    vec           square[TAPS];

    for (int i = 0; i < FILTER; i++)
        for (int j = 0; j < FILTER; j++) {
            int   tap        = f->turned ? 8 - (i * FILTER + j) : i * FILTER + j;
            float row[LANES] = { 0 };

            for (int64_t k = 0; k < cols; k++)
                row[k] = from[k * f->to_o + tap];
            square[i * WINDOW + j] = load_f(row);
        }
    filter_square_to_points(square);
    for (int t = 0; t < TAPS; t++)
        store_f(to + t * filter_floats(f->C, f->O), square[t]);
}

/* Those of `count` channels of what is computed, from `first` on. */
static void pack_filters(filters f, int64_t first, int64_t count, float *packed)
{
    enum { BLOCK = 64 };

    f.w += first * f.to_o;
    f.O = count;
#pragma omp parallel for schedule(static) collapse(2)
    for (int64_t o = 0; o < row_of(f.O); o += LANES)
        for (int64_t block = 0; block < f.C; block += BLOCK)
            for (int64_t c = block; c < KD_MIN(block + BLOCK, f.C); c++)
                pack_vector(&f, packed, c, o, KD_MIN(f.O - o, LANES));
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape        s    = shape_of(call->node, device->threads);
    const float *b    = call->node->inputs > 2 ? call->in[2] : NULL;
    void        *at   = call->packed;
    float       *bias = bump_alloc(&at, bias_bytes(&s));

    memset(bias, 0, bias_bytes(&s));
    if (b) memcpy(bias, b, (size_t)s.O * sizeof(float));
    if (!are_packed(&s)) return KDAS_OK;
    pack_filters(filters_of(call, false), 0, s.O, bump_alloc(&at, filters_bytes(s.C, s.O)));
    if (call->node->wants & 1) pack_filters(filters_of(call, true), 0, s.C, at);
    return KDAS_OK;
}

/* ---- a tile ---- */

/* A tile's place: image, first row and column of the outputs. */
typedef struct place {
    int64_t image, y, x;
} place;

INLINE place place_of(const shape *s, int64_t tile)
{
    int64_t row = tile / s->across;

    return (place){ row / s->down, row % s->down * SIDE, tile % s->across * SIDE };
}

/* Where the `side` x `side` pixels from (y,x) on of a (H,W,C) image begin; `none`, where there are no such pixels. */
INLINE void find_pixels(const float *at[], const int side, const float *image, int64_t H, int64_t W,
                        int64_t C, int64_t y, int64_t x, const float *none)
{
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            bool inside = y + i >= 0 && y + i < H && x + j >= 0 && x + j < W;

            at[i * side + j] = inside ? image + ((y + i) * W + x + j) * C : none;
        }
}

/* Channels c0 .. c1-1 of a tile's inputs at the points: V, whose points are `point` floats apart. `none`: C zeros. */
static void inputs_to_points(const shape *s, const float *x, const float *none, place p, int64_t c0,
                             int64_t c1, float *V, int64_t point)
{
    const float *at[TAPS];

    find_pixels(at, WINDOW, x + p.image * s->H * s->W * s->C, s->H, s->W, s->C, p.y - s->pad_y,
                p.x - s->pad_x, none);
    EACH_VECTOR(c, left, whole, c1 - c0)
    {
        vec square[TAPS];

#pragma GCC unroll 36
        for (int t = 0; t < TAPS; t++)
            square[t] = load_some(at[t] + c0 + c, whole, left);
        square_to_points(square);
#pragma GCC unroll 36
        for (int t = 0; t < TAPS; t++)
            store_f(V + t * point + c, square[t]);
    }
}

/* How outputs are stored. */
typedef struct target {
    float       *y;
    const float *bias; /* or NULL */
    bool         add;
    int32_t      post;
} target;

/* A tile's outputs, channels o0 .. o1-1, from M. */
static void points_to_outputs(const shape *s, const float *M, int64_t point, place p, int64_t o0,
                              int64_t o1, const target *to)
{
    const limits  l    = limits_of(to->post);
    const int64_t rows = s->Ho - p.y < SIDE ? s->Ho - p.y : SIDE;
    const int64_t cols = s->Wo - p.x < SIDE ? s->Wo - p.x : SIDE;
    float        *y    = to->y + ((p.image * s->Ho + p.y) * s->Wo + p.x) * s->O + o0;

    EACH_VECTOR(o, left, whole, o1 - o0)
    {
        vec square[TAPS], bias = { 0 };

        if (to->bias) bias = load_f(to->bias + o0 + o);
#pragma GCC unroll 36
        for (int t = 0; t < TAPS; t++)
            square[t] = load_f(M + t * point + o);
        square_from_points(square);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++) {
                float *pixel = y + (i * s->Wo + j) * s->O + o;
                vec    v     = square[i * WINDOW + j] + bias;

                if (to->add) v += load_some(pixel, whole, left);
                store_some(pixel, clamp_v(v, l), whole, left);
            }
    }
}

/* ---- y, and dx ---- */

/* Filters at the points of `count` channels of what is computed, from `first` on. */
typedef struct columns {
    const float *packed;
    int64_t      first, count;
} columns;

/* Tiles p .. p+n-1, channels o0 .. o1-1; o0 is the first column of a panel. */
static void convolve_block(const shape *s, const float *x, const columns *w, const target *to,
                           void *scratch, int64_t p, int64_t n, int64_t o0, int64_t o1)
{
    const int64_t in = point_of(s, s->C), out = point_of(s, s->round);
    float        *none = bump_alloc(&scratch, zeros_bytes(s));
    float        *V = bump_alloc(&scratch, float_bytes(TAPS * in)), *M = scratch;

    for (int64_t i = 0; i < n; i++)
        inputs_to_points(s, x, none, place_of(s, p + i), 0, s->C, V + i * row_of(s->C), in);
    for (int t = 0; t < TAPS; t++)
        gemm_cached_a(n, o1 - o0, s->C, V + t * in, row_of(s->C), 1,
                      w->packed + t * filter_floats(s->C, w->count) + (o0 - w->first) * s->C, NULL,
                      M + t * out, row_of(s->round), SET);
    for (int64_t i = 0; i < n; i++)
        points_to_outputs(s, M + i * row_of(s->round), out, place_of(s, p + i), o0, o1, to);
}

static void convolve_task(const shape *s, const float *x, const columns *w, const target *to,
                          void *scratch, int number)
{
    int     pixel_part = number / s->wide_parts, wide_part = number % s->wide_parts;
    int64_t begin  = part_begin(s->tiles, pixel_part, s->pixel_parts),
            end    = part_begin(s->tiles, pixel_part + 1, s->pixel_parts);
    int64_t panels = ceil_div(w->count, PANEL), last = w->first + w->count;
    int64_t o0 = w->first + part_begin(panels, wide_part, s->wide_parts) * PANEL,
            o1 = w->first + part_begin(panels, wide_part + 1, s->wide_parts) * PANEL;

    memset(scratch, 0, zeros_bytes(s));
    if (o1 > last) o1 = last;
    for (int64_t p = begin; p < end && o0 < o1; p += s->block)
        convolve_block(s, x, w, to, scratch, p, KD_MIN(end - p, s->block), o0, o1);
}

/* `packed` is not read if filters are not packed; then `f` is. */
static void convolve(const shape *s, const float *x, const float *packed, const filters *f,
                     const target *to, void *work)
{
    float *at    = work;
    char  *tasks = (char *)work + round_bytes(s);

    for (int64_t o = 0; o < s->O; o += s->round) {
        columns w = { are_packed(s) ? packed : at, o, KD_MIN(s->O - o, s->round) };

        if (!are_packed(s)) pack_filters(*f, o, w.count, at);
#pragma omp parallel for schedule(static)
        for (int i = 0; i < s->pixel_parts * s->wide_parts; i++)
            convolve_task(s, x, &w, to, tasks + task_bytes(s) * (size_t)i, i);
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape        s      = shape_of(call->node, device->threads);
    filters      f      = filters_of(call, false);
    const float *bias   = call->packed;
    const char  *packed = (const char *)call->packed + bias_bytes(&s);
    target       to     = { call->out, bias, false, call->node->post };

    convolve(&s, call->in[0], (const float *)(const void *)packed, &f, &to, call->work);
    return KDAS_OK;
}

static void backward_data(kdas_device *device, const kdas_call *call)
{
    shape   f = shape_of(call->node, device->threads), s = data_shape(call->node, device->threads);
    filters turned     = filters_of(call, true);
    const char *packed = (const char *)call->packed + bias_bytes(&f) + filters_bytes(f.C, f.O);
    target      to     = { call->din[0], NULL, adds(call, 0), KDAS_POST_NONE };

    convolve(&s, call->dout, (const float *)(const void *)packed, &turned, &to, call->work);
}

/* ---- dw and db ---- */

/* Each pixel part has sums of dw at the points, (TAPS,round,O), and of db; large ones are divided along C. */
static shape weights_shape(const kdas_node_desc *node, int threads)
{
    const int64_t room = ROUND;
    shape         s    = shape_of(node, threads);

    s.wide_parts = 1;
    while (s.wide_parts * 2 <= threads && threads % (s.wide_parts * 2) == 0 &&
           TAPS * s.C * s.O * threads / s.wide_parts > room)
        s.wide_parts *= 2;
    divide_tiles(&s, threads);
    s.round = KD_MIN(s.C, KD_MAX(room / (TAPS * s.O * s.pixel_parts), LANES * s.wide_parts));
    return s;
}

INLINE int64_t sum_floats(const shape *s) { return spaced(s->round * s->O); }
static size_t  sums_bytes(const shape *s)
{
    return float_bytes(TAPS * sum_floats(s)) + float_bytes(row_of(s->O));
}

/* A task's scratch begins as that of convolve_task(); panels of dy are as large as M. */
static size_t weights_bytes(const shape *s)
{
    return sums_bytes(s) * (size_t)s->pixel_parts + tasks_bytes(s);
}

static float *sums_of(const shape *s, void *work, int pixel_part)
{
    return (float *)((char *)work + sums_bytes(s) * (size_t)pixel_part);
}
INLINE float *db_of(const shape *s, float *sums)
{
    return (float *)((char *)sums + float_bytes(TAPS * sum_floats(s)));
}

/* Gradients of a tile's outputs at the points, as row `k` of panels of `n` rows; their sums += db, if that is not NULL. */
static void gradients_to_points(const shape *s, const float *dy, const float *none, place p,
                                float *panels, int64_t point, int64_t k, int64_t n, float *db)
{
    const float *at[SIDE * SIDE];

    find_pixels(at, SIDE, dy + p.image * s->Ho * s->Wo * s->O, s->Ho, s->Wo, s->O, p.y, p.x, none);
    EACH_VECTOR(o, left, whole, s->O)
    {
        int64_t panel = o / PANEL * PANEL;
        float  *to    = panels + panel * n + k * width_at(panel, s->O) + (o - panel);
        vec     square[TAPS], sum = { 0 };

        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++) {
                vec v = load_some(at[i * SIDE + j] + o, whole, left);

                square[i * WINDOW + j] = v;
                sum += v;
            }
        if (db) store_f(db + o, load_f(db + o) + sum);
        gradient_square_to_points(square);
#pragma GCC unroll 36
        for (int t = 0; t < TAPS; t++)
            store_f(to + t * point, square[t]);
    }
}

/* A round: dw of `count` channels from `first` on. */
typedef struct rows {
    int64_t first, count;
} rows;

/* dw of channels c0 .. c1-1, at the points, += that of tiles p .. p+n-1; db, where c0 is 0. */
static void weights_block(const shape *s, const kdas_call *call, const rows *r, float *sums,
                          void *scratch, int64_t p, int64_t n, int64_t c0, int64_t c1,
                          store_mode mode)
{
    const int64_t in = point_of(s, s->C), out = point_of(s, s->O);
    float        *none = bump_alloc(&scratch, zeros_bytes(s));
    float        *V = bump_alloc(&scratch, float_bytes(TAPS * in)), *panels = scratch;

    for (int64_t i = 0; i < n; i++) {
        place where = place_of(s, p + i);

        if (call->din[1])
            inputs_to_points(s, call->in[0], none, where, c0, c1, V + i * row_of(s->C), in);
        gradients_to_points(s, call->dout, none, where, panels, out, i, n,
                            c0 == 0 ? db_of(s, sums) : NULL);
    }
    for (int t = 0; t < (call->din[1] ? TAPS : 0); t++)
        gemm_cached_a(c1 - c0, s->O, n, V + t * in, 1, row_of(s->C), panels + t * out, NULL,
                      sums + t * sum_floats(s) + (c0 - r->first) * s->O, s->O, mode);
}

static void weights_task(const shape *s, const kdas_call *call, const rows *r, int number)
{
    int    pixel_part = number / s->wide_parts, wide_part = number % s->wide_parts;
    float *sums = sums_of(s, call->work, pixel_part);
    char  *work = (char *)call->work + sums_bytes(s) * (size_t)s->pixel_parts +
                 task_bytes(s) * (size_t)number;
    int64_t begin = part_begin(s->tiles, pixel_part, s->pixel_parts),
            end   = part_begin(s->tiles, pixel_part + 1, s->pixel_parts);
    int64_t c0    = r->first + part_begin(r->count, wide_part, s->wide_parts),
            c1    = r->first + part_begin(r->count, wide_part + 1, s->wide_parts);

    memset(work, 0, zeros_bytes(s));
    if (c0 == 0) memset(db_of(s, sums), 0, (size_t)row_of(s->O) * sizeof(float));
    for (int t = 0; t < TAPS && begin == end; t++)
        memset(sums + t * sum_floats(s) + (c0 - r->first) * s->O, 0,
               (size_t)((c1 - c0) * s->O) * sizeof(float));
    for (int64_t p = begin; p < end && c0 < c1; p += s->block)
        weights_block(s, call, r, sums, work, p, KD_MIN(end - p, s->block), c0, c1,
                      store_mode_of(p > begin));
}

/* dw of channel c of a round, `cols` outputs from o on: the parts' sums in order, from the points. */
static void reduce_vector(const shape *s, const kdas_call *call, const rows *r, int64_t c,
                          int64_t o, bool whole, int64_t cols)
{
    float *dw = (float *)call->din[1] + (o * s->C + r->first + c) * 9;
    vec    square[TAPS];

    for (int t = 0; t < TAPS; t++) {
        square[t] = (vec){ 0 };
        for (int part = 0; part < s->pixel_parts; part++)
            square[t] += load_some(sums_of(s, call->work, part) + t * sum_floats(s) + c * s->O + o,
                                   whole, cols);
    }
    filter_square_from_points(square);
    for (int64_t k = 0; k < (whole ? LANES : cols); k++)
        for (int i = 0; i < 9; i++)
            dw[k * 9 * s->C + i] += square[i / FILTER * WINDOW + i % FILTER][k];
}

static void backward_weights(kdas_device *device, const kdas_call *call)
{
    shape  s  = weights_shape(call->node, device->threads);
    float *db = call->din[2];

    for (int64_t first = 0; first < (call->din[1] ? s.C : 1); first += s.round) {
        rows r = { first, KD_MIN(s.C - first, s.round) };

#pragma omp parallel for schedule(static)
        for (int i = 0; i < s.pixel_parts * s.wide_parts; i++)
            weights_task(&s, call, &r, i);
        for (int part = 0; db && first == 0 && part < s.pixel_parts; part++)
            for (int64_t o = 0; o < s.O; o++)
                db[o] += db_of(&s, sums_of(&s, call->work, part))[o];
#pragma omp parallel for schedule(static)
        for (int64_t c = 0; c < (call->din[1] ? r.count : 0); c++)
            EACH_VECTOR(o, left, whole, s.O) reduce_vector(&s, call, &r, c, o, whole, left);
    }
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    if (call->din[0]) backward_data(device, call);
    if (call->din[1] || call->din[2]) backward_weights(device, call);
    return KDAS_OK;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node, device->threads), data = data_shape(node, device->threads),
          w   = weights_shape(node, device->threads);
    bool to_x = node->wants & 1;

    plan->packed = bias_bytes(&s);
    if (are_packed(&s))
        plan->packed += filters_bytes(s.C, s.O) + (to_x ? filters_bytes(s.O, s.C) : 0);
    plan->pack_key     = are_packed(&s) ? 1 + to_x : 3;
    plan->work_forward = convolve_bytes(&s);
    plan->work_backward =
        KD_MAX(to_x ? convolve_bytes(&data) : 0, node->wants & 6 ? weights_bytes(&w) : 0);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(conv2d) = {
    .prepare  = prepare,
    .pack     = pack,
    .forward  = forward,
    .backward = backward,
};
