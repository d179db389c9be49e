// SPDX-License-Identifier: Apache-2.0
// Kernels<Cpu, float>, Kernels<Cpu, double> and Kernels<Cpu, bf16> (backend/cpu/widened.hpp): the functions that
// models, losses and optimisers run on the host. All functions are static, take row-major pointers and run on kdlib's
// thread pool. Results repeat bit for bit for a fixed thread count, BLAS and CPU type.
//
// With KDLIB_WITH_CBLAS matrix products are computed by cblas_?gemm (one thread for each call, inside kdlib's pool),
// else by Eigen. All other kernels are kdlib's own code with AVX-512, AVX2 and portable bodies. The body is chosen when
// the program runs; the environment variable KDLIB_CPU_LEVEL=portable|avx2|avx512 lowers the choice.
#ifndef KDLIB_BACKEND_CPU_HPP
#define KDLIB_BACKEND_CPU_HPP

// Without optimisation by the compiler, loss kernels run 50 times slower and training runs 5 times slower.
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

/// Returns the level in use: the best level of this CPU unless KDLIB_CPU_LEVEL or set_cpu_level() lowered it.
CpuLevel cpu_level();
/// Sets the level, for tests and comparisons. BackendError: the CPU lacks this level.
void set_cpu_level(CpuLevel level);
const char* cpu_level_name(CpuLevel level);

/// Whether a row of x W^T and of x W has the same bits whatever other rows x has. Texts and logits then do not depend
/// on how many sequences are run together. The setting is for the whole process and off at the start. Products are
/// slower when it is on: one kernel, which reads a weight once for 16 rows, is used instead of the fastest kernel for
/// each number of rows.
bool batch_invariant();
void set_batch_invariant(bool on);
namespace detail {
/// The body of Kernels<Cpu, T>::take_buffers().
void take_blas_buffers();
}  // namespace detail

/// Returns the matrix library behind gemm, such as "cblas (OpenBLAS 0.3.21 ...)" or "Eigen 3.4.0". Runs can only be
/// equal bit for bit if this text is the same.
const char* cpu_blas_name();

/// Returns what multiplies bf16, such as "bf16 products by oneDNN 2.6.3 (AMX)". The text is "bf16 products in float"
/// without oneDNN (KDLIB_WITH_ONEDNN), without BF16 instructions, or below the level avx512. Runs can only be equal bit
/// for bit if this text is the same.
std::string cpu_narrow_name();

template <class T, class D>
class PackedMatrix;

namespace detail {

template <class T>
struct CpuGemm {
  /// C[m,n] = alpha * op(A) op(B) + beta * C with op(A) [m, k] and op(B) [k, n]. op transposes if the flag is set.
  /// Matrices are row-major; leading dimensions are in elements. With beta = 0, C is never read.
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                   const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc);
  /// Does the same as gemm() on the calling thread alone, for use inside parallel_for().
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

