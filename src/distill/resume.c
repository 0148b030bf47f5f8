/* resume.c - the table of settings that may differ between a checkpoint and the run that resumes
 * from it, and the rule for each difference. */
#include "distill/resume.h"
#include "base/text.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- the table ---- */

#define KD_FRAMES_BACK "put frames, split and held-out share back as they were to go on"

/* docs/training.md has it in words. Of several differences the first row that refuses is named. */
static const kd_resume_row rows[] = {
    /* the network */
    { "model", KD_REFUSED, KD_DAMAGED },
    { "model.drop_path", KD_REFUSED, KD_DAMAGED },
    { "model.quantize", KD_REFUSED, KD_MEANS_DEFAULT, .what = "grid of the student's layers" },
    { "model.wide", KD_REFUSED, KD_MEANS_DEFAULT, .what = "list of layers that are not on grids" },
    { "model.range_momentum", KD_REFUSED, KD_ABSENT, .what = "momentum of ranges" },
    { "precision", KD_FROM_HERE, KD_MEANS_DEFAULT },

    /* the optimizer: it continues unchanged, except for the length of its schedule */
    { "optim.rule", KD_REFUSED, KD_DAMAGED },
    { "optim.lr", KD_FROM_FILE, KD_DAMAGED },
    { "optim.weight_decay", KD_FROM_FILE, KD_DAMAGED },
    { "optim.no_decay", KD_FROM_FILE, KD_DAMAGED },
    { "optim.beta1", KD_FROM_FILE, KD_DAMAGED },
    { "optim.beta2", KD_FROM_FILE, KD_DAMAGED },
    { "optim.eps", KD_FROM_FILE, KD_DAMAGED },
    { "optim.momentum", KD_FROM_FILE, KD_DAMAGED },
    { "optim.nesterov", KD_FROM_FILE, KD_DAMAGED },
    { "optim.clamp", KD_FROM_FILE, KD_DAMAGED },
    { "optim.clip_norm", KD_FROM_FILE, KD_DAMAGED },
    { "optim.schedule", KD_FROM_FILE, KD_DAMAGED },
    { "optim.step_factor", KD_FROM_FILE, KD_DAMAGED, .schedules = " step " },
    { "optim.power", KD_FROM_FILE, KD_DAMAGED, .schedules = " poly " },
    { "optim.lr_min", KD_FROM_FILE, KD_DAMAGED, .schedules = " cosine poly " },
    { "optim.warmup", KD_FROM_HERE, KD_DAMAGED },
    { "optim.total", KD_FROM_HERE, KD_DAMAGED, .schedules = " cosine poly " },
    { "optim.step_every", KD_FROM_HERE, KD_DAMAGED, .schedules = " step " },
    { "optim.loss_scale", KD_FROM_FILE, KD_NOT_COMPARED },
    { "optim.loss_scale_every", KD_FROM_FILE, KD_NOT_COMPARED },

    /* the objective: from `input` on, its members came with 0.4 */
    { "loss.seg", KD_REFUSED, KD_DAMAGED },
    { "loss.guidance", KD_REFUSED, KD_DAMAGED },
    { "loss.sym", KD_REFUSED, KD_DAMAGED },
    { "loss.axis", KD_REFUSED, KD_DAMAGED },
    { "loss.tau", KD_REFUSED, KD_DAMAGED },
    { "loss.seg_weight", KD_REFUSED, KD_DAMAGED },
    { "loss.guidance_weight", KD_REFUSED, KD_DAMAGED },
    { "loss.input", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.similarity", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.pair", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.distance", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.kd_weight", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.sgm_weight", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.share", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.feature", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.feature_taps", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.feature_weight", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.feature_tau", KD_REFUSED, KD_MEANS_DEFAULT },
    { "loss.feature_share", KD_REFUSED, KD_MEANS_DEFAULT },
    { "feature.teacher", KD_REFUSED, KD_MEANS_DEFAULT, .what = "teacher of features" },
    { "feature.pairs", KD_REFUSED, KD_MEANS_DEFAULT, .what = "pairs of features" },

    /* the step */
    { "micro.accumulate", KD_REFUSED, KD_DAMAGED, KD_ACCUMULATING,
      "number of micro-batches in an update", "some of them wait for the rest" },
    { "micro.accumulate", KD_FROM_HERE, KD_DAMAGED, KD_BETWEEN_UPDATES,
      "number of micro-batches in an update" },
    { "average.decay", KD_FROM_HERE, KD_ABSENT, .what = "decay of the moving average" },

    /* the run: training and validation data */
    { "run.seed", KD_REFUSED, KD_DAMAGED, .what = "seed" },
    { "run.frames", KD_REFUSED, KD_NOT_COMPARED, .what = "hash of the training frames",
      .why  = "frames came, went or moved, and what was trained on may be in the validation set",
      .cure = KD_FRAMES_BACK },
    { "run.validation", KD_REFUSED, KD_NOT_COMPARED, .what = "hash of the validation frames",
      .why  = "its best score is of other frames, which may have moved between the sets",
      .cure = KD_FRAMES_BACK },
    { "run.teacher", KD_REFUSED, KD_NOT_COMPARED, .what = "teacher" },
    { "run.teacher_values", KD_REFUSED, KD_NOT_COMPARED, .what = "hash of the teacher's values",
      .cure = "give the teacher its former weights to go on" },
    { "run.batch", KD_REFUSED, KD_NOT_COMPARED, .what = "batch size",
      .cure = "images of a rank times ranks must be the former value to go on" },
    { "run.ranks", KD_NOTED, KD_ABSENT, .what = "number of ranks" },
    { "run.height", KD_REFUSED, KD_NOT_COMPARED, .what = "height of a batch" },
    { "run.width", KD_REFUSED, KD_NOT_COMPARED, .what = "width of a batch" },
    { "run.scales", KD_REFUSED, KD_NOT_COMPARED, .what = "list of scales" },
    { "run.drop_last", KD_REFUSED, KD_NOT_COMPARED, .what = "loader's drop_last" },
    { "run.batches", KD_REFUSED, KD_NOT_COMPARED, .what = "number of batches in an epoch" },
    { "run.loader_seed", KD_REFUSED, KD_NOT_COMPARED, .what = "loader's seed" },
    { "run.shuffle", KD_REFUSED, KD_NOT_COMPARED, .what = "loader's shuffle" },
    { "run.empty_share", KD_REFUSED, KD_NOT_COMPARED, .what = "share of frames without a polyp" },
    { "run.epochs", KD_NOTED, KD_NOT_COMPARED, .what = "number of epochs" },
    { "run.max_steps", KD_NOTED, KD_NOT_COMPARED, .what = "limit of steps (0: none)" },
    { "run.ramp_up", KD_REFUSED, KD_NOT_COMPARED, .what = "ramp_up" },
    { "run.ramp_down", KD_REFUSED, KD_NOT_COMPARED, .what = "ramp_down" },
    { "run.freeze_ranges", KD_REFUSED, KD_ABSENT, .what = "freeze_ranges" },
    { "run.ramp_epochs", KD_FROM_HERE, KD_NOT_COMPARED, .what = "epoch at which ramp_down ends" },

    /* augmentation: it may change at a resume */
    { "run.augment", KD_FROM_HERE, KD_NOT_COMPARED, .what = "augment" },
    { "run.rotation", KD_FROM_HERE, KD_NOT_COMPARED, .what = "rotation" },
    { "run.scale_min", KD_FROM_HERE, KD_NOT_COMPARED, .what = "scale_min" },
    { "run.scale_max", KD_FROM_HERE, KD_NOT_COMPARED, .what = "scale_max" },
    { "run.crop", KD_FROM_HERE, KD_NOT_COMPARED, .what = "crop" },
    { "run.crop_aspect", KD_FROM_HERE, KD_NOT_COMPARED, .what = "crop_aspect" },
    { "run.brightness", KD_FROM_HERE, KD_NOT_COMPARED, .what = "brightness" },
    { "run.contrast", KD_FROM_HERE, KD_NOT_COMPARED, .what = "contrast" },
    { "run.saturation", KD_FROM_HERE, KD_NOT_COMPARED, .what = "saturation" },
    { "run.hue", KD_FROM_HERE, KD_NOT_COMPARED, .what = "hue" },
    { "run.blur", KD_FROM_HERE, KD_NOT_COMPARED, .what = "blur" },
    { "run.cutout", KD_FROM_HERE, KD_NOT_COMPARED, .what = "cutout" },

    /* validation from here on */
    { "run.validation_height", KD_FROM_HERE, KD_NOT_COMPARED,
      .what = "height of validation frames" },
    { "run.validation_width", KD_FROM_HERE, KD_NOT_COMPARED, .what = "width of validation frames" },
    { "run.evaluate_ema", KD_FROM_HERE, KD_NOT_COMPARED, .what = "evaluate_ema" },
};

