// SPDX-License-Identifier: Apache-2.0
// Kernels<Cpu, float>, Kernels<Cpu, double> and Kernels<Cpu, bf16> (backend/cpu/widened.hpp): what models, losses and
// optimisers run on the host. All functions are static, take row-major pointers and run on kdlib's thread pool; results
// repeat bit for bit for a fixed thread count, BLAS and CPU type.
//
// With KDLIB_WITH_CBLAS matrix products go to cblas_?gemm (one thread a call, inside kdlib's pool), else to Eigen.
// Everything else is own code with AVX-512, AVX2 and portable bodies, chosen when the program runs
// (KDLIB_CPU_LEVEL=portable|avx2|avx512 lowers it).
#ifndef KDLIB_BACKEND_CPU_HPP
#define KDLIB_BACKEND_CPU_HPP

// Loss kernels compiled without optimisation run 50 times slower, training 5 times.
#if !defined(__OPTIMIZE__) && !defined(KDLIB_USES_INSTANCES) && !defined(KDLIB_ALLOW_UNOPTIMIZED) && \
    !defined(__CUDACC__)
#pragma GCC warning \
    "kdlib: compiled without optimisation, training is at least 5 times slower; set CMAKE_BUILD_TYPE=Release (or -O2), \
link kdlib::instances, or define KDLIB_ALLOW_UNOPTIMIZED"
#endif

#include <cstdint>
#include <string>
#include <type_traits>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/backend/cpu/widened.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN

/// The instruction sets that the vector loops have bodies for.
enum class CpuLevel : int { portable = 0, avx2 = 1, avx512 = 2 };

/// The best level of this CPU (lowered by KDLIB_CPU_LEVEL or set_cpu_level).
CpuLevel cpu_level();
/// Lowers the level, for tests and comparisons; a level that the CPU lacks is refused with BackendError.
void set_cpu_level(CpuLevel level);
const char* cpu_level_name(CpuLevel level);

/// Whether x W^T and x W have the same bits for a row of x whatever rows stand beside it: then texts and logits do not
/// depend on how many sequences are run together. Off at the start, for the process as a whole; slower (a weight is
/// read once for 16 rows, by one kernel instead of the fastest for each number of rows).
bool batch_invariant();
void set_batch_invariant(bool on);
namespace detail {
/// Kernels<Cpu, T>::take_buffers().
void take_blas_buffers();
}  // namespace detail

/// The matrix library behind gemm: "cblas (OpenBLAS 0.3.21 ...)" or "Eigen 3.4.0". Bit-equal runs need the same text.
const char* cpu_blas_name();

/// What multiplies bf16: "bf16 products by oneDNN 2.6.3 (AMX)", or "bf16 products in float" without oneDNN
/// (KDLIB_WITH_ONEDNN), without BF16 instructions and below the level avx512. Bit-equal runs need the same text.
std::string cpu_narrow_name();

template <class T, class D>
class PackedMatrix;

namespace detail {

template <class T>
struct CpuGemm {
  /// C[m,n] = alpha * op(A) op(B) + beta * C. op = transpose where the flag is set. Row-major, leading dimensions in
  /// elements. beta = 0 never reads C.
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                   const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc);
  /// The same on the calling thread alone: for use inside parallel_for.
  static void gemm_serial(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                          const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc);
};

template <class T>
struct CpuElementwise {
  /// out[n, width] = table[ids[n], width].
  static void embedding(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* table, T* out);
  /// table_gradient[ids[n], :] += gradient[n, :]; the order of the additions is that of n.
  static void embedding_backward(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* gradient,
                                 T* table_gradient);

