/* resume.h - the settings of a run under their names in a checkpoint, and the table of what a
 * resume does with each difference. */
#ifndef KD_RESUME_H
#define KD_RESUME_H
#include <kdas/distill.h>
#include "base/base.h"

/* ---- Facts: named values, a list of them for a file and one for here ---- */

enum { KD_FACTS = 80, KD_FACT_NUMBERS = 8, KD_FACT_HASHES = 8 };

/* Texts are caller-owned, except hashes. The struct points into itself, so it must not be
 * copied. */
typedef struct kd_facts {
    kdas_record record[KD_FACTS];
    double      number[KD_FACTS][KD_FACT_NUMBERS];
    char        hash[KD_FACT_HASHES][24];
    int         count, hashes;
} kd_facts;

void kd_fact_text(kd_facts *facts, const char *name, const char *text);
void kd_fact_number(kd_facts *facts, const char *name, double number);
void kd_fact_numbers(kd_facts *facts, const char *name, const double *numbers, int64_t count);
/* A number of 64 bits, which a double does not hold: as text, in base 10 or 16. */
void kd_fact_whole(kd_facts *facts, const char *name, uint64_t whole, int base);
/* NULL: there is none. */
const kdas_record *kd_fact_find(const kd_facts *facts, const char *name);

/* Compare the facts over ranks, one by one; each has the same names in its list. KDAS_EINVAL: the sentence names the fact,
 * a rank and both values. */
kdas_status kd_facts_agree(kdas_ranks *ranks, const kd_facts *facts);
/* The same of all settings of a distiller that a resume compares. (checkpoint_facts.c) */
kdas_status kd_settings_agree(kdas_ranks *ranks, const kdas_distiller *d);

/* ---- The table ---- */

/* The rule for a difference. */
typedef enum kd_rule {
    KD_REFUSED,   /* the resume is refused; the sentence names it          */
    KD_FROM_FILE, /* the run goes on as the file has it; a warning says so */
    KD_FROM_HERE, /* the run goes on as set here; a warning says so        */
    KD_NOTED      /* as KD_FROM_HERE, with a line in the log and no warning: an expected change */
} kd_rule;

/* The meaning of a record that the file lacks. */
typedef enum kd_missing {
    KD_DAMAGED,       /* it is no checkpoint: those of all versions have the record */
    KD_MEANS_DEFAULT, /* an earlier version, or the run left the setting at its default */
    KD_NOT_COMPARED,  /* an earlier version; the log says that it is not compared */
    KD_ABSENT         /* the run did not have it; its reader defines the meaning */
} kd_missing;

/* When the row applies. */
typedef enum kd_when {
    KD_ALWAYS,
    KD_ACCUMULATING,   /* there are accumulated gradients */
    KD_BETWEEN_UPDATES /* there are none */
} kd_when;

typedef struct kd_resume_row {
    const char *record; /* its name; those that begin with "run." are kdas_train's */
    kd_rule     rule;
    kd_missing  missing;
    kd_when     when;
    const char *what; /* in words; NULL: the record's name says it  */
    const char *why;  /* behind the sentence of a refusal; NULL: "" */
    const char *cure; /* behind that; NULL: to give the former value */
    /* The file's schedules that read it, like " cosine poly "; NULL: all. */
    const char *schedules;
} kd_resume_row;

const kd_resume_row *kd_resume_row_at(int i); /* NULL past the last */
/* The rule for a record, with or without accumulated gradients. */
kd_rule kd_resume_rule(const char *record);

/* Two lists, and the values for KD_MEANS_DEFAULT (NULL: there are none). Records missing in `ours`
 * are not compared. */
typedef struct kd_resume {
    const char     *path;
    const kd_facts *ours, *theirs, *defaults;
    bool            accumulating;
} kd_resume;

/* Apply the table's refusals: KDAS_EINVAL, or KDAS_EFORMAT for a required record that is
 * missing. Logs nothing. */
kdas_status kd_resume_check(const kd_resume *r);
/* After the resume has succeeded: log a warning for each difference and a line for each record that
 * was not compared. */
void kd_resume_log(const kd_resume *r, kdas_context *ctx);

#endif
