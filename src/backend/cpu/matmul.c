/* matmul.c - MATMUL: large products (attention of whole maps, H x H) by OpenBLAS, which is faster there; small and thin ones
 * (16-wide operands, thousands of rows) by the kernel in simd/.
 *
 * The rows of all products of a batch are cut into a part for each thread, for which it calls OpenBLAS; OpenBLAS uses one
 * thread (threads.c). A matrix times its own transpose is symmetric: half of it is computed and mirrored, and its gradient is
 * one product, (G + G^T) A, instead of two. OpenBLAS chooses its instruction set itself;
 * OPENBLAS_CORETYPE limits it. */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "backend/cpu/cpu.h"
#include "base/team.h"

#define LARGE 96 /* the smallest extent at which OpenBLAS was measured to be faster */

/* A batch of products alpha op(A) op(B), M x K and K x N; a_cols and b_cols are columns as stored. */
typedef struct product {
    int64_t units; /* products: N x H */
    int     m, n, k;
    int     a_cols, b_cols;
    bool    ta, tb;
    float   alpha;
    int64_t a_size, b_size, c_size;
} product;

static product product_of(const kdas_node_desc *node)
{
    const kdas_matmul_attr *attr = node->attr;
    const int64_t          *a = node->in[0].dim, *b = node->in[1].dim, *c = node->out.dim;

    return (product){ .units  = c[0] * c[1],
                      .m      = (int)c[2],
                      .n      = (int)c[3],
                      .k      = (int)(attr->transpose_a ? a[2] : a[3]),
                      .a_cols = (int)a[3],
                      .b_cols = (int)b[3],
                      .ta     = attr->transpose_a,
                      .tb     = attr->transpose_b,
                      .alpha  = attr->alpha,
                      .a_size = a[2] * a[3],
                      .b_size = b[2] * b[3],
                      .c_size = c[2] * c[3] };
}

static bool is_large(const kdas_node_desc *node)
{
    product p = product_of(node);

    return p.m >= LARGE && p.n >= LARGE && p.k >= LARGE;
}

/* A part's share of one product: of the rows of its result, those from begin/of to end/of. */
typedef struct share {
    int64_t begin, end, of;
} share;

static int row_at(int rows, int64_t part, int64_t of) { return (int)(rows * part / of); }

/* A share of C = alpha op(A) op(B) + beta C, row-major. */
static void gemm(share s, bool ta, bool tb, int m, int n, int k, float alpha, const float *a,
                 int lda, const float *b, int ldb, float beta, float *c)
{
    int64_t begin = row_at(m, s.begin, s.of), rows = row_at(m, s.end, s.of) - begin;

    if (rows)
        cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                    (int)rows, n, k, alpha, ta ? a + begin : a + begin * lda, lda, b, ldb, beta,
                    c + begin * n, n);
}

static void forward_unit(const product *p, const kdas_call *call, int64_t u, share s)
{
    const float *a = call->in[0], *b = call->in[1];

    gemm(s, p->ta, p->tb, p->m, p->n, p->k, p->alpha, a + u * p->a_size, p->a_cols,
         b + u * p->b_size, p->b_cols, 0, (float *)call->out + u * p->c_size);
}

/* The gradient of an operand that is stored transposed is the transposed product. */
static void backward_unit(const product *p, const kdas_call *call, int64_t u, share s)
{
    const float *a      = (const float *)call->in[0] + u * p->a_size;
    const float *b      = (const float *)call->in[1] + u * p->b_size;
    const float *dc     = (const float *)call->dout + u * p->c_size;
    float       *da     = call->din[0] ? (float *)call->din[0] + u * p->a_size : NULL;
    float       *db     = call->din[1] ? (float *)call->din[1] + u * p->b_size : NULL;
    float        beta_a = (float)(call->add & 1), beta_b = (float)(call->add >> 1 & 1);

    if (da && !p->ta)
        gemm(s, false, !p->tb, p->m, p->k, p->n, p->alpha, dc, p->n, b, p->b_cols, beta_a, da);
    else if (da)
        gemm(s, p->tb, true, p->k, p->m, p->n, p->alpha, b, p->b_cols, dc, p->n, beta_a, da);
    if (db && !p->tb)
        gemm(s, !p->ta, false, p->k, p->n, p->m, p->alpha, a, p->a_cols, dc, p->n, beta_b, db);
    else if (db)
        gemm(s, true, p->ta, p->n, p->k, p->m, p->alpha, dc, p->n, a, p->a_cols, beta_b, db);
}

/* ---- A A^T ---- */

static bool is_square_of_one(const product *p, const kdas_call *call)
{
    return call->in[0] == call->in[1] && !p->ta && p->tb;
}

/* The first row of a share of the upper triangle: shares have the same area. */
static int triangle_at(int n, int64_t part, int64_t of)
{
    return (int)(n * (1 - sqrt(1 - (double)part / (double)of)));
}

