/* segmenter.h - the segmenter for those who want the network's maps, not only the sum of them. */
#ifndef KD_SEGMENTER_H
#define KD_SEGMENTER_H
#include <kdas/infer.h>

/* Map `i` of the last run in host memory, (height,width) of the network's output and not smoothed, and its
 * sides; NULL past the last. */
const float *kd_segmenter_map(const kdas_segmenter *segmenter, int i, int64_t *height,
                              int64_t *width);

#endif
