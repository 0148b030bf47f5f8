/* group.h - the inside of the MPI plug-in: a group, the life of MPI in this process, and exchanges that do not wait for
 * ever. The plug-in links to nothing of the library.
 *
 * MPI is called under one lock of the process, so MPI_THREAD_SERIALIZED is enough for several groups, for abort() and for the
 * end of the process. Nothing blocks inside MPI: what has been started is tested again and again, and between tests the
 * lock is free. */
#ifndef KD_MPI_GROUP_H
#define KD_MPI_GROUP_H
#include <kdas/collective.h>
#include <mpi.h>
#include <stdbool.h>

typedef struct group {
    const kdas_collective_host *host;
    MPI_Comm                    comm; /* of the group's own; errors are returned */
    int                         rank, count;
    double                      timeout;
    bool                        failed;  /* no call reaches MPI any more */
    char                       *scratch; /* kd_mpi_reserve() */
    size_t                      scratch_size;
    char                        text[128]; /* describe() */
} group;

/* ---- life.c ---- */

/* Make sure that MPI runs, and that it is the MPI that the plug-in was built for. */
kdas_status kd_mpi_start(const kdas_collective_host *host, double timeout);
/* After the communicator of all processes is known to have one rank: was this process started as one of several? */
kdas_status kd_mpi_check_launcher(const kdas_collective_host *host);
/* Name and version of the MPI that is loaded, such as "Open MPI 4.1.4". Without the lock. */
void kd_mpi_library(char *name, size_t size);
/* Take the lock. False: MPI has ended, and the lock is not held. */
bool kd_mpi_enter(void);
void kd_mpi_leave(void);
/* A group is opened (+1) or closed (-1). */
void kd_mpi_count(int change);
/* A call has failed: the process will not be able to end MPI in order. */
void kd_mpi_spoil(void);
/* MPI_Abort. */
void   kd_mpi_abort(MPI_Comm comm, int code);
double kd_mpi_now(void);

/* ---- exchange.c: KDAS_EBACKEND with a sentence that names `call`, after which the group has failed ---- */

/* What MPI says about an error. */
kdas_status kd_mpi_fail(group *g, const char *call, int error);
/* Wait for one request, which this starts by the function: a single call of MPI. */
typedef int (*kd_mpi_begin)(group *g, void *user, MPI_Request *request);
kdas_status kd_mpi_do(group *g, const char *call, kd_mpi_begin begin, void *user);
/* Make `scratch` at least so large. It is not the host's memory: after a failure MPI may still write there, so it is then
 * never freed. */
kdas_status kd_mpi_reserve(group *g, size_t bytes);
/* Each rank gives `bytes` bytes; `all` has those of all ranks, in their order. */
kdas_status kd_mpi_gather(group *g, const char *call, const void *own, void *all, int bytes);
/* The sum of the table. */
kdas_status kd_mpi_sum(group *g, void *values, size_t count, int32_t type);

#endif
