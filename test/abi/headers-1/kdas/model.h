/* kdas/model.h - networks by name: create, load, save, forward, backward, taps. */
#ifndef KDAS_MODEL_H
#define KDAS_MODEL_H
#include <kdas/data.h>
#include <kdas/ranks.h>
KDAS_BEGIN

/* ---- Names and costs ------------------------------------------------------------------------- */

/* Name of model `i`, such as "polyp_pvt_b0"; NULL past the last. Static. Since 0.1. */
KDAS_API const char *kdas_model_name(int32_t i);

/* How operations are counted; papers differ. MACS: multiply-accumulates of every convolution,
 * linear layer, attention and graph product, without bias. THOP: as the Python counter thop 0.1
 * counts the published modules: no products of attention, and stride^2 too many in transposed
 * convolutions. FVCORE: as the Python counter fvcore: MACS, and norms, resizes and adaptive means
 * (since 0.4). docs/costs.md has the definitions. */
typedef enum kdas_count_rule {
    KDAS_COUNT_MACS   = 0,
    KDAS_COUNT_THOP   = 1,
    KDAS_COUNT_FVCORE = 2
} kdas_count_rule;

/* Cost of a named model for one height x width image (multiples of 32; a network of a fixed size:
 * that one): number of parameters (kdas_model_parameters), and of operations by `rule`. Either
 * output may be NULL. KDAS_EINVAL, KDAS_ENOTFOUND, KDAS_ESHAPE, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_model_cost(kdas_context *context, const char *name, int64_t height,
                                     int64_t width, kdas_count_rule rule, int64_t *parameters,
                                     double *operations);

/* What a network expects and answers, since networks of different authors differ. Set `size`.
 * Colours: every batch has ImageNet's normalised RGB, whatever the network, and the first op of a
 * network with other colours makes them of it. So hosts, exported files and teacher-student pairs
 * need no conversion. Its own colours are for information, and for comparisons with its authors'
 * program: channel c is (v - mean[c]) / deviation[c], in its order, with v in 0..1. */
typedef struct kdas_network {
    size_t      size;
    const char *name;          /* static */
    int64_t     height, width; /* of inputs, where neither the host nor the weights say */
    int32_t     fixed;         /* 1: it takes no other size; 0: any multiples of 32 */
    int32_t     last;          /* 1: its answer is its last map; 0: the sum of its maps */
    const char *colour;        /* order of its own colours, "RGB" or "BGR"; static */
    float       mean[3], deviation[3];
} kdas_network;
/* Describe a network by its name. Any thread. KDAS_EINVAL (NULL, size not set), KDAS_ENOTFOUND.
 * Since 0.4. */
KDAS_API kdas_status kdas_network_describe(const char *name, kdas_network *out);

/* ---- Create, load, save ---------------------------------------------------------------------- */
typedef struct kdas_model kdas_model;

/* Whether the layers of a model are on 8-bit grids. INT8: the inputs of convolutions (without
 * groups, not transposed), depthwise convolutions and linear layers, and of GELU, are the nearest of
 * 256 values of a range, one range for each ("NAME.input_range": low, high); their weights are the
 * nearest of 255 values for each output channel. Training and other contexts simulate that in
 * floats; in a context that computes with integers (KDAS_PRECISION_INT8, _AUTO), inference does. An
 * empty range, such as (0, 0), changes nothing in a simulation, is refused by integers (KDAS_ESTATE), and
 * is set anew by the next batch of a training. */
typedef enum kdas_quantize { KDAS_QUANTIZE_NONE = 0, KDAS_QUANTIZE_INT8 = 1 } kdas_quantize;

