/* ranks.c - the handle: options, joining and leaving the group. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include "base/context.h"
#include "base/process.h"
#include "ranks/ranks_inside.h"

void kdas_ranks_options_init(kdas_ranks_options *options, size_t size)
{
    kdas_ranks_options defaults = { .size = size, .collective = "mpi", .timeout = 300 };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

static kdas_status check_options(const kdas_ranks_options *o)
{
    if (!o->table && (!o->collective || !o->collective[0] || strlen(o->collective) > 63 ||
                      strchr(o->collective, '/')))
        return kd_fail(KDAS_EINVAL, "ranks: '%.64s' is not a name of a collective",
                       o->collective ? o->collective : "");
    if (!(o->timeout > 0 && o->timeout <= 1e6))
        return kd_fail(KDAS_EINVAL, "ranks: timeout is %g seconds, not above 0 and up to 1e6",
                       o->timeout);
    return KDAS_OK;
}

/* ---- the table ---- */

static kdas_status check_table(const kdas_collective *t, const char *from)
{
    if (t->abi != KDAS_COLLECTIVE_ABI)
        return kd_fail(KDAS_EBACKEND, "'%s' has collective ABI %u, this library has %d", from,
                       t->abi, KDAS_COLLECTIVE_ABI);
    if (t->size < offsetof(kdas_collective, abort) + sizeof t->abort)
        return kd_fail(KDAS_EBACKEND, "'%s': its table of %zu bytes ends before abort()", from,
                       t->size);
    if (!t->name || !t->open || !t->close || !t->rank || !t->count || !t->describe || !t->sum ||
        !t->broadcast || !t->barrier || !t->abort)
        return kd_fail(KDAS_EBACKEND, "'%s': its table lacks a name or one of open() .. abort()",
                       from);
    return KDAS_OK;
}

static const kdas_collective *table_of(void *entry)
{
    kdas_collective_entry_fn fn;

    memcpy(&fn, &entry, sizeof fn);
    return fn();
}

static kdas_status check_entry(void *entry, const char *path)
{
    const kdas_collective *table = table_of(entry);

    return table
               ? check_table(table, path)
               : kd_fail(KDAS_EBACKEND, "'%s': its %s gives no table", path, KDAS_COLLECTIVE_ENTRY);
}

static kdas_status find_table(kdas_ranks *r, const kdas_ranks_options *o)
{
    static const kd_plugin_kind kind  = { "collective", "no", KDAS_COLLECTIVE_ENTRY, check_entry };
    const kdas_collective      *table = o->table;

    if (table)
        KD_RETURN(check_table(table, table->name ? table->name : "the host's collective"));
    else
        KD_RETURN(kd_plugin_find(&r->plugin, &kind, o->collective, o->plugin_path));
    if (!table) table = table_of(r->plugin.entry);
    memcpy(&r->table, table, KD_MIN(table->size, sizeof r->table));
    return KDAS_OK;
}

/* ---- what the collective is lent ---- */

static void *lend_alloc(void *user, size_t bytes) { return kd_alloc(user, bytes); }
static void  lend_free(void *user, void *memory) { kd_free(user, memory); }
static void  lend_log(void *user, kdas_log_level level, const char *text)
{
    kd_log(user, level, "%s", text);
}

/* ---- joining ---- */

/* Each number is one rank's. */
static kdas_status check_numbers(kdas_ranks *r)
{
    memset(r->ballot, 0, (size_t)r->count * sizeof *r->ballot);
    r->ballot[r->rank] = 1;
    KD_RETURN(kd_ranks_do(r, KD_RANKS_SUM_F64, r->ballot, (size_t)r->count, 0));
    for (int32_t i = 0; i < r->count; i++)
        if (r->ballot[i] != 1)
            return kd_fail(KDAS_EBACKEND, "collective '%s': %g processes are rank %d of %d",
                           r->table.name, r->ballot[i], i, r->count);
    return KDAS_OK;
}

/* A sum has the same bits everywhere, and they are those of some order of summation. */
static kdas_status check_sum(kdas_ranks *r)
{
    double want = 0, sum, first;

    for (int32_t i = 0; i < r->count; i++)
        want += 1 / (i + 3.0);
    sum = 1 / (r->rank + 3.0);
    KD_RETURN(kd_ranks_do(r, KD_RANKS_SUM_F64, &sum, 1, 0));
    first = sum;
    KD_RETURN(kd_ranks_do(r, KD_RANKS_BROADCAST, &first, sizeof first, 0));
    r->ballot[0] = memcmp(&sum, &first, sizeof sum) != 0 || !(fabs(sum - want) <= 1e-12 * want);
    KD_RETURN(kd_ranks_do(r, KD_RANKS_SUM_F64, r->ballot, 1, 0));
    if (r->ballot[0] == 0) return KDAS_OK;
    return kd_fail(KDAS_EBACKEND,
                   "collective '%s': a sum is wrong, or has other bits on some ranks",
                   r->table.name);
}

