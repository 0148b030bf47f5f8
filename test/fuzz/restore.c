/* restore.c - checkpoints of small training runs whose records were altered, with a checksum that is right: the input says
 * which records, and how. A restore that is refused changes nothing; one that is not refused can go on. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz/fuzz.h"
#include "base/context.h"
#include "io/container.h"
#include "support/check_util.h"
#include "support/small_nets.h"

enum { RUNS = 3, RECORDS = 512, EDITS = 4 };

typedef struct record {
    char       *name, *text; /* text NULL: a tensor */
    kd_st_dtype dtype;
    int         rank;
    int64_t     dim[KD_ST_MAX_RANK];
    size_t      bytes;
    void       *data;
} record;

/* A distiller between two steps, its checkpoint, and the checkpoint's records. */
typedef struct one_run {
    kd_test_rig rig;
    kdas_batch *batch;
    char        path[64];
    record      record[RECORDS];
    int         records;
    size_t      numbers;
    float      *weights;
} one_run;

static one_run      runs[RUNS];
static kd_model_def def;

/* ---- the runs ---- */

static kd_test_rig_options options_of(int i)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.device               = "cpu";
    o.optim.total          = 100;
    o.optim.schedule       = i ? "cosine" : "constant";
    o.optim.no_decay       = "bias,norm";
    o.distiller.ema        = i == 1 ? 0.9f : 0;
    o.distiller.accumulate = i == 2 ? 3 : 1;
    if (i == 1) kd_assert_ok(kdas_loss_options_preset(&o.loss, "kdas"));
    if (i == 2) o.optim.rule = "sgd";
    return o;
}

static void keep_tensor(one_run *r, kd_container *c, const kd_st_tensor *t)
{
    record *to = &r->record[r->records++];

    *to = (record){ strdup(t->name), NULL, t->dtype, t->rank, { 0 }, t->bytes, NULL };
    memcpy(to->dim, t->dim, sizeof to->dim);
    to->data = malloc(t->bytes + 1);
    kd_assert_ok(kd_container_get(c, t->name, t->dtype, t->rank, t->dim, to->data));
}

static void keep_records(one_run *r)
{
    kdas_context *ctx = kd_fuzz_begin();
    kd_container *c;
    const char   *text, *name;

    kd_assert_ok(kd_container_open(&c, ctx, r->path));
    ck_assert_int_lt(kd_container_count(c), RECORDS / 2);
    for (int64_t i = 0; i < kd_container_count(c); i++)
        keep_tensor(r, c, kd_container_at(c, i));
    for (int64_t i = 0; (text = kd_container_text_at(c, i, &name)); i++)
        if (kd_container_has_text(c, name))
            r->record[r->records++] = (record){ .name = strdup(name), .text = strdup(text) };
    kd_container_close(c);
    kd_fuzz_end();
}

static one_run *run_of(int i)
{
    one_run            *r      = &runs[i];
    kd_test_rig_options o      = options_of(i);
    kdas_progress     progress = { .size = sizeof progress, .epoch = 1, .position = 4, .seed = 3 };
    const double      sums[2]  = { 1, 2 };
    const kdas_record host[]   = { { "run.sums", NULL, sums, 2 }, { "a", "text", NULL, 0 } };
    char              name[32];

    if (r->records) return r;
    def = kd_test_small_def("small", KD_TEST_SMALL(2, KD_TEST_USUAL_STRIDES), &kd_rules_common);
    kd_assert_ok(kd_test_small_rig(&r->rig, &def, &def, &o));
    kd_assert_ok(kdas_model_set_fact(r->rig.student, "threshold", "0.25"));
    r->batch = kd_test_small_batch(r->rig.ctx, 2, 32, "fuzz");
    for (int t = 0; t < 2; t++)
        kd_assert_ok(kdas_distiller_step(r->rig.distiller, r->batch, NULL));
    snprintf(name, sizeof name, "run%d.kdas", i);
    snprintf(r->path, sizeof r->path, "%s", kd_fuzz_path(name));
    kd_assert_ok(
        kdas_checkpoint_save_records(r->rig.distiller, r->path, &progress, "notes", host, 2));
    r->weights = kd_test_weights(r->rig.student, &r->numbers);
    keep_records(r);
    return r;
}

/* ---- edits ---- */

static void alter_numbers(record *r, kd_fuzz_bytes *b)
{
    size_t  count = r->bytes / 8, at = kd_fuzz_byte(b);
    bool    all   = kd_fuzz_byte(b) % 2;
    int64_t whole = kd_fuzz_whole(b);
    double  real  = kd_fuzz_real(b);

    if (r->dtype == KD_ST_F32) count = r->bytes / 4;
    for (size_t i = 0; i < count; i++) {
        float narrow = (float)real;

        if (!all && i != at % count) continue;
        if (r->dtype == KD_ST_F32) memcpy((float *)r->data + i, &narrow, 4);
        if (r->dtype == KD_ST_F64) memcpy((double *)r->data + i, &real, 8);
        if (r->dtype == KD_ST_I64 || r->dtype == KD_ST_U64)
            memcpy((int64_t *)r->data + i, &whole, 8);
    }
}

