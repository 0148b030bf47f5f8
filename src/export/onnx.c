/* onnx.c - see onnx.h. Nodes are encoded as they come. Initializers are listed, and written with
 * their values when the file is saved, so that no copy of all weights is needed. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "export/onnx.h"
#include "export/proto.h"
#include "io/file.h"

typedef struct tensor {
    const char *name;
    int         type; /* ONNX_DATA_* */
    int         rank;
    int64_t     dim[KD_ONNX_LARGEST_RANK];
    int64_t     count;
    const void *values;     /* NULL: those of the parameter */
    int         param;      /* -1: none */
    bool        transposed; /* a matrix; dim is that of the file */
} tensor;

struct kd_onnx {
    kdas_context *ctx;
    kd_params    *params;
    kd_pool       pool; /* names and constants */
    const char   *name, *scope;
    int           serial; /* of the last name made here */
    kd_proto      nodes, ends, metadata, part[4];
    tensor       *tensor;
    size_t        count, capacity;
    kdas_status   status;
    char          sentence[512];
};

enum { NODE, ATTRIBUTE, SHAPE, DIM }; /* what the parts are used for */

kdas_status kd_onnx_create(kd_onnx **out, kdas_context *ctx, kd_params *params, const char *name)
{
    kd_onnx *f = kd_calloc(ctx, 1, sizeof *f);

    *out = f;
    if (!f) return KDAS_ENOMEM;
    f->ctx    = ctx;
    f->params = params;
    f->name   = name;
    f->scope  = "";
    kd_pool_init(&f->pool, ctx);
    kd_proto_init(&f->nodes, ctx);
    kd_proto_init(&f->ends, ctx);
    kd_proto_init(&f->metadata, ctx);
    for (size_t i = 0; i < KD_COUNT(f->part); i++)
        kd_proto_init(&f->part[i], ctx);
    return KDAS_OK;
}

void kd_onnx_destroy(kd_onnx *f)
{
    if (!f) return;
    kd_pool_finish(&f->pool);
    kd_proto_finish(&f->nodes);
    kd_proto_finish(&f->ends);
    kd_proto_finish(&f->metadata);
    for (size_t i = 0; i < KD_COUNT(f->part); i++)
        kd_proto_finish(&f->part[i]);
    kd_free(f->ctx, f->tensor);
    kd_free(f->ctx, f);
}

/* ---- Errors ---------------------------------------------------------------------------------- */

/* Keep the sentence already set, if it is the first. */
static const char *keep_error(kd_onnx *f, kdas_status status)
{
    if (f->status == KDAS_OK) {
        f->status = status;
        snprintf(f->sentence, sizeof f->sentence, "%s", kdas_last_error());
    }
    return NULL;
}

const char *kd_onnx_fail(kd_onnx *f, kdas_status status, const char *format, ...)
{
    char    text[400];
    va_list args;

    va_start(args, format);
    kd_vformat(text, sizeof text, format, args);
    va_end(args);
    return keep_error(f, kd_fail(status, "%s", text));
}

kdas_status kd_onnx_status(const kd_onnx *f)
{
    return f->status == KDAS_OK ? KDAS_OK : kd_fail(f->status, "%s", f->sentence);
}

