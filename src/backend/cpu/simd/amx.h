/* amx.h - the instructions of AMX tiles, and an emulation in C for tests on CPUs without them.
 *
 * A thread has eight tile registers, 0 to 7. tile_config() gives each a shape, up to 16 rows of 64 bytes, and zeroes all of
 * them. tile_release() gives them up; the function that configured them calls it before it returns, because oneDNN uses
 * tiles, too. In between:
 *   tile_zero(t)                  t = 0
 *   tile_load(t, from, stride)    t = its rows, `stride` bytes apart
 *   tile_store(t, to, stride)     the reverse
 *   tile_dot_bf16(c, a, b)        c (M,N) f32 += a (M,K) b (K,N), units of two bf16 along K
 *   tile_dot_int8(c, a, b)        c (M,N) int32 += a (M,K) b (K,N), units of four uint8 of a, int8 of b
 * Tiles are named by literal numbers, because they are part of the instruction.
 *
 * They are assembly because the intrinsics of compilers do not declare that memory is read: a store before a load could be
 * moved behind it, or dropped. */
#ifndef KD_AMX_H
#define KD_AMX_H
#include <stdint.h>

enum { TILES = 8, TILE_MAX_ROWS = 16 /* rows */, TILE_ROW_BYTES = 64 /* bytes */ };

/* The operand of ldtilecfg, 64 bytes. */
typedef struct tile_shapes {
    uint8_t  palette, start_row, reserved[14]; /* 1, 0, 0                    */
    uint16_t bytes[16];                        /* of a row; the last 8 are 0 */
    uint8_t  rows[16];                         /* of a tile; the last 8 are 0 */
} tile_shapes;

#ifndef KD_AMX_EMULATED
#define tile_config(shapes) __asm__ volatile("ldtilecfg %0" ::"m"(*(shapes)) : "memory")
#define tile_release()      __asm__ volatile("tilerelease" ::: "memory")
#define tile_zero(t)        __asm__ volatile("tilezero %%tmm" #t ::: "memory")
#define tile_load(t, from, stride)                                                       \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((int64_t)(stride)) \
                     : "memor"                                                           \
                       "y")
#define tile_store(t, to, stride)                                                          \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((int64_t)(stride)) \
                     : "memory")
