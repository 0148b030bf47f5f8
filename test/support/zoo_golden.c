/* zoo_golden.c - see zoo_golden.h. */
#include "support/zoo_golden.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/model.h"
#include "support/check_util.h"
#include "support/files.h"

const kd_zoo_network kd_zoo_networks[] = {
#define NETWORK(name, parameters, bf16)         { #name, parameters, bf16, -1 },
#define SHIFTED(name, parameters, bf16, output) { #name, parameters, bf16, output },
#include "support/zoo.def"
#undef NETWORK
#undef SHIFTED
    { NULL, 0, 0, -1 },
};

#define FIXTURES "test/golden/fixtures/"

/* ---- Tables ---- */

/* The next line's cells, split at tabs. Lines that begin with '#' are passed over. -1: the end. */
static int next_row(char **text, char **cell, int room)
{
    char *line;
    int   n = 0;

    do
        line = strsep(text, "\n");
    while (line && (line[0] == '#' || line[0] == 0));
    if (!line) return -1;
    while (line && n < room)
        cell[n++] = strsep(&line, "\t");
    return n;
}

static int lines_of(const char *text)
{
    int n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void read_shape(kd_zoo_key *key, char *text)
{
    char *part;

    key->count = 1;
    for (int i = 0; i < 4; i++)
        key->dim[i] = 1;
    if (!*text) return; /* a scalar */
    while ((part = strsep(&text, "x"))) {
        ck_assert_int_lt(key->rank, 4);
        key->dim[key->rank] = strtoll(part, NULL, 10);
        key->count *= key->dim[key->rank++];
    }
}

kd_zoo_key *kd_zoo_read_keys(const char *network, int *count)
{
    char        path[160], *text, *at, *cell[3];
    size_t      size;
    kd_zoo_key *key;
    int         n = 0, cells;

    snprintf(path, sizeof path, FIXTURES "keys_%s.tsv", network);
    at = text = (char *)kd_test_read(path, &size);
    key       = calloc((size_t)lines_of(text) + 1, sizeof *key);
    while ((cells = next_row(&at, cell, 3)) > 0) {
        ck_assert_int_eq(cells, 3);
        snprintf(key[n].name, sizeof key[n].name, "%s", cell[0]);
        read_shape(&key[n], cell[1]);
        key[n++].kind = *cell[2];
    }
    free(text);
    ck_assert_int_gt(n, 0);
    *count = n;
    return key;
}

kd_zoo_row *kd_zoo_read_rows(const char *network, int *count)
{
    enum { CELLS = 6 + KD_ZOO_FIGURES + 1 };
    char       *text, *at, *cell[CELLS];
    size_t      size;
    kd_zoo_row *row;
    int         n = 0, cells;

    at = text = (char *)kd_test_read(FIXTURES "zoo.tsv", &size);
    row       = calloc((size_t)lines_of(text) + 1, sizeof *row);
    while ((cells = next_row(&at, cell, CELLS)) > 0) {
        ck_assert_int_eq(cells, CELLS);
        if (strcmp(cell[0], network) != 0) continue;
        row[n].train  = strcmp(cell[1], "train") == 0;
        row[n].n      = strtoll(cell[2], NULL, 10);
        row[n].h      = strtoll(cell[3], NULL, 10);
        row[n].w      = strtoll(cell[4], NULL, 10);
        row[n].output = atoi(cell[5]);
        for (int i = 0; i < KD_ZOO_FIGURES; i++)
            row[n].figure[i] = strtod(cell[6 + i], NULL);
        row[n++].f32 = strtod(cell[CELLS - 1], NULL);
    }
    free(text);
    ck_assert_int_gt(n, 0);
    *count = n;
    return row;
}

/* ---- The rule of values ---- */

/* Element i of the tensor in row k, in [0, 1): the top 24 bits of splitmix64. */
static double draw(uint64_t k, uint64_t i)
{
    uint64_t z = (k << 32) + i + 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 40) / 16777216.0;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n >= m && strcmp(name + n - m, end) == 0;
}

static float value_of(const kd_zoo_key *key, int k, int64_t i)
{
    double u = draw((uint64_t)k, (uint64_t)i);

    if (key->rank == 0) return 0;
    if (key->rank >= 2)
        return (float)((2 * u - 1) * sqrt(3.0 * (double)key->dim[0] / (double)key->count));
    if (ends_with(key->name, ".weight") || ends_with(key->name, "running_var"))
        return (float)(0.5 + u);
    return (float)(0.2 * (2 * u - 1));
}

void kd_zoo_fill(kdas_model *model)
{
    int         keys;
    kd_zoo_key *key = kd_zoo_read_keys(kdas_model_network(model), &keys);

    for (int k = 0; k < keys; k++) {
        float *values = malloc((size_t)key[k].count * sizeof *values);

        for (int64_t i = 0; i < key[k].count; i++)
            values[i] = value_of(&key[k], k, i);
        kd_assert_ok(kdas_model_write(model, kdas_model_find(model, key[k].name), values));
        free(values);
    }
    free(key);
}

kdas_batch *kd_zoo_batch(const kdas_model *model, int64_t n, int64_t h, int64_t w)
{
    static const kdas_recolour_attr plain = { { 0, 1, 2 }, { 1, 1, 1 }, { 0, 0, 0 } };
    const kdas_recolour_attr *to = kd_model_def_find(kdas_model_network(model))->rules->colours;
    kdas_batch               *batch;
    float                    *image;

    if (!to) to = &plain;
    for (int c = 0; c < 3; c++) /* each channel of the batch goes to one of the network */
        for (int other = 0; other < c; other++)
            ck_assert(to->source[c] != to->source[other]);
    kd_assert_ok(kdas_batch_create(&batch, kdas_model_context(model), n, h, w));
    image = kdas_batch_images(batch);
    for (int64_t i = 0; i < n * 3 * h * w; i++) {
        int64_t at = i % (h * w), b = i / (3 * h * w);
        int     c = (int)(i / (h * w) % 3);
        double  v = 2 * (2 * draw(1u << 20, (uint64_t)i) - 1);

        v = ((double)(float)v - (double)to->offset[c]) / (double)to->factor[c];
        image[(b * h * w + at) * 3 + to->source[c]] = (float)v;
    }
    return batch;
}

