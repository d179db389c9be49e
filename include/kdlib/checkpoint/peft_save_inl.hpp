// SPDX-License-Identifier: Apache-2.0
// save_adapter of peft_adapter.hpp: PEFT's adapter_config.json and adapter_model.safetensors.
#ifndef KDLIB_CHECKPOINT_PEFT_SAVE_INL_HPP
#define KDLIB_CHECKPOINT_PEFT_SAVE_INL_HPP

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/checkpoint/saved_units.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A linear map as adapter_config.json speaks of it.
struct AdaptedMap {
  std::string path;
  bool router = false, adapted = false;
  std::int64_t rank = 0;  // of an adapted map, as the next two
  double alpha = 0, scale = 0;
};

/// The text of adapter_config.json; `maps` are all that may be adapted.
std::string adapter_config_text(const std::vector<AdaptedMap>& maps, const DecoderConfig& config,
                                const AdapterSaveSettings& settings);

template <class D, class T>
std::vector<AdaptedMap> adapted_maps(const Decoder<D, T>& model) {
  const std::vector<Linear<D, T>*> routers = model.routers();
  std::vector<AdaptedMap> maps;
  for (const Linear<D, T>* l : model.adaptable()) {
    AdaptedMap& m = maps.emplace_back();
    m.path = l->path;
    m.router = std::find(routers.begin(), routers.end(), l) != routers.end();
    m.adapted = l->lora != nullptr;
    if (m.adapted) m.rank = l->lora->rank, m.alpha = l->lora->alpha, m.scale = l->lora->scale;
  }
  return maps;
}

/// Writes the values converted to S.
template <class S, class C>
void write_converted(AtomicFile& file, const std::vector<C>& values) {
  std::vector<S> stored(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) stored[i] = static_cast<S>(values[i]);
  file.write(stored.data(), stored.size() * sizeof(S));
}

template <class D, class T>
SavedPiece saved_factor(const Parameter<T, D>& p, const std::string& dtype) {
  const DType stored = dtype == "float32" ? DType::f32 : dtype == "bfloat16" ? DType::bf16 : DType::f16;
  return {p.name, stored, p.value.shape(), [&p, stored](AtomicFile& file) {
            const std::vector<gradient_t<T>> values = host_copy<gradient_t<T>, D>(p.trained_values());
            if (stored == DType::f32) write_converted<float>(file, values);
            else if (stored == DType::bf16) write_converted<bf16>(file, values);
            else write_converted<f16>(file, values);
          }};
}

}  // namespace detail

template <class D, class T>
void save_adapter(Decoder<D, T>& model, const std::string& directory, const AdapterSaveSettings& settings) {
  require<ConfigError>(model.has_adapter(), "[save_adapter] the model has no adapter");
  detail::check_saved_dtype(settings.dtype, "[save_adapter] ");
  make_directories(directory);
  std::vector<detail::SavedUnit> units(1);
  for (const Linear<D, T>* l : model.adaptable()) {
    if (l->lora == nullptr) continue;
    for (const Parameter<T, D>* p : {&l->lora->a, &l->lora->b})
      units[0].pieces.push_back(detail::saved_factor(*p, settings.dtype));
  }
  detail::write_safetensors(join_path(directory, "adapter_model.safetensors"), units);
  write_file_atomically(join_path(directory, "adapter_config.json"),
                        detail::adapter_config_text(detail::adapted_maps(model), model.config(), settings));
}

KDLIB_NAMESPACE_END

#endif
