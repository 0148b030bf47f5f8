/* slow_device.c - see slow_device.h. */
#include "support/slow_device.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "backend/cpu/cpu.h"
#include "backend/registry.h"
#include "support/check_util.h"

enum { ROOM = 256 };

kd_test_slow kd_test_slow_time;

static kdas_context *cancelled;
static kdas_status (*cpu_forward)(kdas_device *device, const kdas_call *call);

/* All rows of the CPU's table have the same function. */
static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    kd_test_slow *t = &kd_test_slow_time;

    t->now += t->step;
    if (++t->kernels == t->cancel_at) kdas_context_cancel(cancelled);
    return cpu_forward(device, call);
}

static void *take(void *user, size_t bytes)
{
    kd_test_meter *meter = user;
    void          *memory;

    if (meter->fail_at && meter->taken + 1 >= meter->fail_at) return NULL;
    memory = malloc(bytes);
    if (memory) meter->taken++;
    return memory;
}

static void give_back(void *user, void *memory)
{
    kd_test_meter *meter = user;

    if (memory) meter->given_back++;
    free(memory);
}

kdas_context *kd_test_slow_device(kd_test_meter *meter)
{
    static kdas_kernel   kernels[ROOM];
    static kdas_backend  backend;
    kdas_context_options o;
    int                  n = 0;

    for (; kd_backend_cpu.kernels[n].op; n++) {
        ck_assert_int_lt(n, ROOM - 1);
        kernels[n]  = kd_backend_cpu.kernels[n];
        cpu_forward = kernels[n].forward;
        ck_assert_ptr_eq((void *)cpu_forward, (void *)kd_backend_cpu.kernels[0].forward);
        kernels[n].forward = forward;
    }
    kernels[n]      = (kdas_kernel){ .op = 0 };
    backend         = kd_backend_cpu;
    backend.kernels = kernels;
    memset(&kd_test_slow_time, 0, sizeof kd_test_slow_time);
    kdas_context_options_init(&o, sizeof o);
    o.threads    = 2;
    o.alloc      = take;
    o.free       = give_back;
    o.alloc_user = meter;
    kd_assert_ok(kd_context_create_on(&cancelled, &o, &backend));
    return cancelled;
}

static double now(void *user)
{
    (void)user;
    return kd_test_slow_time.now;
}

void kd_test_slow_clock(kdas_segmenter *segmenter) { kd_segmenter_set_clock(segmenter, now, NULL); }
