/* check_own_step.c - what a step of distillation is made of, for hosts: such a step, written with public calls alone, does
 * what kdas_distiller_step does, bit by bit and with as many copies; the objective on models' outputs, marks. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/thin.h"
#include "support/train_util.h"

enum { N = 2, SIDE = 32, AREA = SIDE * SIDE };

static kdas_batch *draw(kdas_context *ctx, int t) { return kd_test_batch(ctx, N, SIDE, t); }

/* ---- A step of the host's own ---- */

typedef struct own {
    kdas_model *teacher, *student; /* teacher NULL: none */
    kdas_loss  *loss;
    kdas_optim *optim;
    int         accumulate, micro;
} own;

static own own_of(const kd_test_rig *rig, int accumulate)
{
    return (own){ rig->teacher, rig->student, rig->loss, rig->optim, accumulate, 0 };
}

#define TRY(call)                     \
    do {                              \
        if ((st = (call))) return st; \
    } while (0)

/* Both forwards, the objective and the backward. */
static kdas_status gather(own *o, kdas_batch *b, const kdas_maps *maps, kdas_loss_report *r)
{
    kdas_loss_run_options options;
    kdas_model           *teacher = NULL;
    kdas_status           st;

    kdas_loss_run_options_init(&options, sizeof options);
    options.scale        = 1.0f / (float)o->accumulate * (float)kdas_optim_loss_scale(o->optim);
    options.teacher_maps = maps;
    TRY(kdas_loss_check(o->loss, o->student, o->teacher, b, &options));
    TRY(kdas_batch_upload(b));
    if (kdas_loss_reads_teacher(o->loss, b)) teacher = o->teacher;
    if (teacher) TRY(kdas_model_forward(teacher, KDAS_MODE_INFER, b));
    if (o->micro == 0) {
        TRY(kdas_loss_mark(o->loss));
        TRY(kdas_model_mark(o->student));
    }
    TRY(kdas_model_forward(o->student, KDAS_MODE_TRAIN, b));
    TRY(kdas_loss_run(o->loss, o->student, teacher, b, &options, r));
    return kdas_model_backward(o->student, NULL);
}

static kdas_status update(own *o)
{
    kdas_status st;

    if (++o->micro < o->accumulate) return KDAS_OK;
    TRY(kdas_optim_step(o->optim));
    o->micro = 0;
    return kdas_model_zero_gradients(o->student);
}

/* All or nothing. */
static kdas_status own_step(own *o, kdas_batch *b, const kdas_maps *maps, kdas_loss_report *r)
{
    kdas_status st = gather(o, b, maps, r);

    kd_assert_ok(kdas_batch_settle(b));
    if (st == KDAS_OK) st = update(o);
    if (st == KDAS_OK) return st;
    kdas_loss_rollback(o->loss);
    kdas_model_rollback(o->student);
    kdas_model_zero_gradients(o->student);
    o->micro = 0;
    return st;
}

/* ---- It does what kdas_distiller_step does ---- */

enum { MODEL, HOST_MAPS, BATCH_MAPS, UNLABELLED, SHARE, ALONE, KINDS };

static kd_test_rig_options options_of(int kind, const char *device)
{
    kd_test_rig_options o = kind == ALONE ? kd_test_alone() : kd_test_rig_usual();

    o.device = device;
    if (kind == HOST_MAPS || kind == BATCH_MAPS) o.teacher = NULL;
    if (kind == UNLABELLED || kind == SHARE) o.distiller.accumulate = 2;
    if (kind == SHARE) o.loss.share = 0.5f;
    return o;
}

static kdas_batch *prepared(kdas_context *ctx, int kind, int t)
{
    kdas_batch *b = draw(ctx, t);
    float       p[AREA];
    kdas_view   view = { .data = p, .width = SIDE, .height = SIDE, .pixel = KDAS_PIXEL_GREYF32 };

    for (int k = 0; k < AREA; k++)
        p[k] = (float)((k * 7 + t) % 101) / 100;
    for (int i = 0; kind == BATCH_MAPS && i < N; i++)
        kd_assert_ok(kdas_batch_set_teacher(b, i, &view));
    if (kind == UNLABELLED || kind == BATCH_MAPS) kd_assert_ok(kdas_batch_set_labelled(b, 1, 0));
    if (t == 3) kdas_batch_images(b)[5] = NAN; /* a step that fails */
    return b;
}

