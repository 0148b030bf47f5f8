/* check_io.c - files come whole or not at all: reading, replacing in one step, paths, folders. */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "io/crc.h"
#include "io/file.h"
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

/* ---- Reading ---- */

START_TEST(a_file_is_read_whole_with_zeros_behind)
{
    const char *path = kd_test_path("text");
    void       *data;
    size_t      n;

    kd_test_write(path, "polyp", 5);
    kd_assert_ok(kd_file_read_all(ctx, path, 5, 3, &data, &n));
    ck_assert_uint_eq(n, 5);
    ck_assert_mem_eq(data, "polyp\0\0\0", 8);
    kd_free(ctx, data);
}
END_TEST

START_TEST(a_file_over_the_limit_is_refused_before_memory_is_taken)
{
    const char *path = kd_test_path("text");
    void       *data = &memory;
    size_t      n;
    long        before;

    kd_test_write(path, "polyp", 5);
    kd_assert_ok(kd_file_read_all(ctx, path, 5, 0, &data, &n));
    kd_free(ctx, data);
    before = memory.asked;
    kd_assert_status(kd_file_read_all(ctx, path, 4, 0, &data, &n), KDAS_EFORMAT);
    kd_assert_sentence(path);
    ck_assert_int_lt(memory.asked - before, before); /* the file's bytes were not asked for */
}
END_TEST

START_TEST(what_is_no_file_is_refused_by_name)
{
    const char *pipe = kd_test_path("pipe");
    kd_file    *file = (kd_file *)&memory;

    kd_assert_status(kd_file_open(&file, ctx, kd_test_path("none")), KDAS_ENOTFOUND);
    kd_assert_sentence("/none'");
    ck_assert_ptr_null(file);
    kd_assert_status(kd_file_open(&file, ctx, kd_test_path(NULL)), KDAS_EIO);
    kd_assert_sentence("folder");
    ck_assert_int_eq(mkfifo(pipe, 0600), 0);
    kd_assert_status(kd_file_open(&file, ctx, pipe), KDAS_EIO); /* and returns, with no writer */
    kd_assert_sentence("pipe");
}
END_TEST

START_TEST(reading_past_the_end_says_that_the_file_is_cut_off)
{
    const char *path = kd_test_path("text");
    kd_file    *file;
    char        got[8] = "";

    kd_test_write(path, "polyp", 5);
    kd_assert_ok(kd_file_open(&file, ctx, path));
    ck_assert_uint_eq(kd_file_size(file), 5);
    kd_assert_ok(kd_file_read(file, 2, got, 3));
    ck_assert_str_eq(got, "lyp");
    kd_assert_status(kd_file_read(file, 3, got, 3), KDAS_EFORMAT);
    kd_assert_sentence("cut off");
    kd_assert_status(kd_file_read(file, UINT64_C(1) << 62, got, 1), KDAS_EFORMAT);
    kd_file_close(file);
}
END_TEST

/* ---- Writing ---- */

START_TEST(a_writer_replaces_the_file_only_when_it_commits)
{
    const char *path = kd_test_path("out");
    kd_writer  *w;

    kd_test_write(path, "old", 3);
    kd_assert_ok(kd_writer_open(&w, ctx, path));
    kd_assert_ok(kd_writer_put(w, "new", 3));
    kd_assert_ok(kd_writer_put(w, " text", 5));
    kd_test_assert_text(path, "old");
    kd_assert_ok(kd_writer_commit(&w));
    ck_assert_ptr_null(w);
    kd_test_assert_text(path, "new text");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
}
END_TEST

START_TEST(a_discarded_writer_leaves_nothing)
{
    kd_writer *w;

    kd_assert_ok(kd_writer_open(&w, ctx, kd_test_path("out")));
    kd_assert_ok(kd_writer_put(w, "new", 3));
    kd_writer_discard(w);
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
}
END_TEST

