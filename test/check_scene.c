/* check_scene.c - synthetic scenes: the same everywhere, exact masks, not trivial. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/data.h>
#include "base/context.h"
#include "scene/scene.h"
#include "base/plain_math.h"
#include "support/check_util.h"

static void *plain_alloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}
static void plain_free(void *user, void *block)
{
    (void)user;
    free(block);
}
static kdas_context context = { .alloc = plain_alloc, .free = plain_free };

static kdas_scene_options options_for(int64_t width, int64_t height, int64_t count)
{
    kdas_scene_options o;

    kdas_scene_options_init(&o, sizeof o);
    o.width  = width;
    o.height = height;
    o.count  = count;
    return o;
}

struct drawn {
    kdas_image    *image, *mask;
    const uint8_t *rgb, *truth; /* (height,width,3), (height,width) */
    int64_t        n;
};

static struct drawn draw(const kdas_scene_options *o, int64_t i)
{
    struct drawn d = { .n = o->width * o->height };

    kd_assert_ok(kdas_scene_draw(&d.image, &d.mask, &context, i, o));
    d.rgb   = kdas_image_pixels(d.image);
    d.truth = kdas_image_pixels(d.mask);
    return d;
}

static void drop(struct drawn *d)
{
    kdas_image_destroy(d->image);
    kdas_image_destroy(d->mask);
}

static double share(const struct drawn *d)
{
    int64_t polyp = 0;

    for (int64_t i = 0; i < d->n; i++)
        polyp += d->truth[i] == 255;
    return (double)polyp / (double)d->n;
}

START_TEST(sine_from_plain_arithmetic_is_a_sine)
{
    for (int i = -4000; i <= 4000; i++) {
        double turns = i / 1000.0 + 1e-5;
        double s = kd_sin_turns(turns), c = kd_cos_turns(turns);

        ck_assert_double_eq_tol(s * s + c * c, 1, 1e-12);
        ck_assert_double_eq_tol(s, __builtin_sin(6.283185307179586 * turns), 1e-11);
        ck_assert_double_eq_tol(c, __builtin_cos(6.283185307179586 * turns), 1e-11);
    }
}
END_TEST

START_TEST(same_seed_gives_the_same_bits)
{
    kdas_scene_options o = options_for(80, 64, 8);

    for (int64_t i = 0; i < o.count; i++) {
        struct drawn a = draw(&o, i), b = draw(&o, i);

        ck_assert(kd_test_same_bits(a.rgb, b.rgb, (size_t)a.n * 3));
        ck_assert(kd_test_same_bits(a.truth, b.truth, (size_t)a.n));
        drop(&a);
        drop(&b);
    }
}
END_TEST

#define GOLDEN_HASH 0x24e59ab12cb32857u

/* The bits of a few scenes, as first drawn: another machine or compiler has to give them too.
 * Whoever changes the look of scenes writes the new number here. */
START_TEST(bits_are_those_of_other_machines)
{
    kdas_scene_options o = options_for(112, 96, 12);
    uint64_t           h = 0;

    for (int64_t i = 0; i < o.count; i++) {
        struct drawn d = draw(&o, i);

        h = kd_mix64(h ^ kd_hash_bytes(d.rgb, (size_t)d.n * 3));
        h = kd_mix64(h ^ kd_hash_bytes(d.truth, (size_t)d.n));
        drop(&d);
    }
    ck_assert_msg(h == GOLDEN_HASH, "the scenes hash to 0x%016llx", (unsigned long long)h);
}
END_TEST

START_TEST(other_seed_or_index_gives_another_scene)
{
    kdas_scene_options o = options_for(64, 64, 8), p = o;
    struct drawn       a = draw(&o, 0), b = draw(&o, 1), c;

    p.seed = 2;
    c      = draw(&p, 0);
    ck_assert(!kd_test_same_bits(a.rgb, b.rgb, (size_t)a.n * 3));
    ck_assert(!kd_test_same_bits(a.rgb, c.rgb, (size_t)a.n * 3));
    drop(&a);
    drop(&b);
    drop(&c);
}
END_TEST

START_TEST(size_changes_resolution_and_not_the_scene)
{
    kdas_scene_options small = options_for(96, 96, 20), large = options_for(192, 192, 20);
    int64_t            both = 0, either = 0;

    for (int64_t i = 0; i < small.count; i++) {
        struct drawn a = draw(&small, i), b = draw(&large, i);

        for (int64_t y = 0; y < 192; y++)
            for (int64_t x = 0; x < 192; x++) {
                bool s = a.truth[y / 2 * 96 + x / 2], l = b.truth[y * 192 + x];

                both += s && l;
                either += s || l;
            }
        drop(&a);
        drop(&b);
    }
    ck_assert_double_gt((double)both / (double)either, 0.9);
}
END_TEST