typedef struct kdas_model_options {
    size_t   size;
    uint64_t seed; /* of the initial values and of drop path; default 1 */
    /* Rate at the deepest block, rising linearly from 0. transnetr: of its dropouts. Networks whose
     * authors drop nothing ignore it; a rate above 0 that is not the default is then warned of in
     * the log (since 0.4). Default 0.1 */
    float   drop_path;
    int32_t trainable; /* 0: inference only, without memory for gradients; default 1 */
    /* A kdas_quantize: KDAS_QUANTIZE_INT8 makes a model whose layers are on 8-bit grids
     * (docs/int8.md). Default KDAS_QUANTIZE_NONE; kdas_model_open() then takes what the file is.
     * Since 0.4. */
    int32_t quantize;
    /* What one training batch weighs in the ranges of activations, 0 to 1; 0: training leaves the
     * ranges. Default 0.05. Since 0.4. */
    float range_momentum;
    /* Layers that are not on grids, by the names before ".weight", with spaces between; copied. NULL
     * (default): kdas_model_wide_layers() of the network, in kdas_model_open() those of a file whose
     * model is on grids; "": none. KDAS_EINVAL: no layer is left to be on a grid. Since 0.4. */
    const char *wide;
    /* Ranks over which batch norms take their statistics while training, and ranges of grids their
     * extremes: those of all ranks' images, which have one size (KDAS_ESHAPE). A training forward,
     * and its backward, are then collective: all ranks begin each, or tell the others before by
     * kdas_ranks_vote(). A failure of a forward is one of all ranks. The gradient of each rank's
     * outputs is that of what all ranks' images are to minimise together; the sum of the ranks'
     * gradients is then that of one process with all images. NULL (default), and a group of one: each
     * process's own images. Since 0.4. */
    kdas_ranks *ranks;
} kdas_model_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_model_options_init(kdas_model_options *options, size_t size);

/* Create a model with the published initialisation. `options` may be NULL (defaults).
 * KDAS_ENOTFOUND (name; a layer of `wide`), KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_model_create(kdas_model **out, kdas_context *context, const char *name,
                                       const kdas_model_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_model_destroy(kdas_model *model);

typedef struct kdas_load_options {
    size_t      size;
    /* 1: tensors missing from the file keep their values, ranges (see below) included; default 0 */
    int32_t     partial;
    int32_t     extra;   /* 1: ignore tensors that the model does not have; default 0 */
    const char *prefix;  /* prepended to each name of the file, e.g. "backbone."; default NULL */
    /* Load only the part of the model whose names begin with this, e.g. "backbone."; NULL
     * (default): all. Names in the file without it get it prepended. Tensors that the part does not
     * have, such as a classifier, are ignored. The file must have every tensor of the part, except
     * batch counters and those that no op reads (kdas_model_idle). The rest of the model does not
     * change. "backbone." is the backbone of every network that has one, also where its names begin
     * with another word ("resnet.", "hardnet."). Cannot be combined with `prefix`. Since 0.4. */
    const char *part;
    /* Which of several sets of weights in a file to load. A .pth file may hold several dictionaries
     * of tensors: the keys that lead to one, such as "model", "state_dict_ema" or "ema.module"; ""
     * is the outermost. A dictionary, or a safetensors file, may hold several networks under
     * different words in front of their names: those words, such as "student" or "model.teacher";
     * other tensors then do not count. Both can stand together, with a full stop between. NULL
     * (default): the dictionary that fits the model best, all of it. Has no meaning for a file with
     * one set that has no such words. Since 0.4. */
    const char *entry;
    /* 1: load EfficientNet-Lite's published stem as it is, for pixels as (x - 127) / 128. Default
     * 0: it is rewritten for ImageNet's normalisation. Since 0.4. */
    int32_t as_published;
    int32_t reserved; /* 0 */
} kdas_load_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_load_options_init(kdas_load_options *options, size_t size);

