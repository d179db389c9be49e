// SPDX-License-Identifier: Apache-2.0
// Bodies of start_request.hpp.
#ifndef KDLIB_TOOLS_SERVICE_START_REQUEST_INL_HPP
#define KDLIB_TOOLS_SERVICE_START_REQUEST_INL_HPP

#include <algorithm>
#include <cstdlib>

#include "kdlib/core/fields.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/tools/service/start_request.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// A field that is one flag.
struct FieldFlag {
  const char *field, *flag;
};
inline constexpr FieldFlag field_flags[] = {{"teacher_model_path", "teacher"},
                                            {"base_model_path", "student"},
                                            {"student_adapter_path", "student-adapter"},
                                            {"validation_prompts_path", "prompts"},
                                            {"model_path", "student"},
                                            {"data_path", "data"},
                                            {"max_prompts", "max-prompts"},
                                            {"num_steps", "steps"},
                                            {"batch_size", "batch"},
                                            {"gradient_accumulation_steps", "micro-batches"},
                                            {"learning_rate", "learning-rate"},
                                            {"temperature", "temperature"},
                                            {"seed", "seed"},
                                            {"max_generation_tokens", "max-new-tokens"},
                                            {"generation_temperature", "sample-temperature"},
                                            {"checkpoint_every", "save-every"},
                                            {"eval_every", "evaluate-every"}};

KDLIB_TOOLS_FUNC std::vector<ApiField> shared_fields() {
  using T = FieldType;
  return {{"num_steps", T::integer, "optimiser steps (--steps)", false, 1, 1000000000},
          {"batch_size", T::integer, "sequences of a micro-batch (--batch)", false, 1, 1000000},
          {"gradient_accumulation_steps", T::integer, "micro-batches of a step (--micro-batches)", false, 1, 1000000},
          {"learning_rate", T::number, "peak rate (--learning-rate); above 0", false, 0, 1000},
          {"seed", T::integer, "seed of every random number (--seed)", false, 0, 2147483647},
          {"checkpoint_every", T::integer, "checkpoint every N steps (--save-every); 0: only at the end", false, 0,
           1000000000},
          {"eval_every", T::integer, "held-out evaluation every N steps (--evaluate-every); 0: before and after", false,
           0, 1000000000},
          {"save_best_only", T::boolean, "true: export the best state (--save best)"},
          {"mixed_precision", T::boolean, "read and not used: the scalar type is --dtype auto"},
          {"run_id", T::name, "the run's name (default: distil_YYYYMMDD_HHMMSS)"},
          {"session_id", T::name, "the caller's own mark, given back"},
          {"preset",
           T::text,
           "a set of defaults (GET /presets)",
           false,
           {},
           {},
           {"fast", "quality", "lean", "fast_iteration", "high_quality", "memory_efficient"}},
          {"settings", T::settings, "any settings of distil; one that a field says already is refused"},
          {"device", T::name, "where it runs; one of serve's --device"},
          {"label", T::text, "free text for lists", false, {}, {}, {}, 200},
          {"tags", T::texts, "words to filter by", false, {}, 16}};
}

/// Weights of the two terms as an expression of --loss.
KDLIB_TOOLS_FUNC std::string weighted_loss(const Json& body) {
  double kl = body.double_or("kl_weight", -1), ce = body.double_or("ce_weight", -1);
  if (kl < 0) kl = 0.8;
  if (ce < 0) ce = 0.2;
  if (kl == 0 && ce == 0)
    throw ServiceProblem(422, "kl_weight and ce_weight are both 0: nothing would be trained",
                         {{"kl_weight", "is 0, and ce_weight, too"}});
  std::string out;
  if (kl > 0) out = shortest_number_text(kl) + " reverse_kl";
  if (ce > 0) out += (out.empty() ? "" : " + ") + shortest_number_text(ce) + " cross_entropy";
  return out;
}

KDLIB_TOOLS_FUNC bool has_flag(const std::vector<std::string>& words, std::string_view flag) {
  const std::string begin = "--" + std::string(flag) + "=";
  return std::any_of(words.begin(), words.end(),
                     [&](const std::string& w) { return w.compare(0, begin.size(), begin) == 0; });
}

KDLIB_TOOLS_FUNC std::string flag_value(const std::vector<std::string>& words, std::string_view flag) {
  const std::string begin = "--" + std::string(flag) + "=";
  for (const std::string& w : words)
    if (w.compare(0, begin.size(), begin) == 0) return w.substr(begin.size());
  return {};
}

/// The checked words of one flag.
KDLIB_TOOLS_FUNC void add_words(std::vector<std::string>& words, const FlagRule& rule, const Json& value,
                                const StartContext& context, const std::string& field) {
  for (std::string word : FlagTable::words(rule, value)) {
    const bool file = rule.is_path() || (rule.value_name == "NAME|FILE" && word.find('/') != std::string::npos);
    try {
      if (file && !word.empty()) word = context.roots.checked(word);
    } catch (const ServiceProblem& problem) {
      throw ServiceProblem(problem.status(), concat(field, ": ", problem.what()), {{field, problem.what()}});
    }
    words.push_back("--" + rule.name + "=" + word);
  }
}

