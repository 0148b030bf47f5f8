/* stop.h - Ctrl-C, SIGTERM and a terminal that closes (SIGHUP): the first one asks to stop at the next
 * safe point; a second Ctrl-C or SIGTERM ends at once. */
#ifndef PROGRAMS_STOP_H
#define PROGRAMS_STOP_H
#include <kdas/base.h>
#include <stdbool.h>

/* From now on SIGINT, SIGTERM and SIGHUP cancel what runs on the context; NULL: nothing runs any more. SIGHUP
 * stays ignored where it was, as under nohup. */
void stop_on_signal(kdas_context *context);
/* Whether one of them came. */
bool stop_asked(void);
#endif
