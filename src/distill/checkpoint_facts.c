/* checkpoint_facts.c - the settings of a distiller as named values: written into a checkpoint, and
 * read from one. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "distill/checkpoint.h"

/* ---- the optimizer's numbers ---- */

typedef enum field_type { FLOAT32, INT32, INT64 } field_type;

typedef struct field {
    const char *name; /* of its record */
    size_t      offset;
    field_type  type;
    double      least, most;
    const char *range; /* the same in words, behind "not" */
} field;

#define FIELD(member, ...)                                                  \
    {                                                                       \
        "optim." #member, offsetof(kdas_optim_options, member), __VA_ARGS__ \
    }
#define ABOVE_0 (double)FLT_TRUE_MIN, (double)FLT_MAX, "above 0 and finite"
#define FROM_0  0, (double)FLT_MAX, "0 or above and finite"
#define BELOW_1 0, 1 - (double)FLT_EPSILON / 2, "from 0 to below 1"
static const field fields[] = {
    FIELD(lr, FLOAT32, ABOVE_0),
    FIELD(weight_decay, FLOAT32, FROM_0),
    FIELD(beta1, FLOAT32, BELOW_1),
    FIELD(beta2, FLOAT32, BELOW_1),
    FIELD(eps, FLOAT32, ABOVE_0),
    FIELD(momentum, FLOAT32, 0, 1, "from 0 to 1"),
    FIELD(nesterov, INT32, INT32_MIN, INT32_MAX, "a whole number of 32 bits"),
    FIELD(clamp, FLOAT32, FROM_0),
    FIELD(clip_norm, FLOAT32, FROM_0),
    FIELD(warmup, INT64, 0, 0x1p53, "a whole number from 0 to 2^53"),
    FIELD(total, INT64, 0, 0x1p53, "a whole number from 0 to 2^53"),
    FIELD(step_every, INT64, 1, 0x1p53, "a whole number from 1 to 2^53"),
    FIELD(step_factor, FLOAT32, ABOVE_0),
    FIELD(power, FLOAT32, FROM_0),
    FIELD(lr_min, FLOAT32, FROM_0),
    FIELD(loss_scale, FLOAT32, 0, KD_SCALE_MOST, "0 or a power of two from 1 to 2^24"),
    FIELD(loss_scale_every, INT32, 0, INT32_MAX, "a whole number from 0 to 2147483647"),
};

/* A double holds every field without loss, whole numbers up to 2^53. */
static double get_field(const void *options, const field *f)
{
    const char *at = (const char *)options + f->offset;

    switch (f->type) {
    case FLOAT32: return *(const float *)at;
    case INT32: return *(const int32_t *)at;
    default: return (double)*(const int64_t *)at;
    }
}

static bool is_possible(const field *f, double value)
{
    if (!(value >= f->least && value <= f->most)) return false; /* NaN, too */
    if (f->type != FLOAT32) return value == floor(value);
    return f->offset != offsetof(kdas_optim_options, loss_scale) || value == 0 ||
           kd_scale_possible(value);
}

/* False, and nothing set, where the value cannot be. */
static bool set_field(void *options, const field *f, double value)
{
    char *at = (char *)options + f->offset;

    if (!is_possible(f, value)) return false;
    switch (f->type) {
    case FLOAT32: *(float *)at = (float)value; break;
    case INT32: *(int32_t *)at = (int32_t)value; break;
    case INT64: *(int64_t *)at = (int64_t)value; break;
    }
    return true;
}

static const char *text_of(const kd_facts *facts, const char *name)
{
    const kdas_record *r = kd_fact_find(facts, name);

    return r ? r->text : NULL;
}

static bool from_file(const char *record) { return kd_resume_rule(record) == KD_FROM_FILE; }

/* A length of 0 means unset: the file's length is used. */
static bool keep_ours(const kdas_optim_options *o, const field *f)
{
    return !from_file(f->name) &&
           (f->offset != offsetof(kdas_optim_options, total) || o->total > 0);
}

kdas_status kd_checkpoint_take_optim(kdas_optim_options *o, const kd_facts *theirs,
                                     const char *path)
{
    for (size_t i = 0; i < KD_COUNT(fields); i++) {
        const kdas_record *r    = kd_fact_find(theirs, fields[i].name);
        kdas_optim_options test = *o;

        if (!r) continue;
        if (!set_field(keep_ours(o, &fields[i]) ? &test : o, &fields[i], r->numbers[0]))
            return kd_fail(KDAS_EFORMAT, "record '%s' of checkpoint '%s' is %g, not %s",
                           fields[i].name, path, r->numbers[0], fields[i].range);
    }
    if (from_file("optim.schedule") && text_of(theirs, "optim.schedule"))
        o->schedule = text_of(theirs, "optim.schedule");
    if (from_file("optim.no_decay") && text_of(theirs, "optim.no_decay"))
        o->no_decay = text_of(theirs, "optim.no_decay");
    if (o->no_decay && !*o->no_decay) o->no_decay = NULL;
    return KDAS_OK;
}

/* ---- lists ---- */

