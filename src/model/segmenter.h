/* segmenter.h - the segmenter for those who want the network's maps, not only the sum of them. */
#ifndef KD_SEGMENTER_H
#define KD_SEGMENTER_H
#include <kdas/infer.h>

/* Run the network on a frame; the calls below speak of this run. */
kdas_status kd_segmenter_run(kdas_segmenter *segmenter, const kdas_view *frame);
/* Map `i` in host memory, (height,width) of the network's output, and its sides; NULL past the
 * last. */
const float *kd_segmenter_map(const kdas_segmenter *segmenter, int i, int64_t *height,
                              int64_t *width);
/* The sum of the maps at the frame's size, as kdas_segmenter_logits. */
void kd_segmenter_enlarge(kdas_segmenter *segmenter, float *out);

#endif
