/* check_metric.c - the field's measures: against golden figures, real predictions, and the
 * definitions written out naively. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "io/file.h"
#include "io/safetensors.h"
#include "metric/metric.h"
#include "support/check_util.h"
#include "support/metric_util.h"

/* ---- golden figures and real predictions ---- */

/* Compare with a table of "[label] name value" lines; label "all" or an image's number. */
static void compare_with_table(const char *path, bool labelled, double tolerance)
{
    FILE   *file = fopen(path, "r");
    char    line[256], label[32] = "all", name[32];
    double  value;
    int64_t seen = 0;

    ck_assert_msg(file != NULL, "cannot open %s", path);
    while (fgets(line, sizeof line, file)) {
        int metric;

        if (line[0] == '#') continue;
        if (labelled)
            ck_assert_int_eq(sscanf(line, "%31s %31s %lf", label, name, &value), 3);
        else
            ck_assert_int_eq(sscanf(line, "%31s %lf", name, &value), 2);
        metric = kdas_metric_find(name);
        ck_assert_msg(metric >= 0, "%s names '%s', which is no metric", path, name);
        kd_test_assert_figure(strcmp(label, "all") ? atoi(label) : -1, metric, value, tolerance);
        seen++;
    }
    fclose(file);
    if (labelled) seen -= kdas_evaluator_count(kd_eval) * KDAS_METRICS;
    ck_assert_int_eq(seen, KDAS_METRICS);
}

static const char *fixture_folder(void)
{
    if (access("test/golden/fixtures/metrics.tsv", R_OK) == 0) return "test/golden/fixtures";
    return kd_test_shared("fixtures");
}

/* Add pairs pred0, gt0, pred1, gt1, ... (H,W) bytes, as many as the file has. */
static void add_golden_pairs(const char *path)
{
    kd_safetensors *file;

    kd_assert_ok(kd_safetensors_open(&file, kd_ctx, path));
    for (int i = 0;; i++) {
        const kd_st_tensor *map, *mask;
        uint8_t            *pixels;
        char                name[24];

        snprintf(name, sizeof name, "pred%d", i);
        map = kd_safetensors_find(file, name);
        snprintf(name, sizeof name, "gt%d", i);
        mask = kd_safetensors_find(file, name);
        if (!map || !mask) break;
        ck_assert(map->dtype == KD_ST_U8 && mask->dtype == KD_ST_U8 && map->rank == 2);
        ck_assert_int_eq(map->count, mask->count);
        pixels = malloc(2 * (size_t)map->count);
        kd_assert_ok(kd_safetensors_read(file, map, pixels));
        kd_assert_ok(kd_safetensors_read(file, mask, pixels + map->count));
        kd_test_add(pixels, pixels + map->count, map->dim[1], map->dim[0]);
        free(pixels);
    }
    kd_safetensors_close(file);
    ck_assert_int_gt(kdas_evaluator_count(kd_eval), 0);
}

START_TEST(golden_figures_are_met)
{
    const char *folder = fixture_folder();
    char        path[600];

    if (!folder) return;
    snprintf(path, sizeof path, "%s/metrics.safetensors", folder);
    add_golden_pairs(path);
    snprintf(path, sizeof path, "%s/metrics.tsv", folder);
    compare_with_table(path, true, 1e-12);
}
END_TEST

static const char *const real_sets[] = { "Kvasir", "CVC-ClinicDB" };

START_TEST(published_predictions_give_published_figures)
{
    const char *set = real_sets[_i], *shared = kd_test_shared("data/pranet-predictions");
    char        path[600];
    kd_names    names = { 0 };

    if (!shared) return;
    snprintf(path, sizeof path, "../shared/data/pranet-predictions/%s", set);
    kd_assert_ok(kd_list_folder(&names, kd_ctx, path));
    for (size_t i = 0; i < names.count; i++) {
        kdas_image *map, *mask;
        kdas_view   p, g;

        snprintf(path, sizeof path, "../shared/data/pranet-predictions/%s/%s", set, names.name[i]);
        kd_assert_ok(kdas_image_load(&map, kd_ctx, path, KDAS_PIXEL_GREY8));
        snprintf(path, sizeof path, "../shared/data/polyp/TestDataset/%s/masks/%s", set,
                 names.name[i]);
        kd_assert_ok(kdas_image_load(&mask, kd_ctx, path, KDAS_PIXEL_GREY8));
        p = kdas_image_view(map);
        g = kdas_image_view(mask);
        kd_assert_ok(kdas_evaluator_add(kd_eval, names.name[i], &p, &g));
        kdas_image_destroy(map);
        kdas_image_destroy(mask);
    }
    ck_assert_int_eq(kdas_evaluator_count(kd_eval), (int64_t)names.count);
    kd_names_clear(&names, kd_ctx);
    snprintf(path, sizeof path, "../shared/data/pranet-predictions/%s.tsv", set);
    compare_with_table(path, false, 1e-9);
}
END_TEST

