/* check_abi_options.c - every option struct of the public headers follows the rules of docs/abi.md: the list
 * comes from the headers, so that a new struct is held to them without a line here. */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "every_header.h"

typedef struct option_type {
    const char *name;
    void (*init)(void *options, size_t size);
    size_t size;
} option_type;

#define FUNCTION(name)
#define OPTIONS(type)                                                           \
    static void init_##type(void *out, size_t size) { type##_init(out, size); } \
    _Static_assert(offsetof(type, size) == 0, #type " begins with its size");
#include "declared.def"
#undef OPTIONS

static const option_type types[] = {
#define OPTIONS(type) { #type, init_##type, sizeof(type) },
#include "declared.def"
#undef OPTIONS
};
#define TYPES ((int)(sizeof types / sizeof types[0]))

/* A program may be older or newer than the library: its struct is shorter or longer. The block has a fence
 * behind it, so that a write past the size given is seen. */
enum { FENCE = 64, NEWER = 200 };

static unsigned char *filled(size_t bytes, int value)
{
    unsigned char *block = malloc(bytes);

    ck_assert_ptr_nonnull(block);
    memset(block, value, bytes);
    return block;
}

static void check_init(const option_type *t, size_t size)
{
    unsigned char *a = filled(size + FENCE, 0xAA), *b = filled(size + FENCE, 0x55);
    size_t         told;

    t->init(a, size);
    t->init(b, size);
    memcpy(&told, a, sizeof told);
    ck_assert_msg(told == size, "%s: size is %zu after init with %zu", t->name, told, size);
    for (size_t i = 0; i < size; i++)
        ck_assert_msg(a[i] == b[i], "%s: byte %zu of %zu is left unset by init", t->name, i, size);
    for (size_t i = size; i < size + FENCE; i++)
        ck_assert_msg(a[i] == 0xAA && b[i] == 0x55, "%s: init with %zu writes byte %zu", t->name,
                      size, i);
    for (size_t i = t->size; i < size; i++)
        ck_assert_msg(a[i] == 0, "%s: init leaves byte %zu beyond what is known set", t->name, i);
    free(a);
    free(b);
}

START_TEST(init_sets_every_byte_and_no_other) { check_init(&types[_i], types[_i].size); }
END_TEST

START_TEST(init_fills_what_an_older_program_has)
{
    for (size_t size = sizeof(size_t); size < types[_i].size; size += 4)
        check_init(&types[_i], size);
}
END_TEST

START_TEST(init_clears_what_a_newer_program_has) { check_init(&types[_i], types[_i].size + NEWER); }
END_TEST

START_TEST(older_and_newer_programs_get_the_same_defaults)
{
    const option_type *t     = &types[_i];
    size_t             older = (sizeof(size_t) + t->size) / 2;
    unsigned char     *a = filled(t->size, 1), *b = filled(t->size, 2);

    t->init(a, t->size);
    t->init(b, older);
    ck_assert_int_eq(memcmp(a + sizeof(size_t), b + sizeof(size_t), older - sizeof(size_t)), 0);
    free(a);
    free(b);
}
END_TEST

START_TEST(init_survives_null_and_a_size_too_small)
{
    unsigned char block[64];

    types[_i].init(NULL, types[_i].size);
    types[_i].init(NULL, 0);
    memset(block, 0x77, sizeof block);
    for (size_t size = 0; size < sizeof(size_t); size++)
        types[_i].init(block, size);
    for (size_t i = 0; i < sizeof block; i++)
        ck_assert_uint_eq(block[i], 0x77);
}
END_TEST

/* ---- room for members to come, and reports of other sizes ---- */

static void expect_reserved(kdas_status status)
{
    ck_assert_int_eq(status, KDAS_EINVAL);
    ck_assert_ptr_nonnull(strstr(kdas_last_error(), "reserved"));
}

static void refuse_on_a_context(kdas_context *ctx)
{
    kdas_loss_options    loss;
    kdas_scene_options   scenes;
    kdas_loader_options  loader;
    kdas_overlay_options overlay;
    uint8_t              pixel[3] = { 0 };
    kdas_view     frame = { .data = pixel, .width = 1, .height = 1, .pixel = KDAS_PIXEL_RGB8 };
    kdas_view     mask  = { .data = pixel, .width = 1, .height = 1, .pixel = KDAS_PIXEL_GREY8 };
    kdas_loss    *made_loss;
    kdas_loader  *made_loader;
    kdas_dataset *dataset;

    kdas_loss_options_init(&loss, sizeof loss);
    loss.reserved = 1;
    expect_reserved(kdas_loss_create(&made_loss, ctx, &loss));
    kdas_overlay_options_init(&overlay, sizeof overlay);
    overlay.reserved = 1;
    expect_reserved(kdas_image_overlay(&frame, &mask, pixel, 0, &overlay));
    kdas_scene_options_init(&scenes, sizeof scenes);
    ck_assert_int_eq(kdas_dataset_synthetic(&dataset, ctx, &scenes), KDAS_OK);
    kdas_loader_options_init(&loader, sizeof loader);
    loader.reserved = 1;
    expect_reserved(kdas_loader_create(&made_loader, dataset, &loader));
    kdas_dataset_destroy(dataset);
}

static void refuse_on_a_model(kdas_model *model, kdas_loss *loss, kdas_optim *optim)
{
    kdas_distiller_options distiller;
    kdas_distiller        *made_distiller;

    kdas_distiller_options_init(&distiller, sizeof distiller);
    distiller.reserved = 1;
    expect_reserved(kdas_distiller_create(&made_distiller, NULL, model, loss, optim, &distiller));
}

START_TEST(reserved_room_is_zero)
{
    kdas_loss_options baseline;
    kdas_context     *ctx;
    kdas_model       *model;
    kdas_loss        *loss;
    kdas_optim       *optim;

    ck_assert_int_eq(kdas_context_create(&ctx, NULL), KDAS_OK);
    kdas_loss_options_init(&baseline, sizeof baseline);
    ck_assert_int_eq(kdas_loss_options_preset(&baseline, "baseline"), KDAS_OK);
    ck_assert_int_eq(kdas_model_create(&model, ctx, "lite_fpn0", NULL), KDAS_OK);
    ck_assert_int_eq(kdas_loss_create(&loss, ctx, &baseline), KDAS_OK);
    ck_assert_int_eq(kdas_optim_create(&optim, model, NULL), KDAS_OK);
    refuse_on_a_context(ctx);
    refuse_on_a_model(model, loss, optim);
    kdas_optim_destroy(optim);
    kdas_loss_destroy(loss);
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
}
END_TEST

/* An older program's report is shorter, a newer one's longer: what it has is filled, what we do not know is 0, and
 * nothing behind it is written. */
START_TEST(reports_of_any_size_are_filled)
{
    static const size_t sizes[] = { offsetof(kdas_loss_report, raw), offsetof(kdas_loss_report, on),
                                    sizeof(kdas_loss_report), sizeof(kdas_loss_report) + NEWER };
    size_t              size    = sizes[_i];
    unsigned char      *block   = filled(size + FENCE, 0xAA);
    float               numbers[4] = { 1, -1, 2, 0 }, target[4] = { 1, 0, 1, 0 };
    const float        *map[] = { numbers };
    kdas_maps           maps  = { .map = map, .maps = 1, .count = 1, .height = 2, .width = 2 };
    kdas_loss_report    whole = { .size = sizeof whole };
    kdas_loss_options   options;
    kdas_context       *ctx;
    kdas_loss          *loss;

    memcpy(block, &size, sizeof size);
    ck_assert_int_eq(kdas_context_create(&ctx, NULL), KDAS_OK);
    kdas_loss_options_init(&options, sizeof options);
    ck_assert_int_eq(kdas_loss_options_preset(&options, "baseline"), KDAS_OK);
    ck_assert_int_eq(kdas_loss_create(&loss, ctx, &options), KDAS_OK);
    ck_assert_int_eq(kdas_loss_evaluate(loss, &maps, NULL, target, NULL, &whole), KDAS_OK);
    ck_assert_int_eq(kdas_loss_evaluate(loss, &maps, NULL, target, NULL, (kdas_loss_report *)block),
                     KDAS_OK);
    ck_assert(whole.total > 0 && whole.terms == KDAS_TERMS && whole.size == sizeof whole);
    whole.size = size;
    for (size_t i = 0; i < size + FENCE; i++)
        ck_assert_msg(block[i] == (i >= size          ? 0xAA
                                   : i < sizeof whole ? ((unsigned char *)&whole)[i]
                                                      : 0),
                      "byte %zu of a report of %zu bytes is %d", i, size, block[i]);
    kdas_loss_destroy(loss);
    kdas_context_destroy(ctx);
    free(block);
}
END_TEST

/* ---- truth values and enumerations: docs/abi.md, "How declarations are made" ---- */

/* The images of the first batch of a loader with such values. */
static float *first_images(kdas_dataset *frames, int32_t truth)
{
    kdas_loader_options o;
    kdas_loader        *loader;
    kdas_batch         *batch;
    float              *images = (float *)filled(2 * 32 * 32 * 3 * sizeof(float), 0);

    kdas_loader_options_init(&o, sizeof o);
    o.batch  = 2;
    o.height = o.width = 32;
    o.shuffle = o.augment = truth;
    o.workers             = 0;
    ck_assert_int_eq(kdas_loader_create(&loader, frames, &o), KDAS_OK);
    ck_assert_int_eq(kdas_loader_next(loader, &batch), KDAS_OK);
    memcpy(images, kdas_batch_images(batch), 2 * 32 * 32 * 3 * sizeof(float));
    kdas_loader_destroy(loader);
    return images;
}

START_TEST(any_truth_value_but_0_counts_as_1)
{
    const int32_t        values[] = { 2, -1, INT32_MIN };
    kdas_context_options co;
    kdas_model_options   mo;
    kdas_scene_options   so;
    kdas_context        *ctx;
    kdas_model          *model;
    kdas_optim          *optim;
    kdas_dataset        *frames;
    float               *one, *zero, *other;

    kdas_context_options_init(&co, sizeof co);
    co.deterministic = co.pin_threads = values[_i];
    ck_assert_int_eq(kdas_context_create(&ctx, &co), KDAS_OK);
    kdas_model_options_init(&mo, sizeof mo);
    mo.trainable = values[_i];
    mo.quantize  = KDAS_QUANTIZE_INT8;
    ck_assert_int_eq(kdas_model_create(&model, ctx, "lite_fpn0", &mo), KDAS_OK);
    ck_assert_int_eq(kdas_optim_create(&optim, model, NULL), KDAS_OK);
    ck_assert_int_eq(kdas_model_hold_ranges(model, values[_i]), KDAS_OK);
    ck_assert_int_eq(kdas_model_ranges_held(model), 1);
    kdas_optim_destroy(optim);
    kdas_model_destroy(model);
    kdas_scene_options_init(&so, sizeof so);
    so.count = 8;
    so.width = so.height = 48;
    ck_assert_int_eq(kdas_dataset_synthetic(&frames, ctx, &so), KDAS_OK);
    zero  = first_images(frames, 0);
    one   = first_images(frames, 1);
    other = first_images(frames, values[_i]);
    ck_assert_int_ne(memcmp(zero, one, 2 * 32 * 32 * 3 * sizeof(float)), 0);
    ck_assert_int_eq(memcmp(other, one, 2 * 32 * 32 * 3 * sizeof(float)), 0);
    free(zero);
    free(one);
    free(other);
    kdas_dataset_destroy(frames);
    kdas_context_destroy(ctx);
}
END_TEST

/* The status of a call with a value of an enumeration that it does not have; the sentence has it. */
#define REFUSES(set, call)                                                                      \
    do {                                                                                        \
        set;                                                                                    \
        ck_assert_msg((call) == KDAS_EINVAL, #set " is not refused");                           \
        ck_assert_msg(strstr(kdas_last_error(), number) != NULL, #set ": the sentence is '%s'", \
                      kdas_last_error());                                                       \
    } while (0)

START_TEST(values_that_an_enumeration_does_not_have_are_refused)
{
    const int32_t           bad    = _i ? 99 : -7;
    const char             *number = _i ? "99" : "-7";
    kdas_context_options    co;
    kdas_dataset_options    d;
    kdas_model_options      mo;
    kdas_onnx_options       x;
    kdas_calibrator_options c;
    kdas_context           *ctx, *other;
    kdas_dataset           *frames;
    kdas_model             *model, *none;
    kdas_calibrator        *calibrator;
    kdas_batch             *batch;

    ck_assert_int_eq(kdas_context_create(&ctx, NULL), KDAS_OK);
    kdas_model_options_init(&mo, sizeof mo);
    ck_assert_int_eq(kdas_model_create(&model, ctx, "lite_fpn0", &mo), KDAS_OK);
    ck_assert_int_eq(kdas_batch_create(&batch, ctx, 1, 32, 32), KDAS_OK);
    kdas_context_options_init(&co, sizeof co);
    REFUSES(co.precision = bad, kdas_context_create(&other, &co));
    kdas_context_options_init(&co, sizeof co);
    REFUSES(co.wait = bad, kdas_context_create(&other, &co));
    kdas_dataset_options_init(&d, sizeof d);
    REFUSES(d.bad_file = bad, kdas_dataset_open(&frames, ctx, "nowhere", &d));
    kdas_dataset_options_init(&d, sizeof d);
    REFUSES(d.mask_rule = bad, kdas_dataset_open(&frames, ctx, "nowhere", &d));
    REFUSES(mo.quantize = bad, kdas_model_create(&none, ctx, "lite_fpn0", &mo));
    kdas_onnx_options_init(&x, sizeof x);
    REFUSES(x.input = bad, kdas_model_export_onnx(model, "nowhere/x.onnx", &x));
    kdas_onnx_options_init(&x, sizeof x);
    REFUSES(x.layout = bad, kdas_model_export_onnx(model, "nowhere/x.onnx", &x));
    kdas_onnx_options_init(&x, sizeof x);
    REFUSES(x.maps = bad, kdas_model_export_onnx(model, "nowhere/x.onnx", &x));
    kdas_calibrator_options_init(&c, sizeof c);
    REFUSES(c.method = bad, kdas_calibrator_create(&calibrator, model, &c));
    REFUSES((void)0, kdas_model_forward(model, (kdas_mode)bad, batch));
    REFUSES((void)0, kdas_model_cost(ctx, "lite_fpn0", 32, 32, (kdas_count_rule)bad, NULL, NULL));
    kdas_batch_destroy(batch);
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(the_headers_declare_option_structs)
{
    int found = 0;

    for (int i = 0; i < TYPES; i++)
        found += strcmp(types[i].name, "kdas_context_options") == 0;
    ck_assert_int_eq(found, 1);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("abi: options");
    TCase   *rules  = tcase_create("rules");
    SRunner *runner = srunner_create(s);
    int      failed;

    tcase_add_test(rules, the_headers_declare_option_structs);
    tcase_add_test(rules, reserved_room_is_zero);
    tcase_add_loop_test(rules, reports_of_any_size_are_filled, 0, 4);
    tcase_add_loop_test(rules, any_truth_value_but_0_counts_as_1, 0, 3);
    tcase_add_loop_test(rules, values_that_an_enumeration_does_not_have_are_refused, 0, 2);
    tcase_add_loop_test(rules, init_sets_every_byte_and_no_other, 0, TYPES);
    tcase_add_loop_test(rules, init_fills_what_an_older_program_has, 0, TYPES);
    tcase_add_loop_test(rules, init_clears_what_a_newer_program_has, 0, TYPES);
    tcase_add_loop_test(rules, older_and_newer_programs_get_the_same_defaults, 0, TYPES);
    tcase_add_loop_test(rules, init_survives_null_and_a_size_too_small, 0, TYPES);
    suite_add_tcase(s, rules);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