/* Take over an encoder's failure. */
static void keep_proto(kd_onnx *f, const kd_proto *p)
{
    if (p->status != KDAS_OK) keep_error(f, p->status);
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

void kd_onnx_scope(kd_onnx *f, const char *scope) { f->scope = scope; }

/* SCOPE/WHAT.SERIAL, different from every other name. */
static const char *new_name(kd_onnx *f, const char *what)
{
    char        text[400];
    const char *name;

    kd_format(text, sizeof text, "%.300s/%s.%d", f->scope, what, ++f->serial);
    name = kd_pool_strdup(&f->pool, text);
    return name ? name : keep_error(f, KDAS_ENOMEM);
}

static void put_attribute(kd_onnx *f, const kd_onnx_attr *attr)
{
    kd_proto *p = &f->part[ATTRIBUTE];

    kd_proto_clear(p);
    kd_proto_put_text(p, ONNX_ATTRIBUTE_NAME, attr->name);
    switch (attr->type) {
    case ONNX_TYPE_FLOAT: kd_proto_put_float(p, ONNX_ATTRIBUTE_F, attr->f); break;
    case ONNX_TYPE_INT: kd_proto_put_int(p, ONNX_ATTRIBUTE_I, attr->i); break;
    case ONNX_TYPE_STRING: kd_proto_put_text(p, ONNX_ATTRIBUTE_S, attr->s); break;
    default:
        for (int64_t i = 0; i < attr->i; i++)
            kd_proto_put_int(p, ONNX_ATTRIBUTE_INTS, attr->ints[i]);
    }
    kd_proto_put_int(p, ONNX_ATTRIBUTE_TYPE, attr->type);
    kd_proto_put_message(&f->part[NODE], ONNX_NODE_ATTRIBUTE, p);
}

const char *kd_onnx_node_as(kd_onnx *f, const char *out, const char *type, int inputs,
                            const char *const *in, int attrs, const kd_onnx_attr *attr)
{
    kd_proto *p = &f->part[NODE];

    for (int i = 0; i < inputs; i++)
        if (!in[i]) return NULL;
    if (f->status != KDAS_OK || !out) return NULL;
    kd_proto_clear(p);
    for (int i = 0; i < inputs; i++)
        kd_proto_put_text(p, ONNX_NODE_INPUT, in[i]);
    kd_proto_put_text(p, ONNX_NODE_OUTPUT, out);
    kd_proto_put_text(p, ONNX_NODE_NAME, out);
    kd_proto_put_text(p, ONNX_NODE_OP_TYPE, type);
    for (int i = 0; i < attrs; i++)
        put_attribute(f, &attr[i]);
    kd_proto_put_message(&f->nodes, ONNX_GRAPH_NODE, p);
    keep_proto(f, &f->nodes);
    return f->status == KDAS_OK ? out : NULL;
}

const char *kd_onnx_node(kd_onnx *f, const char *type, int inputs, const char *const *in, int attrs,
                         const kd_onnx_attr *attr)
{
    return kd_onnx_node_as(f, new_name(f, type), type, inputs, in, attrs, attr);
}

/* ---- Initializers ---------------------------------------------------------------------------- */

static const char *add_tensor(kd_onnx *f, const tensor *t)
{
    if (f->status != KDAS_OK || !t->name) return NULL;
    if (kd_grow(f->ctx, (void **)&f->tensor, &f->capacity, f->count + 1, sizeof *f->tensor))
        return keep_error(f, KDAS_ENOMEM);
    f->tensor[f->count++] = *t;
    return t->name;
}

static size_t tensor_bytes(const tensor *t)
{
    switch (t->type) {
    case ONNX_DATA_INT64: return (size_t)t->count * sizeof(int64_t);
    case ONNX_DATA_INT32: return (size_t)t->count * sizeof(int32_t);
    case ONNX_DATA_FLOAT: return (size_t)t->count * sizeof(float);
    default: return (size_t)t->count;
    }
}

static void set_dims(tensor *t, int rank, const int64_t *dims)
{
    t->rank  = rank;
    t->count = 1;
    for (int i = 0; i < rank; i++)
        t->count *= t->dim[i] = dims[i];
}

static const char *add_copy(kd_onnx *f, tensor *t, const void *values)
{
    size_t bytes = tensor_bytes(t);
    void  *copy  = kd_pool_alloc(&f->pool, bytes);

    if (!copy) return keep_error(f, KDAS_ENOMEM);
    memcpy(copy, values, bytes);
    t->values = copy;
    t->param  = -1;
    return add_tensor(f, t);
}

/* `name`, or `base` with a number where another tensor has it. */
static const char *free_name(kd_onnx *f, const char *name, const char *base)
{
    char        text[512];
    const char *made;

    kd_format(text, sizeof text, "%.400s", name);
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->tensor[i].name, text) == 0)
            kd_format(text, sizeof text, "%.400s.%d", base, ++f->serial);
    made = kd_pool_strdup(&f->pool, text);
    return made ? made : keep_error(f, KDAS_ENOMEM);
}

