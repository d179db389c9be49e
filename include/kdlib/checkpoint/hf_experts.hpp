// SPDX-License-Identifier: Apache-2.0
// Packed expert tensors in safetensors: one tensor an expert and map (Qwen), fused, gpt-oss's transposed form, and
// MXFP4 blocks.
#ifndef KDLIB_CHECKPOINT_HF_EXPERTS_HPP
#define KDLIB_CHECKPOINT_HF_EXPERTS_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"
#include "kdlib/core/shape.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

enum class ExpertForm { per_expert, fused, transposed, mxfp4 };

/// Between the path of a map and its tensors, of experts that share cores.
inline constexpr std::string_view core_marker = "_shared_core.";

/// True for ....experts.gate_up_proj and ....experts.down_proj, [E, out, in] in memory.
bool is_expert_tensor(std::string_view name);

/// True for low-rank factors of experts that share cores, [E, width, rank] in memory.
bool is_core_factor(std::string_view name);

/// The name of one expert's factor [width, rank] in a file.
std::string core_factor_name(const std::string& name, std::int64_t expert);

/// A tensor of the file that a packed parameter is made of.
struct ExpertTensor {
  std::string name;
  Shape shape;
};

/// What the file must hold for `name` [E, out, in]. per_expert: gate, up of expert 0, of expert 1, ..., or down of
/// each.
std::vector<ExpertTensor> expert_tensors(const std::string& name, const Shape& shape, ExpertForm form);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/hf_experts_inl.hpp"
#endif

#endif
