// SPDX-License-Identifier: Apache-2.0
// Finds the shared core and the experts' own parts for given experts, without training data or with the second moments
// of their inputs: zero-shot initialisation of compressed mixtures.
#ifndef KDLIB_MODEL_COMPRESS_EXPERTS_HPP
#define KDLIB_MODEL_COMPRESS_EXPERTS_HPP

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kdlib/model/shared_core.hpp"

KDLIB_NAMESPACE_BEGIN

/// How core and parts are found.
enum class CoreInit : std::uint8_t {
  als,  // alternating least squares: each expert's best factors by singular values, the core by conjugate gradients
  adam  // mean core, random factors, Adam on the squared error: what published code does, for comparison
};
constexpr std::array<const char*, 2> enum_names(CoreInit) { return {"als", "adam"}; }

/// What one step of the search left.
struct CompressStep {
  std::string name;      // mean, right, left, core, fit, refine, adam
  double objective = 0;  // J
};

/// How core and parts are searched.
struct CompressSettings {
  CoreForm form = CoreForm::wrappers;
  CoreInit init = CoreInit::als;
  std::int64_t rank = 64;        // r of wrappers, q of a residual
  std::int64_t rounds = 8;       // of fits and core, at least 1; the last one ends with a fit
  double tolerance = 1e-3;       // a round that lowers J by less than this share of it is the last
  std::int64_t core_steps = 15;  // of conjugate gradients
  double ridge = 1e-4;           // of the mean diagonal, added to the moments; up to 0.1 where they stay singular
  double soft = 1e-6;            // s / (s^2 + soft * largest^2) stands for 1 / s; 0: the inverse
  std::int64_t adam_steps = 0;   // behind als: refinement; of adam: all of it (1000 published)
  double adam_rate = 1e-3;
  std::uint64_t seed = 1;         // of adam's factors
  std::int64_t whole_below = 32;  // matrices whose smaller side is at most that are decomposed wholly; of larger ones
                                  // the leading `rank` directions alone are searched, which loses under 1e-3 of J
  DenseGemm gemm = plain_gemm;    // products; &Kernels<Cpu, double>::gemm uses the matrix library
  std::function<void(const CompressStep&)> progress{};

  /// ConfigError naming the member that is out of its range, and the largest rank for [out, in].
  void check(std::int64_t out, std::int64_t in) const;
};

/// What the search found, step by step.
struct CompressReport {
  double plain = 0;      // sum of f_e |W_e S|^2: what J is relative to
  double objective = 0;  // J at the end
  std::vector<CompressStep> steps;

  double relative() const { return plain > 0 ? objective / plain : 0; }
};

/// Minimises J = sum_e f_e |(W_e - W'_e) S|^2 over W'_e, the experts of the answer. `experts`: W_e [d_out, d_in], all
/// of one shape; `weights`: f_e >= 0, not all 0 (how often and how much an expert is used); `moments` [d_in, d_in]: M
/// with S S^T = M + ridge, symmetric, or an empty matrix for S = 1. J never rises from step to step. Sums in double.
/// ShapeError, ConfigError: shapes, weights or values that are not finite, a rank above the matrix, moments that stay
/// singular.
SharedCore compress_experts(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                            const DenseMatrix& moments, const CompressSettings& settings,
                            CompressReport* report = nullptr);

/// J of given maps.
double compression_error(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                         const DenseMatrix& moments, const SharedCore& map, double ridge = 1e-4,
                         DenseGemm gemm = plain_gemm);

/// Gate, up and down of one expert: [I, H], [I, H], [H, I].
struct GatedExpert {
  DenseMatrix gate, up, down;
};
/// Where an expert's inner neurons went: neuron i of the result is places[i] of the expert that was given, its up row
/// and down column negated where flips[i] is 1.
struct ExpertOrder {
  std::vector<std::int64_t> places;
  std::vector<std::uint8_t> flips;
};
struct AlignReport {
  std::int64_t aligned = 0;      // experts that were permuted or flipped
  double before = 0, after = 0;  // sum over experts and maps of |W_e - mean|^2
  std::vector<ExpertOrder> orders;
};
/// Permutes each expert's inner neurons, and flips signs of an up row with its down column, so that experts look alike:
/// their functions stay the same (the numbers are moved, not changed but in sign). The reference is the expert of
/// largest weight, in a second round the mean. Kept where it brings the expert nearer to the reference.
AlignReport align_experts(std::vector<GatedExpert>& experts, const std::vector<double>& weights,
                          DenseGemm gemm = plain_gemm);

namespace detail {
/// The expert in that order.
GatedExpert permuted(const GatedExpert& expert, const ExpertOrder& order);
/// The order of one expert as it is.
ExpertOrder unmoved(std::int64_t neurons);
/// Whether the search makes every decomposition of experts [out, in] a whole one.
bool decomposes_wholly(const CompressSettings& settings, std::int64_t out, std::int64_t in);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/model/compress_experts_inl.hpp"
#endif

#endif
