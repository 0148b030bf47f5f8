/* check_file_faults.c - file systems that refuse a call, disks that are full, paths that lead nowhere: what is no fault of
 * ours does not hinder, and everything else is told by its own cause. */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
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

/* What fsync() answers, for files and for folders; 0: it works. And the folders that it was called for. */
static int   refuses_sync[2];
static ino_t synced[64];
static int   syncs;

int fsync(int fd)
{
    struct stat s;
    bool        folder = fstat(fd, &s) == 0 && S_ISDIR(s.st_mode);

    if (refuses_sync[folder]) {
        errno = refuses_sync[folder];
        return -1;
    }
    if (folder && syncs < (int)KD_COUNT(synced)) synced[syncs++] = s.st_ino;
    return (int)syscall(SYS_fsync, fd);
}

static bool was_synced(const char *folder)
{
    struct stat s;

    ck_assert_int_eq(stat(folder, &s), 0);
    for (int i = 0; i < syncs; i++)
        if (synced[i] == s.st_ino) return true;
    return false;
}

static const int no_such_call[] = { EINVAL, ENOTSUP, ENOSYS };

START_TEST(a_file_is_written_where_there_is_no_fsync)
{
    kd_test_write(kd_test_path("out"), "old", 3);
    refuses_sync[0] = refuses_sync[1] = no_such_call[_i];
    kd_assert_ok(kd_file_write_all(ctx, kd_test_path("out"), "new", 3));
    kd_assert_ok(kd_make_folders(ctx, kd_test_path("a/b")));
    refuses_sync[0] = refuses_sync[1] = 0;
    kd_test_assert_text(kd_test_path("out"), "new");
}
END_TEST

static const int lost[] = { EIO, ENOSPC, EDQUOT, EROFS };

START_TEST(bytes_that_do_not_reach_the_disk_are_told)
{
    kd_test_write(kd_test_path("out"), "old", 3);
    refuses_sync[0] = lost[_i];
    kd_assert_status(kd_file_write_all(ctx, kd_test_path("out"), "new", 3), KDAS_EIO);
    refuses_sync[0] = 0;
    kd_assert_sentence(strerror(lost[_i]));
    kd_test_assert_text(kd_test_path("out"), "old");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
    refuses_sync[1] = lost[_i];
    kd_assert_status(kd_make_folders(ctx, kd_test_path("a")), KDAS_EIO);
    refuses_sync[1] = 0;
    kd_assert_sentence(strerror(lost[_i]));
}
END_TEST

START_TEST(a_name_reaches_the_disk_in_its_folder)
{
    syncs = 0;
    kd_assert_ok(kd_make_folders(ctx, kd_test_path("a/b/c")));
    ck_assert(was_synced(kd_test_path(NULL)) && was_synced(kd_test_path("a")));
    ck_assert(was_synced(kd_test_path("a/b")) && !was_synced(kd_test_path("a/b/c")));
    syncs = 0;
    kd_assert_ok(kd_make_folders(ctx, kd_test_path("a/b/c"))); /* they are there */
    ck_assert_int_eq(syncs, 0);
    kd_assert_ok(kd_file_write_all(ctx, kd_test_path("a/b/c/out"), "new", 3));
    ck_assert(was_synced(kd_test_path("a/b/c")));
}
END_TEST

/* ---- The cause of a failure ---- */

/* A host's hooks may change errno; so may what the library calls between a failure and its sentence. */
static void *alloc_and_forget(void *user, size_t n)
{
    void *block = malloc(n);

    (void)user;
    errno = ENOENT;
    return block;
}

static void free_and_forget(void *user, void *block)
{
    (void)user;
    free(block);
    errno = ENOENT;
}

/* Paths below the test's folder, and what each of the calls says of them. `loop` is a link to itself, `text` a file,
 * `empty` a folder; a name of 256 letters is too long. */
