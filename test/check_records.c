/* check_records.c - a checkpoint as a host sees it: its own records, and a look before it decides to go on. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "io/container.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/thin.h"
#include "support/told.h"

static const char *path_of_file(void) { return kd_test_path("c.kdas"); }

static kdas_checkpoint *opened(const kd_test_rig *rig)
{
    kdas_checkpoint *c;

    kd_assert_ok(kdas_checkpoint_open(&c, rig->ctx, path_of_file()));
    return c;
}

/* ---- records ---- */

START_TEST(records_come_back_bit_by_bit)
{
    static const double odd[] = { 0.1, -0.0, INFINITY, 5e-324, 9007199254740993.0, -1e308 };
    uint64_t            bits  = 0x7FF80000DEADBEEF; /* a NaN of one's own */
    double              nan;
    char                long_name[201];
    kd_test_rig_options o   = kd_test_rig_usual();
    kdas_progress       put = { .size       = sizeof put,
                                .epoch      = 3,
                                .position   = 12,
                                .seed       = UINT64_MAX,
                                .best       = 0.1 + 0.2,
                                .best_epoch = 2 };
    kdas_progress       got = { .size = sizeof got };
    kdas_checkpoint    *c;
    kd_test_rig         rig;

    memset(long_name, 'n', 200);
    long_name[200] = 0;
    memcpy(&nan, &bits, sizeof nan);
    kdas_record records[] = {
        { "odd", NULL, odd, KD_COUNT(odd) },
        { "nan", NULL, &nan, 1 },
        { "text", "a \"b\"\\\n\tcaf\xC3\xA9", NULL, 0 },
        { "empty", "", NULL, 0 },
        { "model", "of the host", NULL, 0 },
        { "optim.lr", NULL, odd, 1 },
        { "checksum", "x", NULL, 0 },
        { "Z", "before a small letter", NULL, 0 },
        { long_name, "1", NULL, 0 },
    };
    int64_t count = KD_COUNT(records);

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(
        kdas_checkpoint_save_records(rig.distiller, path_of_file(), &put, "notes", records, count));
    c = opened(&rig);
    for (int64_t i = 0; i < count; i++) {
        const kdas_record *r = kdas_checkpoint_find(c, records[i].name);

        ck_assert_ptr_nonnull(r);
        ck_assert_str_eq(r->name, records[i].name);
        ck_assert_int_eq(r->count, records[i].count);
        if (records[i].text)
            ck_assert_str_eq(r->text, records[i].text);
        else
            ck_assert(kd_test_same_bits(r->numbers, records[i].numbers,
                                        (size_t)r->count * sizeof *r->numbers));
        ck_assert(!r->text != !r->numbers);
    }
    for (int64_t i = 1; i < count; i++)
        ck_assert_int_lt(
            strcmp(kdas_checkpoint_record(c, i - 1)->name, kdas_checkpoint_record(c, i)->name), 0);
    ck_assert_ptr_null(kdas_checkpoint_record(c, count));
    ck_assert_ptr_null(kdas_checkpoint_record(c, -1));
    ck_assert_ptr_null(kdas_checkpoint_find(c, "student"));
    ck_assert_ptr_null(kdas_checkpoint_find(c, "optim.rule")); /* the library's are not shown */
    ck_assert_ptr_null(kdas_checkpoint_find(c, "host.text"));
    ck_assert_str_eq(kdas_checkpoint_notes(c), "notes");
    kd_assert_ok(kdas_checkpoint_progress(c, &got));
    ck_assert(kd_test_same_bits(&put, &got, sizeof got));
    kdas_checkpoint_destroy(c);
    kd_assert_ok(
        kdas_checkpoint_load(rig.distiller, path_of_file(), NULL)); /* they are no matter */
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_checkpoint_without_records_has_none)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_progress       p = { .size = offsetof(kdas_progress, seed), .seed = 77 };
    kdas_checkpoint    *c;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path_of_file(), NULL, NULL));
    c = opened(&rig);
    ck_assert_ptr_null(kdas_checkpoint_record(c, 0));
    ck_assert_ptr_null(kdas_checkpoint_find(c, "x"));
    ck_assert_ptr_null(kdas_checkpoint_find(c, NULL));
    ck_assert_str_eq(kdas_checkpoint_notes(c), "");
    kd_assert_ok(kdas_checkpoint_progress(c, &p)); /* of an older program */
    ck_assert_uint_eq(p.seed, 77);
    ck_assert_uint_eq(p.size, offsetof(kdas_progress, seed));
    p.size = 0;
    kd_assert_status(kdas_checkpoint_progress(c, &p), KDAS_EINVAL);
    kdas_checkpoint_destroy(c);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(records_that_cannot_be_are_refused_by_name)
{
    static char         long_name[202];
    static const double one = 1;
    const struct {
        kdas_record record;
        const char *part;
    } bad[] = {
        { { NULL, "x", NULL, 0 }, "NULL" },
        { { "", "x", NULL, 0 }, "named ''" },
        { { long_name, "x", NULL, 0 }, "200" },
        { { "a b", "x", NULL, 0 }, "'a b'" },
        { { "a\"checksum", "x", NULL, 0 }, "a\"checksum" },
        { { "caf\xC3\xA9", "x", NULL, 0 }, "letters" },
        { { "r1", "x", &one, 1 }, "'r1' has both" },
        { { "r2", NULL, NULL, 0 }, "'r2' has neither" },
        { { "r3", NULL, &one, 0 }, "'r3' has 0 numbers" },
        { { "r4", NULL, &one, (1 << 20) + 1 }, "'r4' has 1048577 numbers" },
        { { "r5", "x", NULL, 1 }, "'r5' is a text" },
        { { "r6", "caf\xE9", NULL, 0 }, "'r6' is not UTF-8" },
        { { "twice", "x", NULL, 0 }, "'twice' of a checkpoint is put twice" },
    };
    kd_test_rig_options o      = kd_test_rig_usual();
    kdas_record         two[2] = { { "twice", NULL, &one, 1 } };
    kd_test_rig         rig;

    memset(long_name, 'n', 201);
    kd_test_rig_make(&rig, &o);
    for (size_t i = 0; i < KD_COUNT(bad); i++) {
        two[1] = bad[i].record;
        kd_assert_status(
            kdas_checkpoint_save_records(rig.distiller, path_of_file(), NULL, NULL, two, 2),
            KDAS_EINVAL);
        kd_assert_sentence(bad[i].part);
    }
    kd_assert_status(
        kdas_checkpoint_save_records(rig.distiller, path_of_file(), NULL, NULL, NULL, 1),
        KDAS_EINVAL);
    kd_assert_status(
        kdas_checkpoint_save_records(rig.distiller, path_of_file(), NULL, NULL, two, -1),
        KDAS_EINVAL);
    kd_assert_status(
        kdas_checkpoint_save_records(rig.distiller, path_of_file(), NULL, NULL, two, 1001),
        KDAS_EINVAL);
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
    kd_test_rig_finish(&rig);
}
END_TEST

