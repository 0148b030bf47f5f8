/* kdas/model.h - networks by name: make, load, save, run forward and backward; layers, memory. */
#ifndef KDAS_MODEL_H
#define KDAS_MODEL_H
#include <kdas/data.h>
KDAS_BEGIN

/* ---- What there is ------------------------------------------------------------------------------ */

/* Name of model `i`, "pvt_v2_b0" ... "lite_fpn4"; NULL past the last. Static. Since 0.1. */
KDAS_API const char *kdas_model_name(int32_t i);

/* How operations are counted. MACS: multiply-accumulates of every convolution, linear and attention or
 * graph product, no bias. THOP: as the Python counter thop 0.1 counts the published modules. */
typedef enum kdas_count_rule { KDAS_COUNT_MACS = 0, KDAS_COUNT_THOP = 1 } kdas_count_rule;

/* Cost of a named model for one height x width image (multiples of 32): trainable parameters and operations
 * by `rule`. Either output may be NULL. KDAS_EINVAL, KDAS_ENOTFOUND, KDAS_ESHAPE, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_model_cost(kdas_context *context, const char *name, int64_t height,
                                     int64_t width, kdas_count_rule rule, int64_t *parameters,
                                     double *operations);

/* ---- Make, load, save --------------------------------------------------------------------------- */
typedef struct kdas_model kdas_model;

typedef struct kdas_model_options {
    size_t   size;
    uint64_t seed;      /* of the initial values and of drop path; default 1                  */
    float    drop_path; /* rate of the deepest block, rising linearly from 0; default 0.1     */
    int32_t  trainable; /* 0: no memory for gradients, inference alone; default 1             */
} kdas_model_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_model_options_init(kdas_model_options *options, size_t size);

/* Make a model with the published initialisation. KDAS_ENOTFOUND (name), KDAS_EINVAL, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_model_create(kdas_model **out, kdas_context *context, const char *name,
                                       const kdas_model_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_model_destroy(kdas_model *model);

typedef struct kdas_load_options {
    size_t      size;
    int32_t     partial; /* 1: tensors missing from the file keep their values; default 0    */
    int32_t     extra;   /* 1: tensors that the model lacks are passed over; default 0       */
    const char *prefix;  /* put before each name of the file, e.g. "backbone."; default NULL */
    /* Load one part of the model, whose names begin with this, e.g. "backbone."; default NULL: all of it.
     * Names of the file that lack the beginning are given it. Tensors of the file that the part lacks, such
     * as a classifier, are passed over; each of the part must be there, but for counters of batches; the
     * rest of the model keeps its values. Not together with `prefix`. Since 0.4. */
    const char *part;
} kdas_load_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_load_options_init(kdas_load_options *options, size_t size);

/* Load a safetensors file; names are those of the published state_dict. All or nothing: on failure the model
 * is as it was. KDAS_EIO, KDAS_EFORMAT, KDAS_ENOTFOUND (tensor missing, or not the model's; no such part),
 * KDAS_ESHAPE; the sentence names file and tensor. Since 0.1. */
KDAS_API kdas_status kdas_model_load(kdas_model *model, const char *path,
                                     const kdas_load_options *options);
/* Save as safetensors, atomically; PyTorch loads it with load_state_dict. KDAS_EIO, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_model_save(const kdas_model *model, const char *path);
/* Give `to` the values of `from`, a model of the same name. KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_model_copy(kdas_model *to, const kdas_model *from);

/* What it is made of: the name that it was made by, as kdas_model_name() lists them, and its context. NULL for
 * NULL. Since 0.4. */
KDAS_API const char   *kdas_model_network(const kdas_model *model);
KDAS_API kdas_context *kdas_model_context(const kdas_model *model);

/* ---- Tensors: parameters and buffers, in PyTorch's order of axes --------------------------------- */
/* Trainable numbers, and how many tensors there are (NULL: 0). Since 0.1. */
KDAS_API int64_t kdas_model_parameters(const kdas_model *model);
KDAS_API int32_t kdas_model_tensors(const kdas_model *model);
/* Name of tensor `i`, for the model's life; its rank (0..4), dims (room for 4) and whether it is trainable: outputs that
 * may be NULL. NULL past the last and for NULL. Since 0.1. */
KDAS_API const char *kdas_model_tensor(const kdas_model *model, int32_t i, int32_t *rank,
                                       int64_t *dims, int32_t *trainable);
