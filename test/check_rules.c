/* check_rules.c - what a network's record means everywhere: the only size that it takes, its colours, its answer, and
 * parameters that no op reads. */
#include <check.h>
#include <kdas/export.h>
#include <kdas/infer.h>
#include <kdas/train.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "graph/build.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/onnx_walk.h"
#include "support/small_nets.h"

enum { SIDE = 64, AREA = SIDE * SIDE };

static const kdas_recolour_attr bgr = { { 2, 1, 0 }, { 0.5f, 2, 1 }, { 0.25f, -0.5f, 1 } };
static const kd_model_rules at64 = { .side = 64 }, at96 = { .side = 96 }, last = { .last = true },
                            coloured = { .colours = &bgr };

static kdas_model *make(kdas_context *ctx, int maps, const kd_model_rules *rules)
{
    static kd_model_def defs[8]; /* outlive the models; each test has a process of its own */
    static int          used;
    kd_model_def       *def = &defs[used++];
    kdas_model         *m;

    ck_assert_int_le(used, (int)KD_COUNT(defs));
    *def = kd_test_small_def("small", KD_TEST_SMALL(maps, KD_TEST_USUAL_STRIDES), rules);
    kd_assert_ok(kd_model_create(&m, ctx, def, NULL));
    return m;
}

/* ---- the only size ---- */