  /// y = x * r * weight with r = 1 / sqrt(mean(x^2) + epsilon) of each row. x, y [rows, width], weight [width]; r is
  /// written to inverse_rms [rows], which may be nullptr.
  static void rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon, T* y,
                       T* inverse_rms);
  /// Writes x_gradient [rows, width], or adds to it if `accumulate`, and adds to weight_gradient [width]. Either may be
  /// nullptr.
  static void rms_norm_backward(const T* x, const T* weight, const T* inverse_rms, const T* gradient, std::int64_t rows,
                                std::int64_t width, T* x_gradient, bool accumulate, T* weight_gradient);

  /// Rotates x [rows, heads, head_size] in place by half-split RoPE: row i by the angles of positions[i]. cosine and
  /// sine are [positions, head_size / 2]. `inverse` rotates back, as the backward pass needs.
  static void rope(T* x, const std::int32_t* positions, std::int64_t rows, std::int64_t heads, std::int64_t head_size,
                   const T* cosine, const T* sine, bool inverse);

  /// y = silu(gate) * up for n elements.
  static void swiglu(const T* gate, const T* up, std::int64_t n, T* y);
  /// Writes gate_gradient and up_gradient [n]. One of them may alias `gradient`. Neither may alias gate or up.
  static void swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                              T* up_gradient);
  /// y = gelu(gate) * up with gelu(x) = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2. geglu_backward() has the rules
  /// of swiglu_backward().
  static void geglu(const T* gate, const T* up, std::int64_t n, T* y);
  static void geglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                             T* up_gradient);

  static void add(const T* a, const T* b, std::int64_t n, T* y);  // y = a + b
  static void axpy(std::int64_t n, T alpha, const T* x, T* y);    // y += alpha * x
  static void scale(std::int64_t n, T alpha, T* x);               // x *= alpha
  /// x[i] = normal_number() with index i and standard deviation `deviation` of the stream (seed, initialise, 0, row),
  /// computed in double and rounded once (core/normal.hpp).
  static void fill_normal(std::int64_t n, double deviation, std::uint64_t seed, std::uint32_t row, T* x);
  /// Adds bias[width] to every row of y[rows, width].
  static void add_bias(const T* bias, std::int64_t rows, std::int64_t width, T* y);
  /// sums[width] += sum over rows of x[rows, width].
  static void add_column_sums(const T* x, std::int64_t rows, std::int64_t width, T* sums);
  /// out[r, :] = x[rows[r], :].
  static void gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* out);
  /// y[rows[r], :] += x[r, :]. The entries of `rows` must be distinct.
  static void scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* y);
  /// Returns the sum of squares in double. The sum is formed in blocks of fixed size, so that the result is the same
  /// for every thread count.
  static double sum_squares(const T* x, std::int64_t n);
  /// out[r] = the largest |x| in row r of x [rows, width], or NaN if the row holds NaN or infinity.
  static void largest_magnitudes(const T* x, std::int64_t rows, std::int64_t width, T* out);
  /// peaks[width] = the largest value of factors[r] * |x[r, :]| over the rows of x [rows, width], column by column.
  static void column_peaks(const T* x, std::int64_t rows, std::int64_t width, const T* factors, T* peaks);
  /// One AdamW step (Loshchilov and Hutter, 2019) on n elements. The moments `first` and `second` and `value` are
  /// updated in place.
  static void adamw(const AdamWStep& step, std::int64_t n, const T* gradient, T* first, T* second, T* value);
};

template <class T>
struct CpuAttention {
  /// out = causal softmax(softcap(q k^T * scale)) v inside each document. q, out [tokens, query_heads, head_size]; k, v
  /// [tokens, kv_heads, head_size]. The log-sum-exp of the scores is written to log_sum [tokens, query_heads] for the
  /// backward pass; log_sum may be nullptr.
  static void attention(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                        const T* v, T* out, T* log_sum);
  /// Computes the probabilities again from log_sum. The gradients have the shapes of q, k and v; they are written, not
  /// added to.
  static void attention_backward(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                                 const T* v, const T* out, const T* log_sum, const T* out_gradient, T* q_gradient,
                                 T* k_gradient, T* v_gradient);
  /// Appends the k, v [tokens, kv_heads * head_size] of the batch to the slot of each document. The queries of the
  /// batch then attend to the earlier and the new keys. log_sum is as in attention().
  static void attention_decode(const AttentionHeads& heads, const DocumentRanges& documents,
                               const CacheRanges<T>& cache, const T* q, const T* k, const T* v, T* out, T* log_sum);
  /// Adds 1 to positions[n] and to past[n]: each of n sequences has become one token longer. positions[i] is the
  /// position of its next token, and past[i] the number of rows in its slot.
  static void advance(std::int64_t n, std::int32_t* positions, std::int64_t* past);
  /// Adds exp(sinks[head]) to the softmax denominators of a result: scales out [tokens, heads, head_size], and makes
  /// log_sum [tokens, heads] include the sink, so that attention_backward() needs no change. sinks [heads].
  static void attention_sinks(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks, T* out,
                              T* log_sum);
  /// sinks_gradient [heads] += sum over tokens of -exp(sink - log_sum) (out_gradient . out).
  static void attention_sinks_backward(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks,
                                       const T* out, const T* log_sum, const T* out_gradient, T* sinks_gradient);
};