#define LONG     "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
#define TOO_LONG LONG LONG LONG LONG
static const struct {
    const char *path;
    int         read, list, write, make; /* errno; 0: not tried; -1: no errno, a sentence of ours */
} causes[] = {
    { "loop", ELOOP, ELOOP, ELOOP, ELOOP },
    { "loop/in", ELOOP, ELOOP, ELOOP, ELOOP },
    { TOO_LONG, ENAMETOOLONG, ENAMETOOLONG, 0, ENAMETOOLONG },
    { TOO_LONG "/in", ENAMETOOLONG, ENAMETOOLONG, ENAMETOOLONG, ENAMETOOLONG },
    { "text/in", ENOTDIR, ENOTDIR, ENOTDIR, ENOTDIR },
    { "text", 0, ENOTDIR, 0, ENOTDIR },
    { "empty", -1, 0, -1, 0 },
    { "none/in", ENOENT, ENOENT, ENOENT, 0 },
};

static void assert_cause(kdas_status st, int error, const char *path, const char *call)
{
    ck_assert_msg(st != KDAS_OK, "%s of '%s' succeeds", call, path);
    ck_assert_msg(error < 0 || strstr(kdas_last_error(), strerror(error)), "%s of '%s' says: %s",
                  call, path, kdas_last_error());
    ck_assert_msg(error < 0 || error == ENOENT || !strstr(kdas_last_error(), strerror(ENOENT)),
                  "%s of '%s' says: %s", call, path, kdas_last_error());
}

START_TEST(the_cause_of_a_failure_is_told_whatever_is_called_after_it)
{
    kd_names    names = { 0 };
    kd_file    *file;
    const char *path = kd_test_path(causes[_i].path);

    ck_assert_int_eq(symlink("loop", kd_test_path("loop")), 0);
    kd_test_write(kd_test_path("text"), "old", 3);
    ck_assert_int_eq(mkdir(kd_test_path("empty"), 0777), 0);
    ctx->alloc = alloc_and_forget;
    ctx->free  = free_and_forget;
    if (causes[_i].read)
        assert_cause(kd_file_open(&file, ctx, path), causes[_i].read, path, "reading");
    if (causes[_i].list)
        assert_cause(kd_list_folder(&names, ctx, path), causes[_i].list, path, "listing");
    if (causes[_i].write)
        assert_cause(kd_file_write_all(ctx, path, "x", 1), causes[_i].write, path, "writing");
    if (causes[_i].make) assert_cause(kd_make_folders(ctx, path), causes[_i].make, path, "making");
    kd_test_bare_context(ctx, &memory);
}
END_TEST

/* What is not there is not found; what cannot be looked at is told by its cause. */
START_TEST(a_folder_that_cannot_be_looked_at_is_not_said_to_be_missing)
{
    const char  *path = kd_test_path(causes[_i].path);
    kd_path_kind kind;

    ck_assert_int_eq(symlink("loop", kd_test_path("loop")), 0);
    kd_test_write(kd_test_path("text"), "old", 3);
    ck_assert_int_eq(mkdir(kd_test_path("empty"), 0777), 0);
    if (strcmp(causes[_i].path, "empty") == 0) {
        kd_assert_ok(kd_check_folder(path));
        kd_assert_ok(kd_look_at(&kind, path));
        ck_assert_int_eq(kind, KD_PATH_FOLDER);
    } else if (causes[_i].list == ENOENT || causes[_i].list == ENOTDIR) {
        kd_assert_status(kd_check_folder(path), KDAS_ENOTFOUND);
        kd_assert_sentence("there is no folder '");
        kd_assert_ok(kd_look_at(&kind, path));
        ck_assert_int_eq(kind, strcmp(causes[_i].path, "text") != 0 ? KD_PATH_NONE : KD_PATH_FILE);
        kd_assert_status(kd_check_folder(path), KDAS_ENOTFOUND);
    } else {
        kd_assert_status(kd_check_folder(path), KDAS_EIO);
        kd_assert_sentence(strerror(causes[_i].list));
        kd_assert_status(kd_look_at(&kind, path), KDAS_EIO);
        kd_assert_sentence(strerror(causes[_i].list));
    }
    kd_assert_sentence(causes[_i].list ? path : "");
}
END_TEST

