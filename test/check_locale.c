/* check_locale.c - a host that has set its locale: what the library writes and reads has decimal points all the same, and
 * the host's locale is what it was. The locales, one with a decimal comma, are made here by localedef. */
#include <check.h>
#include <kdas/kdas.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "base/text.h"
#include "distill/train.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/train_util.h"

/* ---- locales ---- */

static char locale_folder[256]; /* a folder: to make a locale takes seconds, so tests share them */

static void locales_make(void)
{
    kd_test_folder_make();
    snprintf(locale_folder, sizeof locale_folder, "%s", kd_test_path(NULL));
}

/* Set a locale made from the system's sources; false, and a line, where there are none. */
static bool set_locale(const char *language)
{
    char command[2000], name[64];

    snprintf(name, sizeof name, "%s.UTF-8", language);
    snprintf(command, sizeof command,
             "cd '%s' && { test -e %s/LC_NUMERIC || localedef --no-archive -c -f UTF-8 -i %s ./%s >log 2>&1 || "
             "test -e %s/LC_NUMERIC; }",
             locale_folder, name, language, name, name);
    setenv("LOCPATH", locale_folder, 1);
    if (system(command) == 0 && setlocale(LC_ALL, name)) return true;
    printf("SKIP: localedef makes no locale %s here (Debian: package locales)\n", name);
    return false;
}

/* Decimal comma, and dots between thousands. */
static bool set_comma(void)
{
    char text[32];

    if (!set_locale("de_DE")) return false;
    snprintf(text, sizeof text, "%.1f", 1.5);
    ck_assert_str_eq(text, "1,5"); /* it works */
    return true;
}

/* The host's own formatting is as it was. */
static void still_commas(void)
{
    char text[32];

    ck_assert_ptr_eq(uselocale((locale_t)0), LC_GLOBAL_LOCALE);
    ck_assert_str_eq(localeconv()->decimal_point, ",");
    snprintf(text, sizeof text, "%.2f", 0.25);
    ck_assert_str_eq(text, "0,25");
}

/* ---- text ---- */

static kdas_context context;
static char         logged[512];

static void keep_line(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    (void)level;
    snprintf(logged, sizeof logged, "%s", text);
    still_commas(); /* callbacks are the host's */
}

START_TEST(all_that_is_said_has_points)
{
    kd_test_memory memory;
    char           text[64];
    char          *made;

    if (!set_comma()) return;
    kd_test_bare_context(&context, &memory);
    context.log = keep_line;
    ck_assert_int_eq(kd_format(text, sizeof text, "%g %.3f %e %'d", 0.5, 1234.5, 1e-9, 1234567),
                     33);
    ck_assert_str_eq(text, "0.5 1234.500 1.000000e-09 1234567");
    kd_fail(KDAS_EINVAL, "%g", 2.5);
    ck_assert_str_eq(kdas_last_error(), "2.5");
    kd_fail_in(KDAS_EINVAL, "%.2f", 3.25);
    ck_assert_str_eq(kdas_last_error(), "3.25: 2.5");
    kd_warn(&context, "%g", 4.5);
    ck_assert_str_eq(logged, "4.5");
    made = kd_printf(&context, "%s %.17g", "x", 0.1);
    ck_assert_str_eq(made, "x 0.10000000000000001");
    kd_free(&context, made);
    kd_test_assert_balanced(&memory);
    still_commas();
}
END_TEST

START_TEST(a_nan_has_one_form)
{
    volatile double zero = 0;
    double          nan = zero / zero, other = -nan; /* one of them has the sign set */
    char            text[128];
    int             n;

    ck_assert(signbit(nan) != signbit(other));
    n = kd_format(text, sizeof text, "%s %g|%5.2f|%-6g|%*.*f|%d %lld %zu %c%% %g", "run-nan", nan,
                  nan, other, 7, 2, nan, -3, (long long)-4, (size_t)5, 'x', 0.5);
    ck_assert_str_eq(text, "run-nan nan|  nan|nan   |    nan|-3 -4 5 x% 0.5");
    ck_assert_int_eq(n, (int)strlen(text));
    ck_assert_int_eq(kd_format(NULL, 0, "%g%g and %s", nan, other, "text"), 15);
    ck_assert_int_eq(kd_format(text, 6, "%g%g and", other, nan), 10);
    ck_assert_str_eq(text, "nanna");
    kd_fail(KDAS_ENUMERIC, "the loss is %g, not %g", other, nan);
    ck_assert_str_eq(kdas_last_error(), "the loss is nan, not nan");
    kd_format(text, sizeof text, "%g %g", -INFINITY, -0.0);
    ck_assert_str_eq(text, "-inf -0");
}
END_TEST

