/* exchange.c - exchanges with other ranks, and the sum.
 *
 * A rank that waits tests its requests: for SPIN seconds after the last progress without a pause, then with pauses of a third of
 * what it has waited, up to LONGEST, so that threads that compute keep their processors. Pauses must not be longer than that, or
 * two ranks could wait for each other's pauses in every call; so the thread's timers are exact (table.c).
 *
 * Few values: each rank gets those of all ranks, and adds them up. Many: values are divided into as many chunks as there are
 * ranks. Rank r gets chunk r of all others, adds up, and sends the sums to all. Chunks go in pieces; WINDOW pieces are under way at a
 * time, and each is a round: first all send the piece's values to those who add, then all get the sums. Either way the
 * order of a sum is that of the ranks, so its bits depend on nothing else. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "group.h"

#define SPIN    50e-6
#define LONGEST 150e-6
enum { FEW = 8192 }; /* bytes: so many are few */
enum { WINDOW = 4, PIECE = 256 << 10, LEAST = 16 << 10 };

/* ---- waiting ---- */

static kdas_status fail(group *g)
{
    g->failed = true;
    kd_mpi_spoil();
    return KDAS_EBACKEND;
}

kdas_status kd_mpi_fail(group *g, const char *call, int error)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int  length                     = 0;

    MPI_Error_string(error, text, &length);
    (g->host->fail)(KDAS_EBACKEND, "rank %d of %d: %s: %s", g->rank, g->count, call, text);
    return fail(g);
}

static kdas_status fail_ended(group *g, const char *call)
{
    (g->host->fail)(KDAS_EBACKEND, "rank %d of %d: %s: MPI has been ended in this process", g->rank,
                    g->count, call);
    return fail(g);
}

/* Nothing has come since then: pause, or give up. */
static kdas_status rest(group *g, double since, const char *call)
{
    double waited = kd_mpi_now() - since;

    if (waited > g->timeout) {
        (g->host->fail)(
            KDAS_EBACKEND,
            "rank %d of %d: %s: the other ranks did not answer within %g seconds; one may "
            "be lost, or be late",
            g->rank, g->count, call, g->timeout);
        return fail(g);
    }
    if (waited < SPIN) {
        sched_yield();
    } else {
        double          pause = waited / 3 < LONGEST ? waited / 3 : LONGEST;
        struct timespec t     = { 0, (long)(pause * 1e9) };

        nanosleep(&t, NULL);
    }
    return KDAS_OK;
}

kdas_status kd_mpi_do(group *g, const char *call, kd_mpi_begin begin, void *user)
{
    MPI_Request request = MPI_REQUEST_NULL;
    double      since   = kd_mpi_now();
    kdas_status st      = KDAS_OK;
    int         done    = 0, error;

    if (!kd_mpi_enter()) return fail_ended(g, call);
    error = begin(g, user, &request);
    while (error == MPI_SUCCESS) {
        error = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        if (done || error != MPI_SUCCESS) break;
        kd_mpi_leave();
        st = rest(g, since, call);
        if (st != KDAS_OK) return st;
        if (!kd_mpi_enter()) return fail_ended(g, call);
    }
    kd_mpi_leave();
    return error == MPI_SUCCESS ? KDAS_OK : kd_mpi_fail(g, call, error);
}

typedef struct gather {
    const void *own;
    void       *all;
    int         bytes;
} gather;

static int begin_gather(group *g, void *user, MPI_Request *request)
{
    const gather *o = user;

    return MPI_Iallgather(o->own, o->bytes, MPI_BYTE, o->all, o->bytes, MPI_BYTE, g->comm, request);
}

kdas_status kd_mpi_gather(group *g, const char *call, const void *own, void *all, int bytes)
{
    gather o = { own, all, bytes };

    return kd_mpi_do(g, call, begin_gather, &o);
}

kdas_status kd_mpi_reserve(group *g, size_t bytes)
{
    bytes = (bytes + 63) / 64 * 64;
    if (g->scratch_size >= bytes) return KDAS_OK;
    free(g->scratch);
    g->scratch      = aligned_alloc(64, bytes);
    g->scratch_size = g->scratch ? bytes : 0;
    if (g->scratch) return KDAS_OK;
    (g->host->fail)(KDAS_ENOMEM, "rank %d of %d: out of memory: %zu bytes were needed", g->rank,
                    g->count, bytes);
    fail(g);
    return KDAS_ENOMEM;
}

/* ---- adding ---- */