typedef struct counts {
    long uploads, downloads, asyncs, waits, syncs, captures, launches;
} counts;

static counts look(void)
{
    return (counts){ kd_far.uploads, kd_far.downloads, kd_far.asyncs,  kd_far.waits,
                     kd_far.syncs,   kd_far.captures,  kd_far.launches };
}

enum { STEPS = 8 };
typedef struct outcome {
    kdas_status st[STEPS];
    double      total[STEPS], raw[STEPS][KDAS_TERMS], weighted[STEPS][KDAS_TERMS],
        gradient[STEPS][KDAS_TERMS];
} outcome;

static void note(outcome *to, int t, kdas_status st, double total, const double *raw,
                 const double *weighted, const double *gradient)
{
    to->st[t] = st;
    if (st != KDAS_OK) return;
    to->total[t] = total;
    memcpy(to->raw[t], raw, sizeof to->raw[t]);
    memcpy(to->weighted[t], weighted, sizeof to->weighted[t]);
    memcpy(to->gradient[t], gradient, sizeof to->gradient[t]);
}

/* Some steps; `mine`: those of the host's own. */
static counts steps(kd_test_rig *rig, int kind, int accumulate, bool ahead, bool mine, outcome *to)
{
    float           maps[3][N * 16 * 16];
    const float    *map[] = { maps[0], maps[1], maps[2] };
    const kdas_maps given = { map, 3, N, 16, 16 };
    own             o     = own_of(rig, accumulate);
    counts          begin = look(), end;

    memset(to, 0, sizeof *to);
    for (int t = 0; t < STEPS; t++) {
        kdas_batch *b    = prepared(rig->ctx, kind, t);
        bool        host = kind == HOST_MAPS;

        for (int k = 0; k < 3; k++)
            kd_test_fill(maps[k], N * 16 * 16, t % 2 ? "odd" : "even", 2, 0.1 * k);
        if (ahead) kd_assert_ok(kdas_batch_prefetch(b));
        if (mine) {
            kdas_loss_report r  = { .size = sizeof r };
            kdas_status      st = own_step(&o, b, host ? &given : NULL, &r);

            note(to, t, st, r.total, r.raw, r.weighted, r.gradient);
        } else {
            kdas_step_report r = { .size = sizeof r };
            kdas_status      st;

            if (host) kd_assert_ok(kdas_distiller_set_teacher_maps(rig->distiller, &given));
            st = kdas_distiller_step(rig->distiller, b, &r);
            note(to, t, st, r.total, r.raw, r.weighted, r.gradient);
        }
        kdas_batch_destroy(b);
    }
    end = look();
    for (size_t i = 0; i < sizeof end / sizeof(long); i++)
        ((long *)&end)[i] -= ((const long *)&begin)[i];
    return end;
}