START_TEST(a_hosts_locale_of_one_thread_is_given_back)
{
    locale_t plain, comma;

    if (!set_comma()) return;
    comma = duplocale(LC_GLOBAL_LOCALE);
    ck_assert_ptr_nonnull(comma);
    setlocale(LC_ALL, "C");
    uselocale(comma);
    kd_fail(KDAS_EINVAL, "%g", 2.5);
    ck_assert_str_eq(kdas_last_error(), "2.5");
    ck_assert_ptr_eq(uselocale((locale_t)0), comma);
    plain = kd_locale_plain();
    ck_assert_ptr_eq(plain, comma);
    kd_locale_back(plain);
    ck_assert_ptr_eq(uselocale(LC_GLOBAL_LOCALE), comma);
    freelocale(comma);
}
END_TEST

START_TEST(whole_numbers_are_read_to_their_end)
{
    static const struct {
        const char *text;
        bool        good;
        int64_t     value;
        const char *rest;
    } rows[] = {
        { "0", true, 0, "" },
        { " 12,5", true, 12, ",5" },
        { "-7x", true, -7, "x" },
        { "+8 ", true, 8, " " },
        { "\t1.000", true, 1, ".000" },
        { "9223372036854775807", true, INT64_MAX, "" },
        { "-9223372036854775808", true, INT64_MIN, "" },
        { "9223372036854775808", false, 0, "" },
        { "", false, 0, "" },
        { "-", false, 0, "" },
        { "- 1", false, 0, "" },
        { "x1", false, 0, "" },
    };

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        const char *end   = NULL;
        int64_t     value = 0;

        ck_assert_msg(kd_parse_whole(rows[i].text, &end, &value) == rows[i].good, "'%s'",
                      rows[i].text);
        if (!rows[i].good) continue;
        ck_assert_int_eq(value, rows[i].value);
        ck_assert_str_eq(end, rows[i].rest);
    }
}
END_TEST

START_TEST(numbers_are_read_with_points)
{
    static const struct {
        const char *text;
        bool        good;
        double      value;
        const char *rest;
    } rows[] = {
        { "0.25", true, 0.25, "" },   { "-1e-3x", true, -1e-3, "x" }, { "1,5", true, 1, ",5" },
        { "1.000,5", true, 1, ",5" }, { "", false, 0, "" },           { "x", false, 0, "" },
        { "nan", false, 0, "" },      { "inf", false, 0, "" },        { "1e999", false, 0, "" },
    };

    for (int comma = 0; comma < 2; comma++) {
        if (comma && !set_comma()) return;
        for (size_t i = 0; i < KD_COUNT(rows); i++) {
            const char *end   = NULL;
            double      value = 0;

            ck_assert_msg(kd_parse_real(rows[i].text, &end, &value) == rows[i].good, "'%s'",
                          rows[i].text);
            if (!rows[i].good) continue;
            ck_assert(value == rows[i].value);
            ck_assert_str_eq(end, rows[i].rest);
        }
    }
    still_commas();
}
END_TEST

/* In Turkish the small letter of I has no dot. */
START_TEST(endings_of_files_are_known_in_any_locale)
{
    static const char *const locales[] = { "C", "tr_TR", "de_DE" };

    for (size_t i = 0; i < KD_COUNT(locales); i++) {
        if (i && !set_locale(locales[i])) continue;
        ck_assert(kd_path_has_extension("a/FRAME.JPG", ".jpg"));
        ck_assert(kd_path_has_extension("a/frame.tiff", ".TIFF"));
        ck_assert(!kd_path_has_extension("a/frame.tif", ".tiff"));
        ck_assert(!kd_path_has_extension("a/frame.jpg.", ".jpg"));
    }
    ck_assert(kd_same_letters("", ""));
    ck_assert(!kd_same_letters("a", ""));
    ck_assert(!kd_same_letters("[", "{")); /* as far apart as letters are */
}
END_TEST

/* ---- files ---- */

/* The cells of a log, with commas between them alone. */
static void write_log(const char *path)
{
    double         sum[KD_SUMS] = { 0 };
    kd_test_memory memory;
    kd_train_log   log;
    kd_train_row   row = { .epoch           = 1,
                           .step            = 4,
                           .sum             = sum,
                           .validation_dice = 0.875,
                           .validation_loss = 1.5,
                           .loss_scale      = 0.5 };

    for (int i = 0; i < KD_SUMS; i++)
        sum[i] = 0.25 + i;
    kd_test_bare_context(&context, &memory);
    kd_assert_ok(kd_train_log_init(&log, &context, path, 0));
    kd_assert_ok(kd_train_log_add(&log, &row));
    kd_train_log_finish(&log);
    kd_assert_ok(kd_train_log_init(&log, &context, path, 1)); /* and on with it */
    row.epoch = 2;
    kd_assert_ok(kd_train_log_add(&log, &row));
    kd_train_log_finish(&log);
    kd_test_assert_balanced(&memory);
}