/// Refuses a flag that two parts of a request say.
KDLIB_TOOLS_FUNC void add_unless_said(std::vector<std::string>& words, const std::string& flag,
                                      const std::string& value, const char* field) {
  if (has_flag(words, flag))
    throw ServiceProblem(422, concat("--", flag, " is said twice: by ", field, " and by settings.", flag),
                         {{field, "says what settings." + flag + " says"}});
  words.push_back("--" + flag + "=" + value);
}

KDLIB_TOOLS_FUNC void add_cache_words(std::vector<std::string>& words, const Json& body, const StartContext& context) {
  const bool has_folder = body.contains("cache_dir");
  if (!body.contains("use_cache") && !has_folder) return;
  if (!body.bool_or("use_cache", true)) return words.push_back("--teacher-cache=off");
  // Caches are written, so that they lie below the runs and nowhere else.
  const std::string place = join_path(context.runs, ".service/caches/" + body.string_or("cache_dir", "answers"));
  words.push_back("--teacher-cache=" + place);
}

KDLIB_TOOLS_FUNC const ServicePreset* find_preset(std::string_view name) {
  for (const ServicePreset& preset : service_presets())
    if (name == preset.name) return &preset;
  return nullptr;
}

}  // namespace detail

KDLIB_TOOLS_FUNC const std::vector<ServicePreset>& service_presets() {
  static const std::vector<ServicePreset> presets = {
      {"fast", "distil's own defaults", "{}", true},
      {"quality", "more steps, finer groups, often measured", "{}", true},
      {"lean", "small micro-batches and recomputed activations: less memory, the same gradient", "{}", true},
      {"fast_iteration", "a first look in minutes: few prompts, short answers",
       R"({"steps":50,"batch":4,"micro-batches":1,"max-prompts":100,
         "max-new-tokens":64,"evaluate-every":25,"save-every":25})",
       false},
      {"high_quality", "on-policy, long, small rate",
       R"({"steps":1000,"batch":4,"micro-batches":4,"learning-rate":0.0001,"lambda":1,"loss":["reverse_kl"],
         "max-new-tokens":256,"evaluate-every":100,"save-every":100,"save":"best"})",
       false},
      {"memory_efficient", "one sequence at a time, activations recomputed",
       R"({"batch":1,"micro-batches":8,"recompute":true,"workspace":32})", false}};
  return presets;
}

KDLIB_TOOLS_FUNC const std::vector<ApiField>& distil_fields() {
  using T = FieldType;
  static const std::vector<ApiField> fields = [] {
    std::vector<ApiField> out = {
        {"teacher_model_path", T::path, "the frozen teacher: a folder or GGUF file in an allowed root", true},
        {"validation_prompts_path", T::path,
         "prompts, JSON lines; a fifth of them is held out unless settings say otherwise", true},
        {"base_model_path", T::path, "the student (absent: a copy of the teacher)"},
        {"student_adapter_path", T::path, "adapter that the student starts from"},
        {"max_prompts", T::integer, "use the first N prompts alone; 0: all", false, 0, 1000000000},
        {"kl_weight", T::number, "weight of the reverse KL in the loss (0.8 if only ce_weight is given)", false, 0,
         1000000},
        {"ce_weight", T::number, "weight of the cross-entropy in the loss (0.2 if only kl_weight is given)", false, 0,
         1000000},
        {"use_teacher_targets", T::boolean,
         "true: the teacher writes the text (--lambda 0); false: the student (--lambda 1)"},
        {"temperature", T::number, "of the divergence; above 0", false, 0, 1000},
        {"max_generation_tokens", T::integer, "longest answer", false, 1, 1000000},
        {"generation_temperature", T::number, "of the sampler; 0: greedy", false, 0, 1000},
        {"use_cache", T::boolean, "keep the teacher's answers for other runs"},
        {"cache_dir", T::name, "name of a cache below the runs (default: answers)"},
        {"keep_teacher_loaded", T::boolean,
         "false, which is how it is: the teacher is in memory as long as its run, whose every step needs it"}};
    for (ApiField& f : detail::shared_fields()) out.push_back(std::move(f));
    return out;
  }();
  return fields;
}

KDLIB_TOOLS_FUNC const std::vector<ApiField>& fine_tune_fields() {
  using T = FieldType;
  static const std::vector<ApiField> fields = [] {
    std::vector<ApiField> out = {
        {"model_path", T::path, "the model that learns: a folder in an allowed root", true},
        {"data_path", T::path, "given text, JSON lines; a tenth is held out unless settings say otherwise", true}};
    for (ApiField& f : detail::shared_fields()) out.push_back(std::move(f));
    return out;
  }();
  return fields;
}

KDLIB_TOOLS_FUNC std::vector<std::string> setting_words(const Json& settings, const StartContext& context,
                                                        const std::string& field) {
  std::vector<std::string> words;
  for (const auto& [key, value] : settings.members())
    detail::add_words(words, *context.flags.find(key), value, context, field + "." + std::string(key));
  return words;
}

