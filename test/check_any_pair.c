/* check_any_pair.c - a step of every network of models.def as a student and as a teacher. Networks of one kind (size, taps,
 * numbers of maps, answer) behave alike in a pair, so the smallest of each kind stands for it: each network is paired with
 * one of those, and those of each kind of maps with each other. Networks of one kind by the same build function differ in
 * their numbers of blocks and channels alone: of these the smallest is paired, and with LONG=1 each. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/feature_util.h"
#include "support/small_nets.h"
#include "support/thin.h"

enum { SIDE = 32, STRIDES = 6, ROOM = 64 };

/* What a pair depends on, and the size. */
typedef struct kind {
    int      maps;
    bool     last;
    int64_t  side;    /* 0: any                             */
    unsigned strides; /* bit k: it has a tap of stride 1 << k */
    int64_t  parameters;
} kind;

/* From a graph alone: no memory for values. */
static kind kind_of(kdas_context *ctx, int i)
{
    const kd_model_def *def  = kd_model_def_at(i);
    int64_t             side = kd_model_side(def);
    kind                k    = { .last = def->rules->last, .side = def->rules->side };
    kd_params          *params;
    kd_graph           *g;
    const kd_node      *node;

    kd_assert_ok(kd_params_create(&params, ctx));
    kd_assert_ok(
        kd_model_build(&g, ctx, def, params, kd_desc(1, side, side, 3), &(kd_model_form){ .mode = KD_INFER }));
    for (int o = 0; kd_graph_output(g, o, &node); o++)
        k.maps += node->desc.out.dim[3] == 1;
    for (int t = 0; kd_graph_tap(g, t, &node); t++)
        for (int s = 0; s < STRIDES; s++)
            if (node->desc.out.dim[1] << s == side && node->desc.out.dim[2] << s == side)
                k.strides |= 1u << s;
    k.parameters = kd_params_numbers(params);
    kd_graph_destroy(g);
    kd_params_destroy(params);
    return k;
}

static bool same_maps(const kind *a, const kind *b)
{
    return a->maps == b->maps && a->last == b->last;
}

static bool alike(const kind *a, const kind *b)
{
    return same_maps(a, b) && a->side == b->side && a->strides == b->strides;
}

static kind all[ROOM];
static int  models;

/* The smallest network of each kind. Networks of any size alone: the others take long. */
typedef struct speakers {
    int of[ROOM], count;
} speakers;

static void find_speakers(speakers *to, bool (*same)(const kind *a, const kind *b))
{
    to->count = 0;
    for (int i = 0; i < models; i++) {
        int k = 0;

        if (all[i].side) continue;
        while (k < to->count && !same(&all[to->of[k]], &all[i]))
            k++;
        if (k == to->count)
            to->of[to->count++] = i;
        else if (all[i].parameters < all[to->of[k]].parameters)
            to->of[k] = i;
    }
}

static void learn_kinds(kdas_context *ctx)
{
    for (models = 0; kdas_model_name(models); models++) {
        ck_assert_int_lt(models, ROOM);
        all[models] = kind_of(ctx, models);
    }
}

/* The smallest network that the same function builds and that is alike. */
static bool leads_its_family(int i)
{
    for (int k = 0; k < models; k++)
        if (kd_model_def_at(k)->build == kd_model_def_at(i)->build && alike(&all[k], &all[i]) &&
            all[k].parameters < all[i].parameters)
            return false;
    return true;
}

/* Their taps share a stride. */
static bool can_share(const kind *a, const kind *b) { return (a->strides & b->strides) != 0; }

static kd_test_rig_options options_of(int teacher, int student)
{
    static const char *const pairs[] = { "deep", "spread", "answer" };
    kd_test_rig_options      o = kd_test_with_feature(kd_test_features[(teacher + student) % 3]);
    bool                     guided = all[teacher].maps && all[student].maps;

    o.teacher    = kdas_model_name(teacher);
    o.student    = kdas_model_name(student);
    o.optim.rule = "sgd"; /* moments of large networks need memory */
    o.loss.pair  = pairs[(teacher + 2 * student) % 3];
    if (!all[student].maps) o.loss.seg_weight = 0;
    if (guided) o.loss.guidance = "kl";
    if (!can_share(&all[teacher], &all[student])) o.loss.feature = "none";
    return o;
}

