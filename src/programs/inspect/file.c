/* file.c - all that a file is. */
#include "inspect/file.h"
#include <kdas/distill.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "arguments/weights.h"
#include "system/say.h"

enum { COLUMN = 20 };

/* A file's own text on one line: whoever wrote it may have put anything into it. */
static void put_text(const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '\n')
            fputs("\\n", stdout);
        else
            putchar(c < 0x20 || c == 0x7F ? '?' : c);
    }
}

static void put_pair(const char *indent, const char *key, const char *value)
{
    printf("%s%-*s ", indent, COLUMN - (int)strlen(indent), key);
    put_text(value);
    putchar('\n');
}

/* ---- What it says of itself ---- */

static const char *without(const char *key, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(key, prefix, n) == 0 ? key + n : NULL;
}

/* A text of the metadata. */
typedef struct pair {
    const char *key, *value;
} pair;

static int by_key(const void *a, const void *b)
{
    return strcmp(((const pair *)a)->key, ((const pair *)b)->key);
}

/* The texts whose keys begin with `prefix`, without it; or all others but for those that `skip`
 * holds. */
static void print_texts(const kdas_file *file, const char *heading, const char *prefix, bool others,
                        const char *const *skip)
{
    pair       *pairs = NULL;
    int         count = 0;
    const char *key, *value;

    for (int64_t i = 0; (value = kdas_file_text(file, i, &key)); i++) {
        const char *inner = without(key, prefix);
        bool        left  = false;

        for (int k = 0; others && skip && skip[k]; k++)
            left = left || strncmp(skip[k], key, strlen(skip[k])) == 0;
        if ((inner != NULL) == others || left) continue;
        pairs          = need_more(pairs, (size_t)(count + 1) * sizeof *pairs);
        pairs[count++] = (pair){ others ? key : inner, value };
    }
    if (count) {
        qsort(pairs, (size_t)count, sizeof *pairs, by_key);
        printf("\n%s\n", heading);
    }
    for (int i = 0; i < count; i++)
        put_pair("  ", pairs[i].key, pairs[i].value);
    free(pairs);
}

/* ---- A checkpoint ---- */

static void print_record(const kdas_record *r)
{
    enum { MOST = 8 };

    if (r->text) {
        put_pair("  ", r->name, r->text);
        return;
    }
    printf("  %-*s", COLUMN - 2, r->name);
    for (int64_t i = 0; i < r->count && i < MOST; i++)
        printf(" %.9g", isnan(r->numbers[i]) ? NAN : r->numbers[i]); /* a NaN has no sign */
    printf(r->count > MOST ? " ... (%lld numbers)\n" : "\n", (long long)r->count);
}

static bool print_checkpoint(kdas_context *context, const char *path)
{
    kdas_checkpoint   *c        = NULL;
    kdas_progress      progress = { .size = sizeof progress };
    const kdas_record *record;

    if (!ok(kdas_checkpoint_open(&c, context, path)) ||
        !ok(kdas_checkpoint_progress(c, &progress))) {
        kdas_checkpoint_destroy(c);
        return false;
    }
    printf("%-*s epoch %lld, batch %lld of the run, seed %llu\n", COLUMN, "stands after",
           (long long)progress.epoch, (long long)progress.position,
           (unsigned long long)progress.seed);
    if (progress.best_epoch > 0 && progress.best >= 0)
        printf("%-*s %.4f in epoch %lld\n", COLUMN, "best so far", progress.best,
               (long long)progress.best_epoch);
    if (*kdas_checkpoint_notes(c)) put_pair("", "notes", kdas_checkpoint_notes(c));
    if (kdas_checkpoint_record(c, 0)) puts("\nrecords of the run");
    for (int64_t i = 0; (record = kdas_checkpoint_record(c, i)); i++)
        print_record(record);
    kdas_checkpoint_destroy(c);
    return true;
}

/* ---- Tensors ---- */

/* How many tensors of each type there are. */
static void print_types(const kdas_file *file)
{
    struct {
        const char *type;
        int64_t     count;
    } types[32];
    int         used  = 0;
    int64_t     total = 0, numbers = 0, dims[8];
    const char *type;
    int32_t     rank;

    for (; kdas_file_tensor(file, total, &type, &rank, dims); total++) {
        int     i = 0;
        int64_t n = 1;

        for (int32_t d = 0; d < rank; d++)
            n *= dims[d];
        numbers += n;
        while (i < used && strcmp(types[i].type, type) != 0)
            i++;
        if (i == COUNT(types)) continue;
        if (i == used) {
            types[used].type    = type;
            types[used++].count = 0;
        }
        types[i].count++;
    }
    printf("\n%lld tensors, %lld numbers:", (long long)total, (long long)numbers);
    for (int i = 0; i < used; i++)
        printf("%s %lld of %s", i ? "," : "", (long long)types[i].count, types[i].type);
    putchar('\n');
}

