/* int8_mix_ffn.c - MIX_FFN of integers: out = fc2(gelu(dwconv3x3(fc1(x)))) + residual. x, the residual and out are f32 or
 * bf16; what is between are numbers on four grids. GELU is a table of 256 numbers.
 *
 * The rows (n,y) are divided over the threads. A thread goes row by row: x in numbers; fc1 of the row below, into a
 * ring of three padded rows; the filter and the table. The product with W2 is that of a band of rows.
 * packed: fc1 | filter | fc2 | the grids | what requantises | the table. */
#include "backend/cpu/simd/int8_filter.h"
#include "backend/cpu/simd/int8_layer.h"

enum { X, W1, B1, WD, BD, W2, B2, RESIDUAL, RANGES };
enum { ON_X, ON_FC1, ON_FILTER, ON_GELU, GRIDS };
enum { RING = 3, BAND_BYTES = 131072, ELEMENT = sizeof(a_number) };

typedef struct shape {
    int64_t N, H, W, C, F, O;
    int64_t band; /* rows */
} shape;

static shape shape_of(const kdas_node_desc *node)
{
    const int64_t *x = node->in[X].dim;
    shape          s = {
                 .N = x[0], .H = x[1], .W = x[2], .C = x[3], .F = node->in[W1].dim[0], .O = node->out.dim[3]
    };

    s.band = BAND_BYTES / ELEMENT / (s.W * s.F);
    s.band = s.band < 1 ? 1 : s.band > s.H ? s.H : s.band;
    return s;
}

typedef struct packed {
    int8_layer     fc1, fc2;
    int8_filter    filter;
    kd_grid       *grid; /* GRIDS of them */
    kd_requantise *to_numbers, *to_values;
    uint8_t       *table;
} packed;

static size_t packed_layout(packed *p, const shape *s, void *memory)
{
    void *at = memory;

    p->fc1        = int8_layer_at(&at, s->C, s->F);
    p->filter     = int8_filter_at(&at, s->F, 3, 3, 1);
    p->fc2        = int8_layer_at(&at, s->F, s->O);
    p->grid       = bump_alloc(&at, float_bytes(GRIDS * sizeof(kd_grid) / 4));
    p->to_numbers = bump_alloc(&at, float_bytes(4));
    p->to_values  = bump_alloc(&at, float_bytes(4));
    p->table      = bump_alloc(&at, 256);
    return (size_t)((char *)at - (char *)memory);
}

/* Scratch of a thread. */
typedef struct scratch {
    a_number *x;         /* a row in numbers, C rounded up to units   */
    uint8_t  *ring;      /* fc1: row y, with a pixel of padding before, is at (y mod RING) rows */
    uint8_t  *filtered;  /* (W, F): a row before GELU                 */
    a_number *activated; /* (band, W, F)                              */
    float    *sums;      /* fc2: (PIXELS, O) values                   */
    int64_t   row_bytes;
} scratch;

enum { PIXELS = 4 * GEMM_ROWS }; /* of a product with W2 whose values are added to the residual */

INLINE int64_t row_stride(int64_t channels) { return round_up(channels, UNIT_DEPTH); }

static size_t scratch_layout(scratch *t, const shape *s, const int8_filter *f, void *memory)
{
    void *at = memory;

    t->row_bytes = filter_row_bytes(f, s->W);
    t->x         = bump_alloc(&at, float_bytes(s->W * row_stride(s->C) * ELEMENT / 4 + 16));
    t->ring      = bump_alloc(&at, (size_t)(RING * t->row_bytes));
    t->filtered  = bump_alloc(&at, float_bytes(s->W * s->F / 4 + 16));
    t->activated = bump_alloc(&at, float_bytes(s->band * s->W * s->F * ELEMENT / 4 + 16));
    t->sums      = bump_alloc(&at, float_bytes(PIXELS * s->O));
    return (size_t)((char *)at - (char *)memory);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape   s = shape_of(node);
    packed  p;
    scratch t;

    plan->packed       = packed_layout(&p, &s, NULL);
    plan->pack_key     = 1;
    plan->work_forward = scratch_layout(&t, &s, &p.filter, NULL) * (size_t)device->threads;
    return KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape          s = shape_of(call->node);
    packed         p;
    const kd_grid *g;

    packed_layout(&p, &s, call->packed);
    for (int i = 0; i < GRIDS; i++)
        KD_RETURN(grid_of_input(&p.grid[i], device, call, RANGES + i, "mix_ffn"));
    g             = p.grid;
    *p.to_numbers = kd_requantise_of(&g[ON_FC1], KDAS_POST_NONE);
    *p.to_values  = kd_requantise_of(NULL, KDAS_POST_NONE);
    int8_layer_fill(&p.fc1, call->in[W1], call->in[B1], s.C, 1, &g[ON_X], &g[ON_FC1], call->work);
    int8_filter_fill(&p.filter, call->in[WD], call->in[BD], &g[ON_FC1], &g[ON_FILTER], call->work);
    int8_layer_fill(&p.fc2, call->in[W2], call->in[B2], s.F, 1, &g[ON_GELU], NULL, call->work);
    kd_gelu_table(p.table, &g[ON_FILTER], &g[ON_GELU]);
    return KDAS_OK;
}

