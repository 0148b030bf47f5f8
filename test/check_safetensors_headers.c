/* check_safetensors_headers.c - headers of safetensors files: a file that lies is refused by name, what
 * other writers put around and into a header is read, and its size is bounded. */
#include <check.h>
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

/* ---- Headers that lie; 8 bytes of data follow each ---- */

#define ENTRY(type, shape, from, to) \
    "{\"dtype\":\"" type "\",\"shape\":[" shape "],\"data_offsets\":[" from "," to "]}"
#define WHOLE ENTRY("U8", "8", "0", "8")

static const struct {
    const char *header, *sentence;
} lies[] = {
    { "{\"t\":" ENTRY("U8", "16", "0", "16") "}", "tensor 't'" },
    { "{\"t\":" ENTRY("U8", "8", "1000000000000", "1000000000008") "}", "past the end" },
    { "{\"t\":" ENTRY("U8", "8", "8", "0") "}", "not two whole numbers in order" },
    { "{\"t\":" ENTRY("U8", "8", "-8", "0") "}", "not two whole numbers" },
    { "{\"t\":" ENTRY("U8", "8", "0.5", "8.5") "}", "not two whole numbers" },
    { "{\"t\":" ENTRY("U8", "8", "0", "1e300") "}", "not two whole numbers" },
    { "{\"t\":" ENTRY("F32", "8", "0", "8") "}", "needs 32 bytes, it has 8" },
    { "{\"t\":" ENTRY("F32", "1", "0", "8") "}", "needs 4 bytes, it has 8" },
    { "{\"t\":" ENTRY("U8", "9223372036854775808", "0", "8") "}", "not a whole number" },
    { "{\"t\":" ENTRY("U8", "9007199254740992,9007199254740992", "0", "8") "}", "can be counted" },
    { "{\"t\":" ENTRY("F64", "4503599627370496,512", "0", "8") "}", "can be counted" },
    { "{\"t\":" ENTRY("U8", "-8", "0", "8") "}", "not a whole number" },
    { "{\"t\":" ENTRY("U8", "2.5", "0", "8") "}", "not a whole number" },
    { "{\"t\":" ENTRY("U8", "\"8\"", "0", "8") "}", "not a whole number" },
    { "{\"t\":" ENTRY("U8", "1,1,1,1,1,1,1,1,8", "0", "8") "}", "8 dimensions" },
    { "{\"t\":" ENTRY("F8_E9M9", "8", "0", "8") "}", "'F8_E9M9' is not known" },
    { "{\"t\":" ENTRY("F4", "15", "0", "8") "}", "do not fill whole bytes" },
    { "{\"t\":" ENTRY("F6_E2M3", "2", "0", "8") "}", "do not fill whole bytes" },
    { "{\"t\":" ENTRY("F6_E2M3", "8", "0", "8") "}", "needs 6 bytes, it has 8" },
    { "{\"t\":" ENTRY("", "8", "0", "8") "}", "is not known" },
    { "{\"a\":" ENTRY("U8", "5", "0", "5") ",\"b\":" ENTRY("U8", "4", "4", "8") "}", "overlap" },
    { "{\"a\":" WHOLE ",\"b\":" WHOLE "}", "overlap" },
    { "{\"a\":" ENTRY("U8", "3", "0", "3") ",\"b\":" ENTRY("U8", "4", "4", "8") "}", "no tensor" },
    { "{\"a\":" ENTRY("U8", "7", "0", "7") "}", "no tensor" },
    { "{\"a\":" ENTRY("U8", "7", "1", "8") "}", "no tensor" },
    { "{}", "no tensor" },
    { "{\"a\":" WHOLE ",\"a\":" ENTRY("U8", "0", "8", "8") "}", "used twice" },
    { "{\"a\":[]}", "not an object" },
    { "{\"a\":" WHOLE "} {", "follows the JSON" },
    { "{\"a\":" WHOLE ",}", "not JSON" },
    { "{\"a\":", "not JSON" },
    { "[1]", "not a JSON object" },
    { "not json at all", "not a JSON object" },
    { "", "not a JSON object" },
    { "{\"a\xFF\":" WHOLE "}", "not UTF-8" },
    { "{\"a\\u0000b\":" WHOLE "}", "NUL" },
    { "{\"a\\uD800b\":" WHOLE "}", "not JSON" },
    { "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[8],\"data_offsets\":[0,8]}}",
      "two members 'dtype'" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"shape\":[8],\"data_offsets\":[0,8]}}",
      "two members 'shape'" },
    { "{\"a\":" WHOLE ",\"\\u0061\":" ENTRY("U8", "0", "8", "8") "}", "used twice" },
    { "{\"a\":{\"shape\":[8],\"data_offsets\":[0,8]}}", "no dtype" },
    { "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,8]}}", "no shape" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[8]}}", "data_offsets" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0]}}", "data_offsets" },
    { "{\"__metadata__\":{\"k\":1},\"a\":" WHOLE "}", "more than strings" },
    { "{\"__metadata__\":[],\"a\":" WHOLE "}", "not an object" },
    { "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"},\"a\":" WHOLE "}", "twice" },
    { "{\"__metadata__\":{},\"__metadata__\":{},\"a\":" WHOLE "}", "two __metadata__" },
};

