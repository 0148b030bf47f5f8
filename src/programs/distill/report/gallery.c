/* gallery.c - sheets of chosen frames: frame, truth, every model's mask, and where they
 * differ. */
#include "distill/report/gallery.h"
#include <kdas/infer.h>
#include <stdlib.h>
#include <string.h>
#include "pictures/picture.h"
#include "system/say.h"
#include "system/stop.h"

typedef struct gallery {
    const work     *work;
    const cast     *cast;
    kdas_dataset   *dataset;
    int             set;
    kdas_segmenter *segmenters[MAX_MODELS];
    const char     *dir, *set_name;
} gallery;

/* ---- Which frames ---------------------------------------------------------------------------- */

typedef struct ranked {
    double  dice;
    int64_t index;
} ranked;

static int by_dice(const void *a, const void *b)
{
    const ranked *x = a, *y = b;

    if (x->dice != y->dice) return x->dice < y->dice ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static double dice_of(const gallery *g, int model, int64_t frame)
{
    return scores_cells(&g->work->scores, model, 0)[g->set].dice[frame];
}

/* All frames, worst first for the last student. The caller frees it. */
static ranked *rank(const gallery *g, int64_t count)
{
    ranked *list = need((size_t)count * sizeof *list);

    for (int64_t i = 0; i < count; i++)
        list[i] = (ranked){ dice_of(g, g->cast->count - 1, i), i };
    qsort(list, (size_t)count, sizeof *list, by_dice);
    return list;
}

/* ---- One sheet ------------------------------------------------------------------------------- */

/* Every model's mask at the frame's size. On failure the caller frees what there is. */
static bool segment(const gallery *g, const kdas_view *frame, uint8_t **masks)
{
    bool done = true;

    for (int m = 0; m < g->cast->count && done; m++) {
        masks[m] = need((size_t)(frame->width * frame->height));
        done     = ok(kdas_segmenter_mask(g->segmenters[m], frame, masks[m], 0));
    }
    return done;
}

static bool draw_panels(const gallery *g, sheet *s, int64_t index, const kdas_view *truth,
                        uint8_t **masks)
{
    const cast *c    = g->cast;
    kdas_view   last = *truth, first = *truth;
    int         at = 0;
    bool done = sheet_frame(s, at++, "frame") && sheet_mask(s, at++, "truth", truth, colour_truth);

    for (int m = 0; m < c->count && done; m++) {
        char      caption[64];
        kdas_view mask = { masks[m], truth->width, truth->height, 0, KDAS_PIXEL_GREY8 };

        snprintf(caption, sizeof caption, "%.12s %.2f", c->name[m], dice_of(g, m, index));
        done =
            sheet_mask(s, at++, caption, &mask, m < c->students ? colour_teacher : colour_student);
        if (m == 0) first = mask;
        last = mask;
    }
    /* Without a teacher: the student against the truth. */
    return done && sheet_difference(s, at, c->students ? "disagreement" : "errors", truth,
                                    c->students ? &first : truth, &last);
}

/* A frame's name as that of a file: without the folders of sequences. To be freed. */
static char *flat(const char *name)
{
    char *file = text_of("%s", name);

    for (char *at = file; *at; at++)
        if (*at == '/') *at = '-';
    return file;
}

/* The sheet as PNG, and as a smaller JPEG for `each`. */
static bool save(const gallery *g, const sheet *s, int64_t index, sheet_fn each, void *user)
{
    const char *name = kdas_dataset_name(g->dataset, index);
    kdas_view   view = kdas_image_view(s->image);
    char       *file = flat(name);
    char       *png  = text_of("%s/%s_%s.png", g->dir, g->set_name, file);
    char       *jpeg = text_of("%s/%s_%s.part.jpg", g->dir, g->set_name, file);
    char       *caption =
        text_of("%s, %s: Dice %.3f", g->set_name, name, dice_of(g, g->cast->count - 1, index));
    bool done = ok(kdas_image_save(g->work->context, png, &view)) &&
                ok(kdas_image_save(g->work->context, jpeg, &view)) && each(user, jpeg, caption);

    remove(jpeg);
    free(file);
    free(png);
    free(jpeg);
    free(caption);
    return done;
}

static bool draw(const gallery *g, int64_t index, sheet_fn each, void *user)
{
    kdas_image *image = NULL, *truth = NULL;
    uint8_t    *masks[MAX_MODELS] = { NULL };
    sheet       s;
    bool        done = ok(kdas_dataset_get(&image, &truth, g->dataset, index));

    if (done) {
        kdas_view frame = kdas_image_view(image), mask = kdas_image_view(truth);

        done = segment(g, &frame, masks) &&
               sheet_begin(&s, g->work->context, &frame, g->cast->count + 3);
        if (done) {
            done = draw_panels(g, &s, index, &mask, masks) && save(g, &s, index, each, user);
            sheet_end(&s);
        }
    }
    for (int m = 0; m < MAX_MODELS; m++)
        free(masks[m]);
    kdas_image_destroy(image);
    kdas_image_destroy(truth);
    return done;
}

bool gallery_draw(const work *w, const cast *c, int set, const char *dir, sheet_fn each, void *user)
{
    gallery                g = { .work     = w,
                                 .cast     = c,
                                 .dataset  = w->scores.stage.sets[set],
                                 .set      = set,
                                 .dir      = dir,
                                 .set_name = w->scores.stage.names[set] };
    kdas_segmenter_options options;
    int64_t                count = kdas_dataset_count(g.dataset), wanted = w->settings.pictures;
    ranked                *list = rank(&g, count);
    bool                   done = true;

    kdas_segmenter_options_init(&options, sizeof options);
    options.height = w->settings.size[0];
    options.width  = w->settings.size[1];
    for (int m = 0; m < c->count && done; m++) {
        done = ok(kdas_segmenter_create(&g.segmenters[m], c->model[m], &options));
    }
    if (wanted > count) wanted = count;
    for (int64_t k = 0; k < wanted && done; k++) {
        int64_t at = wanted > 1 ? k * (count - 1) / (wanted - 1) : count / 2;

        done = !stop_asked() && draw(&g, list[at].index, each, user);
    }
    for (int m = 0; m < c->count; m++)
        kdas_segmenter_destroy(g.segmenters[m]);
    free(list);
    return done;
}
