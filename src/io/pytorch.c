/* pytorch.c - both forms of PyTorch's files: where the pickle and the storages are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/kind.h"
#include "io/pytorch_inside.h"

#define SAVE_ANEW \
    "load it with PyTorch and save its state_dict(), with torch.save or as safetensors"

#define FORMAT_VERSION 1001 /* of the older form */
#define FIRST_WINDOW   ((size_t)256 << 10)

/* The first value of a file of the older form, by the pickle's protocol. */
static const char magic_long[]  = "\x8A\nl\xFC\x9C\x46\xF9 j\xA8P\x19.";
static const char magic_frame[] = "\x95\r\0\0\0\0\0\0\0";
static const char magic_line[]  = "L119547037146038801333356L\n.";

static kdas_status refuse(const kd_pytorch *pt, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "'%s' has no weights that can be read: %s", kd_file_path(pt->file),
                   why);
}

/* Bytes of the magic number's pickle; 0: it is none. */
static size_t magic(const unsigned char *head, size_t n)
{
    size_t at = 0;

    if (n >= sizeof magic_line - 1 && memcmp(head, magic_line, sizeof magic_line - 1) == 0)
        return sizeof magic_line - 1;
    if (n >= 2 && head[0] == 0x80) at = 2;
    if (n >= at + 9 && memcmp(head + at, magic_frame, 9) == 0) at += 9;
    if (at == 0 || n < at + sizeof magic_long - 1) return 0;
    return memcmp(head + at, magic_long, sizeof magic_long - 1) == 0 ? at + sizeof magic_long - 1
                                                                     : 0;
}

static bool is_zip(const unsigned char *head, size_t n)
{
    return n >= 4 && memcmp(head, "PK\3\4", 4) == 0;
}

static bool is_pickle(const unsigned char *head, size_t n)
{
    return n >= 8 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5;
}

static bool is_tar(const unsigned char *head, size_t n)
{
    return n >= 262 && memcmp(head + 257, "ustar", 5) == 0;
}

bool kd_pytorch_is(const unsigned char *head, size_t n)
{
    return is_zip(head, n) || magic(head, n) || is_pickle(head, n) || is_tar(head, n);
}

/* ---- The zip form ---------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The first entry whose name ends so, with the shortest name. */
static const kd_zip_entry *entry_like(const kd_zip *zip, const char *end)
{
    const kd_zip_entry *best = NULL;

    for (int64_t i = 0; i < kd_zip_count(zip); i++) {
        const kd_zip_entry *e = kd_zip_at(zip, i);

        if (ends_with(e->name, end) && (!best || strlen(e->name) < strlen(best->name))) best = e;
    }
    return best;
}

/* The one entry that is a file of PyTorch by its name. NULL: there is none, or several. */
static const kd_zip_entry *inner_file(const kd_zip *zip)
{
    static const char *const endings[] = { ".pth", ".pt", ".bin", ".ckpt" };
    const kd_zip_entry      *found     = NULL;

    for (int64_t i = 0; i < kd_zip_count(zip); i++)
        for (size_t k = 0; k < KD_COUNT(endings); k++) {
            if (!ends_with(kd_zip_at(zip, i)->name, endings[k])) continue;
            if (found) return NULL;
            found = kd_zip_at(zip, i);
        }
    return found;
}

/* Go on with an entry in place of the archive. */
static kdas_status enter(kd_pytorch *pt, const kd_zip_entry *e)
{
    uint64_t    at;
    size_t      size = (size_t)e->size;
    void       *bytes;
    char       *path;
    kdas_status st;

    KD_RETURN(kd_zip_locate(pt->zip, e, &at));
    path  = kd_printf(pt->ctx, "%s/%s", kd_file_path(pt->file), e->name);
    bytes = kd_alloc(pt->ctx, size);
    st    = path && bytes ? kd_zip_read(pt->zip, e, bytes) : KDAS_ENOMEM;
    if (st == KDAS_OK) {
        kd_zip_close(pt->zip);
        kd_file_close(pt->file);
        pt->zip   = NULL;
        pt->inner = true;
        st        = kd_file_of_memory(&pt->file, pt->ctx, path, bytes, size);
        bytes     = NULL;
    }
    kd_free(pt->ctx, bytes);
    kd_free(pt->ctx, path);
    return st;
}

