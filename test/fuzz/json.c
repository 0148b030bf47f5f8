/* json.c - any text as JSON. What is read is written again, and must read as the same. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz/fuzz.h"
#include "io/json.h"
#include "io/json_write.h"
#include "io/safetensors.h"
#include "support/check_util.h"
#include "support/files.h"

typedef struct copy {
    kd_json_out out;
    uint64_t    hash; /* of what was read */
} copy;

static void mix(copy *c, const char *what, int64_t number)
{
    c->hash = kd_mix64(c->hash ^ kd_hash64(what) ^ (uint64_t)number);
}

static void take(copy *c, const kd_json *json, const char *key, int item)
{
    bool        object = kd_json_is_object(json, item), array = kd_json_is_array(json, item);
    const char *text  = kd_json_text(json, item);
    int64_t     whole = kd_json_whole(json, item);
    int         seen  = 0;

    if (key) mix(c, key, 1);
    if (object || array) {
        mix(c, object ? "{" : "[", 2);
        kd_json_begin(&c->out, key, object ? '{' : '[');
        for (int i = kd_json_first(json, item); i; i = kd_json_next(json, i), seen++) {
            if (object) ck_assert_ptr_nonnull(kd_json_text(json, i));
            take(c, json, object ? kd_json_text(json, i) : NULL,
                 object ? kd_json_value(json, i) : i);
        }
        ck_assert_int_eq(seen, kd_json_size(json, item));
        kd_json_end(&c->out, object ? '}' : ']');
    } else if (text) {
        mix(c, text, 3);
        kd_json_put_text(&c->out, key, text);
    } else if (kd_json_is_null(json, item)) {
        mix(c, "null", 4);
        kd_json_put_text(&c->out, key, NULL);
    } else if (whole >= 0) {
        mix(c, "whole", whole);
        kd_json_put_whole(&c->out, key, whole);
    } else { /* a bool or another number, of which the reader says no more */
        mix(c, "other", 5);
        kd_json_put_real(&c->out, key, 0.5);
    }
}

/* Read `text` and give its hash and a text of the same; false: it is refused. */
static bool read_and_write(kdas_context *ctx, char *text, size_t size, uint64_t *hash, char **again)
{
    copy     c = { .out = { .ctx = ctx } };
    kd_json *json;

    if (!kd_fuzz_refused_well(kd_json_parse(&json, ctx, text, size, 4096), KDAS_OK)) {
        ck_assert_ptr_null(json);
        return false;
    }
    take(&c, json, NULL, 0);
    kd_json_free(json);
    ck_assert_int_eq(c.out.status, KDAS_OK);
    *hash  = c.hash;
    *again = strndup(c.out.text, c.out.used);
    kd_json_out_finish(&c.out);
    return true;
}

static void run(const uint8_t *data, size_t size)
{
    kdas_context *ctx  = kd_fuzz_begin();
    char         *text = malloc(size + 1), *first = NULL, *second = NULL;
    uint64_t      a, b;

    memcpy(text, data, size);
    text[size] = 0;
    if (kd_st_is_utf8(text, size) && read_and_write(ctx, text, size, &a, &first)) {
        ck_assert_msg(read_and_write(ctx, first, strlen(first), &b, &second), "not read again: %s",
                      kdas_last_error());
        ck_assert_msg(a == b, "read again, it is another");
    }
    free(text);
    free(first);
    free(second);
    kd_fuzz_end();
}

static void seeds(void)
{
    static const char *const texts[] = {
        "{}",
        "[ ]",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}",
        "[true,false,null,-1.5e+3,0,9007199254740992]",
        "{\"\\u00e9\\ud83d\\ude00\\n\\\"\":\"\\/\\b\"}",
        "[[[[[[[[[[]]]]]]]]]]",
        "{\"a\":[{\"b\":[1,{\"c\":\"\"}]}],\"d\":\"\xC3\xA9\"}",
    };

    for (size_t i = 0; i < KD_COUNT(texts); i++) {
        char name[16];

        snprintf(name, sizeof name, "%zu.json", i);
        kd_fuzz_seed(name, texts[i], strlen(texts[i]));
    }
}

const kd_fuzz_target kd_fuzz_json = { "json", run, NULL, seeds };
