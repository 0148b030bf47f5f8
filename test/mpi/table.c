/* table.c - the table of an MPI plug-in, called as the library does, but without it: sums of both types and many sizes,
 * whose bits must be those of a sum in the order of the ranks; broadcasts; times.
 *
 *   table PLUGIN            the test; with "long", for minutes
 *   table PLUGIN times      seconds of a vote, and of a sum of 14 MB; with -DCOMPARE (mpicc) those of MPI_Allreduce, too
 *   table PLUGIN huge       a sum of more than 2^31 bytes */
#include <dlfcn.h>
#include <kdas/collective.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef COMPARE
#include <mpi.h>
#endif

static const kdas_collective *t;
static void                  *group;
static int                    rank, count;

static kdas_status fail(kdas_status status, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    puts("");
    fflush(stdout);
    return status;
}

static void *lend_alloc(void *user, size_t bytes)
{
    (void)user;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}
static void lend_free(void *user, void *memory)
{
    (void)user;
    free(memory);
}
static void lend_log(void *user, kdas_log_level level, const char *text)
{
    (void)user, (void)level, (void)text;
}

/* A value of rank r, whose sums depend on the order. */
static double value(int r, size_t i)
{
    return (double)((i * 2654435761u + (size_t)r * 40503u) % 100003) / 7.0 * (r % 2 ? 1e-3 : 1e3);
}

#define CHECK(type, name, kind)                                                                \
    static int check_##name(size_t n)                                                          \
    {                                                                                          \
        type *v   = malloc((n + 1) * sizeof *v);                                               \
        int   bad = 0;                                                                         \
                                                                                               \
        for (size_t i = 0; i < n; i++)                                                         \
            v[i] = (type)value(rank, i);                                                       \
        v[n] = 42; /* behind the end */                                                        \
        if (t->sum(group, v, n, kind) != KDAS_OK) return 1;                                    \
        for (size_t i = 0; i < n && !bad; i++) {                                               \
            type sum = (type)value(0, i);                                                      \
                                                                                               \
            for (int r = 1; r < count; r++)                                                    \
                sum += (type)value(r, i);                                                      \
            bad = memcmp(&sum, &v[i], sizeof sum) != 0;                                        \
            if (bad) printf("rank %d: sum of %zu " #name ": value %zu differs\n", rank, n, i); \
        }                                                                                      \
        bad = bad || v[n] != 42;                                                               \
        free(v);                                                                               \
        return bad;                                                                            \
    }
CHECK(float, f32, KDAS_COLLECTIVE_F32)
CHECK(double, f64, KDAS_COLLECTIVE_F64)

static int check_broadcast(size_t n)
{
    int bad = 0;

    for (int root = 0; root < count; root++) {
        unsigned char *b = malloc(n + 1);

        for (size_t i = 0; i < n; i++)
            b[i] = (unsigned char)(i * 7 + (size_t)rank);
        b[n] = 42;
        if (t->broadcast(group, b, n, root) != KDAS_OK) return 1;
        for (size_t i = 0; i < n; i++)
            bad = bad || b[i] != (unsigned char)(i * 7 + (size_t)root);
        bad = bad || b[n] != 42;
        free(b);
    }
    if (bad) printf("rank %d: broadcast of %zu bytes differs\n", rank, n);
    return bad;
}

static double now(void)
{
    struct timespec s;

    clock_gettime(CLOCK_MONOTONIC, &s);
    return (double)s.tv_sec + (double)s.tv_nsec * 1e-9;
}

static void sum_by(int kind, void *v, size_t n)
{
    if (kind == 0 && t->sum(group, v, n, KDAS_COLLECTIVE_F32) != KDAS_OK) exit(1);
#ifdef COMPARE
    if (kind == 1) MPI_Allreduce(MPI_IN_PLACE, v, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
#endif
}

static int times(void)
{
    static const size_t size[] = { 6, 1000, 20000, 250000, 3500000 };

    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        float *v = calloc(size[s], sizeof *v);

        for (int kind = 0; kind < 2; kind++) {
            double least = 1e9, mean = 0;
            int    runs = size[s] > 1000000 ? 20 : 200;

            for (int i = 0; i < runs; i++) {
                double begin;

                t->barrier(group);
                begin = now();
                sum_by(kind, v, size[s]);
                begin = now() - begin;
                least = begin < least ? begin : least;
                mean += begin / runs;
            }
            if (rank == 0)
                printf("%s %9zu bytes: least %10.1f us, mean %10.1f us\n",
                       kind ? "MPI_Allreduce" : "plug-in      ", size[s] * 4, least * 1e6,
                       mean * 1e6);
        }
        free(v);
    }
    return 0;
}

static int huge(void)
{
    size_t n = ((size_t)1 << 29) + 1234567, bad = 0;
    float *v = malloc(n * sizeof *v);

    if (!v) return 1;
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(i % 1000 + (size_t)rank);
    if (t->sum(group, v, n, KDAS_COLLECTIVE_F32) != KDAS_OK) return 1;
    for (size_t i = 0; i < n; i++)
        bad += v[i] != (float)((size_t)count * (i % 1000) + (size_t)(count * (count - 1) / 2));
    printf("rank %d: %zu of %zu values differ\n", rank, bad, n);
    free(v);
    return bad != 0;
}

static int test(size_t rounds)
{
    static const size_t size[] = { 0, 1, 3, 1023, 1024, 1025, 2048, 2049, 5000, 70001, 1500001 };
    int                 bad    = 0;

    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        bad = bad || check_f32(size[s]) || check_f64(size[s]) || check_broadcast(size[s] * 4 + 1);
    /* ranks that come at different times */
    for (size_t i = 0; i < rounds && !bad; i++) {
        struct timespec late = { 0, (long)((i * 104729 + (size_t)rank * 7919) % 3000) * 1000 };

        nanosleep(&late, NULL);
        bad = i % 2 ? check_f32(i * 40503 % 300007) : check_f64(i * 40503 % 300007);
    }
    bad = bad || t->barrier(group) != KDAS_OK;
    return bad;
}

int main(int words, char **word)
{
    static const kdas_collective_host host = { .abi   = KDAS_COLLECTIVE_ABI,
                                               .size  = sizeof host,
                                               .alloc = lend_alloc,
                                               .free  = lend_free,
                                               .log   = lend_log,
                                               .fail  = fail };
    kdas_collective_options           o    = { .size = sizeof o, .timeout = 20 };
    void                             *lib  = dlopen(word[1], RTLD_NOW | RTLD_LOCAL);
    kdas_collective_entry_fn          entry;
    char                              text[200];
    int                               bad;

#ifdef COMPARE
    MPI_Init_thread(&words, &word, MPI_THREAD_SERIALIZED, &rank);
#endif
    if (!lib) return printf("%s\n", dlerror());
    *(void **)&entry = dlsym(lib, KDAS_COLLECTIVE_ENTRY);
    t                = entry();
    if (t->open(&group, &host, &o) != KDAS_OK) return 1;
    rank  = t->rank(group);
    count = t->count(group);
    t->describe(group, text, sizeof text);
    if (words < 3)
        bad = test(20);
    else if (!strcmp(word[2], "long"))
        bad = test(2000);
    else
        bad = strcmp(word[2], "times") ? huge() : times();
    t->close(group);
    if (rank == 0 && !bad) printf("table: fine: %s\n", text);
#ifdef COMPARE
    MPI_Finalize();
#endif
    return bad;
}
