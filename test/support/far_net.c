/* far_net.c - see far_net.h. */
#include "support/far_net.h"
#include <stdlib.h>
#include "graph/build.h"
#include "support/check_util.h"

static kd_node *weight(kd_graph *g, const char *name, int64_t out, int64_t in)
{
    return kd_param(g, name, (kd_init){ KD_TRAINABLE, KD_INIT_UNIFORM, 0.5f }, 2,
                    (const int64_t[]){ out, in });
}

kd_graph *kd_test_net_build(kdas_context *ctx, kd_params *params, int64_t side, bool tape)
{
    kd_graph *g = kd_graph_create(ctx, params, KD_TRAIN);
    kd_node  *x, *y;

    if (!g) return NULL;
    if (tape) kd_graph_keep_tape(g);
    x = kd_input(g, "x", kd_desc(4, side, side, KD_TEST_NET_WIDTH), true);
    y = kd_linear(g, x, weight(g, "w1", 2 * KD_TEST_NET_WIDTH, KD_TEST_NET_WIDTH), NULL);
    y = kd_drop_path(g, kd_gelu(g, y), 0.5f);
    y = kd_linear(g, y, weight(g, "w2", KD_TEST_NET_WIDTH, 2 * KD_TEST_NET_WIDTH), NULL);
    y = kd_add(g, x, kd_drop_path(g, y, 0.3f));
    kd_output(g, "mean", kd_mean(g, kd_mul(g, y, y)));
    return g;
}

kdas_status kd_test_net_open(kd_test_net *n, kdas_context *ctx, kd_params *params, kd_arena *arena,
                             int64_t side)
{
    kdas_status st;
    size_t      elements = (size_t)(4 * side * side * KD_TEST_NET_WIDTH);
    float      *host     = malloc(elements * sizeof *host);

    *n       = (kd_test_net){ .ctx = ctx, .params = params, .arena = arena, .side = side };
    n->bytes = elements * sizeof *host;
    st       = kd_program_create(&n->p, kd_test_net_build(ctx, params, side, false), arena);
    for (int i = 0; i < 2 && st == KDAS_OK; i++) {
        kd_test_fill(host, (int64_t)elements, i ? "x1" : "x0", 1, 0);
        n->x[i] = kd_device_alloc(ctx, n->bytes);
        st      = n->x[i] ? kd_device_upload(ctx, n->x[i], host, n->bytes) : KDAS_ENOMEM;
    }
    if (st == KDAS_OK) n->dx = kd_device_alloc(ctx, n->bytes);
    free(host);
    return st == KDAS_OK && !n->dx ? KDAS_ENOMEM : st;
}

void kd_test_net_close(kd_test_net *n)
{
    kd_program_destroy(n->p);
    for (int i = 0; i < 2; i++)
        kd_device_free(n->ctx, n->x[i]);
    kd_device_free(n->ctx, n->dx);
}

kdas_status kd_test_net_declare(kd_params **params, kdas_context *ctx)
{
    kd_graph *g;

    KD_RETURN(kd_params_create(params, ctx));
    g = kd_test_net_build(ctx, *params, 2, false);
    if (!g) return KDAS_ENOMEM;
    if (kd_graph_status(g) != KDAS_OK) {
        kdas_status st = kd_graph_status(g);

        kd_graph_destroy(g);
        return st;
    }
    kd_graph_destroy(g);
    KD_RETURN(kd_params_seal(*params, true));
    return kd_params_init(*params, 7);
}

kdas_status kd_test_net_step(kd_test_net *n, int which, uint64_t seed, float *mean)
{
    const kd_node *x = kd_find(kd_program_graph(n->p), "x"),
                  *y = kd_find(kd_program_graph(n->p), "mean");
    float one        = 1;

    kd_params_touch(n->params);
    kd_program_bind(n->p, x, n->x[which], n->dx);
    KD_RETURN(kd_program_forward(n->p, seed));
    KD_RETURN(kd_device_download(n->ctx, mean, kd_program_value(n->p, y), sizeof *mean));
    KD_RETURN(kd_device_upload(n->ctx, kd_program_grad(n->p, y), &one, sizeof one));
    return kd_program_backward(n->p);
}