/* ---- values and numbers ---- */

INLINE float value_at(const void *x, int64_t i, bool half)
{
    return half ? from_bf16(((const bf16 *)x)[i]) : ((const float *)x)[i];
}

/* `rows` rows of C values, to numbers in rows of `ld` bytes. */
static void to_numbers(a_number *to, const void *x, int64_t at, int64_t rows, int64_t C, int64_t ld,
                       const kd_grid *g, bool half)
{
    float low = (float)-g->zero, high = (float)(255 - g->zero), inverse = g->inverse;
    int   zero = g->zero;

    for (int64_t r = 0; r < rows; r++, at += C, to += ld)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            float v = value_at(x, at + c, half) * inverse;

            v     = v > low ? v < high ? v : high : low;
            to[c] = (a_number)((int32_t)rintf(v) + zero);
        }
}

#if defined(KD_AVX512)
/* What is compiled for a CPU that also has VBMI, and whether it is one. */
#ifdef KD_AVX512_EMULATED
#define VBMI
static bool has_vbmi(void) { return true; }
#else
#define VBMI __attribute__((target("avx512vbmi")))
static bool has_vbmi(void) { return __builtin_cpu_supports("avx512vbmi"); }
#endif

/* 64 numbers by a table of 256. */
VBMI static inline __m512i look_up_64(__m512i n, const __m512i t[4])
{
    __m512i low  = _mm512_permutex2var_epi8(t[0], n, t[1]);
    __m512i high = _mm512_permutex2var_epi8(t[2], n, t[3]);

    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(n), low, high);
}
VBMI static void look_up_vectors(uint8_t *to, const uint8_t *x, int64_t n, const uint8_t *table)
{
    __m512i t[4];

    for (int i = 0; i < 4; i++)
        t[i] = _mm512_loadu_si512(table + 64 * i);
    for (int64_t i = 0; i < n; i += 64)
        _mm512_storeu_si512(to + i, look_up_64(_mm512_loadu_si512(x + i), t));
}
#else
/* 32 numbers by 16 tables of 16, one of which has the number; a shuffle gives 0 for the others. */
INLINE __m256i look_up_32(__m256i n, const uint8_t *table)
{
    const __m256i beyond = _mm256_set1_epi8(0x70), next = _mm256_set1_epi8(16);
    __m256i       y = _mm256_setzero_si256();

#pragma GCC unroll 16
    for (int i = 0; i < 256; i += 16) {
        __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i_u *)(table + i)));

        y = _mm256_or_si256(y, _mm256_shuffle_epi8(t, _mm256_adds_epu8(n, beyond)));
        n = _mm256_sub_epi8(n, next);
    }
    return y;
}
/* As elements of A. */
INLINE void store_32(a_number *to, __m256i n)
{
#ifdef KD_WORDS
    _mm256_storeu_si256((__m256i_u *)to, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(n)));
    _mm256_storeu_si256((__m256i_u *)(to + 16),
                        _mm256_cvtepu8_epi16(_mm256_extracti128_si256(n, 1)));
#else
    _mm256_storeu_si256((__m256i_u *)to, n);
#endif
}
#endif