START_TEST(blocks_of_any_size_arrive_in_order)
{
    enum { N = 300000 };
    static unsigned char data[N];
    unsigned char       *got;
    kd_writer           *w;
    size_t               at = 0, n;
    kd_random            r  = kd_random_make(5, 0);

    for (size_t i = 0; i < N; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    kd_assert_ok(kd_writer_open(&w, ctx, kd_test_path("out")));
    while (at < N) { /* some smaller, some larger than the writer's buffer */
        n = (size_t)kd_random_below(&r, kd_random_below(&r, 4) ? 5000 : 100000);
        n = KD_MIN(n, N - at);
        kd_assert_ok(kd_writer_put(w, data + at, n));
        at += n;
    }
    kd_assert_ok(kd_writer_commit(&w));
    got = kd_test_read(kd_test_path("out"), &n);
    ck_assert_uint_eq(n, N);
    ck_assert(memcmp(got, data, N) == 0);
    free(got);
}
END_TEST

START_TEST(a_temporary_file_of_a_killed_process_is_not_in_the_way)
{
    char name[64];

    for (int i = 0; i < 8; i++) { /* what a process of our number may have left */
        snprintf(name, sizeof name, "out.tmp-%ld-%d", (long)getpid(), i);
        kd_test_write(kd_test_path(name), "half", 4);
    }
    kd_assert_ok(kd_file_write_all(ctx, kd_test_path("out"), "new", 3));
    kd_test_assert_text(kd_test_path("out"), "new");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 9);
}
END_TEST

START_TEST(a_link_is_followed_and_permissions_stay)
{
    struct stat s;

    kd_test_write(kd_test_path("real"), "old", 3);
    ck_assert_int_eq(chmod(kd_test_path("real"), 0640), 0);
    ck_assert_int_eq(symlink("real", kd_test_path("link")), 0);
    kd_assert_ok(kd_file_write_all(ctx, kd_test_path("link"), "new", 3));
    kd_test_assert_text(kd_test_path("real"), "new");
    ck_assert_int_eq(lstat(kd_test_path("link"), &s), 0);
    ck_assert(S_ISLNK(s.st_mode));
    ck_assert_int_eq(stat(kd_test_path("real"), &s), 0);
    ck_assert_int_eq(s.st_mode & 0777, 0640);
}
END_TEST

/* A file system that refuses chmod: the errno that it gives; 0: it does not refuse. */
static int refuses_chmod;

int fchmod(int fd, mode_t mode)
{
    if (!refuses_chmod) return (int)syscall(SYS_fchmod, fd, mode);
    errno = refuses_chmod;
    return -1;
}

static const int refusals[] = { EPERM, ENOTSUP, ENOSYS, EACCES, EINVAL };

START_TEST(a_file_is_replaced_where_chmod_is_refused)
{
    struct stat s;

    kd_test_write(kd_test_path("out"), "old", 3);
    ck_assert_int_eq(chmod(kd_test_path("out"), 0600), 0);
    refuses_chmod = refusals[_i];
    kd_assert_ok(kd_file_write_all(ctx, kd_test_path("out"), "new", 3));
    refuses_chmod = 0;
    kd_test_assert_text(kd_test_path("out"), "new");
    ck_assert_int_eq(stat(kd_test_path("out"), &s), 0);
    ck_assert_int_eq(s.st_mode & 0777, 0600); /* made so: a private file stays private */
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
}
END_TEST

/* Places where no file can be written; %s is the test's folder. */
static const struct {
    const char *path, *sentence;
} closed[] = {
    { "%s", "a folder" },
    { "%s/none/out", "No such file" },
    { "%s/text/out", "Not a directory" },
    { "%s/null", "a device" }, /* a link to /dev/null, which must survive */
    { "", "without a name" },
};

