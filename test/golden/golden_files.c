/* golden_files.c - reading tables and tensors, digests, and the fill rule for models. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "golden/golden.h"
#include "io/safetensors.h"
#include "support/check_util.h"

bool golden_stop(const golden_case *c, const char *why)
{
    printf("FAIL %-9s %-48s could not run: %s\n", c->kind, c->name, why);
    return false;
}

const char *golden_text(const golden_case *c, const char *key, bool *ok)
{
    for (int i = 0; i < c->pairs; i++)
        if (strcmp(c->key[i], key) == 0) return c->value[i];
    *ok = false;
    return "";
}

int64_t golden_int(const golden_case *c, const char *key, bool *ok)
{
    return strtoll(golden_text(c, key, ok), NULL, 10);
}

double golden_real(const golden_case *c, const char *key, bool *ok)
{
    return strtod(golden_text(c, key, ok), NULL);
}

void golden_note(golden_case *c, double error, const char *where)
{
    if (c->where[0] && error <= c->worst) return;
    c->worst = isnan(error) ? INFINITY : error;
    snprintf(c->where, sizeof c->where, "%s", where);
}

golden_table *golden_read_table(const golden_case *c, const char *name)
{
    golden_table *t = calloc(1, sizeof *t);
    char          path[4096], *line, *save;
    FILE         *f;
    long          size;

    snprintf(path, sizeof path, "%s/%s.tsv", c->folder, name);
    f = t ? fopen(path, "rb") : NULL;
    if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0) goto failed;
    rewind(f);
    t->text = calloc(1, (size_t)size + 1);
    if (!t->text || fread(t->text, 1, (size_t)size, f) != (size_t)size) goto failed;
    fclose(f);
    for (line = strtok_r(t->text, "\n", &save); line && t->rows < 4096;
         line = strtok_r(NULL, "\n", &save)) {
        char *inner, *cell;
        int   n = 0;

        if (line[0] == '#') continue;
        for (cell = strtok_r(line, "\t", &inner); cell && n < 6;
             cell = strtok_r(NULL, "\t", &inner))
            t->cell[t->rows][n++] = cell;
        t->columns[t->rows++] = n;
    }
    return t;
failed:
    if (f) fclose(f);
    golden_free_table(t);
    return NULL;
}

void golden_free_table(golden_table *t)
{
    if (t) free(t->text);
    free(t);
}

int golden_row(const golden_table *t, const char *key)
{
    for (int i = 0; i < t->rows; i++)
        if (strcmp(t->cell[i][0], key) == 0) return i;
    return -1;
}

float *golden_tensor(const golden_case *c, const char *name, const char *tensor, int64_t *count,
                     int64_t dims[4])
{
    kd_safetensors     *file;
    const kd_st_tensor *t;
    char                path[4096];
    float              *values = NULL;

    snprintf(path, sizeof path, "%s/%s.safetensors", c->folder, name);
    if (kd_safetensors_open(&file, c->ctx, path) != KDAS_OK) return NULL;
    t = kd_safetensors_find(file, tensor);
    if (t) values = malloc((size_t)t->count * sizeof *values + 1);
    if (values && kd_safetensors_read_float(file, t, values) != KDAS_OK) {
        free(values);
        values = NULL;
    }
    if (values) {
        *count = t->count;
        for (int i = 0; dims && i < 4; i++)
            dims[i] = i < t->rank ? t->dim[i] : 1;
    }
    kd_safetensors_close(file);
    return values;
}

/* The three figures have the scale of the norm: a sum and a probe of n values that differ by e * norm in norm
 * differ by at most e * norm * sqrt(n), and by about e * norm where the differences are random. */
double golden_digest_error(const golden_table *t, int row, const char *key, const float *values,
                           int64_t n)
{
    char   probe[GOLDEN_TEXT + 8];
    double sum = 0, squares = 0, dot = 0, norm = strtod(t->cell[row][3], NULL), error;

    snprintf(probe, sizeof probe, "probe.%s", key);
    for (int64_t i = 0; i < n; i++) {
        double v = (double)values[i];

        sum += v;
        squares += v * v;
        dot += v * kd_test_unit(probe, (uint64_t)i);
    }
    error = fabs(sqrt(squares) - norm);
    error = fmax(error, fabs(sum - strtod(t->cell[row][2], NULL)) / sqrt((double)n));
    error = fmax(error, fabs(dot - strtod(t->cell[row][4], NULL)));
    return error / fmax(norm, 1e-30);
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n >= m && strcmp(name + n - m, end) == 0;
}

kdas_status golden_fill_model(kdas_model *model, const char *prefix)
{
    const char *name;
    int32_t     rank;
    int64_t     dim[4];

    for (int32_t i = 0; (name = kdas_model_tensor(model, i, &rank, dim, NULL)); i++) {
        int64_t     n      = dim[0] * dim[1] * dim[2] * dim[3];
        float      *values = calloc((size_t)n, sizeof *values);
        char        full[256];
        kdas_status st;

        if (!values) return KDAS_ENOMEM;
        snprintf(full, sizeof full, "%s.%s", prefix, name);
        if (ends_with(name, ".running_var"))
            kd_test_fill(values, n, full, 0.2, 1.0);
        else if (ends_with(name, ".running_mean") || ends_with(name, ".bias"))
            kd_test_fill(values, n, full, 0.1, 0.0);
        else if (ends_with(name, ".num_batches_tracked"))
            values[0] = 0;
        else if (ends_with(name, ".positional_embedding"))
            kd_test_fill(values, n, full, 0.5, 0.0);
        else if (rank == 1) /* the weight of a norm layer */
            kd_test_fill(values, n, full, 0.1, 1.0);
        else
            kd_test_fill(values, n, full, sqrt(3.0 / (double)(n / dim[0])), 0.0);
        st = kdas_model_write(model, i, values);
        free(values);
        if (st != KDAS_OK) return st;
    }
    return KDAS_OK;
}

kdas_status golden_batch(kdas_batch **out, const golden_case *c, const char *image,
                         const char *mask, int64_t n, int64_t h, int64_t w)
{
    kdas_status st    = kdas_batch_create(out, c->ctx, n, h, w);
    float      *drawn = malloc((size_t)(n * h * w * 3) * sizeof *drawn);

    if (st == KDAS_OK && drawn) {
        kd_test_fill(drawn, n * h * w * 3, image, 2.0, 0.0);
        kd_test_to_nhwc(kdas_batch_images(*out), drawn, n, 3, h, w);
        if (mask) kd_test_ellipses(kdas_batch_masks(*out), n, h, w, mask);
    }
    free(drawn);
    return st;
}