static kdas_status join(kdas_ranks *r)
{
    kdas_status st;

    KD_RETURN(kd_ranks_thread_start(r));
    KD_RETURN(kd_ranks_do(r, KD_RANKS_OPEN, NULL, 0, 0));
    r->alone  = r->count == 1;
    r->ballot = kd_calloc(r->ctx, (size_t)r->count + KD_RANKS_VALUES, sizeof *r->ballot);
    /* From here on a failure of this rank alone ends the others by their timeout. */
    if (!r->ballot) return KDAS_ENOMEM;
    if (!r->alone) {
        KD_RETURN(check_numbers(r));
        KD_RETURN(check_sum(r));
    }
    st = kdas_ranks_agree(r, "version of libkdas", kdas_version_string());
    return st == KDAS_EINVAL ? KDAS_ESTATE : st;
}

kdas_status kdas_ranks_create(kdas_ranks **out, kdas_context *context,
                              const kdas_ranks_options *options)
{
    kdas_ranks_options o;
    kdas_ranks        *r;
    kdas_status        st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_ranks_create: out is NULL");
    *out = NULL;
    if (!context) return kd_fail(KDAS_EINVAL, "kdas_ranks_create: the context is NULL");
    KD_RETURN(kd_check_process(context));
    kdas_ranks_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_ranks_options"));
    KD_RETURN(check_options(&o));
    r = kd_calloc(context, 1, sizeof *r);
    if (!r) return KDAS_ENOMEM;
    r->ctx          = context;
    r->timeout      = o.timeout;
    r->communicator = o.communicator;
    r->host         = (kdas_collective_host){ .abi   = KDAS_COLLECTIVE_ABI,
                                              .size  = sizeof r->host,
                                              .user  = context,
                                              .alloc = lend_alloc,
                                              .free  = lend_free,
                                              .log   = lend_log,
                                              .fail  = kd_fail };
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    pthread_cond_init(&r->done, NULL);
    st = find_table(r, &o);
    if (st == KDAS_OK) st = join(r);
    if (st == KDAS_OK)
        *out = r;
    else
        kdas_ranks_destroy(r);
    return st;
}

void kdas_ranks_destroy(kdas_ranks *r)
{
    bool here;

    if (!r) return;
    here = !kd_is_inherited(r->ctx);
    kd_ranks_thread_end(r);
    if (here) {
        pthread_mutex_destroy(&r->lock);
        pthread_cond_destroy(&r->work);
        pthread_cond_destroy(&r->done);
        kd_plugin_close(&r->plugin);
    }
    kd_free(r->ctx, r->ballot);
    kd_free(r->ctx, r);
}

/* ---- what it is ---- */

int32_t     kdas_ranks_rank(const kdas_ranks *r) { return r ? r->rank : 0; }
int32_t     kdas_ranks_count(const kdas_ranks *r) { return r ? r->count : 1; }
const char *kdas_ranks_describe(const kdas_ranks *r) { return r ? r->text : NULL; }
double      kd_ranks_waited(const kdas_ranks *r) { return r->waited; }

double kd_ranks_worked(const kdas_ranks *r)
{
    double worked;

    pthread_mutex_lock((pthread_mutex_t *)&r->lock);
    worked = r->worked;
    pthread_mutex_unlock((pthread_mutex_t *)&r->lock);
    return worked;
}

int32_t kdas_ranks_broken(const kdas_ranks *r)
{
    int32_t broken;

    if (!r || kd_is_inherited(r->ctx)) return 0;
    pthread_mutex_lock((pthread_mutex_t *)&r->lock);
    broken = r->broken;
    pthread_mutex_unlock((pthread_mutex_t *)&r->lock);
    return broken;
}

void kdas_ranks_abort(kdas_ranks *r, int32_t code)
{
    if (r && r->group && !kd_is_inherited(r->ctx)) r->table.abort(r->group, code);
}

kdas_status kd_ranks_check(const kdas_ranks *ranks, const kdas_context *ctx, const char *what)
{
    if (!ranks || ranks->ctx == ctx) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "%s: ranks are of another context", what);
}
