/* stop.h - Ctrl-C: the first one asks to stop at the next safe point, the second ends at
 * once. */
#ifndef PROGRAMS_STOP_H
#define PROGRAMS_STOP_H
#include <kdas/base.h>
#include <stdbool.h>

/* From now on SIGINT and SIGTERM cancel what runs on the context; NULL: nothing runs any more. */
void stop_on_signal(kdas_context *context);
/* Whether one of them came. */
bool stop_asked(void);
#endif
