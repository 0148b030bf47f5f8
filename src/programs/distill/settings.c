/* settings.c - what kdas-distill is told on its command line. */
#include "distill/settings.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "arguments/args.h"
#include "arguments/masks.h"
#include "system/say.h"

static void defaults(settings *s, bool demo)
{
    *s = (settings){ .epochs          = 20,
                     .batch           = 8,
                     .accumulate      = 1,
                     .workers         = 1,
                     .seed            = 1,
                     .pictures        = 4,
                     .scales_text     = "1",
                     .presets_text    = DEFAULT_PRESET,
                     .lr              = 1e-4,
                     .weight_decay    = 1e-4,
                     .drop_path       = 0.1,
                     .val_fraction    = 0.1,
                     .optimizer       = "adamw",
                     .schedule        = "constant",
                     .tau             = -1,
                     .guidance_weight = -1,
                     .feature_weight  = -1,
                     .feature_tau     = -1,
                     .kd_weight       = -1,
                     .sgm_weight      = -1,
                     .share           = NAN,
                     .feature_share   = NAN,
                     .range_momentum  = -1,
                     .augment         = augment_default(),
                     .empty_share     = -1,
                     .clamp           = 0.5,
                     .scenes          = 240,
                     .usual_teacher   = "polyp_pvt_b2",
                     .usual_size      = 352 };
    if (!demo) return;
    /* Small enough for two cores and some minutes, large enough to learn something. A convolutional
     * network learns fastest from scratch, and gets ahead of the students by frames of its own. */
    s->out            = "demo";
    s->presets_text   = "baseline,kl,attention,paper,kdas";
    s->usual_teacher  = "lite_fpn0";
    s->teacher_scenes = 600;
    s->teacher_epochs = 12;
    s->teacher_lr     = 1e-3;
    s->test_scenes    = 150;
    s->usual_size     = 96;
    s->epochs         = 16;
    s->batch          = 4;
    s->lr             = 5e-4;
    s->warmup         = -1;
    s->schedule       = "cosine";
    s->drop_path      = 0;
    s->val_fraction   = 0.15;
}

/* Split "a,b" at its commas; false where a part is empty or there are too many. */
static bool split_presets(settings *s)
{
    const char *at = s->presets_text;

    for (;;) {
        size_t length = strcspn(at, ",");

        if (!length || s->preset_count == MAX_ROWS) return false;
        s->presets[s->preset_count++] = text_of("%.*s", (int)length, at);
        if (!at[length]) return true;
        at += length + 1;
    }
}

/* "1,2,3" into s->seeds, all of them different; that of --seed where there is no list. */
static bool read_seeds(settings *s)
{
    const char *at = s->seeds_text;

    s->seeds[0]   = s->seed;
    s->seed_count = at ? 0 : 1;
    while (at) {
        char     *end;
        long long seed = strtoll(at, &end, 10);

        if (*at < '0' || *at > '9' || seed > (long long)9e15 || s->seed_count == MAX_SEEDS) {
            return false;
        }
        for (int i = 0; i < s->seed_count; i++)
            if (s->seeds[i] == seed) return false;
        s->seeds[s->seed_count++] = seed;
        if (*end && *end != ',') return false;
        at = *end ? end + 1 : NULL;
    }
    return true;
}

