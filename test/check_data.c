/* check_data.c - batches from pixels of every kind; datasets: folders good and bad, split, kept. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <kdas/data.h>
#include "base/context.h"
#include "support/check_util.h"

/* ---- A context whose memory is counted and can run out, and whose log is kept ---- */

static atomic_long  taken, given_back;
static atomic_long  fail_at; /* the allocation that fails, counted from 1; 0: none */
static kdas_context context;
static char         logged[4096];
static char         folder[64]; /* a dataset's, made for the test */

#define HUGE_BLOCK ((size_t)1 << 40) /* more than any machine here has; sanitizers abort on it */

static void *counted_alloc(void *user, size_t bytes)
{
    long  n   = atomic_fetch_add(&taken, 1) + 1;
    void *got = NULL;

    (void)user;
    if (n != fail_at && bytes < HUGE_BLOCK) got = malloc(bytes);
    if (!got) atomic_fetch_add(&given_back, 1); /* nothing to give back */
    return got;
}
static void counted_free(void *user, void *block)
{
    (void)user;
    atomic_fetch_add(&given_back, 1);
    free(block);
}
static void keep_log(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    ck_assert_int_eq(level, KDAS_LOG_WARN);
    strncat(logged, text, sizeof logged - strlen(logged) - 1);
}

static void run(const char *format, const char *a, const char *b)
{
    char command[512];

    snprintf(command, sizeof command, format, a, b);
    ck_assert_int_eq(system(command), 0);
}

static void setup(void)
{
    taken = given_back = fail_at = 0;
    logged[0]                    = 0;
    context = (kdas_context){ .alloc = counted_alloc, .free = counted_free, .log = keep_log };
    strcpy(folder, "/tmp/kdas-data-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    run("mkdir '%s/images' '%s/masks'", folder, folder);
}

static void teardown(void)
{
    run("rm -rf '%s'%s", folder, "");
    ck_assert_int_eq(taken, given_back);
}

/* ---- Pixels ---- */

static uint8_t byte_at(int64_t i) { return (uint8_t)(kd_mix64((uint64_t)i + 7) >> 56); }

/* "<folder>/<name>" written with pixels that depend on `salt`. */
static void write_picture(const char *name, int64_t width, int64_t height, kdas_pixel pixel,
                          int salt)
{
    int       samples = pixel == KDAS_PIXEL_GREY8 ? 1 : 3;
    uint8_t  *data    = malloc((size_t)(width * height * samples));
    kdas_view view    = { data, width, height, 0, pixel };
    char      path[256];

    for (int64_t i = 0; i < width * height * samples; i++)
        data[i] = byte_at(i + 1000 * salt);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    kd_assert_ok(kdas_image_save(&context, path, &view));
    free(data);
}

/* A frame `stem` with its mask, both PNG. */
static void write_pair(const char *stem, int64_t width, int64_t height)
{
    char name[64];

    snprintf(name, sizeof name, "images/%s.png", stem);
    write_picture(name, width, height, KDAS_PIXEL_RGB8, stem[0]);
    snprintf(name, sizeof name, "masks/%s.png", stem);
    write_picture(name, width, height, KDAS_PIXEL_GREY8, stem[0]);
}

static void write_text(const char *name, const char *text)
{
    char  path[256];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static float normal(double v, int c)
{
    static const float mean[3] = { 0.485f, 0.456f, 0.406f }, std[3] = { 0.229f, 0.224f, 0.225f };

    return ((float)v - mean[c]) / std[c];
}

/* ---- Batch ---- */

enum { W = 13, H = 9 };

/* An image of W x H in any kind, with 5 bytes (or floats) between rows that must not matter. */
static kdas_view image_of(void *memory, kdas_pixel pixel)
{
    int     samples = pixel == KDAS_PIXEL_GREY8 || pixel == KDAS_PIXEL_GREYF32 ? 1
                      : pixel == KDAS_PIXEL_RGBA8 || pixel == KDAS_PIXEL_BGRA8 ? 4
                                                                               : 3;
    bool    bgr     = pixel == KDAS_PIXEL_BGR8 || pixel == KDAS_PIXEL_BGRA8;
    bool    f       = pixel == KDAS_PIXEL_GREYF32 || pixel == KDAS_PIXEL_RGBF32;
    int64_t step    = W * samples + 5;

    for (int64_t y = 0; y < H; y++)
        for (int64_t k = 0; k < step; k++) {
            int64_t c = k % samples, x = k / samples;
            uint8_t v = byte_at((y * W + x) * 3 + (samples == 1 ? 0 : bgr && c < 3 ? 2 - c : c));

            if (k >= W * samples || c == 3) v = (uint8_t)(91 * k);
            if (f)
                ((float *)memory)[y * step + k] = (float)v / 255.0f;
            else
                ((uint8_t *)memory)[y * step + k] = v;
        }
    return (kdas_view){ memory, W, H, f ? step * (int64_t)sizeof(float) : step, pixel };
}

static kdas_batch *batch_of(int64_t count, int64_t height, int64_t width)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, &context, count, height, width));
    return b;
}

