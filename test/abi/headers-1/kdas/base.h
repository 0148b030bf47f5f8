/* kdas/base.h - versions, status codes, the error sentence, log, memory hooks and the context. */
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

/* Release of these headers. The ABI number changes only when a built program may break. */
#define KDAS_VERSION_MAJOR 0
#define KDAS_VERSION_MINOR 4
#define KDAS_VERSION_PATCH 0
#define KDAS_VERSION       (KDAS_VERSION_MAJOR * 10000 + KDAS_VERSION_MINOR * 100 + KDAS_VERSION_PATCH)
#define KDAS_ABI           1

/* Declarations that a minor version may still change or take away are there for those who define KDAS_EXPERIMENTAL
 * before they include a header of the library; docs/abi.md lists them. */

KDAS_BEGIN

/* ---- Versions ------------------------------------------------------------------------------- */

/* Version of the library that is running, as KDAS_VERSION. Any thread. Since 0.1. */
KDAS_API int32_t kdas_version(void);
/* The same as text, "0.4.0". Static. Since 0.1. */
KDAS_API const char *kdas_version_string(void);
/* ABI number of the library that is running; compare with KDAS_ABI. Any thread. Since 0.1. */
KDAS_API int32_t kdas_abi(void);

/* ---- Errors ---------------------------------------------------------------------------------
 * Every call that can fail returns a status: 0 is success, a negative value says what kind of
 * failure. The sentence that names the culprit is kept per thread. A failed call leaves its
 * outputs untouched (created handles are set to NULL) and nothing half done. */
typedef enum kdas_status {
    KDAS_OK           = 0,
    KDAS_EINVAL       = -1, /* an argument or option is out of range, or NULL where it may not be */
    KDAS_ENOMEM       = -2, /* an allocation failed                                               */
    KDAS_EIO          = -3, /* a file could not be opened, read, written or renamed               */
    KDAS_EFORMAT      = -4, /* a file's content is not what its kind promises                     */
    KDAS_ENOTFOUND    = -5, /* no such name: model, tensor, rule, folder, file                    */
    KDAS_ESHAPE       = -6, /* sizes do not fit each other                                        */
    KDAS_EUNSUPPORTED = -7, /* known, but not offered here                                        */
    KDAS_ENUMERIC     = -8, /* NaN or infinity where a number must be                             */
    KDAS_ECANCELLED   = -9, /* the host asked to stop                                             */
    KDAS_EBACKEND     = -10, /* the compute library or device failed                             */
    KDAS_ESTATE       = -11  /* the call comes too early or too late in the order of calls, or in a
                              * child of a fork on what was made before                           */
} kdas_status;

/* Enumerations have 32 bits: structs hold them as int32_t. This does not compile where that is not so. */
typedef char kdas_enums_have_32_bits[sizeof(kdas_status) == sizeof(int32_t) ? 1 : -1];

/* Name of a status, "KDAS_EINVAL"; "KDAS_E?" for an unknown one. Static. Since 0.1. */
KDAS_API const char *kdas_status_name(kdas_status status);
/* One sentence about this thread's last failure; "" before the first. Valid until the thread's next
 * failure. It is not cleared by success: look at the status first. Since 0.1. */
KDAS_API const char *kdas_last_error(void);

/* ---- Log, memory hooks ----------------------------------------------------------------------- */

typedef enum kdas_log_level {
    KDAS_LOG_ERROR = 0,
    KDAS_LOG_WARN  = 1,
    KDAS_LOG_INFO  = 2,
    KDAS_LOG_DEBUG = 3
} kdas_log_level;

/* Receives one line without a newline. May come from any thread that uses the context, the loader's
 * workers included; it may call kdas_context_cancel and nothing else of the library. */
typedef void (*kdas_log_fn)(void *user, kdas_log_level level, const char *text);

/* Memory hooks. alloc returns memory aligned to 16 bytes or NULL; free takes what alloc gave. Both
 * may be called from any thread that uses the context. All host memory of the library comes from them, files'
 * headers and images included; oneDNN, OpenBLAS, OpenMP and the C library take theirs by themselves. */
typedef void *(*kdas_alloc_fn)(void *user, size_t bytes);
typedef void (*kdas_free_fn)(void *user, void *memory);

/* ---- Context ---------------------------------------------------------------------------------
 * Holds what all handles made from it share: device, thread count, log, memory. A context and its
 * handles belong to one thread at a time; different contexts run concurrently. It must outlive the
 * handles made from it. It belongs to the process that made it: in a child of a fork, calls that compute,
 * wait for a thread or talk to the device give KDAS_ESTATE. Computing in a thread for which the system
 * refuses to make the compute threads gives KDAS_EBACKEND. docs/threads.md has the rules. */
typedef struct kdas_context kdas_context;

/* What networks made from a context compute in. BF16, F16: activations and matrix products in 16 bits, sums in
 * f32; parameters, their gradients, statistics, losses and all that is read from outside stay f32, and so
 * do files. It is for speed and memory. BF16 needs a CPU with AVX-512 BF16 (AMX is used where it is) or a
 * GPU from sm_80; F16 a GPU, and a loss scale for training, see kdas_optim_options.loss_scale. TF32: f32,
 * but a GPU from sm_80 may round the factors of matrix products to 10 bits of fraction. */
