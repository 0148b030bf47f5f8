/* train.c - one training: a model, its objective and a folder for its files. */
#include "distill/train.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "distill/progress.h"
#include "system/files.h"
#include "system/say.h"
#include "system/stop.h"

/* Load a file of weights, or with `part` that part of the network. */
static bool load_weights(kdas_model *model, const char *path, const char *part, const char *entry)
{
    kdas_load_options options;

    kdas_load_options_init(&options, sizeof options);
    options.part  = part;
    options.entry = entry;
    return ok(kdas_model_load(model, path, &options));
}

/* The student's: its form, too. The list has commas on the command line. */
static void put_on_grids(kdas_model_options *options, const settings *s, char *wide)
{
    options->quantize = KDAS_QUANTIZE_INT8;
    if (s->range_momentum >= 0) options->range_momentum = (float)s->range_momentum;
    if (!s->wide) return;
    for (char *at = wide; *at; at++)
        if (*at == ',') *at = ' ';
    options->wide = strcmp(wide, "none") ? wide : "";
}

static bool make_model(training *t, kdas_context *context, const settings *s, const char *model,
                       bool quantize)
{
    kdas_model_options options;
    char              *wide = text_of("%s", s->wide ? s->wide : "");
    bool               done;

    kdas_model_options_init(&options, sizeof options);
    options.seed      = (uint64_t)t->seed;
    options.drop_path = (float)s->drop_path;
    if (s->sync_batch_norm) options.ranks = s->group.ranks;
    if (quantize) put_on_grids(&options, s, wide);
    done = ok(kdas_model_create(&t->model, context, model, &options));
    free(wide);
    return done;
}

bool training_begin(training *t, kdas_context *context, const settings *s, char *label,
                    const char *model, const kdas_loss_options *loss, const char *weights,
                    const char *backbone, const char *entry, int64_t seed, bool quantize, char *dir)
{
    *t = (training){ .label = label, .dir = dir, .epochs = s->epochs, .lr = s->lr, .seed = seed };
    history_begin(&t->history, label);
    return ok(kdas_loss_create(&t->loss, context, loss)) &&
           make_model(t, context, s, model, quantize) &&
           (!weights || load_weights(t->model, weights, NULL, entry)) &&
           (!backbone || load_weights(t->model, backbone, "backbone.", entry)) &&
           ((!weights && !backbone) || ok(kdas_model_hash(t->model, &t->start))) &&
           (!group_first(&s->group) || folder_ready(dir));
}

void training_release(training *t)
{
    kdas_loss_destroy(t->loss);
    kdas_model_destroy(t->model);
    t->loss  = NULL;
    t->model = NULL;
}

void training_end(training *t)
{
    training_release(t);
    history_end(&t->history);
    free(t->label);
    free(t->dir);
    *t = (training){ 0 };
}

bool training_set_aside(const char *dir)
{
    static const char *const names[] = { "last.kdas", "best.safetensors", "log.csv", "run.json",
                                         "figures.txt" };
    bool                     done    = true;

    for (int i = 0; i < COUNT(names) && done; i++) {
        char *path = text_of("%s/%s", dir, names[i]), *old = text_of("%s.old", path);

        if (rename(path, old) != 0 && errno != ENOENT) {
            say_error("cannot rename '%s': %s", path, strerror(errno));
            done = false;
        }
        free(path);
        free(old);
    }
    return done;
}

static bool make_loader(kdas_loader **out, const training *t, const settings *s,
                        kdas_dataset *dataset)
{
    kdas_loader_options options;

    kdas_loader_options_init(&options, sizeof options);
    options.batch       = s->batch;
    options.height      = s->size[0];
    options.width       = s->size[1];
    options.scales      = s->scales;
    options.scale_count = s->scale_count;
    options.workers     = (int32_t)s->workers;
    options.empty_share = (float)s->empty_share;
    options.seed        = (uint64_t)t->seed;
    options.ranks       = s->group.ranks;
    augment_options(&s->augment, &options);
    return ok(kdas_loader_create(out, dataset, &options));
}

