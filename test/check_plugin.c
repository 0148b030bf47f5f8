/* check_plugin.c - plug-in files and tables that cannot be used: what kdas_backend_probe and kdas_context_create
 * say of each.
 * The files are made here by the machine's compiler; without one the tests print SKIP. */
#include <check.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kdas/backend.h>
#include "backend/registry.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/files.h"

/* A plug-in whose table is `T`, with functions enough to be looked at; it has no device. */
static const char source[] =
    "#include <kdas/backend.h>\n"
    "#include <stdio.h>\n"
    "#include <stddef.h>\n"
    "static int probe(int32_t index, char *why, size_t size)\n"
    "{ snprintf(why, size, \"number %d is not plugged in\", (int)index); return 0; }\n"
    "static kdas_status open(kdas_device **out, const kdas_host *h, const kdas_device_options *o)\n"
    "{ (void)out; (void)o; return h->fail(KDAS_EBACKEND, \"opened\"); }\n"
    "static void close(kdas_device *d) { (void)d; }\n"
    "static void describe(kdas_device *d, char *t, size_t n) { (void)d; (void)t; (void)n; }\n"
    "static void *alloc(kdas_device *d, size_t n) { (void)d; (void)n; return NULL; }\n"
    "static void release(kdas_device *d, void *m) { (void)d; (void)m; }\n"
    "static kdas_status copy(kdas_device *d, void *to, const void *from, size_t n)\n"
    "{ (void)d; (void)to; (void)from; (void)n; return KDAS_OK; }\n"
    "static kdas_status zero(kdas_device *d, void *m, size_t n)\n"
    "{ (void)d; (void)m; (void)n; return KDAS_OK; }\n"
    "static kdas_status now(kdas_device *d) { (void)d; return KDAS_OK; }\n"
    "static const kdas_backend table = { .abi = KDAS_BACKEND_ABI, .size = sizeof table, .name = "
    "\"odd\",\n"
    "    .probe = probe, .open = open, .close = close, .describe = describe, .alloc = alloc,\n"
    "    .free = release, .upload = copy, .download = copy, .zero = zero, .sync = now, T };\n"
    "#ifndef ENTRY\n"
    "#define ENTRY kdas_backend_entry\n"
    "#endif\n"
    "const kdas_backend *ENTRY(void);\n"
    "const kdas_backend *ENTRY(void) { return GIVE; }\n";

static bool run(const char *command) { return system(command) == 0; }

/* Make libkdas-odd.so with these macros; false, and a line, where there is no compiler. */
static bool make_plugin(const char *macros)
{
    const char *cc = getenv("CC");
    char        command[2048], from[600], to[600];

    snprintf(from, sizeof from, "%s", kd_test_path("odd.c"));
    snprintf(to, sizeof to, "%s", kd_test_path("libkdas-odd.so"));
    kd_test_write(from, source, strlen(source));
    setenv("KDAS_BACKEND_PATH", kd_test_path("."), 1);
    snprintf(command, sizeof command, "%s -shared -fPIC -w -Iinclude %s -o '%s' '%s'",
             cc && *cc ? cc : "cc", macros, to, from);
    if (run(command)) return true;
    printf("SKIP: no plug-in can be compiled here\n");
    return false;
}

/* Both ways to ask say the same, in a sentence that has `word` and, if so, the file's name in it. */
static void refused(const char *device, kdas_status status, const char *word, bool names_file)
{
    kdas_context_options o;
    kdas_context        *context  = (kdas_context *)&o;
    char                 why[512] = "";

    kdas_context_options_init(&o, sizeof o);
    o.device = device;
    kd_assert_status(kdas_context_create(&context, &o), status);
    ck_assert_ptr_null(context);
    kd_assert_sentence(word);
    if (names_file) kd_assert_sentence("libkdas-odd.so");
    ck_assert_int_eq(kdas_backend_probe(device, NULL, why, sizeof why), 0);
    ck_assert_msg(strstr(why, word) != NULL, "'%s' does not name '%s'", why, word);
    o.device = "cpu"; /* which goes on working */
    kd_assert_ok(kdas_context_create(&context, &o));
    kdas_context_destroy(context);
}