static kdas_status open_any(kd_pytorch *pt);

/* A zip archive without data.pkl: a file inside, or what it is instead. */
static kdas_status open_other_zip(kd_pytorch *pt)
{
    const kd_zip_entry *e = inner_file(pt->zip);

    if (e && !pt->inner) {
        KD_RETURN(enter(pt, e));
        return open_any(pt);
    }
    e = entry_like(pt->zip, ".safetensors");
    if (!e) e = entry_like(pt->zip, ".pth");
    if (e)
        return kd_fail(KDAS_EFORMAT,
                       "'%s' is a zip archive that holds '%.200s'; unpack it, and give that file",
                       kd_file_path(pt->file), e->name);
    if (entry_like(pt->zip, ".npy"))
        return refuse(pt, "it is a NumPy archive (.npz); export it to safetensors");
    return refuse(pt, "it is a zip archive, but not of PyTorch: it has no data.pkl; export the "
                      "weights to safetensors");
}

/* The content of a small entry, with a zero behind it. */
static kdas_status read_entry(kd_pytorch *pt, const kd_zip_entry *e, char **out)
{
    uint64_t    at;
    kdas_status st;

    KD_RETURN(kd_zip_locate(pt->zip, e, &at));
    if (e->size > KD_PICKLE_MAX_BYTES) return refuse(pt, "its pickle is too large");
    *out = kd_alloc(pt->ctx, (size_t)e->size + 1);
    if (!*out) return KDAS_ENOMEM;
    (*out)[e->size] = 0;
    st              = kd_zip_read(pt->zip, e, *out);
    if (st != KDAS_OK) {
        kd_free(pt->ctx, *out);
        *out = NULL;
    }
    return st;
}

/* "folder/name", as one entry; NULL: none. */
static const kd_zip_entry *entry_in(kd_pytorch *pt, const char *folder, size_t length,
                                    const char *name, size_t n)
{
    char                buffer[1024];
    const kd_zip_entry *e;

    if (length + n >= sizeof buffer) return NULL;
    memcpy(buffer, folder, length);
    memcpy(buffer + length, name, n);
    buffer[length + n] = 0;
    e                  = kd_zip_find(pt->zip, buffer);
    return e;
}

static kdas_status read_order(kd_pytorch *pt, const char *folder, size_t length)
{
    const kd_zip_entry *e    = entry_in(pt, folder, length, "byteorder", 9);
    char               *word = NULL;
    kdas_status         st   = KDAS_OK;

    if (!e) return KDAS_OK; /* older files have none: the low byte first */
    if (e->size > 64) return refuse(pt, "its byte order is not known");
    KD_RETURN(read_entry(pt, e, &word));
    pt->swap = strncmp(word, "big", 3) == 0;
    if (!pt->swap && strncmp(word, "little", 6) != 0)
        st = refuse(pt, "its byte order is neither 'little' nor 'big'");
    kd_free(pt->ctx, word);
    return st;
}

/* Where each storage of the pickle is: "folder/data/KEY". */
static kdas_status place_entries(kd_pytorch *pt, const char *folder, size_t length)
{
    char name[1024];

    for (size_t i = 0; i < pt->storages; i++) {
        kd_pt_storage      *s = &pt->storage[i];
        const kd_zip_entry *e;
        int                 n = snprintf(name, sizeof name, "data/%.*s", (int)s->length, s->key);

        e = entry_in(pt, folder, length, name, (size_t)n);
        if (!e)
            return kd_fail(KDAS_EFORMAT, "'%s' is damaged: it has no storage '%.100s'",
                           kd_file_path(pt->file), name);
        KD_RETURN(kd_zip_locate(pt->zip, e, &s->at));
        s->size    = e->size;
        s->entry   = e;
        s->packed  = e->method == KD_ZIP_STORED ? NULL : e;
        s->present = true;
    }
    return KDAS_OK;
}

