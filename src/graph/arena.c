/* arena.c - memory that several programs share. One program uses it at a time. */
#include "graph/program_inside.h"

kd_arena *kd_arena_create(kdas_context *ctx)
{
    kd_arena *arena = kd_calloc(ctx, 1, sizeof *arena);

    if (arena) arena->ctx = ctx;
    return arena;
}

void kd_arena_destroy(kd_arena *arena)
{
    if (!arena) return;
    kd_device_free(arena->ctx, arena->memory);
    kd_free(arena->ctx, arena);
}

static void release_memory(kd_arena *arena)
{
    kd_device_free(arena->ctx, arena->memory);
    arena->memory     = NULL;
    arena->forward_of = arena->values_of = NULL;
    arena->bytes                         = 0;
    arena->moves++;
}

void kd_arena_trim(kd_arena *arena, size_t bytes)
{
    if (arena->bytes > bytes) release_memory(arena);
}

/* The old memory is freed first. Its contents need not survive a change of programs. */
kdas_status kd_arena_reserve(kd_arena *arena, size_t bytes)
{
    if (bytes <= arena->bytes) return KDAS_OK;
    release_memory(arena);
    arena->memory = kd_device_alloc(arena->ctx, bytes);
    if (!arena->memory) return KDAS_ENOMEM;
    arena->bytes = bytes;
    return KDAS_OK;
}