  /// y = x * r * weight, r = 1 / sqrt(mean(x^2) + epsilon) a row. x, y [rows, width], weight [width], inverse_rms
  /// [rows] (may be nullptr).
  static void rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon, T* y,
                       T* inverse_rms);
  /// x_gradient (+)= ..., weight_gradient += ...; either may be nullptr. `accumulate` says whether x_gradient is added
  /// to or written.
  static void rms_norm_backward(const T* x, const T* weight, const T* inverse_rms, const T* gradient, std::int64_t rows,
                                std::int64_t width, T* x_gradient, bool accumulate, T* weight_gradient);

  /// Rotates x [rows, heads, head_size] in place by half-split RoPE: row i by the angles of positions[i].
  /// cosine, sine [positions, head_size / 2]; inverse = the transposed rotation (backward).
  static void rope(T* x, const std::int32_t* positions, std::int64_t rows, std::int64_t heads, std::int64_t head_size,
                   const T* cosine, const T* sine, bool inverse);

  /// y = silu(gate) * up, n elements.
  static void swiglu(const T* gate, const T* up, std::int64_t n, T* y);
  /// gate_gradient, up_gradient [n] written; both may be the memory of `gradient`'s caller but not of gate or up.
  static void swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                              T* up_gradient);
  /// y = gelu(gate) * up, gelu(x) = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, and its gradients, as swiglu's.
  static void geglu(const T* gate, const T* up, std::int64_t n, T* y);
  static void geglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                             T* up_gradient);

  static void add(const T* a, const T* b, std::int64_t n, T* y);  // y = a + b
  static void axpy(std::int64_t n, T alpha, const T* x, T* y);    // y += alpha * x
  static void scale(std::int64_t n, T alpha, T* x);               // x *= alpha
  /// x[i] = normal_number(i) of stream (seed, initialise, 0, row), computed in double and rounded once.
  static void fill_normal(std::int64_t n, double deviation, std::uint64_t seed, std::uint32_t row, T* x);
  /// y[rows, width] += bias[width] on every row.
  static void add_bias(const T* bias, std::int64_t rows, std::int64_t width, T* y);
  /// sums[width] += sum over rows of x[rows, width].
  static void add_column_sums(const T* x, std::int64_t rows, std::int64_t width, T* sums);
  /// out[r, :] = x[rows[r], :].
  static void gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* out);
  /// y[rows[r], :] += x[r, :]; rows are distinct.
  static void scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* y);
  /// Sum of squares in double, added in blocks of fixed size: the same for every thread count.
  static double sum_squares(const T* x, std::int64_t n);
  /// out[r] = the largest |x| of row r of x [rows, width]; NaN where the row holds NaN or infinity.
  static void largest_magnitudes(const T* x, std::int64_t rows, std::int64_t width, T* out);
  /// peaks[width] = the largest over rows of factors[r] * |x[r, :]|, x [rows, width].
  static void column_peaks(const T* x, std::int64_t rows, std::int64_t width, const T* factors, T* peaks);
  /// One AdamW step (Loshchilov and Hutter, 2019) on n elements: moments and value are updated in place.
  static void adamw(const AdamWStep& step, std::int64_t n, const T* gradient, T* first, T* second, T* value);
};

template <class T>
struct CpuAttention {
  /// Causal softmax(softcap(q k^T * scale)) v inside each document. q, out [tokens, query_heads, head_size]; k, v
  /// [tokens, kv_heads, head_size]; log_sum [tokens, query_heads] is kept for the backward pass (may be nullptr).
  static void attention(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                        const T* v, T* out, T* log_sum);
  /// Recomputes the probabilities from log_sum. Gradients are written, not added to.
  static void attention_backward(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                                 const T* v, const T* out, const T* log_sum, const T* out_gradient, T* q_gradient,
                                 T* k_gradient, T* v_gradient);
  /// Copies the batch's k, v [tokens, kv_heads * head_size] behind what each document's slot holds, then lets the
  /// batch's queries see both. log_sum as above.
  static void attention_decode(const AttentionHeads& heads, const DocumentRanges& documents,
                               const CacheRanges<T>& cache, const T* q, const T* k, const T* v, T* out, T* log_sum);
  /// Every one of n sequences has become a token longer: the place of its next token, and what its slot holds.
  static void advance(std::int64_t n, std::int32_t* positions, std::int64_t* past);
  /// Adds exp(sink) of a head to the denominators of a result: out [tokens, heads, head_size] is scaled, log_sum
  /// [tokens, heads] then includes the sink, so that attention_backward is right as it is. sinks [heads].
  static void attention_sinks(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks, T* out,
                              T* log_sum);
  /// sinks_gradient [heads] += sum over tokens of -exp(sink - log_sum) (out_gradient . out).
  static void attention_sinks_backward(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks,
                                       const T* out, const T* log_sum, const T* out_gradient, T* sinks_gradient);
};