static const struct {
    const char *macros, *word;
} odd[] = {
    { "-DT='.abi=1' -DGIVE='&table'", "backend ABI 1" },
    { "-DT='.abi=KDAS_BACKEND_ABI+1' -DGIVE='&table'", "backend ABI" },
    { "-DT=0 -DGIVE='&table' -DENTRY=another_entry", KDAS_BACKEND_ENTRY },
    { "-DT=0 -DGIVE=NULL", "gives no table" },
    { "-DT='.size=16' -DGIVE='&table'", "ends before" },
    { "-DT='.sync=NULL' -DGIVE='&table'", "lacks" },
    { "-DT='.name=NULL' -DGIVE='&table'", "lacks" },
    { "-DT='.capture_begin=now' -DGIVE='&table'", "capture_begin" },
    { "-DT='.upload_wait=now' -DGIVE='&table'", "upload_async" },
    { "-DT='.host_alloc=alloc' -DGIVE='&table'", "host_free" },
};

START_TEST(a_plug_in_that_does_not_fit_is_named_with_the_reason)
{
    if (!make_plugin(odd[_i].macros)) return;
    refused("odd", KDAS_EBACKEND, odd[_i].word, true);
}
END_TEST

START_TEST(a_plug_in_without_a_device_says_why_in_its_own_words)
{
    if (!make_plugin("-DT=.kernels=NULL -DGIVE='&table'")) return;
    refused("odd", KDAS_EBACKEND, "number 0 is not plugged in", false);
    refused("odd:7", KDAS_EBACKEND, "number 7 is not plugged in", false);
}
END_TEST

/* The plug-in above writes its reason wherever it is told to. */
START_TEST(a_probe_may_be_asked_without_a_place_for_the_reason)
{
    static const char *const names[] = { "odd", "cpu:1", "reference:3", "cpu", "warp", "", NULL };
    char                     why[64];

    if (!make_plugin("-DT=.kernels=NULL -DGIVE='&table'")) return;
    for (size_t i = 0; i < KD_COUNT(names); i++) {
        int want = names[i] && strcmp(names[i], "cpu") == 0;

        for (size_t size = 0; size < 20; size++) {
            ck_assert_int_eq(kdas_backend_probe(names[i], NULL, NULL, size), want);
            memset(why, '#', sizeof why);
            ck_assert_int_eq(kdas_backend_probe(names[i], NULL, why, size), want);
            ck_assert_int_eq(why[size], '#');
            if (size) ck_assert_uint_eq(strlen(why), want ? 0 : size - 1);
        }
    }
}
END_TEST

/* ---- where it is looked for: files that are no plug-ins are named with their folder ---- */

static void put_file(const char *folder)
{
    char command[1200], name[64];

    snprintf(name, sizeof name, "%s/libkdas-odd.so", folder);
    snprintf(command, sizeof command, "mkdir -p '%s'", kd_test_path(folder));
    ck_assert(run(command));
    kd_test_write(kd_test_path(name), "no plug-in", 10);
}

/* Both ways to ask for "odd" come upon the file in `folder`; NULL: upon none. */
static void found_in(const char *plugin_path, const char *folder)
{
    kdas_context_options o;
    kdas_context        *context;
    char                 name[64], why[512];

    snprintf(name, sizeof name, "/%s/libkdas-odd.so", folder ? folder : "");
    kdas_context_options_init(&o, sizeof o);
    o.device      = "odd";
    o.plugin_path = plugin_path;
    kd_assert_status(kdas_context_create(&context, &o), folder ? KDAS_EBACKEND : KDAS_ENOTFOUND);
    kd_assert_sentence(folder ? name : "there is no device 'odd'");
    ck_assert_int_eq(kdas_backend_probe("odd", plugin_path, why, sizeof why), 0);
    ck_assert_str_eq(why, kdas_last_error());
}

