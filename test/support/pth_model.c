/* pth_model.c - see pth_model.h. */
#include "support/pth_model.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"

bool kd_test_is_counter(const char *name) { return strstr(name, "num_batches_tracked") != NULL; }

kdas_model *kd_test_weights_model(kdas_context *ctx, const char *network)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&m, ctx, network, &o));
    return m;
}

void kd_test_pth_model(kd_test_pth *p, const kdas_model *m, const char *front,
                       kd_test_naming name_by, float value)
{
    const char *name;
    int64_t     dims[4];
    int32_t     rank;
    char        full[512], own[256];

    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)); i++) {
        snprintf(own, sizeof own, "%s", name);
        if (name_by && !name_by(own, sizeof own, name)) continue;
        snprintf(full, sizeof full, "%s%s", front, own);
        kd_test_pth_put(p, full, rank, dims, value);
    }
}

void kd_test_pth_write_model(const char *path, const kdas_model *m, const char *front,
                             kd_test_naming name_by, float value)
{
    kd_test_pth p;

    kd_test_pth_begin(&p);
    kd_test_pth_model(&p, m, front, name_by, value);
    kd_test_pth_end(&p, path);
}

bool kd_test_all_are(const kdas_model *m, const char *beginning, float value)
{
    const char *name;
    int64_t     dims[4];
    int32_t     rank;
    bool        same = true;

    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)) && same; i++) {
        int64_t n = 1;
        float  *v;

        for (int k = 0; k < rank; k++)
            n *= dims[k];
        if (kd_test_is_counter(name) || strncmp(name, beginning, strlen(beginning)) != 0) continue;
        v = malloc((size_t)n * sizeof *v);
        kd_assert_ok(kdas_model_read(m, i, v));
        for (int64_t k = 0; k < n; k++)
            same = same && v[k] == value;
        free(v);
    }
    return same;
}
