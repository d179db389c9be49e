// SPDX-License-Identifier: Apache-2.0
// Reads the files of a PEFT adapter: adapter_config.json as settings, and the tensors by their names.
#ifndef KDLIB_CHECKPOINT_PEFT_PARTS_HPP
#define KDLIB_CHECKPOINT_PEFT_PARTS_HPP

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/shape.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/model/decoder_config.hpp"
#include "kdlib/nn/lora.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The settings in an adapter_config.json.
struct PeftAdapter {
  std::string where;  // beginning of messages: "[load_adapter] <path of the file>"
  LoraSettings lora;
  std::string bias = "none";  // none, all or lora_only
  bool dora = false, lora_bias = false;
  std::vector<std::string> saved_modules;  // modules_to_save
  std::vector<std::string> parameters;     // target_parameters
};

/// Reads the settings. `where` is the beginning of messages, such as "[load_adapter] FILE". If the file names no
/// targets, they are q_proj and v_proj as in PEFT; a mixture of experts (`mixture`) has no such default. ConfigError
/// names the key: a kind of adapter that is not supported.
PeftAdapter parse_adapter_config(const Json& json, std::string where, bool mixture, std::vector<std::string>& notes);
/// Reads the settings from a file in the same way. IoError: the file is missing.
PeftAdapter read_adapter_config(const std::string& operation, const std::string& path, bool mixture,
                                std::vector<std::string>& notes);
/// ConfigError: the adapter is of a kind that apply_adapter() merges but load_adapter() does not train.
void require_trainable(const PeftAdapter& a);
/// Adds a note for each rank or alpha pattern that fits none of `paths`, the paths of the adapted modules. Without the
/// note, a misspelt pattern would silently leave its modules with the rank and scale of the others.
void note_unmatched_patterns(const PeftAdapter& adapter, const std::vector<std::string>& paths,
                             std::vector<std::string>& notes);
/// True if the adapter changes the embedding or the head.
bool touches_tied_head(const PeftAdapter& a);
/// Returns a short description such as "llama, 3 layers, width 64".
std::string model_text(const DecoderConfig& config);

/// The tensors in the file of an adapter, by the names that PEFT writes. Each tensor is to be taken once. A part
/// ".default" of a name (the adapter's name in memory) is dropped.
class AdapterTensors {
 public:
  AdapterTensors(const std::string& operation, const std::string& directory);

  bool holds(const std::string& name) const { return find(name) < stored_.size(); }
  /// Returns all values of the tensor of that name and shape. FormatError: the tensor is missing (the message says that
  /// `why` asks for it), has another shape or type, or holds NaN or infinity.
  template <class T>
  std::vector<T> take(const std::string& name, const Shape& shape, std::string_view why);
  /// FormatError: a tensor was not taken; the message names the first such tensor and `model`, a text such as "llama, 3
  /// layers".
  void require_all_taken(const std::string& model) const;
  std::vector<std::string> names() const;
  const std::string& path() const { return file_.path(); }

 private:
  struct Stored {
    std::string name;
    const TensorInfo* info;
    bool taken;
  };
  std::size_t find(const std::string& name) const;
  const TensorInfo& take_info(const std::string& name, const Shape& shape, std::string_view why);
  [[noreturn]] void refuse_value(const TensorInfo& t) const;

  std::string operation_;
  SafetensorsFile file_;
  std::vector<Stored> stored_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/peft_config_inl.hpp"
#include "kdlib/checkpoint/peft_tensors_inl.hpp"
#endif

#endif
