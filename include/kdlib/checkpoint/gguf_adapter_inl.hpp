// SPDX-License-Identifier: Apache-2.0
// Bodies of gguf_adapter.hpp.
#ifndef KDLIB_CHECKPOINT_GGUF_ADAPTER_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_ADAPTER_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/gguf_adapter.hpp"
#include "kdlib/checkpoint/gguf_adapter_file.hpp"
#include "kdlib/checkpoint/gguf_names.hpp"
#include "kdlib/checkpoint/load_plan.hpp"
#include "kdlib/checkpoint/peft_parts.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T>
GgufFactors<T> GgufAdapterFile::take(const GgufPart& part, std::int64_t index) {
  const Found found = find(part);
  GgufFactors<T> f;
  f.rank = found.rank;
  f.alpha = alpha_ == 0 ? static_cast<double>(f.rank) : alpha_;
  f.a = values<T>(*found.a, index, f.rank * found.columns);
  const std::vector<T> rows = values<T>(*found.b, index, found.rows * f.rank);
  f.b.resize(rows.size());
  GgufPart order = part;
  order.group = 0;  // rows of one expert follow each other
  order.offset = 0;
  for (std::int64_t r = 0; r < found.rows; ++r)
    std::copy_n(rows.begin() + r * f.rank, f.rank, f.b.begin() + order.source(r) * f.rank);
  return f;
}

template <class T>
std::vector<T> GgufAdapterFile::values(const GgufTensor& t, std::int64_t index, std::int64_t count) const {
  std::vector<T> part(static_cast<std::size_t>(count));
  const std::size_t skipped = static_cast<std::size_t>(index * count) / block_size(t.type) * block_bytes(t.type);
  decode_elements(t.type, t.data.data() + skipped, part.data(), part.size());
  for (const T x : part)
    if (!std::isfinite(x)) refuse_value(t);
  return part;
}

template <class D, class T>
GgufPart gguf_part_of(const Linear<D, T>& l, const DecoderConfig& config) {
  return gguf_parts(l.path + ".weight", Shape{l.out, l.in}, config).front();
}

/// The values of a factor as floats, rows in the order of the file, times `factor`.
template <class D, class T>
std::vector<float> gguf_factor_values(const Parameter<T, D>& p, const GgufPart* order, double factor) {
  using C = gradient_t<T>;
  const std::vector<C> host = host_copy<C, D>(p.trained_values());
  std::vector<float> out(host.size());
  const std::int64_t rows = p.value.shape()[0], width = p.value.shape()[1];
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t from = order == nullptr ? r : order->source(r);
    for (std::int64_t i = 0; i < width; ++i)
      out[static_cast<std::size_t>(r * width + i)] =
          static_cast<float>(static_cast<double>(host[static_cast<std::size_t>(from * width + i)]) * factor);
  }
  return out;
}

}  // namespace detail

template <class D, class T>
std::vector<std::string> save_gguf_adapter(Decoder<D, T>& model, const std::string& path,
                                           const GgufAdapterSettings& settings) {
  require<ConfigError>(model.has_adapter(), "[save_gguf_adapter] the model has no adapter");
  std::vector<detail::GgufAdaptedMap> maps;
  for (const Linear<D, T>* l : model.adaptable()) {
    if (l->lora == nullptr) continue;
    const LoraPair<D, T>& pair = *l->lora;
    detail::GgufAdaptedMap& m = maps.emplace_back();
    m.part = detail::gguf_part_of(*l, model.config());
    m.alpha = pair.scale * static_cast<double>(pair.rank);
    m.a = pair.a.value.shape();
    m.b = pair.b.value.shape();
    m.a_values = [&pair] { return detail::gguf_factor_values<D, T>(pair.a, nullptr, 1); };
    m.b_values = [&pair, part = m.part](double factor) {
      return detail::gguf_factor_values<D, T>(pair.b, &part, factor);
    };
  }
  return detail::write_gguf_adapter(path, model.config().family, settings, maps);
}

template <class D, class T>
std::vector<std::string> load_gguf_adapter(Decoder<D, T>& model, const std::string& path) {
  const DecoderConfig& config = model.config();
  require<ConfigError>(!model.has_adapter(), "[load_adapter] ", path,
                       ": the model has an adapter already: remove_adapter(model) first");
  detail::GgufAdapterFile file("[load_adapter] ", path, config);
  std::vector<std::pair<Linear<D, T>*, std::unique_ptr<LoraPair<D, T>>>> pairs;
  for (Linear<D, T>* l : model.adaptable()) {
    const detail::GgufPart part = detail::gguf_part_of(*l, config);
    if (!file.holds(part.name)) continue;
    using C = gradient_t<T>;
    const detail::GgufFactors<C> f = file.template take<C>(part);
    LoraSettings settings;
    settings.rank = f.rank;
    settings.alpha = f.alpha;
    auto pair = detail::make_lora_pair(*l, settings);
    detail::set_trained_values(pair->a, f.a);
    detail::set_trained_values(pair->b, f.b);
    pairs.emplace_back(l, std::move(pair));
  }
  file.require_all_taken(detail::model_text(config));
  require<FormatError>(!pairs.empty(), "[load_adapter] ", path, ": the file holds no factors");
  model.set_trainable(false);
  for (auto& [l, pair] : pairs) l->lora = std::move(pair);
  return {};
}

KDLIB_NAMESPACE_END

#endif
