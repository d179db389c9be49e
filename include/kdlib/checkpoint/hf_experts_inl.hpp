// SPDX-License-Identifier: Apache-2.0
// Bodies of hf_experts.hpp.
#ifndef KDLIB_CHECKPOINT_HF_EXPERTS_INL_HPP
#define KDLIB_CHECKPOINT_HF_EXPERTS_INL_HPP

#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC bool is_expert_tensor(std::string_view name) {
  return name.ends_with(".experts.gate_up_proj") || name.ends_with(".experts.down_proj");
}

KDLIB_FUNC bool is_core_factor(std::string_view name) {
  return name.find(core_marker) != std::string_view::npos && !name.ends_with(".core");
}

KDLIB_FUNC std::string core_factor_name(const std::string& name, std::int64_t expert) {
  const std::size_t at = name.find(core_marker) + core_marker.size();
  return concat(name.substr(0, at), "experts.", expert, ".", name.substr(at));
}

KDLIB_FUNC std::vector<ExpertTensor> expert_tensors(const std::string& name, const Shape& shape, ExpertForm form) {
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

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
