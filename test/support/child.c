/* child.c - see child.h. */
#include "support/child.h"
#include <check.h>
#include <kdas/base.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS = 120 };

int kd_test_child_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: in the child: %s does not hold; the last error: %s\n", file, line, what,
            kdas_last_error());
    return 1;
}

int kd_test_child_status(const char *what, int got, const char *file, int line)
{
    fprintf(stderr, "%s:%d: in the child: %s gives %s; the last error: %s\n", file, line, what,
            kdas_status_name((kdas_status)got), kdas_last_error());
    return 1;
}

void kd_test_in_child(kd_test_child_fn run, void *what)
{
    pid_t child;
    int   status;

    fflush(NULL);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        signal(SIGALRM, SIG_DFL); /* Check has a handler of its own */
        alarm(SECONDS);
        _exit(run(what));
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(!WIFSIGNALED(status), "the child died of signal %d (%d: it hung)",
                  WTERMSIG(status), SIGALRM);
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