/* What the networks compute in. */
static const char *precision_of(const kdas_context *ctx)
{
    switch (kdas_context_precision(ctx)) {
    case KDAS_PRECISION_BF16: return "bf16";
    case KDAS_PRECISION_F16: return "f16";
    case KDAS_PRECISION_TF32: return "tf32";
    default: return "f32";
    }
}

/* The objective's members by their names, from the given ones on; a text that is NULL is empty. */
static void add_loss(kd_facts *facts, kdas_loss_options *o, int texts, int numbers)
{
    for (int i = texts; i < KD_LOSS_TEXTS; i++) {
        const char *text = *kd_loss_text(o, i);

        kd_fact_text(facts, kd_loss_texts[i].name, text ? text : "");
    }
    for (int i = numbers; i < KD_LOSS_NUMBERS; i++)
        kd_fact_number(facts, kd_loss_numbers[i].name, (double)*kd_loss_number(o, i));
}

static void add_grids(kd_facts *facts, const kdas_model *student)
{
    bool grids = kdas_model_quantized(student) == KDAS_QUANTIZE_INT8;

    kd_fact_text(facts, "model.quantize", grids ? "int8" : "none");
    kd_fact_text(facts, "model.wide", kdas_model_wide(student));
    if (grids)
        kd_fact_number(facts, "model.range_momentum", (double)student->options.range_momentum);
}

kdas_status kd_checkpoint_facts_init(kd_checkpoint_facts *facts, const kdas_distiller *d)
{
    const kdas_optim_options *o    = &d->optim->options;
    kdas_loss_options         loss = d->loss->options;
    kd_facts                 *list = &facts->list;

    facts->ctx      = d->ctx;
    facts->pairs[0] = 0;
    list->count = list->hashes = 0;
    facts->no_decay            = kd_strdup(d->ctx, o->no_decay ? o->no_decay : "");
    if (!facts->no_decay) return KDAS_ENOMEM;
    if (d->feature) kd_feature_pairs(facts->pairs, d->feature);
    kd_fact_text(list, "model", d->student->def->name);
    kd_fact_number(list, "model.drop_path", (double)d->student->options.drop_path);
    add_grids(list, d->student);
    kd_fact_text(list, "precision", precision_of(d->ctx));
    kd_fact_text(list, "optim.rule", o->rule);
    kd_fact_text(list, "optim.schedule", o->schedule);
    kd_fact_text(list, "optim.no_decay", facts->no_decay);
    for (size_t i = 0; i < KD_COUNT(fields); i++)
        kd_fact_number(list, fields[i].name, get_field(o, &fields[i]));
    add_loss(list, &loss, 0, 0);
    kd_fact_text(list, "feature.teacher", d->feature ? d->teacher->def->name : "");
    kd_fact_text(list, "feature.pairs", facts->pairs);
    kd_fact_number(list, "micro.accumulate", d->options.accumulate);
    kd_fact_number(list, "average.decay", (double)d->options.ema);
    return KDAS_OK;
}

void kd_checkpoint_facts_finish(kd_checkpoint_facts *facts)
{
    if (facts->ctx) kd_free(facts->ctx, facts->no_decay);
}

kdas_status kd_settings_agree(kdas_ranks *ranks, const kdas_distiller *d)
{
    kd_checkpoint_facts facts = { 0 };
    kdas_status         st    = kdas_ranks_vote(ranks, kd_checkpoint_facts_init(&facts, d));

    if (st == KDAS_OK) st = kd_facts_agree(ranks, &facts.list);
    kd_checkpoint_facts_finish(&facts);
    return st;
}

void kd_checkpoint_defaults(kd_facts *facts)
{
    kdas_loss_options loss;

    kdas_loss_options_init(&loss, sizeof loss);
    facts->count = facts->hashes = 0;
    kd_fact_text(facts, "model.quantize", "none");
    kd_fact_text(facts, "model.wide", "");
    kd_fact_text(facts, "precision", "f32");
    add_loss(facts, &loss, KD_LOSS_FIRST_TEXTS, KD_LOSS_FIRST_NUMBERS);
    kd_fact_text(facts, "feature.teacher", "");
    kd_fact_text(facts, "feature.pairs", "");
}

static kdas_status read_number(double *out, kd_container *file, const kd_st_tensor *t)
{
    int64_t whole;

    if (t->dtype != KD_ST_I64) return kd_container_get_f64(file, t->name, out);
    KD_RETURN(kd_container_get_i64(file, t->name, &whole));
    *out = (double)whole;
    return KDAS_OK;
}

kdas_status kd_checkpoint_read_facts(kd_facts *facts, kd_container *file, const kd_facts *like)
{
    facts->count = facts->hashes = 0;
    for (int i = 0; i < like->count; i++) {
        const char         *name = like->record[i].name, *text;
        const kd_st_tensor *t    = kd_container_find(file, name);
        double              number;

        if (like->record[i].text && kd_container_has_text(file, name)) {
            KD_RETURN(kd_container_get_text(file, name, &text));
            kd_fact_text(facts, name, text);
        } else if (!like->record[i].text && t) {
            KD_RETURN(read_number(&number, file, t));
            kd_fact_number(facts, name, number);
        }
    }
    return KDAS_OK;
}
