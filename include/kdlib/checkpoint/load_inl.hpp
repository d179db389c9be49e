// SPDX-License-Identifier: Apache-2.0
// Decoder::from_pretrained: safetensors directories and GGUF files, every tensor checked against the config.
#ifndef KDLIB_CHECKPOINT_LOAD_INL_HPP
#define KDLIB_CHECKPOINT_LOAD_INL_HPP

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>

#include "kdlib/checkpoint/gguf_names_inl.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/packed_format.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/quant/stored_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

// In packed_load_inl.hpp.
template <class D, class T>
void read_packed_linears(const SafetensorsDirectory& files, const PackedFormat& format,
                         const std::vector<Linear<D, T>*>& linears, std::vector<std::string>& names);
// In in_file_inl.hpp.
std::optional<StoredParts> find_stored(const SafetensorsDirectory& files, const std::string& name, const Shape& shape,
                                       Family family, std::vector<std::string>& names);
std::optional<StoredParts> find_stored(const GgufFile& file, const std::string& name, const Shape& shape,
                                       const DecoderConfig& config, std::vector<std::string>& names);

/// Fills [begin, end) of a parameter's rows; called from several threads.
template <class D, class T>
void put_rows(Parameter<T, D>& p, std::int64_t row, std::int64_t width, const std::vector<T>& values) {
  Memory<D>::from_host(p.value.data() + row * width, values.data(), values.size() * sizeof(T));
}

/// Calls read(parameter, first row, rows) for pieces of all parameters, in parallel; a vector counts as one row.
template <class D, class T, class F>
void read_in_pieces(const std::vector<Parameter<T, D>*>& parameters, F&& read) {
  struct Piece {
    Parameter<T, D>* p;
    std::int64_t row, rows;
  };
  std::vector<Piece> pieces;
  for (Parameter<T, D>* p : parameters) {
    const std::int64_t rows = p->value.shape().rank() > 1 ? p->value[0] : 1,
                       step = 1 + (std::int64_t{1} << 20) / (p->value.count() / rows + 1);
    for (std::int64_t row = 0; row < rows; row += step)
      pieces.push_back({p, row, rows - row < step ? rows - row : step});
  }
  std::atomic<std::size_t> next{0};
  parallel_parts(thread_count(), [&](int, int) {
    for (std::size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1)) {
      check_stop();
      read(*pieces[i].p, pieces[i].row, pieces[i].rows);
    }
  });
}

/// The tensor of that name, shape and a type that weights may have.
inline const TensorInfo& check_weight(const SafetensorsDirectory& files, const std::string& name, const Shape& shape) {
  const TensorInfo* t = files.find(name);
  require<FormatError>(t != nullptr, "[decoder] ", files.path(), ": tensor \"", name, "\" ", shape,
                       " is missing; config.json asks for it");
  require<FormatError>(
      t->dtype == DType::f32 || t->dtype == DType::bf16 || t->dtype == DType::f16 || t->dtype == DType::f64,
      "[decoder] ", t->text(), ": weights must be F32, BF16, F16 or F64");
  require<FormatError>(t->extents.size() <= static_cast<std::size_t>(Shape::max_rank) && t->shape() == shape,
                       "[decoder] ", t->text(), ": config.json asks for ", shape);
  return *t;
}

template <class D, class T>
void read_safetensors(const SafetensorsDirectory& files, const std::vector<Parameter<T, D>*>& parameters) {
  for (const Parameter<T, D>* p : parameters) check_weight(files, p->name, p->value.shape());
  allocate_parameters<D, T>(parameters);  // not before: a lying config must not take terabytes
  read_in_pieces(parameters, [&](Parameter<T, D>& p, std::int64_t row, std::int64_t rows) {
    const TensorInfo& t = files.at(p.name);
    const std::int64_t width = p.value.shape().rank() > 1 ? p.value.count() / p.value[0] : p.value.count();
    const std::size_t bytes = static_cast<std::size_t>(width) * (dtype_bits(t.dtype) / 8);
    TensorInfo piece;
    piece.name = t.name;
    piece.dtype = t.dtype;
    piece.extents = {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(width)};
    piece.data = t.data.subspan(static_cast<std::size_t>(row) * bytes, static_cast<std::size_t>(rows) * bytes);
    piece.file = t.file;
    put_rows(p, row, width, read_as<T>(piece));
  });
}

