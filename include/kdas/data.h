/* kdas/data.h - batches, folder datasets, synthetic scenes, and the loader. */
#ifndef KDAS_DATA_H
#define KDAS_DATA_H
#include <kdas/image.h>
#include <kdas/ranks.h>
KDAS_BEGIN

/* ---- Batch: images and masks of one step -----------------------------------------------------
 * N places, each with an image and a mask. Images (N,H,W,3): float, RGB, ImageNet-normalised. Masks
 * (N,H,W,1): float, 0 or 1. */
typedef struct kdas_batch kdas_batch;

/* Create a batch of `count` images of height x width, filled with zeros. KDAS_EINVAL, KDAS_ENOMEM.
 * Since 0.1. */
KDAS_API kdas_status kdas_batch_create(kdas_batch **out, kdas_context *context, int64_t count,
                                       int64_t height, int64_t width);
/* Create a batch over caller-owned floats, without a copy. `images` is (count,height,width,3),
 * normalised. `masks` is (count,height,width,1), 0 or 1, or NULL. Both must stay valid until the
 * batch is destroyed, which does not free them; kdas_batch_set() writes into them. A batch without
 * masks serves forwards and objectives without a segmentation term; it accepts no mask, weights or
 * labels (KDAS_EINVAL). KDAS_EINVAL (also if images is NULL), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_batch_wrap(kdas_batch **out, kdas_context *context, int64_t count,
                                     int64_t height, int64_t width, float *images, float *masks);
/* NULL is fine. Waits for a pending upload of the batch (kdas_batch_prefetch). Since 0.1. */
KDAS_API void kdas_batch_destroy(kdas_batch *batch);
/* The context it was created in (NULL: NULL). Since 0.4. */
KDAS_API kdas_context *kdas_batch_context(const kdas_batch *batch);
/* Set the image at place `i`, and its mask. Both are resized (antialiased); the image is
 * normalised, the mask thresholded at one half. A grey image fills all three colours. A YUV frame
 * counts as its RGB8 pixels (since 0.4). A mask is GREY8 (> 127 is polyp) or GREYF32 (> 0.5) and
 * has the image's size; NULL sets the place's mask to 0. KDAS_EINVAL, KDAS_ESHAPE (mask and image
 * differ), KDAS_ENOMEM; on failure the place is unchanged. Since 0.1. */
KDAS_API kdas_status kdas_batch_set(kdas_batch *batch, int64_t i, const kdas_view *image,
                                    const kdas_view *mask);
/* Number of places in use; height and width of the images (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_batch_count(const kdas_batch *batch);
KDAS_API int64_t kdas_batch_height(const kdas_batch *batch);
KDAS_API int64_t kdas_batch_width(const kdas_batch *batch);
/* The values, to read or write: images (N,H,W,3), and masks (N,H,W,1) or NULL if there are none.
 * Writes after kdas_batch_prefetch() or kdas_batch_upload() are not seen: call it again. Do not
 * write between a forward and its backward, which reads the batch again and cannot notice it. NULL
 * for NULL. Since 0.1. */
KDAS_API float *kdas_batch_images(kdas_batch *batch);
KDAS_API float *kdas_batch_masks(kdas_batch *batch);
/* Use only the first `count` places, 1 <= count <= the number created. KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_batch_resize(kdas_batch *batch, int64_t count);

/* A place may also have a teacher map, pixel weights, or no label. Setting its image clears these.
 *
 * Set the teacher map of place `i`: probabilities, GREY8 (0..255) or GREYF32 (0..1), of any size,
 * resized like the image. It is stored as logits log(p / (1 - p)); p is clamped away from 0 and 1
 * by 0.5 / 255 (GREY8) or 2^-24 (GREYF32). A step uses these maps if it has no teacher model and
 * kdas_distiller_set_teacher_maps() was not called; then every place needs one. KDAS_EINVAL,
 * KDAS_ENOMEM; on failure the place is unchanged. Since 0.4. */