/* values[i] = part[0][i] + part[1][i] + ..., in this order. One of the parts is `values` itself. */
#define ADD(type)                                                                          \
    static void add_##type(type *values, const char *const *part, int parts, size_t count) \
    {                                                                                      \
        enum { BLOCK = 1024 };                                                             \
        for (size_t begin = 0; begin < count; begin += BLOCK) {                            \
            size_t n = count - begin < BLOCK ? count - begin : BLOCK;                      \
            type   sum[BLOCK];                                                             \
                                                                                           \
            memcpy(sum, (const type *)(const void *)part[0] + begin, n * sizeof *sum);     \
            for (int r = 1; r < parts; r++) {                                              \
                const type *restrict more = (const type *)(const void *)part[r] + begin;   \
                                                                                           \
                for (size_t i = 0; i < n; i++)                                             \
                    sum[i] += more[i];                                                     \
            }                                                                              \
            memcpy(values + begin, sum, n * sizeof *sum);                                  \
        }                                                                                  \
    }
ADD(float)
ADD(double)

static void add(void *values, const char *const *part, int parts, size_t count, int32_t type)
{
    if (type == KDAS_COLLECTIVE_F64)
        add_double(values, part, parts, count);
    else
        add_float(values, part, parts, count);
}

static kdas_status sum_few(group *g, void *values, size_t count, int32_t type)
{
    size_t      bytes = count * (type == KDAS_COLLECTIVE_F64 ? 8 : 4);
    const char *part[g->count];
    kdas_status st = kd_mpi_reserve(g, bytes * (size_t)g->count);

    if (st == KDAS_OK) st = kd_mpi_gather(g, "sum", values, g->scratch, (int)bytes);
    if (st != KDAS_OK) return st;
    for (int r = 0; r < g->count; r++)
        part[r] = g->scratch + (size_t)r * bytes;
    add(values, part, g->count, count, type);
    return KDAS_OK;
}

/* ---- many values ---- */

enum { SCATTER, COLLECT, FREE }; /* what a place of the window waits for */

typedef struct many {
    group  *g;
    char   *values;
    size_t  total, chunk, piece; /* bytes */
    size_t  width;               /* of a value */
    int32_t type;
    size_t  rounds;
    int     others; /* requests of a place: 2 for each other rank */
    int     state[WINDOW], open[WINDOW];
    size_t  next
        [WINDOW]; /* the round after the present one: each WINDOW-th is this place's, on every rank */
    size_t       of[WINDOW]; /* its round */
    MPI_Request *request;    /* WINDOW times `others`, as are these: */
    MPI_Status  *status;
    int         *done;
} many;

/* Piece `round` of the chunk of rank r: where it is, and its bytes. */
static size_t piece_of(const many *m, size_t round, int r, char **at)
{
    size_t begin = (size_t)r * m->chunk + round * m->piece, end = ((size_t)r + 1) * m->chunk;

    if (end > m->total) end = m->total;
    *at = m->values + (begin < end ? begin : 0);
    if (begin >= end) return 0;
    return end - begin < m->piece ? end - begin : m->piece;
}

/* Where values of rank r for this rank's piece arrive, and then the sums of its own piece. Not in the caller's memory:
 * after a failure, MPI may still write. */
static char *arrival(const many *m, int place, int r)
{
    return m->g->scratch + ((size_t)place * (size_t)m->g->count + (size_t)r) * m->piece;
}

static int post(many *m, int place, bool sends, int r, char *at, size_t bytes)
{
    MPI_Request *request =
        m->request + place * m->others + 2 * (r - (r > m->g->rank)) + (sends ? 1 : 0);
    int tag = 2 * place + m->state[place];

    if (bytes == 0) return MPI_SUCCESS;
    m->open[place]++;
    return sends ? MPI_Isend(at, (int)bytes, MPI_BYTE, r, tag, m->g->comm, request)
                 : MPI_Irecv(at, (int)bytes, MPI_BYTE, r, tag, m->g->comm, request);
}

/* Send and receive what the state of a place asks for. */
static int begin_state(many *m, int place, int state)
{
    char  *own, *theirs;
    size_t size_own = piece_of(m, m->of[place], m->g->rank, &own), size_theirs;
    int    error    = MPI_SUCCESS;

    m->state[place] = state;
    for (int step = 1; step < m->g->count && error == MPI_SUCCESS; step++) {
        int from = (m->g->rank + m->g->count - step) % m->g->count;

        size_theirs = piece_of(m, m->of[place], from, &theirs);
        error       = post(m, place, false, from, arrival(m, place, from),
                     state == SCATTER ? size_own : size_theirs);
    }
    for (int step = 1; step < m->g->count && error == MPI_SUCCESS; step++) {
        int to = (m->g->rank + step) % m->g->count;

        size_theirs = piece_of(m, m->of[place], to, &theirs);
        error       = state == SCATTER ? post(m, place, true, to, theirs, size_theirs)
                                       : post(m, place, true, to, own, size_own);
    }
    return error;
}

