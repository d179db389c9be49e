// SPDX-License-Identifier: Apache-2.0
// Bodies of gguf_adapter_file.hpp.
#ifndef KDLIB_CHECKPOINT_GGUF_ADAPTER_FILE_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_ADAPTER_FILE_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/gguf_adapter.hpp"
#include "kdlib/checkpoint/gguf_adapter_file.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/quant/gguf_blocks.hpp"
#include "kdlib/quant/gguf_encode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC GgufAdapterFile::GgufAdapterFile(std::string operation, const std::string& path, const DecoderConfig& config)
    : operation_(std::move(operation)), file_(path), config_(config) {
  check_keys();
  for (const GgufTensor& t : file_.tensors()) {
    const bool a = t.name.ends_with(".lora_a");
    require<FormatError>(a || t.name.ends_with(".lora_b"), operation_, file_.path(), ": tensor ", t.text(),
                         " is no factor of a LoRA adapter (.lora_a, .lora_b)");
    const std::string name = t.name.substr(0, t.name.size() - 7);
    const std::size_t at = place(name);
    if (at == pairs_.size() || pairs_[at].name != name)
      pairs_.insert(pairs_.begin() + static_cast<std::ptrdiff_t>(at), Pair{name, nullptr, nullptr, false});
    (a ? pairs_[at].a : pairs_[at].b) = &t;
  }
  for (const Pair& pair : pairs_)
    require<FormatError>(pair.a != nullptr && pair.b != nullptr, operation_, file_.path(), ": tensor \"", pair.name,
                         pair.a == nullptr ? ".lora_a" : ".lora_b", "\" is missing beside its partner");
}

KDLIB_FUNC std::size_t GgufAdapterFile::place(const std::string& name) const {
  const auto found = std::lower_bound(pairs_.begin(), pairs_.end(), name,
                                      [](const Pair& p, const std::string& n) { return p.name < n; });
  return static_cast<std::size_t>(found - pairs_.begin());
}

KDLIB_FUNC bool GgufAdapterFile::holds(const std::string& tensor) const {
  const std::size_t at = place(tensor);
  return at < pairs_.size() && pairs_[at].name == tensor;
}

KDLIB_FUNC GgufAdapterFile::Found GgufAdapterFile::find(const GgufPart& part) {
  Pair& pair = pairs_.at(place(part.name));
  pair.taken = true;
  const bool stacked = part.shape.rank() == 3;
  const Shape matrix =
      stacked ? Shape{part.shape[1], part.shape[2]} : (part.shape.rank() == 1 ? Shape{1, part.shape[0]} : part.shape);
  const std::int64_t rank = pair.a->shape.rank() < 2 ? 1 : pair.a->shape[pair.a->shape.rank() - 2];
  const auto full = [&](std::int64_t rows, std::int64_t columns) {
    return stacked ? Shape{part.shape[0], rows, columns} : Shape{rows, columns};
  };
  check_shape(*pair.a, full(rank, matrix[1]), part);
  check_shape(*pair.b, full(matrix[0], rank), part);
  return {pair.a, pair.b, rank, matrix[0], matrix[1]};
}

KDLIB_FUNC void GgufAdapterFile::require_all_taken(const std::string& model) const {
  for (const Pair& pair : pairs_)
    require<FormatError>(pair.taken, operation_, file_.path_of(*pair.a), ": tensor ", pair.a->text(), ": LoRA on ",
                         pair.name, " has no place in the model (", model, ") or is not supported");
}

