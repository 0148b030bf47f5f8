/* same.c - whether two checkpoints of kdas_train are the same but for the list of resumes (run.resumes) and the checksum
 * over all: 0 yes, 1 no, with a line for each record that differs; 2: one of them cannot be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/base.h"
#include "io/container.h"

static bool left_out(const char *name)
{
    return strstr(name, "run.resumes") || !strcmp(name, "checksum") || !strcmp(name, "format") ||
           !strcmp(name, "version");
}

static int tell(const char *name, const char *what)
{
    printf("record '%s' %s\n", name, what);
    return 1;
}

/* Each array of `a` is in `b`, with the same type, shape and bytes. */
static int arrays(kdas_context *ctx, kd_container *a, kd_container *b)
{
    int differ = 0;

    for (int64_t i = 0; i < kd_container_count(a); i++) {
        const kd_st_tensor *x = kd_container_at(a, i), *y = kd_container_find(b, x->name);
        void               *p, *q;

        if (left_out(x->name)) continue;
        if (!y || x->dtype != y->dtype || x->rank != y->rank ||
            memcmp(x->dim, y->dim, sizeof x->dim[0] * (size_t)x->rank) != 0) {
            differ += tell(x->name, "is missing or has another shape");
            continue;
        }
        p = kd_calloc(ctx, 1, (size_t)x->bytes + 1);
        q = kd_calloc(ctx, 1, (size_t)y->bytes + 1);
        if (!p || !q || kd_container_get(a, x->name, x->dtype, x->rank, x->dim, p) != KDAS_OK ||
            kd_container_get(b, x->name, x->dtype, x->rank, x->dim, q) != KDAS_OK ||
            memcmp(p, q, (size_t)x->bytes) != 0)
            differ += tell(x->name, "differs");
        kd_free(ctx, p);
        kd_free(ctx, q);
    }
    return differ;
}

static int texts(kd_container *a, kd_container *b)
{
    const char *text, *name, *other;
    int         differ = 0;

    for (int64_t i = 0; (text = kd_container_text_at(a, i, &name)); i++) {
        if (left_out(name)) continue;
        if (!kd_container_has_text(b, name))
            differ += tell(name, "is missing");
        else if (kd_container_get_text(b, name, &other) == KDAS_OK && strcmp(text, other) != 0)
            differ += tell(name, "is another text");
    }
    return differ;
}

int main(int argc, char **argv)
{
    kdas_context *ctx = NULL;
    kd_container *a = NULL, *b = NULL;
    int           differ = -1;

    if (argc == 3 && kdas_context_create(&ctx, NULL) == KDAS_OK &&
        kd_container_open(&a, ctx, argv[1]) == KDAS_OK &&
        kd_container_open(&b, ctx, argv[2]) == KDAS_OK)
        differ = arrays(ctx, a, b) + arrays(ctx, b, a) + texts(a, b) + texts(b, a);
    if (differ < 0) fprintf(stderr, "%s\n", argc == 3 ? kdas_last_error() : "usage: same A B");
    kd_container_close(a);
    kd_container_close(b);
    kdas_context_destroy(ctx);
    return differ < 0 ? 2 : differ > 0;
}
