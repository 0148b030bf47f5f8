/* onnx_walk.c - see onnx_walk.h. */
#include "support/onnx_walk.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/files.h"

/* ---- The wire --------------------------------------------------------------------------------- */

typedef struct span {
    const unsigned char *at, *end;
} span;

/* A field: its number, and its number or bytes. */
typedef struct field {
    int      number, wire;
    uint64_t value;
    span     bytes;
} field;

static uint64_t varint(span *s)
{
    uint64_t value = 0;

    for (int shift = 0; shift < 64; shift += 7) {
        ck_assert_msg(s->at < s->end, "a varint ends past its message");
        value |= (uint64_t)(*s->at & 0x7f) << shift;
        if (!(*s->at++ & 0x80)) return value;
    }
    ck_abort_msg("a varint of more than 10 bytes");
    return 0;
}

static bool next(span *s, field *f)
{
    uint64_t tag;

    if (s->at == s->end) return false;
    tag         = varint(s);
    *f          = (field){ .number = (int)(tag >> 3), .wire = (int)(tag & 7) };
    f->bytes.at = s->at;
    switch (f->wire) {
    case 0: f->value = varint(s); break;
    case 2:
        f->value = varint(s);
        ck_assert_msg(f->value <= (uint64_t)(s->end - s->at), "field %d ends past its message",
                      f->number);
        f->bytes = (span){ s->at, s->at + f->value };
        s->at    = f->bytes.end;
        break;
    case 5:
        ck_assert_int_ge(s->end - s->at, 4);
        s->at += 4;
        break;
    default: ck_abort_msg("field %d has wire type %d", f->number, f->wire);
    }
    return true;
}

/* The field must have this wire type. */
static void is(const field *f, int wire)
{
    ck_assert_msg(f->wire == wire, "field %d has wire type %d, not %d", f->number, f->wire, wire);
}

static void unknown(const field *f, const char *message)
{
    ck_abort_msg("%s has a field %d", message, f->number);
}

static char *text_of(kd_test_onnx *o, const field *f)
{
    size_t n    = (size_t)(f->bytes.end - f->bytes.at);
    char  *text = malloc(n + 1);

    is(f, 2);
    memcpy(text, f->bytes.at, n);
    text[n] = 0;
    ck_assert_int_lt(o->texts, (int)(sizeof o->text / sizeof o->text[0]));
    o->text[o->texts++] = text;
    return text;
}

static int64_t number_of(const field *f)
{
    is(f, 0);
    return (int64_t)f->value;
}

/* ---- Messages --------------------------------------------------------------------------------- */

static void attribute(kd_test_onnx *o, kd_test_onnx_attribute *a, span s)
{
    for (field f; next(&s, &f);)
        switch (f.number) {
        case 1: a->name = text_of(o, &f); break;
        case 2:
            is(&f, 5);
            memcpy(&a->f, f.bytes.at, 4);
            break;
        case 3: a->i = number_of(&f); break;
        case 4: a->s = text_of(o, &f); break;
        case 8:
            ck_assert_int_lt(a->count, WALK_INTS);
            a->ints[a->count++] = number_of(&f);
            break;
        case 20: a->type = number_of(&f); break;
        default: unknown(&f, "AttributeProto");
        }
}

static void node(kd_test_onnx *o, kd_test_onnx_node *n, span s)
{
    for (field f; next(&s, &f);)
        switch (f.number) {
        case 1:
            ck_assert_int_lt(n->inputs, WALK_INPUTS);
            n->in[n->inputs++] = text_of(o, &f);
            break;
        case 2:
            ck_assert_ptr_null(n->out);
            n->out = text_of(o, &f);
            break;
        case 3: n->name = text_of(o, &f); break;
        case 4: n->type = text_of(o, &f); break;
        case 5:
            is(&f, 2);
            ck_assert_int_lt(n->attributes, WALK_ATTRIBUTES);
            attribute(o, &n->attribute[n->attributes++], f.bytes);
            break;
        default: unknown(&f, "NodeProto");
        }
}

static void tensor(kd_test_onnx *o, kd_test_onnx_tensor *t, span s)
{
    t->count = 1;
    for (field f; next(&s, &f);)
        switch (f.number) {
        case 1:
            ck_assert_int_lt(t->rank, WALK_RANK);
            t->count *= t->dim[t->rank++] = number_of(&f);
            break;
        case 2: t->type = number_of(&f); break;
        case 8: t->name = text_of(o, &f); break;
        case 9:
            is(&f, 2);
            t->values = f.bytes.at;
            t->bytes  = (size_t)(f.bytes.end - f.bytes.at);
            break;
        default: unknown(&f, "TensorProto");
        }
}

static void dimension(kd_test_onnx *o, kd_test_onnx_end *e, span s)
{
    ck_assert_int_lt(e->rank, WALK_RANK);
    for (field f; next(&s, &f);)
        switch (f.number) {
        case 1: e->size[e->rank] = number_of(&f); break;
        case 2: e->free[e->rank] = text_of(o, &f); break;
        default: unknown(&f, "TensorShapeProto.Dimension");
        }
    e->rank++;
}

