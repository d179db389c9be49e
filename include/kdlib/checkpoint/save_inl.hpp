// SPDX-License-Identifier: Apache-2.0
// Decoder::save_pretrained: config.json and safetensors as transformers reads them.
#ifndef KDLIB_CHECKPOINT_SAVE_INL_HPP
#define KDLIB_CHECKPOINT_SAVE_INL_HPP

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/checkpoint/saved_units.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A tensor to be written: a dense parameter or a packed weight, decoded while it is written.
template <class D, class T>
struct SavedTensor {
  std::string name;
  Shape shape;
  const T* data = nullptr;  // on the device
  const PackedMatrix<T, D>* packed = nullptr;
  bool transposed = false;                      // shape [E, in, out] of data [E, out, in]
  std::int64_t first_row = 0;                   // of `packed`, where the tensor begins
  std::span<const std::byte> blocks{};          // GGUF's blocks of the same values, written as they are
  GgufType block_type = GgufType::f32;          // of `blocks`
  std::shared_ptr<const void> owner = nullptr;  // keeps `blocks` or `data` alive
};

/// Experts as their families' files hold them: a tensor an expert and map (Qwen), or gpt-oss's [E, in, out].
template <class D, class T>
void append_expert_tensors(std::vector<SavedTensor<D, T>>& list, const std::string& name, const Shape& shape,
                           const T* data, const PackedMatrix<T, D>* packed, Family family) {
  const ExpertForm form = family == Family::gpt_oss ? ExpertForm::transposed : ExpertForm::per_expert;
  std::int64_t done = 0;
  for (const ExpertTensor& t : expert_tensors(name, shape, form)) {
    list.push_back({t.name, t.shape, data == nullptr ? nullptr : data + done, packed, form == ExpertForm::transposed,
                    done / shape[2]});
    done += t.shape.count();
  }
}

/// Factors of experts that share cores, [E, width, rank]: a tensor an expert.
template <class D, class T>
void append_core_factors(std::vector<SavedTensor<D, T>>& list, const SavedTensor<D, T>& all) {
  const Shape one{all.shape[1], all.shape[2]};
  for (std::int64_t e = 0; e < all.shape[0]; ++e)
    list.push_back({core_factor_name(all.name, e), one, all.data + e * one.count()});
}

/// The weights of a model as it holds them: parameters but those of adapters and those behind codes, and packed
/// matrices.
template <class D, class T>
std::vector<SavedTensor<D, T>> weights_to_save(const std::vector<Parameter<T, D>*>& parameters,
                                               const std::vector<Linear<D, T>*>& linears,
                                               const std::vector<PackedWeight<D, T>>& packed) {
  std::vector<SavedTensor<D, T>> list;
  const std::vector<Parameter<T, D>*> behind = parameters_behind_codes(linears);
  for (const Parameter<T, D>* p : parameters)
    if (!p->name.starts_with("base_model.") && std::find(behind.begin(), behind.end(), p) == behind.end())
      list.push_back({p->name, p->value.shape(), p->value.data()});
  for (const PackedWeight<D, T>& p : packed) list.push_back({p.name, p.shape, nullptr, p.matrix});
  return list;
}

/// Biases of zeros that the keys of config.json ask for and the model does not have.
template <class D, class T>
void append_zero_biases(std::vector<SavedTensor<D, T>>& list, const DecoderConfig& config) {
  const BiasSettings kept = hf_biases(config);
  const std::int64_t q = config.query_heads * config.head_size, kv = config.kv_heads * config.head_size,
                     inner = config.intermediate_size;
  const std::int64_t sizes[] = {q, kv, kv, config.hidden_size, inner, inner, config.hidden_size};
  static_assert(std::size(sizes) == std::size(named_biases));
  for (std::size_t k = 0; k < std::size(sizes); ++k) {
    const NamedBias& bias = named_biases[k];
    if (!(kept.*bias.flag) || config.biases.*bias.flag) continue;
    const auto zeros = std::make_shared<Tensor<T, D>>(Tensor<T, D>::zeros(Shape{sizes[k]}));
    for (std::int64_t i = 0; i < config.layers; ++i) {
      SavedTensor<D, T>& t = list.emplace_back();
      t.name = concat("model.layers.", i, ".", bias.module, ".bias");
      t.shape = Shape{sizes[k]};
      t.data = zeros->data();
      t.owner = zeros;
    }
  }
}

/// The same as tensors of a Hugging Face directory, by name.
template <class D, class T>
std::vector<SavedTensor<D, T>> tensors_to_save(const std::vector<Parameter<T, D>*>& parameters,
                                               const std::vector<Linear<D, T>*>& linears,
                                               const std::vector<PackedWeight<D, T>>& packed,
                                               const DecoderConfig& config) {
  std::vector<SavedTensor<D, T>> list;
  for (const SavedTensor<D, T>& w : weights_to_save<D, T>(parameters, linears, packed)) {
    if (is_expert_tensor(w.name)) append_expert_tensors(list, w.name, w.shape, w.data, w.packed, config.family);
    else if (is_core_factor(w.name)) append_core_factors(list, w);
    else list.push_back(w);
  }
  append_zero_biases(list, config);
  std::vector<std::string> names;
  for (const SavedTensor<D, T>& t : list) names.push_back(t.name);
  std::vector<SavedTensor<D, T>> sorted;
  for (const std::size_t i : order_by_name(names)) sorted.push_back(std::move(list[i]));
  return sorted;
}

