/* check_stale.c - the temporary files that killed processes leave in the folder of a run: who opens the folder next
 * removes them, and nothing else. */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <kdas/kdas.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "io/file.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"

static kd_test_meter meter;
static kdas_context *ctx;
static bool          no_locks; /* the file system has none */

int flock(int fd, int operation)
{
    if (!no_locks) return (int)syscall(SYS_flock, fd, operation);
    errno = ENOLCK;
    return -1;
}

static void setup(void)
{
    kd_test_folder_make();
    ctx = kd_test_device("cpu", &meter);
}

static void teardown(void)
{
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
    kd_test_folder_remove();
}

static kdas_status open_folder(kdas_run_folder **out)
{
    return kdas_run_folder_open(out, ctx, kd_test_path("out"));
}

/* The id of a process that has ended. */
static pid_t dead(void)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) _exit(0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    return pid;
}

static const char *lay(const char *format, pid_t pid)
{
    char        name[100];
    const char *path;

    snprintf(name, sizeof name, format, (long)pid);
    path = kd_test_path(name);
    kd_test_write(path, "half", 4);
    return path;
}

START_TEST(temporary_files_of_dead_processes_are_removed)
{
    kdas_run_folder *folder;
    pid_t            pid = dead();

    mkdir(kd_test_path("out"), 0777);
    lay("out/last.kdas.tmp-%ld-0", pid);
    lay("out/last.kdas.tmp-%ld-4294967295", pid);
    lay("out/best.safetensors.tmp-%ld-17", pid);
    lay("out/log.csv.tmp-%ld-3", pid);
    lay("out/run.json.tmp-%ld-3", pid);
    kd_assert_ok(open_folder(&folder));
    kdas_run_folder_destroy(folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 0);
}
END_TEST

/* Whole files of a few MB, one after the other, until it is killed. */
static void write_for_ever(void)
{
    enum { BYTES = 4 << 20 };
    kdas_context    *own  = kd_test_device("cpu", NULL);
    char            *data = calloc(BYTES, 1);
    kdas_run_folder *folder;

    if (kdas_run_folder_open(&folder, own, kd_test_path("out")) != KDAS_OK) _exit(1);
    while (kd_file_write_all(own, kd_test_path("out/last.kdas"), data, BYTES) == KDAS_OK)
        continue;
    _exit(1);
}

START_TEST(a_kill_in_the_middle_of_a_write_leaves_nothing_to_the_next_run)
{
    int left = 0;

    for (int i = 0; left == 0 && i < 200; i++) {
        struct timespec  pause = { 0, 1000000 + 700000 * (i % 20) };
        kdas_run_folder *folder;
        pid_t            child;

        fflush(NULL);
        child = fork();
        if (child == 0) write_for_ever();
        while (kd_test_entries(kd_test_path(NULL)) == 0 || kd_test_entries(kd_test_path("out")) < 2)
            nanosleep(&pause, NULL);
        nanosleep(&pause, NULL);
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        left = kd_test_entries(kd_test_path("out")) - 2; /* the lock's file, the checkpoint */
        kd_assert_ok(open_folder(&folder));
        kdas_run_folder_destroy(folder);
        ck_assert_int_le(kd_test_entries(kd_test_path("out")), 1);
    }
    ck_assert_int_gt(left, 0);
}
END_TEST

/* Names that are nearly the pattern. */
static const char *const others[] = {
    "out/last.kdas.tmp-%ld",       "out/last.kdas.tmp-%ld-",   "out/last.kdas.tmp-%ld-x",
    "out/last.kdas.tmp-0%ld-1",    "out/last.kdas.tmp-%ld-01", "out/last.kdas.tmp-%ld-1 ",
    "out/last.kdas.tmp-+%ld-1",    "out/last.kdas.tmp- %ld-1", "out/last.kdas.tmp-%ld-4294967296",
    "out/mine.kdas.tmp-%ld-1",     "out/xlast.kdas.tmp-%ld-1", "out/last.kdas.tmp-%ld99999999999-1",
    "out/last.kdas.tmp-%ld-1.old", "out/last.kdas.tmp%ld-1",   "out/last.kdas.TMP-%ld-1",
    "out/last.kdas.tmp-%ld--1",    "out/best.safetensors%ld",  "out/last.kdas",
};

START_TEST(other_files_stay)
{
    kdas_run_folder *folder;
    pid_t            pid = dead();
    char             name[40];

    mkdir(kd_test_path("out"), 0777);
    for (size_t i = 0; i < KD_COUNT(others); i++)
        lay(others[i], pid);
    snprintf(name, sizeof name, "out/last.kdas.tmp-%ld-1", (long)pid);
    mkdir(kd_test_path(name), 0777); /* a folder of that name */
    kd_assert_ok(open_folder(&folder));
    kdas_run_folder_destroy(folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), (int)KD_COUNT(others) + 1);
}
END_TEST

START_TEST(files_of_living_processes_stay)
{
    kdas_run_folder *folder;

    mkdir(kd_test_path("out"), 0777);
    lay("out/last.kdas.tmp-%ld-0", getpid());
    lay("out/last.kdas.tmp-%ld-0", getppid());
    lay("out/last.kdas.tmp-%ld-1", 1); /* which we may not signal, if we are not root */
    kd_assert_ok(open_folder(&folder));
    kdas_run_folder_destroy(folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 3);
}
END_TEST

START_TEST(a_file_older_than_the_process_of_its_number_is_removed)
{
    struct timespec  hour[2];
    kdas_run_folder *folder;

    clock_gettime(CLOCK_REALTIME, &hour[0]);
    hour[0].tv_sec -= 3600;
    hour[1] = hour[0];
    mkdir(kd_test_path("out"), 0777);
    ck_assert_int_eq(utimensat(AT_FDCWD, lay("out/last.kdas.tmp-%ld-0", getpid()), hour, 0), 0);
    lay("out/last.kdas.tmp-%ld-1", getpid());
    kd_assert_ok(open_folder(&folder));
    kdas_run_folder_destroy(folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 1);
}
END_TEST

START_TEST(nothing_is_removed_where_there_are_no_locks)
{
    kdas_run_folder *folder;

    mkdir(kd_test_path("out"), 0777);
    lay("out/last.kdas.tmp-%ld-0", dead());
    no_locks = true;
    kd_assert_ok(open_folder(&folder));
    no_locks = false;
    kdas_run_folder_destroy(folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 1);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("stale");
    TCase   *left  = tcase_create("left");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(left, setup, teardown);
    tcase_add_test(left, temporary_files_of_dead_processes_are_removed);
    tcase_add_test(left, a_kill_in_the_middle_of_a_write_leaves_nothing_to_the_next_run);
    tcase_add_test(left, other_files_stay);
    tcase_add_test(left, files_of_living_processes_stay);
    tcase_add_test(left, a_file_older_than_the_process_of_its_number_is_removed);
    tcase_add_test(left, nothing_is_removed_where_there_are_no_locks);
    suite_add_tcase(suite, left);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
