/* check_safetensors.c - tensors on disk: what was put in comes out bit by bit, what others write is
 * read, and a file that lies is refused by name. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/safetensors.h"
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

/* ---- Round trip ---- */

static const float   floats[6] = { 1.5f, -0.0f, 3e38f, 1e-40f, INFINITY, -7 };
static const int64_t longs[2]  = { INT64_MIN, INT64_MAX };
static const uint8_t bytes[3]  = { 0, 127, 255 };

/* One file of everything: types, ranks, an empty tensor, names that need escapes. */
static kdas_status write_all(const char *path, bool checksum)
{
    const int64_t dims[8] = { 2, 3, 1, 1, 1, 1, 1, 1 }, two = 2, three = 3, none[2] = { 0, 5 };
    kdas_status   st;
    kd_st_writer *w;
    double        scalar = 0.1;

    KD_RETURN(kd_st_writer_create(&w, ctx));
    KD_TRY(kd_st_writer_put_text(w, "note", "a \"quoted\" \\ text\nof two lines, \xC3\xA9"));
    KD_TRY(kd_st_writer_put(w, "z.floats", KD_ST_F32, 8, dims, floats));
    KD_TRY(kd_st_writer_put(w, "longs", KD_ST_I64, 1, &two, longs));
    KD_TRY(kd_st_writer_put(w, "by\"tes\t\xE2\x82\xAC", KD_ST_U8, 1, &three, bytes));
    KD_TRY(kd_st_writer_put_scalar(w, "scalar", KD_ST_F64, &scalar));
    KD_TRY(kd_st_writer_put(w, "empty", KD_ST_F32, 2, none, NULL));
    st = kd_st_writer_save(w, path, checksum);
done:
    kd_st_writer_destroy(w);
    return st;
}

START_TEST(what_is_written_is_read_back)
{
    const char         *path = kd_test_path("all.safetensors");
    kd_safetensors     *f;
    const kd_st_tensor *t;
    int64_t             l[2];
    float               got[6];

    kd_assert_ok(write_all(path, _i));
    kd_assert_ok(kd_safetensors_open(&f, ctx, path));
    ck_assert_int_eq(kd_safetensors_count(f), 5);
    t = kd_safetensors_find(f, "z.floats");
    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(t->rank, 8);
    ck_assert_int_eq(t->dim[0], 2);
    ck_assert_int_eq(t->dim[1], 3);
    kd_assert_ok(kd_safetensors_read(f, t, got));
    ck_assert(kd_test_same_bits(got, floats, sizeof floats));
    kd_assert_ok(kd_safetensors_read(f, kd_safetensors_find(f, "longs"), l));
    ck_assert(kd_test_same_bits(l, longs, sizeof longs));
    ck_assert_int_eq(kd_safetensors_find(f, "by\"tes\t\xE2\x82\xAC")->bytes, 3);
    kd_assert_ok(kd_safetensors_read_float(f, kd_safetensors_find(f, "scalar"), got));
    ck_assert(got[0] == 0.1f);
    t = kd_safetensors_find(f, "empty");
    ck_assert_int_eq(t->count, 0);
    ck_assert_int_eq(t->dim[1], 5);
    kd_assert_ok(kd_safetensors_read_float(f, t, NULL));
    ck_assert_str_eq(kd_safetensors_text(f, "note"),
                     "a \"quoted\" \\ text\nof two lines, \xC3\xA9");
    ck_assert_ptr_null(kd_safetensors_text(f, "other"));
    ck_assert_ptr_null(kd_safetensors_find(f, "z"));
    ck_assert_ptr_null(kd_safetensors_at(f, 5));
    for (int64_t i = 1; i < 5; i++)
        ck_assert_int_lt(strcmp(kd_safetensors_at(f, i - 1)->name, kd_safetensors_at(f, i)->name),
                         0);
    kd_assert_status(kd_safetensors_verify(f), _i ? KDAS_OK : KDAS_EFORMAT);
    kd_safetensors_close(f);
}
END_TEST

