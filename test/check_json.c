/* check_json.c - JSON texts: what the grammar allows is read, what it does not is refused at its byte,
 * and escapes become the characters that they stand for. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/json.h"
#include "io/json_write.h"
#include "support/check_util.h"
#include "support/files.h"

static kd_test_memory memory;
static kdas_context   context, *ctx = &context;
static char           text[4096];

static void setup(void) { kd_test_bare_context(ctx, &memory); }
static void teardown(void) { kd_test_assert_balanced(&memory); }

static kdas_status parse(kd_json **json, const char *from)
{
    snprintf(text, sizeof text, "%s", from);
    return kd_json_parse(json, ctx, text, strlen(text), 1000);
}

static const char *const good[] = {
    "{}",
    "[]",
    "[]  \r\n\t",
    "[ ]",
    "{ }",
    "[1]",
    "[-0, 0.5, -12.75e+10, 1E5, 1e-5, 0e0, 123456789012345678901234567890]",
    "[true,false,null]",
    "[\"\",\"a\",\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"]",
    "{\"a\":{\"b\":[{},[],[[]]]},\"c\":1}",
    "{\"\":\"\"}",
    "{\"a\":1,\"a\":2}",
    "[\"\\u00e9\\uD83D\\uDE00\\uFFFF\"]",
    "{\n\t\"a\" : [ 1 , 2 ] , \"b\" :\r\nnull }",
    "[\"]}{[,:\"]",
    "[\"\\\\\"]",
};

START_TEST(the_grammar_is_read)
{
    kd_json *json;

    kd_assert_ok(parse(&json, good[_i]));
    kd_json_free(json);
}
END_TEST

/* The sentence names the byte, and says what. */
static const struct {
    const char *text, *sentence;
} bad[] = {
    { "", "byte 0" },
    { "1", "neither an object nor an array" },
    { "\"a\"", "neither an object nor an array" },
    { " {}", "byte 0" },
    { "{", "byte 1: it ends too early" },
    { "[", "byte 1: it ends too early" },
    { "[1", "byte 2: it ends too early" },
    { "[1,", "byte 3: it ends too early" },
    { "{\"a\"", "byte 4: it ends too early" },
    { "{\"a\":", "byte 5: it ends too early" },
    { "{\"a\":1", "byte 6: it ends too early" },
    { "[}", "byte 1: a character" },
    { "{]", "byte 1: a character" },
    { "[{]}", "byte 2: a character" },
    { "[,]", "byte 1: a character" },
    { "[1,]", "byte 3: a character" },
    { "[1,,2]", "byte 3: a character" },
    { "[1 2]", "byte 3: a character" },
    { "[1:2]", "byte 2: a character" },
    { "[\"a\":1]", "byte 4: a character" },
    { "[[]:[]]", "byte 3: a character" },
    { "{,}", "byte 1: a character" },
    { "{:1}", "byte 1: a character" },
    { "{1:2}", "byte 1: a character" },
    { "{{}:1}", "byte 1: a character" },
    { "{[]:1}", "byte 1: a character" },
    { "{null:1}", "byte 1: a character" },
    { "{\"a\"}", "byte 4: a character" },
    { "{\"a\":}", "byte 5: a character" },
    { "{\"a\" 1}", "byte 5: a character" },
    { "{\"a\",1}", "byte 4: a character" },
    { "{\"a\":1,}", "byte 7: a character" },
    { "{\"a\":1,2}", "byte 7: a character" },
    { "{\"a\":1 \"b\":2}", "byte 7: a character" },
    { "{\"a\":1:2}", "byte 6: a character" },
    { "{\"a\"::1}", "byte 5: a character" },
    { "{\"a\":\"b\":\"c\"}", "byte 8: a character" },
    { "{\"a\":{}:2}", "byte 7: a character" },
    { "[01]", "byte 2: a character" },
    { "[+1]", "byte 1: neither" },
    { "[.5]", "byte 1: neither" },
    { "[1.]", "byte 1: neither" },
    { "[1.e5]", "byte 1: neither" },
    { "[1e]", "byte 1: neither" },
    { "[1e+]", "byte 1: neither" },
    { "[-]", "byte 1: neither" },
    { "[--1]", "byte 1: neither" },
    { "[0x10]", "byte 2: a character" },
    { "[NaN]", "byte 1: neither" },
    { "[Infinity]", "byte 1: neither" },
    { "[-Infinity]", "byte 1: neither" },
    { "[True]", "byte 1: neither" },
    { "[nul]", "byte 1: neither" },
    { "[truefalse]", "byte 5: a character" },
    { "['a']", "byte 1: neither" },
    { "[/* 1 */]", "byte 1: neither" },
    { "[\"]", "byte 3: a string has no end" },
    { "[\"\\\"]", "byte 5: a string has no end" },
    { "[\"a\nb\"]", "byte 3: a control character" },
    { "[\"a\x1F\"]", "byte 3: a control character" },
    { "[\"\\a\"]", "byte 2: an escape" },
    { "[\"\\'\"]", "byte 2: an escape" },
    { "[\"\\x41\"]", "byte 2: an escape" },
    { "[\"\\\n\"]", "byte 2: an escape" },
    { "[\"\\", "byte 2: an escape" },
    { "[\"\\u", "byte 2: an escape" },
    { "[\"\\u12\"]", "byte 2: an escape" },
    { "[\"\\u12G4\"]", "byte 2: an escape" },
    { "[\"\\U0041\"]", "byte 2: an escape" },
    { "[\"\\uD800\"]", "byte 2: an escape" },
    { "[\"\\uD800\\n\"]", "byte 2: an escape" },
    { "[\"\\uD800\\uD800\"]", "byte 2: an escape" },
    { "[\"\\uD800\\u0041\"]", "byte 2: an escape" },
    { "[\"a\\uDC00\\uD800\"]", "byte 3: an escape" },
    { "[\"\\u0000\"]", "a string holds a NUL at byte 2" },
    { "{\"a\\u0000\":1}", "a string holds a NUL at byte 3" },
    { "[]]", "something follows the JSON at byte 2" },
    { "{} {", "something follows the JSON at byte 3" },
    { "[1] \n x", "something follows the JSON at byte 6" },
    { "{\"a\":1}\"", "something follows the JSON at byte 7" },
};