static const char *joined(const char *a, const char *b)
{
    static char list[1300];

    snprintf(list, sizeof list, "%s:%s", a ? kd_test_path(a) : "", b ? kd_test_path(b) : "");
    return list;
}

START_TEST(the_folders_of_the_option_come_first_and_in_order)
{
    put_file("first");
    put_file("second");
    put_file("of_the_environment");
    unsetenv("KDAS_BACKEND_PATH");
    found_in(NULL, NULL);
    found_in("", NULL);
    found_in(joined("nowhere", NULL), NULL);
    kd_assert_sentence("plugin_path");
    found_in(kd_test_path("first"), "first");
    found_in(joined("first", "second"), "first");
    found_in(joined("second", "first"), "second");
    found_in(joined("nowhere", "second"), "second");
    found_in(joined(NULL, "second"), "second");
    setenv("KDAS_BACKEND_PATH", joined("nowhere", "of_the_environment"), 1);
    found_in(kd_test_path("second"), "second");
    found_in(joined("nowhere", NULL), "of_the_environment");
    found_in("::", "of_the_environment");
    found_in(NULL, "of_the_environment");
}
END_TEST

/* An empty entry of a list is no folder, and surely not the root; a path that is too long is none either. */
START_TEST(entries_that_are_no_folders_are_passed_over)
{
    size_t n    = 20000;
    char  *list = malloc(n + 600);

    memset(list, 'x', n);
    unsetenv("KDAS_BACKEND_PATH");
    list[n] = 0;
    found_in(list, NULL);
    put_file("first");
    snprintf(list + n, 600, ":%s", kd_test_path("first"));
    found_in(list, "first");
    free(list);
}
END_TEST

START_TEST(a_plug_in_is_used_from_the_options_folder)
{
    char why[64];

    if (!make_plugin("-DT=.kernels=NULL -DGIVE='&table'")) return;
    unsetenv("KDAS_BACKEND_PATH");
    ck_assert_int_eq(kdas_backend_probe("odd:5", kd_test_path(NULL), why, sizeof why), 0);
    ck_assert_str_eq(why, "number 5 is not plugged in");
    ck_assert_int_eq(kdas_backend_probe("odd:5", NULL, why, sizeof why), 0);
    ck_assert_ptr_nonnull(strstr(why, "there is no device"));
}
END_TEST

START_TEST(a_file_cut_off_anywhere_is_no_plug_in)
{
    size_t         size;
    unsigned char *bytes;

    if (!make_plugin("-DT=.kernels=NULL -DGIVE='&table'")) return;
    bytes = kd_test_read(kd_test_path("libkdas-odd.so"), &size);
    unlink(kd_test_path("libkdas-odd.so")); /* one that was loaded may not be written into */
    for (size_t n = 0; n < size; n = n < 256 ? n + 15 : n < size - 3000 ? n + 997 : n + 101) {
        kd_test_write(kd_test_path("libkdas-odd.so"), bytes, n);
        refused("odd", KDAS_EBACKEND, "cannot be loaded", true);
        unlink(kd_test_path("libkdas-odd.so"));
    }
    kd_test_write(kd_test_path("libkdas-odd.so"), bytes, size);
    refused("odd", KDAS_EBACKEND, "number 0 is not plugged in", false); /* the whole of it is one */
    free(bytes);
}
END_TEST

