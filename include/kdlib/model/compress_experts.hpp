// SPDX-License-Identifier: Apache-2.0
// Compresses the experts of a mixture without training: finds a core that the experts of a layer share and a low-rank
// part of each expert, from the weights alone or also from the second moments of the experts' inputs.
#ifndef KDLIB_MODEL_COMPRESS_EXPERTS_HPP
#define KDLIB_MODEL_COMPRESS_EXPERTS_HPP

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kdlib/model/shared_core.hpp"

KDLIB_NAMESPACE_BEGIN

/// How the core and the parts are found.
enum class CoreInit : std::uint8_t {
  als,  // alternating least squares: each expert's best factors by singular values, the core by conjugate gradients
  adam  // mean core, random factors, Adam on the squared error; published code does this; for comparison
};
constexpr std::array<const char*, 2> enum_names(CoreInit) { return {"als", "adam"}; }

/// The error that is left after one step of the search.
struct CompressStep {
  std::string name;      // mean, right, left, core, fit, refine or adam
  double objective = 0;  // J of compress_experts
};

/// How the core and the parts are searched.
struct CompressSettings {
  CoreForm form = CoreForm::wrappers;
  CoreInit init = CoreInit::als;
  std::int64_t rank = 64;  // r of wrappers, q of a residual
  /// Rounds of fits and core, at least 1. A last fit follows the last round.
  std::int64_t rounds = 8;
  /// The search ends with a round that lowers J by less than this share of J.
  double tolerance = 1e-3;
  std::int64_t core_steps = 15;  // steps of conjugate gradients for the core
  /// This share of the mean diagonal is added to the diagonal of the moments, [0, 0.1]. If they stay singular, ten
  /// times as much is tried, up to 0.1.
  double ridge = 1e-4;
  double soft = 1e-6;  // s / (s^2 + soft * largest^2) is used for 1 / s; 0: the exact inverse
  /// With `als` the steps of a refinement that follows, 0: none. With `adam` all steps (1000 published).
  std::int64_t adam_steps = 0;
  double adam_rate = 1e-3;
  std::uint64_t seed = 1;  // seed of adam's random factors
  /// A matrix whose smaller side is at most this is decomposed wholly. For a larger matrix only the leading `rank`
  /// directions are searched, which loses less than 1e-3 of J.
  std::int64_t whole_below = 32;
  /// Makes the products. &Kernels<Cpu, double>::gemm uses the matrix library.
  DenseGemm gemm = plain_gemm;
  std::function<void(const CompressStep&)> progress{};

  /// Throws ConfigError, which names the member that is out of its range, and for a map [out, in] the largest rank.
  void check(std::int64_t out, std::int64_t in) const;
};

/// What the search found, step by step.
struct CompressReport {
  /// Sum of f_e |W_e S|^2: the value of J without any approximation, to which J is compared.
  double plain = 0;
  double objective = 0;  // J after the last step
  std::vector<CompressStep> steps;

  /// J as a share of `plain`.
  double relative() const { return plain > 0 ? objective / plain : 0; }
};

/// Minimises J = sum_e f_e |(W_e - W'_e) S|^2 over the approximations W'_e that a shared core and low-rank parts can
/// give, and returns core and parts. `experts` are the W_e, all of shape [d_out, d_in]. `weights` are the f_e >= 0, not
/// all 0: how often and how strongly an expert is used. `moments` [d_in, d_in] is the symmetric matrix M with S S^T = M
/// + ridge * (mean of the diagonal of M) on the diagonal, or an empty matrix for S = 1; CoreInit::adam always takes S =
/// 1. J never rises from step to step. Sums are formed in double. Throws ShapeError for shapes that do not fit. Throws
/// ConfigError for weights or values that are not finite, a rank above the matrix, and moments that stay singular.
SharedCore compress_experts(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                            const DenseMatrix& moments, const CompressSettings& settings,
                            CompressReport* report = nullptr);

/// Returns J for given core and parts.
double compression_error(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                         const DenseMatrix& moments, const SharedCore& map, double ridge = 1e-4,
                         DenseGemm gemm = plain_gemm);

/// The maps of one expert: gate [I, H], up [I, H] and down [H, I].
struct GatedExpert {
  DenseMatrix gate, up, down;
};
/// Where the inner neurons of an expert went. Neuron i of the result is neuron places[i] of the given expert; where
/// flips[i] is 1, the neuron's row of up and column of down are negated.
struct ExpertOrder {
  std::vector<std::int64_t> places;
  std::vector<std::uint8_t> flips;
};
/// What align_experts did.
struct AlignReport {
  std::int64_t aligned = 0;      // number of experts that were permuted or flipped
  double before = 0, after = 0;  // sum over experts and maps of |W_e - mean|^2
  std::vector<ExpertOrder> orders;
};
/// Permutes the inner neurons of each expert, and flips the sign of an up row together with its down column, so that
/// the experts look alike. Their functions stay the same: numbers are only moved or negated. The reference is the
/// expert of largest weight in the first round and the mean of all experts in the second round. A change is kept only
/// if it brings the expert nearer to the reference.
AlignReport align_experts(std::vector<GatedExpert>& experts, const std::vector<double>& weights,
                          DenseGemm gemm = plain_gemm);

namespace detail {
/// Returns the expert with its neurons in that order.
GatedExpert permuted(const GatedExpert& expert, const ExpertOrder& order);
/// Returns the order that moves no neuron.
ExpertOrder unmoved(std::int64_t neurons);
/// True if the search decomposes experts [out, in] wholly and does not search leading directions.
bool decomposes_wholly(const CompressSettings& settings, std::int64_t out, std::int64_t in);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/model/compress_experts_inl.hpp"
#endif

#endif
