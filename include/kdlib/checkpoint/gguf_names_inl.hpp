// SPDX-License-Identifier: Apache-2.0
// Bodies of gguf_names.hpp.
#ifndef KDLIB_CHECKPOINT_GGUF_NAMES_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_NAMES_INL_HPP

#include <initializer_list>
#include <string_view>

#include "kdlib/checkpoint/gguf_names.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC const char* gguf_architecture(Family family) {
  switch (family) {
    case Family::qwen2:
      return "qwen2";
    case Family::qwen3:
      return "qwen3";
    case Family::qwen2_moe:
      return "qwen2moe";
    case Family::qwen3_moe:
      return "qwen3moe";
    case Family::gpt_oss:
      return "gpt-oss";
    case Family::gemma2:
      return "gemma2";
    case Family::gemma3:
      return "gemma3";
    default:  // Mistral's files are of architecture llama
      return "llama";
  }
}

KDLIB_FUNC bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> endings) {
  for (const std::string_view e : endings)
    if (name.ends_with(e)) return true;
  return false;
}

/// model.layers.3.self_attn.q_proj.weight -> blk.3.attn_q.weight. Packed gate_up tensors of experts are two tensors:
/// gguf_parts().
KDLIB_FUNC std::string gguf_tensor_name(const std::string& name, Family family) {
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  if (name == "lm_head.weight") return "output.weight";
  constexpr std::string_view prefix = "model.layers.";
  const std::size_t dot = name.find('.', prefix.size());
  const std::string number = name.substr(prefix.size(), dot - prefix.size()), rest = name.substr(dot + 1);
  const bool behind = family == Family::gpt_oss || family == Family::gemma2 || family == Family::gemma3;
  const char* post_norm = behind ? "post_attention_norm." : "ffn_norm.";
  const std::string_view pairs[][2] = {{"input_layernorm.", "attn_norm."},
                                       {"self_attn.q_proj.", "attn_q."},
                                       {"self_attn.k_proj.", "attn_k."},
                                       {"self_attn.v_proj.", "attn_v."},
                                       {"self_attn.o_proj.", "attn_output."},
                                       {"self_attn.q_norm.", "attn_q_norm."},
                                       {"self_attn.k_norm.", "attn_k_norm."},
                                       {"self_attn.sinks", "attn_sinks.weight"},
                                       {"post_attention_layernorm.", post_norm},
                                       {"pre_feedforward_layernorm.", "ffn_norm."},
                                       {"post_feedforward_layernorm.", "post_ffw_norm."},
                                       {"mlp.gate_proj.", "ffn_gate."},
                                       {"mlp.up_proj.", "ffn_up."},
                                       {"mlp.down_proj.", "ffn_down."},
                                       {"mlp.gate.", "ffn_gate_inp."},
                                       {"mlp.router.", "ffn_gate_inp."},
                                       {"mlp.shared_expert_gate.", "ffn_gate_inp_shexp."},
                                       {"mlp.shared_expert.gate_proj.", "ffn_gate_shexp."},
                                       {"mlp.shared_expert.up_proj.", "ffn_up_shexp."},
                                       {"mlp.shared_expert.down_proj.", "ffn_down_shexp."},
                                       {"mlp.experts.down_proj_bias", "ffn_down_exps.bias"},
                                       {"mlp.experts.down_proj", "ffn_down_exps.weight"}};
  for (const auto& pair : pairs)
    if (rest.starts_with(pair[0])) return concat("blk.", number, ".", pair[1], rest.substr(pair[0].size()));
  return name;
}

KDLIB_FUNC std::vector<GgufPart> gguf_parts(const std::string& name, const Shape& shape, const DecoderConfig& config) {
  GgufPart part;
  part.shape = shape;
  const bool bias = name.ends_with(".experts.gate_up_proj_bias") || name.ends_with(".experts.down_proj_bias");
  part.width = shape.rank() == 1 || bias ? 1 : shape[shape.rank() - 1];
  part.rows = shape.count() / part.width;
  if (name.ends_with(".experts.gate_up_proj") || name.ends_with(".experts.gate_up_proj_bias")) {
    const std::string path = name.substr(0, name.find(".mlp.")), ending = bias ? "_exps.bias" : "_exps.weight";
    const std::string layer = "blk." + path.substr(path.rfind('.') + 1);
    const bool alternate =
        config.family == Family::gpt_oss;  // gate and up row by row; else all of gate, then all of up
    part.group = shape[1];
    part.rows /= 2;
    part.shape = bias ? Shape{shape[0], shape[1] / 2} : Shape{shape[0], shape[1] / 2, shape[2]};
    part.step = alternate ? 2 : 1;
    part.name = layer + ".ffn_gate" + ending;
    GgufPart up = part;
    up.first = alternate ? 1 : shape[1] / 2;
    up.name = layer + ".ffn_up" + ending;
    return {part, up};
  }
  part.name = gguf_tensor_name(name, config.family);
  if (name.ends_with(".shared_expert_gate.weight")) part.shape = Shape{shape[1]};  // [1, H] is stored as [H]
  if (config.is_gemma() && name.ends_with("norm.weight")) part.added = 1;
  if ((config.family == Family::llama || config.family == Family::mistral) &&
      ends_with_any(name, {".q_proj.weight", ".q_proj.bias", ".k_proj.weight", ".k_proj.bias"}))
    part.head = config.head_size;
  return {part};
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
