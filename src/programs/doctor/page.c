/* page.c - doctor.html: what was found, with pictures side by side. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "doctor/tell.h"
#include "html/page.h"
#include "pictures/picture.h"
#include "system/files.h"
#include "system/say.h"
#include "system/stop.h"

typedef struct drawing {
    const patient *p;
    kdas_context  *context;
    report        *page;
    const char *picture; /* the file that each sheet is written to before it goes into the page */
} drawing;

/* ---- Sheets ---------------------------------------------------------------------------------- */

/* Copy a sheet's panels into a wider sheet, from `left` on. */
static void paste(uint8_t *to, const kdas_view *whole, const kdas_view *part, int64_t left)
{
    const uint8_t *from = part->data;

    for (int64_t y = 0; y < part->height; y++)
        memcpy(to + 3 * (y * whole->width + left), from + 3 * y * part->width,
               (size_t)(3 * part->width));
}

/* A frame, and its mask over it if it has one. False after a sentence. */
static bool sheet_of(sheet *s, const drawing *d, int64_t i)
{
    const frame  *f     = &d->p->frames.list[i];
    kdas_dataset *set   = d->p->frames.folders[f->folder].set;
    kdas_image   *image = NULL, *mask = NULL;
    bool          done = ok(kdas_dataset_get(&image, &mask, set, f->index));

    if (done) {
        kdas_view view = kdas_image_view(image), marked = kdas_image_view(mask);

        done = sheet_begin(s, d->context, &view, mask ? 2 : 1);
        if (done) {
            done = sheet_frame(s, 0, f->name) &&
                   (!mask || sheet_mask(s, 1, "mask", &marked, colour_student));
            if (!done) sheet_end(s);
        }
    }
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    return done;
}

static bool put_view(const drawing *d, const kdas_view *view, const char *caption)
{
    return ok(kdas_image_save(d->context, d->picture, view)) &&
           report_picture(d->page, d->picture, "image/jpeg", caption);
}

static bool draw_one(const drawing *d, int64_t i, const char *caption)
{
    sheet s;
    bool  done = sheet_of(&s, d, i);

    if (done) {
        kdas_view view = kdas_image_view(s.image);

        done = put_view(d, &view, caption);
        sheet_end(&s);
    }
    return done;
}

static bool draw_two(const drawing *d, int64_t a, int64_t b, const char *caption)
{
    sheet       left = { 0 }, right = { 0 };
    kdas_image *both = NULL;
    bool        done = sheet_of(&left, d, a) && sheet_of(&right, d, b);

    if (done) {
        kdas_view one = kdas_image_view(left.image), two = kdas_image_view(right.image), whole;

        done = ok(kdas_image_create(&both, d->context, one.width + two.width,
                                    one.height > two.height ? one.height : two.height,
                                    KDAS_PIXEL_RGB8));
        if (done) {
            whole = kdas_image_view(both);
            paste(kdas_image_pixels(both), &whole, &one, 0);
            paste(kdas_image_pixels(both), &whole, &two, one.width);
            done = put_view(d, &whole, caption);
        }
    }
    kdas_image_destroy(both);
    sheet_end(&left);
    sheet_end(&right);
    return done;
}

/* ---- The page -------------------------------------------------------------------------------- */

static char *frame_label(const frames *f, int64_t i)
{
    char *label = folder_label(f, f->list[i].folder);
    char *text  = text_of("%s/%s", label, f->list[i].name);

    free(label);
    return text;
}

/* A finding as a picture, or as a line of text where no frame can be shown. */
static bool put_finding(const drawing *d, const finding *one)
{
    const frames *f    = &d->p->frames;
    bool          seen = one->a >= 0 && f->list[one->a].read;
    char         *a    = one->a >= 0 ? frame_label(f, one->a) : NULL;
    char         *b    = one->b >= 0 ? frame_label(f, one->b) : NULL;
    char *text = b   ? text_of("%s and %s, similarity %.3f: %s", a, b, one->similarity, one->detail)
                 : a ? text_of("%s: %s", a, one->detail)
                     : text_of("%s", one->detail);
    bool  done = true;

    if (!seen)
        report_text(d->page, text);
    else if (b)
        done = draw_two(d, one->a, one->b, text);
    else
        done = draw_one(d, one->a, text);
    free(a);
    free(b);
    free(text);
    return done;
}

