/* check_cores.c - how many threads a context has that does not say: OMP_NUM_THREADS, the affinity mask, also on machines
 * with more CPUs than a cpu_set_t holds, and control groups' quotas, read from made-up trees. */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <kdas/base.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/base.h"
#include "base/cores.h"
#include "support/check_util.h"
#include "support/files.h"

/* ---- a kernel of a large machine ---- */

static int large_machine; /* CPUs that its kernel counts; 0: this machine's is asked */
static int allowed;       /* how many of them the process may use, the last ones     */

/* As the kernel does: a mask that is too small is refused. */
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    long bytes = large_machine / 8;

    if (!large_machine) {
        bytes = syscall(SYS_sched_getaffinity, pid, size, set);
        if (bytes >= 0) memset((char *)set + bytes, 0, size - (size_t)bytes);
        return bytes < 0 ? -1 : 0;
    }
    if (size < (size_t)bytes) {
        errno = EINVAL;
        return -1;
    }
    memset(set, 0, size);
    for (int i = large_machine - allowed; i < large_machine; i++)
        CPU_SET_S((size_t)i, size, set);
    return 0;
}

START_TEST(machines_of_more_than_1024_cpus_are_counted)
{
    static const int sizes[][2] = { { 1024, 1000 }, { 2048, 1 }, { 4096, 1500 }, { 65536, 3 } };

    for (size_t i = 0; i < KD_COUNT(sizes); i++) {
        large_machine = sizes[i][0];
        allowed       = sizes[i][1];
        ck_assert_int_eq(kd_affinity_cpus(), allowed);
    }
}
END_TEST

START_TEST(the_mask_of_this_process_counts)
{
    cpu_set_t set, one;
    int       first = 0;

    large_machine = 0;
    ck_assert_int_eq(sched_getaffinity(0, sizeof set, &set), 0);
    ck_assert_int_eq(kd_affinity_cpus(), CPU_COUNT(&set));
    while (!CPU_ISSET(first, &set))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    ck_assert_int_eq(kd_affinity_cpus(), 1);
}
END_TEST

/* ---- quotas ---- */

/* Write "<folder>/path", and the folders that it needs. */
static void put(const char *path, const char *text)
{
    char command[1200], full[600];

    snprintf(full, sizeof full, "%s", kd_test_path(path));
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", full);
    ck_assert_int_eq(system(command), 0);
    kd_test_write(full, text, strlen(text));
}

static int64_t quota(void) { return kd_quota_cpus(kd_test_path(NULL)); }

#define MOUNT_V2 "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define OTHER    "22 28 0:21 / /proc rw,nosuid - proc proc rw\n"
#define MOUNT_V1 \
    "33 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
#define MEMORY_V1 "34 23 0:30 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory\n"
#define CPUSET_V1 "35 23 0:31 / /sys/fs/cgroup/cpuset rw shared:7 - cgroup cgroup rw,cpuset\n"

static void on_v2(const char *group)
{
    char line[200];

    snprintf(line, sizeof line, "0::%s\n", group);
    put("proc/self/cgroup", line);
    put("proc/self/mountinfo", OTHER MOUNT_V2);
}

START_TEST(without_groups_there_is_no_quota)
{
    ck_assert_int_eq(quota(), 0); /* not even a /proc */
    put("proc/self/cgroup", "0::/a\n");
    ck_assert_int_eq(quota(), 0);
    put("proc/self/mountinfo", OTHER);
    ck_assert_int_eq(quota(), 0);
    on_v2("/a");
    ck_assert_int_eq(quota(), 0);
    ck_assert_int_eq(kd_quota_cpus("/nowhere"), 0);
    ck_assert_int_ge(kd_quota_cpus(""), 0); /* this machine, whatever it has */
}
END_TEST

static const struct {
    const char *text;
    int64_t     cpus;
} limits[] = {
    { "max 100000\n", 0 },
    { "200000 100000\n", 2 },
    { "250000 100000\n", 2 },
    { "50000 100000\n", 1 },
    { "100000 25000", 4 },
    { "3200000 100000\n", 32 },
    { "max\n", 0 },
    { "", 0 },
    { "200000\n", 0 },
    { "200000 0\n", 0 },
    { "-1 100000\n", 0 },
    { "many 100000\n", 0 },
    { "9999999999999999999999 100000\n", 0 },
};

START_TEST(a_quota_of_v2_gives_whole_cpus_and_one_at_least)
{
    on_v2("/job");
    put("sys/fs/cgroup/job/cpu.max", limits[_i].text);
    ck_assert_int_eq(quota(), limits[_i].cpus);
}
END_TEST

