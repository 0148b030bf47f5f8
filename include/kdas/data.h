/* kdas/data.h - batches, folder datasets, synthetic scenes, and the loader ahead of the step. */
#ifndef KDAS_DATA_H
#define KDAS_DATA_H
#include <kdas/image.h>
KDAS_BEGIN

/* ---- Batch: images and masks of a step -------------------------------------------------------
 * N images (N,H,W,3), float, ImageNet-normalised RGB, and N masks (N,H,W,1) of 0 and 1. */
typedef struct kdas_batch kdas_batch;

/* Make room for `count` images of height x width; zeros. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_batch_create(kdas_batch **out, kdas_context *context, int64_t count,
                                       int64_t height, int64_t width);
/* A batch over the host's own floats, without a copy: `images` (count,height,width,3), normalised, and `masks`
 * (count,height,width,1) of 0 and 1, or NULL: a batch without masks, for forwards, and for objectives without a
 * segmentation term. Both stay the host's: they are there until the batch is destroyed, which does not free them, and
 * kdas_batch_set() writes into them. A batch without masks takes no mask, weights or labels (KDAS_EINVAL).
 * KDAS_EINVAL (also where images is NULL), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_batch_wrap(kdas_batch **out, kdas_context *context, int64_t count,
                                     int64_t height, int64_t width, float *images, float *masks);
/* NULL is fine. Waits for an upload of it that is under way (kdas_batch_prefetch). Since 0.1. */
KDAS_API void kdas_batch_destroy(kdas_batch *batch);
/* The context that it was made in (NULL: NULL). Since 0.4. */
KDAS_API kdas_context *kdas_batch_context(const kdas_batch *batch);
/* Put an image, and its mask unless NULL, at place `i`: resized (antialiased; masks by the same
 * filter, then thresholded at one half), normalised. A grey image fills all three colours; a YUV
 * frame counts as its RGB8 pixels (since 0.4). A mask is GREY8 (> 127 is polyp) or GREYF32 (> 0.5)
 * of the image's size; without one the place's mask becomes 0. KDAS_EINVAL, KDAS_ESHAPE (mask and
 * image differ), KDAS_ENOMEM: the place is as before. Since 0.1. */
KDAS_API kdas_status kdas_batch_set(kdas_batch *batch, int64_t i, const kdas_view *image,
                                    const kdas_view *mask);
/* Places in use, and the sides of the images (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_batch_count(const kdas_batch *batch);
KDAS_API int64_t kdas_batch_height(const kdas_batch *batch);
KDAS_API int64_t kdas_batch_width(const kdas_batch *batch);
/* The numbers themselves, to read or to fill: images (N,H,W,3), masks (N,H,W,1), NULL where there are none. What is
 * written here after kdas_batch_prefetch() or kdas_batch_upload() is not seen: call it again. NULL for NULL. Since 0.1. */
KDAS_API float *kdas_batch_images(kdas_batch *batch);
KDAS_API float *kdas_batch_masks(kdas_batch *batch);
/* Use the first `count` places only, 1 <= count <= the number made. KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_batch_resize(kdas_batch *batch, int64_t count);

/* Beside its image, a place may have a teacher's map, weights of its mask's pixels, and be without a label; setting
 * the image takes these away again.
 *
 * Put a teacher's map at place `i`: probabilities of any size, GREY8 (0..255) or GREYF32 (0..1), resized like the
 * image. It is kept as logits log(p / (1 - p)), p held off 0 and 1 by 0.5 / 255 (GREY8) or 2^-24. A step takes the
 * maps where it has no teacher model and kdas_distiller_set_teacher_maps() was not called; then all places must
 * have one. KDAS_EINVAL, KDAS_ENOMEM: the place is as before. Since 0.4. */
KDAS_API kdas_status kdas_batch_set_teacher(kdas_batch *batch, int64_t i, const kdas_view *map);
/* Weigh the pixels of place `i` in the segmentation term: GREYF32, 0..1e6, or GREY8, 255 being 1; of any size,
 * resized like the image. Places that are not set weigh 1; one without a label keeps the weights of its map.
 * KDAS_EINVAL (a weight out of range, all of them 0), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_batch_set_weights(kdas_batch *batch, int64_t i, const kdas_view *weights);
/* Say whether place `i` has a label; it does at first, where the batch has masks. A place without one learns from
 * the teacher alone: its mask is where the teacher's probability p is at least 0.5, its weights are |2p - 1| (at
 * least 1/1024). They are taken from the place's map if it has one, else by the step from its teacher: of several
 * maps, from the mean of their logits. A place that has a label again after its map gave the mask has an empty
 * one, and weights of 1, until they are set. KDAS_EINVAL, KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_batch_set_labelled(kdas_batch *batch, int64_t i, int32_t labelled);
/* Whether it has: 1 or 0 (NULL, or no such place: 0). Since 0.4. */
KDAS_API int32_t kdas_batch_labelled(const kdas_batch *batch, int64_t i);
/* Whether kdas_batch_set_teacher() has put a map at place `i`, or a loader has. Since 0.4. */
KDAS_API int32_t kdas_batch_has_teacher(const kdas_batch *batch, int64_t i);
/* The numbers themselves, like images and masks: the teacher's logits and the weights, (N,H,W,1). NULL where none
 * were set (no teacher's maps, all weights 1), and for NULL. Since 0.4. */