static void add_piece(many *m, int place)
{
    char       *own;
    size_t      bytes = piece_of(m, m->of[place], m->g->rank, &own);
    const char *part[m->g->count];

    for (int r = 0; r < m->g->count; r++)
        part[r] = r == m->g->rank ? own : arrival(m, place, r);
    add(own, part, m->g->count, bytes / m->width, m->type);
}

static void keep_sums(many *m, int place)
{
    char  *at;
    size_t bytes;

    for (int r = 0; r < m->g->count; r++) {
        bytes = piece_of(m, m->of[place], r, &at);
        if (r != m->g->rank) memcpy(at, arrival(m, place, r), bytes);
    }
}

/* Go on where nothing is waited for any more. */
static int advance(many *m)
{
    int error = MPI_SUCCESS;

    for (int place = 0; place < WINDOW; place++) {
        while (error == MPI_SUCCESS && m->open[place] == 0) {
            if (m->state[place] == SCATTER) {
                add_piece(m, place);
                error = begin_state(m, place, COLLECT);
                continue;
            }
            if (m->state[place] == COLLECT) keep_sums(m, place);
            m->state[place] = FREE;
            if (m->next[place] >= m->rounds) break;
            m->of[place] = m->next[place];
            m->next[place] += WINDOW;
            error = begin_state(m, place, SCATTER);
        }
    }
    return error;
}

static bool all_done(const many *m)
{
    for (int place = 0; place < WINDOW; place++)
        if (m->state[place] != FREE) return false;
    return true;
}

/* The error of the request that has failed. */
static int error_of(const many *m, int error, int done)
{
    for (int i = 0; error == MPI_ERR_IN_STATUS && i < done; i++)
        if (m->status[i].MPI_ERROR != MPI_SUCCESS && m->status[i].MPI_ERROR != MPI_ERR_PENDING)
            return m->status[i].MPI_ERROR;
    return error;
}

static kdas_status exchange(many *m)
{
    group      *g     = m->g;
    double      since = kd_mpi_now();
    kdas_status st    = KDAS_OK;
    int         error, done;

    if (!kd_mpi_enter()) return fail_ended(g, "sum");
    error = advance(m);
    while (error == MPI_SUCCESS && !all_done(m)) {
        error = MPI_Testsome(WINDOW * m->others, m->request, &done, m->done, m->status);
        error = error_of(m, error, done);
        if (error != MPI_SUCCESS) break;
        for (int i = 0; i < done; i++)
            m->open[m->done[i] / m->others]--;
        if (done > 0) {
            since = kd_mpi_now();
            error = advance(m);
            continue;
        }
        kd_mpi_leave();
        st = rest(g, since, "sum");
        if (st != KDAS_OK) return st;
        if (!kd_mpi_enter()) return fail_ended(g, "sum");
    }
    kd_mpi_leave();
    return error == MPI_SUCCESS ? KDAS_OK : kd_mpi_fail(g, "sum", error);
}

static size_t divided(size_t a, size_t b) { return (a + b - 1) / b; }

static kdas_status sum_many(group *g, void *values, size_t count, int32_t type)
{
    size_t      width = type == KDAS_COLLECTIVE_F64 ? 8 : 4, piece = PIECE;
    int         others = 2 * (g->count - 1);
    MPI_Request request[WINDOW * others];
    MPI_Status  status[WINDOW * others];
    int         done[WINDOW * others];
    many        m = { .g       = g,
                      .values  = values,
                      .total   = count * width,
                      .width   = width,
                      .type    = type,
                      .others  = others,
                      .request = request,
                      .status  = status,
                      .done    = done };
    kdas_status st;

    /* whole cache lines; memory for arrivals does not grow with the ranks */
    m.chunk = divided(divided(m.total, (size_t)g->count), 64) * 64;
    while (piece > LEAST && piece * (size_t)g->count > 8 * PIECE)
        piece /= 2;
    m.piece  = piece < m.chunk ? piece : m.chunk;
    m.rounds = divided(m.chunk, m.piece);
    for (int i = 0; i < WINDOW * others; i++)
        request[i] = MPI_REQUEST_NULL;
    for (int place = 0; place < WINDOW; place++) {
        m.state[place] = FREE;
        m.next[place]  = (size_t)place;
    }
    st = kd_mpi_reserve(g, WINDOW * (size_t)g->count * m.piece);
    if (st == KDAS_OK) st = exchange(&m);
    return st;
}

kdas_status kd_mpi_sum(group *g, void *values, size_t count, int32_t type)
{
    size_t width = type == KDAS_COLLECTIVE_F64 ? 8 : 4;

    if (count <= FEW / width) return sum_few(g, values, count, type);
    return sum_many(g, values, count, type);
}
