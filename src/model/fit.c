/* fit.c - which network the tensors of a file fit, for sentences about a file that does not fit. */
#include <stdio.h>
#include <string.h>
#include "model/model.h"
#include "model/pairing.h"

/* Entries that the file has under the choice of `p`, if it has all of the network, or of its part;
 * else 0. What a file may lack does not matter. */
static int64_t whole_fit(const kd_pairing *p)
{
    int64_t  fits = 0, wanted = 0;
    char     name[KD_NAME_ROOM];
    kd_piece piece;

    for (int k = 0; k < kd_params_count(p->params); k++) {
        const kd_param_entry *e = kd_params_at(p->params, k);

        wanted += !kd_pairing_may_lack(e) &&
                  (!p->part || strncmp(e->name, p->part, strlen(p->part)) == 0);
    }
    for (int64_t i = 0; i < kd_weights_count(p->file, p->set); i++) {
        const kd_st_tensor *t = kd_pairing_tensor(p, i);
        int                 k = t ? kd_pairing_entry(p, t->name, name, &piece) : -1;

        if (k < 0 || kd_pairing_may_lack(kd_params_at(p->params, k))) continue;
        fits +=
            piece != KD_SECOND_HALF && kd_pairing_same_shape(kd_params_at(p->params, k), t, piece);
    }
    return wanted > 0 && fits == wanted ? fits : 0;
}

/* How well a file fits a network, or a part of it. */
static kdas_status try_part(const kd_pairing *asked, const kd_params *params, const char *name,
                            const char *part, int64_t *fits)
{
    kd_pairing  p;
    kdas_status st = kd_pairing_begin(&p, asked->ctx, params, name, asked->file);

    *fits = 0;
    if (st == KDAS_OK) {
        p.part         = part;
        p.set          = asked->set;
        p.words        = asked->words;
        p.words_length = asked->words_length;
        kd_pairing_rename(&p);
        *fits = whole_fit(&p);
    }
    kd_pairing_end(&p);
    return st;
}

static kdas_status try_network(const kd_pairing *asked, const kd_model_def *def, int64_t *whole,
                               int64_t *backbone)
{
    kd_params  *params = NULL;
    kd_graph   *g      = NULL;
    int64_t     side   = kd_model_side(def);
    kdas_status st;

    KD_TRY(kd_params_create(&params, asked->ctx));
    KD_TRY(kd_model_build(&g, asked->ctx, def, params, kd_desc(1, side, side, 3),
                          &(kd_model_form){ 0 }));
    KD_TRY(try_part(asked, params, def->name, NULL, whole));
    KD_TRY(try_part(asked, params, def->name, kd_model_backbone(def), backbone));
done:
    kd_graph_destroy(g);
    kd_params_destroy(params);
    return st;
}

/* The network that the file has most tensors of; of a backbone, the first network with it. */
typedef struct fit {
    const char *network, *backbone_of;
    bool        of_asked; /* it is the backbone of the network that was asked for */
} fit;

static kdas_status find_fit(const kd_pairing *asked, fit *out)
{
    const kd_model_def *def;
    int64_t             most = 0, most_backbone = 0, whole, backbone;

    *out = (fit){ 0 };
    for (int i = 0; (def = kd_model_def_at(i)); i++) {
        KD_RETURN(try_network(asked, def, &whole, &backbone));
        if (whole > most) {
            most         = whole;
            out->network = def->name;
        }
        if (backbone > most_backbone) {
            most_backbone    = backbone;
            out->backbone_of = def->name;
        }
        if (backbone > 0 && strcmp(def->name, asked->network) == 0) out->of_asked = true;
    }
    return KDAS_OK;
}

/* ---- Several networks in one flat dictionary ---- */

#define MAX_WORDS 16 /* that are tried */

/* The words in front, up to the first full stop behind those that all names have, whose tensors are
 * the whole of the network: "'student.', 'average.'". The first of them in `one`. */
