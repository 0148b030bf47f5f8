/* check_profile.c - the profile: which rows appear, what they count, that they add up to the time that passed,
 * and that it costs nothing and shows nothing while it is off. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "graph/profile.h"
#include "graph/program.h"
#include "graph/build.h"
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/thin.h"

#define SIDE 64

static kdas_profile_row row_at(const kdas_context *ctx, int32_t i)
{
    kdas_profile_row r = { .size = sizeof r };

    kd_assert_ok(kdas_profile_at(ctx, i, &r));
    return r;
}

/* The sum over rows; NULL, or a part of -1, stands for any. */
static kdas_profile_row sum_of(const kdas_context *ctx, const char *program, const char *op,
                               const char *node, int part)
{
    kdas_profile_row sum = { 0 };

    for (int32_t i = 0; i < kdas_profile_count(ctx); i++) {
        kdas_profile_row r = row_at(ctx, i);

        if ((program && strcmp(r.program, program)) || (op && strcmp(r.op, op)) ||
            (node && strcmp(r.node, node)) || (part >= 0 && (int)r.part != part))
            continue;
        sum.calls += r.calls;
        sum.seconds += r.seconds;
        sum.flop += r.flop;
        sum.bytes += r.bytes;
    }
    return sum;
}

static kdas_batch *draw(kdas_context *ctx, int64_t n, int64_t side)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, n, side, side));
    kd_test_fill(kdas_batch_images(b), n * side * side * 3, "images", 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), n, side, side, "masks");
    return b;
}

/* ---- A step ---- */

START_TEST(a_step_shows_every_part_of_its_work)
{
    static const char *const loss[] = { "loss.seg+kd 2x64x64", "loss.seg+kd+sgm 2x64x64" };
    const char *teacher = "polyp_pvt_b0 infer 2x64x64", *student = "polyp_pvt_b0 train 2x64x64";
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;

    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 2, SIDE);
    kd_assert_ok(kdas_context_profile(rig.ctx, 1));
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    ck_assert_int_gt(sum_of(rig.ctx, teacher, NULL, NULL, KDAS_PROFILE_FORWARD).calls, 50);
    ck_assert_int_eq(sum_of(rig.ctx, teacher, NULL, NULL, KDAS_PROFILE_BACKWARD).calls, 0);
    ck_assert_int_gt(sum_of(rig.ctx, teacher, NULL, NULL, KDAS_PROFILE_PACK).calls, 0);
    ck_assert_int_gt(sum_of(rig.ctx, student, NULL, NULL, KDAS_PROFILE_FORWARD).calls, 50);
    ck_assert_int_gt(sum_of(rig.ctx, student, NULL, NULL, KDAS_PROFILE_BACKWARD).calls, 50);
    ck_assert_int_gt(sum_of(rig.ctx, student, NULL, NULL, KDAS_PROFILE_ZERO).calls, 0);
    for (size_t i = 0; i < KD_COUNT(loss); i++)
        ck_assert_int_gt(sum_of(rig.ctx, loss[i], NULL, NULL, KDAS_PROFILE_BACKWARD).calls, 0);
    ck_assert_int_eq(sum_of(rig.ctx, "", "adamw", "", KDAS_PROFILE_UPDATE).calls, 2);
    ck_assert_int_eq(
        sum_of(rig.ctx, student, "linear", "backbone.block1.0.attn.q.linear", KDAS_PROFILE_FORWARD)
            .calls,
        2);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* Between kernels the step does next to nothing. The best of some tries: the machine may be busy. */
START_TEST(rows_add_up_to_the_time_that_passed)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;
    double              share = 0;

    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 2, SIDE);
    kd_assert_ok(kdas_context_profile(rig.ctx, 1));
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL)); /* compiles */
    for (int i = 0; i < 10 && share < 0.8; i++) {
        double start, all, wall;

        kd_assert_ok(kdas_profile_reset(rig.ctx));
        start = kd_now();
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
        wall = kd_now() - start;
        all  = sum_of(rig.ctx, NULL, NULL, NULL, -1).seconds;
        ck_assert_double_gt(all, 0);
        ck_assert_double_lt(all, wall);
        if (all / wall > share) share = all / wall;
    }
    ck_assert_msg(share >= 0.8, "rows hold %g of the time", share);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* The operations are those of kdas_model_cost: two for a multiply-accumulate, and ops without any beside. */
