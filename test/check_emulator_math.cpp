// check_emulator_math.cpp - the host emulation of CUDA computes what its libraries define: half precision is rounded
// as IEEE 754 has it, products and convolutions agree with loops in double, and what must lie in device memory is
// checked.
#include <cstdint>
#include <limits>
#include "cublas_v2.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cudnn.h"
#include "harness.h"

namespace {

#define good(call) ck_assert_int_eq((int)(call), 0)

// Numbers in [-1,1) that are the same in every type: few bits.
std::vector<float> draw(size_t n, unsigned seed)
{
    std::vector<float> x(n);

    for (float &v : x) {
        seed = seed * 1664525u + 1013904223u;
        v    = (float)((int)(seed >> 26) - 32) / 32.0f;
    }
    return x;
}

constexpr cudaDataType types[] = { CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF };

void *put(const std::vector<float> &x, cudaDataType type)
{
    std::vector<uint16_t> halves;

    if (type == CUDA_R_32F) return on_device(x);
    for (float v : x)
        halves.push_back(type == CUDA_R_16F ? __half_as_ushort(__float2half_rn(v))
                                            : __bfloat16_as_ushort(__float2bfloat16_rn(v)));
    return on_device(halves);
}

std::vector<float> get(bench &b, const void *memory, size_t n, cudaDataType type)
{
    std::vector<float> x;

    if (type == CUDA_R_32F) return from_device(b, (const float *)memory, n);
    for (uint16_t v : from_device(b, (const uint16_t *)memory, n))
        x.push_back(type == CUDA_R_16F ? __half2float(__ushort_as_half(v))
                                       : __bfloat162float(__ushort_as_bfloat16(v)));
    return x;
}

double tolerance(cudaDataType type)
{
    return type == CUDA_R_32F ? 1e-5 : type == CUDA_R_16F ? 2e-3 : 1.6e-2;
}

void close_to(float seen, double wanted, cudaDataType type)
{
    ck_assert_double_eq_tol(seen, wanted, tolerance(type) * (1.0 + std::fabs(wanted)));
}

// ---- Halves ------------------------------------------------------------------------------------

// Every half comes back from its float, and the float half way to the next one goes to the even one.
START_TEST(every_half_survives_and_ties_go_to_even)
{
    for (unsigned h = 0; h < 0x7c00u; h++) {
        const float low  = __half2float(__ushort_as_half((unsigned short)h)),
                    high = h + 1 < 0x7c00u ? __half2float(__ushort_as_half((unsigned short)(h + 1)))
                                           : 65536.0f,
                    middle = 0.5f * (low + high);
        ck_assert_uint_eq(__half_as_ushort(__float2half_rn(low)), h);
        ck_assert_uint_eq(__half_as_ushort(__float2half_rn(-low)), h | 0x8000u);
        ck_assert_uint_eq(__half_as_ushort(__float2half_rn(middle)), h + (h & 1));
        ck_assert_uint_eq(__half_as_ushort(__float2half_rn(std::nextafterf(middle, 0.0f))), h);
        ck_assert_uint_eq(__half_as_ushort(__float2half_rn(std::nextafterf(middle, 1e9f))), h + 1);
    }
    ck_assert_float_eq(__half2float(__ushort_as_half(1)), std::ldexp(1.0f, -24));
    ck_assert(std::isinf(__half2float(__ushort_as_half(0xfc00))));
    ck_assert(std::isnan(__half2float(__float2half(std::nanf("")))));
    ck_assert_uint_eq(__half_as_ushort(__float2half(std::numeric_limits<float>::infinity())),
                      0x7c00);
}
END_TEST

START_TEST(every_bf16_survives_and_ties_go_to_even)
{
    for (unsigned h = 0; h < 0x7f80u; h++) {
        const uint32_t bits = h << 16 | 0x8000u;
        ck_assert_uint_eq(__bfloat16_as_ushort(__float2bfloat16(__uint_as_float(h << 16))), h);
        ck_assert_uint_eq(__bfloat16_as_ushort(__float2bfloat16(__uint_as_float(bits))),
                          h + (h & 1));
        ck_assert_uint_eq(__bfloat16_as_ushort(__float2bfloat16(__uint_as_float(bits + 1))), h + 1);
    }
    ck_assert(std::isnan(__bfloat162float(__float2bfloat16(std::nanf("")))));
}
END_TEST

// ---- Products ------------------------------------------------------------------------------------

struct blas : bench {
    cublasHandle_t handle = nullptr;

