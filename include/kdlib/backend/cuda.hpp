// SPDX-License-Identifier: Apache-2.0
// The CUDA backend as a host compiler sees it: declarations of device memory and of the kernels that exist so far. The
// CMake target kdlib::cuda compiles the files of src/cuda (the .cu files with nvcc) and links CUDA's libraries. For
// tests, the target kdlib::cuda_emulated compiles the same .cu files with the host compiler for a device that is
// emulated on the host: it has the same functions and needs neither GPU nor CUDA toolkit.
//
// These parts exist: Memory<Cuda>, every kernel of Kernels<Cpu, T> in float and bf16, products by cuBLASLt, and the
// loss engine.
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

/// Returns the number of devices that answer, 0 if there is no GPU or no driver. Never throws.
int cuda_device_count();
/// Returns name and compute capability of the device, such as "NVIDIA H200, compute capability 9.0". BackendError: no
/// device answers.
std::string cuda_device_text();
/// Returns the libraries that the program is linked with, such as "CUDA runtime 13.0, cuBLASLt 13.1.0, cuDNN 9.19.0".
/// No device is needed.
std::string cuda_library_text();
/// Waits for all work that was started on the device. BackendError: a part of that work failed.
void cuda_synchronize();

/// Memory of the current device. BackendError: an allocation cannot be met; the message says how much memory is free.
template <>
struct Memory<Cuda> {
  static void* allocate(std::size_t bytes);
  static void release(void* p, std::size_t bytes) noexcept;
  static void fill_zero(void* p, std::size_t bytes);
  static void copy(void* to, const void* from, std::size_t bytes);  // both on the device
  /// Queues the copy. The function waits for the device only if 64 MiB are already on their way. `from` may be changed
  /// after from_host() has returned.
  static void from_host(void* to, const void* from, std::size_t bytes);
  static void to_host(void* to, const void* from, std::size_t bytes);
  /// Calls require_cuda_device(cuda_facts()) of backend/cuda/facts.hpp. BackendError: no work can be done on this
  /// machine.
  static void require_ready();
  /// Returns the bytes that may still be allocated.
  static double available();
  /// Returns the bytes that kdlib's allocator for the device has counted since the program began.
  static CountedMemory counted();

  /// A part of a training step that only queues work. If QueuedPhase::is_strict() is set, waiting for the device inside
  /// that part is refused.
  using QueuedPhase = detail::CudaQueuedPhase;
  /// A CUDA graph: work that is recorded once and launched again (CapturesGraphs). GraphMemory and GraphMemoryPlan are
  /// the memory of its allocations.
  using Graph = detail::CudaGraph;
  using GraphMemory = detail::GraphMemory;
  using GraphMemoryPlan = detail::GraphMemoryPlan;

  /// While a DryRun object lives, CUDA only counts memory and needs no device. Allocations get addresses of a
  /// reservation that nobody touches, in the order and the steps of a device's allocator. Launches, products and copies
  /// do nothing, and values read from the device are zero. Only one DryRun may live at a time, and it holds for all
  /// threads. BackendError: another one lives. Tensors made during a dry run may live longer than the DryRun but must
  /// not be used then.
  class DryRun {
   public:
    DryRun();
    ~DryRun();
    DryRun(const DryRun&) = delete;
    DryRun& operator=(const DryRun&) = delete;
    static bool lives();
    CountedMemory counted() const;
    /// Sets the peaks to the bytes in use now.
    void reset_peak();
  };
};

template <class T, class D>
class PackedMatrix;