/* A thread is idle for no longer than the row took, and one thread alone never is. */
START_TEST(idle_time_is_within_that_of_the_threads)
{
    for (int32_t threads = 1; threads <= 3; threads++) {
        kdas_context_options o;
        kdas_model_options   mo;
        kdas_context        *ctx;
        kdas_model          *m;
        kdas_batch          *b;
        double               idle = 0;

        kdas_context_options_init(&o, sizeof o);
        kdas_model_options_init(&mo, sizeof mo);
        o.threads    = threads;
        mo.trainable = 0;
        kd_assert_ok(kdas_context_create(&ctx, &o));
        kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", &mo));
        b = draw(ctx, 1, SIDE);
        kd_assert_ok(kdas_context_profile(ctx, 1));
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
        for (int32_t i = 0; i < kdas_profile_count(ctx); i++) {
            kdas_profile_row r = row_at(ctx, i);

            ck_assert_double_ge(r.idle, 0);
            ck_assert_double_le(r.idle, r.seconds * threads);
            idle += r.idle;
        }
        if (threads == 1) ck_assert_double_eq(idle, 0);
        if (threads == 3) ck_assert_double_gt(idle, 0); /* small maps are not divided */
        kdas_batch_destroy(b);
        kdas_model_destroy(m);
        kdas_context_destroy(ctx);
    }
}
END_TEST

START_TEST(operations_are_those_of_the_model)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *m;
    kdas_batch   *b = draw(ctx, 1, SIDE);
    double        macs, flop = 0;

    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_cost(ctx, "polyp_pvt_b0", SIDE, SIDE, KDAS_COUNT_MACS, NULL, &macs));
    kd_assert_ok(kdas_context_profile(ctx, 1));
    for (int i = 0; i < 3; i++)
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    for (int32_t number = 1; number < 64; number++) {
        const kd_op *op = kd_op_find(number);

        if (op && op->macs) flop += sum_of(ctx, NULL, op->name, NULL, KDAS_PROFILE_FORWARD).flop;
    }
    ck_assert_double_eq_tol(flop / (3 * 2 * macs), 1, 1e-12);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- One convolution, counted by hand ---- */

typedef struct net {
    kdas_context *ctx;
    kd_params    *params;
    kd_arena     *arena;
    kd_program   *p;
    float         x[2 * 5 * 6 * 3], dx[2 * 5 * 6 * 3];
} net;

/* x (2,5,6,3), w (4,3,3,3), b (4), stride 1, pad 1: y (2,5,6,4), then relu. */
static kd_graph *build(const net *n)
{
    const kd_init init = { KD_TRAINABLE, KD_INIT_UNIFORM, 0.5f };
    kd_graph     *g    = kd_graph_create(n->ctx, n->params, KD_EVAL);
    kd_node      *x    = kd_input(g, "x", kd_desc(2, 5, 6, 3), true);
    kd_node      *w    = kd_param(g, "w", init, 4, (const int64_t[]){ 4, 3, 3, 3 });
    kd_node      *b    = kd_param(g, "b", init, 1, (const int64_t[]){ 4 });

    kd_scope(g, "head");
    kd_output(g, "y", kd_relu(g, kd_conv2d(g, x, w, b, 1, 1)));
    kd_scope_end(g);
    return g;
}

static void net_open(net *n, kd_test_meter *meter)
{
    *n = (net){ .ctx = kd_test_device("cpu", meter) };
    kd_assert_ok(kd_params_create(&n->params, n->ctx));
    kd_graph_destroy(build(n));
    kd_assert_ok(kd_params_seal(n->params, true));
    kd_assert_ok(kd_params_init(n->params, 7));
    n->arena = kd_arena_create(n->ctx);
    kd_assert_ok(kd_program_create(&n->p, build(n), n->arena));
    kd_program_label(n->p, "tiny");
    kd_test_fill(n->x, 2 * 5 * 6 * 3, "x", 1, 0);
    kd_program_bind(n->p, kd_find(kd_program_graph(n->p), "x"), n->x, n->dx);
}

static void net_close(net *n)
{
    kd_program_destroy(n->p);
    kd_arena_destroy(n->arena);
    kd_params_destroy(n->params);
    kdas_context_destroy(n->ctx);
}

