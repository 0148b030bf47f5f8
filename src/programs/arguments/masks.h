/* masks.h - options of the programs that read masks. */
#ifndef PROGRAMS_MASKS_H
#define PROGRAMS_MASKS_H
#include "arguments/args.h"

/* rule: an int64_t, its values those of kdas_mask_rule; empty: a bool. */
#define MASK_OPTIONS(rule, empty)                                                                  \
    { OPTION_CHOICE,                                                                               \
      "--mask-rule",                                                                               \
      "auto|bright|nonzero|alpha|colour",                                                          \
      &(rule),                                                                                     \
      0,                                                                                           \
      0,                                                                                           \
      "which pixels of a mask are polyp: luma above 127, all\nthat is not black, opaque ones, "    \
      "all that is clearly not\nblack; auto (default): what the masks of a set suggest" },         \
    {                                                                                              \
        OPTION_FLAG, "--allow-empty", NULL, &(empty), 0, 0, "take a set whose masks are all empty" \
    }

#endif