static kdas_status find_words(const kd_pairing *asked, char *one, size_t one_size, char *to,
                              size_t size)
{
    kd_pairing  p;
    const char *tried[MAX_WORDS];
    size_t      length[MAX_WORDS], at = 0, common;
    int         count = 0;
    kdas_status st = kd_pairing_begin(&p, asked->ctx, asked->params, asked->network, asked->file);

    *to    = 0;
    p.set  = asked->set;
    p.part = asked->part;
    if (st != KDAS_OK || asked->words_length) goto done;
    common = kd_pairing_common(&p);
    for (int64_t i = 0; i < kd_weights_count(p.file, p.set) && count < MAX_WORDS; i++) {
        const char *name = kd_weights_at(p.file, p.set, i)->name;
        const char *stop = strlen(name) > common ? strchr(name + common, '.') : NULL;
        int         k    = 0;

        if (!stop) continue;
        while (k < count &&
               (length[k] != (size_t)(stop - name) || strncmp(tried[k], name, length[k]) != 0))
            k++;
        if (k < count) continue;
        p.words = tried[count] = name;
        p.words_length = length[count] = (size_t)(stop - name);
        count++;
        if (kd_pairing_rename(&p) == 0 || whole_fit(&p) == 0 || at >= size) continue;
        if (!at) snprintf(one, one_size, "%.*s", (int)p.words_length, name);
        at += (size_t)snprintf(to + at, size - at, "%s'%.*s.'", at ? ", " : "", (int)p.words_length,
                               name);
    }
done:
    kd_pairing_end(&p);
    return st;
}

/* Whether tensors fit entries of the network besides its backbone, as they were paired. */
static bool has_more(const kd_pairing *p)
{
    const char *backbone = kd_model_backbone(kd_model_def_find(p->network));

    for (int k = 0; k < kd_params_count(p->params); k++)
        if (p->tensor[k] &&
            strncmp(kd_params_at(p->params, k)->name, backbone, strlen(backbone)) != 0)
            return true;
    return false;
}

/* What to say about it; empty: nothing is known. */
static kdas_status describe(const kd_pairing *p, const fit *f, kdas_status status, char *to,
                            size_t size)
{
    char        one[128], words[256];
    const char *note  = kd_weights_safetensors(p->file)
                            ? kd_safetensors_text(kd_weights_safetensors(p->file), "model")
                            : NULL;
    bool        other = f->network && strcmp(f->network, p->network) != 0;
    bool        same  = f->network && !other; /* only what is beside the network is wrong, such as a range */

    *to = 0;
    KD_RETURN(find_words(p, one, sizeof one, words, sizeof words));
    if (*words && !f->network)
        snprintf(to, size,
                 "of its tensors, those whose names begin with %s fit '%s': choose them by "
                 "kdas_load_options.entry = \"%s\", --weights-entry %s",
                 words, p->network, one, one);
    else if (same && !p->part && status == KDAS_ENOTFOUND)
        snprintf(to, size,
                 "all others of the network are there (kdas_load_options.extra ignores "
                 "what it does not have)");
    else if (!same && f->of_asked && !p->part && !has_more(p))
        snprintf(to, size,
                 "it has the backbone of '%s': start from that by --backbone-weights (a teacher: "
                 "--teacher-backbone-weights), or "
                 "kdas_load_options.part = \"" KD_BACKBONE "\"",
                 p->network);
    else if (other)
        snprintf(to, size, "these tensors fit '%s'", f->network);
    else if (!f->network && f->backbone_of)
        snprintf(to, size, "these tensors fit the backbone of '%s'", f->backbone_of);
    else if (!f->network && note && strcmp(note, p->network) != 0)
        snprintf(to, size, "the file says that it is of '%.64s'", note);
    else if (!f->network)
        snprintf(to, size, "these tensors fit none of the networks that are known here");
    return KDAS_OK;
}

kdas_status kd_pairing_explain(const kd_pairing *p, kdas_status status)
{
    char        why[1024], what[768];
    fit         f;
    kdas_status st;

    snprintf(why, sizeof why, "%s", kdas_last_error());
    st = find_fit(p, &f);
    if (st == KDAS_OK) st = describe(p, &f, status, what, sizeof what);
    if (st == KDAS_ENOMEM) return st;
    if (st != KDAS_OK) return kd_fail(status, "%s", why);
    return kd_fail(status, "%s%s%s", why, *what ? "; " : "", what);
}