/* A constant of equal type, shape and bytes is stored once. `name`: what the tensor wants to be
 * called; NULL: by its number. */
static const char *constant(kd_onnx *f, const char *name, tensor *t, const void *values)
{
    size_t bytes = tensor_bytes(t);

    if (f->status != KDAS_OK) return NULL;
    for (size_t i = 0; i < f->count; i++) {
        const tensor *o = &f->tensor[i];

        if (o->param < 0 && o->type == t->type && o->rank == t->rank && o->count == t->count &&
            memcmp(o->dim, t->dim, sizeof o->dim) == 0 && memcmp(o->values, values, bytes) == 0)
            return o->name;
    }
    t->name = name ? free_name(f, name, name) : new_name(f, "constant");
    return add_copy(f, t, values);
}

const char *kd_onnx_floats(kd_onnx *f, int rank, const int64_t *dims, const float *values)
{
    tensor t = { .type = ONNX_DATA_FLOAT };

    set_dims(&t, rank, dims);
    return constant(f, NULL, &t, values);
}

const char *kd_onnx_float(kd_onnx *f, float value) { return kd_onnx_floats(f, 0, NULL, &value); }

const char *kd_onnx_ints(kd_onnx *f, int count, const int64_t *values)
{
    tensor  t    = { .type = ONNX_DATA_INT64 };
    int64_t dims = count;

    set_dims(&t, count < 0 ? 0 : 1, &dims);
    return constant(f, NULL, &t, values);
}

const char *kd_onnx_numbers(kd_onnx *f, const char *name, int type, int rank, const int64_t *dims,
                            const void *values)
{
    tensor t = { .type = type };

    set_dims(&t, rank, dims);
    return constant(f, name, &t, values);
}

bool kd_onnx_read(kd_onnx *f, int param, float *to)
{
    kdas_status st = f->status == KDAS_OK ? kd_params_read(f->params, param, to) : f->status;

    if (st != KDAS_OK) keep_error(f, st);
    return st == KDAS_OK;
}

const char *kd_onnx_weight(kd_onnx *f, int param, int rank, const int64_t *dims, bool transposed)
{
    const kd_param_entry *e = kd_params_at(f->params, param);
    tensor                t = { .type = ONNX_DATA_FLOAT, .param = param };
    char                  name[512];

    if (f->status != KDAS_OK) return NULL;
    assert(!transposed || rank == 2);
    set_dims(&t, rank, transposed ? (const int64_t[]){ dims[1], dims[0] } : dims);
    t.transposed = transposed;
    for (size_t i = 0; i < f->count; i++) {
        const tensor *o = &f->tensor[i];

        if (o->param == param && o->rank == rank && o->transposed == transposed &&
            memcmp(o->dim, t.dim, sizeof t.dim) == 0)
            return o->name;
    }
    /* the name of the state_dict for a form that keeps its order; one of each shape has it */
    kd_format(name, sizeof name, "%.400s%s", e->name, transposed ? ".transposed" : "");
    t.name = free_name(f, name, e->name);
    return add_tensor(f, &t);
}

/* ---- Ends and metadata ----------------------------------------------------------------------- */

