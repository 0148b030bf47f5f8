/* kdas/base.h - versions, status codes, error messages, logging, memory hooks and the context. */
#ifndef KDAS_BASE_H
#define KDAS_BASE_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define KDAS_BEGIN extern "C" {
#define KDAS_END   }
#else
#define KDAS_BEGIN
#define KDAS_END
#endif

#if defined(__GNUC__)
#define KDAS_API __attribute__((visibility("default")))
#else
#define KDAS_API
#endif

/* Release of these headers. KDAS_ABI changes only when a compiled program may break. */
#define KDAS_VERSION_MAJOR 0
#define KDAS_VERSION_MINOR 4
#define KDAS_VERSION_PATCH 0
#define KDAS_VERSION       (KDAS_VERSION_MAJOR * 10000 + KDAS_VERSION_MINOR * 100 + KDAS_VERSION_PATCH)
#define KDAS_ABI           1

/* Experimental declarations are visible only if KDAS_EXPERIMENTAL is defined before the first
 * include. A minor version may change or remove them. docs/abi.md lists them. */

KDAS_BEGIN

/* ---- Versions ------------------------------------------------------------------------------- */

/* Version of the running library, encoded as KDAS_VERSION. Any thread. Since 0.1. */
KDAS_API int32_t kdas_version(void);
/* The same as text, "0.4.0". Static. Since 0.1. */
KDAS_API const char *kdas_version_string(void);
/* ABI number of the running library; compare it with KDAS_ABI. Any thread. Since 0.1. */
KDAS_API int32_t kdas_abi(void);

/* ---- Errors ---------------------------------------------------------------------------------
 * Every call that can fail returns a status: 0 is success, a negative value is the kind of failure.
 * kdas_last_error() returns a message that names the cause; it is kept per thread.
 * A failed call leaves its outputs and its objects unchanged; handles that it should have created
 * are set to NULL. Exceptions are stated at the call. */
typedef enum kdas_status {
    KDAS_OK           = 0,
    KDAS_EINVAL       = -1,  /* an argument or option is out of range, or wrongly NULL */
    KDAS_ENOMEM       = -2,  /* an allocation failed */
    KDAS_EIO          = -3,  /* a file could not be opened, read, written or renamed */
    KDAS_EFORMAT      = -4,  /* a file's content is malformed */
    KDAS_ENOTFOUND    = -5,  /* no such name: model, tensor, rule, folder, file */
    KDAS_ESHAPE       = -6,  /* sizes do not match */
    KDAS_EUNSUPPORTED = -7,  /* valid, but not supported by this build or device */
    KDAS_ENUMERIC     = -8,  /* NaN or infinity where a finite number is required */
    KDAS_ECANCELLED   = -9,  /* the host cancelled */
    KDAS_EBACKEND     = -10, /* the compute library or the device failed */
    KDAS_ESTATE       = -11  /* calls out of order, or an object used in a forked child */
} kdas_status;

/* Enumerations must have 32 bits, because structs store them as int32_t. Compilation fails
 * otherwise. */
typedef char kdas_enums_have_32_bits[sizeof(kdas_status) == sizeof(int32_t) ? 1 : -1];

/* Name of a status, "KDAS_EINVAL"; "KDAS_E?" if unknown. Static. Since 0.1. */
KDAS_API const char *kdas_status_name(kdas_status status);
/* Message for this thread's last failure, one sentence; "" before the first. Valid until the
 * thread's next failure. Success does not clear it: check the status first. Since 0.1. */
KDAS_API const char *kdas_last_error(void);

/* ---- Log, memory hooks ----------------------------------------------------------------------- */

typedef enum kdas_log_level {
    KDAS_LOG_ERROR = 0,
    KDAS_LOG_WARN  = 1,
    KDAS_LOG_INFO  = 2,
    KDAS_LOG_DEBUG = 3
} kdas_log_level;

/* Receives one line without a newline. Called from any thread that uses the context, loader workers
 * included. It may call kdas_context_cancel() and no other function of the library. */
typedef void (*kdas_log_fn)(void *user, kdas_log_level level, const char *text);

/* Memory hooks. alloc returns memory aligned to 16 bytes, or NULL. free releases memory from alloc.
 * Both may be called from any thread that uses the context. All host memory of the library comes
 * from them, file headers and images included. oneDNN, OpenBLAS, OpenMP and the C library use their
 * own allocators. */
typedef void *(*kdas_alloc_fn)(void *user, size_t bytes);
typedef void (*kdas_free_fn)(void *user, void *memory);