KDAS_API float *kdas_batch_teacher(kdas_batch *batch);
KDAS_API float *kdas_batch_weights(kdas_batch *batch);

/* Batches on the device. A forward or an objective uploads what it reads of a batch that is not on its device, and
 * forgets it. These calls keep a batch there for several of them, on the device of the batch's own context: the
 * forwards of teacher and student and kdas_loss_run() then share one upload. Two batches have room, so that one can
 * arrive while another is computed on. Where device memory is the host's they do nothing. On the thread that
 * computes on the context.
 *
 * Begin to upload the batch beside the computing of what is called next; where the device cannot, upload it now. The
 * calls that read it wait for it. The batch stays as it is until kdas_batch_settle(), or until another prefetch: one
 * that kdas_batch_set() and its like have changed is uploaded again by whoever reads it, but whoever writes through
 * kdas_batch_images() or kdas_batch_masks() must prefetch again. A third batch takes the place of the one that no
 * forward has used, or of the older one. One that waits may be destroyed all the same. KDAS_EINVAL,
 * KDAS_ENOMEM, KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_batch_prefetch(kdas_batch *batch);
/* Have the batch on the device, up to kdas_batch_settle(): what a prefetch has brought there is taken, once; else it
 * is uploaded, in order with what else is computed. KDAS_EINVAL, KDAS_ENOMEM, KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_batch_upload(kdas_batch *batch);
/* Done with the batch: its host memory may be written from now on, and its room on the device is free. After the
 * backward of the forwards that read it, and where a loop that prefetches ahead ends. KDAS_EINVAL,
 * KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_batch_settle(kdas_batch *batch);

/* ---- Dataset: a list of frames with masks --------------------------------------------------- */
typedef struct kdas_dataset kdas_dataset;

/* What to do with a file that cannot be used. */
typedef enum kdas_bad_file {
    KDAS_BAD_FILE_REFUSE = 0, /* the call fails and names it            */
    KDAS_BAD_FILE_SKIP   = 1  /* it is logged, counted and left out     */
} kdas_bad_file;

typedef struct kdas_dataset_options {
    size_t  size;
    int32_t bad_file;   /* kdas_bad_file; default REFUSE                                        */
    int32_t unlabelled; /* there are no masks; default 0. Since 0.4                             */
    size_t  cache;      /* bytes of decoded frames to keep in memory; default 2 GiB             */
} kdas_dataset_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_dataset_options_init(kdas_dataset_options *options, size_t size);

