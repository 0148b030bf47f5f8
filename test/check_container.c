/* check_container.c - checkpoints on disk: records come back bit by bit, and what was cut off,
 * altered, or is another's is refused. A kill at any moment leaves the last good one. */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "io/container.h"
#include "support/check_util.h"
#include "support/files.h"

static kd_test_memory memory;
static kdas_context   context, *ctx = &context;

static void setup(void)
{
    kd_test_folder_make();
    kd_test_bare_context(ctx, &memory);
}

static void teardown(void)
{
    kd_test_assert_balanced(&memory);
    kd_test_folder_remove();
}

static const float floats[6] = { 1.5f, -0.0f, 3e38f, 1e-40f, INFINITY, -7 };

static kdas_status save_checkpoint(const char *path, int64_t step)
{
    const int64_t        dims[2] = { 2, 3 };
    kdas_status          st;
    kd_container_writer *w;

    KD_RETURN(kd_container_create(&w, ctx));
    KD_TRY(kd_container_put(w, "model.w", KD_ST_F32, 2, dims, floats));
    KD_TRY(kd_container_put_i64(w, "step", step));
    KD_TRY(kd_container_put_i64(w, "least", INT64_MIN));
    KD_TRY(kd_container_put_u64(w, "random", UINT64_C(0xFEDCBA9876543211)));
    KD_TRY(kd_container_put_f64(w, "loss", 0.1));
    KD_TRY(kd_container_put_f64(w, "nan", NAN));
    KD_TRY(kd_container_put_text(w, "student", "polyp_pvt_b0"));
    KD_TRY(kd_container_put_text(w, "trap", "\"checksum\":\"00000000\""));
    st = kd_container_save(w, path);
done:
    kd_container_discard(w);
    return st;
}

START_TEST(records_come_back_exactly)
{
    const char   *path    = kd_test_path("last.kdas"), *text;
    const int64_t dims[2] = { 2, 3 };
    kd_container *c;
    float         got[6];
    int64_t       i;
    uint64_t      u;
    double        d;

    kd_assert_ok(save_checkpoint(path, 9007199254740993)); /* 2^53 + 1: no double holds it */
    kd_assert_ok(kd_container_open(&c, ctx, path));
    kd_assert_ok(kd_container_get(c, "model.w", KD_ST_F32, 2, dims, got));
    ck_assert(kd_test_same_bits(got, floats, sizeof floats));
    kd_assert_ok(kd_container_get_i64(c, "step", &i));
    ck_assert_int_eq(i, 9007199254740993);
    kd_assert_ok(kd_container_get_i64(c, "least", &i));
    ck_assert_int_eq(i, INT64_MIN);
    kd_assert_ok(kd_container_get_u64(c, "random", &u));
    ck_assert_uint_eq(u, UINT64_C(0xFEDCBA9876543211));
    kd_assert_ok(kd_container_get_f64(c, "loss", &d));
    ck_assert(d == 0.1);
    kd_assert_ok(kd_container_get_f64(c, "nan", &d));
    ck_assert(isnan(d));
    kd_assert_ok(kd_container_get_text(c, "student", &text));
    ck_assert_str_eq(text, "polyp_pvt_b0");
    kd_assert_ok(kd_container_get_text(c, "trap", &text));
    ck_assert_str_eq(text, "\"checksum\":\"00000000\"");
    ck_assert_int_eq(kd_container_count(c), 6);
    kd_container_close(c);
}
END_TEST

START_TEST(a_record_that_is_not_as_asked_is_named)
{
    const char   *path = kd_test_path("last.kdas"), *text = "kept";
    const int64_t dims[2] = { 3, 2 };
    kd_container *c;
    float         got[6] = { 0 };
    int64_t       i      = 5;
    double        d      = 5;

    kd_assert_ok(save_checkpoint(path, 1));
    kd_assert_ok(kd_container_open(&c, ctx, path));
    kd_assert_status(kd_container_get(c, "model.w", KD_ST_F32, 2, dims, got), KDAS_ESHAPE);
    kd_assert_sentence("'model.w'");
    kd_assert_sentence("F32 2x3, not F32 3x2");
    kd_assert_status(kd_container_get(c, "model.w", KD_ST_F64, 0, NULL, got), KDAS_ESHAPE);
    kd_assert_sentence("F32 2x3, not F64 scalar");
    kd_assert_status(kd_container_get(c, "none", KD_ST_F32, 2, dims, got), KDAS_ENOTFOUND);
    kd_assert_sentence("'none'");
    kd_assert_sentence(path);
    kd_assert_status(kd_container_get_i64(c, "loss", &i), KDAS_EFORMAT);
    kd_assert_status(kd_container_get_i64(c, "student", &i), KDAS_ENOTFOUND);
    kd_assert_status(kd_container_get_f64(c, "model.w", &d), KDAS_EFORMAT);
    kd_assert_status(kd_container_get_text(c, "loss", &text), KDAS_ENOTFOUND);
    kd_assert_status(kd_container_get_text(c, "format", &text), KDAS_ENOTFOUND);
    ck_assert_str_eq(text, "kept");
    ck_assert(i == 5 && d == 5 && got[0] == 0);
    kd_container_close(c);
}
END_TEST

