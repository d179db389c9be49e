// SPDX-License-Identifier: Apache-2.0
// The CUDA backend as a host compiler sees it: memory of the device and the kernels that exist so far, as declarations.
// The CMake target kdlib::cuda compiles kdlib's src/cuda (the .cu files by nvcc) and links CUDA's libraries.
// kdlib::cuda_emulated compiles the same .cu files with the host compiler for a device that is emulated on the host:
// the same functions, no GPU and no toolkit, for tests.
//
// What exists: Memory<Cuda>, every kernel of Kernels<Cpu, T> in float and bf16, products by cuBLASLt, and the loss
// engine.
#ifndef KDLIB_BACKEND_CUDA_HPP
#define KDLIB_BACKEND_CUDA_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Devices that answer; 0 where there is no GPU or no driver. Never throws.
int cuda_device_count();
/// "NVIDIA H200, compute capability 9.0"; BackendError where no device answers.
std::string cuda_device_text();
/// "CUDA runtime 13.0, cuBLASLt 13.1.0, cuDNN 9.19.0": what the program is linked with, with or without a device.
std::string cuda_library_text();
/// Waits for everything that was started on the device and reports what failed there.
void cuda_synchronize();

/// Memory of the current device. A request that cannot be met is a BackendError that says how much is free.
template <>
struct Memory<Cuda> {
  static void* allocate(std::size_t bytes);
  static void release(void* p, std::size_t bytes) noexcept;
  static void fill_zero(void* p, std::size_t bytes);
  static void copy(void* to, const void* from, std::size_t bytes);  // both on the device
  /// Queued and not waited for as long as less than 64 MiB are on their way; `from` may change when it returns.
  static void from_host(void* to, const void* from, std::size_t bytes);
  static void to_host(void* to, const void* from, std::size_t bytes);
  /// BackendError where no work can be done here: require_cuda_device(cuda_facts()) of backend/cuda/facts.hpp.
  static void require_ready();
  /// Bytes that may still be allocated.
  static double available();
  /// Bytes of the device's own allocator, since the program began.
  static CountedMemory counted();

  /// Part of a step that only queues work: waits in it are refused where QueuedPhase::is_strict() is set.
  using QueuedPhase = detail::CudaQueuedPhase;
  /// Work that is recorded once and launched again (CapturesGraphs), and the memory of its allocations.
  using Graph = detail::CudaGraph;
  using GraphMemory = detail::GraphMemory;
  using GraphMemoryPlan = detail::GraphMemoryPlan;

  /// While one lives, CUDA is a device that counts, and needs none: allocations get addresses of a reservation that
  /// nobody touches, in the order and the steps of a device's arena; launches, products and copies do nothing; what is
  /// read from the device is zero. One at a time, for all threads. Tensors made in it may outlive it, unused.
  class DryRun {
   public:
    DryRun();
    ~DryRun();
    DryRun(const DryRun&) = delete;
    DryRun& operator=(const DryRun&) = delete;
    static bool lives();
    CountedMemory counted() const;
    /// The peaks are what is in use now.
    void reset_peak();
  };
};

template <class T, class D>
class PackedMatrix;

namespace detail {
/// Refuses sizes and leading dimensions that no product has.
inline void check_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                       std::int64_t lda, std::int64_t ldb, std::int64_t ldc) {
  require<ShapeError>(m >= 0 && n >= 0 && k >= 0, "[gemm] sizes ", m, ", ", n, ", ", k, " must not be negative");
  require<ShapeError>(lda >= (transpose_a ? m : k) && ldb >= (transpose_b ? k : n) && ldc >= n,
                      "[gemm] leading dimensions ", lda, ", ", ldb, ", ", ldc,
                      " are below the row lengths of a product of ", m, " x ", n, " x ", k);
}

