/* doctor_util.h - for suites of kdas-doctor: folders of drawn scenes, the program, the rows that it writes. */
#ifndef KD_TEST_DOCTOR_UTIL_H
#define KD_TEST_DOCTOR_UTIL_H
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

enum { WIDTH = 320, HEIGHT = 256, PIXELS = WIDTH * HEIGHT };

/* ---- Folders --------------------------------------------------------------------------------- */

/* A frame with its mask, both owned. */
typedef struct shot {
    kdas_image *image, *mask;
} shot;

static inline shot scene(int64_t i)
{
    kdas_scene_options o;
    shot               s;

    kdas_scene_options_init(&o, sizeof o);
    o.seed   = 7;
    o.width  = WIDTH;
    o.height = HEIGHT;
    kd_assert_ok(kdas_scene_draw(&s.image, &s.mask, kd_data_ctx, i, &o));
    return s;
}

static inline void save(const kdas_image *image, const char *folder, const char *part,
                        const char *file)
{
    char      name[400];
    kdas_view view = kdas_image_view(image);

    snprintf(name, sizeof name, "%s/%s", folder, part);
    kd_test_shell("mkdir -p '%s'%s", kd_test_path(name), "");
    snprintf(name, sizeof name, "%s/%s/%s", folder, part, file);
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(name), &view));
}

/* FOLDER/images/NAME.jpg or .png, and FOLDER/masks/NAME.png. The shot is destroyed. */
static inline void put(shot s, const char *folder, const char *name, const char *ending)
{
    char file[200];

    snprintf(file, sizeof file, "%s%s", name, ending);
    save(s.image, folder, "images", file);
    snprintf(file, sizeof file, "%s.png", name);
    save(s.mask, folder, "masks", file);
    kdas_image_destroy(s.image);
    kdas_image_destroy(s.mask);
}

/* Scenes from..from+count-1 as FOLDER/PREFIXa, PREFIXb ... */
static inline void put_scenes(const char *folder, const char *prefix, int from, int count)
{
    for (int i = 0; i < count; i++) {
        char name[40];

        snprintf(name, sizeof name, "%s%c", prefix, 'a' + i);
        put(scene(from + i), folder, name, ".png");
    }
}

/* ---- The program ----------------------------------------------------------------------------- */

static char *bin; /* absolute */