START_TEST(a_lying_header_is_refused_by_name)
{
    const char     *path = kd_test_lay(lies[_i].header, 8);
    kd_safetensors *f    = (kd_safetensors *)&memory;

    kd_assert_status(kd_safetensors_open(&f, ctx, path), KDAS_EFORMAT);
    ck_assert_ptr_null(f);
    kd_assert_sentence(path);
    kd_assert_sentence(lies[_i].sentence);
}
END_TEST

START_TEST(the_rows_above_are_refused_for_their_lie_alone)
{
    kd_safetensors *f;

    kd_assert_ok(kd_safetensors_open(&f, ctx, kd_test_lay("{\"t\":" WHOLE "}", 8)));
    kd_safetensors_close(f);
    kd_assert_ok(
        kd_safetensors_open(&f, ctx, kd_test_lay("{\"__metadata__\":null,\"t\":" WHOLE "}   ", 8)));
    kd_safetensors_close(f);
    kd_assert_ok(kd_safetensors_open(&f, ctx, kd_test_lay("{}", 0)));
    ck_assert_int_eq(kd_safetensors_count(f), 0);
    ck_assert_ptr_null(kd_safetensors_find(f, "t"));
    kd_safetensors_close(f);
}
END_TEST

/* As the format's own library takes them. */
static const struct {
    const char *front, *back;
} paddings[] = {
    { "   ", "" }, { "\n\t\r ", "" }, { "", "\n\t\r " }, { " ", "     " }, { "", "" },
};

START_TEST(blanks_around_a_header_are_read_over)
{
    char            header[256];
    kd_safetensors *f;
    float           got[8];

    snprintf(header, sizeof header, "%s{\"t\":" WHOLE "}%s", paddings[_i].front, paddings[_i].back);
    kd_assert_ok(kd_safetensors_open(&f, ctx, kd_test_lay(header, 8)));
    kd_assert_ok(kd_safetensors_read_float(f, kd_safetensors_find(f, "t"), got));
    for (int i = 0; i < 8; i++)
        ck_assert(got[i] == (float)i);
    kd_safetensors_close(f);
}
END_TEST

/* As the format's own library refuses them. */
START_TEST(other_padding_is_refused)
{
    static const char *const headers[] = { "\f{\"t\":" WHOLE "}", "\xEF\xBB\xBF{\"t\":" WHOLE "}",
                                           "{\"t\":" WHOLE "}~" };
    const char              *path;
    unsigned char           *file;
    kd_safetensors          *f;
    size_t                   n;

    for (size_t i = 0; i < KD_COUNT(headers); i++)
        kd_assert_status(kd_safetensors_open(&f, ctx, kd_test_lay(headers[i], 8)), KDAS_EFORMAT);
    path                                   = kd_test_lay(headers[2], 8);
    file                                   = kd_test_read(path, &n);
    *(unsigned char *)memchr(file, '~', n) = 0;
    kd_test_write(path, file, n);
    free(file);
    kd_assert_status(kd_safetensors_open(&f, ctx, path), KDAS_EFORMAT);
    kd_assert_sentence("NUL");
}
END_TEST

/* Types of the format that are not converted, and the bytes of 8 elements. */
static const struct {
    const char *dtype, *bytes;
} others[] = {
    { "F8_E4M3", "8" },     { "F8_E5M2", "8" },     { "F8_E8M0", "8" },
    { "F8_E4M3FNUZ", "8" }, { "F8_E5M2FNUZ", "8" }, { "C64", "64" },
    { "F4", "4" },          { "F6_E2M3", "6" },     { "F6_E3M2", "6" },
};

START_TEST(types_that_are_not_converted_do_not_hinder_the_others)
{
    char            header[256];
    kd_safetensors *f;
    float           got[8];
    size_t          n = strtoul(others[_i].bytes, NULL, 10);

    snprintf(header, sizeof header,
             "{\"odd\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%zu]},"
             "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}}",
             others[_i].dtype, n, n, n + 1);
    kd_assert_ok(kd_safetensors_open(&f, ctx, kd_test_lay(header, n + 1)));
    kd_assert_ok(kd_safetensors_read_float(f, kd_safetensors_find(f, "t"), got));
    ck_assert(got[0] == (float)n);
    kd_assert_status(kd_safetensors_read_float(f, kd_safetensors_find(f, "odd"), got),
                     KDAS_EFORMAT);
    kd_assert_sentence(others[_i].dtype);
    kd_assert_sentence("'odd'");
    kd_safetensors_close(f);
}
END_TEST

