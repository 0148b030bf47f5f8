/* attention.c - ATTENTION: q (N,H,W,C), kv (N,h,w,2C) -> (N,H,W,C), in blocks of query rows.
 *
 * For an image, a head and a block of rows: S = Q K^T, softmax in the cache, O = S V. The full matrix of scores is never in
 * memory. Backward recomputes the blocks from the base-2 logarithm of each row's sum, the only thing saved:
 * (N, heads, queries). With P the softmax and g = dO V^T:
 *   dS = P (g - sum_j P g) scale,  dQ = dS K,  dK = dS^T Q,  dV = P^T dO.
 * A task is (image, head, chunk of queries); how many there are follows from the shape alone. The gradients of keys and
 * values have partial sums for each task, which are added up in a fixed order. */
#include "backend/cpu/simd/fmath.h"
#include "backend/cpu/simd/gemm.h"

enum { CHUNK = 1024 };
#define LOG2_E 1.44269504f

typedef struct shape {
    int64_t images, queries, keys, heads, width; /* width: channels of one head */
    int64_t channels, chunk, chunks, tasks;
    int64_t block, ld; /* query rows at a time; keys padded to whole panels */
    float   scale;
} shape;

static shape shape_of(const kdas_node_desc *node)
{
    const kdas_attention_attr *a = node->attr;
    const kdas_desc           *q = &node->in[0], *kv = &node->in[1];
    shape                      s = { .images   = q->dim[0],
                                     .queries  = q->dim[1] * q->dim[2],
                                     .keys     = kv->dim[1] * kv->dim[2],
                                     .heads    = a->heads,
                                     .width    = q->dim[3] / a->heads,
                                     .channels = q->dim[3],
                                     .scale    = a->scale };

    s.chunks = ceil_div(s.queries, CHUNK);
    s.chunk  = ceil_div(s.queries, s.chunks);
    s.tasks  = s.images * s.heads * s.chunks;
    s.ld     = round_up(s.keys, LANES);
    s.block  = 16384 / s.ld / TILE_ROWS * TILE_ROWS; /* 64 KiB of scores */
    s.block  = s.block < TILE_ROWS ? TILE_ROWS : s.block > 8 * TILE_ROWS ? 8 * TILE_ROWS : s.block;
    return s;
}

typedef struct task {
    int64_t     first, end; /* queries                                                      */
    const elem *q, *k, *v;  /* of query 0 and key 0; rows are channels and 2 channels apart */
    int64_t     at;         /* offset of query 0 in q, out and their gradients              */
    int64_t     kv_at;      /* offset of key 0 in kv's gradient                             */
    int64_t     row;        /* index of query 0 among the rows that are saved               */
} task;

static task task_of(const kdas_call *call, const shape *s, int64_t i)
{
    int64_t chunk = i % s->chunks, head = i / s->chunks % s->heads,
            image = i / s->chunks / s->heads;
    task t;

    t.first = chunk * s->chunk;
    t.end   = t.first + s->chunk < s->queries ? t.first + s->chunk : s->queries;
    t.at    = image * s->queries * s->channels + head * s->width;
    t.kv_at = image * s->keys * 2 * s->channels + head * s->width;
    t.row   = (image * s->heads + head) * s->queries;
    t.q     = (const elem *)call->in[0] + t.at;
    t.k     = (const elem *)call->in[1] + t.kv_at;
    t.v     = t.k + s->channels;
    return t;
}

/* ---- scratch of a thread ---- */

/* Blocks of scores are floats. The bf16 copy converts them to elements before a product reads them. */
static size_t block_bytes(const shape *s) { return float_bytes(s->block * s->ld); }
static size_t copy_bytes(const shape *s) { return HALF ? block_bytes(s) : 0; }

static size_t forward_bytes(const shape *s)
{
    return float_bytes(packed_numel(s->width, s->keys)) +
           float_bytes(packed_numel(s->keys, s->width)) + float_bytes(s->block * s->width) +
           block_bytes(s) + copy_bytes(s);
}

static size_t backward_bytes(const shape *s)
{
    return 2 * float_bytes(packed_numel(s->width, s->keys)) +
           float_bytes(packed_numel(s->keys, s->width)) +
           2 * float_bytes(packed_numel(s->block, s->width)) + 2 * block_bytes(s) + copy_bytes(s);
}

