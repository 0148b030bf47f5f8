/* train_manifest.c - run.json, beside each last.kdas: what a run was made with, for people and
 * other programs. docs/training.md has its keys. What must outlive a resume travels in last.kdas,
 * from which this file can be written again. train.c calls this file; it includes train.h, and
 * calls nothing in train.c. */
#include <string.h>
#include <time.h>
#include "distill/train.h"
#include "base/text.h"
#include "io/file.h"
#include "io/json_write.h"

#ifdef __clang__
#define KD_COMPILER __VERSION__
#else
#define KD_COMPILER "gcc " __VERSION__
#endif

enum { STAMP = 24, BLOCK = 1 << 16 };

/* Seconds since 1970, up to the year 9999. */
static bool is_time(double seconds) { return seconds >= 0 && seconds < 253402300800.0; }

/* "2026-01-31T12:00:00Z" */
static const char *stamp(char to[STAMP], double seconds)
{
    time_t    t = (time_t)seconds;
    struct tm parts;

    if (!gmtime_r(&t, &parts) || !strftime(to, STAMP, "%Y-%m-%dT%H:%M:%SZ", &parts)) to[0] = 0;
    return to;
}

static double now(void) { return (double)time(NULL); }

/* ---- weights that the models came with ---- */

/* FNV-1a of 64 bits over a file's bytes. */
static kdas_status hash_file(kd_train_weights *w, kdas_context *ctx, const char *path)
{
    kd_file       *file = NULL;
    unsigned char *part = kd_alloc(ctx, BLOCK);
    uint64_t       hash = 0xCBF29CE484222325u;
    kdas_status    st   = part ? KDAS_OK : KDAS_ENOMEM;

    if (st == KDAS_OK) st = kd_file_open(&file, ctx, path);
    for (uint64_t at = 0; st == KDAS_OK && at < kd_file_size(file);) {
        size_t n = (size_t)KD_MIN(kd_file_size(file) - at, (uint64_t)BLOCK);

        st = kd_file_read(file, at, part, n);
        for (size_t i = 0; st == KDAS_OK && i < n; i++)
            hash = (hash ^ part[i]) * 0x100000001B3u;
        at += n;
    }
    if (st == KDAS_OK) {
        w->bytes = (int64_t)kd_file_size(file);
        kd_format(w->hash, sizeof w->hash, "fnv1a64:%016llx", (unsigned long long)hash);
    }
    kd_file_close(file);
    kd_free(ctx, part);
    return st;
}

/* A file that is no longer there stays without a hash. */
static kdas_status add_weights(kd_train_manifest *m, const kdas_model *model, const char *role)
{
    const char *path;

    for (int32_t i = 0; model && (path = kdas_model_source(model, i)); i++) {
        kd_train_weights *w = &m->weights[m->weight_count];

        if (m->weight_count == KD_MANIFEST_WEIGHTS) return KDAS_OK;
        *w = (kd_train_weights){ .role = role, .path = kd_strdup(m->ctx, path), .bytes = -1 };
        if (!w->path) return KDAS_ENOMEM;
        m->weight_count++;
        if (hash_file(w, kdas_model_context(model), path) == KDAS_ENOMEM) return KDAS_ENOMEM;
    }
    return KDAS_OK;
}

static bool is_students(const kd_train_weights *w) { return strcmp(w->role, "student") == 0; }

/* As kd_train_manifest.student, of the files as they are now. */
static void put_students(const kd_train_manifest *m, char *to, size_t size)
{
    size_t at = 0;

    to[0] = 0;
    for (int i = 0; i < m->weight_count && at < size; i++)
        if (is_students(&m->weights[i]))
            at += (size_t)kd_format(to + at, size - at, "%s%s", at ? " " : "",
                                    *m->weights[i].hash ? m->weights[i].hash : "gone");
}

