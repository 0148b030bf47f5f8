/* name_list.c - a text file with the names of frames, one in a line. */
#include "data/name_list.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 1 << 28 };

/* ---- Finding the frame of a line ---- */

struct search {
    kdas_context      *ctx;
    const kd_pictures *images, *masks;
};

static bool is_there(const struct search *s, const char *name)
{
    return kd_pictures_find(s->images, name) || kd_pictures_find(s->masks, name);
}

/* The name as it stands, or without its ending. *out is NULL if there is no such frame. */
static kdas_status find_name(char **out, const struct search *s, const char *text)
{
    char *whole = kd_composed(s->ctx, text), *cut = kd_picture_name(s->ctx, text);

    *out = NULL;
    if (!whole || !cut) {
        kd_free(s->ctx, whole);
        kd_free(s->ctx, cut);
        return KDAS_ENOMEM;
    }
    if (is_there(s, whole))
        *out = whole;
    else if (is_there(s, cut))
        *out = cut;
    if (*out != whole) kd_free(s->ctx, whole);
    if (*out != cut) kd_free(s->ctx, cut);
    return KDAS_OK;
}

/* What follows the last folder called as `dir` is, or NULL. */
static const char *after_folder(const char *text, const char *dir)
{
    const char *folder = kd_path_base(dir), *found = NULL;
    size_t      n = strlen(folder);

    for (const char *at = text; at && *at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL)
        if (strncmp(at, folder, n) == 0 && at[n] == '/') found = at + n + 1;
    return found;
}

/* The name, also as a path. */
static kdas_status find_path(char **out, const struct search *s, const char *text)
{
    const char *inside;

    while (strncmp(text, "./", 2) == 0)
        text += 2;
    KD_RETURN(find_name(out, s, text));
    if (*out) return KDAS_OK;
    inside = after_folder(text, s->images->dir);
    if (!inside) inside = after_folder(text, s->masks->dir);
    return inside ? find_name(out, s, inside) : KDAS_OK;
}

/* The whole line, else its first field. */
static kdas_status find_line(char **out, const struct search *s, char *text)
{
    size_t n = strcspn(text, " \t,;");
    char   kept;

    KD_RETURN(find_path(out, s, text));
    if (*out || !text[n]) return KDAS_OK;
    kept    = text[n];
    text[n] = 0;
    KD_RETURN(find_path(out, s, text));
    text[n] = kept;
    return KDAS_OK;
}

/* ---- Reading ---- */

static kdas_status add_line(kd_name_list *list, const struct search *s, char *text, int line)
{
    kdas_status st;
    size_t      n = strlen(text);
    kd_listed   one;

    while (n && strchr(" \t\r", text[n - 1]))
        text[--n] = 0;
    text += strspn(text, " \t");
    if (!*text) return KDAS_OK;
    one = (kd_listed){ kd_strdup(s->ctx, text), line, NULL };
    st  = one.text ? find_line(&one.name, s, text) : KDAS_ENOMEM;
    if (st == KDAS_OK)
        st = kd_grow(s->ctx, (void **)&list->entry, &list->capacity, list->count + 1, sizeof one);
    if (st == KDAS_OK) {
        list->entry[list->count++] = one;
        return KDAS_OK;
    }
    kd_free(s->ctx, one.text);
    kd_free(s->ctx, one.name);
    return st;
}

static int by_name(const void *a, const void *b)
{
    const kd_listed *p = a, *q = b;
    int              order =
        p->name && q->name ? strcmp(p->name, q->name) : (p->name != NULL) - (q->name != NULL);

    return order ? order : p->line - q->line;
}

kdas_status kd_name_list_read(kd_name_list *list, kdas_context *ctx, const char *path,
                              const kd_pictures *images, const kd_pictures *masks)
{
    const struct search s    = { ctx, images, masks };
    kdas_status         st   = KDAS_OK;
    void               *data = NULL;
    size_t              size;
    int                 line = 0;
    char               *at, *next;

    list->path = kd_strdup(ctx, path);
    if (!list->path) return KDAS_ENOMEM;
    KD_RETURN(kd_file_read_all(ctx, path, MAX_BYTES, 1, &data, &size));
    at = data;
    if (strncmp(at, "\xFF\xFE", 2) == 0 || strncmp(at, "\xFE\xFF", 2) == 0) {
        st = kd_fail(KDAS_EFORMAT, "'%s' is text in UTF-16; save it as UTF-8", path);
        goto done;
    }
    if (strncmp(at, "\xEF\xBB\xBF", 3) == 0) at += 3; /* a byte order mark */
    for (; at; at = next) {
        next = strchr(at, '\n');
        if (next) *next++ = 0;
        KD_TRY(add_line(list, &s, at, ++line));
    }
    if (list->count)
        qsort(list->entry, list->count, sizeof *list->entry, by_name);
    else
        st = kd_fail(KDAS_EFORMAT, "'%s' names no frame", path);
done:
    kd_free(ctx, data);
    return st;
}

void kd_name_list_finish(kd_name_list *list, kdas_context *ctx)
{
    for (size_t i = 0; i < list->count; i++) {
        kd_free(ctx, list->entry[i].text);
        kd_free(ctx, list->entry[i].name);
    }
    kd_free(ctx, list->entry);
    kd_free(ctx, list->path);
    *list = (kd_name_list){ 0 };
}

bool kd_name_list_has(const kd_name_list *list, const char *name)
{
    size_t low = 0, high = list->count;

    while (low < high) {
        size_t      middle = (low + high) / 2;
        const char *there  = list->entry[middle].name;

        if (!there || strcmp(there, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < list->count && strcmp(list->entry[low].name, name) == 0;
}

kdas_status kd_name_list_check(const kd_name_list *list, size_t i, const kd_pictures *images)
{
    const kd_listed *e = &list->entry[i];

    if (!e->name)
        return kd_fail(KDAS_ENOTFOUND, "'%s' names '%s' in line %d, which is not in '%s'",
                       list->path, e->text, e->line, images->dir);
    if (i && e[-1].name && strcmp(e[-1].name, e->name) == 0)
        return kd_fail(KDAS_EFORMAT, "'%s' names '%s' twice, in lines %d and %d", list->path,
                       e->name, e[-1].line, e->line);
    return KDAS_OK;
}