#define tile_dot_bf16(c, a, b) \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::: "memory")
#define tile_dot_int8(c, a, b) \
    __asm__ volatile("tdpbusd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::: "memory")
#else
/* The emulation, as Intel's manual defines the instructions. What would be #UD or #GP is an assertion. The details are
 * kept: sums over even elements and over odd ones are separate until the end; denormal inputs and results are zeros. It
 * also asserts that tiles are configured only after they were released. */
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* The emulation is optimised. The kernels of an emulated copy are not: their unrolled loops would take minutes to compile. */
#pragma GCC push_options
#pragma GCC optimize("O2")

typedef struct tile_state {
    bool        configured;
    tile_shapes shapes;
    uint8_t     row[TILES][TILE_MAX_ROWS][TILE_ROW_BYTES];
} tile_state;
static _Thread_local tile_state tile_unit;
extern atomic_long kd_tile_products; /* defined by the test: products so far, in all threads */

static inline void tile_config(const tile_shapes *s)
{
    assert(!tile_unit.configured);
    assert(s->palette == 1 && s->start_row == 0);
    for (int i = 0; i < 14; i++)
        assert(s->reserved[i] == 0);
    for (int t = 0; t < 16; t++) {
        assert(s->rows[t] <= (t < TILES ? TILE_MAX_ROWS : 0));
        assert(s->bytes[t] <= (t < TILES ? TILE_ROW_BYTES : 0));
        assert(!s->rows[t] == !s->bytes[t]);
    }
    memset(&tile_unit, 0, sizeof tile_unit);
    tile_unit.shapes     = *s;
    tile_unit.configured = true;
}

static inline void tile_release(void) { memset(&tile_unit, 0, sizeof tile_unit); }

static inline void tile_checked(int t)
{
    assert(tile_unit.configured && t >= 0 && t < TILES && tile_unit.shapes.rows[t] > 0);
}

static inline void tile_zero(int t)
{
    tile_checked(t);
    memset(tile_unit.row[t], 0, sizeof tile_unit.row[t]);
}

static inline void tile_load(int t, const void *from, int64_t stride)
{
    tile_zero(t);
    for (int i = 0; i < tile_unit.shapes.rows[t]; i++)
        memcpy(tile_unit.row[t][i], (const char *)from + i * stride, tile_unit.shapes.bytes[t]);
}

static inline void tile_store(int t, void *to, int64_t stride)
{
    tile_checked(t);
    for (int i = 0; i < tile_unit.shapes.rows[t]; i++)
        memcpy((char *)to + i * stride, tile_unit.row[t][i], tile_unit.shapes.bytes[t]);
}

/* A denormal becomes the zero of its sign. */
static inline float tile_flushed(uint32_t bits)
{
    float f;

    if (!(bits & 0x7f800000u)) bits &= 0x80000000u;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float tile_sum(float a, float b)
{
    float    sum = a + b;
    uint32_t bits;

    memcpy(&bits, &sum, sizeof bits);
    return tile_flushed(bits);
}

/* Element i of a row of bf16. */
static inline float tile_half(const uint8_t *row, int i)
{
    uint16_t bits;

    memcpy(&bits, row + 2 * i, sizeof bits);
    return tile_flushed((uint32_t)bits << 16);
}

/* The operands of a product. */
static inline void tile_dot_checked(int c, int a, int b)
{
    const tile_shapes *s = &tile_unit.shapes;

    kd_tile_products++;
    tile_checked(a), tile_checked(b), tile_checked(c);
    assert(a != b && b != c && a != c);
    assert(s->bytes[a] % 4 == 0 && s->bytes[b] % 4 == 0 && s->bytes[c] % 4 == 0);
    assert(s->rows[c] == s->rows[a] && s->bytes[c] == s->bytes[b] && s->rows[b] == s->bytes[a] / 4);
}

static inline void tile_dot_bf16(int c, int a, int b)
{
    const tile_shapes *s    = &tile_unit.shapes;
    int                cols = s->bytes[c] / 4, depth = s->bytes[a] / 4;

    tile_dot_checked(c, a, b);
    for (int m = 0; m < s->rows[c]; m++)
        for (int n = 0; n < cols; n++) {
            uint8_t *to      = tile_unit.row[c][m] + 4 * n;
            float    part[2] = { 0, 0 };
            uint32_t old;
            float    sum;

            for (int k = 0; k < depth; k++)
                for (int i = 0; i < 2; i++)
                    part[i] = tile_sum(part[i], tile_half(tile_unit.row[a][m], 2 * k + i) *
                                                    tile_half(tile_unit.row[b][k], 2 * n + i));
            memcpy(&old, to, sizeof old);
            sum = tile_sum(tile_flushed(old), tile_sum(part[0], part[1]));
            memcpy(to, &sum, sizeof sum);
        }
}

/* The sums wrap; no product is saturated. */
static inline void tile_dot_int8(int c, int a, int b)
{
    const tile_shapes *s    = &tile_unit.shapes;
    int                cols = s->bytes[c] / 4, depth = s->bytes[a] / 4;

    tile_dot_checked(c, a, b);
    for (int m = 0; m < s->rows[c]; m++)
        for (int n = 0; n < cols; n++) {
            uint8_t *to = tile_unit.row[c][m] + 4 * n;
            uint32_t sum;

            memcpy(&sum, to, sizeof sum);
            for (int k = 0; k < depth; k++)
                for (int i = 0; i < 4; i++)
                    sum += (uint32_t)(tile_unit.row[a][m][4 * k + i] *
                                      (int8_t)tile_unit.row[b][k][4 * n + i]);
            memcpy(to, &sum, sizeof sum);
        }
}
#pragma GCC pop_options
#endif
#endif
