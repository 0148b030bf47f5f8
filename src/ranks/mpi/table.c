/* table.c - the collective "mpi": MPI behind the table of kdas/collective.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include "group.h"

KDAS_API const kdas_collective *kdas_collective_entry(void);

/* ---- opening ---- */

static int begin_copy(group *g, void *user, MPI_Request *request)
{
    return MPI_Comm_idup(*(const MPI_Comm *)user, &g->comm, request);
}

/* A communicator of the group's own, whose messages are no others'. */
static kdas_status copy_communicator(group *g, const void *communicator)
{
    MPI_Comm    from = communicator ? *(const MPI_Comm *)communicator : MPI_COMM_WORLD;
    MPI_Comm    all  = MPI_COMM_WORLD;
    kdas_status st;
    int         between = 0, size = 0;

    if (from == MPI_COMM_NULL)
        return (g->host->fail)(KDAS_EINVAL, "ranks: the communicator is MPI_COMM_NULL");
    if (!kd_mpi_enter()) return (g->host->fail)(KDAS_EBACKEND, "MPI has been ended");
    MPI_Comm_test_inter(from, &between);
    MPI_Comm_rank(from, &g->rank);
    MPI_Comm_size(from, &g->count);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    kd_mpi_leave();
    if (between)
        return (g->host->fail)(KDAS_EINVAL, "ranks: the communicator is one between two groups");
    st = size == 1 ? kd_mpi_check_launcher(g->host) : KDAS_OK;
    if (st == KDAS_OK)
        st = kd_mpi_do(g, "join (MPI_Comm_idup)", begin_copy, communicator ? &from : &all);
    if (st == KDAS_OK && kd_mpi_enter()) {
        MPI_Comm_set_errhandler(g->comm, MPI_ERRORS_RETURN);
        kd_mpi_leave();
    }
    return st;
}

enum { NAME = 256 }; /* bytes of a host's name that are compared */

static kdas_status count_hosts(group *g, int *hosts)
{
    size_t      n                                   = (size_t)g->count;
    char        name[MPI_MAX_PROCESSOR_NAME + NAME] = "", *all;
    int         length                              = 0;
    kdas_status st                                  = kd_mpi_reserve(g, (n + 1) * NAME);

    if (st != KDAS_OK) return st;
    all = g->scratch;
    if (kd_mpi_enter()) {
        MPI_Get_processor_name(name, &length);
        kd_mpi_leave();
    }
    memcpy(all + n * NAME, name, NAME);
    st     = kd_mpi_gather(g, "join", all + n * NAME, all, NAME);
    *hosts = 0;
    for (size_t i = 0; st == KDAS_OK && i < n; i++) {
        size_t j = 0;

        while (j < i && memcmp(all + j * NAME, all + i * NAME, NAME) != 0)
            j++;
        *hosts += j == i;
    }
    return st;
}

static kdas_status describe_group(group *g)
{
    char        library[80];
    int         hosts = 1;
    kdas_status st    = count_hosts(g, &hosts);

    kd_mpi_library(library, sizeof library);
    snprintf(g->text, sizeof g->text, "%s, %d rank%s on %d host%s", library, g->count,
             g->count == 1 ? "" : "s", hosts, hosts == 1 ? "" : "s");
    return st;
}

/* After a failure MPI may still write to the group's memory, and the communicator cannot be freed in order: both stay. */
static void close_group(void *group_)
{
    group *g = group_;

    kd_mpi_count(-1);
    if (g->failed) return;
    if (g->comm != MPI_COMM_NULL && kd_mpi_enter()) {
        MPI_Comm_free(&g->comm);
        kd_mpi_leave();
    }
    free(g->scratch);
    free(g);
}

static kdas_status open_group(void **out, const kdas_collective_host *host,
                              const kdas_collective_options *options)
{
    group      *g;
    kdas_status st;

    *out = NULL;
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); /* of this thread, which is the library's */
    st = kd_mpi_start(host, options->timeout);
    if (st != KDAS_OK) return st;
    g = malloc(sizeof *g);
    if (!g) return (host->fail)(KDAS_ENOMEM, "out of memory: %zu bytes were needed", sizeof *g);
    *g = (group){ .host = host, .comm = MPI_COMM_NULL, .timeout = options->timeout };
    kd_mpi_count(1);
    st = copy_communicator(g, options->communicator);
    if (st == KDAS_OK) st = describe_group(g);
    if (st == KDAS_OK)
        *out = g;
    else
        close_group(g);
    return st;
}

/* ---- calls ---- */

static int32_t rank_of(void *g) { return ((group *)g)->rank; }
static int32_t count_of(void *g) { return ((group *)g)->count; }
static void    describe(void *g, char *text, size_t size)
{
    snprintf(text, size, "%s", ((group *)g)->text);
}

static kdas_status sum(void *g, void *values, size_t count, int32_t type)
{
    if (((group *)g)->count == 1 || count == 0) return KDAS_OK;
    return kd_mpi_sum(g, values, count, type);
}

typedef struct message {
    int count, root;
} message;

static int begin_broadcast(group *g, void *user, MPI_Request *request)
{
    const message *m = user;

    return MPI_Ibcast(g->scratch, m->count, MPI_BYTE, m->root, g->comm, request);
}

static kdas_status broadcast(void *group_, void *bytes, size_t count, int32_t root)
{
    enum { PART = 1 << 20 };
    group      *g  = group_;
    message     m  = { .root = root };
    char       *at = bytes;
    kdas_status st;

    if (g->count == 1 || count == 0) return KDAS_OK;
    st = kd_mpi_reserve(g, count < PART ? count : PART);
    for (; count > 0 && st == KDAS_OK; at += m.count, count -= (size_t)m.count) {
        m.count = count < PART ? (int)count : PART;
        if (g->rank == root) memcpy(g->scratch, at, (size_t)m.count);
        st = kd_mpi_do(g, "broadcast", begin_broadcast, &m);
        if (g->rank != root && st == KDAS_OK) memcpy(at, g->scratch, (size_t)m.count);
    }
    return st;
}

static int begin_barrier(group *g, void *user, MPI_Request *request)
{
    (void)user;
    return MPI_Ibarrier(g->comm, request);
}

static kdas_status barrier(void *g) { return kd_mpi_do(g, "barrier", begin_barrier, NULL); }

static void abort_all(void *g, int32_t code) { kd_mpi_abort(((group *)g)->comm, code); }

static const kdas_collective table = {
    .abi       = KDAS_COLLECTIVE_ABI,
    .size      = sizeof table,
    .name      = "mpi",
    .open      = open_group,
    .close     = close_group,
    .rank      = rank_of,
    .count     = count_of,
    .describe  = describe,
    .sum       = sum,
    .broadcast = broadcast,
    .barrier   = barrier,
    .abort     = abort_all,
};

const kdas_collective *kdas_collective_entry(void) { return &table; }