START_TEST(a_new_batch_is_zeros_of_the_size_asked)
{
    kdas_batch *b = batch_of(3, 32, 64), *none = b;

    ck_assert(kdas_batch_count(b) == 3 && kdas_batch_height(b) == 32 && kdas_batch_width(b) == 64);
    for (int64_t i = 0; i < 3 * 32 * 64; i++)
        if (kdas_batch_images(b)[3 * i] != 0 || kdas_batch_masks(b)[i] != 0)
            ck_abort_msg("at %d", (int)i);
    kd_assert_status(kdas_batch_resize(b, 0), KDAS_EINVAL);
    kd_assert_status(kdas_batch_resize(b, 4), KDAS_EINVAL);
    kd_assert_sentence("4 places of a batch made for 3");
    kd_assert_ok(kdas_batch_resize(b, 1));
    ck_assert_int_eq(kdas_batch_count(b), 1);
    kd_assert_ok(kdas_batch_resize(b, 3));
    kdas_batch_destroy(b);

    kd_assert_status(kdas_batch_create(&none, &context, 0, 32, 32), KDAS_EINVAL);
    ck_assert_ptr_null(none);
    kd_assert_status(kdas_batch_create(&none, &context, 1, -1, 32), KDAS_EINVAL);
    kd_assert_status(kdas_batch_create(&none, &context, 1, 32, INT64_MAX), KDAS_EINVAL);
    kd_assert_status(kdas_batch_create(&none, NULL, 1, 32, 32), KDAS_EINVAL);
    kd_assert_status(kdas_batch_create(NULL, &context, 1, 32, 32), KDAS_EINVAL);
    kd_assert_status(kdas_batch_create(&none, &context, INT32_MAX, 16384, 16384), KDAS_ENOMEM);
    kdas_batch_destroy(NULL);
}
END_TEST

START_TEST(every_pixel_kind_gives_the_same_normalised_numbers)
{
    static const kdas_pixel kinds[] = { KDAS_PIXEL_RGB8, KDAS_PIXEL_BGR8, KDAS_PIXEL_RGBA8,
                                        KDAS_PIXEL_BGRA8, KDAS_PIXEL_RGBF32 };
    float                   memory[(W * 4 + 5) * H];
    kdas_batch             *b = batch_of(2, H, W);

    for (size_t k = 0; k < KD_COUNT(kinds); k++) {
        kdas_view view = image_of(memory, kinds[k]);

        kd_assert_ok(kdas_batch_set(b, 1, &view, NULL));
        for (int64_t i = 0; i < W * H * 3; i++)
            ck_assert_float_eq(kdas_batch_images(b)[W * H * 3 + i],
                               normal((float)byte_at(i) / 255.0f, (int)(i % 3)));
    }
    for (int64_t i = 0; i < W * H * 3; i++)
        ck_assert_float_eq(kdas_batch_images(b)[i], 0); /* the other place */
    kdas_batch_destroy(b);
}
END_TEST

START_TEST(a_grey_image_fills_all_colours)
{
    static const kdas_pixel kinds[] = { KDAS_PIXEL_GREY8, KDAS_PIXEL_GREYF32 };
    float                   memory[(W + 5) * H];
    kdas_batch             *b = batch_of(1, H, W);

    for (size_t k = 0; k < KD_COUNT(kinds); k++) {
        kdas_view view = image_of(memory, kinds[k]);

        kd_assert_ok(kdas_batch_set(b, 0, &view, NULL));
        for (int64_t i = 0; i < W * H * 3; i++)
            ck_assert_float_eq_tol(kdas_batch_images(b)[i],
                                   normal((float)byte_at(i / 3 * 3) / 255.0f, (int)(i % 3)), 1e-6f);
    }
    kdas_batch_destroy(b);
}
END_TEST

/* The resize has golden values of its own; here: that it is the one in use, for all kinds. */
START_TEST(other_sizes_go_through_the_input_resize)
{
    static const kdas_pixel kinds[]    = { KDAS_PIXEL_RGB8, KDAS_PIXEL_BGR8, KDAS_PIXEL_RGBA8,
                                           KDAS_PIXEL_BGRA8 };
    static const int64_t    sizes[][2] = { { 32, 32 }, { 5, 7 }, { 4, 20 } };
    float                   memory[(W * 4 + 5) * H];

    for (size_t s = 0; s < KD_COUNT(sizes); s++) {
        int64_t     h = sizes[s][0], w = sizes[s][1];
        kdas_view   view = image_of(memory, KDAS_PIXEL_RGB8);
        kdas_batch *b    = batch_of(1, h, w);
        kdas_image *want;

        kd_assert_ok(kdas_image_resize(&want, &context, &view, w, h));
        for (size_t k = 0; k < KD_COUNT(kinds); k++) {
            view = image_of(memory, kinds[k]);
            kd_assert_ok(kdas_batch_set(b, 0, &view, NULL));
            for (int64_t i = 0; i < w * h * 3; i++)
                ck_assert_float_eq(
                    kdas_batch_images(b)[i],
                    normal((float)kdas_image_pixels(want)[i] / 255.0f, (int)(i % 3)));
        }
        view = image_of(memory, KDAS_PIXEL_RGBF32); /* without the two roundings to 8 bits */
        kd_assert_ok(kdas_batch_set(b, 0, &view, NULL));
        for (int64_t i = 0; i < w * h * 3; i++)
            ck_assert_float_eq_tol(kdas_batch_images(b)[i],
                                   normal((float)kdas_image_pixels(want)[i] / 255.0f, (int)(i % 3)),
                                   1.01f / 255 / 0.224f);
        kdas_image_destroy(want);
        kdas_batch_destroy(b);
    }
}
END_TEST

