/* frames.c - the folders that are examined, and what is measured of each of their frames. */
#include "doctor/frames.h"
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "system/say.h"
#include "system/stop.h"

/* ---- Folders --------------------------------------------------------------------------------- */

void frames_log(void *user, kdas_log_level level, const char *text)
{
    static const char left_out[] = "left out: "; /* the dataset has it too, see add_skipped() */

    (void)user;
    if (strncmp(text, left_out, strlen(left_out)) != 0) say_log(NULL, level, text);
}

static void add_skipped(findings *found, const kdas_dataset *set)
{
    for (int64_t i = 0; i < kdas_dataset_skipped(set); i++)
        findings_add(found, (finding){ FOUND_UNREADABLE, found->folder, -1, -1, NAN,
                                       text_of("%s", kdas_dataset_skipped_reason(set, i)) });
}

/* A set whose masks follow no clear rule is opened, too: what is odd about them is found below. */
static bool open_set(kdas_dataset **out, kdas_context *context, const char *dir,
                     kdas_dataset_options *options)
{
    kdas_status status = kdas_dataset_open(out, context, dir, options);
    char       *why;

    if (status != KDAS_EFORMAT) return ok(status);
    why                = text_of("%s", kdas_last_error());
    options->mask_rule = KDAS_MASK_BRIGHT;
    status             = kdas_dataset_open(out, context, dir, options);
    if (status == KDAS_OK) say_error("%s; here, values above 127 are polyp", why);
    free(why);
    return ok(status);
}

bool frames_add(frames *f, findings *found, kdas_context *context, char *dir, bool train,
                bool unlabelled)
{
    kdas_dataset_options options;
    folder              *to;

    f->folders    = need_more(f->folders, (size_t)(f->folder_count + 1) * sizeof *f->folders);
    to            = &f->folders[f->folder_count];
    *to           = (folder){ .dir = dir, .train = train, .first = f->count };
    found->folder = f->folder_count++;

    kdas_dataset_options_init(&options, sizeof options);
    options.bad_file    = KDAS_BAD_FILE_SKIP;
    options.unlabelled  = unlabelled;
    options.allow_empty = 1; /* it becomes a finding of each mask */
    options.check       = 0; /* every frame is decoded below */
    options.cache       = 0;
    if (!open_set(&to->set, context, dir, &options)) return false;
    add_skipped(found, to->set);
    to->count = kdas_dataset_count(to->set);
    f->list   = need_more(f->list, (size_t)(f->count + to->count) * sizeof *f->list);
    for (int64_t i = 0; i < to->count; i++) {
        f->list[f->count++] =
            (frame){ .folder = found->folder, .index = i, .name = kdas_dataset_name(to->set, i) };
    }
    return true;
}

void frames_close(frames *f)
{
    for (int i = 0; i < f->folder_count; i++) {
        kdas_dataset_destroy(f->folders[i].set);
        free(f->folders[i].dir);
    }
    free(f->folders);
    free(f->list);
}

/* ---- Threads --------------------------------------------------------------------------------- */

typedef struct team {
    work_fn              work;
    void                *user;
    int64_t              count;
    atomic_int_least64_t next;
    atomic_bool          failed;
    atomic_int           threads;
} team;

static void *take_part(void *at)
{
    team   *t      = at;
    int     thread = atomic_fetch_add(&t->threads, 1);
    int64_t i;

    while (!atomic_load(&t->failed) && (i = atomic_fetch_add(&t->next, 1)) < t->count) {
        if (stop_asked() || !t->work(t->user, thread, i)) atomic_store(&t->failed, true);
    }
    return NULL;
}

bool on_threads(int threads, int64_t count, work_fn work, void *user)
{
    team       t       = { .work = work, .user = user, .count = count };
    pthread_t *others  = need((size_t)threads * sizeof *others);
    int        started = 0;

    /* fewer threads than wished for do the same work */
    while (started < threads - 1 && !pthread_create(&others[started], NULL, take_part, &t))
        started++;
    take_part(&t);
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    free(others);
    return !atomic_load(&t.failed);
}

/* ---- Frames ---------------------------------------------------------------------------------- */

typedef struct measuring {
    frames        *frames;
    int64_t        first; /* of this rank */
    findings      *found;
    kdas_context **contexts; /* of each thread, for files that are read past the dataset */
} measuring;

static void measure_grey(frame *f, const uint8_t *grey)
{
    double  sum = 0, squares = 0;
    int64_t pixels = f->width * f->height;

    for (int64_t i = 0; i < pixels; i++) {
        sum += grey[i];
        squares += (double)grey[i] * grey[i];
    }
    f->mean      = sum / (double)pixels;
    f->deviation = sqrt(fmax(0, squares / (double)pixels - f->mean * f->mean));
}

/* The values of the mask's file, which the dataset has made 0 and 255. A file that cannot be read
 * as grey is the dataset's to judge. */
static void measure_file(frame *f, kdas_context *context, const char *path)
{
    kdas_image *raw = NULL;
    kdas_view   view;

    if (!path || kdas_image_load(&raw, context, path, KDAS_PIXEL_GREY8) != KDAS_OK) return;
    view            = kdas_image_view(raw);
    f->mask.between = mask_between(view.data, view.width, view.height);
    kdas_image_destroy(raw);
}