/// Mixtures of experts. N tokens, E experts, K of them active, R = N K rows sorted by expert, I an expert's inner
/// width.
template <class T>
struct CpuExperts {
  /// Logits [N, E] to chosen experts ids [N, K], the largest first, and their weights [N, K].
  static void route(const RouterRule& rule, const T* logits, std::int64_t n, std::int32_t* ids, T* weights);
  /// The weights of given experts.
  static void route_again(const RouterRule& rule, const T* logits, std::int64_t n, const std::int32_t* ids, T* weights);
  /// logits_gradient [N, E] written from weights_gradient [N, K].
  static void route_backward(const RouterRule& rule, const T* logits, const std::int32_t* ids, const T* weights,
                             const T* weights_gradient, std::int64_t n, T* logits_gradient);
  /// ids[i] = given[i] where that is not RoutingRecord::unknown, of n choices.
  static void take_known(const std::int32_t* given, std::int64_t n, std::int32_t* ids);
  /// sums [2 E + 1]: tokens that chose e; sums over tokens of softmax over all logits; the sum of squared
  /// log-sum-exps.
  static void router_sums(const RouterRule& rule, const T* logits, const std::int32_t* ids, std::int64_t n,
                          double* sums);
  /// totals[width] = the rows of sums [layers, width], added in order.
  static void router_totals(std::int64_t layers, std::int64_t width, const double* sums, double* totals);
  /// logits_gradient += gradient of sum_n sum_e push * counts[e] p[n, e] + square * (log-sum-exp of row n)^2.
  static void router_sums_backward(const RouterRule& rule, const T* logits, std::int64_t n, const double* counts,
                                   double push, double square, T* logits_gradient);
  /// Sorts the N K choices by expert, tokens in order inside: offsets [E + 1], token [R] of a sorted row, place [N, K]
  /// of a choice.
  static void group_by_expert(const RouterRule& rule, const std::int32_t* ids, std::int64_t n, std::int64_t* offsets,
                              std::int64_t* token, std::int64_t* place);

  /// y[R, out] = x[R, in] W_e^T (+ bias_e), W [E, out, in], bias [E, out] or nullptr: each row meets its own expert
  /// alone.
  static void expert_multiply(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* x,
                              const T* weight, const T* bias, T* y);
  /// x_gradient[R, in] = y_gradient[R, out] W_e.
  static void expert_multiply_back(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* y_gradient,
                                   const T* weight, T* x_gradient);
  /// Both with W [E * out, in] in a packed format: only the rows of active experts are decoded, a block at a time.
  static void expert_multiply_packed(const ExpertRanges& ranges, std::int64_t out, const T* x,
                                     const PackedMatrix<T, Cpu>& weight, const T* bias, T* y);
  static void expert_multiply_back_packed(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                          const PackedMatrix<T, Cpu>& weight, T* x_gradient);
  /// weight_gradient[E, out, in] += y_gradient_e^T x_e.
  static void expert_weight_gradient(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* y_gradient,
                                     const T* x, T* weight_gradient);
  /// bias_gradient[E, out] += sum over the expert's rows of y_gradient[r, :].
  static void expert_bias_gradient(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient, T* bias_gradient);

  /// y[rows, I] from u[rows, 2I].
  static void expert_activation(const ExpertActivation& activation, const T* u, std::int64_t rows, std::int64_t inner,
                                T* y);
  /// u_gradient [rows, 2I] written.
  static void expert_activation_backward(const ExpertActivation& activation, const T* u, const T* y_gradient,
                                         std::int64_t rows, std::int64_t inner, T* u_gradient);
  /// y[n, :] += sum over k of weights[n, k] rows[place[n, k], :]; weights may be nullptr (ones).
  static void combine_rows(const T* rows, const std::int64_t* place, const T* weights, std::int64_t n,
                           std::int64_t active, std::int64_t width, T* y);
  /// dots[R] (+)= a[r, :] . b[r, :], or . b of the row's expert where `by_expert`: b [R, width] or [E, width].
  static void expert_row_dots(const ExpertRanges& ranges, std::int64_t width, const T* a, const T* b, bool by_expert,
                              bool accumulate, T* dots);
  /// x[r, :] *= factors[r].
  static void scale_each_row(const T* factors, std::int64_t rows, std::int64_t width, T* x);

  /// y[n, :] += sigmoid(gate[n]) x[n, :].
  static void add_gated(const T* gate, const T* x, std::int64_t n, std::int64_t width, T* y);
  /// Both gradients are written: gate_gradient [n], x_gradient [n, width].
  static void add_gated_backward(const T* gate, const T* x, const T* y_gradient, std::int64_t n, std::int64_t width,
                                 T* gate_gradient, T* x_gradient);
};