/* Load a file of weights: safetensors, or PyTorch's .pth (since 0.4), told by its content. Its
 * names are those of the published state_dict. On failure the model is unchanged.
 *
 * .pth: what torch.save wrote, in both of its forms, of any version but those before 0.1.10. The
 * pickle in it is read as data; nothing of it is run. A whole module is refused, since it needs its
 * Python code. Values of any real or integer type become float.
 * Dictionaries: tensors may be in the outermost dictionary or in one inside it, up to 4 deep, under
 * any keys ("model", "state_dict", "ema"). The one of which most tensors fit the model, by name and
 * shape, is loaded. If two fit equally, the file is refused and the message lists them: see
 * `entry`, which also chooses among networks in one flat dictionary.
 * Names: words in front that ALL names of the dictionary have ("module.", "_orig_mod.",
 * "model.student.", up to 6) are taken off, one after the other, as far as more tensors fit then.
 * Names of PVTv2 of timm ("stages.0.blocks.0...") and of Hugging Face's transformers
 * ("encoder.layers.0.blocks.0...", its keys and values joined) are translated, if more tensors fit
 * then. `prefix` and `part` apply to the names that result. Batch counters may be missing if the
 * file has none.
 * Values: a NaN, an infinity or a negative running variance is refused (since 0.4).
 * Grids: weights in 8 bits become the floats that they stand for. A load of all values without `partial`
 * empties the ranges that the file does not have; ranges that the model does not have are left out, and
 * the log says so. So weights of either kind load into a model of either. A file whose fact
 * "quantization" is of no known kind is refused, and so is a number below -127 (since 0.4).
 * A tensor that no op reads (kdas_model_idle), such as the classifier of a backbone, may be missing
 * or have another shape: the model then keeps its own values, and the log says so (since 0.4).
 *
 * KDAS_EIO; KDAS_EFORMAT (a damaged file, or one of another kind, which the message names, with
 * what to do); KDAS_ENOTFOUND (a tensor is missing or unknown; no such part or entry), KDAS_ESHAPE:
 * the message names file and tensor, and the network that the tensors fit, if there is one;
 * KDAS_EINVAL (several dictionaries fit). Since 0.4 a load of all values takes the facts of the
 * file, too; a .pth file has none. Since 0.1. */
KDAS_API kdas_status kdas_model_load(kdas_model *model, const char *path,
                                     const kdas_load_options *options);
/* Save as safetensors, atomically, with the facts (see below). PyTorch loads the file with
 * load_state_dict. KDAS_EIO, KDAS_ENOMEM; KDAS_ENUMERIC (since 0.4): a value that
 * kdas_model_load() would refuse, which the message names; the old file stays. Since 0.1. */
KDAS_API kdas_status kdas_model_save(const kdas_model *model, const char *path);
/* Copy all values and facts of `from` to `to`, a model of the same name. Either may be on grids
 * (kdas_model_options.quantize), with any wide layers: ranges that `from` does not have become empty in
 * `to`, and those that `to` does not have are left out. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_model_copy(kdas_model *to, const kdas_model *from);

/* The name it was created by, as in kdas_model_name(), and its context. NULL for NULL.
 * Since 0.4. */
KDAS_API const char   *kdas_model_network(const kdas_model *model);
KDAS_API kdas_context *kdas_model_context(const kdas_model *model);

/* Create the model that a file of weights is of, and load it: kdas_model_create() and
 * kdas_model_load(). `network` NULL: the one that the file names; a .pth file names none. `options`
 * and `load` may be NULL (defaults).
 * KDAS_EINVAL (the file is of another network than `network`), KDAS_ENOTFOUND (it names none, and
 * `network` is NULL), and as those two. Since 0.4. */
KDAS_API kdas_status kdas_model_open(kdas_model **out, kdas_context *context, const char *network,
                                     const char *path, const kdas_model_options *options,
                                     const kdas_load_options *load);
/* The layers that a network keeps off grids by default, as in kdas_model_options.wide: its first and
 * last ones, by measurement. Static; NULL if there is no such network. Since 0.4. */
