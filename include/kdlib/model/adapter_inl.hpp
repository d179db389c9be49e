// SPDX-License-Identifier: Apache-2.0
// Templates of adapter.hpp: add_lora, merge and unmerge.
#ifndef KDLIB_MODEL_ADAPTER_INL_HPP
#define KDLIB_MODEL_ADAPTER_INL_HPP

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/rng.hpp"
#include "kdlib/model/adapter.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Factors without values for a map, named as PEFT's files name them. `suffix`: what stands behind its path where
/// patterns are compared.
template <class D, class T>
std::unique_ptr<LoraPair<D, T>> make_lora_pair(const Linear<D, T>& l, const LoraSettings& settings,
                                               const char* suffix = "") {
  auto pair = std::make_unique<LoraPair<D, T>>();
  pair->rank = lora_rank(settings, l.path + suffix);
  pair->alpha = lora_alpha(settings, l.path + suffix);
  pair->scale = lora_scale(pair->rank, pair->alpha, settings.rslora);
  const std::string prefix = "base_model.model." + l.path;
  pair->a.name = prefix + ".lora_A.weight";
  pair->a.value = Tensor<T, D>(Shape{pair->rank, l.in});
  pair->b.name = prefix + ".lora_B.weight";
  pair->b.value = Tensor<T, D>::zeros(Shape{l.out, pair->rank});
  pair->a.trainable = pair->b.trainable = true;
  return pair;
}

/// Gives a parameter that is to be trained these values.
template <class T, class D>
void set_trained_values(Parameter<T, D>& p, const std::vector<gradient_t<T>>& values) {
  Memory<D>::from_host(p.values_to_write().data(), values.data(), values.size() * sizeof(values[0]));
  p.values_changed();
}

template <class D, class T>
void fill_lora_a(LoraPair<D, T>& pair, std::uint64_t seed, std::uint32_t module) {
  const std::int64_t n = pair.a.value.count();
  const double bound = 1.0 / std::sqrt(static_cast<double>(pair.a.value[1]));
  const Rng rng(seed, RngPurpose::initialise, 1, module);
  using C = gradient_t<T>;
  std::vector<C> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<C>((2 * rng.uniform(static_cast<std::uint32_t>(i)) - 1) * bound);
  set_trained_values(pair.a, values);
}

/// ConfigError: settings without targets, or with the embedding or the head among them.
void check_lora_targets(const LoraSettings& settings, const std::string& where);
/// The ConfigError of settings that target none of a model's linear maps, which have these paths.
[[noreturn]] void refuse_no_target(const std::vector<std::string>& paths, const LoraSettings& settings,
                                   const std::string& where);
/// Refuses what stands in the settings and has no effect on a model of these linear maps, of which `targets` are
/// adapted, naming the nearest module names: a list in which one name is misspelt would otherwise adapt fewer maps than
/// was asked for.
void check_lora_names(const std::vector<std::string>& paths, std::int64_t layers, const LoraSettings& settings,
                      const std::vector<std::string>& targets);

template <class D, class T>
std::vector<std::string> linear_paths(const std::vector<Linear<D, T>*>& linears) {
  std::vector<std::string> paths;
  for (const Linear<D, T>* l : linears) paths.push_back(l->path);
  return paths;
}

/// The linear maps that the settings target; the embedding and the head are refused where they are.
template <class D, class T>
std::vector<Linear<D, T>*> lora_modules(Decoder<D, T>& model, const LoraSettings& settings, const std::string& where) {
  require<ConfigError>(!model.has_adapter(), where, "the model has an adapter already: remove_adapter(model) first");
  check_lora_targets(settings, where);
  std::vector<Linear<D, T>*> list;
  for (Linear<D, T>* l : model.linears())
    if (lora_targets(settings, l->path)) list.push_back(l);
  if (!list.empty()) return list;
  refuse_no_target(linear_paths(model.linears()), settings, where);
}

