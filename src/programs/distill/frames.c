/* frames.c - the frames of a run: to train on, held out, and the test sets. */
#include "distill/frames.h"
#include <stdlib.h>
#include <string.h>
#include "system/files.h"
#include "system/say.h"
#include "system/stop.h"
#include "system/written.h"

/* How a folder is opened. */
typedef struct opening {
    const char *dir, *list; /* list: a file of names, or NULL */
    bool        unlabelled;
    bool        once; /* its frames are read a few times, not in every epoch: none stay decoded */
} opening;

static bool open_as(kdas_dataset **out, kdas_context *context, const settings *s, opening o)
{
    kdas_dataset_options options;

    kdas_dataset_options_init(&options, sizeof options);
    options.bad_file    = s->skip_bad ? KDAS_BAD_FILE_SKIP : KDAS_BAD_FILE_REFUSE;
    options.fit_masks   = s->resize_masks;
    options.unlabelled  = o.unlabelled;
    options.list        = o.list;
    options.mask_rule   = (int32_t)s->mask_rule;
    options.allow_empty = s->allow_empty;
    if (o.once) options.cache = 0;
    /* once is enough, unless all must leave out the same frames */
    options.check = group_first(&s->group) || s->skip_bad;
    return ok(kdas_dataset_open(out, context, o.dir, &options));
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
    bool          done = open_as(&more, context, s, (opening){ .dir = dir, .unlabelled = true }) &&
                ok(kdas_dataset_join(&both, f->train, more));

    free(dir);
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

/* Open a folder to train on, and hold some of it out: those that a list names, or a share. */
static bool open_training(kdas_dataset **train, kdas_dataset **validation, kdas_context *context,
                          const settings *s, const char *dir, const char *list,
                          const char *held_out)
{
    kdas_dataset *all = NULL;
    bool          done;

    if (!open_as(&all, context, s, (opening){ .dir = dir, .list = list })) return false;
    if (held_out || s->val_fraction <= 0) {
        *train = all;
        return !held_out ||
               open_as(validation, context, s, (opening){ .dir = dir, .list = held_out });
    }
    done = ok(kdas_dataset_split(train, validation, all, s->val_fraction, (uint64_t)s->seed));
    kdas_dataset_destroy(all);
    return done;
}

static bool open_teachers(frames *f, kdas_context *context, const settings *s)
{
    char *dir = text_of("%s/TeacherDataset", s->data);
    bool  done =
        open_training(&f->teacher_train, &f->teacher_validation, context, s, dir, NULL, NULL);

    free(dir);
    return done;
}

/* ---- Test sets ---- */

static bool open_test(frames *f, kdas_context *context, const settings *s, const char *dir,
                      const char *list, char *name)
{
    int i = f->test_count++;

    f->test_names[i] = name;
    return open_as(&f->tests[i], context, s, (opening){ .dir = dir, .list = list, .once = true });
}

static bool open_tests(frames *f, kdas_context *context, const settings *s,
                       const kdas_layout *layout)
{
    int  count = (int)kdas_layout_tests(layout);
    bool done  = true;

    f->tests      = need((size_t)(count + 1) * sizeof *f->tests);
    f->test_names = need((size_t)(count + 1) * sizeof *f->test_names);
    if (s->test_list && count > 1) {
        say_error("--test-list goes with one test set; '%s' has %d", s->data, count);
        return false;
    }
    if (s->test_list && !count)
        return open_test(f, context, s, kdas_layout_train(layout), s->test_list,
                         base_name(s->test_list));
    for (int i = 0; i < count && done; i++)
        done = open_test(f, context, s, kdas_layout_test(layout, i), s->test_list,
                         text_of("%s", kdas_layout_test_name(layout, i)));
    return done;
}

/* ---- No frame in two places ---- */

/* Whether two sets have no file in common; else a sentence. Both are in order of their names. */
static bool apart(const kdas_dataset *a, const char *name_a, const kdas_dataset *b,
                  const char *name_b)
{
    int64_t i = 0, k = 0;

    while (i < kdas_dataset_count(a) && k < kdas_dataset_count(b)) {
        int order = strcmp(kdas_dataset_name(a, i), kdas_dataset_name(b, k));

        if (!order && !strcmp(kdas_dataset_image_path(a, i), kdas_dataset_image_path(b, k))) {
            say_error("'%s' is %s and %s", kdas_dataset_image_path(a, i), name_a, name_b);
            return false;
        }
        i += order <= 0;
        k += order >= 0;
    }
    return true;
}

/* Lists with frames in common would measure what was learned by heart. */
static bool all_apart(const frames *f)
{
    bool fine = apart(f->train, "trained on", f->validation, "held out");

    for (int i = 0; i < f->test_count && fine; i++)
        fine = apart(f->train, "trained on", f->tests[i], "in the test set") &&
               apart(f->validation, "held out", f->tests[i], "in the test set");
    return fine;
}

bool frames_open(frames *f, kdas_context *context, const settings *s)
{
    kdas_layout *layout = NULL;
    bool         done   = ok(kdas_layout_find(&layout, context, s->data));

    *f   = (frames){ 0 };
    done = done && open_training(&f->train, &f->validation, context, s, kdas_layout_train(layout),
                                 s->train_list, s->val_list);
    f->val_listed = done && s->val_list;
    done          = done && open_tests(f, context, s, layout) && all_apart(f);
    if (done && s->demo && s->teacher_scenes && s->teacher_epochs)
        done = open_teachers(f, context, s);
    done = done && add_to_train(f, context, s);
    kdas_layout_destroy(layout);
    if (!done) frames_close(f);
    return done;
}

void frames_close(frames *f)
{
    for (int i = 0; f->tests && i < f->test_count; i++)
        kdas_dataset_destroy(f->tests[i]);
    for (int i = 0; i < f->test_count; i++)
        free(f->test_names[i]);
    free(f->tests);
    free(f->test_names);
    kdas_dataset_destroy(f->teacher_validation);
    kdas_dataset_destroy(f->teacher_train);
    kdas_dataset_destroy(f->validation);
    kdas_dataset_destroy(f->train);
    kdas_dataset_destroy(f->labelled);
    *f = (frames){ 0 };
}

/* ---- Synthetic frames ------------------------------------------------------------------------ */

static bool write_scene(kdas_context *context, const kdas_scene_options *options, int64_t i,
                        written *own)
{
    kdas_image *image = NULL, *mask = NULL;
    char       *names[2] = { text_of("images/scene%05lld.png", (long long)i),
                             text_of("masks/scene%05lld.png", (long long)i) };
    bool        done     = ok(kdas_scene_draw(&image, &mask, context, i, options));

    if (done) {
        kdas_view views[2] = { kdas_image_view(image), kdas_image_view(mask) };

        for (int k = 0; k < 2 && done; k++) {
            char *place = written_place(own, names[k]);

            done =
                written_put(own, names[k], place, ok(kdas_image_save(context, place, &views[k])));
        }
    }
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    free(names[0]);
    free(names[1]);
    return done;
}

/* Remove the scenes of an earlier demo, which may have had more of them. Files of others are left
 * alone, and would be trained on: false after a sentence. */
static bool clear_scenes(const char *dir)
{
    static const char *const folders[] = { "images", "masks" };
    written                 *own       = written_open(dir);
    bool                     empty     = true;

    written_remove(own);
    written_close(own);
    for (int i = 0; i < COUNT(folders) && empty; i++) {
        char *path = text_of("%s/%s", dir, folders[i]);

        empty = !folder_has(path, ".png");
        if (!empty)
            say_error("'%s' holds pictures that kdas-distill did not draw, or that were changed "
                      "since: choose another --out",
                      path);
        free(path);
    }
    return empty;
}

static bool write_scenes(kdas_context *context, const settings *s, int64_t count, uint64_t seed,
                         char *dir)
{
    kdas_scene_options options;
    char              *images = text_of("%s/images", dir), *masks = text_of("%s/masks", dir);
    bool               done = folder_ready(images) && folder_ready(masks) && clear_scenes(dir);
    written           *own  = written_open(dir);

    kdas_scene_options_init(&options, sizeof options);
    options.seed     = seed;
    options.count    = count;
    options.contrast = 0.8f; /* plain enough to be learned in a minute or two */
    options.height   = s->size[0] < 128 ? 128 : s->size[0];
    options.width    = s->size[1] < 128 ? 128 : s->size[1];
    for (int64_t i = 0; i < count && done && !stop_asked(); i++) {
        done = write_scene(context, &options, i, own);
    }
    written_close(own);
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