/* A ValueInfoProto, from the inside out; the parts are reused level by level. */
static void put_end(kd_onnx *f, int field, const char *name, const kd_onnx_axis axis[4])
{
    kd_proto *shape = &f->part[SHAPE], *dim = &f->part[DIM], *type = &f->part[NODE],
             *outer = &f->part[ATTRIBUTE];

    kd_proto_clear(shape);
    for (int i = 0; i < 4; i++) {
        kd_proto_clear(dim);
        if (axis[i].free)
            kd_proto_put_text(dim, ONNX_DIM_PARAM, axis[i].free);
        else
            kd_proto_put_int(dim, ONNX_DIM_VALUE, axis[i].size);
        kd_proto_put_message(shape, ONNX_SHAPE_DIM, dim);
    }
    kd_proto_clear(type);
    kd_proto_put_int(type, ONNX_TENSOR_TYPE_ELEM, ONNX_DATA_FLOAT);
    kd_proto_put_message(type, ONNX_TENSOR_TYPE_DIMS, shape);
    kd_proto_clear(outer);
    kd_proto_put_message(outer, ONNX_TYPE_TENSOR_TYPE, type);
    kd_proto_clear(type);
    kd_proto_put_text(type, ONNX_VALUE_NAME, name);
    kd_proto_put_message(type, ONNX_VALUE_TYPE, outer);
    kd_proto_put_message(&f->ends, field, type);
    keep_proto(f, &f->ends);
}

void kd_onnx_input(kd_onnx *f, const char *name, const kd_onnx_axis axis[4])
{
    put_end(f, ONNX_GRAPH_INPUT, name, axis);
}

void kd_onnx_output(kd_onnx *f, const char *name, const kd_onnx_axis axis[4])
{
    put_end(f, ONNX_GRAPH_OUTPUT, name, axis);
}

void kd_onnx_metadata(kd_onnx *f, const char *key, const char *value)
{
    kd_proto *p = &f->part[NODE];

    kd_proto_clear(p);
    kd_proto_put_text(p, ONNX_PAIR_KEY, key);
    kd_proto_put_text(p, ONNX_PAIR_VALUE, value);
    kd_proto_put_message(&f->metadata, ONNX_MODEL_METADATA_PROPS, p);
    keep_proto(f, &f->metadata);
}

/* ---- Saving ---------------------------------------------------------------------------------- */

/* A TensorProto up to its values. Returns its size with them. */
static uint64_t tensor_head(kd_proto *p, const tensor *t)
{
    kd_proto_clear(p);
    for (int i = 0; i < t->rank; i++)
        kd_proto_put_int(p, ONNX_TENSOR_DIMS, t->dim[i]);
    kd_proto_put_int(p, ONNX_TENSOR_DATA_TYPE, t->type);
    kd_proto_put_text(p, ONNX_TENSOR_NAME, t->name);
    kd_proto_put_head(p, ONNX_TENSOR_RAW_DATA, tensor_bytes(t));
    return p->size + tensor_bytes(t);
}

/* Size of all initializers as fields of the graph, and of the largest one's values. */
static uint64_t measure(kd_onnx *f, size_t *largest)
{
    kd_proto *head = &f->part[SHAPE], *field = &f->part[DIM];
    uint64_t  sum = 0;

    for (size_t i = 0; i < f->count; i++) {
        uint64_t bytes = tensor_head(head, &f->tensor[i]);

        kd_proto_clear(field);
        kd_proto_put_head(field, ONNX_GRAPH_INITIALIZER, bytes);
        sum += field->size + bytes;
        *largest = KD_MAX(*largest, tensor_bytes(&f->tensor[i]));
    }
    keep_proto(f, head);
    keep_proto(f, field);
    return sum;
}

static kdas_status read_values(kd_onnx *f, const tensor *t, float *read, float *turned,
                               const void **out)
{
    *out = t->values;
    if (t->values) return KDAS_OK;
    KD_RETURN(kd_params_read(f->params, t->param, read));
    *out = read;
    if (!t->transposed) return KDAS_OK;
    for (int64_t r = 0; r < t->dim[0]; r++)
        for (int64_t c = 0; c < t->dim[1]; c++)
            turned[r * t->dim[1] + c] = read[c * t->dim[0] + r];
    *out = turned;
    return KDAS_OK;
}

