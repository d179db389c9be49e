// SPDX-License-Identifier: Apache-2.0
// Experts that share one core for each of their three maps and differ by low-rank factors: the layer of compressed
// mixtures. model/compress_experts.hpp finds cores and factors, model/materialise.hpp makes plain experts again.
//
//   wrappers:  W_e = (1 + Uo_e Vo_e^T) C (1 + Ui_e Vi_e^T)
//   residual:  W_e = C + A_e B_e^T
#ifndef KDLIB_NN_SHARED_CORE_EXPERTS_HPP
#define KDLIB_NN_SHARED_CORE_EXPERTS_HPP

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "kdlib/autograd/low_rank_experts.hpp"
#include "kdlib/nn/core_form.hpp"
#include "kdlib/nn/linear.hpp"

KDLIB_NAMESPACE_BEGIN

/// Low-rank factors of all experts: up [E, out, r] and down [E, in, r] stand for up_e down_e^T.
template <class D, class T>
struct LowRankFactors {
  std::unique_ptr<Parameter<T, D>> up, down;
};

/// One map of all experts.
template <class D, class T>
class SharedCoreMap {
 public:
  SharedCoreMap() = default;
  /// `path` as in model.layers.0.mlp.experts.gate_shared_core; parameters have shapes and no memory yet.
  SharedCoreMap(const std::string& path, std::int64_t experts, std::int64_t out, std::int64_t in, CoreForm form,
                std::int64_t rank);

  /// W_e x for rows x [R, in] sorted by expert, through the factors: no matrix beside the core is formed.
  Var<T, D> forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x) const;
  /// The same for tokens x [N, in] and their rows sorted by expert: where the experts' parts stand beside the core, it
  /// multiplies each token once, not once for each of its experts.
  Var<T, D> forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x, const Var<T, D>& rows) const;
  /// residual + the sum over a token's experts of weight * W_e h, for h [R, in] sorted by expert and residual [N, out].
  Var<T, D> combine(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& h,
                    const Var<T, D>& residual) const;
  /// Wrappers: forms what stands beside the core instead, W_e = C + F_e Vi_e^T + Uo_e G_e^T with F_e = C Ui_e and
  /// G_e = C^T Vo_e + Vi_e (Vo_e^T F_e)^T, E r (out + in) values more. Values must not change afterwards: ConfigError
  /// where one is trained.
  void fold();
  /// Writes W_e [out, in] of one expert.
  void weight(std::int64_t expert, T* out) const;

  /// The core, then the factors: input_wrapper.U, .V, output_wrapper.U, .V; or residual.A, .B.
  std::vector<Parameter<T, D>*> parameters() const;
  /// The same tensors under new parameters, frozen.
  SharedCoreMap share() const;
  std::int64_t out() const { return core_->value[0]; }
  std::int64_t in() const { return core_->value[1]; }

 private:
  CoreForm form_ = CoreForm::wrappers;
  std::unique_ptr<Parameter<T, D>> core_;  // [out, in]
  LowRankFactors<D, T> input_, output_;    // wrappers, else empty
  LowRankFactors<D, T> beside_;            // residual, else empty
  LowRankFactors<D, T> folded_;            // F and G of fold(), else empty

  bool once() const { return form_ == CoreForm::residual || folded_.up != nullptr; }
  Var<T, D> through_core(Tape<T, D>& tape, const Var<T, D>& x) const;
  /// base + the experts' parts beside the core of rows x.
  Var<T, D> add_beside(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x, const Var<T, D>& base) const;
};

/// The three maps of a mixture's experts.
template <class D, class T>
struct SharedCoreExperts {
  SharedCoreMap<D, T> gate, up, down;

  SharedCoreExperts() = default;
  /// `path` as in model.layers.0.mlp.experts.
  SharedCoreExperts(const std::string& path, std::int64_t experts, std::int64_t hidden, std::int64_t inner,
                    CoreForm form, std::int64_t rank);

  /// residual + sum over the chosen experts of weight * down(silu(gate(x)) * up(x)), x and residual [N, H].
  Var<T, D> forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x,
                    const Var<T, D>& residual) const;
  void append_parameters(std::vector<Parameter<T, D>*>& list) const;
  std::unique_ptr<SharedCoreExperts> share() const;
  void fold() { gate.fold(), up.fold(), down.fold(); }
};

KDLIB_NAMESPACE_END

#include "kdlib/nn/shared_core_experts_inl.hpp"

#endif
