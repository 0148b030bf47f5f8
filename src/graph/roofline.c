/* roofline.c - measures the machine's roofline: a large matrix product on each of the library's
 * product kernels, and a stream through memory. The fastest run counts, because other load can
 * only slow a run down. */
#include <kdas/profile.h>
#include <string.h>
#include "base/process.h"
#include "graph/program.h"

#define SIDE          640                /* of the products that run side by side, one per thread */
#define ROWS          2048               /* of the product with packed weights                    */
#define WIDTH         2048               /* of its input and its output                           */
#define STREAM        ((size_t)32 << 20) /* numbers in each of the two blocks: 256 MiB together   */
#define LEAST_RUNS    3
#define LEAST_SECONDS 0.3

typedef kdas_status (*run_fn)(void *what);

/* Seconds of the fastest of several runs, after one warm-up run. */
static kdas_status fastest(double *out, kdas_context *ctx, run_fn run, void *what)
{
    double began = kd_now(), best = 0;

    KD_RETURN(run(what));
    for (int i = 0; i < LEAST_RUNS || kd_now() - began < LEAST_SECONDS; i++) {
        double start = kd_now(), seconds;

        KD_RETURN(run(what));
        if (ctx->backend->sync) KD_RETURN(ctx->backend->sync(ctx->device));
        seconds = kd_now() - start;
        if (i == 0 || seconds < best) best = seconds;
        KD_RETURN(kd_check_cancel(ctx));
    }
    *out = best;
    return KDAS_OK;
}

/* ---- products ---- */

static kdas_status run_program(void *program) { return kd_program_forward(program, 0); }

/* One product per thread, (1,threads,SIDE,SIDE), or one with a weight. Sets *operations of a
 * run. */
static kd_node *add_product(kd_graph *g, kd_params *params, bool integer, int32_t threads,
                            double *operations)
{
    const kd_init          weight = { KD_TRAINABLE, KD_INIT_UNIFORM, 0.1f };
    const kdas_matmul_attr attr   = { .alpha = 1 };
    kd_node               *in[2], *node;

    if (params) {
        in[0]       = kd_input(g, "a", kd_desc(1, 1, ROWS, WIDTH), false);
        in[1]       = kd_param(g, "w", weight, 2, (const int64_t[]){ WIDTH, WIDTH });
        *operations = 2.0 * ROWS * WIDTH * WIDTH;
        if (integer) kd_graph_use_grids(g, 0, NULL);
        kd_scope(g, "product");
        in[0] = kd_on_grid(g, in[0]);
        node  = kd_apply(g, &kd_op_linear, NULL, 2, in);
        if (node) node->rounded = integer;
        kd_scope_end(g);
        return node;
    }
    in[0]       = kd_input(g, "a", kd_desc(1, threads, SIDE, SIDE), false);
    in[1]       = kd_input(g, "b", kd_desc(1, threads, SIDE, SIDE), false);
    *operations = 2.0 * SIDE * SIDE * SIDE * threads;
    return kd_apply(g, &kd_op_matmul, &attr, 2, in);
}

static kdas_status fill_inputs(kd_program *p, kdas_context *ctx, float *host, float *device)
{
    const kd_node *a = kd_find(kd_program_graph(p), "a"), *b = kd_find(kd_program_graph(p), "b");
    int64_t        n = kd_elements(&a->desc.out);

    for (int64_t i = 0; i < n; i++)
        host[i] = (float)(i % 251) / 251 - 0.5f;
    KD_RETURN(kd_device_upload(ctx, device, host, (size_t)n * sizeof *host));
    kd_program_bind(p, a, device, NULL);
    if (b) kd_program_bind(p, b, device, NULL);
    return KDAS_OK;
}

/* The range of the product's input. */
static kdas_status fill_range(kd_params *params)
{
    const float range[2] = { -0.5f, 0.5f };
    int         i        = kd_params_find(params, "product.input_range");

    return i < 0 ? KDAS_OK : kd_params_write(params, i, range);
}