/* Its values are the checkpoint's. */
static void compare_students(kd_train_manifest *m, const kdas_record *began, const char *path)
{
    char        now_are[sizeof m->student];
    const char *were = began && began->text ? began->text : NULL;

    put_students(m, now_are, sizeof now_are);
    kd_format(m->student, sizeof m->student, "%s", were ? were : "");
    if (!were || !*now_are || strcmp(were, now_are) == 0) return;
    for (int i = 0; i < m->weight_count; i++)
        if (is_students(&m->weights[i]) && !strstr(were, m->weights[i].hash)) {
            kd_warn(m->ctx,
                    "'%s' is not the file that the student began with: it has no effect, and the "
                    "run goes on with the values in '%s'",
                    m->weights[i].path, path);
            return;
        }
}

/* ---- begin, resume ---- */

kdas_status kd_train_manifest_init(kd_train_manifest *m, kdas_context *ctx, const char *folder,
                                   const kdas_distiller *d)
{
    *m      = (kd_train_manifest){ .ctx = ctx, .started = now() };
    m->path = kd_path_join(ctx, folder, "run.json");
    if (!m->path) return KDAS_ENOMEM;
    KD_RETURN(add_weights(m, kdas_distiller_student(d), "student"));
    put_students(m, m->student, sizeof m->student);
    return add_weights(m, kdas_distiller_teacher(d), "teacher");
}

void kd_train_manifest_finish(kd_train_manifest *m)
{
    if (!m->ctx) return;
    for (int i = 0; i < m->weight_count; i++)
        kd_free(m->ctx, m->weights[i].path);
    kd_free(m->ctx, m->path);
    kd_free(m->ctx, m->resumes);
}

/* Records of the manifest in a checkpoint, either of which may be missing. */
static kdas_status check_records(const char *path, const kdas_record *started,
                                 const kdas_record *resumes)
{
    if (started && !(started->numbers && is_time(started->numbers[0])))
        return kd_fail(KDAS_EFORMAT, "checkpoint '%s': run.started is no time", path);
    for (int64_t i = 0; resumes && resumes->numbers && i < resumes->count; i++) {
        double number = resumes->numbers[i];

        if (i % KD_RESUME_NUMBERS == 0 ? !is_time(number) : !(number >= 0 && number <= 0x1p53))
            return kd_fail(KDAS_EFORMAT, "checkpoint '%s': number %lld of run.resumes cannot be %g",
                           path, (long long)i + 1, number);
    }
    return KDAS_OK;
}

kdas_status kd_train_manifest_resume(kd_train_manifest *m, const kdas_checkpoint *c,
                                     const char *path, const kdas_progress *at, int64_t batches)
{
    const kdas_record *started = kdas_checkpoint_find(c, "run.started");
    const kdas_record *resumes = kdas_checkpoint_find(c, "run.resumes");
    int64_t            old = resumes && resumes->numbers ? resumes->count / KD_RESUME_NUMBERS : 0;
    double            *new_one;

    KD_RETURN(check_records(path, started, resumes));
    compare_students(m, kdas_checkpoint_find(c, "run.student_files"), path);
    m->started = started && started->numbers ? started->numbers[0] : -1; /* of an earlier version */
    if (old >= KD_MOST_RESUMES) old = KD_MOST_RESUMES - 1; /* the first ones are kept */
    KD_RETURN(kd_grow(m->ctx, (void **)&m->resumes, &m->resume_room,
                      (size_t)(old + 1) * KD_RESUME_NUMBERS, sizeof *m->resumes));
    if (old)
        memcpy(m->resumes, resumes->numbers, (size_t)old * KD_RESUME_NUMBERS * sizeof *m->resumes);
    new_one         = m->resumes + old * KD_RESUME_NUMBERS;
    new_one[0]      = now();
    new_one[1]      = (double)at->epoch;
    new_one[2]      = (double)(at->position - at->epoch * batches);
    new_one[3]      = (double)at->position;
    m->resume_count = old + 1;
    return KDAS_OK;
}

int kd_train_manifest_records(const kd_train_manifest *m, kdas_record *to)
{
    int count = 0;

    if (m->started >= 0)
        to[count++] = (kdas_record){ .name = "run.started", .numbers = &m->started, .count = 1 };
    if (m->resume_count)
        to[count++] = (kdas_record){ .name    = "run.resumes",
                                     .numbers = m->resumes,
                                     .count   = m->resume_count * KD_RESUME_NUMBERS };
    if (*m->student)
        to[count++] = (kdas_record){ .name = "run.student_files", .text = m->student };
    return count;
}

