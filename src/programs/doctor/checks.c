/* checks.c - from what was measured to what is reported. */
#include "doctor/checks.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "system/say.h"

enum { SMALL = 64, REPEATED = 3, SPECKS = 8 };
static const double FULL = 0.9995, INVERTED = 0.7, GREY = 0.005;

static void about_frame(findings *to, const frames *f, int64_t i, finding_kind kind, char *detail)
{
    findings_add(to, (finding){ kind, f->list[i].folder, i, -1, NAN, detail });
}

/* ---- Frames and masks ------------------------------------------------------------------------ */

static void check_mask(findings *to, const frames *f, int64_t i)
{
    const mask_facts *m = &f->list[i].mask;

    if (m->covered == 0) {
        about_frame(to, f, i, FOUND_MASK_EMPTY, text_of("the mask has no polyp"));
    } else if (m->covered >= FULL) {
        about_frame(to, f, i, FOUND_MASK_FULL,
                    text_of("%.2f %% of the mask are polyp", 100 * m->covered));
    } else if (m->border >= INVERTED && m->covered > 0.5) {
        about_frame(to, f, i, FOUND_MASK_INVERTED,
                    text_of("%.0f %% of the frame's edge are polyp: is the mask inverted?",
                            100 * m->border));
    }
    if (m->specks >= SPECKS) {
        about_frame(
            to, f, i, FOUND_MASK_SPECKLED,
            text_of("the mask has %lld specks or holes of a few pixels", (long long)m->specks));
    }
    if (m->between > GREY) {
        about_frame(
            to, f, i, FOUND_MASK_GREY,
            text_of("%.1f %% of the mask's pixels are neither dark nor bright", 100 * m->between));
    }
}

static void check_image(findings *to, const frames *f, int64_t i)
{
    const frame *one = &f->list[i];

    if (one->width < SMALL || one->height < SMALL) {
        about_frame(to, f, i, FOUND_FRAME_SMALL,
                    text_of("%lld x %lld pixels", (long long)one->width, (long long)one->height));
    }
    if (one->mean < 6 && one->deviation < 6) {
        about_frame(to, f, i, FOUND_FRAME_BLACK,
                    text_of("black: its mean brightness is %.1f of 255", one->mean));
    } else if (one->deviation < 3) {
        about_frame(to, f, i, FOUND_FRAME_CONSTANT,
                    text_of("constant: its brightness is %.0f of 255, deviation %.1f", one->mean,
                            one->deviation));
    }
}

typedef struct owned_mask {
    uint64_t hash, pixels;
    int64_t  frame;
} owned_mask;

static int by_mask(const void *x, const void *y)
{
    const owned_mask *a = x, *b = y;

    if (a->hash != b->hash) return a->hash < b->hash ? -1 : 1;
    if (a->pixels != b->pixels) return a->pixels < b->pixels ? -1 : 1;
    return a->frame < b->frame ? -1 : a->frame > b->frame;
}

/* One mask for several frames that are not the same picture. */
static void check_repeated(findings *to, const frames *f)
{
    owned_mask *list  = need((size_t)f->count * sizeof *list);
    int64_t     count = 0;

    for (int64_t i = 0; i < f->count; i++) {
        const frame *one = &f->list[i];

        if (one->read && one->masked && one->mask.covered > 0 && one->mask.covered < FULL)
            list[count++] = (owned_mask){ one->mask.hash, one->pixels, i };
    }
    if (count) qsort(list, (size_t)count, sizeof *list, by_mask);
    for (int64_t i = 0, k; i < count; i = k) {
        int64_t pictures = 1;

        for (k = i + 1; k < count && list[k].hash == list[i].hash; k++)
            pictures += list[k].pixels != list[k - 1].pixels;
        for (int64_t m = i; pictures >= REPEATED && m < k; m++) {
            about_frame(to, f, list[m].frame, FOUND_MASK_REPEATED,
                        text_of("%lld different frames have this mask", (long long)pictures));
        }
    }
    free(list);
}

void check_frames(findings *found, const frames *f)
{
    for (int64_t i = 0; i < f->count; i++) {
        if (!f->list[i].read) continue;
        check_image(found, f, i);
        if (f->list[i].masked) check_mask(found, f, i);
    }
    check_repeated(found, f);
}

/* ---- Pairs ----------------------------------------------------------------------------------- */

static bool trains(const frames *f, int64_t i) { return f->folders[f->list[i].folder].train; }

static bool crosses(const frames *f, const pair *p) { return trains(f, p->a) != trains(f, p->b); }