/* Number of the tensor of that name; -1: there is none. Since 0.1. */
KDAS_API int32_t kdas_model_find(const kdas_model *model, const char *name);
/* Copy values to or from host memory of the tensor's size. KDAS_EINVAL. Since 0.1. */
KDAS_API kdas_status kdas_model_read(const kdas_model *model, int32_t i, float *to);
KDAS_API kdas_status kdas_model_write(kdas_model *model, int32_t i, const float *from);
/* The gradient gathered so far. KDAS_EINVAL; KDAS_ESTATE: not trainable. Since 0.1. */
KDAS_API kdas_status kdas_model_read_gradient(const kdas_model *model, int32_t i, float *to);
/* Drop what was gathered. KDAS_EINVAL; KDAS_ESTATE: not trainable. Since 0.1. */
KDAS_API kdas_status kdas_model_zero_gradients(kdas_model *model);
/* How often that was called (NULL: 0): where it is another number, what was gathered before is gone. Since 0.4. */
KDAS_API uint64_t kdas_model_zeroed(const kdas_model *model);

/* ---- Run ---------------------------------------------------------------------------------------- */

/* INFER keeps nothing for a backward; EVAL uses running statistics and can be differentiated; TRAIN uses
 * batch statistics, updates the running ones and draws drop path. */
typedef enum kdas_mode { KDAS_MODE_INFER = 0, KDAS_MODE_EVAL = 1, KDAS_MODE_TRAIN = 2 } kdas_mode;

/* Run the batch's images through the network. Sides must be multiples of 32. The first run of a size and mode
 * compiles it. The images are read on the device where the batch is there (kdas_batch_upload); else they are uploaded, or,
 * where device memory is the host's, read where they are: in either case the batch stays as it is until a backward has
 * followed. One that a call has changed since, or that was destroyed, is noticed, and the backward refused; what is
 * written through kdas_batch_images() is not. Outputs are there until the model runs again, is given another tap to keep, or makes its memory grow for a
 * larger size. A forward that fails once it has begun leaves none (one that is refused for its
 * arguments leaves those of the last), and in mode TRAIN the statistics and the random state as they were.
 * KDAS_ESHAPE, KDAS_ENOMEM, KDAS_ECANCELLED. Since 0.1. */
KDAS_API kdas_status kdas_model_forward(kdas_model *model, kdas_mode mode, kdas_batch *batch);
/* Outputs of the last forward, shallow to deep: polyp_pvt has "P1" and "P2" (N,H,W,1), lite_fpn "P1", pvt_v2 "x1" to
 * "x4" (NULL: 0). How many there are is known before a forward, too. Since 0.1. */
KDAS_API int32_t kdas_model_outputs(const kdas_model *model);
/* How many maps of one channel it ends in, before any forward, too: what an objective compares. 0 where its outputs are
 * features (NULL: 0). Since 0.4. */
KDAS_API int32_t kdas_model_maps(const kdas_model *model);
/* A number for the outputs and kept taps that the last forward left: where it is another one later, they are not those
 * any more; 0: there are none (NULL: 0). Since 0.4. */
KDAS_API uint64_t kdas_model_generation(const kdas_model *model);
/* The batch that the last forward read, while a backward could read it again; NULL once it was changed by a call or
 * destroyed, or its outputs are gone, and after a segmenter's frame (NULL: NULL). Since 0.4. */
KDAS_API kdas_batch *kdas_model_batch(const kdas_model *model);
/* Name and dims (N,H,W,C; `dims` may be NULL) of an output; NULL past the last, before a forward, and for NULL.
 * Since 0.1. */
KDAS_API const char *kdas_model_output(const kdas_model *model, int32_t i, int64_t *dims);
/* Copy an output, or a tap that is kept, to host memory. KDAS_ENOTFOUND, KDAS_ESTATE (no forward, or its outputs are
 * gone). Since 0.1. */
KDAS_API kdas_status kdas_model_read_output(const kdas_model *model, const char *name, float *to);
/* Backward of the last forward (EVAL or TRAIN), once. gradients[i] belongs to output i, NULL: what lies there, zero at
 * first. `gradients` may be NULL (since 0.4): all as they lie, which is how kdas_loss_run() leaves them. Adds into
 * the parameters' gradients; if it fails, they hold a part, and no update is made of them (KDAS_ESTATE) before
 * kdas_model_zero_gradients(). KDAS_ESTATE without a forward, or once its outputs, or its images on the
 * device, are gone. Since 0.1. */
