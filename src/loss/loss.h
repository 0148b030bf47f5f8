/* loss.h - the internals of kdas_loss. Terms are functions that build nodes. */
#ifndef KD_LOSS_H
#define KD_LOSS_H
#include <kdas/loss.h>
#include "base/context.h"
#include "graph/program.h"
#include "model/model.h"
#include "ranks/ranks.h"

#define KD_MAX_MAPS 8

/* One map of the student and its references, (N,H,W,1). Maps are logits. */
typedef struct kd_loss_map {
    kd_node *student, *teacher;           /* teacher: NULL where no term reads it */
    kd_node *mask, *weight;               /* targets; their weights, NULL if the term has none */
    kd_node *student_read, *teacher_read; /* what guidance reads (options.input) */
    kd_node *student_attention, *teacher_attention; /* all four NULL until a term has built them */
    kd_node *pixel; /* the caller's weights of pixels, a part of `weight`; NULL: all 1 */
} kd_loss_map;

/* A segmentation term for one map, a row of seg.c's table: its unweighted value (1,1,1,1). */
typedef struct kd_seg {
    const char *name;
    kd_node *(*build)(kd_graph *g, const kd_loss_map *map);
    bool weighted; /* reads map->weight */
    bool pixel;    /* reads map->pixel  */
} kd_seg;
const kd_seg *kd_seg_find(const char *name); /* NULL with the sentence set (KDAS_ENOTFOUND) */
kd_node      *kd_seg_weight(kd_graph *g, kd_node *mask, kd_node *pixel); /* pixel may be NULL */

/* A kind of guidance, a row of guidance.c's table: terms for one map. Either may be NULL. kd is
 * summed over the maps. sgm reads one of them. */
typedef kd_node *(*kd_guidance_fn)(kd_graph *g, kd_loss_map *map, const kdas_loss_options *o);
typedef enum kd_sgm_map { KD_FIRST_MAP, KD_DEEPEST_MAP } kd_sgm_map;
typedef struct kd_guidance {
    const char    *name;
    kd_guidance_fn kd, sgm;
    kd_sgm_map     sgm_map;
} kd_guidance;
const kd_guidance *kd_guidance_find(const char *name); /* NULL with the sentence set */

/* ---- pair.c ---- */

/* kdas_loss_options.pair. DEEP: the deepest guides the deepest, and so on towards the first; if the
 * teacher has fewer, its first map guides the remaining ones. SPREAD: the first guides the first,
 * the deepest the deepest, those between in proportion. ANSWER: the teacher's answer guides all. */
typedef enum kd_pair { KD_PAIR_DEEP, KD_PAIR_SPREAD, KD_PAIR_ANSWER } kd_pair;

/* False with the sentence set (KDAS_ENOTFOUND). */
bool kd_pair_find(const char *name, kd_pair *out);
/* The teacher's map that guides map `i` of the student: DEEP or SPREAD. */
int kd_paired_map(kd_pair pair, int teacher_maps, int student_maps, int i);

/* Device memory of the maps of a step. */
typedef struct kd_loss_place {
    int32_t maps;
    int64_t n, h, w; /* of the student's maps and the mask */
    int64_t teacher_h, teacher_w;
    float  *student[KD_MAX_MAPS];
    float  *teacher[KD_MAX_MAPS]; /* NULL: no teacher */
    float  *mask;
    float  *weight; /* of the mask's pixels; NULL: all 1 */
    /* The weighted sum over the terms is written here. NULL: not needed. */
    float *gradient[KD_MAX_MAPS];
} kd_loss_place;

/* What a report needs, side by side in device memory so that one download fetches it. */
typedef struct kd_loss_results {
    double squares[KD_MAX_MAPS][KDAS_TERMS]; /* sum of squares of a term's gradient at a map */
    struct {
        float value, padding[KDAS_ALIGNMENT / sizeof(float) - 1]; /* kernels need aligned memory */
    } values[KD_MAX_MAPS][KDAS_TERMS];                            /* a term at a map, unweighted */
} kd_loss_results;