template <class T>
struct CudaGemm {
  using C = accumulate_t<T>;
  /// C[m,n] = alpha * op(A) op(B) + beta * C on the device; op = transpose where the flag is set. Row-major, leading
  /// dimensions in elements. float and double multiply in their own precision (no TF32); bf16 and f16 add in float and
  /// round once. beta = 0 never reads C.
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                   const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, T* c, std::int64_t ldc);
};
/// What 16-bit models need beside CudaGemm<T>: products whose sums stay in C = accumulate_t<T>, as gradients of
/// parameters do over micro-batches, and the conversions between the two. T is bf16.
template <class T>
struct CudaMixed {
  using C = accumulate_t<T>;
  /// As CudaGemm<T>::gemm; nothing is rounded.
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                   const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, C* c, std::int64_t ldc);
  static void widen(std::int64_t n, const T* x, C* y);   // y = x
  static void narrow(std::int64_t n, const C* x, T* y);  // y = x, rounded to the nearest
};
template <class T>
struct CudaRowCopies {
  /// As Kernels<Cpu, T>: out[r, :] = x[rows[r], :] and y[rows[r], :] += x[r, :], with `rows` on the device.
  static void gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* out);
  static void scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* y);
};
/// As CpuElementwise with every array on the device; nothing is waited for but by sum_squares(x, n). T is float or
/// bf16.
/// Sums, angles and gradients of parameters are of C = accumulate_t<T>.
template <class T>
struct CudaElementwise {
  using C = accumulate_t<T>;
  static void embedding(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* table, T* out);
  static void embedding_backward(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* gradient,
                                 C* table_gradient);
  static void rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon, T* y,
                       C* inverse_rms);
  static void rms_norm_backward(const T* x, const T* weight, const C* inverse_rms, const T* gradient, std::int64_t rows,
                                std::int64_t width, T* x_gradient, bool accumulate, C* weight_gradient);
  static void rope(T* x, const std::int32_t* positions, std::int64_t rows, std::int64_t heads, std::int64_t head_size,
                   const C* cosine, const C* sine, bool inverse);
  static void swiglu(const T* gate, const T* up, std::int64_t n, T* y);
  static void swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                              T* up_gradient);
  static void geglu(const T* gate, const T* up, std::int64_t n, T* y);
  static void geglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                             T* up_gradient);
  static void add(const T* a, const T* b, std::int64_t n, T* y);
  static void axpy(std::int64_t n, C alpha, const T* x, T* y);
  static void scale(std::int64_t n, C alpha, T* x);
  static void fill_normal(std::int64_t n, double deviation, std::uint64_t seed, std::uint32_t row, T* x);
  static void add_bias(const T* bias, std::int64_t rows, std::int64_t width, T* y);
  static void add_column_sums(const T* x, std::int64_t rows, std::int64_t width, C* sums);
  static void scale_each_row(const T* factors, std::int64_t rows, std::int64_t width, T* x);
  static void add_gated(const T* gate, const T* x, std::int64_t n, std::int64_t width, T* y);
  static void add_gated_backward(const T* gate, const T* x, const T* y_gradient, std::int64_t n, std::int64_t width,
                                 T* gate_gradient, T* x_gradient);
  /// Waits for the device.
  static double sum_squares(const T* x, std::int64_t n);
  /// The sums of squares of several arrays (pointer, elements) with the bits of sum_squares; `out` is on the device.
  static void sum_squares_each(const std::vector<std::pair<const T*, std::int64_t>>& arrays, double* out);
  static void adamw(const AdamWStep& step, std::int64_t n, const C* gradient, C* first, C* second, T* value);
  /// The norm of arrays from their sums of squares [count], added in order, and the factor that clips it: both on the
  /// device.
  static void gradient_factor(std::int64_t count, const double* sums, double limit, GradientFactor* out);
};

/// As CpuAttention with every array on the device, the documents' offsets among them. Head sizes up to 256; log_sum is
/// of C = accumulate_t<T>. Nothing is waited for.
template <class T>
struct CudaAttention {
  using C = accumulate_t<T>;
  static void attention(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                        const T* v, T* out, C* log_sum);
  static void attention_backward(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                                 const T* v, const T* out, const C* log_sum, const T* out_gradient, T* q_gradient,
                                 T* k_gradient, T* v_gradient);
  static void attention_decode(const AttentionHeads& heads, const DocumentRanges& documents,
                               const CacheRanges<T>& cache, const T* q, const T* k, const T* v, T* out, C* log_sum);
  static void advance(std::int64_t n, std::int32_t* positions, std::int64_t* past);
  static void attention_sinks(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks, T* out,
                              C* log_sum);
  static void attention_sinks_backward(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks,
                                       const T* out, const C* log_sum, const T* out_gradient, C* sinks_gradient);
};
/// As CpuExperts with every array on the device. Gradients of weights are of C = accumulate_t<T>. Nothing is waited
/// for.
template <class T>
struct CudaExperts {
  using C = accumulate_t<T>;
  static void route(const RouterRule& rule, const T* logits, std::int64_t n, std::int32_t* ids, T* weights);
  static void route_again(const RouterRule& rule, const T* logits, std::int64_t n, const std::int32_t* ids, T* weights);
  static void route_backward(const RouterRule& rule, const T* logits, const std::int32_t* ids, const T* weights,
                             const T* weights_gradient, std::int64_t n, T* logits_gradient);
  static void take_known(const std::int32_t* given, std::int64_t n, std::int32_t* ids);
  static void router_sums(const RouterRule& rule, const T* logits, const std::int32_t* ids, std::int64_t n,
                          double* sums);
  static void router_totals(std::int64_t layers, std::int64_t width, const double* sums, double* totals);
  static void router_sums_backward(const RouterRule& rule, const T* logits, std::int64_t n, const double* counts,
                                   double push, double square, T* logits_gradient);
  static void group_by_expert(const RouterRule& rule, const std::int32_t* ids, std::int64_t n, std::int64_t* offsets,
                              std::int64_t* token, std::int64_t* place);
  static void expert_multiply(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* x,
                              const T* weight, const T* bias, T* y);
  static void expert_multiply_back(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* y_gradient,
                                   const T* weight, T* x_gradient);
  static void expert_weight_gradient(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* y_gradient,
                                     const T* x, C* weight_gradient);
  static void expert_bias_gradient(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient, C* bias_gradient);
  static void expert_activation(const ExpertActivation& activation, const T* u, std::int64_t rows, std::int64_t inner,
                                T* y);
  static void expert_activation_backward(const ExpertActivation& activation, const T* u, const T* y_gradient,
                                         std::int64_t rows, std::int64_t inner, T* u_gradient);
  static void combine_rows(const T* rows, const std::int64_t* place, const T* weights, std::int64_t n,
                           std::int64_t active, std::int64_t width, T* y);
  static void expert_row_dots(const ExpertRanges& ranges, std::int64_t width, const T* a, const T* b, bool by_expert,
                              bool accumulate, T* dots);
};
/// How the token of a row is drawn: the numbers of Sampler (rollout/sampler.hpp), which says what they mean.
struct SampleRule {
  double temperature = 1;  // >= 0; 0: the most probable token
  std::int64_t top_k = 0;  // 0: off
  double top_p = 1;        // 1: off
  double min_p = 0;        // 0: off