/* ---- Context ---------------------------------------------------------------------------------
 * Holds what its handles share: device, thread count, log and memory hooks. A context must outlive
 * the handles created from it.
 * Threads: one thread at a time uses a context and its handles. Different contexts run
 * concurrently.
 * Fork: in a forked child, calls on the parent's objects that compute, wait for a thread or use the
 * device return KDAS_ESTATE.
 * Computing returns KDAS_EBACKEND if the system refuses to create the compute threads.
 * docs/threads.md has the full rules. */
typedef struct kdas_context kdas_context;

/* Number format that the networks of a context compute in.
 * BF16, F16: activations and matrix products have 16 bits, sums are f32. Parameters, their
 * gradients, statistics, losses, values that the host reads, and files stay f32. This saves time
 * and memory. BF16 needs a CPU with AVX-512 BF16 (AMX is used if present) or a GPU from sm_80. F16
 * needs a GPU, and a loss scale for training (kdas_optim_options.loss_scale).
 * TF32: f32, but a GPU may round the factors of matrix products to 10 bits of fraction. Needs a GPU
 * from sm_80.
 * INT8 (since 0.4): inference of models on 8-bit grids (kdas_model_options.quantize) computes their
 * layers with integers, the rest in bf16 where the device can, else in f32; training, and other
 * models, as BF16_IF_ABLE does without its log line. Needs a CPU with AVX2; with VNNI it is fastest.
 * On a device without the format, BF16, F16, TF32 and INT8 fail with KDAS_EUNSUPPORTED;
 * BF16_IF_ABLE and AUTO use f32 and log a line. AUTO takes bf16, else f16, else f32, and integers
 * for models on grids where the device has them. */
typedef enum kdas_precision {
    KDAS_PRECISION_F32          = 0,
    KDAS_PRECISION_BF16         = 1,
    KDAS_PRECISION_BF16_IF_ABLE = 2,
    KDAS_PRECISION_F16          = 3, /* since 0.3 */
    KDAS_PRECISION_TF32         = 4, /* since 0.3 */
    KDAS_PRECISION_AUTO         = 5, /* since 0.3 */
    KDAS_PRECISION_INT8         = 6  /* since 0.4 */
} kdas_precision;

/* What compute threads do between two pieces of work. It changes no result. AUTO looks for the next
 * piece for half a millisecond and then sleeps; it sleeps at once while other work takes the
 * processors away from the threads, and where there are more threads than processors. SPIN looks
 * for 20 milliseconds: for processors that do nothing else. SLEEP sleeps at once, which saves power
 * and takes a little longer. AUTO obeys the environment variable OMP_WAIT_POLICY: "active" gives
 * SPIN, "passive" SLEEP. Since 0.4. */
typedef enum kdas_wait { KDAS_WAIT_AUTO = 0, KDAS_WAIT_SPIN = 1, KDAS_WAIT_SLEEP = 2 } kdas_wait;

/* Settings. Call kdas_context_options_init() first, then change what you need. */
typedef struct kdas_context_options {
    size_t      size;   /* set by init; members are only added at the end */
    const char *device; /* "cpu" (default), "reference" (plain C) or a plug-in, "name[:index]" */
    /* Highest instruction set of the CPU kernels: "amx" (since 0.2), "avx512" (with its BF16),
     * "avx2" or "plain". NULL (default): no limit. oneDNN has one limit for the process, that of
     * its first context: a later one gets no bf16 under "avx2" or "plain", and a lower limit of its
     * own holds for the library's own kernels alone. */
    const char   *isa;
    kdas_log_fn   log; /* NULL (default): no log */
    void         *log_user;
    kdas_alloc_fn alloc; /* NULL (default): malloc. Set both alloc and free, or neither */
    kdas_free_fn  free;
    void         *alloc_user;
    /* Folders with plug-ins, separated by ':'. They are searched before those of the environment
     * variable KDAS_BACKEND_PATH and the folder "kdas" beside the library. NULL (default): no more.
     * Since 0.4. */
    const char *plugin_path;
    int32_t     threads;   /* compute threads, 1..1024; 0 (default): chosen as below */
    int32_t     precision; /* kdas_precision; default KDAS_PRECISION_F32. Since 0.2 */
    /* 1 (default): the same inputs, threads and device give the same bits. 0: a GPU may use
     * algorithms whose summation order varies. Since 0.3. */
    int32_t deterministic;
    /* 1: during calls, each compute thread is bound to one CPU; see below. Default 0. Since 0.4. */
    int32_t pin_threads;
    int32_t wait; /* kdas_wait; default KDAS_WAIT_AUTO. Since 0.4 */
    int32_t reserved; /* 0 */
} kdas_context_options;