static kdas_status open_zip(kd_pytorch *pt)
{
    const kd_zip_entry *e;
    size_t              length, used;
    kdas_status         st;
    bool                cut;

    KD_RETURN(kd_zip_open(&pt->zip, pt->ctx, pt->file));
    e = entry_like(pt->zip, "/data.pkl");
    if (!e) e = kd_zip_find(pt->zip, "data.pkl");
    if (!e) return open_other_zip(pt);
    length = strlen(e->name) - strlen("data.pkl");
    if (entry_in(pt, e->name, length, "constants.pkl", 13))
        return refuse(pt, "it is a TorchScript archive; " SAVE_ANEW);
    KD_RETURN(read_order(pt, e->name, length));
    KD_RETURN(read_entry(pt, e, &pt->bytes));
    st = kd_pickle_read(&pt->pickle, pt->ctx, pt->bytes, (size_t)e->size, &used, &cut);
    if (st != KDAS_OK) return kd_fail_in(st, "'%s'", kd_file_path(pt->file));
    KD_RETURN(kd_pt_list_storages(pt));
    return place_entries(pt, e->name, length);
}

/* ---- The older form -------------------------------------------------------------------------- */

/* The pickles at the front of the file. */
typedef struct front {
    size_t     size, at; /* bytes that were read; the end of the last pickle */
    bool       cut;      /* it needs more bytes */
    kd_pickle *keys;     /* of the storages, in the order of the file */
} front;

static kdas_status next_pickle(kd_pytorch *pt, front *f, kd_pickle **out)
{
    size_t      used = 0;
    kdas_status st;

    st = kd_pickle_read(out, pt->ctx, pt->bytes + f->at, f->size - f->at, &used, &f->cut);
    f->at += used;
    return st == KDAS_OK ? st : kd_fail_in(st, "'%s'", kd_file_path(pt->file));
}

/* The version of the format, then facts about the writer's machine. The storages' low byte is first
 * in any case. */
static kdas_status skip_preface(kd_pytorch *pt, front *f)
{
    kd_pickle  *p;
    int64_t     version = 0;
    kdas_status st      = next_pickle(pt, f, &p);

    if (st != KDAS_OK) return st;
    kd_pickle_whole(p, kd_pickle_root(p), &version);
    kd_pickle_free(p);
    if (version != FORMAT_VERSION) return refuse(pt, "its format's version is not known");
    st = next_pickle(pt, f, &p);
    if (st == KDAS_OK) kd_pickle_free(p);
    return st;
}

static kdas_status read_front(kd_pytorch *pt, front *f, size_t window)
{
    kd_pickle_free(pt->pickle);
    kd_free(pt->ctx, pt->bytes);
    pt->pickle = NULL;
    f->size    = window;
    f->cut     = false;
    pt->bytes  = kd_alloc(pt->ctx, window);
    if (!pt->bytes) return KDAS_ENOMEM;
    KD_RETURN(kd_file_read(pt->file, 0, pt->bytes, window));
    f->at = magic((const unsigned char *)pt->bytes, window);
    KD_RETURN(skip_preface(pt, f));
    KD_RETURN(next_pickle(pt, f, &pt->pickle));
    return next_pickle(pt, f, &f->keys);
}

/* Storages follow each other: the number of elements, then those. */
static kdas_status place_storages(kd_pytorch *pt, const front *f)
{
    uint64_t at = f->at, size = kd_file_size(pt->file), count;
    uint32_t root = kd_pickle_root(f->keys);

    for (uint32_t c = kd_pickle_first(f->keys, root); c; c = kd_pickle_next(f->keys, c)) {
        size_t         n   = 0;
        const char    *key = kd_pickle_text(f->keys, kd_pickle_item(f->keys, c), &n);
        kd_pt_storage *s   = key ? kd_pt_find_storage(pt, key, n) : NULL;

        if (!s || s->present)
            return refuse(pt, "it is damaged: its list of storages does not fit its tensors");
        if (size - at < sizeof count)
            return kd_fail(KDAS_EFORMAT, "'%s' is cut off within its storages",
                           kd_file_path(pt->file));
        KD_RETURN(kd_file_read(pt->file, at, &count, sizeof count));
        at += sizeof count;
        if (count > (size - at) / s->element)
            return kd_fail(KDAS_EFORMAT, "'%s' is cut off within its storages",
                           kd_file_path(pt->file));
        s->at      = at;
        s->size    = count * s->element;
        s->present = true;
        at += s->size;
    }
    for (size_t i = 0; i < pt->storages; i++)
        if (!pt->storage[i].present)
            return refuse(pt, "it is damaged: the storage of a tensor is missing");
    return KDAS_OK;
}

