/* options.c - option structs with any members, of any size: each is taken or refused with a sentence, and what is read back
 * from what was made is taken again. Pointers are NULL or one of a few texts; all else is bytes of the input. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz/fuzz.h"
#include "base/context.h"
#include "support/check_util.h"
#include "support/small_nets.h"

enum { ROOM = 1024, POINTERS = 16 };

static struct world {
    kdas_context *ctx;
    kdas_model   *student, *teacher;
    kdas_dataset *frames;
    kd_model_def  def;
} w;

static void start(void)
{
    kdas_scene_options scenes;
    kdas_model_options o;

    if (w.ctx) return;
    w.ctx = kd_fuzz_device();
    w.def = kd_test_small_def("small", KD_TEST_SMALL(2, KD_TEST_USUAL_STRIDES), &kd_rules_common);
    w.teacher = kd_fuzz_small_model(w.ctx);
    kdas_model_options_init(&o, sizeof o);
    kd_assert_ok(kd_model_create(&w.student, w.ctx, &w.def, &o));
    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 3;
    scenes.width = scenes.height = 32;
    kd_assert_ok(kdas_dataset_synthetic(&w.frames, w.ctx, &scenes));
}

/* ---- a struct ---- */

typedef struct made {
    unsigned char *bytes; /* exactly as many as its size says, when that is more than none */
    size_t         size;
} made;

static const char *text_of(uint8_t i)
{
    static const char *const texts[] = {
        NULL,
        "",
        "none",
        "kl",
        "attention",
        "attention+sgm",
        "published",
        "covariance",
        "sum",
        "correlation",
        "spatial",
        "row",
        "channel",
        "pixel",
        "logits",
        "probability",
        "standardised",
        "dot",
        "cosine",
        "squared",
        "pearson",
        "deep",
        "spread",
        "answer",
        "bce_dice",
        "bce_jaccard",
        "structure",
        "structure_published",
        "s4:s4",
        "s8:s8,s16:s16",
        "s32",
        "cpu",
        "reference",
        "cpu:0",
        "cpu:1",
        "far",
        "avx2",
        "plain",
        "amx",
        "adamw",
        "sgd",
        "constant",
        "step",
        "cosine",
        "poly",
        "bias,norm",
        ",,",
        "level0.",
        "no such",
        "mse",
        "attention_transfer",
        "similarity",
    };

    return texts[i % KD_COUNT(texts)];
}

/* Ranks are handles, which no bytes can be: the member at `at` is NULL, as far as it is there. */
static void no_ranks(made *m, size_t at)
{
    size_t end = m->size < at + sizeof(void *) ? m->size : at + sizeof(void *);

    if (m->size > at) memset(m->bytes + at, 0, end - at);
}

/* The defaults in `init`, of `size` bytes, with members altered as the input says. Pointers are at `pointer`, in bytes. */
static made alter(kd_fuzz_bytes *b, const void *init, size_t size, const size_t *pointer,
                  size_t pointers)
{
    unsigned char room[ROOM] = { 0 };
    made          m          = { NULL, size };
    uint8_t       n          = kd_fuzz_byte(b) % 12;
    size_t        kept;

    memcpy(room, init, size);
    for (uint8_t k = 0; k < n; k++) {
        uint8_t how = kd_fuzz_byte(b);
        size_t  at  = sizeof(size_t) + kd_fuzz_byte(b) % ((size - sizeof(size_t)) / 4) * 4;
        int64_t whole;
        float   narrow;
        bool    inside = false;

        for (size_t i = 0; i < pointers; i++)
            if (at + 8 > pointer[i] && at < pointer[i] + 8) inside = true;
        if (inside || how % 4 == 3) {
            if (!pointers) continue;
            const char *text = text_of(kd_fuzz_byte(b));

            memcpy(room + pointer[how / 4 % pointers], &text, sizeof text);
            continue;
        }
        narrow = (float)kd_fuzz_real(b);
        whole  = kd_fuzz_whole(b);
        if (how % 4 == 0) memcpy(room + at, &narrow, 4);
        if (how % 4 == 1) memcpy(room + at, &whole, 4);
        if (how % 4 == 2 && at % 8 == 0 && at + 8 <= size) {
            for (size_t i = 0; i < pointers; i++)
                if (at + 8 > pointer[i] && at < pointer[i] + 8) inside = true;
            memcpy(room + at, &whole, 8);
        }
    }
    if (kd_fuzz_byte(b) % 8 == 7) m.size = kd_fuzz_number(b, 2) % ROOM;
    kept = m.size < sizeof(size_t) ? sizeof(size_t) : m.size;
    memcpy(room, &m.size, sizeof m.size);
    m.bytes = malloc(kept);
    memcpy(m.bytes, room, kept);
    return m;
}