static bool make_optim(kdas_optim **out, const training *t, const settings *s,
                       const kdas_loader *loader)
{
    kdas_optim_options options;
    int64_t steps = t->epochs * kdas_loader_batches(loader); /* --max-steps cuts the run alone */

    settings_optim(s, t->lr, (steps + s->accumulate - 1) / s->accumulate, &options);
    return ok(kdas_optim_create(out, t->model, &options));
}

bool training_check(training *t, const settings *s, const frames *f)
{
    kdas_loader *loader = NULL;
    kdas_optim  *optim  = NULL;
    bool         done   = make_loader(&loader, t, s, f->train) && make_optim(&optim, t, s, loader);

    kdas_optim_destroy(optim);
    kdas_loader_destroy(loader);
    return done;
}

/* The run itself; its status is the caller's to judge. */
static kdas_status train(training *t, const settings *s, const frames *f, kdas_distiller *distiller,
                         kdas_loader *loader, tensorboard *board)
{
    kdas_train_options options;
    progress           shown;
    kdas_status        status;

    progress_begin(&shown, &t->history, board, s->quiet);
    kdas_train_options_init(&options, sizeof options);
    options.epochs     = t->epochs;
    options.max_steps  = s->max_steps;
    options.out        = t->dir;
    options.resume     = s->resume;
    options.save_every = s->save_every;
    options.patience   = s->patience;
    options.height     = s->size[0];
    options.width      = s->size[1];
    options.seed       = (uint64_t)t->seed;
    options.notes      = s->command;
    options.ramp_up    = s->ramp_up;
    options.ramp_down  = s->ramp_down;
    if (kdas_model_quantized(t->model)) options.freeze_ranges = s->freeze_ranges;
    options.progress = progress_event;
    options.user     = &shown;
    say_more(s->resume && !s->quiet); /* what has changed since */
    status = kdas_train(distiller, loader, f->validation, &options);
    say_more(false);
    say_redraw(NULL);
    return status;
}

void training_remember(training *t)
{
    char *path = text_of("%s/log.csv", t->dir);

    history_read_log(&t->history, path);
    free(path);
}

/* The weights of the best epoch; those of the last step where no epoch was finished. */
static bool take_best(training *t, const settings *s)
{
    char       *path   = text_of("%s/best.safetensors", t->dir);
    kdas_status status = group_first(&s->group) ? kdas_model_load(t->model, path, NULL) : KDAS_OK;
    bool        done   = status == KDAS_ENOTFOUND || ok(status);

    free(path);
    return group_all(&s->group, done) && group_copy(&s->group, t->model);
}

bool training_run(training *t, const settings *s, const frames *f)
{
    kdas_distiller_options options;
    kdas_distiller        *distiller = NULL;
    kdas_loader           *loader    = NULL;
    kdas_optim            *optim     = NULL;
    tensorboard           *board     = NULL;
    bool                   done;

    kdas_distiller_options_init(&options, sizeof options);
    options.accumulate = (int32_t)s->accumulate;
    options.ema        = (float)s->ema;
    options.ranks      = s->group.ranks;
    done               = make_loader(&loader, t, s, f->train) && make_optim(&optim, t, s, loader) &&
           ok(kdas_distiller_create(&distiller, t->teacher, t->model, t->loss, optim, &options));
    if (done && s->tensorboard && group_first(&s->group)) {
        board = tensorboard_begin(s->tensorboard, t->label);
        done  = board != NULL;
    }
    if (group_all(&s->group, done)) {
        t->status = train(t, s, f, distiller, loader, board);
        done      = ok(t->status) && !stop_asked();
    } else {
        done = false;
    }
    done = group_all(&s->group, tensorboard_end(board) && done);
    kdas_distiller_destroy(distiller);
    kdas_optim_destroy(optim);
    kdas_loader_destroy(loader);
    if (done && s->resume && group_first(&s->group)) training_remember(t);
    return done && take_best(t, s);
}