typedef enum kdas_precision {
    KDAS_PRECISION_F32  = 0,
    KDAS_PRECISION_BF16 = 1, /* a device that cannot do it is refused                       */
    KDAS_PRECISION_BF16_IF_ABLE =
        2,                   /* on a device that cannot do it: f32, and a log line          */
    KDAS_PRECISION_F16  = 3, /* a device that cannot do it is refused. Since 0.3            */
    KDAS_PRECISION_TF32 = 4, /* a device that cannot do it is refused. Since 0.3            */
    KDAS_PRECISION_AUTO = 5 /* bf16 if able, else f16 if able, else f32 and a log line. Since 0.3 */
} kdas_precision;

/* Settings. Call kdas_context_options_init() first, then change what you need. */
typedef struct kdas_context_options {
    size_t        size;   /* set by init; members are only added at the end                      */
    const char   *device; /* "cpu" (default), "reference" (plain C), or a plug-in: "name[:index]" */
    const char   *isa;    /* most the CPU kernels may use: "amx" (since 0.2), "avx512" (with its
                          * BF16), "avx2", "plain"; NULL: all                                    */
    kdas_log_fn   log;    /* NULL (default): silent                                              */
    void         *log_user;
    kdas_alloc_fn alloc; /* NULL (default): malloc; set both or neither                          */
    kdas_free_fn  free;
    void         *alloc_user;
    const char *plugin_path; /* folders with plug-ins, joined by ':', looked at before those of the
                              * environment variable KDAS_BACKEND_PATH and the folder "kdas" beside the
                              * library; NULL (default): those alone. Since 0.4                     */
    int32_t     threads;     /* compute threads, 1..1024; 0 (default): see below              */
    int32_t     precision;   /* kdas_precision; KDAS_PRECISION_F32 (default). Since 0.2      */
    int32_t deterministic; /* 1 (default): same inputs, threads and device give the same bits; 0: a
                                  * GPU may take algorithms that sum in any order. Since 0.3            */
    int32_t reserved;      /* 0 */
} kdas_context_options;

/* threads = 0 takes, since 0.4, the first of
 * - the first number of the environment variable OMP_NUM_THREADS, if that is from 1 to 1024 (a value that is not is
 *   ignored, with a log line);
 * - the number of CPUs that the calling thread may run on (its affinity mask), or the whole CPUs of the tightest CPU
 *   quota on the process's control group and those above it (v1 or v2; 1 at least) where that is less; at most 1024.
 * Whatever is asked for: where the system lets the process have fewer threads, the context has those, and a log line
 * says so. */

/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_context_options_init(kdas_context_options *options, size_t size);

/* Make a context. `options` may be NULL (defaults) and is not kept, nor are its strings. The calling thread may make its
 * compute threads for a moment, to see that it can.
 * KDAS_EINVAL (range), KDAS_ENOTFOUND (device), KDAS_EBACKEND (device cannot be used),
 * KDAS_EUNSUPPORTED (precision), KDAS_ESTATE (in a child of a fork that cannot compute with so many threads,
 * docs/threads.md), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_context_create(kdas_context **out, const kdas_context_options *options);
/* Destroy after all its handles. NULL is fine. In a child of a fork as well, like every destroy: what the process has
 * from the parent is freed, threads and devices are left alone (since 0.4). Since 0.1. */
KDAS_API void kdas_context_destroy(kdas_context *context);

/* Ask whatever runs on the context to stop at the next safe point; it returns KDAS_ECANCELLED and can
 * be called again. Any thread, any callback, any signal handler. Since 0.1. */
KDAS_API void kdas_context_cancel(kdas_context *context);
/* Clear a cancel, so that calls run again. Since 0.1. */
KDAS_API void kdas_context_resume(kdas_context *context);
/* Whether calls on the context would now end with KDAS_ECANCELLED: a cancel was asked for, and nothing holds it.
 * 1 or 0 (NULL: 0). For loops of the host's own. Since 0.4. */
KDAS_API int32_t kdas_context_cancelled(const kdas_context *context);
/* Have a cancel wait: from here to the release, calls on the context go to their ends, and what was asked for meanwhile
 * takes effect afterwards. For what must not be left half done, as a step that a checkpoint is to follow. Sections
 * nest: each hold wants a release. The context's thread. KDAS_EINVAL (NULL); KDAS_ESTATE: a release without a hold.
 * Since 0.4. */
KDAS_API kdas_status kdas_context_hold(kdas_context *context);
KDAS_API kdas_status kdas_context_release(kdas_context *context);
/* Wait until the device has done all that it was given. A GPU works beside the host: calls may return before their
 * work is done, and wait by themselves where they give results back. For timing; nothing to wait for on a
 * CPU. KDAS_EINVAL (NULL), KDAS_ESTATE (made before a fork), KDAS_EBACKEND (the device failed). Since 0.3. */
KDAS_API kdas_status kdas_context_wait(kdas_context *context);
/* Compute threads in use (NULL: 0). Since 0.1. */
KDAS_API int32_t kdas_context_threads(const kdas_context *context);
/* What is in use: KDAS_PRECISION_F32 (NULL: that), _BF16, _F16 or _TF32. Since 0.2. */
KDAS_API kdas_precision kdas_context_precision(const kdas_context *context);
/* A line about the device: name, instruction set, libraries. Lives as long as the context. NULL for
 * NULL. Since 0.1. */
KDAS_API const char *kdas_context_device(const kdas_context *context);

/* Say whether the device `name`, as in kdas_context_options.device, can be used here, and why not. 1 or 0. `plugin_path`
 * (may be NULL) is that of kdas_context_options. `why` receives "", or one sentence, of at most `size` bytes with its
 * terminator; where it is NULL or `size` is 0, nothing. Any thread. `plugin_path` since 0.4. Since 0.1. */
KDAS_API int32_t kdas_backend_probe(const char *name, const char *plugin_path, char *why,
                                    size_t size);

KDAS_END
#endif