START_TEST(masks_are_cut_at_one_half_before_and_after_the_resize)
{
    static const uint8_t bytes[8]       = { 0, 1, 127, 128, 129, 200, 254, 255 };
    const float          floats[8]      = { 0, 0.4f, 0.5f, 0.50001f, 0.6f, 1, NAN, -3 };
    static const float   want_bytes[8]  = { 0, 0, 0, 1, 1, 1, 1, 1 };
    static const float   want_floats[8] = { 0, 0, 0, 1, 1, 1, 0, 0 };
    static const uint8_t edge[4]        = { 255, 255, 90, 90 };
    uint8_t              grey[8]        = { 0 };
    kdas_view            image          = { grey, 8, 1, 0, KDAS_PIXEL_GREY8 };
    kdas_view            mask           = { bytes, 8, 1, 0, KDAS_PIXEL_GREY8 };
    kdas_batch          *b              = batch_of(1, 1, 8);

    kd_assert_ok(kdas_batch_set(b, 0, &image, &mask));
    ck_assert(kd_test_same_bits(kdas_batch_masks(b), want_bytes, sizeof want_bytes));
    mask.data  = floats;
    mask.pixel = KDAS_PIXEL_GREYF32;
    kd_assert_ok(kdas_batch_set(b, 0, &image, &mask));
    ck_assert(kd_test_same_bits(kdas_batch_masks(b), want_floats, sizeof want_floats));

    image.width = 4;
    mask        = (kdas_view){ edge, 4, 1, 0, KDAS_PIXEL_GREY8 };
    kd_assert_ok(kdas_batch_set(b, 0, &image, &mask));
    for (int i = 0; i < 8; i++) /* at twice the size the edge stays in the middle */
        ck_assert_float_eq(kdas_batch_masks(b)[i], i < 4);
    kd_assert_ok(kdas_batch_set(b, 0, &image, NULL)); /* no mask: no polyp */
    for (int i = 0; i < 8; i++)
        ck_assert_float_eq(kdas_batch_masks(b)[i], 0);
    kdas_batch_destroy(b);
}
END_TEST

START_TEST(a_failed_set_leaves_the_place_as_it_was)
{
    uint8_t   data[20 * 20 * 4] = { 1, 2, 3 };
    kdas_view good              = { data, 20, 20, 0, KDAS_PIXEL_RGB8 };
    kdas_view truth             = { data, 20, 20, 0, KDAS_PIXEL_GREY8 };
    kdas_view   bad;
    kdas_batch *b = batch_of(2, 32, 32);
    float       before[2];

    kd_assert_ok(kdas_batch_set(b, 0, &good, &truth));
    kdas_batch_images(b)[5] = before[0] = 17.0f;
    kdas_batch_masks(b)[5] = before[1] = 18.0f;
#define REFUSED(i, image, mask, status, part)                    \
    kd_assert_status(kdas_batch_set(b, i, image, mask), status); \
    kd_assert_sentence(part);                                    \
    ck_assert_float_eq(kdas_batch_images(b)[5], before[0]);      \
    ck_assert_float_eq(kdas_batch_masks(b)[5], before[1])
    REFUSED(-1, &good, NULL, KDAS_EINVAL, "place -1");
    REFUSED(2, &good, NULL, KDAS_EINVAL, "place 2 of 2");
    REFUSED(0, NULL, NULL, KDAS_EINVAL, "NULL");
    bad = (kdas_view){ NULL, 20, 20, 0, KDAS_PIXEL_RGB8 };
    REFUSED(0, &bad, NULL, KDAS_EINVAL, "data");
    bad = (kdas_view){ data, 20, 20, 0, (kdas_pixel)99 };
    REFUSED(0, &bad, NULL, KDAS_EINVAL, "99");
    bad = (kdas_view){ data, 20, 20, 59, KDAS_PIXEL_RGB8 };
    REFUSED(0, &bad, NULL, KDAS_EINVAL, "59");
    bad = (kdas_view){ data, 0, 20, 0, KDAS_PIXEL_RGB8 };
    REFUSED(0, &bad, NULL, KDAS_EINVAL, "0x20");
    bad = (kdas_view){ data, 19, 20, 0, KDAS_PIXEL_GREY8 };
    REFUSED(0, &good, &bad, KDAS_ESHAPE, "19x20");
    bad = (kdas_view){ data, 20, 20, 0, KDAS_PIXEL_RGB8 };
    REFUSED(0, &good, &bad, KDAS_EINVAL, "GREY8");
    for (long k = 1;; k++) {
        kdas_status st;

        fail_at = taken + k;
        st      = kdas_batch_set(b, 0, &good, &truth);
        if (st == KDAS_OK) {
            ck_assert_int_gt(k, 3);
            break;
        }
        fail_at = 0;
        ck_assert_int_eq(st, KDAS_ENOMEM);
        ck_assert_float_eq(kdas_batch_images(b)[5], before[0]);
        ck_assert_float_eq(kdas_batch_masks(b)[5], before[1]);
    }
    fail_at = 0;
    ck_assert_float_ne(kdas_batch_images(b)[5], before[0]);
#undef REFUSED
    kd_assert_status(kdas_batch_set(NULL, 0, &good, NULL), KDAS_EINVAL);
    kdas_batch_destroy(b);
}
END_TEST