/* ---- the definitions, pixel by pixel and threshold by threshold ---- */

/* Naive: every pixel at every threshold. Thresholds as NumPy's linspace(1, 0, 256) makes them. */
static void naive_curves(double out[KD_CURVES][KD_THRESHOLDS], const uint8_t *map,
                         const uint8_t *mask, int64_t n)
{
    for (int j = 0; j < KD_THRESHOLDS; j++) {
        volatile double step      = j * (-1.0 / 255);
        double          threshold = j == 255 ? 0 : 1 + step;
        double          tp = 0, positives = 0, polyp = 0, em = 0;

        for (int64_t i = 0; i < n; i++) {
            int b = map[i] / 255.0 >= threshold, g = mask[i] / 255.0 > 0.5;

            tp += b && g;
            positives += b;
            polyp += g;
        }
        for (int64_t i = 0; i < n; i++) {
            double b = map[i] / 255.0 >= threshold, g = mask[i] / 255.0 > 0.5;
            double u = b - positives / (double)n, v = g - polyp / (double)n;

            em += polyp == 0   ? 1 - b
                  : polyp == n ? b
                               : pow(2 * u * v / (u * u + v * v + KD_EPS) + 1, 2) / 4;
        }
        out[KD_DICE][j] = tp > 0 ? 2 * tp / (polyp + positives) : 0;
        out[KD_IOU][j]  = tp > 0 ? tp / (polyp + positives - tp) : 0;
        out[KD_SEN][j]  = tp > 0 ? tp / polyp : 0;
        out[KD_SPE][j]  = tp > 0 ? ((double)n - polyp - positives + tp) / ((double)n - polyp) : 0;
        out[KD_EM][j]   = em / ((double)n - 1 + KD_EPS);
    }
}

/* Naive: the nearest polyp pixel by looking at all; of several the leftmost, then the upper one. */
static int64_t naive_nearest(const uint8_t *mask, int64_t width, int64_t height, int64_t x,
                             int64_t y, int64_t *square)
{
    int64_t best = -1;

    *square = INT64_MAX;
    for (int64_t u = 0; u < width; u++)
        for (int64_t v = 0; v < height; v++) {
            int64_t d = (u - x) * (u - x) + (v - y) * (v - y);

            if (mask[v * width + u] <= 127 || d >= *square) continue;
            *square = d;
            best    = v * width + u;
        }
    return best;
}

static double naive_weighted_f(const uint8_t *map, const uint8_t *mask, int64_t width,
                               int64_t height)
{
    double *carried = malloc((size_t)(width * height) * sizeof *carried);
    double  hit, miss = 0, false_hit = 0, polyp = 0, recall, precision;
    int64_t square;

    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            int64_t from = naive_nearest(mask, width, height, x, y, &square);

            double weight = 2 - exp(log(0.5) / 5 * sqrt((double)square));

            carried[y * width + x] = 1 - map[from] / 255.0;
            if (mask[y * width + x] <= 127) false_hit += weight * map[y * width + x] / 255;
        }
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            double sum = 0, weight = 0;

            if (mask[y * width + x] <= 127) continue;
            for (int64_t dy = -3; dy <= 3; dy++)
                for (int64_t dx = -3; dx <= 3; dx++) {
                    int64_t u = KD_MIN(KD_MAX(x + dx, 0), width - 1);
                    int64_t v = KD_MIN(KD_MAX(y + dy, 0), height - 1);
                    double  k = exp(-(double)(dx * dx + dy * dy) / 50);

                    sum += k * carried[v * width + u];
                    weight += k;
                }
            miss += fmin(sum / weight, carried[y * width + x]);
            polyp += 1;
        }
    free(carried);
    hit       = polyp - miss;
    recall    = 1 - miss / polyp;
    precision = hit / (hit + false_hit + KD_EPS);
    return 2 * recall * precision / (recall + precision + KD_EPS);
}

