// SPDX-License-Identifier: Apache-2.0
// Bodies of gguf_save.hpp: metadata from the config, tensors row by row.
#ifndef KDLIB_CHECKPOINT_GGUF_SAVE_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_SAVE_INL_HPP

#include <algorithm>

#include "kdlib/checkpoint/gguf_names.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/save_inl.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/quant/gguf_encode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// All metadata; what they have no place for goes into the notes.
void write_gguf_metadata(GgufWriter& out, const DecoderConfig& c, const Tokenizer* tokenizer,
                         const GgufSaveSettings& settings, std::vector<std::string>& notes);
/// Divisors of the frequencies, as llama3's scaling is stored; empty where there are none.
std::vector<float> gguf_rope_divisors(const DecoderConfig& c);
/// The type of one tensor; a note where it is not the one that was asked for.
GgufType gguf_tensor_type(const GgufPart& part, GgufType wanted, std::vector<std::string>& notes);

template <class D, class T>
std::vector<SavedTensor<D, T>> gguf_weights(const Decoder<D, T>& model) {
  const auto list =
      weights_to_save<D, T>(const_cast<Decoder<D, T>&>(model).parameters(), model.linears(), model.packed_weights());
  model.refresh_codes();
  return list;
}

/// Writes the rows of one tensor, encoded; runs of rows at once where they stand together.
template <class D, class T>
void write_gguf_rows(AtomicFile& file, const SavedTensor<D, T>& weight, const GgufPart& part, GgufType type) {
  const std::int64_t together = part.head > 0 || part.group > 0 ? 1 : 1 + (std::int64_t{1} << 16) / part.width;
  std::vector<T> host(static_cast<std::size_t>(together * part.width));
  std::vector<float> values(host.size());
  std::vector<std::byte> blocks(host.size() / block_size(type) * block_bytes(type));
  Tensor<T, D> decoded;
  if (weight.packed != nullptr) decoded = Tensor<T, D>(Shape{together * part.width});
  for (std::int64_t row = 0; row < part.rows; row += together) {
    const std::int64_t count = std::min(together, part.rows - row), from = part.source(row);
    const std::size_t n = static_cast<std::size_t>(count * part.width);
    if (weight.packed != nullptr) weight.packed->decode(from, count, decoded.data());
    Memory<D>::to_host(host.data(), weight.packed != nullptr ? decoded.data() : weight.data + from * part.width,
                       n * sizeof(T));
    for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(host[i]);
    if (part.added != 0)
      for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(host[i] + static_cast<T>(part.added));
    try {
      encode_row(type, values.data(), blocks.data(), n);
    } catch (const FormatError& error) {
      fail<FormatError>("[save_gguf] ", file.path(), ": tensor \"", part.name, "\", row ", row, ": ", error.what());
    }
    file.write(blocks.data(), n / block_size(type) * block_bytes(type));
  }
}

}  // namespace detail

template <class D, class T>
std::vector<std::string> save_gguf(const Decoder<D, T>& model, const Tokenizer* tokenizer, const std::string& path,
                                   const GgufSaveSettings& settings) {
  const DecoderConfig& c = model.config();
  for (const Linear<D, T>* l : model.adaptable())
    require<ConfigError>(l->lora == nullptr || l->merged() || l->adapter_in_codes(), "[save_gguf] ", l->path,
                         " has an adapter that is not merged: call merge_adapter(model) first");
  require<ConfigError>(can_encode(settings.type), "[save_gguf] ", gguf_type_name(settings.type), " is not written");
  require<ConfigError>(settings.type != GgufType::mxfp4 || c.mixtures() > 0,
                       "[save_gguf] MXFP4 is for the experts of a mixture; ", family_name(c.family), " has none");
  check_gguf_config(c);
  std::vector<std::string> notes;
  GgufWriter writer(path);
  detail::write_gguf_metadata(writer, c, tokenizer, settings, notes);
  const std::vector<float> divisors = detail::gguf_rope_divisors(c);
  if (!divisors.empty())
    writer.add("rope_freqs.weight", GgufType::f32, Shape{c.head_size / 2}, std::as_bytes(std::span(divisors)));
  const auto weights = detail::gguf_weights<D, T>(model);
  for (const detail::SavedTensor<D, T>& w : weights)
    for (const detail::GgufPart& part : detail::gguf_parts(w.name, w.shape, c)) {
      const GgufType type = detail::gguf_tensor_type(part, settings.type, notes);
      writer.add_from(part.name, type, part.shape,
                      [&w, part, type](AtomicFile& file) { detail::write_gguf_rows<D, T>(file, w, part, type); });
    }
  writer.commit();
  return notes;
}

KDLIB_NAMESPACE_END

#endif
