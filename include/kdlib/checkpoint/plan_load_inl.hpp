// SPDX-License-Identifier: Apache-2.0
// plan_load of load_plan.hpp: chooses the format and compares the files with the weights of the model.
#ifndef KDLIB_CHECKPOINT_PLAN_LOAD_INL_HPP
#define KDLIB_CHECKPOINT_PLAN_LOAD_INL_HPP

#include "kdlib/checkpoint/gguf_plan_inl.hpp"
#include "kdlib/checkpoint/hf_plan_inl.hpp"
#include "kdlib/checkpoint/random_weights.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Refuses a configuration that a seed cannot follow, and notes the seed.
inline void settle_random_weights(LoadPlan& plan) {
  require<FormatError>(!Json::parse(plan.config.source_json, plan.path).find_set("quantization_config"), "[decoder] ",
                       plan.path,
                       ": config.json names codes (quantization_config), and a seed makes numbers: remove "
                       "the key, or round the model with convert --quantize");
  const double range = plan.config.initializer_range;
  require<ConfigError>(range >= 0 && range <= 1e3, "[decoder] ", plan.path, ": initializer_range is ",
                       setting_text(range), "; random weights need one from 0 to 1000");
  plan.notes.push_back(concat(plan.path, " has no weights: they are random numbers of seed ", *plan.random_seed));
}

}  // namespace detail

template <class D, class T>
LoadPlan plan_load(const std::string& path) {
  require<IoError>(path_exists(path), "[decoder] ", path,
                   ": there is no such file or directory; a Hugging Face directory or a GGUF file is needed");
  LoadPlan plan;
  plan.path = path;
  plan.directory = is_directory(path);
  detail::PlanBuilder builder(plan);
  if (plan.directory) {
    require<IoError>(path_exists(join_path(path, "config.json")), "[decoder] ", path,
                     ": config.json is missing; a Hugging Face directory has one");
    plan.config = read_hf_config(path);
    plan.random_seed = random_weights_seed(path);
    if (plan.random_seed) return detail::settle_random_weights(plan), plan;
    const auto files = std::make_shared<const SafetensorsDirectory>(path);
    plan.files = files;
    const std::string embedding = detail::settle_tied_head(builder, plan, *files);
    detail::settle_biases(plan, *files);
    const auto slots = Decoder<D, T>::without_values(plan.config).weight_slots();
    detail::plan_directory(plan, *files, builder, slots, embedding);
  } else {
    const auto file = std::make_shared<const GgufFile>(path);
    plan.files = file;
    plan.config = gguf_config(*file);
    detail::settle_gguf_head(builder, plan, *file);
    const auto slots = Decoder<D, T>::without_values(plan.config).weight_slots();
    detail::plan_gguf(plan, *file, builder, slots);
  }
  builder.finish();
  return plan;
}

KDLIB_NAMESPACE_END

#endif
