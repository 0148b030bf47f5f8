/* lock.h - one process at a time writes into a folder: a lock that ends with its owner, and what
 * killed owners have left. */
#ifndef KD_LOCK_H
#define KD_LOCK_H
#include "base/base.h"

/* The lock is flock() on the file ".kdas-lock" in the folder. The file holds the owner's process id
 * and host, and is removed with the lock. A killed owner leaves the file, but not the lock. A
 * forked child does not hold it. */
#define KD_LOCK_NAME ".kdas-lock"

typedef struct kd_lock kd_lock;

/* Lock a folder that exists. On a file system without locks this succeeds, with a line in the log.
 * KDAS_ESTATE: another owner has it, in this process or another; the sentence has its process id.
 * KDAS_EIO: the lock's file cannot be made. KDAS_ENOMEM. */
kdas_status kd_lock_folder(kd_lock **out, kdas_context *ctx, const char *folder);
/* Unlock; in a forked child only free. NULL is fine. */
void kd_lock_drop(kd_lock *lock);
/* Another owner has made the folder anew, or has removed our file from it. */
bool kd_lock_is_lost(const kd_lock *lock);
/* False: the file system has no locks, so there may be another owner. */
bool kd_lock_holds(const kd_lock *lock);

/* Remove files "<name>.tmp-<pid>-<n>" (io/file.h) that killed processes have left in a folder, of
 * the given names alone. A file stays if its process lives, unless that process began after the
 * last write to the file: then the id was given out again. Process ids are of this host, so call it
 * only where a lock keeps writers on other hosts away. Failures are ignored. */
void kd_remove_stale(kdas_context *ctx, const char *folder, const char *const *names, int count);

#endif
