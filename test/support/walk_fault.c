/* walk_fault.c - see walk_util.h: calls of a walk whose memory runs out. What is left of a model after that is not always
 * the same, since a call may fail early or late. So it is looked up in the model itself, and must be one of the states that
 * the headers allow. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "graph/program_inside.h"
#include "model/model.h"
#include "support/check_util.h"
#include "support/walk_util.h"

/* ---- which allocation fails ---- */

long kd_test_walk_allocations(const kd_test_walk *w)
{
    long all = 0;

    for (int i = 0; i < WALK_CONTEXTS; i++)
        all += atomic_load(&w->meter[i].taken);
    return all;
}

static long outstanding(const kd_test_walk *w)
{
    long all = 0;

    for (int i = 0; i < WALK_CONTEXTS; i++)
        all += atomic_load(&w->meter[i].taken) - atomic_load(&w->meter[i].given_back);
    return all;
}

void walk_arm(kd_test_walk *w)
{
    for (int i = 0; i < WALK_CONTEXTS && w->fault.k > 0; i++) {
        kd_test_meter *m = &w->meter[i];

        atomic_store(&m->refused, 0);
        m->fail_at = atomic_load(&m->taken) + w->fault.k;
        m->fail_to = w->fault.after ? 0 : m->fail_at;
    }
}

bool walk_refused(const kd_test_walk *w)
{
    bool refused = false;

    for (int i = 0; i < WALK_CONTEXTS; i++)
        refused |= w->meter[i].fail_at && atomic_load(&w->meter[i].refused) > 0;
    return refused;
}

bool walk_disarm(kd_test_walk *w)
{
    bool refused = walk_refused(w);
    long used    = 0;

    for (int i = 0; i < WALK_CONTEXTS; i++) {
        kd_test_meter *m = &w->meter[i];
        long           k = m->fail_at ? atomic_load(&m->taken) - (m->fail_at - w->fault.k) : 0;

        used       = KD_MAX(used, k);
        m->fail_at = 0;
    }
    w->fault.k = refused ? 0 : KD_MAX(w->fault.k - used, 0); /* of the step's next call */
    return refused;
}

/* ---- what is left ---- */

static const char *const tap_names[WALK_TAPS] = { "s8", "s4", "s16", "s32" };

static void look_up_taps(walk_model *m)
{
    for (int i = 0; i < WALK_TAPS; i++) {
        m->kept[i] = false;
        for (size_t k = 0; k < m->h->kept_count; k++)
            m->kept[i] |= strcmp(m->h->kept[k], tap_names[i]) == 0;
    }
}

static void look_up(walk_model *m)
{
    uint64_t now = kdas_model_generation(m->h);

    if (m->lite) look_up_taps(m);
    m->arena    = m->h->arena->bytes;
    m->programs = (int)m->h->programs;
    for (int i = 0; i < m->programs; i++) {
        const kd_model_program *p = &m->h->program[i];

        m->program[i] = (walk_program){ (kdas_mode)p->mode, p->n, p->h,
                                        kd_program_memory_use(p->program).arena };
    }
    m->generation += now != m->seen;
    m->values         = now != 0;
    m->differentiable = m->values && kd_program_check_backward(m->h->current) == KDAS_OK;
    if (m->values && !kdas_model_batch(m->h)) m->batch = WALK_NONE;
}

void walk_look(walk_model *m)
{
    uint64_t now = kdas_model_generation(m->h);

    ck_assert_msg(now == 0 || now == m->seen, "a failed call left values of another forward");
    look_up(m);
}

void walk_look_run(walk_model *m, int batch)
{
    uint64_t now = kdas_model_generation(m->h);

    if (now != 0 && now != m->seen) m->batch = batch;
    look_up(m);
}

/* ---- hashes ---- */

void walk_note(kd_test_walk *w, const void *bytes, size_t count)
{
    w->hash = kd_mix64(w->hash ^ kd_hash_bytes(bytes, count));
}

uint64_t walk_weights(const walk_model *m)
{
    size_t   count;
    float   *values = kd_test_weights(m->h, &count);
    uint64_t hash   = kd_hash_bytes(values, count * sizeof *values);

    free(values);
    return hash;
}

uint64_t kd_test_walk_hash(const kd_test_walk *w)
{
    uint64_t hash = w->hash;

    for (int i = 0; i < WALK_MODELS; i++)
        if (w->model[i].h) hash = kd_mix64(hash ^ walk_weights(&w->model[i]));
    return hash;
}

/* ---- steps ---- */

bool kd_test_walk_step_without(kd_test_walk *w, long k, bool after)
{
    w->fault.on     = true;
    w->fault.failed = false;
    w->fault.k      = k;
    w->fault.after  = after;
    walk_arm(w);
    kd_test_walk_step(w);
    walk_disarm(w);
    w->fault.k = 0;
    return w->fault.failed;
}

/* What a failed call has compiled or reserved stays, so the next try makes fewer allocations: it begins with the first
 * again. */
void kd_test_walk_step_dense(kd_test_walk *w, long first, long stride)
{
    kd_random choices = w->r;
    long      k       = first;

    w->fault.redo = WALK_NONE;
    for (int try = 0;; try++) {
        long held = outstanding(w);

        w->fault.again = try > 0;
        if (!kd_test_walk_step_without(w, k, try % 2)) break;
        k    = outstanding(w) > held ? first : k + stride;
        w->r = choices;
    }
    w->fault.again = false;
}