/* ---- Folders ---- */

static kdas_dataset *open_with(int32_t bad_file, uint64_t cache)
{
    kdas_dataset_options o;
    kdas_dataset        *dataset;

    kdas_dataset_options_init(&o, sizeof o);
    o.bad_file = bad_file;
    o.cache    = cache;
    kd_assert_ok(kdas_dataset_open(&dataset, &context, folder, &o));
    return dataset;
}

START_TEST(frames_are_matched_by_base_name_in_byte_order)
{
    static const char *const want[] = { "B", "a", "a-1", "a.b", "c" };
    kdas_dataset            *dataset;
    kdas_image              *image, *mask;

    write_pair("a-1", 8, 8);
    write_pair("a", 8, 9);
    write_pair("a.b", 8, 8);
    write_picture("images/c.JPG", 16, 8, KDAS_PIXEL_RGB8, 1);
    write_picture("masks/c.PNG", 16, 8, KDAS_PIXEL_GREY8, 1);
    write_picture("images/B.png", 8, 8, KDAS_PIXEL_GREY8, 1); /* a grey frame becomes RGB */
    write_picture("masks/B.jpeg", 8, 8, KDAS_PIXEL_RGB8, 1);
    write_text("images/.hidden.png", "not looked at");
    write_text("images/Thumbs.db", "not a picture");
    run("mkdir '%s/images/folder.png'%s", folder, "");
    dataset = open_with(KDAS_BAD_FILE_REFUSE, 1 << 20);
    ck_assert_int_eq(kdas_dataset_count(dataset), 5);
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 0);
    for (int i = 0; i < 5; i++) {
        kdas_view v, m;

        ck_assert_str_eq(kdas_dataset_name(dataset, i), want[i]);
        kd_assert_ok(kdas_dataset_get(dataset, i, &image, &mask));
        v = kdas_image_view(image);
        m = kdas_image_view(mask);
        ck_assert(v.pixel == KDAS_PIXEL_RGB8 && m.pixel == KDAS_PIXEL_GREY8);
        ck_assert(v.width == (i == 4 ? 16 : 8) && v.height == (i == 1 ? 9 : 8));
        ck_assert(m.width == v.width && m.height == v.height);
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    ck_assert_ptr_null(kdas_dataset_name(dataset, -1));
    ck_assert_ptr_null(kdas_dataset_name(dataset, 5));
    kd_assert_status(kdas_dataset_get(dataset, 5, &image, &mask), KDAS_EINVAL);
    kd_assert_sentence("frame 5 of 5");
    kd_assert_status(kdas_dataset_get(dataset, 0, NULL, &mask), KDAS_EINVAL);
    kdas_dataset_destroy(dataset);
    kdas_dataset_destroy(NULL);
}
END_TEST

START_TEST(singular_folder_names_are_found_too)
{
    kdas_dataset *dataset;

    write_pair("x", 8, 8);
    run("cd '%s' && mv images image && mv masks mask%s", folder, "");
    dataset = open_with(KDAS_BAD_FILE_REFUSE, 0);
    ck_assert_int_eq(kdas_dataset_count(dataset), 1);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* Ways in which the frame "bad" beside the frame "good" is not usable. */
static void no_mask(void) { write_picture("images/bad.png", 8, 8, KDAS_PIXEL_RGB8, 1); }
static void no_image(void) { write_picture("masks/bad.png", 8, 8, KDAS_PIXEL_GREY8, 1); }
static void other_size(void)
{
    no_mask();
    write_picture("masks/bad.png", 8, 7, KDAS_PIXEL_GREY8, 1);
}
static void two_images(void)
{
    write_pair("bad", 8, 8);
    write_picture("images/bad.jpg", 8, 8, KDAS_PIXEL_RGB8, 1);
}
static void two_masks(void)
{
    write_pair("bad", 8, 8);
    write_picture("masks/bad.jpg", 8, 8, KDAS_PIXEL_GREY8, 1);
}
static void text_file(void)
{
    write_pair("bad", 8, 8);
    write_text("images/bad.png", "I am no picture");
}
static void empty_mask(void)
{
    write_pair("bad", 8, 8);
    write_text("masks/bad.png", "");
}
static void tiff_image(void)
{
    write_text("images/bad.tif", "II*");
    no_image();
}
static void dangling_link(void)
{
    no_image();
    run("ln -s nowhere '%s/images/bad.png'%s", folder, "");
}

static const struct {
    void (*spoil)(void);
    kdas_status status;
    const char *part;
} bad_files[] = {
    { no_mask, KDAS_ESHAPE, "images/bad.png" },
    { no_image, KDAS_ESHAPE, "masks/bad.png" },
    { other_size, KDAS_ESHAPE, "8x7" },
    { two_images, KDAS_EFORMAT, "images/bad.jpg" },
    { two_masks, KDAS_EFORMAT, "masks/bad.jpg" },
    { text_file, KDAS_EFORMAT, "images/bad.png" },
    { empty_mask, KDAS_EFORMAT, "masks/bad.png" },
    { tiff_image, KDAS_EFORMAT, "images/bad.tif" },
    { dangling_link, KDAS_ENOTFOUND, "images/bad.png" },
};

START_TEST(a_bad_file_is_refused_or_skipped_by_name)
{
    kdas_dataset *dataset = NULL;

    write_pair("good", 8, 8);
    bad_files[_i].spoil();
    kd_assert_status(kdas_dataset_open(&dataset, &context, folder, NULL), bad_files[_i].status);
    kd_assert_sentence(bad_files[_i].part);
    ck_assert_ptr_null(dataset);
    ck_assert_str_eq(logged, "");

    dataset = open_with(KDAS_BAD_FILE_SKIP, 0);
    ck_assert_int_eq(kdas_dataset_count(dataset), 1);
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 1);
    ck_assert_str_eq(kdas_dataset_name(dataset, 0), "good");
    ck_assert_ptr_nonnull(strstr(logged, bad_files[_i].part));
    kdas_dataset_destroy(dataset);

    run("rm '%s/images/good.png' '%s/masks/good.png'", folder, folder);
    {
        kdas_dataset_options o;

        kdas_dataset_options_init(&o, sizeof o);
        o.bad_file = KDAS_BAD_FILE_SKIP;
        kd_assert_status(kdas_dataset_open(&dataset, &context, folder, &o), KDAS_EFORMAT);
        kd_assert_sentence("none of the 1 frames");
        kd_assert_sentence(bad_files[_i].part);
    }
}
END_TEST

