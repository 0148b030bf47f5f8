/* settings.c - what kdas-bench is told on its command line. */
#include "settings.h"
#include <string.h>

settings set = { .student = "polyp_pvt_b0",
                 .teacher = "polyp_pvt_b2",
                 .frame   = { 1080, 1920 },
                 .frames  = 200,
                 .reps    = 5,
                 .warm_up = 2 };

bool wanted(const char *name)
{
    const char *at     = set.only ? set.only : set.frame_text ? "infer,step,frame" : "infer,step";
    size_t      length = strlen(name);

    for (; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, name, length) && (!at[length] || at[length] == ',')) return true;
    return false;
}