/* Partial gradients of keys and values of one task, where several tasks add to them, or elements are not floats. */
static size_t partial_bytes(const shape *s)
{
    return s->chunks > 1 || HALF ? float_bytes(2 * s->keys * s->width) : 0;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape  s       = shape_of(node);
    size_t threads = (size_t)device->threads;

    plan->saved         = float_bytes(s.images * s.heads * s.queries);
    plan->work_forward  = threads * forward_bytes(&s);
    plan->work_backward = threads * backward_bytes(&s) + (size_t)s.tasks * partial_bytes(&s);
    return KDAS_OK;
}

/* ---- forward ---- */

/* A row of scores is padded to whole vectors, which are all computed: the loops need no remainder. */
INLINE int64_t whole_row(const shape *s) { return s->ld / LANES * LANES; }

/* The factor of the scores in 2^(factor score). Not 0: the padding would count. */
INLINE float factor_of(const shape *s) { return s->scale == 0 ? 1e-20f : s->scale * LOG2_E; }

/* Scores times c, rounded. The asm keeps it from being fused with the subtraction: the maximum minus itself must be 0. */
INLINE vec scaled(const float *scores, float c)
{
    vec v = load_f(scores) * c;

    __asm__("" : IN_REGISTER(v));
    return v;
}

/* S (rows,ld) = Q K^T -> P, the softmax over the keys without its denominator: 2^(c s - max), c = scale / ln 2. P may be S.
 * `sum` receives the denominators, `most` the maxima. The padding becomes 0 or nearly so. (The scale is not packed
 * with the keys, because bf16 would lose bits by it.) */
static void softmax_rows(const shape *s, float *S, elem *P, int64_t rows, float *sum, float *most)
{
    int64_t n = whole_row(s);
    float   c = factor_of(s);

    for (int64_t i = 0; i < rows; i++) {
        float *row = S + i * s->ld;
        vec    top, all = { 0 };
        float  highest;

        for (int64_t j = s->keys; j < n; j++)
            row[j] = s->scale < 0 ? 1e30f : -1e30f;
        top = scaled(row, c);
        for (int64_t j = LANES; j < n; j += LANES)
            top = max_v(top, scaled(row + j, c));
        highest = lanes_max(top);
        for (int64_t j = 0; j < n; j += LANES) {
            vec e = exp2_v(scaled(row + j, c) - highest);

            all += e;
            store(P + i * s->ld + j, e);
        }
        sum[i]  = lanes_sum(all);
        most[i] = highest;
    }
}

/* S as elements. The last key may be alone in its unit: the other half is multiplied by a zero. */
INLINE const elem *as_elements(const shape *s, const float *S, int64_t rows, void *copy)
{
    if (!HALF) return (const elem *)S;
    for (int64_t i = 0; i < rows * s->ld; i += LANES)
        store((elem *)copy + i, load_f(S + i));
    return copy;
}

/* out (rows, width) = O / sum; rows of out are C apart. */
INLINE void divide_rows(elem *out, const float *O, const float *sum, int64_t rows, const shape *s)
{
    for (int64_t i = 0; i < rows; i++) {
        float inverse = 1.0f / sum[i];

#pragma omp simd
        for (int64_t c = 0; c < s->width; c++)
            set(out[i * s->channels + c], O[i * s->width + c] * inverse);
    }
}

