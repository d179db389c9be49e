// SPDX-License-Identifier: Apache-2.0
// One linear map of all experts of a layer made small: a core that they share and a low-rank part of each expert's own.
// This is the mathematics on the host, in double: what the layer computes, its gradients, and the plain matrices again.
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

/// An expert's own part; members of the other form are empty.
struct ExpertPart {
  DenseMatrix input_u, input_v;    // [d_in, r]
  DenseMatrix output_u, output_v;  // [d_out, r]
  DenseMatrix a, b;                // [d_out, q], [d_in, q]
};

/// The map of all experts.
struct SharedCore {
  CoreForm form = CoreForm::wrappers;
  DenseMatrix core;  // [d_out, d_in]
  std::vector<ExpertPart> experts;

  /// W_e [d_out, d_in]: what a plain mixture holds.
  DenseMatrix weight(std::size_t expert, DenseGemm gemm = plain_gemm) const;
  /// W_e x for x [d_in, n], through the factors: no [d, d] matrix is formed beside the core.
  DenseMatrix apply(std::size_t expert, const DenseMatrix& x) const;
  /// Parameters of this map.
  std::int64_t parameters() const;
};

/// Core and factors of one expert's wrappers that are 0, of rank `rank` (wrappers) or `rank` (residual): W_e = C.
ExpertPart empty_part(CoreForm form, std::int64_t out, std::int64_t in, std::int64_t rank);

/// Gradients of sum(g * (W_e x)) for g [d_out, n], x [d_in, n].
struct SharedCoreGradient {
  DenseMatrix core;  // this expert's share
  ExpertPart part;
  DenseMatrix x;
};
SharedCoreGradient gradient(const SharedCore& map, std::size_t expert, const DenseMatrix& x, const DenseMatrix& g);

/// Parameters of a shared map of E experts [d_out, d_in] with wrappers of rank r (or a residual of rank 2r).
std::int64_t shared_core_parameters(std::int64_t experts, std::int64_t out, std::int64_t in, std::int64_t rank);
/// The largest r that keeps at most `share` of the plain map's parameters. ConfigError: there is none, since the core
/// alone takes 1/E.
std::int64_t rank_for_share(double share, std::int64_t experts, std::int64_t out, std::int64_t in);

namespace detail {
/// x + u (v^T x).
DenseMatrix wrapped(const DenseMatrix& u, const DenseMatrix& v, const DenseMatrix& x, DenseGemm gemm = plain_gemm);
/// x + (x u) v^T.
DenseMatrix wrapped_behind(const DenseMatrix& x, const DenseMatrix& u, const DenseMatrix& v,
                           DenseGemm gemm = plain_gemm);
/// The matrices of an expert's part, those of the other form empty.
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
