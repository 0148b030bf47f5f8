/* optim.c - optimizers: options, state blocks, clipping, and updates over the flat blocks. */
#include "base/process.h"
#include "optim/optim.h"
#include <float.h>
#include <math.h>
#include <string.h>
#include "op/op.h"
#include "model/model.h"

/* ---- rules ---- */

#define OPTIM(name) extern const kd_optim_rule kd_optim_##name;
#include "optim/optims.def"
#undef OPTIM

static const kd_optim_rule *const rules[] = {
#define OPTIM(name) &kd_optim_##name,
#include "optim/optims.def"
#undef OPTIM
};

const kd_optim_rule *kd_optim_rule_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNT(rules); i++)
        if (strcmp(rules[i]->name, name) == 0) return rules[i];
    return NULL;
}

/* ---- options ---- */

void kdas_optim_options_init(kdas_optim_options *options, size_t size)
{
    kdas_optim_options defaults = {
        .size             = size,
        .rule             = "adamw",
        .lr               = 1e-4f,
        .weight_decay     = 1e-4f,
        .beta1            = 0.9f,
        .beta2            = 0.999f,
        .eps              = 1e-8f,
        .momentum         = 0.9f,
        .clamp            = 0.5f,
        .schedule         = "constant",
        .step_every       = 1000,
        .step_factor      = 0.1f,
        .power            = 0.9f,
        .loss_scale_every = 2000,
    };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* The comparisons are false for NaN, so NaN is refused too. */
static kdas_status check_number(const char *name, double value, double low, double high)
{
    if (value >= low && value <= high) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "optimizer: %s is %g, not from %g to %g", name, value, low, high);
}

static kdas_status check_positive(const char *name, float value)
{
    if (value > 0 && isfinite(value)) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "optimizer: %s is %g, not above 0", name, (double)value);
}

static kdas_status check_share(const char *name, float value)
{
    if (value >= 0 && value < 1) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "optimizer: %s is %g, not from 0 to below 1", name, (double)value);
}

static kdas_status check_rule(kdas_optim_options *o)
{
    const kd_optim_rule *rule = o->rule ? kd_optim_rule_find(o->rule) : NULL;

    if (!o->rule) return kd_fail(KDAS_EINVAL, "optimizer: rule is NULL");
    if (!rule) return kd_fail(KDAS_ENOTFOUND, "optimizer: there is no rule '%.64s'", o->rule);
    o->rule = rule->name;
    KD_RETURN(check_positive("lr", o->lr));
    KD_RETURN(check_number("weight_decay", o->weight_decay, 0, FLT_MAX));
    KD_RETURN(check_share("beta1", o->beta1));
    KD_RETURN(check_share("beta2", o->beta2));
    KD_RETURN(check_positive("eps", o->eps));
    KD_RETURN(check_number("momentum", o->momentum, 0, 1));
    KD_RETURN(check_number("clamp", o->clamp, 0, FLT_MAX));
    KD_RETURN(check_number("clip_norm", o->clip_norm, 0, FLT_MAX));
    if (o->nesterov && o->momentum == 0)
        return kd_fail(KDAS_EINVAL, "optimizer: nesterov needs a momentum");
    return KDAS_OK;
}

static kdas_status check_schedule(kdas_optim_options *o)
{
    const char *name = o->schedule ? kd_schedule_find(o->schedule) : NULL;

    if (!o->schedule) return kd_fail(KDAS_EINVAL, "optimizer: schedule is NULL");
    if (!name)
        return kd_fail(KDAS_ENOTFOUND, "optimizer: there is no schedule '%.64s'", o->schedule);
    o->schedule = name;
    KD_RETURN(check_number("warmup", (double)o->warmup, 0, (double)INT64_MAX));
    KD_RETURN(check_number("total", (double)o->total, 0, (double)INT64_MAX));
    KD_RETURN(check_number("step_every", (double)o->step_every, 1, (double)INT64_MAX));
    KD_RETURN(check_positive("step_factor", o->step_factor));
    KD_RETURN(check_number("power", o->power, 0, FLT_MAX));
    KD_RETURN(check_number("lr_min", o->lr_min, 0, o->lr));
    if ((strcmp(name, "cosine") == 0 || strcmp(name, "poly") == 0) && o->total <= o->warmup)
        return kd_fail(KDAS_EINVAL,
                       "optimizer: schedule '%s' needs a total above the warm-up; it is %lld", name,
                       (long long)o->total);
    return KDAS_OK;
}

kdas_status kd_optim_check(kdas_optim_options *options)
{
    KD_RETURN(check_rule(options));
    KD_RETURN(check_schedule(options));
    return kd_scale_check(options);
}

