// SPDX-License-Identifier: Apache-2.0
// Decoder::from_pretrained: safetensors directories and GGUF files, every tensor checked against the config.
#ifndef KDLIB_MODEL_LOAD_INL_HPP
#define KDLIB_MODEL_LOAD_INL_HPP

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/model/hf_config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

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
    const std::int64_t rows = p->value.shape().rank() > 1 ? p->value[0] : 1, step = 1 + (std::int64_t{1} << 20) / (p->value.count() / rows + 1);
    for (std::int64_t row = 0; row < rows; row += step) pieces.push_back({p, row, rows - row < step ? rows - row : step});
  }
  std::atomic<std::size_t> next{0};
  parallel_parts(thread_count(), [&](int, int) {
    for (std::size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1)) read(*pieces[i].p, pieces[i].row, pieces[i].rows);
  });
}

inline bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> endings) {
  for (const std::string_view e : endings)
    if (name.ends_with(e)) return true;
  return false;
}

template <class D, class T>
void read_safetensors(const SafetensorsDirectory& files, const std::vector<Parameter<T, D>*>& parameters) {
  std::vector<const TensorInfo*> sources;
  for (const Parameter<T, D>* p : parameters) {
    const TensorInfo* t = files.find(p->name);
    require<FormatError>(t != nullptr, "[decoder] ", files.path(), ": tensor \"", p->name, "\" ", p->value.shape(),
                         " is missing; config.json asks for it");
    require<FormatError>(t->dtype == DType::f32 || t->dtype == DType::bf16 || t->dtype == DType::f16 || t->dtype == DType::f64, "[decoder] ",
                         t->text(), ": weights must be F32, BF16, F16 or F64");
    require<FormatError>(t->extents.size() <= static_cast<std::size_t>(Shape::max_rank) && t->shape() == p->value.shape(), "[decoder] ", t->text(),
                         ": config.json asks for ", p->value.shape());
  }
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

/// model.layers.3.self_attn.q_proj.weight -> blk.3.attn_q.weight.
inline std::string gguf_tensor_name(const std::string& name) {
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  if (name == "lm_head.weight") return "output.weight";
  constexpr std::string_view prefix = "model.layers.";
  const std::size_t dot = name.find('.', prefix.size());
  const std::string number = name.substr(prefix.size(), dot - prefix.size()), rest = name.substr(dot + 1);
  constexpr const char* pairs[][2] = {{"input_layernorm.", "attn_norm."},       {"self_attn.q_proj.", "attn_q."},
                                      {"self_attn.k_proj.", "attn_k."},         {"self_attn.v_proj.", "attn_v."},
                                      {"self_attn.o_proj.", "attn_output."},    {"self_attn.q_norm.", "attn_q_norm."},
                                      {"self_attn.k_norm.", "attn_k_norm."},    {"post_attention_layernorm.", "ffn_norm."},
                                      {"mlp.gate_proj.", "ffn_gate."},          {"mlp.up_proj.", "ffn_up."},
                                      {"mlp.down_proj.", "ffn_down."}};
  for (const auto& pair : pairs)
    if (rest.starts_with(pair[0])) return concat("blk.", number, ".", pair[1], rest.substr(std::strlen(pair[0])));
  return name;
}

/// Where row `row` of a half-split q or k matrix stands in a GGUF file of architecture llama (interleaved rotation).
inline std::int64_t interleaved_row(std::int64_t row, std::int64_t head_size) {
  const std::int64_t half = head_size / 2, head = row / head_size, inside = row % head_size;
  return head * head_size + 2 * (inside % half) + inside / half;
}

template <class D, class T>
void read_gguf(const GgufFile& file, const DecoderConfig& config, const std::vector<Parameter<T, D>*>& parameters) {
  for (const Parameter<T, D>* p : parameters) {
    const std::string name = gguf_tensor_name(p->name);
    const GgufTensor* t = file.find_tensor(name);
    require<FormatError>(t != nullptr, "[decoder] ", file.path(), ": tensor \"", name, "\" ", p->value.shape(), " is missing; the metadata ask for it");
    require<FormatError>(can_decode(t->type), "[decoder] ", file.path(), ": ", t->text(), ": this element type is not decoded");
    require<FormatError>(t->shape == p->value.shape(), "[decoder] ", file.path(), ": ", t->text(), ": the metadata ask for ", p->value.shape());
  }
  allocate_parameters<D, T>(parameters);
  read_in_pieces(parameters, [&](Parameter<T, D>& p, std::int64_t row, std::int64_t rows) {
    const GgufTensor& t = file.tensor(gguf_tensor_name(p.name));
    const bool vector = p.value.shape().rank() == 1;
    const bool swapped = config.family == Family::llama && ends_with_any(p.name, {".q_proj.weight", ".q_proj.bias", ".k_proj.weight", ".k_proj.bias"});
    const std::int64_t width = vector ? (swapped ? 1 : p.value.count()) : p.value[1];
    const std::int64_t count = vector && swapped ? p.value.count() : rows;
    const std::size_t stride = t.data.size() / static_cast<std::size_t>(p.value.count() / width);
    std::vector<float> decoded(static_cast<std::size_t>(width));
    std::vector<T> values(static_cast<std::size_t>(count * width));
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t from = swapped ? interleaved_row(row + r, config.head_size) : row + r;
      decode_row(t.type, t.data.data() + static_cast<std::size_t>(from) * stride, decoded.data(), decoded.size());
      for (std::int64_t i = 0; i < width; ++i) values[static_cast<std::size_t>(r * width + i)] = static_cast<T>(decoded[static_cast<std::size_t>(i)]);
    }
    put_rows(p, row, width, values);
  });
}

