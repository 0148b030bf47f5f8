/* sketch.h - what is kept of a frame for comparisons: a small map of its structure, and hashes of
 * it.
 *
 * Dark borders are cut off. The rest becomes 32 x 32 grey means, and each cell is normalised by the
 * mean and deviation of its surroundings (9 x 9 cells). So size, aspect ratio, compression,
 * brightness and borders matter little. A hash has the signs of 64 low frequencies of the map. */
#ifndef DOCTOR_SKETCH_H
#define DOCTOR_SKETCH_H
#include <kdas/image.h>
#include <stdbool.h>

enum { SKETCH_SIDE = 32, SKETCH_CELLS = SKETCH_SIDE * SKETCH_SIDE, SKETCH_VARIANTS = 8 };

typedef struct sketch {
    uint64_t hash[SKETCH_VARIANTS]; /* of the map as it is, and turned and mirrored */
    float    map[SKETCH_CELLS];     /* (row,column) */
    uint8_t  mask[SKETCH_CELLS];    /* the mask's mean in each cell, 0..255 */
    bool     flat;                  /* without structure: compare it with nothing */
} sketch;

/* Sketch a GREY8 frame of packed rows; `mask` is of the same size or NULL. */
void sketch_make(sketch *out, const uint8_t *grey, const uint8_t *mask, int64_t width,
                 int64_t height);
/* How a variant differs from the frame, for people: "mirrored", "turned by 90 degrees" ... */
const char *sketch_variant(int variant);
/* Bits in which `a` and this variant of `b` differ, 0..64. */
static inline int sketch_distance(const sketch *a, const sketch *b, int variant)
{
    return __builtin_popcountll(a->hash[0] ^ b->hash[variant]);
}

/* Scale and shift of `b` relative to `a`, in cells from the centre. */
typedef struct pose {
    double scale_x, shift_x, scale_y, shift_y;
} pose;

/* Similarity of `a` and a variant of `b`: the correlation of their maps, -1..1, after scale and
 * shift were fitted. `at` receives them, unless it is NULL. */
double sketch_compare(const sketch *a, const sketch *b, int variant, pose *at);
/* Dice of the masks of `a` and of `b` laid over it, 0..1; 1 if both are empty. */
double sketch_mask_dice(const sketch *a, const sketch *b, int variant, const pose *at);
#endif