/* A read-only file system, and what else mkdir() can say; 0: it works. */
static int refuses_folders;

int mkdir(const char *path, mode_t mode)
{
    if (!refuses_folders) return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    errno = refuses_folders;
    return -1;
}

static const int no_folders[] = { EROFS, ENOSPC, EDQUOT, EMLINK };

START_TEST(a_folder_that_cannot_be_made_has_its_own_reason)
{
    ctx->alloc      = alloc_and_forget;
    ctx->free       = free_and_forget;
    refuses_folders = no_folders[_i];
    assert_cause(kd_make_folders(ctx, kd_test_path("a/b")), no_folders[_i], "a/b", "making");
    kd_assert_ok(kd_make_folders(ctx, kd_test_path(NULL))); /* it is there */
    refuses_folders = 0;
    kd_test_bare_context(ctx, &memory);
}
END_TEST

/* A disk that is full while bytes are written, and while hooks change errno. */
START_TEST(a_full_disk_is_told_as_that)
{
    kd_writer *w;
    int        full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    ck_assert_int_ge(full, 0);
    ctx->alloc = alloc_and_forget;
    ctx->free  = free_and_forget;
    kd_assert_ok(kd_writer_open(&w, ctx, kd_test_path("out")));
    for (int fd = 3; fd < 100; fd++) { /* the writer's file becomes the full device */
        struct stat s;

        if (fd != full && fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_size == 0 &&
            s.st_nlink == 1 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
            ck_assert_int_ge(dup2(full, fd), 0);
    }
    close(full);
    kd_assert_ok(kd_writer_put(w, "new", 3));
    assert_cause(kd_writer_commit(&w), ENOSPC, "out", "writing");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
    kd_test_bare_context(ctx, &memory);
}
END_TEST

START_TEST(a_link_to_a_file_that_is_not_there_makes_the_file)
{
    struct stat s;

    ck_assert_int_eq(mkdir(kd_test_path("far"), 0777), 0);
    ck_assert_int_eq(symlink("link2", kd_test_path("link")), 0);
    ck_assert_int_eq(symlink("far/real", kd_test_path("link2")), 0);
    kd_assert_ok(kd_file_write_all(ctx, kd_test_path("link"), "new", 3));
    kd_test_assert_text(kd_test_path("far/real"), "new");
    ck_assert(lstat(kd_test_path("link"), &s) == 0 && S_ISLNK(s.st_mode));
    ck_assert(lstat(kd_test_path("link2"), &s) == 0 && S_ISLNK(s.st_mode));
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 3);
}
END_TEST

/* The longest name that a file can have leaves no room for the ending of a temporary one. */
START_TEST(a_file_of_the_longest_name_is_written)
{
    char name[256];

    memset(name, 'n', sizeof name - 1);
    name[255] = 0;
    kd_assert_ok(kd_file_write_all(ctx, kd_test_path(name), "new", 3));
    kd_test_assert_text(kd_test_path(name), "new");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("file_faults");
    TCase   *files = tcase_create("files");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(files, setup, teardown);
    tcase_add_loop_test(files, a_file_is_written_where_there_is_no_fsync, 0,
                        KD_COUNT(no_such_call));
    tcase_add_loop_test(files, bytes_that_do_not_reach_the_disk_are_told, 0, KD_COUNT(lost));
    tcase_add_test(files, a_name_reaches_the_disk_in_its_folder);
    tcase_add_loop_test(files, the_cause_of_a_failure_is_told_whatever_is_called_after_it, 0,
                        KD_COUNT(causes));
    tcase_add_loop_test(files, a_folder_that_cannot_be_looked_at_is_not_said_to_be_missing, 0,
                        KD_COUNT(causes));
    tcase_add_loop_test(files, a_folder_that_cannot_be_made_has_its_own_reason, 0,
                        KD_COUNT(no_folders));
    tcase_add_test(files, a_full_disk_is_told_as_that);
    tcase_add_test(files, a_link_to_a_file_that_is_not_there_makes_the_file);
    tcase_add_test(files, a_file_of_the_longest_name_is_written);
    suite_add_tcase(suite, files);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