START_TEST(anything_else_is_refused_at_its_byte)
{
    kd_json *json = (kd_json *)&memory;

    kd_assert_status(parse(&json, bad[_i].text), KDAS_EFORMAT);
    ck_assert_ptr_null(json);
    kd_assert_sentence(bad[_i].sentence);
    ck_assert_int_eq(memory.asked, 0);
}
END_TEST

START_TEST(escapes_become_characters)
{
    static const char *const pairs[][2] = {
        { "\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t" },
        { "\\u0001\\u0041\\u007f", "\x01"
                                   "A\x7F" },
        { "\\u0080\\u00e9\\u07FF", "\xC2\x80\xC3\xA9\xDF\xBF" },
        { "\\u0800\\u20AC\\uD7ff\\uE000\\uffff",
          "\xE0\xA0\x80\xE2\x82\xAC\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF" },
        { "\\uD800\\uDC00\\uD83D\\uDE00\\uDBFF\\uDFFF",
          "\xF0\x90\x80\x80\xF0\x9F\x98\x80\xF4\x8F\xBF\xBF" },
        { "a\\\\u0000b\\\\\\\\c", "a\\u0000b\\\\c" },
        { "\xC3\xA9 x", "\xC3\xA9 x" },
    };
    char     from[256];
    kd_json *json;

    for (size_t i = 0; i < KD_COUNT(pairs); i++) {
        snprintf(from, sizeof from, "{\"%s\":\"%s\",\"next\":0}", pairs[i][0], pairs[i][0]);
        kd_assert_ok(parse(&json, from));
        ck_assert_str_eq(kd_json_text(json, 1), pairs[i][1]);
        ck_assert_str_eq(kd_json_text(json, 2), pairs[i][1]);
        ck_assert_str_eq(kd_json_text(json, 3), "next");
        kd_json_free(json);
    }
}
END_TEST