static void assert_refused(int teacher, int student, kd_test_rig_options *o, const char *sentence)
{
    kd_model_def t = *kd_model_def_at(teacher), s = *kd_model_def_at(student);
    kd_test_rig  rig;
    kdas_status  st = kd_test_small_rig(&rig, &s, &t, o);

    ck_assert_msg(st == KDAS_ESHAPE || st == KDAS_EINVAL, "%s teaches %s", t.name, s.name);
    kd_assert_sentence(sentence);
    kd_assert_sentence(t.name);
    kd_assert_sentence(s.name);
    kd_test_rig_finish(&rig);
}

static void assert_teaches(int teacher, int student)
{
    kd_test_rig_options o       = options_of(teacher, student);
    int64_t             side    = all[teacher].side ? all[teacher].side : all[student].side;
    kdas_step_report    r       = { .size = sizeof r };
    bool                feature = strcmp(o.loss.feature, "none") != 0,
         guided                 = strcmp(o.loss.guidance, "none") != 0;
    kd_test_rig rig;
    kdas_batch *b;

    if (all[teacher].side && all[student].side && all[teacher].side != all[student].side) {
        assert_refused(teacher, student, &o, "they cannot see the same images");
        return;
    }
    if (!feature) {
        o.loss.feature = "normalised";
        assert_refused(teacher, student, &o, "has the stride of one of student");
        o.loss.feature = "none";
        if (!all[student].maps) return; /* nothing is left to learn */
    }
    kd_test_rig_make(&rig, &o);
    b = kd_test_small_batch(rig.ctx, side ? 1 : 2, side ? side : SIDE, "b");
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
    ck_assert_msg(r.updated && isfinite(r.total), "%s does not teach %s", o.teacher, o.student);
    ck_assert_msg(!feature || (r.raw[KDAS_TERM_FEATURE] > 0 && r.gradient[KDAS_TERM_FEATURE] > 0),
                  "%s gives %s no features", o.teacher, o.student);
    ck_assert_msg(!guided || (r.raw[KDAS_TERM_KD] > 0 && r.gradient[KDAS_TERM_KD] > 0),
                  "%s gives %s no maps", o.teacher, o.student);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}

START_TEST(any_network_teaches_and_learns)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    speakers      kinds, of_maps;
    int           partner;

    learn_kinds(ctx);
    kdas_context_destroy(ctx);
    if (!leads_its_family(_i) && !getenv("LONG")) return;
    find_speakers(&kinds, alike);
    find_speakers(&of_maps, same_maps);
    for (int k = 0; k < of_maps.count; k++)
        for (int l = 0; of_maps.of[k] == _i && l < of_maps.count; l++)
            assert_teaches(_i, of_maps.of[l]);
    partner = kinds.of[_i % kinds.count];
    assert_teaches(_i, partner);
    assert_teaches(partner, _i);
}
END_TEST

/* Objectives and segmenters count on it. */
START_TEST(maps_have_the_size_of_the_image)
{
    const kd_model_def *def  = kd_model_def_at(_i);
    int64_t             side = def->rules->side ? def->rules->side : SIDE;
    kdas_context       *ctx  = kd_test_device("cpu", NULL);
    kd_params          *params;
    kd_graph           *g;
    const kd_node      *node;

    kd_assert_ok(kd_params_create(&params, ctx));
    kd_assert_ok(
        kd_model_build(&g, ctx, def, params, kd_desc(2, side, side, 3), &(kd_model_form){ .mode = KD_TRAIN }));
    for (int i = 0; kd_graph_output(g, i, &node); i++)
        if (node->desc.out.dim[3] == 1)
            ck_assert_msg(node->desc.out.dim[0] == 2 && node->desc.out.dim[1] == side &&
                              node->desc.out.dim[2] == side,
                          "map %d of %s", i, def->name);
    kd_graph_destroy(g);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("any pair");
    TCase   *pairs = tcase_create("pairs");
    SRunner *runner;
    int      failed, count = 0;

    kd_test_quick_values(true);
    while (kdas_model_name(count))
        count++;
    tcase_set_timeout(pairs, 600);
    tcase_add_loop_test(pairs, any_network_teaches_and_learns, 0, count);
    tcase_add_loop_test(pairs, maps_have_the_size_of_the_image, 0, count);
    suite_add_tcase(suite, pairs);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
