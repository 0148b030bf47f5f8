/* kdas/ranks.h - several processes that train one student together: ranks.
 *
 * Each rank runs the same program on its share of every batch; gradients are summed over the ranks before each update, so
 * that all students stay equal to the bit. docs/cluster.md explains how to start them, and what it gains.
 *
 * The handle goes where work is to be shared: kdas_loader_options.ranks (each rank loads its part of a batch),
 * kdas_distiller_options.ranks (gradients, losses, and what is decided by them), kdas_model_options.ranks (statistics of
 * batch norms over all ranks), kdas_evaluator_share() (frames of an evaluation). A NULL handle there means: alone. */
#ifndef KDAS_RANKS_H
#define KDAS_RANKS_H
#include <kdas/base.h>
#include <kdas/collective.h>
KDAS_BEGIN

typedef struct kdas_ranks kdas_ranks;

typedef struct kdas_ranks_options {
    size_t size;
    /* Name of the collective: a plug-in libkdas-NAME.so, searched for in plugin_path, in the folders of the environment
     * variable KDAS_BACKEND_PATH and in the folder "kdas" beside the library. Default "mpi". */
    const char *collective;
    const kdas_collective *
        table; /* the host's own, which must outlive the handle; it wins over the name. Default NULL */
    /* For the collective: "mpi" takes the address of an MPI_Comm. NULL (default): all processes of the job.
     * "mpi" starts MPI if the host has not, and then ends it at the process's exit, by MPI_Abort if a call has failed. A host
     * that starts MPI asks for MPI_THREAD_SERIALIZED and calls no MPI while a call of the library's does, or for
     * MPI_THREAD_MULTIPLE; it ends MPI after kdas_ranks_destroy(). */
    const void *communicator;
    const char *plugin_path; /* folders separated by ':'; NULL (default): no more */
    /* Seconds that a call waits for other ranks before it fails with KDAS_EBACKEND: above 0 and up to 1e6; default 300. It
     * must be longer than the longest time that one rank works alone, such as the reading of its first batch. */
    double timeout;
} kdas_ranks_options;
/* Write the defaults; pass sizeof *options. Since 0.4. */
KDAS_API void kdas_ranks_options_init(kdas_ranks_options *options, size_t size);

/* Join the group. Collective: all ranks call it, and wait for each other. It checks that all have the same
 * version of the library, that each number is one rank's, and that a sum is right. `options` may be NULL; what it points to
 * is not kept, but the table. The handle belongs to the context, one thread at a time uses it, and it must outlive the
 * objects that it was given to. A thread of the library's own talks to the other ranks.
 * KDAS_EINVAL, KDAS_ENOTFOUND (no such collective), KDAS_EBACKEND (it cannot be used, or a rank did not come),
 * KDAS_ESTATE (ranks of different versions, or a forked child), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_ranks_create(kdas_ranks **out, kdas_context *context,
                                       const kdas_ranks_options *options);
/* Leave the group. NULL is fine. Since 0.4. */
KDAS_API void kdas_ranks_destroy(kdas_ranks *ranks);

/* This process's number, from 0, and how many there are. NULL: 0 and 1. Since 0.4. */
KDAS_API int32_t kdas_ranks_rank(const kdas_ranks *ranks);
KDAS_API int32_t kdas_ranks_count(const kdas_ranks *ranks);
/* One line about the collective; valid while the handle lives. NULL for NULL. Since 0.4. */
KDAS_API const char *kdas_ranks_describe(const kdas_ranks *ranks);
/* 1 after a call has failed with KDAS_EBACKEND: a rank is gone, and every later collective call fails with the same
 * sentence. NULL: 0. Since 0.4. */
KDAS_API int32_t kdas_ranks_broken(const kdas_ranks *ranks);

/* ---- Collective calls. All ranks make them in the same order; NULL is a group of one. They return KDAS_EBACKEND if a rank
 * does not answer within the timeout, KDAS_ESTATE in a forked child.
 *
 * These calls, and all others of the library that are collective, begin with an exchange of what was checked before. A call
 * that one rank makes with arguments that are refused is refused on all, with its status and its sentence behind "rank N: ". So is
 * one that a rank makes while another makes another call, or has another number of values: KDAS_ESTATE, with a sentence that
 * names both. What cannot be told ends the others by their timeout: a call without the handle or the object that has it, an
 * option struct that cannot be read (kdas_distiller_create), and a rank that makes no call at all. Since 0.4. ---- */

/* Compare a text, such as options or the hash of data. If it differs, every rank returns KDAS_EINVAL with the same sentence,
 * which names `what` (the same on all ranks), the first rank that differs from rank 0, and both texts. Since 0.4. */
KDAS_API kdas_status kdas_ranks_agree(kdas_ranks *ranks, const char *what, const char *text);
/* Tell the others whether a step of the host's own has succeeded here. If it failed anywhere, every rank returns the status
 * of the first rank that failed, with its sentence behind "rank N: ". Call it with KDAS_OK where it succeeded, and right after
 * the failure where it failed; not after a collective call, whose failure all ranks know. KDAS_EINVAL (no status),
 * KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_ranks_vote(kdas_ranks *ranks, kdas_status mine);
/* Replace the values by their sums over all ranks: the same bits on every rank, and in every run. On failure they are
 * undefined. KDAS_EINVAL (NULL), KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_ranks_sum(kdas_ranks *ranks, double *values, size_t count);
/* Replace the bytes by those of rank `root`. KDAS_EINVAL: there is no such rank. On failure they are undefined.
 * KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_ranks_broadcast(kdas_ranks *ranks, void *bytes, size_t count,
                                          int32_t root);
/* Wait for all ranks. KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_ranks_barrier(kdas_ranks *ranks);

/* End the processes of all ranks with this exit code, for a program that must end and cannot ask them. Not collective. It
 * returns where the collective cannot, and for NULL. Since 0.4. */
KDAS_API void kdas_ranks_abort(kdas_ranks *ranks, int32_t code);

KDAS_END
#endif
