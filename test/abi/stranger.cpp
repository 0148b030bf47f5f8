// stranger.cpp - a C++ host that knows libkdas only as installed: its own memory hooks, RAII, a segmentation.
#include <kdas/kdas.h>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct counts {
    long taken = 0, given_back = 0;
};

void *take(void *user, size_t bytes)
{
    static_cast<counts *>(user)->taken++;
    return std::malloc(bytes);
}

void give_back(void *user, void *memory)
{
    static_cast<counts *>(user)->given_back++;
    std::free(memory);
}

void check(kdas_status status)
{
    if (status != KDAS_OK) throw std::runtime_error(kdas_last_error());
}

struct destroy {
    void operator()(kdas_context *context) const { kdas_context_destroy(context); }
    void operator()(kdas_model *model) const { kdas_model_destroy(model); }
    void operator()(kdas_segmenter *segmenter) const { kdas_segmenter_destroy(segmenter); }
};

// Hold what a create call makes: own<kdas_model>(kdas_model_create, context, ...).
template <class T, class F, class... A> std::unique_ptr<T, destroy> own(F create, A... arguments)
{
    T *made = nullptr;

    check(create(&made, arguments...));
    return std::unique_ptr<T, destroy>(made);
}

void segment(counts &memory)
{
    kdas_context_options   settings;
    kdas_segmenter_options size;

    kdas_context_options_init(&settings, sizeof settings);
    settings.threads    = 1;
    settings.alloc      = take;
    settings.free       = give_back;
    settings.alloc_user = &memory;
    kdas_segmenter_options_init(&size, sizeof size);
    size.height = size.width = 64;

    auto context   = own<kdas_context>(kdas_context_create, &settings);
    auto model     = own<kdas_model>(kdas_model_create, context.get(), "polyp_pvt_b0", nullptr);
    auto segmenter = own<kdas_segmenter>(kdas_segmenter_create, model.get(), &size);

    std::vector<unsigned char> frame(50 * 40 * 3, 128), mask(50 * 40, 7);
    kdas_view                  view = {};

    view.data   = frame.data();
    view.width  = 50;
    view.height = 40;
    view.pixel  = KDAS_PIXEL_RGB8;
    check(kdas_segmenter_mask(segmenter.get(), &view, mask.data(), 0));
    for (unsigned char m : mask)
        if (m != 0 && m != 255) throw std::runtime_error("a mask has values of its own");
    std::printf("libkdas %s on %s: %lld parameters\n", kdas_version_string(),
                kdas_context_device(context.get()),
                static_cast<long long>(kdas_model_parameters(model.get())));
}

} // namespace

int main()
{
    counts memory;

    try {
        segment(memory);
        if (memory.taken == 0 || memory.taken != memory.given_back)
            throw std::runtime_error(std::to_string(memory.taken) + " blocks taken, " +
                                     std::to_string(memory.given_back) + " given back");
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
    return 0;
}
