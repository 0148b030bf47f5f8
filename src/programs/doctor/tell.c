/* tell.c - the summary, and the files for other programs. */
#include "doctor/tell.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "system/csv.h"
#include "system/output.h"
#include "system/say.h"

enum { WORST = 10 };

/* ---- Words ----------------------------------------------------------------------------------- */

/* The last `parts` parts of a path, slashes at its end not counted. To be freed. */
static char *tail(const char *dir, int parts)
{
    size_t end = strlen(dir), start;

    while (end > 1 && dir[end - 1] == '/')
        end--;
    for (start = end; start > 0; start--)
        if (dir[start - 1] == '/' && !--parts) break;
    return text_of("%.*s", (int)(end - start), dir + start);
}

char *folder_label(const frames *f, int which)
{
    char *label = NULL;
    bool  alone = false;

    for (int parts = 1; !alone && parts < 64; parts++) {
        free(label);
        label = tail(f->folders[which].dir, parts);
        alone = true;
        for (int i = 0; i < f->folder_count && alone; i++) {
            char *other = tail(f->folders[i].dir, parts);

            alone = i == which || strcmp(label, other) != 0;
            free(other);
        }
    }
    return label;
}

char *finding_sentence(const findings *f, finding_kind kind)
{
    static const struct {
        const char *one, *many;
    } says[FOUND_KINDS] = {
        { "pair of files has the same pixels", "pairs of files have the same pixels" },
        { "pair of files shows nearly the same picture",
          "pairs of files show nearly the same picture" },
        { "test frame is of a video that training has frames of",
          "test frames are of videos that training has frames of" },
        { "of these pairs has masks that differ", "of these pairs have masks that differ" },
        { "mask is empty", "masks are empty" },
        { "mask is full", "masks are full" },
        { "mask seems to be inverted", "masks seem to be inverted" },
        { "mask is speckled", "masks are speckled" },
        { "mask has more than two values", "masks have more than two values" },
        { "frame has a mask of other frames", "frames share a mask with other frames" },
        { "frame is very small", "frames are very small" },
        { "frame is black", "frames are black" },
        { "frame has one brightness", "frames have one brightness" },
        { "frame or file cannot be used", "frames or files cannot be used" },
    };
    int64_t n = findings_of(f, kind);

    return text_of("%lld %s", (long long)n, n == 1 ? says[kind].one : says[kind].many);
}

static bool is_train(const frames *f, int64_t i) { return f->folders[f->list[i].folder].train; }

void count_shared(const patient *p, bool video, int64_t *test, int64_t *train)
{
    const frames *f    = &p->frames;
    uint8_t      *seen = need((size_t)f->count);

    *test = *train = 0;
    for (int64_t i = 0; i < p->pairs.count; i++) {
        const pair *one = &p->pairs.list[i];

        if (!video && pair_is_copy(one, &p->s.at) && is_train(f, one->a) != is_train(f, one->b))
            seen[one->a] = seen[one->b] = 1;
    }
    for (int64_t i = 0; video && i < p->found.count; i++) {
        if (p->found.list[i].kind == FOUND_SEQUENCE) seen[p->found.list[i].a] = 1;
    }
    for (int64_t i = 0; i < f->count; i++) {
        if (video && (p->leave[i] & LEAVE_SEQUENCES)) seen[i] = 1;
        if (seen[i]) *(is_train(f, i) ? train : test) += 1;
    }
    free(seen);
}

/* ---- Summary --------------------------------------------------------------------------------- */

static int by_size(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;

    return a < b ? -1 : a > b;
}

/* Least, median and largest width or height of a folder's frames. */
static void print_side(const frames *f, const folder *from, bool height)
{
    int64_t *side = need((size_t)from->count * sizeof *side), n = 0;

    for (int64_t i = from->first; i < from->first + from->count; i++)
        if (f->list[i].read) side[n++] = height ? f->list[i].height : f->list[i].width;
    if (n) qsort(side, (size_t)n, sizeof *side, by_size);
    if (n)
        printf(", %s %lld to %lld (median %lld)", height ? "height" : "width", (long long)side[0],
               (long long)side[n - 1], (long long)side[n / 2]);
    free(side);
}

static void print_folders(const frames *f)
{
    printf("%lld frames in %d folder%s:\n", (long long)f->count, f->folder_count,
           f->folder_count == 1 ? "" : "s");
    for (int i = 0; i < f->folder_count; i++) {
        char *label = folder_label(f, i);

        printf("  %s (%s): %lld frames", label, f->folders[i].train ? "training" : "test",
               (long long)f->folders[i].count);
        print_side(f, &f->folders[i], false);
        print_side(f, &f->folders[i], true);
        printf("\n");
        free(label);
    }
}

static void print_frame(const frames *f, int64_t i)
{
    char *label = folder_label(f, f->list[i].folder);

    printf("%s/%s", label, f->list[i].name);
    free(label);
}