/* What no single option shows to be wrong. */
static int check(settings *s, const program *p, int rest, char **argv)
{
    if (rest) return args_wrong(p, "'%s' is no option", argv[1]);
    if (!s->data == !s->demo) return args_wrong(p, "give either --data DIR or --demo");
    if (!s->out) return args_wrong(p, "--out is missing: where shall the results go?");
    if (s->teacher_weights && s->teacher_epochs && !s->demo) {
        return args_wrong(p, "--teacher-weights and --teacher-epochs exclude each other");
    }
    if (s->teacher_maps && (s->teacher_weights || (s->teacher_epochs && !s->demo))) {
        return args_wrong(p, "--teacher-maps and %s exclude each other",
                          s->teacher_weights ? "--teacher-weights" : "--teacher-epochs");
    }
    if (s->student_weights && s->backbone_weights) {
        return args_wrong(p, "--student-weights and --backbone-weights exclude each other");
    }
    if (s->teacher_weights && s->teacher_backbone_weights) {
        return args_wrong(p, "--teacher-weights and --teacher-backbone-weights exclude each other");
    }
    if (!s->teacher_weights_entry) s->teacher_weights_entry = s->weights_entry;
    if (s->teacher_weights || s->teacher_maps) s->teacher_epochs = 0; /* the demo's default */
    s->scale_count = args_list(s->scales_text, s->scales, MAX_SCALES);
    for (int i = 0; i < s->scale_count; i++) {
        if (s->scales[i] < 0.1f || s->scales[i] > 4.0f) s->scale_count = -1;
    }
    if (s->scale_count < 1) {
        return args_wrong(
            p, "--scales wants up to %d numbers from 0.1 to 4 like 0.75,1,1.25, not '%s'",
            MAX_SCALES, s->scales_text);
    }
    if (s->sync_batch_norm && !s->group.collective)
        return args_wrong(p, "--sync-batch-norm goes with --ranks");
    if (!s->quantize && (s->wide || s->range_momentum >= 0 || s->freeze_ranges > 0))
        return args_wrong(p, "%s goes with --quantize",
                          s->wide                  ? "--wide"
                          : s->range_momentum >= 0 ? "--range-momentum"
                                                   : "--freeze-ranges");
    if (s->freeze_ranges > 0 && s->freeze_ranges >= (double)s->epochs)
        return args_wrong(p, "--freeze-ranges wants fewer epochs than --epochs, which are %lld",
                          (long long)s->epochs);
    if (augment_wrong(&s->augment)) return args_wrong(p, "%s", augment_wrong(&s->augment));
    if (s->val_list && !s->train_list)
        return args_wrong(p, "--val-list goes with --train-list: which frames are trained on?");
    if (s->patience && s->val_fraction == 0 && !s->val_list)
        return args_wrong(p, "--patience needs frames held out: --val-fraction above 0");
    if (!split_presets(s)) {
        return args_wrong(p, "--preset wants up to %d names like baseline,paper, not '%s'",
                          MAX_ROWS, s->presets_text);
    }
    if (!read_seeds(s)) {
        return args_wrong(p, "--seeds wants up to %d different whole numbers like 1,2,3, not '%s'",
                          MAX_SEEDS, s->seeds_text);
    }
    return -1;
}

/* ---- The command line ------------------------------------------------------------------------ */

static settings given; /* what the table below writes to */

