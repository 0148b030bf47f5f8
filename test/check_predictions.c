/* check_predictions.c - predictions on disk: paired with their masks, measured, and what is warned of. */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/metric.h>
#include <kdas/train.h>
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"
#include "support/pictures.h"

static void make(const char *folder)
{
    kd_test_shell("mkdir -p '%s/%s'", kd_test_path(NULL), folder);
}

static kdas_status open_predictions(kdas_dataset **out, const kdas_dataset_options *o)
{
    return kdas_dataset_open_predictions(out, kd_data_ctx, kd_test_path("maps"),
                                         kd_test_path("masks"), o);
}

START_TEST(predictions_are_found_as_kdas_segment_writes_them)
{
    kdas_dataset *dataset;

    make("maps/case");
    make("masks/case");
    for (int i = 0; i < 3; i++)
        kd_test_write_picture(i == 0   ? "masks/a.png"
                              : i == 1 ? "masks/case/b.png"
                                       : "masks/c_mask.png",
                              8, 8, KDAS_PIXEL_GREY8, i);
    kd_test_write_picture("maps/a_probability.png", 8, 8, KDAS_PIXEL_GREY8, 1);
    kd_test_write_picture("maps/a_mask.png", 8, 8, KDAS_PIXEL_GREY8, 2);
    kd_test_write_picture("maps/a_overlay.png", 8, 8, KDAS_PIXEL_RGB8, 3);
    kd_test_write_picture("maps/case/b_mask.png", 8, 8, KDAS_PIXEL_GREY8, 4);
    kd_test_write_picture("maps/case/b_overlay.png", 8, 8, KDAS_PIXEL_RGB8, 5);
    kd_test_write_picture("maps/c_mask.jpg", 8, 8, KDAS_PIXEL_GREY8, 6);
    kd_assert_ok(open_predictions(&dataset, NULL));
    ck_assert_str_eq(kdas_dataset_image_path(dataset, 0), kd_test_path("maps/a_probability.png"));
    ck_assert_str_eq(kdas_dataset_image_path(dataset, 1), kd_test_path("maps/c_mask.jpg"));
    ck_assert_str_eq(kdas_dataset_image_path(dataset, 2), kd_test_path("maps/case/b_mask.png"));
    kd_test_names_are(dataset, "a c_mask case/b");
    ck_assert_str_eq(kd_data_log, "");

    kd_test_write_picture("maps/a.png", 8, 8, KDAS_PIXEL_GREY8, 7); /* the plain name is first */
    kd_test_write_picture("maps/more.png", 8, 8, KDAS_PIXEL_GREY8, 8);
    kd_assert_ok(open_predictions(&dataset, NULL));
    ck_assert_str_eq(kdas_dataset_image_path(dataset, 0), kd_test_path("maps/a.png"));
    kd_test_names_are(dataset, "a c_mask case/b");
    ck_assert_ptr_nonnull(strstr(kd_data_log, "left out: 1"));
}
END_TEST

/* 0, and `high` in one half. */
static void write_half(const char *name, uint8_t high)
{
    uint8_t   pixels[64];
    kdas_view v = { pixels, 8, 8, 0, KDAS_PIXEL_GREY8 };

    for (int i = 0; i < 64; i++)
        pixels[i] = i < 32 ? high : 0;
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(name), &v));
}

START_TEST(predictions_of_zeros_and_ones_are_warned_of)
{
    kdas_dataset   *dataset;
    kdas_evaluator *evaluator;

    make("maps");
    write_half("masks/a.png", 255);
    write_half("masks/b.png", 255);
    write_half("maps/a.png", 1);
    for (int bright = 0; bright < 2; bright++) {
        write_half("maps/b.png", bright ? 2 : 1);
        kd_assert_ok(open_predictions(&dataset, NULL));
        kd_assert_ok(kdas_evaluator_create(&evaluator, kd_data_ctx));
        kd_data_log[0] = 0;
        kd_assert_ok(kdas_evaluate_predictions(evaluator, dataset, 0));
        ck_assert_int_eq(strstr(kd_data_log, "a.png', is 1; ") != NULL, !bright);
        kdas_evaluator_destroy(evaluator);
        kdas_dataset_destroy(dataset);
    }
}
END_TEST

