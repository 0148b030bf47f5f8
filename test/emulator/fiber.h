// fiber.h - stacks to switch between. A context is where a stack stands still; it lies on that stack.
#ifndef KD_EMULATOR_FIBER_H
#define KD_EMULATOR_FIBER_H
#include <cstdint>
#include <cstring>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

#if defined(__x86_64__)
// What a call must keep, by the System V ABI; kernels change no control word.
extern "C" __attribute__((visibility("hidden"))) void kd_fiber_switch(void **here, void *there);

// Leave this stack, its context in *here, for another one.
inline void switch_to(void **here, void *there) { kd_fiber_switch(here, there); }

// A context that begins with entry(), which must not return. `top` is the end of the stack's memory.
inline void *new_context(char *, char *top, void (*entry)())
{
    uintptr_t *sp = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15);

    *--sp = 0; // where entry() would return to; aligns as a call does
    *--sp = (uintptr_t)entry;
    sp -= 6; // the six registers
    std::memset(sp, 0, 6 * sizeof *sp);
    return sp;
}
#else
inline void switch_to(void **here, void *there)
{
    ucontext_t now;

    *here = &now;
    swapcontext(&now, (ucontext_t *)there);
}

inline void *new_context(char *bottom, char *top, void (*entry)())
{
    ucontext_t *context = (ucontext_t *)(((uintptr_t)top - sizeof(ucontext_t)) & ~(uintptr_t)63);

    getcontext(context);
    context->uc_stack.ss_sp   = bottom;
    context->uc_stack.ss_size = (size_t)((char *)context - bottom);
    context->uc_link          = nullptr;
    makecontext(context, entry, 0);
    return context;
}
#endif
} // namespace emulator
#endif
