/* layout.c - how folders of frames are laid out: where a data set has its images and masks, and
 * which folders of a collection are for training and which for testing. */
#include "data/layout.h"
#include <string.h>
#include "base/text.h"
#include "io/file.h"

/* ---- What is in a folder ---- */

static const char *const known[2][8] = {
    [KD_SIDE_IMAGES] = { "images", "image", "imgs", "frame", "frames", "original", NULL },
    [KD_SIDE_MASKS]  = { "masks", "mask", "gt", "ground truth", "ground_truth", "groundtruth",
                         NULL },
};

/* The folders in `dir`, and how many files there are beside them. */
static kdas_status folders_of(kd_names *out, int *files, kdas_context *ctx, const char *dir)
{
    kdas_status st    = KDAS_OK;
    kd_names    names = { 0 };

    *files = 0;
    KD_TRY(kd_list_folder(&names, ctx, dir));
    for (size_t i = 0; i < names.count; i++) {
        char        *path = kd_path_join(ctx, dir, names.name[i]);
        kd_path_kind kind = KD_PATH_NONE;

        st = path ? kd_look_at(&kind, path) : KDAS_ENOMEM;
        kd_free(ctx, path);
        if (st != KDAS_OK) goto done;
        if (kind == KD_PATH_FOLDER)
            KD_TRY(kd_names_add(out, ctx, kd_strdup(ctx, names.name[i])));
        else
            *files += 1;
    }
done:
    kd_names_clear(&names, ctx);
    if (st != KDAS_OK) kd_names_clear(out, ctx);
    return st;
}

static kdas_status folders_in(kd_names *out, int *files, kdas_context *ctx, const char *dir)
{
    KD_RETURN(kd_check_folder(dir));
    return folders_of(out, files, ctx, dir);
}

/* The next folder of a known name from *at on, in the order of `words`, or NULL. */
static const char *known_folder(const kd_names *folders, const char *const *words, size_t *at)
{
    size_t step = 0;

    for (; *words; words++)
        for (size_t i = 0; i < folders->count; i++, step++)
            if (step >= *at && kd_same_letters(folders->name[i], *words)) {
                *at = step + 1;
                return folders->name[i];
            }
    return NULL;
}

kdas_status kd_find_side(char **out, kdas_context *ctx, const char *dir, kd_side side)
{
    kdas_status st      = KDAS_OK;
    kd_names    folders = { 0 };
    size_t      at      = 0;
    const char *found, *more;
    int         files;

    *out = NULL;
    KD_TRY(folders_in(&folders, &files, ctx, dir));
    found = known_folder(&folders, known[side], &at);
    if (!found) goto done;
    *out = kd_path_join(ctx, dir, found);
    if (!*out) st = KDAS_ENOMEM;
    more = known_folder(&folders, known[side], &at);
    if (*out && more)
        kd_warn(ctx, "'%s' has both '%s' and '%s': '%s' is passed over", dir, found, more, more);
done:
    kd_names_clear(&folders, ctx);
    return st;
}

/* Whether `dir` has images, and masks, too. */
static kdas_status is_set(bool *out, kdas_context *ctx, const char *dir)
{
    char *images, *masks = NULL;

    *out = false;
    KD_RETURN(kd_find_side(&images, ctx, dir, KD_SIDE_IMAGES));
    if (images) {
        kdas_status st = kd_find_side(&masks, ctx, dir, KD_SIDE_MASKS);

        kd_free(ctx, images);
        KD_RETURN(st);
    }
    *out = masks != NULL;
    kd_free(ctx, masks);
    return KDAS_OK;
}

/* "'a', 'b' and 3 files", as much as fits. */
static void describe(char *to, size_t size, const kd_names *folders, int files)
{
    enum { SHOWN = 4 };
    int used = 0;

    to[0] = 0;
    for (size_t i = 0; i < folders->count && i < SHOWN && used < (int)size - 60; i++)
        used +=
            kd_format(to + used, size - (size_t)used, "%s'%.40s'", i ? ", " : "", folders->name[i]);
    if (folders->count > SHOWN)
        used += kd_format(to + used, size - (size_t)used, " and %zu more folders",
                          folders->count - SHOWN);
    if (files)
        kd_format(to + used, size - (size_t)used, "%s%d file%s", folders->count ? " and " : "",
                  files, files == 1 ? "" : "s");
    else if (!folders->count)
        kd_format(to, size, "nothing");
}

