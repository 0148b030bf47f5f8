/* forge.h - for tests of checkpoints: copies of one in which single records are otherwise or missing. */
#ifndef KD_TEST_FORGE_H
#define KD_TEST_FORGE_H
#include <kdas/base.h>
#include <stdbool.h>

typedef enum kd_test_forgery {
    KD_FORGE_DROP,    /* the record is missing                                         */
    KD_FORGE_NUMBER,  /* a number of floating point, or each of a list, is `number` */
    KD_FORGE_FLOAT,   /* the last value of a tensor is `number`                        */
    KD_FORGE_WHOLE,   /* a whole number is `whole`                                     */
    KD_FORGE_TEXT,    /* a text is `text`                                              */
    KD_FORGE_DROP_ALL /* all records whose names begin so are missing                  */
} kd_test_forgery;

typedef struct kd_test_edit {
    const char     *record;
    kd_test_forgery what;
    double          number;
    int64_t         whole;
    const char     *text;
} kd_test_edit;

/* Copy a checkpoint, with the edits made; fails the running test if one of them finds nothing to change. */
void kd_test_forge(kdas_context *ctx, const char *from, const char *to, const kd_test_edit *edits,
                   int count);
/* Whether a checkpoint has the record, as a number or a text. */
bool kd_test_has_record(kdas_context *ctx, const char *path, const char *record);

#endif