/* Naive: likeness of one region, from its definition: means first, then deviations. */
static double naive_region(const uint8_t *map, const uint8_t *mask, int64_t stride, int64_t width,
                           int64_t height)
{
    double n = (double)(width * height), k = n - 1 + KD_EPS;
    double x = 0, y = 0, xx = 0, yy = 0, xy = 0, alpha, beta;

    for (int64_t i = 0; i < width * height; i++) {
        x += map[i / width * stride + i % width] / 255.0 / n;
        y += (mask[i / width * stride + i % width] > 127) / n;
    }
    for (int64_t i = 0; i < width * height; i++) {
        double dx = map[i / width * stride + i % width] / 255.0 - x;
        double dy = (mask[i / width * stride + i % width] > 127) - y;

        xx += dx * dx / k;
        yy += dy * dy / k;
        xy += dx * dy / k;
    }
    alpha = 4 * x * y * xy;
    beta  = (x * x + y * y) * (xx + yy);
    return alpha != 0 ? alpha / (beta + KD_EPS) : beta == 0;
}

/* Naive: likeness of the map's values (or what they lack to 1) on one class of the mask. */
static double naive_object(const uint8_t *map, const uint8_t *mask, int64_t n, bool polyp)
{
    double count = 0, mean = 0, variance = 0;

    for (int64_t i = 0; i < n; i++) {
        if ((mask[i] > 127) != polyp) continue;
        count += 1;
        mean += (polyp ? map[i] : 255 - map[i]) / 255.0;
    }
    mean /= count;
    for (int64_t i = 0; i < n; i++)
        if ((mask[i] > 127) == polyp)
            variance += pow((polyp ? map[i] : 255 - map[i]) / 255.0 - mean, 2) / count;
    return count / (double)n * 2 * mean / (mean * mean + 1 + sqrt(variance) + KD_EPS);
}

/* Naive: structure measure of a mask with both classes, for the centre that the caller says. */
static double naive_s_measure(const uint8_t *map, const uint8_t *mask, int64_t width,
                              int64_t height, int64_t row, int64_t column)
{
    int64_t n   = width * height;
    double  sum = naive_object(map, mask, n, true) + naive_object(map, mask, n, false);

    for (int part = 0; part < 4; part++) {
        int64_t top = part / 2 ? row : 0, left = part % 2 ? column : 0;
        int64_t h = part / 2 ? height - row : row, w = part % 2 ? width - column : column;
        int64_t at = top * width + left;

        if (w > 0 && h > 0)
            sum += naive_region(map + at, mask + at, width, w, h) * (double)(w * h) / (double)n;
    }
    return fmax(0, sum / 2);
}

/* Sizes, some with sides shorter than the blur's window, and the share of the mask that is polyp:
 * around sparse polyp many pixels have several nearest ones. */
static const struct {
    int64_t width, height;
    double  share;
} shapes[] = {
    { 1, 2, 0.5 },    { 17, 1, 0.2 },  { 1, 23, 0.1 }, { 2, 2, 0.5 },    { 5, 3, 0.9 },
    { 16, 16, 0.02 }, { 31, 9, 0.05 }, { 8, 40, 0.3 }, { 24, 24, 0.01 }, { 33, 29, 0.6 },
};

/* Random map and mask of shape _i; the mask holds both classes. */
static void make_shape(int i, uint8_t *map, uint8_t *mask)
{
    int64_t n = shapes[i].width * shapes[i].height;
    char    name[32];

    snprintf(name, sizeof name, "metric.shape.%d", i);
    for (int64_t k = 0; k < n; k++) {
        map[k]  = (uint8_t)(kd_test_unit(name, 2 * (uint64_t)k) * 127.5 + 127.5);
        mask[k] = kd_test_unit(name, 2 * (uint64_t)k + 1) < 2 * shapes[i].share - 1 ? 255 : 0;
    }
    mask[n / 2] = 128;
    mask[0]     = 127;
}

