/* text.c - texts that come from files, options and the environment. The first byte says which reader takes the rest. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "fuzz/fuzz.h"
#include "base/cores.h"
#include "base/text.h"
#include "data/name_list.h"
#include "distill/train.h"
#include "image/image.h"
#include "support/check_util.h"
#include "support/files.h"

/* ---- numbers: what strtoll and strtod of the C locale say ---- */

static void numbers(kdas_context *ctx, const char *text, size_t size)
{
    const char *end = NULL;
    char       *theirs;
    int64_t     whole = 0;
    double      real  = 0, want;
    bool        is;

    (void)ctx, (void)size;
    errno = 0;
    is    = kd_parse_whole(text, &end, &whole);
    if (is) {
        ck_assert_int_eq(whole, strtoll(text, &theirs, 10));
        ck_assert_ptr_eq(end, theirs);
        ck_assert_int_eq(errno, 0);
    }
    is = kd_parse_real(text, &end, &real);
    if (!is) return;
    want = strtod(text, &theirs);
    ck_assert_ptr_eq(end, theirs);
    ck_assert(isfinite(real) && memcmp(&real, &want, sizeof real) == 0);
}

/* ---- a list of frames ---- */

static void list(kdas_context *ctx, const char *text, size_t size)
{
    static bool  made;
    kd_pictures  images = { 0 }, masks = { 0 };
    kd_name_list names = { 0 };
    const char  *path  = kd_fuzz_path("set/images");
    kdas_status  st;

    if (!made) {
        static const char *const frames[] = { "a.png", "b c.png", "d,e.jpg", "sub/a.png",
                                              "\xC3\xA9.png" };

        mkdir(kd_fuzz_path("set"), 0777);
        for (int k = 0; k < 2; k++) {
            char dir[300], file[400];

            snprintf(dir, sizeof dir, "%s", kd_fuzz_path(k ? "set/masks" : "set/images"));
            snprintf(file, sizeof file, "%s/sub", dir);
            mkdir(dir, 0777);
            mkdir(file, 0777);
            for (size_t i = 0; i < KD_COUNT(frames); i++) {
                snprintf(file, sizeof file, "%s/%s", dir, frames[i]);
                kd_test_write(file, "x", 1);
            }
        }
        made = true;
    }
    kd_assert_ok(kd_pictures_list(&images, ctx, path, NULL));
    kd_assert_ok(kd_pictures_list(&masks, ctx, kd_fuzz_path("set/masks"), NULL));
    st = kd_name_list_read(&names, ctx, kd_fuzz_file((const uint8_t *)text, size), &images, &masks);
    if (kd_fuzz_refused_well(st, KDAS_ENOTFOUND))
        for (size_t i = 0; i < names.count; i++) {
            kd_fuzz_refused_well(kd_name_list_check(&names, i, &images), KDAS_ENOTFOUND);
            if (names.entry[i].name) ck_assert(kd_name_list_has(&names, names.entry[i].name));
        }
    kd_name_list_finish(&names, ctx);
    kd_pictures_finish(&images, ctx);
    kd_pictures_finish(&masks, ctx);
}

/* ---- options that are text ---- */

static void options(kdas_context *ctx, const char *text, size_t size)
{
    kdas_loss_options  o;
    kdas_optim_options optim;
    const char **const member[] = {
        &o.seg,        &o.guidance, &o.sym,  &o.axis,    &o.input,
        &o.similarity, &o.distance, &o.pair, &o.feature, &o.feature_taps
    };
    char        said[512], why[256] = "";
    const char *first = text, *second = strchr(text, '\n');
    char       *copy = strndup(text, size);

    (void)ctx;
    if (second) copy[second - text] = 0, second++;
    first = copy;
    kdas_loss_options_init(&o, sizeof o);
    kdas_loss_options_preset(&o, first);
    *member[size % KD_COUNT(member)] = first;
    if (second) *member[size / 10 % KD_COUNT(member)] = second;
    kdas_loss_options_describe(&o, said, sizeof said);
    kdas_optim_options_init(&optim, sizeof optim);
    optim.schedule = first;
    optim.rule     = second ? second : "adamw";
    optim.total    = 10;
    kdas_schedule_lr(3, &optim);
    kdas_metric_find(first);
    kdas_dataset_ignores(first);
    if (!strchr(first, '/')) kdas_backend_probe(first, "/dev/null:/nowhere", why, sizeof why);
    free(copy);
}

/* ---- facts of a network ---- */

static void facts(kdas_context *ctx, const char *text, size_t size)
{
    static kdas_model       *m;
    const char              *value   = strchr(text, '\n'), *key, *is;
    char                    *copy    = strndup(text, size);
    static const char *const known[] = { "threshold", "height", "width", "network" };
    int64_t                  h, w;
    float                    threshold;

    (void)ctx;
    if (!m) m = kd_fuzz_small_model(kd_fuzz_device());
    if (value) {
        copy[value - text] = 0;
        key                = size % 2 ? known[size / 2 % KD_COUNT(known)] : copy;
        if (kdas_model_set_fact(m, key, value + 1) == KDAS_OK) {
            is = kdas_model_fact(m, key);
            ck_assert(value[1] ? is && strcmp(is, value + 1) == 0 : !is || !is[0]);
            kdas_model_input_size(m, &h, &w);
            threshold = kdas_model_threshold(m);
            ck_assert(h % 32 == 0 && w % 32 == 0 && h > 0 && w > 0 && threshold >= 0 &&
                      threshold <= 1);
            kdas_model_set_fact(m, key, NULL);
        }
    }
    free(copy);
}