KDAS_API kdas_status kdas_batch_set_teacher(kdas_batch *batch, int64_t i, const kdas_view *map);
/* Set the pixel weights of place `i` in the segmentation term: GREYF32 (0..1e6) or GREY8 (255 means
 * 1), of any size, resized like the image. Without a call all weights are 1. A place without a
 * label keeps the weights from its map. KDAS_EINVAL (a weight out of range, or all of them 0),
 * KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_batch_set_weights(kdas_batch *batch, int64_t i, const kdas_view *weights);
/* Set whether place `i` has a label; true at first if the batch has masks. A place without a label
 * learns only from the teacher. With the teacher's probability p, its mask is p >= 0.5 and its
 * weights are |2p - 1|, at least 1/1024. They come from the place's map if it has one, else from
 * the step's teacher (from the mean of the logits if that has several maps). Setting the label
 * again after a map made the mask gives an empty mask and weights of 1. KDAS_EINVAL, KDAS_ENOMEM.
 * Since 0.4. */
KDAS_API kdas_status kdas_batch_set_labelled(kdas_batch *batch, int64_t i, int32_t labelled);
/* Whether place `i` has a label: 1 or 0 (NULL, or no such place: 0). Since 0.4. */
KDAS_API int32_t kdas_batch_labelled(const kdas_batch *batch, int64_t i);
/* Whether kdas_batch_set_teacher() or a loader has set a map at place `i`: 1 or 0. Since 0.4. */
KDAS_API int32_t kdas_batch_has_teacher(const kdas_batch *batch, int64_t i);
/* The teacher logits and the weights, (N,H,W,1), to read or write. NULL if none were set (no
 * teacher maps; all weights 1), and for NULL. Since 0.4. */
KDAS_API float *kdas_batch_teacher(kdas_batch *batch);
KDAS_API float *kdas_batch_weights(kdas_batch *batch);

/* Batches on the device. By default each forward and each objective uploads what it reads of a
 * batch. These calls keep a batch on its context's device, so that the forwards of teacher and
 * student and kdas_loss_run() share one upload. There is room for two batches: one can be uploaded
 * while another is computed on. If device memory is host memory, these calls do nothing. Only on
 * the thread that computes on the context.
 *
 * Start an asynchronous upload; a device without asynchronous uploads does it now. Calls that read
 * the batch wait for it. Do not change the batch until kdas_batch_settle() or the next prefetch. If
 * kdas_batch_set() or a similar call changes it, the next reader uploads it again; after writing
 * through kdas_batch_images() or kdas_batch_masks(), prefetch again. A third batch replaces one
 * that no forward has used, else the older one. A batch may be destroyed while its upload is
 * pending. KDAS_EINVAL, KDAS_ENOMEM, KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_batch_prefetch(kdas_batch *batch);
/* Ensure that the batch is on the device until kdas_batch_settle(). A prefetched copy is used,
 * once; otherwise the batch is uploaded in order with other work. KDAS_EINVAL, KDAS_ENOMEM,
 * KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_batch_upload(kdas_batch *batch);
/* Release the batch's device copy. Its host memory may be written again. Call it after the backward
 * of the forwards that read the batch, and when a prefetching loop ends. KDAS_EINVAL,
 * KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_batch_settle(kdas_batch *batch);

/* ---- Dataset: a list of frames with masks --------------------------------------------------- */
typedef struct kdas_dataset kdas_dataset;

/* What to do with an unusable file. */
typedef enum kdas_bad_file {
    KDAS_BAD_FILE_REFUSE = 0, /* fail; the message names the file */
    KDAS_BAD_FILE_SKIP   = 1  /* log, count and omit it */
} kdas_bad_file;

typedef struct kdas_dataset_options {
    size_t  size;
    int32_t bad_file;    /* kdas_bad_file; default REFUSE */
    int32_t unlabelled;  /* 1: there are no masks; default 0. Since 0.4 */
    size_t  cache;       /* memory for decoded frames, bytes; default 2 GiB */
    int32_t mask_rule;   /* kdas_mask_rule: what is polyp in a mask; default AUTO. Since 0.4 */
    int32_t allow_empty; /* 1: take a set whose masks are all empty; default 0. Since 0.4 */
    /* A text file with the names of the frames to read, one in a line; NULL (default): all. A name
     * may have its ending, and may be a path through the folder of images ("images/a.jpg"). What
     * follows a blank or a comma is ignored if the whole line is no frame. A name without a frame
     * is a bad file. Not kept. Since 0.4 */
    const char *list;
    /* 1 (default): decode every frame while opening, so that a damaged file is a bad file. The
     * context's threads share the work; frames that fit the cache stay decoded. 0: read headers
     * alone, and the masks as far as `mask_rule` needs them. Since 0.4 */
    int32_t check;
    /* 1: resize masks (predictions) whose size differs from their images' (masks'), by a triangle
     * filter; masks are thresholded at one half. Default 0: they are bad files. Since 0.4 */
    int32_t fit_masks;
} kdas_dataset_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_dataset_options_init(kdas_dataset_options *options, size_t size);

