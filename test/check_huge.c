/* check_huge.c - sizes that no memory has: every call that takes sizes refuses them by name before it multiplies them,
 * takes memory for them, or reads what they describe. */
#include <check.h>
#include <kdas/kdas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/sizes.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"

/* ---- the product ---- */

START_TEST(a_product_is_exact_or_refused)
{
    int64_t n = 7;

    ck_assert(kd_product(&n, 3, 5, sizeof(float)));
    ck_assert_int_eq(n, 60);
    ck_assert(kd_product(&n, INT64_MAX, 1));
    ck_assert_int_eq(n, INT64_MAX);
    ck_assert(kd_product(&n, 0, INT64_MAX, INT64_MAX));
    ck_assert_int_eq(n, 0);
    ck_assert(kd_product_of(&n, 0, NULL));
    ck_assert_int_eq(n, 1);
    ck_assert(!kd_product(&n, INT64_C(1) << 32, INT64_C(1) << 32));
    ck_assert(!kd_product(&n, INT64_C(1) << 32, INT64_C(1) << 31));
    ck_assert(!kd_product(&n, 3, -1));
    ck_assert(!kd_product(&n, 0, -1));
    ck_assert(!kd_product(&n, INT64_MIN, INT64_MIN));
    ck_assert_int_eq(n, 1);
}
END_TEST

/* ---- public calls ---- */

static kd_test_rig        rig;
static kd_test_meter      meter;
static kdas_dataset      *frames;
static kdas_evaluator    *evaluator;
static float              floats[64];
static const float *const map[8] = {
    floats, floats, floats, floats, floats, floats, floats, floats
};
static const uint8_t bytes[64];

static void setup(void)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_scene_options  s;

    kd_test_folder_make();
    memset(&meter, 0, sizeof meter);
    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    kdas_scene_options_init(&s, sizeof s);
    s.count = 2;
    s.width = s.height = 32;
    kd_assert_ok(kdas_dataset_synthetic(&frames, rig.ctx, &s));
    kd_assert_ok(kdas_evaluator_create(&evaluator, rig.ctx));
}

static void teardown(void)
{
    kdas_evaluator_destroy(evaluator);
    kdas_dataset_destroy(frames);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
    kd_test_folder_remove();
}

static kdas_maps maps_of(int64_t n, int64_t h, int64_t w)
{
    return (kdas_maps){ .map = map, .maps = 2, .count = n, .height = h, .width = w };
}

static kdas_status evaluate_maps(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_maps maps = maps_of(n, h, w);

    (void)made;
    return kdas_loss_evaluate(rig.loss, &maps, &maps, floats, NULL, NULL);
}

static kdas_status evaluate_teachers(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_maps student = maps_of(n, 4, 4), teacher = maps_of(n, h, w);

    (void)made;
    return kdas_loss_evaluate(rig.loss, &student, &teacher, floats, NULL, NULL);
}

static kdas_status evaluate_weighted(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_maps maps = maps_of(n, h, w);

    (void)made;
    return kdas_loss_evaluate_weighted(rig.loss, &maps, &maps, floats, floats, NULL, NULL);
}

static kdas_status set_teacher_maps(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_maps maps = maps_of(n, h, w);

    (void)made;
    return kdas_distiller_set_teacher_maps(rig.distiller, &maps);
}

static kdas_status create_batch(void **made, int64_t n, int64_t h, int64_t w)
{
    return kdas_batch_create((kdas_batch **)made, rig.ctx, n, h, w);
}

static kdas_status wrap_batch(void **made, int64_t n, int64_t h, int64_t w)
{
    return kdas_batch_wrap((kdas_batch **)made, rig.ctx, n, h, w, floats, floats);
}

static kdas_status create_image(void **made, int64_t n, int64_t h, int64_t w)
{
    (void)n;
    return kdas_image_create((kdas_image **)made, rig.ctx, w, h, KDAS_PIXEL_RGBA8);
}

static kdas_status resize_image(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_view view = { bytes, 4, 4, 0, KDAS_PIXEL_GREY8 };

    (void)n;
    return kdas_image_resize((kdas_image **)made, rig.ctx, &view, w, h);
}