static kdas_status write_tensors(kd_onnx *f, kd_writer *writer, float *read, float *turned)
{
    kd_proto *head = &f->part[SHAPE], *field = &f->part[DIM];

    for (size_t i = 0; i < f->count; i++) {
        const tensor *t = &f->tensor[i];
        const void   *values;
        uint64_t      bytes = tensor_head(head, t);

        kd_proto_clear(field);
        kd_proto_put_head(field, ONNX_GRAPH_INITIALIZER, bytes);
        KD_RETURN(head->status);
        KD_RETURN(field->status);
        KD_RETURN(read_values(f, t, read, turned, &values));
        KD_RETURN(kd_writer_put(writer, field->data, field->size));
        KD_RETURN(kd_writer_put(writer, head->data, head->size));
        KD_RETURN(kd_writer_put(writer, values, tensor_bytes(t)));
    }
    return KDAS_OK;
}

/* The model's fields before the graph's content. */
static void model_head(kd_onnx *f, kd_proto *p, uint64_t graph)
{
    kd_proto *opset = &f->part[NODE];

    kd_proto_put_int(p, ONNX_MODEL_IR_VERSION, KD_ONNX_IR);
    kd_proto_put_text(p, ONNX_MODEL_PRODUCER_NAME, "libkdas");
    kd_proto_put_text(p, ONNX_MODEL_PRODUCER_VERSION, kdas_version_string());
    kd_proto_clear(opset);
    kd_proto_put_int(opset, ONNX_OPSET_VERSION, KD_ONNX_OPSET);
    kd_proto_put_message(p, ONNX_MODEL_OPSET_IMPORT, opset);
    kd_proto_put_head(p, ONNX_MODEL_GRAPH, graph);
}

kdas_status kd_onnx_save(kd_onnx *f, const char *path)
{
    kd_writer  *writer  = NULL;
    float      *read    = NULL;
    size_t      largest = 0;
    kd_proto    model, name;
    uint64_t    graph;
    kdas_status st = kd_onnx_status(f);

    if (st != KDAS_OK) return st;
    kd_proto_init(&model, f->ctx);
    kd_proto_init(&name, f->ctx);
    kd_proto_put_text(&name, ONNX_GRAPH_NAME, f->name);
    graph = measure(f, &largest) + name.size + f->nodes.size + f->ends.size;
    model_head(f, &model, graph);
    keep_proto(f, &model);
    keep_proto(f, &name);
    KD_TRY(kd_onnx_status(f));
    if (graph + model.size + f->metadata.size > KD_ONNX_LIMIT) {
        st = kd_fail(KDAS_EINVAL,
                     "'%s' as ONNX would take %.2f GiB; a protobuf file holds less than 2", f->name,
                     (double)graph / (1 << 30));
        goto done;
    }
    st   = KDAS_ENOMEM;
    read = kd_alloc(f->ctx, 2 * largest); /* as it is, and transposed */
    if (!read) goto done;
    KD_TRY(kd_writer_open(&writer, f->ctx, path));
    KD_TRY(kd_writer_put(writer, model.data, model.size));
    KD_TRY(kd_writer_put(writer, name.data, name.size));
    KD_TRY(kd_writer_put(writer, f->nodes.data, f->nodes.size));
    KD_TRY(kd_writer_put(writer, f->ends.data, f->ends.size));
    KD_TRY(write_tensors(f, writer, read, (float *)((char *)read + largest)));
    KD_TRY(kd_writer_put(writer, f->metadata.data, f->metadata.size));
    st = kd_writer_commit(&writer);
done:
    kd_writer_discard(writer);
    kd_free(f->ctx, read);
    kd_proto_finish(&model);
    kd_proto_finish(&name);
    return st;
}