/* ---- which parameters decay ---- */

/* Whether `name` contains one of the comma-separated parts. */
static bool has_part(const char *name, const char *parts)
{
    while (parts && *parts) {
        size_t n = strcspn(parts, ",");

        for (const char *at = name; n && *at; at++)
            if (strncmp(at, parts, n) == 0) return true;
        parts += n + (parts[n] == ',');
    }
    return false;
}

bool kd_optim_decays(const kdas_optim *optim, const char *name)
{
    return !has_part(name, optim->no_decay);
}

/* Ranges of trainable parameters, in the order of the blocks. A gap belongs to the parameter
 * before it. */
static kdas_status find_ranges(kd_optim_range **out, size_t *count, size_t *capacity,
                               kdas_optim *optim, const char *no_decay)
{
    kd_params *p   = optim->params;
    int64_t    end = kd_params_trainable(p);

    for (int i = 0; i < kd_params_count(p); i++) {
        const kd_param_entry *e     = kd_params_at(p, i);
        bool                  decay = !has_part(e->name, no_decay);

        if (e->init.kind != KD_TRAINABLE || (*count && (*out)[*count - 1].decay == decay)) continue;
        KD_RETURN(kd_grow(optim->ctx, (void **)out, capacity, *count + 1, sizeof **out));
        if (*count) (*out)[*count - 1].count = e->offset - (*out)[*count - 1].first;
        (*out)[(*count)++] = (kd_optim_range){ e->offset, end - e->offset, decay };
    }
    return KDAS_OK;
}

/* Take over checked options. On failure nothing is changed. */
static kdas_status take(kdas_optim *optim, const kdas_optim_options *options)
{
    kd_optim_range *range  = NULL;
    size_t          ranges = 0, capacity = 0;
    char           *no_decay = NULL;
    kdas_status     st       = KDAS_OK;

    if (options->no_decay) no_decay = kd_strdup(optim->ctx, options->no_decay);
    if (options->no_decay && !no_decay) return KDAS_ENOMEM;
    st = find_ranges(&range, &ranges, &capacity, optim, no_decay);
    if (st != KDAS_OK) {
        kd_free(optim->ctx, range);
        kd_free(optim->ctx, no_decay);
        return st;
    }
    kd_free(optim->ctx, optim->range);
    kd_free(optim->ctx, optim->no_decay);
    optim->options          = *options;
    optim->options.no_decay = no_decay;
    optim->no_decay         = no_decay;
    optim->range            = range;
    optim->ranges           = ranges;
    optim->range_capacity   = capacity;
    return KDAS_OK;
}

/* ---- make and destroy ---- */

static kdas_status make_blocks(kdas_optim *optim)
{
    size_t bytes = (size_t)kd_params_trainable(optim->params) * sizeof(float);

    optim->squares = kd_device_alloc(optim->ctx, 2 * sizeof *optim->squares);
    if (!optim->squares) return KDAS_ENOMEM;
    for (int i = 0; i < optim->slots; i++) {
        optim->slot[i] = kd_device_alloc(optim->ctx, bytes);
        if (!optim->slot[i]) return KDAS_ENOMEM;
        KD_RETURN(kd_device_zero(optim->ctx, optim->slot[i], bytes));
    }
    return KDAS_OK;
}

kdas_status kd_optim_create_for(kdas_optim **out, kdas_context *ctx, kd_params *params,
                                const kdas_optim_options *options)
{
    kdas_optim_options o;
    kdas_optim        *optim = NULL;
    kdas_status        st    = KDAS_OK;

    *out = NULL;
    kdas_optim_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_optim_options"));
    KD_RETURN(kd_optim_check(&o));
    if (!kd_params_grads(params))
        return kd_fail(KDAS_ESTATE,
                       "optimizer: the model was made without gradients (trainable is 0)");
    optim = kd_calloc(ctx, 1, sizeof *optim);
    if (!optim) return KDAS_ENOMEM;
    optim->ctx    = ctx;
    optim->params = params;
    optim->rule   = kd_optim_rule_find(o.rule);
    optim->slots  = optim->rule->slots(&o);
    KD_TRY(take(optim, &o));
    KD_TRY(make_blocks(optim));
    kd_scale_start(&optim->scale, &optim->options, ctx->type);
    *out  = optim;
    optim = NULL;
done:
    kdas_optim_destroy(optim);
    return st;
}

kdas_status kdas_optim_create(kdas_optim **out, kdas_model *model,
                              const kdas_optim_options *options)
{
    if (!out) return kd_fail(KDAS_EINVAL, "optimizer: out is NULL");
    *out = NULL;
    if (!model) return kd_fail(KDAS_EINVAL, "optimizer: the model is NULL");
    KD_RETURN(kd_check_process(model->ctx));
    KD_RETURN(kd_optim_create_for(out, model->ctx, model->params, options));
    (*out)->model = model;
    return KDAS_OK;
}

