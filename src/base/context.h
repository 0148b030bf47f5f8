/* context.h - the inside of kdas_context. The backend folder makes and destroys it; all
 * folders may read it. */
#ifndef KD_CONTEXT_H
#define KD_CONTEXT_H
#include <kdas/backend.h>
#include "base/base.h"
#include "base/plugin.h"
#include "base/profile_rows.h"
#include "base/team.h"

/* A part: data that a folder above keeps for each context. A static kd_part_type in that folder
 * identifies it, so this header does not depend on it. */
typedef struct kd_part_type {
    size_t size; /* of the part, which begins as zeros */
    /* NULL, or called before the context's device is closed */
    void (*finish)(kdas_context *ctx, void *part);
} kd_part_type;
typedef struct kd_part kd_part;

/* The context's part of this type; NULL: it has none yet. */
void *kd_context_part(const kdas_context *ctx, const kd_part_type *type);
/* The same, made where there is none. The context frees it. KDAS_ENOMEM. */
kdas_status kd_context_part_make(void **out, kdas_context *ctx, const kd_part_type *type);
/* Finish and free all parts, the newest first. */
void kd_context_parts_finish(kdas_context *ctx);

struct kdas_context {
    kdas_alloc_fn alloc;
    kdas_free_fn  free;
    void         *alloc_user;
    kdas_log_fn   log;
    void         *log_user;
    unsigned      forks; /* of the process that made it: kd_process_forks() */
    int32_t       threads;
    kd_team      *team;  /* of so many threads; NULL: 1 */
    bool          plain; /* isa "plain": no vector code outside the backend either */
    atomic_int    cancelled;
    int           held; /* kdas_context_hold() less kdas_context_release(): a cancel waits  */
    /* Asked between the steps of a forward; true: it is given up. NULL: never. */
    bool (*give_up)(void *user);
    void          *give_up_user;
    struct kd_pin *pin;       /* pin.h; NULL: threads are not bound to CPUs */
    bool           profiling; /* then `profile` is there */
    kd_profile    *profile;   /* NULL until it is first switched on */

    kd_part *parts; /* what the folders above keep for this context */

    kdas_host           host;        /* borrowed by the backend                              */
    const kdas_backend *backend;     /* the table in use: `table`                            */
    kdas_backend        table;       /* a copy; what the backend's own is too short for is 0 */
    kdas_device        *device;      /* result of its open()                                 */
    kd_plugin           plugin;      /* of the backend; none for a built-in one */
    kdas_dtype          type;        /* of networks' activations: KDAS_F32, _BF16 or _F16    */
    bool                int8;        /* KDAS_PRECISION_INT8 was asked for */
    bool                integer;     /* inference of models on grids computes with integers   */
    bool                tf32;        /* products of f32 round their factors                  */
    bool                host_memory; /* device memory can be read and written by the host    */
    char                device_text[256];
};

#endif
