/* check_run_folder.c - one run at a time writes into a folder: locks that end with their owner. The temporary files that
 * killed processes leave: check_stale.c. */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <kdas/kdas.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "distill/train.h"
#include "support/check_util.h"
#include "support/child.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/train_util.h"

static kd_test_meter meter;
static kdas_context *ctx;
static char          log_text[4096];

static void note(void *user, kdas_log_level level, const char *text)
{
    size_t n = strlen(log_text);

    (void)user;
    (void)level;
    snprintf(log_text + n, sizeof log_text - n, "%s\n", text);
}

static kdas_context *logged(void)
{
    kdas_context_options o;
    kdas_context        *made;

    kdas_context_options_init(&o, sizeof o);
    o.log     = note;
    o.threads = 1;
    kd_assert_ok(kdas_context_create(&made, &o));
    return made;
}

static void setup(void)
{
    kd_test_folder_make();
    memset(&meter, 0, sizeof meter);
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

/* ---- a file system without locks, or with an unusual answer ---- */

static int no_locks; /* the errno of flock(); 0: it works */

int flock(int fd, int operation)
{
    if (!no_locks) return (int)syscall(SYS_flock, fd, operation);
    errno = no_locks;
    return -1;
}

static const int refusals[] = { ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL };

START_TEST(a_file_system_without_locks_does_not_stop_a_run)
{
    kdas_context    *own = logged(), *before = ctx;
    kdas_run_folder *one, *two;

    ctx         = own;
    log_text[0] = 0;
    no_locks    = refusals[_i];
    kd_assert_ok(open_folder(&one));
    ctx = before;
    kd_assert_ok(open_folder(&two)); /* which nobody can know */
    no_locks = 0;
    ck_assert_ptr_nonnull(strstr(log_text, "cannot be locked"));
    kdas_run_folder_destroy(one);
    kdas_run_folder_destroy(two);
    kdas_context_destroy(own);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 0);
}
END_TEST

/* A lock manager that is away for a moment says nothing about the file of an owner. */
START_TEST(an_owners_file_stays_where_a_lock_cannot_be_tried)
{
    kdas_context    *other = kd_test_device("cpu", &meter);
    kdas_run_folder *one, *two;

    kd_assert_ok(open_folder(&one));
    no_locks = ENOLCK;
    kd_assert_ok(kdas_run_folder_open(&two, other, kd_test_path("out")));
    no_locks = 0;
    kdas_run_folder_destroy(two);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 1);
    kd_assert_status(kdas_run_folder_open(&two, other, kd_test_path("out")), KDAS_ESTATE);
    kdas_run_folder_destroy(one);
    kdas_context_destroy(other);
}
END_TEST

/* ---- one owner ---- */

START_TEST(a_folder_is_made_and_left_empty)
{
    kdas_run_folder *folder;

    kd_assert_ok(kdas_run_folder_open(&folder, ctx, kd_test_path("deep/er")));
    ck_assert_int_eq(kd_test_entries(kd_test_path("deep/er")), 1); /* the lock's file */
    kdas_run_folder_destroy(folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("deep/er")), 0);
    kdas_run_folder_destroy(NULL);
}
END_TEST

START_TEST(a_context_holds_a_folder_any_number_of_times)
{
    kdas_context    *other = kd_test_device("cpu", &meter);
    kdas_run_folder *one, *two, *link, *refused = (kdas_run_folder *)&meter;

    kd_assert_ok(open_folder(&one));
    ck_assert_int_eq(symlink("out", kd_test_path("link")), 0);
    kd_assert_ok(open_folder(&two));
    kd_assert_ok(kdas_run_folder_open(&link, ctx, kd_test_path("link")));
    kdas_run_folder_destroy(one);
    kdas_run_folder_destroy(link);
    kd_assert_status(kdas_run_folder_open(&refused, other, kd_test_path("out")), KDAS_ESTATE);
    ck_assert_ptr_null(refused);
    kd_assert_sentence("another run of this process");
    kdas_run_folder_destroy(two);
    kd_assert_ok(kdas_run_folder_open(&one, other, kd_test_path("out")));
    kdas_run_folder_destroy(one);
    kdas_context_destroy(other);
}
END_TEST

