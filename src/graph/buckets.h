/* buckets.h - the block of gradients in pieces of about a megabyte, and who waits for them: a backward tells when a piece
 * is final, while it goes on with the layers before. */
#ifndef KD_BUCKETS_H
#define KD_BUCKETS_H
#include "graph/program.h"

/* A piece of kd_params_grads(), in elements; gaps between parameters are in it. */
typedef struct kd_bucket {
    int64_t first, count;
    int     reader; /* the first node of the shape's graph that reads one of its parameters */
} kd_bucket;

/* In the order in which a backward finishes them, as far as the order of the layers says. It depends on the network alone,
 * not on sizes. */
typedef struct kd_buckets {
    kdas_context *ctx;
    kd_params    *params;
    kd_bucket    *bucket;
    int           count;
} kd_buckets;

/* `most`: elements of a bucket, unless one parameter has more. `shape`: a graph of the network. */
kdas_status kd_buckets_make(kd_buckets *out, kdas_context *ctx, kd_params *params,
                            const kd_graph *shape, int64_t most);
void        kd_buckets_finish(kd_buckets *b);

/* Called within a backward, in the order of the buckets: bucket `i` gets no more. */
typedef struct kd_gradient_watch {
    const kd_buckets *buckets;
    void (*ready)(void *user, int i);
    void *user;
} kd_gradient_watch;

/* Watch the next backwards; NULL: no more. Buckets that were not told until a backward has returned are final then; on a
 * device with memory of its own, and in a backward that fails, that may be all of them. The first call allocates. */
kdas_status kd_program_watch_gradients(kd_program *p, const kd_gradient_watch *watch);

#endif
