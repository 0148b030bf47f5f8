/* analyzer.h - what clang's analyzer cannot see from one file: kd_fail() returns the status that it is given. */
#define _GNU_SOURCE
#include "base/base.h"
#define kd_fail(status, ...) ((kd_fail)(status, __VA_ARGS__), (status))