static void forward_task(const kdas_call *call, const shape *s, const task *t, void *work)
{
    unit   *keys   = bump_alloc(&work, float_bytes(packed_numel(s->width, s->keys)));
    unit   *values = bump_alloc(&work, float_bytes(packed_numel(s->keys, s->width)));
    float  *O      = bump_alloc(&work, float_bytes(s->block * s->width));
    float  *S = bump_alloc(&work, block_bytes(s)), *saved = (float *)call->saved + t->row;
    elem   *out = (elem *)call->out + t->at, *P = HALF ? work : (void *)S;
    int64_t C = s->channels, keys_whole = round_up(s->keys, UNIT_DEPTH);

    pack_panels(keys, t->k, s->width, s->keys, 1, 2 * C, 1.0f);
    pack_panels(values, t->v, s->keys, s->width, 2 * C, 1, 1.0f);
    for (int64_t r = t->first; r < t->end; r += s->block) {
        int64_t rows = t->end - r < s->block ? t->end - r : s->block;
        float   sum[8 * TILE_ROWS], most[8 * TILE_ROWS];

        gemm(rows, s->ld, s->width, t->q + r * C, C, 1, keys, NULL, S, s->ld, SET);
        softmax_rows(s, S, P, rows, sum, most);
        gemm(rows, s->width, keys_whole, P, s->ld, 1, values, NULL, O, s->width, SET);
#pragma omp simd
        for (int64_t i = 0; i < rows; i++)
            saved[r + i] = most[i] + LOG2_E * log_f(sum[i]);
        divide_rows(out + r * C, O, sum, rows, s);
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape s = shape_of(call->node);

#pragma omp parallel for schedule(static)
    for (int p = 0; p < device->threads; p++)
        for (int64_t i = part_begin(s.tasks, p, device->threads);
             i < part_begin(s.tasks, p + 1, device->threads); i++) {
            task t = task_of(call, &s, i);
            forward_task(call, &s, &t, (char *)call->work + (size_t)p * forward_bytes(&s));
        }
    return KDAS_OK;
}

/* ---- backward ---- */

/* S: Q K^T becomes P; G: dO V^T becomes dS. G is 0 in the padding, whatever S is there. */
static void scores_backward(const shape *s, float *S, float *G, int64_t rows, const float *log_sum)
{
    int64_t n = whole_row(s);
    float   c = factor_of(s);

    for (int64_t i = 0; i < rows; i++) {
        float *p = S + i * s->ld, *g = G + i * s->ld, mean;
        vec    dot = { 0 };

        for (int64_t j = 0; j < n; j += LANES) {
            vec e = exp2_v(scaled(p + j, c) - log_sum[i]);

            dot += e * load_f(g + j);
            store_f(p + j, e);
        }
        mean = lanes_sum(dot);
        for (int64_t j = 0; j < n; j += LANES)
            store_f(g + j, load_f(p + j) * (load_f(g + j) - mean) * s->scale);
    }
}

/* dk += dS^T q, dv += P^T dout for a block of rows. `copy`: scratch for a block. */
INLINE void keys_backward(const shape *s, const float *S, const float *G, int64_t rows,
                          const unit *q_panel, const unit *g_panel, float *dk, float *dv,
                          int64_t ld, void *copy)
{
#ifdef KD_HALF
    transpose_rows((unit *)copy, G, rows, s->keys, s->ld);
    gemm_transposed_a(s->keys, s->width, rows, copy, q_panel, dk, ld, ADD);
    transpose_rows((unit *)copy, S, rows, s->keys, s->ld);
    gemm_transposed_a(s->keys, s->width, rows, copy, g_panel, dv, ld, ADD);
#else
    (void)copy;
    gemm(s->keys, s->width, rows, G, 1, s->ld, q_panel, NULL, dk, ld, ADD);
    gemm(s->keys, s->width, rows, S, 1, s->ld, g_panel, NULL, dv, ld, ADD);
#endif
}

/* Adds to `dk` and `dv`, (keys, width) with rows ld apart; NULL: not wanted. */
static void backward_task(const kdas_call *call, const shape *s, const task *t, void *work,
                          float *dk, float *dv, int64_t ld)
{
    unit        *keys_t   = bump_alloc(&work, float_bytes(packed_numel(s->width, s->keys)));
    unit        *values_t = bump_alloc(&work, float_bytes(packed_numel(s->width, s->keys)));
    unit        *keys     = bump_alloc(&work, float_bytes(packed_numel(s->keys, s->width)));
    unit        *q_panel  = bump_alloc(&work, float_bytes(packed_numel(s->block, s->width)));
    unit        *g_panel  = bump_alloc(&work, float_bytes(packed_numel(s->block, s->width)));
    float       *S = bump_alloc(&work, block_bytes(s)), *G = bump_alloc(&work, block_bytes(s));
    const elem  *dout  = (const elem *)call->dout + t->at;
    const float *saved = (const float *)call->saved + t->row;
    elem        *dq    = call->din[0] ? (elem *)call->din[0] + t->at : NULL;
    int64_t      C     = s->channels;

    pack_panels(keys_t, t->k, s->width, s->keys, 1, 2 * C, 1.0f);
    pack_panels(values_t, t->v, s->width, s->keys, 1, 2 * C, 1.0f);
    if (dq) pack_panels(keys, t->k, s->keys, s->width, 2 * C, 1, 1.0f);
    for (int64_t r = t->first; r < t->end; r += s->block) {
        int64_t     rows = t->end - r < s->block ? t->end - r : s->block;
        const elem *q = t->q + r * C, *g = dout + r * C;

        gemm(rows, s->ld, s->width, q, C, 1, keys_t, NULL, S, s->ld, SET);
        gemm(rows, s->ld, s->width, g, C, 1, values_t, NULL, G, s->ld, SET);
        scores_backward(s, S, G, rows, saved + r);
        if (dq)
            gemm(rows, s->width, round_up(s->keys, UNIT_DEPTH), as_elements(s, G, rows, work),
                 s->ld, 1, keys, NULL, dq + r * C, C, store_mode_of(adds(call, 0)));
        if (!dk) continue;
        pack_panels(q_panel, q, rows, s->width, C, 1, 1.0f);
        pack_panels(g_panel, g, rows, s->width, C, 1, 1.0f);
        keys_backward(s, S, G, rows, q_panel, g_panel, dk, dv, ld, work);
    }
}

#ifndef KD_HALF
/* Zero the gradient of one head. */
static void zero_head(const shape *s, float *dk)
{
    for (int64_t j = 0; j < s->keys; j++) {
        memset(dk + j * 2 * s->channels, 0, (size_t)s->width * sizeof(float));
        memset(dk + j * 2 * s->channels + s->channels, 0, (size_t)s->width * sizeof(float));
    }
}
#endif

/* One head's gradient = or += the partial sums of all its chunks. */
static void reduce_head(const shape *s, elem *dk, const float *partial, bool add)
{
    int64_t apart = (int64_t)(partial_bytes(s) / sizeof(float));

    for (int64_t i = 0; i < 2 * s->keys; i++) { /* keys, then values */
        elem        *to   = dk + i % s->keys * 2 * s->channels + i / s->keys * s->channels;
        const float *from = partial + i * s->width;

#pragma omp simd
        for (int64_t c = 0; c < s->width; c++) {
            float sum = 0;

            for (int64_t chunk = 0; chunk < s->chunks; chunk++)
                sum += from[chunk * apart + c];
            accumulate(to[c], sum, add);
        }
    }
}

static void backward_tasks(const kdas_call *call, const shape *s, int64_t first, int64_t end,
                           char *work, char *partials)
{
    for (int64_t i = first; i < end; i++) {
        task    t  = task_of(call, s, i);
        float  *dk = NULL, *dv = NULL;
        int64_t ld = s->width;

        if (call->din[1] && partial_bytes(s)) {
            dk = (float *)(partials + (size_t)i * partial_bytes(s));
            dv = dk + s->keys * s->width;
            memset(dk, 0, partial_bytes(s));
        }
#ifndef KD_HALF
        else if (call->din[1]) {
            dk = (float *)call->din[1] + t.kv_at;
            dv = dk + s->channels;
            ld = 2 * s->channels;
            if (!adds(call, 1)) zero_head(s, dk);
        }
#endif
        backward_task(call, s, &t, work, dk, dv, ld);
    }
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    shape s        = shape_of(call->node);
    int   parts    = device->threads;
    char *partials = (char *)call->work + (size_t)parts * backward_bytes(&s);

#pragma omp parallel for schedule(static)
    for (int p = 0; p < parts; p++)
        backward_tasks(call, &s, part_begin(s.tasks, p, parts), part_begin(s.tasks, p + 1, parts),
                       (char *)call->work + (size_t)p * backward_bytes(&s), partials);
    if (!partial_bytes(&s) || !call->din[1]) return KDAS_OK;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s.images * s.heads; i++) {
        task t = task_of(call, &s, i * s.chunks);

        reduce_head(&s, (elem *)call->din[1] + t.kv_at,
                    (const float *)(partials + (size_t)(i * s.chunks) * partial_bytes(&s)),
                    adds(call, 1));
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(attention) = { .prepare  = prepare,
                                           .forward  = forward,
                                           .backward = backward };
