/* frames.c - the frames of a dataset as batches for a calibrator. */
#include "base/process.h"
#include "quantize/calibrator.h"

enum { BATCH = 4 };

static kdas_status set_image(kdas_batch *batch, int64_t at, kdas_dataset *dataset, int64_t i)
{
    kdas_image *image = NULL, *mask = NULL;
    kdas_view   view;
    kdas_status st;

    KD_TRY(kdas_dataset_get(&image, &mask, dataset, i));
    view = kdas_image_view(image);
    KD_TRY(kdas_batch_set(batch, at, &view, NULL));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    return st == KDAS_OK || st == KDAS_ECANCELLED
               ? st
               : kd_fail_in(st, "frame '%s'", kdas_dataset_name(dataset, i));
}

static kdas_status add_batch(kdas_calibrator *c, kdas_batch *batch, kdas_dataset *dataset,
                             int64_t first, int64_t count)
{
    KD_RETURN(kdas_batch_resize(batch, count));
    for (int64_t k = 0; k < count; k++)
        KD_RETURN(set_image(batch, k, dataset, first + k));
    return kdas_calibrator_add(c, batch);
}

kdas_status kdas_calibrator_add_dataset(kdas_calibrator *c, kdas_dataset *dataset, int64_t height,
                                        int64_t width, int64_t limit)
{
    kdas_batch *batch;
    int64_t     count;
    kdas_status st = KDAS_OK;

    if (!c || !dataset)
        return kd_fail(KDAS_EINVAL, "kdas_calibrator_add_dataset: calibrator or dataset is NULL");
    KD_RETURN(kd_check_process(c->ctx));
    if (limit < 0)
        return kd_fail(KDAS_EINVAL, "kdas_calibrator_add_dataset: limit is %lld, below 0",
                       (long long)limit);
    if (!height && !width) kdas_model_input_size(c->model, &height, &width);
    KD_RETURN(kd_check_size(c->model->def, 1, height, width));
    count = kdas_dataset_count(dataset);
    if (limit > 0) count = KD_MIN(count, limit);
    KD_RETURN(kdas_batch_create(&batch, c->ctx, BATCH, height, width));
    for (int64_t i = 0; i < count && st == KDAS_OK; i += BATCH)
        st = add_batch(c, batch, dataset, i, KD_MIN(BATCH, count - i));
    kdas_batch_destroy(batch);
    return st;
}