START_TEST(operations_and_bytes_of_a_known_convolution)
{
    const double     macs = 2.0 * 5 * 6 * 4 * 27, x = 4.0 * 180, w = 4.0 * 108, y = 4.0 * 240;
    kdas_profile_row r;
    net              n;

    net_open(&n, NULL);
    kd_assert_ok(kdas_context_profile(n.ctx, 1));
    for (int i = 0; i < 2; i++) {
        kd_assert_ok(kd_program_forward(n.p, 0));
        kd_assert_ok(kd_program_backward(n.p));
    }
    r = sum_of(n.ctx, "tiny", "conv2d", "head.conv2d", KDAS_PROFILE_FORWARD);
    ck_assert_int_eq(r.calls, 2);
    ck_assert_double_eq(r.flop, 2 * 2 * macs);
    ck_assert_double_eq(r.bytes, 2 * (x + w + 16 + y));
    r = sum_of(n.ctx, "tiny", "conv2d", "head.conv2d", KDAS_PROFILE_BACKWARD);
    ck_assert_int_eq(r.calls, 2);
    ck_assert_double_eq(r.flop, 2 * 4 * macs);
    ck_assert_double_ge(r.bytes,
                        2 * (x + w + 16 + y)); /* results and dy; operands as the kernel needs */
    ck_assert_double_le(r.bytes, 2 * (2 * x + 2 * w + 16 + y));
    r = sum_of(n.ctx, "tiny", "relu", "head.relu", KDAS_PROFILE_FORWARD);
    ck_assert_double_eq(r.flop, 2 * 240);
    ck_assert_double_eq(r.bytes, 2 * (y + y));
    net_close(&n);
}
END_TEST

START_TEST(backward_counts_only_gradients_that_are_wanted)
{
    const kdas_conv_attr attr = { 1, { 1, 1 }, { 1, 1 }, 1, 1 };
    const kdas_kernel    k    = { .needs = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1) };
    kdas_node_desc       d    = { .op = KDAS_OP_CONV2D, .inputs = 2, .attr = &attr };
    double               macs = 5.0 * 6 * 4 * 27;

    d.in[0] = kd_desc(1, 5, 6, 3);
    d.in[1] = (kdas_desc){ KDAS_F32, 4, { 4, 3, 3, 3 } };
    d.out   = kd_desc(1, 5, 6, 4);
    d.wants = 1;
    ck_assert_double_eq(kd_work_of(&d, &k, KDAS_PROFILE_BACKWARD).flop, 2 * macs);
    d.wants = 2;
    ck_assert_double_eq(kd_work_of(&d, &k, KDAS_PROFILE_BACKWARD).flop, 2 * macs);
    d.wants = 3;
    ck_assert_double_eq(kd_work_of(&d, &k, KDAS_PROFILE_BACKWARD).flop, 4 * macs);
    ck_assert_double_eq(kd_work_of(&d, &k, KDAS_PROFILE_BACKWARD).bytes,
                        4 * (120 + 2 * 90 + 2 * 108));
}
END_TEST

START_TEST(bytes_follow_the_type_of_each_operand)
{
    const kdas_kernel k = { 0 };
    kdas_node_desc    d = { .op = KDAS_OP_RELU, .inputs = 1, .in = { kd_desc(1, 2, 3, 4) } };

    d.out = d.in[0];
    ck_assert_double_eq(kd_work_of(&d, &k, KDAS_PROFILE_FORWARD).bytes, 24 * (4 + 4));
    d.out.dtype = KDAS_BF16;
    ck_assert_double_eq(kd_work_of(&d, &k, KDAS_PROFILE_FORWARD).bytes, 24 * (4 + 2));
    d.in[0].dtype = KDAS_BF16;
    ck_assert_double_eq(kd_work_of(&d, &k, KDAS_PROFILE_FORWARD).bytes, 24 * (2 + 2));
}
END_TEST

START_TEST(updates_count_state_as_read_and_written)
{
    kdas_node_desc d = { .op = KDAS_OP_ADAMW, .inputs = 4 };

    for (int i = 0; i < 4; i++)
        d.in[i] = (kdas_desc){ KDAS_F32, 1, { 10, 1, 1, 1 } };
    ck_assert_double_eq(kd_work_of(&d, NULL, KDAS_PROFILE_UPDATE).bytes, 10 * 4 * 7);
    ck_assert_double_eq(kd_work_of(&d, NULL, KDAS_PROFILE_UPDATE).flop, 10);
}
END_TEST

/* ---- On, off, reset ---- */

START_TEST(off_means_no_rows_and_the_same_bits)
{
    float *before, *after;
    net    n;
    size_t bytes = 240 * sizeof(float);

    net_open(&n, NULL);
    before = malloc(bytes);
    after  = malloc(bytes);
    kd_assert_ok(kd_program_forward(n.p, 0));
    memcpy(before, kd_program_value(n.p, kd_find(kd_program_graph(n.p), "y")), bytes);
    ck_assert_int_eq(kdas_profile_count(n.ctx), 0);
    kd_assert_ok(kdas_context_profile(n.ctx, 1));
    ck_assert_int_eq(kdas_profile_count(n.ctx), 0);
    kd_assert_ok(kd_program_forward(n.p, 0));
    memcpy(after, kd_program_value(n.p, kd_find(kd_program_graph(n.p), "y")), bytes);
    ck_assert(kd_test_same_bits(before, after, bytes));
    ck_assert_int_gt(kdas_profile_count(n.ctx), 0);
    kd_assert_ok(kdas_context_profile(n.ctx, 0));
    kd_assert_ok(kd_program_forward(n.p, 0));
    ck_assert_int_eq(sum_of(n.ctx, NULL, "conv2d", NULL, KDAS_PROFILE_FORWARD).calls, 1);
    free(before);
    free(after);
    net_close(&n);
}
END_TEST