KDAS_API const char *kdas_model_wide_layers(const char *network);
/* Whether its layers are on grids (a kdas_quantize), and the layers that are not: "" if all are, and
 * without grids. Valid while the model lives. NULL: KDAS_QUANTIZE_NONE, NULL. Since 0.4. */
KDAS_API kdas_quantize kdas_model_quantized(const kdas_model *model);
KDAS_API const char   *kdas_model_wide(const kdas_model *model);
/* Keep the ranges of a model on grids as they are: from now on its training forwards move none
 * (`held` 1), or move them again by range_momentum (0, as at first). Empty ranges stay empty, which
 * round nothing. The model is compiled anew, so its outputs are lost; where nothing changes,
 * nothing is done. Without grids it has no effect. KDAS_EINVAL (NULL). Not while another thread
 * uses the model. Since 0.4. */
KDAS_API kdas_status kdas_model_hold_ranges(kdas_model *model, int32_t held);
/* Whether training leaves them, also because range_momentum is 0 (NULL, and without grids: 0). Since
 * 0.4. */
KDAS_API int32_t kdas_model_ranges_held(const kdas_model *model);
/* How many ranges a model on grids has, and how many of them are empty, because no batch has set
 * them; both 0 without grids. Either result may be NULL. Waits for the device. KDAS_EINVAL (NULL),
 * KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_model_count_ranges(const kdas_model *model, int32_t *all, int32_t *empty);
/* Path of file `i` that the values were loaded from, as it was given, the oldest first: a load of
 * all values forgets those before it. NULL past the last and for NULL. Since 0.4. */
KDAS_API const char *kdas_model_source(const kdas_model *model, int32_t i);

/* ---- Facts: what weights know of themselves --------------------------------------------------
 * Texts by key. kdas_model_save() and checkpoints store them with the values, in a safetensors file
 * as metadata "kdas.KEY". A load of all values replaces the model's facts by the file's; a load of
 * some values (kdas_load_options.partial, .part) keeps them. kdas_model_copy() copies them too.
 * A model has at most 256. Key: 1 to 64 of A-Z a-z 0-9 . _ -. Value: at most 4096 bytes of UTF-8
 * without control characters; numbers have a decimal point. Keys with a meaning:
 *   height, width         of the input that the weights were trained for: "352"
 *   mean, deviation       subtracted from and divided into each colour of 0..1: KDAS_INPUT_MEAN
 *   colour                order of the colours: KDAS_INPUT_COLOUR
 *   threshold             probability from which a pixel is polyp: "0.5"
 *   training_frames, validation_frames
 *                         kdas_dataset_hash() of the sets, 16 hexadecimal digits
 *   objective             the preset, and what differs from it: "kdas, tau 4"
 *   epoch, validation_dice  the epoch (from 1) and its mean Dice at 0.5
 *   seed                  of the run
 * The first step of a distiller writes height to colour and objective, and removes the others,
 * which were those of loaded weights; kdas_train() writes all. What the host sets stays: neither
 * replaces it, nor does kdas_checkpoint_restore(). Hosts may use other keys. "network", "version",
 * "format", "quantization" ("int8": layers are on 8-bit grids) and "wide" (those that are not) are those
 * of each file (kdas_file_fact): a model has none. */
#define KDAS_INPUT_MEAN      "0.485 0.456 0.406"
#define KDAS_INPUT_DEVIATION "0.229 0.224 0.225"
#define KDAS_INPUT_COLOUR    "RGB"
#define KDAS_DEFAULT_SIDE    352 /* of inputs, where neither the host nor the weights say */

/* Set a fact, or remove it (`value` NULL). Key and value are copied. KDAS_EINVAL (key, value, too
 * many), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_model_set_fact(kdas_model *model, const char *key, const char *value);
/* The same, but a value that the host has set with kdas_model_set_fact() stays. For training loops
 * that know something by themselves. KDAS_EINVAL, KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_model_default_fact(kdas_model *model, const char *key, const char *value);
/* A fact by its key; or fact `i` in byte order of the keys, with its key (`key` may be NULL). Valid
 * until the next call that changes facts or loads. NULL if there is none, and for NULL.
 * Since 0.4. */