/* ---- log.csv that a run continues ---- */

static void train_log(kdas_context *ctx, const char *text, size_t size)
{
    kd_train_log log;
    const char  *path = kd_fuzz_path("log.csv");

    kd_test_write(path, text, size);
    kd_fuzz_refused_well(kd_train_log_init(&log, ctx, path, 1 + (int64_t)(size % 5)), KDAS_OK);
    if (log.used) ck_assert_int_eq(log.text[log.used - 1], '\n');
    kd_train_log_finish(&log);
}

/* ---- the kernel's texts about control groups ---- */

static void groups(kdas_context *ctx, const char *text, size_t size)
{
    const char *second = memchr(text, '\f', size), *third;
    size_t      n      = second ? (size_t)(second - text) : size;

    (void)ctx;
    mkdir(kd_fuzz_path("proc"), 0777);
    mkdir(kd_fuzz_path("proc/self"), 0777);
    mkdir(kd_fuzz_path("cg"), 0777);
    kd_test_write(kd_fuzz_path("proc/self/cgroup"), text, n);
    second = second ? second + 1 : "";
    third  = strchr(second, '\f');
    kd_test_write(kd_fuzz_path("proc/self/mountinfo"), second,
                  third ? (size_t)(third - second) : strlen(second));
    third = third ? third + 1 : "";
    kd_test_write(kd_fuzz_path("cg/cpu.max"), third, strlen(third));
    kd_test_write(kd_fuzz_path("cg/cpu.cfs_quota_us"), third, strlen(third));
    kd_test_write(kd_fuzz_path("cg/cpu.cfs_period_us"), third, strlen(third));
    ck_assert_int_ge(kd_quota_cpus(kd_fuzz_path("")), 0);
}

/* ---- names ---- */

static void names(kdas_context *ctx, const char *text, size_t size)
{
    char *composed = kd_composed(ctx, text), *again, *name = kd_picture_name(ctx, text),
         *stem = kd_path_stem(ctx, text);

    (void)size;
    ck_assert(composed && name && stem);
    again = kd_composed(ctx, composed);
    ck_assert_str_eq(composed, again);
    ck_assert_uint_le(strlen(kd_path_extension(text)), strlen(text));
    ck_assert_uint_le(strlen(kd_path_base(text)), strlen(text));
    kd_is_clutter(text);
    kd_same_letters(text, composed);
    kd_free(ctx, composed);
    kd_free(ctx, again);
    kd_free(ctx, name);
    kd_free(ctx, stem);
}

static void orientation(kdas_context *ctx, const char *text, size_t size)
{
    uint8_t *exact = malloc(size + 1);
    int      turn;

    (void)ctx;
    memcpy(exact, text, size);
    exact = realloc(exact, size ? size : 1);
    turn  = kd_exif_orientation(exact, size);
    ck_assert(turn >= 1 && turn <= 8);
    free(exact);
}

static void (*const readers[])(kdas_context *ctx, const char *text, size_t size) = {
    numbers, list, options, facts, train_log, groups, names, orientation,
};

static void run(const uint8_t *data, size_t size)
{
    kdas_context *ctx = kd_fuzz_begin();
    char         *text;
    uint8_t       which;

    if (size < 1) return;
    which = data[0] % (uint8_t)KD_COUNT(readers);
    text  = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    readers[which](ctx, text, size - 1);
    free(text);
    if (readers[which] != facts) kd_fuzz_end(); /* the network there stays */
}

#define SEED(name, text)             \
    {                                \
        name, text, sizeof(text) - 1 \
    }

static void seeds(void)
{
    static const struct {
        const char *name, *text;
        size_t      size;
    } seed[] = {
        SEED("whole", "\0-9223372036854775808 "),
        SEED("real", "\0 1.5e-3x"),
        SEED("list", "\1\xEF\xBB\xBF"
                     "a.png\r\nimages/sub/a\nb c\n./d,e.jpg 1\n"),
        SEED("preset", "\2kdas\nfeature"),
        SEED("taps", "\2s4:s8,s16:s16"),
        SEED("device", "\2cpu:0"),
        SEED("threshold", "\3threshold\n0.25"),
        SEED("height", "\3height\n352 "),
        SEED("log", "\4epoch,step,lr,total\n1,4,0.001,0.5\n2,8,0.001,0.25\n"),
        SEED("v2", "\5"
                   "0::/a\f30 23 0:26 / /cg rw - cgroup2 cgroup rw\f150000 100000\n"),
        SEED("v1",
             "\5"
             "4:cpu,cpuacct:/a\f30 23 0:26 /a /cg rw shared:9 - cgroup cgroup rw,cpu\f200000\n"),
        SEED("name", "\6"
                     "e\xCC\x81/B.JPG"),
        SEED("exif", "\7MM\0*\0\0\0\10\0\1\1\x12\0\3\0\0\0\1\0\6\0\0"),
    };

    for (size_t i = 0; i < KD_COUNT(seed); i++)
        kd_fuzz_seed(seed[i].name, seed[i].text, seed[i].size);
}

const kd_fuzz_target kd_fuzz_text = { "text", run, NULL, seeds };