START_TEST(a_place_that_cannot_be_written_is_named)
{
    char        path[600];
    struct stat s;

    kd_test_write(kd_test_path("text"), "old", 3);
    ck_assert_int_eq(symlink("/dev/null", kd_test_path("null")), 0);
    snprintf(path, sizeof path, closed[_i].path, kd_test_path(NULL));
    kd_assert_status(kd_file_write_all(ctx, path, "new", 3), KDAS_EIO);
    kd_assert_sentence(path);
    kd_assert_sentence(closed[_i].sentence);
    kd_test_assert_text(kd_test_path("text"), "old");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 2);
    ck_assert_int_eq(stat("/dev/null", &s), 0);
    ck_assert(S_ISCHR(s.st_mode));
}
END_TEST

START_TEST(a_folder_without_permission_is_refused)
{
    bool root = geteuid() == 0;

    ck_assert_int_eq(chmod(kd_test_path(NULL), 0555), 0);
    if (root) ck_assert_int_eq(seteuid(65534), 0); /* permissions do not stop root */
    kd_assert_status(kd_file_write_all(ctx, kd_test_path("out"), "new", 3), KDAS_EIO);
    kd_assert_sentence("Permission denied");
    if (root) ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(chmod(kd_test_path(NULL), 0755), 0);
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
}
END_TEST

/* SIGXFSZ, which would end the process, is not ignored here. */
START_TEST(a_full_disk_leaves_the_old_file)
{
    static char   big[200000];
    struct rlimit limit, small;
    sigset_t      pending;
    const char   *path = kd_test_path("out");

    kd_test_write(path, "old", 3);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small          = limit;
    small.rlim_cur = 100000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    kd_assert_status(kd_file_write_all(ctx, path, big, sizeof big), KDAS_EIO);
    setrlimit(RLIMIT_FSIZE, &limit);
    kd_assert_sentence(path);
    kd_assert_sentence("too large");
    kd_test_assert_text(path, "old");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
    sigpending(&pending);
    ck_assert(!sigismember(&pending, SIGXFSZ)); /* nor does it wait */
}
END_TEST

START_TEST(a_failed_writer_stays_failed)
{
    static char   big[100000];
    struct rlimit limit, small;
    kd_writer    *w;

    getrlimit(RLIMIT_FSIZE, &limit);
    small          = limit;
    small.rlim_cur = 1000;
    kd_assert_ok(kd_writer_open(&w, ctx, kd_test_path("out")));
    setrlimit(RLIMIT_FSIZE, &small);
    kd_assert_status(kd_writer_put(w, big, sizeof big), KDAS_EIO);
    setrlimit(RLIMIT_FSIZE, &limit);
    kd_assert_status(kd_writer_put(w, "x", 1), KDAS_EIO);
    kd_assert_status(kd_writer_commit(&w), KDAS_EIO); /* though there is room again */
    kd_assert_sentence("too large");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
}
END_TEST

START_TEST(writing_survives_each_allocation_that_fails)
{
    const char *path = kd_test_path("out");

    for (int k = 1;; k++) {
        kdas_status st;

        kd_test_write(path, "old", 3);
        kd_test_bare_context(ctx, &memory);
        memory.fail_at = k;
        st             = kd_file_write_all(ctx, path, "new", 3);
        kd_test_assert_balanced(&memory);
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
        if (memory.asked < k) {
            kd_assert_ok(st);
            break;
        }
        kd_assert_status(st, KDAS_ENOMEM);
        kd_test_assert_text(path, "old");
    }
}
END_TEST

/* ---- Paths ---- */

static const struct {
    const char *path, *base, *extension, *stem;
} paths[] = {
    { "a/b/c.png", "c.png", ".png", "c" },
    { "c.tar.gz", "c.tar.gz", ".gz", "c.tar" },
    { "a.b/c", "c", "", "c" },
    { "/.hidden", ".hidden", "", ".hidden" },
    { "a/", "", "", "" },
    { "", "", "", "" },
};

