/* memory.c - allocation through the host's hooks, aligned for vector kernels. */
#include <string.h>
#include "base/context.h"
#include "base/text.h"

/* The hooks promise 16 bytes of alignment; the hooks' pointer is stored right before ours. */
void *kd_alloc(kdas_context *ctx, size_t bytes)
{
    char     *raw = NULL;
    uintptr_t at;

    if (bytes < SIZE_MAX - KD_ALIGN - sizeof raw)
        raw = ctx->alloc(ctx->alloc_user, bytes + KD_ALIGN + sizeof raw);
    if (!raw) {
        kd_fail(KDAS_ENOMEM, "out of memory: %zu bytes were needed", bytes);
        return NULL;
    }
    at = ((uintptr_t)raw + sizeof raw + KD_ALIGN - 1) & ~(uintptr_t)(KD_ALIGN - 1);
    memcpy((char *)at - sizeof raw, &raw, sizeof raw);
    return (void *)at;
}

void *kd_calloc(kdas_context *ctx, size_t count, size_t size)
{
    void *memory;

    if (size && count > SIZE_MAX / size) {
        kd_fail(KDAS_ENOMEM, "out of memory: %zu times %zu bytes were needed", count, size);
        return NULL;
    }
    memory = kd_alloc(ctx, count * size);
    if (memory) memset(memory, 0, count * size);
    return memory;
}

void kd_free(kdas_context *ctx, void *memory)
{
    char *raw;

    if (!memory) return;
    memcpy(&raw, (char *)memory - sizeof raw, sizeof raw);
    ctx->free(ctx->alloc_user, raw);
}

char *kd_strdup(kdas_context *ctx, const char *text)
{
    size_t n    = strlen(text) + 1;
    char  *copy = kd_alloc(ctx, n);

    if (copy) memcpy(copy, text, n);
    return copy;
}

char *kd_printf(kdas_context *ctx, const char *format, ...)
{
    va_list args;
    char   *text;
    int     n;

    va_start(args, format);
    n = kd_vformat(NULL, 0, format, args);
    va_end(args);
    text = kd_alloc(ctx, (size_t)KD_MAX(n, 0) + 1);
    if (!text) return NULL;
    va_start(args, format);
    kd_vformat(text, (size_t)KD_MAX(n, 0) + 1, format, args);
    va_end(args);
    return text;
}

kdas_status kd_grow(kdas_context *ctx, void **array, size_t *capacity, size_t need, size_t element)
{
    size_t n = KD_MAX(*capacity, 8);
    void  *wider;

    if (need <= *capacity) return KDAS_OK;
    while (n < need)
        n = n > SIZE_MAX / 2 ? need : n * 2;
    wider = kd_calloc(ctx, n, element);
    if (!wider) return KDAS_ENOMEM;
    if (*array) memcpy(wider, *array, *capacity * element);
    kd_free(ctx, *array);
    *array    = wider;
    *capacity = n;
    return KDAS_OK;
}

void *kd_move_last(void *list, size_t count, size_t i)
{
    char *at = (char *)list + i * sizeof(void *);
    void *one;

    memcpy(&one, at, sizeof one);
    memmove(at, at + sizeof one, (count - i - 1) * sizeof one);
    memcpy((char *)list + (count - 1) * sizeof one, &one, sizeof one);
    return one;
}
