/* map_util.c - see map_util.h. */
#include "support/map_util.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

void kd_test_maps_start(void)
{
    kd_test_data_start();
    ck_assert_int_eq(mkdir(kd_test_path("maps"), 0777), 0);
    ck_assert_int_eq(mkdir(kd_test_path("more"), 0777), 0);
}

double kd_test_probability(float logit) { return 1 / (1 + exp(-(double)logit)); }

void kd_test_write_map(const char *name, int64_t width, int64_t height, int step, int first)
{
    uint8_t  *v    = malloc((size_t)(width * height));
    kdas_view view = { v, width, height, 0, KDAS_PIXEL_GREY8 };

    for (int64_t i = 0; i < width * height; i++)
        v[i] = (uint8_t)(i * step + first);
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(name), &view));
    free(v);
}

void kd_test_map_of(float *out, kdas_dataset *dataset, int64_t i, int64_t width, int64_t height)
{
    kdas_loader_options o = kd_test_loader_options(1, height, width);
    kdas_loader        *loader;
    kdas_batch         *b = NULL;

    o.augment = o.shuffle = 0;
    loader                = kd_test_loader(dataset, &o);
    for (int64_t k = 0; k <= i; k++)
        b = kd_test_next(loader);
    memcpy(out, kdas_batch_teacher(b), (size_t)(width * height) * sizeof *out);
    kdas_loader_destroy(loader);
}

kdas_dataset *kd_test_one_frame(void)
{
    kdas_dataset *dataset;

    kd_test_write_pair("a", 40, 32);
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    ck_assert_int_eq(kdas_dataset_maps(dataset), 0);
    return dataset;
}