/// Kernels of mixtures of experts. N (or n) is the number of tokens, E the number of experts, K the active experts of a
/// token, R = N K the number of rows sorted by expert, and I the inner width of an expert.
template <class T>
struct CpuExperts {
  /// Turns logits [N, E] into the chosen experts ids [N, K], the largest logit first, and their weights [N, K].
  static void route(const RouterRule& rule, const T* logits, std::int64_t n, std::int32_t* ids, T* weights);
  /// Computes the weights [N, K] of the given experts ids [N, K].
  static void route_again(const RouterRule& rule, const T* logits, std::int64_t n, const std::int32_t* ids, T* weights);
  /// Writes logits_gradient [N, E] from weights_gradient [N, K].
  static void route_backward(const RouterRule& rule, const T* logits, const std::int32_t* ids, const T* weights,
                             const T* weights_gradient, std::int64_t n, T* logits_gradient);
  /// For i < n: ids[i] = given[i] unless given[i] is RoutingRecord::unknown.
  static void take_known(const std::int32_t* given, std::int64_t n, std::int32_t* ids);
  /// Writes sums [2 E + 1]: for each expert the number of tokens that chose it; for each expert the sum over tokens of
  /// its softmax probability over all logits; and the sum of squared log-sum-exps.
  static void router_sums(const RouterRule& rule, const T* logits, const std::int32_t* ids, std::int64_t n,
                          double* sums);
  /// totals[width] = the sum of the rows of sums [layers, width], added in order.
  static void router_totals(std::int64_t layers, std::int64_t width, const double* sums, double* totals);
  /// logits_gradient [N, E] += gradient of sum_n (sum_e push * counts[e] p[n, e] + square * (log-sum-exp of row n)^2).
  static void router_sums_backward(const RouterRule& rule, const T* logits, std::int64_t n, const double* counts,
                                   double push, double square, T* logits_gradient);
  /// Sorts the N K choices by expert, and by token inside an expert. Writes offsets [E + 1] of the experts, the token
  /// [R] of each sorted row, and the sorted row place [N, K] of each choice.
  static void group_by_expert(const RouterRule& rule, const std::int32_t* ids, std::int64_t n, std::int64_t* offsets,
                              std::int64_t* token, std::int64_t* place);

  /// y[R, out] = x[R, in] W_e^T (+ bias_e), where e is the expert of the row. W [E, out, in], bias [E, out] or nullptr.
  static void expert_multiply(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* x,
                              const T* weight, const T* bias, T* y);
  /// x_gradient[R, in] = y_gradient[R, out] W_e.
  static void expert_multiply_back(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* y_gradient,
                                   const T* weight, T* x_gradient);
  /// Both products with W [E * out, in] in a packed format. Only the rows of experts that own rows of x are decoded,
  /// one block at a time.
  static void expert_multiply_packed(const ExpertRanges& ranges, std::int64_t out, const T* x,
                                     const PackedMatrix<T, Cpu>& weight, const T* bias, T* y);
  static void expert_multiply_back_packed(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                          const PackedMatrix<T, Cpu>& weight, T* x_gradient);
  /// weight_gradient[E, out, in] += y_gradient_e^T x_e for each expert e, over the rows that the expert owns.
  static void expert_weight_gradient(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* y_gradient,
                                     const T* x, T* weight_gradient);
  /// bias_gradient[E, out] += sum over the rows r of each expert of y_gradient[r, :].
  static void expert_bias_gradient(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient, T* bias_gradient);

