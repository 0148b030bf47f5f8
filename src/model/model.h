/* model.h - the internals of kdas_model, and the definition that a model's file supplies. */
#ifndef KD_MODEL_H
#define KD_MODEL_H
#include <kdas/model.h>
#include "base/context.h"
#include "data/batch.h"
#include "data/upload.h"
#include "graph/program.h"
#include "model/facts.h"
#include "model/state.h"

/* What sets a network apart from the others. */
typedef struct kd_model_rules {
    /* Its own colours, made of ImageNet's normalised RGB, which every batch has. NULL: those. */
    const kdas_recolour_attr *colours;
    int                       side; /* the only side that it takes; 0: any multiple of 32 */
    bool                      last; /* its answer is its last map alone, not the sum of its maps */
    const char *backbone; /* what the names of its backbone begin with; NULL: KD_BACKBONE */
} kd_model_rules;
#define KD_BACKBONE "backbone."

/* Sums of maps, any side, ImageNet's colours. (networks.c) */
extern const kd_model_rules kd_rules_common;

typedef struct kd_model_def {
    const char           *name;
    int                   variant; /* for families that share a build function */
    const kd_model_rules *rules;
    /* Add the network to `g`, including outputs and taps. `image` is (N,H,W,3). */
    void (*build)(kd_graph *g, kd_node *image, int variant, float drop_path);
} kd_model_def;

/* The build functions that models.def names. */
#define MODEL(name, function, variant_, rules_)                                                      \
    void                        function(kd_graph *g, kd_node *image, int variant, float drop_path); \
    extern const kd_model_rules kd_rules_##rules_;
#include "model/models.def"
#undef MODEL

const kd_model_def *kd_model_def_at(int i); /* models.def in order; NULL past the last */
const kd_model_def *kd_model_def_find(const char *name);
/* What the names of the network's backbone begin with, if it has one. */
const char *kd_model_backbone(const kd_model_def *def);

#define KD_MAX_BATCH 4096
#define KD_MAX_SIDE  8192
/* Check that the batch size is within bounds, and that the network takes this size. `def` NULL: the
 * sides are multiples of 32, as every network's are. (rules.c) */
kdas_status kd_check_size(const kd_model_def *def, int64_t n, int64_t h, int64_t w);
/* Side of a graph that is made to learn names and shapes: the smallest that the network takes. */
int64_t kd_model_side(const kd_model_def *def);
/* The model of a record, which may be no row of models.def. Options as in kdas_model_create(). */
kdas_status kd_model_create(kdas_model **out, kdas_context *ctx, const kd_model_def *def,
                            const kdas_model_options *options);
void        kd_network_describe(kdas_network *to, const kd_model_def *def);
/* How a graph of a network is built. Zeros: as published, for inference. */
typedef struct kd_model_form {
    kd_mode      mode;
    float        drop_path;
    bool         grids;    /* its layers are on 8-bit grids */
    bool         watched;  /* and are watched for calibration: kd_graph_watch_grids() */
    float        momentum; /* of their ranges */
    const char  *wide;     /* layers that are not, with spaces between */
    kdas_ranks  *ranks;    /* of batch norms in training; NULL: alone  */
    char *const *kept;     /* taps */
    size_t       kept_count;
} kd_model_form;
/* A graph of the network. `image` is its input's shape. */
kdas_status kd_model_build(kd_graph **out, kdas_context *ctx, const kd_model_def *def,
                           kd_params *params, kdas_desc image, const kd_model_form *form);
/* The form of a model's own graphs. */
kd_model_form kd_model_form_of(const kdas_model *model, kd_mode mode);
double        kd_node_cost(const kd_node *node, kdas_count_rule rule);

/* A compiled size and mode. */
typedef struct kd_model_program {
    kd_mode     mode;
    int64_t     n, h, w;
    kd_program *program;
    uint64_t    used; /* last use, by the model's clock */
} kd_model_program;