START_TEST(the_file_is_the_one_that_the_format_asks_for)
{
    static const char want[] = "\x90\0\0\0\0\0\0\0"
                               "{\"__metadata__\":{\"format\":\"torch\"},"
                               "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                               "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[3,7]}}     "
                               "\0\x7F\xFF\0\0\xC0\x3F";
    const int64_t     three  = 3;
    kd_st_writer     *w;
    unsigned char    *got;
    size_t            n;

    kd_assert_ok(kd_st_writer_create(&w, ctx));
    kd_assert_ok(kd_st_writer_put(w, "b", KD_ST_U8, 1, &three, bytes));
    kd_assert_ok(kd_st_writer_put(w, "a", KD_ST_F32, 0, NULL, floats));
    kd_assert_ok(kd_st_writer_put_text(w, "format", "torch"));
    kd_assert_ok(kd_st_writer_save(w, kd_test_path("x"), false));
    kd_st_writer_destroy(w);
    got = kd_test_read(kd_test_path("x"), &n);
    ck_assert_uint_eq(n, sizeof want - 1);
    ck_assert_mem_eq(got, want, n);
    free(got);
}
END_TEST

/* Each type: its bytes, and what they are as float. */
static const struct {
    const char *dtype;
    size_t      size;
    const char *data;
    float       want[3];
} types[] = {
    { "F32", 4, "\0\0\x80\x3F\0\0\0\xC0\0\0\x80\x7F", { 1, -2, INFINITY } },
    { "F64", 8, "\0\0\0\0\0\0\xF0\x3F\0\0\0\0\0\0\0\xC0\0\0\0\0\0\0\0\x80", { 1, -2, -0.0f } },
    { "F16", 2, "\0\x3C\x01\x80\0\xFC", { 1, -0x1p-24f, -INFINITY } },
    { "F16", 2, "\xFF\x7B\0\x04\xFF\x03", { 65504, 0x1p-14f, 1023 * 0x1p-24f } },
    { "BF16", 2, "\x80\x3F\0\xC0\x80\x7F", { 1, -2, INFINITY } },
    { "I64",
      8,
      "\1\0\0\0\0\0\0\0\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0\0\0\0\x80",
      { 1, -2, -0x1p63f } },
    { "I32", 4, "\1\0\0\0\xFE\xFF\xFF\xFF\0\0\0\x80", { 1, -2, -0x1p31f } },
    { "I16", 2, "\1\0\xFE\xFF\0\x80", { 1, -2, -32768 } },
    { "I8", 1, "\1\xFE\x80", { 1, -2, -128 } },
    { "U64", 8, "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80", { 1, 2, 0x1p63f } },
    { "U32", 4, "\1\0\0\0\2\0\0\0\0\0\0\x80", { 1, 2, 0x1p31f } },
    { "U16", 2, "\1\0\2\0\0\x80", { 1, 2, 32768 } },
    { "U8", 1, "\1\2\xFF", { 1, 2, 255 } },
    { "BOOL", 1, "\1\0\x7F", { 1, 0, 1 } },
};

START_TEST(each_type_is_read_as_float)
{
    char            header[256];
    const char     *path;
    kd_safetensors *f;
    float           got[3];
    unsigned char  *file;
    size_t          n, size = 3 * types[_i].size;

    snprintf(header, sizeof header,
             "{\"t\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}", types[_i].dtype,
             size);
    path = kd_test_lay(header, size);
    file = kd_test_read(path, &n);
    memcpy(file + n - size, types[_i].data, size);
    kd_test_write(path, file, n);
    free(file);
    kd_assert_ok(kd_safetensors_open(&f, ctx, path));
    ck_assert_str_eq(kd_st_dtype_name(kd_safetensors_at(f, 0)->dtype), types[_i].dtype);
    kd_assert_ok(kd_safetensors_read_float(f, kd_safetensors_at(f, 0), got));
    ck_assert(kd_test_same_bits(got, types[_i].want, sizeof got));
    kd_safetensors_close(f);
}
END_TEST

