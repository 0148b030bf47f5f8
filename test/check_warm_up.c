/* check_warm_up.c - what a warm-up does is not left for the first frame: allocations, also of the libraries below, and
 * threads are counted. malloc and pthread_create are the test's own here. */
#define _GNU_SOURCE
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/slow_device.h"

/* ---- malloc and pthread_create, counted ---- */

static atomic_long allocated, threads;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { COUNTED = 0 }; /* those functions are the sanitizer's */
#else
enum { COUNTED = 1 };
#define OURS __attribute__((visibility("default"))) /* the libraries below find them, too */

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

OURS void *malloc(size_t bytes)
{
    atomic_fetch_add(&allocated, 1);
    return __libc_malloc(bytes);
}
OURS void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocated, 1);
    return __libc_calloc(count, size);
}
OURS void *realloc(void *memory, size_t bytes)
{
    atomic_fetch_add(&allocated, 1);
    return __libc_realloc(memory, bytes);
}
OURS void *memalign(size_t align, size_t bytes)
{
    atomic_fetch_add(&allocated, 1);
    return __libc_memalign(align, bytes);
}
OURS void *aligned_alloc(size_t align, size_t bytes)
{
    atomic_fetch_add(&allocated, 1);
    return __libc_memalign(align, bytes);
}
OURS int posix_memalign(void **out, size_t align, size_t bytes)
{
    atomic_fetch_add(&allocated, 1);
    *out = __libc_memalign(align, bytes);
    return *out ? 0 : ENOMEM;
}

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

OURS int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                        void *argument)
{
    static create_fn real;

    if (!real) real = (create_fn)dlsym(RTLD_NEXT, "pthread_create");
    atomic_fetch_add(&threads, 1);
    return real(thread, attr, run, argument);
}
#endif

/* ---- what there is ---- */

enum { SIDE = 64, W = 90, H = 60 };

static const kdas_pixel kinds[] = {
    KDAS_PIXEL_GREY8, KDAS_PIXEL_RGB8, KDAS_PIXEL_BGRA8, KDAS_PIXEL_RGBF32,
    KDAS_PIXEL_NV12,  KDAS_PIXEL_I420, KDAS_PIXEL_P010,
};
enum { KINDS = KD_COUNT(kinds) };

static kd_test_meter meter;
static kdas_context *ctx;
static kdas_model   *model;
static float         memory[W * H * 4];
static uint8_t       mask[W * H], drawn[W * H * 4];

static kdas_view frame_of(kdas_pixel pixel)
{
    kdas_view v = { .data = memory, .width = W, .height = H, .pixel = pixel };

    v.chroma[0] = (char *)memory + 2 * W * H;
    v.chroma[1] = (char *)memory + 3 * W * H;
    return v;
}

static kdas_segmenter_options options(void)
{
    kdas_segmenter_options o;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    o.threshold        = 0.5f;
    o.smoothing        = 0.5f;
    o.hysteresis       = 0.25f;
    return o;
}

static kdas_segmenter *open_with(const kdas_segmenter_options *o)
{
    kdas_segmenter *s;

    kd_assert_ok(kdas_segmenter_create(&s, model, o));
    return s;
}

static void setup(void)
{
    kdas_model_options o;

    memset(&meter, 0, sizeof meter);
    ctx = kd_test_device("cpu", &meter);
    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&model, ctx, "lite_fpn0", &o));
    for (int i = 0; i < W * H * 4; i++)
        memory[i] = 0.5f + 0.4f * (float)kd_test_unit("warm", (uint64_t)i);
}