/// weight[m, n] += alpha op(A) op(B) of factors in gradient_t<T>; the sum is rounded once.
template <class D, class T, class C = gradient_t<T>>
void add_product(bool transposed, std::int64_t m, std::int64_t n, std::int64_t k, C alpha, const C* a, std::int64_t lda,
                 const C* b, std::int64_t ldb, T* weight) {
  if constexpr (requires { Kernels<D, T>::gemm(false, false, m, n, k, alpha, a, lda, b, ldb, alpha, weight, n); }) {
    Kernels<D, T>::gemm(transposed, transposed, m, n, k, alpha, a, lda, b, ldb, 1, weight, n);
  } else {  // of 16 bits, on a device whose products take factors of one type
    const Buffer<C, D> sum(m * n);
    Kernels<D, T>::widen(m * n, weight, sum.data());
    Kernels<D, C>::gemm(transposed, transposed, m, n, k, alpha, a, lda, b, ldb, 1, sum.data(), n);
    Kernels<D, T>::narrow(m * n, sum.data(), weight);
  }
}

}  // namespace detail

template <class D, class T>
std::int64_t add_lora(Decoder<D, T>& model, const LoraSettings& settings) {
  const std::string where = "[add_lora] ";
  std::vector<Linear<D, T>*> targets;
  if (!settings.targets.empty() || !settings.routers) targets = detail::lora_modules(model, settings, where);
  require<ConfigError>(!model.has_adapter(), where, "the model has an adapter already: remove_adapter(model) first");
  require<ConfigError>(!settings.routers || !model.routers().empty(), where, "routers is set, but the model (",
                       family_name(model.config().family), ") has none");
  const std::size_t modules = targets.size();
  if (settings.routers)
    for (Linear<D, T>* l : model.routers()) targets.push_back(l);
  detail::check_lora_names(detail::linear_paths(model.linears()), static_cast<std::int64_t>(model.blocks().size()),
                           settings, detail::linear_paths(targets));
  model.set_trainable(false);
  std::uint32_t module = 0;
  for (Linear<D, T>* l : targets) {
    auto pair = detail::make_lora_pair(*l, settings, module < modules ? "" : ".weight");
    detail::fill_lora_a(*pair, settings.seed, module++);
    l->lora = std::move(pair);
  }
  return static_cast<std::int64_t>(targets.size());
}

template <class D, class T>
void remove_adapter(Decoder<D, T>& model) {
  unmerge_adapter(model);
  for (Linear<D, T>* l : model.adaptable()) l->lora.reset();
}

template <class D, class T>
void merge_adapter(Decoder<D, T>& model) {
  const std::vector<Linear<D, T>*> linears = model.adaptable();
  std::vector<std::pair<Linear<D, T>*, Tensor<T, D>>> merged;
  for (Linear<D, T>* l : linears) {
    if (l->lora == nullptr || l->merged()) continue;
    const auto packed = l->packed();
    require<ConfigError>(packed == nullptr, "[merge_adapter] ", l->path, " is packed (",
                         packed == nullptr ? "" : packed->description(),
                         "); rounding the sum again would give another function than the one that was trained. Merge "
                         "into the model loaded with decoded weights");
    Tensor<T, D> sum = l->weight()->value.clone();
    const LoraPair<D, T>& p = *l->lora;
    const auto a = p.a.trained_values(), b = p.b.trained_values();
    detail::add_product<D, T>(false, l->out, l->in, p.rank, static_cast<gradient_t<T>>(p.scale), b.data(), p.rank,
                              a.data(), l->in, sum.data());
    require<FormatError>(std::isfinite(Kernels<D, T>::sum_squares(sum.data(), sum.count())), "[merge_adapter] ",
                         l->path, ": the merged weight is not finite");
    merged.emplace_back(l, std::move(sum));
  }
  require<ConfigError>(!merged.empty(), "[merge_adapter] the model has no adapter that is not merged");
  for (auto& [l, sum] : merged) l->merge(std::move(sum));
}

template <class D, class T>
void unmerge_adapter(Decoder<D, T>& model) {
  for (Linear<D, T>* l : model.adaptable()) l->unmerge();
}

KDLIB_NAMESPACE_END

#endif