/* ---- Outputs ---- */

static const char *const figure_names[KD_ZOO_FIGURES] = { "mean", "deviation", "minimum", "maximum",
                                                          "v0",   "v1",        "v2",      "v3",
                                                          "v4",   "v5",        "v6" };

static void figures_of(double *figure, const float *map, int64_t n)
{
    double sum = 0, squares = 0;

    figure[KD_ZOO_MIN] = INFINITY;
    figure[KD_ZOO_MAX] = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)map[i];
        figure[KD_ZOO_MIN] = fmin(figure[KD_ZOO_MIN], (double)map[i]);
        figure[KD_ZOO_MAX] = fmax(figure[KD_ZOO_MAX], (double)map[i]);
    }
    figure[KD_ZOO_MEAN] = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += ((double)map[i] - figure[KD_ZOO_MEAN]) * ((double)map[i] - figure[KD_ZOO_MEAN]);
    figure[KD_ZOO_STD] = sqrt(squares / (double)n);
    for (int i = 0; i < 7; i++)
        figure[KD_ZOO_ELEMENT + i] = (double)map[i * n / 7];
}

static const kd_zoo_network *network_of(const kdas_model *model)
{
    const kd_zoo_network *network = kd_zoo_networks;

    while (network->name && strcmp(network->name, kdas_model_network(model)) != 0)
        network++;
    ck_assert_msg(network->name != NULL, "%s is not in zoo.def", kdas_model_network(model));
    return network;
}

/* How far each figure may be off; the rule is in zoo_golden.h. */
static void bounds_of(double *bound, const kd_zoo_row *row, const kd_zoo_network *network,
                      bool half)
{
    double low = row->figure[KD_ZOO_MIN], high = row->figure[KD_ZOO_MAX];
    double most = half ? network->bf16 * fmax(fabs(low), fabs(high)) : 2e-4 * (high - low);
    double f32  = (row->train ? 8 : 4) * row->f32;

    for (int i = 0; i < KD_ZOO_FIGURES; i++)
        bound[i] = (i <= KD_ZOO_STD ? most / 2 : most) + f32;
    if (half && row->output == network->shifted) bound[KD_ZOO_MEAN] = most + f32;
}

void kd_zoo_assert_row(const kdas_model *model, const kd_zoo_row *row)
{
    bool        half = kdas_context_precision(kdas_model_context(model)) == KDAS_PRECISION_BF16;
    double      bound[KD_ZOO_FIGURES], got[KD_ZOO_FIGURES], worst = 0;
    int64_t     dims[4] = { 0 }, n = row->n * row->h * row->w;
    const char *name = kdas_model_output(model, row->output, dims);
    float      *map  = malloc((size_t)n * sizeof *map);

    ck_assert_msg(name && dims[0] == row->n && dims[1] == row->h && dims[2] == row->w &&
                      dims[3] == 1,
                  "%s has no output %d of that size", kdas_model_network(model), row->output);
    kd_assert_ok(kdas_model_read_output(model, name, map));
    figures_of(got, map, n);
    bounds_of(bound, row, network_of(model), half);
    for (int i = 0; i < KD_ZOO_FIGURES; i++) {
        double error = fabs(got[i] - row->figure[i]);

        ck_assert_msg(error <= bound[i],
                      "%s, %s, %s: the %s is %.9g, not %.9g; off by %.2g, not %.2g",
                      kdas_model_network(model), row->train ? "train" : "eval", name,
                      figure_names[i], got[i], row->figure[i], error, bound[i]);
        worst = fmax(worst, error / bound[i]);
    }
    printf("%s, %s, %lldx%lld, %s: off by %.3f of the bound\n", kdas_model_network(model),
           row->train ? "train" : "eval", (long long)row->h, (long long)row->w, name, worst);
    free(map);
}

/* ---- All outputs ---- */

static bool same_forward(const kd_zoo_row *a, const kd_zoo_row *b)
{
    return a->train == b->train && a->n == b->n && a->h == b->h && a->w == b->w;
}

/* TransNetR attends over the batch, but in inference every image is alone (check_transnetr.c). */
static bool has_row(const kd_zoo_row *row, const char *network, bool train, kdas_mode mode)
{
    bool alone = strcmp(network, "transnetr") == 0 && mode == KDAS_MODE_INFER;

    return row->train == train && !(alone && row->n > 1);
}

void kd_zoo_compare(kdas_model *m, bool train, kdas_mode eval)
{
    int         rows;
    kd_zoo_row *row = kd_zoo_read_rows(kdas_model_network(m), &rows);

    for (int i = 0, next; i < rows; i = next) {
        kdas_batch *batch;

        for (next = i + 1; next < rows && same_forward(&row[i], &row[next]);)
            next++;
        if (!has_row(&row[i], kdas_model_network(m), train, eval)) continue;
        batch = kd_zoo_batch(m, row[i].n, row[i].h, row[i].w);
        kd_assert_ok(kdas_model_forward(m, train ? KDAS_MODE_TRAIN : eval, batch));
        ck_assert_int_eq(next - i, kdas_model_maps(m));
        for (int k = i; k < next; k++)
            kd_zoo_assert_row(m, &row[k]);
        kdas_batch_destroy(batch);
    }
    free(row);
}