/* Another context has made a folder of the same name; the first gives back its own alone. */
static void assert_held_by(kdas_run_folder *second, const char *name)
{
    kdas_context    *third = kd_test_device("cpu", &meter);
    kdas_run_folder *none;

    kd_assert_status(kdas_run_folder_open(&none, third, name), KDAS_ESTATE);
    kdas_run_folder_destroy(second);
    kd_assert_ok(kdas_run_folder_open(&none, third, name));
    kdas_run_folder_destroy(none);
    kdas_context_destroy(third);
}

START_TEST(a_relative_path_is_that_of_its_working_folder)
{
    kdas_context    *other = kd_test_device("cpu", &meter);
    kdas_run_folder *one, *two;

    ck_assert_int_eq(mkdir(kd_test_path("a"), 0777), 0);
    ck_assert_int_eq(mkdir(kd_test_path("b"), 0777), 0);
    ck_assert_int_eq(chdir(kd_test_path("a")), 0);
    kd_assert_ok(kdas_run_folder_open(&one, ctx, "run"));
    ck_assert_int_eq(chdir(kd_test_path("b")), 0);
    kd_assert_ok(kdas_run_folder_open(&two, other, "run"));
    kdas_run_folder_destroy(one);
    ck_assert_int_eq(kd_test_entries(kd_test_path("a/run")), 0);
    assert_held_by(two, "run");
    kdas_context_destroy(other);
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

START_TEST(a_folder_made_anew_belongs_to_who_made_it)
{
    kdas_context    *other = kd_test_device("cpu", &meter);
    kdas_run_folder *one, *two;

    kd_assert_ok(open_folder(&one));
    kd_assert_ok(kd_train_folder_check(one, "out"));
    ck_assert_int_eq(rename(kd_test_path("out"), kd_test_path("old")), 0);
    kd_assert_ok(kd_train_folder_check(one, "out")); /* nobody's: writing will tell */
    kd_assert_ok(kdas_run_folder_open(&two, other, kd_test_path("out")));
    kd_assert_status(kd_train_folder_check(one, "out"), KDAS_ESTATE);
    kd_assert_sentence("'out' is no longer this run's");
    kd_assert_ok(kd_train_folder_check(two, "out"));
    kdas_run_folder_destroy(one);
    assert_held_by(two, kd_test_path("out"));
    kdas_context_destroy(other);
}
END_TEST

START_TEST(wrong_arguments_and_places_are_refused)
{
    kdas_run_folder *folder = (kdas_run_folder *)&meter;

    kd_test_write(kd_test_path("file"), "x", 1);
    kd_assert_status(kdas_run_folder_open(NULL, ctx, "x"), KDAS_EINVAL);
    kd_assert_status(kdas_run_folder_open(&folder, NULL, "x"), KDAS_EINVAL);
    ck_assert_ptr_null(folder);
    kd_assert_status(kdas_run_folder_open(&folder, ctx, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_run_folder_open(&folder, ctx, kd_test_path("file")), KDAS_EIO);
    kd_assert_sentence("/file'");
    mkdir(kd_test_path("out"), 0777);
    mkdir(kd_test_path("out/.kdas-lock"), 0777);
    kd_assert_status(open_folder(&folder), KDAS_EIO);
    kd_assert_sentence(".kdas-lock': Is a directory");
    ck_assert_ptr_null(folder);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    kdas_run_folder *folder = NULL;
    kdas_status      st     = KDAS_ENOMEM;
    int              k      = 0;

    while (st == KDAS_ENOMEM) {
        meter.fail_at = atomic_load(&meter.taken) + ++k;
        st            = open_folder(&folder);
        meter.fail_at = 0;
        if (st == KDAS_ENOMEM) ck_assert_ptr_null(folder);
    }
    kd_assert_ok(st);
    ck_assert_int_gt(k, 5);
    kdas_run_folder_destroy(folder);
    kd_assert_ok(open_folder(&folder)); /* no failure has left a lock */
    kdas_run_folder_destroy(folder);
}
END_TEST

/* ---- processes ---- */

/* A process that holds the folder until it is killed; `fork_too`: and one that it has forked, whose id comes by the pipe. */
static pid_t start_owner(bool fork_too, pid_t *forked)
{
    int   ready[2];
    pid_t owner, second = 0;

    ck_assert_int_eq(pipe(ready), 0);
    fflush(NULL);
    owner = fork();
    ck_assert_int_ge(owner, 0);
    if (owner == 0) {
        kdas_run_folder *folder;

        ctx = kd_test_device("cpu", NULL);
        if (open_folder(&folder) != KDAS_OK) _exit(1);
        /* The last process to come up reports: it has run what fork() does in a child. */
        if (!fork_too || fork() == 0) {
            second = getpid();
            if (write(ready[1], &second, sizeof second) != sizeof second) _exit(1);
        }
        for (;;)
            pause();
    }
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &second, sizeof second), sizeof second);
    close(ready[0]);
    if (forked) *forked = second;
    return owner;
}