START_TEST(items_are_walked_in_order)
{
    kd_json *json;
    int      a, b, item;

    kd_assert_ok(
        parse(&json, "{\"a\":[[1,[2]],{\"x\":{\"y\":3}},\"s\",null,true],\"b\":{},\"c\":[]}"));
    ck_assert(kd_json_is_object(json, 0) && !kd_json_is_array(json, 0));
    ck_assert_int_eq(kd_json_size(json, 0), 3);
    a = kd_json_first(json, 0);
    ck_assert_str_eq(kd_json_text(json, a), "a");
    item = kd_json_value(json, a);
    ck_assert(kd_json_is_array(json, item));
    ck_assert_int_eq(kd_json_size(json, item), 5);
    item = kd_json_first(json, item);
    ck_assert(kd_json_is_array(json, item));
    ck_assert_int_eq(kd_json_whole(json, kd_json_first(json, item)), 1);
    item = kd_json_next(json, item);
    ck_assert(kd_json_is_object(json, item));
    ck_assert_ptr_null(kd_json_text(json, item));
    item = kd_json_next(json, item);
    ck_assert_str_eq(kd_json_text(json, item), "s");
    ck_assert_int_eq(kd_json_whole(json, item), -1);
    item = kd_json_next(json, item);
    ck_assert(kd_json_is_null(json, item));
    item = kd_json_next(json, item);
    ck_assert(!kd_json_is_null(json, item));
    ck_assert_int_eq(kd_json_next(json, item), 0);
    b = kd_json_next(json, a);
    ck_assert_str_eq(kd_json_text(json, b), "b");
    ck_assert_int_eq(kd_json_first(json, kd_json_value(json, b)), 0);
    b = kd_json_next(json, b);
    ck_assert_str_eq(kd_json_text(json, b), "c");
    ck_assert_int_eq(kd_json_first(json, kd_json_value(json, b)), 0);
    ck_assert_int_eq(kd_json_next(json, b), 0);
    kd_json_free(json);
}
END_TEST

START_TEST(whole_numbers_are_told_from_others)
{
    static const struct {
        const char *text;
        int64_t     want;
    } rows[] = {
        { "[0]", 0 },
        { "[9007199254740992]", 9007199254740992 },
        { "[9007199254740993]", -1 },
        { "[18446744073709551617]", -1 },
        { "[123456789012345678901234567890]", -1 },
        { "[-1]", -1 },
        { "[1.5]", -1 },
        { "[1e3]", -1 },
        { "[true]", -1 },
        { "[null]", -1 },
        { "[\"1\"]", -1 },
        { "[[1]]", -1 },
    };
    kd_json *json;

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        kd_assert_ok(parse(&json, rows[i].text));
        ck_assert_int_eq(kd_json_whole(json, 1), rows[i].want);
        kd_json_free(json);
    }
}
END_TEST

START_TEST(depth_and_values_are_bounded)
{
    enum { DEEP = KD_JSON_MAX_DEPTH };
    char     deep[2 * DEEP + 3];
    kd_json *json;

    memset(deep, '[', DEEP);
    memset(deep + DEEP, ']', DEEP);
    deep[2 * DEEP] = 0;
    kd_assert_ok(parse(&json, deep));
    kd_json_free(json);
    memset(deep, '[', DEEP + 1);
    memset(deep + DEEP + 1, ']', DEEP + 1);
    deep[2 * DEEP + 2] = 0;
    kd_assert_status(parse(&json, deep), KDAS_EFORMAT);
    kd_assert_sentence("byte 128: it is nested too deep");

    strcpy(text, "{\"a\":[1,2,\"x,y,z\"],\"b\":{}}");
    kd_assert_status(kd_json_parse(&json, ctx, text, strlen(text), 5), KDAS_EFORMAT);
    kd_assert_sentence("too many values, more than 5");
    kd_assert_ok(kd_json_parse(&json, ctx, text, strlen(text), 6));
    kd_json_free(json);
}
END_TEST

START_TEST(an_allocation_that_fails_is_survived)
{
    kd_json *json;

    for (int k = 1; k <= 2; k++) {
        kd_test_bare_context(ctx, &memory);
        memory.fail_at = k;
        kd_assert_status(parse(&json, "[1]"), KDAS_ENOMEM);
        ck_assert_ptr_null(json);
        kd_test_assert_balanced(&memory);
    }
    kd_json_free(NULL);
}
END_TEST

/* Of what is read, every item lies in its parent, and a walk passes over each of them once. */
static int walk(const kd_json *json, int parent)
{
    bool object = kd_json_is_object(json, parent);
    int  seen = 1, count = 0;

    if (!object && !kd_json_is_array(json, parent)) return 1;
    for (int i = kd_json_first(json, parent); i; i = kd_json_next(json, i)) {
        if (object) ck_assert_ptr_nonnull(kd_json_text(json, i));
        seen += object + walk(json, object ? kd_json_value(json, i) : i);
        count++;
    }
    ck_assert_int_eq(count, kd_json_size(json, parent));
    return seen;
}