START_TEST(a_network_of_one_size_says_so_before_any_work)
{
    kdas_context     *ctx = kd_test_device("cpu", NULL);
    kdas_model       *m   = make(ctx, 1, &at64);
    kdas_batch       *b   = kd_test_small_batch(ctx, 1, 96, "b");
    kdas_layers      *layers;
    size_t            bytes;
    static const char sentence[] = "'small' takes images of 64x64 alone, not of 96x96";

    kd_assert_ok(kdas_model_check_size(m, 64, 64));
    kd_assert_status(kdas_model_check_size(m, 96, 96), KDAS_ESHAPE);
    kd_assert_sentence(sentence);
    kd_assert_status(kdas_model_check_size(m, 64, 96), KDAS_ESHAPE);
    kd_assert_sentence("not of 64x96");
    kd_assert_status(kdas_model_forward(m, KDAS_MODE_INFER, b), KDAS_ESHAPE);
    kd_assert_sentence(sentence);
    kd_assert_status(kdas_layers_create(&layers, m, 96, 96), KDAS_ESHAPE);
    kd_assert_sentence(sentence);
    kd_assert_status(kdas_model_memory(m, KDAS_MODE_INFER, 1, 96, 96, &bytes, NULL), KDAS_ESHAPE);
    kd_assert_sentence(sentence);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(its_size_is_the_default_whatever_its_weights_say)
{
    kdas_context          *ctx = kd_test_device("cpu", NULL);
    kdas_model            *m   = make(ctx, 1, &at64);
    kdas_segmenter        *s;
    kdas_segmenter_options o;
    int64_t                h, w;

    kd_assert_ok(kdas_model_set_fact(m, "height", "352"));
    kd_assert_ok(kdas_model_set_fact(m, "width", "352"));
    ck_assert_int_eq(kdas_model_input_size(m, &h, &w), 1);
    ck_assert(h == 64 && w == 64);
    kdas_segmenter_options_init(&o, sizeof o);
    kd_assert_ok(kdas_segmenter_create(&s, m, &o));
    kd_assert_ok(kdas_segmenter_get_options(s, &o));
    ck_assert(o.height == 64 && o.width == 64);
    kdas_segmenter_destroy(s);
    o.height = 352;
    o.width  = 352;
    kd_assert_status(kdas_segmenter_create(&s, m, &o), KDAS_ESHAPE);
    kd_assert_sentence("'small' takes images of 64x64 alone, not of 352x352");
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(its_export_has_its_size_and_no_free_one)
{
    kdas_context     *ctx  = kd_test_device("cpu", NULL);
    kdas_model       *m    = make(ctx, 1, &at64);
    const char       *path = kd_test_path("one.onnx");
    kdas_onnx_options o;
    kd_test_onnx     *f;

    kdas_onnx_options_init(&o, sizeof o);
    kd_assert_ok(kdas_model_export_onnx(m, path, &o));
    f = kd_test_onnx_read(path);
    ck_assert_int_eq(f->input[0].size[2], 64);
    kd_test_onnx_free(f);
    o.width = KDAS_ONNX_FREE;
    kd_assert_status(kdas_model_export_onnx(m, path, &o), KDAS_ESHAPE);
    kd_assert_sentence("'small' takes images of 64x64 alone: height and width cannot be free");
    o.width = 96;
    kd_assert_status(kdas_model_export_onnx(m, path, &o), KDAS_ESHAPE);
    kd_assert_sentence("not of 64x96");
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(networks_of_two_sizes_make_no_distiller)
{
    kd_model_def student =
                     kd_test_small_def("little", KD_TEST_SMALL(1, KD_TEST_USUAL_STRIDES), &at64),
                 teacher =
                     kd_test_small_def("large", KD_TEST_SMALL(1, KD_TEST_USUAL_STRIDES), &at96);
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;

    kd_assert_status(kd_test_small_rig(&rig, &student, &teacher, &o), KDAS_ESHAPE);
    kd_assert_sentence("teacher 'large' takes images of 96x96 alone, and student 'little' of 64x64 "
                       "alone: they cannot see the same images");
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_step_of_a_size_that_one_does_not_take_is_refused_unchanged)
{
    kd_model_def free_ = kd_test_small_def("free", KD_TEST_SMALL(1, KD_TEST_USUAL_STRIDES),
                                           &kd_rules_common),
                 fixed = kd_test_small_def("fixed", KD_TEST_SMALL(1, KD_TEST_USUAL_STRIDES), &at64);
    kd_test_rig_options o       = kd_test_rig_usual();
    const bool          teaches = _i == 0;
    kd_test_rig         rig;
    kdas_batch         *wrong, *right;

    kd_assert_ok(kd_test_small_rig(&rig, teaches ? &free_ : &fixed, teaches ? &fixed : &free_, &o));
    wrong = kd_test_small_batch(rig.ctx, 1, 96, "wrong");
    right = kd_test_small_batch(rig.ctx, 1, 64, "right");
    kd_assert_status(kdas_distiller_step(rig.distiller, wrong, NULL), KDAS_ESHAPE);
    kd_assert_sentence("'fixed' takes images of 64x64 alone, not of 96x96");
    ck_assert(kdas_model_generation(rig.student) == 0);
    ck_assert(kdas_model_generation(rig.teacher) == 0);
    kd_assert_ok(kdas_distiller_step(rig.distiller, right, NULL));
    kd_assert_ok(kdas_loss_set_guidance_factor(rig.loss, 0)); /* no teacher runs */
    kd_assert_status(kdas_distiller_step(rig.distiller, wrong, NULL),
                     teaches ? KDAS_OK : KDAS_ESHAPE);
    kdas_batch_destroy(wrong);
    kdas_batch_destroy(right);
    kd_test_rig_finish(&rig);
}
END_TEST

/* The loader's sizes, at every scale, and that of validation. */
START_TEST(a_run_refuses_sizes_before_its_first_step)
{
    static const float scales[] = { 1, 1.5f };
    kd_model_def       free_    = kd_test_small_def("free", KD_TEST_SMALL(1, 4), &kd_rules_common),
                 fixed          = kd_test_small_def("fixed", KD_TEST_SMALL(1, 4), &at64);
    kd_test_rig_options o       = kd_test_rig_usual();
    const bool          teaches = _i == 1;
    kd_test_rig         rig;
    kdas_scene_options  scenes;
    kdas_loader_options l;
    kdas_train_options  t;
    kdas_dataset       *frames;
    kdas_loader        *loader;
    int64_t             h, w;

    kd_assert_ok(kd_test_small_rig(&rig, teaches ? &free_ : &fixed, teaches ? &fixed : &free_, &o));
    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 2;
    scenes.width = scenes.height = 48;
    kd_assert_ok(kdas_dataset_synthetic(&frames, rig.ctx, &scenes));
    kdas_loader_options_init(&l, sizeof l);
    l.batch  = 1;
    l.height = l.width = 64;
    l.scales           = scales;
    l.scale_count      = 2;
    l.workers          = 0;
    kd_assert_ok(kdas_loader_create(&loader, frames, &l));
    ck_assert_int_eq(kdas_loader_size(loader, 0, &h, &w), 1);
    ck_assert(h == 64 && w == 64);
    ck_assert_int_eq(kdas_loader_size(loader, 1, &h, &w), 1);
    ck_assert(h == 96 && w == 96);
    ck_assert_int_eq(kdas_loader_size(loader, 2, &h, &w), 0);
    kdas_train_options_init(&t, sizeof t);
    t.epochs = 1;
    kd_assert_status(kdas_train(rig.distiller, loader, NULL, &t), KDAS_ESHAPE);
    kd_assert_sentence("'fixed' takes images of 64x64 alone, not of 96x96");
    ck_assert_int_eq(kdas_loader_position(loader), 0);
    kdas_loader_destroy(loader);
    l.scale_count = 0;
    l.scales      = NULL;
    kd_assert_ok(kdas_loader_create(&loader, frames, &l));
    t.height = t.width = 96;
    kd_assert_status(kdas_train(rig.distiller, loader, NULL, &t), teaches ? KDAS_OK : KDAS_ESHAPE);
    t.height = t.width = 0;
    kd_assert_ok(kdas_train(rig.distiller, loader, NULL, &t));
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(frames);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(every_network_says_its_size_and_answer)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);

    for (int i = 0; kdas_model_name(i); i++) {
        const kd_model_rules *rules = kd_model_def_at(i)->rules;
        kdas_network          n     = { .size = sizeof n };
        int64_t               count;
        double                macs;

        kd_assert_ok(kdas_network_describe(kdas_model_name(i), &n));
        ck_assert_str_eq(n.name, kdas_model_name(i));
        ck_assert_int_eq(n.fixed, rules->side != 0);
        ck_assert_int_eq(n.height, rules->side ? rules->side : 352);
        ck_assert(n.height == n.width && n.last == rules->last);
        kd_assert_ok(
            kdas_model_cost(ctx, n.name, n.height, n.width, KDAS_COUNT_MACS, &count, &macs));
        ck_assert(count > 0 && macs > 0);
        if (n.fixed)
            kd_assert_status(kdas_model_cost(ctx, n.name, 352 + 32 * (n.height == 352), 352,
                                             KDAS_COUNT_MACS, &count, &macs),
                             KDAS_ESHAPE);
    }
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(descriptions_are_of_known_networks)
{
    kdas_network n = { .size = sizeof n };

    kd_assert_status(kdas_network_describe("net", &n), KDAS_ENOTFOUND);
    kd_assert_status(kdas_network_describe(NULL, &n), KDAS_EINVAL);
    kd_assert_status(kdas_network_describe("lite_fpn0", NULL), KDAS_EINVAL);
    n.size = 0;
    kd_assert_status(kdas_network_describe("lite_fpn0", &n), KDAS_EINVAL);
    kd_assert_status(kdas_model_check_size(NULL, 64, 64), KDAS_EINVAL);
    ck_assert_int_eq(kdas_model_answer(NULL), 0);
    ck_assert_int_eq(kdas_model_idle(NULL, 0), 0);
    ck_assert_int_eq(kdas_loader_size(NULL, 0, NULL, NULL), 0);
}
END_TEST

/* ---- the answer ---- */

static void assert_answer(const kdas_model *m, const float *got)
{
    static float map[AREA], want[AREA];

    memset(want, 0, sizeof want);
    for (int i = kdas_model_answer(m); i < kdas_model_maps(m); i++) {
        kd_assert_ok(kdas_model_read_output(m, kdas_model_output(m, i, NULL), map));
        for (int k = 0; k < AREA; k++)
            want[k] += map[k];
    }
    kd_assert_close(got, want, AREA, 1e-6);
}

START_TEST(the_segmenter_adds_up_the_maps_of_the_answer)
{
    static uint8_t         pixels[AREA * 3];
    static float           got[AREA];
    kdas_context          *ctx = kd_test_device("cpu", NULL);
    kdas_model            *m   = make(ctx, 3, _i ? &last : &kd_rules_common);
    kdas_view              v   = { pixels, SIDE, SIDE, 0, KDAS_PIXEL_RGB8 };
    kdas_segmenter        *s;
    kdas_segmenter_options o;

    ck_assert_int_eq(kdas_model_maps(m), 3);
    ck_assert_int_eq(kdas_model_answer(m), _i ? 2 : 0);
    for (int i = 0; i < AREA * 3; i++)
        pixels[i] = (uint8_t)(127.5 + 127.5 * kd_test_unit("pixels", (uint64_t)i));
    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    kd_assert_ok(kdas_segmenter_create(&s, m, &o));
    kd_assert_ok(kdas_segmenter_logits(s, &v, got));
    assert_answer(m, got);
    ck_assert_ptr_nonnull(kdas_segmenter_map(s, 2, NULL, NULL)); /* all maps, for losses */
    kdas_segmenter_destroy(s);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* The additions of whole maps in the file: a network of n maps in its answer has n - 1. */
START_TEST(an_exported_file_adds_up_the_maps_of_the_answer)
{
    kdas_context     *ctx  = kd_test_device("cpu", NULL);
    kdas_model       *m    = make(ctx, 3, _i ? &last : &kd_rules_common);
    const char       *path = kd_test_path("sum.onnx");
    kdas_onnx_options o;
    kd_test_onnx     *f;
    int               added = 0;

    kdas_onnx_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    kd_assert_ok(kdas_model_export_onnx(m, path, &o));
    f = kd_test_onnx_read(path);
    ck_assert_int_eq(f->outputs, 1);
    ck_assert_str_eq(f->output[0].name, "logits");
    for (int i = 0; i < f->nodes; i++)
        added += strcmp(f->node[i].type, "Add") == 0 && strncmp(f->node[i].name, "outputs", 7) == 0;
    ck_assert_int_eq(added, _i ? 0 : 2);
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- colours ---- */

START_TEST(a_network_makes_its_colours_of_the_batchs)
{
    static float  want[AREA], got[AREA];
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *own = make(ctx, 1, &coloured), *plain = make(ctx, 1, &kd_rules_common);
    kdas_batch   *b = kd_test_small_batch(ctx, 1, SIDE, "b");
    float        *x = kdas_batch_images(b), y[3];

    kd_assert_ok(kdas_model_forward(own, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_model_read_output(own, "P1", got));
    for (int i = 0; i < AREA; i++, x += 3) {
        for (int c = 0; c < 3; c++)
            y[c] = bgr.factor[c] * x[bgr.source[c]] + bgr.offset[c];
        memcpy(x, y, sizeof y);
    }
    kd_assert_ok(kdas_model_forward(plain, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_model_read_output(plain, "P1", want));
    kd_assert_close(got, want, AREA, 1e-5);
    kdas_batch_destroy(b);
    kdas_model_destroy(own);
    kdas_model_destroy(plain);
    kdas_context_destroy(ctx);
}
END_TEST

/* What a host is told of them makes the same colours of pixels. */
START_TEST(described_colours_are_those_that_are_made)
{
    static const float mean[3]      = { 0.485f, 0.456f, 0.406f },
                       deviation[3] = { 0.229f, 0.224f, 0.225f };
    kd_model_def def                = kd_test_small_def("small", KD_TEST_SMALL(1, 0), &coloured);
    kdas_network n;

    kd_network_describe(&n, &def);
    ck_assert_str_eq(n.colour, "BGR");
    for (int c = 0; c < 3; c++) {
        int   from = bgr.source[c];
        float v = 0.7f, x = (v - mean[from]) / deviation[from];

        ck_assert_float_eq_tol((v - n.mean[c]) / n.deviation[c], bgr.factor[c] * x + bgr.offset[c],
                               1e-5f);
    }
    def.rules = &kd_rules_common;
    kd_network_describe(&n, &def);
    ck_assert_str_eq(n.colour, "RGB");
    for (int c = 0; c < 3; c++) {
        ck_assert_float_eq(n.mean[c], mean[c]);
        ck_assert_float_eq(n.deviation[c], deviation[c]);
    }
}
END_TEST

START_TEST(colours_are_made_in_f32_where_networks_compute_in_16_bits)
{
    kd_model_def         def = kd_test_small_def("small", KD_TEST_SMALL(1, 0), &coloured);
    kdas_context_options o;
    kdas_context        *ctx;
    kd_params           *params;
    kd_graph            *g;
    int                  made = 0, half = 0;

    if (!kd_test_can_half()) return;
    kdas_context_options_init(&o, sizeof o);
    o.precision = KDAS_PRECISION_BF16;
    kd_assert_ok(kdas_context_create(&ctx, &o));
    kd_assert_ok(kd_params_create(&params, ctx));
    kd_assert_ok(
        kd_model_build(&g, ctx, &def, params, kd_desc(1, SIDE, SIDE, 3), &(kd_model_form){ .mode = KD_TRAIN }));
    for (int i = 0; i < kd_graph_nodes(g); i++) {
        const kd_node *node = kd_graph_node(g, i);

        if (node->kind != KD_NODE_OP) continue;
        if (node->op == &kd_op_recolour) {
            ck_assert_int_eq(node->desc.out.dtype, KDAS_F32);
            made++;
        }
        half += node->op == &kd_op_conv2d && node->desc.out.dtype == KDAS_BF16;
    }
    ck_assert_int_eq(made, 1);
    ck_assert_int_gt(half, 0);
    kd_graph_destroy(g);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- parameters that no op reads ---- */

static const char *const unused[] = { "unused.conv.weight",    "unused.bn.weight",
                                      "unused.bn.bias",        "unused.bn.running_mean",
                                      "unused.bn.running_var", "unused.bn.num_batches_tracked" };

START_TEST(idle_parameters_are_counted_and_told_apart)
{
    kdas_context *ctx       = kd_test_device("cpu", NULL);
    kdas_model   *m         = make(ctx, 1, &kd_rules_common);
    int64_t       trainable = 0, dims[4];
    int32_t       rank, trains, idle = 0;

    for (int i = 0; i < kdas_model_tensors(m); i++) {
        int64_t     n    = 1;
        const char *name = kdas_model_tensor(m, i, &rank, dims, &trains);

        for (int k = 0; k < rank; k++)
            n *= dims[k];
        if (trains) trainable += n;
        ck_assert_int_eq(kdas_model_idle(m, i), strncmp(name, "unused", 6) == 0);
        ck_assert(!kdas_model_idle(m, i) || !trains);
        idle += kdas_model_idle(m, i);
    }
    ck_assert_int_eq(idle, (int)KD_COUNT(unused));
    ck_assert_int_eq(kdas_model_parameters(m), trainable + 5 * 3 * 9 + 5 + 5);
    kd_assert_status(kdas_model_read_gradient(m, kdas_model_find(m, unused[0]), (float[135]){ 0 }),
                     KDAS_EINVAL);
    kd_assert_sentence("has no gradient");
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

static void read_unused(float to[6][135], const kdas_model *m)
{
    memset(to, 0, 6 * sizeof *to);
    for (size_t k = 0; k < KD_COUNT(unused); k++)
        kd_assert_ok(kdas_model_read(m, kdas_model_find(m, unused[k]), to[k]));
}

/* Weight decay, clipping, the average and checkpoints. */
START_TEST(steps_leave_idle_parameters_as_they_are)
{
    static float before[6][135], after[6][135];
    kd_model_def def =
        kd_test_small_def("small", KD_TEST_SMALL(2, KD_TEST_USUAL_STRIDES), &kd_rules_common);
    kd_test_rig_options o        = kd_test_rig_usual();
    const char         *path     = kd_test_path("run.kdas");
    kdas_progress       progress = { .size = sizeof progress };
    kd_test_rig         rig;
    kdas_batch         *b;
    kdas_model         *average;
    kdas_checkpoint    *file;

    o.optim.weight_decay = 0.5f;
    o.optim.clip_norm    = 0.1f;
    o.distiller.ema      = 0.9f;
    kd_assert_ok(kd_test_small_rig(&rig, &def, &def, &o));
    b = kd_test_small_batch(rig.ctx, 2, SIDE, "b");
    for (int k = 0; k < 6; k++) /* values that no rule would make */
        for (int i = 0; i < 135; i++)
            before[k][i] = k == 5 ? 17 : (float)(k + 1) * 0.37f + (float)i;
    for (size_t k = 0; k < KD_COUNT(unused); k++)
        kd_assert_ok(
            kdas_model_write(rig.student, kdas_model_find(rig.student, unused[k]), before[k]));
    read_unused(before, rig.student);
    for (int i = 0; i < 3; i++)
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    read_unused(after, rig.student);
    ck_assert(kd_test_same_bits(before, after, sizeof before));
    kd_assert_ok(kd_model_create(&average, rig.ctx, &def, NULL));
    kd_assert_ok(kdas_distiller_read_average(rig.distiller, average));
    read_unused(after, average);
    ck_assert(kd_test_same_bits(before, after, sizeof before));
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, path, &progress, NULL));
    for (size_t k = 0; k < KD_COUNT(unused); k++)
        kd_assert_ok(kdas_model_write(rig.student, kdas_model_find(rig.student, unused[k]),
                                      (float[135]){ 0 }));
    kd_assert_ok(kdas_checkpoint_open(&file, rig.ctx, path));
    kd_assert_ok(kdas_checkpoint_restore(file, rig.distiller));
    kdas_checkpoint_destroy(file);
    read_unused(after, rig.student);
    ck_assert(kd_test_same_bits(before, after, sizeof before));
    kdas_model_destroy(average);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

static kdas_model *make_named(kdas_context *ctx, int strides, uint64_t seed)
{
    kd_model_def      *def = malloc(sizeof *def);
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.seed = seed;
    *def   = kd_test_small_def("small", KD_TEST_SMALL(1, strides), &kd_rules_common);
    kd_assert_ok(kd_model_create(&m, ctx, def, &o));
    return m;
}

START_TEST(files_have_idle_tensors_and_may_lack_them)
{
    static float  before[6][135], after[6][135];
    kdas_context *ctx  = kd_test_device("cpu", NULL);
    kdas_model   *from = make_named(ctx, 4, 1), *to = make_named(ctx, 4, 2),
               *bare  = make_named(ctx, 4 | KD_TEST_NOT_IDLE, 3);
    const char *whole = kd_test_path("whole.safetensors"), *less = kd_test_path("less.safetensors");
    kdas_load_options o;
    float             value[2][4];

    kd_assert_ok(kdas_model_set_fact(from, "note", "whole"));
    kd_assert_ok(kdas_model_set_fact(bare, "note", "less"));
    kd_assert_ok(kdas_model_save(from, whole));
    kd_assert_ok(kdas_model_save(bare, less));
    kd_assert_ok(kdas_model_load(to, whole, NULL));
    read_unused(before, from);
    read_unused(after, to);
    ck_assert(kd_test_same_bits(before, after, sizeof before));
    kd_assert_ok(kdas_model_load(to, less, NULL)); /* whole in all that runs: facts come, too */
    ck_assert_str_eq(kdas_model_fact(to, "note"), "less");
    read_unused(after, to);
    ck_assert(kd_test_same_bits(before, after, sizeof before));
    kd_assert_ok(kdas_model_read(to, kdas_model_find(to, "level0.bias"), value[0]));
    kd_assert_ok(kdas_model_read(bare, kdas_model_find(bare, "level0.bias"), value[1]));
    ck_assert(kd_test_same_bits(value[0], value[1], sizeof value[0]));
    kd_assert_status(kdas_model_load(bare, whole, NULL), KDAS_ENOTFOUND);
    kdas_load_options_init(&o, sizeof o);
    o.part = "level";
    kd_assert_ok(kdas_model_load(to, whole, &o));
    o.part = "unused.";
    kd_assert_status(kdas_model_load(to, less, &o), KDAS_ENOTFOUND);
    kdas_model_destroy(from);
    kdas_model_destroy(to);
    kdas_model_destroy(bare);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rules");
    TCase *size = tcase_create("size"), *answer = tcase_create("answer"),
          *colours = tcase_create("colours"), *idle = tcase_create("idle");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(size, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(size, a_network_of_one_size_says_so_before_any_work);
    tcase_add_test(size, its_size_is_the_default_whatever_its_weights_say);
    tcase_add_test(size, its_export_has_its_size_and_no_free_one);
    tcase_add_test(size, networks_of_two_sizes_make_no_distiller);
    tcase_add_loop_test(size, a_step_of_a_size_that_one_does_not_take_is_refused_unchanged, 0, 2);
    tcase_add_loop_test(size, a_run_refuses_sizes_before_its_first_step, 0, 2);
    tcase_add_test(size, every_network_says_its_size_and_answer);
    tcase_add_test(size, descriptions_are_of_known_networks);
    tcase_add_checked_fixture(answer, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(answer, the_segmenter_adds_up_the_maps_of_the_answer, 0, 2);
    tcase_add_loop_test(answer, an_exported_file_adds_up_the_maps_of_the_answer, 0, 2);
    tcase_add_test(colours, a_network_makes_its_colours_of_the_batchs);
    tcase_add_test(colours, described_colours_are_those_that_are_made);
    tcase_add_test(colours, colours_are_made_in_f32_where_networks_compute_in_16_bits);
    tcase_add_checked_fixture(idle, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(idle, idle_parameters_are_counted_and_told_apart);
    tcase_add_test(idle, steps_leave_idle_parameters_as_they_are);
    tcase_add_test(idle, files_have_idle_tensors_and_may_lack_them);
    suite_add_tcase(suite, size);
    suite_add_tcase(suite, answer);
    suite_add_tcase(suite, colours);
    suite_add_tcase(suite, idle);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