START_TEST(a_device_without_a_plug_in_is_said_to_have_none)
{
    setenv("KDAS_BACKEND_PATH", kd_test_path("."), 1);
    refused("cuda", KDAS_ENOTFOUND, "nor a plug-in libkdas-cuda.so", false);
    refused("cuda:1", KDAS_ENOTFOUND, "KDAS_BACKEND_PATH", false);
    unsetenv("KDAS_BACKEND_PATH");
    refused("nowhere", KDAS_ENOTFOUND, "nor a plug-in libkdas-nowhere.so", false);
}
END_TEST

/* ---- Tables ---- */

static kdas_status try_table(const kdas_backend *table)
{
    kdas_context_options o;
    kdas_context        *ctx;
    kdas_status          st;

    kdas_context_options_init(&o, sizeof o);
    o.threads = 1;
    st        = kd_context_create_on(&ctx, &o, table);
    kdas_context_destroy(ctx);
    return st;
}

START_TEST(functions_that_belong_together_come_all_or_not_at_all)
{
    static const struct {
        size_t      at;
        const char *word;
    } rows[] = {
        { offsetof(kdas_backend, capture_begin), "capture_begin" },
        { offsetof(kdas_backend, capture_end), "capture_end" },
        { offsetof(kdas_backend, graph_launch), "graph_launch" },
        { offsetof(kdas_backend, graph_destroy), "graph_destroy" },
        { offsetof(kdas_backend, upload_wait), "upload_wait" },
        { offsetof(kdas_backend, upload_async), "upload_async" },
        { offsetof(kdas_backend, host_alloc), "host_alloc" },
        { offsetof(kdas_backend, host_free), "host_free" },
        { offsetof(kdas_backend, alloc), "sync" },
        { offsetof(kdas_backend, sync), "sync" },
    };

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        kdas_backend table = kd_test_far_table();

        memset((char *)&table + rows[i].at, 0, sizeof(void (*)(void)));
        kd_assert_status(try_table(&table), KDAS_EBACKEND);
        kd_assert_sentence(rows[i].word);
        kd_assert_sentence("'far'");
    }
}
END_TEST

START_TEST(a_table_may_be_shorter_or_longer_than_this_librarys)
{
    kdas_backend table = kd_test_far_table();

    table.size = offsetof(kdas_backend,
                          enter); /* what follows counts as absent, even if half of it is there */
    kd_assert_ok(try_table(&table));
    table.size = offsetof(kdas_backend, graph_launch);
    kd_assert_status(try_table(&table), KDAS_EBACKEND);
    table.size = sizeof table + 64;
    kd_assert_ok(try_table(&table));
    table.size = offsetof(kdas_backend, sync);
    kd_assert_status(try_table(&table), KDAS_EBACKEND);
    kd_assert_sentence("ends before");
    table.size = sizeof table;
    table.abi  = KDAS_BACKEND_ABI + 1;
    kd_assert_status(try_table(&table), KDAS_EBACKEND);
    kd_assert_sentence("backend ABI");
    kd_test_far_assert_empty();
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("plugin");
    TCase   *files = tcase_create("files"), *tables = tcase_create("tables");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(files, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(files, a_plug_in_that_does_not_fit_is_named_with_the_reason, 0,
                        sizeof odd / sizeof *odd);
    tcase_add_test(files, a_plug_in_without_a_device_says_why_in_its_own_words);
    tcase_add_test(files, a_probe_may_be_asked_without_a_place_for_the_reason);
    tcase_add_test(files, the_folders_of_the_option_come_first_and_in_order);
    tcase_add_test(files, entries_that_are_no_folders_are_passed_over);
    tcase_add_test(files, a_plug_in_is_used_from_the_options_folder);
    tcase_add_test(files, a_file_cut_off_anywhere_is_no_plug_in);
    tcase_add_test(files, a_device_without_a_plug_in_is_said_to_have_none);
    suite_add_tcase(suite, files);
    tcase_add_test(tables, functions_that_belong_together_come_all_or_not_at_all);
    tcase_add_test(tables, a_table_may_be_shorter_or_longer_than_this_librarys);
    suite_add_tcase(suite, tables);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