/* threads = 0 takes the smallest of these (since 0.4):
 * - the number of CPUs in the calling thread's affinity mask;
 * - the tightest CPU quota of the process's control group and its ancestors (v1 or v2; whole CPUs,
 *   at least 1);
 * - the first number in the environment variable OMP_NUM_THREADS; a value that is no number from 1
 *   on is ignored and logged;
 * - 1024.
 * A number here wins over all of these except 1024. OMP_THREAD_LIMIT limits both: a context that has
 * fewer threads than requested logs a line. If the system refuses to create some of the threads, the
 * others do their work, with the same results; that is logged, too. */

/* pin_threads = 1 chooses among the CPUs of the calling thread's affinity mask: one of each physical
 * core, in ascending order, then their SMT siblings. The calling thread is bound while a call
 * computes, and has its mask again when the call returns, unless the mask was changed meanwhile.
 * The context's own threads stay bound between calls. If the mask has fewer CPUs than the context has threads, or the
 * system refuses, threads are not bound, and a line is logged. Two contexts that compute at a time
 * need disjoint masks. */

/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_context_options_init(kdas_context_options *options, size_t size);

/* Create a context. `options` may be NULL (defaults); it and its strings are not kept. Its compute
 * threads are created when it first computes, and end with it.
 * KDAS_EINVAL (range), KDAS_ENOTFOUND (device), KDAS_EBACKEND (device not usable),
 * KDAS_EUNSUPPORTED (precision), KDAS_ESTATE (a child forked in the middle of a call; see
 * docs/threads.md), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_context_create(kdas_context **out, const kdas_context_options *options);
/* Destroy a context, after all its handles. NULL is fine. Like every destroy it is safe in a forked
 * child: it frees the child's memory and does not touch threads or devices (since 0.4).
 * Since 0.1. */
KDAS_API void kdas_context_destroy(kdas_context *context);

/* Cancel whatever runs on the context. The running call stops at its next safe point and returns
 * KDAS_ECANCELLED; it can be called again. Any thread, callback or signal handler. Since 0.1. */
KDAS_API void kdas_context_cancel(kdas_context *context);
/* Clear the cancel, so that calls run again. Since 0.1. */
KDAS_API void kdas_context_resume(kdas_context *context);
/* Whether calls on the context would now return KDAS_ECANCELLED: it is cancelled and not held. 1 or
 * 0 (NULL: 0). For the host's own loops. Since 0.4. */
KDAS_API int32_t kdas_context_cancelled(const kdas_context *context);
/* Defer cancels: from hold to release, calls on the context run to completion. A cancel in between
 * takes effect at the release. Use it for work that must not be half done, such as a step and its
 * checkpoint. Sections nest: each hold needs a release. Only on the context's thread. KDAS_EINVAL
 * (NULL), KDAS_ESTATE (release without hold). Since 0.4. */
KDAS_API kdas_status kdas_context_hold(kdas_context *context);
KDAS_API kdas_status kdas_context_release(kdas_context *context);
/* Wait until the device has finished all submitted work. Use it for timing. A GPU runs
 * asynchronously: calls may return early, and those that return results wait by themselves. On a
 * CPU there is nothing to wait for. KDAS_EINVAL (NULL), KDAS_ESTATE (context from before a fork),
 * KDAS_EBACKEND (the device failed). Since 0.3. */
KDAS_API kdas_status kdas_context_wait(kdas_context *context);
/* Number of compute threads in use (NULL: 0). Since 0.1. */
KDAS_API int32_t kdas_context_threads(const kdas_context *context);
/* Whether compute threads are bound to CPUs (kdas_context_options.pin_threads): 1 or 0 (NULL: 0).
 * Since 0.4. */
KDAS_API int32_t kdas_context_pinned(const kdas_context *context);
/* Precision in use: KDAS_PRECISION_F32, _BF16, _F16, _TF32, or _INT8 if that was asked for (NULL:
 * F32). Since 0.2. */
KDAS_API kdas_precision kdas_context_precision(const kdas_context *context);
/* One line about the device: name, instruction set, libraries. Valid while the context lives. NULL
 * for NULL. Since 0.1. */
KDAS_API const char *kdas_context_device(const kdas_context *context);

/* Whether the device `name` (as in kdas_context_options.device) can be used here: 1 or 0.
 * `plugin_path` is that of kdas_context_options and may be NULL. `why` receives "" or the reason in
 * one sentence, at most `size` bytes with the terminator; nothing is written if it is NULL or
 * `size` is 0. Any thread. `plugin_path` since 0.4. Since 0.1. */
KDAS_API int32_t kdas_backend_probe(const char *name, const char *plugin_path, char *why,
                                    size_t size);

KDAS_END
#endif