START_TEST(a_log_is_the_same_in_every_locale)
{
    unsigned char *plain, *comma;
    size_t         n;
    kd_test_table  t;

    write_log(kd_test_path("plain.csv"));
    if (!set_comma()) return;
    write_log(kd_test_path("comma.csv"));
    plain = kd_test_read(kd_test_path("plain.csv"), &n);
    comma = kd_test_read(kd_test_path("comma.csv"), &n);
    ck_assert_str_eq((char *)plain, (char *)comma);
    setlocale(LC_ALL, "C");
    kd_test_table_read(&t, kd_test_path("comma.csv"));
    ck_assert_int_eq(t.lines, 3);
    ck_assert_str_eq(kd_test_table_cell(&t, 2, "validation_dice"), "0.875");
    free(t.text);
    free(plain);
    free(comma);
}
END_TEST

/* Shapes and offsets are whole numbers: in no locale has one of them a point or a comma. */
START_TEST(headers_of_tensors_are_read_in_every_locale)
{
    static const char header[] =
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}}          ";
    uint64_t        length                          = sizeof header - 1;
    unsigned char   file[8 + sizeof header - 1 + 8] = { 0 };
    kd_test_memory  memory;
    kd_safetensors *f;

    if (!set_comma()) return;
    kd_test_bare_context(&context, &memory);
    memcpy(file, &length, 8);
    memcpy(file + 8, header, sizeof header - 1);
    kd_test_write(kd_test_path("w.safetensors"), file, sizeof file);
    kd_assert_ok(kd_safetensors_open(&f, &context, kd_test_path("w.safetensors")));
    ck_assert_int_eq(kd_safetensors_count(f), 1);
    ck_assert_int_eq(kd_safetensors_at(f, 0)->dim[0], 2);
    kd_safetensors_close(f);
    kd_test_assert_balanced(&memory);
    still_commas();
}
END_TEST

/* ---- a whole run ---- */

START_TEST(a_run_is_carried_on_in_another_locale)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_training    s;
    kd_test_table       t;

    if (!set_comma()) return;
    kd_test_train_make(&s, &o, kd_test_path("run"));
    s.options.epochs = 1;
    kd_assert_ok(kd_test_train(&s));
    kd_test_train_finish(&s);
    setlocale(LC_ALL, "C");
    kd_test_train_make(&s, &o, kd_test_path("run"));
    s.options.resume = 1;
    kd_assert_ok(kd_test_train(&s));
    kd_test_train_finish(&s);
    kd_test_table_read(&t, kd_test_path("run/log.csv"));
    ck_assert_int_eq(t.lines, 3);
    for (int line = 1; line < t.lines; line++) {
        ck_assert_double_gt(strtod(kd_test_table_cell(&t, line, "total"), NULL), 0.01);
        ck_assert_str_eq(kd_test_table_cell(&t, line, "skipped"), "0");
    }
    free(t.text);
}
END_TEST

START_TEST(refusals_name_numbers_with_points)
{
    kdas_model_options o;
    kdas_context      *ctx;
    kdas_model        *model;

    if (!set_comma()) return;
    kd_assert_ok(kdas_context_create(&ctx, NULL));
    kdas_model_options_init(&o, sizeof o);
    o.drop_path = 1.5f;
    kd_assert_status(kdas_model_create(&model, ctx, "pvt_v2_b0", &o), KDAS_EINVAL);
    kd_assert_sentence("1.5");
    kdas_context_destroy(ctx);
    still_commas();
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("locale");
    TCase   *all   = tcase_create("all");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_unchecked_fixture(all, locales_make, kd_test_folder_remove);
    tcase_add_checked_fixture(all, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(all, all_that_is_said_has_points);
    tcase_add_test(all, a_nan_has_one_form);
    tcase_add_test(all, a_hosts_locale_of_one_thread_is_given_back);
    tcase_add_test(all, whole_numbers_are_read_to_their_end);
    tcase_add_test(all, numbers_are_read_with_points);
    tcase_add_test(all, endings_of_files_are_known_in_any_locale);
    tcase_add_test(all, a_log_is_the_same_in_every_locale);
    tcase_add_test(all, headers_of_tensors_are_read_in_every_locale);
    tcase_add_test(all, a_run_is_carried_on_in_another_locale);
    tcase_add_test(all, refusals_name_numbers_with_points);
    suite_add_tcase(suite, all);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
