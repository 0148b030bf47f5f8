/* sizes.h - products of sizes that a caller or a file has given, before memory is taken for them. */
#ifndef KD_SIZES_H
#define KD_SIZES_H
#include "base/base.h"

/* The product of `count` factors, from the first on. False, and *out is unchanged: a factor is below
 * 0, or the product leaves int64_t, which is also what one block of memory can have in bytes. */
static inline bool kd_product_of(int64_t *out, int count, const int64_t *factors)
{
    int64_t product = 1;

    for (int i = 0; i < count; i++)
        if (factors[i] < 0 || __builtin_mul_overflow(product, factors[i], &product)) return false;
    *out = product;
    return true;
}

/* The same for a list of numbers: kd_product(&bytes, count, height, width, sizeof(float)). */
#define kd_product(out, ...)                                                              \
    kd_product_of(out, (int)(sizeof((const int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), \
                  (const int64_t[]){ __VA_ARGS__ })

#endif