#define ALTER(b, type, init_, ...)                                             \
    ({                                                                         \
        type         init_of;                                                  \
        const size_t at_[] = { __VA_ARGS__ };                                  \
        init_(&init_of, sizeof init_of);                                       \
        alter(b, &init_of, sizeof init_of, at_, sizeof(at_) / sizeof(at_[0])); \
    })

static bool taken(kdas_status st)
{
    static const kdas_status refusals[] = { KDAS_EINVAL,   KDAS_ENOMEM,  KDAS_ENOTFOUND,
                                            KDAS_ESHAPE,   KDAS_ESTATE,  KDAS_EUNSUPPORTED,
                                            KDAS_EBACKEND, KDAS_ENUMERIC };

    if (st == KDAS_OK) return true;
    ck_assert(kdas_last_error()[0]);
    for (size_t i = 0; i < KD_COUNT(refusals); i++)
        if (st == refusals[i]) return false;
    ck_abort_msg("%s: %s", kdas_status_name(st), kdas_last_error());
    return false;
}

/* What was read back from what was made is taken again, if there is memory. */
static void again_taken(kdas_status st)
{
    ck_assert_msg(st == KDAS_OK || st == KDAS_ENOMEM, "its own options are refused: %s",
                  kdas_last_error());
}

/* ---- one function for each struct ---- */

static void context(kd_fuzz_bytes *b)
{
    made          m = ALTER(b, kdas_context_options, kdas_context_options_init,
                            offsetof(kdas_context_options, device), offsetof(kdas_context_options, isa),
                            offsetof(kdas_context_options, log), offsetof(kdas_context_options, log_user),
                            offsetof(kdas_context_options, alloc), offsetof(kdas_context_options, free),
                            offsetof(kdas_context_options, alloc_user),
                            offsetof(kdas_context_options, plugin_path));
    kdas_context *ctx;
    size_t        functions[] = { offsetof(kdas_context_options, log),
                                  offsetof(kdas_context_options, alloc),
                                  offsetof(kdas_context_options, free) };

    for (size_t i = 0; i < KD_COUNT(functions); i++)
        if (functions[i] + 8 <= m.size) memset(m.bytes + functions[i], 0, 8);
    taken(kdas_context_create(&ctx, (kdas_context_options *)m.bytes));
    kdas_context_destroy(ctx);
    free(m.bytes);
}

static void loss(kd_fuzz_bytes *b)
{
    made m = ALTER(b, kdas_loss_options, kdas_loss_options_init, offsetof(kdas_loss_options, seg),
                   offsetof(kdas_loss_options, guidance), offsetof(kdas_loss_options, sym),
                   offsetof(kdas_loss_options, axis), offsetof(kdas_loss_options, input),
                   offsetof(kdas_loss_options, similarity), offsetof(kdas_loss_options, distance),
                   offsetof(kdas_loss_options, pair), offsetof(kdas_loss_options, feature),
                   offsetof(kdas_loss_options, feature_taps));
    kdas_loss        *l, *again = NULL;
    kdas_optim       *optim;
    kdas_distiller   *d    = NULL;
    kdas_loss_options back = { .size = sizeof back };
    char              said[300];

    kdas_loss_options_describe((kdas_loss_options *)m.bytes, said, sizeof said);
    if (taken(kdas_loss_create(&l, w.ctx, (kdas_loss_options *)m.bytes))) {
        kd_assert_ok(kdas_loss_get_options(l, &back));
        again_taken(kdas_loss_create(&again, w.ctx, &back));
        kd_assert_ok(kdas_optim_create(&optim, w.student, NULL));
        if (taken(kdas_distiller_create(&d, w.teacher, w.student, l, optim, NULL))) {
            kdas_batch *batch = kd_test_small_batch(w.ctx, 2, 32, "loss");

            taken(kdas_distiller_step(d, batch, NULL));
            kdas_batch_destroy(batch);
        }
        kdas_distiller_destroy(d);
        kdas_optim_destroy(optim);
    }
    kdas_loss_destroy(again);
    kdas_loss_destroy(l);
    free(m.bytes);
}

static void optim(kd_fuzz_bytes *b)
{
    made m =
        ALTER(b, kdas_optim_options, kdas_optim_options_init, offsetof(kdas_optim_options, rule),
              offsetof(kdas_optim_options, schedule), offsetof(kdas_optim_options, no_decay));
    kdas_optim *o;
    int64_t     t  = kd_fuzz_whole(b);
    double      lr = kdas_schedule_lr(t, (kdas_optim_options *)m.bytes);

    if (taken(kdas_optim_create(&o, w.student, (kdas_optim_options *)m.bytes))) {
        ck_assert(t < 0 ? isnan(lr) : isfinite(lr) && lr >= 0);
        ck_assert(isfinite(kdas_optim_lr(o)));
        kd_assert_ok(kdas_model_zero_gradients(w.student));
        taken(kdas_optim_step(o));
        taken(kdas_optim_set_lr(o, (float)kd_fuzz_real(b)));
    }
    kdas_optim_destroy(o);
    free(m.bytes);
}

