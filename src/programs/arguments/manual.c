/* manual.c - see manual.h. */
#include "arguments/manual.h"
#include <ctype.h>
#include <kdas/base.h>
#include <kdas/model.h>
#include <stdio.h>
#include <string.h>

static const char *const programs[] = { "kdas-distill", "kdas-doctor",  "kdas-evaluate",
                                        "kdas-export",  "kdas-inspect", "kdas-quantize",
                                        "kdas-segment" };

static bool has_option(const program *p, const char *name)
{
    for (int i = 0; i < p->count; i++)
        if (p->options[i].kind != OPTION_GROUP && !strcmp(p->options[i].name, name)) return true;
    return false;
}

/* ---- The man page ---------------------------------------------------------------------------- */

/* A text as roff prints it unchanged. Its line ends become blanks. */
static void put_roff(const char *text, size_t length)
{
    for (size_t i = 0; i < length && text[i]; i++) {
        switch (text[i]) {
        case '-': fputs("\\-", stdout); break;
        case '\\': fputs("\\e", stdout); break;
        case '\'': fputs("\\(aq", stdout); break;
        case '`': fputs("\\(ga", stdout); break;
        case '^': fputs("\\(ha", stdout); break;
        case '~': fputs("\\(ti", stdout); break;
        case '.': fputs(i ? "." : "\\&.", stdout); break; /* no request */
        case '\n': putchar(' '); break;
        default: putchar(text[i]);
        }
    }
}

static void put_line(const char *text)
{
    put_roff(text, strlen(text));
    putchar('\n');
}

static void put_paragraph(const char *text)
{
    puts(".PP");
    put_line(text);
}

static void put_option(const char *name, const char *value, const char *help)
{
    fputs(".TP\n\\fB", stdout);
    put_roff(name, strlen(name));
    fputs("\\fR", stdout);
    if (value) {
        fputs(" \\fI", stdout);
        put_roff(value, strlen(value));
        fputs("\\fR", stdout);
    }
    putchar('\n');
    put_line(help);
}

/* The first sentence of what the program does, or what comes before its colon, as `whatis` shows
 * it. */
static void put_name(const program *p)
{
    size_t length = strcspn(p->about, ".:");

    puts(".SH NAME");
    put_roff(p->name, strlen(p->name));
    printf(" \\- %c", tolower((unsigned char)p->about[0]));
    put_roff(p->about + 1, length - 1);
    putchar('\n');
}

static void put_synopsis(const program *p)
{
    puts(".SH SYNOPSIS");
    for (const char *form = p->usage; *form;) {
        size_t length = strcspn(form, "\n");

        if (form != p->usage) puts(".br");
        fputs(".B ", stdout);
        put_line(p->name);
        put_roff(form, length);
        putchar('\n');
        form += length + (form[length] == '\n');
    }
}

static void put_options(const program *p)
{
    puts(".SH OPTIONS");
    for (int i = 0; i < p->count; i++) {
        const option *o = &p->options[i];

        if (o->kind == OPTION_GROUP) {
            fputs(".SS ", stdout);
            put_roff(o->name, strcspn(o->name, ":"));
            putchar('\n');
        } else {
            put_option(o->name, o->value, o->help);
        }
    }
    puts(".SS General");
    put_option("--help", NULL, "print a summary of the options");
    put_option("--version", NULL, "print the versions of program and library");
}

static void put_environment(const program *p)
{
    bool threads = has_option(p, "--threads"), device = has_option(p, "--device");

    if (!threads && !device) return;
    puts(".SH ENVIRONMENT");
    if (threads) put_option("OMP_NUM_THREADS", NULL, "limits the default of --threads");
    if (device)
        put_option("KDAS_BACKEND_PATH", NULL, "folders with plug-ins for --device, divided by ':'");
}

