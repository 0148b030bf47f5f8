/* small_nets.c - see small_nets.h. */
#include "support/small_nets.h"
#include <stdio.h>
#include "nn/nn.h"
#include "support/check_util.h"

enum { LEVELS = 6, CHANNELS = 4 };

void kd_test_build_small(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    int       maps = variant & 15, strides = variant >> 4;
    kdas_desc s = kd_shape(image);
    kd_node  *x = image, *level[LEVELS];
    char      name[24];

    (void)drop_path;
    for (int k = 0; k < LEVELS; k++) {
        snprintf(name, sizeof name, "level%d", k);
        x        = kd_conv_layer(g, name, x, CHANNELS, 3, k ? 2 : 1, 1, true, KD_STYLE_TORCH);
        level[k] = x = kd_relu(g, x);
        snprintf(name, sizeof name, "s%d", 1 << k);
        if (strides >> k & 1) kd_tap(g, name, x);
        if (k == 0 && !(strides & KD_TEST_NO_NORM))
            x = kd_batch_norm_layer(g, "norm", x, 1e-5f, 0.1f);
    }
    for (int i = 0; i < maps; i++) {
        snprintf(name, sizeof name, "head%d", i);
        x = kd_conv_layer(g, name, level[i % LEVELS], 1, 1, 1, 0, true, KD_STYLE_TORCH);
        if (i % LEVELS) x = kd_resize(g, x, s.dim[1], s.dim[2], false, 0);
        snprintf(name, sizeof name, "P%d", i + 1);
        kd_output(g, name, x);
    }
    if (!(strides & KD_TEST_NOT_IDLE)) kd_idle_conv_bn(g, "unused", 3, 5, 3);
}

kd_model_def kd_test_small_def(const char *name, int variant, const kd_model_rules *rules)
{
    return (kd_model_def){
        .name = name, .variant = variant, .rules = rules, .build = kd_test_build_small
    };
}

kdas_status kd_test_small_rig(kd_test_rig *rig, const kd_model_def *student,
                              const kd_model_def *teacher, const kd_test_rig_options *o)
{
    kdas_model_options frozen = o->model;

    *rig             = (kd_test_rig){ .ctx = kd_test_device("cpu", NULL) };
    frozen.seed      = 8;
    frozen.trainable = 0;
    frozen.quantize  = KDAS_QUANTIZE_NONE;
    frozen.wide      = NULL;
    if (teacher) kd_assert_ok(kd_model_create(&rig->teacher, rig->ctx, teacher, &frozen));
    kd_assert_ok(kd_model_create(&rig->student, rig->ctx, student, &o->model));
    kd_assert_ok(kdas_loss_create(&rig->loss, rig->ctx, &o->loss));
    kd_assert_ok(kdas_optim_create(&rig->optim, rig->student, &o->optim));
    return kdas_distiller_create(&rig->distiller, rig->teacher, rig->student, rig->loss, rig->optim,
                                 &o->distiller);
}

kdas_batch *kd_test_small_batch(kdas_context *ctx, int64_t n, int64_t side, const char *name)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, n, side, side));
    kd_test_fill(kdas_batch_images(b), n * side * side * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), n, side, side, name);
    return b;
}
