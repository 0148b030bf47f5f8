/* child.h - a part of a test that runs in a child of its own, forked from the running test, and may not hang. */
#ifndef KD_TEST_CHILD_H
#define KD_TEST_CHILD_H

/* What the child does: 0 if all was as it should be. It ends by _exit. */
typedef int (*kd_test_child_fn)(void *what);
/* Fail the running test unless the child comes back with 0 within two minutes. */
void kd_test_in_child(kd_test_child_fn run, void *what);

/* In a child, where Check's own assertions do not work: leave with a line about it unless this holds. */
#define kd_child_assert(condition)                                                     \
    do {                                                                               \
        if (!(condition)) return kd_test_child_failed(#condition, __FILE__, __LINE__); \
    } while (0)
#define kd_child_assert_status(call, status)                                                \
    do {                                                                                    \
        int got_ = (call);                                                                  \
        if (got_ != (status)) return kd_test_child_status(#call, got_, __FILE__, __LINE__); \
    } while (0)
int kd_test_child_failed(const char *what, const char *file, int line);
int kd_test_child_status(const char *what, int got, const char *file, int line);

#endif
