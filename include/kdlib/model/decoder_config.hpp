// SPDX-License-Identifier: Apache-2.0
// The description of a decoder-only model: the numbers of config.json or of GGUF metadata under kdlib's names.
#ifndef KDLIB_MODEL_DECODER_CONFIG_HPP
#define KDLIB_MODEL_DECODER_CONFIG_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/core/error.hpp"
#include "kdlib/nn/experts.hpp"
#include "kdlib/nn/rope_table.hpp"

KDLIB_NAMESPACE_BEGIN

/// The published architectures that Decoder supports.
enum class Family { llama, qwen2, qwen3, qwen3_moe, qwen2_moe, gpt_oss, mistral, gemma2, gemma3 };
/// All families, in the order of the enumeration.
inline constexpr Family families[] = {Family::llama,     Family::qwen2,     Family::qwen3,
                                      Family::qwen3_moe, Family::qwen2_moe, Family::gpt_oss,
                                      Family::mistral,   Family::gemma2,    Family::gemma3};
const char* family_name(Family family);  // model_type of config.json

/// Which linear maps of the layers have a bias vector; each flag stands alone. ExpertSettings::biases is the flag of
/// experts.
struct BiasSettings {
  bool q = false, k = false, v = false, o = false;  // attention
  bool gate = false, up = false, down = false;      // the dense feed-forward part

  bool attention() const { return q || k || v || o; }
  bool feed_forward() const { return gate || up || down; }
  bool operator==(const BiasSettings&) const = default;
};
/// A flag of BiasSettings with the name of its map in Hugging Face's layers.
struct NamedBias {
  bool BiasSettings::*flag;
  const char* module;
};
inline constexpr NamedBias named_biases[] = {
    {&BiasSettings::q, "self_attn.q_proj"}, {&BiasSettings::k, "self_attn.k_proj"},
    {&BiasSettings::v, "self_attn.v_proj"}, {&BiasSettings::o, "self_attn.o_proj"},
    {&BiasSettings::gate, "mlp.gate_proj"}, {&BiasSettings::up, "mlp.up_proj"},
    {&BiasSettings::down, "mlp.down_proj"}};

/// The sizes and choices of a decoder, from any kind of file. docs/design.md defines H, I, V and L.
struct DecoderConfig {
  Family family = Family::llama;
  std::int64_t vocab_size = 0;         // rows of the embedding; may exceed the tokenizer's ids
  std::int64_t hidden_size = 0;        // H
  std::int64_t intermediate_size = 0;  // I
  std::int64_t layers = 0;
  std::int64_t query_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_size = 0;  // even; query_heads * head_size may differ from H
  double norm_epsilon = 1e-6;
  RopeSettings rope;
  std::optional<RopeSettings> sliding_rope;  // of layers that see a window (Gemma 3); empty: `rope`
  double query_scalar = 0;                   // scores are q.k / sqrt(query_scalar) (Gemma); 0: head_size
  double attention_softcap = 0;              // c > 0: scores s become c tanh(s / c) (Gemma 2); 0: no change
  double final_softcap = 0;                  // the same for the logits
  std::int64_t context_length = 2048;        // tokens the model was made for (not enforced)
  bool tied_head = false;                    // true if the head is the embedding
  BiasSettings biases;
  std::vector<std::int64_t> windows;  // [layers] number of keys a query sees, 0 = all; empty = all 0
  ExpertSettings moe;                 // of the sparse layers; moe.experts = 0: the model has none
  std::vector<std::uint8_t> sparse;   // [layers] 1 = the layer is a mixture of experts; empty = none is
  double initializer_range = 0.02;
  std::vector<std::int32_t> bos_ids, eos_ids;
  std::int32_t pad_id = -1;         // -1: none
  std::string dtype = "float32";    // of the stored weights: float32, bfloat16 or float16
  std::string source_json;          // config.json as it was read; unknown keys are written back
  std::string compression_json;     // compression_config as it was read (experts that share cores)
  bool compression_by_key = false;  // true if model_type is that of the plain mixture beside compression_config

  /// Gemma's norms multiply by 1 + weight and stand behind the attention and the feed-forward part, too; its embeddings
  /// are multiplied by sqrt(hidden_size); its gates use GELU.
  bool is_gemma() const { return family == Family::gemma2 || family == Family::gemma3; }
  bool head_norm() const { return family == Family::qwen3 || family == Family::qwen3_moe || family == Family::gemma3; }
  bool has_sinks() const { return family == Family::gpt_oss; }
  bool is_sparse(std::int64_t layer) const { return !sparse.empty() && sparse[static_cast<std::size_t>(layer)] != 0; }
  std::int64_t mixtures() const;  // number of sparse layers
  std::int64_t window(std::int64_t layer) const {
    return windows.empty() ? 0 : windows[static_cast<std::size_t>(layer)];
  }
  /// The largest window of any layer; 0 if all layers see all keys.
  std::int64_t widest_window() const {
    std::int64_t widest = 0;
    for (const std::int64_t w : windows) widest = w > widest ? w : widest;
    return widest;
  }
  /// Scores are q.k divided by the square root of this number.
  double score_divisor() const { return query_scalar > 0 ? query_scalar : static_cast<double>(head_size); }
  /// The factor by which q.k is multiplied.
  double attention_scale() const;
  std::int64_t parameter_count() const;
  /// Number of parameters that one token uses: of the experts only the active ones count.
  std::int64_t active_parameter_count() const;
  /// Throws ConfigError, which names `where`, the field and the rule, if a field is out of its range.
  void check(const std::string& where) const;

 private:
  std::int64_t count_parameters(std::int64_t experts) const;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/model/decoder_config_inl.hpp"
#endif

#endif
