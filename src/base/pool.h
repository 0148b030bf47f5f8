/* pool.h - a pool allocator for small blocks: allocated one by one, freed all at once. */
#ifndef KD_POOL_H
#define KD_POOL_H
#include "base/base.h"

typedef struct kd_pool {
    kdas_context *ctx;
    void         *chunk; /* the newest; each starts with a pointer to the one before */
    size_t        used, size;
} kd_pool;

void  kd_pool_init(kd_pool *pool, kdas_context *ctx);
void  kd_pool_finish(kd_pool *pool);
void *kd_pool_alloc(kd_pool *pool, size_t bytes); /* zeroed, 16-byte aligned; NULL: KDAS_ENOMEM */
char *kd_pool_strdup(kd_pool *pool, const char *text);

#endif