const kd_resume_row *kd_resume_row_at(int i)
{
    return i >= 0 && i < (int)KD_COUNT(rows) ? &rows[i] : NULL;
}

kd_rule kd_resume_rule(const char *record)
{
    for (size_t i = 0; i < KD_COUNT(rows); i++)
        if (strcmp(rows[i].record, record) == 0) return rows[i].rule;
    return KD_REFUSED;
}

/* ---- facts ---- */

static kdas_record *add(kd_facts *facts, const char *name)
{
    kdas_record *r = &facts->record[facts->count];

    assert(facts->count < KD_FACTS);
    *r = (kdas_record){ .name = name, .numbers = facts->number[facts->count++] };
    return r;
}

void kd_fact_text(kd_facts *facts, const char *name, const char *text)
{
    kdas_record *r = add(facts, name);

    r->text    = text;
    r->numbers = NULL;
}

void kd_fact_numbers(kd_facts *facts, const char *name, const double *numbers, int64_t count)
{
    kdas_record *r = add(facts, name);

    assert(count >= 1 && count <= KD_FACT_NUMBERS);
    r->count = count;
    memcpy(facts->number[facts->count - 1], numbers, (size_t)count * sizeof *numbers);
}

void kd_fact_number(kd_facts *facts, const char *name, double number)
{
    kd_fact_numbers(facts, name, &number, 1);
}

