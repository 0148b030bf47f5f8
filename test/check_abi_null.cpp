// check_abi_null.cpp - every public function, called with nothing but NULL and zero, comes back: with
// KDAS_EINVAL and a sentence where it returns a status. The list comes from the headers; C++ supplies the
// arguments, whatever their types.
#include <check.h>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <unistd.h>
#include "every_header.h"

namespace {

// Not a status: nothing to judge but that the call returns.
constexpr int no_status = 1;

template <class R, class... A> int call_with_nothing(R (*function)(A...))
{
    if constexpr (std::is_same_v<R, kdas_status>) {
        return function(A{}...);
    } else {
        function(A{}...);
        return no_status;
    }
}

struct entry {
    const char *name;
    int (*call)();
};

const entry functions[] = {
#define FUNCTION(name) { #name, [] { return call_with_nothing(name); } },
#define OPTIONS(type)
#include "declared.def"
};
constexpr int count = sizeof functions / sizeof functions[0];

const char *running = "";

// Check tells of a signal by the number of the loop; this adds the function's name.
void name_the_crash(int signal)
{
    if (write(STDERR_FILENO, running, std::strlen(running)) > 0 &&
        write(STDERR_FILENO, " crashes\n", 9) > 0)
        std::signal(signal, SIG_DFL);
    std::raise(signal);
}

} // namespace

START_TEST(null_is_refused_with_a_sentence)
{
    const entry &f = functions[_i];

    running = f.name;
    std::signal(SIGSEGV, name_the_crash);
    std::signal(SIGABRT, name_the_crash);
    int status = f.call();

    if (status == no_status) return;
    ck_assert_msg(status == KDAS_EINVAL, "%s(NULL, 0, ...) returns %s", f.name,
                  kdas_status_name(static_cast<kdas_status>(status)));
    ck_assert_msg(*kdas_last_error() != 0, "%s(NULL, 0, ...) leaves no sentence", f.name);
}
END_TEST

int main()
{
    Suite   *s      = suite_create("abi: NULL");
    TCase   *calls  = tcase_create("calls");
    SRunner *runner = srunner_create(s);

    tcase_add_loop_test(calls, null_is_refused_with_a_sentence, 0, count);
    suite_add_tcase(s, calls);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
