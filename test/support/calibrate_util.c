/* calibrate_util.c - see calibrate_util.h. */
#include "support/calibrate_util.h"
#include <check.h>
#include "support/check_util.h"
#include "support/run_util.h"

kdas_model *kd_test_grids_model(kdas_context *ctx, const char *name, int32_t quantize,
                              const char *wide)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.quantize  = quantize;
    o.wide      = wide;
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
    return m;
}

static void add_batches(kdas_calibrator *c, kdas_context *ctx, int batches, int64_t side)
{
    for (int i = 0; i < batches; i++) {
        kdas_batch *b = kd_test_batch(ctx, 4, side, i);

        kd_assert_ok(kdas_calibrator_add(c, b));
        kdas_batch_destroy(b);
    }
}

kdas_calibrator *kd_test_calibrated(kdas_model *m, const kdas_calibrator_options *o, int64_t side)
{
    kdas_calibrator *c;

    kd_assert_ok(kdas_calibrator_create(&c, m, o));
    add_batches(c, kdas_model_context(m), 4, side);
    kd_assert_ok(kdas_calibrator_finish(c));
    return c;
}

bool kd_test_range_is_empty(const kdas_model *m, const char *name)
{
    float range[2];

    kd_assert_ok(kdas_model_read(m, kdas_model_find(m, name), range));
    return range[0] == 0 && range[1] == 0;
}