static void check_copy(findings *to, const frames *f, const pair *p, const limits *at)
{
    const frame *a = &f->list[p->a], *b = &f->list[p->b];
    const char  *where = crosses(f, p) ? ", one in training and one in test" : "";

    if (p->identical) {
        findings_add(to, (finding){ FOUND_IDENTICAL, a->folder, p->a, p->b, 1,
                                    text_of("the same pixels%s", where) });
    } else {
        findings_add(to, (finding){ FOUND_DUPLICATE, a->folder, p->a, p->b, p->similarity,
                                    text_of("nearly the same picture%s%s%s", p->variant ? ", " : "",
                                            p->variant ? sketch_variant(p->variant) : "", where) });
    }
    if (a->masked && b->masked && p->dice < at->dice) {
        findings_add(to, (finding){ FOUND_MASK_DIFFERS, a->folder, p->a, p->b, p->similarity,
                                    text_of("one picture, but the Dice of the two masks is %.2f",
                                            p->dice) });
    }
}

/* How many frames of a sequence are trained on, and tested on. */
static int64_t (*sizes_of(const frames *f, const pairs *p))[2]
{
    int64_t(*sizes)[2] = need((size_t)(p->sequences + 1) * sizeof *sizes);

    for (int64_t i = 0; i < f->count; i++)
        if (p->sequence[i] >= 0) sizes[p->sequence[i]][!trains(f, i)]++;
    return sizes;
}

/* For each test frame of a sequence that training has frames of: its nearest training frame, or
 * -1 if only other test frames connect it. */
static void check_sequences(findings *to, const frames *f, const pairs *p)
{
    int64_t(*sizes)[2]   = sizes_of(f, p);
    const pair **nearest = need((size_t)f->count * sizeof(const pair *));

    for (int64_t i = 0; i < p->count; i++) {
        const pair *one  = &p->list[i];
        int64_t     test = trains(f, one->a) ? one->b : one->a;

        if (one->variant || !crosses(f, one)) continue;
        if (!nearest[test] || nearest[test]->similarity < one->similarity) nearest[test] = one;
    }
    for (int64_t i = 0; i < f->count; i++) {
        const int64_t *size = p->sequence[i] < 0 ? NULL : sizes[p->sequence[i]];
        int64_t        near;

        if (!size || trains(f, i) || !size[0]) continue;
        near = !nearest[i] ? -1 : nearest[i]->a == i ? nearest[i]->b : nearest[i]->a;
        findings_add(
            to, (finding){ FOUND_SEQUENCE, f->list[i].folder, i, near,
                           nearest[i] ? nearest[i]->similarity : NAN,
                           text_of("sequence %d: frames of one video, %lld in training and "
                                   "%lld in test",
                                   p->sequence[i] + 1, (long long)size[0], (long long)size[1]) });
    }
    free(nearest);
    free(sizes);
}

void check_pairs(findings *found, const frames *f, const pairs *p, const limits *at)
{
    for (int64_t i = 0; i < p->count; i++)
        if (pair_is_copy(&p->list[i], at)) check_copy(found, f, &p->list[i], at);
    check_sequences(found, f, p);
}

/* ---- Frames to leave out --------------------------------------------------------------------- */

static void leave(uint8_t *reasons, const frames *f, int64_t i, int why)
{
    if (i >= 0 && trains(f, i)) reasons[i] |= (uint8_t)why;
}

uint8_t *frames_to_leave(const findings *found, const frames *f, const pairs *p, const limits *at)
{
    uint8_t *reasons   = need((size_t)f->count);
    int64_t(*sizes)[2] = sizes_of(f, p);

    for (int64_t i = 0; i < p->count; i++) {
        const pair *one = &p->list[i];

        if (!pair_is_copy(one, at)) continue;
        if (crosses(f, one)) {
            leave(reasons, f, one->a, LEAVE_COPIES);
            leave(reasons, f, one->b, LEAVE_COPIES);
        } else if (!(reasons[one->a] & LEAVE_REPEATS)) {
            leave(reasons, f, one->b, LEAVE_REPEATS);
        }
    }
    for (int64_t i = 0; i < f->count; i++)
        if (p->sequence[i] >= 0 && sizes[p->sequence[i]][1]) leave(reasons, f, i, LEAVE_SEQUENCES);
    for (int64_t i = 0; i < found->count; i++) {
        switch (found->list[i].kind) {
        case FOUND_MASK_FULL:
        case FOUND_MASK_INVERTED: leave(reasons, f, found->list[i].a, LEAVE_MASKS); break;
        case FOUND_FRAME_BLACK:
        case FOUND_FRAME_CONSTANT:
        case FOUND_UNREADABLE: leave(reasons, f, found->list[i].a, LEAVE_FILES); break;
        default: break;
        }
    }
    free(sizes);
    return reasons;
}