START_TEST(masks_are_binary_and_of_the_promised_sizes)
{
    kdas_scene_options o     = options_for(128, 96, 200);
    double             mean  = 0;
    int64_t            other = 0;

    for (int64_t i = 0; i < o.count; i++) {
        struct drawn d = draw(&o, i);

        for (int64_t k = 0; k < d.n; k++)
            other += d.truth[k] != 0 && d.truth[k] != 255;
        ck_assert_msg(share(&d) > 0.001 && share(&d) < 0.4, "scene %lld: %g", (long long)i,
                      share(&d));
        mean += share(&d) / (double)o.count;
        drop(&d);
    }
    ck_assert_int_eq(other, 0);
    ck_assert(mean > 0.02 && mean < 0.15);
}
END_TEST

/* The frame's geometry said once more: margins, and corners cut at 45 degrees. */
static bool outside(const kd_scene *s, int64_t x, int64_t y)
{
    double px = ((double)x + 0.5) / s->side, py = ((double)y + 0.5) / s->side, pixel = 1 / s->side;
    double right = (double)s->width / s->side, bottom = (double)s->height / s->side;
    double ex = (px < right - px ? px : right - px) - s->margin_x;
    double ey = (py < bottom - py ? py : bottom - py) - s->margin_y;

    return ex < -pixel || ey < -pixel || ex + ey < s->corner - 2 * pixel;
}

START_TEST(outside_the_endoscopes_frame_all_is_black_and_unmarked)
{
    kdas_scene_options o    = options_for(128, 96, 60);
    int64_t            seen = 0, bright = 0, marked = 0;

    for (int64_t i = 0; i < o.count; i++) {
        struct drawn d = draw(&o, i);
        kd_scene     s;

        kd_scene_plan(&s, &o, i);
        for (int64_t k = 0; k < d.n; k++) {
            if (!outside(&s, k % o.width, k / o.width)) continue;
            seen++;
            bright += d.rgb[3 * k] > 80; /* the blur brings in a little */
            marked += d.truth[k] != 0;
        }
        drop(&d);
    }
    ck_assert_int_gt(seen, 1000);
    ck_assert_int_eq(bright, 0);
    ck_assert_int_eq(marked, 0);
}
END_TEST

START_TEST(empty_is_the_share_of_scenes_without_polyps)
{
    kdas_scene_options o    = options_for(48, 48, 200);
    int                none = 0;

    o.empty = 0.5f;
    for (int64_t i = 0; i < o.count; i++) {
        struct drawn d = draw(&o, i);

        none += share(&d) == 0;
        drop(&d);
    }
    ck_assert(none > 70 && none < 130);
    o.empty = 1;
    for (int64_t i = 0; i < 20; i++) {
        struct drawn d = draw(&o, i);

        ck_assert(share(&d) == 0);
        drop(&d);
    }
}
END_TEST

/* Mean distance of a polyp's colour from its frame's mucosa. */
static double colour_distance(const struct drawn *d)
{
    double sum[2][3] = { { 0 } }, count[2] = { 0 }, distance = 0;

    for (int64_t i = 0; i < d->n; i++) {
        int in = d->truth[i] == 255;

        if (d->rgb[3 * i] < 40) continue;
        count[in]++;
        for (int c = 0; c < 3; c++)
            sum[in][c] += d->rgb[3 * i + c];
    }
    for (int c = 0; c < 3 && count[0] > 0 && count[1] > 0; c++) {
        double difference = sum[1][c] / count[1] - sum[0][c] / count[0];

        distance += difference * difference;
    }
    return __builtin_sqrt(distance);
}

START_TEST(contrast_moves_colours_and_not_masks)
{
    kdas_scene_options faint = options_for(96, 96, 40), strong = faint;
    double             sum[2] = { 0, 0 };

    faint.contrast  = 0;
    strong.contrast = 1;
    for (int64_t i = 0; i < faint.count; i++) {
        struct drawn a = draw(&faint, i), b = draw(&strong, i);

        ck_assert(kd_test_same_bits(a.truth, b.truth, (size_t)a.n));
        sum[0] += colour_distance(&a);
        sum[1] += colour_distance(&b);
        drop(&a);
        drop(&b);
    }
    ck_assert_double_gt(sum[1], 1.3 * sum[0]);
}
END_TEST

START_TEST(mucosa_is_red_before_green_before_blue)
{
    kdas_scene_options o = options_for(64, 64, 30);

    for (int64_t i = 0; i < o.count; i++) {
        struct drawn d      = draw(&o, i);
        int64_t      sum[3] = { 0 };

        for (int64_t k = 0; k < d.n; k++)
            for (int c = 0; c < 3; c++)
                sum[c] += d.rgb[3 * k + c];
        ck_assert(sum[0] > sum[1] && sum[1] > sum[2]);
        ck_assert(sum[0] > 60 * d.n && sum[0] < 220 * d.n);
        drop(&d);
    }
}
END_TEST