START_TEST(escapes_and_members_of_other_writers_are_read)
{
    const char *path =
        kd_test_lay("{ \"__metadata__\" : {\"k\\u00e9\":\"a\\\\u0000\\/\\ud83d\\uDE00\"},\r\n\t"
                    "\"t\\u002E\\u20ac\": {\"by\":[{\"any\":[1.5e-3,true]}],\"data_offsets\":[0,8],"
                    "\"shape\":[8],\"dtype\":\"\\u00558\"} }",
                    8);
    kd_safetensors *f;

    kd_assert_ok(kd_safetensors_open(&f, ctx, path));
    ck_assert_int_eq(kd_safetensors_count(f), 1);
    ck_assert_str_eq(kd_safetensors_at(f, 0)->name, "t.\xE2\x82\xAC");
    ck_assert_int_eq(kd_safetensors_at(f, 0)->dtype, KD_ST_U8);
    ck_assert_str_eq(kd_safetensors_text(f, "k\xC3\xA9"), "a\\u0000/\xF0\x9F\x98\x80");
    kd_safetensors_close(f);
}
END_TEST

START_TEST(a_header_length_beyond_the_file_is_refused)
{
    static const unsigned char files[][9] = {
        { 255, 255, 255, 255, 255, 255, 255, 255, '{' },
        { 0, 0, 0, 0, 0, 0, 0, 128, '{' },
        { 2, 0, 0, 0, 0, 0, 0, 0, '{' },
        { 'P', 'K', 3, 4, 9, 9, 9, 9, 9 },
        { 0x80, 2, 0x8A, 10, 'l', 9, 9, 9, 9 },
    };
    kd_safetensors *f;

    for (size_t i = 0; i < KD_COUNT(files); i++)
        for (size_t n = 0; n <= 9; n += i == 0 ? 1 : 9) {
            kd_test_write(kd_test_path("x"), files[i], n);
            kd_assert_status(kd_safetensors_open(&f, ctx, kd_test_path("x")), KDAS_EFORMAT);
            kd_assert_sentence("/x'");
        }
    kd_assert_sentence("pickle");
}
END_TEST

START_TEST(depth_and_number_are_bounded)
{
    enum { DEEP = 100000, MANY = 5000000 };
    char           *text = malloc(MANY + 1);
    kd_safetensors *f;

    memset(text, '[', DEEP);
    memcpy(text, "{\"a\":", 5);
    text[DEEP] = 0;
    kd_assert_status(kd_safetensors_open(&f, ctx, kd_test_lay(text, 0)), KDAS_EFORMAT);
    kd_assert_sentence("not JSON");
    for (int i = 5; i < MANY; i++)
        text[i] = i % 2 ? ',' : '0';
    memcpy(text, "{\"a\":[", 6);
    text[MANY] = 0;
    kd_assert_status(kd_safetensors_open(&f, ctx, kd_test_lay(text, 0)), KDAS_EFORMAT);
    kd_assert_sentence("too many");
    free(text);
}
END_TEST

START_TEST(as_many_tensors_as_allowed_are_read)
{
    char           *text = malloc((size_t)KD_ST_MAX_TENSORS * 80);
    size_t          n    = 0;
    kd_safetensors *f;
    char            name[32];

    for (int i = 0; i < KD_ST_MAX_TENSORS; i++)
        n += (size_t)sprintf(
            text + n, "%c\"t%05d\":{\"dtype\":\"F32\",\"shape\":[0,%d],\"data_offsets\":[0,0]}",
            i ? ',' : '{', i, i);
    strcpy(text + n, "}");
    kd_assert_ok(kd_safetensors_open(&f, ctx, kd_test_lay(text, 0)));
    ck_assert_int_eq(kd_safetensors_count(f), KD_ST_MAX_TENSORS);
    for (int i = 0; i < KD_ST_MAX_TENSORS; i += 33333) {
        snprintf(name, sizeof name, "t%05d", i);
        ck_assert_int_eq(kd_safetensors_find(f, name)->dim[1], i);
    }
    kd_safetensors_close(f);
    free(text);
}
END_TEST

START_TEST(a_pytorch_file_is_told_from_damage)
{
    const char     *path = kd_test_shared("data/quirks/pvt_v2_b2.truncated.pth");
    kd_safetensors *f;

    if (!path) return;
    kd_assert_status(kd_safetensors_open(&f, ctx, path), KDAS_EFORMAT);
    kd_assert_sentence("pvt_v2_b2.truncated.pth");
    kd_assert_sentence("export it to safetensors");
}
END_TEST

static Suite *headers_suite(void)
{
    Suite *s = suite_create("safetensors_headers");
    TCase *t = tcase_create("safetensors_headers");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, blanks_around_a_header_are_read_over, 0, KD_COUNT(paddings));
    tcase_add_test(t, other_padding_is_refused);
    tcase_add_loop_test(t, types_that_are_not_converted_do_not_hinder_the_others, 0,
                        KD_COUNT(others));
    tcase_add_loop_test(t, a_lying_header_is_refused_by_name, 0, KD_COUNT(lies));
    tcase_add_test(t, the_rows_above_are_refused_for_their_lie_alone);
    tcase_add_test(t, escapes_and_members_of_other_writers_are_read);
    tcase_add_test(t, a_header_length_beyond_the_file_is_refused);
    tcase_add_test(t, depth_and_number_are_bounded);
    tcase_add_test(t, as_many_tensors_as_allowed_are_read);
    tcase_add_test(t, a_pytorch_file_is_told_from_damage);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(headers_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
