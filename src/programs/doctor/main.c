/* kdas-doctor - look at folders of frames before anyone trains on them. */
#include <stdlib.h>
#include <string.h>
#include "doctor/tell.h"
#include "system/say.h"
#include "system/stop.h"
#include "system/streams.h"

/* Open the folders of a list with commas. */
static bool add_list(patient *p, kdas_context *context, const char *list, bool train,
                     bool unlabelled)
{
    bool done = true;

    while (done && list && *list) {
        size_t length = strcspn(list, ",");

        done = frames_add(&p->frames, &p->found, context, text_of("%.*s", (int)length, list), train,
                          unlabelled);
        list += length + (list[length] == ',');
    }
    return done;
}

/* The folders for training and testing in DIR. */
static bool add_layout(patient *p, kdas_context *context, const char *dir)
{
    kdas_layout *layout = NULL;
    bool         done   = ok(kdas_layout_find(&layout, context, dir)) &&
                frames_add(&p->frames, &p->found, context, text_of("%s", kdas_layout_train(layout)),
                           true, false) &&
                add_list(p, context, p->s.unlabelled, true, true);

    for (int64_t i = 0; done && i < kdas_layout_tests(layout); i++)
        done = frames_add(&p->frames, &p->found, context,
                          text_of("%s", kdas_layout_test(layout, i)), false, false);
    kdas_layout_destroy(layout);
    return done;
}

static bool open_folders(patient *p, kdas_context *context)
{
    if (p->s.data) return add_layout(p, context, p->s.data);
    return add_list(p, context, p->s.train, true, false) &&
           add_list(p, context, p->s.unlabelled, true, true) &&
           add_list(p, context, p->s.test, false, false);
}

/* All ranks see the same folders. */
static bool agree(const patient *p)
{
    bool same = true;

    for (int i = 0; i < p->frames.folder_count && same; i++) {
        char *hash =
            text_of("%016llx", (unsigned long long)kdas_dataset_hash(p->frames.folders[i].set));

        same = ok(kdas_ranks_agree(p->s.group.ranks, "hash of the frames", hash));
        free(hash);
    }
    return same;
}

static bool examine(patient *p, kdas_context *context)
{
    int threads = kdas_context_threads(context);

    if (!agree(p) || !frames_measure(&p->frames, &p->found, threads, &p->s.group) ||
        !pairs_find(&p->pairs, &p->frames, &p->s.at, threads, &p->s.group)) {
        return false;
    }
    check_frames(&p->found, &p->frames);
    check_pairs(&p->found, &p->frames, &p->pairs, &p->s.at);
    findings_sort(&p->found);
    p->leave = frames_to_leave(&p->found, &p->frames, &p->pairs, &p->s.at);
    return true;
}

static bool tell(const patient *p, kdas_context *context)
{
    tell_summary(p);
    return (!p->s.csv || tell_csv(p)) && (!p->s.keep || tell_list(p, p->s.keep, true)) &&
           (!p->s.drop || tell_list(p, p->s.drop, false)) &&
           (!p->s.report || tell_report(p, context));
}

static bool open_context(kdas_context **context, patient *p)
{
    kdas_context_options options = context_options(&p->s.machine);

    options.log      = frames_log;
    options.log_user = &p->found;
    return ok(kdas_context_create(context, &options));
}

int main(int argc, char **argv)
{
    kdas_context *context = NULL;
    patient       p       = { .found = { .lock = PTHREAD_MUTEX_INITIALIZER } };
    int           code;
    bool          done;

    say_as("kdas-doctor");
    streams_failed_as(2); /* 1 says that something was found */
    code = settings_read(&p.s, argc, argv);
    if (code >= 0) {
        free(p.s.command);
        return code;
    }
    done = open_context(&context, &p);
    if (done) {
        stop_on_signal(context);
        done = group_join(&p.s.group, context, &p.s.machine) &&
               group_all(&p.s.group, open_folders(&p, context)) && examine(&p, context) &&
               group_all(&p.s.group, !group_first(&p.s.group) || tell(&p, context));
        stop_on_signal(NULL);
    }
    code = done ? p.found.count != 0 : stop_asked() ? EXIT_INTERRUPTED : 2;
    code = group_code(&p.s.group, code);
    free(p.leave);
    pairs_free(&p.pairs);
    findings_free(&p.found);
    frames_close(&p.frames);
    group_leave(&p.s.group);
    kdas_context_destroy(context);
    free(p.s.command);
    return code;
}