START_TEST(the_tightest_group_above_decides)
{
    on_v2("/a/b/c");
    put("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/a/b/cpu.max", "700000 100000\n");
    ck_assert_int_eq(quota(), 7);
    put("sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    ck_assert_int_eq(quota(), 3);
    put("sys/fs/cgroup/a/b/c/cpu.max", "200000 100000\n");
    ck_assert_int_eq(quota(), 2);
    put("sys/fs/cgroup/cpu.max", "100000 100000\n"); /* of a container that sees itself as "/" */
    ck_assert_int_eq(quota(), 1);
    put("sys/fs/cgroup/other/cpu.max", "50000 100000\n");
    put("sys/fs/cgroup/a/b/c/d/cpu.max", "50000 100000\n");
    ck_assert_int_eq(quota(), 1);
}
END_TEST

START_TEST(a_group_beside_or_below_does_not_count)
{
    on_v2("/a/b");
    put("sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
    put("sys/fs/cgroup/a/b/c/cpu.max", "100000 100000\n");
    put("sys/fs/cgroup/a/other/cpu.max", "100000 100000\n");
    ck_assert_int_eq(quota(), 4);
}
END_TEST

/* A container that was given its own group as the mount, and sees the machine's path of it. */
START_TEST(a_mount_that_begins_below_the_machines_root_is_understood)
{
    put("proc/self/cgroup", "0::/docker/0123abc/part\n");
    put("proc/self/mountinfo",
        "40 23 0:26 /docker/0123abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put("sys/fs/cgroup/cpu.max", "600000 100000\n");
    ck_assert_int_eq(quota(), 6);
    put("sys/fs/cgroup/part/cpu.max", "500000 100000\n");
    ck_assert_int_eq(quota(), 5);
    put("proc/self/cgroup", "0::/docker/0123abcd\n"); /* another group, whose name begins alike */
    ck_assert_int_eq(quota(), 0);
}
END_TEST

START_TEST(a_group_outside_of_the_namespace_cannot_be_seen)
{
    on_v2("/../other");
    put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    put("sys/fs/other/cpu.max", "100000 100000\n");
    ck_assert_int_eq(quota(), 0);
}
END_TEST

START_TEST(a_mount_point_may_have_blanks)
{
    put("proc/self/cgroup", "0::/\n");
    put("proc/self/mountinfo", "40 23 0:26 / /my\\040groups ro - cgroup2 none rw\n");
    put("my groups/cpu.max", "200000 100000\n");
    ck_assert_int_eq(quota(), 2);
}
END_TEST

START_TEST(quotas_of_v1_are_read)
{
    put("proc/self/cgroup", "9:memory:/m\n5:cpuset:/s\n4:cpu,cpuacct:/a/b\n1:name=systemd:/x\n");
    put("proc/self/mountinfo", MEMORY_V1 CPUSET_V1 MOUNT_V1);
    ck_assert_int_eq(quota(), 0);
    put("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(quota(), 0);
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "350000\n");
    ck_assert_int_eq(quota(), 0); /* a quota of what? */
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(quota(), 3);
    put("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "50000\n");
    ck_assert_int_eq(quota(), 1);
    put("sys/fs/cgroup/memory/m/cpu.cfs_quota_us", "100000\n");
    put("sys/fs/cgroup/cpuset/s/cpu.cfs_quota_us", "100000\n");
    ck_assert_int_eq(quota(), 1);
}
END_TEST

START_TEST(both_kinds_side_by_side_count)
{
    put("proc/self/cgroup", "4:cpu,cpuacct:/a\n0::/b\n");
    put("proc/self/mountinfo",
        MOUNT_V1 "41 23 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("sys/fs/cgroup/unified/b/cpu.max", "500000 100000\n");
    ck_assert_int_eq(quota(), 5);
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "800000\n");
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    ck_assert_int_eq(quota(), 5);
    put("sys/fs/cgroup/unified/b/cpu.max", "900000 100000\n");
    ck_assert_int_eq(quota(), 8);
}
END_TEST

START_TEST(odd_lines_are_passed_over)
{
    char *line = malloc(20001);

    memset(line, 'x', 20000);
    line[20000] = 0;
    put("proc/self/cgroup", "\n:\nnothing\n0::/job");
    put("proc/self/mountinfo", line);
    ck_assert_int_eq(quota(), 0);
    memcpy(line + 19000, "\n\n - \n30 23\n" MOUNT_V2, sizeof "\n\n - \n30 23\n" MOUNT_V2);
    put("proc/self/mountinfo", line);
    put("sys/fs/cgroup/job/cpu.max", "200000 100000\n");
    ck_assert_int_eq(quota(), 2);
    free(line);
}
END_TEST

/* ---- OMP_NUM_THREADS, and the context ---- */

static char said[512];

static void keep_line(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    if (level == KDAS_LOG_WARN) snprintf(said, sizeof said, "%s", text);
}

static int32_t threads_of_a_context(int32_t asked)
{
    kdas_context_options o;
    kdas_context        *ctx;
    int32_t              got;

    said[0] = 0;
    kdas_context_options_init(&o, sizeof o);
    o.threads = asked;
    o.log     = keep_line;
    kd_assert_ok(kdas_context_create(&ctx, &o));
    got = kdas_context_threads(ctx);
    kdas_context_destroy(ctx);
    return got;
}

static int32_t by_itself(void)
{
    int64_t n = kd_affinity_cpus(), most = kd_quota_cpus("");

    return (int32_t)(most && most < n ? most : n);
}

static const struct {
    const char *value;
    int32_t     threads; /* 0: it is ignored */
    bool        logged;
} values[] = {
    { "3", 3, false },     { "5,2,1", 5, false }, { " 4 ", 4, false },
    { "2 , 3", 2, false }, { "1", 1, false },     { "6", 6, false },
    { "7", 0, false }, /* more than there are CPUs: it limits, and does not raise */
    { "1025", 0, false },  { "", 0, false },      { "0", 0, true },
    { "-2", 0, true },     { "two", 0, true },    { "2.5", 0, true },
    { "2x", 0, true },     { ",2", 0, true },     { "99999999999999999999", 0, true },
};

START_TEST(omp_num_threads_limits_and_is_ignored_where_it_makes_no_sense)
{
    large_machine = 1024;
    allowed       = 6;
    if (kd_quota_cpus("")) return; /* of this machine, which is smaller */
    setenv("OMP_NUM_THREADS", values[_i].value, 1);
    ck_assert_int_eq(threads_of_a_context(0), values[_i].threads ? values[_i].threads : 6);
    ck_assert_int_eq(strstr(said, "OMP_NUM_THREADS") != NULL, values[_i].logged);
    ck_assert_int_eq(threads_of_a_context(8), 8); /* who asks, gets */
    ck_assert_str_eq(said, "");
}
END_TEST

START_TEST(without_it_mask_and_quota_count)
{
    unsetenv("OMP_NUM_THREADS");
    ck_assert_int_eq(threads_of_a_context(0), by_itself());
    ck_assert_str_eq(said, "");
    large_machine = 4096;
    allowed       = 1;
    ck_assert_int_eq(threads_of_a_context(0), 1);
}
END_TEST

/* OpenMP reads its limit when the process starts: the suite's own program is started anew, to print a count. */
static int print_count(const char *asked)
{
    printf("%d\n", threads_of_a_context(atoi(asked)));
    return said[0] && strstr(said, "OMP_THREAD_LIMIT") ? 3 : 0;
}

static const struct {
    const char *asked;
    int         limit, count, logged;
} thread_limits[] = { { "0", 1, 1, 0 }, { "4", 1, 1, 1 }, { "4", 3, 3, 1 }, { "2", 9, 2, 0 } };

START_TEST(openmps_own_limit_counts_for_every_context)
{
    char    self[4096], command[4300];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    FILE   *pipe;
    int     count = 0, code;

    ck_assert_int_gt(length, 0);
    self[length] = 0;
    snprintf(command, sizeof command, "OMP_THREAD_LIMIT=%d '%s' --count %s",
             thread_limits[_i].limit, self, thread_limits[_i].asked);
    pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    ck_assert_int_eq(fscanf(pipe, "%d", &count), 1);
    code = pclose(pipe);
    ck_assert_int_eq(count, thread_limits[_i].count);
    ck_assert_int_eq(WEXITSTATUS(code), thread_limits[_i].logged ? 3 : 0);
}
END_TEST

int main(int argc, char **argv)
{
    Suite   *suite;
    TCase   *mask, *quotas, *both;
    SRunner *runner;
    int      failed;

    if (argc == 3 && !strcmp(argv[1], "--count")) return print_count(argv[2]);
    suite  = suite_create("cores");
    mask   = tcase_create("mask");
    quotas = tcase_create("quotas");
    both   = tcase_create("default");
    tcase_add_test(mask, machines_of_more_than_1024_cpus_are_counted);
    tcase_add_test(mask, the_mask_of_this_process_counts);
    suite_add_tcase(suite, mask);
    tcase_add_checked_fixture(quotas, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(quotas, without_groups_there_is_no_quota);
    tcase_add_loop_test(quotas, a_quota_of_v2_gives_whole_cpus_and_one_at_least, 0,
                        KD_COUNT(limits));
    tcase_add_test(quotas, the_tightest_group_above_decides);
    tcase_add_test(quotas, a_group_beside_or_below_does_not_count);
    tcase_add_test(quotas, a_mount_that_begins_below_the_machines_root_is_understood);
    tcase_add_test(quotas, a_group_outside_of_the_namespace_cannot_be_seen);
    tcase_add_test(quotas, a_mount_point_may_have_blanks);
    tcase_add_test(quotas, quotas_of_v1_are_read);
    tcase_add_test(quotas, both_kinds_side_by_side_count);
    tcase_add_test(quotas, odd_lines_are_passed_over);
    suite_add_tcase(suite, quotas);
    tcase_add_loop_test(both, omp_num_threads_limits_and_is_ignored_where_it_makes_no_sense, 0,
                        KD_COUNT(values));
    tcase_add_test(both, without_it_mask_and_quota_count);
    tcase_add_loop_test(both, openmps_own_limit_counts_for_every_context, 0,
                        KD_COUNT(thread_limits));
    suite_add_tcase(suite, both);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
