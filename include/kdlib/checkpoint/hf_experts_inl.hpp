// SPDX-License-Identifier: Apache-2.0
// Packed expert tensors in safetensors: one tensor an expert and map (Qwen), fused, gpt-oss's transposed form, and
// MXFP4 blocks.
#ifndef KDLIB_CHECKPOINT_HF_EXPERTS_INL_HPP
#define KDLIB_CHECKPOINT_HF_EXPERTS_INL_HPP

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kdlib/io/safetensors.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

enum class ExpertForm { per_expert, fused, transposed, mxfp4 };

/// True for ....experts.gate_up_proj and ....experts.down_proj, [E, out, in] in memory.
inline bool is_expert_tensor(std::string_view name) {
  return name.ends_with(".experts.gate_up_proj") || name.ends_with(".experts.down_proj");
}

inline ExpertForm expert_form(const SafetensorsDirectory& files, const std::string& name, Family family) {
  if (family == Family::gpt_oss)
    return files.find(name + "_blocks") != nullptr || files.find(name + "_scales") != nullptr ? ExpertForm::mxfp4
                                                                                              : ExpertForm::transposed;
  return files.find(name) != nullptr ? ExpertForm::fused : ExpertForm::per_expert;
}

/// A tensor of the file that a packed parameter is made of.
struct ExpertTensor {
  std::string name;
  Shape shape;
};

/// What the file must hold for `name` [E, out, in]. per_expert: gate, up of expert 0, of expert 1, ..., or down of
/// each.
inline std::vector<ExpertTensor> expert_tensors(const std::string& name, const Shape& shape, ExpertForm form) {
  const std::int64_t e = shape[0], out = shape[1], in = shape[2];
  if (form == ExpertForm::fused) return {{name, shape}};
  if (form == ExpertForm::transposed) return {{name, Shape{e, in, out}}};
  if (form == ExpertForm::mxfp4)
    return {{name + "_blocks", Shape{e, out, in / 32, 16}}, {name + "_scales", Shape{e, out, in / 32}}};
  const bool gated = name.ends_with("gate_up_proj");
  const std::string path = name.substr(0, name.rfind('.') + 1);
  std::vector<ExpertTensor> list;
  for (std::int64_t i = 0; i < e; ++i)
    for (const char* map : {"gate_proj", "up_proj", "down_proj"})
      if (gated == (map[0] != 'd'))
        list.push_back({concat(path, i, ".", map, ".weight"), gated ? Shape{out / 2, in} : Shape{out, in}});
  return list;
}

inline void check_expert_tensor(const SafetensorsDirectory& files, const ExpertTensor& wanted, bool bytes) {
  const TensorInfo* t = files.find(wanted.name);
  require<FormatError>(t != nullptr, "[decoder] ", files.path(), ": tensor \"", wanted.name, "\" ", wanted.shape,
                       " is missing; config.json asks for it");
  if (bytes)
    require<FormatError>(t->dtype == DType::u8, "[decoder] ", t->text(), ": MXFP4 blocks and scales must be U8");
  else
    require<FormatError>(
        t->dtype == DType::f32 || t->dtype == DType::bf16 || t->dtype == DType::f16 || t->dtype == DType::f64,
        "[decoder] ", t->text(), ": weights must be F32, BF16, F16 or F64");
  require<FormatError>(t->extents.size() <= static_cast<std::size_t>(Shape::max_rank) && t->shape() == wanted.shape,
                       "[decoder] ", t->text(), ": config.json asks for ", wanted.shape);
}

/// Slice `index` of the first axis, as numbers.
template <class T>
std::vector<T> read_slice(const TensorInfo& t, std::int64_t index) {
  TensorInfo piece;
  piece.name = t.name;
  piece.dtype = t.dtype;
  piece.extents.assign(t.extents.begin() + 1, t.extents.end());
  piece.file = t.file;
  const std::size_t bytes = t.data.size() / t.extents[0];
  piece.data = t.data.subspan(static_cast<std::size_t>(index) * bytes, bytes);
  return read_as<T>(piece);
}

