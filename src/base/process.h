/* process.h - forks. In a child of the process that made a context there are none of its threads, and locks may be
 * held by nobody: what computes, waits or talks to the device is refused there, and destroying frees memory alone. */
#ifndef KD_PROCESS_H
#define KD_PROCESS_H
#include "base/base.h"

/* From now on forks are counted; the first context asks for it. KDAS_ENOMEM. */
kdas_status kd_process_watch(void);
/* How many forks lie between the first watch and this process. */
unsigned kd_process_forks(void);

/* Around what uses libraries that have locks of the whole process. KDAS_ESTATE in a child that was forked while that
 * was under way: those locks may be held for ever. */
void        kd_process_enter(void);
void        kd_process_leave(void);
kdas_status kd_process_check(void);

/* The process's own lock, for what contexts of several threads share for a moment. A fork waits for it, and the child has
 * it free. No callback, allocation or other lock inside. */
void kd_process_lock(void);
void kd_process_unlock(void);

/* Was the context made before a fork, and is this a child? */
bool kd_is_inherited(const kdas_context *ctx);
/* KDAS_ESTATE if so. */
kdas_status kd_check_process(const kdas_context *ctx);
/* Whether the device may be called to give things back: not in a child, unless all that it has is the host's memory. */
bool kd_device_is_here(const kdas_context *ctx);

#endif