/* Open the folders DIR/images and DIR/masks. Other names are found too, in capitals or not: image,
 * imgs, Frame, Frames, Original; mask, GT, Ground Truth. Folders in them are read as well. A
 * frame's name is its path below the folder without the ending ("case1/a"), in composed Unicode
 * (NFC). Images and masks are matched by name and sorted by the bytes of their names. An image's
 * size must be its mask's, both as they are seen (EXIF). Hidden files and what systems leave in
 * folders (__MACOSX, @eaDir, Thumbs.db, desktop.ini) are ignored; other files without an image's
 * ending are logged. An image type that the library cannot read is a bad file. With `mask_rule`
 * AUTO the masks decide together by which rule they are read (since 0.4); a rule other than BRIGHT
 * is logged. A set without any polyp is refused unless `allow_empty`. With `unlabelled`, only the
 * folder of images or else DIR itself is read, and frames have no masks. KDAS_ENOTFOUND (folder, no
 * images, a name of the list), KDAS_EFORMAT (file, two files with one name, no frame left, no clear
 * rule for the masks, no polyp), KDAS_ESHAPE (mask size differs, no mask, no image),
 * KDAS_EUNSUPPORTED (TIFF, built without it), KDAS_ECANCELLED, KDAS_EIO, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_dataset_open(kdas_dataset **out, kdas_context *context, const char *dir,
                                       const kdas_dataset_options *options);

/* Whether datasets ignore a file or folder of this name, without a path: 1 for hidden ones (not "."
 * and "..") and for what systems leave in folders, else 0; 1 for NULL. For hosts that list folders.
 * Since 0.4. */
KDAS_API int32_t kdas_dataset_ignores(const char *name);

/* Open a folder of predictions, images of probabilities times 255, with a folder of their masks,
 * for kdas_evaluate_predictions(): the dataset's images are the predictions, its masks the masks. A
 * mask NAME is matched with the prediction NAME, else with NAME_probability or NAME_mask, as
 * kdas-segment writes them. Each mask needs a prediction; predictions without a mask are logged and
 * ignored. `masks` may also be a folder that holds the folder of masks. Options and errors as
 * kdas_dataset_open(); KDAS_EINVAL with `unlabelled`. Since 0.4. */
KDAS_API kdas_status kdas_dataset_open_predictions(kdas_dataset **out, kdas_context *context,
                                                   const char *predictions, const char *masks,
                                                   const kdas_dataset_options *options);

/* Which folders of a collection are for training and which for testing. */
typedef struct kdas_layout kdas_layout;
/* Look into the folder `dir`. For training: DIR/TrainDataset (or train, training), else DIR itself
 * if it has images and masks, with a line in the log. For testing: DIR/TestDataset (or test,
 * testing, Test...Dataset) is one set if it has images and masks; each folder in it is a set. No
 * test set is needed. Names are found in capitals or not. The sets are not opened.
 * KDAS_ENOTFOUND (the sentence says what was found and what is wanted), KDAS_EINVAL, KDAS_EIO,
 * KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_layout_find(kdas_layout **out, kdas_context *context, const char *dir);
/* NULL is fine. Since 0.4. */
KDAS_API void kdas_layout_destroy(kdas_layout *layout);
/* The folder for training, for kdas_dataset_open(); valid while the layout lives. Since 0.4. */
KDAS_API const char *kdas_layout_train(const kdas_layout *layout);
/* Number of test sets (NULL: 0). Since 0.4. */
KDAS_API int64_t kdas_layout_tests(const kdas_layout *layout);
/* Folder and name of test set `i`; NULL out of range and for NULL. Since 0.4. */
KDAS_API const char *kdas_layout_test(const kdas_layout *layout, int64_t i);
KDAS_API const char *kdas_layout_test_name(const kdas_layout *layout, int64_t i);