START_TEST(a_tensor_larger_than_a_read_step_is_converted_whole)
{
    enum { N = 30000 };
    const int64_t   n = N;
    static double   data[N];
    static float    got[N];
    kd_st_writer   *w;
    kd_safetensors *f;

    for (int i = 0; i < N; i++)
        data[i] = i / 7.0;
    kd_assert_ok(kd_st_writer_create(&w, ctx));
    kd_assert_ok(kd_st_writer_put(w, "t", KD_ST_F64, 1, &n, data));
    kd_assert_ok(kd_st_writer_save(w, kd_test_path("x"), false));
    kd_st_writer_destroy(w);
    kd_assert_ok(kd_safetensors_open(&f, ctx, kd_test_path("x")));
    kd_assert_ok(kd_safetensors_read_float(f, kd_safetensors_at(f, 0), got));
    kd_safetensors_close(f);
    for (int i = 0; i < N; i++)
        ck_assert(got[i] == (float)data[i]);
}
END_TEST

START_TEST(files_of_the_python_library_are_read)
{
    const char         *path = kd_test_shared("fixtures/resize.safetensors");
    kd_safetensors     *f;
    const kd_st_tensor *t;

    if (!path) return;
    kd_assert_ok(kd_safetensors_open(&f, ctx, path));
    ck_assert_int_eq(kd_safetensors_count(f), 8);
    t = kd_safetensors_find(f, "in2");
    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(t->dtype, KD_ST_U8);
    ck_assert_int_eq(t->count, 90 * 131 * 3);
    kd_safetensors_close(f);
}
END_TEST

/* ---- Writers refuse ---- */

START_TEST(a_writer_refuses_what_no_reader_would_take)
{
    const int64_t good = 3, minus = -1, huge[2] = { INT64_MAX, 2 };
    kd_st_writer *w;

    kd_assert_ok(kd_st_writer_create(&w, ctx));
    kd_assert_ok(kd_st_writer_put(w, "t", KD_ST_U8, 1, &good, bytes));
    kd_assert_status(kd_st_writer_put(w, "t", KD_ST_U8, 1, &good, bytes), KDAS_EINVAL);
    kd_assert_sentence("'t' is put twice");
    kd_assert_status(kd_st_writer_put(w, "", KD_ST_U8, 1, &good, bytes), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, NULL, KD_ST_U8, 1, &good, bytes), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, "__metadata__", KD_ST_U8, 1, &good, bytes), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, "\xC0\x80", KD_ST_U8, 1, &good, bytes), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, "u", KD_ST_U8, 1, &good, NULL), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, "u", KD_ST_U8, 1, NULL, bytes), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, "u", KD_ST_U8, 9, &good, bytes), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, "u", KD_ST_DTYPES, 1, &good, bytes), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, "u", KD_ST_U8, 1, &minus, bytes), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put(w, "u", KD_ST_U8, 2, huge, bytes), KDAS_EINVAL);
    kd_assert_ok(kd_st_writer_put_text(w, "checksum", "mine"));
    kd_assert_status(kd_st_writer_put_text(w, "checksum", "again"), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_put_text(w, "k", "\xFF"), KDAS_EINVAL);
    kd_assert_status(kd_st_writer_save(w, kd_test_path("x"), true), KDAS_EINVAL);
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
    kd_assert_ok(kd_st_writer_save(w, kd_test_path("x"), false));
    kd_st_writer_destroy(w);
}
END_TEST

START_TEST(utf8_is_told_from_other_bytes)
{
    static const char *const good[] = {
        "",     "abc",          "\xC3\xA9",         "\xE2\x82\xAC",
        "\x7F", "\xED\x9F\xBF", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"
    };
    static const char *const bad[] = { "\x80",
                                       "\xC3",
                                       "\xC0\x80",
                                       "\xE0\x80\x80",
                                       "\xED\xA0\x80",
                                       "\xE2\x82",
                                       "\xF4\x90\x80\x80",
                                       "\xF8\x88\x80\x80",
                                       "a\xFF",
                                       "\xF0\x80\x80\x80" };

    for (size_t i = 0; i < KD_COUNT(good); i++)
        ck_assert_msg(kd_st_is_utf8(good[i], strlen(good[i])), "row %zu", i);
    for (size_t i = 0; i < KD_COUNT(bad); i++)
        ck_assert_msg(!kd_st_is_utf8(bad[i], strlen(bad[i])), "row %zu", i);
    ck_assert(!kd_st_is_utf8("a\0b", 3));
}
END_TEST