/* A folder in `dir` that is a data set, or NULL. */
static kdas_status set_below(const char **out, kdas_context *ctx, const char *dir,
                             const kd_names *folders)
{
    *out = NULL;
    for (size_t i = 0; i < folders->count && !*out; i++) {
        char       *path = kd_path_join(ctx, dir, folders->name[i]);
        kdas_status st   = path ? KDAS_OK : KDAS_ENOMEM;
        bool        is   = false;

        if (st == KDAS_OK) st = is_set(&is, ctx, path);
        kd_free(ctx, path);
        KD_RETURN(st);
        if (is) *out = folders->name[i];
    }
    return KDAS_OK;
}

/* Fail: `dir` has not what `wanted` says. The sentence ends with `right`, the right layout. */
static kdas_status fail_layout(kdas_context *ctx, const char *dir, const char *wanted,
                               const char *right)
{
    kdas_status st      = KDAS_OK;
    kd_names    folders = { 0 };
    char        found[220];
    const char *set = NULL;
    int         files;

    KD_TRY(folders_in(&folders, &files, ctx, dir));
    KD_TRY(set_below(&set, ctx, dir, &folders));
    describe(found, sizeof found, &folders, files);
    st = kd_fail(KDAS_ENOTFOUND, "'%s' has no %s; it has %s. %s%s%.60s%s", dir, wanted, found,
                 right, set ? "; '" : "", set ? set : "", set ? "' is such a folder" : "");
done:
    kd_names_clear(&folders, ctx);
    return st;
}

#define A_SET "A data set is a folder that holds 'images' and 'masks'"

kdas_status kd_fail_side(kdas_context *ctx, const char *dir, kd_side side)
{
    return fail_layout(
        ctx, dir,
        side == KD_SIDE_IMAGES ? "folder 'images' or 'image'" : "folder 'masks' or 'mask'", A_SET);
}