/* A host's record is a text, or a list of doubles. */
START_TEST(a_record_of_another_type_is_a_damaged_file)
{
    static const struct {
        kd_st_dtype dtype;
        int         rank;
        int64_t     dims[2];
    } kinds[]                    = { { KD_ST_F32, 1, { 2 } },
                                     { KD_ST_F64, 2, { 1, 1 } },
                                     { KD_ST_F64, 0, { 0 } },
                                     { KD_ST_F64, 1, { 0 } } };
    static const double  data[2] = { 1, 2 };
    kd_test_rig_options  o       = kd_test_rig_usual();
    kdas_checkpoint     *c;
    kd_container_writer *w;
    kd_test_rig          rig;

    kd_test_rig_make(&rig, &o);
    for (size_t i = 0; i < KD_COUNT(kinds); i++) {
        kd_assert_ok(kd_container_create(&w, rig.ctx));
        kd_assert_ok(kd_container_put_i64(w, "progress.epoch", 0));
        kd_assert_ok(kd_container_put_i64(w, "progress.position", 0));
        kd_assert_ok(kd_container_put_u64(w, "progress.seed", 0));
        kd_assert_ok(kd_container_put_f64(w, "progress.best", 0));
        kd_assert_ok(kd_container_put_i64(w, "progress.best_epoch", 0));
        kd_assert_ok(
            kd_container_put(w, "host.mine", kinds[i].dtype, kinds[i].rank, kinds[i].dims, data));
        kd_assert_ok(kd_container_save(w, path_of_file()));
        kd_container_discard(w);
        c = (kdas_checkpoint *)&o;
        kd_assert_status(kdas_checkpoint_open(&c, rig.ctx, path_of_file()), KDAS_EFORMAT);
        ck_assert_ptr_null(c);
        kd_assert_sentence("host.mine");
    }
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- look first ---- */

START_TEST(a_host_looks_first_and_restores_or_not)
{
    static const double sums[3] = { 1.5, -2, 1e-300 };
    kd_test_rig_options o       = kd_test_rig_usual();
    kdas_record         mine[]  = { { "frames", "abc", NULL, 0 }, { "sums", NULL, sums, 3 } };
    kdas_checkpoint    *c;
    unsigned char      *state, *saved;
    size_t              n, m;
    kd_test_rig         from, to, other;

    o.distiller.accumulate = 3;
    kd_test_rig_make(&from, &o);
    for (int t = 0; t < 4; t++)
        kd_test_rig_step(&from, t);
    saved = kd_test_state(from.distiller, &m);
    kd_assert_ok(kdas_checkpoint_save_records(from.distiller, path_of_file(), NULL, NULL, mine, 2));
    o.model.seed = 99;
    kd_test_rig_make(&to, &o);
    kd_test_rig_make(&other, &o);
    state = kd_test_state(to.distiller, &n);
    c     = opened(&to);
    ck_assert_str_eq(kdas_checkpoint_find(c, "frames")->text, "abc");
    kd_test_assert_state(to.distiller, state, n, "a look");
    unlink(path_of_file()); /* what was opened stays */
    kd_test_write(path_of_file(), "another", 7);
    kd_assert_ok(kdas_checkpoint_restore(c, to.distiller));
    kd_assert_ok(kdas_checkpoint_restore(c, other.distiller)); /* of another context, too */
    kdas_checkpoint_destroy(c);
    kd_test_assert_state(to.distiller, saved, m, "restored");
    kd_test_assert_state(other.distiller, saved, m, "restored");
    for (int t = 4; t < 7; t++)
        ck_assert_double_eq(kd_test_rig_step(&from, t), kd_test_rig_step(&to, t));
    kd_test_assert_same_weights(from.student, to.student);
    kd_test_rig_finish(&from);
    kd_test_rig_finish(&to);
    kd_test_rig_finish(&other);
    free(state);
    free(saved);
}
END_TEST

START_TEST(a_restore_that_is_refused_leaves_the_handle_and_the_distiller)
{
    kd_test_rig_options o = kd_test_rig_usual(), w = o;
    kdas_checkpoint    *c;
    unsigned char      *state;
    size_t              n;
    kd_test_rig         rig, wrong;

    w.loss.tau = 3;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&wrong, &w);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path_of_file(), NULL, NULL));
    kd_test_rig_step(&wrong, 0);
    state = kd_test_state(wrong.distiller, &n);
    c     = opened(&rig);
    kd_assert_status(kdas_checkpoint_restore(c, wrong.distiller), KDAS_EINVAL);
    kd_assert_sentence("loss.tau is 2, here it is 3");
    kd_test_assert_state(wrong.distiller, state, n, "loss.tau");
    kd_assert_ok(kdas_checkpoint_restore(c, rig.distiller));
    kdas_checkpoint_destroy(c);
    free(state);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&wrong);
}
END_TEST

