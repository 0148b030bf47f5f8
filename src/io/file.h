/* file.h - files and folders: random reads, whole-file reads with a limit, writers that replace a
 * file in one step or not at all, path text, folder listings. Every sentence names the path. */
#ifndef KD_FILE_H
#define KD_FILE_H
#include <sys/types.h>
#include "base/base.h"

/* What errno's value means; the thread's, until its next call. Does not allocate. */
const char *kd_error_text(int error);

/* ---- Reading --------------------------------------------------------------------------------- */
typedef struct kd_file kd_file;

/* Open a regular file. KDAS_ENOTFOUND (no such file), KDAS_EIO (folder, device, permission),
 * ENOMEM. */
kdas_status kd_file_open(kd_file **out, kdas_context *ctx, const char *path);
/* A file whose bytes are in memory from kd_alloc, which it takes over in all cases. */
kdas_status kd_file_of_memory(kd_file **out, kdas_context *ctx, const char *path, void *memory,
                              size_t size);
void        kd_file_close(kd_file *file); /* NULL is fine */
uint64_t    kd_file_size(const kd_file *file);
const char *kd_file_path(const kd_file *file);
/* Read exactly n bytes at `offset`; a file that ends before is KDAS_EFORMAT. */
kdas_status kd_file_read(kd_file *file, uint64_t offset, void *to, size_t n);

/* A whole file, refused above `limit` bytes before memory is taken. `spare` zero bytes follow the
 * content (1 makes it a string). The caller frees *data with kd_free. */
kdas_status kd_file_read_all(kdas_context *ctx, const char *path, uint64_t limit, size_t spare,
                             void **data, size_t *size);

/* ---- Writing ----------------------------------------------------------------------------------
 * Bytes go to "<path>.tmp-<pid>-<n>" in the same folder; commit syncs it, renames it over `path`
 * and syncs the folder. A kill at any moment leaves the old file or the new one, and at worst a
 * temporary file. A symbolic link is followed, also to a file that is not there yet; what exists and
 * is not a regular file is refused. File systems that refuse chmod or fsync do not hinder. */
typedef struct kd_writer kd_writer;

/* write(). Beyond a limit of file sizes it fails with EFBIG: the signal SIGXFSZ, which ends a process
 * by default, does not reach the host. */
ssize_t kd_write_some(int fd, const void *data, size_t n);

kdas_status kd_writer_open(kd_writer **out, kdas_context *ctx, const char *path);
/* After a failure the writer stays failed: commit repeats the first failure. */
kdas_status kd_writer_put(kd_writer *writer, const void *data, size_t n);
/* Make the file appear. The writer is destroyed in all cases, and *writer is NULL. */
kdas_status kd_writer_commit(kd_writer **writer);
/* Destroy and leave `path` as it was. NULL is fine. */
void kd_writer_discard(kd_writer *writer);

/* Let a change of a folder's entries, of which `path` is one, reach the disk: 0, or the errno. File
 * systems that cannot sync a folder count as success. */
int kd_sync_folder_of(const char *path);

/* The three calls above for one block. */
kdas_status kd_file_write_all(kdas_context *ctx, const char *path, const void *data, size_t n);

/* ---- Paths ----------------------------------------------------------------------------------- */

/* "dir/name", with one slash between; an empty dir gives the name. kd_free it. */
char *kd_path_join(kdas_context *ctx, const char *dir, const char *name);
/* The part after the last slash, inside `path`. */
const char *kd_path_base(const char *path);
/* The ending with its dot, inside `path`, or "" ("a/b.tar.gz": ".gz"; ".hidden": ""). */
const char *kd_path_extension(const char *path);
/* 1 if the ending is `extension` (".png"), ignoring case. */
bool kd_path_has_extension(const char *path, const char *extension);
/* The base name without its ending. kd_free it. */
char *kd_path_stem(kdas_context *ctx, const char *path);

bool kd_is_file(const char *path);
bool kd_is_folder(const char *path);

typedef enum kd_path_kind {
    KD_PATH_NONE,
    KD_PATH_FILE,
    KD_PATH_FOLDER,
    KD_PATH_OTHER
} kd_path_kind;
/* What is at a path, links followed: for decisions that must not take what cannot be seen for what
 * is not there. NONE: nothing, or a link that leads nowhere. KDAS_EIO: it cannot be told
 * (permission, a disk that fails); *out is then NONE. */
kdas_status kd_look_at(kd_path_kind *out, const char *path);
/* KDAS_ENOTFOUND: there is no such folder. KDAS_EIO: it cannot be found out, and why. */
kdas_status kd_check_folder(const char *path);
/* Make a folder and those above it that are missing. KDAS_EIO. */
kdas_status kd_make_folders(kdas_context *ctx, const char *path);

typedef struct kd_names {
    char **name;
    size_t count, capacity;
} kd_names;

/* What systems and file browsers leave in folders: hidden files (._NAME, .DS_Store,
 * .ipynb_checkpoints), __MACOSX, @eaDir, Thumbs.db, desktop.ini, recycle bins. */
bool kd_is_clutter(const char *name);
/* Names in a folder in byte order, without clutter. `out` comes zeroed or used before.
 * KDAS_ENOTFOUND (no such folder), KDAS_EIO, KDAS_ENOMEM: out is then empty. */
kdas_status kd_list_folder(kd_names *out, kdas_context *ctx, const char *path);
/* The files in a folder and in the folders below it, as paths relative to it, sorted and without
 * clutter as above. Links are followed. */
kdas_status kd_list_tree(kd_names *out, kdas_context *ctx, const char *path);
/* Append a name from kd_alloc, which the list then owns, also on failure; NULL is KDAS_ENOMEM. */
kdas_status kd_names_add(kd_names *names, kdas_context *ctx, char *name);
void        kd_names_clear(kd_names *names, kdas_context *ctx);

/* ---- Unicode (unicode.c) --------------------------------------------------------------------- */

/* The text in its composed form (NFC): macOS writes some names decomposed, others compose them. A
 * text that is not UTF-8 is copied. kd_free it. */
char *kd_composed(kdas_context *ctx, const char *text);

#endif