/// Fills rows [row, row + rows) of one tensor's rows into the parameter that they belong to.
template <class D, class T>
void read_gguf_rows(const GgufTensor& t, const GgufPart& part, Parameter<T, D>& p, std::int64_t row,
                    std::int64_t rows) {
  const std::size_t width = static_cast<std::size_t>(part.width), count = static_cast<std::size_t>(rows);
  std::vector<float> decoded(count * width);
  const std::size_t stride = part.width == 1 ? 0 : t.data.size() / static_cast<std::size_t>(part.rows);
  if (stride > 0)
    decode_row(t.type, t.data.data() + static_cast<std::size_t>(row) * stride, decoded.data(), decoded.size());
  else decode_row(t.type, t.data.data(), decoded.data(), decoded.size());  // a vector or bias comes whole
  std::vector<T> values(decoded.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(decoded[i]);
  if (part.head == 0 && part.group == 0) return put_rows(p, row, part.width, values);
  for (std::size_t r = 0; r < count; ++r)
    Memory<D>::from_host(p.value.data() + part.source(row + static_cast<std::int64_t>(r)) * part.width,
                         values.data() + r * width, width * sizeof(T));
}

/// The tensor of a part's name and shape and a type that is decoded.
inline const GgufTensor& check_weight(const GgufFile& file, const GgufPart& part) {
  const GgufTensor* t = file.find_tensor(part.name);
  require<FormatError>(t != nullptr, "[decoder] ", file.path(), ": tensor \"", part.name, "\" ", part.shape,
                       " is missing; the metadata ask for it");
  require<FormatError>(can_decode(t->type), "[decoder] ", file.path(), ": ", t->text(),
                       ": this element type is not decoded");
  const bool as_row =
      part.shape.rank() == 1 && t->shape == Shape{1, part.shape[0]};  // a gate of one row, written with two axes
  require<FormatError>(t->shape == part.shape || as_row, "[decoder] ", file.path(), ": ", t->text(),
                       ": the metadata ask for ", part.shape);
  return *t;
}

template <class D, class T>
void read_gguf(const GgufFile& file, const DecoderConfig& config, const std::vector<Parameter<T, D>*>& parameters) {
  struct Piece {
    Parameter<T, D>* p;
    const GgufTensor* tensor;
    GgufPart part;
    std::int64_t row, rows;
  };
  std::vector<Piece> pieces;
  for (Parameter<T, D>* p : parameters) {
    for (const GgufPart& part : gguf_parts(p->name, p->value.shape(), config)) {
      const GgufTensor* t = &check_weight(file, part);
      const std::int64_t step = part.width == 1 ? part.rows : 1 + (std::int64_t{1} << 20) / (part.width + 1);
      for (std::int64_t row = 0; row < part.rows; row += step)
        pieces.push_back({p, t, part, row, part.rows - row < step ? part.rows - row : step});
    }
  }
  allocate_parameters<D, T>(parameters);
  std::atomic<std::size_t> next{0};
  parallel_parts(thread_count(), [&](int, int) {
    for (std::size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1)) {
      check_stop();
      read_gguf_rows<D, T>(*pieces[i].tensor, pieces[i].part, *pieces[i].p, pieces[i].row, pieces[i].rows);
    }
  });
}

/// A tensor of a layer that the config has no place for: the config speaks of another model. Running without it would
/// give other logits.
inline void refuse_unplaced(const std::string& path, const std::string& name, std::int64_t layers) {
  const std::string prefix = "model.layers.";
  if (name.rfind(prefix, 0) != 0 || name.size() == prefix.size() || name[prefix.size()] < '0' ||
      name[prefix.size()] > '9')
    return;
  const std::int64_t layer = std::atoll(name.c_str() + prefix.size());
  require<FormatError>(layer < layers, "[decoder] ", join_path(path, "config.json"), ": num_hidden_layers is ", layers,
                       ", but the files hold layer ", layer, ": tensor \"", name, "\"");
  fail<FormatError>(
      "[decoder] ", path, ": tensor \"", name,
      "\" has no place in the model that config.json describes. Correct the keys for biases, norms or experts "
      "there, or remove the tensor");
}

/// Names in the file that no parameter took, known harmless ones apart.
inline void note_unused(std::vector<std::string>& notes, const std::string& path, const std::string& name, bool tied) {
  if (ends_with_any(name, {".rotary_emb.inv_freq"}) || name == "rope_freqs.weight") return;
  if (tied && name == "lm_head.weight")
    notes.push_back(concat(path, ": lm_head.weight is ignored: the head is tied to the embedding"));
  else notes.push_back(concat(path, ": tensor \"", name, "\" is not used by this model"));
}