static kdas_status time_product(double *rate, kdas_context *ctx, kd_params *params, bool integer)
{
    kd_arena   *arena = kd_arena_create(ctx);
    kd_graph   *g     = kd_graph_create(ctx, params, KD_INFER);
    kd_program *p     = NULL;
    float      *host = NULL, *device = NULL;
    size_t      numbers    = KD_MAX((size_t)ctx->threads * SIDE * SIDE, (size_t)ROWS * WIDTH);
    double      operations = 0, seconds;
    kdas_status st         = KDAS_OK;

    if (!arena || !g) {
        kd_graph_destroy(g);
        kd_arena_destroy(arena);
        return KDAS_ENOMEM;
    }
    kd_output(g, "c", add_product(g, params, integer, ctx->threads, &operations));
    if (params) st = kd_params_seal(params, false);
    if (st == KDAS_OK && params) st = kd_params_init(params, 1);
    if (st == KDAS_OK && params) st = fill_range(params);
    if (st != KDAS_OK) kd_graph_destroy(g);
    if (st != KDAS_OK) goto done;
    KD_TRY(kd_program_create(&p, g, arena));
    st     = KDAS_ENOMEM;
    host   = kd_alloc(ctx, numbers * sizeof *host);
    device = host ? kd_device_alloc(ctx, numbers * sizeof *device) : NULL;
    if (!device) goto done;
    KD_TRY(fill_inputs(p, ctx, host, device));
    KD_TRY(fastest(&seconds, ctx, run_program, p));
    *rate = operations / seconds;
done:
    kd_program_destroy(p);
    kd_device_free(ctx, device);
    kd_free(ctx, host);
    kd_arena_destroy(arena);
    return st;
}

/* A product with a weight follows the context's precision. */
static kdas_status time_weighted(double *rate, kdas_context *ctx, bool integer)
{
    kd_params  *params = NULL;
    kdas_status st     = KDAS_OK;

    KD_TRY(kd_params_create(&params, ctx));
    KD_TRY(time_product(rate, ctx, params, integer));
done:
    kd_params_destroy(params);
    return st;
}

static kdas_status time_products(kdas_profile_roofline *out, kdas_context *ctx)
{
    kdas_dtype  type = ctx->type;
    double      plain, packed;
    kdas_status st = KDAS_OK;

    if (type != KDAS_F32) KD_TRY(time_weighted(&out->gemm_bf16, ctx, false));
    if (ctx->integer) KD_TRY(time_weighted(&out->gemm_int8, ctx, true));
    ctx->type = KDAS_F32;
    KD_TRY(time_product(&plain, ctx, NULL, false));
    KD_TRY(time_weighted(&packed, ctx, false));
    out->gemm = KD_MAX(plain, packed);
done:
    ctx->type = type;
    return st;
}

/* ---- memory ---- */

typedef struct stream {
    kdas_context *ctx;
    float        *x, *y;
} stream;

static kdas_status run_stream(void *what)
{
    const stream *s = what;

    return kd_device_add(s->ctx, s->y, s->x, STREAM, 1);
}

static kdas_status time_stream(double *rate, kdas_context *ctx)
{
    size_t      bytes = STREAM * sizeof(float);
    stream      s     = { .ctx = ctx };
    double      seconds;
    kdas_status st = KDAS_ENOMEM;

    s.x = kd_device_alloc(ctx, bytes);
    s.y = s.x ? kd_device_alloc(ctx, bytes) : NULL;
    if (!s.y) goto done;
    KD_TRY(kd_device_zero(ctx, s.x, bytes));
    KD_TRY(kd_device_zero(ctx, s.y, bytes));
    KD_TRY(fastest(&seconds, ctx, run_stream, &s));
    *rate = 3 * (double)bytes / seconds;
done:
    kd_device_free(ctx, s.x);
    kd_device_free(ctx, s.y);
    return st;
}

kdas_status kdas_profile_measure_roofline(kdas_context *ctx, kdas_profile_roofline *out)
{
    kdas_profile_roofline roofline = { 0 };
    kdas_status           st       = KDAS_OK;
    bool                  profiling;

    if (!ctx || !out)
        return kd_fail(KDAS_EINVAL, "kdas_profile_measure_roofline: context or out is NULL");
    KD_RETURN(kd_check_report(&out->size, "kdas_profile_roofline"));
    KD_RETURN(kd_check_process(ctx));
    profiling      = ctx->profiling;
    ctx->profiling = false;
    KD_TRY(time_products(&roofline, ctx));
    KD_TRY(time_stream(&roofline.triad, ctx));
    st = kd_give_options(out, &roofline, sizeof roofline, "kdas_profile_roofline");
done:
    ctx->profiling = profiling;
    return st;
}