/* Run it in the test's folder; out.txt and err.txt there receive what it says. */
static inline int doctor(const char *arguments)
{
    char command[2000];
    int  status;

    snprintf(command, sizeof command,
             "cd '%s' && '%s/kdas-doctor' --threads 2 %s >out.txt 2>err.txt", kd_test_path(NULL),
             bin, arguments);
    status = system(command);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static inline bool file_has(const char *file, const char *text)
{
    size_t n;
    char  *bytes = (char *)kd_test_read(kd_test_path(file), &n);
    bool   found = strstr(bytes, text) != NULL;

    free(bytes);
    return found;
}

enum { FIELDS = 7, ROWS = 200, FIELD = 240 };
enum { KIND, DIR_A, NAME_A, DIR_B, NAME_B, SIMILARITY, DETAIL };

/* The rows of found.csv without its heading, read by the rules of RFC 4180. */
static int  rows;
static char cell[ROWS][FIELDS][FIELD];

static inline const char *read_field(const char *at, char *out)
{
    size_t n      = 0;
    bool   quoted = *at == '"';

    for (at += quoted; quoted || (*at != ',' && *at != '\n'); at++) {
        ck_assert(*at);
        if (quoted && *at == '"' && *++at != '"') break;
        ck_assert_uint_lt(n, FIELD - 1);
        out[n++] = *at;
    }
    out[n] = '\0';
    return at;
}

static inline void read_rows(void)
{
    size_t      n;
    char       *bytes = (char *)kd_test_read(kd_test_path("found.csv"), &n);
    const char *head  = "finding,folder,frame,other_folder,other_frame,similarity,detail\n";
    const char *at    = bytes + strlen(head);

    ck_assert(!strncmp(bytes, head, strlen(head)));
    for (rows = 0; *at; rows++) {
        ck_assert_int_lt(rows, ROWS);
        for (int k = 0; k < FIELDS; k++) {
            at = read_field(at, cell[rows][k]);
            ck_assert_int_eq(*at++, k + 1 < FIELDS ? ',' : '\n');
        }
    }
    free(bytes);
}

/* How many rows have a kind, and the first of them; `name`: only those with that first frame. */
static inline int rows_of(const char *kind, const char *name, int *first)
{
    int count = 0;

    for (int i = rows - 1; i >= 0; i--) {
        if (strcmp(cell[i][KIND], kind) != 0 || (name && strcmp(cell[i][NAME_A], name) != 0))
            continue;
        count++;
        if (first) *first = i;
    }
    return count;
}

/* ---- Changes that leave a picture what it is ------------------------------------------------- */

static inline kdas_image *resized(const kdas_image *image, int64_t width, int64_t height)
{
    kdas_view   view = kdas_image_view(image);
    kdas_image *out;

    kd_assert_ok(kdas_image_resize(&out, kd_data_ctx, &view, width, height));
    return out;
}

/* A part of it, as a new image. */
static inline kdas_image *cut(const kdas_image *image, int64_t x, int64_t y, int64_t width,
                              int64_t height)
{
    kdas_view   view = kdas_image_view(image);
    int64_t     size = view.pixel == KDAS_PIXEL_RGB8 ? 3 : 1;
    kdas_image *out;

    kd_assert_ok(kdas_image_create(&out, kd_data_ctx, width, height, view.pixel));
    for (int64_t k = 0; k < height; k++)
        memcpy(kdas_image_pixels(out) + k * width * size,
               (const uint8_t *)view.data + ((y + k) * view.width + x) * size,
               (size_t)(width * size));
    return out;
}

/* Mirrored, and with `turn` also with rows and columns exchanged. */
static inline kdas_image *mirrored(const kdas_image *image, bool turn)
{
    kdas_view view = kdas_image_view(image);
    int64_t   size = view.pixel == KDAS_PIXEL_RGB8 ? 3 : 1, w = turn ? view.height : view.width;
    const uint8_t *from = view.data;
    kdas_image    *out;

    kd_assert_ok(
        kdas_image_create(&out, kd_data_ctx, w, turn ? view.width : view.height, view.pixel));
    for (int64_t y = 0; y < view.height; y++) {
        for (int64_t x = 0; x < view.width; x++) {
            int64_t to = turn ? x * w + (w - 1 - y) : y * w + (w - 1 - x);

            memcpy(kdas_image_pixels(out) + to * size, from + (y * view.width + x) * size,
                   (size_t)size);
        }
    }
    return out;
}

/* Its values times `gain`, in a black frame `wide` pixels wide. */
static inline kdas_image *dimmed(const kdas_image *image, double gain, int64_t wide)
{
    kdas_view   view = kdas_image_view(image);
    int64_t     size = view.pixel == KDAS_PIXEL_RGB8 ? 3 : 1, width = view.width + 2 * wide;
    kdas_image *out;

    kd_assert_ok(kdas_image_create(&out, kd_data_ctx, width, view.height + wide, view.pixel));
    for (int64_t y = 0; y < view.height; y++)
        for (int64_t x = 0; x < view.width * size; x++)
            kdas_image_pixels(out)[y * width * size + wide * size + x] =
                (uint8_t)(gain * ((const uint8_t *)view.data)[y * view.width * size + x] + 0.5);
    return out;
}

static inline kdas_image *same(const kdas_image *i) { return cut(i, 0, 0, WIDTH, HEIGHT); }
static inline kdas_image *half(const kdas_image *i) { return resized(i, WIDTH / 2, HEIGHT / 2); }
static inline kdas_image *square(const kdas_image *i) { return resized(i, 500, 500); }
static inline kdas_image *mirror(const kdas_image *i) { return mirrored(i, false); }
static inline kdas_image *quarter(const kdas_image *i) { return mirrored(i, true); }
static inline kdas_image *crop(const kdas_image *i)
{
    return cut(i, 12, 5, WIDTH - 18, HEIGHT - 14);
}
static inline kdas_image *darker(const kdas_image *i)
{
    return dimmed(i, kdas_image_view(i).pixel == KDAS_PIXEL_RGB8 ? 0.65 : 1, 0);
}
static inline kdas_image *bordered(const kdas_image *i) { return dimmed(i, 1, 30); }

#endif
