/* check_ranks_norm.c - batch norms over ranks (kdas_model_options.ranks): N ranks with their shares of a batch compute what one
 * computes with all of it. check_ranks_norm_faults.c: they fail together, too. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "graph/program.h"
#include "graph/settings.h"
#include "nn/nn.h"
#include "ranks/ranks.h"
#include "support/check_util.h"
#include "support/half_device.h"
#include "support/run_util.h"
#include "support/thread_ranks.h"

/* ---- one layer ---- */

enum { SIDE = 5, CHANNELS = 19, IMAGES = 7, PIXELS = SIDE * SIDE * CHANNELS, MOST = 4 };

/* What a rank, or one alone, has made of its images. */
typedef struct layer_result {
    float y[IMAGES * PIXELS], dx[IMAGES * PIXELS];
    float dg[CHANNELS], db[CHANNELS], mean[CHANNELS], var[CHANNELS];
} layer_result;

typedef struct layer_test {
    double       far; /* the mean of x */
    layer_result rank[MOST];
} layer_test;

static int64_t first_of(int64_t images, int rank, int ranks) { return images * rank / ranks; }

static void read_param(kd_params *p, const char *name, float *to, bool gradient)
{
    int i = kd_params_find(p, name);

    ck_assert_int_ge(i, 0);
    kd_assert_ok(gradient ? kd_params_read_grad(p, i, to) : kd_params_read(p, i, to));
}

static void fill_param(kd_params *p, const char *name)
{
    float v[CHANNELS];

    kd_test_fill(v, CHANNELS, name, 0.4, 1.1);
    kd_assert_ok(kd_params_write(p, kd_params_find(p, name), v));
}

/* A batch norm of images begin to end-1, forward and backward. */
static void run_layer(layer_result *r, kdas_context *ctx, kdas_ranks *ranks, double far,
                      int64_t begin, int64_t end)
{
    static const char *const names[] = { "n.weight", "n.bias", "n.running_mean", "n.running_var" };
    size_t                   n       = (size_t)((end - begin) * PIXELS);
    kd_arena                *arena   = kd_arena_create(ctx);
    float                   *all     = malloc(IMAGES * PIXELS * sizeof *all), *x, *dx;
    kd_params               *params;
    kd_program              *p;
    kd_graph                *g;
    kd_node                 *y;

    kd_assert_ok(kd_params_create(&params, ctx));
    g = kd_graph_create(ctx, params, KD_TRAIN);
    kd_graph_use_ranks(g, ranks);
    y = kd_input(g, "x", kd_desc(end - begin, SIDE, SIDE, CHANNELS), true);
    y = kd_output(g, "y", kd_batch_norm_layer(g, "n", y, 1e-5f, 0.1f));
    kd_assert_ok(kd_params_seal(params, true));
    kd_assert_ok(kd_program_create(&p, g, arena));
    for (int i = 0; i < 4; i++)
        fill_param(params, names[i]);
    kd_assert_ok(kd_params_zero_grads(params, "test"));
    x  = kd_device_alloc(ctx, n * sizeof *x);
    dx = kd_device_alloc(ctx, n * sizeof *x);
    kd_test_fill(all, IMAGES * PIXELS, "layer.x", 1, far);
    kd_assert_ok(kd_device_upload(ctx, x, all + begin * PIXELS, n * sizeof *x));
    kd_program_bind(p, kd_find(g, "x"), x, dx);
    kd_assert_ok(kd_program_forward(p, 1));
    kd_assert_ok(kd_device_download(ctx, r->y, kd_program_value(p, y), n * sizeof *x));
    kd_test_fill(all, IMAGES * PIXELS, "layer.dy", 1, 0.2);
    kd_assert_ok(kd_device_upload(ctx, kd_program_grad(p, y), all + begin * PIXELS, n * sizeof *x));
    kd_assert_ok(kd_program_backward(p));
    kd_assert_ok(kd_device_download(ctx, r->dx, dx, n * sizeof *x));
    read_param(params, names[0], r->dg, true);
    read_param(params, names[1], r->db, true);
    read_param(params, names[2], r->mean, false);
    read_param(params, names[3], r->var, false);
    kd_device_free(ctx, x);
    kd_device_free(ctx, dx);
    free(all);
    kd_program_destroy(p);
    kd_params_destroy(params);
    kd_arena_destroy(arena);
}

static void run_layer_here(kd_test_seat *s)
{
    layer_test *t = s->user;
    int         n = kdas_ranks_count(s->ranks);

    run_layer(&t->rank[s->rank], s->ctx, s->ranks, t->far, first_of(IMAGES, s->rank, n),
              first_of(IMAGES, s->rank + 1, n));
}

