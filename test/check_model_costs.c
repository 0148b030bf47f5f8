/* check_model_costs.c - models by name: parameters and operations, of the whole and of the layers. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/run_util.h"

static kdas_context *ctx;

static void open_context(void) { ctx = kd_test_device("cpu", NULL); }
static void close_context(void) { kdas_context_destroy(ctx); }

static kdas_model *make(const char *name)
{
    kdas_model *m;

    kd_assert_ok(kdas_model_create(&m, ctx, name, NULL));
    return m;
}

/* Parameters, G multiply-accumulates, thop's G and fvcore's G at 352 or at `side`; 0: not
 * published. */
static const struct {
    const char *name;
    int64_t     parameters;
    double      macs, thop, fvcore;
    int64_t     side; /* 0: 352 */
} known[] = {
    { "pvt_v2_b0", 3409760, 1.5355, 0 },
    { "pvt_v2_b1", 13496000, 5.4816, 0 },
    { "pvt_v2_b2", 24849856, 10.4597, 0 },
    { "pvt_v2_b3", 44725696, 17.8159, 0 },
    { "pvt_v2_b4", 62043072, 26.0708, 0 },
    { "pvt_v2_b5", 81443008, 30.2803, 0 },
    { "polyp_pvt_b0", 3650740, 1.9041, 1.6898, 1.923 },
    { "polyp_pvt_b2", 25107604, 10.8437, 10.0184 },
    { "pranet", 32547319, 13.0022, 13.1496 },
    { "msnet", 29741329, 16.8440, 17.0049 },
    { "hardnet_mseg", 33343244, 11.3484, 11.4005 },
    /* from the channels, filters and repeats of the published tables, and the pyramid's */
    { "lite_fpn0", 3138881, 1.3009, 0 },
    { "lite_fpn1", 3903553, 1.5905, 0 },
    { "lite_fpn2", 4541057, 1.7699, 0 },
    { "lite_fpn3", 6608705, 2.4502, 0 },
    { "lite_fpn4", 11342401, 3.6662, 0 },
    /* counted in the publishers' own code */
    { "unet", 7852545, 26.3747, 26.6592 },
    { "unetpp", 9163329, 65.1993, 65.9893 },
    { "unetpp_ds", 9163428, 65.2112, 66.0012 },
    { "unet_milesial", 31037633, 91.0665, 103.4886 },
    { "unet_milesial_bilinear", 17262977, 75.5874, 75.9769 },
    { "colonsegnet", 5014049, 74.4653, 117.5249 },
    { "transnetr", 27269441, 10.5112, 10.0868, 10.580, 256 },
    /* counted by golden/make_networks.py */
    { "resunetpp", 4062993, 29.6240, 0 },
    { "ddanet", 6835638, 32.9860, 0 },
    /* from the published Keras code */
    { "pefnet", 10404297, 4.3881, 0 },
    { "pefnet", 10404297, 2.3215, 0, 0, 256 },
};

START_TEST(costs_equal_the_published_ones)
{
    const char *name = known[_i].name;
    int64_t     side = known[_i].side ? known[_i].side : 352, parameters;
    double      macs, thop, fvcore;

    kd_assert_ok(kdas_model_cost(ctx, name, side, side, KDAS_COUNT_MACS, &parameters, &macs));
    kd_assert_ok(kdas_model_cost(ctx, name, side, side, KDAS_COUNT_THOP, NULL, &thop));
    ck_assert_int_eq(parameters, known[_i].parameters);
    ck_assert_double_eq_tol(macs / 1e9, known[_i].macs, 0.6e-4);
    if (known[_i].thop > 0) ck_assert_double_eq_tol(thop / 1e9, known[_i].thop, 0.6e-4);
    kd_assert_ok(kdas_model_cost(ctx, name, side, side, KDAS_COUNT_FVCORE, NULL, &fvcore));
    if (known[_i].fvcore > 0) ck_assert_double_eq_tol(fvcore / 1e9, known[_i].fvcore, 0.6e-3);
    ck_assert(fvcore > macs);
}
END_TEST

/* What the paper prints of its student, 3.7 M and 2.01 G, is thop's at 384. */
START_TEST(the_papers_cost_is_that_at_384)
{
    double thop, fvcore;

    kd_assert_ok(kdas_model_cost(ctx, "polyp_pvt_b0", 384, 384, KDAS_COUNT_THOP, NULL, &thop));
    kd_assert_ok(kdas_model_cost(ctx, "polyp_pvt_b0", 384, 384, KDAS_COUNT_FVCORE, NULL, &fvcore));
    ck_assert_double_eq_tol(thop / 1e9, 2.0110, 0.6e-4);
    ck_assert_double_eq_tol(fvcore / 1e9, 2.342, 0.6e-3);
    kd_assert_status(
        kdas_model_cost(ctx, "polyp_pvt_b0", 384, 384, (kdas_count_rule)3, NULL, &thop),
        KDAS_EINVAL);
}
END_TEST

enum {
    LISTED = 0
#define MODEL(name, function, variant, rules) +1
#include "model/models.def"
#undef MODEL
};

