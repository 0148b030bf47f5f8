/* process.h - forks. A forked child has none of the context's threads, and a lock may stay locked
 * without an owner. So calls that compute, wait or use the device are refused in the child, and
 * destroying only frees memory. */
#ifndef KD_PROCESS_H
#define KD_PROCESS_H
#include "base/base.h"

/* Start counting forks; the first context calls this. KDAS_ENOMEM. */
kdas_status kd_process_watch(void);
/* How many forks lie between the first watch and this process. */
unsigned kd_process_forks(void);

/* Enter and leave enclose calls of libraries with process-wide locks. Check returns KDAS_ESTATE in
 * a child that was forked during such a call, since those locks may stay locked for ever. */
void        kd_process_enter(void);
void        kd_process_leave(void);
kdas_status kd_process_check(void);

/* The process's own lock, for short access to data that contexts of several threads share. A fork
 * waits for it, so it is free in the child. No callback, allocation or other lock inside. */
void kd_process_lock(void);
void kd_process_unlock(void);

/* Was the context made before a fork, and is this a child? */
bool kd_is_inherited(const kdas_context *ctx);
/* KDAS_ESTATE if so. */
kdas_status kd_check_process(const kdas_context *ctx);
/* Whether the device may be called to free resources: not in a child, unless the device uses
 * host memory alone. */
bool kd_device_is_here(const kdas_context *ctx);

#endif