static void loader(kd_fuzz_bytes *b)
{
    made                m         = ALTER(b, kdas_loader_options, kdas_loader_options_init,
                                          offsetof(kdas_loader_options, scales));
    static const float  scales[9] = { 1, 0.5f, 2, 1, -1, 0.0f / 1, 1e30f, 1, 1 };
    const float        *at        = kd_fuzz_byte(b) % 2 ? scales + kd_fuzz_byte(b) % 2 : NULL;
    kdas_loader        *l, *again = NULL;
    kdas_loader_options back = { .size = sizeof back };
    kdas_batch         *batch;

    no_ranks(&m, offsetof(kdas_loader_options, ranks));
    if (offsetof(kdas_loader_options, scales) + 8 <= m.size)
        memcpy(m.bytes + offsetof(kdas_loader_options, scales), &at, 8);
    if (at && offsetof(kdas_loader_options, scale_count) + 8 <= m.size) {
        int64_t count = kd_fuzz_byte(b) % 9;

        memcpy(m.bytes + offsetof(kdas_loader_options, scale_count), &count, 8);
    }
    if (taken(kdas_loader_create(&l, w.frames, (kdas_loader_options *)m.bytes))) {
        kd_assert_ok(kdas_loader_get_options(l, &back));
        if (back.workers <= 2) again_taken(kdas_loader_create(&again, w.frames, &back));
        taken(kdas_loader_seek(l, kd_fuzz_whole(b)));
        if (back.batch * back.height * back.width <= 1 << 17)
            for (int k = 0; k < 2; k++)
                taken(kdas_loader_next(l, &batch));
    }
    kdas_loader_destroy(again);
    kdas_loader_destroy(l);
    free(m.bytes);
}

static void scene(kd_fuzz_bytes *b)
{
    made                m = ALTER(b, kdas_scene_options, kdas_scene_options_init, 0);
    kdas_scene_options *o = (kdas_scene_options *)m.bytes;
    kdas_dataset       *d = NULL, *rest = NULL, *part = NULL, *joined = NULL;
    kdas_image         *image = NULL, *mask = NULL;

    if (taken(kdas_dataset_synthetic(&d, w.ctx, o))) {
        if (kdas_dataset_count(d) < 1000 &&
            taken(kdas_dataset_split(&rest, &part, d, kd_fuzz_real(b), kd_fuzz_number(b, 8)))) {
            ck_assert_int_eq(kdas_dataset_count(rest) + kdas_dataset_count(part),
                             kdas_dataset_count(d));
            taken(kdas_dataset_join(&joined, rest, part));
        }
        if (m.size < sizeof *o || o->width * o->height <= 1 << 14)
            taken(kdas_dataset_get(&image, &mask, d, kd_fuzz_whole(b)));
    }
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(joined);
    kdas_dataset_destroy(rest);
    kdas_dataset_destroy(part);
    kdas_dataset_destroy(d);
    free(m.bytes);
}

static void segmenter(kd_fuzz_bytes *b)
{
    made                   m = ALTER(b, kdas_segmenter_options, kdas_segmenter_options_init, 0);
    kdas_segmenter        *s, *again = NULL;
    kdas_segmenter_options back                = { .size = sizeof back };
    uint8_t                pixels[20 * 12 * 3] = { 0 }, out[20 * 12];
    kdas_view view = { .data = pixels, .width = 20, .height = 12, .pixel = KDAS_PIXEL_RGB8 };

    if (taken(kdas_segmenter_create(&s, w.teacher, (kdas_segmenter_options *)m.bytes))) {
        kd_assert_ok(kdas_segmenter_get_options(s, &back));
        again_taken(kdas_segmenter_create(&again, w.teacher, &back));
        if (back.height * back.width <= 1 << 16) taken(kdas_segmenter_mask(s, &view, out, 0));
    }
    kdas_segmenter_destroy(again);
    kdas_segmenter_destroy(s);
    kd_assert_ok(kdas_model_trim(w.teacher, 0));
    free(m.bytes);
}