/* Findings of a kind. Of pairs, those between training and test (`across`), or the others. */
static bool put_some(const drawing *d, finding_kind kind, bool in_pairs, bool across)
{
    const patient *p     = d->p;
    int64_t        shown = 0, left = 0;
    bool           done = true;

    for (int64_t i = 0; i < p->found.count && done && !stop_asked(); i++) {
        const finding *one = &p->found.list[i];
        const frames  *f   = &p->frames;

        if (one->kind != kind) continue;
        if (in_pairs && one->b >= 0 &&
            (f->folders[f->list[one->a].folder].train !=
             f->folders[f->list[one->b].folder].train) != across)
            continue;
        if (in_pairs && one->b < 0 && !across) continue;
        if (shown == p->s.pictures) {
            left++;
            continue;
        }
        if (!shown && in_pairs) {
            html_element(d->page->file, "<h3>",
                         across ? "Between training and test" : "Within training or within test",
                         "</h3>\n");
        }
        done = put_finding(d, one);
        shown++;
    }
    if (left) {
        char *text = text_of("And %lld more.", (long long)left);

        report_text(d->page, text);
        free(text);
    }
    return done && !stop_asked();
}

static bool put_kind(const drawing *d, finding_kind kind)
{
    char *title;
    bool  in_pairs = kind <= FOUND_MASK_DIFFERS;

    if (!findings_of(&d->p->found, kind)) return true;
    title = finding_sentence(&d->p->found, kind);
    report_section(d->page, title, NULL);
    free(title);
    return put_some(d, kind, in_pairs, true) && (!in_pairs || put_some(d, kind, true, false));
}

static void put_tile(report *r, const char *label, int64_t figure, const char *note)
{
    char *text = text_of("%lld", (long long)figure);

    report_tile(r, label, text, note);
    free(text);
}

static void put_head(const drawing *d)
{
    const patient *p = d->p;
    int64_t        test, train, masks = 0;

    report_tiles_begin(d->page);
    put_tile(d->page, "Frames", p->frames.count, "in all folders");
    count_shared(p, false, &test, &train);
    put_tile(d->page, "Test frames with a copy", test, "in the training frames");
    count_shared(p, true, &test, &train);
    put_tile(d->page, "Test frames of one video", test, "with training frames");
    for (int k = FOUND_MASK_EMPTY; k <= FOUND_MASK_REPEATED; k++)
        masks += findings_of(&p->found, k);
    put_tile(d->page, "Findings about masks", masks, "see below");
    report_tiles_end(d->page);
}

static void put_facts(const drawing *d)
{
    const patient *p      = d->p;
    char          *within = tell_within(p);

    if (within) report_section(d->page, "Frames of one video within training", within);
    free(within);

    report_section(d->page, "What was looked at", NULL);
    report_facts_begin(d->page);
    report_fact(d->page, "command", "%s", p->s.command);
    report_fact(d->page, "library", "libkdas %s", kdas_version_string());
    for (int i = 0; i < p->frames.folder_count; i++) {
        const folder *f = &p->frames.folders[i];

        report_fact(d->page, f->train ? "training" : "test", "%s: %lld frames", f->dir,
                    (long long)f->count);
    }
    report_fact(d->page, "similarity", "copies from %.2f on, one video from %.2f on",
                p->s.at.duplicate, p->s.at.sequence);
    report_facts_end(d->page);
}

bool tell_report(const patient *p, kdas_context *context)
{
    char   *path = text_of("%s/doctor.html", p->s.report);
    char   *part = text_of("%s/doctor.part.jpg", p->s.report);
    report  page;
    drawing d    = { p, context, &page, part };
    bool    done = folder_ready(p->s.report) &&
                report_begin(&page, path, "What kdas-doctor found", tell_verdict(p),
                             "Frames that training and test share, copies, frames of one video, "
                             "masks and files that look wrong.");

    if (done) {
        put_head(&d);
        for (int k = 0; k < FOUND_KINDS && done; k++)
            done = put_kind(&d, k);
        put_facts(&d);
        done = report_end(&page, done) && done;
    }
    remove(part);
    free(path);
    free(part);
    return done;
}
