/* thin.h - networks that cost little. Those of the same names and structure with few channels are for tests of what holds
 * for any network: runs, checkpoints, resumes, orders of calls. Their time goes into files and memory of the weights, which
 * a published network has ten times as many of. Initial values that are drawn quickly are for tests that need networks as
 * they are published: those of the largest take seconds. */
#ifndef KD_TEST_THIN_H
#define KD_TEST_THIN_H
#include <stdbool.h>

/* From now on polyp_pvt_b0 ... b5 of this process have a backbone of four blocks, one a stage, of 16, 16, 32 and 32
 * channels (b1 ... b5: twice as many), and the blocks of lite_fpn0 ... 4 do not widen their maps; names of tensors and taps,
 * decoders and pyramids stay. For the begin of main(). Programs have such networks with the library in build/.../test/thin,
 * which calls this when it is loaded (programs.sh). */
void kd_test_thin_networks(void);
/* Whether initial values with a normal distribution have that of a sum of four uniform numbers instead: the same mean and
 * deviation, and at most 3.5 deviations. For the begin of main(), too. */
void kd_test_quick_values(bool quick);

#endif
