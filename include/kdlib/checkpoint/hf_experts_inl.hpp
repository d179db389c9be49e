// SPDX-License-Identifier: Apache-2.0
// Packed expert tensors in safetensors: one tensor an expert and map (Qwen), fused, gpt-oss's transposed form, and
// MXFP4 blocks.
#ifndef KDLIB_CHECKPOINT_HF_EXPERTS_INL_HPP
#define KDLIB_CHECKPOINT_HF_EXPERTS_INL_HPP

#include <cmath>
#include <span>

#include "kdlib/io/safetensors.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

enum class ExpertForm { per_expert, fused, transposed, mxfp4 };

/// True for ....experts.gate_up_proj and ....experts.down_proj, [E, out, in] in memory.
inline bool is_expert_tensor(std::string_view name) {
  return name.ends_with(".experts.gate_up_proj") || name.ends_with(".experts.down_proj");
}

/// Between the path of a map and its tensors, of experts that share cores.
constexpr std::string_view core_marker = "_shared_core.";

/// True for low-rank factors of experts that share cores, [E, width, rank] in memory.
inline bool is_core_factor(std::string_view name) {
  return name.find(core_marker) != std::string_view::npos && !name.ends_with(".core");
}

/// The name of one expert's factor [width, rank] in a file.
inline std::string core_factor_name(const std::string& name, std::int64_t expert) {
  const std::size_t at = name.find(core_marker) + core_marker.size();
  return concat(name.substr(0, at), "experts.", expert, ".", name.substr(at));
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

/// OCP microscaling FP4: byte b of a block of 32 holds values 2b (low nibble) and 2b + 1; value = E2M1 code * 2^(scale
/// - 127).
template <class T>
std::vector<T> decode_mxfp4_slice(std::span<const std::byte> blocks, std::span<const std::byte> scale_bytes,
                                  const std::string& where) {
  const auto byte = [](std::byte b) { return std::to_integer<std::uint8_t>(b); };
  constexpr double codes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  std::vector<T> values(blocks.size() * 2);
  for (std::size_t s = 0; s < scale_bytes.size(); ++s) {
    const int scale = byte(scale_bytes[s]);
    require<FormatError>(scale != 255, "[decoder] ", where, ": scale ", s, " is 255 (NaN)");
    T table[16];
    for (std::size_t c = 0; c < 16; ++c)
      table[c] = static_cast<T>(std::ldexp(c < 8 ? codes[c] : -codes[c - 8], scale - 127));
    for (std::size_t b = 0; b < 16; ++b) {
      const std::uint8_t pair = byte(blocks[s * 16 + b]);
      values[s * 32 + 2 * b] = table[pair & 15];
      values[s * 32 + 2 * b + 1] = table[pair >> 4];
    }
  }
  return values;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
