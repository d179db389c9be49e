// SPDX-License-Identifier: Apache-2.0
// The forms in which safetensors hold the weights of experts: one tensor for each expert and map (Qwen), tensors of all
// experts (fused), the transposed form of gpt-oss, and MXFP4 blocks.
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

/// The part of a tensor's name between the path of a map and the name of the factor, for experts that share cores.
inline constexpr std::string_view core_marker = "_shared_core.";

/// True for names that end in .experts.gate_up_proj or .experts.down_proj, whose parameters are [E, out, in] in memory.
bool is_expert_tensor(std::string_view name);

/// True for the low-rank factors of experts that share cores, whose parameters are [E, width, rank] in memory.
bool is_core_factor(std::string_view name);

/// Returns the name that the factor [width, rank] of one expert has in a file.
std::string core_factor_name(const std::string& name, std::int64_t expert);

/// A tensor of the file, from which a parameter of all experts is made.
struct ExpertTensor {
  std::string name;
  Shape shape;
};

/// Returns the tensors that the file must hold for the parameter `name` [E, out, in]. In the form per_expert these are
/// gate and up of expert 0, of expert 1, and so on, or down of each expert.
std::vector<ExpertTensor> expert_tensors(const std::string& name, const Shape& shape, ExpertForm form);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/hf_experts_inl.hpp"
#endif

#endif