KDAS_API const char *kdas_model_fact(const kdas_model *model, const char *key);
KDAS_API const char *kdas_model_fact_at(const kdas_model *model, int32_t i, const char **key);
/* Size of the input by the facts height and width, if both are multiples of 32 in range: returns 1.
 * The only size of a network that takes one (kdas_network.fixed): returns 1. Else
 * KDAS_DEFAULT_SIDE for both: returns 0 (also for NULL). Outputs may be NULL. Since 0.4. */
KDAS_API int32_t kdas_model_input_size(const kdas_model *model, int64_t *height, int64_t *width);
/* The fact threshold if it is a number from 0 to 1, else 0.5 (NULL: NaN). Since 0.4. */
KDAS_API float kdas_model_threshold(const kdas_model *model);

/* ---- Files: what a file is, by its content --------------------------------------------------- */
typedef struct kdas_file kdas_file;

typedef enum kdas_file_kind {
    KDAS_FILE_WEIGHTS    = 0, /* safetensors, of this library or any other program */
    KDAS_FILE_CHECKPOINT = 1, /* of a run, see kdas_checkpoint_open() */
    KDAS_FILE_PYTORCH    = 2  /* a .pth file */
} kdas_file_kind;

/* Open a file and read its header; values are not read. The handle keeps the file open. What it
 * returns is valid while it lives. KDAS_ENOTFOUND (no such file), KDAS_EIO, KDAS_EFORMAT (another
 * kind of file, or damaged), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_file_open(kdas_file **out, kdas_context *context, const char *path);
/* NULL is fine. Since 0.4. */
KDAS_API void kdas_file_destroy(kdas_file *file);
/* A kdas_file_kind (NULL: KDAS_FILE_WEIGHTS). Since 0.4. */
KDAS_API kdas_file_kind kdas_file_type(const kdas_file *file);
/* The network that the file names, as in kdas_model_name(): of its values, in a checkpoint of the
 * student. NULL if it names none, and for NULL. Since 0.4. */
KDAS_API const char *kdas_file_network(const kdas_file *file);
/* A fact by its key, those of kdas_model_fact() and, of the file itself, network, version (of the
 * library that wrote it) and format (of the facts, "1"). NULL if there is none, and for NULL.
 * Since 0.4. */
KDAS_API const char *kdas_file_fact(const kdas_file *file, const char *key);
/* Text `i` of the metadata, with its key as it stands in the file, facts among them, in no order.
 * `key` may be NULL. NULL past the last and for NULL. Since 0.4. */
KDAS_API const char *kdas_file_text(const kdas_file *file, int64_t i, const char **key);
/* Name of dictionary `i` of a .pth file, for kdas_load_options.entry; "" is the outermost. NULL
 * past the last, for other files, and for NULL. Since 0.4. */
KDAS_API const char *kdas_file_entry(const kdas_file *file, int32_t i);
/* Name of tensor `i`, in byte order; in a .pth file, of the dictionary that has the most. The
 * outputs may be NULL: its type as in the file ("F32"), its rank (0..8), and dims (room for 8).
 * NULL past the last and for NULL. Since 0.4. */
KDAS_API const char *kdas_file_tensor(const kdas_file *file, int64_t i, const char **type,
                                      int32_t *rank, int64_t *dims);

/* ---- Tensors: parameters and buffers, in PyTorch's axis order -------------------------------- */
/* Number of parameters, and number of tensors (NULL: 0). Parameters are the trainable values, and
 * those of layers that a published network has but never runs (kdas_model_idle), as in the numbers
 * that its authors print. Since 0.1. */
