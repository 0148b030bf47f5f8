/* life.c - the life of MPI in this process: who starts it, whether it is the right one, and how it ends.
 *
 * If the host has not started MPI, the plug-in does, and ends it when the process exits. It is linked with nodelete, so it is
 * there until then. At the exit:
 * - All is well: MPI_Finalize. It waits for the other ranks. The process exits without it when they have had the timeout, and
 *   LINGER seconds, to notice that this rank is gone.
 * - A call has failed, or the process exits with an error out of an open group: MPI_Abort, because the other ranks may
 *   never come to MPI_Finalize. Launchers then end the other processes. Ranks other than 0 first wait for this end, LINGER
 *   seconds at most: rank 0 may still be writing. What was printed is read by the launcher first, if it does so in time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "group.h"

enum { LINGER = 10 };

static struct {
    pthread_mutex_t lock;
    pid_t           pid;   /* that uses MPI; a forked child must not */
    bool            stuck; /* MPI_Init_thread has not returned */
    bool            ended, spoiled;
    atomic_bool     aborting;
    int             groups, rank, size;
    double          timeout; /* the longest of all groups */
} life = { .lock = PTHREAD_MUTEX_INITIALIZER };

double kd_mpi_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct timespec from_now(double seconds)
{
    struct timespec t;
    double          whole = (double)(long)seconds;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += (time_t)whole;
    t.tv_nsec += (long)((seconds - whole) * 1e9);
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    return t;
}

bool kd_mpi_enter(void)
{
    int over = 0;

    pthread_mutex_lock(&life.lock);
    if (!life.ended) MPI_Finalized(&over);
    if (!life.ended && !over) return true;
    pthread_mutex_unlock(&life.lock);
    return false;
}

void kd_mpi_leave(void) { pthread_mutex_unlock(&life.lock); }

void kd_mpi_count(int change)
{
    pthread_mutex_lock(&life.lock);
    life.groups += change;
    pthread_mutex_unlock(&life.lock);
}

void kd_mpi_spoil(void)
{
    pthread_mutex_lock(&life.lock);
    life.spoiled = true;
    pthread_mutex_unlock(&life.lock);
}

/* MPI_Abort does not wait for output: MPICH's mpiexec ends at once when it hears of it, and what is still in the pipe between a
 * process and its launcher is lost. Wait until the launcher has read it. */
static void wait_until_read(void)
{
    double until = kd_mpi_now() + LINGER / 2;

    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        struct timespec pause = { 0, 1000000 };
        struct stat     kind;
        int             unread;

        if (fstat(fd, &kind) != 0 || !S_ISFIFO(kind.st_mode)) continue;
        while (kd_mpi_now() < until && ioctl(fd, FIONREAD, &unread) == 0 && unread > 0)
            nanosleep(&pause, NULL);
    }
}

void kd_mpi_abort(MPI_Comm comm, int code)
{
    struct timespec until;
    int             over = 0;

    wait_until_read();
    until = from_now(2);
    /* Without the lock, too, if another thread does not give it back: all ends here. */
    bool locked   = pthread_mutex_timedlock(&life.lock, &until) == 0;
    life.aborting = true;
    MPI_Finalized(&over);
    if (!over && !life.ended) MPI_Abort(comm, code);
    if (locked) pthread_mutex_unlock(&life.lock);
}

/* ---- the end ---- */

static struct {
    int code, seconds;
} last;

static void *exit_late(void *user)
{
    struct timespec t = { last.seconds, 0 };

    nanosleep(&t, NULL);
    _exit(last.code ? last.code : EXIT_FAILURE);
    return user;
}

/* From now on the process has so many seconds. False: the system refuses a thread. */
static bool limit(int code, int seconds, pthread_t *watch)
{
    last.code    = code;
    last.seconds = seconds;
    return pthread_create(watch, NULL, exit_late, NULL) == 0;
}