kdas_model *kdas_optim_model(const kdas_optim *optim) { return optim ? optim->model : NULL; }

void kdas_optim_destroy(kdas_optim *optim)
{
    if (!optim) return;
    kd_optim_side_destroy(optim);
    for (int i = 0; i < KD_OPTIM_SLOTS; i++)
        kd_device_free(optim->ctx, optim->slot[i]);
    kd_device_free(optim->ctx, optim->squares);
    kd_free(optim->ctx, optim->range);
    kd_free(optim->ctx, optim->no_decay);
    kd_free(optim->ctx, optim);
}

kdas_status kd_optim_restore(kdas_optim *optim, const kdas_optim_options *options, int64_t updates,
                             const kd_loss_scale *scale)
{
    kdas_optim_options o = *options;

    KD_RETURN(kd_optim_check(&o));
    if (strcmp(o.rule, optim->rule->name) != 0)
        return kd_fail(KDAS_EINVAL, "optimizer: the rule is '%s', not '%s'", optim->rule->name,
                       o.rule);
    if (optim->rule->slots(&o) != optim->slots)
        return kd_fail(KDAS_EINVAL, "optimizer: rule '%s' keeps other state with a momentum of %g",
                       o.rule, (double)o.momentum);
    if (updates < 0)
        return kd_fail(KDAS_EINVAL, "optimizer: %lld updates cannot be", (long long)updates);
    KD_RETURN(take(optim, &o));
    optim->updates = updates;
    kd_scale_start(&optim->scale, &optim->options, optim->ctx->type);
    if (scale) optim->scale = *scale;
    return KDAS_OK;
}

/* ---- norm of the gradients ---- */

static kdas_desc block_desc(int64_t count)
{
    return (kdas_desc){ .dtype = KDAS_F32, .rank = 1, .dim = { count, 1, 1, 1 } };
}

/* Sum of squares over the whole gradient block, on the device. The block's gaps are zero. */
static kdas_status sum_block(kdas_optim *optim, kd_params *params, double *sum)
{
    return kd_device_sum_squares(optim->ctx, sum, kd_params_grads(params),
                                 kd_params_trainable(params));
}

/* Sums of squares of the model's gradients, and in out[1] of the side parameters' gradients (0
 * without them). */
static kdas_status sum_squares(kdas_optim *optim, double out[2])
{
    size_t count = optim->side ? 2 : 1;

    out[1] = 0;
    KD_RETURN(sum_block(optim, optim->params, optim->squares));
    if (optim->side) KD_RETURN(sum_block(optim, optim->side->params, optim->squares + 1));
    return kd_device_download(optim->ctx, out, optim->squares, count * sizeof *out);
}

enum { SOME = 2048 };

/* Some of a parameter's gradients, from element `first` on. */
static kdas_status inspect_some(const kdas_optim *optim, kd_params *p, const kd_param_entry *e,
                                int64_t first, double *sum)
{
    float   g[SOME];
    int64_t count = KD_MIN(e->count - first, SOME);

    KD_RETURN(kd_device_download(optim->ctx, g, kd_params_grads(p) + e->offset + first,
                                 (size_t)count * sizeof *g));
    for (int64_t k = 0; k < count; k++) {
        if (!isfinite(g[k]))
            return kd_fail(KDAS_ENUMERIC, "the gradient of '%s' is not finite", e->name);
        *sum += (double)g[k] * (double)g[k];
    }
    return KDAS_OK;
}

/* The slow path after an error: name the first parameter whose gradient is not finite. If all
 * are finite (the fast sum overflowed), *out is the sum in double. It allocates nothing, so that over ranks, which have the same
 * gradients, all of them do the same. */
static kdas_status inspect(kdas_optim *optim, kd_params *p, double *out)
{
    *out = 0;
    for (int i = 0; i < kd_params_count(p); i++) {
        const kd_param_entry *e = kd_params_at(p, i);

        for (int64_t k = 0; e->init.kind == KD_TRAINABLE && k < e->count; k += SOME)
            KD_RETURN(inspect_some(optim, p, e, k, out));
    }
    return KDAS_OK;
}