KDAS_API int64_t kdas_model_parameters(const kdas_model *model);
KDAS_API int32_t kdas_model_tensors(const kdas_model *model);
/* Name of tensor `i`, valid while the model lives; NULL past the last and for NULL. The outputs may
 * be NULL: rank (0..4), dims (room for 4), and whether it is trainable. Since 0.1. */
KDAS_API const char *kdas_model_tensor(const kdas_model *model, int32_t i, int32_t *rank,
                                       int64_t *dims, int32_t *trainable);
/* Whether no op reads tensor `i`: 1 for a parameter or buffer of a layer that the published network
 * has but never runs. Files have it, so that they can be exchanged; one that lacks it can be loaded
 * all the same. It is not trainable. 0 for all others, past the last, and for NULL. Since 0.4. */
KDAS_API int32_t kdas_model_idle(const kdas_model *model, int32_t i);
/* Find a tensor by name; -1 if there is none. Since 0.1. */
KDAS_API int32_t kdas_model_find(const kdas_model *model, const char *name);
/* Copy a tensor's values to or from host memory of its size. KDAS_EINVAL (also a number of batches
 * that is not 0 to 2^53). Since 0.1. */
KDAS_API kdas_status kdas_model_read(const kdas_model *model, int32_t i, float *to);
KDAS_API kdas_status kdas_model_write(kdas_model *model, int32_t i, const float *from);
/* *hash: of the names, shapes and values of all tensors, in order. Two models of equal hash compute
 * the same; a run keeps that of its teacher (kdas_train). On failure *hash is unchanged.
 * KDAS_EINVAL (NULL), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_model_hash(const kdas_model *model, uint64_t *hash);
/* Copy the accumulated gradient. KDAS_EINVAL, KDAS_ESTATE (not trainable). Since 0.1. */
KDAS_API kdas_status kdas_model_read_gradient(const kdas_model *model, int32_t i, float *to);
/* Set all gradients to zero. KDAS_EINVAL, KDAS_ESTATE (not trainable). Since 0.1. */
KDAS_API kdas_status kdas_model_zero_gradients(kdas_model *model);
/* Number of calls of kdas_model_zero_gradients() (NULL: 0). If it has changed, earlier gradients
 * are gone. Since 0.4. */
KDAS_API uint64_t kdas_model_zeroed(const kdas_model *model);

/* ---- Run ------------------------------------------------------------------------------------- */

/* INFER saves nothing for a backward. EVAL uses running statistics and can be differentiated. TRAIN
 * uses batch statistics, updates the running ones and draws drop path. */
typedef enum kdas_mode { KDAS_MODE_INFER = 0, KDAS_MODE_EVAL = 1, KDAS_MODE_TRAIN = 2 } kdas_mode;

/* Check that the network takes images of this size, without a forward: multiples of 32, and the one
 * size of a network that has one (kdas_network.fixed). KDAS_EINVAL (NULL), KDAS_ESHAPE (the
 * message names network and size). Since 0.4. */
KDAS_API kdas_status kdas_model_check_size(const kdas_model *model, int64_t height, int64_t width);
/* Run the batch's images through the network. Height and width: see kdas_model_check_size(). The
 * first run of a size and mode compiles it.
 * Batch: its images are read on the device if kdas_batch_upload() put them there, else uploaded, or
 * read in place if device memory is host memory. Do not change the batch until the backward has
 * run. If a call has changed or destroyed it (kdas_batch_set() and others, kdas_batch_resize(), the
 * loader's next kdas_loader_next() or kdas_loader_seek()), the backward is refused; writes through
 * kdas_batch_images() are not detected.
 * Outputs: valid until the model runs again, keeps another tap, or reallocates for a larger size. A
 * forward refused for its arguments leaves the previous outputs. One that fails later leaves no
 * outputs; in TRAIN mode, statistics and random state are then unchanged.
 * Weights (since 0.4): a NaN or an infinity in a tensor that ops read is KDAS_ENUMERIC, and the
 * message names the tensor. They are looked at once after a change: in INFER mode after any, in the
 * others after any but an optimizer's update, whose gradients were looked at.
 * KDAS_ESHAPE, KDAS_ENOMEM, KDAS_ECANCELLED, KDAS_ENUMERIC; KDAS_ESTATE (integers, and a range of the
 * model is empty). Since 0.1. */
