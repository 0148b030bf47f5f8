/* train_note.c - what a run tells the student's weights about themselves, beside what each step
 * tells them. train.c calls this file; it includes train.h, and calls nothing in train.c. */
#include "distill/train.h"
#include "base/text.h"

static kdas_status note_number(kdas_model *m, const char *key, int64_t value)
{
    char text[24];

    kd_format(text, sizeof text, "%lld", (long long)value);
    return kdas_model_default_fact(m, key, text);
}

void kd_train_notes_init(kd_train_notes *n, const kdas_loader *loader,
                         const kdas_dataset *validation, const kdas_train_options *options)
{
    *n = (kd_train_notes){ .height = options->height, .width = options->width };
    kd_format(n->seed, sizeof n->seed, "%llu", (unsigned long long)options->seed);
    kd_format(n->frames, sizeof n->frames, "%016llx",
              (unsigned long long)kdas_dataset_hash(kdas_loader_dataset(loader)));
    if (validation)
        kd_format(n->validation, sizeof n->validation, "%016llx",
                  (unsigned long long)kdas_dataset_hash(validation));
}

kdas_status kd_train_note(const kd_train_notes *n, kdas_model *student)
{
    KD_RETURN(note_number(student, "height", n->height));
    KD_RETURN(note_number(student, "width", n->width));
    KD_RETURN(kdas_model_default_fact(student, "seed", n->seed));
    KD_RETURN(kdas_model_default_fact(student, "training_frames", n->frames));
    if (!*n->validation) return KDAS_OK;
    KD_RETURN(kdas_model_default_fact(student, "validation_frames", n->validation));
    /* that of the Dice by which the best epoch is chosen */
    return kdas_model_default_fact(student, "threshold", "0.5");
}

kdas_status kd_train_note_epoch(kdas_model *model, int64_t epoch, double dice)
{
    char text[32];

    KD_RETURN(note_number(model, "epoch", epoch));
    if (dice < 0) return KDAS_OK;
    kd_format(text, sizeof text, "%.6g", dice);
    return kdas_model_default_fact(model, "validation_dice", text);
}

void kd_train_compare_teacher(const kdas_model *teacher, const kdas_loader *loader)
{
    kdas_loader_options o;
    int64_t             height, width;

    kdas_loader_options_init(&o, sizeof o);
    if (!teacher || !kdas_model_input_size(teacher, &height, &width) ||
        kdas_loader_get_options(loader, &o) != KDAS_OK)
        return;
    if (o.height == height && o.width == width) return;
    kd_warn(kdas_model_context(teacher),
            "the teacher '%s' runs at %lldx%lld, but its weights were trained at %lldx%lld "
            "(height x width)",
            kdas_model_network(teacher), (long long)o.height, (long long)o.width, (long long)height,
            (long long)width);
}