/* The upper triangle of C. A share of it is a block of rows, of which a little below the diagonal is computed, too. */
static void forward_symmetric(const product *p, const kdas_call *call, int64_t u, share s)
{
    const float *a     = (const float *)call->in[0] + u * p->a_size;
    float       *c     = (float *)call->out + u * p->c_size;
    const int    n     = p->n;
    int64_t      begin = triangle_at(n, s.begin, s.of), end = triangle_at(n, s.end, s.of);

    if (end - begin == n)
        cblas_ssyrk(CblasRowMajor, CblasUpper, CblasNoTrans, n, p->k, p->alpha, a, p->a_cols, 0, c,
                    n);
    else if (end > begin)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)(end - begin), n - (int)begin,
                    p->k, p->alpha, a + begin * p->a_cols, p->a_cols, a + begin * p->a_cols,
                    p->a_cols, 0, c + begin * n + begin, n);
}

/* The lower triangle is the upper one's mirror image. */
static void mirror(const product *p, const kdas_call *call, int64_t u, share s)
{
    float    *c = (float *)call->out + u * p->c_size;
    const int n = p->n;

    for (int64_t i = row_at(n, s.begin, s.of); i < row_at(n, s.end, s.of); i++)
        for (int64_t j = 0; j < i; j++)
            c[i * n + j] = c[j * n + i];
}

/* da = or += alpha (G + G^T) A, where both operands are the same array; G + G^T is in scratch. */
static void backward_symmetric(const product *p, const kdas_call *call, int64_t u, share s)
{
    const float *a   = (const float *)call->in[0] + u * p->a_size;
    const float *g   = (const float *)call->dout + u * p->c_size;
    float       *da  = (float *)call->din[0] + u * p->a_size;
    float       *sum = (float *)call->work + u * p->c_size;
    const int    n   = p->n;

    for (int64_t i = row_at(n, s.begin, s.of); i < row_at(n, s.end, s.of); i++)
        for (int64_t j = 0; j < n; j++)
            sum[i * n + j] = g[i * n + j] + g[j * n + i];
    gemm(s, false, false, n, p->k, n, p->alpha, sum, n, a, p->a_cols, (float)(call->add & 1), da);
}

/* ---- A batch of products, or rather of its rows, in equal parts ---- */

typedef void (*unit_fn)(const product *p, const kdas_call *call, int64_t u, share s);

typedef struct units {
    const product   *p;
    const kdas_call *call;
    unit_fn          run;
    int              parts;
} units;

static void run_units(void *job, int part)
{
    const units  *j    = job;
    const int64_t from = j->p->units * part, to = j->p->units * (part + 1), of = j->parts;

    for (int64_t u = from / of; u * of < to; u++)
        j->run(j->p, j->call, u, (share){ KD_MAX(from - u * of, 0), KD_MIN(to - u * of, of), of });
}

static void each_unit(const kdas_device *device, const product *p, const kdas_call *call,
                      unit_fn run)
{
    units j = { p, call, run, device->threads };

    kd_team_do(j.parts, run_units, &j);
}

/* ---- The kernel: one of the two, by shape ---- */

static const kd_cpu_kernel *own(const kdas_device *device)
{
    return (*device->code)[KDAS_OP_MATMUL];
}

static kdas_status matmul_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    product p = product_of(node);

    if (!is_large(node))
        return own(device)->prepare ? own(device)->prepare(device, node, plan) : KDAS_OK;
    /* whether both operands are the same array is known only when it runs */
    if (!p.ta && p.tb && p.m == p.n && node->wants == 3)
        plan->work_backward = (size_t)(p.units * p.c_size) * sizeof(float);
    return KDAS_OK;
}

static kdas_status matmul_forward(kdas_device *device, const kdas_call *call)
{
    product p = product_of(call->node);

    if (!is_large(call->node)) return own(device)->forward(device, call);
    if (!is_square_of_one(&p, call)) {
        each_unit(device, &p, call, forward_unit);
        return KDAS_OK;
    }
    each_unit(device, &p, call, forward_symmetric);
    each_unit(device, &p, call, mirror);
    return KDAS_OK;
}

static kdas_status matmul_backward(kdas_device *device, const kdas_call *call)
{
    product p   = product_of(call->node);
    bool    one = is_square_of_one(&p, call) && call->din[0] && call->din[0] == call->din[1];

    if (!is_large(call->node)) return own(device)->backward(device, call);
    each_unit(device, &p, call, one ? backward_symmetric : backward_unit);
    return KDAS_OK;
}

const kd_cpu_kernel kd_cpu_matmul = {
    .prepare  = matmul_prepare,
    .forward  = matmul_forward,
    .backward = matmul_backward,
};

/* The configuration begins with the name and the version. */
void kd_openblas_version(char *text, size_t size)
{
    const char *config = openblas_get_config();
    size_t      name   = strcspn(config, " ");
    size_t      length = name + (config[name] ? 1 + strcspn(config + name + 1, " ") : 0);

    snprintf(text, size, "%.*s", (int)length, config);
}
