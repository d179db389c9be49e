// SPDX-License-Identifier: Apache-2.0
// Bodies of load_plan.hpp: chooses the format and compares the files with the weights of the model.
#ifndef KDLIB_CHECKPOINT_PLAN_LOAD_INL_HPP
#define KDLIB_CHECKPOINT_PLAN_LOAD_INL_HPP

#include <memory>

#include "kdlib/checkpoint/gguf_plan_inl.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/hf_plan_inl.hpp"
#include "kdlib/checkpoint/load_plan.hpp"
#include "kdlib/checkpoint/plan_builder_inl.hpp"
#include "kdlib/checkpoint/random_weights.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::string PlannedTensor::text(std::int64_t parameter_rows) const {
  switch (decoding) {
    case TensorDecoding::transposed:
      return "transposed experts";
    case TensorDecoding::mxfp4:
      return "MXFP4 codes";
    case TensorDecoding::mxfp4_scales:
      return "MXFP4 scales";
    case TensorDecoding::codes:
      return "packed";
    default:
      return rows.text(parameter_rows);
  }
}

KDLIB_FUNC void LoadPlan::check() const {
  if (problems.empty()) return;
  const std::size_t others = problems.size() - 1;
  fail<FormatError>("[decoder] ", problems[0].text,
                    others == 0 ? std::string()
                                : concat(" (and ", others, others == 1 ? " problem" : " problems", " more: `inspect ",
                                         path, " --tensors` lists them)"));
}

namespace detail {

/// Refuses a configuration that a seed cannot follow, and notes the seed.
KDLIB_FUNC void settle_random_weights(LoadPlan& plan) {
  require<FormatError>(!Json::parse(plan.config.source_json, plan.path).find_set("quantization_config"), "[decoder] ",
                       plan.path,
                       ": config.json names codes (quantization_config), and a seed makes numbers: remove "
                       "the key, or round the model with convert --quantize");
  const double range = plan.config.initializer_range;
  require<ConfigError>(range >= 0 && range <= 1e3, "[decoder] ", plan.path, ": initializer_range is ",
                       setting_text(range), "; random weights need one from 0 to 1000");
  plan.notes.push_back(concat(plan.path, " has no weights: they are random numbers of seed ", *plan.random_seed));
}

KDLIB_FUNC LoadPlan plan_files(const std::string& path, WeightSlotsOf* slots_of) {
  require<IoError>(path_exists(path), "[decoder] ", path,
                   ": there is no such file or directory; a Hugging Face directory or a GGUF file is needed");
  LoadPlan plan;
  plan.path = path;
  plan.directory = is_directory(path);
  PlanBuilder builder(plan);
  if (plan.directory) {
    require<IoError>(path_exists(join_path(path, "config.json")), "[decoder] ", path,
                     ": config.json is missing; a Hugging Face directory has one");
    plan.config = read_hf_config(path);
    plan.random_seed = random_weights_seed(path);
    if (plan.random_seed) return settle_random_weights(plan), plan;
    const auto files = std::make_shared<const SafetensorsDirectory>(path);
    plan.files = files;
    const std::string embedding = settle_tied_head(builder, plan, *files);
    settle_biases(plan, *files);
    const auto slots = slots_of(plan.config);
    plan_directory(plan, *files, builder, slots, embedding);
  } else {
    const auto file = std::make_shared<const GgufFile>(path);
    plan.files = file;
    plan.config = gguf_config(*file);
    settle_gguf_head(builder, plan, *file);
    const auto slots = slots_of(plan.config);
    plan_gguf(plan, *file, builder, slots);
  }
  builder.finish();
  return plan;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