START_TEST(every_listed_model_can_be_costed_at_any_size)
{
    const char *name;
    int         count = 0;

    for (; (name = kdas_model_name(count)); count++) {
        kdas_network n = { .size = sizeof n };
        double       small, large;

        kd_assert_ok(kdas_network_describe(name, &n));
        if (n.fixed) continue; /* check_rules.c */
        kd_assert_ok(kdas_model_cost(ctx, name, 32, 96, KDAS_COUNT_MACS, NULL, &small));
        kd_assert_ok(kdas_model_cost(ctx, name, 96, 96, KDAS_COUNT_MACS, NULL, &large));
        ck_assert(small > 0 && large > small);
    }
    ck_assert_int_eq(count, LISTED);
    ck_assert_ptr_null(kdas_model_name(-1));
}
END_TEST

START_TEST(layers_add_up_to_the_whole)
{
    kdas_model  *m = make("polyp_pvt_b0");
    kdas_layers *layers;
    kdas_layer   l    = { .size = sizeof l };
    double       macs = 0, thop = 0, fvcore = 0;

    kd_assert_ok(kdas_layers_create(&layers, m, 352, 352));
    kdas_model_destroy(m); /* the list does not need it */
    ck_assert_int_gt(kdas_layers_count(layers), 150);
    for (int i = 0; i < kdas_layers_count(layers); i++) {
        kd_assert_ok(kdas_layers_at(layers, i, &l));
        macs += l.macs;
        thop += l.thop;
        fvcore += l.fvcore;
        if (i > 0) continue;
        ck_assert_str_eq(l.name, "backbone.patch_embed1.proj.conv2d");
        ck_assert_str_eq(l.op, "conv2d");
        ck_assert(l.dims[0] == 1 && l.dims[1] == 88 && l.dims[2] == 88 && l.dims[3] == 32);
        ck_assert_int_eq(l.parameters, 32 * 3 * 7 * 7 + 32);
    }
    ck_assert_double_eq_tol(macs / 1e9, 1.9041, 0.6e-4);
    ck_assert_double_eq_tol(thop / 1e9, 1.6898, 0.6e-4);
    ck_assert_double_eq_tol(fvcore / 1e9, 1.923, 0.6e-3);
    kdas_layers_destroy(layers);
}
END_TEST

START_TEST(layers_are_listed_from_one_graph)
{
    kd_test_meter meter   = { 0 };
    kdas_context *counted = kd_test_device("reference", &meter);
    kdas_model   *m;
    kdas_layers  *layers, *none = (kdas_layers *)&meter;
    kdas_layer    l    = { .size = sizeof l };
    const char   *last = NULL;
    long          before, costs;
    int64_t       parameters;

    kd_assert_ok(kdas_model_create(&m, counted, "pvt_v2_b0", NULL));
    before = meter.taken;
    kd_assert_ok(kdas_model_cost(counted, "pvt_v2_b0", 64, 64, KDAS_COUNT_MACS, &parameters, NULL));
    costs  = meter.taken - before; /* of one graph, and the parameters that it declares */
    before = meter.taken;
    kd_assert_ok(kdas_layers_create(&layers, m, 64, 64));
    ck_assert_int_le(meter.taken - before, costs + 3);
    before = meter.taken;
    for (int i = 0; i < kdas_layers_count(layers); i++) {
        kd_assert_ok(kdas_layers_at(layers, i, &l));
        ck_assert(l.name != last && l.size == sizeof l);
        last = l.name;
    }
    ck_assert_int_eq(meter.taken, before);
    kd_assert_status(kdas_layers_at(layers, kdas_layers_count(layers), &l), KDAS_ENOTFOUND);
    kd_assert_status(kdas_layers_at(layers, -1, &l), KDAS_ENOTFOUND);
    l.size = 0;
    kd_assert_status(kdas_layers_at(layers, 0, &l), KDAS_EINVAL);
    l = (kdas_layer){ .size = offsetof(kdas_layer, op), .op = "mine" }; /* an older program's */
    kd_assert_ok(kdas_layers_at(layers, 0, &l));
    ck_assert_uint_eq(l.size, offsetof(kdas_layer, op));
    ck_assert_str_eq(l.op, "mine");
    kd_assert_status(kdas_layers_create(&none, m, 64, 65), KDAS_ESHAPE);
    ck_assert_ptr_null(none);
    for (long k = 1; k <= costs; k += 1 + costs / 50) {
        meter.fail_at = meter.taken + k;
        if (kdas_layers_create(&none, m, 64, 64) == KDAS_OK) break;
        ck_assert_ptr_null(none);
    }
    meter.fail_at = 0;
    kdas_layers_destroy(none);
    kdas_layers_destroy(layers);
    kdas_model_destroy(m);
    kdas_context_destroy(counted);
    kd_test_assert_given_back(&meter);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("model: costs");
    TCase   *costs = tcase_create("costs");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(costs, open_context, close_context);
    tcase_add_loop_test(costs, costs_equal_the_published_ones, 0,
                        (int)(sizeof known / sizeof known[0]));
    tcase_add_test(costs, every_listed_model_can_be_costed_at_any_size);
    tcase_add_test(costs, the_papers_cost_is_that_at_384);
    tcase_add_test(costs, layers_add_up_to_the_whole);
    tcase_add_test(costs, layers_are_listed_from_one_graph);
    suite_add_tcase(suite, costs);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