/// OCP microscaling FP4: byte b of a block of 32 holds values 2b (low nibble) and 2b + 1; value = E2M1 code * 2^(scale
/// - 127).
template <class T>
std::vector<T> decode_mxfp4_slice(const std::vector<std::uint8_t>& blocks, const std::vector<std::uint8_t>& scales,
                                  const std::string& where) {
  constexpr double codes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  std::vector<T> values(blocks.size() * 2);
  for (std::size_t s = 0; s < scales.size(); ++s) {
    require<FormatError>(scales[s] != 255, "[decoder] ", where, ": scale ", s, " is 255 (NaN)");
    T table[16];
    for (std::size_t c = 0; c < 16; ++c)
      table[c] = static_cast<T>(std::ldexp(c < 8 ? codes[c] : -codes[c - 8], scales[s] - 127));
    for (std::size_t b = 0; b < 16; ++b) {
      const std::uint8_t byte = blocks[s * 16 + b];
      values[s * 32 + 2 * b] = table[byte & 15];
      values[s * 32 + 2 * b + 1] = table[byte >> 4];
    }
  }
  return values;
}

/// Expert `e` of a packed parameter: [out, in].
template <class T>
std::vector<T> read_expert(const SafetensorsDirectory& files, const std::vector<ExpertTensor>& sources, ExpertForm form,
                           const Shape& shape, std::int64_t e) {
  const std::size_t out = static_cast<std::size_t>(shape[1]), in = static_cast<std::size_t>(shape[2]);
  if (form == ExpertForm::mxfp4)
    return decode_mxfp4_slice<T>(read_slice<std::uint8_t>(files.at(sources[0].name), e),
                                 read_slice<std::uint8_t>(files.at(sources[1].name), e), sources[1].name);
  if (form == ExpertForm::fused) return read_slice<T>(files.at(sources[0].name), e);
  std::vector<T> values;
  if (form == ExpertForm::per_expert) {
    const std::size_t each = sources.size() / static_cast<std::size_t>(shape[0]);
    for (std::size_t i = 0; i < each; ++i) {
      const std::vector<T> part = read_as<T>(files.at(sources[static_cast<std::size_t>(e) * each + i].name));
      values.insert(values.end(), part.begin(), part.end());
    }
    return values;
  }
  const std::vector<T> across = read_slice<T>(files.at(sources[0].name), e);
  values.resize(across.size());
  for (std::size_t i = 0; i < in; ++i)
    for (std::size_t o = 0; o < out; ++o) values[o * in + i] = across[i * out + o];
  return values;
}

/// Packed expert parameters and where their numbers stand in a file; made (and checked) before memory is taken.
template <class D, class T>
class ExpertReader {
 public:
  ExpertReader(const SafetensorsDirectory& files, const std::vector<Parameter<T, D>*>& parameters, Family family)
      : files_(files) {
    for (Parameter<T, D>* p : parameters) {
      if (!is_expert_tensor(p->name)) continue;
      const ExpertForm form = expert_form(files, p->name, family);
      const Shape& shape = p->value.shape();
      require<FormatError>(form != ExpertForm::mxfp4 || shape[2] % 32 == 0, "[decoder] ", files.path(), ": ", p->name,
                           ": rows of ", shape[2], " values do not divide into MXFP4 blocks of 32");
      items_.push_back({p, form, expert_tensors(p->name, shape, form)});
      for (const ExpertTensor& t : items_.back().sources) check_expert_tensor(files, t, form == ExpertForm::mxfp4);
    }
  }

  std::vector<Parameter<T, D>*> parameters() const {
    std::vector<Parameter<T, D>*> list;
    for (const Item& i : items_) list.push_back(i.parameter);
    return list;
  }
  void append_names(std::vector<std::string>& names) const {
    for (const Item& i : items_)
      for (const ExpertTensor& t : i.sources) names.push_back(t.name);
  }
  /// The parameters have memory.
  void read() const {
    std::vector<std::pair<const Item*, std::int64_t>> pieces;
    for (const Item& i : items_)
      for (std::int64_t e = 0; e < i.parameter->value[0]; ++e) pieces.emplace_back(&i, e);
    std::atomic<std::size_t> next{0};
    parallel_parts(thread_count(), [&](int, int) {
      for (std::size_t k = next.fetch_add(1); k < pieces.size(); k = next.fetch_add(1)) {
        const auto& [item, e] = pieces[k];
        const Shape& shape = item->parameter->value.shape();
        const std::vector<T> values = read_expert<T>(files_, item->sources, item->form, shape, e);
        Memory<D>::from_host(item->parameter->value.data() + e * shape[1] * shape[2], values.data(),
                             values.size() * sizeof(T));
      }
    });
  }

 private:
  struct Item {
    Parameter<T, D>* parameter;
    ExpertForm form;
    std::vector<ExpertTensor> sources;
  };
  const SafetensorsDirectory& files_;
  std::vector<Item> items_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
