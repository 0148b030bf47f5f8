/* disc.h - the mask that tests of masks draw: a disc in two halves; and how they read it. */
#ifndef KD_TEST_DISC_H
#define KD_TEST_DISC_H
#include <check.h>
#include <kdas/data.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

enum { W = 64, H = 48 };

/* 0 outside of the disc, 1 in its left half, 2 in its right half */
static inline int part(int i)
{
    double x = i % W - 30.5, y = i / W - 22.5;

    return x * x + y * y >= 14 * 14 ? 0 : x < 0 ? 1 : 2;
}

static inline uint8_t *pixels_of(const char *name, kdas_mask_rule rule)
{
    static uint8_t copy[W * H];
    kdas_image    *mask;

    kd_assert_ok(kdas_mask_load(&mask, kd_data_ctx, kd_test_path(name), rule));
    memcpy(copy, kdas_image_pixels(mask), sizeof copy);
    kdas_image_destroy(mask);
    return copy;
}

#endif
