/* metric_util.c - evaluators and figures for the tests of the measures. */
#include "support/metric_util.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include "support/check_util.h"

kd_test_memory  kd_test_heap = { .fail = -1 };
kdas_context   *kd_ctx;
kdas_evaluator *kd_eval;

static void *counted_alloc(void *user, size_t bytes)
{
    kd_test_memory *heap = user;
    void           *block;

    if (heap->fail >= 0 && heap->fail-- == 0) return NULL;
    block = malloc(bytes);
    heap->live += block != NULL;
    return block;
}

static void counted_free(void *user, void *block)
{
    kd_test_memory *heap = user;

    heap->live -= block != NULL;
    free(block);
}

kdas_context *kd_test_context(int threads)
{
    kdas_context_options options;
    kdas_context        *made;

    kdas_context_options_init(&options, sizeof options);
    options.threads    = threads;
    options.alloc      = counted_alloc;
    options.free       = counted_free;
    options.alloc_user = &kd_test_heap;
    kd_assert_ok(kdas_context_create(&made, &options));
    return made;
}

void kd_test_evaluator_start(void)
{
    kd_test_heap = (kd_test_memory){ .fail = -1 };
    kd_ctx       = kd_test_context(1);
    kd_assert_ok(kdas_evaluator_create(&kd_eval, kd_ctx));
}

void kd_test_evaluator_finish(void)
{
    kdas_evaluator_destroy(kd_eval);
    kdas_context_destroy(kd_ctx);
    ck_assert_int_eq(kd_test_heap.live, 0);
}

kdas_view kd_test_grey(const void *data, int64_t width, int64_t height)
{
    return (kdas_view){ data, width, height, 0, KDAS_PIXEL_GREY8 };
}

void kd_test_add(const void *prediction, const void *truth, int64_t width, int64_t height)
{
    kdas_view p = kd_test_grey(prediction, width, height), g = kd_test_grey(truth, width, height);

    kd_assert_ok(kdas_evaluator_add(kd_eval, NULL, &p, &g));
}

double kd_test_figure(const kdas_evaluator *evaluator, int64_t i, kdas_metric metric)
{
    double value = -1;

    kd_assert_ok(kdas_evaluator_get(evaluator, i, metric, &value));
    return value;
}

void kd_test_assert_figure(int64_t i, kdas_metric metric, double want, double tolerance)
{
    double got = kd_test_figure(kd_eval, i, metric);

    if (isnan(want) ? isnan(got) : fabs(got - want) <= tolerance) return;
    ck_abort_msg("%s of image %lld is %.17g, not %.17g", kdas_metric_name(metric), (long long)i,
                 got, want);
}

void kd_test_pair(uint8_t *map, uint8_t *mask, int64_t width, int64_t height, const char *name)
{
    float *ellipse = malloc((size_t)(width * height) * sizeof *ellipse);

    kd_test_ellipses(ellipse, 1, height, width, name);
    for (int64_t i = 0; i < width * height; i++) {
        double noise = kd_test_unit(name, (uint64_t)i + 100);

        mask[i] = ellipse[i] > 0 ? 255 : 0;
        map[i]  = (uint8_t)(127.5 + 60 * noise + (ellipse[i] > 0 ? 60 : -60));
    }
    free(ellipse);
}
