/* capture.c - captures programs into device graphs. The first run of a part is a plain run, so
 * that libraries can do their first-use setup. The second run is captured. Later runs launch the
 * graph. Data that changes from run to run stays outside the graph: seeds are uploaded before
 * the launch, and each set of caller-owned memory has its own graph. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "graph/program_inside.h"
#include "graph/settings.h"

/* ---- memory for captures ---- */

static bool draws(const kd_program *p, int i)
{
    const kd_node *node = p->graph->node[i];

    return p->slot[i].kernel && node->op->draws && (node->desc.flags & KDAS_NODE_TRAIN);
}

/* A launch reads its seeds from device memory. */
static kdas_status make_seeds(kd_program *p)
{
    size_t bytes;

    for (int i = 0; i < p->nodes; i++)
        if (draws(p, i)) p->draws++;
    if (!p->draws) return KDAS_OK;
    bytes          = (size_t)p->draws * sizeof *p->seed;
    p->seed        = kd_alloc(p->ctx, bytes);
    p->device_seed = p->seed ? kd_device_alloc(p->ctx, bytes) : NULL;
    if (!p->device_seed) return KDAS_ENOMEM;
    for (int i = 0, at = 0; i < p->nodes; i++)
        if (draws(p, i)) p->slot[i].draw = at++;
    return KDAS_OK;
}

/* Storages that a caller may own: inputs and their gradients. */
static void find_bindable(kd_program *p)
{
    for (int i = 0; i < p->nodes; i++) {
        if (p->graph->node[i]->kind != KD_NODE_INPUT) continue;
        if (p->slot[i].value >= 0) p->bindable[p->bindable_count++] = p->slot[i].value;
        if (p->slot[i].grad >= 0) p->bindable[p->bindable_count++] = p->slot[i].grad;
    }
}

static size_t inputs_of(const kd_program *p)
{
    size_t n = 0;

    for (int i = 0; i < p->nodes; i++)
        n += p->graph->node[i]->kind == KD_NODE_INPUT;
    return n;
}

kdas_status kd_captures_create(kd_program *p)
{
    size_t room = 2 * inputs_of(p) + 1;

    if (!p->ctx->backend->capture_begin || p->exchanges) return KDAS_OK;
    KD_RETURN(make_seeds(p));
    p->bindable      = kd_calloc(p->ctx, room, sizeof *p->bindable);
    p->capture_bound = kd_calloc(p->ctx, KD_CAPTURE_SETS * room, sizeof *p->capture_bound);
    p->capture       = kd_calloc(p->ctx, KD_CAPTURE_SETS, sizeof *p->capture);
    if (!p->bindable || !p->capture_bound || !p->capture) return KDAS_ENOMEM;
    for (size_t i = 0; i < KD_CAPTURE_SETS; i++)
        p->capture[i].bound = p->capture_bound + i * room;
    find_bindable(p);
    return KDAS_OK;
}

/* Discard the graph. `ran` is kept, so a part that has run can be captured at its next run. */
static void drop(kd_program *p, kd_capture *capture)
{
    kd_device_graph_destroy(p->ctx, capture->graph);
    capture->graph = NULL;
}

static void drop_set(kd_program *p, kd_capture_set *set)
{
    for (int k = 0; k < KD_CAPTURE_PARTS; k++)
        drop(p, &set->part[k]);
    set->used = 0;
}

void kd_captures_drop(kd_program *p)
{
    for (int i = 0; p->capture && i < KD_CAPTURE_SETS; i++)
        drop_set(p, &p->capture[i]);
    drop(p, &p->pack_capture);
}

void kd_captures_destroy(kd_program *p)
{
    kd_captures_drop(p);
    kd_free(p->ctx, p->capture);
    kd_free(p->ctx, p->capture_bound);
    kd_free(p->ctx, p->bindable);
    kd_free(p->ctx, p->seed);
    kd_device_free(p->ctx, p->device_seed);
}

/* ---- seeds ---- */

kdas_status kd_program_seed(kd_program *p, uint64_t seed)
{
    for (int i = 0; i < p->nodes; i++) {
        kd_slot *slot = &p->slot[i];

        if (!slot->kernel) continue;
        slot->forward.seed = slot->backward.seed = kd_mix64(seed ^ kd_mix64((uint64_t)i + 1));
        if (slot->draw >= 0) p->seed[slot->draw] = slot->forward.seed;
    }
    if (!p->device_seed) return KDAS_OK;
    return kd_device_upload(p->ctx, p->device_seed, p->seed, (size_t)p->draws * sizeof *p->seed);
}

/* ---- graphs of the device ---- */

