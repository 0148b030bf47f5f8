/* grid.h - 8-bit grids: the arithmetic that integer nodes share, to the bit. docs/int8.md has the
 * definitions.
 *
 * An activation's grid has 256 values, (n - zero) scale for n = 0..255, and holds 0. A weight's has
 * 255, q scale for q = -127..127, one grid for each output channel. Compiled without fast-math, so
 * that every backend has the same numbers. */
#ifndef KD_GRID_H
#define KD_GRID_H
#include <stdbool.h>
#include <stdint.h>

typedef struct kd_grid {
    float   scale;   /* 0: the range is empty, so that there is no grid */
    float   inverse; /* 255 / (high - low): numbers for one unit        */
    int32_t zero;    /* the number of the value 0 */
} kd_grid;

/* The grid of a range (low, high). */
kd_grid kd_grid_of(const float *range);
/* Whether it has none: (0, 0), which was never set; ends the wrong way round; ends so far apart or so near,
 * once 0 is among them, that a float cannot divide them. For integers, simulation and training alike. */
bool kd_range_is_empty(const float *range);
/* The number of a value: the nearest, ties to even. NaN gives 0. */
uint8_t kd_grid_number(const kd_grid *grid, float value);
/* The value nearest to `value`; where the range is empty, `value` itself. NaN stays NaN. */
float kd_grid_round(const kd_grid *grid, float value);

/* What a training batch whose values lie from low to high makes of a range: (1 - momentum) of it and
 * momentum of that; of an empty one, that. Ends that are not finite change nothing. */
void kd_range_follow(float *range, float low, float high, float momentum);
/* The same of a range that other values have moved before: it is widened to hold low and high. */
void kd_range_join(float *range, float low, float high);
/* Whether rounding moves the value by half a step at most: there gradients pass. Everything, where the
 * range is empty. */
bool kd_grid_holds(const kd_grid *grid, float value);

/* The weights of one output channel, `count` of them, `step` apart, as q[i] scale. Returns the scale, max |w| / 127; 0 where
 * all are 0. `sum` receives the sum of q and may be NULL. */
float kd_weights_to_grid(int8_t *q, const float *w, int64_t count, int64_t step, int32_t *sum);
/* The same in place, as floats. NaN stays NaN. */
void kd_weights_round(float *w, int64_t count);

/* An accumulator of products, less the part of x's zero, as a result:
 * min(max(fma(sum, factor, offset), low), high). For a result in U8 that is a number, and is then
 * rounded; the offset includes zero. */
typedef struct kd_requantise {
    float low, high;
} kd_requantise;

/* `out` NULL: the result is a value. `post`: a kdas_post. */
kd_requantise kd_requantise_of(const kd_grid *out, int32_t post);
/* One channel's factor and offset: of the grid of x, the weights' scale, the bias, and `out` (NULL:
 * a value). */
void    kd_requantise_channel(float *factor, float *offset, const kd_grid *x, float weight_scale,
                              float bias, const kd_grid *out);
float   kd_requantise_value(const kd_requantise *r, int32_t sum, float factor, float offset);
uint8_t kd_requantise_number(const kd_requantise *r, int32_t sum, float factor, float offset);

/* table[n] = the number on `out` of gelu(value of n on `x`). */
void kd_gelu_table(uint8_t table[256], const kd_grid *x, const kd_grid *out);

#endif