    blas()
    {
        good(cublasCreate(&handle));
        good(cublasSetStream(handle, stream));
    }
};

// 4 pairs of transposes, 3 types, C of that type or f32, beta or none over a C of NaN.
START_TEST(a_product_agrees_with_loops)
{
    const bool         ta = _i & 1, tb = _i & 2, with_beta = _i & 4;
    const cudaDataType type = types[_i / 16], type_c = _i & 8 ? CUDA_R_32F : type;
    const int m = 5, n = 7, k = 6, batch = 3, lda = (ta ? k : m) + 1, ldb = (tb ? n : k) + 2,
              ldc          = m + 3;
    const long long step_a = 60, step_b = 80, step_c = 90;
    const float     alpha = 0.5f, beta = with_beta ? 2.0f : 0.0f;
    blas            b;
    const auto      x = draw(step_a * batch, 1), y = draw(step_b * batch, 2);
    auto            z = draw(step_c * batch, 3);

    if (!with_beta) z.assign(z.size(), std::nanf(""));
    void *C = put(z, type_c);
    good(cublasGemmStridedBatchedEx(
        b.handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &alpha,
        put(x, type), type, lda, step_a, put(y, type), type, ldb, step_b, &beta, C, type_c, ldc,
        step_c, batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    const auto out = get(b, C, z.size(), type_c);
    for (int s = 0; s < batch; s++)
        for (int j = 0; j < ldc * n; j++) {
            const int    row = j % ldc, column = j / ldc;
            const size_t at = (size_t)(s * step_c + j);
            if (row >= m) { // between the columns nothing is written
                ck_assert(with_beta ? out[at] == z[at] : std::isnan(out[at]));
                continue;
            }
            double sum = with_beta ? beta * z[at] : 0.0;
            for (int i = 0; i < k; i++)
                sum += (double)alpha *
                       x[(size_t)(s * step_a + (ta ? row * lda + i : i * lda + row))] *
                       y[(size_t)(s * step_b + (tb ? i * ldb + column : column * ldb + i))];
            close_to(out[at], sum, type_c);
        }
}
END_TEST

START_TEST(tf32_is_used_only_where_it_is_asked_for)
{
    const float x = 1.0f + 1.0f / 4096.0f, one = 1.0f, zero = 0.0f; // TF32 rounds x to 1
    const struct {
        cublasComputeType_t compute;
        const char         *capability;
        float               wanted;
    } cases[] = { { CUBLAS_COMPUTE_32F, "8.0", x },
                  { CUBLAS_COMPUTE_32F_FAST_TF32, "8.0", 1.0f },
                  { CUBLAS_COMPUTE_32F_PEDANTIC, "8.0", x },
                  { CUBLAS_COMPUTE_32F_FAST_TF32, "7.0", x } };
    blas   b;
    float *A = on_device(std::vector<float>{ x }), *B = on_device(std::vector<float>{ 1.0f }),
          *C = on_device<float>(1);

    for (const auto &c : cases) {
        kd_emulator_set("CC", c.capability);
        good(cublasGemmEx(b.handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, A, CUDA_R_32F, 1, B,
                          CUDA_R_32F, 1, &zero, C, CUDA_R_32F, 1, c.compute, CUBLAS_GEMM_DEFAULT));
        ck_assert_float_eq(from_device(b, C, 1)[0], c.wanted);
    }
}
END_TEST

START_TEST(a_product_of_memory_that_is_not_the_devices_is_a_lost_device)
{
    blas               b;
    const float        one = 1.0f, zero = 0.0f;
    std::vector<float> host(64);
    float             *A = on_device<float>(16), *C = on_device<float>(15);

    const auto multiply = [&](const float *a, int lda, float *c) {
        return cublasGemmEx(b.handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, a, CUDA_R_32F, lda,
                            A, CUDA_R_32F, 4, &zero, c, CUDA_R_32F, 4, CUBLAS_COMPUTE_32F,
                            CUBLAS_GEMM_DEFAULT);
    };
    ck_assert_int_eq(multiply(A, 3, C), CUBLAS_STATUS_INVALID_VALUE);
    good(_i == 0 ? multiply(host.data(), 4, A) : multiply(A, 4, C));
    ck_assert_int_eq(b.sync(), cudaErrorIllegalAddress);
    says(_i == 0 ? "gemm: A does not lie" : "gemm: C does not lie");
}
END_TEST

START_TEST(an_old_card_has_no_products_of_bf16)
{
    blas        b;
    const float one = 1.0f, zero = 0.0f;
    uint16_t   *A = on_device<uint16_t>(1);

    kd_emulator_set("CC", "7.0");
    ck_assert_int_eq(cublasGemmEx(b.handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, A, CUDA_R_16BF,
                                  1, A, CUDA_R_16BF, 1, &zero, A, CUDA_R_16BF, 1,
                                  CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_ARCH_MISMATCH);
}
END_TEST

// ---- Convolution ---------------------------------------------------------------------------------

// y (N,h,w,O), x (N,H,W,C), filter (O,kh,kw,C/groups)
struct shape {
    int n, h, w, c, o, kernel, step, pad_h, pad_w, gap, groups;
    int out(int in, int pad) const { return (in + 2 * pad - gap * (kernel - 1) - 1) / step + 1; }
    int out_h() const { return out(h, pad_h); }
    int out_w() const { return out(w, pad_w); }
    int own() const { return c / groups; }
    int x_count() const { return n * h * w * c; }
    int w_count() const { return o * kernel * kernel * own(); }
    int y_count() const { return n * out_h() * out_w() * o; }
};
const shape   shapes[] = { { 2, 5, 7, 3, 4, 3, 1, 1, 1, 1, 1 }, { 1, 8, 6, 5, 3, 3, 2, 1, 1, 1, 1 },
                           { 3, 4, 4, 2, 6, 1, 1, 0, 0, 1, 1 }, { 2, 9, 9, 3, 8, 7, 4, 3, 3, 1, 1 },
                           { 1, 6, 5, 4, 2, 2, 2, 0, 0, 1, 1 }, { 2, 7, 9, 2, 3, 3, 1, 2, 3, 2, 1 },
                           { 2, 6, 7, 6, 9, 3, 2, 1, 0, 1, 3 }, { 1, 9, 8, 4, 6, 3, 2, 2, 1, 3, 2 } };
constexpr int shape_count = sizeof shapes / sizeof shapes[0];

struct dnn : bench {
    cudnnHandle_t                handle = nullptr;
    cudnnTensorDescriptor_t      x = nullptr, y = nullptr;
    cudnnFilterDescriptor_t      w    = nullptr;
    cudnnConvolutionDescriptor_t conv = nullptr;

    dnn(const shape &s, cudnnDataType_t type)
    {
        good(cudnnCreate(&handle));
        good(cudnnSetStream(handle, stream));
        good(cudnnCreateTensorDescriptor(&x));
        good(cudnnCreateTensorDescriptor(&y));
        good(cudnnCreateFilterDescriptor(&w));
        good(cudnnCreateConvolutionDescriptor(&conv));
        good(cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, type, s.n, s.c, s.h, s.w));
        good(
            cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, type, s.n, s.o, s.out_h(), s.out_w()));
        good(cudnnSetFilter4dDescriptor(w, type, CUDNN_TENSOR_NHWC, s.o, s.own(), s.kernel,
                                        s.kernel));
        good(cudnnSetConvolution2dDescriptor(conv, s.pad_h, s.pad_w, s.step, s.step, s.gap, s.gap,
                                             CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
        if (s.groups > 1) good(cudnnSetConvolutionGroupCount(conv, s.groups));
        good(cudnnSetConvolutionMathType(conv, CUDNN_FMA_MATH));
    }
    ~dnn()
    {
        cudnnDestroyConvolutionDescriptor(conv);
        cudnnDestroyFilterDescriptor(w);
        cudnnDestroyTensorDescriptor(y);
        cudnnDestroyTensorDescriptor(x);
        cudnnDestroy(handle);
    }
};

// Calls visit(index of x, of w, of y) for each product of the convolution.
template <class Visit> void each_product(const shape &s, Visit visit)
{
    const int oh = s.out_h(), ow = s.out_w();

    for (int y = 0; y < s.y_count(); y++)
        for (int tap = 0; tap < s.kernel * s.kernel; tap++) {
            const int o = y % s.o, ox = y / s.o % ow, oy = y / s.o / ow % oh, n = y / s.o / ow / oh;
            const int ky = tap / s.kernel, kx = tap % s.kernel;
            const int iy = oy * s.step - s.pad_h + ky * s.gap,
                      ix = ox * s.step - s.pad_w + kx * s.gap;
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
            for (int c = 0; c < s.own(); c++)
                visit(((n * s.h + iy) * s.w + ix) * s.c + o / (s.o / s.groups) * s.own() + c,
                      (o * s.kernel * s.kernel + tap) * s.own() + c, y);
        }
}

START_TEST(a_convolution_and_its_gradients_agree_with_loops)
{
    const cudnnDataType_t dnn_types[] = { CUDNN_DATA_FLOAT, CUDNN_DATA_HALF, CUDNN_DATA_BFLOAT16 };
    const shape          &s           = shapes[_i % shape_count];
    const int             kind        = _i / shape_count;
    const cudaDataType    type        = types[kind];
    dnn                   d(s, dnn_types[kind]);
    const float           alpha = 0.5f, none = 0.0f, twice = 2.0f;
    const auto            x = draw((size_t)s.x_count(), 1), w = draw((size_t)s.w_count(), 2),
               y = draw((size_t)s.y_count(), 3);
    std::vector<double>           vx(x.size()), vw(w.size()), vy(y.size());
    cudnnConvolutionFwdAlgoPerf_t first;
    int                           found;

    each_product(s, [&](int ix, int iw, int iy) {
        vy[(size_t)iy] += (double)x[(size_t)ix] * w[(size_t)iw];
        vx[(size_t)ix] += (double)y[(size_t)iy] * w[(size_t)iw];
        vw[(size_t)iw] += (double)y[(size_t)iy] * x[(size_t)ix];
    });
    void *X = put(x, type), *W = put(w, type), *Y = put(y, type), *DX = put(x, type),
         *DW  = put(w, type);
    void *OUT = put(std::vector<float>(y.size(), std::nanf("")), type);
    good(
        cudnnGetConvolutionForwardAlgorithm_v7(d.handle, d.x, d.w, d.conv, d.y, 1, &found, &first));
    ck_assert_int_eq(first.algo, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM);
    const size_t bytes = first.memory;
    void        *work  = on_device<char>(bytes);
    good(cudnnConvolutionForward(d.handle, &alpha, d.x, X, d.w, W, d.conv,
                                 CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, work, bytes,
                                 &none, d.y, OUT));
    good(cudnnConvolutionBackwardData(d.handle, &alpha, d.w, W, d.y, Y, d.conv,
                                      CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, work, bytes, &twice, d.x,
                                      DX));
    good(cudnnConvolutionBackwardFilter(d.handle, &alpha, d.x, X, d.y, Y, d.conv,
                                        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, work, bytes, &twice,
                                        d.w, DW));
    const auto out = get(d, OUT, y.size(), type), dx = get(d, DX, x.size(), type),
               dw = get(d, DW, w.size(), type);
    for (size_t i = 0; i < y.size(); i++)
        close_to(out[i], alpha * vy[i], type);
    for (size_t i = 0; i < x.size(); i++)
        close_to(dx[i], alpha * vx[i] + 2.0 * x[i], type);
    for (size_t i = 0; i < w.size(); i++)
        close_to(dw[i], alpha * vw[i] + 2.0 * w[i], type);
}
END_TEST

START_TEST(a_search_names_algorithms_that_run_with_their_workspace)
{
    dnn                           d(shapes[0], CUDNN_DATA_FLOAT);
    const float                   one = 1.0f, zero = 0.0f;
    cudnnConvolutionFwdAlgoPerf_t results[4];
    int                           found;
    const auto                    count = [](int n) { return (size_t)n; };
    float                        *x     = on_device<float>(count(shapes[0].x_count())),
          *w                            = on_device<float>(count(shapes[0].w_count())),
          *y                            = on_device<float>(count(shapes[0].y_count()));

    good(cudnnGetConvolutionForwardAlgorithm_v7(d.handle, d.x, d.w, d.conv, d.y, 4, &found,
                                                results));
    ck_assert_int_ge(found, 1);
    for (int i = 0; i < found; i++) {
        char *work = on_device<char>(results[i].memory + 1);
        good(results[i].status);
        good(cudnnConvolutionForward(d.handle, &one, d.x, x, d.w, w, d.conv, results[i].algo, work,
                                     results[i].memory, &zero, d.y, y));
        good(d.sync());
        if (results[i].memory == 0) continue;
        ck_assert_int_eq(cudnnConvolutionForward(d.handle, &one, d.x, x, d.w, w, d.conv,
                                                 results[i].algo, work, results[i].memory - 1,
                                                 &zero, d.y, y),
                         CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
    }
    cudnnConvolutionBwdFilterAlgoPerf_t filter;
    good(cudnnGetConvolutionBackwardFilterAlgorithm_v7(d.handle, d.x, d.y, d.conv, d.w, 1, &found,
                                                       &filter));
    ck_assert_int_eq(filter.determinism,
                     CUDNN_NON_DETERMINISTIC); // the first one is no safe choice
    good(cudnnConvolutionForward(d.handle, &one, d.x, x, d.w, w, d.conv,
                                 CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, nullptr, 0, &zero, d.y,
                                 y + 1));
    ck_assert_int_eq(d.sync(), cudaErrorIllegalAddress);
    says("cudnnConvolutionForward: y does not lie");
}
END_TEST

START_TEST(handles_and_descriptors_are_counted)
{
    {
        dnn d(shapes[0], CUDNN_DATA_FLOAT);
        ck_assert_int_eq(kd_emulator_handles(), 5);
    }
    ck_assert_int_eq(kd_emulator_handles(), 0);
}
END_TEST

Suite *math_suite()
{
    Suite *suite  = suite_create("emulator_math");
    TCase *halves = tcase_create("halves"), *products = tcase_create("products"),
          *convolution = tcase_create("convolution");

    tcase_add_test(halves, every_half_survives_and_ties_go_to_even);
    tcase_add_test(halves, every_bf16_survives_and_ties_go_to_even);
    suite_add_tcase(suite, halves);
    tcase_add_loop_test(products, a_product_agrees_with_loops, 0, 48);
    tcase_add_test(products, tf32_is_used_only_where_it_is_asked_for);
    tcase_add_loop_test(products, a_product_of_memory_that_is_not_the_devices_is_a_lost_device, 0,
                        2);
    tcase_add_test(products, an_old_card_has_no_products_of_bf16);
    suite_add_tcase(suite, products);
    tcase_add_loop_test(convolution, a_convolution_and_its_gradients_agree_with_loops, 0,
                        3 * shape_count);
    tcase_add_test(convolution, a_search_names_algorithms_that_run_with_their_workspace);
    tcase_add_test(convolution, handles_and_descriptors_are_counted);
    suite_add_tcase(suite, convolution);
    return suite;
}
} // namespace

int main() { return run_suite(math_suite()); }