/* As many bytes under another type or shape, or fewer. */
static void alter_shape(record *r, kd_fuzz_bytes *b)
{
    uint8_t how = kd_fuzz_byte(b);
    int64_t n;

    if (how % 3 == 0) r->dtype = (kd_st_dtype)(kd_fuzz_byte(b) % KD_ST_BOOL);
    n         = (int64_t)(r->bytes / kd_st_dtype_size(r->dtype));
    r->rank   = how % 3 == 1 ? 0 : how % 3 == 2 ? 2 : 1;
    r->dim[0] = how % 3 == 2 ? 1 : n;
    r->dim[1] = n > 1 ? n / 2 : n;
}

static void edit(record *r, kd_fuzz_bytes *b, char text[65])
{
    uint8_t what = kd_fuzz_byte(b) % 8;

    if (what == 0) r->name = NULL; /* dropped */
    if (what == 1) r->name = (char *)kd_fuzz_some_text(b, text, 64);
    if (what >= 2 && r->text) r->text = (char *)kd_fuzz_some_text(b, text, 64);
    if (what == 2 && !r->text) alter_shape(r, b);
    if (what > 2 && !r->text) alter_numbers(r, b);
}

/* The run's checkpoint with the edits that the input wants. False: no such file can be written. */
static bool forge(const one_run *r, kd_fuzz_bytes *b, const char *path)
{
    static record        now[RECORDS];
    static char          text[EDITS][65];
    void                *copy[EDITS] = { NULL };
    kd_container_writer *w;
    kdas_status          st = KDAS_OK;

    memcpy(now, r->record, sizeof now);
    for (int k = 0; k < EDITS && b->at < b->end; k++) {
        record *it = &now[kd_fuzz_number(b, 2) % (unsigned)r->records];

        copy[k] = malloc(it->bytes + 8);
        if (!it->text) memcpy(copy[k], it->data, it->bytes);
        if (!it->text) it->data = copy[k];
        if (it->name) edit(it, b, text[k]);
    }
    kd_assert_ok(kd_container_create(&w, kd_fuzz_begin()));
    for (int i = 0; i < r->records && st == KDAS_OK; i++) {
        if (!now[i].name) continue;
        if (now[i].text)
            st = kd_container_put_text(w, now[i].name, now[i].text);
        else
            st = kd_container_put(w, now[i].name, now[i].dtype, now[i].rank, now[i].dim,
                                  now[i].data);
    }
    if (st == KDAS_OK) st = kd_container_save(w, path);
    kd_container_discard(w);
    for (int k = 0; k < EDITS; k++)
        free(copy[k]);
    kd_fuzz_end();
    return st == KDAS_OK;
}

/* ---- the restore ---- */

static void assert_unchanged(const one_run *r, const char *why)
{
    size_t n;
    float *now  = kd_test_weights(r->rig.student, &n);
    bool   same = memcmp(now, r->weights, n * sizeof *now) == 0;

    free(now);
    ck_assert_msg(same, "refused (%s), but the student has changed", why);
    ck_assert_int_eq(kdas_optim_updates(r->rig.optim), r == &runs[2] ? 0 : 2);
}

static void go_on(one_run *r)
{
    kdas_step_report report = { .size = sizeof report };
    kdas_status      st     = kdas_distiller_step(r->rig.distiller, r->batch, &report);

    ck_assert_msg(st == KDAS_OK || st == KDAS_ENUMERIC || st == KDAS_ESTATE, "a step: %s (%s)",
                  kdas_status_name(st), kdas_last_error());
}

static void run(const uint8_t *data, size_t size)
{
    kd_fuzz_bytes b        = { data, data + size };
    one_run      *r        = run_of(kd_fuzz_byte(&b) % RUNS);
    uint8_t       how      = kd_fuzz_byte(&b);
    const char   *path     = kd_fuzz_path("edited.kdas");
    kdas_progress progress = { .size = sizeof progress, .epoch = 77 };
    kdas_status   st;

    if (!forge(r, &b, path)) return;
    st = kdas_checkpoint_load(r->rig.distiller, path, &progress);
    if (st) {
        ck_assert_int_eq(progress.epoch, 77);
        ck_assert_msg(st == KDAS_EFORMAT || st == KDAS_EINVAL || st == KDAS_ENOTFOUND ||
                          st == KDAS_ESHAPE || st == KDAS_ENUMERIC,
                      "%s: %s", kdas_status_name(st), kdas_last_error());
        assert_unchanged(r, kdas_last_error());
        return;
    }
    if (how % 2) go_on(r);
    kd_assert_ok(kdas_checkpoint_load(r->rig.distiller, r->path, NULL));
    assert_unchanged(r, "the run's own checkpoint");
}

static void seeds(void)
{
    /* one edit each: run, step, record (2), what, its values */
    static const uint8_t seed[][12] = {
        { 0, 1 },
        { 0, 1, 3, 0, 0 },
        { 0, 1, 40, 0, 3, 0, 1, 12, 14 },
        { 1, 1, 60, 0, 3, 0, 1, 10, 13 },
        { 1, 0, 90, 0, 2, 1 },
        { 2, 1, 20, 0, 4, 0, 1, 10, 10 },
        { 2, 0, 130, 0, 1, 3, 'a', 'b', 'c' },
    };

    for (size_t i = 0; i < KD_COUNT(seed); i++) {
        char name[16];

        snprintf(name, sizeof name, "edit%zu", i);
        kd_fuzz_seed(name, seed[i], sizeof seed[i]);
    }
}

const kd_fuzz_target kd_fuzz_restore = { "restore", run, NULL, seeds };