static float *bound_memory(const kd_program *p, int i)
{
    const kd_storage *s = &p->storage[p->bindable[i]];

    return s->bound ? s->memory : NULL;
}

static bool fits(const kd_program *p, const kd_capture_set *set)
{
    for (int i = 0; set->used && i < p->bindable_count; i++)
        if (set->bound[i] != bound_memory(p, i)) return false;
    return set->used > 0;
}

/* The graphs for the caller-owned memory that is bound now. A new set replaces the least
 * recently used one. */
static kd_capture_set *find_set(kd_program *p)
{
    kd_capture_set *set = p->capture, *oldest = set, *found = NULL;

    assert(set); /* the program is captured */
    for (int i = 0; i < KD_CAPTURE_SETS && !found; i++) {
        if (set[i].used < oldest->used) oldest = &set[i];
        if (fits(p, &set[i])) found = &set[i];
    }
    if (!found) {
        found = oldest;
        drop_set(p, found);
        for (int i = 0; i < p->bindable_count; i++)
            found->bound[i] = bound_memory(p, i);
    }
    found->used = ++p->capture_clock;
    return found;
}

/* The program cannot be captured: from now on its calls are issued one by one. The first such
 * program is logged. */
static void stop_capturing(kd_program *p)
{
    kd_graph_settings *settings;
    char               why[512];

    snprintf(why, sizeof why, "%s", kdas_last_error());
    kd_captures_drop(p);
    kd_free(p->ctx, p->capture);
    p->capture = NULL;
    if (kd_graph_settings_of(p->ctx)->warned_uncaptured) return;
    settings = kd_graph_settings_change(p->ctx);
    if (settings) settings->warned_uncaptured = true;
    kd_warn(p->ctx, "'%s' cannot be captured, it runs call by call: %s", p->label, why);
}

/* Capture the calls of `run`. None of them has executed when this returns. */
static kdas_status capture_calls(kd_program *p, kd_capture *capture, kd_run_fn run)
{
    const kdas_backend *backend = p->ctx->backend;
    kdas_device        *device  = p->ctx->device;
    void               *graph   = NULL;
    char                why[512];
    kdas_status         st, end;

    KD_RETURN(backend->capture_begin(device));
    st = run(p);
    snprintf(why, sizeof why, "%s", kdas_last_error()); /* ending the capture may replace it */
    end = backend->capture_end(device, &graph);
    if (st == KDAS_OK && end == KDAS_OK) {
        capture->graph = graph;
        return KDAS_OK;
    }
    kd_device_graph_destroy(p->ctx, graph);
    return st == KDAS_OK ? end : kd_fail(st, "%s", why);
}

static kdas_status run_captured(kd_program *p, kd_capture *capture, kd_run_fn run)
{
    kdas_status st = KDAS_OK;

    if (!capture->ran) {
        st           = run(p);
        capture->ran = st == KDAS_OK;
        return st;
    }
    KD_RETURN(kd_check_stop(p->ctx));
    if (!capture->graph) st = capture_calls(p, capture, run);
    if (st == KDAS_OK) {
        st = p->ctx->backend->graph_launch(p->ctx->device, capture->graph);
        if (st != KDAS_OK && st != KDAS_EUNSUPPORTED) return kd_fail_in(st, "%s", p->label);
    }
    if (st != KDAS_EUNSUPPORTED) return st;
    stop_capturing(p);
    return run(p);
}

/* The profile times each node, so nothing is launched as a graph. */
static bool runs_uncaptured(const kd_program *p)
{
    return !p->capture || kd_graph_settings_of(p->ctx)->uncaptured || p->ctx->profiling;
}

kdas_status kd_capture_run(kd_program *p, kd_capture_part part, kd_run_fn run)
{
    return runs_uncaptured(p) ? run(p) : run_captured(p, &find_set(p)->part[part], run);
}

/* Is anything packed, and only parameters, no caller-owned memory (a weight that is an input)? */
static bool packs_parameters_only(const kd_program *p)
{
    bool any = false;

    for (int i = 0; i < p->nodes; i++) {
        if (!p->slot[i].plan.packed) continue;
        any = true;
        for (int k = 1; k < KDAS_MAX_INPUTS; k++) {
            const kd_node *in = p->graph->node[i]->in[k];

            if (in && in->kind == KD_NODE_INPUT) return false;
        }
    }
    return any;
}

kdas_status kd_capture_pack(kd_program *p, kd_run_fn run)
{
    if (runs_uncaptured(p) || p->folds || !packs_parameters_only(p)) return run(p);
    return run_captured(p, &p->pack_capture, run);
}
