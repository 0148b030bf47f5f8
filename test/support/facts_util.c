/* facts_util.c - see facts_util.h. */
#include "support/facts_util.h"
#include <check.h>
#include <string.h>
#include "support/check_util.h"
#include "support/files.h"
#include "support/told.h"

kd_test_facts_rig kd_test_facts;

void kd_test_facts_setup(void)
{
    kd_test_folder_make();
    memset(&kd_test_facts, 0, sizeof kd_test_facts);
    kd_test_said[0]   = 0;
    kd_test_facts.ctx = kd_test_logging(&kd_test_facts.meter, kd_test_keep_line, NULL);
}

void kd_test_facts_teardown(void)
{
    kdas_context_destroy(kd_test_facts.ctx);
    kd_test_assert_given_back(&kd_test_facts.meter);
    kd_test_folder_remove();
}

kdas_model *kd_test_frozen(const char *network)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&m, kd_test_facts.ctx, network, &o));
    return m;
}

void kd_test_assert_fact(const kdas_model *m, const char *key, const char *value)
{
    const char *is = kdas_model_fact(m, key);

    if (!value)
        ck_assert_msg(is == NULL, "%s is '%s', not unset", key, is);
    else
        ck_assert_msg(is && strcmp(is, value) == 0, "%s is '%s', not '%s'", key, is ? is : "unset",
                      value);
}