static kdas_status save_map(void **made, int64_t n, int64_t h, int64_t w)
{
    (void)made;
    (void)n;
    return kdas_map_save(rig.ctx, kd_test_path("map.safetensors"), floats, h, w);
}

/* A view as an image to save, to convert, to add to an evaluator. */
static kdas_status save_view(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_view view = { bytes, w, h, n, KDAS_PIXEL_RGB8 };

    (void)made;
    return kdas_image_save(rig.ctx, kd_test_path("image.png"), &view);
}

static kdas_status convert_view(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_view view = { bytes, w, h, n, KDAS_PIXEL_NV12, .chroma = { bytes } };

    (void)made;
    return kdas_view_convert(&view, floats, 0, KDAS_PIXEL_RGB8);
}

static kdas_status add_views(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_view view = { bytes, w, h, n, KDAS_PIXEL_GREY8 };

    (void)made;
    return kdas_evaluator_add(evaluator, "one", &view, &view);
}

static kdas_status draw_scenes(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_scene_options o;

    kdas_scene_options_init(&o, sizeof o);
    o.count  = n;
    o.height = h;
    o.width  = w;
    return kdas_dataset_synthetic((kdas_dataset **)made, rig.ctx, &o);
}

static kdas_status create_loader(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_loader_options o;

    kdas_loader_options_init(&o, sizeof o);
    o.batch   = n;
    o.height  = h;
    o.width   = w;
    o.workers = 0;
    return kdas_loader_create((kdas_loader **)made, frames, &o);
}

static kdas_status create_segmenter(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_segmenter_options o;

    kdas_segmenter_options_init(&o, sizeof o);
    o.frame_height = n;
    o.frame_width  = n;
    o.height       = h;
    o.width        = w;
    return kdas_segmenter_create((kdas_segmenter **)made, rig.student, &o);
}

static kdas_status ask_memory(void **made, int64_t n, int64_t h, int64_t w)
{
    (void)made;
    return kdas_model_memory(rig.student, KDAS_MODE_TRAIN, n, h, w, NULL, NULL);
}

static kdas_status ask_cost(void **made, int64_t n, int64_t h, int64_t w)
{
    (void)made;
    (void)n;
    return kdas_model_cost(rig.ctx, "polyp_pvt_b0", h, w, KDAS_COUNT_MACS, NULL, NULL);
}

static kdas_status list_layers(void **made, int64_t n, int64_t h, int64_t w)
{
    (void)n;
    return kdas_layers_create((kdas_layers **)made, rig.student, h, w);
}

static kdas_status evaluate_set(void **made, int64_t n, int64_t h, int64_t w)
{
    (void)made;
    (void)n;
    return kdas_evaluate(evaluator, rig.student, frames, h, w, 0);
}

static kdas_status train(void **made, int64_t n, int64_t h, int64_t w)
{
    kdas_loader_options l;
    kdas_train_options  o;
    kdas_loader        *loader;
    kdas_status         st;

    (void)made;
    (void)n;
    kdas_loader_options_init(&l, sizeof l);
    l.batch  = 2;
    l.height = l.width = 32;
    kd_assert_ok(kdas_loader_create(&loader, frames, &l));
    kdas_train_options_init(&o, sizeof o);
    o.height = h;
    o.width  = w;
    st       = kdas_train(rig.distiller, loader, NULL, &o);
    kdas_loader_destroy(loader);
    return st;
}

static const struct {
    const char *name;
    kdas_status (*run)(void **made, int64_t n, int64_t h, int64_t w);
    bool counted; /* n is a size, too */
} calls[] = {
    { "kdas_loss_evaluate", evaluate_maps, true },
    { "kdas_loss_evaluate, teacher", evaluate_teachers, true },
    { "kdas_loss_evaluate_weighted", evaluate_weighted, true },
    { "kdas_distiller_set_teacher_maps", set_teacher_maps, true },
    { "kdas_batch_create", create_batch, true },
    { "kdas_batch_wrap", wrap_batch, true },
    { "kdas_image_create", create_image, false },
    { "kdas_image_resize", resize_image, false },
    { "kdas_map_save", save_map, false },
    { "kdas_image_save", save_view, false },
    { "kdas_view_convert", convert_view, false },
    { "kdas_evaluator_add", add_views, false },
    { "kdas_dataset_synthetic", draw_scenes, true },
    { "kdas_loader_create", create_loader, true },
    { "kdas_segmenter_create", create_segmenter, true },
    { "kdas_model_memory", ask_memory, true },
    { "kdas_model_cost", ask_cost, false },
    { "kdas_layers_create", list_layers, false },
    { "kdas_evaluate", evaluate_set, false },
    { "kdas_train", train, false },
};