static void assert_near(const float *got, const float *want, int64_t n, double bound,
                        const char *what)
{
    double error = kd_test_rms_error(got, want, n);

    ck_assert_msg(error <= bound, "%s: off by %.3g, not up to %.3g", what, error, bound);
}

/* x far from zero is rounded more, for one rank as for several. */
static void compare_layer(int ranks, double far, const char *device, double bound)
{
    static layer_test     t, again;
    static layer_result   whole;
    kd_test_group_options o            = kd_test_group_of(ranks);
    kdas_context         *ctx          = kd_test_device(device, NULL);
    float                 dg[CHANNELS] = { 0 }, db[CHANNELS] = { 0 };

    o.device = device;
    t.far = again.far = far;
    run_layer(&whole, ctx, NULL, far, 0, IMAGES);
    kdas_context_destroy(ctx);
    kd_test_on_ranks(&o, run_layer_here, &t);
    kd_test_on_ranks(&o, run_layer_here, &again);
    for (int r = 0; r < ranks; r++) {
        int64_t             at = first_of(IMAGES, r, ranks) * PIXELS;
        int64_t             n  = first_of(IMAGES, r + 1, ranks) * PIXELS - at;
        const layer_result *a  = &t.rank[r];

        assert_near(a->y, whole.y + at, n, bound, "y");
        assert_near(a->dx, whole.dx + at, n, bound, "dx");
        assert_near(a->mean, whole.mean, CHANNELS, 1e-6, "running mean");
        assert_near(a->var, whole.var, CHANNELS, 1e-6, "running variance");
        ck_assert(kd_test_same_bits(a->mean, t.rank[0].mean, sizeof a->mean));
        ck_assert(kd_test_same_bits(a->var, t.rank[0].var, sizeof a->var));
        ck_assert(kd_test_same_bits(a->y, again.rank[r].y, (size_t)n * sizeof *a->y));
        ck_assert(kd_test_same_bits(a->dx, again.rank[r].dx, (size_t)n * sizeof *a->dx));
        for (int c = 0; c < CHANNELS; c++) {
            dg[c] += a->dg[c];
            db[c] += a->db[c];
        }
    }
    assert_near(dg, whole.dg, CHANNELS, bound, "dgamma");
    assert_near(db, whole.db, CHANNELS, bound, "dbeta");
}

START_TEST(a_layer_is_that_of_one_rank_with_all_images) /* shares are uneven: 7 images */
{
    for (int ranks = 2; ranks <= MOST; ranks++)
        compare_layer(ranks, 0, "cpu", 1e-6);
    compare_layer(3, 30, "cpu", 1e-4);
    compare_layer(3, 0, "far", 1e-6);
}
END_TEST

/* ---- networks ---- */

typedef struct net_result {
    float *out, *values, *gradients; /* of the second forward and backward */
    size_t outs, count;
    long   allocations; /* of the second */
} net_result;

typedef struct net_test {
    const char *network;
    kdas_dtype  type; /* KDAS_F32 is 0 */
    bool        grids;
    int64_t     images, side;
    net_result  rank[MOST];
} net_test;

static kdas_model *make_net(const net_test *t, kdas_context *ctx, kdas_ranks *ranks)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.drop_path = 0;
    o.ranks     = ranks;
    o.quantize  = t->grids ? KDAS_QUANTIZE_INT8 : KDAS_QUANTIZE_NONE;
    kd_assert_ok(kdas_model_create(&m, ctx, t->network, &o));
    return m;
}

/* Images begin to end-1 of a batch of t->images. */
static kdas_batch *make_share(const net_test *t, kdas_context *ctx, int64_t begin, int64_t end)
{
    int64_t     n     = t->side * t->side * 3;
    float      *all   = malloc((size_t)(t->images * n) * sizeof *all);
    kdas_batch *batch = kd_test_batch(ctx, end - begin, t->side, 0);

    kd_test_fill(all, t->images * n, "net.x", 1, 0);
    memcpy(kdas_batch_images(batch), all + begin * n, (size_t)((end - begin) * n) * sizeof *all);
    free(all);
    return batch;
}

/* Each map's gradient: draws over the whole batch, the share's rows of them. */
static float *make_gradient(const net_test *t, int map, int64_t begin, int64_t end)
{
    int64_t n   = t->side * t->side;
    float  *all = malloc((size_t)(t->images * n) * sizeof *all), *own;
    char    name[24];

    snprintf(name, sizeof name, "net.dy%d", map);
    kd_test_fill(all, t->images * n, name, 1, 0);
    own = malloc((size_t)((end - begin) * n) * sizeof *own);
    memcpy(own, all + begin * n, (size_t)((end - begin) * n) * sizeof *own);
    free(all);
    return own;
}

enum { MAPS = 4 };

static void step_net(kdas_model *m, kdas_batch *batch, float *const *dy)
{
    kd_assert_ok(kdas_model_zero_gradients(m));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, batch));
    kd_assert_ok(kdas_model_backward(m, (const float *const *)dy));
}

