/* pickle.c - a stack machine for the opcodes of Python's pickletools, whose values are all inert. A
 * pickle is untrusted: each opcode checks the bytes that it reads and the values that it takes, and
 * the number of values is bounded, and with it memory and time. */
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "io/pickle_inside.h"

#define MARK UINT32_MAX /* on the stack: where a group of values begins */

typedef struct machine {
    kd_pickle           *p;
    const unsigned char *bytes;
    size_t               size, at;
    uint32_t            *stack;
    size_t               depth, stack_capacity;
    uint32_t            *memo; /* item 0: not set */
    size_t               memos, memo_capacity, memoized;
    kdas_status          status; /* the first failure */
    bool                 cut;    /* it was the end of the bytes */
} machine;

static void damaged(machine *m, const char *why)
{
    if (m->status == KDAS_OK)
        m->status = kd_fail(KDAS_EFORMAT, "its pickle is damaged at byte %zu: %s", m->at, why);
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* The next n bytes; NULL with the failure set if there are fewer. */
static const unsigned char *take(machine *m, uint64_t n)
{
    const unsigned char *bytes;

    if (m->status != KDAS_OK) return NULL;
    if (n > m->size - m->at) {
        m->cut    = true;
        m->status = kd_fail(KDAS_EFORMAT, "its pickle is cut off at byte %zu", m->size);
        return NULL;
    }
    bytes = m->bytes + m->at; /* which may be NULL where there are none */
    m->at += (size_t)n;
    return bytes;
}

/* A little-endian number of n bytes, up to 8. */
static uint64_t number(machine *m, int n)
{
    const unsigned char *bytes = take(m, (uint64_t)n);
    uint64_t             x     = 0;

    for (int i = n; bytes && i-- > 0;)
        x = x << 8 | bytes[i];
    return x;
}

/* Bytes up to a line end, which is taken too. */
static const char *line(machine *m, size_t *length)
{
    size_t               left  = m->size - m->at;
    const unsigned char *begin = left ? m->bytes + m->at : NULL;
    const unsigned char *end   = left ? memchr(begin, '\n', left) : NULL;

    if (!end) {
        take(m, left + 1);
        return NULL;
    }
    *length = (size_t)(end - begin);
    take(m, *length + 1);
    return (const char *)begin;
}

/* ---- Values ---------------------------------------------------------------------------------- */

static uint32_t new_value(machine *m, kd_pickle_kind kind)
{
    kd_pickle *p = m->p;

    if (m->status != KDAS_OK) return 0;
    if (p->values >= KD_PICKLE_MAX_VALUES) {
        damaged(m, "it has too many values");
        return 0;
    }
    m->status =
        kd_grow(p->ctx, (void **)&p->value, &p->value_capacity, p->values + 1, sizeof *p->value);
    if (m->status != KDAS_OK) return 0;
    p->value[p->values] = (kd_pickle_value){ .kind = (uint8_t)kind };
    return (uint32_t)p->values++;
}

static void push(machine *m, uint32_t item)
{
    if (m->status == KDAS_OK)
        m->status = kd_grow(m->p->ctx, (void **)&m->stack, &m->stack_capacity, m->depth + 1,
                            sizeof *m->stack);
    if (m->status == KDAS_OK) m->stack[m->depth++] = item;
}

static void push_new(machine *m, kd_pickle_kind kind) { push(m, new_value(m, kind)); }

static void push_whole(machine *m, kd_pickle_kind kind, int64_t whole)
{
    uint32_t i = new_value(m, kind);

    if (i) m->p->value[i].whole = whole;
    push(m, i);
}

static uint32_t top(machine *m)
{
    if (m->status == KDAS_OK && (m->depth == 0 || m->stack[m->depth - 1] == MARK))
        damaged(m, "a value is missing on its stack");
    return m->status == KDAS_OK ? m->stack[m->depth - 1] : 0;
}

static uint32_t pop(machine *m)
{
    uint32_t item = top(m);

    if (item) m->depth--;
    return item;
}

/* Where the values after the last mark begin. The mark is just before it. */
static size_t after_mark(machine *m)
{
    size_t at = m->depth;

    while (at > 0 && m->stack[at - 1] != MARK)
        at--;
    if (at == 0) damaged(m, "a mark is missing on its stack");
    return at;
}

static void add(machine *m, uint32_t to, uint32_t key, uint32_t item)
{
    kd_pickle       *p = m->p;
    kd_pickle_value *v;

    if (m->status != KDAS_OK) return;
    if (p->cells >= KD_PICKLE_MAX_VALUES) {
        damaged(m, "it has too many elements");
        return;
    }
    m->status =
        kd_grow(p->ctx, (void **)&p->cell, &p->cell_capacity, p->cells + 1, sizeof *p->cell);
    if (m->status != KDAS_OK) return;
    v                 = &p->value[to];
    p->cell[p->cells] = (kd_pickle_cell){ .key = key, .item = item };
    if (v->first)
        p->cell[v->last].next = (uint32_t)p->cells;
    else
        v->first = (uint32_t)p->cells;
    v->last = (uint32_t)p->cells++;
    v->count++;
}

static void push_text(machine *m, kd_pickle_kind kind, uint64_t length)
{
    const unsigned char *bytes = take(m, length);
    uint32_t             i     = bytes ? new_value(m, kind) : 0;

    if (i) {
        m->p->value[i].at     = (uint32_t)(bytes - m->bytes);
        m->p->value[i].length = (uint32_t)length;
    }
    push(m, i);
}

/* A tuple of the last n values. */
static void push_tuple(machine *m, size_t n)
{
    uint32_t tuple = new_value(m, KD_PICKLE_TUPLE);
    size_t   begin;

    if (n > m->depth) damaged(m, "a value is missing on its stack");
    if (m->status != KDAS_OK) return;
    begin = m->depth - n;
    for (size_t i = begin; i < m->depth; i++) {
        if (m->stack[i] == MARK) damaged(m, "a value is missing on its stack");
        add(m, tuple, 0, m->stack[i]);
    }
    m->depth = begin;
    push(m, tuple);
}

/* A container of the values after the last mark. */
static void push_marked(machine *m, kd_pickle_kind kind)
{
    size_t   at   = after_mark(m);
    uint32_t item = new_value(m, kind);
    size_t   step = kind == KD_PICKLE_DICT ? 2 : 1;

    if (m->status == KDAS_OK && (m->depth - at) % step) damaged(m, "a key has no value");
    for (size_t i = at; m->status == KDAS_OK && i < m->depth; i += step)
        add(m, item, step == 2 ? m->stack[i] : 0, m->stack[i + step - 1]);
    if (m->status == KDAS_OK) m->depth = at - 1;
    push(m, item);
}

/* Put the values after the last mark into the value below it. */
static void add_marked(machine *m, bool keys)
{
    size_t   at = after_mark(m), step = keys ? 2 : 1;
    uint32_t to = m->status == KDAS_OK && at >= 2 ? m->stack[at - 2] : 0;

    if (m->status == KDAS_OK && (!to || to == MARK)) damaged(m, "a container is missing");
    if (m->status == KDAS_OK && (m->depth - at) % step) damaged(m, "a key has no value");
    for (size_t i = at; m->status == KDAS_OK && i < m->depth; i += step)
        add(m, to, keys ? m->stack[i] : 0, m->stack[i + step - 1]);
    if (m->status == KDAS_OK) m->depth = at - 1;
}

/* ---- Globals and objects --------------------------------------------------------------------- */

static uint32_t new_global(machine *m, const char *module, size_t module_length, const char *name,
                           size_t name_length)
{
    uint32_t i = new_value(m, KD_PICKLE_GLOBAL);

    if (!i) return 0;
    m->p->value[i].at          = (uint32_t)(module - m->p->bytes);
    m->p->value[i].length      = (uint32_t)module_length;
    m->p->value[i].name_at     = (uint32_t)(name - m->p->bytes);
    m->p->value[i].name_length = (uint32_t)name_length;
    return i;
}

static uint32_t global_of_lines(machine *m)
{
    size_t      module_length = 0, name_length = 0;
    const char *module = line(m, &module_length), *name = module ? line(m, &name_length) : NULL;

    return name ? new_global(m, module, module_length, name, name_length) : 0;
}

static void stack_global(machine *m)
{
    uint32_t    name = pop(m), module = pop(m);
    size_t      name_length = 0, module_length = 0;
    const char *n, *o;

    if (m->status != KDAS_OK) return;
    n = kd_pickle_text(m->p, name, &name_length);
    o = kd_pickle_text(m->p, module, &module_length);
    if (!n || !o)
        damaged(m, "the name of a global is no text");
    else
        push(m, new_global(m, o, module_length, n, name_length));
}

static void push_object(machine *m, kd_pickle_kind kind, uint32_t callable, uint32_t args)
{
    uint32_t i = new_value(m, kind);

    if (i) {
        m->p->value[i].callable = callable;
        m->p->value[i].args     = args;
    }
    push(m, i);
}

static void call(machine *m, bool keywords)
{
    uint32_t args, callable;

    if (keywords) pop(m);
    args     = pop(m);
    callable = pop(m);
    if (args && m->p->value[args].kind != KD_PICKLE_TUPLE)
        damaged(m, "the arguments of a call are no tuple");
    push_object(m, KD_PICKLE_OBJECT, callable, args);
}

/* 'o': a mark, a class, its arguments. */
static void call_marked(machine *m)
{
    size_t   at = after_mark(m);
    uint32_t callable, args;

    if (m->status != KDAS_OK) return;
    if (at == m->depth) {
        damaged(m, "a class is missing");
        return;
    }
    push_tuple(m, m->depth - at - 1);
    args     = pop(m);
    callable = pop(m);
    if (m->status == KDAS_OK) m->depth--; /* the mark */
    push_object(m, KD_PICKLE_OBJECT, callable, args);
}

static void call_named(machine *m) /* 'i' */
{
    uint32_t callable = global_of_lines(m), args;

    push_marked(m, KD_PICKLE_TUPLE);
    args = pop(m);
    push_object(m, KD_PICKLE_OBJECT, callable, args);
}

static void build(machine *m)
{
    uint32_t state = pop(m), object = top(m);

    if (m->status == KDAS_OK && m->p->value[object].kind == KD_PICKLE_OBJECT)
        m->p->value[object].state = state;
}

/* ---- Memo ------------------------------------------------------------------------------------ */

static void remember(machine *m, uint64_t index)
{
    uint32_t item = top(m);

    if (m->status != KDAS_OK) return;
    if (index >= KD_PICKLE_MAX_VALUES) {
        damaged(m, "its memo is too long");
        return;
    }
    m->status = kd_grow(m->p->ctx, (void **)&m->memo, &m->memo_capacity, (size_t)index + 1,
                        sizeof *m->memo); /* new places are zero */
    if (m->status != KDAS_OK) return;
    m->memo[index] = item;
    m->memoized++;
}

static void recall(machine *m, uint64_t index)
{
    uint32_t item = m->status == KDAS_OK && index < m->memo_capacity ? m->memo[index] : 0;

    if (!item) damaged(m, "it refers to a value that it does not have");
    push(m, item);
}

/* ---- Opcodes --------------------------------------------------------------------------------- */

/* A whole number in a line of digits; "L" ends a long one. */
static void whole_of_line(machine *m, bool bools)
{
    size_t      n     = 0;
    const char *text  = line(m, &n), *end;
    int64_t     whole = 0;
    char        digits[32];

    if (!text) return;
    if (bools && n == 2 && text[0] == '0' && (text[1] == '0' || text[1] == '1')) {
        push_whole(m, KD_PICKLE_BOOL, text[1] == '1');
        return;
    }
    if (n > 0 && text[n - 1] == 'L') n--;
    snprintf(digits, sizeof digits, "%.*s", (int)KD_MIN(n, sizeof digits - 1), text);
    if (n < sizeof digits && kd_parse_whole(digits, &end, &whole) && !*end)
        push_whole(m, KD_PICKLE_WHOLE, whole);
    else
        push_new(m, KD_PICKLE_BIG);
}

/* A little-endian two's complement number of n bytes. */
static void push_long(machine *m, uint64_t n)
{
    const unsigned char *bytes = take(m, n);
    uint64_t             x;

    if (!bytes) return;
    if (n > 8) {
        push_new(m, KD_PICKLE_BIG);
        return;
    }
    x = n && bytes[n - 1] & 0x80 ? UINT64_MAX : 0;
    for (uint64_t i = n; i-- > 0;)
        x = x << 8 | bytes[i];
    push_whole(m, KD_PICKLE_WHOLE, (int64_t)x);
}

static void push_real(machine *m)
{
    const unsigned char *bytes = take(m, 8);
    uint64_t             x     = 0;
    uint32_t             i     = bytes ? new_value(m, KD_PICKLE_REAL) : 0;

    if (!i) return;
    for (int k = 0; k < 8; k++)
        x = x << 8 | bytes[k]; /* the one number with its high byte first */
    memcpy(&m->p->value[i].real, &x, sizeof x);
    push(m, i);
}

/* Opcodes that push a number or a text. False: it is another one. */
static bool do_scalar(machine *m, unsigned char op)
{
    switch (op) {
    case 'N': push_new(m, KD_PICKLE_NONE); return true;
    case 0x88: push_whole(m, KD_PICKLE_BOOL, 1); return true;
    case 0x89: push_whole(m, KD_PICKLE_BOOL, 0); return true;
    case 'I': whole_of_line(m, true); return true;
    case 'L': whole_of_line(m, false); return true;
    case 'J': push_whole(m, KD_PICKLE_WHOLE, (int32_t)number(m, 4)); return true;
    case 'K': push_whole(m, KD_PICKLE_WHOLE, (int64_t)number(m, 1)); return true;
    case 'M': push_whole(m, KD_PICKLE_WHOLE, (int64_t)number(m, 2)); return true;
    case 0x8A: push_long(m, number(m, 1)); return true;
    case 0x8B: push_long(m, number(m, 4)); return true;
    case 'G': push_real(m); return true;
    case 'X':
    case 'T': push_text(m, KD_PICKLE_TEXT, number(m, 4)); return true;
    case 'U':
    case 0x8C: push_text(m, KD_PICKLE_TEXT, number(m, 1)); return true;
    case 0x8D: push_text(m, KD_PICKLE_TEXT, number(m, 8)); return true;
    case 'B': push_text(m, KD_PICKLE_BYTES, number(m, 4)); return true;
    case 'C': push_text(m, KD_PICKLE_BYTES, number(m, 1)); return true;
    case 0x8E:
    case 0x96: push_text(m, KD_PICKLE_BYTES, number(m, 8)); return true;
    default: return false;
    }
}

static void add_pair(machine *m) /* 's' */
{
    uint32_t item = pop(m), key = pop(m), to = top(m);

    add(m, to, key, item);
}

static void add_one(machine *m) /* 'a' */
{
    uint32_t item = pop(m), to = top(m);

    add(m, to, 0, item);
}

static bool do_container(machine *m, unsigned char op)
{
    switch (op) {
    case '(': push(m, MARK); return true;
    case ')': push_new(m, KD_PICKLE_TUPLE); return true;
    case ']': push_new(m, KD_PICKLE_LIST); return true;
    case '}': push_new(m, KD_PICKLE_DICT); return true;
    case 0x8F: push_new(m, KD_PICKLE_SET); return true;
    case 't': push_marked(m, KD_PICKLE_TUPLE); return true;
    case 'l': push_marked(m, KD_PICKLE_LIST); return true;
    case 'd': push_marked(m, KD_PICKLE_DICT); return true;
    case 0x91: push_marked(m, KD_PICKLE_SET); return true;
    case 0x85: push_tuple(m, 1); return true;
    case 0x86: push_tuple(m, 2); return true;
    case 0x87: push_tuple(m, 3); return true;
    case 'a': add_one(m); return true;
    case 's': add_pair(m); return true;
    case 'e':
    case 0x90: add_marked(m, false); return true;
    case 'u': add_marked(m, true); return true;
    default: return false;
    }
}

static bool do_object(machine *m, unsigned char op)
{
    size_t      n = 0;
    const char *text;

    switch (op) {
    case 'c': push(m, global_of_lines(m)); return true;
    case 0x93: stack_global(m); return true;
    case 'R':
    case 0x81: call(m, false); return true;
    case 0x92: call(m, true); return true;
    case 'i': call_named(m); return true;
    case 'o': call_marked(m); return true;
    case 'b': build(m); return true;
    case 'Q': push_object(m, KD_PICKLE_PERSISTENT, 0, pop(m)); return true;
    case 'P':
        text = line(m, &n);
        if (text) push_object(m, KD_PICKLE_PERSISTENT, 0, 0);
        return true;
    default: return false;
    }
}

static bool do_memo(machine *m, unsigned char op)
{
    size_t      n = 0;
    const char *text, *end;
    int64_t     index = -1;
    char        digits[16];

    switch (op) {
    case 'q': remember(m, number(m, 1)); return true;
    case 'r': remember(m, number(m, 4)); return true;
    case 0x94: remember(m, m->memoized); return true;
    case 'h': recall(m, number(m, 1)); return true;
    case 'j': recall(m, number(m, 4)); return true;
    case 'p':
    case 'g':
        text = line(m, &n);
        if (!text) return true;
        snprintf(digits, sizeof digits, "%.*s", (int)KD_MIN(n, sizeof digits - 1), text);
        if (!kd_parse_whole(digits, &end, &index) || *end || index < 0)
            damaged(m, "a place in its memo is no number");
        else if (op == 'p')
            remember(m, (uint64_t)index);
        else
            recall(m, (uint64_t)index);
        return true;
    case '0':
        if (m->depth == 0)
            damaged(m, "a value is missing on its stack");
        else
            m->depth--;
        return true;
    case '1': m->depth = m->status == KDAS_OK ? after_mark(m) : 0; return true;
    case '2': push(m, top(m)); return true;
    case 0x80:
        if (number(m, 1) > 5) damaged(m, "its protocol is newer than 5");
        return true;
    case 0x95: number(m, 8); return true; /* a frame */
    default: return false;
    }
}

static void run(machine *m)
{
    for (;;) {
        const unsigned char *op = take(m, 1);

        if (!op) return;
        if (*op == '.') {
            m->p->root = pop(m);
            return;
        }
        if (do_scalar(m, *op) || do_container(m, *op) || do_object(m, *op) || do_memo(m, *op)) {
            if (m->status != KDAS_OK) return;
            if (*op == '1' && m->depth > 0) m->depth--; /* the mark itself */
        } else {
            m->status = kd_fail(KDAS_EFORMAT,
                                "its pickle has an opcode 0x%02X at byte %zu, which "
                                "is not read",
                                *op, m->at - 1);
            return;
        }
    }
}

kdas_status kd_pickle_read(kd_pickle **out, kdas_context *ctx, const void *bytes, size_t size,
                           size_t *used, bool *cut)
{
    kd_pickle *p = kd_calloc(ctx, 1, sizeof *p);
    machine    m = { .p = p, .bytes = bytes, .size = size };

    *out = NULL;
    *cut = false;
    if (!p) return KDAS_ENOMEM;
    p->ctx   = ctx;
    p->bytes = bytes;
    if (size > KD_PICKLE_MAX_BYTES) m.size = KD_PICKLE_MAX_BYTES;
    m.status = kd_grow(ctx, (void **)&p->cell, &p->cell_capacity, 1, sizeof *p->cell);
    if (m.status == KDAS_OK) p->cells = 1; /* cell 0 and item 0 are "none" */
    new_value(&m, KD_PICKLE_ABSENT);
    if (m.status == KDAS_OK) run(&m);
    *used = m.at;
    *cut  = m.cut;
    kd_free(ctx, m.stack);
    kd_free(ctx, m.memo);
    if (m.status == KDAS_OK)
        *out = p;
    else
        kd_pickle_free(p);
    return m.status;
}