/* ---- Damage by chance, memory that runs out ---- */

START_TEST(files_altered_at_random_never_crash_the_reader)
{
    const char    *path = kd_test_path("x");
    kd_random      r    = kd_random_make(11, 0);
    unsigned char *file, *copy;
    size_t         n;
    int            opened = 0;

    kd_assert_ok(write_all(path, false));
    file = kd_test_read(path, &n);
    copy = malloc(n);
    for (int i = 0; i < 6000; i++) {
        kd_safetensors *f;
        float           out[8];
        size_t          m = kd_random_below(&r, 8) ? n : (size_t)kd_random_below(&r, (int64_t)n);

        memcpy(copy, file, n);
        for (int64_t k = kd_random_below(&r, 4); k >= 0; k--) /* digits often: they are the lies */
            copy[kd_random_below(&r, (int64_t)n)] =
                (unsigned char)(kd_random_below(&r, 2) ? '0' + kd_random_below(&r, 10)
                                                       : kd_random_below(&r, 256));
        kd_test_write(path, copy, m);
        if (kd_safetensors_open(&f, ctx, path) != KDAS_OK) {
            kd_assert_sentence("/x'");
            continue;
        }
        opened++;
        for (int64_t k = 0; k < kd_safetensors_count(f); k++)
            if (kd_safetensors_at(f, k)->count <= 8)
                kd_assert_ok(kd_safetensors_read_float(f, kd_safetensors_at(f, k), out));
        kd_safetensors_close(f);
    }
    ck_assert_int_gt(opened, 100); /* some alterations are harmless: the test reaches the tensors */
    free(file);
    free(copy);
}
END_TEST

START_TEST(each_allocation_that_fails_is_survived)
{
    const char *path = kd_test_path("x");

    for (int k = 1, done = 0; !done; k++) {
        kd_safetensors *f;
        kdas_status     st;

        kd_test_write(path, "old", 3);
        kd_test_bare_context(ctx, &memory);
        memory.fail_at = k;
        st             = write_all(path, true);
        kd_assert_status(st, memory.asked < k ? KDAS_OK : KDAS_ENOMEM);
        kd_test_assert_balanced(&memory);
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
        if (st != KDAS_OK) kd_test_assert_text(path, "old");
        done = st == KDAS_OK;

        kd_test_bare_context(ctx, &memory);
        kd_assert_ok(write_all(path, true));
        kd_test_bare_context(ctx, &memory);
        memory.fail_at = k;
        st             = kd_safetensors_open(&f, ctx, path);
        ck_assert_int_eq(f == NULL, st != KDAS_OK);
        if (st == KDAS_OK) st = kd_safetensors_verify(f);
        kd_assert_status(st, memory.asked < k ? KDAS_OK : KDAS_ENOMEM);
        kd_safetensors_close(f);
        kd_test_assert_balanced(&memory);
        done = done && st == KDAS_OK;
    }
}
END_TEST

static Suite *safetensors_suite(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, what_is_written_is_read_back, 0, 2);
    tcase_add_test(t, the_file_is_the_one_that_the_format_asks_for);
    tcase_add_loop_test(t, each_type_is_read_as_float, 0, KD_COUNT(types));
    tcase_add_test(t, a_tensor_larger_than_a_read_step_is_converted_whole);
    tcase_add_test(t, files_of_the_python_library_are_read);
    tcase_add_test(t, a_writer_refuses_what_no_reader_would_take);
    tcase_add_test(t, utf8_is_told_from_other_bytes);
    tcase_add_test(t, files_altered_at_random_never_crash_the_reader);
    tcase_add_test(t, each_allocation_that_fails_is_survived);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(safetensors_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