/// Names in the file that no parameter took, known harmless ones apart.
inline void note_unused(std::vector<std::string>& notes, const std::string& path, const std::string& name, bool tied) {
  if (ends_with_any(name, {".rotary_emb.inv_freq"}) || name == "rope_freqs.weight") return;
  if (tied && name == "lm_head.weight") notes.push_back(concat(path, ": lm_head.weight is ignored: the head is tied to the embedding"));
  else notes.push_back(concat(path, ": tensor \"", name, "\" is not used by this model"));
}

/// Notes every tensor of the file whose name is not among `names`.
template <class Tensors, class NameOf>
void note_unused_tensors(std::vector<std::string>& notes, const std::string& path, std::vector<std::string> names, bool tied, const Tensors& tensors,
                         NameOf name_of) {
  std::sort(names.begin(), names.end());
  for (const auto& t : tensors)
    if (!std::binary_search(names.begin(), names.end(), name_of(t))) note_unused(notes, path, name_of(t), tied);
}

}  // namespace detail

template <class D, class T>
void Decoder<D, T>::load_directory(const std::string& path) {
  require<IoError>(path_exists(join_path(path, "config.json")), "[decoder] ", path, ": config.json is missing; a Hugging Face directory has one");
  config_ = read_hf_config(path);
  const SafetensorsDirectory files(path);
  build();
  const detail::ExpertReader<D, T> experts(files, parameters(), config_.family);
  std::vector<Parameter<T, D>*> plain = parameters();
  plain.erase(std::remove_if(plain.begin(), plain.end(), [](const auto* p) { return detail::is_expert_tensor(p->name); }), plain.end());
  detail::read_safetensors(files, plain);
  detail::allocate_parameters<D, T>(experts.parameters());
  experts.read();
  std::vector<std::string> names;
  for (const Parameter<T, D>* p : plain) names.push_back(p->name);
  experts.append_names(names);
  detail::note_unused_tensors(notes_, path, std::move(names), config_.tied_head, files.tensors(), [](const TensorInfo* t) { return t->name; });
  notes_.insert(notes_.end(), files.warnings().begin(), files.warnings().end());
}

template <class D, class T>
void Decoder<D, T>::load_gguf(const std::string& path) {
  const GgufFile file(path);
  config_ = gguf_config(file);
  build();
  detail::read_gguf(file, config_, parameters());
  std::vector<std::string> names;
  for (const Parameter<T, D>* p : parameters()) names.push_back(detail::gguf_tensor_name(p->name));
  detail::note_unused_tensors(notes_, path, std::move(names), false, file.tensors(), [](const GgufTensor& t) { return t.name; });
}

template <class D, class T>
Decoder<D, T> Decoder<D, T>::from_pretrained(const std::string& path, const LoadSettings& settings) {
  require<IoError>(path_exists(path), "[decoder] ", path, ": there is no such file or directory; a Hugging Face directory or a GGUF file is needed");
  Decoder model;
  if (is_directory(path)) model.load_directory(path);
  else model.load_gguf(path);
  model.set_trainable(settings.trainable);
  return model;
}

KDLIB_NAMESPACE_END

#endif
