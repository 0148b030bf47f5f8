/* names.c - names of PVTv2 as others give them:
 *
 *   timm                          ours
 *   patch_embed.X                 patch_embed1.X
 *   stages.I.downsample.X         patch_embed(I+1).X
 *   stages.I.blocks.J.X           block(I+1).J.X
 *   stages.I.norm.X               norm(I+1).X
 *   ....mlp.dwconv.weight, bias   ....mlp.dwconv.dwconv.weight, bias
 *
 *   transformers, after "encoder.layers." or "pvt_v2.encoder.layers."
 *   I.patch_embedding.proj.X      patch_embed(I+1).proj.X
 *   I.patch_embedding.layer_norm.X  patch_embed(I+1).norm.X
 *   I.layer_norm.X                norm(I+1).X
 *   I.blocks.J.X                  block(I+1).J. and what `block_parts` below says for X */
#include <stdio.h>
#include <string.h>
#include "model/names.h"

static bool begins_with(const char *name, const char *beginning)
{
    return strncmp(name, beginning, strlen(beginning)) == 0;
}

/* "stages.I." with one digit; the stage's number in the published names, or 0. */
static int stage_of(const char *name)
{
    if (!begins_with(name, "stages.") || name[7] < '0' || name[7] > '3' || name[8] != '.') return 0;
    return name[7] - '0' + 1;
}

#define LAYERS "encoder.layers."

/* What follows "encoder.layers.", at the beginning or behind a full stop; NULL: it is not there, or
 * no number of a stage follows. */
static const char *behind_layers(const char *name)
{
    const char *at = strstr(name, LAYERS);

    if (!at || (at != name && at[-1] != '.')) return NULL;
    at += strlen(LAYERS);
    return at[0] >= '0' && at[0] <= '3' && at[1] == '.' ? at : NULL;
}

kd_naming kd_name_naming(const char *name)
{
    const char *stages = strstr(name, "stages.");

    if (behind_layers(name)) return KD_NAMES_TRANSFORMERS;
    return stages && (stages == name || stages[-1] == '.') && stage_of(stages) ? KD_NAMES_TIMM
                                                                               : KD_NAMES_PUBLISHED;
}

static bool put(char out[KD_NAME_ROOM], const char *front, int number, const char *rest)
{
    const char *depthwise = strstr(rest, "mlp.dwconv.");
    const char *doubled   = depthwise && !strstr(rest, "dwconv.dwconv.") ? "dwconv." : "";
    int         head      = depthwise ? (int)(depthwise - rest) + 11 : 0;

    return snprintf(out, KD_NAME_ROOM, "%s%d.%.*s%s%s", front, number, head, rest, doubled,
                    rest + head) < KD_NAME_ROOM;
}

static bool from_timm(char out[KD_NAME_ROOM], const char *name)
{
    int stage = stage_of(name);

    if (begins_with(name, "patch_embed.")) return put(out, "patch_embed", 1, name + 12);
    if (stage && begins_with(name + 9, "downsample."))
        return put(out, "patch_embed", stage, name + 9 + 11);
    if (stage && begins_with(name + 9, "blocks.")) return put(out, "block", stage, name + 9 + 7);
    if (stage && begins_with(name + 9, "norm.")) return put(out, "norm", stage, name + 9 + 5);
    return snprintf(out, KD_NAME_ROOM, "%s", name) < KD_NAME_ROOM;
}

/* What the parts of a stage are called there and here, behind the number of the stage; and the parts
 * of a block. Keys and values are one tensor here, keys first. */
typedef struct part {
    const char *theirs, *front, *behind;
    kd_piece    piece;
} part;

static const part parts[] = {
    { "patch_embedding.proj.", "patch_embed", "proj.", KD_WHOLE },
    { "patch_embedding.layer_norm.", "patch_embed", "norm.", KD_WHOLE },
    { "layer_norm.", "norm", "", KD_WHOLE },
    { "blocks.", "block", "", KD_WHOLE },
};
static const part block_parts[] = {
    { "layer_norm_1.", "norm1.", NULL, KD_WHOLE },
    { "layer_norm_2.", "norm2.", NULL, KD_WHOLE },
    { "attention.query.", "attn.q.", NULL, KD_WHOLE },
    { "attention.key.", "attn.kv.", NULL, KD_FIRST_HALF },
    { "attention.value.", "attn.kv.", NULL, KD_SECOND_HALF },
    { "attention.proj.", "attn.proj.", NULL, KD_WHOLE },
    { "attention.spatial_reduction.", "attn.sr.", NULL, KD_WHOLE },
    { "attention.layer_norm.", "attn.norm.", NULL, KD_WHOLE },
    { "mlp.dense1.", "mlp.fc1.", NULL, KD_WHOLE },
    { "mlp.dense2.", "mlp.fc2.", NULL, KD_WHOLE },
};

/* The row whose name the text begins with; NULL: none. */
static const part *part_of(const part *rows, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (begins_with(text, rows[i].theirs)) return &rows[i];
    return NULL;
}

/* "J." of a block's number; its length, or 0. */
static size_t number_length(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    return digits && text[digits] == '.' ? digits + 1 : 0;
}

static bool from_transformers(char out[KD_NAME_ROOM], kd_piece *piece, const char *name)
{
    const char *begin = name + (begins_with(name, "pvt_v2.") ? strlen("pvt_v2.") : 0);
    const char *at    = begins_with(begin, LAYERS) ? behind_layers(begin) : NULL;
    const part *p = at ? part_of(parts, sizeof parts / sizeof *parts, at + 2) : NULL, *inner = NULL;
    size_t      number = 0;

    if (!p) return snprintf(out, KD_NAME_ROOM, "%s", name) < KD_NAME_ROOM;
    name = at + 2 + strlen(p->theirs);
    if (strcmp(p->front, "block") == 0) {
        number = number_length(name);
        inner  = part_of(block_parts, sizeof block_parts / sizeof *block_parts, name + number);
        if (inner) *piece = inner->piece;
    }
    return snprintf(out, KD_NAME_ROOM, "%s%d.%s%.*s%s%s", p->front, at[0] - '0' + 1, p->behind,
                    (int)number, name, inner ? inner->front : "",
                    name + number + (inner ? strlen(inner->theirs) : 0)) < KD_NAME_ROOM;
}

/* ---- The choice ---- */

static bool translate(char out[KD_NAME_ROOM], kd_piece *piece, kd_naming naming, const char *name)
{
    return naming == KD_NAMES_TIMM ? from_timm(out, name) : from_transformers(out, piece, name);
}

bool kd_rename(char out[KD_NAME_ROOM], kd_piece *piece, const kd_renaming *renaming,
               const char *name)
{
    const char *front = "backbone.";
    char        bare[KD_NAME_ROOM];

    *piece = KD_WHOLE;
    name += renaming->strip;
    if (renaming->naming == KD_NAMES_PUBLISHED)
        return snprintf(out, KD_NAME_ROOM, "%s", name) < KD_NAME_ROOM;
    if (!begins_with(name, front)) return translate(out, piece, renaming->naming, name);
    return translate(bare, piece, renaming->naming, name + strlen(front)) &&
           snprintf(out, KD_NAME_ROOM, "%s%s", front, bare) < KD_NAME_ROOM;
}

size_t kd_names_common(const char *a, const char *b, size_t most)
{
    size_t end = 0;

    for (size_t i = 0; i < most && a[i] && a[i] == b[i]; i++)
        if (a[i] == '.') end = i + 1;
    return end;
}