struct kdas_model {
    kdas_context       *ctx;
    const kd_model_def *def;
    kdas_model_options  options;     /* `wide` is its own copy; NULL: without grids */
    bool                ranges_held; /* kdas_model_hold_ranges() */
    kd_params          *params;
    kd_arena           *arena; /* shared by all programs: one runs at a time */
    kd_model_program   *program;
    size_t              programs, program_capacity;
    uint64_t            program_clock;
    kd_program         *current; /* of the last forward; NULL before */
    kd_graph *shape; /* the graph that declared the parameters: taps and outputs by name */
    char    **kept;  /* taps that the host requested */
    size_t    kept_count, kept_capacity;
    uint64_t  forwards;   /* training forwards so far: the random state */
    uint64_t  ballots;    /* votes on beginning a forward or a backward (over_ranks.c)       */
    uint64_t  draws;      /* mixed into the seed of draws: 0, but for ranks above 0 */
    kd_mode   mode;       /* of the last forward that was started */
    double   *ranges;     /* of grids, on all ranks (over_ranks.c)                           */
    float    *statistics; /* a copy of what forwards change, for that, if the host cannot read it */
    uint64_t  runs;       /* forwards of any kind that were started: the number identifies one */
    kd_model_state before;    /* state to restore if a training forward fails */
    kd_model_state mark;      /* kdas_model_mark()                      */
    kd_reader      reads;     /* the batch of the last forward */
    kd_stamp       stamp;     /* of the images that the last forward and its backward read */
    uint64_t       zeroed;    /* how often its gradients were dropped       */
    kd_staging     images;    /* the batch on a device that cannot read the host's memory */
    kd_staging     gradient;  /* the same for a gradient that a host adds at a tap        */
    kd_model_facts facts;     /* what its values know of themselves */
    int64_t        warned[2]; /* the size that the log has said not to be the weights' own */
    char         **source;    /* the files that its values were loaded from */
    size_t         sources, source_capacity;
};

/* ---- grids.c: models on 8-bit grids ---- */
kdas_status kd_model_check_grids(const kdas_model_options *options, const kd_model_def *def);
/* Copy the list of wide layers, the network's own for NULL. */
kdas_status kd_model_keep_wide(kdas_model *model, const char *wide);
/* Check, once the shape is built, that each of them is the name of a layer. */
kdas_status kd_model_check_wide(const kdas_model *model);
/* The name of a layer by its node, as in kdas_model_options.wide. The caller frees it; NULL:
 * KDAS_ENOMEM. */
char *kd_model_layer_name(kdas_context *ctx, const kd_node *node);
/* Whether a file is of a model on grids, by its fact KD_FACT_GRIDS (NULL: it has none). KDAS_EFORMAT: of a
 * kind that is not known here. */
kdas_status kd_model_grids_of(bool *out, const char *path, const char *fact);
/* KDAS_EINVAL: the model is to be on grids, and no layer is. */
kdas_status kd_model_check_rounds(const kdas_model *model);
/* Whether parameter `i` is the weight of a layer on grids. */
bool kd_model_is_rounded(const kdas_model *model, int i);
#define KD_RANGE_SUFFIX ".input_range" /* of a layer's name: its range */
#define KD_FACT_GRIDS   "quantization" /* of files: KD_GRIDS_INT8 */
#define KD_GRIDS_INT8   "int8"
#define KD_FACT_WIDE    "wide"

/* KDAS_ESTATE where the model was made without gradients, and the mode needs them. */
kdas_status kd_model_check_mode(const kdas_model *model, kd_mode mode);
/* The program for a size and mode, compiled if new. */
kdas_status kd_model_program_for(kd_program **out, kdas_model *model, kd_mode mode, int64_t n,
                                 int64_t h, int64_t w);
/* Keep the `keep` most recently used programs. Drop the others. */
void kd_model_programs_drop(kdas_model *model, size_t keep);
/* Run it on images in device memory (n,h,w,3), which are bound, not copied. Sets model->current,
 * and no stamp. Training forwards count up model->forwards. A failed forward changes nothing
 * except that there are no outputs. */
kdas_status kd_model_run(kdas_model *model, kd_mode mode, float *images, int64_t n, int64_t h,
                         int64_t w);

/* A rank that cannot begin the training forward or the backward that the other ranks begin tells them: theirs fail with
 * its status `mine`, whose sentence is the thread's last. Returns that; alone, `mine`. */
kdas_status kd_model_decline(kdas_model *model, kdas_status mine);

/* KDAS_ESTATE where the last forward's outputs and taps are lost, or there was no forward. */
kdas_status kd_model_check_values(const kdas_model *model);
/* KDAS_ESTATE where no backward of the last forward can follow. */
kdas_status kd_model_check_backward(const kdas_model *model);

/* The files that the values came from, oldest first (file.c). */
void kd_model_sources_clear(kdas_model *model);

/* Output `i` of the last forward's graph, in order, with its name. NULL past the last or before
 * a forward. */
const kd_node *kd_model_output_node(const kdas_model *model, int i, const char **name);

#endif