/* Each is wrong in a sum of its own: two sides, or all three, leave 64 bits; 2^32 * 2^32 is 0 there. */
static const struct {
    int64_t n, h, w;
} sizes[] = {
    { 1, INT64_C(1) << 32, INT64_C(1) << 32 },
    { INT64_C(1) << 32, INT64_C(1) << 32, 32 },
    { INT64_C(1) << 32, 32, INT64_C(1) << 32 },
    { INT64_C(1) << 22, INT64_C(1) << 21, INT64_C(1) << 21 },
    { 2, INT64_MAX, INT64_MAX },
    { INT64_MAX, INT64_MAX, INT64_MAX },
    { 1, INT64_C(1) << 62, 4 },
    { 1, 4, INT64_C(1) << 61 },
    { 1, INT64_MIN, INT64_MIN },
    { 1, -1, -1 },
    { 1, -32, 32 },
    { INT64_C(1) << 62, 32, 32 }, /* from here on n alone */
    { INT64_MAX, 32, 32 },
    { INT64_MIN, 32, 32 },
    { -1, 32, 32 },
};
enum { BY_N = 11 };

static bool is_n_alone(size_t i) { return i >= BY_N; }

START_TEST(sizes_that_no_memory_has_are_refused_by_their_numbers)
{
    for (size_t i = 0; i < KD_COUNT(sizes); i++) {
        void       *made = &meter;
        int64_t     side = is_n_alone(i)                       ? sizes[i].n
                           : sizes[i].h > 32 || sizes[i].h < 0 ? sizes[i].h
                                                               : sizes[i].w;
        int64_t     n    = calls[_i].counted || is_n_alone(i) ? sizes[i].n : 0;
        char        number[24];
        kdas_status st;

        if (is_n_alone(i) && !calls[_i].counted) continue;
        st = calls[_i].run(&made, n, sizes[i].h, sizes[i].w);
        ck_assert_msg(st == KDAS_EINVAL || st == KDAS_ESHAPE,
                      "%s of %lld x %lld x %lld gives %s: %s", calls[_i].name,
                      (long long)sizes[i].n, (long long)sizes[i].h, (long long)sizes[i].w,
                      kdas_status_name(st), kdas_last_error());
        ck_assert(!made || made == &meter);
        snprintf(number, sizeof number, "%lld", (long long)side);
        ck_assert_msg(strstr(kdas_last_error(), number) ||
                          (snprintf(number, sizeof number, "%lld", (long long)sizes[i].n) &&
                           strstr(kdas_last_error(), number)),
                      "%s of %lld x %lld x %lld does not name them: %s", calls[_i].name,
                      (long long)sizes[i].n, (long long)sizes[i].h, (long long)sizes[i].w,
                      kdas_last_error());
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
    }
}
END_TEST

/* Sizes that are possible, of memory that nobody has. */
START_TEST(memory_that_nobody_has_is_out_of_memory)
{
    kdas_batch *batch = (kdas_batch *)&meter;
    kdas_maps   maps  = maps_of(INT64_C(1) << 20, INT64_C(1) << 18, INT64_C(1) << 18);

    kd_assert_status(kdas_batch_create(&batch, rig.ctx, INT32_MAX, 16384, 16384), KDAS_ENOMEM);
    kd_assert_sentence("2147483647 images of 16384x16384");
    ck_assert_ptr_null(batch);
    kd_assert_status(kdas_distiller_set_teacher_maps(rig.distiller, &maps), KDAS_ENOMEM);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("huge");
    TCase   *product = tcase_create("product"), *t = tcase_create("calls");
    SRunner *runner;
    int      failed;

    tcase_add_test(product, a_product_is_exact_or_refused);
    suite_add_tcase(suite, product);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, sizes_that_no_memory_has_are_refused_by_their_numbers, 0,
                        KD_COUNT(calls));
    tcase_add_test(t, memory_that_nobody_has_is_out_of_memory);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