static void read_net(net_result *r, kdas_model *m, int64_t pixels)
{
    int64_t dims[4];
    int32_t rank, trainable, maps = kdas_model_outputs(m);
    size_t  at = 0;

    r->outs      = (size_t)(maps * pixels);
    r->out       = malloc(r->outs * sizeof *r->out);
    r->values    = kd_test_weights(m, &r->count);
    r->gradients = calloc(r->count, sizeof *r->gradients);
    for (int i = 0; i < maps; i++)
        kd_assert_ok(kdas_model_read_output(m, kdas_model_output(m, i, NULL), r->out + i * pixels));
    for (int32_t i = 0; kdas_model_tensor(m, i, &rank, dims, &trainable); i++) {
        size_t n = 1;

        for (int k = 0; k < rank; k++)
            n *= (size_t)dims[k];
        if (trainable) kd_assert_ok(kdas_model_read_gradient(m, i, r->gradients + at));
        at += n;
    }
}

static void free_net(net_result *r)
{
    free(r->out);
    free(r->values);
    free(r->gradients);
}

static void run_net(net_result *r, const net_test *t, kdas_context *ctx, kdas_ranks *ranks,
                    kd_test_meter *meter, int64_t begin, int64_t end)
{
    kdas_model *m;
    kdas_batch *batch;
    float      *dy[MAPS] = { 0 };

    if (t->type == KDAS_F16) kd_test_half_device(ctx);
    if (t->type == KDAS_BF16) ctx->type = KDAS_BF16;
    m     = make_net(t, ctx, ranks);
    batch = make_share(t, ctx, begin, end);
    ck_assert_int_le(kdas_model_outputs(m), MAPS);
    for (int i = 0; i < kdas_model_outputs(m); i++)
        dy[i] = make_gradient(t, i, begin, end);
    step_net(m, batch, dy);
    r->allocations = -(meter ? atomic_load(&meter->taken) : 0);
    step_net(m, batch, dy);
    r->allocations += meter ? atomic_load(&meter->taken) : 0;
    read_net(r, m, (end - begin) * t->side * t->side);
    for (int i = 0; i < MAPS; i++)
        free(dy[i]);
    kdas_batch_destroy(batch);
    kdas_model_destroy(m);
}

static void run_net_here(kd_test_seat *s)
{
    net_test *t = s->user;
    int       n = kdas_ranks_count(s->ranks);

    run_net(&t->rank[s->rank], t, s->ctx, s->ranks, s->ctx->alloc_user,
            first_of(t->images, s->rank, n), first_of(t->images, s->rank + 1, n));
}

typedef struct bounds {
    double out, gradients, values;
} bounds;

static bool one_of_all(const net_result *r, const net_result *first)
{
    return r->count == first->count &&
           kd_test_same_bits(r->values, first->values, r->count * sizeof *r->values);
}

/* Out of the ranks' maps, those of the whole batch. */
static float *join_maps(const net_test *t, int ranks, size_t outs)
{
    float *all  = malloc(outs * sizeof *all);
    size_t maps = outs / (size_t)(t->images * t->side * t->side), at = 0;

    for (size_t k = 0; k < maps; k++)
        for (int r = 0; r < ranks; r++) {
            size_t n = t->rank[r].outs / maps;

            memcpy(all + at, t->rank[r].out + k * n, n * sizeof *all);
            at += n;
        }
    ck_assert_uint_eq(at, outs);
    return all;
}

static void compare_net(net_test t, int ranks, const char *device, bounds b)
{
    kd_test_group_options o   = kd_test_group_of(ranks);
    kdas_context         *ctx = kd_test_device("cpu", NULL);
    net_result            whole;
    float                *sum, *maps;

    o.device = device;
    run_net(&whole, &t, ctx, NULL, NULL, 0, t.images);
    kd_test_on_ranks(&o, run_net_here, &t);
    sum  = calloc(whole.count, sizeof *sum);
    maps = join_maps(&t, ranks, whole.outs);
    for (int r = 0; r < ranks; r++) {
        ck_assert_msg(one_of_all(&t.rank[r], &t.rank[0]), "rank %d has other values", r);
        ck_assert_int_eq(t.rank[r].allocations, 0);
        for (size_t i = 0; i < whole.count; i++)
            sum[i] += t.rank[r].gradients[i];
    }
    if (getenv("KDAS_TEST_SHOW"))
        printf("%s%s, %d ranks, %s: out %.2g, gradients %.2g, values %.2g\n", t.network,
               t.type ? " in 16 bits" : "", ranks, device,
               kd_test_rms_error(maps, whole.out, (int64_t)whole.outs),
               kd_test_rms_error(sum, whole.gradients, (int64_t)whole.count),
               kd_test_rms_error(t.rank[0].values, whole.values, (int64_t)whole.count));
    assert_near(maps, whole.out, (int64_t)whole.outs, b.out, "maps");
    assert_near(sum, whole.gradients, (int64_t)whole.count, b.gradients, "gradients");
    assert_near(t.rank[0].values, whole.values, (int64_t)whole.count, b.values, "values");
    free(sum);
    free(maps);
    free_net(&whole);
    for (int r = 0; r < ranks; r++)
        free_net(&t.rank[r]);
    kdas_context_destroy(ctx);
}