static const option options[] = {
    { OPTION_GROUP, "Frames" },
    { OPTION_TEXT, "--data", "DIR", &given.data, 0, 0,
      "folder with TrainDataset/{images,masks} and\nTestDataset/NAME/{images,masks}; or one with "
      "images and\nmasks alone, to train on" },
    { OPTION_TEXT, "--train-list", "FILE", &given.train_list, 0, 0,
      "train on the frames that the file names, one in a line" },
    { OPTION_TEXT, "--val-list", "FILE", &given.val_list, 0, 0,
      "hold out these of the same folder, in place of\n--val-fraction" },
    { OPTION_TEXT, "--test-list", "FILE", &given.test_list, 0, 0,
      "measure on these of the test set; without one, of the\nfolder that is trained on" },
    { OPTION_FLAG, "--demo", NULL, &given.demo, 0, 0,
      "make synthetic frames, train a teacher, and distil\nunder the rows of the paper's Table 3 "
      "and "
      "under kdas" },
    { OPTION_WHOLE, "--scenes", "N", &given.scenes, 4, 100000, "demo: training frames (240)" },
    { OPTION_WHOLE, "--test-scenes", "N", &given.test_scenes, 0, 100000,
      "demo: frames of the test set (150); 0: a quarter of\nthose to train on" },
    { OPTION_WHOLE, "--teacher-scenes", "N", &given.teacher_scenes, 0, 100000,
      "demo: other frames for the teacher alone (600);\n0: it learns from the students'" },
    { OPTION_REAL, "--val-fraction", "X", &given.val_fraction, 0, 0.9,
      "share of the training frames held out to choose the\nbest epoch (0.1); 0: the last one "
      "is kept" },
    { OPTION_FLAG, "--skip-bad", NULL, &given.skip_bad, 0, 0,
      "leave out frames that cannot be used, and say which" },
    { OPTION_FLAG, "--resize-masks", NULL, &given.resize_masks, 0, 0,
      "resize masks of another size to their images'" },
    MASK_OPTIONS(given.mask_rule, given.allow_empty),
    { OPTION_TEXT, "--unlabelled", "DIR,...", &given.unlabelled, 0, 0,
      "frames without masks, in DIR or DIR/images, to train on, too:\nthey learn from the teacher "
      "alone" },
    { OPTION_SIZE, "--size", "N|HxW", given.size, 0, 0,
      "input of the networks (the only one that a network takes,\nelse the size that the weights "
      "of "
      "the teacher, else of the\nstudent, were trained for; else 352; demo: else 96)" },
    { OPTION_TEXT, "--scales", "LIST", &given.scales_text, 0, 0,
      "train each batch at these scales, like 0.75,1,1.25 (1)" },
    { OPTION_REAL, "--empty-share", "X", &given.empty_share, 0, 1,
      "share of an epoch's frames without a polyp (as they\ncome)" },
    { OPTION_WHOLE, "--batch", "N", &given.batch, 1, 4096,
      "images in a batch (8); with --ranks, of each rank" },
    { OPTION_WHOLE, "--workers", "N", &given.workers, 0, 64, "threads that make batches (1)" },
    { OPTION_GROUP, "Augmentation" },
    AUGMENT_OPTIONS(given.augment),
    { OPTION_GROUP, "Networks" },
    { OPTION_TEXT, "--student", "MODEL", &given.student, 0, 0,
      "a name that kdas-inspect lists (the one that\n--student-weights names, else polyp_pvt_b0)" },
    { OPTION_TEXT, "--student-weights", "FILE", &given.student_weights, 0, 0, "start from these" },
    { OPTION_TEXT, "--backbone-weights", "FILE", &given.backbone_weights, 0, 0,
      "start the student's backbone from these, such as\nImageNet weights of PVTv2, "
      "EfficientNet-Lite,\nRes2Net or HarDNet" },
    { OPTION_TEXT, "--teacher", "MODEL", &given.teacher, 0, 0,
      "any of the same (the one that --teacher-weights names,\nelse polyp_pvt_b2; demo: "
      "lite_fpn0)" },
    { OPTION_TEXT, "--teacher-weights", "FILE", &given.teacher_weights, 0, 0,
      "the trained teacher, or" },
    { OPTION_WHOLE, "--teacher-epochs", "N", &given.teacher_epochs, 1, 1000000,
      "train it first, on the same frames (demo: 12), or" },
    { OPTION_TEXT, "--teacher-maps", "DIR,...", &given.teacher_maps, 0, 0,
      "its maps for all frames to train on, NAME.png or\n.safetensors (kdas-segment --maps); of "
      "several folders\nthe mean" },
    { OPTION_TEXT, "--teacher-backbone-weights", "FILE", &given.teacher_backbone_weights, 0, 0,
      "start the backbone of a teacher trained here\nfrom these" },
    { OPTION_TEXT, "--weights-entry", "NAME", &given.weights_entry, 0, 0,
      "of files with several sets of weights, the one to take:\na dictionary of a .pth file, e.g. "
      "model or ema.module,\nor the words in front of its names, e.g. student" },
    { OPTION_TEXT, "--teacher-weights-entry", "NAME", &given.teacher_weights_entry, 0, 0,
      "the same of the teacher's files (that of --weights-entry)" },
    { OPTION_REAL, "--teacher-lr", "X", &given.teacher_lr, 1e-12, 1e3,
      "its learning rate (that of --lr)" },
    { OPTION_REAL, "--drop-path", "X", &given.drop_path, 0, 0.99,
      "rate of the deepest block (0.1); ignored, with a warning, by\nnetworks that drop nothing" },
    { OPTION_GROUP, "Integers" },
    { OPTION_FLAG, "--quantize", NULL, &given.quantize, 0, 0,
      "train the student on 8-bit grids: best.safetensors is\nthen a student for integers; mostly "
      "from the\n--student-weights of a trained one, for an epoch or two at\na low --lr" },
    { OPTION_TEXT, "--wide", "LAYER,...", &given.wide, 0, 0,
      "its layers that are not on grids, or none (by the\nnetwork: its first and last ones)" },
    { OPTION_REAL, "--range-momentum", "X", &given.range_momentum, 0, 1,
      "what a batch weighs in the ranges of the grids (0.05)" },
    { OPTION_REAL, "--freeze-ranges", "X", &given.freeze_ranges, 0, 1e6,
      "last epochs in which the ranges stay (0)" },
    { OPTION_GROUP, "Objective" },
    { OPTION_TEXT, "--preset", "NAME,...", &given.presets_text, 0, 0,
      "kdas, feature, paper, baseline, kl, attention or\npublished_code (" DEFAULT_PRESET
      "); of several, each trains a\nstudent" },
    { OPTION_TEXT, "--seg", "NAME", &given.seg, 0, 0,
      "bce_dice, bce_jaccard, structure or\nstructure_published" },
    { OPTION_TEXT, "--guidance", "NAME", &given.guidance, 0, 0,
      "none, kl, attention, attention+sgm or published" },
    { OPTION_TEXT, "--sym", "NAME", &given.sym, 0, 0, "covariance, sum or correlation" },
    { OPTION_TEXT, "--axis", "NAME", &given.axis, 0, 0,
      "what a map is a distribution over: spatial, row,\nchannel, or pixel (polyp or not)" },
    { OPTION_TEXT, "--input", "NAME", &given.input, 0, 0,
      "what guidance reads: logits, probability or\nstandardised" },
    { OPTION_TEXT, "--similarity", "NAME", &given.similarity, 0, 0,
      "of rows in attention: dot or cosine" },
    { OPTION_TEXT, "--distance", "NAME", &given.distance, 0, 0, "kl, squared or pearson" },
    { OPTION_TEXT, "--pair", "NAME", &given.pair, 0, 0,
      "which map of the teacher guides which of the student:\ndeep, spread or answer" },
    { OPTION_REAL, "--tau", "X", &given.tau, 1e-3, 1e3, "temperature (2)" },
    { OPTION_REAL, "--guidance-weight", "X", &given.guidance_weight, 0, 1e6,
      "weight of the guidance (0.2)" },
    { OPTION_REAL, "--kd-weight", "X", &given.kd_weight, 0, 1e6,
      "weight of KD within the guidance (1)" },
    { OPTION_REAL, "--sgm-weight", "X", &given.sgm_weight, 0, 1e6,
      "weight of the SGM within the guidance (1)" },
    { OPTION_REAL, "--share", "X", &given.share, -1, 1e6,
      "limit of the gradients of KD and of the SGM, each as a part\nof that of seg; -1: no limit "
      "(the "
      "preset's)" },
    { OPTION_REAL, "--ramp-up", "X", &given.ramp_up, 0, 1e6,
      "epochs in which the guidance rises from 0 (0)" },
    { OPTION_REAL, "--ramp-down", "X", &given.ramp_down, 0, 1e6,
      "last epochs in which it falls to 0 (0)" },
    { OPTION_TEXT, "--feature", "NAME", &given.feature, 0, 0,
      "compare features: none, normalised, cosine, channel\nor attention" },
    { OPTION_TEXT, "--feature-taps", "LIST", &given.feature_taps, 0, 0,
      "teacher:student,...: which (those of one stride);\nkdas-inspect lists a network's taps" },
    { OPTION_REAL, "--feature-weight", "X", &given.feature_weight, 0, 1e6,
      "weight of the features (1)" },
    { OPTION_REAL, "--feature-tau", "X", &given.feature_tau, 1e-3, 1e3,
      "temperature of channel (4)" },
    { OPTION_REAL, "--feature-share", "X", &given.feature_share, -1, 1e6,
      "limit of the gradient of features at the taps, as a part\nof that of seg; -1: no limit "
      "(the "
      "preset's)" },
    { OPTION_GROUP, "Training" },
    { OPTION_WHOLE, "--epochs", "N", &given.epochs, 1, 1000000,
      "passes over the frames (20; demo: 16)" },
    { OPTION_WHOLE, "--max-steps", "N", &given.max_steps, 0, 1e15,
      "end each training after so many steps; the schedule is\nthat of all epochs, and --resume "
      "goes on with it" },
    { OPTION_TEXT, "--optimizer", "NAME", &given.optimizer, 0, 0, "adamw (default) or sgd" },
    { OPTION_REAL, "--lr", "X", &given.lr, 1e-12, 1e3, "learning rate (1e-4)" },
    { OPTION_TEXT, "--schedule", "NAME", &given.schedule, 0, 0,
      "constant (default), cosine, poly, or step: a tenth at\neach third of the run" },
    { OPTION_WHOLE, "--warmup", "N", &given.warmup, 0, 1e15,
      "updates of linear warm-up (0; demo: a quarter)" },
    { OPTION_REAL, "--weight-decay", "X", &given.weight_decay, 0, 1e3, "weight decay (1e-4)" },
    { OPTION_REAL, "--clip", "X", &given.clip, 0, 1e9,
      "largest norm of the whole gradient (none)" },
    { OPTION_REAL, "--clamp", "X", &given.clamp, 0, 1e9,
      "clamp each number of the gradient to +- this (0.5); 0: off" },
    { OPTION_REAL, "--ema", "X", &given.ema, 0, 0.999999,
      "decay of a moving average of the student, like 0.999;\nit is then validated and kept "
      "(0: none)" },
    { OPTION_WHOLE, "--patience", "N", &given.patience, 0, 1000000,
      "end after so many epochs without a better one (0: never)" },
    { OPTION_WHOLE, "--accumulate", "N", &given.accumulate, 1, 100000,
      "batches that make one update (1)" },
    { OPTION_WHOLE, "--seed", "N", &given.seed, 0, 9e15,
      "decides weights, order, flips, split (1)" },
    { OPTION_TEXT, "--seeds", "N,...", &given.seeds_text, 0, 0,
      "train each preset once with each of these seeds; the\nsplit, a teacher trained here and the "
      "demo's frames\nstay those of --seed" },
    { OPTION_GROUP, "Machine and files" },
    { OPTION_TEXT, "--out", "DIR", &given.out, 0, 0, "folder for all results" },
    { OPTION_TEXT, "--tensorboard", "DIR", &given.tensorboard, 0, 0,
      "also write every step as TensorBoard events, a folder\nof DIR for each training" },
    { OPTION_FLAG, "--resume", NULL, &given.resume, 0, 0, "continue the stopped run in --out" },
    { OPTION_WHOLE, "--save-every", "N", &given.save_every, 0, 1e15,
      "steps between checkpoints within an epoch" },
    { OPTION_WHOLE, "--pictures", "N", &given.pictures, 0, 1000, "frames of each set to draw (4)" },
    MACHINE_OPTIONS(given.machine),
    GROUP_OPTIONS(given.group),
    { OPTION_FLAG, "--sync-batch-norm", NULL, &given.sync_batch_norm, 0, 0,
      "with --ranks: batch norms take their statistics over the\nimages of all ranks, not of each by itself" },
    { OPTION_FLAG, "--quiet", NULL, &given.quiet, 0, 0, "print results only, no progress" },
};