static void distiller(kd_fuzz_bytes *b)
{
    made                   m = ALTER(b, kdas_distiller_options, kdas_distiller_options_init, 0);
    kdas_loss             *l;
    kdas_optim            *o;
    kdas_distiller        *d, *again = NULL;
    kdas_distiller_options back = { .size = sizeof back };

    no_ranks(&m, offsetof(kdas_distiller_options, ranks));
    kd_assert_ok(kdas_loss_create(&l, w.ctx, NULL));
    kd_assert_ok(kdas_optim_create(&o, w.student, NULL));
    if (taken(kdas_distiller_create(&d, w.teacher, w.student, l, o,
                                    (kdas_distiller_options *)m.bytes))) {
        kd_assert_ok(kdas_distiller_get_options(d, &back));
        again_taken(kdas_distiller_create(&again, w.teacher, w.student, l, o, &back));
    }
    kdas_distiller_destroy(again);
    kdas_distiller_destroy(d);
    kdas_optim_destroy(o);
    kdas_loss_destroy(l);
    free(m.bytes);
}

static void model(kd_fuzz_bytes *b)
{
    made m =
        ALTER(b, kdas_model_options, kdas_model_options_init, offsetof(kdas_model_options, wide));
    kdas_model                  *net;
    int64_t                      h = kd_fuzz_whole(b), width = kd_fuzz_whole(b), parameters;
    double                       operations;
    static const kdas_count_rule rules[] = { 0, 1, 2 };

    no_ranks(&m, offsetof(kdas_model_options, ranks));
    taken(kd_model_create(&net, w.ctx, &w.def, (kdas_model_options *)m.bytes));
    kdas_model_destroy(net);
    taken(kdas_model_check_size(w.teacher, h, width));
    if (h <= 512 && width <= 512)
        taken(kdas_model_cost(w.ctx, "lite_fpn0", h, width, rules[kd_fuzz_byte(b) % 3], &parameters,
                              &operations));
    free(m.bytes);
}

static void onnx(kd_fuzz_bytes *b)
{
    made m = ALTER(b, kdas_onnx_options, kdas_onnx_options_init, 0);

    taken(
        kdas_model_export_onnx(w.teacher, kd_fuzz_path("out.onnx"), (kdas_onnx_options *)m.bytes));
    free(m.bytes);
}

/* A run of at most two steps. */
static void train(kd_fuzz_bytes *b)
{
    made                m = ALTER(b, kdas_train_options, kdas_train_options_init,
                                  offsetof(kdas_train_options, out), offsetof(kdas_train_options, notes),
                                  offsetof(kdas_train_options, progress), offsetof(kdas_train_options, user));
    kdas_train_options *o = (kdas_train_options *)m.bytes;
    kdas_loader_options lo;
    kdas_loss          *l;
    kdas_optim         *opt;
    kdas_distiller     *d;
    kdas_loader        *loader;

    if (m.size >= sizeof *o) {
        o->out      = NULL;
        o->progress = NULL;
        if (o->max_steps > 2 || o->max_steps == 0) o->max_steps = 2;
        if (o->height > 64) o->height = 64;
        if (o->width > 64) o->width = 64;
    }
    kdas_loader_options_init(&lo, sizeof lo);
    lo.height = lo.width = 32;
    lo.batch             = 2;
    lo.workers           = 0;
    kd_assert_ok(kdas_loss_create(&l, w.ctx, NULL));
    kd_assert_ok(kdas_optim_create(&opt, w.student, NULL));
    kd_assert_ok(kdas_distiller_create(&d, w.teacher, w.student, l, opt, NULL));
    kd_assert_ok(kdas_loader_create(&loader, w.frames, &lo));
    if (m.size >= sizeof *o) taken(kdas_train(d, loader, w.frames, o));
    kdas_loader_destroy(loader);
    kdas_distiller_destroy(d);
    kdas_optim_destroy(opt);
    kdas_loss_destroy(l);
    free(m.bytes);
}

static void (*const structs[])(kd_fuzz_bytes *b) = {
    context, loss, optim, loader, scene, segmenter, distiller, model, onnx, train,
};

static void run(const uint8_t *data, size_t size)
{
    kd_fuzz_bytes b = { data, data + size };

    start();
    structs[kd_fuzz_byte(&b) % KD_COUNT(structs)](&b);
}

static void seeds(void)
{
    for (uint8_t k = 0; k < KD_COUNT(structs); k++)
        for (uint8_t i = 0; i < 4; i++) {
            /* one member: a real, a whole number or a text; no other size */
            const uint8_t seed[] = {
                k, i > 0, (uint8_t)(i - 1), (uint8_t)(3 * i + k), 4, 3, 0, 0, 0
            };
            const char name[] = { 'o', (char)('a' + k), (char)('0' + i), 0 };

            kd_fuzz_seed(name, seed, sizeof seed);
        }
}

const kd_fuzz_target kd_fuzz_options = { "options", run, NULL, seeds };