/* ---- the text ---- */

static const char *fact_text(const kd_facts *facts, const char *name)
{
    const kdas_record *r = kd_fact_find(facts, name);

    return r ? r->text : NULL;
}

static void put_machine(kd_json_out *out, const kdas_context *ctx)
{
    static const char *const types[] = { [KDAS_PRECISION_F32]  = "f32",
                                         [KDAS_PRECISION_BF16] = "bf16",
                                         [KDAS_PRECISION_F16]  = "f16",
                                         [KDAS_PRECISION_TF32] = "tf32",
                                         [KDAS_PRECISION_INT8] = "int8" };
    kdas_precision           type    = kdas_context_precision(ctx);

    kd_json_put_text(out, "libkdas", kdas_version_string());
    kd_json_put_text(out, "compiler", KD_COMPILER);
    kd_json_put_text(out, "device", kdas_context_device(ctx)); /* with the libraries' versions */
    kd_json_put_whole(out, "threads", kdas_context_threads(ctx));
    kd_json_put_text(out, "dtype", (size_t)type < KD_COUNT(types) ? types[type] : NULL);
}

static void put_data(kd_json_out *out, const char *key, const kdas_dataset *frames,
                     const char *hash)
{
    if (!frames) {
        kd_json_put_text(out, key, NULL);
        return;
    }
    kd_json_begin(out, key, '{');
    kd_json_put_text(out, "hash", hash);
    kd_json_put_whole(out, "frames", kdas_dataset_count(frames));
    kd_json_put_whole(out, "without_masks", kdas_dataset_unlabelled(frames));
    kd_json_put_whole(out, "left_out", kdas_dataset_skipped(frames));
    kd_json_put_whole(out, "folders_of_maps", kdas_dataset_maps(frames));
    kd_json_end(out, '}');
}

static void put_weights(kd_json_out *out, const kd_train_manifest *m)
{
    kd_json_begin(out, "weights", '[');
    for (int i = 0; i < m->weight_count; i++) {
        const kd_train_weights *w = &m->weights[i];

        kd_json_begin(out, NULL, '{');
        kd_json_put_text(out, "of", w->role);
        kd_json_put_text(out, "path", w->path);
        kd_json_put_text(out, "hash", *w->hash ? w->hash : NULL);
        if (w->bytes >= 0) kd_json_put_whole(out, "bytes", w->bytes);
        kd_json_end(out, '}');
    }
    kd_json_end(out, ']');
}

static void put_resumes(kd_json_out *out, const kd_train_manifest *m)
{
    char text[STAMP];

    kd_json_begin(out, "resumes", '[');
    for (int64_t i = 0; i < m->resume_count; i++) {
        const double *r = m->resumes + i * KD_RESUME_NUMBERS;

        kd_json_begin(out, NULL, '{');
        kd_json_put_text(out, "time", stamp(text, r[0]));
        kd_json_put_real(out, "epoch", r[1]);
        kd_json_put_real(out, "batch", r[2]);
        kd_json_put_real(out, "step", r[3]);
        kd_json_end(out, '}');
    }
    kd_json_end(out, ']');
}

static void put_progress(kd_json_out *out, const kdas_progress *p, int64_t steps)
{
    kd_json_begin(out, "progress", '{');
    kd_json_put_whole(out, "epoch", p->epoch);
    kd_json_put_whole(out, "step", p->position);
    kd_json_put_whole(out, "steps", steps);
    if (p->best_epoch > 0) kd_json_put_whole(out, "best_epoch", p->best_epoch);
    if (p->best_epoch > 0 && p->best >= 0) kd_json_put_real(out, "validation_dice", p->best);
    kd_json_end(out, '}');
}