/// Notes every tensor of the file whose name is not among `names`.
template <class Tensors, class NameOf>
void note_unused_tensors(std::vector<std::string>& notes, const std::string& path, std::vector<std::string> names,
                         bool tied, const Tensors& tensors, NameOf name_of) {
  std::sort(names.begin(), names.end());
  for (const auto& t : tensors)
    if (!std::binary_search(names.begin(), names.end(), name_of(t))) note_unused(notes, path, name_of(t), tied);
}

}  // namespace detail

template <class D, class T>
void Decoder<D, T>::load_directory(const std::string& path, const LoadSettings& settings) {
  require<IoError>(path_exists(join_path(path, "config.json")), "[decoder] ", path,
                   ": config.json is missing; a Hugging Face directory has one");
  config_ = read_hf_config(path);
  const auto kept = std::make_shared<const SafetensorsDirectory>(path);
  const SafetensorsDirectory& files = *kept;
  build();
  std::vector<std::string> names;
  if (const auto quantised = Json::parse(config_.source_json, path).find_set("quantization_config"))
    if (const auto format = parse_packed_format(*quantised, path))
      detail::read_packed_linears(files, *format, linears(), names);
  if (settings.weights == WeightStorage::in_file)
    keep_in_file([&](const std::string& name, const Shape& shape,
                     auto& list) { return detail::find_stored(files, name, shape, config_.family, list); },
                 kept, names);
  const detail::ExpertReader<D, T> experts(files, parameters(), config_.family);
  std::vector<Parameter<T, D>*> plain = parameters();
  plain.erase(
      std::remove_if(plain.begin(), plain.end(), [](const auto* p) { return detail::is_expert_tensor(p->name); }),
      plain.end());
  detail::read_safetensors(files, plain);
  detail::allocate_parameters<D, T>(experts.parameters());
  experts.read();
  for (const Parameter<T, D>* p : plain) names.push_back(p->name);
  experts.append_names(names);
  detail::note_unused_tensors(notes_, path, names, config_.tied_head, files.tensors(),
                              [](const TensorInfo* t) { return t->name; });
  std::sort(names.begin(), names.end());
  for (const TensorInfo* t : files.tensors())
    if (!std::binary_search(names.begin(), names.end(), t->name) &&
        !detail::ends_with_any(t->name, {".rotary_emb.inv_freq"}))
      detail::refuse_unplaced(path, t->name, config_.layers);
  notes_.insert(notes_.end(), files.warnings().begin(), files.warnings().end());
}

template <class D, class T>
void Decoder<D, T>::load_gguf(const std::string& path, const LoadSettings& settings) {
  const auto kept = std::make_shared<const GgufFile>(path);
  const GgufFile& file = *kept;
  config_ = gguf_config(file);
  build();
  std::vector<std::string> names;
  if (settings.weights == WeightStorage::in_file)
    keep_in_file([&](const std::string& name, const Shape& shape,
                     auto& list) { return detail::find_stored(file, name, shape, config_, list); },
                 kept, names);
  detail::read_gguf(file, config_, parameters());
  for (const Parameter<T, D>* p : parameters())
    for (const detail::GgufPart& part : detail::gguf_parts(p->name, p->value.shape(), config_))
      names.push_back(part.name);
  detail::note_unused_tensors(notes_, path, std::move(names), false, file.tensors(),
                              [](const GgufTensor& t) { return t.name; });
}

template <class D, class T>
Decoder<D, T> Decoder<D, T>::from_pretrained(const std::string& path, const LoadSettings& settings) {
  require<IoError>(path_exists(path), "[decoder] ", path,
                   ": there is no such file or directory; a Hugging Face directory or a GGUF file is needed");
  require<ConfigError>(settings.weights == WeightStorage::decoded || !settings.trainable, "[decoder] ", path,
                       ": weights that stay in the file cannot be trained; load with trainable = false (LoRA may be "
                       "added), or with decoded weights");
  Decoder model;
  if (is_directory(path)) model.load_directory(path, settings);
  else model.load_gguf(path, settings);
  model.set_trainable(settings.trainable);
  return model;
}

KDLIB_NAMESPACE_END

#endif
