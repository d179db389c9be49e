// SPDX-License-Identifier: Apache-2.0
// A small tape for automatic differentiation. Each function of a model records one node; backward() runs the nodes from
// last to first and frees what each node kept.
#ifndef KDLIB_AUTOGRAD_TAPE_HPP
#define KDLIB_AUTOGRAD_TAPE_HPP

#include <memory>
#include <utility>
#include <vector>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// The gradient of one intermediate result. The gradient is empty until a node adds to it.
template <class T, class D>
struct Gradient {
  Shape shape;
  Tensor<T, D> value;

  /// The memory of the gradient. If `add` is true, add to the memory; if false, the memory is uninitialised and must be
  /// written.
  struct Target {
    T* data;
    bool add;
  };
  Target target() {
    if (value) return {value.data(), true};
    value = Tensor<T, D>(shape);
    return {value.data(), false};
  }
  /// Adds `g` to the gradient. If the gradient is empty, the memory of `g` becomes the gradient.
  void give(Tensor<T, D> g) {
    if (value) Kernels<D, T>::axpy(g.count(), 1, g.data(), value.data());
    else value = std::move(g);
  }
  /// Returns the finished gradient, which is empty here afterwards.
  Tensor<T, D> take() { return std::exchange(value, Tensor<T, D>()); }
};

/// A result on the tape. Functions that keep `value` for their backward pass say so. All other values are freed as soon
/// as the last Var that holds them is dropped, even during the forward pass.
template <class T, class D>
struct Var {
  Tensor<T, D> value;
  std::shared_ptr<Gradient<T, D>> gradient;  // null: no gradient is wanted

  bool requires_gradient() const { return gradient != nullptr; }
};

/// Records the functions of the forward pass for the backward pass. A tape that does not record runs the same functions
/// for their values alone.
template <class T, class D>
class Tape {
 public:
  explicit Tape(bool recording = true) : recording_(recording) {}
  Tape(Tape&&) noexcept = default;
  Tape& operator=(Tape&&) noexcept = default;

  bool recording() const { return recording_; }
  std::size_t size() const { return nodes_.size(); }
  void clear() { nodes_.clear(); }

  /// Returns a result with `value`. Its gradient is wanted if `requires_gradient` is true and the tape records.
  Var<T, D> variable(Tensor<T, D> value, bool requires_gradient) const {
    Var<T, D> v{std::move(value), nullptr};
    if (recording_ && requires_gradient) {
      v.gradient = std::make_shared<Gradient<T, D>>();
      v.gradient->shape = v.value.shape();
    }
    return v;
  }

  /// Records `function()` for the backward pass. What the function holds is freed after it has run.
  template <class F>
  void record(F function) {
    if (recording_) nodes_.push_back(std::make_unique<Node<F>>(std::move(function)));
  }

  /// Runs everything that was recorded, starting from `gradient` = d(objective)/d(result), which has the shape of the
  /// result. The tape is empty afterwards. ShapeError: the result depends on nothing that is trained, or the shapes
  /// differ.
  void backward(const Var<T, D>& result, Tensor<T, D> gradient) {
    require<ShapeError>(result.requires_gradient(), "[Tape::backward] the result depends on nothing that is trained");
    require<ShapeError>(gradient.shape() == result.gradient->shape, "[Tape::backward] the gradient is ",
                        gradient.shape(), ", the result ", result.gradient->shape);
    result.gradient->give(std::move(gradient));
    while (!nodes_.empty()) {
      const std::unique_ptr<NodeBase> node = std::move(nodes_.back());
      nodes_.pop_back();
      node->run();
    }
  }

 private:
  struct NodeBase {
    virtual ~NodeBase() = default;
    virtual void run() = 0;
  };
  template <class F>
  struct Node final : NodeBase {
    explicit Node(F f) : function(std::move(f)) {}
    void run() override { function(); }
    F function;
  };

  bool recording_;
  std::vector<std::unique_ptr<NodeBase>> nodes_;
};

/// Returns y = f(tape, x) but keeps only x: the backward pass runs f again. f(Tape&, Var) must give the same values
/// each time. `trains` says whether f has parameters that are trained.
template <class T, class D, class F>
Var<T, D> recompute(Tape<T, D>& tape, const Var<T, D>& x, bool trains, F f) {
  if (!tape.recording()) return f(tape, x);
  Tape<T, D> silent(false);
  Var<T, D> y = tape.variable(f(silent, Var<T, D>{x.value, nullptr}).value, trains || x.requires_gradient());
  if (!y.requires_gradient()) return y;
  tape.record([x, f = std::move(f), slot = y.gradient]() mutable {
    if (!slot->value) return;
    Tape<T, D> again;
    Var<T, D> input = again.variable(x.value, x.requires_gradient());
    Var<T, D> output = f(again, input);
    if (!output.requires_gradient()) return;
    output.value.reset();
    again.backward(output, slot->take());
    if (input.requires_gradient() && input.gradient->value) x.gradient->give(input.gradient->take());
  });
  return y;
}

KDLIB_NAMESPACE_END

#endif
