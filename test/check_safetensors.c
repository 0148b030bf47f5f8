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

/* A file with this header and n bytes of data 0, 1, 2, ... */
static const char *lay(const char *header, size_t n)
{
    const char    *path   = kd_test_path("laid.safetensors");
    uint64_t       length = strlen(header);
    unsigned char *file   = malloc(8 + length + n);

    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < n; i++)
        file[8 + length + i] = (unsigned char)i;
    kd_test_write(path, file, 8 + length + n);
    free(file);
    return path;
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
    path = lay(header, size);
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
    const char     *path = lay(lies[_i].header, 8);
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

    kd_assert_ok(kd_safetensors_open(&f, ctx, lay("{\"t\":" WHOLE "}", 8)));
    kd_safetensors_close(f);
    kd_assert_ok(
        kd_safetensors_open(&f, ctx, lay("{\"__metadata__\":null,\"t\":" WHOLE "}   ", 8)));
    kd_safetensors_close(f);
    kd_assert_ok(kd_safetensors_open(&f, ctx, lay("{}", 0)));
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
    kd_assert_ok(kd_safetensors_open(&f, ctx, lay(header, 8)));
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
        kd_assert_status(kd_safetensors_open(&f, ctx, lay(headers[i], 8)), KDAS_EFORMAT);
    path                                   = lay(headers[2], 8);
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
    kd_assert_ok(kd_safetensors_open(&f, ctx, lay(header, n + 1)));
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
        lay("{ \"__metadata__\" : {\"k\\u00e9\":\"a\\\\u0000\\/\\ud83d\\uDE00\"},\r\n\t"
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
    kd_assert_status(kd_safetensors_open(&f, ctx, lay(text, 0)), KDAS_EFORMAT);
    kd_assert_sentence("not JSON");
    for (int i = 5; i < MANY; i++)
        text[i] = i % 2 ? ',' : '0';
    memcpy(text, "{\"a\":[", 6);
    text[MANY] = 0;
    kd_assert_status(kd_safetensors_open(&f, ctx, lay(text, 0)), KDAS_EFORMAT);
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
    kd_assert_ok(kd_safetensors_open(&f, ctx, lay(text, 0)));
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
    tcase_add_loop_test(t, blanks_around_a_header_are_read_over, 0, KD_COUNT(paddings));
    tcase_add_test(t, other_padding_is_refused);
    tcase_add_loop_test(t, types_that_are_not_converted_do_not_hinder_the_others, 0,
                        KD_COUNT(others));
    tcase_add_loop_test(t, what_is_written_is_read_back, 0, 2);
    tcase_add_test(t, the_file_is_the_one_that_the_format_asks_for);
    tcase_add_loop_test(t, each_type_is_read_as_float, 0, KD_COUNT(types));
    tcase_add_test(t, a_tensor_larger_than_a_read_step_is_converted_whole);
    tcase_add_test(t, files_of_the_python_library_are_read);
    tcase_add_loop_test(t, a_lying_header_is_refused_by_name, 0, KD_COUNT(lies));
    tcase_add_test(t, the_rows_above_are_refused_for_their_lie_alone);
    tcase_add_test(t, escapes_and_members_of_other_writers_are_read);
    tcase_add_test(t, a_header_length_beyond_the_file_is_refused);
    tcase_add_test(t, depth_and_number_are_bounded);
    tcase_add_test(t, as_many_tensors_as_allowed_are_read);
    tcase_add_test(t, a_pytorch_file_is_told_from_damage);
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