/* The last frame is damaged after the folder was opened: the others were added before. */
START_TEST(predictions_that_fail_add_nothing)
{
    kdas_dataset_options o;
    kdas_dataset        *dataset;
    kdas_evaluator      *evaluator;
    double               before, after;

    make("maps");
    write_half("masks/a.png", 255);
    write_half("masks/b.png", 255);
    write_half("maps/a.png", 255);
    write_half("maps/b.png", 200);
    kdas_dataset_options_init(&o, sizeof o);
    o.cache = 0;
    kd_assert_ok(open_predictions(&dataset, &o));
    kd_assert_ok(kdas_evaluator_create(&evaluator, kd_data_ctx));
    kd_assert_ok(kdas_evaluate_predictions(evaluator, dataset, 1));
    kd_assert_ok(kdas_evaluator_get(evaluator, -1, KDAS_METRIC_WFM, &before));
    kd_test_shell("echo damaged > '%s'%s", kd_test_path("maps/b.png"), "");
    kd_assert_status(kdas_evaluate_predictions(evaluator, dataset, 0), KDAS_EFORMAT);
    kd_assert_sentence("b.png");
    ck_assert_int_eq(kdas_evaluator_count(evaluator), 1);
    kd_assert_ok(kdas_evaluator_get(evaluator, -1, KDAS_METRIC_WFM, &after));
    ck_assert(kd_test_same_bits(&before, &after, sizeof before));
    kdas_evaluator_destroy(evaluator);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* Grey in three channels is grey; colours and an alpha that hides something are said, once. */
START_TEST(coloured_and_transparent_predictions_are_counted)
{
    uint8_t       pixels[64 * 4], file[600], rows[8 * 33];
    kdas_view     v = { pixels, 8, 8, 0, KDAS_PIXEL_RGB8 };
    kdas_dataset *dataset;
    size_t        n = 0;

    make("maps");
    for (int k = 0; k < 4; k++)
        write_half(
            (const char *[]){ "masks/a.png", "masks/b.png", "masks/c.png", "masks/d.png" }[k], 255);
    write_half("maps/a.png", 255);
    write_half("maps/b.png", 255);
    write_half("maps/d.png", 255);
    for (int i = 0; i < 64; i++)
        memset(pixels + 3 * i, i < 32 ? 200 : 0, 3);
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path("maps/c.png"), &v));
    kd_data_log[0] = 0;
    kd_assert_ok(open_predictions(&dataset, NULL));
    ck_assert_str_eq(kd_data_log, "");
    kdas_dataset_destroy(dataset);

    for (int i = 0; i < 32; i++)
        pixels[3 * i] = 0; /* no red */
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path("maps/c.png"), &v));
    for (int y = 0; y < 8; y++) {
        rows[n++] = 0;
        for (int x = 0; x < 8; x++) {
            memset(rows + n, 255, 4);
            rows[n + 3] = y < 4 ? 255 : 0; /* white, half of it cannot be seen */
            n += 4;
        }
    }
    n = kd_test_png(file, 8, 8, 8, 6, NULL, 0, rows, n);
    kd_test_write(kd_test_path("maps/d.png"), file, n);
    kd_data_log[0] = 0;
    kd_assert_ok(open_predictions(&dataset, NULL));
    ck_assert(strstr(kd_data_log, "2 of the 4 predictions of"));
    ck_assert(strstr(kd_data_log, "such as 'c.png'"));
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(predictions_need_masks_of_their_size)
{
    kdas_dataset_options o;
    kdas_dataset        *dataset;
    kdas_image          *image, *mask;

    kdas_dataset_options_init(&o, sizeof o);
    make("maps");
    kd_assert_status(open_predictions(&dataset, &o), KDAS_ENOTFOUND);
    kd_test_write_picture("masks/a.png", 8, 6, KDAS_PIXEL_GREY8, 1);
    kd_test_write_picture("maps/a.png", 32, 32, KDAS_PIXEL_GREY8, 2);
    kd_assert_status(open_predictions(&dataset, &o), KDAS_ESHAPE);
    kd_assert_sentence("maps/a.png' is 32 x 32");
    kd_assert_sentence("is 8 x 6; --resize-predictions (fit_masks)");
    o.fit_masks = 1;
    kd_assert_ok(open_predictions(&dataset, &o));
    kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, 0));
    ck_assert_int_eq(kdas_image_view(image).width, 8);
    ck_assert_int_eq(kdas_image_view(image).height, 6);
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(dataset);

    kd_test_write_picture("masks/b.png", 8, 6, KDAS_PIXEL_GREY8, 1);
    kd_assert_status(open_predictions(&dataset, &o), KDAS_ESHAPE);
    kd_assert_sentence("b.png' has no prediction in");
    o.bad_file = KDAS_BAD_FILE_SKIP;
    kd_assert_ok(open_predictions(&dataset, &o));
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 1);
    kd_test_names_are(dataset, "a");
    o.unlabelled = 1;
    kd_assert_status(open_predictions(&dataset, &o), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_open_predictions(&dataset, kd_data_ctx, NULL, "/", NULL),
                     KDAS_EINVAL);
    kd_assert_status(kdas_dataset_open_predictions(NULL, kd_data_ctx, "/", "/", NULL), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_open_predictions(&dataset, kd_data_ctx, "/nowhere/at/all",
                                                   kd_test_path("masks"), NULL),
                     KDAS_ENOTFOUND);
}
END_TEST