static void finalize(int status)
{
    pthread_t watch;

    if (life.size > 1 && !limit(status, (int)life.timeout + LINGER, &watch)) return;
    MPI_Finalize();
    if (life.size > 1) pthread_cancel(watch);
}

/* What was printed shall be seen: the launcher may be faster than the rest of the exit. */
static void give_up(int status)
{
    struct timespec linger = { LINGER, 0 };
    pthread_t       watch;

    if (limit(status, 2 * LINGER, &watch)) fflush(NULL);
    wait_until_read();
    if (life.spoiled && life.rank != 0) nanosleep(&linger, NULL);
    life.aborting = true;
    MPI_Abort(MPI_COMM_WORLD, status ? status : EXIT_FAILURE);
}

static void at_exit(int status, void *user)
{
    struct timespec until = from_now(2);
    int             over  = 0;
    bool            bad;

    (void)user;
    if (getpid() != life.pid || life.aborting) return;
    if (pthread_mutex_timedlock(&life.lock, &until) != 0) return;
    life.ended = true; /* a thread that waits for other ranks gives up */
    bad        = life.spoiled || (status != 0 && life.groups > 0);
    pthread_mutex_unlock(&life.lock);
    MPI_Finalized(&over);
    if (over) return;
    if (bad)
        give_up(status);
    else
        finalize(status);
}

/* ---- the beginning ---- */

#ifdef OPEN_MPI
#define FLAVOUR "Open MPI"
#elif defined MPICH_VERSION
#define FLAVOUR "MPICH"
#else
#define FLAVOUR "MPI"
#endif

/* Libraries say "Open MPI v4.1.4, package: ..." or "MPICH Version:\t4.0.2\nMPICH Release date: ...". */
void kd_mpi_library(char *name, size_t size)
{
    char text[16384] =
        ""; /* enough for any library's: this may be another one than was built for */
    char *number;
    int   length;

    MPI_Get_library_version(text, &length);
    text[strcspn(text, "\n,")] = 0;
    number                     = strstr(text, " Version:");
    if (number) {
        char *behind = number + strlen(" Version:");

        behind += strspn(behind, " \t");
        memmove(number + 1, behind, strlen(behind) + 1);
    }
    number = strstr(text, " v");
    if (number) memmove(number + 1, number + 2, strlen(number + 2) + 1);
    snprintf(name, size, "%s", text);
}

/* Functions of MPI have the same names in every library. A host that has loaded another one lends its functions to the
 * plug-in, whose constants and types are of this one. */
static kdas_status check_library(const kdas_collective_host *host)
{
    char name[80];
    bool open_mpi, wanted = strcmp(FLAVOUR, "Open MPI") == 0;

    kd_mpi_library(name, sizeof name);
    open_mpi = strncmp(name, "Open MPI", 8) == 0;
    if (open_mpi == wanted) return KDAS_OK;
    return (host->fail)(KDAS_EBACKEND,
                        "this plug-in was built for %s, but the process has loaded '%s': use the "
                        "collective that is built for that",
                        FLAVOUR, name);
}

/* Open MPI loads its parts by dlopen; some builds of them find the library only if it is global. A process without a launcher
 * would start a daemon of Open MPI, which is for processes that start others; where it is not installed, that is the end of
 * the process. */
static void prepare(void)
{
    Dl_info info;
    int (*function)(int *) = MPI_Initialized;
    void *address;

    memcpy(&address, &function, sizeof address);
    if (dladdr(address, &info) && info.dli_fname)
        dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
#ifdef OPEN_MPI
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
#endif
}

