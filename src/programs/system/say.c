/* say.c - how the programs speak. */
#include "system/say.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "system/streams.h"

static const char *name = "kdas";
static int         rank;  /* above 0: not the one that speaks */
static bool        drawn; /* a redrawn line stands on the terminal */

void say_as(const char *program)
{
    name = program;
    streams_begin();
    signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit then fails, which is said */
}

const char *say_name(void) { return name; }

static void take_away(void)
{
    if (!drawn) return;
    fputs("\r\033[K", stdout);
    fflush(stdout);
    drawn = false;
}

void say_as_rank(int number)
{
    int nowhere;

    rank = number;
    if (rank == 0) return;
    fflush(stdout);
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0) return;
    dup2(nowhere, STDOUT_FILENO);
    close(nowhere);
}

void say_error(const char *format, ...)
{
    char    line[8192]; /* written at once: other processes write to the same place */
    size_t  at;
    va_list list;

    if (rank && !strncmp(format, "warning: ", strlen("warning: "))) return;
    if (rank)
        snprintf(line, sizeof line, "%.100s: rank %d: ", name, rank);
    else
        snprintf(line, sizeof line, "%.100s: ", name);
    at = strlen(line);
    va_start(list, format);
    vsnprintf(line + at, sizeof line - at - 1, format, list);
    va_end(list);
    strcat(line, "\n");
    flockfile(stderr); /* the log may come from several threads */
    take_away();
    fputs(line, stderr);
    funlockfile(stderr);
}

bool say_is_first(void) { return rank == 0; }

bool ok(kdas_status status)
{
    bool theirs =
        rank && !strncmp(kdas_last_error(), "rank ", strlen("rank ")); /* the first says it */

    if (status != KDAS_OK && status != KDAS_ECANCELLED && !theirs)
        say_error("%s", kdas_last_error());
    return status == KDAS_OK;
}

static bool informs;

void say_more(bool more) { informs = more; }

/* Models of several trainings warn alike: once is enough. */
static bool is_new(const char *warning)
{
    static char *said[32];
    static int   count;

    for (int i = 0; i < count; i++)
        if (!strcmp(said[i], warning)) return false;
    if (count < COUNT(said)) said[count++] = text_of("%s", warning);
    return true;
}

void say_log(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    if (rank && level != KDAS_LOG_ERROR) return;
    if (level == KDAS_LOG_ERROR) say_error("%s", text);
    flockfile(stderr); /* the log may come from several threads */
    if (level == KDAS_LOG_WARN && is_new(text)) say_error("warning: %s", text);
    funlockfile(stderr);
    if (level == KDAS_LOG_INFO && informs) say_error("%s", text);
}

int say_columns(void)
{
    struct winsize window;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
}

void say_redraw(const char *line)
{
    if (!line) {
        take_away();
        return;
    }
    printf("\r%.*s\033[K", say_columns() - 1, line);
    fflush(stdout);
    drawn = true;
}

static void *there(void *memory)
{
    if (memory) return memory;
    say_error("out of memory");
    exit(streams_failure());
}

void *need(size_t bytes) { return there(calloc(1, bytes ? bytes : 1)); }

void *need_more(void *memory, size_t bytes) { return there(realloc(memory, bytes ? bytes : 1)); }

char *text_of_list(const char *format, va_list list)
{
    va_list again;
    char   *text;
    int     length;

    va_copy(again, list);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    text = need((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, list);
    return text;
}

char *text_of(const char *format, ...)
{
    va_list list;
    char   *text;

    va_start(list, format);
    text = text_of_list(format, list);
    va_end(list);
    return text;
}