namespace detail {
/// ShapeError: a size is negative, or a leading dimension is shorter than a row.
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
  /// C[m,n] = alpha * op(A) op(B) + beta * C on the device, with op(A) [m, k] and op(B) [k, n]. op transposes if the
  /// flag is set. Matrices are row-major; leading dimensions are in elements. float and double are multiplied in their
  /// own precision (no TF32). For bf16 and f16, sums are formed in float and rounded once. With beta = 0, C is never
  /// read.
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                   const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, T* c, std::int64_t ldc);
};
/// What 16-bit models need besides CudaGemm<T>: products whose sums stay in C = accumulate_t<T>, as the gradients of
/// parameters need over several micro-batches, and conversions between T and C. T is bf16.
template <class T>
struct CudaMixed {
  using C = accumulate_t<T>;
  /// Computes as CudaGemm<T>::gemm, but the sums are not rounded to T.
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                   const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, C* c, std::int64_t ldc);
  static void widen(std::int64_t n, const T* x, C* y);   // y = x
  static void narrow(std::int64_t n, const C* x, T* y);  // y = x, rounded to the nearest value of T
};
template <class T>
struct CudaRowCopies {
  /// As in Kernels<Cpu, T>: out[r, :] = x[rows[r], :] and y[rows[r], :] += x[r, :]. `rows` is on the device.
  static void gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* out);
  static void scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* y);
};
/// The functions of CpuElementwise with every array on the device. Only sum_squares(x, n) waits for the device. T is
/// float or bf16. Sums, angles and gradients of parameters have the type C = accumulate_t<T>.
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
  /// Returns the sum of squares and waits for the device.
  static double sum_squares(const T* x, std::int64_t n);
  /// Writes the sums of squares of several arrays (pointer, number of elements) to out[arrays], which is on the device.
  /// The bits are those of sum_squares().
  static void sum_squares_each(const std::vector<std::pair<const T*, std::int64_t>>& arrays, double* out);
  static void adamw(const AdamWStep& step, std::int64_t n, const C* gradient, C* first, C* second, T* value);
  /// Computes the norm of several arrays from their sums of squares sums[count], added in order, and the factor that
  /// clips the norm to `limit`. `sums` and `out` are on the device.
  static void gradient_factor(std::int64_t count, const double* sums, double limit, GradientFactor* out);
};

/// The functions of CpuAttention with every array on the device, including the offsets of the documents. Head sizes are
/// at most 256. log_sum has the type C = accumulate_t<T>. No function waits for the device.
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
/// The functions of CpuExperts with every array on the device. Gradients of weights have the type C = accumulate_t<T>.
/// No function waits for the device.
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
/// How the token of a row is drawn. The members are those of Sampler (rollout/sampler.hpp), which explains them.
struct SampleRule {
  double temperature = 1;  // >= 0; 0: the most probable token
  std::int64_t top_k = 0;  // 0: off
  double top_p = 1;        // 1: off
  double min_p = 0;        // 0: off

  KDLIB_HOST_DEVICE bool truncates() const { return top_k > 0 || top_p < 1 || min_p > 0; }
};
/// A drawn token, as SampledToken, or the reason why no token was drawn.
struct SampledRow {
  enum Fault : std::int32_t { fine, not_finite, nothing };  // a logit is NaN or +inf; every logit is -inf
  std::int32_t id;
  float log_prob, full_log_prob;
  Fault fault;
};
/// Draws a token for each of `rows` rows of logits [rows, columns] on the device. In sample_rows(), `uniform` [rows] in
/// [0, 1) and `out` [rows] are on the host, and the function waits for the device. The tokens are those that
/// sample_token() draws from the same logits in float, unless the uniform number or the edge of a filter lies within
/// rounding.
template <class T>
struct CudaSampler {
  using SampledRow = detail::SampledRow;
  using SampleRule = detail::SampleRule;
  /// Does the same with `uniform` and `out` on the device and does not wait. If next [rows] is not nullptr, the drawn
  /// ids are written there, too (0 for a row without a token).
  static void queue_sample_rows(const SampleRule& rule, std::int64_t rows, std::int64_t columns, const T* logits,
                                const double* uniform, SampledRow* out, std::int32_t* next);
  static void sample_rows(const SampleRule& rule, std::int64_t rows, std::int64_t columns, const T* logits,
                          const double* uniform, SampledRow* out);
};
/// The functions of CpuPacked and the packed products of CpuExperts. Arrays and codes are on the device. Decoded values
/// have the bits of the CPU before they are rounded to T. Rows in the format of a file (StoredRanges) are on the host:
/// each use decodes them there and copies them, which waits for the device and is slow. Where speed counts, decode such
/// weights when they are loaded. The packed weights of experts are decoded as a whole, including those of idle experts.
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