/* Synthetic colonoscopy-like frames with masks; the seed determines them. */
typedef struct kdas_scene_options {
    size_t   size;
    uint64_t seed;          /* default 1 */
    int64_t  count;         /* frames, 1 to 2^31 - 1; default 64 */
    int64_t  width, height; /* pixels, 32..4096; default 352 x 352 */
    float    empty;         /* share of frames without a polyp; default 0 */
    float    contrast;      /* between polyps and mucosa, 0..1; default 0.5 */
} kdas_scene_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_scene_options_init(kdas_scene_options *options, size_t size);
/* Create a dataset of scenes, drawn on use. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_dataset_synthetic(kdas_dataset **out, kdas_context *context,
                                            const kdas_scene_options *options);
/* Draw scene `i`: an RGB8 frame and its GREY8 mask (0 or 255), both owned by the caller. `options`
 * may be NULL (defaults). KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_scene_draw(kdas_image **image, kdas_image **mask, kdas_context *context,
                                     int64_t i, const kdas_scene_options *options);

/* Split a dataset at random, by seed: `part` gets a share of the frames, 0 to 1, and `rest` the
 * others, both in the original order. The count is rounded to nearest; if there are two frames or
 * more, a share strictly between 0 and 1 leaves neither empty. Both share teacher maps, decoded
 * frames and their memory limit with `from`, which may be destroyed first. A part without any polyp
 * beside one with some is logged as a warning (since 0.4). KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_dataset_split(kdas_dataset **rest, kdas_dataset **part,
                                        const kdas_dataset *from, double share, uint64_t seed);
/* Concatenate two datasets: all frames of `a`, then all of `b`. The result shares decoded frames
 * and memory limits with both, which may be destroyed first. KDAS_EINVAL (contexts differ, or only
 * one has teacher maps), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_dataset_join(kdas_dataset **out, const kdas_dataset *a,
                                       const kdas_dataset *b);
/* Add teacher maps from the folder `dir`, one file per frame, where NAME is the frame's name, which
 * may be a path below the folder:
 *   NAME.png          grey, 8 or 16 bits: probability times 255 or 65535;
 *   NAME.safetensors  logits, floats: tensor "P1" or the only one, (H,W), with any leading ones.
 * Other files are ignored. A map covers the whole frame and may have any size. With several folders
 * (several calls), a frame's map is the mean of the probabilities, at the largest size. Headers are
 * read now. Files are decoded now until one has two different values; a folder of constant maps
 * only is refused. Later decoding shares the frames' memory limit, and its errors come from the
 * loader. Datasets split or joined from this one earlier do not change. Not while a loader uses the
 * dataset. KDAS_ENOTFOUND (folder; maps of some frames), KDAS_EFORMAT (damaged, colour or wrong
 * shape; two files for one frame; only constant maps), KDAS_EINVAL (two frames with one name),
 * KDAS_EIO, KDAS_ENOMEM; on failure the maps are unchanged. Since 0.4. */
KDAS_API kdas_status kdas_dataset_add_maps(kdas_dataset *dataset, const char *dir);
/* Number of map folders added (NULL: 0, here and below). Since 0.4. */
KDAS_API int64_t kdas_dataset_maps(const kdas_dataset *dataset);
/* Number of frames without a mask. Since 0.4. */
KDAS_API int64_t kdas_dataset_unlabelled(const kdas_dataset *dataset);
/* Write a map for kdas_dataset_add_maps() from (height,width) logits. If `path` ends in
 * .safetensors, logits are written as tensor "P1"; else a PNG of 16-bit probabilities. The file is
 * complete or unchanged. KDAS_EINVAL (range; a logit is not finite), KDAS_EIO, KDAS_ENOMEM.
 * Since 0.4. */
KDAS_API kdas_status kdas_map_save(kdas_context *context, const char *path, const float *logits,
                                   int64_t height, int64_t width);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_dataset_destroy(kdas_dataset *dataset);
/* The context that it was opened in. NULL for NULL. Since 0.4. */
KDAS_API kdas_context *kdas_dataset_context(const kdas_dataset *dataset);
/* Number of frames. Since 0.1. */
KDAS_API int64_t kdas_dataset_count(const kdas_dataset *dataset);
/* Number of frames omitted as bad, in the folders that the dataset was opened, split or joined
 * from. Since 0.1. */