/* Open DIR/images and DIR/masks (or DIR/image and DIR/mask), matched by base name, in byte order
 * of the names. Every image's header is read and must fit its mask's; pixels are decoded when
 * first used. A mask may have any number of channels; what is brighter than 127 is polyp. Hidden
 * files and files that do not end like a picture are none of the dataset's; a picture of a kind
 * that is not read is a bad file. With `unlabelled`, DIR/images or DIR/image, or else DIR itself, is
 * all that is looked at, and the frames have no masks. KDAS_ENOTFOUND (folder, no pictures),
 * KDAS_EFORMAT (file, two files of one base name, no frame left), KDAS_ESHAPE (mask of another size,
 * no mask, no image), KDAS_EIO, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_dataset_open(kdas_dataset **out, kdas_context *context, const char *dir,
                                       const kdas_dataset_options *options);

/* Synthetic colonoscopy-like frames with masks, the same for the same seed. */
typedef struct kdas_scene_options {
    size_t   size;
    uint64_t seed;          /* default 1                                       */
    int64_t  count;         /* frames, >= 1; default 64                        */
    int64_t  width, height; /* pixels, 32..4096; default 352 x 352             */
    float    empty;         /* share of frames without a polyp; default 0      */
    float    contrast;      /* of polyps against mucosa, 0..1; default 0.5     */
} kdas_scene_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_scene_options_init(kdas_scene_options *options, size_t size);
/* A dataset of scenes, drawn when used. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_dataset_synthetic(kdas_dataset **out, kdas_context *context,
                                            const kdas_scene_options *options);
/* Draw scene `i` alone: an RGB8 frame and its GREY8 mask (0 and 255), which the caller destroys. `options` may be
 * NULL (defaults). KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_scene_draw(kdas_image **image, kdas_image **mask, kdas_context *context,
                                     int64_t i, const kdas_scene_options *options);

/* Hold out a share of the frames, 0 to 1, chosen by seed: `rest` has the others, `part` the
 * held-out ones, both in order. The number is the nearest whole one, but a share between 0 and 1
 * leaves neither side empty where there are two frames. They share the decoded frames, and the
 * budget for them, with `from`, which may be destroyed first; so do a teacher's maps.
 * KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_dataset_split(kdas_dataset **rest, kdas_dataset **part,
                                        const kdas_dataset *from, double share, uint64_t seed);
/* All frames of `a`, then all of `b`, as one dataset; both may be destroyed first. They share decoded
 * frames and budgets with it. KDAS_EINVAL (contexts differ; one has a teacher's maps, the other has
 * not), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_dataset_join(kdas_dataset **out, const kdas_dataset *a,
                                       const kdas_dataset *b);
/* Give every frame a teacher's map from the folder `dir`: NAME.png, grey of 8 or 16 bits, probability times 255
 * or 65535, or NAME.safetensors, the tensor "P1" or the only one, (H,W) with any ones before, floats, logits;
 * NAME is the frame's base name, the map covers the frame and may be of any size. Other files are not looked at.
 * Called again, with other folders, a frame's map is the mean of the probabilities, at the size of the largest.
 * Headers are read now, and files decoded until one is found whose pixels differ: a folder where every map is all of
 * one value is refused. What is decoded later shares the frames' budget; a file that went bad comes out of the
 * loader. Datasets that were split or joined from this one before keep what they had. KDAS_ENOTFOUND (folder; maps
 * of some frames), KDAS_EFORMAT (a file that is damaged, has colours or no map's shape; two files for a frame; no map
 * with two values), KDAS_EINVAL (two frames of one name), KDAS_EIO, KDAS_ENOMEM: the maps are as before. Not while a
 * loader is using the dataset. Since 0.4. */
KDAS_API kdas_status kdas_dataset_add_maps(kdas_dataset *dataset, const char *dir);
/* Folders of maps that were added; 0: none. Since 0.4. */
KDAS_API int64_t kdas_dataset_maps(const kdas_dataset *dataset);
/* Frames without a mask. Since 0.4. */
KDAS_API int64_t kdas_dataset_unlabelled(const kdas_dataset *dataset);
/* Write a map as kdas_dataset_add_maps() reads it, (height,width) logits: as logits, tensor "P1", where `path` ends in
 * .safetensors, else as a PNG of 16-bit probabilities. Whole or not at all. KDAS_EINVAL (range; a logit that is not
 * finite), KDAS_EIO, KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_map_save(kdas_context *context, const char *path, const float *logits,
                                   int64_t height, int64_t width);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_dataset_destroy(kdas_dataset *dataset);
/* Frames (NULL: 0, here and below). Since 0.1. */
KDAS_API int64_t kdas_dataset_count(const kdas_dataset *dataset);
/* Frames (base names) of the folder that were left out as bad. Since 0.1. */
KDAS_API int64_t kdas_dataset_skipped(const kdas_dataset *dataset);
/* Base name of a frame without its ending, for the dataset's life; NULL out of range. Since 0.1. */
KDAS_API const char *kdas_dataset_name(const kdas_dataset *dataset, int64_t i);
/* A hash of the names and sizes of the frames, in order: says which split a run used. Since 0.4 also which frames
 * have no mask, and names and sizes of the maps' files. Since 0.1. */
KDAS_API uint64_t kdas_dataset_hash(const kdas_dataset *dataset);
/* Decode frame `i`: RGB8 and its GREY8 mask (0 or 255), NULL if it has none. The caller destroys both. Several threads
 * may ask at once. A file that went bad after opening is named: KDAS_EFORMAT, KDAS_EIO,
 * KDAS_ENOTFOUND; KDAS_EINVAL (no such frame), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_dataset_get(kdas_image **image, kdas_image **mask, kdas_dataset *dataset,
                                      int64_t i);

/* ---- Loader: shuffled, augmented batches, made by worker threads ahead of the step ----------- */
typedef struct kdas_loader kdas_loader;

