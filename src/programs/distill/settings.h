/* settings.h - what kdas-distill is told on its command line. */
#ifndef PROGRAMS_SETTINGS_H
#define PROGRAMS_SETTINGS_H
#include <kdas/loss.h>
#include <kdas/optim.h>
#include <stdbool.h>
#include "arguments/context.h"
#include "arguments/group.h"
#include "distill/augment.h"

#define DEFAULT_PRESET "kdas" /* where --preset is not given */

enum { MAX_ROWS = 16, MAX_SEEDS = 64, MAX_SCALES = 8 };

typedef struct settings {
    const char *data, *out, *tensorboard;
    bool        demo, resume, quiet, skip_bad, resize_masks, allow_empty;
    int64_t     mask_rule;                         /* kdas_mask_rule */
    const char *train_list, *val_list, *test_list; /* files of names */
    const char *student, *teacher, *student_weights, *teacher_weights;
    const char *usual_teacher;             /* where neither an option nor weights name it */
    int64_t     usual_size;                /* where neither an option nor weights say it  */
    const char *size_from;                 /* where the size comes from, in words         */
    const char *teacher_maps, *unlabelled; /* folders, with commas between */
    const char *backbone_weights, *teacher_backbone_weights; /* the rest keeps its initial values */
    const char *weights_entry, *teacher_weights_entry;       /* of files that have several sets */
    bool        quantize;                                    /* the student is on 8-bit grids */
    const char *wide;           /* its layers that are not; NULL: the network's own */
    double      range_momentum; /* below 0: the library's */
    double      freeze_ranges;  /* epochs */
    int64_t     teacher_epochs; /* 0: the teacher is not trained here */
    int64_t     epochs, max_steps, batch, accumulate, size[2], workers, seed, save_every;
    int64_t     warmup;         /* updates; below 0: a quarter of the run */
    int64_t     pictures;       /* of each set */
    int64_t     scenes;         /* of the demo's training folder */
    int64_t     test_scenes;    /* of its test set; 0: a quarter of those to train on */
    int64_t     teacher_scenes; /* of the demo, for its teacher alone; 0: none, it shares them */
    const char *scales_text, *presets_text, *seeds_text;
    float       scales[MAX_SCALES];
    int         scale_count;
    double      lr, teacher_lr, weight_decay, clip, drop_path, val_fraction;
    const char *optimizer, *schedule;
    machine     machine;
    bool        sync_batch_norm; /* batch norms over all ranks */
    group       group; /* whose ranks are joined with the context */

    augmentation augment;
    double       empty_share; /* below 0: as frames come */
    double       ema, clamp;
    int64_t      patience;

    /* These change what a preset says; NULL or negative: they do not. */
    const char *seg, *guidance, *sym, *axis, *input, *similarity, *distance, *pair;
    double      tau, guidance_weight, kd_weight, sgm_weight;
    double      share, feature_share; /* NaN: it does not */
    double      ramp_up, ramp_down;   /* epochs */
    const char *feature, *feature_taps;
    double      feature_weight, feature_tau;

    char *presets[MAX_ROWS]; /* one student is trained for each */
    int   preset_count;
    /* Each preset is trained with each seed; the one of --seed where --seeds is not given. */
    int64_t seeds[MAX_SEEDS];
    int     seed_count;
    char   *command; /* the whole command line */
    char   *recipe;  /* without what no single training depends on */
} settings;

/* Read the command line. -1: go on; else the exit code, and what is wrong has been said. */
int  settings_read(settings *s, int argc, char **argv);
void settings_free(settings *s);
/* The objective of a preset with the command line's changes (without features where the teacher is
 * there as maps alone), and what a teacher is trained on:
 * the same segmentation term alone. */
kdas_status settings_loss(const settings *s, const char *preset, kdas_loss_options *out);
kdas_status settings_teacher_loss(const settings *s, kdas_loss_options *out);
/* The optimizer's options for a run of `updates` updates from the learning rate `lr`. */
void settings_optim(const settings *s, double lr, int64_t updates, kdas_optim_options *out);
#endif