START_TEST(reset_forgets_and_later_calls_count_anew)
{
    net n;

    net_open(&n, NULL);
    kd_assert_ok(kdas_context_profile(n.ctx, 1));
    kd_assert_ok(kd_program_forward(n.p, 0));
    kd_assert_ok(kd_program_forward(n.p, 0));
    kd_assert_ok(kdas_profile_reset(n.ctx));
    ck_assert_int_eq(kdas_profile_count(n.ctx), 0);
    kd_assert_ok(kd_program_backward(n.p));
    ck_assert_int_eq(sum_of(n.ctx, NULL, NULL, NULL, KDAS_PROFILE_FORWARD).calls, 0);
    ck_assert_int_eq(sum_of(n.ctx, NULL, "conv2d", NULL, KDAS_PROFILE_BACKWARD).calls, 1);
    net_close(&n);
}
END_TEST

START_TEST(rows_outlive_their_program)
{
    kdas_profile_row r;
    kdas_context    *ctx = kd_test_device("cpu", NULL);
    kdas_model      *m;
    kdas_batch      *b = draw(ctx, 1, 32);

    kd_assert_ok(kdas_context_profile(ctx, 1));
    for (int i = 1; i <= 2; i++) { /* the second model's rows are the first's */
        kd_assert_ok(kdas_model_create(&m, ctx, "pvt_v2_b0", NULL));
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
        kdas_model_destroy(m);
        r = sum_of(ctx, "pvt_v2_b0 infer 1x32x32", "linear", "block1.0.attn.q.linear",
                   KDAS_PROFILE_FORWARD);
        ck_assert_int_eq(r.calls, i);
    }
    kdas_batch_destroy(b);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(second_profiled_step_allocates_nothing)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;
    long                taken;

    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 2, 32);
    kd_assert_ok(kdas_context_profile(rig.ctx, 1));
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    taken = meter.taken;
    kd_assert_ok(kdas_profile_reset(rig.ctx));
    for (int i = 0; i < 3; i++)
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    ck_assert_int_eq(meter.taken, taken);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* ---- Faults ---- */

START_TEST(failing_allocation_is_a_status_and_can_be_tried_again)
{
    for (long k = 1, done = 0; !done; k++) {
        kd_test_meter meter = { 0 };
        net           n;
        kdas_status   st;

        net_open(&n, &meter);
        meter.fail_at = meter.taken + k;
        st            = kdas_context_profile(n.ctx, 1);
        if (st == KDAS_OK) st = kd_program_forward(n.p, 0);
        done = st == KDAS_OK;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %d %s", k, st, kdas_last_error());
        ck_assert(done || kdas_profile_count(n.ctx) == 0);
        meter.fail_at = 0;
        kd_assert_ok(kdas_context_profile(n.ctx, 1));
        kd_assert_ok(kd_program_forward(n.p, 0));
        ck_assert_int_gt(kdas_profile_count(n.ctx), 0);
        net_close(&n);
        kd_test_assert_given_back(&meter);
    }
}
END_TEST

