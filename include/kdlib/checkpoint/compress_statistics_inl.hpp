// SPDX-License-Identifier: Apache-2.0
// What compress_model.hpp reads from a model: its experts' matrices, and over calibration text how much each expert is
// used and what its maps read.
#ifndef KDLIB_CHECKPOINT_COMPRESS_STATISTICS_INL_HPP
#define KDLIB_CHECKPOINT_COMPRESS_STATISTICS_INL_HPP

#include <cmath>
#include <map>

#include "kdlib/checkpoint/compress_model.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class D, class T>
const ExpertFeedForward<D, T>& mixture_of(const Decoder<D, T>& model, std::int64_t layer) {
  const auto& block = model.blocks()[static_cast<std::size_t>(layer)];
  return dynamic_cast<const ExpertFeedForward<D, T>&>(*block.feed_forward);
}

/// Rows [begin, begin + count) of a matrix of all experts, parameter or packed.
template <class D, class T>
DenseMatrix expert_rows(const Parameter<T, D>* parameter, const PackedMatrix<T, D>* packed, std::int64_t begin,
                        std::int64_t count) {
  const std::int64_t columns = packed != nullptr ? packed->columns() : parameter->value[2];
  DenseMatrix m(count, columns);
  Tensor<T, D> decoded;
  const T* from = packed != nullptr ? nullptr : parameter->value.data() + begin * columns;
  if (packed != nullptr) {
    decoded = Tensor<T, D>(Shape{count, columns});
    packed->decode(begin, count, decoded.data());
    from = decoded.data();
  }
  std::vector<T> host(m.values.size());
  Memory<D>::to_host(host.data(), from, host.size() * sizeof(T));
  for (std::size_t i = 0; i < host.size(); ++i) m.values[i] = static_cast<double>(host[i]);
  return m;
}

template <class D, class T>
GatedExpert gated_expert(const ExpertFeedForward<D, T>& m, std::int64_t expert, std::int64_t hidden) {
  const std::int64_t inner = m.settings().intermediate;
  GatedExpert e;
  e.gate = expert_rows(m.gate_up(), m.packed_gate_up(), 2 * expert * inner, inner);
  e.up = expert_rows(m.gate_up(), m.packed_gate_up(), (2 * expert + 1) * inner, inner);
  e.down = expert_rows(m.down(), m.packed_down(), expert * hidden, hidden);
  return e;
}

/// All experts of a layer, in `orders` where they are given.
template <class D, class T>
std::vector<GatedExpert> gated_experts(const Decoder<D, T>& model, std::int64_t layer,
                                       const std::vector<ExpertOrder>& orders) {
  const auto& mixture = mixture_of(model, layer);
  std::vector<GatedExpert> list;
  for (std::int64_t e = 0; e < mixture.settings().experts; ++e) {
    list.push_back(gated_expert(mixture, e, model.hidden_size()));
    if (!orders.empty()) list.back() = permuted(list.back(), orders[static_cast<std::size_t>(e)]);
  }
  return list;
}

/// x^T x added to `sum`, for x [rows, width] on the device.
template <class D, class T>
void add_moments(const Tensor<T, D>& x, DenseMatrix& sum) {
  const std::int64_t rows = x[0], width = x[1];
  if (sum.values.empty()) sum = DenseMatrix(width, width);
  Tensor<T, D> product(Shape{width, width});
  Kernels<D, T>::gemm(true, false, width, width, rows, 1, x.data(), width, x.data(), width, 0, product.data(), width);
  const std::vector<T> host = host_copy<T, D>(product);
  for (std::size_t i = 0; i < host.size(); ++i) sum.values[i] += static_cast<double>(host[i]);
}

/// Sums over calibration text: w^2 by expert, w^2 x x^T, and w^2 h h^T of what down reads, with the weights w of the
/// routing.
template <class D, class T>
class MixtureStatistics final : public LinearObserver<D, T> {
 public:
  struct Sums {
    std::vector<double> uses;
    DenseMatrix input, middle;
    std::vector<ExpertOrder> orders;  // in which h is counted
    double total() const {
      double sum = 0;
      for (const double u : uses) sum += u;
      return sum;
    }
  };

  MixtureStatistics(const Decoder<D, T>& model, const std::vector<std::int64_t>& layers) {
    for (const std::int64_t layer : layers) {
      const auto& mixture = mixture_of(model, layer);
      found_[&mixture.router()] = {&mixture, layer};
      sums_[layer].uses.assign(static_cast<std::size_t>(mixture.settings().experts), 0.0);
    }
  }
  /// Which sums the next passes add to.
  void count(bool input, bool middle) { input_ = input, middle_ = middle; }
  Sums& of(std::int64_t layer) { return sums_.at(layer); }

  void observe(const Linear<D, T>& map, const Tensor<T, D>& x) override {
    const auto found = found_.find(&map);
    if (found == found_.end()) return;
    const ExpertFeedForward<D, T>& mixture = *found->second.first;
    Sums& sums = sums_.at(found->second.second);
    const ExpertSettings& s = mixture.settings();
    Tape<T, D> tape(false);
    const Var<T, D> logits = linear(tape, map.operand(false), Var<T, D>{x, nullptr});
    const Routing<T, D> routing = route(tape, RouterRule{s.experts, s.active, s.over_chosen}, logits);
    if (input_) add_input(routing, x, sums);
    if (middle_) add_middle(mixture, routing, x, sums);
  }

