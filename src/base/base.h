/* base.h - what every file inside may use: status, log, memory, random numbers, small
 * arithmetic. */
#ifndef KD_BASE_H
#define KD_BASE_H
#include <kdas/base.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KD_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define KD_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KD_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define KD_MAX(a, b)    ((a) > (b) ? (a) : (b))
#define KD_ALIGN        64

/* ---- status.c ---- */

/* Set this thread's sentence and return `status`, so that a failing function can end with it. */
kdas_status kd_fail(kdas_status status, const char *format, ...) KD_PRINTF(2, 3);
/* Put "prefix: " before the sentence already set; returns `status`. */
kdas_status kd_fail_in(kdas_status status, const char *format, ...) KD_PRINTF(2, 3);

/* In a function with `kdas_status st` and a label `done`: run, and leave on failure. */
#define KD_TRY(call)                  \
    do {                              \
        st = (call);                  \
        if (st != KDAS_OK) goto done; \
    } while (0)
/* In a function that has nothing to clean up. */
#define KD_RETURN(call)                 \
    do {                                \
        kdas_status st_ = (call);       \
        if (st_ != KDAS_OK) return st_; \
    } while (0)

/* ---- context.h holds struct kdas_context; memory.c ---- */

/* Memory from the context's hooks, aligned to KD_ALIGN. NULL with the sentence set (KDAS_ENOMEM).
 * A size of 0 gives a valid pointer. */
void *kd_alloc(kdas_context *ctx, size_t bytes);
void *kd_calloc(kdas_context *ctx, size_t count, size_t size);
void  kd_free(kdas_context *ctx, void *memory); /* NULL is fine */
char *kd_strdup(kdas_context *ctx, const char *text);
char *kd_printf(kdas_context *ctx, const char *format, ...) KD_PRINTF(2, 3);
/* Grow *array to hold at least `need` elements; *capacity counts elements. */
kdas_status kd_grow(kdas_context *ctx, void **array, size_t *capacity, size_t need, size_t element);
/* Move element i of a list of pointers to its end, and return it: for lists in the
 * order of last use. */
void *kd_move_last(void *list, size_t count, size_t i);

/* ---- log.c ---- */
void kd_log(kdas_context *ctx, kdas_log_level level, const char *format, ...) KD_PRINTF(3, 4);
#define kd_warn(ctx, ...) kd_log(ctx, KDAS_LOG_WARN, __VA_ARGS__)
#define kd_info(ctx, ...) kd_log(ctx, KDAS_LOG_INFO, __VA_ARGS__)

/* KDAS_ECANCELLED once the host has asked to stop. */
kdas_status kd_check_cancel(const kdas_context *ctx);
/* The same; also KDAS_ECANCELLED, without a sentence, where ctx->give_up() says so. */
kdas_status kd_check_stop(const kdas_context *ctx);

/* ---- options.c ---- */

/* Take a host's size-first option struct into ours. `ours` holds the defaults; members
 * beyond theirs keep them. Refused: a NULL size, and a newer struct that sets a byte which
 * we do not know. */
kdas_status kd_take_options(void *ours, size_t ours_size, const void *theirs, const char *what);
/* Reserved bytes of a struct must be zero, so that later members can be detected. */
kdas_status kd_check_reserved(int32_t reserved, const char *what);
/* Check a report struct before a call that must not change anything on failure. */
kdas_status kd_check_report(const size_t *size, const char *what);
/* The reverse of kd_take_options(), also for reports: copy ours into a host's struct whose size is
 * set. Its members that we do not know become zero. */
kdas_status kd_give_options(void *theirs, const void *ours, size_t ours_size, const char *what);

/* ---- random.c: counter-based draws; a (seed, counter) gives the same value anywhere ---- */
uint64_t kd_mix64(uint64_t x);                      /* splitmix64's finaliser                */
uint64_t kd_hash64(const char *text);               /* fnv1a64                               */
uint64_t kd_hash_bytes(const void *data, size_t n); /* fnv1a64                               */

typedef struct kd_random {
    uint64_t seed, counter;
} kd_random;
kd_random kd_random_make(uint64_t seed, uint64_t stream);
uint64_t  kd_random_u64(kd_random *r);
double    kd_random_unit(kd_random *r); /* [0, 1)     */
double    kd_random_between(kd_random *r, double low, double high);
double    kd_random_normal(kd_random *r);
int64_t   kd_random_below(kd_random *r, int64_t n); /* 0 .. n - 1 */

/* ---- time ---- */
double kd_now(void); /* monotonic seconds */

#endif
