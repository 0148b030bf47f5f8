/* args.c - command lines: a table of options, read and explained. */
#include "arguments/args.h"
#include <errno.h>
#include <kdas/base.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "arguments/manual.h"
#include "system/say.h"

int args_wrong(const program *p, const char *format, ...)
{
    va_list list;
    char    text[512];

    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    say_error("%s", text);
    fprintf(stderr, "Try '%s --help'.\n", p->name);
    return EXIT_USAGE;
}

/* ---- Help ------------------------------------------------------------------------------------ */

enum { COLUMNS = 80, TEXT_AT = 27 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* "--out DIR", also behind a bracket: an option's value stays on its line. */
static bool is_value(const char *before, const char *word)
{
    before += *before == '(' || *before == '[';
    return *before == '-' && *word >= 'A' && *word <= 'Z';
}

/* Print words, the first at column `at`, those on further lines at `indent`, in lines of COLUMNS;
 * line ends in the text are blanks. Ends the line. */
static void print_words(const char *text, size_t length, int at, int indent)
{
    const char *end = text + length, *before = "";
    bool        first = true;

    while (text < end) {
        size_t n, next = 0;

        if (*text == ' ' || *text == '\n') {
            text++;
            continue;
        }
        n = least(strcspn(text, " \n"), (size_t)(end - text));
        if (text + n < end && is_value(text, text + n + 1)) /* both or none fit */
            next = 1 + least(strcspn(text + n + 1, " \n"), (size_t)(end - text) - n - 1);
        if (!first && !is_value(before, text) && at + 1 + (int)(n + next) > COLUMNS) {
            printf("\n%*s", indent, "");
            at    = indent;
            first = true;
        }
        printf("%s%.*s", first ? "" : " ", (int)n, text);
        at += (int)n + !first;
        first  = false;
        before = text;
        text += n;
    }
    putchar('\n');
}

static void print_text(const char *text) { print_words(text, strlen(text), 0, 0); }

static void print_usage(const program *p)
{
    const char *form = p->usage;

    for (const char *lead = "usage:"; *form; lead = "      ") {
        size_t length = strcspn(form, "\n");
        int    at     = printf("%s %s ", lead, p->name);

        print_words(form, length, at, at);
        form += length + (form[length] == '\n');
    }
}

static void print_option(const char *name, const char *value, const char *help)
{
    char left[64];

    snprintf(left, sizeof left, "%s%s%s", name, value ? " " : "", value ? value : "");
    printf("  %-24s", left);
    if (*help && strlen(left) > 24)
        printf("\n%*s", TEXT_AT, "");
    else
        putchar(' ');
    print_words(help, strlen(help), TEXT_AT, TEXT_AT);
}

static void print_help(const program *p)
{
    char exits[256];

    print_usage(p);
    putchar('\n');
    print_text(p->about);
    for (int i = 0; i < p->count; i++) {
        const option *o = &p->options[i];

        if (o->kind == OPTION_GROUP)
            printf("\n%s\n", o->name);
        else
            print_option(o->name, o->value, o->help);
    }
    putchar('\n');
    print_option("--help", NULL, "print this");
    print_option("--version", NULL, "print the versions of program and library");
    if (p->after) {
        putchar('\n');
        print_text(p->after);
    }
    snprintf(exits, sizeof exits, "%s.", p->exits ? p->exits : EXIT_CODES);
    printf("\nExit status: ");
    print_words(exits, strlen(exits), 13, 0);
}

/* The options that every program has; -1 if it is none of them, else the exit code. */
static int take_common(const program *p, const char *text)
{
    if (!strcmp(text, "--help") || !strcmp(text, "-h")) {
        print_help(p);
    } else if (!strcmp(text, "--version")) {
        printf("%s %d.%d.%d (libkdas %s, ABI %d)\n", p->name, KDAS_VERSION_MAJOR,
               KDAS_VERSION_MINOR, KDAS_VERSION_PATCH, kdas_version_string(), kdas_abi());
    } else if (!strcmp(text, "--print-man")) { /* the last two are for `make install` */
        manual_page(p);
    } else if (!strcmp(text, "--print-completion")) {
        manual_completion(p);
    } else {
        return -1;
    }
    return EXIT_FINE;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static bool read_whole(const char *text, int64_t *out)
{
    char     *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno) return false;
    *out = value;
    return true;
}

static bool read_real(const char *text, double *out)
{
    char  *end;
    double value = strtod(text, &end);

    if (end == text || *end || !isfinite(value)) return false;
    *out = value;
    return true;
}

static bool read_size(const char *text, int64_t out[2])
{
    char        first[32];
    const char *cross = strpbrk(text, "xX");
    int64_t     sides[2];

    if (!cross) {
        if (!read_whole(text, &sides[0])) return false;
        sides[1] = sides[0];
    } else {
        if ((size_t)(cross - text) >= sizeof first) return false;
        memcpy(first, text, (size_t)(cross - text));
        first[cross - text] = '\0';
        if (!read_whole(first, &sides[0]) || !read_whole(cross + 1, &sides[1])) return false;
    }
    for (int i = 0; i < 2; i++) {
        if (sides[i] < 32 || sides[i] > 8192 || sides[i] % 32) return false;
    }
    memcpy(out, sides, sizeof sides);
    return true;
}

/* Which of "one|other" it is, from 0. */
static bool read_choice(const char *words, const char *text, int64_t *out)
{
    size_t length = strlen(text);

    for (int64_t i = 0;; i++) {
        size_t word = strcspn(words, "|");

        if (word == length && !memcmp(words, text, length)) {
            *out = i;
            return true;
        }
        if (!words[word]) return false;
        words += word + 1;
    }
}

int args_list(const char *text, float *out, int room)
{
    int count = 0;

    for (;;) {
        char *end;
        float value = strtof(text, &end);

        if (end == text || !isfinite(value) || count == room) return -1;
        out[count++] = value;
        if (!*end) return count;
        if (*end != ',') return -1;
        text = end + 1;
    }
}

/* Store the value; -1 to go on, else the exit code. */
static int take(const program *p, const option *o, const char *text)
{
    int64_t whole;
    double  real;

    switch (o->kind) {
    case OPTION_TEXT:
        if (!*text) return args_wrong(p, "%s is given an empty %s", o->name, o->value);
        *(const char **)o->to = text;
        return -1;
    case OPTION_WHOLE:
        if (!read_whole(text, &whole) || (double)whole < o->low || (double)whole > o->high) {
            return args_wrong(p, "%s wants a whole number from %.0f to %.0f, not '%s'", o->name,
                              o->low, o->high, text);
        }
        *(int64_t *)o->to = whole;
        return -1;
    case OPTION_REAL:
        if (!read_real(text, &real) || real < o->low || real > o->high) {
            return args_wrong(p, "%s wants a number from %g to %g, not '%s'", o->name, o->low,
                              o->high, text);
        }
        *(double *)o->to = real;
        return -1;
    case OPTION_SIZE:
        if (read_size(text, o->to)) return -1;
        return args_wrong(p, "%s wants N or HxW, multiples of 32 from 32 to 8192, not '%s'",
                          o->name, text);
    case OPTION_CHOICE:
        if (read_choice(o->value, text, o->to)) return -1;
        return args_wrong(p, "%s wants one of %s, not '%s'", o->name, o->value, text);
    default: return -1;
    }
}

/* ---- Lines ----------------------------------------------------------------------------------- */

static const option *find(const program *p, const char *text, size_t length)
{
    for (int i = 0; i < p->count; i++) {
        const option *o = &p->options[i];

        if (o->kind != OPTION_GROUP && strlen(o->name) == length &&
            !memcmp(o->name, text, length)) {
            return o;
        }
    }
    return NULL;
}

int args_read(const program *p, int argc, char **argv, int *rest)
{
    int plain = 0;

    *rest = 0;
    for (int i = 1; i < argc; i++) {
        const char   *text   = argv[i];
        size_t        length = strcspn(text, "=");
        const option *o;
        int           code;

        code = take_common(p, text);
        if (code >= 0) return code;
        if (!strcmp(text, "--")) {
            while (++i < argc)
                argv[1 + plain++] = argv[i];
            break;
        }
        if (text[0] != '-' || !text[1]) {
            argv[1 + plain++] = argv[i];
            continue;
        }
        o = find(p, text, length);
        if (!o) return args_wrong(p, "there is no option %.*s", (int)length, text);
        if (o->kind == OPTION_FLAG) {
            if (text[length]) return args_wrong(p, "%s takes no value", o->name);
            *(bool *)o->to = true;
            continue;
        }
        if (!text[length] && i + 1 == argc) return args_wrong(p, "%s wants %s", o->name, o->value);
        code = take(p, o, text[length] ? text + length + 1 : argv[++i]);
        if (code >= 0) return code;
    }
    *rest = plain;
    return -1;
}

char *args_joined(int argc, char **argv)
{
    size_t room = 1;
    char  *line, *at;

    for (int i = 0; i < argc; i++)
        room += 4 * strlen(argv[i]) + 3;
    at = line = need(room);
    for (int i = 0; i < argc; i++) {
        bool bare =
            argv[i][0] && !argv[i][strspn(argv[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
                                                   "qrstuvwxyz0123456789_-+=.,/:@%")];

        if (i) *at++ = ' ';
        if (!bare) *at++ = '\'';
        for (const char *c = argv[i]; *c; c++) {
            if (*c == '\'') {
                memcpy(at, "'\\''", 4);
                at += 4;
            } else {
                *at++ = *c;
            }
        }
        if (!bare) *at++ = '\'';
    }
    return line;
}