START_TEST(what_is_no_checkpoint_is_not_opened)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_checkpoint    *c = (kdas_checkpoint *)&o;
    unsigned char      *bytes;
    size_t              n;
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_status(kdas_checkpoint_open(&c, rig.ctx, path_of_file()), KDAS_ENOTFOUND);
    ck_assert_ptr_null(c);
    kd_assert_ok(kdas_model_save(rig.student, path_of_file()));
    c = (kdas_checkpoint *)&o;
    kd_assert_status(kdas_checkpoint_open(&c, rig.ctx, path_of_file()), KDAS_EFORMAT);
    ck_assert_ptr_null(c);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path_of_file(), NULL, NULL));
    bytes = kd_test_read(path_of_file(), &n);
    bytes[n / 2] ^= 1;
    kd_test_write(path_of_file(), bytes, n);
    kd_assert_status(kdas_checkpoint_open(&c, rig.ctx, path_of_file()), KDAS_EFORMAT);
    kd_assert_sentence("c.kdas");
    kd_assert_status(kdas_checkpoint_open(NULL, rig.ctx, path_of_file()), KDAS_EINVAL);
    kd_assert_status(kdas_checkpoint_open(&c, NULL, path_of_file()), KDAS_EINVAL);
    kd_assert_status(kdas_checkpoint_open(&c, rig.ctx, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_checkpoint_restore(NULL, rig.distiller), KDAS_EINVAL);
    kdas_checkpoint_destroy(NULL);
    ck_assert_ptr_null(kdas_checkpoint_notes(NULL));
    free(bytes);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- memory ---- */

START_TEST(any_allocation_may_fail)
{
    static const double one     = 1;
    kdas_record         mine[2] = { { "a", NULL, &one, 1 }, { "b", "text", NULL, 0 } };
    kd_test_meter       meter   = { 0 };
    kd_test_rig_options o       = kd_test_rig_usual();
    kdas_status         st      = KDAS_ENOMEM;
    kdas_checkpoint    *c       = NULL;
    unsigned char      *state;
    size_t              n;
    kd_test_rig         rig;

    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_step(&rig, 0);
    kd_assert_ok(kdas_checkpoint_save_records(rig.distiller, path_of_file(), NULL, "x", mine, 2));
    for (long k = 1; st != KDAS_OK; k += 1 + k / 8) {
        long held     = meter.taken - meter.given_back;
        meter.fail_at = meter.taken + k;
        st            = kdas_checkpoint_open(&c, rig.ctx, path_of_file());
        meter.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_ptr_null(c);
        ck_assert_int_eq(meter.taken - meter.given_back, held);
    }
    kd_test_rig_step(&rig, 1);
    state = kd_test_state(rig.distiller, &n);
    st    = KDAS_ENOMEM;
    for (long k = 1; st != KDAS_OK; k++) {
        long held     = meter.taken - meter.given_back;
        meter.fail_at = meter.taken + k;
        st            = kdas_checkpoint_restore(c, rig.distiller);
        meter.fail_at = 0;
        ck_assert_int_eq(meter.taken - meter.given_back, held);
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        kd_test_assert_state(rig.distiller, state, n, "no memory");
    }
    ck_assert_int_eq(kdas_optim_updates(rig.optim), 1);
    free(state);
    kdas_checkpoint_destroy(c);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("records");
    TCase   *cases  = tcase_create("records and a look");
    SRunner *runner = srunner_create(s);
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(cases, 120);
    tcase_add_checked_fixture(cases, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(cases, records_come_back_bit_by_bit);
    tcase_add_test(cases, a_checkpoint_without_records_has_none);
    tcase_add_test(cases, records_that_cannot_be_are_refused_by_name);
    tcase_add_test(cases, a_record_of_another_type_is_a_damaged_file);
    tcase_add_test(cases, a_host_looks_first_and_restores_or_not);
    tcase_add_test(cases, a_restore_that_is_refused_leaves_the_handle_and_the_distiller);
    tcase_add_test(cases, what_is_no_checkpoint_is_not_opened);
    tcase_add_test(cases, any_allocation_may_fail);
    suite_add_tcase(s, cases);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