/* TypeProto (level 0), TypeProto.Tensor (1), TensorShapeProto (2). */
static void type(kd_test_onnx *o, kd_test_onnx_end *e, span s, int level)
{
    for (field f; next(&s, &f);) {
        if (level == 1 && f.number == 1) {
            e->type = number_of(&f);
            continue;
        }
        is(&f, 2);
        if (level == 0 && f.number == 1)
            type(o, e, f.bytes, 1);
        else if (level == 1 && f.number == 2)
            type(o, e, f.bytes, 2);
        else if (level == 2 && f.number == 1)
            dimension(o, e, f.bytes);
        else
            unknown(&f, "TypeProto or a part of it");
    }
}

static void end(kd_test_onnx *o, kd_test_onnx_end *list, int *count, span s)
{
    kd_test_onnx_end *e = &list[*count];

    ck_assert_int_lt(*count, WALK_ENDS);
    ++*count;
    for (field f; next(&s, &f);)
        switch (f.number) {
        case 1: e->name = text_of(o, &f); break;
        case 2:
            is(&f, 2);
            type(o, e, f.bytes, 0);
            break;
        default: unknown(&f, "ValueInfoProto");
        }
}

static int count_of(span s, int number)
{
    int n = 0;

    for (field f; next(&s, &f);)
        n += f.number == number;
    return n;
}

static void graph(kd_test_onnx *o, span s)
{
    o->node   = calloc((size_t)count_of(s, 1) + 1, sizeof *o->node);
    o->tensor = calloc((size_t)count_of(s, 5) + 1, sizeof *o->tensor);
    for (field f; next(&s, &f);) {
        is(&f, 2);
        switch (f.number) {
        case 1: node(o, &o->node[o->nodes++], f.bytes); break;
        case 2: o->name = text_of(o, &f); break;
        case 5: tensor(o, &o->tensor[o->tensors++], f.bytes); break;
        case 11: end(o, o->input, &o->inputs, f.bytes); break;
        case 12: end(o, o->output, &o->outputs, f.bytes); break;
        default: unknown(&f, "GraphProto");
        }
    }
}

static void pair(kd_test_onnx *o, span s)
{
    kd_test_onnx_pair *p = &o->pair[o->pairs++];

    ck_assert_int_le(o->pairs, (int)(sizeof o->pair / sizeof o->pair[0]));
    for (field f; next(&s, &f);)
        switch (f.number) {
        case 1: p->key = text_of(o, &f); break;
        case 2: p->value = text_of(o, &f); break;
        default: unknown(&f, "StringStringEntryProto");
        }
}

static void opset(kd_test_onnx *o, span s)
{
    ck_assert_msg(o->opset == 0, "two sets of ops");
    for (field f; next(&s, &f);)
        switch (f.number) {
        case 1: o->domain = text_of(o, &f); break;
        case 2: o->opset = number_of(&f); break;
        default: unknown(&f, "OperatorSetIdProto");
        }
}

kd_test_onnx *kd_test_onnx_read(const char *path)
{
    kd_test_onnx *o = calloc(1, sizeof *o);
    size_t        n;
    span          s;

    o->file = kd_test_read(path, &n);
    s       = (span){ o->file, o->file + n };
    for (field f; next(&s, &f);)
        switch (f.number) {
        case 1: o->ir = number_of(&f); break;
        case 2: o->producer = text_of(o, &f); break;
        case 3: o->version = text_of(o, &f); break;
        case 7:
            is(&f, 2);
            ck_assert_msg(!o->node, "two graphs");
            graph(o, f.bytes);
            break;
        case 8: opset(o, f.bytes); break;
        case 14: pair(o, f.bytes); break;
        default: unknown(&f, "ModelProto");
        }
    ck_assert_ptr_nonnull(o->node);
    return o;
}

void kd_test_onnx_free(kd_test_onnx *o)
{
    for (int i = 0; i < o->texts; i++)
        free(o->text[i]);
    free(o->node);
    free(o->tensor);
    free(o->file);
    free(o);
}

/* ---- Questions -------------------------------------------------------------------------------- */

const kd_test_onnx_tensor *kd_test_onnx_tensor_of(const kd_test_onnx *o, const char *name)
{
    for (int i = 0; i < o->tensors; i++)
        if (strcmp(o->tensor[i].name, name) == 0) return &o->tensor[i];
    return NULL;
}

const kd_test_onnx_node *kd_test_onnx_maker(const kd_test_onnx *o, const char *value)
{
    for (int i = 0; i < o->nodes; i++)
        if (strcmp(o->node[i].out, value) == 0) return &o->node[i];
    return NULL;
}

const kd_test_onnx_attribute *kd_test_onnx_attribute_of(const kd_test_onnx_node *n,
                                                        const char              *name)
{
    for (int i = 0; i < n->attributes; i++)
        if (strcmp(n->attribute[i].name, name) == 0) return &n->attribute[i];
    return NULL;
}

const char *kd_test_onnx_metadata(const kd_test_onnx *o, const char *key)
{
    for (int i = 0; i < o->pairs; i++)
        if (strcmp(o->pair[i].key, key) == 0) return o->pair[i].value;
    return NULL;
}