KDAS_API int64_t kdas_dataset_skipped(const kdas_dataset *dataset);
/* The rule by which the mask of frame `i` is read; AUTO for a frame that has no mask file, and out
 * of range. Since 0.4. */
KDAS_API kdas_mask_rule kdas_dataset_mask_rule(const kdas_dataset *dataset, int64_t i);
/* Name of omitted frame `i`, and the sentence that says why; valid while the dataset lives. NULL
 * out of range and for NULL. Since 0.4. */
KDAS_API const char *kdas_dataset_skipped_name(const kdas_dataset *dataset, int64_t i);
KDAS_API const char *kdas_dataset_skipped_reason(const kdas_dataset *dataset, int64_t i);
/* Name of a frame: its path below the folder of images, without the ending, in composed Unicode;
 * valid while the dataset lives. NULL out of range. Since 0.1. */
KDAS_API const char *kdas_dataset_name(const kdas_dataset *dataset, int64_t i);
/* Paths of a frame's image file and mask file; valid while the dataset lives. NULL if there is no
 * such file (a scene; a frame without a mask), and out of range. Since 0.4. */
KDAS_API const char *kdas_dataset_image_path(const kdas_dataset *dataset, int64_t i);
KDAS_API const char *kdas_dataset_mask_path(const kdas_dataset *dataset, int64_t i);
/* Hash of the names and sizes of the frames, in order; it identifies the split that a run used.
 * Since 0.4 it also covers which frames have no mask, a mask rule other than BRIGHT, and names and
 * sizes of the map files. Since 0.1. */
KDAS_API uint64_t kdas_dataset_hash(const kdas_dataset *dataset);
/* Decode frame `i`: its RGB8 image and GREY8 mask (0 or 255), or a NULL mask if it has none. The
 * caller owns both. Several threads may call this at once. KDAS_EFORMAT, KDAS_EIO, KDAS_ENOTFOUND
 * (a file damaged or removed after opening; the message names it), KDAS_EINVAL (no such frame),
 * KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_dataset_get(kdas_image **image, kdas_image **mask, kdas_dataset *dataset,
                                      int64_t i);

/* ---- Loader: shuffled, augmented batches, prepared by worker threads ----------------------- */
typedef struct kdas_loader kdas_loader;

typedef struct kdas_loader_options {
    size_t  size;
    int64_t batch;         /* images in a batch, >= 1; default 8 */
    int64_t height, width; /* multiples of 32; default 352 x 352 */
    /* Multi-scale training: each batch is made once per scale, its size rounded to 32. NULL
     * (default): only 1.0. The array is not kept. */
    const float *scales;
    int64_t      scale_count; /* at most 8 */
    uint64_t     seed;        /* of order and augmentation; default 1 */
    int32_t      shuffle;     /* default 1 */
    int32_t      augment;     /* flips and rotation, the same for image and mask; default 1 */
    float        rotation;    /* degrees, uniform in +-, 0..180; default 90 */
    int32_t      drop_last;   /* omit an incomplete last batch; default 0 */
    int32_t      workers;     /* worker threads, 0..64; 0: kdas_loader_next() works; default 1 */
    int32_t      ahead;       /* batches prepared in advance, 1..1024; default 3 */
    /* More augmentation, drawn anew for each frame and epoch, off by default. `augment` = 0
     * switches all of it off. Mask and image get the same geometry. docs/training.md has the
     * formulas. All since 0.4. */
    float scale_min, scale_max; /* zoom about the centre, log-uniform, 0.1..10; default 1, 1 */
    /* Crop and enlarge: smallest area as a share of the frame's, in (0,1], uniform up to 1; default
     * 1 (off). */
    float crop;
    /* The crop's aspect ratio is the frame's times 1/crop_aspect .. crop_aspect, log-uniform, 1..4;
     * default 4/3. */
    float crop_aspect;
    float brightness;           /* factor, uniform in 1 +- this, 0..1; default 0 */
    float contrast, saturation; /* as brightness */
    float hue; /* rotation, uniform in +- this share of a full turn, 0..0.5; default 0 */
    /* Probability of a Gaussian blur; default 0. Sigma is uniform in 0.1..2 pixels at 352 x 352 and
     * proportional at other sizes. */
    float blur;
    /* Probability that a rectangle of 2 to 20 % of the area is filled with the frame's mean colour;
     * default 0. The mask does not change. */
    float cutout;
    /* Share of frames without a polyp in an epoch, 0..1; the epoch's length does not change. With a
     * share, creating the loader reads every mask once. -1 (default): as in the dataset.
     * Since 0.4. */
    float   empty_share;
    int32_t reserved; /* 0 */
    /* Ranks among which each batch is divided: `batch` is then the number of images of each rank, and
     * all ranks name the same options but `workers` and `ahead`. Order and positions are those of one
     * loader with batches of all ranks' images. Of m images rank r of n gets those from r*m/n to below
     * (r+1)*m/n, rounded down, and kdas_batch_count() is their number. A last batch with fewer images
     * than ranks is left out, and logged; fewer frames than ranks are KDAS_EINVAL. Creating the
     * loader is collective, and compares these options and kdas_dataset_hash(); no other call of the
     * loader is: each rank decodes its own frames (with `empty_share`, the masks of all). NULL
     * (default): all images are this process's. Since 0.4. */
    kdas_ranks *ranks;
} kdas_loader_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_loader_options_init(kdas_loader_options *options, size_t size);