START_TEST(a_name_is_used_once_whatever_its_kind)
{
    kd_container_writer *w;

    kd_assert_ok(kd_container_create(&w, ctx));
    kd_assert_ok(kd_container_put_i64(w, "a", 1));
    kd_assert_status(kd_container_put_text(w, "a", "x"), KDAS_EINVAL);
    kd_assert_sentence("'a'");
    kd_assert_ok(kd_container_put_text(w, "b", "x"));
    kd_assert_status(kd_container_put_f64(w, "b", 1), KDAS_EINVAL);
    kd_assert_status(kd_container_put_text(w, "format", "x"), KDAS_EINVAL);
    kd_assert_status(kd_container_put_text(w, "checksum", "x"), KDAS_EINVAL);
    kd_assert_status(kd_container_put_i64(w, NULL, 1), KDAS_EINVAL);
    kd_container_discard(w);
}
END_TEST

START_TEST(no_flipped_bit_goes_unnoticed)
{
    const char    *path = kd_test_path("last.kdas");
    unsigned char *file;
    size_t         n;

    kd_assert_ok(save_checkpoint(path, 1));
    file = kd_test_read(path, &n);
    for (size_t i = 0; i < 8 * n; i++) {
        kd_container *c;

        file[i / 8] ^= (unsigned char)(1 << i % 8);
        kd_test_write(path, file, n);
        file[i / 8] ^= (unsigned char)(1 << i % 8);
        ck_assert_msg(kd_container_open(&c, ctx, path) == KDAS_EFORMAT, "bit %zu of byte %zu",
                      i % 8, i / 8);
        kd_assert_sentence(path);
    }
    free(file);
}
END_TEST

START_TEST(no_cut_goes_unnoticed)
{
    const char    *path = kd_test_path("last.kdas");
    unsigned char *file;
    size_t         n;

    kd_assert_ok(save_checkpoint(path, 1));
    file = kd_test_read(path, &n);
    for (size_t i = 0; i < n; i++) {
        kd_container *c;

        kd_test_write(path, file, i);
        ck_assert_msg(kd_container_open(&c, ctx, path) == KDAS_EFORMAT, "cut at %zu", i);
    }
    free(file);
}
END_TEST

START_TEST(what_is_no_checkpoint_of_ours_is_told_so)
{
    const char   *path = kd_test_path("x");
    kd_st_writer *w;
    kd_container *c;

    kd_assert_status(kd_container_open(&c, ctx, kd_test_path("none")), KDAS_ENOTFOUND);
    kd_assert_ok(kd_st_writer_create(&w, ctx));
    kd_assert_ok(kd_st_writer_save(w, path, true));
    kd_assert_status(kd_container_open(&c, ctx, path), KDAS_EFORMAT);
    kd_assert_sentence("not a libkdas checkpoint");
    kd_assert_ok(kd_st_writer_put_text(w, "format", KD_CONTAINER_FORMAT));
    kd_assert_ok(kd_st_writer_save(w, path, true));
    kd_assert_status(kd_container_open(&c, ctx, path), KDAS_EFORMAT);
    kd_assert_sentence("without a version");
    kd_assert_ok(kd_st_writer_put_text(w, "version", "2"));
    kd_assert_ok(kd_st_writer_save(w, path, true));
    kd_assert_status(kd_container_open(&c, ctx, path), KDAS_EFORMAT);
    kd_assert_sentence("newer libkdas");
    kd_st_writer_destroy(w);
    kd_assert_ok(kd_st_writer_create(&w, ctx));
    kd_assert_ok(kd_st_writer_put_text(w, "format", KD_CONTAINER_FORMAT));
    kd_assert_ok(kd_st_writer_put_text(w, "version", "1"));
    kd_assert_ok(kd_st_writer_save(w, path, false));
    kd_assert_status(kd_container_open(&c, ctx, path), KDAS_EFORMAT);
    kd_assert_sentence("no checksum");
    ck_assert_ptr_null(c);
    kd_st_writer_destroy(w);
}
END_TEST