typedef struct kdas_loader_options {
    size_t       size;
    int64_t      batch;         /* images in a batch, >= 1; default 8                         */
    int64_t      height, width; /* multiples of 32; default 352 x 352                         */
    const float *scales;        /* multi-scale training: each batch is made once for each, its size
                                   rounded to 32; NULL (default): 1.0 alone; not kept         */
    int64_t      scale_count;   /* at most 8                                                  */
    uint64_t     seed;          /* decides order and augmentation; default 1                  */
    int32_t      shuffle;       /* default 1                                                  */
    int32_t      augment;       /* flips and rotation, the same for image and mask; default 1 */
    float        rotation;      /* degrees, uniform in +-, 0..180; default 90                 */
    int32_t      drop_last;     /* leave out a last batch that is not full; default 0         */
    int32_t      workers;       /* threads, 0..64; 0: batches are made in the call; default 1 */
    int32_t      ahead;         /* batches kept ready, 1..1024; default 3                     */
    /* More augmentation, drawn anew for each frame and epoch and off by default; `augment` = 0 switches all of it
     * off. Mask and image get the same geometry. docs/training.md has the formulas. All since 0.4. */
    float scale_min, scale_max; /* zoom about the middle, uniform in its logarithm, 0.1..10; 1, 1 */
    float crop;        /* least share of the frame's area that is cut out and enlarged to the whole,
                          in (0,1], uniform up to 1; default 1                                */
    float crop_aspect; /* the cut's shape is the frame's times 1/this .. this, uniform in its
                          logarithm, 1..4; default 4/3                                        */
    float brightness;  /* factors uniform in 1 +- this, 0..1; default 0                       */
    float contrast, saturation;
    float hue;    /* turn of the colours, uniform in +- this share of a full turn, 0..0.5; 0  */
    float blur;   /* probability of a Gaussian blur, its sigma uniform in 0.1..2 pixels at
                     352 x 352 and in proportion at other sizes; default 0                   */
    float cutout; /* probability that a rectangle of 2 to 20 % of the area shows the frame's
                     mean colour instead; the mask stays; default 0                           */
    /* Share of an epoch's frames without a polyp, 0..1; the epoch stays as long as it was. -1 (default): as
     * they come. Creating the loader then reads every mask once. Since 0.4. */
    float   empty_share;
    int32_t reserved; /* 0 */
} kdas_loader_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_loader_options_init(kdas_loader_options *options, size_t size);

/* Batches over `dataset`, which must outlive the loader. Of a dataset with a teacher's maps they hold those, moved as
 * the frames are, probability 0 outside of them; of one with frames without masks, weights (since 0.4).
 * KDAS_EINVAL, KDAS_ENOMEM; with an empty_share also the errors of a mask's file. Since 0.1. */
KDAS_API kdas_status kdas_loader_create(kdas_loader **out, kdas_dataset *dataset,
                                        const kdas_loader_options *options);
/* NULL is fine. Joins the workers. Since 0.1. */
KDAS_API void kdas_loader_destroy(kdas_loader *loader);
/* Batches in an epoch, scales counted (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_loader_batches(const kdas_loader *loader);
/* The next batch; *out is NULL at the end of an epoch (the following call starts the next). It
 * stays valid until the next call; on a device that uploads ahead (kdas_batch_prefetch), until
 * the next but one, since 0.3. What a batch holds depends on seed and position alone, not on
 * workers. Errors of a frame's file come out here, at the batch that needs it; the position stays,
 * so that another call tries again, and a seek to the next position passes over it. KDAS_EINVAL, KDAS_ENOMEM.
 * Since 0.1. */
KDAS_API kdas_status kdas_loader_next(kdas_loader *loader, kdas_batch **out);
/* Batches given out since creation, ends of epochs not counted (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_loader_position(const kdas_loader *loader);
/* Continue from a position, >= 0: the next call gives the batch there, also where an epoch begins.
 * KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_loader_seek(kdas_loader *loader, int64_t position);
/* How many batches stay valid at a time: 1, the last one given out; 2, also the one before (on a device that uploads
 * ahead), so that the next can be fetched and prefetched during a step. 0 for NULL. Since 0.4. */
KDAS_API int32_t kdas_loader_kept(const kdas_loader *loader);
/* The context of its dataset and its batches. NULL for NULL. Since 0.4. */
KDAS_API kdas_context *kdas_loader_context(const kdas_loader *loader);
/* The dataset that it was made for (NULL: NULL). Since 0.4. */
KDAS_API kdas_dataset *kdas_loader_dataset(const kdas_loader *loader);
/* The options that it was made with, defaults filled in; `scales` is the loader's memory, NULL if none were given. Set
 * `size` first, as kdas_loader_options_init() does. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_loader_get_options(const kdas_loader   *loader,
                                             kdas_loader_options *options);
/* Seconds that kdas_loader_next has spent waiting for workers, or without them making batches
 * (NULL: NaN). Since 0.1. */
KDAS_API double kdas_loader_waited(const kdas_loader *loader);

KDAS_END
#endif