static const program self = {
    .name    = "kdas-distill",
    .usage   = "--data DIR --out DIR (--teacher-weights FILE | --teacher-epochs N | "
               "--teacher-maps DIR) [option]...\n"
               "--demo [--out DIR] [option]...",
    .about   = "Train a small polyp-segmentation network under the guidance of a large one.",
    .options = options,
    .count   = COUNT(options),
    .after =
        "Writes last.kdas (to continue from), best.safetensors (the best epoch on the frames held "
        "out),\n"
        "log.csv (every term, a line for each epoch), scores.csv, overlays/*.png and report.html; "
        "a "
        "teacher\n"
        "trained here is in teacher/, and of several presets each has a folder of its own, with a\n"
        "folder seed-N for each of --seeds in it. summary.csv has mean and spread over the seeds.\n"
        "Ctrl-C, SIGTERM, SIGXCPU, with --ranks SIGUSR1 and SIGUSR2, or a terminal that closes "
        "(unless under nohup) finishes the "
        "step, saves "
        "and\n"
        "ends with 130; --resume continues from there. Where nobody reads the output, the training "
        "goes\n"
        "on without it and ends with 141.",
};

/* The command line without options that change no training, for figures_load(). */
static char *recipe_of(int argc, char **argv)
{
    static const char *const dropped[] = { "--resume",     "--quiet",       "--out",
                                           "--seeds",      "--preset",      "--pictures",
                                           "--save-every", "--tensorboard", "--ranks-timeout" };
    enum { FLAGS = 2 }; /* the first of them have no value */
    char **kept  = need((size_t)argc * sizeof *kept);
    int    count = 0;
    char  *text;

    for (int i = 1; i < argc; i++) {
        size_t length = strcspn(argv[i], "=");
        int    k      = 0;

        while (k < COUNT(dropped) &&
               (strlen(dropped[k]) != length || memcmp(dropped[k], argv[i], length) != 0))
            k++;
        if (k == COUNT(dropped)) {
            kept[count++] = argv[i];
        } else if (k >= FLAGS && !argv[i][length]) {
            i++;
        }
    }
    text = args_joined(count, kept);
    free(kept);
    return text;
}

