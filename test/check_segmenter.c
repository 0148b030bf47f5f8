/* check_segmenter.c - frames of any size and pixel order to logits, masks and probabilities. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "model/model.h"
#include "support/check_util.h"
#include "support/run_util.h"

#define SIDE 64 /* of the network's input */

static kd_test_meter meter;
static kdas_context *ctx;
static kdas_model   *model;

static void setup(void)
{
    kdas_model_options o;

    memset(&meter, 0, sizeof meter);
    ctx = kd_test_device("cpu", &meter);
    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&model, ctx, "polyp_pvt_b0", &o));
}

static void teardown(void)
{
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

static kdas_segmenter *open_segmenter(int64_t frame_height, int64_t frame_width, float threshold)
{
    kdas_segmenter_options o;
    kdas_segmenter        *s;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    o.frame_height     = frame_height;
    o.frame_width      = frame_width;
    o.threshold        = threshold;
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    return s;
}

/* A picture with structure at several scales; the caller frees its pixels. */
static kdas_view picture(int64_t width, int64_t height, const char *name)
{
    uint8_t *rgb = malloc((size_t)(width * height * 3));

    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                rgb[(y * width + x) * 3 + c] =
                    (uint8_t)(128 + 80 * sin(0.2 * (double)(x + 2 * c)) * cos(0.13 * (double)y) +
                              40 * kd_test_unit(name, (uint64_t)((y * width + x) * 3 + c)));
    return (kdas_view){ rgb, width, height, 0, KDAS_PIXEL_RGB8 };
}

/* The same picture in another order; `extra` samples of rubbish end each row. */
static kdas_view repacked(const kdas_view *rgb, kdas_pixel pixel, int64_t extra)
{
    static const struct {
        int samples, red, blue;
    } orders[]       = { [KDAS_PIXEL_GREY8] = { 1, 0, 0 }, [KDAS_PIXEL_RGB8] = { 3, 0, 2 },
                         [KDAS_PIXEL_BGR8] = { 3, 2, 0 },  [KDAS_PIXEL_RGBA8] = { 4, 0, 2 },
                         [KDAS_PIXEL_BGRA8] = { 4, 2, 0 }, [KDAS_PIXEL_GREYF32] = { 1, 0, 0 },
                         [KDAS_PIXEL_RGBF32] = { 3, 0, 2 } };
    bool     floats  = pixel == KDAS_PIXEL_GREYF32 || pixel == KDAS_PIXEL_RGBF32;
    int      samples = orders[pixel].samples;
    int64_t  row     = rgb->width * samples + extra;
    float   *wide    = malloc((size_t)(row * rgb->height) * sizeof *wide);
    uint8_t *narrow  = (uint8_t *)wide;

    for (int64_t i = 0; i < row * rgb->height; i++) {
        if (floats)
            wide[i] = 1e9f;
        else
            narrow[i] = 77;
    }
    for (int64_t y = 0; y < rgb->height; y++)
        for (int64_t x = 0; x < rgb->width; x++)
            for (int c = 0; c < KD_MIN(samples, 3); c++) {
                int64_t at = y * row + x * samples +
                             (c == 0   ? orders[pixel].red
                              : c == 2 ? orders[pixel].blue
                                       : 1);
                uint8_t v = ((const uint8_t *)rgb->data)[(y * rgb->width + x) * 3 + c];

                if (samples == 1) at = y * row + x;
                if (floats)
                    wide[at] = (float)v / 255.0f;
                else
                    narrow[at] = v;
            }
    return (kdas_view){ wide, rgb->width, rgb->height, row * (floats ? (int64_t)sizeof(float) : 1),
                        pixel };
}

/* P1 + P2 at the network's size for an 8-bit RGB picture of that size, by hand. */
static void by_hand(float *sum, const uint8_t *rgb)
{
    const float mean[] = { .485f, .456f, .406f }, deviation[] = { .229f, .224f, .225f };
    float      *images = malloc(SIDE * SIDE * 3 * sizeof *images);
    float      *p2     = malloc(SIDE * SIDE * sizeof *p2);

    for (int i = 0; i < SIDE * SIDE * 3; i++)
        images[i] = ((float)rgb[i] / 255.0f - mean[i % 3]) / deviation[i % 3];
    kd_assert_ok(kd_model_run(model, KD_INFER, images, 1, SIDE, SIDE));
    kd_assert_ok(kdas_model_read_output(model, "P1", sum));
    kd_assert_ok(kdas_model_read_output(model, "P2", p2));
    for (int i = 0; i < SIDE * SIDE; i++)
        sum[i] += p2[i];
    free(images);
    free(p2);
}

/* Bilinear with half-pixel centres, one output at a time. */
static double sample(const float *map, int64_t height, int64_t width, double y, double x)
{
    int64_t y0, x0, y1, x1;

    y  = fmax(y, 0);
    x  = fmax(x, 0);
    y0 = (int64_t)y;
    x0 = (int64_t)x;
    y1 = KD_MIN(y0 + 1, height - 1);
    x1 = KD_MIN(x0 + 1, width - 1);
    y -= (double)y0;
    x -= (double)x0;
    return (1 - y) * ((1 - x) * map[y0 * width + x0] + x * map[y0 * width + x1]) +
           y * ((1 - x) * map[y1 * width + x0] + x * map[y1 * width + x1]);
}

START_TEST(a_frame_of_the_networks_size_gives_the_sum_of_its_maps)
{
    kdas_segmenter *s     = open_segmenter(0, 0, 0.5f);
    kdas_view       frame = picture(SIDE, SIDE, "same");
    float           want[SIDE * SIDE], got[SIDE * SIDE];

    kd_assert_ok(kdas_segmenter_logits(s, &frame, got));
    by_hand(want, frame.data);
    ck_assert(kd_test_same_bits(got, want, sizeof got));
    ck_assert_float_ne(got[0], got[SIDE * SIDE / 2 + SIDE / 2]);
    free((void *)frame.data);
    kdas_segmenter_destroy(s);
}
END_TEST

static const int64_t sizes[][2] = { { 97, 51 }, { 200, 150 }, { 33, 64 }, { 1, 1 }, { 5, 300 } };

START_TEST(a_frame_of_another_size_is_resized_and_its_logits_enlarged)
{
    int64_t         width = sizes[_i][0], height = sizes[_i][1];
    kdas_segmenter *s     = open_segmenter(height, width, 0.5f);
    kdas_view       frame = picture(width, height, "other"), small;
    float          *got   = malloc((size_t)(width * height) * sizeof *got);
    float          *want  = malloc((size_t)(width * height) * sizeof *want);
    float           sum[SIDE * SIDE];
    kdas_image     *image;

    kd_assert_ok(kdas_segmenter_logits(s, &frame, got));
    kd_assert_ok(kdas_image_resize(&image, ctx, &frame, SIDE, SIDE));
    small = kdas_image_view(image);
    by_hand(sum, small.data);
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            want[y * width + x] =
                (float)sample(sum, SIDE, SIDE, ((double)y + 0.5) * SIDE / (double)height - 0.5,
                              ((double)x + 0.5) * SIDE / (double)width - 0.5);
    kd_assert_close(got, want, width * height, 1e-6);
    kdas_image_destroy(image);
    free(got);
    free(want);
    free((void *)frame.data);
    kdas_segmenter_destroy(s);
}
END_TEST

static const kdas_pixel orders[] = { KDAS_PIXEL_RGB8, KDAS_PIXEL_BGR8, KDAS_PIXEL_RGBA8,
                                     KDAS_PIXEL_BGRA8, KDAS_PIXEL_RGBF32 };

START_TEST(pixel_order_and_stride_do_not_matter)
{
    enum { W = 50, H = 70 };
    kdas_segmenter *s     = open_segmenter(H, W, 0.5f);
    kdas_view       frame = picture(W, H, "orders");
    kdas_view       other = repacked(&frame, orders[_i], 3 * _i);
    float           want[W * H], got[W * H];

    kd_assert_ok(kdas_segmenter_logits(s, &frame, want));
    kd_assert_ok(kdas_segmenter_logits(s, &other, got));
    /* float pixels are not rounded to 8 bits between the passes of the resize */
    kd_assert_close(got, want, W * H, orders[_i] == KDAS_PIXEL_RGBF32 ? 0.03 : 0);
    free((void *)frame.data);
    free((void *)other.data);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(grey_pixels_stand_for_all_three_colours)
{
    kdas_segmenter *s     = open_segmenter(SIDE, SIDE, 0.5f);
    kdas_view       frame = picture(SIDE, SIDE, "grey");
    uint8_t        *rgb   = (uint8_t *)frame.data;
    kdas_view       grey, greyf;
    float           want[SIDE * SIDE], got[SIDE * SIDE];

    for (int i = 0; i < SIDE * SIDE; i++)
        rgb[3 * i] = rgb[3 * i + 2] = rgb[3 * i + 1];
    grey  = repacked(&frame, KDAS_PIXEL_GREY8, 5);
    greyf = repacked(&frame, KDAS_PIXEL_GREYF32, 5);
    kd_assert_ok(kdas_segmenter_logits(s, &frame, want));
    kd_assert_ok(kdas_segmenter_logits(s, &grey, got));
    ck_assert(kd_test_same_bits(got, want, sizeof got));
    kd_assert_ok(kdas_segmenter_logits(s, &greyf, got));
    ck_assert(kd_test_same_bits(got, want, sizeof got));
    free((void *)frame.data);
    free((void *)grey.data);
    free((void *)greyf.data);
    kdas_segmenter_destroy(s);
}
END_TEST

/* A threshold in the middle of what the network says, so that the mask has both kinds. */
static float middle(const float *logits, int64_t n)
{
    float low = logits[0], high = logits[0];

    for (int64_t i = 0; i < n; i++) {
        low  = fminf(low, logits[i]);
        high = fmaxf(high, logits[i]);
    }
    return 1 / (1 + expf(-(low + high) / 2));
}

START_TEST(masks_and_probabilities_follow_the_logits_and_keep_to_their_rows)
{
    enum { W = 90, H = 60, STRIDE = 100 };
    kdas_segmenter *s     = open_segmenter(0, 0, 0.5f);
    kdas_view       frame = picture(W, H, "mask");
    float           logits[W * H], threshold;
    uint8_t         mask[STRIDE * H], packed[W * H], probability[STRIDE * H];
    int             polyp = 0;

    kd_assert_ok(kdas_segmenter_logits(s, &frame, logits));
    kdas_segmenter_destroy(s);
    threshold = middle(logits, W * H);
    s         = open_segmenter(H, W, threshold);
    memset(mask, 9, sizeof mask);
    memset(probability, 9, sizeof probability);
    kd_assert_ok(kdas_segmenter_mask(s, &frame, mask, STRIDE));
    kd_assert_ok(kdas_segmenter_mask(s, &frame, packed, 0));
    kd_assert_ok(kdas_segmenter_probability(s, &frame, probability, STRIDE));
    for (int y = 0; y < H; y++)
        for (int x = 0; x < STRIDE; x++) {
            double p = 1 / (1 + exp(-(double)logits[y * W + KD_MIN(x, W - 1)]));

            if (x >= W) { /* beyond the row: not ours */
                ck_assert_int_eq(mask[y * STRIDE + x], 9);
                ck_assert_int_eq(probability[y * STRIDE + x], 9);
                continue;
            }
            ck_assert_int_eq(mask[y * STRIDE + x], packed[y * W + x]);
            if (fabs(p - threshold) > 1e-6)
                ck_assert_int_eq(mask[y * STRIDE + x], p > threshold ? 255 : 0);
            ck_assert_double_le(fabs(probability[y * STRIDE + x] - 255 * p), 0.5001);
            polyp += mask[y * STRIDE + x] == 255;
        }
    ck_assert_int_gt(polyp, 0);
    ck_assert_int_lt(polyp, W * H);
    free((void *)frame.data);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_threshold_of_0_takes_all_and_of_1_nothing)
{
    kdas_view frame = picture(SIDE, SIDE, "edge");
    uint8_t   mask[SIDE * SIDE];

    for (int t = 0; t < 2; t++) {
        kdas_segmenter *s = open_segmenter(0, 0, (float)t);

        kd_assert_ok(kdas_segmenter_mask(s, &frame, mask, 0));
        for (int i = 0; i < SIDE * SIDE; i++)
            ck_assert_int_eq(mask[i], t ? 0 : 255);
        kdas_segmenter_destroy(s);
    }
    free((void *)frame.data);
}
END_TEST

START_TEST(nothing_is_allocated_after_opening)
{
    enum { W = 123, H = 77 };
    kdas_segmenter *s     = open_segmenter(H, W, 0.5f);
    kdas_view       frame = picture(W, H, "alloc");
    float           logits[W * H];
    uint8_t         bytes[W * H];
    long            taken = meter.taken;

    for (int pixel = KDAS_PIXEL_GREY8; pixel <= KDAS_PIXEL_RGBF32; pixel++) {
        kdas_view view = repacked(&frame, (kdas_pixel)pixel, 0);

        kd_assert_ok(kdas_segmenter_logits(s, &view, logits));
        kd_assert_ok(kdas_segmenter_mask(s, &view, bytes, 0));
        kd_assert_ok(kdas_segmenter_probability(s, &view, bytes, 0));
        free((void *)view.data);
    }
    ck_assert_int_eq(meter.taken, taken);
    kdas_segmenter_destroy(s);

    s = open_segmenter(0, 0, 0.5f); /* of any size: the first of a size takes memory */
    kd_assert_ok(kdas_segmenter_mask(s, &frame, bytes, 0));
    taken = meter.taken;
    kd_assert_ok(kdas_segmenter_mask(s, &frame, bytes, 0));
    ck_assert_int_eq(meter.taken, taken);
    free((void *)frame.data);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(new_weights_of_the_model_are_used)
{
    kdas_segmenter *s     = open_segmenter(0, 0, 0.5f);
    kdas_view       frame = picture(SIDE, SIDE, "weights");
    int32_t         bias  = kdas_model_find(model, "out_CFM.bias");
    float           before[SIDE * SIDE], after[SIDE * SIDE], value;

    ck_assert_int_ge(bias, 0);
    kd_assert_ok(kdas_segmenter_logits(s, &frame, before));
    kd_assert_ok(kdas_model_read(model, bias, &value));
    value += 1;
    kd_assert_ok(kdas_model_write(model, bias, &value));
    kd_assert_ok(kdas_segmenter_logits(s, &frame, after));
    for (int i = 0; i < SIDE * SIDE; i++)
        ck_assert_float_eq_tol(after[i], before[i] + 1, 1e-5);
    free((void *)frame.data);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(logits_that_are_not_finite_are_refused)
{
    kdas_segmenter *s     = open_segmenter(0, 0, 0.5f);
    kdas_view       frame = picture(SIDE, SIDE, "nan");
    int32_t         bias  = kdas_model_find(model, "out_CFM.bias");
    uint8_t         mask[SIDE * SIDE];

    memset(mask, 9, sizeof mask);
    kd_assert_ok(kdas_model_write(model, bias, &(float){ NAN }));
    kd_assert_status(kdas_segmenter_mask(s, &frame, mask, 0), KDAS_ENUMERIC);
    kd_assert_sentence("polyp_pvt_b0");
    for (int i = 0; i < SIDE * SIDE; i++)
        ck_assert_int_eq(mask[i], 9);
    free((void *)frame.data);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_cancel_stops_it_and_can_be_forgotten)
{
    kdas_segmenter *s     = open_segmenter(0, 0, 0.5f);
    kdas_view       frame = picture(SIDE, SIDE, "cancel");
    uint8_t         mask[SIDE * SIDE];

    kdas_context_cancel(ctx);
    kd_assert_status(kdas_segmenter_mask(s, &frame, mask, 0), KDAS_ECANCELLED);
    kdas_context_resume(ctx);
    kd_assert_ok(kdas_segmenter_mask(s, &frame, mask, 0));
    free((void *)frame.data);
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- arguments and memory ---- */

START_TEST(frames_that_do_not_fit_are_refused_with_their_size)
{
    kdas_segmenter *s     = open_segmenter(40, 50, 0.5f);
    kdas_view       frame = picture(50, 40, "fit"), bad;
    uint8_t         mask[50 * 40];
    float           logits[50 * 40];

    kd_assert_ok(kdas_segmenter_mask(s, &frame, mask, 0));
    bad       = frame;
    bad.width = 49;
    kd_assert_status(kdas_segmenter_mask(s, &bad, mask, 0), KDAS_ESHAPE);
    kd_assert_sentence("49x40");
    bad        = frame;
    bad.stride = 10;
    kd_assert_status(kdas_segmenter_logits(s, &bad, logits), KDAS_EINVAL);
    bad      = frame;
    bad.data = NULL;
    kd_assert_status(kdas_segmenter_logits(s, &bad, logits), KDAS_EINVAL);
    bad       = frame;
    bad.pixel = (kdas_pixel)99;
    kd_assert_status(kdas_segmenter_logits(s, &bad, logits), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_mask(s, &frame, mask, 49), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_mask(s, &frame, mask, -1), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_mask(s, NULL, mask, 0), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_mask(s, &frame, NULL, 0), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_logits(NULL, &frame, logits), KDAS_EINVAL);
    free((void *)frame.data);
    kdas_segmenter_destroy(s);
    kdas_segmenter_destroy(NULL);
}
END_TEST

static void assert_refused(kdas_model *of, const kdas_segmenter_options *o, kdas_status status)
{
    kdas_segmenter *s = (kdas_segmenter *)&s;

    kd_assert_status(kdas_segmenter_create(&s, of, o), status);
    ck_assert_ptr_null(s);
}

START_TEST(options_out_of_range_are_refused)
{
    kdas_segmenter_options good, o;

    kdas_segmenter_options_init(&good, sizeof good);
    good.height = good.width = SIDE;
    o                        = good;
    o.height                 = 65;
    assert_refused(model, &o, KDAS_ESHAPE);
    o       = good;
    o.width = 0;
    assert_refused(model, &o, KDAS_ESHAPE);
    o           = good;
    o.threshold = 1.5f;
    assert_refused(model, &o, KDAS_EINVAL);
    o.threshold = NAN;
    assert_refused(model, &o, KDAS_EINVAL);
    o              = good;
    o.frame_height = 10; /* without a width */
    assert_refused(model, &o, KDAS_EINVAL);
    o.frame_width = -10;
    assert_refused(model, &o, KDAS_EINVAL);
    assert_refused(NULL, &good, KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_create(NULL, model, &good), KDAS_EINVAL);
}
END_TEST

START_TEST(a_backbone_without_maps_cannot_segment)
{
    kdas_segmenter_options o;
    kdas_model            *backbone;

    kdas_segmenter_options_init(&o, sizeof o);
    kd_assert_ok(kdas_model_create(&backbone, ctx, "pvt_v2_b0", NULL));
    assert_refused(backbone, &o, KDAS_EINVAL);
    kd_assert_sentence("pvt_v2_b0");
    kdas_model_destroy(backbone);
}
END_TEST

/* Every one of the first allocations fails in turn, then ever fewer of the rest. */
START_TEST(any_allocation_may_fail)
{
    kdas_segmenter_options o;
    kdas_segmenter        *s        = NULL;
    kdas_status            st       = KDAS_ENOMEM;
    int                    failures = 0;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = 32;
    o.frame_height     = 20;
    o.frame_width      = 30;
    for (long k = 1; st != KDAS_OK; k += 1 + k / 4) {
        meter.fail_at = meter.taken + k;
        st            = kdas_segmenter_create(&s, model, &o);
        meter.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_ptr_null(s);
        failures++;
    }
    ck_assert_int_gt(failures, 8);
    kdas_segmenter_destroy(s);
}
END_TEST

static Suite *segmenter_suite(void)
{
    Suite *s    = suite_create("segmenter");
    TCase *out  = tcase_create("what comes out");
    TCase *rest = tcase_create("arguments and memory");

    tcase_add_checked_fixture(out, setup, teardown);
    tcase_add_test(out, a_frame_of_the_networks_size_gives_the_sum_of_its_maps);
    tcase_add_loop_test(out, a_frame_of_another_size_is_resized_and_its_logits_enlarged, 0,
                        KD_COUNT(sizes));
    tcase_add_loop_test(out, pixel_order_and_stride_do_not_matter, 0, KD_COUNT(orders));
    tcase_add_test(out, grey_pixels_stand_for_all_three_colours);
    tcase_add_test(out, masks_and_probabilities_follow_the_logits_and_keep_to_their_rows);
    tcase_add_test(out, a_threshold_of_0_takes_all_and_of_1_nothing);
    tcase_add_test(out, new_weights_of_the_model_are_used);
    tcase_add_test(out, logits_that_are_not_finite_are_refused);
    tcase_add_test(out, a_cancel_stops_it_and_can_be_forgotten);
    suite_add_tcase(s, out);

    tcase_add_checked_fixture(rest, setup, teardown);
    tcase_add_test(rest, nothing_is_allocated_after_opening);
    tcase_add_test(rest, frames_that_do_not_fit_are_refused_with_their_size);
    tcase_add_test(rest, options_out_of_range_are_refused);
    tcase_add_test(rest, a_backbone_without_maps_cannot_segment);
    tcase_add_test(rest, any_allocation_may_fail);
    suite_add_tcase(s, rest);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(segmenter_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
