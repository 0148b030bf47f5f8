/* maps.h - a teacher's map of a frame: the mean of some files, which are read when used. Split or
 * joined datasets share it. It is safe to use from several threads. */
#ifndef KD_MAPS_H
#define KD_MAPS_H
#include "data/frames.h"

typedef struct kd_map_file {
    char    *path;
    bool     logits; /* a safetensors file, else a PNG of probabilities */
    int64_t  width, height;
    float    least; /* its probabilities stay within least .. 1 - least */
    uint64_t bytes;
} kd_map_file;

typedef struct kd_map {
    kd_frames   *frames; /* whose budget and lock it uses; shared */
    atomic_int   users;
    int32_t      count;
    kd_map_file *file;          /* (count) */
    int64_t      width, height; /* of the largest file: the mean's size */
    float        least;         /* mean of the files'                   */
    void        *kept;          /* decoded, or NULL; under the store's lock */
} kd_map;

/* Read the header of a file, `path`, which is copied. */
kdas_status kd_map_file_open(kd_map_file *out, kdas_context *ctx, const char *path);
void        kd_map_file_finish(kd_map_file *file, kdas_context *ctx);
/* A map of the files of `before` (NULL: none) and `file`. Ownership of `file` passes to the map,
 * also on failure. */
kdas_status kd_map_create(kd_map **out, kd_frames *frames, const kd_map *before, kd_map_file *file);
kd_map     *kd_map_share(kd_map *map); /* NULL is fine in all three */
void        kd_map_drop(kd_map *map);
uint64_t    kd_map_hash(const kd_map *map);

/* The least and the largest probability of a file, which is decoded. */
kdas_status kd_map_file_range(float range[2], kdas_context *ctx, const kd_map_file *file);

/* The probabilities, (height,width) floats from kd_alloc, brought to that size by the input
 * resize. */
kdas_status kd_map_read(float **out, kd_map *map, int64_t width, int64_t height);

#endif
