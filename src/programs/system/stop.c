/* stop.c - Ctrl-C: the first one asks to stop at the next safe point, the second ends at
 * once. */
#include "system/stop.h"
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>
#include "system/say.h"

static _Atomic(kdas_context *) running; /* lock-free, hence safe in a handler */
static volatile sig_atomic_t   asked;

static void stop(int signal_number)
{
    static const char text[]  = "\nstopping after this step; once more ends at once\n";
    kdas_context     *context = atomic_load(&running);

    (void)signal_number;
    if (asked) _exit(EXIT_INTERRUPTED);
    asked = 1;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        asked = 1; /* nobody listens: stop all the same */
    if (context) kdas_context_cancel(context);
}

void stop_on_signal(kdas_context *context)
{
    struct sigaction action = { .sa_handler = stop, .sa_flags = SA_RESTART };

    atomic_store(&running, context);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool stop_asked(void) { return asked != 0; }
