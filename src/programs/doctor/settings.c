/* settings.c - the command line of kdas-doctor. */
#include "doctor/settings.h"
#include <stdlib.h>
#include <string.h>
#include "arguments/args.h"
#include "doctor/checks.h"
#include "system/output.h"
#include "system/say.h"

/* "copies,files" as reasons; 0 where a word is none. */
static int read_reasons(const char *text)
{
    static const char *const words[] = { "copies", "sequences", "masks", "files", "repeats" };
    int                      reasons = 0;

    for (;;) {
        size_t length = strcspn(text, ",");
        int    i      = 0;

        while (i < COUNT(words) && (strlen(words[i]) != length || memcmp(words[i], text, length)))
            i++;
        if (i == COUNT(words)) return 0;
        reasons |= 1 << i;
        if (!text[length]) return reasons;
        text += length + 1;
    }
}

/* Whether a table would be a file of the report. */
static bool is_in_report(const settings *s, const char *path)
{
    static const char *const names[] = { "doctor.html", "doctor.part.jpg" };
    bool                     found   = false;

    for (int i = 0; s->report && path && i < COUNT(names); i++) {
        char *file = text_of("%s/%s", s->report, names[i]);

        found = found || output_same(file, path);
        free(file);
    }
    return found;
}

/* Outputs do not replace each other. */
static int check_outputs(const program *p, const settings *s)
{
    const char *const path[] = { s->csv, s->keep, s->drop };

    for (int i = 0; i < COUNT(path); i++) {
        if (output_same(path[i], path[(i + 1) % COUNT(path)]))
            return args_wrong(p, "'%s' is named for two outputs", path[i]);
        if (is_in_report(s, path[i]))
            return args_wrong(p, "'%s' is a file of the report in '%s'", path[i], s->report);
    }
    return -1;
}

static int check(const program *p, const settings *s, int rest, char **argv)
{
    int code;

    if (rest) return args_wrong(p, "'%s' stands without --data, --train or --test", argv[1]);
    if (s->data && (s->train || s->test))
        return args_wrong(p, "--data does not go with --train and --test");
    if (!s->data && !s->train && !s->test && !s->unlabelled)
        return args_wrong(p, "give --data DIR, or --train and --test");
    if (!s->leave)
        return args_wrong(p, "--leave-out wants some of copies,sequences,masks,files,repeats");
    code = check_outputs(p, s);
    if (code >= 0) return code;
    if (s->at.sequence > s->at.duplicate)
        return args_wrong(p, "--sequence may not be above --duplicate");
    if (s->report && !strcmp(s->report, "-")) return args_wrong(p, "--report wants a folder");
    output_claim(s->csv);
    output_claim(s->keep);
    output_claim(s->drop);
    return -1;
}

int settings_read(settings *s, int argc, char **argv)
{
    const char  *leave     = "copies,sequences,masks,files";
    const option options[] = {
        { OPTION_GROUP, "Folders" },
        { OPTION_TEXT, "--data", "DIR", &s->data,
          .help = "DIR/TrainDataset, and each folder of DIR/TestDataset" },
        { OPTION_TEXT, "--train", "DIR[,DIR]", &s->train,
          .help = "folders that are trained on; each holds images/, masks/" },
        { OPTION_TEXT, "--test", "DIR[,DIR]", &s->test,
          .help = "folders that are tested on, laid out as --train" },
        { OPTION_TEXT, "--unlabelled", "DIR[,DIR]", &s->unlabelled,
          .help = "folders of training frames without masks" },
        { OPTION_GROUP, "Limits" },
        { OPTION_REAL, "--duplicate", "R", &s->at.duplicate, 0.5, 1,
          "least similarity of two files of one picture (0.85)" },
        { OPTION_REAL, "--sequence", "R", &s->at.sequence, 0.5, 1,
          "least similarity of two frames of one video (0.65)" },
        THREAD_OPTIONS(s->machine),
        GROUP_OPTIONS(s->group),
        { OPTION_GROUP, "Output" },
        { OPTION_TEXT, "--csv", "FILE", &s->csv,
          .help = "write a row for each finding; -, here and below: to\nstandard output" },
        { OPTION_TEXT, "--report", "DIR", &s->report,
          .help = "write DIR/doctor.html, with pictures side by side" },
        { OPTION_WHOLE, "--pictures", "N", &s->pictures, 0, 10000,
          "most pictures of a kind in the report (24)" },
        { OPTION_TEXT, "--keep", "FILE", &s->keep,
          .help = "write the names of the training frames to keep, one in a\n"
                  "line, for kdas-distill --train-list" },
        { OPTION_TEXT, "--drop", "FILE", &s->drop,
          .help = "write the names of those to leave out" },
        { OPTION_TEXT, "--leave-out", "WHY[,WHY]", &leave,
          .help = "what is left out: copies (of test frames), sequences (of\n"
                  "a video with test frames), masks (full, inverted), files\n"
                  "(damaged, black, constant), repeats (copies within\n"
                  "training); default: all but repeats" },
    };
    const program p = {
        .name  = "kdas-doctor",
        .usage = "--data DIR [option]...\n--train DIR[,DIR] --test DIR[,DIR] [option]...",
        .about =
            "Looks for what spoils a training or its test: frames that training and test share,\n"
            "copies, frames of one video, masks and files that look wrong.",
        .options = options,
        .count   = COUNT(options),
        .after   = "docs/doctor.md explains the findings.",
        .exits   = "0 nothing was found, 1 something was found, 2 wrong usage or a\n"
                   "folder, file or output that cannot be read or written, 130 interrupted,\n"
                   "141 nobody reads the output"
    };
    int rest, code;

    *s   = (settings){ .at = { .duplicate = 0.85, .sequence = 0.65, .named = 0.45, .dice = 0.7 },
                       .pictures = 24 };
    code = args_read(&p, argc, argv, &rest);
    if (code >= 0) return code;
    s->leave   = read_reasons(leave);
    s->command = args_joined(argc, argv);
    return check(&p, s, rest, argv);
}