/* What a colour alone can tell: counts of polyp and other pixels for each value, from which every
 * threshold's overlap follows. */
START_TEST(no_threshold_on_a_colour_finds_the_polyps)
{
    static int64_t     count[3][256][2];
    kdas_scene_options o    = options_for(96, 96, 60);
    double             best = 0;

    memset(count, 0, sizeof count);
    for (int64_t i = 0; i < o.count; i++) {
        struct drawn d = draw(&o, i);

        for (int64_t k = 0; k < d.n; k++)
            for (int c = 0; c < 3; c++)
                count[c][d.rgb[3 * k + c]][d.truth[k] == 255]++;
        drop(&d);
    }
    for (int c = 0; c < 3; c++) {
        int64_t below[2] = { 0, 0 }, all[2] = { 0, 0 };

        for (int v = 0; v < 256; v++)
            for (int in = 0; in < 2; in++)
                all[in] += count[c][v][in];
        for (int v = 0; v < 256; v++) {
            double low, high;

            below[0] += count[c][v][0];
            below[1] += count[c][v][1];
            low  = (double)below[1] / (double)(below[0] + all[1]);
            high = (double)(all[1] - below[1]) / (double)(all[0] - below[0] + all[1]);
            best = low > best ? low : best;
            best = high > best ? high : best;
        }
    }
    ck_assert_double_lt(best, 0.4);
}
END_TEST

START_TEST(options_out_of_range_are_refused)
{
    kdas_scene_options good  = options_for(64, 64, 4), o;
    kdas_image        *image = NULL, *mask = NULL;

#define REFUSED(change, part)                                                       \
    o = good;                                                                       \
    change;                                                                         \
    kd_assert_status(kdas_scene_draw(&image, &mask, &context, 0, &o), KDAS_EINVAL); \
    kd_assert_sentence(part);                                                       \
    ck_assert(!image && !mask)
    REFUSED(o.count = 0, "count");
    REFUSED(o.width = 31, "31x64");
    REFUSED(o.height = 4097, "64x4097");
    REFUSED(o.empty = -0.1f, "empty");
    REFUSED(o.empty = __builtin_nanf(""), "empty");
    REFUSED(o.contrast = 1.5f, "contrast");
    REFUSED(o.size = 0, "size");
#undef REFUSED
    kd_assert_status(kdas_scene_draw(&image, &mask, &context, 4, &good), KDAS_EINVAL);
    kd_assert_sentence("scene 4 of 4");
    kd_assert_status(kdas_scene_draw(&image, &mask, &context, -1, &good), KDAS_EINVAL);
    kd_assert_status(kdas_scene_draw(NULL, &mask, &context, 0, &good), KDAS_EINVAL);
    kd_assert_status(kdas_scene_draw(&image, NULL, &context, 0, &good), KDAS_EINVAL);
    kd_assert_status(kdas_scene_draw(&image, &mask, NULL, 0, &good), KDAS_EINVAL);
}
END_TEST

START_TEST(extreme_shapes_are_drawn)
{
    static const int64_t sizes[][2] = { { 32, 32 }, { 32, 1024 }, { 1500, 33 }, { 640, 360 } };

    for (size_t i = 0; i < KD_COUNT(sizes); i++) {
        kdas_scene_options o = options_for(sizes[i][0], sizes[i][1], 3);

        for (int64_t k = 0; k < o.count; k++) {
            struct drawn d = draw(&o, k);
            kdas_view    v = kdas_image_view(d.image);

            ck_assert(v.width == sizes[i][0] && v.height == sizes[i][1]);
            ck_assert(share(&d) > 0);
            drop(&d);
        }
    }
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("scene");
    TCase   *tc     = tcase_create("scene");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_test(tc, sine_from_plain_arithmetic_is_a_sine);
    tcase_add_test(tc, same_seed_gives_the_same_bits);
    tcase_add_test(tc, bits_are_those_of_other_machines);
    tcase_add_test(tc, other_seed_or_index_gives_another_scene);
    tcase_add_test(tc, size_changes_resolution_and_not_the_scene);
    tcase_add_test(tc, masks_are_binary_and_of_the_promised_sizes);
    tcase_add_test(tc, outside_the_endoscopes_frame_all_is_black_and_unmarked);
    tcase_add_test(tc, empty_is_the_share_of_scenes_without_polyps);
    tcase_add_test(tc, contrast_moves_colours_and_not_masks);
    tcase_add_test(tc, mucosa_is_red_before_green_before_blue);
    tcase_add_test(tc, no_threshold_on_a_colour_finds_the_polyps);
    tcase_add_test(tc, options_out_of_range_are_refused);
    tcase_add_test(tc, extreme_shapes_are_drawn);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