int32_t kdas_dataset_ignores(const char *name)
{
    if (!name) return 1;
    return kd_is_clutter(name) && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* ---- Collections ---- */

struct kdas_layout {
    kdas_context *ctx;
    char         *train;
    kd_names      path, name; /* of the test sets */
};

void kdas_layout_destroy(kdas_layout *layout)
{
    if (!layout) return;
    kd_names_clear(&layout->path, layout->ctx);
    kd_names_clear(&layout->name, layout->ctx);
    kd_free(layout->ctx, layout->train);
    kd_free(layout->ctx, layout);
}

static kdas_status find_train(kdas_layout *l, const char *dir, const kd_names *folders)
{
    static const char *const words[] = { "traindataset", "train", "training", NULL };
    size_t                   at      = 0;
    const char              *found   = known_folder(folders, words, &at);
    bool                     is      = false;

    if (found) {
        l->train = kd_path_join(l->ctx, dir, found);
        return l->train ? KDAS_OK : KDAS_ENOMEM;
    }
    KD_RETURN(is_set(&is, l->ctx, dir));
    if (!is)
        return fail_layout(l->ctx, dir, "'TrainDataset', nor 'images' and 'masks' of its own",
                           "A collection has TrainDataset/images and /masks");
    kd_warn(l->ctx, "'%s' has no 'TrainDataset': its own images and masks are trained on", dir);
    l->train = kd_strdup(l->ctx, dir);
    return l->train ? KDAS_OK : KDAS_ENOMEM;
}

/* TestDataset, test, testing, and such as TestEasyDataset. */
static bool is_test_folder(const char *name)
{
    size_t n = strlen(name);
    char   head[5], tail[8];

    if (kd_same_letters(name, "test") || kd_same_letters(name, "testing")) return true;
    if (n < 11) return false;
    kd_format(head, sizeof head, "%.4s", name);
    kd_format(tail, sizeof tail, "%s", name + n - 7);
    return kd_same_letters(head, "test") && kd_same_letters(tail, "dataset");
}

/* Add a test set; both texts are the layout's from now on. */
static kdas_status add_test(kdas_layout *l, char *path, char *name)
{
    kdas_status st = kd_names_add(&l->path, l->ctx, path);

    if (st == KDAS_OK) return kd_names_add(&l->name, l->ctx, name);
    kd_free(l->ctx, name);
    return st;
}

#define TESTS "A folder of tests holds 'images' and 'masks', or folders that do"

/* A folder of tests that has images alone, or files alone, is a set gone wrong. */
static kdas_status check_tests(kdas_layout *l, const char *dir, const kd_names *folders, int files)
{
    char       *images;
    kdas_status st;

    KD_RETURN(kd_find_side(&images, l->ctx, dir, KD_SIDE_IMAGES));
    if (!images && (folders->count || !files)) return KDAS_OK;
    st = images ? kd_fail_side(l->ctx, dir, KD_SIDE_MASKS)
                : fail_layout(l->ctx, dir, "test set", TESTS);
    kd_free(l->ctx, images);
    return st;
}

/* The sets in a folder of tests: the folder itself if it is one, and those in it. If it is none
 * itself, each folder in it has to be one. */
static kdas_status find_tests_in(kdas_layout *l, const char *dir, const char *name, bool alone)
{
    kdas_status st      = KDAS_OK;
    kd_names    folders = { 0 };
    bool        itself, is;
    int         files;
    char       *path = NULL;

    KD_TRY(folders_in(&folders, &files, l->ctx, dir));
    KD_TRY(is_set(&itself, l->ctx, dir));
    if (!itself) KD_TRY(check_tests(l, dir, &folders, files));
    if (itself) KD_TRY(add_test(l, kd_strdup(l->ctx, dir), kd_strdup(l->ctx, name)));
    for (size_t i = 0; i < folders.count; i++) {
        path = kd_path_join(l->ctx, dir, folders.name[i]);
        if (!path) {
            st = KDAS_ENOMEM;
            goto done;
        }
        KD_TRY(is_set(&is, l->ctx, path));
        if (is || !itself) {
            char *own = path;

            path = NULL;
            KD_TRY(add_test(l, own,
                            alone ? kd_strdup(l->ctx, folders.name[i])
                                  : kd_printf(l->ctx, "%s-%s", name, folders.name[i])));
        }
        kd_free(l->ctx, path);
        path = NULL;
    }
done:
    kd_free(l->ctx, path);
    kd_names_clear(&folders, l->ctx);
    return st;
}

static kdas_status find_tests(kdas_layout *l, const char *dir, const kd_names *folders)
{
    int count = 0;

    for (size_t i = 0; i < folders->count; i++)
        count += is_test_folder(folders->name[i]);
    for (size_t i = 0; i < folders->count; i++) {
        char       *path;
        kdas_status st;

        if (!is_test_folder(folders->name[i])) continue;
        path = kd_path_join(l->ctx, dir, folders->name[i]);
        if (!path) return KDAS_ENOMEM;
        st = find_tests_in(l, path, folders->name[i], count == 1);
        kd_free(l->ctx, path);
        KD_RETURN(st);
    }
    return KDAS_OK;
}

kdas_status kdas_layout_find(kdas_layout **out, kdas_context *context, const char *dir)
{
    kdas_status  st      = KDAS_OK;
    kdas_layout *l       = NULL;
    kd_names     folders = { 0 };
    int          files;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_layout_find: out is NULL");
    *out = NULL;
    if (!context || !dir)
        return kd_fail(KDAS_EINVAL, "kdas_layout_find: the %s is NULL",
                       context ? "folder" : "context");
    KD_RETURN(folders_in(&folders, &files, context, dir));
    l = kd_calloc(context, 1, sizeof *l);
    if (!l) {
        st = KDAS_ENOMEM;
        goto done;
    }
    l->ctx = context;
    KD_TRY(find_train(l, dir, &folders));
    KD_TRY(find_tests(l, dir, &folders));
    *out = l;
    l    = NULL;
done:
    kdas_layout_destroy(l);
    kd_names_clear(&folders, context);
    return st;
}

const char *kdas_layout_train(const kdas_layout *layout) { return layout ? layout->train : NULL; }

int64_t kdas_layout_tests(const kdas_layout *layout)
{
    return layout ? (int64_t)layout->path.count : 0;
}

static const char *name_at(const kd_names *names, int64_t i)
{
    return i >= 0 && (size_t)i < names->count ? names->name[i] : NULL;
}

const char *kdas_layout_test(const kdas_layout *layout, int64_t i)
{
    return layout ? name_at(&layout->path, i) : NULL;
}

const char *kdas_layout_test_name(const kdas_layout *layout, int64_t i)
{
    return layout ? name_at(&layout->name, i) : NULL;
}