/* polyp_pvt_b0 is smooth: images that are changed in their last bits change its gradients by 2e-6. In lite_fpn0 some values lie on a
 * kink of ReLU6. Such a change leaves them where they are (1.8e-5 in the gradients), or takes a few across (1.4e-3, 2.5e-3 or
 * 4.0e-3, the same again and again), as another order of summation does. */
START_TEST(networks_are_those_of_one_rank_with_all_images)
{
    const bounds smooth = { 5e-6, 5e-6, 1e-6 }, kinks = { 5e-5, 3e-2, 1e-6 };

    compare_net((net_test){ .network = "polyp_pvt_b0", .images = 5, .side = 32 }, 4, "cpu", smooth);
    compare_net((net_test){ .network = "polyp_pvt_b0", .images = 3, .side = 32 }, 2, "far", smooth);
    compare_net((net_test){ .network = "lite_fpn0", .images = 5, .side = 64 }, 3, "cpu", kinks);
}
END_TEST

START_TEST(
    with_16_bits_they_are_near_to_it) /* in f16 by a device for tests, in bf16 where the CPU can */
{
    const bounds b = { 2e-2, 5e-2, 1e-3 };
    net_test     t = { .network = "polyp_pvt_b0", .type = KDAS_F16, .images = 4, .side = 32 };

    compare_net(t, 3, "cpu", b);
    t.type = KDAS_BF16;
    if (kd_test_can_half()) compare_net(t, 2, "cpu", (bounds){ 1e-1, 2e-1, 1e-2 });
}
END_TEST

/* Values are rounded by each rank's own range in the batch that moves it, so only ranges and statistics are compared. */
START_TEST(ranges_of_grids_are_those_of_all_images)
{
    const bounds b = { INFINITY, INFINITY, 2e-2 };

    compare_net((net_test){ .network = "lite_fpn0", .grids = true, .images = 5, .side = 32 }, 2,
                "cpu", b);
    compare_net((net_test){ .network = "lite_fpn0", .grids = true, .images = 4, .side = 32 }, 2,
                "far", b);
}
END_TEST

/* ---- when nothing is shared ---- */

static void run_other_modes(kd_test_seat *s)
{
    net_test    t = { .network = "lite_fpn0", .images = 2, .side = 32 };
    kdas_model *m = make_net(&t, s->ctx, s->ranks), *alone = make_net(&t, s->ctx, NULL);
    kdas_batch *batch = make_share(&t, s->ctx, 0, 2);
    long        calls = kd_test_group_calls(s);
    net_result  r, want;

    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, batch));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, batch));
    kd_assert_ok(kdas_model_backward(m, NULL));
    if (kdas_ranks_count(s->ranks) == 1)
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, batch));
    ck_assert_int_eq(kd_test_group_calls(s), calls);
    kd_assert_ok(kdas_model_forward(
        alone, kdas_ranks_count(s->ranks) == 1 ? KDAS_MODE_TRAIN : KDAS_MODE_EVAL, batch));
    read_net(&r, m, 2 * 32 * 32);
    read_net(&want, alone, 2 * 32 * 32);
    ck_assert(kd_test_same_bits(r.out, want.out, r.outs * sizeof *r.out));
    ck_assert(one_of_all(&r, &want));
    free_net(&r);
    free_net(&want);
    kdas_batch_destroy(batch);
    kdas_model_destroy(alone);
    kdas_model_destroy(m);
}

START_TEST(other_modes_and_a_group_of_one_exchange_nothing)
{
    for (int ranks = 1; ranks <= 2; ranks++) {
        kd_test_group_options o = kd_test_group_of(ranks);

        kd_test_on_ranks(&o, run_other_modes, NULL);
    }
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("ranks norm");
    TCase   *equal  = tcase_create("equal");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_set_timeout(equal, 120);
    tcase_add_test(equal, a_layer_is_that_of_one_rank_with_all_images);
    tcase_add_test(equal, networks_are_those_of_one_rank_with_all_images);
    tcase_add_test(equal, with_16_bits_they_are_near_to_it);
    tcase_add_test(equal, ranges_of_grids_are_those_of_all_images);
    tcase_add_test(equal, other_modes_and_a_group_of_one_exchange_nothing);
    suite_add_tcase(suite, equal);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
