/* context.h - the inside of kdas_context. The backend folder makes and destroys it; everybody may read. */
#ifndef KD_CONTEXT_H
#define KD_CONTEXT_H
#include <kdas/backend.h>
#include "base/profile_rows.h"

struct kdas_context {
    kdas_alloc_fn alloc;
    kdas_free_fn  free;
    void         *alloc_user;
    kdas_log_fn   log;
    void         *log_user;
    unsigned      forks; /* of the process that made it: kd_process_forks() */
    int32_t       threads;
    bool          plain; /* isa "plain": no vector code outside the backend either */
    atomic_int    cancelled;
    bool          unfused;    /* programs run op by op, as they were built: for comparisons */
    bool          uncaptured; /* and call by call, also on devices with graphs: for comparisons */
    bool        told_uncaptured; /* the log has been told that a program cannot be captured      */
    int         held;      /* kdas_context_hold() less kdas_context_release(): a cancel waits  */
    bool        profiling; /* then `profile` is there */
    kd_profile *profile;   /* NULL until it is first switched on */

    struct kd_uploads *uploads; /* batches on the device (data/upload.c); NULL until there is one */
    void (*finish_uploads)(kdas_context *ctx); /* there if they are */

    kdas_host           host;        /* what the backend is lent                             */
    const kdas_backend *backend;     /* the table in use: `table`                            */
    kdas_backend        table;       /* a copy; what the backend's own is too short for is 0 */
    kdas_device        *device;      /* what its open() gave                                 */
    void               *library;     /* the plug-in's dlopen handle, else NULL               */
    kdas_dtype          type;        /* of networks' activations: KDAS_F32, _BF16 or _F16    */
    bool                tf32;        /* products of f32 round their factors                  */
    bool                host_memory; /* device memory can be read and written by the host    */
    char                device_text[160];
};

#endif