/* Memory in use, and the most that was; each block begins with its size. */
typedef struct supply {
    atomic_long live, most;
} supply;

enum { FRONT = 16 };

static void *measured_alloc(void *user, size_t bytes)
{
    supply *s  = user;
    char   *at = malloc(FRONT + bytes);
    long    live, most;

    if (!at) return NULL;
    memcpy(at, &bytes, sizeof bytes);
    live = atomic_fetch_add(&s->live, (long)bytes) + (long)bytes;
    for (most = atomic_load(&s->most);
         live > most && !atomic_compare_exchange_weak(&s->most, &most, live);) {
    }
    return at + FRONT;
}

static void measured_free(void *user, void *at)
{
    size_t bytes;

    if (!at) return;
    memcpy(&bytes, (char *)at - FRONT, sizeof bytes);
    atomic_fetch_sub(&((supply *)user)->live, (long)bytes);
    free((char *)at - FRONT);
}

/* The most memory in use while the folder's predictions are opened and measured. */
static long most_for(void)
{
    static supply        s;
    kdas_context_options c;
    kdas_context        *ctx;
    kdas_dataset_options o;
    kdas_dataset        *dataset;
    kdas_evaluator      *evaluator;

    s = (supply){ 0 };
    kdas_context_options_init(&c, sizeof c);
    c.threads    = 1; /* two that decode at once need more than one, now and then */
    c.alloc      = measured_alloc;
    c.free       = measured_free;
    c.alloc_user = &s;
    kd_assert_ok(kdas_context_create(&ctx, &c));
    kdas_dataset_options_init(&o, sizeof o);
    o.cache = 0;
    kd_assert_ok(kdas_dataset_open_predictions(&dataset, ctx, kd_test_path("maps"),
                                               kd_test_path("masks"), &o));
    kd_assert_ok(kdas_evaluator_create(&evaluator, ctx));
    kd_assert_ok(kdas_evaluate_predictions(evaluator, dataset, 0));
    kdas_evaluator_destroy(evaluator);
    kdas_dataset_destroy(dataset);
    kdas_context_destroy(ctx);
    ck_assert_int_eq(s.live, 0);
    return s.most;
}

/* Twenty more frames need less than the pixels of one: rows of figures and names, but no image. */
START_TEST(memory_does_not_grow_with_the_set)
{
    enum { SIDE = 256, FEW = 4, MANY = 24 };
    long few = 0;

    make("maps");
    for (int i = 0; i < MANY; i++) {
        char name[40];

        if (i == FEW) few = most_for();
        snprintf(name, sizeof name, "masks/%d.png", i);
        kd_test_write_picture(name, SIDE, SIDE, KDAS_PIXEL_GREY8, i);
        snprintf(name, sizeof name, "maps/%d.png", i);
        kd_test_write_picture(name, SIDE, SIDE, KDAS_PIXEL_GREY8, i + MANY);
    }
    ck_assert_int_gt(few, SIDE * SIDE);
    ck_assert_int_lt(most_for() - few, SIDE * SIDE);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("predictions");
    TCase   *tc     = tcase_create("predictions");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(tc, predictions_are_found_as_kdas_segment_writes_them);
    tcase_add_test(tc, predictions_of_zeros_and_ones_are_warned_of);
    tcase_add_test(tc, predictions_that_fail_add_nothing);
    tcase_add_test(tc, coloured_and_transparent_predictions_are_counted);
    tcase_add_test(tc, predictions_need_masks_of_their_size);
    tcase_add_test(tc, memory_does_not_grow_with_the_set);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