static void print_entries(const kdas_file *file)
{
    const char *name;

    if (!kdas_file_entry(file, 1)) return;
    puts("\nsets of weights, for --weights-entry");
    for (int32_t i = 0; (name = kdas_file_entry(file, i)); i++) {
        fputs("  ", stdout);
        put_text(*name ? name : "(the outermost)");
        putchar('\n');
    }
}

static void print_tensors(const kdas_file *file)
{
    const char *name, *type;
    int64_t     dims[8];
    int32_t     rank;

    print_entries(file);
    print_types(file);
    for (int64_t i = 0; (name = kdas_file_tensor(file, i, &type, &rank, dims)); i++) {
        printf("  %-5s ", type);
        for (int32_t d = 0; d < rank; d++)
            printf("%s%lld", d ? "x" : "", (long long)dims[d]);
        fputs(rank ? "  " : "scalar  ", stdout);
        put_text(name);
        putchar('\n');
    }
}

/* ---- The whole ---- */

/* The cost of a file's network. */
typedef struct cost {
    const char *why; /* this size; NULL: not a network of this libkdas */
    int64_t     size[2], parameters;
    double      macs;
} cost;

/* At the size that is told, else at that of the weights. */
static bool find_cost(cost *to, kdas_context *context, const kdas_file *file, const int64_t told[2])
{
    const char *network = kdas_file_network(file), *name;
    kdas_model *model   = NULL;
    bool        known   = false, fixed;

    *to = (cost){ .size = { told[0], told[1] } };
    for (int32_t i = 0; network && (name = kdas_model_name(i)); i++)
        known = known || !strcmp(name, network);
    if (!known) return true;
    if (!ok(kdas_model_create(&model, context, network, NULL))) return false;
    for (int i = 0; i < 2; i++) {
        static const char *const keys[] = { "height", "width" };
        const char              *fact   = kdas_file_fact(file, keys[i]);

        if (fact) kdas_model_set_fact(model, keys[i], fact); /* one that cannot be set is no size */
    }
    known =
        kdas_model_input_size(model, told[0] ? NULL : &to->size[0], told[0] ? NULL : &to->size[1]);
    fixed = network_size(model, NULL);
    kdas_model_destroy(model);
    to->why = told[0] ? "as --size says"
              : fixed ? "the only size that it takes"
              : known ? "the size that the weights were trained for"
                      : "the default";
    return ok(kdas_model_cost(context, network, to->size[0], to->size[1], KDAS_COUNT_MACS,
                              &to->parameters, &to->macs));
}

static void print_network(const kdas_file *file, const cost *c)
{
    const char *network = kdas_file_network(file);

    printf("%-*s %s\n", COLUMN, "network", network ? network : "not named");
    if (c->why)
        printf("%-*s %lld parameters, %.3f GMACs at %lldx%lld, %s\n", COLUMN, "",
               (long long)c->parameters, c->macs / 1e9, (long long)c->size[0],
               (long long)c->size[1], c->why);
}

static void print_kind(const kdas_file *file, const char *path)
{
    static const char *const kinds[] = { "weights, safetensors",
                                         "a checkpoint of kdas_train, to continue from",
                                         "weights, a .pth file of PyTorch" };
    struct stat              info;
    const char              *version  = kdas_file_fact(file, "version");
    bool                     numbered = kdas_file_type(file) == KDAS_FILE_CHECKPOINT;

    printf("%s: %s", path, kinds[kdas_file_type(file)]);
    if (stat(path, &info) == 0) printf(", %.2f MiB", (double)info.st_size / (1024 * 1024));
    putchar('\n');
    printf("%-*s %s%s\n", COLUMN, "written by",
           version    ? "libkdas "
           : numbered ? "libkdas before 0.4"
                      : "another program, or libkdas before 0.4",
           version ? version : "");
}

bool file_inspect(kdas_context *context, const char *path, const int64_t size[2])
{
    static const char *const of_weights[]    = { "model", NULL };
    static const char *const of_checkpoint[] = { "host.", "notes", "model", "version", NULL };
    kdas_file               *file            = NULL;
    cost                     its;
    bool done = ok(kdas_file_open(&file, context, path)) && find_cost(&its, context, file, size);
    bool checkpoint = done && kdas_file_type(file) == KDAS_FILE_CHECKPOINT;

    if (done) {
        print_kind(file, path);
        print_network(file, &its);
        done = !checkpoint || print_checkpoint(context, path);
    }
    if (done) {
        const char *prefix = checkpoint ? "facts." : "kdas.";

        print_texts(file, "facts of the weights", prefix, false, NULL);
        print_texts(file, checkpoint ? "settings in words" : "other metadata", prefix, true,
                    checkpoint ? of_checkpoint : of_weights);
        print_tensors(file);
    }
    kdas_file_destroy(file);
    return done;
}
