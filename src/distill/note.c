/* note.c - what a step tells the student's weights about themselves: the size of its batches, the
 * normalisation, the objective. distiller.c calls this file; it includes distiller.h, and calls
 * nothing in distiller.c. */
#include "distill/distiller.h"
#include "base/text.h"

/* Count the batch's size. */
static void count_size(kd_sizes *s, int64_t height, int64_t width)
{
    int i = 0;

    while (i < s->count && (s->size[i].height != height || s->size[i].width != width))
        i++;
    if (i == KD_SIZES) return; /* a host of very many sizes: the first ones decide */
    if (i == s->count) s->size[s->count++] = (kd_size){ .height = height, .width = width };
    s->size[i].batches++;
}

static bool smaller(const kd_size *a, const kd_size *b)
{
    int64_t area = a->height * a->width, other = b->height * b->width;

    return area < other || (area == other && a->height < b->height);
}

/* The size in the middle of all batches by area: with scales such as 0.75, 1, 1.25 the one
 * between. */
static const kd_size *middle(const kd_sizes *s)
{
    for (int i = 0; i < s->count; i++) {
        int64_t below = 0, above = 0;

        for (int k = 0; k < s->count; k++) {
            if (smaller(&s->size[k], &s->size[i])) below += s->size[k].batches;
            if (smaller(&s->size[i], &s->size[k])) above += s->size[k].batches;
        }
        if (below <= above + s->size[i].batches - 1 && above <= below + s->size[i].batches)
            return &s->size[i];
    }
    return &s->size[0];
}

static kdas_status note_number(kdas_model *m, const char *key, int64_t value)
{
    char text[24];

    kd_format(text, sizeof text, "%lld", (long long)value);
    return kdas_model_default_fact(m, key, text);
}

/* What does not change from step to step. What loaded weights knew of the run that they came from
 * ends here: the values are no longer that run's. */
static kdas_status note_once(kdas_distiller *d)
{
    static const char *const of_a_run[] = { "epoch",           "validation_dice",   "seed",
                                            "training_frames", "validation_frames", "threshold" };
    kdas_loss_options        loss;
    char                     text[512];

    for (size_t i = 0; i < KD_COUNT(of_a_run); i++)
        KD_RETURN(kdas_model_default_fact(d->student, of_a_run[i], NULL));
    kdas_loss_options_init(&loss, sizeof loss);
    KD_RETURN(kdas_loss_get_options(d->loss, &loss));
    KD_RETURN(kdas_loss_options_describe(&loss, text, sizeof text));
    KD_RETURN(kdas_model_default_fact(d->student, "objective", text));
    KD_RETURN(kdas_model_default_fact(d->student, "mean", KDAS_INPUT_MEAN));
    KD_RETURN(kdas_model_default_fact(d->student, "deviation", KDAS_INPUT_DEVIATION));
    return kdas_model_default_fact(d->student, "colour", KDAS_INPUT_COLOUR);
}

kdas_status kd_distiller_note(kdas_distiller *d, const kdas_batch *batch)
{
    kd_sizes       sizes = d->sizes;
    const kd_size *now;

    count_size(&sizes, kdas_batch_height(batch), kdas_batch_width(batch));
    now = middle(&sizes);
    if (d->sizes.count == 0) KD_RETURN(note_once(d));
    if (now->height != sizes.noted.height || now->width != sizes.noted.width) {
        KD_RETURN(note_number(d->student, "height", now->height));
        KD_RETURN(note_number(d->student, "width", now->width));
        sizes.noted = *now;
    }
    d->sizes = sizes;
    return KDAS_OK;
}
