/* check_golden.c - compare the library with golden values computed in float64.
 *
 * usage: check_golden [DIR] [DEVICE] [f32|bf16|f16|tf32]     runs every case of DIR/manifest.tsv, prints the worst error of each and
 * ends with "N passed, N failed". DIR may be any folder that the reference's make_fixtures.py made. GOLDEN_PIXELS=N leaves
 * out images of more pixels: on the emulated card they take minutes.
 *
 * Bounds, for single precision against float64: digests to 1e-4 of their scale (the tensor's norm; twice
 * that for gradients through batch statistics), maps to 2e-4 of their range element by element, losses to 1e-4
 * relative, metrics to 1e-9, resized pixels to 1 of 255. Each file says where it uses another one and why.
 *
 * In bf16, and in f16 and TF32, which round to 3 bits more, networks are held to bounds of their own, with
 * the worst of a case's hundreds of tensors and elements in mind. These untrained networks magnify
 * rounding: PyTorch's own autocast leaves their maps 0.2 to 7 % off (and single elements up to the whole of
 * a narrow range), and a bias whose gradient nearly cancels is off by more. What is seen here is 1 to 40 %
 * for that worst one; check_precision.c holds the whole gradient's direction. */
#include <stdlib.h>
#include <string.h>
#include "golden/golden.h"

static const struct {
    const char *kind;
    bool (*run)(golden_case *c);
} kinds[] = {
    { "forward", golden_forward }, { "losses", golden_losses },       { "grad", golden_grad },
    { "adamw", golden_adamw },     { "objective", golden_objective }, { "metrics", golden_metrics },
    { "resize", golden_resize },   { "guidance", golden_guidance },   { "feature", golden_feature },
};

static bool read_dtype(int32_t *precision, const char *word)
{
    static const struct {
        const char    *word;
        kdas_precision precision;
    } words[] = { { "f32", KDAS_PRECISION_F32 },
                  { "bf16", KDAS_PRECISION_BF16 },
                  { "f16", KDAS_PRECISION_F16 },
                  { "tf32", KDAS_PRECISION_TF32 } };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i].word, word) == 0) {
            *precision = words[i].precision;
            return true;
        }
    return false;
}

static bool parse(golden_case *c, char *line)
{
    char *save, *cell = strtok_r(line, "\t\r\n", &save);

    if (!cell) return false;
    snprintf(c->kind, sizeof c->kind, "%s", cell);
    cell = strtok_r(NULL, "\t\r\n", &save);
    snprintf(c->name, sizeof c->name, "%s", cell ? cell : "");
    while ((cell = strtok_r(NULL, "\t\r\n", &save)) && c->pairs < 24) {
        char *equals = strchr(cell, '=');

        if (!equals) continue;
        *equals = 0;
        snprintf(c->key[c->pairs], GOLDEN_TEXT, "%s", cell);
        snprintf(c->value[c->pairs++], GOLDEN_TEXT, "%s", equals + 1);
    }
    return true;
}

static bool too_large(const golden_case *c)
{
    const char *most   = getenv("GOLDEN_PIXELS");
    long        pixels = 1;

    for (int i = 0; i < c->pairs; i++)
        if (strcmp(c->key[i], "height") == 0 || strcmp(c->key[i], "width") == 0)
            pixels *= strtol(c->value[i], NULL, 10);
    return most && pixels > strtol(most, NULL, 10);
}

/* 1: passed, 0: failed. A kind that nobody knows fails: it would otherwise look tested. */
static int run_case(golden_case *c)
{
    bool ran = false, known = false, good;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].kind, c->kind) == 0) {
            known = true;
            ran   = kinds[i].run(c);
        }
    if (!known) golden_stop(c, "no such kind");
    good = ran && c->worst <= c->bound && c->where[0];
    if (ran)
        printf("%-4s %-9s %-48s worst %.2e of %.0e at %s\n", good ? "ok" : "FAIL", c->kind, c->name,
               c->worst, c->bound, c->where[0] ? c->where : "(nothing was compared)");
    fflush(stdout);
    return good;
}

int main(int argc, char **argv)
{
    const char          *folder = argc > 1 ? argv[1] : "test/golden/fixtures";
    kdas_context_options options;
    kdas_context        *ctx;
    kdas_status          status;
    char                 path[4096], line[4096];
    FILE                *manifest;
    int                  passed = 0, failed = 0;

    kdas_context_options_init(&options, sizeof options);
    if (argc > 2) options.device = argv[2];
    if (argc > 3 && !read_dtype(&options.precision, argv[3])) {
        fprintf(stderr, "check_golden: '%s' is not f32, bf16, f16 or tf32\n", argv[3]);
        return 2;
    }
    snprintf(path, sizeof path, "%s/manifest.tsv", folder);
    manifest = fopen(path, "r");
    if (!manifest) {
        fprintf(stderr, "check_golden: '%s' cannot be opened\n", path);
        return 2;
    }
    status = kdas_context_create(&ctx, &options);
    if (status != KDAS_OK) {
        bool skip = status == KDAS_EUNSUPPORTED && options.precision != KDAS_PRECISION_F32;

        fprintf(skip ? stdout : stderr, "%scheck_golden: %s\n", skip ? "SKIP: " : "",
                kdas_last_error());
        fclose(manifest);
        return skip ? EXIT_SUCCESS : 2;
    }
    while (fgets(line, sizeof line, manifest)) {
        golden_case c = { .ctx       = ctx,
                          .folder    = folder,
                          .reference = strcmp(options.device, "reference") == 0 };

        if (!parse(&c, line) || too_large(&c)) continue;
        if (run_case(&c))
            passed++;
        else
            failed++;
    }
    fclose(manifest);
    kdas_context_destroy(ctx);
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed ? EXIT_FAILURE : EXIT_SUCCESS;
}