/* to (n) = table[x]; n is rounded up to 64, or 32 with AVX2, and both have room for it. */
static void look_up(a_number *to, const uint8_t *x, int64_t n, const uint8_t *table)
{
#if defined(KD_AVX512)
    if (has_vbmi()) {
        look_up_vectors(to, x, n, table);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        to[i] = table[x[i]];
#else
    for (int64_t i = 0; i < n; i += 32)
        store_32(to + i, look_up_32(_mm256_loadu_si256((const __m256i_u *)(x + i)), table));
#endif
}

/* ---- a band ---- */

typedef struct band {
    int64_t n, y0, y1;  /* image; the thread's rows of it */
    int64_t begin, end; /* of the band                    */
    int64_t next;       /* the first row that is not in the ring yet */
} band;

static uint8_t *ring_at(const scratch *t, int64_t y)
{
    return t->ring + (y + RING) % RING * t->row_bytes;
}

/* fc1 of row y, into the ring. Outside of the image it is fc1's zero. */
static void run_fc1(const kdas_call *call, const shape *s, const packed *p, const scratch *t,
                    const band *b, int64_t y)
{
    int64_t  at = (b->n * s->H + y) * s->W * s->C;
    uint8_t *to = ring_at(t, y);

    if (y < 0 || y >= s->H) {
        memset(to, p->grid[ON_FC1].zero, (size_t)t->row_bytes);
        return;
    }
    to_numbers(t->x, call->in[X], at, s->W, s->C, row_stride(s->C), &p->grid[ON_X],
               call->node->in[X].dtype == KDAS_BF16);
    int8_product(&p->fc1, s->W, t->x, row_stride(s->C), to + s->F, s->F, C_NUMBERS, *p->to_numbers,
                 true);
}

/* The filter and GELU of row y. */
static void run_filter(const shape *s, const packed *p, const scratch *t, const band *b, int64_t y)
{
    const uint8_t *row[3] = { ring_at(t, y - 1), ring_at(t, y), ring_at(t, y + 1) };

    filter_row((char *)t->filtered, &p->filter, row, s->W, C_NUMBERS, *p->to_numbers);
    look_up(t->activated + (y - b->begin) * s->W * s->F, t->filtered, s->W * s->F, p->table);
}

/* fc2 of the band, plus the residual. */
static void run_fc2(const kdas_call *call, const shape *s, const packed *p, const scratch *t,
                    const band *b)
{
    int64_t     pixels = (b->end - b->begin) * s->W, at = (b->n * s->H + b->begin) * s->W * s->O;
    bool        half     = call->node->out.dtype == KDAS_BF16;
    const void *residual = call->in[RESIDUAL];

    for (int64_t i = 0; i < pixels; i += PIXELS) {
        int64_t n = pixels - i < PIXELS ? pixels - i : PIXELS, from = at + i * s->O;

        int8_product(&p->fc2, n, t->activated + i * s->F, s->F, t->sums,
                     s->O * (int64_t)sizeof(float), C_FLOATS, *p->to_values, true);
        for (int64_t k = 0; residual && k < n * s->O; k++)
            t->sums[k] += value_at(residual, from + k, half);
        if (!half)
            memcpy((float *)call->out + from, t->sums, (size_t)(n * s->O) * sizeof(float));
        else
#pragma omp simd
            for (int64_t k = 0; k < n * s->O; k++)
                ((bf16 *)call->out)[from + k] = to_bf16(t->sums[k]);
    }
}

/* The thread's rows y0 .. y1-1 of one image. */
static void run_rows(const kdas_call *call, const shape *s, const packed *p, const scratch *t,
                     band *b)
{
    b->next = b->y0 - 1;
    for (b->begin = b->y0; b->begin < b->y1; b->begin = b->end) {
        b->end = b->y1 - b->begin < s->band ? b->y1 : b->begin + s->band;
        for (int64_t y = b->begin; y < b->end; y++) {
            for (; b->next <= y + 1; b->next++)
                run_fc1(call, s, p, t, b, b->next);
            run_filter(s, p, t, b, y);
        }
        run_fc2(call, s, p, t, b);
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape s     = shape_of(call->node);
    int   parts = device->threads;

#pragma omp parallel for schedule(static)
    for (int i = 0; i < parts; i++) {
        packed  p;
        scratch t;
        size_t  each;
        int64_t r = part_begin(s.N * s.H, i, parts), end = part_begin(s.N * s.H, i + 1, parts);

        packed_layout(&p, &s, call->packed);
        each = scratch_layout(&t, &s, &p.filter, NULL);
        scratch_layout(&t, &s, &p.filter, (char *)call->work + each * (size_t)i);
        memset(t.ring, p.grid[ON_FC1].zero, (size_t)(RING * t.row_bytes)); /* for the padding */
        while (r < end) {
            band    b    = { .n = r / s.H, .y0 = r % s.H };
            int64_t rows = s.H - b.y0 < end - r ? s.H - b.y0 : end - r;

            b.y1 = b.y0 + rows;
            run_rows(call, &s, &p, &t, &b);
            r += rows;
        }
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(mix_ffn) = { .prepare = prepare, .pack = pack, .forward = forward };
