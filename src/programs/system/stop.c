/* stop.c - see stop.h. */
#include "system/stop.h"
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>
#include "system/say.h"

static _Atomic(kdas_context *) running; /* lock-free, hence safe in a handler */
static volatile sig_atomic_t   asked, by_hand;

/* A terminal that closes sends SIGHUP more than once, from the kernel and from the shell, and SIGXCPU
 * comes every second: of those none ends at once. */
static void stop(int signal_number)
{
    static const char text[]  = "\nstopping after this step; once more ends at once\n";
    kdas_context     *context = atomic_load(&running);
    bool              again   = asked;

    if (signal_number == SIGINT || signal_number == SIGTERM) {
        if (by_hand) _exit(EXIT_INTERRUPTED);
        by_hand = 1;
    }
    asked = 1;
    if (!again && say_is_first() && write(STDERR_FILENO, text, sizeof text - 1) < 0)
        asked = 1; /* nobody listens: stop all the same */
    if (context) kdas_context_cancel(context);
}

void stop_on_signal(kdas_context *context)
{
    static const int unless_ignored[] = { SIGHUP, SIGXCPU };
    struct sigaction action           = { .sa_handler = stop, .sa_flags = SA_RESTART }, before;

    atomic_store(&running, context);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    for (int i = 0; i < COUNT(unless_ignored); i++)
        if (sigaction(unless_ignored[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(unless_ignored[i], &action, NULL);
}

void stop_on_user_signals(void)
{
    struct sigaction action = { .sa_handler = stop, .sa_flags = SA_RESTART };

    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
}

bool stop_asked(void) { return asked != 0; }
