// SPDX-License-Identifier: Apache-2.0
// Experts that share one core for each of their three maps and differ by low-rank factors: the layer of compressed
// mixtures. model/compress_experts.hpp finds cores and factors; model/materialise.hpp makes plain experts of them.
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

/// Low-rank factors of all experts: up [E, out, r] and down [E, in, r] stand for the matrices up_e down_e^T.
template <class D, class T>
struct LowRankFactors {
  std::unique_ptr<Parameter<T, D>> up, down;
};

/// One of the three linear maps, for all experts.
template <class D, class T>
class SharedCoreMap {
 public:
  SharedCoreMap() = default;
  /// `path` is as in model.layers.0.mlp.experts.gate_shared_core. The parameters have shapes but no memory yet.
  SharedCoreMap(const std::string& path, std::int64_t experts, std::int64_t out, std::int64_t in, CoreForm form,
                std::int64_t rank);

  /// Returns W_e x for rows x [R, in] that are sorted by expert, through the factors: the core is the only matrix.
  Var<T, D> forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x) const;
  /// The same for tokens x [N, in] and `rows`, their copies sorted by expert. If the experts' parts stand beside the
  /// core, the core multiplies each token once and not once for each of its experts.
  Var<T, D> forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x, const Var<T, D>& rows) const;
  /// Returns residual + the sum over a token's experts of weight * W_e h, for h [R, in] sorted by expert and residual
  /// [N, out].
  Var<T, D> combine(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& h,
                    const Var<T, D>& residual) const;
  /// Moves the wrappers of the experts beside the core: W_e = C + F_e Vi_e^T + Uo_e G_e^T with F_e = C Ui_e and G_e =
  /// C^T Vo_e + Vi_e (Vo_e^T F_e)^T. This takes memory for E r (out + in) more values. The values must not change
  /// afterwards: throws ConfigError if a parameter is trained. Does nothing for a residual or a folded map.
  void fold();
  /// Writes W_e [out, in] of one expert into `out`.
  void weight(std::int64_t expert, T* out) const;

  /// Returns the core, then the factors: input_wrapper.U, .V, output_wrapper.U, .V; or residual.A, .B.
  std::vector<Parameter<T, D>*> parameters() const;
  /// Returns a map with new, frozen parameters over the same memory.
  SharedCoreMap share() const;
  std::int64_t out() const { return core_->value[0]; }
  std::int64_t in() const { return core_->value[1]; }

 private:
  CoreForm form_ = CoreForm::wrappers;
  std::unique_ptr<Parameter<T, D>> core_;  // [out, in]
  LowRankFactors<D, T> input_, output_;    // of wrappers, else empty
  LowRankFactors<D, T> beside_;            // of a residual, else empty
  LowRankFactors<D, T> folded_;            // F and G of fold(), else empty

  bool once() const { return form_ == CoreForm::residual || folded_.up != nullptr; }
  Var<T, D> through_core(Tape<T, D>& tape, const Var<T, D>& x) const;
  /// Returns base + the parts of the experts beside the core, applied to the rows x.
  Var<T, D> add_beside(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x, const Var<T, D>& base) const;
};

/// The three maps of the experts of one mixture.
template <class D, class T>
struct SharedCoreExperts {
  SharedCoreMap<D, T> gate, up, down;

  SharedCoreExperts() = default;
  /// `path` is as in model.layers.0.mlp.experts.
  SharedCoreExperts(const std::string& path, std::int64_t experts, std::int64_t hidden, std::int64_t inner,
                    CoreForm form, std::int64_t rank);

  /// Returns residual + the sum over the chosen experts of weight * down(silu(gate(x)) * up(x)), for x and residual [N,
  /// H].
  Var<T, D> forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x,
                    const Var<T, D>& residual) const;
  void append_parameters(std::vector<Parameter<T, D>*>& list) const;
  std::unique_ptr<SharedCoreExperts> share() const;
  void fold() { gate.fold(), up.fold(), down.fold(); }
};

KDLIB_NAMESPACE_END

#include "kdlib/nn/shared_core_experts_inl.hpp"

#endif