#define MOST_PIXELS 1024

START_TEST(figures_follow_the_definitions)
{
    uint8_t                  map[MOST_PIXELS], mask[MOST_PIXELS];
    double                   curves[KD_CURVES][KD_THRESHOLDS], polyp = 0, row = 0, column = 0;
    static const kdas_metric means[KD_CURVES] = { KDAS_METRIC_MEAN_DICE, KDAS_METRIC_MEAN_IOU,
                                                  KDAS_METRIC_MEAN_SEN, KDAS_METRIC_MEAN_SPE,
                                                  KDAS_METRIC_MEAN_EM };
    static const kdas_metric bests[KD_CURVES] = { KDAS_METRIC_MAX_DICE, KDAS_METRIC_MAX_IOU,
                                                  KDAS_METRIC_MAX_SEN, KDAS_METRIC_MAX_SPE,
                                                  KDAS_METRIC_MAX_EM };

    make_shape(_i, map, mask);
    naive_curves(curves, map, mask, shapes[_i].width * shapes[_i].height);
    kd_test_add(map, mask, shapes[_i].width, shapes[_i].height);
    for (int c = 0; c < KD_CURVES; c++) {
        double mean = 0, best = 0;

        for (int j = 0; j < KD_THRESHOLDS; j++) {
            mean += curves[c][j] / KD_THRESHOLDS;
            best = fmax(best, curves[c][j]);
        }
        kd_test_assert_figure(0, means[c], mean, 1e-12);
        kd_test_assert_figure(0, bests[c], best, 1e-12);
    }
    for (int64_t i = 0; i < shapes[_i].width * shapes[_i].height; i++) {
        if (mask[i] <= 127) continue;
        polyp += 1;
        row += (double)(i / shapes[_i].width);
        column += (double)(i % shapes[_i].width);
    }
    kd_test_assert_figure(0, KDAS_METRIC_SM,
                          naive_s_measure(map, mask, shapes[_i].width, shapes[_i].height,
                                          llrint(row / polyp), llrint(column / polyp)),
                          1e-12);
    kd_test_assert_figure(0, KDAS_METRIC_WFM,
                          naive_weighted_f(map, mask, shapes[_i].width, shapes[_i].height), 1e-12);
}
END_TEST

START_TEST(a_centre_on_a_half_goes_to_the_even_pixel)
{
    /* Two rows and two columns of polyp: the centroid is 2.5 or 3.5 each way. */
    uint8_t map[64], mask[64];
    int64_t top = 2 + _i % 2, left = 2 + _i / 2;

    for (int64_t i = 0; i < 64; i++) {
        map[i] = (uint8_t)(kd_test_unit("metric.half", (uint64_t)i) * 127.5 + 127.5);
        mask[i] =
            i / 8 - top >= 0 && i / 8 - top < 2 && i % 8 - left >= 0 && i % 8 - left < 2 ? 255 : 0;
    }
    kd_test_add(map, mask, 8, 8);
    kd_test_assert_figure(0, KDAS_METRIC_SM,
                          naive_s_measure(map, mask, 8, 8, _i % 2 ? 4 : 2, _i / 2 ? 4 : 2), 1e-13);
}
END_TEST

START_TEST(structure_measure_is_never_negative)
{
    uint8_t map[MOST_PIXELS], mask[MOST_PIXELS];

    kd_test_pair(map, mask, 32, 32, "metric.inverse");
    for (int i = 0; i < MOST_PIXELS; i++)
        map[i] = 255 - mask[i];
    kd_test_add(map, mask, 32, 32);
    kd_test_assert_figure(0, KDAS_METRIC_SM, 0, 0);
}
END_TEST