static bool measure_pixels(frame *f, const kdas_view *image, const kdas_view *mask)
{
    uint8_t *grey = need((size_t)(image->width * image->height));
    bool     done = ok(kdas_view_convert(image, grey, 0, KDAS_PIXEL_GREY8));

    if (done) {
        f->read   = true;
        f->masked = mask->data != NULL;
        f->width  = image->width;
        f->height = image->height;
        f->pixels = bytes_hash(image->data, 3 * f->width * f->height, (uint64_t)f->width);
        measure_grey(f, grey);
        sketch_make(&f->sketch, grey, mask->data, f->width, f->height);
        if (f->masked) mask_measure(&f->mask, mask->data, f->width, f->height);
    }
    free(grey);
    return done;
}

static bool measure_frame(void *user, int thread, int64_t number)
{
    measuring  *m     = user;
    int64_t     i     = m->first + number;
    frame      *f     = &m->frames->list[i];
    folder     *from  = &m->frames->folders[f->folder];
    kdas_image *image = NULL, *mask = NULL;
    kdas_status st   = kdas_dataset_get(&image, &mask, from->set, f->index);
    bool        done = true;

    if (st == KDAS_OK) {
        kdas_view seen = kdas_image_view(image), marked = kdas_image_view(mask);

        done = measure_pixels(f, &seen, &marked);
        if (f->masked)
            measure_file(f, m->contexts[thread], kdas_dataset_mask_path(from->set, f->index));
    } else if (st == KDAS_ENOMEM) {
        done = ok(st);
    } else {
        findings_add(m->found, (finding){ FOUND_UNREADABLE, f->folder, i, -1, NAN,
                                          text_of("%s", kdas_last_error()) });
    }
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    return done;
}

/* ---- Ranks ----------------------------------------------------------------------------------- */

/* Where the share of a rank begins; that of `rank` one above ends there. */
static int64_t share_of(const frames *f, const group *g, int32_t rank)
{
    return rank * f->count / kdas_ranks_count(g->ranks);
}

/* A finding on its way. */
typedef struct message {
    int32_t kind, folder;
    int64_t a, b, length;
    double  similarity;
} message;

static bool tell_finding(findings *found, const finding *own, int32_t from, const group *g)
{
    message m = { .kind = -1 };
    char   *detail;
    bool    done;

    if (own)
        m = (message){ own->kind,      own->folder, own->a, own->b, (int64_t)strlen(own->detail),
                       own->similarity };
    if (!ok(kdas_ranks_broadcast(g->ranks, &m, sizeof m, from))) return false;
    detail = need((size_t)m.length + 1);
    if (own) memcpy(detail, own->detail, (size_t)m.length);
    done = ok(kdas_ranks_broadcast(g->ranks, detail, (size_t)m.length, from));
    if (own || !done) {
        free(detail);
        return done;
    }
    findings_add(found,
                 (finding){ (finding_kind)m.kind, m.folder, m.a, m.b, m.similarity, detail });
    return true;
}

/* What a rank has measured: its frames, and its findings from number `first` to below `end` of its list. */
static bool share_results(frames *f, findings *found, int64_t first, int64_t end, int32_t from,
                          const group *g)
{
    bool    own = from == kdas_ranks_rank(g->ranks);
    int64_t at = share_of(f, g, from), to = share_of(f, g, from + 1), count = own ? end - first : 0;
    bool done = ok(kdas_ranks_broadcast(g->ranks, f->list + at, (size_t)(to - at) * sizeof *f->list,
                                        from)) &&
                ok(kdas_ranks_broadcast(g->ranks, &count, sizeof count, from));

    for (int64_t i = at; i < to; i++) /* a pointer of another process */
        f->list[i].name = kdas_dataset_name(f->folders[f->list[i].folder].set, f->list[i].index);
    for (int64_t i = 0; i < count && done; i++) {
        finding copy = own ? found->list[first + i] : (finding){ 0 };

        done = tell_finding(found, own ? &copy : NULL, from, g);
    }
    return done;
}

bool frames_measure(frames *f, findings *found, int threads, const group *g)
{
    measuring m   = { f, share_of(f, g, kdas_ranks_rank(g->ranks)), found,
                      need((size_t)threads * sizeof *m.contexts) };
    int64_t   end = share_of(f, g, kdas_ranks_rank(g->ranks) + 1), before = found->count, after;
    bool      done = true;

    for (int i = 0; i < threads && done; i++) {
        kdas_context_options options;

        kdas_context_options_init(&options, sizeof options);
        options.threads = 1;
        done            = ok(kdas_context_create(&m.contexts[i], &options));
    }
    done = group_all(g, done && on_threads(threads, end - m.first, measure_frame, &m));
    for (int i = 0; i < threads; i++)
        kdas_context_destroy(m.contexts[i]);
    free(m.contexts);
    after = found->count;
    for (int32_t r = 0; g->ranks && r < kdas_ranks_count(g->ranks) && done; r++)
        done = share_results(f, found, before, after, r, g);
    return done;
}