void kd_fact_whole(kd_facts *facts, const char *name, uint64_t whole, int base)
{
    char *text;

    assert(facts->hashes < KD_FACT_HASHES && (base == 10 || base == 16));
    text = facts->hash[facts->hashes++];
    snprintf(text, sizeof facts->hash[0], base == 16 ? "%016llx" : "%llu",
             (unsigned long long)whole);
    kd_fact_text(facts, name, text);
}

const kdas_record *kd_fact_find(const kd_facts *facts, const char *name)
{
    for (int i = 0; facts && i < facts->count; i++)
        if (strcmp(facts->record[i].name, name) == 0) return &facts->record[i];
    return NULL;
}

/* ---- comparing ---- */

static bool same(const kdas_record *a, const kdas_record *b)
{
    if (a->text || b->text) return a->text && b->text && strcmp(a->text, b->text) == 0;
    if (a->count != b->count) return false;
    for (int64_t i = 0; i < a->count; i++)
        if (!(a->numbers[i] == b->numbers[i])) return false;
    return true;
}

/* A row with a difference. */
typedef struct finding {
    const kd_resume_row *row;
    const kdas_record   *ours, *theirs; /* theirs NULL: the file lacks it */
} finding;

/* Whether the schedule, which is the file's, reads the record. */
static bool is_read(const kd_resume *r, const kd_resume_row *row)
{
    const kdas_record *schedule = kd_fact_find(r->theirs, "optim.schedule");
    char               name[32];

    if (!row->schedules || !schedule || !schedule->text) return true;
    snprintf(name, sizeof name, " %.24s ", schedule->text);
    return strstr(row->schedules, name) != NULL;
}

/* Whether the row's record is missing in the file or differs. */
static bool differs(finding *f, const kd_resume *r, const kd_resume_row *row)
{
    if (row->when != KD_ALWAYS && (row->when == KD_ACCUMULATING) != r->accumulating) return false;
    *f = (finding){ row, kd_fact_find(r->ours, row->record), kd_fact_find(r->theirs, row->record) };
    if (!f->ours) return false;
    if (!f->theirs && row->missing == KD_MEANS_DEFAULT)
        f->theirs = kd_fact_find(r->defaults, row->record);
    if (!f->theirs) return row->missing != KD_ABSENT;
    return is_read(r, row) && !same(f->ours, f->theirs);
}

