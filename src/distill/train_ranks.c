/* train_ranks.c - what the ranks of a run do together: they agree on what the run is of, and all get the checkpoint that
 * rank 0 has found. train.c calls this file; it includes train.h, and calls nothing in train.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/text.h"
#include "distill/train.h"
#include "io/file.h"

/* ---- agreement ---- */

/* The settings that no checkpoint has, but that decide how a run goes on. */
static kdas_status agree_options(kdas_ranks *ranks, const kdas_train_options *o)
{
    char text[160];

    kd_format(text, sizeof text, "save_every %lld, patience %lld, freeze_ranges %.17g, resume %d",
              (long long)o->save_every, (long long)o->patience, o->freeze_ranges, o->resume != 0);
    return kdas_ranks_agree(ranks, "set of options", text);
}

kdas_status kd_train_agree(kdas_ranks *ranks, const kd_facts *facts, const kdas_distiller *d,
                           const kdas_train_options *options)
{
    if (kdas_ranks_count(ranks) == 1) return KDAS_OK;
    KD_RETURN(kd_facts_agree(ranks, facts));
    KD_RETURN(kd_settings_agree(ranks, d));
    return agree_options(ranks, options);
}

kdas_status kd_train_agree_values(kdas_ranks *ranks, const kdas_distiller *d)
{
    uint64_t hash = 0;
    char     text[24];

    if (kdas_ranks_count(ranks) == 1) return KDAS_OK;
    KD_RETURN(kdas_ranks_vote(ranks, kdas_model_hash(kdas_distiller_student(d), &hash)));
    kd_format(text, sizeof text, "%016llx", (unsigned long long)hash);
    return kdas_ranks_agree(ranks, "hash of the student's values", text);
}

/* ---- the checkpoint ---- */

enum { PIECE = 4 << 20 };

static kdas_status open_memory(kd_train_copy *copy)
{
    copy->fd = memfd_create("kdas-checkpoint", MFD_CLOEXEC);
    if (copy->fd < 0)
        return kd_fail(KDAS_EIO, "cannot make memory for the checkpoint of rank 0: %s",
                       kd_error_text(errno));
    snprintf(copy->path, sizeof copy->path, "/proc/self/fd/%d", copy->fd);
    return KDAS_OK;
}

static kdas_status write_all(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = write(fd, bytes, count);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return kd_fail(KDAS_EIO, "cannot keep the checkpoint of rank 0 in memory: %s",
                           kd_error_text(errno));
        bytes += n;
        count -= (size_t)n;
    }
    return KDAS_OK;
}

/* What a piece goes through: rank 0 reads it, the others write it. */
typedef struct passage {
    kdas_ranks    *ranks;
    kd_file       *file; /* of rank 0 */
    kd_train_copy *copy; /* of the others */
    char          *piece;
} passage;

/* A rank that has failed goes on taking part. */
static kdas_status pass(passage *p, uint64_t size)
{
    kdas_status st = KDAS_OK;

    for (uint64_t at = 0; at < size; at += PIECE) {
        size_t n = (size_t)KD_MIN((uint64_t)PIECE, size - at);

        if (p->file && st == KDAS_OK) st = kd_file_read(p->file, at, p->piece, n);
        KD_RETURN(kdas_ranks_broadcast(p->ranks, p->piece, n, 0));
        if (!p->file && st == KDAS_OK) st = write_all(p->copy->fd, p->piece, n);
    }
    return kdas_ranks_vote(p->ranks, st);
}

kdas_status kd_train_copy_open(kd_train_copy *copy, kdas_context *ctx, kdas_ranks *ranks,
                               const char *path)
{
    passage     p     = { .ranks = ranks, .copy = copy };
    bool        first = kdas_ranks_rank(ranks) == 0;
    uint64_t    size  = 0;
    kdas_status st;

    if (kdas_ranks_count(ranks) == 1) return KDAS_OK;
    p.piece = kd_alloc(ctx, PIECE);
    st      = p.piece ? KDAS_OK : KDAS_ENOMEM;
    if (st == KDAS_OK) st = first ? kd_file_open(&p.file, ctx, path) : open_memory(copy);
    st = kdas_ranks_vote(ranks, st);
    if (st == KDAS_OK && first) size = kd_file_size(p.file);
    if (st == KDAS_OK) st = kdas_ranks_broadcast(ranks, &size, sizeof size, 0);
    if (st == KDAS_OK) st = pass(&p, size);
    kd_file_close(p.file);
    kd_free(ctx, p.piece);
    return st;
}

void kd_train_copy_close(kd_train_copy *copy)
{
    if (copy->fd >= 0) close(copy->fd);
    copy->fd = -1;
}