/// How m rows of x meet coded weights without decoded ones: x is padded to `rows` (1, 2, 4, 8; 0: they do not) and
/// takes `elements` floats, its sums `sums`; each thread needs `scratch`.
struct CodedPlan {
  std::int64_t rows = 0, elements = 0, sums = 0, scratch = 0;
};

template <class T>
struct CpuPacked {
  /// out[count, columns] = rows [begin, begin + count) of the weight.
  static void coded_decode(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* out);
  /// out[n, columns] = the rows named by ids [n].
  static void coded_gather(const CodedRanges& weight, const std::int32_t* ids, std::int64_t n, T* out) {
    for (std::int64_t i = 0; i < n; ++i) coded_decode(weight, ids[i], 1, out + i * weight.columns);
  }
  /// y[m, rows] = x[m, columns] W^T + beta * y for m up to some tens: up to 8 rows meet the codes as they are read,
  /// more meet rows decoded in cache.
  static void coded_multiply_few(const CodedRanges& weight, std::int64_t m, const T* x, T beta, T* y);
  /// From the gradient of decoded rows [begin, begin + count), [count, columns]: scale_gradient [groups] += sum over a
  /// group of gradient (level - shift), zero_gradient [groups] += sum of gradient; nullptr where not wanted. Codes stay
  /// as they are. Not for groups that cross row ends.
  static void coded_factor_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count,
                                    const T* gradient, T* scale_gradient, T* zero_gradient);
  /// gradient = 0 where the code is the lowest or the highest integer.
  static void coded_clip_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* gradient);
  /// out[count, columns] = rows [begin, begin + count) of a weight in a file's format.
  static void stored_decode(const StoredRanges& weight, std::int64_t begin, std::int64_t count, T* out);
  /// y[m, count] (leading dimension ldy) = x[m, columns] W[begin, begin + count)^T + beta * y. In float, up to 8 rows
  /// of x (AVX-512; 4 with AVX2) go straight over the blocks; more meet blocks of decoded rows in cache, at most 2 MiB
  /// a thread.
  static void stored_multiply(const StoredRanges& weight, std::int64_t begin, std::int64_t count, std::int64_t m,
                              const T* x, T beta, T* y, std::int64_t ldy);
};

}  // namespace detail

template <class T>
requires(std::is_same_v<T, float> || std::is_same_v<T, double>) struct Kernels<Cpu, T> : detail::CpuGemm<T>,
                                                                                         detail::CpuElementwise<T>,
                                                                                         detail::CpuAttention<T>,
                                                                                         detail::CpuExperts<T>,
                                                                                         detail::CpuPacked<T> {
  /// Tries once whether the matrix library gets its memory for every thread, and lets it take it. BackendError.
  static void take_buffers() { detail::take_blas_buffers(); }
  /// What bit-equal runs need to be the same besides thread count and program: matrix library and vector level.
  static std::string environment() { return std::string(cpu_blas_name()) + ", " + cpu_level_name(cpu_level()); }
};

template <>
struct Kernels<Cpu, bf16> : detail::WidenedGemm<bf16>,
                            detail::WidenedElementwise<bf16>,
                            detail::WidenedAttention<bf16>,
                            detail::WidenedExperts<bf16>,
                            detail::WidenedPacked<bf16> {
  static void take_buffers() { detail::take_blas_buffers(); }
  static std::string environment() { return Kernels<Cpu, float>::environment() + ", " + cpu_narrow_name(); }
};

KDLIB_NAMESPACE_END

#include "kdlib/backend/cpu/attention_inl.hpp"
#include "kdlib/backend/cpu/coded_inl.hpp"
#include "kdlib/backend/cpu/elementwise_inl.hpp"
#include "kdlib/backend/cpu/experts_inl.hpp"
#include "kdlib/backend/cpu/gemm_inl.hpp"
#include "kdlib/backend/cpu/stored_inl.hpp"

#include "kdlib/backend/cpu/widened_attention_inl.hpp"
#include "kdlib/backend/cpu/widened_elementwise_inl.hpp"
#include "kdlib/backend/cpu/widened_experts_inl.hpp"
#include "kdlib/backend/cpu/widened_gemm_inl.hpp"
#include "kdlib/backend/cpu/widened_packed_inl.hpp"

#include "kdlib/backend/cpu/rows.hpp"  // comes last: it declares what kdlib::instances holds

#endif