START_TEST(a_file_with_two_records_of_one_name_is_refused)
{
    const char   *path = kd_test_path("c.kdas");
    const double  one  = 1;
    kd_container *c;
    kd_st_writer *w;

    for (int twice = 0; twice < 2; twice++) {
        kd_assert_ok(kd_st_writer_create(&w, ctx));
        kd_assert_ok(kd_st_writer_put_text(w, "format", KD_CONTAINER_FORMAT));
        kd_assert_ok(kd_st_writer_put_text(w, "version", "1"));
        kd_assert_ok(kd_st_writer_put_text(w, "host.a", "a text"));
        kd_assert_ok(kd_st_writer_put_scalar(w, twice ? "host.a" : "host.b", KD_ST_F64, &one));
        kd_assert_ok(kd_st_writer_save(w, path, true));
        kd_st_writer_destroy(w);
        kd_assert_status(kd_container_open(&c, ctx, path), twice ? KDAS_EFORMAT : KDAS_OK);
        kd_container_close(c);
    }
    kd_assert_sentence("two records 'host.a'");
}
END_TEST

START_TEST(checkpoints_survive_each_allocation_that_fails)
{
    const char *path = kd_test_path("x");

    kd_assert_ok(save_checkpoint(path, 1));
    for (int k = 1, done = 0; !done; k++) {
        kd_container *c = NULL;
        kdas_status   st;

        kd_test_bare_context(ctx, &memory);
        memory.fail_at = k;
        st             = save_checkpoint(path, 2);
        kd_test_assert_balanced(&memory);
        kd_assert_status(st, memory.asked < k ? KDAS_OK : KDAS_ENOMEM);
        done = st == KDAS_OK;

        kd_test_bare_context(ctx, &memory);
        memory.fail_at = k;
        st             = kd_container_open(&c, ctx, path);
        kd_assert_status(st, memory.asked < k ? KDAS_OK : KDAS_ENOMEM);
        ck_assert_int_eq(c == NULL, st != KDAS_OK);
        kd_container_close(c);
        kd_test_assert_balanced(&memory);
    }
}
END_TEST

/* A child saves checkpoint after checkpoint and is killed at any moment: the file stays whole. */
START_TEST(a_kill_leaves_the_last_good_checkpoint)
{
    const char *path = kd_test_path("last.kdas");
    kd_random   r    = kd_random_make(1, 0);
    int64_t     step, before = 0;

    kd_assert_ok(save_checkpoint(path, 0));
    for (int round = 0; round < 40; round++) {
        struct timespec pause = { 0, 100 * (long)kd_random_below(&r, 60000) };
        kd_container   *c;
        int             started[2];
        pid_t           child;

        ck_assert_int_eq(pipe(started), 0);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0)
            for (step = before + 1;; step++) {
                if (save_checkpoint(path, step) != KDAS_OK) _exit(1);
                if (step == before + 1 && write(started[1], "", 1) != 1) _exit(1);
            }
        ck_assert_int_eq(read(started[0], &(char){ 0 }, 1), 1); /* from here on, at any moment */
        nanosleep(&pause, NULL);
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, &(int){ 0 }, 0), child);
        close(started[0]);
        close(started[1]);
        kd_assert_ok(kd_container_open(&c, ctx, path));
        kd_assert_ok(kd_container_get_i64(c, "step", &step));
        ck_assert_int_gt(step, before);
        before = step;
        kd_container_close(c);
    }
}
END_TEST

static Suite *container_suite(void)
{
    Suite *s = suite_create("container");
    TCase *t = tcase_create("container");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, records_come_back_exactly);
    tcase_add_test(t, a_record_that_is_not_as_asked_is_named);
    tcase_add_test(t, a_name_is_used_once_whatever_its_kind);
    tcase_add_test(t, no_flipped_bit_goes_unnoticed);
    tcase_add_test(t, no_cut_goes_unnoticed);
    tcase_add_test(t, what_is_no_checkpoint_of_ours_is_told_so);
    tcase_add_test(t, a_file_with_two_records_of_one_name_is_refused);
    tcase_add_test(t, checkpoints_survive_each_allocation_that_fails);
    tcase_add_test(t, a_kill_leaves_the_last_good_checkpoint);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(container_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