KDAS_API kdas_status kdas_model_forward(kdas_model *model, kdas_mode mode, kdas_batch *batch);
/* Number of outputs, shallow to deep; known before the first forward (NULL: 0). Segmentation
 * networks have "P1", "P2" ... (N,H,W,1), pvt_v2 "x1" to "x4". Since 0.1. */
KDAS_API int32_t kdas_model_outputs(const kdas_model *model);
/* Number of one-channel output maps, which objectives compare; known before the first forward. 0 if
 * the outputs are features (NULL: 0). Since 0.4. */
KDAS_API int32_t kdas_model_maps(const kdas_model *model);
/* Index of the first map of the network's answer: its prediction is the sigmoid of the sum of the
 * maps from this one to the last. 0 in networks that answer with the sum of all maps (polyp_pvt);
 * kdas_model_maps() - 1 in those whose last map is the answer (PraNet, UNet++ with deep
 * supervision), and whose others only help to train. 0 without maps, and for NULL. Since 0.4. */
KDAS_API int32_t kdas_model_answer(const kdas_model *model);
/* Number that identifies the outputs and kept taps of the last forward. If it has changed, they are
 * gone. 0: there are none (NULL: 0). Since 0.4. */
KDAS_API uint64_t kdas_model_generation(const kdas_model *model);
/* The batch of the last forward, while a backward could still read it. NULL if a call has changed
 * or destroyed the batch, if the outputs are gone, after a segmenter's frame, and for NULL.
 * Since 0.4. */
KDAS_API kdas_batch *kdas_model_batch(const kdas_model *model);
/* Name and dims (N,H,W,C) of output `i`; `dims` may be NULL. The name is valid while the model
 * lives. Returns NULL past the last, before a forward, and for NULL. Since 0.1. */
KDAS_API const char *kdas_model_output(const kdas_model *model, int32_t i, int64_t *dims);
/* Copy an output or a kept tap to host memory. KDAS_ENOTFOUND, KDAS_ESTATE (no forward, or its
 * outputs are gone). Since 0.1. */
KDAS_API kdas_status kdas_model_read_output(const kdas_model *model, const char *name, float *to);
/* Run the backward of the last forward (EVAL or TRAIN), once, and accumulate into the parameters'
 * gradients. gradients[i] is the gradient of output i; NULL uses the gradient already stored at the
 * output, which is zero at first. `gradients` may be NULL (since 0.4): all are the stored ones, as
 * kdas_loss_run() leaves them. If it fails, the parameters' gradients are incomplete, and updates
 * return KDAS_ESTATE until kdas_model_zero_gradients().
 * The batch of the forward is read again: it must be unchanged. KDAS_ESTATE, and nothing changes:
 * no forward, or its outputs, or its images on the device, are gone; a call has changed or
 * destroyed the batch (since 0.4). Writes through kdas_batch_images(), or to the floats of
 * kdas_batch_wrap(), are not detected: the gradients are then of neither content. Since 0.1. */
KDAS_API kdas_status kdas_model_backward(kdas_model *model, const float *const *gradients);

/* Save what a training forward changes besides outputs: running statistics, batch counters, random
 * state. Roll back to it if a micro-batch of an update fails. A model has one mark, the last; a
 * distiller sets its student's. The first call allocates. KDAS_EINVAL, KDAS_ENOMEM, KDAS_EBACKEND.
 * Since 0.4. */
