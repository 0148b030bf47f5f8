/* check_pytorch_work.c - files of PyTorch that were made to take long: a pickle names one value in many
 * places, and the reader looks at it once. The work is counted, not timed. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/pytorch_inside.h"
#include "io/weights.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/pth.h"

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

static void raw(kd_test_pth *p, const void *bytes, size_t n)
{
    if (p->size + n > p->room) p->bytes = realloc(p->bytes, p->room = 2 * (p->size + n));
    memcpy(p->bytes + p->size, bytes, n);
    p->size += n;
}

static void ops(kd_test_pth *p, const char *text) { raw(p, text, strlen(text)); }

/* A memo's place, far from those that pth.c uses. */
static void place(kd_test_pth *p, char op, uint32_t index)
{
    index += 1000;
    raw(p, &op, 1);
    raw(p, &index, sizeof index);
}

static void key(kd_test_pth *p, const char *text, size_t n)
{
    uint32_t length = (uint32_t)n;

    ops(p, "X");
    raw(p, &length, sizeof length);
    raw(p, text, n);
}

enum { KEY, LIST, CLASS, STATE, MANY = 2000 };

/* Many dictionaries made of one list of many pairs. */
static void put_shared_list(kd_test_pth *p)
{
    char name[16];

    key(p, "list", 4);
    ops(p, "]");
    place(p, 'r', LIST);
    ops(p, "(");
    for (int i = 0; i < MANY; i++) {
        place(p, 'j', KEY);
        ops(p, "N\x86");
    }
    ops(p, "e");
    key(p, "class", 5);
    ops(p, "ccollections\nOrderedDict\n");
    place(p, 'r', CLASS);
    for (int i = 0; i < MANY; i++) {
        key(p, name, (size_t)snprintf(name, sizeof name, "o%d", i));
        place(p, 'j', CLASS);
        place(p, 'j', LIST);
        ops(p, "\x85R");
    }
}

/* Many objects with one state of many pairs. */
static void put_shared_state(kd_test_pth *p)
{
    char name[16];

    key(p, "state", 5);
    ops(p, "}");
    place(p, 'r', STATE);
    ops(p, "(");
    for (int i = 0; i < MANY; i++) {
        place(p, 'j', KEY);
        ops(p, "N");
    }
    ops(p, "u");
    key(p, "class", 5);
    ops(p, "ca\nB\n");
    place(p, 'r', CLASS);
    for (int i = 0; i < MANY; i++) {
        key(p, name, (size_t)snprintf(name, sizeof name, "o%d", i));
        place(p, 'j', CLASS);
        ops(p, ")R");
        place(p, 'j', STATE);
        ops(p, "b");
    }
}

/* One long name in many places. */
static void put_shared_name(kd_test_pth *p)
{
    char name[4000];

    memset(name, 'n', sizeof name);
    key(p, name, sizeof name);
    place(p, 'r', LIST);
    ops(p, "N");
    for (int i = 0; i < 2 * MANY; i++) {
        place(p, 'j', LIST);
        ops(p, "N");
    }
}

START_TEST(the_search_does_not_grow_with_the_square_of_the_file)
{
    static void (*const put[])(kd_test_pth *) = { put_shared_list, put_shared_state,
                                                  put_shared_name };
    kd_test_pth p;
    kd_file    *file;
    kd_pytorch *pt;

    kd_test_pth_begin(&p);
    key(&p, "key", 3);
    place(&p, 'r', KEY);
    ops(&p, "N");
    put[_i](&p);
    kd_test_pth_put(&p, "tensor", 1, (int64_t[]){ 4 }, 1);
    kd_test_pth_end(&p, kd_test_path("x"));
    kd_assert_ok(kd_file_open(&file, ctx, kd_test_path("x")));
    kd_assert_ok(kd_pytorch_open(&pt, ctx, file));
    ck_assert_int_eq(kd_pytorch_count(pt, 0), 1);
    ck_assert_uint_le(pt->work, 20 * MANY);
    kd_pytorch_close(pt);
}
END_TEST

/* A list that is a value by itself is the dictionary's all the same. */
START_TEST(a_list_that_was_seen_before_makes_a_dictionary)
{
    kd_test_pth p;
    kd_weights *w;

    kd_test_pth_begin(&p);
    key(&p, "list", 4);
    ops(&p, "](");
    kd_test_pth_put(&p, "tensor", 1, (int64_t[]){ 4 }, 1);
    ops(&p, "\x86"
            "e");
    place(&p, 'r', LIST);
    key(&p, "model", 5);
    ops(&p, "ccollections\nOrderedDict\n");
    place(&p, 'j', LIST);
    ops(&p, "\x85R");
    kd_test_pth_end(&p, kd_test_path("x"));
    kd_assert_ok(kd_weights_open(&w, ctx, kd_test_path("x")));
    ck_assert_str_eq(kd_weights_set(w, 0), "model");
    ck_assert_str_eq(kd_weights_at(w, 0, 0)->name, "tensor");
    kd_weights_close(w);
}
END_TEST

/* Keys of storages are sorted: a long one in many places would be compared for hours. */
START_TEST(a_long_key_of_a_storage_is_refused)
{
    char        long_key[200];
    kd_test_pth p;
    kd_weights *w;

    memset(long_key, '7', sizeof long_key);
    kd_test_pth_begin(&p);
    key(&p, "tensor", 6);
    ops(&p, "ctorch._utils\n_rebuild_tensor_v2\n((");
    key(&p, "storage", 7);
    ops(&p, "ctorch\nFloatStorage\n");
    key(&p, long_key, sizeof long_key);
    key(&p, "cpu", 3);
    ops(&p, "K\4tQI0\n(K\4t(K\1tI00\n)tR");
    kd_test_pth_end(&p, kd_test_path("x"));
    kd_assert_status(kd_weights_open(&w, ctx, kd_test_path("x")), KDAS_EFORMAT);
    kd_assert_sentence("it has no storage");
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("pytorch, work");
    TCase   *t = tcase_create("pickles");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, the_search_does_not_grow_with_the_square_of_the_file, 0, 3);
    tcase_add_test(t, a_list_that_was_seen_before_makes_a_dictionary);
    tcase_add_test(t, a_long_key_of_a_storage_is_refused);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
