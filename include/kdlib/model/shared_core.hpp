// SPDX-License-Identifier: Apache-2.0
// One linear map of all experts of a layer, made small: a core that the experts share, and a low-rank part of each
// expert. This header has the mathematics on the host in double: what the layer computes, its gradients, and the plain
// matrices.
//
//   wrappers:  W_e = (1 + Uo_e Vo_e^T) C (1 + Ui_e Vi_e^T)
//   residual:  W_e = C + A_e B_e^T
#ifndef KDLIB_MODEL_SHARED_CORE_HPP
#define KDLIB_MODEL_SHARED_CORE_HPP

#include <array>
#include <cstdint>
#include <vector>

#include "kdlib/model/dense_matrix.hpp"
#include "kdlib/nn/core_form.hpp"

KDLIB_NAMESPACE_BEGIN

/// The low-rank part of one expert. The members of the form that is not used are empty.
struct ExpertPart {
  DenseMatrix input_u, input_v;    // [d_in, r]
  DenseMatrix output_u, output_v;  // [d_out, r]
  DenseMatrix a, b;                // [d_out, q], [d_in, q]
};

/// One linear map of all experts: the shared core and the part of each expert.
struct SharedCore {
  CoreForm form = CoreForm::wrappers;
  DenseMatrix core;  // [d_out, d_in]
  std::vector<ExpertPart> experts;

  /// Returns W_e [d_out, d_in], the matrix of a plain mixture.
  DenseMatrix weight(std::size_t expert, DenseGemm gemm = plain_gemm) const;
  /// Returns W_e x for x [d_in, n], through the factors: no [d_out, d_in] matrix is formed beside the core.
  DenseMatrix apply(std::size_t expert, const DenseMatrix& x) const;
  /// Number of parameters of this map, core included.
  std::int64_t parameters() const;
};

/// Returns factors of rank `rank` that are 0, for one expert: W_e = C.
ExpertPart empty_part(CoreForm form, std::int64_t out, std::int64_t in, std::int64_t rank);

/// Gradients of sum(g * (W_e x)) for g [d_out, n] and x [d_in, n].
struct SharedCoreGradient {
  DenseMatrix core;  // what this expert adds to the core's gradient
  ExpertPart part;
  DenseMatrix x;
};
SharedCoreGradient gradient(const SharedCore& map, std::size_t expert, const DenseMatrix& x, const DenseMatrix& g);

/// Number of parameters of a shared map of E experts [d_out, d_in] with wrappers of rank r (or a residual of rank 2r).
std::int64_t shared_core_parameters(std::int64_t experts, std::int64_t out, std::int64_t in, std::int64_t rank);
/// Returns the largest r with which the shared map has at most `share` of the plain map's parameters. Throws
/// ConfigError if there is none: the core alone takes 1/E.
std::int64_t rank_for_share(double share, std::int64_t experts, std::int64_t out, std::int64_t in);

namespace detail {
/// Returns x + u (v^T x).
DenseMatrix wrapped(const DenseMatrix& u, const DenseMatrix& v, const DenseMatrix& x, DenseGemm gemm = plain_gemm);
/// Returns x + (x u) v^T.
DenseMatrix wrapped_behind(const DenseMatrix& x, const DenseMatrix& u, const DenseMatrix& v,
                           DenseGemm gemm = plain_gemm);
/// Returns pointers to the matrices of an expert's part. Those of the other form are empty.
template <class Part>
auto part_matrices(Part& p) {
  return std::array{&p.input_u, &p.input_v, &p.output_u, &p.output_v, &p.a, &p.b};
}
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/model/shared_core_inl.hpp"
#endif

#endif