static void end_process(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(a_second_process_is_refused_by_the_id_of_the_first)
{
    pid_t            owner = start_owner(false, NULL);
    kdas_run_folder *folder;
    char             id[40];

    kd_assert_status(open_folder(&folder), KDAS_ESTATE);
    snprintf(id, sizeof id, "process %ld ", (long)owner);
    kd_assert_sentence(id);
    kd_assert_sentence("/out'");
    end_process(owner); /* SIGKILL: its file stays, its lock does not */
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 1);
    kd_assert_ok(open_folder(&folder));
    kdas_run_folder_destroy(folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 0);
}
END_TEST

START_TEST(another_hosts_process_is_named_with_its_host)
{
    pid_t            owner = start_owner(false, NULL);
    kdas_run_folder *folder;

    kd_test_write(kd_test_path("out/.kdas-lock"), "77 far-away\n", 12); /* as over NFS */
    kd_assert_status(open_folder(&folder), KDAS_ESTATE);
    kd_assert_sentence("process 77 on the host 'far-away'");
    kd_test_write(kd_test_path("out/.kdas-lock"), "", 0); /* a full disk */
    kd_assert_status(open_folder(&folder), KDAS_ESTATE);
    kd_assert_sentence("another process");
    end_process(owner);
}
END_TEST

START_TEST(a_forked_child_does_not_keep_the_lock)
{
    kdas_run_folder *folder;
    pid_t            forked, owner = start_owner(true, &forked);

    kd_assert_status(open_folder(&folder), KDAS_ESTATE);
    end_process(owner);
    ck_assert_int_eq(kill(forked, 0), 0); /* lives */
    kd_assert_ok(open_folder(&folder));
    kdas_run_folder_destroy(folder);
    kill(forked, SIGKILL);
}
END_TEST

static int destroy_in_child(void *folder)
{
    kdas_run_folder *again;

    kd_child_assert_status(open_folder(&again), KDAS_ESTATE);
    kd_child_assert(strstr(kdas_last_error(), "forked") != NULL);
    kdas_run_folder_destroy(folder);
    return 0;
}

START_TEST(destroying_it_in_a_child_leaves_the_parents_lock)
{
    kdas_context    *other = kd_test_device("cpu", &meter);
    kdas_run_folder *folder, *second;

    kd_assert_ok(open_folder(&folder));
    kd_test_in_child(destroy_in_child, folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 1);
    kd_assert_status(kdas_run_folder_open(&second, other, kd_test_path("out")), KDAS_ESTATE);
    kdas_run_folder_destroy(folder);
    kdas_context_destroy(other);
}
END_TEST