START_TEST(nearest_polyp_pixel_is_exact_and_ties_go_left_then_up)
{
    uint8_t map[MOST_PIXELS], mask[MOST_PIXELS];
    int16_t rows[MOST_PIXELS], below[64];
    int32_t columns[64], squares[64], sites[64];
    int64_t width = shapes[_i].width, height = shapes[_i].height, square;
    kd_pair pair = { map, mask, width, height, width, width };

    make_shape(_i, map, mask);
    kd_nearest_rows(rows, below, &pair);
    for (int64_t y = 0; y < height; y++) {
        const int16_t *row = rows + y * width;

        kd_nearest_in_row(columns, squares, sites, row, y, width);
        for (int64_t x = 0; x < width; x++) {
            int64_t want = naive_nearest(mask, width, height, x, y, &square);

            ck_assert_int_eq(row[columns[x]] * width + columns[x], want);
            ck_assert_int_eq(squares[x], square);
        }
    }
}
END_TEST

START_TEST(thresholds_round_as_the_published_ones)
{
    /* With a single polyp pixel of value v, Sen is 1 from the first threshold that v reaches: 255 -
     * v, or the next where the threshold came out a rounding above v / 255. */
    uint8_t map[2] = { 0, 0 }, mask[2] = { 255, 0 };
    double  curves[KD_CURVES][KD_THRESHOLDS];
    kd_pair pair = { map, mask, 2, 1, 2, 2 };
    int     late = 0;

    for (int v = 1; v < 256; v++) {
        kd_tally tally;

        map[0] = (uint8_t)v;
        kd_tally_make(&tally, &pair);
        kd_curves(curves, &tally);
        if (v == 251 || v == 7) ck_assert_double_eq(curves[KD_SEN][255 - v], 0);
        if (v == 250 || v == 8) ck_assert_double_eq(curves[KD_SEN][255 - v], 1);
        ck_assert_double_eq(curves[KD_SEN][256 - v], 1);
        late += curves[KD_SEN][255 - v] == 0;
    }
    ck_assert_int_eq(late, 66);
}
END_TEST

/* ---- sets ---- */

START_TEST(a_set_is_the_mean_of_its_images_and_max_is_of_the_mean_curve)
{
    enum { W = 30, H = 20 };
    uint8_t map[3][W * H], mask[3][W * H];
    double  curves[KD_CURVES][KD_THRESHOLDS], mean[KD_THRESHOLDS] = { 0 }, best = 0, sum;

    for (int i = 0; i < 3; i++) {
        char name[32];

        snprintf(name, sizeof name, "metric.set.%d", i);
        kd_test_pair(map[i], mask[i], W, H, name);
        if (i == 1) /* fainter, so that its best threshold is another one */
            for (int k = 0; k < W * H; k++)
                map[i][k] /= 2;
        kd_test_add(map[i], mask[i], W, H);
        naive_curves(curves, map[i], mask[i], W * H);
        for (int j = 0; j < KD_THRESHOLDS; j++)
            mean[j] += curves[KD_DICE][j] / 3;
    }
    for (int j = 0; j < KD_THRESHOLDS; j++)
        best = fmax(best, mean[j]);
    kd_test_assert_figure(-1, KDAS_METRIC_MAX_DICE, best, 1e-12);
    for (int m = 0; m < KDAS_METRICS; m++) {
        sum = 0;
        for (int i = 0; i < 3; i++)
            sum += kd_test_figure(kd_eval, i, m);
        if (m == KDAS_METRIC_MAX_DICE)
            ck_assert_double_lt(best, sum / 3 - 0.01);
        else if (strncmp(kdas_metric_name(m), "max", 3) != 0)
            kd_test_assert_figure(-1, m, sum / 3, 1e-14);
    }
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("metric");
    TCase   *tests = tcase_create("metric");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(tests, kd_test_evaluator_start, kd_test_evaluator_finish);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, golden_figures_are_met);
    tcase_add_loop_test(tests, published_predictions_give_published_figures, 0,
                        KD_COUNT(real_sets));
    tcase_add_loop_test(tests, figures_follow_the_definitions, 0, KD_COUNT(shapes));
    tcase_add_loop_test(tests, a_centre_on_a_half_goes_to_the_even_pixel, 0, 4);
    tcase_add_test(tests, structure_measure_is_never_negative);
    tcase_add_loop_test(tests, nearest_polyp_pixel_is_exact_and_ties_go_left_then_up, 0,
                        KD_COUNT(shapes));
    tcase_add_test(tests, thresholds_round_as_the_published_ones);
    tcase_add_test(tests, a_set_is_the_mean_of_its_images_and_max_is_of_the_mean_curve);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