/* Running means of L2 norms of the gradients of a guidance term and of seg, while the term was
 * on, before a share limited it. */
typedef struct kd_share {
    double  seg, term;
    int64_t count; /* evaluations; 0: nothing is known yet */
} kd_share;

/* Evaluate on device memory. The gradients are multiplied by `scale` (1 / micro-batches).
 * `norms` requests report->gradient. With separate device memory and no report nothing is
 * fetched, and a term that is not finite is not detected here. On the host's memory it is always
 * detected. */
kdas_status kd_loss_run(kdas_loss *loss, const kd_loss_place *place, float scale, bool norms,
                        kdas_loss_report *report);

/* ---- run.c, loss.c: on models' outputs ---- */

/* Maps of one teacher for a batch, (n,h,w) each: as logits, in device memory. */
typedef struct kd_teacher_maps {
    int32_t maps;
    int32_t answer; /* the first map of the answer: kdas_model_answer() */
    int64_t h, w;
    float  *map[KD_MAX_MAPS];
} kd_teacher_maps;

/* Point at->teacher to the maps that guide the student's, which may be a sum that is made here. */
kdas_status kd_loss_pair(kdas_loss *loss, kd_loss_place *at, const kd_teacher_maps *teacher);

/* Check host maps. KDAS_EINVAL, KDAS_ESHAPE: they are invalid. `whose`: "teacher". */
kdas_status kd_loss_check_maps(const kdas_maps *m, const char *whose);

/* ---- pseudo.c ---- */

/* Masks and weights of a batch in which frames without a mask learn from the teacher's output. */
typedef struct kd_pseudo {
    float     *host; /* mask, weights, one map of the teacher; grows */
    size_t     count;
    kd_staging device; /* mask, weights */
} kd_pseudo;

/* Whether some frame of the batch has neither a mask nor a teacher's map. It then waits for the
 * teacher's output. */
bool kd_pseudo_wanted(const kdas_batch *batch);
/* Fill mask and weights of such frames from the teacher's maps, and point `at` to them. Other
 * frames keep the batch's mask and weights. */
kdas_status kd_pseudo_fill(kdas_loss *loss, kd_loss_place *at, const kdas_batch *batch,
                           const kd_teacher_maps *teacher);
void        kd_pseudo_finish(kdas_loss *loss);

/* ---- programs.c: what is compiled for a shape ---- */

/* The key of a program. */
typedef struct kd_loss_key {
    int64_t  n, h, w, teacher_h, teacher_w;
    uint32_t terms;    /* 1 << kdas_term: the terms that read the map; 0: the weights of the mask */
    bool     separate; /* separate gradients of the terms, for norms                          */
    bool     pixel;    /* the mask's pixels have weights                                      */
} kd_loss_key;

/* All terms of one map in one program, so that shared values are computed once; or the weights.
 * NULL: absent. */
typedef struct kd_loss_program {
    kd_loss_key    key;
    kd_program    *program;
    const kd_node *student, *teacher, *mask, *weight, *pixel;
    const kd_node *value[KDAS_TERMS];
} kd_loss_program;

extern const char *const kd_term_names[KDAS_TERMS];

uint32_t kd_loss_terms(const kdas_loss *loss, int map, int maps); /* the terms of `map`, as bits */
double   kd_loss_weight(const kdas_loss *loss, int term);         /* from the options only */
kdas_status kd_loss_program_for(kd_loss_program **out, kdas_loss *loss, const kd_loss_key *key);
void        kd_loss_programs_destroy(kdas_loss *loss);

/* ---- share.c: limits of guidance ---- */

/* Whether options.share or .feature_share limits some guidance. Each term is then measured
 * separately. */
bool kd_share_on(const kdas_loss *loss);
bool kd_share_limits(const kdas_loss *loss, int term);
/* The factor of a term, besides its weight: min(1, share * seg / term) of the running means so
 * far, times the factor of kdas_loss_set_guidance_factor(). The minimum is 1 where there is no
 * limit, or no norm is known yet. For seg the result is 1. */
