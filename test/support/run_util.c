/* run_util.c - see run_util.h. */
#include "support/run_util.h"
#include <check.h>
#include <stdlib.h>

static void *counted_alloc(void *user, size_t bytes)
{
    kd_test_meter *m  = user;
    long            at = atomic_fetch_add(&m->taken, 1) + 1;
    void           *got;

    got = m->fail_at && at >= m->fail_at ? NULL : malloc(bytes);
    if (!got) atomic_fetch_add(&m->given_back, 1); /* nothing to give back */
    return got;
}

static void counted_free(void *user, void *memory)
{
    atomic_fetch_add(&((kd_test_meter *)user)->given_back, 1);
    free(memory);
}

kdas_context *kd_test_try_device(const char *device, kd_test_meter *memory)
{
    kdas_context_options o;
    kdas_context        *ctx;

    kdas_context_options_init(&o, sizeof o);
    o.device  = device;
    o.threads = 2;
    if (memory) {
        o.alloc      = counted_alloc;
        o.free       = counted_free;
        o.alloc_user = memory;
    }
    kdas_context_create(&ctx, &o);
    return ctx;
}

kdas_context *kd_test_device(const char *device, kd_test_meter *memory)
{
    kdas_context *ctx = kd_test_try_device(device, memory);

    if (!ctx) ck_abort_msg("no context on '%s': %s", device, kdas_last_error());
    return ctx;
}

void kd_test_assert_given_back(const kd_test_meter *memory)
{
    ck_assert_int_eq(atomic_load(&memory->taken), atomic_load(&memory->given_back));
}
