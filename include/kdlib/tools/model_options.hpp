// SPDX-License-Identifier: Apache-2.0
// The options that name a model and a chat template for programs that do not train, and the loading of the model.
#ifndef KDLIB_TOOLS_MODEL_OPTIONS_HPP
#define KDLIB_TOOLS_MODEL_OPTIONS_HPP

#include <optional>
#include <string>

#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/tools/model_files.hpp"
#include "kdlib/tools/model_folders.hpp"
#include "kdlib/tools/options.hpp"
#include "kdlib/tools/session_types.hpp"

KDLIB_NAMESPACE_BEGIN

/// The values of --model, --adapter, --weights, --merge and, if a program offers them, --device and --dtype.
struct ModelOptions {
  std::string model, adapter, weights = "file", device = "cpu", dtype = "auto";
  bool merge = false;

  /// Adds the options. `servers`: true if the program can also ask servers, by --model URL[,URL...].
  void add_to(Options& options, bool servers = false);
  /// If --model is the folder of a run of distil, replaces it by the run's model and adapter (find_model). UsageError:
  /// an option would have no effect.
  void resolve(const Options& options);
};

/// Adds --device and --dtype, for programs that are compiled for ProgramTypes.
Options& add_type_options(Options& options, std::string& device, std::string& dtype);

/// Adds --template NAME|FILE.
Options& add_template_option(Options& options, std::string& target);

/// Loads the model and its adapter. Notes go to stderr. ConfigError: `tokenizer` has ids that the model lacks.
template <class Model>
Model load_model(const ModelOptions& o, const std::optional<Tokenizer>& tokenizer) {
  const WeightStorage storage = weight_storage(o.weights, o.merge), best = frozen_storage<typename Model::device_type>;
  auto model = Model::from_pretrained(
      o.model, {.trainable = false, .weights = best == WeightStorage::in_file ? storage : WeightStorage::decoded});
  show_notes(model.notes());
  if (tokenizer) {
    check_tokenizer_fits(*tokenizer, model.vocab_size());
    show_notes(end_token_notes(*tokenizer, model.vocab_size()));
  }
  if (!o.adapter.empty()) show_notes(o.merge ? apply_adapter(model, o.adapter) : load_adapter(model, o.adapter));
  return model;
}

/// Calls f(std::type_identity<Decoder<D, T>>{}) for the D and T of ProgramTypes that --device and --dtype name. The
/// dtype auto is float32 on the CPU and bfloat16 on CUDA.
template <class F>
void with_model_type(const std::string& program, const std::string& device, const std::string& dtype, F&& f) {
  ProgramTypes::with([&]<class... Types>() {
    return with_session_type<Types...>(program, device, dtype, [&](auto type) {
      using Type = decltype(type);
      f(std::type_identity<Decoder<typename Type::device_type, typename Type::scalar_type>>{});
      return 0;
    });
  });
}

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/model_options_inl.hpp"
#endif

#endif