kdas_status kdas_optim_gradient_norm(kdas_optim *optim, double *out)
{
    double sum[2];

    if (!optim || !out) return kd_fail(KDAS_EINVAL, "optimizer: %s is NULL", optim ? "out" : "it");
    KD_RETURN(kd_check_process(optim->ctx));
    KD_RETURN(sum_squares(optim, sum));
    if (!isfinite(sum[0])) KD_RETURN(inspect(optim, optim->params, &sum[0]));
    *out = sqrt(sum[0]) / (double)optim->scale.value;
    return KDAS_OK;
}

/* ---- the update ---- */

kdas_status kd_optim_run(kdas_optim *optim, int32_t op, const void *attr, const kd_update *update,
                         int blocks, float *const *block)
{
    kdas_node_desc node = { .op = op, .inputs = blocks, .attr = attr };
    kdas_call      call = { .node = &node };

    for (int i = 0; i < blocks; i++) {
        if (!block[i]) continue;
        node.in[i] = block_desc(update->count);
        call.in[i] = block[i] + update->first;
    }
    return kd_device_update(optim->ctx, kd_update_find(op), &call);
}

/* Same as PyTorch's clip_grad_norm_. */
double kd_optim_clip(const kdas_optim *optim, double norm)
{
    const kdas_optim_options *o = &optim->options;

    return o->clip_norm > 0 ? KD_MIN(o->clip_norm / (norm + 1e-6), 1.0) : 1;
}

/* The norms before the update, of the model's gradients and of the side parameters'. *skip:
 * gradients overflowed, and the scale has been halved. */
static kdas_status norms_or_skip(kdas_optim *optim, double norm[2], bool *skip)
{
    double sum[2];

    *skip = false;
    KD_RETURN(sum_squares(optim, sum));
    if (!isfinite(sum[0]) || !isfinite(sum[1])) {
        *skip = kd_scale_overflow(&optim->scale);
        if (*skip) return KDAS_OK;
        if (!isfinite(sum[0])) KD_RETURN(inspect(optim, optim->params, &sum[0]));
        if (!isfinite(sum[1])) KD_RETURN(inspect(optim, optim->side->params, &sum[1]));
    }
    for (int i = 0; i < 2; i++)
        norm[i] = sqrt(sum[i]) / (double)optim->scale.value;
    return KDAS_OK;
}

kdas_status kdas_optim_step(kdas_optim *optim)
{
    double    norm[2];
    bool      skip;
    kd_update update = { 0 };

    if (!optim) return kd_fail(KDAS_EINVAL, "optimizer: it is NULL");
    KD_RETURN(kd_check_process(optim->ctx));
    if (kd_params_grads_spoilt(optim->params) ||
        (optim->side && kd_params_grads_spoilt(optim->side->params)))
        return kd_fail(KDAS_ESTATE,
                       "optimizer: a backward has failed and left part of its gradients; zero them "
                       "first");
    KD_RETURN(norms_or_skip(optim, norm, &skip));
    if (skip) {
        kd_info(optim->ctx,
                "the gradients overflowed: an update is skipped, the loss scale is now %g",
                (double)optim->scale.value);
        return KDAS_OK;
    }
    update.params     = optim->params;
    update.slot       = optim->slot;
    update.lr         = (float)kd_schedule_lr(&optim->options, optim->updates);
    update.grad_scale = (float)(kd_optim_clip(optim, norm[0]) / (double)optim->scale.value);
    update.step       = optim->updates + 1;
    kd_params_touch_update(optim->params);
    for (size_t i = 0; i < optim->ranges; i++) {
        update.first        = optim->range[i].first;
        update.count        = optim->range[i].count;
        update.weight_decay = optim->range[i].decay ? optim->options.weight_decay : 0;
        KD_RETURN(optim->rule->step(optim, &update));
    }
    if (optim->side) KD_RETURN(kd_optim_side_step(optim, update, norm[1]));
    optim->updates++;
    kd_scale_passed(&optim->scale);
    return KDAS_OK;
}

/* ---- queries and settings ---- */

int64_t kdas_optim_updates(const kdas_optim *optim) { return optim ? optim->updates : 0; }

double kdas_optim_loss_scale(const kdas_optim *optim)
{
    return optim ? (double)optim->scale.value : NAN;
}

int64_t kdas_optim_skipped(const kdas_optim *optim) { return optim ? optim->scale.skipped : 0; }

double kdas_optim_lr(const kdas_optim *optim)
{
    return optim ? kd_schedule_lr(&optim->options, optim->updates) : NAN;
}

kdas_status kdas_optim_set_lr(kdas_optim *optim, float lr)
{
    kdas_optim_options o;

    if (!optim) return kd_fail(KDAS_EINVAL, "optimizer: it is NULL");
    o    = optim->options;
    o.lr = lr;
    KD_RETURN(kd_optim_check(&o));
    optim->options.lr = lr;
    return KDAS_OK;
}
