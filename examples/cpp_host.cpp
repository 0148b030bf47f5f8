// cpp_host.cpp - libkdas from C++11: handles that destroy themselves, statuses as exceptions.
#include <kdas/kdas.h>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

namespace kdas {

inline void check(kdas_status status)
{
    if (status != KDAS_OK) throw std::runtime_error(kdas_last_error());
}

// One template for every handle: unique_ptr with the library's own destroy.
template <class T, void (*Destroy)(T *)> struct Destroyer {
    void operator()(T *handle) const { Destroy(handle); }
};
template <class T, void (*Destroy)(T *)> using Handle = std::unique_ptr<T, Destroyer<T, Destroy>>;

using Context   = Handle<kdas_context, kdas_context_destroy>;
using Model     = Handle<kdas_model, kdas_model_destroy>;
using Loss      = Handle<kdas_loss, kdas_loss_destroy>;
using Optim     = Handle<kdas_optim, kdas_optim_destroy>;
using Distiller = Handle<kdas_distiller, kdas_distiller_destroy>;
using Segmenter = Handle<kdas_segmenter, kdas_segmenter_destroy>;
using Dataset   = Handle<kdas_dataset, kdas_dataset_destroy>;
using Loader    = Handle<kdas_loader, kdas_loader_destroy>;
using Image     = Handle<kdas_image, kdas_image_destroy>;

// make<Model>(kdas_model_create, context.get(), "polyp_pvt_b0", nullptr)
template <class H, class Create, class... Args> H make(Create create, Args... args)
{
    typename H::pointer handle = nullptr;
    check(create(&handle, args...));
    return H(handle);
}

} // namespace kdas

// Without a teacher the student learns from the masks alone.
static kdas::Model train(kdas_context *context, kdas_dataset *scenes, int64_t side)
{
    kdas_loss_options   objective;
    kdas_loader_options loading;

    kdas_loss_options_init(&objective, sizeof objective);
    kdas::check(kdas_loss_options_preset(&objective, "baseline"));
    kdas_loader_options_init(&loading, sizeof loading);
    loading.batch  = 4;
    loading.height = loading.width = side;

    auto student   = kdas::make<kdas::Model>(kdas_model_create, context, "polyp_pvt_b0", nullptr);
    auto loss      = kdas::make<kdas::Loss>(kdas_loss_create, context, &objective);
    auto optim     = kdas::make<kdas::Optim>(kdas_optim_create, student.get(), nullptr);
    auto distiller = kdas::make<kdas::Distiller>(kdas_distiller_create, nullptr, student.get(),
                                                 loss.get(), optim.get(), nullptr);
    auto loader    = kdas::make<kdas::Loader>(kdas_loader_create, scenes, &loading);
    kdas_batch *batch = nullptr;

    for (kdas::check(kdas_loader_next(loader.get(), &batch)); batch;
         kdas::check(kdas_loader_next(loader.get(), &batch))) {
        kdas_step_report report = kdas_step_report();
        report.size             = sizeof report;
        kdas::check(kdas_distiller_step(distiller.get(), batch, &report));
        std::printf("loss %.4f\n", report.total);
    }
    return student;
}

int main()
try {
    const int64_t      side = 64;
    kdas_scene_options looks;
    kdas_scene_options_init(&looks, sizeof looks);
    looks.count = 12;
    looks.width = looks.height = side;

    auto context = kdas::make<kdas::Context>(kdas_context_create, nullptr);
    auto scenes  = kdas::make<kdas::Dataset>(kdas_dataset_synthetic, context.get(), &looks);
    auto student = train(context.get(), scenes.get(), side);

    kdas_segmenter_options input;
    kdas_segmenter_options_init(&input, sizeof input);
    input.height = input.width = side;
    auto segmenter    = kdas::make<kdas::Segmenter>(kdas_segmenter_create, student.get(), &input);
    kdas_image *frame = nullptr, *truth = nullptr;
    kdas::check(kdas_dataset_get(&frame, &truth, scenes.get(), 0));
    kdas::Image          keep_frame(frame), keep_truth(truth);
    std::vector<uint8_t> mask(side * side);
    kdas_view            view = kdas_image_view(frame);
    kdas::check(kdas_segmenter_mask(segmenter.get(), &view, mask.data(), 0));
    std::printf("the first pixel is %s\n", mask[0] ? "polyp" : "mucosa");
    return std::fflush(stdout) != 0; // a full disk
} catch (const std::exception &error) {
    std::fprintf(stderr, "cpp_host: %s\n", error.what());
    return 1;
}