START_TEST(texts_by_chance_never_crash_the_reader)
{
    static const char *const parts[] = { "{",   "}",  "[",   "]",       ",",    ":",      "\"",
                                         "\"a", "1",  "-",   ".5",      "null", "\\u00",  "41",
                                         "\\",  "\"", "\":", "\"k\":1", "[]",   "\\uD800" };
    kd_random                r       = kd_random_make(5, 0);
    int                      read    = 0;

    for (int i = 0; i < 300000; i++) {
        char     from[64];
        kd_json *json;
        int      n = (int)kd_random_below(&r, 10);

        strcpy(from, kd_random_below(&r, 2) ? "{" : "[");
        while (n-- > 0)
            strcat(from, parts[kd_random_below(&r, KD_COUNT(parts))]);
        if (parse(&json, from) != KDAS_OK) continue;
        ck_assert_int_ge(walk(json, 0), 1);
        kd_json_free(json);
        read++;
    }
    ck_assert_int_gt(read, 1000);
}
END_TEST

/* ---- writing ---- */

static void write_all(kd_json_out *out)
{
    kd_json_begin(out, NULL, '{');
    kd_json_put_text(out, "quote\"\\\n\x01\x7F", "caf\xC3\xA9 \xF0\x9F\x98\x80");
    kd_json_put_text(out, "broken", "\xFFz\xC3\xE2\x82");
    kd_json_put_text(out, "none", NULL);
    kd_json_begin(out, "list", '[');
    kd_json_put_whole(out, NULL, 1);
    kd_json_put_whole(out, NULL, -9007199254740993);
    kd_json_begin(out, NULL, '{');
    kd_json_end(out, '}');
    kd_json_put_real(out, NULL, 0.25);
    kd_json_put_real(out, NULL, NAN);
    kd_json_put_real(out, NULL, -INFINITY);
    kd_json_end(out, ']');
    kd_json_end(out, '}');
}

START_TEST(what_is_written_can_be_read)
{
    static const char want[] =
        "{\n"
        "  \"quote\\\"\\\\\\u000a\\u0001\\u007f\": \"caf\xC3\xA9 \xF0\x9F\x98\x80\",\n"
        "  \"broken\": \"\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\",\n"
        "  \"none\": null,\n"
        "  \"list\": [\n"
        "    1,\n"
        "    -9007199254740993,\n"
        "    {},\n"
        "    0.25,\n"
        "    null,\n"
        "    null\n"
        "  ]\n"
        "}\n";
    kd_json_out out = { .ctx = ctx };
    kd_json    *json;

    kd_test_folder_make();
    write_all(&out);
    kd_assert_ok(kd_json_save(&out, kd_test_path("a.json")));
    kd_json_out_finish(&out);
    kd_test_assert_text(kd_test_path("a.json"), want);
    kd_assert_ok(parse(&json, want));
    ck_assert_str_eq(kd_json_text(json, kd_json_first(json, 0)), "quote\"\\\n\x01\x7F");
    kd_json_free(json);
    kd_test_folder_remove();
}
END_TEST

START_TEST(an_allocation_that_fails_in_writing_is_told_at_the_end)
{
    kdas_status st = KDAS_ENOMEM;

    kd_test_folder_make();
    for (long k = 1; st != KDAS_OK; k++) {
        kd_json_out out = { .ctx = ctx };

        memory.fail_at = memory.asked + k;
        write_all(&out);
        st             = kd_json_save(&out, kd_test_path("a.json"));
        memory.fail_at = 0;
        kd_json_out_finish(&out);
        if (st != KDAS_OK) kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), st == KDAS_OK);
    }
    kd_test_folder_remove();
}
END_TEST

static Suite *json_suite(void)
{
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, the_grammar_is_read, 0, KD_COUNT(good));
    tcase_add_loop_test(t, anything_else_is_refused_at_its_byte, 0, KD_COUNT(bad));
    tcase_add_test(t, escapes_become_characters);
    tcase_add_test(t, items_are_walked_in_order);
    tcase_add_test(t, whole_numbers_are_told_from_others);
    tcase_add_test(t, depth_and_values_are_bounded);
    tcase_add_test(t, an_allocation_that_fails_is_survived);
    tcase_add_test(t, texts_by_chance_never_crash_the_reader);
    tcase_add_test(t, what_is_written_can_be_read);
    tcase_add_test(t, an_allocation_that_fails_in_writing_is_told_at_the_end);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(json_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