namespace detail {

KDLIB_TOOLS_FUNC void add_field_words(std::vector<std::string>& words, const Json& body, const StartContext& context) {
  for (const FieldFlag& pair : field_flags) {
    const auto value = body.find(pair.field);
    if (!value) continue;
    const FlagRule* rule = context.flags.find(pair.flag);
    if (rule == nullptr)
      throw ServiceProblem(422, concat(pair.field, ": this distil has no --", pair.flag),
                           {{pair.field, "is not known to this distil"}});
    if (rule->above && value->as_double() <= *rule->above)
      throw ServiceProblem(422, concat(pair.field, " must be above ", shortest_number_text(*rule->above)),
                           {{pair.field, "is too small"}});
    std::vector<std::string> one;
    add_words(one, *rule, *value, context, pair.field);
    for (const std::string& word : one) {
      const std::size_t equals = word.find('=');
      add_unless_said(words, word.substr(2, equals - 2), word.substr(equals + 1), pair.field);
    }
  }
}

/// What a preset says and nothing else has said yet.
KDLIB_TOOLS_FUNC void add_preset_words(std::vector<std::string>& words, RunRecord& record,
                                       const StartContext& context) {
  if (record.preset.empty()) return;
  const ServicePreset& preset = *find_preset(record.preset);
  if (preset.of_distil) return words.push_back("--preset=" + record.preset);
  const Json settings = Json::parse(preset.settings, record.preset);
  for (const auto& [key, value] : settings.members()) {
    const bool alone = record.kind == "fine_tune" && (key == "lambda" || key == "loss" || key == "max-prompts");
    if (!alone && !has_flag(words, key) && context.flags.find(key) != nullptr)
      add_words(words, *context.flags.find(key), value, context, "preset");
  }
}

KDLIB_TOOLS_FUNC void add_derived_words(std::vector<std::string>& words, RunRecord& record, const Json& body,
                                        const StartContext& context, bool fine_tune) {
  if (fine_tune) add_unless_said(words, "loss", "cross_entropy", "fine_tune");
  else if (body.contains("kl_weight") || body.contains("ce_weight"))
    add_unless_said(words, "loss", weighted_loss(body), "kl_weight");
  if (const auto own = body.find("use_teacher_targets"))
    add_unless_said(words, "lambda", own->as_bool() ? "0" : "1", "use_teacher_targets");
  if (const auto best = body.find("save_best_only"))
    add_unless_said(words, "save", best->as_bool() ? "best" : "last", "save_best_only");
  add_cache_words(words, body, context);
  if (!has_flag(words, "validation") && !has_flag(words, "validation-share") && !has_flag(words, "validation-cache"))
    words.push_back(fine_tune ? "--validation-share=0.1" : "--validation-share=0.2");
  if (body.contains("mixed_precision"))
    record.warnings.push_back("mixed_precision is not used: the scalar type is --dtype auto");
  if (body.bool_or("keep_teacher_loaded", false))
    record.warnings.push_back("keep_teacher_loaded is not used: a teacher is unloaded with its run");
}

}  // namespace detail

KDLIB_TOOLS_FUNC RunRecord read_start(const Json& body, const StartContext& context, bool fine_tune) {
  RunRecord r;
  r.kind = fine_tune ? "fine_tune" : "distil";
  r.id = body.string_or("run_id", "");
  if (!r.id.empty() && r.id[0] == '.')
    throw ServiceProblem(422, "run_id begins with a dot", {{"run_id", "begins with a dot"}});
  r.session = body.string_or("session_id", "");
  r.label = body.string_or("label", "");
  r.preset = body.string_or("preset", "");
  if (const auto tags = body.find("tags"))
    for (const Json& tag : *tags) r.tags.emplace_back(tag.as_string());
  std::vector<std::string>& words = r.arguments;
  if (const auto settings = body.find("settings")) words = setting_words(*settings, context, "settings");
  detail::add_field_words(words, body, context);
  r.device = body.string_or("device", context.settings.devices[0]);
  if (std::find(context.settings.devices.begin(), context.settings.devices.end(), r.device) ==
      context.settings.devices.end())
    throw ServiceProblem(422, "device '" + r.device + "' is none of this service's", {{"device", "is not there"}});
  detail::add_derived_words(words, r, body, context, fine_tune);
  detail::add_preset_words(words, r, context);
  words.push_back("--device=" + r.device);
  r.teacher = detail::flag_value(words, "teacher");
  r.student = detail::flag_value(words, "student");
  r.adapter = detail::flag_value(words, "student-adapter");
  const std::string steps = detail::flag_value(words, "steps");
  const FlagRule* rule = context.flags.find("steps");
  r.total_steps = std::atoll((!steps.empty()          ? steps
                              : r.preset == "quality" ? "300"
                              : rule != nullptr       ? rule->default_text
                                                      : "0")
                                 .c_str());
  return r;
}

KDLIB_NAMESPACE_END

#endif