KDLIB_FUNC void GgufAdapterFile::check_keys() {
  const auto is = [&](const char* key, std::string_view wanted) {
    const std::string_view value = file_.at(key).as_string();
    require<ConfigError>(value == wanted, operation_, file_.path(), ": ", key, " is \"", printable(value),
                         "\"; an adapter for this model has \"", wanted, "\"");
  };
  is("general.type", "adapter");
  is("adapter.type", "lora");
  is("general.architecture", gguf_architecture(config_.family));
  alpha_ = file_.double_or("adapter.lora.alpha", 0);
  require<ConfigError>(std::isfinite(alpha_), operation_, file_.path(), ": adapter.lora.alpha is not finite");
  require<ConfigError>(file_.find("adapter.alora.invocation_tokens") == nullptr, operation_, file_.path(),
                       ": adapter.alora.invocation_tokens (an activated adapter) is not supported");
}

KDLIB_FUNC void GgufAdapterFile::check_shape(const GgufTensor& t, const Shape& wanted, const GgufPart& part) const {
  require<FormatError>(t.shape == wanted, operation_, file_.path_of(t), ": ", t.text(), ": ", wanted,
                       " is needed beside ", part.name, " ", part.shape, "; is the adapter for another model?");
  require<FormatError>(can_decode(t.type), operation_, file_.path_of(t), ": ", t.text(),
                       ": this element type is not decoded");
}

KDLIB_FUNC void GgufAdapterFile::refuse_value(const GgufTensor& t) const {
  fail<FormatError>(operation_, file_.path_of(t), ": ", t.text(), ": holds a value that is not finite");
}

/// The alpha of most maps of an adapter.
KDLIB_FUNC double common_gguf_alpha(const std::vector<GgufAdaptedMap>& maps) {
  double best = 0;
  std::ptrdiff_t most = 0;
  for (const GgufAdaptedMap& m : maps) {
    const auto n = std::count_if(maps.begin(), maps.end(), [&](const GgufAdaptedMap& o) { return o.alpha == m.alpha; });
    if (n > most) most = n, best = m.alpha;
  }
  return best;
}

KDLIB_FUNC std::vector<std::string> write_gguf_adapter(const std::string& path, Family family,
                                                       const GgufAdapterSettings& settings,
                                                       const std::vector<GgufAdaptedMap>& maps) {
  const std::string& d = settings.dtype;
  require<ConfigError>(d == "float32" || d == "bfloat16" || d == "float16", "[save_gguf_adapter] dtype ", d,
                       " is not supported; it can be float32, bfloat16 or float16");
  const GgufType type = d == "float32" ? GgufType::f32 : (d == "float16" ? GgufType::f16 : GgufType::bf16);
  const double alpha = common_gguf_alpha(maps);
  std::vector<std::string> notes;
  GgufWriter writer(path);
  writer.string("general.architecture", gguf_architecture(family)).string("general.type", "adapter");
  if (!settings.name.empty()) writer.string("general.name", settings.name);
  writer.u32("general.file_type", type == GgufType::f32 ? 0 : (type == GgufType::f16 ? 1 : 32))
      .u32("general.quantization_version", 2)
      .string("adapter.type", "lora")
      .f32("adapter.lora.alpha", static_cast<float>(alpha));
  const double stored_alpha = static_cast<double>(static_cast<float>(alpha));
  const auto write = [type](AtomicFile& file, const std::vector<float>& values) {
    std::vector<std::byte> bytes(values.size() * block_bytes(type));
    encode_row(type, values.data(), bytes.data(), values.size());
    file.write(bytes.data(), bytes.size());
  };
  for (const GgufAdaptedMap& m : maps) {
    const double factor = m.alpha == alpha || stored_alpha == 0 ? 1 : m.alpha / stored_alpha;
    if (m.alpha != alpha)
      notes.push_back(concat(m.part.name, ".lora_b is multiplied by ", factor, ": its alpha is ", m.alpha,
                             ", and the file has one alpha, ", alpha));
    writer.add_from(m.part.name + ".lora_a", type, m.a, [&m, write](AtomicFile& file) { write(file, m.a_values()); });
    writer.add_from(m.part.name + ".lora_b", type, m.b,
                    [&m, write, factor](AtomicFile& file) { write(file, m.b_values(factor)); });
  }
  writer.commit();
  return notes;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
