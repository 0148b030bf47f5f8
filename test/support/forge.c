/* forge.c - see forge.h. */
#include "support/forge.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "io/container.h"
#include "support/check_util.h"

typedef struct forge {
    kd_container        *file;
    kd_container_writer *w;
    const kd_test_edit  *edit;
    int                  edits;
    bool                *made; /* (edits) */
} forge;

static const kd_test_edit *edit_of(forge *f, const char *record)
{
    for (int i = 0; i < f->edits; i++) {
        const kd_test_edit *e = &f->edit[i];
        size_t n = e->what == KD_FORGE_DROP_ALL ? strlen(e->record) : strlen(record) + 1;

        if (strncmp(e->record, record, n) != 0) continue;
        f->made[i] = true;
        return e;
    }
    return NULL;
}

static bool is_dropped(const kd_test_edit *e)
{
    return e && (e->what == KD_FORGE_DROP || e->what == KD_FORGE_DROP_ALL);
}

/* Its data, from malloc, to be kept until the file is saved; NULL: it is dropped. */
static void *copy_tensor(forge *f, const kd_st_tensor *t)
{
    const kd_test_edit *e    = edit_of(f, t->name);
    char               *data = NULL;

    if (is_dropped(e)) return NULL;
    data = malloc(t->bytes + 1);
    kd_assert_ok(kd_container_get(f->file, t->name, t->dtype, t->rank, t->dim, data));
    if (e && e->what == KD_FORGE_FLOAT) {
        float value = (float)e->number;

        ck_assert(t->dtype == KD_ST_F32 && t->count > 0);
        memcpy(data + (t->count - 1) * 4, &value, 4);
    }
    for (int64_t i = 0; e && e->what != KD_FORGE_FLOAT && i < t->count; i++) {
        float narrow = (float)e->number;

        if (e->what == KD_FORGE_NUMBER && t->dtype == KD_ST_F32) {
            memcpy(data + i * 4, &narrow, 4);
            continue;
        }
        ck_assert(t->dtype == (e->what == KD_FORGE_NUMBER ? KD_ST_F64 : t->dtype));
        memcpy(data + i * 8, e->what == KD_FORGE_NUMBER ? (void *)&e->number : (void *)&e->whole,
               8);
    }
    kd_assert_ok(kd_container_put(f->w, t->name, t->dtype, t->rank, t->dim, data));
    return data;
}

static void copy_text(forge *f, const char *name, const char *text)
{
    const kd_test_edit *e = edit_of(f, name);

    if (!kd_container_has_text(f->file, name) || is_dropped(e)) return; /* the container's own */
    kd_assert_ok(kd_container_put_text(f->w, name, e ? e->text : text));
}

void kd_test_forge(kdas_context *ctx, const char *from, const char *to, const kd_test_edit *edits,
                   int count)
{
    forge       f = { .edit = edits, .edits = count };
    const char *text, *name;
    int64_t     n;
    void      **data;

    f.made = calloc((size_t)count + 1, sizeof *f.made);
    kd_assert_ok(kd_container_open(&f.file, ctx, from));
    kd_assert_ok(kd_container_create(&f.w, ctx));
    n    = kd_container_count(f.file);
    data = calloc((size_t)n + 1, sizeof *data);
    for (int64_t i = 0; i < n; i++)
        data[i] = copy_tensor(&f, kd_container_at(f.file, i));
    for (int64_t i = 0; (text = kd_container_text_at(f.file, i, &name)); i++)
        copy_text(&f, name, text);
    for (int i = 0; i < count; i++)
        ck_assert_msg(f.made[i], "there is no record '%s' to forge", edits[i].record);
    kd_assert_ok(kd_container_save(f.w, to));
    for (int64_t i = 0; i < n; i++)
        free(data[i]);
    free(data);
    free(f.made);
    kd_container_discard(f.w);
    kd_container_close(f.file);
}

bool kd_test_has_record(kdas_context *ctx, const char *path, const char *record)
{
    kd_container *file;
    bool          has;

    kd_assert_ok(kd_container_open(&file, ctx, path));
    has = kd_container_find(file, record) || kd_container_has_text(file, record);
    kd_container_close(file);
    return has;
}