int settings_read(settings *s, int argc, char **argv)
{
    bool demo = false;
    int  rest, code;

    for (int i = 1; i < argc; i++)
        demo = demo || !strcmp(argv[i], "--demo");
    defaults(&given, demo);
    code = args_read(&self, argc, argv, &rest);
    if (code < 0) code = check(&given, &self, rest, argv);
    if (code < 0) {
        given.command = args_joined(argc, argv);
        given.recipe  = recipe_of(argc, argv);
    }
    *s = given;
    return code;
}

void settings_free(settings *s)
{
    for (int i = 0; i < s->preset_count; i++)
        free(s->presets[i]);
    free(s->command);
    free(s->recipe);
    *s = (settings){ 0 };
}

kdas_status settings_loss(const settings *s, const char *preset, kdas_loss_options *out)
{
    kdas_status status;

    kdas_loss_options_init(out, sizeof *out);
    status = kdas_loss_options_preset(out, preset);
    if (status != KDAS_OK) return status;
    if (s->seg) out->seg = s->seg;
    if (s->guidance) out->guidance = s->guidance;
    if (s->sym) out->sym = s->sym;
    if (s->axis) out->axis = s->axis;
    if (s->input) out->input = s->input;
    if (s->similarity) out->similarity = s->similarity;
    if (s->pair) out->pair = s->pair;
    if (s->distance) out->distance = s->distance;
    if (s->tau >= 0) out->tau = (float)s->tau;
    if (s->guidance_weight >= 0) out->guidance_weight = (float)s->guidance_weight;
    if (s->feature) out->feature = s->feature;
    if (s->feature_taps) out->feature_taps = s->feature_taps;
    if (s->feature_weight >= 0) out->feature_weight = (float)s->feature_weight;
    if (s->feature_tau >= 0) out->feature_tau = (float)s->feature_tau;
    if (s->kd_weight >= 0) out->kd_weight = (float)s->kd_weight;
    if (s->sgm_weight >= 0) out->sgm_weight = (float)s->sgm_weight;
    if (!isnan(s->share)) out->share = (float)s->share;
    if (!isnan(s->feature_share)) out->feature_share = (float)s->feature_share;
    if (s->teacher_maps) out->feature = "none"; /* maps have no taps */
    return KDAS_OK;
}

kdas_status settings_teacher_loss(const settings *s, kdas_loss_options *out)
{
    kdas_status status;

    kdas_loss_options_init(out, sizeof *out);
    status = kdas_loss_options_preset(out, "baseline");
    if (s->seg) out->seg = s->seg;
    return status;
}

void settings_optim(const settings *s, double lr, int64_t updates, kdas_optim_options *out)
{
    kdas_optim_options_init(out, sizeof *out);
    out->rule         = s->optimizer;
    out->lr           = (float)lr;
    out->weight_decay = (float)s->weight_decay;
    out->clip_norm    = (float)s->clip;
    out->clamp        = (float)s->clamp;
    out->schedule     = s->schedule;
    out->warmup       = s->warmup < 0 ? updates / 4 : s->warmup;
    out->total        = updates;
    out->step_every   = updates >= 3 ? updates / 3 : 1;
}
