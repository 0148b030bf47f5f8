/* feature_util.c - see feature_util.h. */
#include "support/feature_util.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "distill/distiller.h"
#include "distill/feature_inside.h"
#include "support/check_util.h"

enum { SIDE = 32, AREA = SIDE * SIDE };

const char *const kd_test_features[] = { "normalised", "cosine", "channel", "attention" };

kd_test_rig_options kd_test_with_feature(const char *feature)
{
    kd_test_rig_options o = kd_test_rig_usual();

    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    o.loss.feature = feature;
    /* behind a layer norm every position has the same energy, while it is untrained */
    if (strcmp(feature, "attention") == 0) o.loss.feature_taps = "cfm:cfm,sam:sam";
    return o;
}

kdas_batch *kd_test_feature_batch(kdas_context *ctx, int64_t n, const char *name)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, n, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), n * AREA * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), n, SIDE, SIDE, name);
    return b;
}

/* All projections as one block; NULL without any. */
float *kd_test_projections(const kd_test_rig *rig, int64_t *count)
{
    kd_params *p = rig->distiller->feature->params;
    float     *all;

    *count = p ? kd_params_trainable(p) : 0;
    if (!p) return NULL;
    all = malloc((size_t)*count * sizeof *all);
    kd_assert_ok(
        kd_device_download(rig->ctx, all, kd_params_values(p), (size_t)*count * sizeof *all));
    return all;
}

void kd_test_assert_same_projections(const kd_test_rig *a, const kd_test_rig *b)
{
    int64_t na, nb;
    float  *pa = kd_test_projections(a, &na), *pb = kd_test_projections(b, &nb);

    ck_assert_int_eq(na, nb);
    ck_assert(kd_test_same_bits(pa, pb, (size_t)na * sizeof *pa));
    free(pa);
    free(pb);
}
