/* work.c - what is timed: models, batches and what a step needs. */
#include "work.h"
#include <string.h>
#include "system/say.h"

/* Any values do: the work does not depend on them. */
bool make_batch(kdas_batch **out, kdas_context *ctx, int64_t count, int64_t height, int64_t width)
{
    int64_t  n     = count * height * width;
    uint64_t state = 1;

    if (!ok(kdas_batch_create(out, ctx, count, height, width))) return false;
    for (int64_t i = 0; i < n * 3; i++) {
        state                      = state * 6364136223846793005u + 1442695040888963407u;
        kdas_batch_images(*out)[i] = (float)(state >> 40) / 8388608.0f - 1.0f;
        if (i < n) kdas_batch_masks(*out)[i] = (float)(state >> 63);
    }
    return true;
}

/* Some range for each grid: the work does not depend on them. */
static bool fill_ranges(kdas_model *model)
{
    const char *name;
    const float range[2] = { -3, 3 };

    for (int32_t i = 0; (name = kdas_model_tensor(model, i, NULL, NULL, NULL)); i++) {
        const char *end = strrchr(name, '.');

        if (end && strcmp(end, ".input_range") == 0 && !ok(kdas_model_write(model, i, range)))
            return false;
    }
    return true;
}

bool make_model(kdas_model **out, kdas_context *ctx, const char *name, bool trainable)
{
    kdas_model_options o;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = trainable;
    if (!trainable && kdas_context_precision(ctx) == KDAS_PRECISION_INT8)
        o.quantize = KDAS_QUANTIZE_INT8;
    return ok(kdas_model_create(out, ctx, name, &o)) && fill_ranges(*out);
}

bool trainer_open(trainer *t, kdas_context *ctx, int64_t count, int64_t height, int64_t width)
{
    kdas_distiller_options o;
    kdas_loss_options      loss;

    kdas_distiller_options_init(&o, sizeof o);
    kdas_loss_options_init(&loss, sizeof loss);
    if (!t->teacher) loss.guidance = "none";
    o.gradient_norms = 0; /* the peers' steps do not measure what each term sends */
    return make_batch(&t->batch, ctx, count, height, width) &&
           ok(kdas_loss_create(&t->loss, ctx, &loss)) &&
           ok(kdas_optim_create(&t->optim, t->student, NULL)) &&
           ok(kdas_distiller_create(&t->distiller, t->teacher, t->student, t->loss, t->optim, &o));
}

void trainer_close(trainer *t)
{
    kdas_distiller_destroy(t->distiller);
    kdas_optim_destroy(t->optim);
    kdas_loss_destroy(t->loss);
    kdas_batch_destroy(t->batch);
}