static void teardown(void)
{
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

/* ---- counts ---- */

typedef struct counts {
    long ours, all, threads;
} counts;

/* What a frame of a kind allocates, as a mask, probabilities and an overlay. */
static counts of_frame(kdas_segmenter *s, kdas_pixel pixel)
{
    kdas_view frame = frame_of(pixel);
    counts    c     = { meter.taken, atomic_load(&allocated), atomic_load(&threads) };

    kd_assert_ok(kdas_segmenter_mask(s, &frame, mask, 0));
    kd_assert_ok(kdas_segmenter_probability(s, &frame, mask, 0));
    if (pixel != KDAS_PIXEL_RGBF32) kd_assert_ok(kdas_segmenter_overlay(s, &frame, drawn, 0, NULL));
    return (counts){ meter.taken - c.ours, atomic_load(&allocated) - c.all,
                     atomic_load(&threads) - c.threads };
}

START_TEST(the_first_frame_allocates_what_later_ones_do)
{
    kdas_segmenter_options o = options();
    kdas_segmenter        *s = open_with(&o);
    counts                 first, later;

    kd_assert_ok(kdas_segmenter_warm_up(s, H, W, kinds[_i]));
    first = of_frame(s, kinds[_i]);
    later = of_frame(s, kinds[_i]);
    ck_assert_int_eq(first.ours, 0);
    ck_assert_int_eq(first.threads, 0);
    ck_assert_int_eq(first.all, later.all);
    kdas_segmenter_destroy(s);
}
END_TEST

/* So that the counts above mean something. */
START_TEST(without_a_warm_up_the_first_frame_allocates)
{
    kdas_segmenter_options o     = options();
    kdas_segmenter        *s     = open_with(&o);
    counts                 first = of_frame(s, KDAS_PIXEL_RGB8);

    ck_assert_int_gt(first.ours, 5);
    if (COUNTED) ck_assert_int_gt(first.all, 5);
    kdas_segmenter_destroy(s);
}
END_TEST

/* Also in another thread of the host. */
typedef struct visit {
    kdas_segmenter *s;
    bool            warm;
    counts          first, later;
} visit;

static void *visit_in_thread(void *what)
{
    visit *v = what;

    if (v->warm) kd_assert_ok(kdas_segmenter_warm_up(v->s, 0, 0, KDAS_PIXEL_RGB8));
    v->first = of_frame(v->s, KDAS_PIXEL_RGB8);
    v->later = of_frame(v->s, KDAS_PIXEL_RGB8);
    return NULL;
}

START_TEST(no_frame_starts_threads)
{
    kdas_segmenter_options o = options();
    visit                  v = { .warm = _i };
    pthread_t              thread;

    o.frame_height = H;
    o.frame_width  = W;
    v.s            = open_with(&o);
    ck_assert_int_eq(pthread_create(&thread, NULL, visit_in_thread, &v), 0);
    pthread_join(thread, NULL);
    if (v.warm) ck_assert_int_eq(v.first.threads, 0);
    if (v.warm) ck_assert_int_eq(v.first.all, v.later.all);
    ck_assert_int_eq(v.later.threads, 0);
    kdas_segmenter_destroy(v.s);
}
END_TEST

/* ---- what it leaves ---- */

START_TEST(results_are_those_of_a_segmenter_that_is_new)
{
    kdas_segmenter_options o    = options();
    kdas_segmenter        *cold = open_with(&o), *warm = open_with(&o);
    kdas_view              frame = frame_of(KDAS_PIXEL_RGB8);
    static float           want[W * H], got[W * H];
    static uint8_t         bytes[W * H];

    kd_assert_ok(kdas_segmenter_mask(cold, &frame, mask, 0));
    kd_assert_ok(kdas_segmenter_logits(cold, &frame, want));
    frame.data = drawn; /* a past that is forgotten */
    kd_assert_ok(kdas_segmenter_mask(warm, &frame, bytes, 0));
    kd_assert_ok(kdas_segmenter_warm_up(warm, H, W, KDAS_PIXEL_RGB8));
    frame.data = memory;
    kd_assert_ok(kdas_segmenter_mask(warm, &frame, bytes, 0));
    kd_assert_ok(kdas_segmenter_logits(warm, &frame, got));
    ck_assert_mem_eq(bytes, mask, sizeof mask);
    ck_assert(kd_test_same_bits(got, want, sizeof want));
    kdas_segmenter_destroy(cold);
    kdas_segmenter_destroy(warm);
}
END_TEST

START_TEST(timing_does_not_count_it_and_the_estimate_does)
{
    kdas_segmenter_options o = options();
    kdas_timing_report     r = { .size = sizeof r };
    kdas_segmenter        *s;

    o.frame_deadline = 1e-9; /* so that every frame would be repeated */
    o.repeat_limit   = 1000;
    s                = open_with(&o);
    kd_assert_ok(kdas_segmenter_warm_up(s, H, W, KDAS_PIXEL_RGB8));
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames + r.repeated + r.overrun, 0);
    ck_assert_double_gt(kdas_segmenter_estimate(s, 0.5), 0);
    of_frame(s, KDAS_PIXEL_RGB8);
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, 1); /* the first real frame; the black one is not repeated */
    ck_assert_int_eq(r.repeated, 2);
    kd_assert_ok(kdas_segmenter_warm_up(s, H, W, KDAS_PIXEL_RGB8));
    of_frame(s, KDAS_PIXEL_RGB8);
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, 2);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(wrong_arguments_are_refused)
{
    kdas_segmenter_options o         = options();
    kdas_segmenter        *free_size = open_with(&o), *stated;

    o.frame_height = H;
    o.frame_width  = W;
    stated         = open_with(&o);
    kd_assert_status(kdas_segmenter_warm_up(NULL, H, W, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_warm_up(free_size, 0, 0, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_sentence("which size");
    kd_assert_status(kdas_segmenter_warm_up(free_size, 0, W, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_warm_up(free_size, -H, W, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_warm_up(free_size, INT64_MAX, 2, KDAS_PIXEL_RGB8), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_warm_up(free_size, H, W, (kdas_pixel)0), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_warm_up(free_size, H, W, (kdas_pixel)99), KDAS_EINVAL);
    kd_assert_sentence("kdas_pixel");
    kd_assert_status(kdas_segmenter_warm_up(stated, H, W + 1, KDAS_PIXEL_RGB8), KDAS_ESHAPE);
    kd_assert_sentence("91x60");
    kd_assert_ok(kdas_segmenter_warm_up(stated, 0, 0, KDAS_PIXEL_NV12));
    kdas_context_cancel(ctx);
    kd_assert_status(kdas_segmenter_warm_up(stated, 0, 0, KDAS_PIXEL_RGB8), KDAS_ECANCELLED);
    kdas_context_resume(ctx);
    kdas_segmenter_destroy(free_size);
    kdas_segmenter_destroy(stated);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    kdas_segmenter_options o        = options();
    kdas_segmenter        *s        = open_with(&o);
    kdas_status            st       = KDAS_ENOMEM;
    int                    failures = 0;

    for (long k = 1; st != KDAS_OK; k++) {
        meter.fail_at = meter.taken + k;
        st            = kdas_segmenter_warm_up(s, H, W, KDAS_PIXEL_NV12);
        meter.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        failures++;
    }
    ck_assert_int_gt(failures, 10);
    ck_assert_int_eq(of_frame(s, KDAS_PIXEL_NV12).ours, 0);
    kdas_segmenter_destroy(s);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("warm-up");
    TCase   *counted = tcase_create("counts"), *left = tcase_create("what it leaves");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(counted, setup, teardown);
    tcase_add_loop_test(counted, the_first_frame_allocates_what_later_ones_do, 0, KINDS);
    tcase_add_test(counted, without_a_warm_up_the_first_frame_allocates);
    tcase_add_loop_test(counted, no_frame_starts_threads, 0, 2);
    suite_add_tcase(suite, counted);
    tcase_add_checked_fixture(left, setup, teardown);
    tcase_add_test(left, results_are_those_of_a_segmenter_that_is_new);
    tcase_add_test(left, timing_does_not_count_it_and_the_estimate_does);
    tcase_add_test(left, wrong_arguments_are_refused);
    tcase_add_test(left, any_allocation_may_fail);
    suite_add_tcase(suite, left);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