START_TEST(paths_come_apart)
{
    char *stem = kd_path_stem(ctx, paths[_i].path);

    ck_assert_str_eq(kd_path_base(paths[_i].path), paths[_i].base);
    ck_assert_str_eq(kd_path_extension(paths[_i].path), paths[_i].extension);
    ck_assert_str_eq(stem, paths[_i].stem);
    kd_free(ctx, stem);
}
END_TEST

START_TEST(paths_join_with_one_slash)
{
    static const char *const rows[][3] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "/", "b", "/b" }, { "", "b", "b" }
    };

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        char *joined = kd_path_join(ctx, rows[i][0], rows[i][1]);

        ck_assert_str_eq(joined, rows[i][2]);
        kd_free(ctx, joined);
    }
    ck_assert(kd_path_has_extension("x.JpEg", ".jpeg"));
    ck_assert(!kd_path_has_extension("x.jpegs", ".jpeg"));
    ck_assert(!kd_path_has_extension("jpeg", ".jpeg"));
}
END_TEST

START_TEST(folders_are_made_with_those_above)
{
    kd_assert_ok(kd_make_folders(ctx, kd_test_path("a/b//c/")));
    ck_assert(kd_is_folder(kd_test_path("a/b/c")));
    kd_assert_ok(kd_make_folders(ctx, kd_test_path("a/b/c"))); /* again */
    kd_assert_ok(kd_make_folders(ctx, "/"));
    kd_test_write(kd_test_path("a/text"), "", 0);
    ck_assert(kd_is_file(kd_test_path("a/text")));
    ck_assert(!kd_is_folder(kd_test_path("a/text")));
    kd_assert_status(kd_make_folders(ctx, kd_test_path("a/text")), KDAS_EIO);
    kd_assert_status(kd_make_folders(ctx, kd_test_path("a/text/d")), KDAS_EIO);
    kd_assert_sentence("a/text/d");
    kd_assert_status(kd_make_folders(ctx, ""), KDAS_EIO);
}
END_TEST

START_TEST(a_listing_is_sorted_and_leaves_out_hidden_names)
{
    kd_names names = { 0 };
    char     name[8];

    kd_test_write(kd_test_path(".hidden"), "", 0);
    for (int i = 19; i >= 0; i--) {
        snprintf(name, sizeof name, "%c%d", i % 2 ? 'B' : 'a', i);
        kd_test_write(kd_test_path(name), "", 0);
    }
    kd_assert_ok(kd_list_folder(&names, ctx, kd_test_path(NULL)));
    ck_assert_uint_eq(names.count, 20);
    ck_assert_str_eq(names.name[0], "B1");
    for (size_t i = 1; i < names.count; i++)
        ck_assert_int_lt(strcmp(names.name[i - 1], names.name[i]), 0);
    kd_assert_status(kd_list_folder(&names, ctx, kd_test_path("none")), KDAS_ENOTFOUND);
    kd_assert_sentence("/none'");
    ck_assert_uint_eq(names.count, 0);
    kd_assert_status(kd_list_folder(&names, ctx, kd_test_path("a0")), KDAS_ENOTFOUND);
}
END_TEST

/* Two links in each folder to the one below: 2^20 paths of 20 folders. */
START_TEST(links_to_the_same_folders_again_and_again_are_refused)
{
    kd_names names = { 0 };
    char     path[320], name[8];

    for (int i = 0; i <= 20; i++) {
        snprintf(name, sizeof name, "f%d", i);
        snprintf(path, sizeof path, "../f%d", i + 1);
        kd_assert_ok(kd_make_folders(ctx, kd_test_path(name)));
        for (int k = 0; i < 20 && k < 2; k++) {
            snprintf(name, sizeof name, "f%d/%d", i, k);
            ck_assert_int_eq(symlink(path, kd_test_path(name)), 0);
        }
    }
    kd_assert_status(kd_list_tree(&names, ctx, kd_test_path("f0")), KDAS_EIO);
    kd_assert_sentence("more than 100000 folders");
    ck_assert_uint_eq(names.count, 0);
    kd_assert_ok(kd_list_tree(&names, ctx, kd_test_path("f10"))); /* 1024 */
}
END_TEST