static void put_seeds(kd_json_out *out, const kdas_loader_options *loader, uint64_t seed)
{
    char text[24];

    /* as texts: not every reader of JSON takes whole numbers of 64 bits */
    kd_json_begin(out, "seeds", '{');
    kd_format(text, sizeof text, "%llu", (unsigned long long)seed);
    kd_json_put_text(out, "run", text);
    kd_format(text, sizeof text, "%llu", (unsigned long long)loader->seed);
    kd_json_put_text(out, "loader", text);
    kd_json_end(out, '}');
}

static void put_teacher(kd_json_out *out, const kd_facts *facts)
{
    const char *name = fact_text(facts, "run.teacher");

    if (!name || strcmp(name, "none") == 0) {
        kd_json_put_text(out, "teacher", NULL);
        return;
    }
    kd_json_begin(out, "teacher", '{');
    kd_json_put_text(out, "network", name);
    kd_json_put_text(out, "values", fact_text(facts, "run.teacher_values"));
    kd_json_end(out, '}');
}

/* How the student is on grids; null: it is of floats. */
static void put_grids(kd_json_out *out, const kd_train_saved *s)
{
    const kdas_model *student = kdas_distiller_student(s->distiller);

    if (kdas_model_quantized(student) != KDAS_QUANTIZE_INT8) {
        kd_json_put_text(out, "grids", NULL);
        return;
    }
    kd_json_begin(out, "grids", '{');
    kd_json_put_text(out, "quantization", "int8");
    kd_json_put_text(out, "wide", kdas_model_wide(student));
    kd_json_put_real(out, "freeze_ranges", s->options->freeze_ranges);
    kd_json_put_text(out, "ranges", kdas_model_ranges_held(student) ? "held" : "moving");
    kd_json_end(out, '}');
}

/* The run's own settings. */
static kdas_status put_run(kd_json_out *out, const kd_train_saved *s)
{
    kdas_loader_options loader;
    kdas_loss_options   loss;
    char                objective[512];

    kdas_loader_options_init(&loader, sizeof loader);
    kdas_loss_options_init(&loss, sizeof loss);
    KD_RETURN(kdas_loader_get_options(s->loader, &loader));
    KD_RETURN(kdas_loss_get_options(kdas_distiller_loss(s->distiller), &loss));
    KD_RETURN(kdas_loss_options_describe(&loss, objective, sizeof objective));
    kd_json_put_text(out, "command", s->options->notes);
    put_seeds(out, &loader, s->options->seed);
    kd_json_put_text(out, "network", kdas_model_network(kdas_distiller_student(s->distiller)));
    put_grids(out, s);
    put_teacher(out, s->facts);
    kd_json_put_text(out, "objective", objective);
    kd_json_begin(out, "input", '{');
    kd_json_put_whole(out, "height", loader.height);
    kd_json_put_whole(out, "width", loader.width);
    kd_json_put_whole(out, "batch", loader.batch * kdas_ranks_count(loader.ranks));
    kd_json_end(out, '}');
    kd_json_put_whole(out, "ranks", kdas_ranks_count(loader.ranks));
    kd_json_begin(out, "data", '{');
    put_data(out, "training", kdas_loader_dataset(s->loader), fact_text(s->facts, "run.frames"));
    put_data(out, "validation", s->validation, fact_text(s->facts, "run.validation"));
    kd_json_end(out, '}');
    return KDAS_OK;
}

kdas_status kd_train_manifest_save(const kd_train_manifest *m, const kd_train_saved *s)
{
    kd_json_out out = { .ctx = m->ctx };
    char        text[STAMP];
    kdas_status st;

    kd_json_begin(&out, NULL, '{');
    kd_json_put_text(&out, "format", "kdas-run");
    kd_json_put_whole(&out, "format_version", 1);
    put_machine(&out, m->ctx);
    KD_TRY(put_run(&out, s));
    put_weights(&out, m);
    kd_json_put_text(&out, "started", m->started >= 0 ? stamp(text, m->started) : NULL);
    kd_json_put_text(&out, "saved", stamp(text, now()));
    put_resumes(&out, m);
    put_progress(&out, s->progress, s->steps);
    kd_json_end(&out, '}');
    st = kd_json_save(&out, m->path);
done:
    kd_json_out_finish(&out);
    return st;
}