START_TEST(missing_or_empty_folders_are_named)
{
    kdas_dataset        *dataset = NULL;
    kdas_dataset_options o;

    kd_assert_status(kdas_dataset_open(&dataset, &context, "/nowhere/at/all", NULL),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("/nowhere/at/all");
    kd_assert_status(kdas_dataset_open(&dataset, &context, folder, NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("images");
    run("rmdir '%s/masks'%s", folder, "");
    kd_assert_status(kdas_dataset_open(&dataset, &context, folder, NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("masks");
    run("rmdir '%s/images'%s", folder, "");
    kd_assert_status(kdas_dataset_open(&dataset, &context, folder, NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("'images' or 'image'");
    ck_assert_ptr_null(dataset);

    kd_assert_status(kdas_dataset_open(NULL, &context, folder, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_open(&dataset, NULL, folder, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_open(&dataset, &context, NULL, NULL), KDAS_EINVAL);
    kdas_dataset_options_init(&o, sizeof o);
    o.bad_file = 2;
    kd_assert_status(kdas_dataset_open(&dataset, &context, folder, &o), KDAS_EINVAL);
    kd_assert_sentence("bad_file is 2");
}
END_TEST

/* ---- Masks ---- */

START_TEST(masks_become_binary_whatever_their_channels)
{
    static const uint8_t grey[4] = { 0, 127, 128, 255 };
    static const uint8_t rgb[12] = { 0, 0, 0, 255, 0, 0, 0, 255, 0, 200, 200, 200 };
    static const uint8_t want[4] = { 0, 0, 255, 255 }; /* red has a luma of 76, green of 150 */
    kdas_view     g = { grey, 4, 1, 0, KDAS_PIXEL_GREY8 }, c = { rgb, 4, 1, 0, KDAS_PIXEL_RGB8 };
    kdas_dataset *dataset;
    char          path[256];

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/images/%c.png", folder, 'a' + i);
        kd_assert_ok(kdas_image_save(&context, path, &c));
        snprintf(path, sizeof path, "%s/masks/%c.png", folder, 'a' + i);
        kd_assert_ok(kdas_image_save(&context, path, i ? &c : &g));
    }
    dataset = open_with(KDAS_BAD_FILE_REFUSE, 0);
    for (int i = 0; i < 2; i++) {
        kdas_image *image, *mask;

        kd_assert_ok(kdas_dataset_get(dataset, i, &image, &mask));
        ck_assert(memcmp(kdas_image_pixels(image), rgb, sizeof rgb) == 0);
        ck_assert(memcmp(kdas_image_pixels(mask), want, 4) == 0);
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(an_all_black_mask_is_a_frame_without_a_polyp)
{
    uint8_t       black[8 * 8] = { 0 };
    kdas_view     view         = { black, 8, 8, 0, KDAS_PIXEL_GREY8 };
    char          path[256];
    kdas_dataset *dataset;
    kdas_image   *image, *mask;

    write_pair("x", 8, 8);
    snprintf(path, sizeof path, "%s/masks/x.png", folder);
    kd_assert_ok(kdas_image_save(&context, path, &view));
    dataset = open_with(KDAS_BAD_FILE_REFUSE, 0);
    kd_assert_ok(kdas_dataset_get(dataset, 0, &image, &mask));
    ck_assert(memcmp(kdas_image_pixels(mask), black, sizeof black) == 0);
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Use after opening ---- */

static kdas_status get_and_drop(kdas_dataset *dataset, int64_t i)
{
    kdas_image *image, *mask;
    kdas_status st = kdas_dataset_get(dataset, i, &image, &mask);

    ck_assert((image != NULL) == (st == KDAS_OK) && (mask != NULL) == (st == KDAS_OK));
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    return st;
}

START_TEST(a_file_gone_bad_after_opening_is_named_at_use)
{
    kdas_dataset *dataset;
    char          path[256];

    write_pair("a", 40, 40);
    write_pair("b", 40, 40);
    write_pair("c", 40, 40);
    write_pair("d", 40, 40);
    dataset = open_with(KDAS_BAD_FILE_REFUSE, 1 << 20);
    snprintf(path, sizeof path, "%s/images/a.png", folder);
    ck_assert_int_eq(truncate(path, 900), 0);
    write_picture("masks/b.png", 40, 41, KDAS_PIXEL_GREY8, 1);
    run("rm '%s/images/c.png'%s", folder, "");
    kd_assert_status(get_and_drop(dataset, 0), KDAS_EFORMAT);
    kd_assert_sentence("images/a.png");
    kd_assert_status(get_and_drop(dataset, 1), KDAS_EFORMAT);
    kd_assert_sentence("masks/b.png' was 40x40");
    kd_assert_status(get_and_drop(dataset, 2), KDAS_ENOTFOUND);
    kd_assert_sentence("images/c.png");
    kd_assert_ok(get_and_drop(dataset, 3));
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(decoded_frames_are_kept_up_to_the_budget)
{
    kdas_dataset *dataset;

    write_pair("a", 40, 40);
    write_pair("b", 40, 40);
    dataset = open_with(KDAS_BAD_FILE_REFUSE, 40 * 40 * 4 + 100); /* room for one */
    kd_assert_ok(get_and_drop(dataset, 1));
    kd_assert_ok(get_and_drop(dataset, 0));
    run("rm '%s'/*/a.png '%s'/*/b.png", folder, folder);
    kd_assert_ok(get_and_drop(dataset, 1));
    kd_assert_status(get_and_drop(dataset, 0), KDAS_ENOTFOUND);
    kdas_dataset_destroy(dataset);
}
END_TEST

struct reader {
    kdas_dataset *dataset;
    int64_t       first;
    uint64_t      hash;
};

/* All frames, beginning at `first`; the hash does not depend on where that is. */
static void *read_all(void *argument)
{
    struct reader *r = argument;

    for (int64_t k = 0; k < kdas_dataset_count(r->dataset); k++) {
        int64_t     i = (r->first + k) % kdas_dataset_count(r->dataset);
        kdas_image *image, *mask;
        kdas_view   v;

        if (kdas_dataset_get(r->dataset, i, &image, &mask) != KDAS_OK) return NULL;
        v = kdas_image_view(image);
        r->hash += kd_mix64((uint64_t)i) ^ kd_hash_bytes(v.data, (size_t)(v.height * v.stride));
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    return r;
}

START_TEST(threads_may_read_at_once)
{
    struct reader reader[4];
    pthread_t     thread[4];
    char          name[3] = "a";
    kdas_dataset *dataset;

    for (int i = 0; i < 12; i++) {
        name[0] = (char)('a' + i);
        write_pair(name, 30, 20);
    }
    dataset = open_with(KDAS_BAD_FILE_REFUSE, 6 * 30 * 20 * 4); /* half of them are kept */
    for (int i = 0; i < 4; i++) {
        reader[i] = (struct reader){ dataset, 3 * i, 0 };
        ck_assert_int_eq(pthread_create(&thread[i], NULL, read_all, &reader[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *done;

        pthread_join(thread[i], &done);
        ck_assert_ptr_eq(done, &reader[i]);
        ck_assert(reader[i].hash == reader[0].hash);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Split ---- */

static kdas_dataset *synthetic(int64_t count)
{
    kdas_scene_options o;
    kdas_dataset      *dataset;

    kdas_scene_options_init(&o, sizeof o);
    o.count = count;
    o.width = o.height = 32;
    kd_assert_ok(kdas_dataset_synthetic(&dataset, &context, &o));
    return dataset;
}

START_TEST(a_split_is_a_partition_in_order_decided_by_the_seed)
{
    kdas_dataset *all = synthetic(50), *rest, *part, *rest2, *part2, *other, *other_part;
    int64_t       r = 0, p = 0;

    kd_assert_ok(kdas_dataset_split(&rest, &part, all, 0.2, 7));
    ck_assert(kdas_dataset_count(rest) == 40 && kdas_dataset_count(part) == 10);
    for (int64_t i = 0; i < 50; i++) {
        const char *name = kdas_dataset_name(all, i);

        if (r < 40 && strcmp(kdas_dataset_name(rest, r), name) == 0)
            r++;
        else if (p < 10 && strcmp(kdas_dataset_name(part, p), name) == 0)
            p++;
        else
            ck_abort_msg("%s is in neither part", name);
    }
    ck_assert(r == 40 && p == 10);
    kd_assert_ok(kdas_dataset_split(&rest2, &part2, all, 0.2, 7));
    kd_assert_ok(kdas_dataset_split(&other, &other_part, all, 0.2, 8));
    ck_assert(kdas_dataset_hash(rest) == kdas_dataset_hash(rest2));
    ck_assert(kdas_dataset_hash(part) == kdas_dataset_hash(part2));
    ck_assert(kdas_dataset_hash(rest) != kdas_dataset_hash(other));
    ck_assert(kdas_dataset_hash(rest) != kdas_dataset_hash(all));
    ck_assert(kdas_dataset_hash(part) != kdas_dataset_hash(other_part));
    kdas_dataset_destroy(rest2);
    kdas_dataset_destroy(part2);
    kdas_dataset_destroy(other);
    kdas_dataset_destroy(other_part);

    kdas_dataset_destroy(all); /* the parts live on, and can be split again */
    kd_assert_ok(get_and_drop(part, 9));
    kd_assert_ok(kdas_dataset_split(&rest2, &part2, part, 0.5, 1));
    kdas_dataset_destroy(part);
    ck_assert(kdas_dataset_count(rest2) == 5 && kdas_dataset_count(part2) == 5);
    kd_assert_ok(get_and_drop(part2, 4));
    kdas_dataset_destroy(rest2);
    kdas_dataset_destroy(part2);
    kdas_dataset_destroy(rest);
}
END_TEST

START_TEST(shares_at_the_edge_keep_their_promise)
{
    static const struct {
        double  share;
        int64_t of, want;
    } rows[] = { { 0, 5, 0 },    { 1, 5, 5 },   { 0.01, 5, 1 },
                 { 0.99, 5, 4 }, { 0.5, 1, 1 }, { 0.1, 1, 0 } };
    kdas_dataset *rest, *part, *all;

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        all = synthetic(rows[i].of);
        kd_assert_ok(kdas_dataset_split(&rest, &part, all, rows[i].share, 3));
        ck_assert_int_eq(kdas_dataset_count(part), rows[i].want);
        ck_assert_int_eq(kdas_dataset_count(rest), rows[i].of - rows[i].want);
        kdas_dataset_destroy(rest);
        kdas_dataset_destroy(part);
        kdas_dataset_destroy(all);
    }
    all = synthetic(4);
    kd_assert_status(kdas_dataset_split(&rest, &part, all, -0.1, 3), KDAS_EINVAL);
    ck_assert(!rest && !part);
    kd_assert_status(kdas_dataset_split(&rest, &part, all, 1.1, 3), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_split(&rest, &part, all, NAN, 3), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_split(&rest, &part, NULL, 0.1, 3), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_split(&rest, &rest, all, 0.1, 3), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_split(NULL, &part, all, 0.1, 3), KDAS_EINVAL);
    kdas_dataset_destroy(all);
}
END_TEST

START_TEST(the_hash_tells_names_and_sizes_apart)
{
    kdas_dataset *dataset;
    uint64_t      hash[3];

    write_pair("a", 8, 9);
    for (int i = 0; i < 3; i++) {
        if (i == 1) write_pair("a", 9, 8);
        if (i == 2)
            run("cd '%s' && mv images/a.png images/b.png && mv masks/a.png masks/b.png%s", folder,
                "");
        dataset = open_with(KDAS_BAD_FILE_REFUSE, 0);
        hash[i] = kdas_dataset_hash(dataset);
        kdas_dataset_destroy(dataset);
    }
    ck_assert(hash[0] != hash[1] && hash[1] != hash[2] && hash[0] != hash[2]);
}
END_TEST

START_TEST(scene_datasets_give_the_drawn_scenes)
{
    kdas_scene_options o;
    kdas_dataset      *dataset;
    kdas_image        *image[2], *mask[2];

    kdas_scene_options_init(&o, sizeof o);
    o.count = 3;
    o.width = o.height = 48;
    kd_assert_ok(kdas_dataset_synthetic(&dataset, &context, &o));
    ck_assert_str_eq(kdas_dataset_name(dataset, 2), "scene-000002");
    for (int again = 0; again < 2; again++) { /* drawn, then kept */
        kd_assert_ok(kdas_dataset_get(dataset, 2, &image[0], &mask[0]));
        kd_assert_ok(kdas_scene_draw(&image[1], &mask[1], &context, &o, 2));
        ck_assert(memcmp(kdas_image_pixels(image[0]), kdas_image_pixels(image[1]), 48 * 48 * 3) ==
                  0);
        ck_assert(memcmp(kdas_image_pixels(mask[0]), kdas_image_pixels(mask[1]), 48 * 48) == 0);
        for (int i = 0; i < 2; i++) {
            kdas_image_destroy(image[i]);
            kdas_image_destroy(mask[i]);
        }
    }
    kdas_dataset_destroy(dataset);
    o.count = 0;
    kd_assert_status(kdas_dataset_synthetic(&dataset, &context, &o), KDAS_EINVAL);
    ck_assert_ptr_null(dataset);
}
END_TEST

/* ---- Memory that runs out ---- */

/* Open, read a frame, split. */
static kdas_status walk_folder(void)
{
    kdas_status          st      = KDAS_OK;
    kdas_dataset        *dataset = NULL, *rest = NULL, *part = NULL;
    kdas_image          *image = NULL, *mask = NULL;
    kdas_dataset_options o;

    kdas_dataset_options_init(&o, sizeof o);
    o.bad_file = KDAS_BAD_FILE_SKIP; /* lack of memory is no bad file */
    KD_TRY(kdas_dataset_open(&dataset, &context, folder, &o));
    ck_assert_int_eq(kdas_dataset_count(dataset), 3);
    KD_TRY(kdas_dataset_get(dataset, 1, &image, &mask));
    KD_TRY(kdas_dataset_split(&rest, &part, dataset, 0.4, 1));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(rest);
    kdas_dataset_destroy(dataset);
    kdas_dataset_destroy(part);
    return st;
}

static kdas_status walk_scenes(void)
{
    kdas_status        st      = KDAS_OK;
    kdas_dataset      *dataset = NULL;
    kdas_image        *image = NULL, *mask = NULL;
    kdas_scene_options o;

    kdas_scene_options_init(&o, sizeof o);
    o.count = 20;
    o.width = o.height = 32;
    KD_TRY(kdas_dataset_synthetic(&dataset, &context, &o));
    KD_TRY(kdas_dataset_get(dataset, 3, &image, &mask));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(dataset);
    return st;
}

START_TEST(any_allocation_may_fail)
{
    kdas_status (*walk)(void) = _i ? walk_scenes : walk_folder;
    long k;

    write_pair("a", 16, 16);
    write_pair("b", 16, 16);
    write_pair("c", 16, 16);
    for (k = 1; k < 1000; k++) {
        kdas_status st;

        fail_at = taken + k;
        st      = walk();
        ck_assert_int_eq(taken, given_back);
        if (st == KDAS_OK) break;
        ck_assert_int_eq(st, KDAS_ENOMEM);
    }
    fail_at = 0;
    ck_assert(k > 30 && k < 1000);
}
END_TEST

/* ---- Real files ---- */

START_TEST(the_training_folder_opens_whole)
{
    const char   *dir = kd_test_shared("data/polyp/TrainDataset");
    kdas_dataset *dataset;

    if (!dir) return;
    kd_assert_ok(kdas_dataset_open(&dataset, &context, dir, NULL));
    ck_assert_int_eq(kdas_dataset_count(dataset), 1450);
    ck_assert_str_eq(kdas_dataset_name(dataset, 0), "1");
    for (int64_t i = 0; i < 1450; i += 97)
        kd_assert_ok(get_and_drop(dataset, i));
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(quirky_masks_become_binary)
{
    static const char *const names[] = { "clinicdb_mask_rgb_nonbinary_1.png",
                                         "kvasir_mask_cju0u82z3cuma0835wlxrnrjv.jpg",
                                         "kvasir_mask_cju15wdt3zla10801odjiw7sy.jpg",
                                         "kvasir_mask_cju16ach3m1da0993r1dq3sn2.jpg" };
    const char              *dir     = kd_test_shared("data/quirks");
    char                     from[512];
    kdas_dataset            *dataset = NULL;

    if (!dir) return;
    for (size_t i = 0; i < KD_COUNT(names); i++) { /* the mask serves as its own image */
        snprintf(from, sizeof from, "%s/%s", dir, names[i]);
        run("cp '%s' '%s/images/'", from, folder);
        run("cp '%s' '%s/masks/'", from, folder);
    }
    dataset = open_with(KDAS_BAD_FILE_REFUSE, 0);
    ck_assert_int_eq(kdas_dataset_count(dataset), 4);
    for (int64_t i = 0; i < 4; i++) {
        kdas_image *image, *mask;
        kdas_view   v;
        int64_t     polyp = 0, other = 0;

        kd_assert_ok(kdas_dataset_get(dataset, i, &image, &mask));
        v = kdas_image_view(mask);
        for (int64_t k = 0; k < v.width * v.height; k++) {
            polyp += ((const uint8_t *)v.data)[k] == 255;
            other += ((const uint8_t *)v.data)[k] == 0;
        }
        ck_assert_int_eq(polyp + other, v.width * v.height);
        ck_assert(polyp > 100 && other > 100);
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_dataset_destroy(dataset);
    snprintf(from, sizeof from, "%s/colondb_packbits_1.tiff", dir);
    run("cp '%s' '%s/images/'", from, folder);
    run("cp '%s' '%s/masks/'", from, folder);
    kd_assert_status(kdas_dataset_open(&dataset, &context, folder, NULL), KDAS_EFORMAT);
    kd_assert_sentence("colondb_packbits_1.tiff");
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("data");
    TCase   *tc     = tcase_create("data");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_new_batch_is_zeros_of_the_size_asked);
    tcase_add_test(tc, every_pixel_kind_gives_the_same_normalised_numbers);
    tcase_add_test(tc, a_grey_image_fills_all_colours);
    tcase_add_test(tc, other_sizes_go_through_the_input_resize);
    tcase_add_test(tc, masks_are_cut_at_one_half_before_and_after_the_resize);
    tcase_add_test(tc, a_failed_set_leaves_the_place_as_it_was);
    tcase_add_test(tc, frames_are_matched_by_base_name_in_byte_order);
    tcase_add_test(tc, singular_folder_names_are_found_too);
    tcase_add_loop_test(tc, a_bad_file_is_refused_or_skipped_by_name, 0, KD_COUNT(bad_files));
    tcase_add_test(tc, missing_or_empty_folders_are_named);
    tcase_add_test(tc, masks_become_binary_whatever_their_channels);
    tcase_add_test(tc, an_all_black_mask_is_a_frame_without_a_polyp);
    tcase_add_test(tc, a_file_gone_bad_after_opening_is_named_at_use);
    tcase_add_test(tc, decoded_frames_are_kept_up_to_the_budget);
    tcase_add_test(tc, threads_may_read_at_once);
    tcase_add_test(tc, a_split_is_a_partition_in_order_decided_by_the_seed);
    tcase_add_test(tc, shares_at_the_edge_keep_their_promise);
    tcase_add_test(tc, the_hash_tells_names_and_sizes_apart);
    tcase_add_test(tc, scene_datasets_give_the_drawn_scenes);
    tcase_add_loop_test(tc, any_allocation_may_fail, 0, 2);
    tcase_add_test(tc, the_training_folder_opens_whole);
    tcase_add_test(tc, quirky_masks_become_binary);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