KDAS_API kdas_status kdas_model_backward(kdas_model *model, const float *const *gradients);

/* Note what a training forward changes besides outputs: running statistics, counters of batches, random state; to go
 * back to it where one of the micro-batches of an update fails. A model has one mark, the last; a distiller sets its
 * student's. The first call takes memory. KDAS_EINVAL, KDAS_ENOMEM, KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_model_mark(kdas_model *model);
/* Go back to the mark, any number of times. Gradients stay (kdas_model_zero_gradients). Where parameters have been
 * written since, by an update, a load or the host, the model is another one, and nothing is put back. KDAS_ESTATE without
 * a mark. Since 0.4. */
KDAS_API kdas_status kdas_model_rollback(kdas_model *model);

/* ---- Taps: values inside the network, for feature distillation ------------------------------------ */
/* Name of tap `i`; NULL past the last and for NULL. Lives as long as the model. Since 0.1. */
KDAS_API const char *kdas_model_tap(const kdas_model *model, int32_t i);
/* Keep a tap's value in later forwards. Programs compiled so far are dropped. KDAS_ENOTFOUND. Since 0.1. */
KDAS_API kdas_status kdas_model_keep_tap(kdas_model *model, const char *name);
/* Dims of a kept tap or output after a forward. KDAS_ESTATE, KDAS_ENOTFOUND. Since 0.1. */
KDAS_API kdas_status kdas_model_tap_dims(const kdas_model *model, const char *name, int64_t *dims);
/* Add a gradient at a kept tap, between forward and backward; under a loss scale (kdas_optim_loss_scale),
 * multiplied by it. KDAS_EINVAL, KDAS_ENOTFOUND, KDAS_ESTATE. Since 0.1. */
KDAS_API kdas_status kdas_model_add_gradient(kdas_model *model, const char *name,
                                             const float *gradient);

/* ---- Memory ---------------------------------------------------------------------------------------- */

/* Let go of compiled sizes, but for the `keep` that were used last (0: all), and of the memory of activations that those
 * do not need, with the last forward's outputs in it. What is needed again is compiled again. By itself a model keeps
 * 32 pairs of a size and a mode. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_model_trim(kdas_model *model, int32_t keep);

#ifdef KDAS_EXPERIMENTAL
/* ---- Layers and memory, experimental --------------------------------------------------------------- */

/* The layers of a network for one height x width image: its ops, in the order in which they run. */
typedef struct kdas_layers kdas_layers;

/* One op of the network. */
typedef struct kdas_layer {
    size_t      size;       /* set it to sizeof before the call */
    const char *name;       /* "backbone.block1.0.attn.q.linear"; lives as long as the list */
    const char *op;         /* "linear"; static */
    int64_t     dims[4];    /* (N,H,W,C) of its output, N being 1 */
    int64_t     parameters; /* trainable numbers that it reads     */
    double      macs, thop; /* its operations, see kdas_count_rule */
} kdas_layer;

/* List the layers, sides being multiples of 32. The list is the context's and independent of the model, which may be
 * changed or destroyed before it; time and memory are linear in the number of layers. KDAS_EINVAL, KDAS_ESHAPE,
 * KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_layers_create(kdas_layers **out, const kdas_model *model, int64_t height,
                                        int64_t width);
/* NULL is fine. Since 0.4. */
KDAS_API void kdas_layers_destroy(kdas_layers *layers);
/* How many there are (NULL: 0). Since 0.4. */
KDAS_API int32_t kdas_layers_count(const kdas_layers *layers);
/* Layer `i`, from 0. KDAS_EINVAL (NULL, or size not set), KDAS_ENOTFOUND past the last. Since 0.4. */
KDAS_API kdas_status kdas_layers_at(const kdas_layers *layers, int32_t i, kdas_layer *out);
/* Bytes that a program of this size needs: activations and gradients, in memory that all sizes take turns with, and
 * weights in the kernels' own layout, most of which sizes share. Compiles it if need be. Either output may be NULL.
 * KDAS_EINVAL, KDAS_ESHAPE, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_model_memory(kdas_model *model, kdas_mode mode, int64_t count,
                                       int64_t height, int64_t width, size_t *arena,
                                       size_t *packed);
#endif /* KDAS_EXPERIMENTAL */

KDAS_END
#endif
