/* kdas-bench.c - time a distillation step, inference and live frames: one line of TSV for each measurement, the median of
 * several runs after some that do not count. With --profile, where each figure's time goes; with --grow,
 * how time and memory grow. The rows are those of PyTorch's peer script, to be set side by side. */
#include <stdio.h>
#include <string.h>
#include "arguments/args.h"
#include "figures.h"
#include "grow.h"
#include "profile_table.h"
#include "settings.h"
#include "system/say.h"
#include "system/stop.h"

static const option options[] = {
    { OPTION_TEXT, "--student", "MODEL", &set.student, 0, 0, "default polyp_pvt_b0" },
    { OPTION_TEXT, "--teacher", "MODEL", &set.teacher, 0, 0,
      "default polyp_pvt_b2; none: a step is that of the\nstudent alone, by the segmentation "
      "loss" },
    { OPTION_WHOLE, "--batch", "N", &set.batch, 1, 1024,
      "images in a step; default 8; with --grow the largest: default 64" },
    { OPTION_SIZE, "--size", "N|HxW", set.size, 32, 4096,
      "pixels, multiples of 32; default 352, or the only size\nthat a network takes" },
    MACHINE_OPTIONS(set.machine),
    { OPTION_WHOLE, "--reps", "N", &set.reps, 1, MAX_REPS, "timed runs; default 5" },
    { OPTION_WHOLE, "--warm-up", "N", &set.warm_up, 1, MAX_REPS, "untimed runs before; default 2" },
    { OPTION_TEXT, "--only", "NAMES", &set.only, 0, 0,
      "of student, teacher, infer (both), step, frame,\nframes (how even they are), with commas; "
      "default infer,step" },
    { OPTION_TEXT, "--frame", "WxH", &set.frame_text, 0, 0,
      "also whole RGB frames of that size, to a mask,\nbeside the network alone" },
    { OPTION_WHOLE, "--frames", "N", &set.frames, 1, 1000000,
      "of the figure frames: so many with bound threads, and\nso many without; default 200" },
    { OPTION_FLAG, "--phases", NULL, &set.phases, 0, 0, "split the step into its phases" },
    { OPTION_FLAG, "--profile", NULL, &set.profile, 0, 0,
      "after each measurement: time, operations and bytes by\nop and node, against the machine's "
      "rates" },
    { OPTION_FLAG, "--timeline", NULL, &set.timeline, 0, 0,
      "also the calls of a run in their order (implies --profile)" },
    { OPTION_TEXT, "--profile-tsv", "FILE", &set.profile_tsv, 0, 0,
      "write every row of the profiles there" },
    { OPTION_FLAG, "--grow", NULL, &set.grow, 0, 0,
      "instead: time and memory a pixel, batch 1 to 64\nand 7/11 to 2 times --size" },
};

static const program self = {
    "kdas-bench",
    "[option]...",
    "Time a distillation step, inference and live frames; one line of TSV for each measurement.",
    options,
    COUNT(options),
    NULL
};

/* ---- settings that are more than a number ---- */

static bool known_figure(const char *name, size_t length)
{
    static const char *const names[] = { "student", "teacher", "infer", "step", "frame", "frames" };

    for (int i = 0; i < COUNT(names); i++)
        if (strlen(names[i]) == length && !strncmp(names[i], name, length)) return true;
    return false;
}

/* -1 to go on, else the exit code. */
static int check_only(void)
{
    for (const char *at = set.only; at;) {
        size_t length = strcspn(at, ",");

        if (!known_figure(at, length))
            return args_wrong(
                &self, "--only takes student, teacher, infer, step, frame and frames, not '%.*s'",
                (int)length, at);
        at = at[length] ? at + length + 1 : NULL;
    }
    return -1;
}

/* "1920x1080": width first, as frames are spoken of. */
static int check_frame(void)
{
    long long width, height;
    int       end = 0;

    if (!set.frame_text) return -1;
    if (sscanf(set.frame_text, "%lldx%lld%n", &width, &height, &end) != 2 || set.frame_text[end] ||
        width < 16 || height < 16 || width > 16384 || height > 16384)
        return args_wrong(&self, "--frame wants WxH, each from 16 to 16384, not '%s'",
                          set.frame_text);
    set.frame[0] = height;
    set.frame[1] = width;
    return -1;
}

