/* group.c - see group.h. */
#include "arguments/group.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "system/say.h"
#include "system/stop.h"

enum { HOST = 256 };

/* How many ranks are on this machine; 0 after a failure. */
static int ranks_here(kdas_ranks *ranks)
{
    char own[HOST] = "", theirs[HOST];
    int  here      = 0;

    gethostname(own, sizeof own - 1);
    for (int32_t r = 0; r < kdas_ranks_count(ranks); r++) {
        memcpy(theirs, own, sizeof own);
        if (!ok(kdas_ranks_broadcast(ranks, theirs, sizeof theirs, r))) return 0;
        here += !strcmp(theirs, own);
    }
    return here;
}

/* Launchers bind each rank to processors of its own, which --threads 0 follows. Where they do not, all ranks of a machine
 * would use all of it. */
static bool look_at_threads(kdas_ranks *ranks, const kdas_context *context, const machine *m)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int  here = ranks_here(ranks), threads = kdas_context_threads(context);

    if (!here) return false;
    if (m->threads == 0 && here > 1 && (long)here * threads > processors)
        say_error("warning: %d ranks of %d threads each run on the %ld processors of this machine: "
                  "let the launcher bind them, or give --threads",
                  here, threads, processors);
    return true;
}

/* Launchers tell a process how many there are. Without --ranks each does all of the work. */
static void look_at_launcher(void)
{
    static const char *const counts[] = { "OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                          "SLURM_STEP_NUM_TASKS" };

    for (int i = 0; i < COUNT(counts); i++) {
        const char *text  = getenv(counts[i]);
        long        count = text ? strtol(text, NULL, 10) : 0;

        if (count > 1) {
            say_error(
                "warning: this is one of %ld processes (%s), and without --ranks each does all "
                "of the work",
                count, counts[i]);
            return;
        }
    }
}

bool group_join(group *g, kdas_context *context, const machine *m)
{
    kdas_ranks_options options;

    if (!g->collective) {
        look_at_launcher();
        return true;
    }
    kdas_ranks_options_init(&options, sizeof options);
    options.collective = g->collective;
    if (g->timeout > 0) options.timeout = g->timeout;
    stop_on_user_signals(); /* joining may take long */
    if (!ok(kdas_ranks_create(&g->ranks, context, &options))) return false;
    say_as_rank(kdas_ranks_rank(g->ranks));
    return look_at_threads(g->ranks, context, m);
}

void group_leave(group *g)
{
    kdas_ranks_destroy(g->ranks);
    g->ranks = NULL;
}

bool group_first(const group *g) { return kdas_ranks_rank(g->ranks) == 0; }

bool group_all(const group *g, bool fine)
{
    double failed = fine ? 0 : 1;

    if (!g->ranks) return fine;
    if (kdas_ranks_broken(g->ranks)) return false; /* the call that noticed has said so */
    return ok(kdas_ranks_sum(g->ranks, &failed, 1)) && failed == 0;
}

bool group_agrees(const group *g, const char *what, const char *text)
{
    return ok(kdas_ranks_agree(g->ranks, what, text));
}

bool group_told(const group *g, bool *answer)
{
    return ok(kdas_ranks_broadcast(g->ranks, answer, sizeof *answer, 0));
}

bool group_copy(const group *g, kdas_model *model)
{
    int64_t dims[8];
    int32_t rank;
    bool    done = true;

    if (!g->ranks) return true;
    for (int32_t i = 0; done && kdas_model_tensor(model, i, &rank, dims, NULL); i++) {
        size_t count = 1;
        float *values;

        for (int32_t k = 0; k < rank; k++)
            count *= (size_t)dims[k];
        values = need(count * sizeof *values);
        done   = group_all(g, ok(kdas_model_read(model, i, values))) &&
               ok(kdas_ranks_broadcast(g->ranks, values, count * sizeof *values, 0)) &&
               group_all(g, group_first(g) || ok(kdas_model_write(model, i, values)));
        free(values);
    }
    return done;
}

int group_code(const group *g, int code)
{
    int largest = code;

    for (int32_t r = 0; g->ranks && r < kdas_ranks_count(g->ranks); r++) {
        int32_t theirs = code;

        if (kdas_ranks_broadcast(g->ranks, &theirs, sizeof theirs, r) != KDAS_OK) return code;
        if (theirs > largest) largest = theirs;
    }
    return largest;
}