KDAS_API kdas_status kdas_model_mark(kdas_model *model);
/* Restore the marked state, any number of times. Gradients do not change (see
 * kdas_model_zero_gradients). If an update, a load or the host has written parameters since the
 * mark, nothing is restored. KDAS_ESTATE (no mark). Since 0.4. */
KDAS_API kdas_status kdas_model_rollback(kdas_model *model);

/* ---- Taps: intermediate values, for feature distillation ------------------------------------- */
/* Name of tap `i`, valid while the model lives; NULL past the last and for NULL. Since 0.1. */
KDAS_API const char *kdas_model_tap(const kdas_model *model, int32_t i);
/* Keep a tap's value in later forwards. All compiled sizes are discarded. KDAS_ENOTFOUND.
 * Since 0.1. */
KDAS_API kdas_status kdas_model_keep_tap(kdas_model *model, const char *name);
/* Dims (N,H,W,C) of a kept tap or an output after a forward. KDAS_ESTATE, KDAS_ENOTFOUND.
 * Since 0.1. */
KDAS_API kdas_status kdas_model_tap_dims(const kdas_model *model, const char *name, int64_t *dims);
/* Add a gradient at a kept tap, between forward and backward. Multiply it by the loss scale, if one
 * is in use (kdas_optim_loss_scale). KDAS_EINVAL, KDAS_ENOTFOUND, KDAS_ESTATE. Since 0.1. */
KDAS_API kdas_status kdas_model_add_gradient(kdas_model *model, const char *name,
                                             const float *gradient);

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Free compiled sizes except the `keep` most recently used (0: free all), and activation memory
 * that those do not need; the last forward's outputs are lost with it. A freed size is compiled
 * again when needed. By default a model keeps 32 pairs of size and mode. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_model_trim(kdas_model *model, int32_t keep);

#ifdef KDAS_EXPERIMENTAL
/* ---- Layers and memory, experimental --------------------------------------------------------- */

/* Layers of a network for one height x width image: its ops in execution order. */
typedef struct kdas_layers kdas_layers;

/* One op of the network. */
typedef struct kdas_layer {
    size_t      size;       /* set it to sizeof before the call */
    const char *name;       /* "backbone.block1.0.attn.q.linear"; valid while the list lives */
    const char *op;         /* "linear"; static */
    int64_t     dims[4];    /* (N,H,W,C) of its output, N = 1 */
    int64_t     parameters; /* number of trainable values that it reads */
    double      macs, thop, fvcore; /* its operations, see kdas_count_rule */
} kdas_layer;

/* List the layers; height and width are multiples of 32. The list belongs to the context and not to
 * the model, which may be changed or destroyed first. Time and memory are linear in the number of
 * layers. KDAS_EINVAL, KDAS_ESHAPE, KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_layers_create(kdas_layers **out, const kdas_model *model, int64_t height,
                                        int64_t width);
/* NULL is fine. Since 0.4. */
KDAS_API void kdas_layers_destroy(kdas_layers *layers);
/* Number of layers (NULL: 0). Since 0.4. */
KDAS_API int32_t kdas_layers_count(const kdas_layers *layers);
/* Read layer `i`, from 0. KDAS_EINVAL (NULL, or size not set), KDAS_ENOTFOUND (past the last).
 * Since 0.4. */
KDAS_API kdas_status kdas_layers_at(const kdas_layers *layers, int32_t i, kdas_layer *out);
/* Memory that this size and mode needs, in bytes. `arena`: activations and gradients; all sizes
 * share one arena. `packed`: weights in the kernels' layout; sizes share most of them. Compiles the
 * size if necessary. Either output may be NULL. KDAS_EINVAL, KDAS_ESHAPE, KDAS_ENOMEM.
 * Since 0.1. */
KDAS_API kdas_status kdas_model_memory(kdas_model *model, kdas_mode mode, int64_t count,
                                       int64_t height, int64_t width, size_t *arena,
                                       size_t *packed);
#endif /* KDAS_EXPERIMENTAL */

KDAS_END
#endif
