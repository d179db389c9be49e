// SPDX-License-Identifier: Apache-2.0
// Bodies of upcycle.hpp.
#ifndef KDLIB_MODEL_UPCYCLE_INL_HPP
#define KDLIB_MODEL_UPCYCLE_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/core/fields.hpp"
#include "kdlib/model/upcycle.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

template <class D, class T>
void set_values(Tensor<T, D>& tensor, const std::vector<T>& values) {
  Memory<D>::from_host(tensor.data(), values.data(), values.size() * sizeof(T));
}

/// Fills the parameters that the dense model does not have. One object a mixture; the streams of random numbers are
/// counted through its layers.
template <class D, class T>
class UpcycleFiller {
  using C = accumulate_t<T>;

 public:
  UpcycleFiller(Decoder<D, T>& dense, const UpcycleSettings& settings, bool shared)
      : dense_(dense), settings_(settings), scale_(shared ? C{1} / 2 : C{1}) {}

  void fill(Parameter<T, D>& p) {
    const std::size_t mlp = p.name.find(".mlp.");
    const std::string block = p.name.substr(0, mlp + 5), part = p.name.substr(mlp + 5);
    const std::string shared = "shared_expert.";
    if (part == "gate.weight") fill_normal(p.value, settings_.router_deviation);
    else if (part == "experts.gate_up_proj") copies(p, {block + "gate_proj.weight", block + "up_proj.weight"}, C{1});
    else if (part == "experts.down_proj") copies(p, {block + "down_proj.weight"}, scale_);
    else if (part.starts_with(shared)) set_values(p.value, values_of(block + part.substr(shared.size())));
    else if (part == "shared_expert_gate.weight") p.value.fill_zero();
    else fail<Error>("[upcycle] the dense model has no ", p.name);
  }

 private:
  void fill_normal(Tensor<T, D>& tensor, double deviation) {
    Kernels<D, T>::fill_normal(tensor.count(), deviation, settings_.seed, stream_++, tensor.data());
  }
  std::vector<T> values_of(const std::string& name) {
    const Parameter<T, D>* p = dense_.find_parameter(name);
    require<Error>(p != nullptr, "[upcycle] the dense model has no ", name);
    return host_copy<T, D>(p->value);
  }

  /// `maps`, one under the other, times `scale`, as each expert of `p` [E, out, in], and the noise of each.
  void copies(Parameter<T, D>& p, const std::vector<std::string>& maps, C scale) {
    std::vector<T> one;
    std::vector<double> deviations;  // by element range of `one`
    std::vector<std::size_t> ends;
    for (const std::string& name : maps) {
      double squares = 0;
      const std::vector<T> map = values_of(name);
      for (const T v : map) {
        one.push_back(static_cast<T>(v * scale));
        squares += static_cast<double>(one.back()) * static_cast<double>(one.back());
      }
      deviations.push_back(settings_.noise * std::sqrt(squares / static_cast<double>(map.size())));
      ends.push_back(one.size());
    }
    std::vector<T> all;
    all.reserve(static_cast<std::size_t>(p.value.count()));
    for (std::int64_t e = 0; e < settings_.experts; ++e) all.insert(all.end(), one.begin(), one.end());
    if (settings_.noise > 0) {
      Tensor<T, D> normal(p.value.shape());
      fill_normal(normal, 1.0);
      const std::vector<T> numbers = host_copy<T, D>(normal);
      for (std::size_t i = 0; i < all.size(); ++i) {
        const std::size_t map = i % one.size() < ends[0] ? 0 : 1;
        all[i] = static_cast<T>(all[i] + static_cast<C>(deviations[map] * static_cast<double>(numbers[i])));
      }
    }
    set_values(p.value, all);
  }

  Decoder<D, T>& dense_;
  const UpcycleSettings& settings_;
  T scale_;
  std::uint32_t stream_ = 0;
};

}  // namespace detail

template <class D, class T>
Decoder<D, T> upcycle(Decoder<D, T>&& dense, const UpcycleSettings& settings) {
  const DecoderConfig config = upcycled_config(dense.config(), settings);
  require<ConfigError>(!dense.has_adapter(),
                       "[upcycle] the model has an adapter; merge_adapter(model) first, or add one to the mixture");
  for (const Linear<D, T>* l : dense.linears())
    require<ConfigError>(l->state() == LinearState::dense, "[upcycle] ", l->path,
                         " is no dense matrix (codes, or it stays in its file); load the model with decoded weights");
  require<ConfigError>(dense.packed_weights().empty(),
                       "[upcycle] weights of the model stay in their file; load it with decoded weights");
  Decoder<D, T> mixture = Decoder<D, T>::without_values(config);
  detail::UpcycleFiller<D, T> filler(dense, settings, config.moe.shared > 0);
  for (Parameter<T, D>* p : mixture.parameters()) {
    p->trainable = true;
    if (const Parameter<T, D>* same = dense.find_parameter(p->name); same != nullptr) {
      p->value = same->value;
      continue;
    }
    p->value = Tensor<T, D>(p->value.shape());
    filler.fill(*p);
  }
  const std::int64_t real = dense.head().real_vocabulary;
  if (real < config.vocab_size) mixture.set_real_vocabulary(real);
  mixture.set_source(dense.source(), dense.notes());
  mixture.set_router_policy({.balance = settings.balance_weight});
  return mixture;
}

KDLIB_NAMESPACE_END

#endif
