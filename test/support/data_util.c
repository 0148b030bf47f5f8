/* data_util.c - see data_util.h. */
#include "support/data_util.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "support/check_util.h"
#include "support/files.h"

/* ---- A context without a device, and a folder ---- */

static kdas_context context;

kd_test_supply      kd_data_memory;
kdas_context *const kd_data_ctx = &context;
char                kd_data_log[4096];

#define HUGE_BLOCK ((size_t)1 << 40) /* more than any machine here has; sanitizers abort on it */

static void *counted_alloc(void *user, size_t bytes)
{
    long  n   = atomic_fetch_add(&kd_data_memory.taken, 1) + 1;
    void *got = NULL;

    (void)user;
    if (n != kd_data_memory.fail_at && bytes < HUGE_BLOCK) got = malloc(bytes);
    if (!got) atomic_fetch_add(&kd_data_memory.given_back, 1); /* nothing to give back */
    return got;
}

static void counted_free(void *user, void *block)
{
    (void)user;
    atomic_fetch_add(&kd_data_memory.given_back, 1);
    free(block);
}

static void keep_log(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    ck_assert_int_eq(level, KDAS_LOG_WARN);
    strncat(kd_data_log, text, sizeof kd_data_log - strlen(kd_data_log) - 1);
}

void kd_test_shell(const char *format, const char *a, const char *b)
{
    char command[1200];

    snprintf(command, sizeof command, format, a, b);
    ck_assert_int_eq(system(command), 0);
}

void kd_test_data_start(void)
{
    kd_data_memory.taken      = 0;
    kd_data_memory.given_back = 0;
    kd_data_memory.fail_at    = 0;
    kd_data_log[0]            = 0;
    context = (kdas_context){ .alloc = counted_alloc, .free = counted_free, .log = keep_log };
    kd_test_folder_make();
    ck_assert_int_eq(mkdir(kd_test_path("images"), 0777), 0);
    ck_assert_int_eq(mkdir(kd_test_path("masks"), 0777), 0);
}

void kd_test_data_finish(void)
{
    kd_test_folder_remove();
    ck_assert_int_eq(kd_data_memory.taken, kd_data_memory.given_back);
}

/* ---- Frames in the folder ---- */

uint8_t kd_test_byte(int64_t i) { return (uint8_t)(kd_mix64((uint64_t)i + 7) >> 56); }

void kd_test_write_picture(const char *name, int64_t width, int64_t height, kdas_pixel pixel,
                           int salt)
{
    int       samples = pixel == KDAS_PIXEL_GREY8 ? 1 : 3;
    uint8_t  *data    = malloc((size_t)(width * height * samples));
    kdas_view view    = { data, width, height, 0, pixel };

    for (int64_t i = 0; i < width * height * samples; i++)
        data[i] = kd_test_byte(i + 1000 * salt);
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(name), &view));
    free(data);
}

void kd_test_write_pair(const char *stem, int64_t width, int64_t height)
{
    char name[64];

    snprintf(name, sizeof name, "images/%s.png", stem);
    kd_test_write_picture(name, width, height, KDAS_PIXEL_RGB8, stem[0]);
    snprintf(name, sizeof name, "masks/%s.png", stem);
    kd_test_write_picture(name, width, height, KDAS_PIXEL_GREY8, stem[0]);
}

void kd_test_write_disc(const char *name, int64_t width, int64_t height, double cx, double cy,
                        double r)
{
    uint8_t  *rgb = malloc((size_t)(width * height) * 3), *mask = malloc((size_t)(width * height));
    kdas_view image = { rgb, width, height, 0, KDAS_PIXEL_RGB8 };
    kdas_view truth = { mask, width, height, 0, KDAS_PIXEL_GREY8 };
    char      path[64];

    for (int64_t i = 0; i < width * height; i++) {
        double x = (double)(i % width) + 0.5 - cx, y = (double)(i / width) + 0.5 - cy;

        mask[i]        = x * x + y * y < r * r ? 255 : 0;
        rgb[3 * i]     = mask[i];
        rgb[3 * i + 1] = (uint8_t)(255 * (i % width) / width);
        rgb[3 * i + 2] = (uint8_t)(255 * (i / width) / height);
    }
    snprintf(path, sizeof path, "images/%s.png", name);
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(path), &image));
    snprintf(path, sizeof path, "masks/%s.png", name);
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(path), &truth));
    free(rgb);
    free(mask);
}

kdas_dataset *kd_test_open_folder(int32_t bad_file, uint64_t cache)
{
    kdas_dataset_options o;
    kdas_dataset        *dataset;

    kdas_dataset_options_init(&o, sizeof o);
    o.bad_file = bad_file;
    o.cache    = cache;
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o));
    return dataset;
}

/* ---- Loaders ---- */

kdas_loader_options kd_test_loader_options(int64_t batch, int64_t height, int64_t width)
{
    kdas_loader_options o;

    kdas_loader_options_init(&o, sizeof o);
    o.batch  = batch;
    o.height = height;
    o.width  = width;
    return o;
}

kdas_loader *kd_test_loader(kdas_dataset *dataset, const kdas_loader_options *o)
{
    kdas_loader *loader;

    kd_assert_ok(kdas_loader_create(&loader, dataset, o));
    return loader;
}

kdas_batch *kd_test_next(kdas_loader *loader)
{
    kdas_batch *b;

    kd_assert_ok(kdas_loader_next(loader, &b));
    if (!b) kd_assert_ok(kdas_loader_next(loader, &b));
    ck_assert_ptr_nonnull(b);
    return b;
}

void kd_test_names_are(kdas_dataset *dataset, const char *want)
{
    char got[500] = "";

    for (int64_t i = 0; i < kdas_dataset_count(dataset); i++) {
        if (i) strcat(got, " ");
        strcat(got, kdas_dataset_name(dataset, i));
    }
    ck_assert_str_eq(got, want);
    kdas_dataset_destroy(dataset);
}
