/* thread_ranks.h - ranks without MPI: each is a thread of this process with a context of its own. Their collective adds in
 * the order of the ranks, and can lose a rank. */
#ifndef KD_TEST_THREAD_RANKS_H
#define KD_TEST_THREAD_RANKS_H
#include "support/run_util.h"

enum { KD_TEST_RANKS = 8 };

typedef struct kd_test_group kd_test_group;

/* One rank's side of a group. Also the communicator of kd_test_collective. */
typedef struct kd_test_seat {
    kd_test_group *group;
    int            rank;
    kdas_context  *ctx;
    kdas_ranks    *ranks;
    void          *user;
} kd_test_seat;

extern const kdas_collective kd_test_collective;

typedef struct kd_test_group_options {
    int         count;
    double      timeout; /* 0: 60 seconds, and a lost rank is noticed at once */
    int         lost; /* a rank that, after joining, takes part in `calls` calls alone; -1: none */
    int         calls;
    int         slow;   /* a rank that comes late to each call; -1: none */
    double      late;   /* seconds */
    const char *device; /* of kd_test_device(); NULL: "cpu" */
} kd_test_group_options;
/* None is lost or late. */
kd_test_group_options kd_test_group_of(int count);

/* Run `fn` on each rank, in a thread of its own, with a context and a handle; assert that all was freed. A handle that cannot
 * be made is a failure of the test. */
void kd_test_on_ranks(const kd_test_group_options *options, void (*fn)(kd_test_seat *seat),
                      void                        *user);

/* Options of a group of one, whose rank is the calling thread. One such handle at a time. */
kdas_ranks_options kd_test_group_of_one(void);

/* The calls that the group has completed so far, those of joining left out, and the bytes that were summed. */
long   kd_test_group_calls(const kd_test_seat *seat);
double kd_test_group_bytes(const kd_test_seat *seat);
/* Whether a rank has asked to abort, and with which code (0: none). */
int kd_test_group_aborted(const kd_test_seat *seat);

#endif
