/* facts_util.h - what the tests of facts share: a context that is used by one test, and a fact that must be there. */
#ifndef KD_TEST_FACTS_UTIL_H
#define KD_TEST_FACTS_UTIL_H
#include "support/run_util.h"

/* Fixture: a folder and a context for the running test, and that all memory comes back. What the context logs goes to
 * kd_test_said (told.h). */
typedef struct kd_test_facts_rig {
    kdas_context *ctx;
    kd_test_meter meter; /* of that context */
} kd_test_facts_rig;
extern kd_test_facts_rig kd_test_facts;
void                     kd_test_facts_setup(void);
void                     kd_test_facts_teardown(void);

/* A model of that context, without gradients. */
kdas_model *kd_test_frozen(const char *network);
/* Fail the running test unless the fact is `value`, or unset for NULL. */
void kd_test_assert_fact(const kdas_model *m, const char *key, const char *value);

#endif