/* MPI_Init_thread waits for all processes of the job and knows no timeout, so a thread of its own calls it. If it does not come
 * back, the thread is left where it is. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t  done;
    bool            returned;
    int             error, level;
} init = { .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER };

static void *call_init(void *user)
{
    int level = MPI_THREAD_SINGLE, error;

    (void)user;
    error = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
    pthread_mutex_lock(&init.lock);
    init.error    = error;
    init.level    = level;
    init.returned = true;
    pthread_cond_signal(&init.done);
    pthread_mutex_unlock(&init.lock);
    return NULL;
}

static kdas_status start(const kdas_collective_host *host, double timeout)
{
    struct timespec until = from_now(timeout);
    pthread_t       thread;
    bool            returned;
    int             late = 0;

    prepare();
    if (pthread_create(&thread, NULL, call_init, NULL) != 0)
        return (host->fail)(KDAS_EBACKEND, "MPI_Init_thread: the system refuses a thread");
    pthread_mutex_lock(&init.lock);
    while (!init.returned && !late)
        late = pthread_cond_timedwait(&init.done, &init.lock, &until);
    returned = init.returned;
    pthread_mutex_unlock(&init.lock);
    if (!returned) {
        life.stuck = true;
        pthread_detach(thread);
        return (host->fail)(
            KDAS_EBACKEND,
            "MPI_Init_thread: it did not return within %g seconds; a process of the job "
            "may not have come, or is another program",
            timeout);
    }
    pthread_join(thread, NULL);
    if (init.error != MPI_SUCCESS)
        return (host->fail)(KDAS_EBACKEND, "MPI_Init_thread failed with error %d", init.error);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &life.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &life.size);
    life.pid = getpid();
    on_exit(at_exit, NULL);
    if (init.level >= MPI_THREAD_SERIALIZED) return KDAS_OK;
    return (host->fail)(KDAS_EBACKEND,
                        "this MPI gives no support for threads (MPI_THREAD_SERIALIZED)");
}

/* Under the lock. */
static kdas_status start_or_join(const kdas_collective_host *host, double timeout)
{
    int runs = 0, over = 0, level = MPI_THREAD_SINGLE;

    MPI_Initialized(&runs);
    MPI_Finalized(&over);
    if (over || life.ended)
        return (host->fail)(
            KDAS_EBACKEND,
            "MPI has been ended in this process (MPI_Finalize), and cannot start again");
    if (life.stuck)
        return (host->fail)(KDAS_EBACKEND,
                            "MPI_Init_thread has not returned since an earlier call");
    if (!runs) return start(host, timeout);
    MPI_Query_thread(&level);
    if (level >= MPI_THREAD_SERIALIZED) return KDAS_OK;
    return (host->fail)(KDAS_EBACKEND,
                        "the host has started MPI without support for threads: it must call "
                        "MPI_Init_thread with MPI_THREAD_SERIALIZED or MPI_THREAD_MULTIPLE");
}

kdas_status kd_mpi_start(const kdas_collective_host *host, double timeout)
{
    kdas_status st = check_library(host);

    if (st != KDAS_OK) return st;
    pthread_mutex_lock(&life.lock);
    st = start_or_join(host, timeout);
    if (timeout > life.timeout) life.timeout = timeout;
    pthread_mutex_unlock(&life.lock);
    return st;
}

/* ---- the launcher ---- */

/* What launchers tell a process about the number of processes. */
static const struct {
    const char *variable, *launcher;
} launchers[] = {
    { "OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun" },
    { "PMI_SIZE", "MPICH's mpiexec, or another that speaks PMI," },
    { "SLURM_STEP_NUM_TASKS", "Slurm's srun" },
};

static long number_in(const char *text)
{
    long number = 0;

    for (; text && *text >= '0' && *text <= '9' && number < 100000000; text++)
        number = number * 10 + (*text - '0');
    return number;
}

/* A process that was started by the launcher of another MPI is alone, without an error. */
kdas_status kd_mpi_check_launcher(const kdas_collective_host *host)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        long count = number_in(getenv(launchers[i].variable));

        if (count > 1)
            return (host->fail)(
                KDAS_EBACKEND,
                "%s has started %ld processes (%s), but each is alone for the MPI of this "
                "plug-in, which is %s: use the launcher that belongs to it, or the "
                "collective that belongs to the launcher ('openmpi' or 'mpich')",
                launchers[i].launcher, count, launchers[i].variable, FLAVOUR);
    }
    return KDAS_OK;
}
