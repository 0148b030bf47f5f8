/* thin.h - networks of the same names and structure with few channels, for tests of what holds for any network: runs,
 * checkpoints, resumes, orders of calls. Their time goes into files and memory of the weights, which a published network
 * has ten times as many of. */
#ifndef KD_TEST_THIN_H
#define KD_TEST_THIN_H

/* From now on polyp_pvt_b0 ... b5 of this process have a backbone of four blocks, one a stage, of 16, 16, 32 and 32
 * channels (b1 ... b5: twice as many); names of tensors and taps, and the decoder, stay. For the begin of main(). */
void kd_test_thin_networks(void);

#endif