START_TEST(a_listing_survives_each_allocation_that_fails)
{
    kd_names names = { 0 };

    for (char c = 'a'; c < 'n'; c++)
        kd_test_write(kd_test_path((char[]){ c, 0 }), "", 0);
    for (int k = 1;; k++) {
        kdas_status st;

        kd_test_bare_context(ctx, &memory);
        memory.fail_at = k;
        st             = kd_list_folder(&names, ctx, kd_test_path(NULL));
        if (memory.asked < k) {
            kd_assert_ok(st);
            ck_assert_uint_eq(names.count, 13);
            kd_names_clear(&names, ctx);
            break;
        }
        kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_uint_eq(names.count, 0);
        kd_test_assert_balanced(&memory);
    }
}
END_TEST

/* ---- Checksum ---- */

START_TEST(crc_is_the_one_of_zip_and_png)
{
    const char *text = "123456789 and more, so that the steps of eight bytes are taken";
    uint32_t    crc  = 0;

    ck_assert_uint_eq(kd_crc32(0, "123456789", 9), 0xCBF43926u); /* the published check value */
    ck_assert_uint_eq(kd_crc32(0, "", 0), 0);
    for (size_t i = 0; text[i]; i++)
        crc = kd_crc32(crc, text + i, 1);
    ck_assert_uint_eq(crc, kd_crc32(0, text, strlen(text)));
}
END_TEST

static Suite *io_suite(void)
{
    Suite *s     = suite_create("io");
    TCase *files = tcase_create("files"), *path = tcase_create("paths");

    tcase_add_checked_fixture(files, setup, teardown);
    tcase_add_test(files, a_file_is_read_whole_with_zeros_behind);
    tcase_add_test(files, a_file_over_the_limit_is_refused_before_memory_is_taken);
    tcase_add_test(files, what_is_no_file_is_refused_by_name);
    tcase_add_test(files, reading_past_the_end_says_that_the_file_is_cut_off);
    tcase_add_test(files, a_writer_replaces_the_file_only_when_it_commits);
    tcase_add_test(files, a_discarded_writer_leaves_nothing);
    tcase_add_test(files, blocks_of_any_size_arrive_in_order);
    tcase_add_test(files, a_temporary_file_of_a_killed_process_is_not_in_the_way);
    tcase_add_test(files, a_link_is_followed_and_permissions_stay);
    tcase_add_loop_test(files, a_file_is_replaced_where_chmod_is_refused, 0, KD_COUNT(refusals));
    tcase_add_loop_test(files, a_place_that_cannot_be_written_is_named, 0, KD_COUNT(closed));
    tcase_add_test(files, a_folder_without_permission_is_refused);
    tcase_add_test(files, a_full_disk_leaves_the_old_file);
    tcase_add_test(files, a_failed_writer_stays_failed);
    tcase_add_test(files, writing_survives_each_allocation_that_fails);
    suite_add_tcase(s, files);

    tcase_add_checked_fixture(path, setup, teardown);
    tcase_add_loop_test(path, paths_come_apart, 0, KD_COUNT(paths));
    tcase_add_test(path, paths_join_with_one_slash);
    tcase_add_test(path, folders_are_made_with_those_above);
    tcase_add_test(path, a_listing_is_sorted_and_leaves_out_hidden_names);
    tcase_add_test(path, links_to_the_same_folders_again_and_again_are_refused);
    tcase_add_test(path, a_listing_survives_each_allocation_that_fails);
    tcase_add_test(path, crc_is_the_one_of_zip_and_png);
    suite_add_tcase(s, path);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(io_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