START_TEST(a_step_by_public_calls_is_the_distillers)
{
    int                 kind = _i / 4;
    bool                far = _i % 4 >= 1, ahead = _i % 4 == 2;
    kd_test_rig_options o = options_of(kind, far ? "far" : "cpu");
    kd_test_rig         theirs, mine;
    outcome             want, got;
    counts              a, b;

    kd_far.no_ahead = _i % 4 == 3;
    kd_test_rig_make(&theirs, &o);
    a = steps(&theirs, kind, o.distiller.accumulate, ahead, false, &want);
    kd_test_rig_make(&mine, &o);
    kdas_distiller_destroy(mine.distiller);
    mine.distiller = NULL;
    b              = steps(&mine, kind, o.distiller.accumulate, ahead, true, &got);
    ck_assert(kd_test_same_bits(&want, &got, sizeof want));
    for (int t = 0; t < STEPS; t++)
        ck_assert_int_eq(got.st[t], t == 3 ? KDAS_ENUMERIC : KDAS_OK);
    ck_assert(got.total[STEPS - 1] != got.total[0]);
    ck_assert_int_eq(kdas_optim_updates(theirs.optim), kdas_optim_updates(mine.optim));
    kd_test_assert_same_weights(theirs.student, mine.student);
    ck_assert(kd_test_same_bits(&a, &b, sizeof a));
    ck_assert_int_eq(a.asyncs > 0, ahead);
    ck_assert_int_eq(a.uploads > 0, far);
    kd_test_rig_finish(&theirs);
    kd_test_rig_finish(&mine);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(a_step_of_the_hosts_own_allocates_nothing_later)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = options_of(_i % KINDS, _i < KINDS ? "cpu" : "far");
    kd_test_rig         rig;
    kdas_batch         *b;
    own                 mine;
    long                host = 0, device = 0;

    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    mine = own_of(&rig, 1);
    b    = prepared(rig.ctx, _i % KINDS == HOST_MAPS ? BATCH_MAPS : _i % KINDS, 0);
    for (int t = 0; t < 6; t++) {
        if (t == 3) { /* graphs are captured the second time */
            host   = atomic_load(&meter.taken);
            device = kd_far.allocs;
        }
        kd_assert_ok(own_step(&mine, b, NULL, NULL));
    }
    ck_assert_int_eq(atomic_load(&meter.taken), host);
    ck_assert_int_eq(kd_far.allocs, device);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* ---- The objective on models' outputs ---- */

START_TEST(an_objective_wants_forwards_that_are_there)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b, *small;
    kdas_loss_report    r = { .size = sizeof r };
    kdas_loss          *l;
    kdas_model         *s, *t;

    kd_test_rig_make(&rig, &o);
    l = rig.loss;
    s = rig.student;
    t = rig.teacher;
    b = draw(rig.ctx, 0);
    kd_assert_ok(kdas_batch_create(&small, rig.ctx, 1, SIDE, SIDE));
    kd_assert_ok(kdas_loss_check(l, s, t, b, NULL));
    kd_assert_status(kdas_loss_run(l, s, t, b, NULL, &r), KDAS_ESTATE);
    kd_assert_sentence("has had no forward");
    kd_assert_ok(kdas_model_forward(s, KDAS_MODE_EVAL, b));
    kd_assert_status(kdas_loss_run(l, s, t, b, NULL, &r), KDAS_ESTATE); /* the teacher */
    kd_assert_status(kdas_loss_run(l, s, NULL, b, NULL, &r), KDAS_ESTATE);
    kd_assert_sentence("needs a teacher");
    kd_assert_ok(kdas_model_forward(t, KDAS_MODE_INFER, small));
    kd_assert_status(kdas_loss_run(l, s, t, b, NULL, &r), KDAS_ESHAPE);
    kd_assert_sentence("teacher 'polyp_pvt_b0' was on 1x32x32");
    kd_assert_status(kdas_loss_run(l, s, t, small, NULL, &r), KDAS_ESHAPE);
    kd_assert_ok(kdas_model_forward(t, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_loss_run(l, s, t, b, NULL, &r));
    ck_assert(r.total > 0);
    kd_assert_ok(kdas_model_backward(s, NULL));
    kd_assert_status(kdas_loss_run(l, s, t, b, NULL, &r), KDAS_ESTATE); /* it had its backward */
    kd_assert_ok(kdas_model_forward(s, KDAS_MODE_EVAL, b));
    kd_assert_ok(kdas_model_trim(t, 0));
    kd_assert_status(kdas_loss_run(l, s, t, b, NULL, &r), KDAS_ESTATE);
    kd_assert_ok(kdas_model_forward(s, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_model_forward(t, KDAS_MODE_INFER, b));
    kd_assert_status(kdas_loss_run(l, s, t, b, NULL, &r), KDAS_ESTATE); /* no backward follows */
    kdas_batch_destroy(b);
    kdas_batch_destroy(small);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(an_objective_refuses_what_does_not_fit)
{
    kd_test_rig_options   o = kd_test_rig_usual();
    kd_test_rig           rig, other;
    kdas_batch           *b, *odd;
    kdas_loss_run_options run;
    kdas_maps             maps = { 0 };

    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&other, &o);
    b = draw(rig.ctx, 0);
    kd_assert_ok(kdas_batch_create(&odd, rig.ctx, 1, 33, 32));
    kd_assert_status(kdas_loss_check(rig.loss, other.student, NULL, b, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_loss_check(rig.loss, rig.student, other.teacher, b, NULL), KDAS_EINVAL);
    kd_assert_sentence("not of one context");
    kd_assert_status(kdas_loss_check(rig.loss, rig.student, rig.teacher, odd, NULL), KDAS_ESHAPE);
    kd_assert_status(kdas_loss_check(rig.loss, rig.student, NULL, b, NULL), KDAS_ESTATE);
    kd_assert_ok(kdas_loss_check(rig.loss, rig.student, NULL, NULL, NULL));
    kdas_loss_run_options_init(&run, sizeof run);
    run.teacher_maps = &maps;
    kd_assert_status(kdas_loss_check(rig.loss, rig.student, NULL, b, &run), KDAS_EINVAL);
    run.teacher_maps = NULL;
    for (int i = 0; i < 3; i++) {
        run.scale = i == 0 ? 0 : i == 1 ? -1 : (float)INFINITY;
        kd_assert_status(kdas_loss_check(rig.loss, rig.student, rig.teacher, b, &run), KDAS_EINVAL);
        kd_assert_sentence("scale");
    }
    ck_assert_int_eq(kdas_loss_reads_teacher(rig.loss, b), 1);
    kd_assert_ok(kdas_loss_set_guidance_factor(rig.loss, 0));
    ck_assert_int_eq(kdas_loss_reads_teacher(rig.loss, b), 0);
    kd_assert_ok(kdas_loss_check(rig.loss, rig.student, NULL, b, NULL));
    kd_assert_ok(kdas_batch_set_labelled(b, 0, 0));
    ck_assert_int_eq(kdas_loss_reads_teacher(rig.loss, b), 1);
    ck_assert_ptr_eq(kdas_loss_context(rig.loss), rig.ctx);
    ck_assert_ptr_eq(kdas_optim_model(rig.optim), rig.student);
    ck_assert_int_eq(kdas_model_maps(rig.student), 2);
    kdas_batch_destroy(b);
    kdas_batch_destroy(odd);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&other);
}
END_TEST

/* The same as on maps in host memory, and the gradients are those that it gives there. */
START_TEST(an_objective_on_outputs_is_that_on_host_maps)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_loss_report    there = { .size = sizeof there }, here = { .size = sizeof here };
    static float        map[4][N * AREA], gradient[2][N * AREA];
    const float        *s[] = { map[0], map[1] }, *t[] = { map[2], map[3] };
    float              *to[]    = { gradient[0], gradient[1] };
    const float        *from[]  = { gradient[0], gradient[1] };
    kdas_maps           student = { s, 2, N, SIDE, SIDE }, teacher = { t, 2, N, SIDE, SIDE };
    static float        tensor[2][1 << 20];
    kdas_batch         *b;
    int32_t             q;

    o.device = _i ? "far" : "cpu";
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, 0);
    q = kdas_model_find(rig.student, "backbone.patch_embed1.proj.weight");
    for (int i = 0; i < 2; i++) {
        kd_assert_ok(kdas_model_zero_gradients(rig.student));
        kd_assert_ok(kdas_model_forward(rig.teacher, KDAS_MODE_INFER, b));
        kd_assert_ok(kdas_model_forward(rig.student, KDAS_MODE_EVAL, b));
        if (i) {
            for (int k = 0; k < 4; k++)
                kd_assert_ok(kdas_model_read_output(k < 2 ? rig.student : rig.teacher,
                                                    k % 2 ? "P2" : "P1", map[k]));
            kd_assert_ok(
                kdas_loss_evaluate(rig.loss, &student, &teacher, kdas_batch_masks(b), to, &here));
            kd_assert_ok(kdas_model_backward(rig.student, from));
        } else {
            kd_assert_ok(kdas_loss_run(rig.loss, rig.student, rig.teacher, b, NULL, &there));
            kd_assert_ok(kdas_model_backward(rig.student, NULL));
        }
        kd_assert_ok(kdas_model_read_gradient(rig.student, q, tensor[i]));
    }
    ck_assert(kd_test_same_bits(&there, &here, sizeof here));
    ck_assert(tensor[0][3] != 0);
    ck_assert(kd_test_same_bits(tensor[0], tensor[1], sizeof tensor[0]));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Marks ---- */

static kdas_model *model_on(kdas_context *ctx)
{
    kdas_model *m;

    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    return m;
}

static float first_logit(kdas_model *m)
{
    float map[N * AREA];

    kd_assert_ok(kdas_model_read_output(m, "P1", map));
    return map[0];
}

START_TEST(a_rollback_takes_back_what_training_forwards_did)
{
    kdas_context *ctx = kd_test_device(_i ? "far" : "cpu", NULL);
    kdas_model   *m   = model_on(ctx), *was;
    kdas_batch   *b   = draw(ctx, 0);
    float         first;
    uint64_t      zeroed = kdas_model_zeroed(m);

    was = model_on(ctx);
    kd_assert_status(kdas_model_rollback(m), KDAS_ESTATE);
    kd_assert_sentence("kdas_model_mark");
    kd_assert_ok(kdas_model_mark(m));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    first = first_logit(m);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    ck_assert(first_logit(m) != first); /* other paths are dropped */
    for (int i = 0; i < 2; i++) {
        kd_assert_ok(kdas_model_rollback(m));
        kd_test_assert_same_weights(m, was);
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
        ck_assert(first_logit(m) == first);
    }
    ck_assert_uint_eq(kdas_model_zeroed(m), zeroed);
    kd_assert_ok(kdas_model_zero_gradients(m));
    ck_assert_uint_ne(kdas_model_zeroed(m), zeroed);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_model_destroy(was);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(generations_tell_forwards_apart)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *m   = model_on(ctx);
    kdas_batch   *b   = draw(ctx, 0);
    uint64_t      first;

    ck_assert_uint_eq(kdas_model_generation(m), 0);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    first = kdas_model_generation(m);
    ck_assert_uint_ne(first, 0);
    ck_assert_uint_eq(kdas_model_generation(m), first);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    ck_assert_uint_ne(kdas_model_generation(m), first);
    ck_assert_uint_ne(kdas_model_generation(m), 0);
    kd_assert_ok(kdas_model_trim(m, 0));
    ck_assert_uint_eq(kdas_model_generation(m), 0);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

static void start(void) { kd_far = (kd_test_far){ 0 }; }

static TCase *named(Suite *suite, const char *name)
{
    TCase *t = tcase_create(name);

    tcase_add_checked_fixture(t, start, NULL);
    suite_add_tcase(suite, t);
    return t;
}

int main(void)
{
    Suite   *suite   = suite_create("own_step");
    TCase   *same    = named(suite, "a step");
    TCase   *outputs = named(suite, "outputs"), *marks = named(suite, "marks");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_loop_test(same, a_step_by_public_calls_is_the_distillers, 0, 4 * KINDS);
    tcase_add_loop_test(same, a_step_of_the_hosts_own_allocates_nothing_later, 0, 2 * KINDS);
    tcase_add_test(outputs, an_objective_wants_forwards_that_are_there);
    tcase_add_test(outputs, an_objective_refuses_what_does_not_fit);
    tcase_add_loop_test(outputs, an_objective_on_outputs_is_that_on_host_maps, 0, 2);
    tcase_add_loop_test(marks, a_rollback_takes_back_what_training_forwards_did, 0, 2);
    tcase_add_test(marks, generations_tell_forwards_apart);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
