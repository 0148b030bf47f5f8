/* pytorch_inside.h - what the files of the PyTorch reader share: pytorch.c finds the pickle and the
 * storages, pytorch_tensors.c makes tensors of the pickle, pytorch_read.c reads their elements. */
#ifndef KD_PYTORCH_INSIDE_H
#define KD_PYTORCH_INSIDE_H
#include "io/pickle.h"
#include "io/pytorch.h"
#include "io/zip.h"

/* A storage: elements that tensors share. */
typedef struct kd_pt_storage {
    const char         *key; /* bytes of the pickle, while that lives; no NUL behind it */
    size_t              length;
    uint32_t            order;    /* of the pickle's value that named it */
    size_t              element;  /* bytes, by the pickle                */
    uint64_t            at, size; /* in the file, unless packed; bytes of the content */
    const kd_zip_entry *entry;    /* of the archive; NULL: the older form */
    const kd_zip_entry *packed;   /* the entry if it is deflated, or NULL */
    bool                present;
    bool                checked; /* its bytes have been compared with the entry's checksum */
} kd_pt_storage;

typedef struct kd_pt_tensor {
    kd_st_tensor         base; /* the first member */
    const kd_pt_storage *storage;
    int64_t              start, stride[KD_ST_MAX_RANK]; /* in elements; strides are not negative */
    uint32_t             order;
} kd_pt_tensor;

typedef struct kd_pt_set {
    char         *name, *names; /* names: the text of all tensors' names */
    kd_pt_tensor *tensor;
    int64_t       count;
} kd_pt_set;

struct kd_pytorch {
    kdas_context        *ctx;
    kd_file             *file;
    kd_zip              *zip;   /* NULL: the older form */
    bool                 inner; /* the file was an entry of an archive */
    char                *bytes; /* the pickle's; freed after opening, with the pickle */
    kd_pickle           *pickle;
    bool                 swap;    /* storages have the high byte first */
    kd_pt_storage       *storage; /* by key */
    size_t               storages;
    kd_pt_set           *set;
    size_t               sets, set_capacity;
    size_t               tensors, name_bytes; /* of all sets */
    const kd_pt_storage *unpacked; /* what `content` holds: the last packed storage that was read */
    unsigned char       *content;
    uint64_t             work; /* of the search: pairs of dictionaries, and bytes of names */
};

/* List the storages that the pickle names, by key, without places. */
kdas_status kd_pt_list_storages(kd_pytorch *pt);
/* NULL: none of this key. */
kd_pt_storage *kd_pt_find_storage(const kd_pytorch *pt, const char *key, size_t length);
/* Find the sets, and make their tensors. */
kdas_status kd_pt_find_sets(kd_pytorch *pt);

#endif