START_TEST(misuse_is_refused_with_a_sentence)
{
    kdas_context         *ctx = kd_test_device("cpu", NULL);
    kdas_profile_row      r   = { 0 };
    kdas_profile_roofline f   = { 0 };

    ck_assert_int_eq(kdas_profile_count(NULL), 0);
    kd_assert_status(kdas_context_profile(NULL, 1), KDAS_EINVAL);
    kd_assert_status(kdas_profile_reset(NULL), KDAS_EINVAL);
    kd_assert_ok(kdas_profile_reset(ctx)); /* never switched on */
    kd_assert_status(kdas_profile_at(ctx, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_profile_at(ctx, 0, &r), KDAS_EINVAL);
    kd_assert_sentence("size");
    r.size = sizeof r;
    r.op   = "untouched";
    kd_assert_status(kdas_profile_at(ctx, 0, &r), KDAS_ENOTFOUND);
    kd_assert_sentence("0 rows");
    kd_assert_ok(kdas_context_profile(ctx, 1));
    kd_assert_status(kdas_profile_at(ctx, -1, &r), KDAS_ENOTFOUND);
    ck_assert_str_eq(r.op, "untouched");
    kd_assert_status(kdas_profile_measure_roofline(ctx, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_profile_measure_roofline(ctx, &f), KDAS_EINVAL);
    kd_assert_sentence("size");
    ck_assert_str_eq(kdas_profile_part_name(KDAS_PROFILE_UPDATE), "update");
    ck_assert_ptr_null(kdas_profile_part_name((kdas_profile_part)77));
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- The machine ---- */

START_TEST(the_roofline_is_measured_and_leaves_no_rows)
{
    kd_test_meter         meter    = { 0 };
    kdas_context         *ctx      = kd_test_device("cpu", &meter);
    kdas_profile_roofline roofline = { .size = sizeof roofline };

    kd_assert_ok(kdas_context_profile(ctx, 1));
    kd_assert_ok(kdas_profile_measure_roofline(ctx, &roofline));
    ck_assert_double_gt(roofline.gemm, 1e8);
    ck_assert_double_gt(roofline.triad, 1e8);
    ck_assert_int_eq(kdas_profile_count(ctx), 0);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* Rows tell bf16 from f32; what stands outside of the network's products stays f32. */
START_TEST(rows_tell_their_precision)
{
    kdas_context_options  o;
    kdas_context         *ctx;
    kdas_model           *m;
    kdas_batch           *b;
    kdas_profile_roofline roofline = { .size = sizeof roofline };
    int                   count = 0, half = 0;

    kdas_context_options_init(&o, sizeof o);
    o.threads   = 2;
    o.precision = KDAS_PRECISION_BF16_IF_ABLE;
    kd_assert_ok(kdas_context_create(&ctx, &o));
    b = draw(ctx, 1, SIDE);
    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_context_profile(ctx, 1));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    for (; count < kdas_profile_count(ctx); count++)
        half += row_at(ctx, count).precision == KDAS_PRECISION_BF16;
    ck_assert_int_gt(count, half);
    kd_assert_ok(kdas_profile_measure_roofline(ctx, &roofline));
    ck_assert_int_eq(kdas_context_precision(ctx) == KDAS_PRECISION_BF16, half > 0);
    ck_assert_int_eq(roofline.gemm_bf16 > 0, half > 0);
    ck_assert_double_gt(roofline.gemm, 0);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(the_roofline_without_memory_is_a_status)
{
    for (long k = 1; k < 20; k += 3) {
        kd_test_meter         meter    = { 0 };
        kdas_context         *ctx      = kd_test_device("cpu", &meter);
        kdas_profile_roofline roofline = { .size = sizeof roofline, .gemm = 7 };

        meter.fail_at = meter.taken + k;
        kd_assert_status(kdas_profile_measure_roofline(ctx, &roofline), KDAS_ENOMEM);
        ck_assert_double_eq(roofline.gemm, 7);
        kdas_context_destroy(ctx);
        kd_test_assert_given_back(&meter);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile");
    TCase *rows = tcase_create("rows"), *use = tcase_create("use"),
          *roofline = tcase_create("roofline");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_test(rows, a_step_shows_every_part_of_its_work);
    tcase_add_test(rows, rows_add_up_to_the_time_that_passed);
    tcase_add_test(rows, idle_time_is_within_that_of_the_threads);
    tcase_add_test(rows, operations_are_those_of_the_model);
    tcase_add_test(rows, operations_and_bytes_of_a_known_convolution);
    tcase_add_test(rows, backward_counts_only_gradients_that_are_wanted);
    tcase_add_test(rows, bytes_follow_the_type_of_each_operand);
    tcase_add_test(rows, updates_count_state_as_read_and_written);
    suite_add_tcase(suite, rows);
    tcase_add_test(use, off_means_no_rows_and_the_same_bits);
    tcase_add_test(use, reset_forgets_and_later_calls_count_anew);
    tcase_add_test(use, rows_outlive_their_program);
    tcase_add_test(use, second_profiled_step_allocates_nothing);
    tcase_add_test(use, failing_allocation_is_a_status_and_can_be_tried_again);
    tcase_add_test(use, misuse_is_refused_with_a_sentence);
    suite_add_tcase(suite, use);
    tcase_add_test(roofline, the_roofline_is_measured_and_leaves_no_rows);
    tcase_add_test(roofline, rows_tell_their_precision);
    tcase_add_test(roofline, the_roofline_without_memory_is_a_status);
    suite_add_tcase(suite, roofline);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