/* Create a loader over `dataset`, which must outlive it. If the dataset has teacher maps, so have
 * the batches: maps get the geometry of their frames, and probability 0 outside of them. If it has
 * frames without masks, batches have weights (since 0.4). KDAS_EINVAL, KDAS_ENOMEM; with an
 * empty_share also errors of a mask's file; with ranks KDAS_EBACKEND and KDAS_ESTATE
 * (kdas/ranks.h). Since 0.1. */
KDAS_API kdas_status kdas_loader_create(kdas_loader **out, kdas_dataset *dataset,
                                        const kdas_loader_options *options);
/* NULL is fine. Joins the worker threads. Since 0.1. */
KDAS_API void kdas_loader_destroy(kdas_loader *loader);
/* Number of batches in an epoch, all scales counted (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_loader_batches(const kdas_loader *loader);
/* Size of the batches of scale `i`, from 0: the options' height and width times the scale, rounded
 * to 32. Outputs may be NULL. Returns 1; 0 past the last scale and for NULL. Since 0.4. */
KDAS_API int32_t kdas_loader_size(const kdas_loader *loader, int32_t i, int64_t *height,
                                  int64_t *width);
/* Get the next batch. *out is NULL at the end of an epoch; the following call starts the next
 * epoch. The batch stays valid until the next call, or the next but one on a device that uploads
 * asynchronously (kdas_batch_prefetch; since 0.3). Then a worker may fill it anew at any time: the
 * backward of a forward on it is refused (since 0.4). Its content depends only on seed and
 * position, not on workers. Errors of a frame's file are returned by the call for the batch that
 * contains it; the position does not advance. Call again to retry, or seek to the next position to
 * skip the batch. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_loader_next(kdas_loader *loader, kdas_batch **out);
/* Number of batches returned since creation, ends of epochs not counted (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_loader_position(const kdas_loader *loader);
/* Set the position, >= 0. The next call returns the batch there, also at the start of an epoch.
 * KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_loader_seek(kdas_loader *loader, int64_t position);
/* How many of the returned batches are valid at a time: 1, the last one; or 2, also the one before.
 * 2 on a device that uploads asynchronously: the next batch can be fetched and prefetched during a
 * step. 0 for NULL. Since 0.4. */
KDAS_API int32_t kdas_loader_kept(const kdas_loader *loader);
/* The context of its dataset and its batches. NULL for NULL. Since 0.4. */
KDAS_API kdas_context *kdas_loader_context(const kdas_loader *loader);
/* The dataset it was created for (NULL: NULL). Since 0.4. */
KDAS_API kdas_dataset *kdas_loader_dataset(const kdas_loader *loader);
/* Read the options it was created with, defaults filled in. `scales` belongs to the loader; NULL if
 * none were given. Set `size` first, as kdas_loader_options_init() does. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_loader_get_options(const kdas_loader   *loader,
                                             kdas_loader_options *options);
/* Seconds that kdas_loader_next() has spent waiting for workers, or making batches if there are
 * none (NULL: NaN). Since 0.1. */
KDAS_API double kdas_loader_waited(const kdas_loader *loader);

KDAS_END
#endif
