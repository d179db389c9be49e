// SPDX-License-Identifier: Apache-2.0
// Where the tensors of adapter_model.safetensors are (peft_parts.hpp).
#ifndef KDLIB_CHECKPOINT_PEFT_TENSORS_INL_HPP
#define KDLIB_CHECKPOINT_PEFT_TENSORS_INL_HPP

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/checkpoint/peft_parts.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string adapter_weights_path(const std::string& operation, const std::string& directory) {
  const std::string path = join_path(directory, "adapter_model.safetensors");
  require<ConfigError>(path_exists(path) || !path_exists(join_path(directory, "adapter_model.bin")), operation,
                       directory,
                       ": adapter_model.bin is a pickle, which is not read; save the adapter as safetensors");
  return path;
}

/// The name of a tensor without the adapter's name in memory.
KDLIB_FUNC std::string plain_adapter_name(std::string name) {
  for (const std::string_view part :
       {".lora_A", ".lora_B", ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector"})
    if (const std::size_t at = name.find(concat(part, ".default")); at != std::string::npos)
      name.erase(at + part.size(), 8);
  constexpr std::string_view saved = ".modules_to_save.default";
  if (const std::size_t at = name.find(saved); at != std::string::npos) name.erase(at, saved.size());
  return name;
}

KDLIB_FUNC AdapterTensors::AdapterTensors(const std::string& operation, const std::string& directory)
    : operation_(operation), file_(adapter_weights_path(operation, directory)) {
  for (const TensorInfo& t : file_.tensors()) stored_.push_back({plain_adapter_name(t.name), &t, false});
  std::sort(stored_.begin(), stored_.end(), [](const Stored& a, const Stored& b) { return a.name < b.name; });
}

KDLIB_FUNC const TensorInfo& AdapterTensors::take_info(const std::string& name, const Shape& shape,
                                                       std::string_view why) {
  const std::size_t at = find(name);
  require<FormatError>(at < stored_.size(), operation_, file_.path(), ": tensor \"", name, "\" ", shape,
                       " is missing; ", why, " asks for it");
  const TensorInfo& t = *stored_[at].info;
  require<FormatError>(
      t.dtype == DType::f32 || t.dtype == DType::bf16 || t.dtype == DType::f16 || t.dtype == DType::f64, operation_,
      t.text(), ": tensors of adapters must be F32, BF16, F16 or F64");
  require<FormatError>(t.extents.size() == static_cast<std::size_t>(shape.rank()) && t.shape() == shape, operation_,
                       t.text(), ": rank and base model ask for ", shape, "; is the adapter for another model?");
  stored_[at].taken = true;
  return t;
}

KDLIB_FUNC void AdapterTensors::refuse_value(const TensorInfo& t) const {
  fail<FormatError>(operation_, t.text(), ": holds a value that is not finite");
}

KDLIB_FUNC void AdapterTensors::require_all_taken(const std::string& model) const {
  for (const Stored& s : stored_)
    require<FormatError>(s.taken, operation_, s.info->text(), ": belongs to no module of the model (", model,
                         ") that adapter_config.json targets, or to a kind of adapter that is not supported");
}

KDLIB_FUNC std::vector<std::string> AdapterTensors::names() const {
  std::vector<std::string> list;
  for (const Stored& s : stored_) list.push_back(s.name);
  return list;
}

KDLIB_FUNC std::size_t AdapterTensors::find(const std::string& name) const {
  const auto found = std::lower_bound(stored_.begin(), stored_.end(), name,
                                      [](const Stored& s, const std::string& n) { return s.name < n; });
  return found != stored_.end() && found->name == name ? static_cast<std::size_t>(found - stored_.begin())
                                                       : stored_.size();
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
