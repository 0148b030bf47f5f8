/* far_net.h - a small network that draws, packs and gathers gradients, for tests of the engine on the device of
 * far_device.h. */
#ifndef KD_TEST_FAR_NET_H
#define KD_TEST_FAR_NET_H
#include "graph/program.h"

enum { KD_TEST_NET_WIDTH = 12 };

typedef struct kd_test_net {
    kdas_context *ctx;
    kd_params    *params;
    kd_arena     *arena;
    kd_program   *p;
    int64_t       side;
    float *x[2], *dx; /* device memory: two places for inputs, and the gradient of the input */
    size_t bytes;     /* of each of them */
} kd_test_net;

/* Its graph, input "x" (4,side,side,KD_TEST_NET_WIDTH), output "mean"; it draws for 4 images twice. NULL: no memory. */
kd_graph *kd_test_net_build(kdas_context *ctx, kd_params *params, int64_t side, bool tape);
/* Make its parameters and draw them. */
kdas_status kd_test_net_declare(kd_params **params, kdas_context *ctx);
/* Compile it, and fill its inputs; close it also where this fails. */
kdas_status kd_test_net_open(kd_test_net *n, kdas_context *ctx, kd_params *params, kd_arena *arena,
                             int64_t side);
void        kd_test_net_close(kd_test_net *n);
/* One forward and backward with input number `which`; the mean. The weights have changed before. */
kdas_status kd_test_net_step(kd_test_net *n, int which, uint64_t seed, float *mean);

#endif
