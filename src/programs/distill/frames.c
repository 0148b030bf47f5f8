/* frames.c - the frames of a run: to train on, held out, and the test sets. */
#include "distill/frames.h"
#include <stdlib.h>
#include <string.h>
#include "system/files.h"
#include "system/say.h"
#include "system/stop.h"

/* Open a folder, whose name is freed. */
static bool open_as(kdas_dataset **out, kdas_context *context, const settings *s, char *dir,
                    bool unlabelled)
{
    kdas_dataset_options options;
    bool                 done;

    kdas_dataset_options_init(&options, sizeof options);
    options.bad_file    = s->skip_bad ? KDAS_BAD_FILE_SKIP : KDAS_BAD_FILE_REFUSE;
    options.unlabelled  = unlabelled;
    options.mask_rule   = (int32_t)s->mask_rule;
    options.allow_empty = s->allow_empty;
    done                = ok(kdas_dataset_open(out, context, dir, &options));
    free(dir);
    return done;
}

static bool open_folder(kdas_dataset **out, kdas_context *context, const settings *s, char *dir)
{
    return open_as(out, context, s, dir, false);
}

/* The next folder of a list with commas, to be freed; NULL at its end. */
static char *next_folder(const char **list)
{
    size_t length;
    char  *dir;

    if (!*list || !**list) return NULL;
    length = strcspn(*list, ",");
    dir    = text_of("%.*s", (int)length, *list);
    *list += length + ((*list)[length] == ',');
    return dir;
}

/* Join a folder of frames without masks to those that are trained on. */
static bool add_unlabelled(frames *f, kdas_context *context, const settings *s, char *dir)
{
    kdas_dataset *more = NULL, *both = NULL;
    bool          done =
        open_as(&more, context, s, dir, true) && ok(kdas_dataset_join(&both, f->train, more));

    kdas_dataset_destroy(more);
    if (!done) return false;
    if (f->labelled)
        kdas_dataset_destroy(f->train);
    else
        f->labelled = f->train;
    f->train = both;
    return true;
}

static bool add_to_train(frames *f, kdas_context *context, const settings *s)
{
    const char *unlabelled = s->unlabelled, *maps = s->teacher_maps;
    char       *dir;
    bool        done = true;

    while (done && (dir = next_folder(&unlabelled)))
        done = add_unlabelled(f, context, s, dir);
    while (done && (dir = next_folder(&maps))) {
        done = ok(kdas_dataset_add_maps(f->train, dir));
        free(dir);
    }
    return done;
}

/* Open a folder to train on, and hold some of it out. `dir` is freed. */
static bool open_training(kdas_dataset **train, kdas_dataset **validation, kdas_context *context,
                          const settings *s, char *dir)
{
    kdas_dataset *all  = NULL;
    bool          done = open_folder(&all, context, s, dir);

    if (done && s->val_fraction > 0) {
        done = ok(kdas_dataset_split(train, validation, all, s->val_fraction, (uint64_t)s->seed));
        kdas_dataset_destroy(all);
    } else {
        *train = all;
    }
    return done;
}

bool frames_open(frames *f, kdas_context *context, const settings *s)
{
    char *tests = text_of("%s/TestDataset", s->data);
    bool  done;

    *f = (frames){ 0 };
    done =
        open_training(&f->train, &f->validation, context, s, text_of("%s/TrainDataset", s->data));
    if (done && s->demo && s->teacher_scenes && s->teacher_epochs) {
        done = open_training(&f->teacher_train, &f->teacher_validation, context, s,
                             text_of("%s/TeacherDataset", s->data));
    }
    done = done && add_to_train(f, context, s);
    if (done) {
        f->test_count = folder_names(&f->test_names, tests);
        f->tests      = need((size_t)f->test_count * sizeof(kdas_dataset *));
    }
    for (int i = 0; i < f->test_count && done; i++) {
        done = open_folder(&f->tests[i], context, s, text_of("%s/%s", tests, f->test_names[i]));
    }
    free(tests);
    if (!done) frames_close(f);
    return done;
}

void frames_close(frames *f)
{
    for (int i = 0; f->tests && i < f->test_count; i++)
        kdas_dataset_destroy(f->tests[i]);
    free(f->tests);
    folder_names_free(f->test_names, f->test_count);
    kdas_dataset_destroy(f->teacher_validation);
    kdas_dataset_destroy(f->teacher_train);
    kdas_dataset_destroy(f->validation);
    kdas_dataset_destroy(f->train);
    kdas_dataset_destroy(f->labelled);
    *f = (frames){ 0 };
}

/* ---- Synthetic frames ------------------------------------------------------------------------ */

static bool write_scene(kdas_context *context, const kdas_scene_options *options, int64_t i,
                        const char *dir)
{
    kdas_image *image = NULL, *mask = NULL;
    char       *image_path = text_of("%s/images/scene%05lld.png", dir, (long long)i);
    char       *mask_path  = text_of("%s/masks/scene%05lld.png", dir, (long long)i);
    bool        done       = ok(kdas_scene_draw(&image, &mask, context, i, options));

    if (done) {
        kdas_view views[2] = { kdas_image_view(image), kdas_image_view(mask) };

        done = ok(kdas_image_save(context, image_path, &views[0])) &&
               ok(kdas_image_save(context, mask_path, &views[1]));
    }
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    free(image_path);
    free(mask_path);
    return done;
}

static bool write_scenes(kdas_context *context, const settings *s, int64_t count, uint64_t seed,
                         char *dir)
{
    kdas_scene_options options;
    char              *images = text_of("%s/images", dir), *masks = text_of("%s/masks", dir);
    bool               done = folder_ready(images) && folder_ready(masks);

    kdas_scene_options_init(&options, sizeof options);
    options.seed     = seed;
    options.count    = count;
    options.contrast = 0.8f; /* plain enough to be learned in a minute or two */
    options.height   = s->size[0] < 128 ? 128 : s->size[0];
    options.width    = s->size[1] < 128 ? 128 : s->size[1];
    if (done) { /* scenes of an earlier demo, which may have had more of them */
        folder_clear(images, ".png");
        folder_clear(masks, ".png");
    }
    for (int64_t i = 0; i < count && done && !stop_asked(); i++) {
        done = write_scene(context, &options, i, dir);
    }
    free(images);
    free(masks);
    free(dir);
    return done && !stop_asked();
}

bool frames_make(kdas_context *context, const settings *s, const char *dir)
{
    int64_t  tests = s->test_scenes ? s->test_scenes : s->scenes / 4 < 4 ? 4 : s->scenes / 4;
    uint64_t seed  = 3 * (uint64_t)s->seed;

    return write_scenes(context, s, s->scenes, seed, text_of("%s/TrainDataset", dir)) &&
           write_scenes(context, s, tests, seed + 1, text_of("%s/TestDataset/scenes", dir)) &&
           (!s->teacher_scenes || !s->teacher_epochs ||
            write_scenes(context, s, s->teacher_scenes, seed + 2,
                         text_of("%s/TeacherDataset", dir)));
}
