/* halves.h - the 16-bit floats of backend.h in plain arithmetic, one number at a time: what tests round by and
 * compare with. It shares nothing with the library's cast. */
#ifndef KD_TEST_HALVES_H
#define KD_TEST_HALVES_H
#include <kdas/backend.h>

/* The value of KDAS_BF16 or KDAS_F16 that is nearest to f, of two the one with an even last bit; for other types,
 * f. What is half a step past the largest one is infinite. */
float kd_test_round_half(float f, int32_t dtype);
/* The 16 bits of a value that the type has, and back. Every NaN is one quiet NaN. */
uint16_t kd_test_half_bits(float f, int32_t dtype);
float    kd_test_half_value(uint16_t bits, int32_t dtype);

#endif