  KDLIB_HOST_DEVICE bool truncates() const { return top_k > 0 || top_p < 1 || min_p > 0; }
};
/// A drawn token, as SampledToken, or why there is none.
struct SampledRow {
  enum Fault : std::int32_t { fine, not_finite, nothing };  // NaN or +inf was met; every logit is -inf
  std::int32_t id;
  float log_prob, full_log_prob;
  Fault fault;
};
/// Draws a token for each of `rows` rows of logits [rows, columns] on the device; `uniform` [rows] in [0, 1) and `out`
/// [rows] are on the host. The tokens of sample_token on the same logits in float, but where the uniform number or a
/// filter's edge lies within rounding. Waits for the device.
template <class T>
struct CudaSampler {
  using SampledRow = detail::SampledRow;
  using SampleRule = detail::SampleRule;
  /// The same with `uniform` and `out` on the device; nothing is waited for. next [rows], where given, takes the ids (0
  /// for a row that has no token).
  static void queue_sample_rows(const SampleRule& rule, std::int64_t rows, std::int64_t columns, const T* logits,
                                const double* uniform, SampledRow* out, std::int32_t* next);
  static void sample_rows(const SampleRule& rule, std::int64_t rows, std::int64_t columns, const T* logits,
                          const double* uniform, SampledRow* out);
};
/// As CpuPacked and the packed products of CpuExperts. Arrays and codes are on the device; decoded values have the
/// CPU's bits before they are rounded to T. Rows of a file's format (StoredRanges) lie on the host: they are decoded
/// there and copied at every use, which waits for the device and is slow; decode such weights when they are loaded
/// where speed counts. Experts' packed weights are decoded whole, those of idle experts too.
template <class T>
struct CudaPacked {
  using C = accumulate_t<T>;
  static void coded_decode(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* out);
  static void coded_gather(const CodedRanges& weight, const std::int32_t* ids, std::int64_t n, T* out);
  static void coded_multiply_few(const CodedRanges& weight, std::int64_t m, const T* x, C beta, T* y);
  static void coded_factor_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count,
                                    const T* gradient, C* scale_gradient, C* zero_gradient);
  static void coded_clip_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* gradient);
  static void stored_decode(const StoredRanges& weight, std::int64_t begin, std::int64_t count, T* out);
  static void stored_multiply(const StoredRanges& weight, std::int64_t begin, std::int64_t count, std::int64_t m,
                              const T* x, C beta, T* y, std::int64_t ldy);
  static void expert_multiply_packed(const ExpertRanges& ranges, std::int64_t out, const T* x,
                                     const PackedMatrix<T, Cuda>& weight, const T* bias, T* y);
  static void expert_multiply_back_packed(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                          const PackedMatrix<T, Cuda>& weight, T* x_gradient);
};
}  // namespace detail

template <>
struct Kernels<Cuda, float> : detail::CudaGemm<float>,
                              detail::CudaRowCopies<float>,
                              detail::CudaElementwise<float>,
                              detail::CudaAttention<float>,
                              detail::CudaExperts<float>,
                              detail::CudaPacked<float>,
                              detail::CudaSampler<float> {};
template <>
struct Kernels<Cuda, double> : detail::CudaGemm<double> {};
template <>
struct Kernels<Cuda, bf16> : detail::CudaGemm<bf16>,
                             detail::CudaMixed<bf16>,
                             detail::CudaRowCopies<bf16>,
                             detail::CudaElementwise<bf16>,
                             detail::CudaAttention<bf16>,
                             detail::CudaExperts<bf16>,
                             detail::CudaPacked<bf16>,
                             detail::CudaSampler<bf16> {
  using detail::CudaGemm<bf16>::gemm;
  using detail::CudaMixed<bf16>::gemm;
};
template <>
struct Kernels<Cuda, f16> : detail::CudaGemm<f16> {};

KDLIB_NAMESPACE_END

#endif