/// Writes a tensor [E, in, out] that lies in memory as [E, out, in], an expert at a time, converted to S.
template <class S, class D, class T>
void write_transposed(AtomicFile& file, const SavedTensor<D, T>& t) {
  const std::size_t in = static_cast<std::size_t>(t.shape[1]), out = static_cast<std::size_t>(t.shape[2]);
  std::vector<T> host(in * out);
  std::vector<S> stored(host.size());
  Tensor<T, D> decoded;
  if (t.packed != nullptr) decoded = Tensor<T, D>(Shape{t.shape[2], t.shape[1]});
  for (std::int64_t e = 0; e < t.shape[0]; ++e) {
    if (t.packed != nullptr) t.packed->decode(t.first_row + e * t.shape[2], t.shape[2], decoded.data());
    const T* source = t.packed != nullptr ? decoded.data() : t.data + e * t.shape[1] * t.shape[2];
    Memory<D>::to_host(host.data(), source, host.size() * sizeof(T));
    for (std::size_t o = 0; o < out; ++o)
      for (std::size_t i = 0; i < in; ++i) stored[i * out + o] = static_cast<S>(host[o * in + i]);
    file.write(stored.data(), stored.size() * sizeof(S));
  }
}

/// Calls f(values, count) with pieces of whole rows, on the host and decoded; not for transposed tensors.
template <class D, class T, class F>
void each_saved_piece(const SavedTensor<D, T>& t, F&& f) {
  const std::int64_t rows = t.shape.rank() > 1 ? t.shape[0] : 1, width = t.shape.count() / rows;
  const std::int64_t step = 1 + (std::int64_t{1} << 18) / width;
  std::vector<T> host(static_cast<std::size_t>(step * width));
  for (std::int64_t row = 0; row < rows; row += step) {
    const std::int64_t count = (rows - row < step ? rows - row : step) * width;
    Tensor<T, D> decoded;
    const T* source = t.data == nullptr ? nullptr : t.data + row * width;
    if (t.packed != nullptr) {
      decoded = Tensor<T, D>(Shape{count});
      t.packed->decode(t.first_row + row, count / width, decoded.data());
      source = decoded.data();
    }
    Memory<D>::to_host(host.data(), source, static_cast<std::size_t>(count) * sizeof(T));
    f(static_cast<const T*>(host.data()), static_cast<std::size_t>(count));
  }
}

/// Writes one tensor in pieces of rows, converted to S.
template <class S, class D, class T>
void write_tensor(AtomicFile& file, const SavedTensor<D, T>& t) {
  if (t.transposed) return write_transposed<S>(file, t);
  std::vector<S> stored;
  each_saved_piece(t, [&](const T* values, std::size_t count) {
    stored.resize(count);
    for (std::size_t i = 0; i < count; ++i) stored[i] = static_cast<S>(values[i]);
    file.write(stored.data(), count * sizeof(S));
  });
}

template <class S, class D, class T>
SavedUnit saved_unit(const SavedTensor<D, T>& t) {
  SavedPiece piece{t.name, dtype_of<S>(), t.shape, [&t](AtomicFile& f) { write_tensor<S>(f, t); }};
  return {{std::move(piece)}, t.shape.count() * static_cast<std::int64_t>(sizeof(S))};
}

/// A tensor in GGUF's blocks: U8 [rows, bytes of a row].
template <class D, class T>
SavedUnit saved_blocks(const SavedTensor<D, T>& t) {
  const auto bytes = static_cast<std::int64_t>(t.blocks.size());
  SavedPiece piece{t.name, DType::u8, Shape{t.shape[0], bytes / t.shape[0]},
                   [&t](AtomicFile& f) { f.write(t.blocks.data(), t.blocks.size()); }};
  return {{std::move(piece)}, bytes};
}

/// The tensors as units of the element type `dtype` (checked before); `tensors` must outlive them.
template <class D, class T>
std::vector<SavedUnit> saved_units(const std::vector<SavedTensor<D, T>>& tensors, const std::string& dtype) {
  std::vector<SavedUnit> units;
  for (const SavedTensor<D, T>& t : tensors)
    units.push_back(!t.blocks.empty()     ? saved_blocks(t)
                    : dtype == "float32"  ? saved_unit<float>(t)
                    : dtype == "bfloat16" ? saved_unit<bf16>(t)
                                          : saved_unit<f16>(t));
  return units;
}

}  // namespace detail

template <class D, class T>
void Decoder<D, T>::save_pretrained(const std::string& directory, const SaveSettings& settings) const {
  for (const Linear<D, T>* l : adaptable())
    require<ConfigError>(
        l->lora == nullptr || l->merged() || l->adapter_in_codes(), "[save_pretrained] ", l->path,
        " has an adapter that is not merged: call merge_adapter(model) first, or save_adapter(model, directory)");
  const std::string dtype = settings.dtype.empty() ? config_.dtype : settings.dtype;
  detail::check_saved_dtype(dtype, "[save_pretrained] ");
  make_directories(directory);
  const auto list =
      detail::tensors_to_save<D, T>(const_cast<Decoder*>(this)->parameters(), linears(), packed_weights(), config_);
  refresh_codes();
  detail::write_weights(directory, detail::saved_units(list, dtype), settings.shard_bytes);
  write_file_atomically(join_path(directory, "config.json"), hf_config_text(config_, dtype));
}

KDLIB_NAMESPACE_END

#endif
