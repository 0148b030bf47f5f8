/* pair.c - which map of the teacher guides which map of the student (kdas_loss_options.pair). */
#include <string.h>
#include "loss/loss.h"

static const char *const names[] = { "deep", "spread", "answer" };

bool kd_pair_find(const char *name, kd_pair *out)
{
    for (size_t i = 0; i < KD_COUNT(names); i++)
        if (strcmp(names[i], name) == 0) {
            *out = (kd_pair)i;
            return true;
        }
    kd_fail(KDAS_ENOTFOUND, "there is no way to pair maps '%.32s'", name);
    return false;
}

int kd_paired_map(kd_pair pair, int teacher_maps, int student_maps, int i)
{
    if (pair == KD_PAIR_DEEP) return KD_MAX(0, teacher_maps - student_maps + i);
    if (student_maps == 1) return teacher_maps - 1;
    return (2 * i * (teacher_maps - 1) + student_maps - 1) / (2 * (student_maps - 1));
}

/* The sum of the teacher's maps that are its answer, in memory of the loss. */
static kdas_status add_up(float **out, kdas_loss *loss, const kd_teacher_maps *t, int64_t n)
{
    int64_t count = n * t->h * t->w;
    size_t  bytes = (size_t)count * sizeof(float);
    float  *sum;

    KD_RETURN(kd_device_reserve(loss->ctx, &loss->answer, bytes));
    sum = loss->answer.memory;
    KD_RETURN(kd_device_zero(loss->ctx, sum, bytes));
    for (int i = t->answer; i < t->maps; i++)
        KD_RETURN(kd_device_add(loss->ctx, sum, t->map[i], count, 1));
    *out = sum;
    return KDAS_OK;
}

kdas_status kd_loss_pair(kdas_loss *loss, kd_loss_place *at, const kd_teacher_maps *teacher)
{
    float *answer = NULL;

    if (teacher->maps == 0) return KDAS_OK;
    if (loss->pair == KD_PAIR_ANSWER) {
        answer = teacher->map[teacher->maps - 1];
        if (teacher->answer < teacher->maps - 1) KD_RETURN(add_up(&answer, loss, teacher, at->n));
    }
    for (int i = 0; i < at->maps; i++)
        at->teacher[i] =
            answer ? answer : teacher->map[kd_paired_map(loss->pair, teacher->maps, at->maps, i)];
    return KDAS_OK;
}