enum { VALUE = 112 };

/* "'text'", "0.5", "0.5 1 1.5"; `digits` of each number. */
static void format_value(char to[VALUE], const kdas_record *r, int digits)
{
    size_t used = 0;

    to[0] = 0;
    if (r->text) snprintf(to, VALUE, "'%.64s'", r->text);
    for (int64_t i = 0; !r->text && i < r->count && used < VALUE; i++)
        used += (size_t)kd_format(to + used, VALUE - used, "%s%.*g", i ? " " : "", digits,
                                  r->numbers[i]);
}

/* Both values, with enough digits to show the difference. */
static void format_values(char ours[VALUE], char theirs[VALUE], const finding *f)
{
    format_value(ours, f->ours, 6);
    format_value(theirs, f->theirs, 6);
    if (strcmp(ours, theirs) != 0) return;
    format_value(ours, f->ours, 17);
    format_value(theirs, f->theirs, 17);
}

static const char *description_of(const kd_resume_row *row)
{
    return row->what ? row->what : row->record;
}

kdas_status kd_resume_check(const kd_resume *r)
{
    char    ours[VALUE], theirs[VALUE];
    finding f;

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        if (!differs(&f, r, &rows[i])) continue;
        if (!f.theirs && f.row->missing == KD_DAMAGED)
            return kd_fail(KDAS_EFORMAT, "checkpoint '%s' has no record '%s'", r->path,
                           f.row->record);
        if (!f.theirs || f.row->rule != KD_REFUSED) continue;
        format_values(ours, theirs, &f);
        return kd_fail(KDAS_EINVAL,
                       "'%s' is of another run: its %s is %s, here it is %s%s%s; %s, or begin a "
                       "new run",
                       r->path, description_of(f.row), theirs, ours, f.row->why ? ": " : "",
                       f.row->why ? f.row->why : "",
                       f.row->cure ? f.row->cure : "give it the former value to go on");
    }
    return KDAS_OK;
}

void kd_resume_log(const kd_resume *r, kdas_context *ctx)
{
    char    ours[VALUE], theirs[VALUE];
    finding f;

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        if (!differs(&f, r, &rows[i])) continue;
        if (!f.theirs) {
            kd_info(ctx, "'%s' does not say its %s: that is passed over", r->path,
                    description_of(f.row));
            continue;
        }
        format_values(ours, theirs, &f);
        if (f.row->rule == KD_FROM_FILE)
            kd_warn(ctx, "%s goes on at %s, as '%s' has it, not at %s", description_of(f.row),
                    theirs, r->path, ours);
        else
            kd_log(ctx, f.row->rule == KD_NOTED ? KDAS_LOG_INFO : KDAS_LOG_WARN,
                   "%s is %s from here on; '%s' had %s", description_of(f.row), ours, r->path,
                   theirs);
    }
}

/* ---- ranks ---- */

/* What a record is called, for which there may be several rows. */
static const char *called(const char *record)
{
    for (size_t i = 0; i < KD_COUNT(rows); i++)
        if (strcmp(rows[i].record, record) == 0) return description_of(&rows[i]);
    return record;
}

kdas_status kd_facts_agree(kdas_ranks *ranks, const kd_facts *facts)
{
    char   text[KD_FACTS * 32];
    size_t used = 0;

    if (kdas_ranks_count(ranks) == 1) return KDAS_OK;
    text[0] = 0;
    for (int i = 0; i < facts->count && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, " %s", facts->record[i].name);
    KD_RETURN(kdas_ranks_agree(ranks, "list of settings", text));
    for (int i = 0; i < facts->count; i++) {
        const kdas_record *r = &facts->record[i];

        used = 0;
        for (int64_t k = 0; !r->text && k < r->count && used < sizeof text; k++)
            used += (size_t)kd_format(text + used, sizeof text - used, "%s%.17g", k ? " " : "",
                                      r->numbers[k]);
        KD_RETURN(kdas_ranks_agree(ranks, called(r->name), r->text ? r->text : text));
    }
    return KDAS_OK;
}