/* Processes that open and close it all the time: never two at once. */
START_TEST(of_many_processes_one_has_it)
{
    enum { MANY = 4, ROUNDS = 300 };
    pid_t child[MANY];
    int   status;

    mkdir(kd_test_path("out"), 0777);
    fflush(NULL);
    for (int i = 0; i < MANY; i++) {
        child[i] = fork();
        if (child[i]) continue;
        ctx = kd_test_device("cpu", NULL);
        for (int round = 0; round < ROUNDS; round++) {
            kdas_run_folder *folder;
            kdas_status      st = open_folder(&folder);
            int              fd;

            if (st == KDAS_ESTATE) continue;
            if (st != KDAS_OK) _exit(2);
            fd = open(kd_test_path("out/mine"), O_CREAT | O_EXCL, 0600);
            if (fd < 0) _exit(3); /* somebody else has it, too */
            close(fd);
            unlink(kd_test_path("out/mine"));
            kdas_run_folder_destroy(folder);
        }
        _exit(0);
    }
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(waitpid(child[i], &status, 0), child[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 0);
}
END_TEST

/* ---- a run ---- */

START_TEST(a_run_is_refused_where_another_one_runs)
{
    kd_test_rig_options o     = kd_test_alone();
    pid_t               owner = start_owner(false, NULL);
    kd_test_training    s;
    char                id[40];

    kd_test_train_make(&s, &o, kd_test_path("out"));
    kd_assert_status(kd_test_train(&s), KDAS_ESTATE);
    snprintf(id, sizeof id, "process %ld ", (long)owner);
    kd_assert_sentence(id);
    ck_assert_int_eq(s.saw.steps, 0);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 1); /* the owner's */
    end_process(owner);
    snprintf(id, sizeof id, "out/best.safetensors.tmp-%ld-17", (long)owner);
    kd_test_write(kd_test_path(id), "half", 4);
    s.options.max_steps = 1;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 4);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_run_goes_into_the_folder_that_its_context_holds)
{
    kd_test_rig_options o = kd_test_alone();
    kdas_run_folder    *folder;
    kd_test_training    s;

    kd_test_train_make(&s, &o, kd_test_path("out"));
    kd_assert_ok(kdas_run_folder_open(&folder, s.rig.ctx, kd_test_path("out")));
    s.options.max_steps = 1;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")),
                     5); /* and the lock's file: it is still held */
    kdas_run_folder_destroy(folder);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 4);
    kd_test_train_finish(&s);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("run_folder");
    TCase   *lock = tcase_create("lock"), *run = tcase_create("run");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_checked_fixture(lock, setup, teardown);
    tcase_add_loop_test(lock, a_file_system_without_locks_does_not_stop_a_run, 0,
                        KD_COUNT(refusals));
    tcase_add_test(lock, an_owners_file_stays_where_a_lock_cannot_be_tried);
    tcase_add_test(lock, a_folder_is_made_and_left_empty);
    tcase_add_test(lock, a_context_holds_a_folder_any_number_of_times);
    tcase_add_test(lock, a_relative_path_is_that_of_its_working_folder);
    tcase_add_test(lock, a_folder_made_anew_belongs_to_who_made_it);
    tcase_add_test(lock, wrong_arguments_and_places_are_refused);
    tcase_add_test(lock, any_allocation_may_fail);
    tcase_add_test(lock, a_second_process_is_refused_by_the_id_of_the_first);
    tcase_add_test(lock, another_hosts_process_is_named_with_its_host);
    tcase_add_test(lock, a_forked_child_does_not_keep_the_lock);
    tcase_add_test(lock, destroying_it_in_a_child_leaves_the_parents_lock);
    tcase_add_test(lock, of_many_processes_one_has_it);
    suite_add_tcase(suite, lock);

    tcase_add_checked_fixture(run, setup, teardown);
    tcase_add_test(run, a_run_is_refused_where_another_one_runs);
    tcase_add_test(run, a_run_goes_into_the_folder_that_its_context_holds);
    suite_add_tcase(suite, run);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