 private:
  void add_input(const Routing<T, D>& routing, const Tensor<T, D>& x, Sums& sums) {
    const std::int64_t n = x[0], k = routing.rule.active;
    const std::vector<T> weights = host_copy<T, D>(routing.weights.value);
    std::vector<std::int32_t> ids(weights.size());
    Memory<D>::to_host(ids.data(), routing.ids.data(), ids.size() * sizeof(std::int32_t));
    std::vector<T> root(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < root.size(); ++i) {
      double sum = 0;
      for (std::size_t j = i * static_cast<std::size_t>(k); j < (i + 1) * static_cast<std::size_t>(k); ++j) {
        const double w = static_cast<double>(weights[j]);
        sums.uses[static_cast<std::size_t>(ids[j])] += w * w;
        sum += w * w;
      }
      root[i] = static_cast<T>(std::sqrt(sum));
    }
    const Tensor<T, D> scaled = x.clone();
    scale_rows(root, scaled);
    add_moments(scaled, sums.input);
  }

  void add_middle(const ExpertFeedForward<D, T>& mixture, const Routing<T, D>& routing, const Tensor<T, D>& x,
                  Sums& sums) {
    using K = Kernels<D, T>;
    const std::int64_t rows = routing.token[0], h = x[1], inner = mixture.settings().intermediate;
    Tensor<T, D> sorted(Shape{rows, h}), u(Shape{rows, 2 * inner}), a(Shape{rows, inner});
    K::gather_rows(x.data(), routing.token.data(), rows, h, sorted.data());
    multiply_experts<T, D>(routing.ranges(), 2 * inner, h, sorted.data(), mixture.gate_up(), mixture.packed_gate_up(),
                           nullptr, u.data());
    K::expert_activation(mixture.settings().activation, u.data(), rows, inner, a.data());
    K::scale_each_row(routing.sorted_weights().data(), rows, inner, a.data());
    if (!sums.orders.empty()) reorder(routing, sums.orders, a);
    add_moments(a, sums.middle);
  }

  void scale_rows(const std::vector<T>& factors, const Tensor<T, D>& x) {
    Tensor<T, D> on_device(Shape{static_cast<std::int64_t>(factors.size())});
    Memory<D>::from_host(on_device.data(), factors.data(), factors.size() * sizeof(T));
    Kernels<D, T>::scale_each_row(on_device.data(), x[0], x[1], x.data());
  }

  /// Puts each expert's inner neurons in its order; a sign of an up row is one of its neuron.
  void reorder(const Routing<T, D>& routing, const std::vector<ExpertOrder>& orders, const Tensor<T, D>& a) {
    const std::vector<T> before = host_copy<T, D>(a);
    std::vector<T> after(before.size());
    std::vector<std::int64_t> offsets(orders.size() + 1);
    Memory<D>::to_host(offsets.data(), routing.offsets.data(), offsets.size() * sizeof(std::int64_t));
    const auto width = static_cast<std::size_t>(a[1]);
    for (std::size_t e = 0; e < orders.size(); ++e)
      for (auto r = static_cast<std::size_t>(offsets[e]); r < static_cast<std::size_t>(offsets[e + 1]); ++r)
        for (std::size_t i = 0; i < width; ++i) {
          const T value = before[r * width + static_cast<std::size_t>(orders[e].places[i])];
          after[r * width + i] = orders[e].flips[i] != 0 ? static_cast<T>(-value) : value;
        }
    Memory<D>::from_host(a.data(), after.data(), after.size() * sizeof(T));
  }

  std::map<const Linear<D, T>*, std::pair<const ExpertFeedForward<D, T>*, std::int64_t>> found_;
  std::map<std::int64_t, Sums> sums_;
  bool input_ = true, middle_ = true;
};

/// Of what the experts add in each layer, the share of the squares that the compressed ones lose, on the same inputs.
template <class D, class T>
class OutputErrors final : public LinearObserver<D, T> {
 public:
  OutputErrors(const Decoder<D, T>& plain, const Decoder<D, T>& compressed, const std::vector<std::int64_t>& layers) {
    for (const std::int64_t layer : layers) {
      const auto& mixture = mixture_of(plain, layer);
      found_[&mixture.router()] = {&mixture, &mixture_of(compressed, layer), layer};
    }
  }
  void observe(const Linear<D, T>& map, const Tensor<T, D>& x) override {
    const auto found = found_.find(&map);
    if (found == found_.end()) return;
    Tape<T, D> tape(false);
    const LayerContext<D, T> context;
    const Var<T, D> input{x, nullptr};
    const std::vector<T> y = host_copy<T, D>(found->second.plain->forward(tape, input, nullptr, context).value),
                         z = host_copy<T, D>(found->second.compressed->forward(tape, input, nullptr, context).value);
    double error = 0, squares = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double a = static_cast<double>(y[i]), d = a - static_cast<double>(z[i]);
      error += d * d;
      squares += a * a;
    }
    errors_[found->second.layer] = squares > 0 ? error / squares : 0;
  }
  double of(std::int64_t layer) const { return errors_.at(layer); }

 private:
  struct Pair {
    const ExpertFeedForward<D, T>* plain = nullptr;
    const ExpertFeedForward<D, T>* compressed = nullptr;
    std::int64_t layer = 0;
  };
  std::map<const Linear<D, T>*, Pair> found_;
  std::map<std::int64_t, double> errors_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