static kdas_status open_stacked(kd_pytorch *pt)
{
    size_t      most = (size_t)KD_MIN(kd_file_size(pt->file), (uint64_t)KD_PICKLE_MAX_BYTES);
    front       f    = { 0 };
    kdas_status st;

    for (size_t window = KD_MIN(FIRST_WINDOW, most);;) {
        st = read_front(pt, &f, window);
        if (st == KDAS_OK || !f.cut || window == most) break;
        window = KD_MIN(window * 8, most);
    }
    if (st == KDAS_OK) st = kd_pt_list_storages(pt);
    if (st == KDAS_OK) st = place_storages(pt, &f);
    kd_pickle_free(f.keys);
    return st;
}

/* ---- Open and close -------------------------------------------------------------------------- */

static kdas_status open_any(kd_pytorch *pt)
{
    unsigned char head[KD_KIND_HEAD];
    size_t        n = (size_t)KD_MIN(kd_file_size(pt->file), sizeof head);

    KD_RETURN(kd_file_read(pt->file, 0, head, n));
    if (is_zip(head, n)) return open_zip(pt);
    if (magic(head, n)) return open_stacked(pt);
    if (pt->inner && !is_pickle(head, n)) {
        KD_RETURN(kd_kind_refuse(kd_kind_of(head, n, kd_file_size(pt->file)),
                                 kd_file_path(pt->file), "a file of PyTorch", "give another one"));
        return refuse(pt, "it is no file of PyTorch");
    }
    if (is_tar(head, n))
        return refuse(pt, "it is a tar archive, as PyTorch saved before version 0.1.10, or an "
                          "archive that holds the file; unpack it, or " SAVE_ANEW);
    return refuse(pt, "it is a Python pickle, but not one that PyTorch saved; " SAVE_ANEW);
}

kdas_status kd_pytorch_open(kd_pytorch **out, kdas_context *ctx, kd_file *file)
{
    kd_pytorch *pt = kd_calloc(ctx, 1, sizeof *pt);
    kdas_status st;

    *out = NULL;
    if (!pt) {
        kd_file_close(file);
        return KDAS_ENOMEM;
    }
    pt->ctx  = ctx;
    pt->file = file;
    KD_TRY(open_any(pt));
    KD_TRY(kd_pt_find_sets(pt));
    kd_pickle_free(pt->pickle);
    kd_free(ctx, pt->bytes);
    pt->pickle = NULL;
    pt->bytes  = NULL;
    *out       = pt;
    pt         = NULL;
done:
    kd_pytorch_close(pt);
    return st;
}

void kd_pytorch_close(kd_pytorch *pt)
{
    if (!pt) return;
    for (size_t i = 0; i < pt->sets; i++) {
        kd_free(pt->ctx, pt->set[i].name);
        kd_free(pt->ctx, pt->set[i].names);
        kd_free(pt->ctx, pt->set[i].tensor);
    }
    kd_free(pt->ctx, pt->set);
    kd_free(pt->ctx, pt->storage);
    kd_free(pt->ctx, pt->content);
    kd_pickle_free(pt->pickle);
    kd_free(pt->ctx, pt->bytes);
    kd_zip_close(pt->zip);
    kd_file_close(pt->file);
    kd_free(pt->ctx, pt);
}

const char *kd_pytorch_path(const kd_pytorch *pt) { return kd_file_path(pt->file); }
int         kd_pytorch_sets(const kd_pytorch *pt) { return (int)pt->sets; }

const char *kd_pytorch_set(const kd_pytorch *pt, int set)
{
    return set >= 0 && (size_t)set < pt->sets ? pt->set[set].name : NULL;
}

int64_t kd_pytorch_count(const kd_pytorch *pt, int set)
{
    return set >= 0 && (size_t)set < pt->sets ? pt->set[set].count : 0;
}

const kd_st_tensor *kd_pytorch_at(const kd_pytorch *pt, int set, int64_t i)
{
    return i >= 0 && i < kd_pytorch_count(pt, set) ? &pt->set[set].tensor[i].base : NULL;
}
