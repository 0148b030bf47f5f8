// check_abi_null.cpp - every public function, called with nothing but NULL and zero, comes back: with
// KDAS_EINVAL and a sentence where it returns a status, with 0, NaN or NULL where it tells something of a handle. The
// list comes from the headers; C++ supplies the arguments, whatever their types.
#include <check.h>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <unistd.h>
#include "every_header.h"

namespace {

// Not a status: nothing to judge but that the call returns.
constexpr int no_status = 1;

// The wrong kind of nothing.
constexpr int not_empty = 2;

template <class T, class = void> struct is_complete : std::false_type {
};
template <class T> struct is_complete<T, decltype(void(sizeof(T)))> : std::true_type {
};
// A handle is a pointer to a struct that no header defines.
template <class P> constexpr bool is_handle()
{
    using T = std::remove_cv_t<std::remove_pointer_t<P>>;

    if constexpr (std::is_pointer_v<P> && !std::is_void_v<T> && !std::is_function_v<T>)
        return !is_complete<T>::value;
    return false;
}
template <class... A> constexpr bool          of_a_handle          = false;
template <class P, class... A> constexpr bool of_a_handle<P, A...> = is_handle<P>();

// What a getter gives for NULL: no pointer, no number, and of what can be counted none.
template <class R> int judge(R result)
{
    if constexpr (std::is_floating_point_v<R>) {
        return std::isnan(result) ? no_status : not_empty;
    } else if constexpr (std::is_class_v<R>) {
        static const R zero{};

        return std::memcmp(&result, &zero, sizeof zero) == 0 ? no_status : not_empty;
    } else {
        return result == R{} ? no_status : not_empty;
    }
}

template <class R, class... A> int call_with_nothing(R (*function)(A...))
{
    if constexpr (std::is_same_v<R, kdas_status>) {
        return function(A{}...);
    } else if constexpr (std::is_void_v<R> || !of_a_handle<A...>) {
        function(A{}...);
        return no_status;
    } else {
        return judge(function(A{}...));
    }
}

template <class R, class... A> constexpr bool returns_nothing(R (*)(A...))
{
    return std::is_void_v<R>;
}

struct entry {
    const char *name;
    int (*call)();
    bool returns_nothing;
};

const entry functions[] = {
#define FUNCTION(name) { #name, [] { return call_with_nothing(name); }, returns_nothing(name) },
#define OPTIONS(type)
#include "declared.def"
};
constexpr int count = sizeof functions / sizeof functions[0];

// NULL is a group of one, in which these succeed.
bool group_of_one(const char *name)
{
    static const char *const calls[] = { "barrier", "broadcast", "count", "sum", "vote" };

    for (const char *of : calls)
        if (std::strncmp(name, "kdas_ranks_", 11) == 0 && std::strcmp(name + 11, of) == 0) return true;
    return false;
}

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

    if (std::strcmp(f.name, "kdas_model_find") == 0) { // a number that may be 0
        ck_assert_int_eq(kdas_model_find(nullptr, "x"), -1);
        return;
    }
    ck_assert_msg(status != not_empty || group_of_one(f.name), "%s(NULL, ...) gives neither 0, NaN nor NULL", f.name);
    if (status == no_status || group_of_one(f.name)) return;
    ck_assert_msg(status == KDAS_EINVAL, "%s(NULL, 0, ...) returns %s", f.name,
                  kdas_status_name(static_cast<kdas_status>(status)));
    ck_assert_msg(*kdas_last_error() != 0, "%s(NULL, 0, ...) leaves no sentence", f.name);
}
END_TEST

START_TEST(destroying_returns_nothing)
{
    int found = 0;

    for (const entry &f : functions) {
        const char *end = std::strrchr(f.name, '_');

        if (std::strcmp(end, "_destroy") != 0) continue;
        ck_assert_msg(f.returns_nothing, "%s returns something", f.name);
        found++;
    }
    ck_assert_int_ge(found, 10);
}
END_TEST

int main()
{
    Suite   *s      = suite_create("abi: NULL");
    TCase   *calls  = tcase_create("calls");
    SRunner *runner = srunner_create(s);

    tcase_add_loop_test(calls, null_is_refused_with_a_sentence, 0, count);
    tcase_add_test(calls, destroying_returns_nothing);
    suite_add_tcase(s, calls);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
