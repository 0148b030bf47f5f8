/* kdas/collective.h - the interface for authors of collectives: how several processes that train together exchange
 * numbers. It has its own ABI number. Programs that only use ranks need kdas/ranks.h and not this header.
 *
 * A collective is one table, kdas_collective. A host passes its own (kdas_ranks_options.table), or a plug-in exports
 * one: a shared object "libkdas-<name>.so" with kdas_collective_entry, searched for like a backend (kdas/backend.h). A
 * plug-in links to nothing of libkdas.
 *
 * A group is the open collective: `count` ranks, numbered from 0. All ranks make the same calls in the same order. The
 * library calls all functions of a table, open() and close() too, from one thread of its own, but abort(), which any thread
 * may call. A table has all functions. They call nothing of the library but what the host lends them, which is valid until
 * close() returns. kdas_ranks_create() checks the numbers of the ranks and a sum.
 *
 * Failure: a call that cannot be completed within the group's timeout returns KDAS_EBACKEND, with a sentence by
 * host->fail that says what is known: which rank, which call. It must return by then, because kdas_ranks_destroy() waits for it.
 * KDAS_ENOMEM is passed on, too, and of open() KDAS_EINVAL, KDAS_ENOTFOUND and KDAS_ESTATE; any other number becomes
 * KDAS_EBACKEND. After a failure the library calls only abort() and close(). close() then must not wait for other ranks,
 * and nothing may be written to the values of the failed call any more. In a forked child the library calls no function. */
#ifndef KDAS_COLLECTIVE_H
#define KDAS_COLLECTIVE_H
#include <kdas/base.h>
KDAS_BEGIN

#define KDAS_COLLECTIVE_ABI 1

typedef enum kdas_collective_type {
    KDAS_COLLECTIVE_F32 = 0,
    KDAS_COLLECTIVE_F64 = 1
} kdas_collective_type;

/* What the library lends a collective; valid while the group is open. */
typedef struct kdas_collective_host {
    uint32_t abi;      /* KDAS_COLLECTIVE_ABI of the host */
    int32_t  reserved; /* 0 */
    size_t   size;
    void    *user;
    /* Memory aligned to 64 bytes; NULL: out of memory. */
    void *(*alloc)(void *user, size_t bytes);
    void (*free)(void *user, void *memory);
    void (*log)(void *user, kdas_log_level level, const char *text);
    /* Set the thread's error message and return `status`. */
    kdas_status (*fail)(kdas_status status, const char *format, ...);
} kdas_collective_host;

/* How a group is opened. */
typedef struct kdas_collective_options {
    size_t size;
    double timeout; /* seconds without progress that a call waits for other ranks */
    /* What the host named (kdas_ranks_options.communicator), or NULL: all processes of the job. "mpi" reads an MPI_Comm
     * there, which must be one group, and duplicates it. */
    const void *communicator;
} kdas_collective_options;

typedef struct kdas_collective {
    uint32_t abi;      /* KDAS_COLLECTIVE_ABI it was written for */
    int32_t  reserved; /* 0 */
    size_t
        size; /* sizeof(kdas_collective) it was compiled with; members are only added at the end */
    const char *name;

    /* Open a group. It may wait for the other ranks, up to the timeout. Errors leave nothing behind, and
     * close() is not called then; success gives a group that is not NULL. */
    kdas_status (*open)(void **group, const kdas_collective_host *host,
                        const kdas_collective_options *options);
    void (*close)(void *group);
    int32_t (*rank)(void *group);
    int32_t (*count)(void *group);
    /* One line: library, version, how many ranks on how many machines. */
    void (*describe)(void *group, char *text, size_t size);

    /* Replace `count` values, 1 or more, by their sums over all ranks. Every rank receives the same bits, and the same
     * inputs give the same bits in every run: the order of summation depends on rank numbers and on `count` alone. */
    kdas_status (*sum)(void *group, void *values, size_t count, int32_t type);
    /* Replace the bytes, 1 or more, by those of rank `root`. */
    kdas_status (*broadcast)(void *group, void *bytes, size_t count, int32_t root);
    /* Return when all ranks have called it. */
    kdas_status (*barrier)(void *group);
    /* End the processes of all ranks, as far as they can be reached, with this exit code. It may return; then the caller
     * ends its own process. */
    void (*abort)(void *group, int32_t code);
} kdas_collective;

/* The plug-in's only export. */
#define KDAS_COLLECTIVE_ENTRY "kdas_collective_entry"
typedef const kdas_collective *(*kdas_collective_entry_fn)(void);

KDAS_END
#endif
