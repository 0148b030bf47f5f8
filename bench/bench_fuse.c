/* bench_fuse.c - the feed-forward blocks of PVTv2 fused into one op and as the ops that they are built of:
 * best time of either in one process, run in turn, with memory.
 *
 *   bench_fuse [-t THREADS] [-r REPEATS] [-b BATCH] [-i avx512|avx2|plain] [-h]
 *
 * -h: activations in bf16, with a cast before and after the block. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "graph/program.h"
#include "graph/build.h"
#include "graph/settings.h"

static const int64_t blocks[][3] = {
    /* side, channels, hidden channels: B0, then B2 */
    { 88, 32, 256 }, { 44, 64, 512 },   { 22, 160, 640 },  { 11, 256, 1024 },
    { 88, 64, 512 }, { 44, 128, 1024 }, { 22, 320, 1280 }, { 11, 512, 2048 },
};

static void die_on(kdas_status st)
{
    if (st == KDAS_OK) return;
    fprintf(stderr, "bench_fuse: %s\n", kdas_last_error());
    exit(EXIT_FAILURE);
}

static kd_node *weight(kd_graph *g, const char *name, int rank, int64_t o, int64_t i, int64_t k)
{
    const kd_init some = { KD_TRAINABLE, KD_INIT_UNIFORM, 0.1f };

    return kd_param(g, name, some, rank, (const int64_t[]){ o, i, k, k });
}

static kd_graph *build(kdas_context *ctx, kd_params *params, kd_mode mode, int64_t n,
                       const int64_t block[3])
{
    int64_t   side = block[0], c = block[1], f = block[2];
    kd_graph *g = kd_graph_create(ctx, params, mode);
    kd_node  *x, *y;

    if (!g) die_on(KDAS_ENOMEM);
    x = kd_input(g, "x", kd_desc(n, side, side, c), true);
    y = kd_linear(g, x, weight(g, "w1", 2, f, c, 1), weight(g, "b1", 1, f, 1, 1));
    y = kd_dwconv2d(g, y, weight(g, "wd", 4, f, 1, 3), weight(g, "bd", 1, f, 1, 1), 1, 1);
    y = kd_linear(g, kd_gelu(g, y), weight(g, "w2", 2, c, f, 1), weight(g, "b2", 1, c, 1, 1));
    kd_output(g, "y", kd_add(g, x, y));
    return g;
}

/* With one thread its own time, which other programs disturb less than the clock's. */
static double seconds_now(const kdas_context *ctx)
{
    struct timespec t;

    if (ctx->threads > 1) return kd_now();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct side {
    kd_arena   *arena;
    kd_program *program;
    double      forward, backward;
} side;

static void open_side(side *s, kdas_context *ctx, kd_params *params, kd_mode mode, int64_t n,
                      const int64_t block[3], bool unfused, float *x)
{
    *s = (side){ .arena = kd_arena_create(ctx), .forward = HUGE_VAL, .backward = HUGE_VAL };
    kd_graph_settings_change(ctx)->unfused = unfused;
    die_on(kd_program_create(&s->program, build(ctx, params, mode, n, block), s->arena));
    kd_program_bind(s->program, kd_find(kd_program_graph(s->program), "x"), x, NULL);
}

static void close_side(side *s)
{
    kd_program_destroy(s->program);
    kd_arena_destroy(s->arena);
}

static void run(kdas_context *ctx, side *s, kd_mode mode)
{
    double start = seconds_now(ctx), turn;

    die_on(kd_program_forward(s->program, 1));
    turn       = seconds_now(ctx);
    s->forward = KD_MIN(s->forward, turn - start);
    if (mode == KD_INFER) return;
    die_on(kd_program_backward(s->program));
    s->backward = KD_MIN(s->backward, seconds_now(ctx) - turn);
}

static void print(const char *pass, int64_t n, const int64_t block[3], double apart, double fused,
                  size_t apart_bytes, size_t fused_bytes)
{
    printf("%s\t%lldx%lldx%lldx%lld>%lld\t%.3f\t%.3f\t%.2f\t%.1f\t%.1f\n", pass, (long long)n,
           (long long)block[0], (long long)block[0], (long long)block[1], (long long)block[2],
           1e3 * apart, 1e3 * fused, apart / fused, (double)apart_bytes / (1 << 20),
           (double)fused_bytes / (1 << 20));
    fflush(stdout);
}

static void measure(kdas_context *ctx, kd_mode mode, int64_t n, const int64_t block[3], int repeats)
{
    int64_t    count = n * block[0] * block[0] * block[1];
    float     *x     = malloc((size_t)count * sizeof *x);
    kd_params *params;
    side       s[2]; /* apart, fused */
    size_t     bytes[2];

    if (!x) die_on(kd_fail(KDAS_ENOMEM, "out of memory"));
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)(kd_mix64((uint64_t)i) >> 40) / 8388608.0f - 1;
    die_on(kd_params_create(&params, ctx));
    kd_graph_destroy(build(ctx, params, mode, n, block));
    die_on(kd_params_seal(params, true));
    die_on(kd_params_init(params, 1));
    for (int i = 0; i < 2; i++) {
        open_side(&s[i], ctx, params, mode, n, block, i == 0, x);
        bytes[i] = kd_program_memory_use(s[i].program).arena;
    }
    for (int r = 0; r < repeats; r++)
        for (int i = 0; i < 2; i++)
            run(ctx, &s[i], mode);
    print(mode == KD_INFER ? "infer" : "forward", n, block, s[0].forward, s[1].forward, bytes[0],
          bytes[1]);
    if (mode != KD_INFER)
        print("backward", n, block, s[0].backward, s[1].backward, bytes[0], bytes[1]);
    close_side(&s[0]);
    close_side(&s[1]);
    kd_params_destroy(params);
    free(x);
}

int main(int argc, char **argv)
{
    kdas_context_options o;
    kdas_context        *ctx;
    int                  option, repeats = 7;
    int64_t              batch = 0;

    kdas_context_options_init(&o, sizeof o);
    o.device  = "cpu";
    o.threads = 2;
    while ((option = getopt(argc, argv, "t:r:b:i:h")) != -1) {
        if (option == 't')
            o.threads = atoi(optarg);
        else if (option == 'r')
            repeats = KD_MAX(atoi(optarg), 1);
        else if (option == 'b')
            batch = atoi(optarg);
        else if (option == 'h')
            o.precision = KDAS_PRECISION_BF16;
        else if (option == 'i')
            o.isa = optarg;
        else
            return EXIT_FAILURE;
    }
    die_on(kdas_context_create(&ctx, &o));
    printf("# %s\npass\tblock\tapart ms\tfused ms\tratio\tapart MiB\tfused MiB\n",
           ctx->device_text);
    for (size_t i = 0; i < KD_COUNT(blocks); i++)
        for (int64_t n = batch ? batch : 1; n <= (batch ? batch : 8); n += 7)
            for (kd_mode mode = KD_INFER; mode <= KD_TRAIN; mode += KD_TRAIN)
                measure(ctx, mode, n, blocks[i], repeats);
    kdas_context_destroy(ctx);
    return EXIT_SUCCESS;
}
