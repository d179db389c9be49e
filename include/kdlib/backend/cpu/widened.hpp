// SPDX-License-Identifier: Apache-2.0
// The parts of Kernels<Cpu, bf16> (backend/cpu.hpp). Values are kept in bf16 and widened to float in pieces that fit
// the nearest caches. The float kernels compute every sum, norm, softmax and angle, and each result is rounded once.
// Products widen tiles of both factors and multiply the tiles in float, which runs on every CPU at about the speed of
// float.
#ifndef KDLIB_BACKEND_CPU_WIDENED_HPP
#define KDLIB_BACKEND_CPU_WIDENED_HPP

#include <cstdint>

#include "kdlib/backend/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T, class D>
class PackedMatrix;

namespace detail {

/// A pointer into an array of float or of T (const float or const T for reading). Exactly one of both pointers is set.
template <class Float, class T>
struct FloatOr {
  Float* wide = nullptr;
  T* narrow = nullptr;

  FloatOr(Float* p) : wide(p) {}
  FloatOr(T* p) : narrow(p) {}
  FloatOr operator+(std::int64_t n) const { return wide != nullptr ? FloatOr(wide + n) : FloatOr(narrow + n); }
};

/// The functions of CpuGemm. Each array has elements of float or of T. Sums are formed in float and written to C once.
template <class T>
struct WidenedGemm {
  using Input = FloatOr<const float, const T>;
  using Output = FloatOr<float, T>;
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
                   Input a, std::int64_t lda, Input b, std::int64_t ldb, float beta, Output c, std::int64_t ldc);
  static void gemm_serial(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                          float alpha, Input a, std::int64_t lda, Input b, std::int64_t ldb, float beta, Output c,
                          std::int64_t ldc);
};

/// The functions of CpuElementwise. Gradients of parameters, angles and inverse_rms are float.
template <class T>
struct WidenedElementwise {
  static void widen(std::int64_t n, const T* x, float* y);   // y = x
  static void narrow(std::int64_t n, const float* x, T* y);  // y = x, rounded to the nearest value of T

  static void embedding(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* table, T* out);
  static void embedding_backward(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* gradient,
                                 float* table_gradient);
  static void rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon, T* y,
                       float* inverse_rms);
  static void rms_norm_backward(const T* x, const T* weight, const float* inverse_rms, const T* gradient,
                                std::int64_t rows, std::int64_t width, T* x_gradient, bool accumulate,
                                float* weight_gradient);
  static void rope(T* x, const std::int32_t* positions, std::int64_t rows, std::int64_t heads, std::int64_t head_size,
                   const float* cosine, const float* sine, bool inverse);
  static void swiglu(const T* gate, const T* up, std::int64_t n, T* y);
  static void swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                              T* up_gradient);
  static void geglu(const T* gate, const T* up, std::int64_t n, T* y);
  static void geglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                             T* up_gradient);
  static void add(const T* a, const T* b, std::int64_t n, T* y);
  static void axpy(std::int64_t n, float alpha, const T* x, T* y);
  static void fill_normal(std::int64_t n, double deviation, std::uint64_t seed, std::uint32_t row, T* x);
  static void scale(std::int64_t n, float alpha, T* x);
  static void add_bias(const T* bias, std::int64_t rows, std::int64_t width, T* y);
  static void add_column_sums(const T* x, std::int64_t rows, std::int64_t width, float* sums);
  static void gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* out);
  static void scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* y);
  static double sum_squares(const T* x, std::int64_t n);
  /// For a parameter without a master copy in float (Parameter::master): the value is widened, changed and rounded
  /// again.
  static void adamw(const AdamWStep& step, std::int64_t n, const float* gradient, float* first, float* second,
                    T* value);
};

/// The functions of CpuAttention. log_sum and the gradient of sinks are float.
template <class T>
struct WidenedAttention {
  static void attention(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                        const T* v, T* out, float* log_sum);
  static void attention_backward(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                                 const T* v, const T* out, const float* log_sum, const T* out_gradient, T* q_gradient,
                                 T* k_gradient, T* v_gradient);
  static void attention_decode(const AttentionHeads& heads, const DocumentRanges& documents,
                               const CacheRanges<T>& cache, const T* q, const T* k, const T* v, T* out, float* log_sum);
  static void advance(std::int64_t n, std::int32_t* positions, std::int64_t* past);
  static void attention_sinks(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks, T* out,
                              float* log_sum);
  static void attention_sinks_backward(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks,
                                       const T* out, const float* log_sum, const T* out_gradient,
                                       float* sinks_gradient);
};

/// The functions of CpuExperts. Gradients of weights and biases are float.
template <class T>
struct WidenedExperts {
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
  static void expert_multiply_packed(const ExpertRanges& ranges, std::int64_t out, const T* x,
                                     const PackedMatrix<T, Cpu>& weight, const T* bias, T* y);
  static void expert_multiply_back_packed(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                          const PackedMatrix<T, Cpu>& weight, T* x_gradient);
  static void expert_weight_gradient(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* y_gradient,
                                     const T* x, float* weight_gradient);
  static void expert_bias_gradient(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                   float* bias_gradient);
  static void expert_activation(const ExpertActivation& activation, const T* u, std::int64_t rows, std::int64_t inner,
                                T* y);
  static void expert_activation_backward(const ExpertActivation& activation, const T* u, const T* y_gradient,
                                         std::int64_t rows, std::int64_t inner, T* u_gradient);
  static void combine_rows(const T* rows, const std::int64_t* place, const T* weights, std::int64_t n,
                           std::int64_t active, std::int64_t width, T* y);
  static void expert_row_dots(const ExpertRanges& ranges, std::int64_t width, const T* a, const T* b, bool by_expert,
                              bool accumulate, T* dots);
  static void scale_each_row(const T* factors, std::int64_t rows, std::int64_t width, T* x);
  static void add_gated(const T* gate, const T* x, std::int64_t n, std::int64_t width, T* y);
  static void add_gated_backward(const T* gate, const T* x, const T* y_gradient, std::int64_t n, std::int64_t width,
                                 T* gate_gradient, T* x_gradient);
};

/// The functions of CpuPacked. Decoded values have the bits of Kernels<Cpu, float> before they are rounded to T.
template <class T>
struct WidenedPacked {
  static void coded_decode(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* out);
  static void coded_gather(const CodedRanges& weight, const std::int32_t* ids, std::int64_t n, T* out) {
    for (std::int64_t i = 0; i < n; ++i) coded_decode(weight, ids[i], 1, out + i * weight.columns);
  }
  static void coded_multiply_few(const CodedRanges& weight, std::int64_t m, const T* x, float beta, T* y);
  static void stored_decode(const StoredRanges& weight, std::int64_t begin, std::int64_t count, T* out);
  static void stored_multiply(const StoredRanges& weight, std::int64_t begin, std::int64_t count, std::int64_t m,
                              const T* x, float beta, T* y, std::int64_t ldy);
};

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
