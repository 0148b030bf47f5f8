/* masks.h - what is measured of a mask. */
#ifndef DOCTOR_MASKS_H
#define DOCTOR_MASKS_H
#include <kdas/image.h>

typedef struct mask_facts {
    double  covered; /* share of polyp pixels, 0..1 */
    double  border;  /* the same along the edge of the frame, a fiftieth of the shorter side wide */
    int64_t specks;  /* components below a ten-thousandth of the frame, of polyp or of ground */
    double
        between; /* share of pixels of the file that are neither near its least nor largest value */
    uint64_t hash; /* of its size and pixels */
} mask_facts;

/* Measure a mask of 0 and 255, packed rows. `between` is left at 0. */
void mask_measure(mask_facts *out, const uint8_t *mask, int64_t width, int64_t height);
/* Share of pixels whose values, and those of their four neighbours, are more than an eighth of the
 * range away from both ends. Soft edges do not count. */
double mask_between(const uint8_t *grey, int64_t width, int64_t height);
/* A hash of bytes, for equality. */
uint64_t bytes_hash(const uint8_t *bytes, int64_t count, uint64_t seed);
#endif