/* ---- Soundness -------------------------------------------------------------------------------- */

/* Names of values in byte order, each with whether a node has read it. */
typedef struct value {
    const char *name;
    bool        made, used;
} value;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const value *)a)->name, ((const value *)b)->name);
}

static value *value_of(value *list, int count, const char *name)
{
    value key = { .name = name };

    return bsearch(&key, list, (size_t)count, sizeof *list, by_name);
}

static void assert_known(const kd_test_onnx_node *n)
{
    static const char *const ops[] = { "Abs",
                                       "Add",
                                       "And",
                                       "AveragePool",
                                       "BatchNormalization",
                                       "Cast",
                                       "Clip",
                                       "Concat",
                                       "Conv",
                                       "ConvTranspose",
                                       "DequantizeLinear",
                                       "Div",
                                       "Elu",
                                       "Erf",
                                       "Gather",
                                       "Identity",
                                       "LayerNormalization",
                                       "LeakyRelu",
                                       "Less",
                                       "MatMul",
                                       "MaxPool",
                                       "Mul",
                                       "Not",
                                       "Pad",
                                       "QuantizeLinear",
                                       "Range",
                                       "ReduceMax",
                                       "ReduceMean",
                                       "Relu",
                                       "Reshape",
                                       "Resize",
                                       "Shape",
                                       "Sigmoid",
                                       "Slice",
                                       "Softmax",
                                       "Squeeze",
                                       "Sub",
                                       "Transpose" };

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(ops[i], n->type) == 0) return;
    ck_abort_msg("%s: opset 17 has no op '%s' that is expected here", n->name, n->type);
}

static void assert_tensor(const kd_test_onnx_tensor *t)
{
    static const size_t sizes[] = { [1] = 4, [2] = 1, [3] = 1, [6] = 4, [7] = 8 };

    ck_assert_msg(t->type > 0 && t->type < 8 && sizes[t->type], "%s has type %d", t->name,
                  (int)t->type);
    ck_assert_msg(t->bytes == (size_t)t->count * sizes[t->type], "%s has %zu bytes for %lld values",
                  t->name, t->bytes, (long long)t->count);
}

/* All values, sorted. Fails where a name is twice. */
static value *list_values(const kd_test_onnx *o, int *count)
{
    value *list = calloc((size_t)(o->nodes + o->tensors + o->inputs), sizeof *list);
    int    n    = 0;

    for (int i = 0; i < o->inputs; i++)
        list[n++] = (value){ .name = o->input[i].name, .made = true };
    for (int i = 0; i < o->tensors; i++)
        list[n++] = (value){ .name = o->tensor[i].name, .made = true };
    for (int i = 0; i < o->nodes; i++)
        list[n++] = (value){ .name = o->node[i].out };
    qsort(list, (size_t)n, sizeof *list, by_name);
    for (int i = 1; i < n; i++)
        ck_assert_msg(by_name(&list[i - 1], &list[i]), "'%s' is made twice", list[i].name);
    *count = n;
    return list;
}

void kd_test_onnx_assert_sound(const kd_test_onnx *o)
{
    int    count;
    value *list = list_values(o, &count), *v;

    for (int i = 0; i < o->tensors; i++)
        assert_tensor(&o->tensor[i]);
    for (int i = 0; i < o->nodes; i++) {
        const kd_test_onnx_node *n = &o->node[i];

        assert_known(n);
        ck_assert_str_eq(n->name, n->out);
        for (int k = 0; k < n->inputs; k++) {
            if (!n->in[k][0]) continue; /* absent */
            v = value_of(list, count, n->in[k]);
            ck_assert_msg(v && v->made, "%s reads '%s' before it is made", n->name, n->in[k]);
            v->used = true;
        }
        value_of(list, count, n->out)->made = true;
    }
    for (int i = 0; i < o->outputs; i++) {
        v = value_of(list, count, o->output[i].name);
        ck_assert_msg(v && v->made, "no node makes the output '%s'", o->output[i].name);
        v->used = true;
    }
    for (int i = 0; i < count; i++)
        ck_assert_msg(list[i].used, "nothing reads '%s'", list[i].name);
    free(list);
}

const kd_test_onnx_node *kd_test_onnx_first(const kd_test_onnx *f, const char *type)
{
    for (int i = 0; i < f->nodes; i++)
        if (strcmp(f->node[i].type, type) == 0) return &f->node[i];
    ck_abort_msg("there is no %s", type);
    return NULL;
}

void kd_test_onnx_assert_end(const kd_test_onnx_end *e, const char *want)
{
    char   text[160];
    size_t n = 0;

    ck_assert_int_eq(e->type, 1);
    for (int i = 0; i < e->rank; i++) {
        if (e->free[i])
            n += (size_t)snprintf(text + n, sizeof text - n, " %s", e->free[i]);
        else
            n += (size_t)snprintf(text + n, sizeof text - n, " %lld", (long long)e->size[i]);
    }
    ck_assert_str_eq(text + 1, want);
}
