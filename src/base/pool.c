/* pool.c - a list of chunks. */
#include <string.h>
#include "base/pool.h"

#define CHUNK  16384
#define HEADER 16

void kd_pool_init(kd_pool *pool, kdas_context *ctx) { *pool = (kd_pool){ .ctx = ctx }; }

void kd_pool_finish(kd_pool *pool)
{
    while (pool->chunk) {
        void *before = *(void **)pool->chunk;

        kd_free(pool->ctx, pool->chunk);
        pool->chunk = before;
    }
}

void *kd_pool_alloc(kd_pool *pool, size_t bytes)
{
    size_t need = (KD_MIN(bytes, SIZE_MAX - 4096) + 15) & ~(size_t)15;
    void  *chunk;

    if (!pool->chunk || pool->size - pool->used < need) {
        size_t size = KD_MAX(need + HEADER, CHUNK);

        chunk = kd_calloc(pool->ctx, 1, size);
        if (!chunk) return NULL;
        *(void **)chunk = pool->chunk;
        pool->chunk     = chunk;
        pool->used      = HEADER;
        pool->size      = size;
    }
    pool->used += need;
    return (char *)pool->chunk + pool->used - need;
}

char *kd_pool_strdup(kd_pool *pool, const char *text)
{
    size_t n    = strlen(text) + 1;
    char  *copy = kd_pool_alloc(pool, n);

    if (copy) memcpy(copy, text, n);
    return copy;
}