void manual_page(const program *p)
{
    const char *exits = p->exits ? p->exits : EXIT_CODES;

    fputs(".TH ", stdout);
    for (const char *c = p->name; *c; c++)
        *c == '-' ? (void)fputs("\\-", stdout) : (void)putchar(toupper((unsigned char)*c));
    printf(" 1 \"\" \"libkdas %d.%d.%d\" \"libkdas\"\n", KDAS_VERSION_MAJOR, KDAS_VERSION_MINOR,
           KDAS_VERSION_PATCH);
    put_name(p);
    put_synopsis(p);
    puts(".SH DESCRIPTION");
    put_line(p->about);
    if (p->after) put_paragraph(p->after);
    put_options(p);
    put_environment(p);
    puts(".SH EXIT STATUS");
    put_roff(exits, strlen(exits));
    puts(".");
    puts(".SH SEE ALSO");
    for (size_t i = 0, shown = 0; i < sizeof programs / sizeof *programs; i++) {
        if (!strcmp(programs[i], p->name)) continue;
        fputs(shown++ ? ",\n.BR " : ".BR ", stdout);
        put_roff(programs[i], strlen(programs[i]));
        fputs(" (1)", stdout);
    }
    putchar('\n');
}

/* ---- Completion ------------------------------------------------------------------------------ */

typedef enum completes { NOTHING, FILES, FOLDERS, MODELS, WORDS } completes;

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static completes completes_as(const option *o)
{
    if (o->kind == OPTION_CHOICE) return WORDS;
    if (o->kind != OPTION_TEXT) return NOTHING;
    return begins(o->value, "FILE")    ? FILES
           : begins(o->value, "DIR")   ? FOLDERS
           : begins(o->value, "MODEL") ? MODELS
                                       : NOTHING;
}

static void put_models(void)
{
    const char *name;

    fputs("compgen -W '", stdout);
    for (int32_t i = 0; (name = kdas_model_name(i)); i++)
        printf("%s%s", i ? " " : "", name);
    putchar('\'');
}

/* What lists the values that begin with the word at the cursor. */
static void put_reply(completes kind, const char *words, const char *indent)
{
    if (kind == NOTHING) return;
    if (kind == FILES || kind == FOLDERS) printf("%scompopt -o filenames 2>/dev/null\n", indent);
    printf("%smapfile -t COMPREPLY < <(", indent);
    switch (kind) {
    case FILES: fputs("compgen -f", stdout); break;
    case FOLDERS: fputs("compgen -d", stdout); break;
    case MODELS: put_models(); break;
    default:
        fputs("compgen -W '", stdout);
        for (; *words; words++)
            putchar(*words == '|' ? ' ' : *words);
        putchar('\'');
    }
    puts(" -- \"$cur\")");
}

/* The options whose values are completed alike, as one case. */
static void put_case(const program *p, completes kind)
{
    bool any = false;

    for (int i = 0; i < p->count; i++) {
        const option *o = &p->options[i];

        if (o->kind == OPTION_GROUP || o->kind == OPTION_FLAG || completes_as(o) != kind) continue;
        if (kind == WORDS) {
            printf("    %s)\n", o->name);
            put_reply(kind, o->value, "        ");
            puts("        ;;");
        } else {
            printf("%s%s", any ? " | " : "    ", o->name);
            any = true;
        }
    }
    if (!any) return;
    puts(")");
    put_reply(kind, NULL, "        ");
    puts("        ;;");
}

void manual_completion(const program *p)
{
    char function[64];
    int  at = 0;

    for (const char *c = p->name; *c && at < (int)sizeof function - 1; c++)
        function[at++] = *c == '-' ? '_' : *c;
    function[at] = '\0';
    printf("# Completion of %s for bash, libkdas %d.%d.%d\n"
           "_%s()\n"
           "{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
           "\n"
           "    COMPREPLY=()\n"
           "    if [[ $cur == = ]]; then # bash divides --name=value\n"
           "        cur=\n"
           "    elif [[ $prev == = && $COMP_CWORD -gt 1 ]]; then\n"
           "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
           "    fi\n"
           "    case $prev in\n",
           p->name, KDAS_VERSION_MAJOR, KDAS_VERSION_MINOR, KDAS_VERSION_PATCH, function);
    for (completes kind = NOTHING; kind <= WORDS; kind++)
        put_case(p, kind);
    fputs("    *)\n        if [[ $cur == -* ]]; then\n"
          "            mapfile -t COMPREPLY < <(compgen -W '",
          stdout);
    for (int i = 0; i < p->count; i++)
        if (p->options[i].kind != OPTION_GROUP) printf("%s ", p->options[i].name);
    puts("--help --version' -- \"$cur\")\n        else");
    put_reply(begins(p->usage, "MODEL") ? MODELS : FILES, NULL, "            ");
    printf("        fi\n        ;;\n    esac\n}\ncomplete -F _%s %s\n", function, p->name);
}