/* The most similar pairs of a kind; those between training and test if there are any. */
static void print_worst(const patient *p, finding_kind kind)
{
    const frames *f       = &p->frames;
    bool          crosses = false;
    int           shown   = 0;

    for (int64_t i = 0; i < p->found.count; i++) {
        const finding *one = &p->found.list[i];

        if (one->kind == kind && one->b >= 0 && is_train(f, one->a) != is_train(f, one->b))
            crosses = true;
    }
    for (int64_t i = 0; i < p->found.count && shown < WORST; i++) {
        const finding *one = &p->found.list[i];

        if (one->kind != kind || one->b < 0) continue;
        if (crosses && is_train(f, one->a) == is_train(f, one->b)) continue;
        printf("    %.3f  ", one->similarity);
        print_frame(f, one->a);
        printf(" and ");
        print_frame(f, one->b);
        printf(": %s\n", one->detail);
        shown++;
    }
}

/* How many training frames are of a video that others of them are of, too. No fault of a split
 * between training and test, so no finding; but to be known where frames are held out. */
static int64_t count_within(const patient *p)
{
    int64_t within = 0;

    for (int64_t i = 0; i < p->frames.count; i++)
        within += p->pairs.sequence[i] >= 0 && is_train(&p->frames, i);
    return within;
}

const char *tell_verdict(const patient *p)
{
    if (p->found.count) return NULL;
    return count_within(p) ? "No fault was found; one thing is to be known." : "Nothing was found.";
}

char *tell_within(const patient *p)
{
    int64_t within = count_within(p);

    if (!within) return NULL;
    return text_of("Training frames with neighbours of one video: %lld. If frames are held out of "
                   "these\nat random for validation, they are not independent of the rest.",
                   (long long)within);
}

static void print_shared(const patient *p)
{
    int64_t test, train;
    char   *within = tell_within(p);

    count_shared(p, false, &test, &train);
    if (test)
        printf("Test frames that show a picture of the training frames: %lld, of %lld of those.\n",
               (long long)test, (long long)train);
    count_shared(p, true, &test, &train);
    if (test)
        printf("Test frames of a video that training frames are of: %lld; such training frames: "
               "%lld.\n",
               (long long)test, (long long)train);
    if (within) puts(within);
    free(within);
}

/* The first findings of a kind that are about one frame. */
static void print_examples(const patient *p, finding_kind kind)
{
    int64_t n     = findings_of(&p->found, kind);
    int     shown = 0;

    for (int64_t i = 0; i < p->found.count && shown < 5; i++) {
        const finding *one = &p->found.list[i];

        if (one->kind != kind) continue;
        printf("    ");
        if (one->a >= 0) print_frame(&p->frames, one->a);
        printf("%s%s\n", one->a >= 0 ? ": " : "", one->detail);
        shown++;
    }
    if (n > shown) printf("    and %lld more\n", (long long)(n - shown));
}

void tell_summary(const patient *p)
{
    print_folders(&p->frames);
    printf("\n");
    if (tell_verdict(p)) puts(tell_verdict(p));
    print_shared(p);
    for (int k = 0; k < FOUND_KINDS; k++) {
        char *sentence;

        if (!findings_of(&p->found, k)) continue;
        sentence = finding_sentence(&p->found, k);
        printf("  %s.\n", sentence);
        free(sentence);
        if (k <= FOUND_MASK_DIFFERS)
            print_worst(p, k);
        else
            print_examples(p, k);
    }
}

/* ---- Files ----------------------------------------------------------------------------------- */

static void put_frame(FILE *to, const frames *f, int64_t i)
{
    if (i < 0) {
        fputs(",,", to);
        return;
    }
    fputc(',', to);
    csv_text(to, f->folders[f->list[i].folder].dir);
    fputc(',', to);
    csv_text(to, f->list[i].name);
}

bool tell_csv(const patient *p)
{
    output to;

    if (!output_open(&to, p->s.csv)) return false;
    fputs("finding,folder,frame,other_folder,other_frame,similarity,detail\n", to.file);
    for (int64_t i = 0; i < p->found.count; i++) {
        const finding *one = &p->found.list[i];

        fputs(finding_word(one->kind), to.file);
        if (one->a >= 0) {
            put_frame(to.file, &p->frames, one->a);
        } else {
            fputc(',', to.file);
            csv_text(to.file, p->frames.folders[one->folder].dir);
            fputc(',', to.file);
        }
        put_frame(to.file, &p->frames, one->b);
        fputc(',', to.file);
        if (!isnan(one->similarity)) fprintf(to.file, "%.4f", one->similarity);
        fputc(',', to.file);
        csv_text(to.file, one->detail);
        fputc('\n', to.file);
    }
    return output_close(&to);
}

bool tell_list(const patient *p, const char *path, bool keep)
{
    output to;

    if (!output_open(&to, path)) return false;
    for (int64_t i = 0; i < p->frames.count; i++) {
        const char *name  = p->frames.list[i].name;
        bool        train = p->frames.folders[p->frames.list[i].folder].train;

        if (!train || keep == ((p->leave[i] & p->s.leave) != 0)) continue;
        if (strchr(name, '\n'))
            say_error("warning: a name with a line break is not in the list: '%s'", name);
        else
            fprintf(to.file, "%s\n", name);
    }
    return output_close(&to);
}
