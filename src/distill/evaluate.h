/* evaluate.h - evaluation as a run uses it: with the segmentation term beside the figures. */
#ifndef KD_EVALUATE_H
#define KD_EVALUATE_H
#include <kdas/train.h>

/* As kdas_evaluate; with a `loss` (one that needs no teacher), *mean_loss receives the mean over
 * the frames of its segmentation term at the network's size. */
kdas_status kd_evaluate(kdas_evaluator *evaluator, kdas_model *model, kdas_dataset *dataset,
                        int64_t height, int64_t width, int64_t limit, kdas_loss *loss,
                        double *mean_loss);

#endif