static bool is_fixed(const char *name)
{
    kdas_network network = { .size = sizeof network };

    return kdas_network_describe(name, &network) == KDAS_OK && network.fixed;
}

/* Whether both are networks, and take the size. Before anything is printed. */
static bool check_networks(kdas_context *ctx)
{
    const char *const name[] = { set.student, set.teacher };
    bool              good   = true;

    for (int i = 0; good && i < COUNT(name); i++)
        good = !name[i] || ok(kdas_model_cost(ctx, name[i], set.size[0], set.size[1],
                                              KDAS_COUNT_MACS, NULL, NULL));
    return good;
}

/* The only size that one of the networks takes, else 352. Unknown names are refused later. */
static void find_size(void)
{
    const char *const name[]  = { set.student, set.teacher };
    kdas_network      network = { .size = sizeof network };

    for (int i = 0; !set.size[0] && i < COUNT(name); i++)
        if (kdas_network_describe(name[i], &network) == KDAS_OK && network.fixed)
            set.size[0] = set.size[1] = network.height;
    if (!set.size[0]) set.size[0] = set.size[1] = KDAS_DEFAULT_SIDE;
}

static int check_settings(int rest, char **argv)
{
    int code;

    if (rest) return args_wrong(&self, "there is nothing to do with '%s'", argv[1]);
    if ((code = check_only()) >= 0 || (code = check_frame()) >= 0) return code;
    if (set.profile_tsv || set.timeline) set.profile = true;
    if (set.grow && (set.profile || set.only || set.frame_text))
        return args_wrong(&self, "--grow goes without --only, --frame and --profile");
    if (!strcmp(set.teacher, "none")) set.teacher = NULL;
    if (!set.teacher && (set.grow || wanted("teacher") || wanted("infer")))
        return args_wrong(&self,
                          "without a teacher there is --only student, step, frame and frames");
    if (set.grow && (is_fixed(set.student) || is_fixed(set.teacher)))
        return args_wrong(&self, "--grow wants networks that take images of any size");
    find_size();
    if (set.batch == 0) set.batch = set.grow ? 64 : 8;
    return -1;
}

/* ---- the context ---- */

static void print_head(const kdas_context *ctx)
{
    if (set.profile) profile_print_roofline();
    printf("# libkdas %s, %s, threads=%d size=%lldx%lld dtype=%s reps=%lld warm-up=%lld\n",
           kdas_version_string(), kdas_context_device(ctx), kdas_context_threads(ctx),
           (long long)set.size[0], (long long)set.size[1], context_dtype(ctx), (long long)set.reps,
           (long long)set.warm_up);
    if (set.grow) return;
    printf(
        "# inside the timer: infer: forward of a batch in memory, to the maps; step: student and "
        "teacher forward,\n"
        "# objective (no norms of its terms), backward, clamp, AdamW, gradients cleared; frame: "
        "RGB bytes in, resize, "
        "normalise, network,\n"
        "# enlarge, threshold, mask out. Outside: compiling, filling the batch. Seconds: median "
        "of the runs.\n"
        "# figure\tseconds\timages/s\tpeak MiB\n");
}

int main(int argc, char **argv)
{
    kdas_context_options o;
    kdas_context        *ctx = NULL;
    int                  rest, code;
    bool                 good;

    say_as(self.name);
    code = args_read(&self, argc, argv, &rest);
    if (code < 0) code = check_settings(rest, argv);
    if (code >= 0) return code;
    o    = context_options(&set.machine);
    good = profile_open() && (!set.profile || profile_roofline(&o)) &&
           ok(kdas_context_create(&ctx, &o)) && check_networks(ctx);
    if (good) {
        stop_on_signal(ctx);
        print_head(ctx);
        good = set.grow ? run_growth(ctx) : run_figures(ctx);
        stop_on_signal(NULL);
    }
    kdas_context_destroy(ctx);
    good = profile_close(good) && good;
    return good ? EXIT_FINE : stop_asked() ? EXIT_INTERRUPTED : EXIT_FAILED;
}
