/* names.c - PVTv2 of timm:  patch_embed.X                 patch_embed1.X
 *                           stages.I.downsample.X         patch_embed(I+1).X
 *                           stages.I.blocks.J.X           block(I+1).J.X
 *                           stages.I.norm.X               norm(I+1).X
 *                           ....mlp.dwconv.weight, bias   ....mlp.dwconv.dwconv.weight, bias */
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

bool kd_name_is_timm(const char *name)
{
    const char *stages = strstr(name, "stages.");

    return stages && (stages == name || stages[-1] == '.') && stage_of(stages);
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

bool kd_rename(char out[KD_NAME_ROOM], const kd_renaming *renaming, const char *name)
{
    const char *front = "backbone.";
    char        bare[KD_NAME_ROOM];

    name += renaming->strip;
    if (!renaming->timm) return snprintf(out, KD_NAME_ROOM, "%s", name) < KD_NAME_ROOM;
    if (!begins_with(name, front)) return from_timm(out, name);
    return from_timm(bare, name + strlen(front)) &&
           snprintf(out, KD_NAME_ROOM, "%s%s", front, bare) < KD_NAME_ROOM;
}

size_t kd_names_common(const char *a, const char *b, size_t most)
{
    size_t end = 0;

    for (size_t i = 0; i < most && a[i] && a[i] == b[i]; i++)
        if (a[i] == '.') end = i + 1;
    return end;
}
