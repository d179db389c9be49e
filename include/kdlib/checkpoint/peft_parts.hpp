// SPDX-License-Identifier: Apache-2.0
// What the files of a PEFT adapter hold: adapter_config.json as settings, and the tensors by their names.
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

/// What an adapter_config.json asks for.
struct PeftAdapter {
  std::string where;  // "[load_adapter] <path of the file>"
  LoraSettings lora;
  std::string bias = "none";  // none, all or lora_only
  bool dora = false, lora_bias = false;
  std::vector<std::string> saved_modules;  // modules_to_save
  std::vector<std::string> parameters;     // target_parameters
};

/// `where` as in "[load_adapter] FILE". PEFT's default targets are those of dense families; mixtures have none.
PeftAdapter parse_adapter_config(const Json& json, std::string where, bool mixture, std::vector<std::string>& notes);
/// The same from a file. IoError: it is missing.
PeftAdapter read_adapter_config(const std::string& operation, const std::string& path, bool mixture,
                                std::vector<std::string>& notes);
/// Kinds that apply_adapter merges and load_adapter does not train.
void require_trainable(const PeftAdapter& a);
/// A misspelt pattern would silently leave its modules with the rank and scale of the others. `paths`: of the modules
/// that are adapted.
void note_unmatched_patterns(const PeftAdapter& adapter, const std::vector<std::string>& paths,
                             std::vector<std::string>& notes);
/// True where the embedding or the head alone is changed.
bool touches_tied_head(const PeftAdapter& a);
/// As in "llama, 3 layers, width 64".
std::string model_text(const DecoderConfig& config);

/// The tensors of an adapter's file by PEFT's names for a saved file, each to be taken once; an infix "default" (the
/// adapter's name in memory) is dropped.
class AdapterTensors {
 public:
  AdapterTensors(const std::string& operation, const std::string& directory);

  bool holds(const std::string& name) const { return find(name) < stored_.size(); }
  /// All values of a tensor of that name and shape. FormatError: it is missing (`why` asks for it), has another shape
  /// or type, or holds NaN or infinity.
  template <class T>
  std::vector<T> take(const std::string& name, const Shape& shape, std::string_view why);
  /// FormatError that names the first tensor nobody took; `model` as in "llama, 3 layers".
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
