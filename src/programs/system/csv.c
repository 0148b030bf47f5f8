/* csv.c - tables of text: fields with commas between. */
#include "system/csv.h"
#include <string.h>

void csv_text(FILE *to, const char *text)
{
    size_t n = strlen(text);

    if (!text[strcspn(text, ",;\"\n\r")] && text[0] != ' ' && (!n || text[n - 1] != ' ')) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"') fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}