double kd_share_factor(const kdas_loss *loss, int term);
/* Add the measurements of an evaluation to the running means: L2 norms of the weighted terms'
 * gradients, without kd_share_factor(). The first one starts them. A norm that is not finite is
 * skipped. A caller that fails afterwards must restore loss->share. */
void kd_share_note(kdas_loss *loss, int term, double seg_norm, double term_norm);
/* Whether guidance is computed now: the factor is above 0. */
bool kd_loss_guides(const kdas_loss *loss);

/* ---- part.c: evaluations of a part of a batch, the rest of which other ranks have ---- */

/* One step's. Fill the first four members; the others are zeros. What is summed over the ranks at the end of the step
 * lies here until then. */
typedef struct kd_loss_part {
    kdas_ranks *ranks;
    double      part;     /* of the images of all ranks that are here */
    double      scale;    /* of gradients, without `part`             */
    int         votes;    /* first measurements of norms in this step that are still to come */
    bool        agreed;   /* one of them has failed, and all ranks know it */
    uint32_t    on;       /* terms, as bits: those with a value */
    uint32_t    noted;    /* those that the running means take  */
    uint32_t    measured; /* those with a norm     */
    double      raw[KDAS_TERMS];     /* values                */
    double      squares[KDAS_TERMS]; /* of the gradients      */
    double      factor[KDAS_TERMS];  /* kd_share_factor()     */
    double      times[KDAS_TERMS];   /* of the reported norm  */
} kd_loss_part;

/* How many first measurements an evaluation of maps begins with: 0 or 1. The same on all ranks. */
int kd_loss_part_votes(const kdas_loss *loss, int maps);
/* Replace the squares of norms by their sums over the ranks, unless one has failed: then all return its status. */
kdas_status kd_loss_part_vote(kdas_loss *loss, kdas_status mine, double squares[KDAS_TERMS]);
/* Keep a term's results for kd_loss_part_finish(). `times`: of the reported norm; 0: none. */
void kd_loss_part_keep(kdas_loss *loss, int term, double raw, double squares, double times);
/* Exchange what was kept: the report becomes the whole batch's, and the running means take its norms. A status is that of
 * all ranks. `report` may be NULL. */
kdas_status kd_loss_part_finish(kdas_loss *loss, kdas_status mine, kdas_loss_report *report);

/* ---- options.c: the members that a checkpoint knows by name ---- */

typedef struct kd_loss_member {
    const char *name; /* "loss.tau" */
    size_t      offset;
} kd_loss_member;
enum {
    KD_LOSS_TEXTS         = 10,
    KD_LOSS_NUMBERS       = 9,
    KD_LOSS_FIRST_TEXTS   = 4, /* number of texts in files from before 0.4 */
    KD_LOSS_FIRST_NUMBERS = 3
};
extern const kd_loss_member kd_loss_texts[KD_LOSS_TEXTS], kd_loss_numbers[KD_LOSS_NUMBERS];
const char                **kd_loss_text(kdas_loss_options *o, int i);
float                      *kd_loss_number(kdas_loss_options *o, int i);

struct kdas_loss {
    kdas_context      *ctx;
    kdas_loss_options  options; /* its strings are those below */
    char              *text[KD_LOSS_TEXTS];
    const kd_seg      *seg;
    const kd_guidance *guidance;
    kd_arena          *arena, *weight_arena; /* maps are evaluated one after the other */
    kd_loss_program  **program;              /* in the order of their last use             */
    size_t             programs, program_capacity;
    kd_pair            pair;
    kd_staging         staging, answer; /* answer: a sum of the teacher's maps */
    kd_pseudo          pseudo;
    kd_loss_results   *results; /* device memory */
    bool               warned[KDAS_TERMS];
    double             factor;            /* of all guidance, set by the host */
    kd_share           share[KDAS_TERMS]; /* seg's own is not used            */
    kd_share           mark[KDAS_TERMS];  /* of kdas_loss_mark()              */
    bool               marked;
    double             seg_norm; /* from the last measured evaluation */
    kd_loss_part      *part;     /* NULL: batches are whole */
};

#endif