  /// y[rows, I] = the activation of u[rows, 2I] (ExpertActivation).
  static void expert_activation(const ExpertActivation& activation, const T* u, std::int64_t rows, std::int64_t inner,
                                T* y);
  /// Writes u_gradient [rows, 2I].
  static void expert_activation_backward(const ExpertActivation& activation, const T* u, const T* y_gradient,
                                         std::int64_t rows, std::int64_t inner, T* u_gradient);
  /// y[n, :] += sum over k of weights[n, k] rows[place[n, k], :]; weights may be nullptr (ones).
  static void combine_rows(const T* rows, const std::int64_t* place, const T* weights, std::int64_t n,
                           std::int64_t active, std::int64_t width, T* y);
  /// dots[r] = a[r, :] . b[r, :], or a[r, :] . b[expert of r, :] if `by_expert`; added if `accumulate`. a [R, width], b
  /// [R, width] or [E, width], dots [R].
  static void expert_row_dots(const ExpertRanges& ranges, std::int64_t width, const T* a, const T* b, bool by_expert,
                              bool accumulate, T* dots);
  /// x[r, :] *= factors[r].
  static void scale_each_row(const T* factors, std::int64_t rows, std::int64_t width, T* x);

  /// y[n, :] += sigmoid(gate[n]) x[n, :].
  static void add_gated(const T* gate, const T* x, std::int64_t n, std::int64_t width, T* y);
  /// Writes both gradients: gate_gradient [n] and x_gradient [n, width].
  static void add_gated_backward(const T* gate, const T* x, const T* y_gradient, std::int64_t n, std::int64_t width,
                                 T* gate_gradient, T* x_gradient);
};

/// The plan of a product of m rows of x with coded weights that are not decoded first. `rows` is the number of rows
/// after padding: 1, 2, 4 or 8, or 0 if this path cannot be used. `elements`, `sums` and `scratch` are the sizes in
/// floats of the buffers for the padded rows, for sums over the rows, and for each thread.
struct CodedPlan {
  std::int64_t rows = 0, elements = 0, sums = 0, scratch = 0;
};

template <class T>
struct CpuPacked {
  /// out[count, columns] = rows [begin, begin + count) of the weight, decoded.
  static void coded_decode(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* out);
  /// out[n, columns] = the rows that ids [n] name, decoded.
  static void coded_gather(const CodedRanges& weight, const std::int32_t* ids, std::int64_t n, T* out) {
    for (std::int64_t i = 0; i < n; ++i) coded_decode(weight, ids[i], 1, out + i * weight.columns);
  }
  /// y[m, rows] = x[m, columns] W^T + beta * y, for m up to some tens. Up to 8 rows may be multiplied with the codes as
  /// they are read (CodedPlan); otherwise rows of the weight are decoded into the cache first.
  static void coded_multiply_few(const CodedRanges& weight, std::int64_t m, const T* x, T beta, T* y);
  /// Takes the gradient [count, columns] of the decoded rows [begin, begin + count). scale_gradient [groups] += sum
  /// over each group of gradient (level - shift); zero_gradient [groups] += sum over each group of gradient. Either may
  /// be nullptr. The codes do not change. Groups must not cross the ends of rows.
  static void coded_factor_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count,
                                    const T* gradient, T* scale_gradient, T* zero_gradient);
  /// Sets gradient [count, columns] to 0 where the code is the lowest or the highest integer.
  static void coded_clip_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* gradient);
  /// out[count, columns] = rows [begin, begin + count) of a weight in the format of a file, decoded.
  static void stored_decode(const StoredRanges& weight, std::int64_t begin, std::int64_t count, T* out);
  /// y[m, count] (leading dimension ldy) = x[m, columns] W[begin, begin + count)^T + beta * y. In float, up to 8 rows
  /// of x (AVX-512; 4 with AVX2) are multiplied with the blocks of the file directly. For more rows, rows of the weight
  /// are decoded into the cache first, at most 2 MiB for each thread.
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
  /// Lets the matrix library take its memory for every thread now, before work begins. BackendError: there is not
  /// enough address space.
  static void take_buffers() { detail::take_blas_buffers(); }
  /// Returns the matrix library and the vector level. Besides thread count and program, both must be the same for runs
  /// to be equal bit for bit.
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
