/* stop.h - Ctrl-C, SIGTERM, a terminal that closes (SIGHUP) and a limit of CPU time (SIGXCPU): the first one
 * asks to stop at the next safe point; a second Ctrl-C or SIGTERM ends at once. */
#ifndef PROGRAMS_STOP_H
#define PROGRAMS_STOP_H
#include <kdas/base.h>
#include <stdbool.h>

/* From now on these signals cancel what runs on the context; NULL: nothing runs any more. SIGHUP and SIGXCPU stay
 * ignored where they were, as under nohup. */
void stop_on_signal(kdas_context *context);
/* SIGUSR1 and SIGUSR2, too, which batch systems send before a job's time is over. */
void stop_on_user_signals(void);
/* Whether one of them came. */
bool stop_asked(void);
#endif
