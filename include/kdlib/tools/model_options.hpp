// SPDX-License-Identifier: Apache-2.0
// The options with which programs that train nothing are told a model and a chat template, and how they load it.
#ifndef KDLIB_TOOLS_MODEL_OPTIONS_HPP
#define KDLIB_TOOLS_MODEL_OPTIONS_HPP

#include <optional>
#include <string>

#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/tools/model_files.hpp"
#include "kdlib/tools/model_folders.hpp"
#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

/// --model, --adapter, --weights and --merge.
struct ModelOptions {
  std::string model, adapter, weights = "file";
  bool merge = false;

  void add_to(Options& options);
  /// Where --model is the folder of a run of distil: its model and adapter (find_model). UsageError for options that
  /// nothing would read.
  void resolve(const Options& options);
};

/// --template NAME|FILE.
Options& add_template_option(Options& options, std::string& target);

/// The model with its adapter; notes go to stderr. ConfigError where `tokenizer` has ids that the model lacks.
template <class Model>
Model load_model(const ModelOptions& o, const std::optional<Tokenizer>& tokenizer) {
  auto model = Model::from_pretrained(o.model, {.trainable = false, .weights = weight_storage(o.weights, o.merge)});
  show_notes(model.notes());
  if (tokenizer) check_tokenizer_fits(*tokenizer, model.vocab_size());
  if (!o.adapter.empty()) show_notes(o.merge ? apply_adapter(model, o.adapter) : load_adapter(model, o.adapter));
  return model;
}

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/model_options_inl.hpp"
#endif

#endif
