// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/settings.hpp: every setting as config.yaml has it.
#ifndef KDLIB_RECIPE_SETTINGS_TEXT_INL_HPP
#define KDLIB_RECIPE_SETTINGS_TEXT_INL_HPP

#include <span>

#include "kdlib/io/utf8.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/recipe/settings_words_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Collects the settings in the order of config.yaml.
class SettingsWriter {
 public:
  using Form = DescribedSetting::Form;

  SettingsWriter& text(const char* key, std::string value) {
    list_.push_back({key, {std::move(value)}, Form::text, ""});
    return *this;
  }
  template <class N>
  SettingsWriter& number(const char* key, N value, const char* unit = "") {
    list_.push_back({key, {setting_text(value)}, Form::plain, unit});
    return *this;
  }
  SettingsWriter& flag(const char* key, bool value) {
    list_.push_back({key, {value ? "on" : "off"}, Form::plain, ""});
    return *this;
  }
  SettingsWriter& flag(const char* key, const std::optional<bool>& value) {
    list_.push_back({key, {!value ? "auto" : *value ? "on" : "off"}, Form::plain, ""});
    return *this;
  }
  SettingsWriter& words(const char* key, std::vector<std::string> values) {
    list_.push_back({key, std::move(values), Form::list, ""});
    return *this;
  }
  SettingsWriter& add(DescribedSetting setting) {
    list_.push_back(std::move(setting));
    return *this;
  }
  std::vector<DescribedSetting> take() { return std::move(list_); }

 private:
  std::vector<DescribedSetting> list_;
};

KDLIB_FUNC std::vector<std::string> target_words(const LoraSettings& adapter) {
  std::vector<std::string> words = adapter.targets.names;
  if (adapter.targets.all) words.emplace_back("all-linear");
  if (adapter.routers) words.emplace_back("routers");
  return words;
}

KDLIB_FUNC void describe_models(SettingsWriter& w, const RecipeSettings& s) {
  const RecipeStudent& student = s.student;
  w.text("teacher", s.models.teacher)
      .text("student", s.models.student)
      .text("teacher-adapter", s.models.teacher_adapter)
      .text("student-adapter", s.models.student_adapter)
      .text("teacher-api", setting_text(s.models.remote.dialect))
      .text("teacher-model", s.models.remote.model)
      .text("teacher-key", s.models.remote.key)
      .number("teacher-in-flight", s.models.remote.in_flight)
      .text("teacher-dtype", setting_text(s.models.remote.precision))
      .words("teachers", s.models.teachers)
      .text("teacher-otherwise", s.models.otherwise)
      .text("cache", s.models.cache.folder)
      .text("validation-cache", s.models.cache.validation)
      .text("missing", s.models.cache.skip_missing ? "skip" : "error")
      .number("teacher-top-k", s.models.cache.top_k)
      .text("mass", recipe_word(s.models.cache.mass))
      .text("quantize", student.rounded ? packed_kind_name(student.format.kind) : "none")
      .text("quantize-rule", int4_rule_name(student.format.rule))
      .number("group-size", student.format.group_size)
      .flag("double-quant", student.format.double_quantized)
      .text("train", recipe_word(student.trains))
      .text("straight-through", recipe_word(student.straight_through))
      .flag("merge", student.merge)
      .number("lora-rank", student.adapter.rank)
      .number("lora-alpha", student.adapter.alpha)
      .words("lora-targets", target_words(student.adapter))
      .text("lora-init", recipe_word(student.start));
}

KDLIB_FUNC void describe_text(SettingsWriter& w, const RecipeText& t) {
  const auto path = [](const TextFile& file) { return file.bundled ? std::string() : file.path; };
  w.number("lambda", t.lambda)
      .number("sample-temperature", t.sample_temperature)
      .number("top-k", t.top_k)
      .number("top-p", t.top_p)
      .number("min-p", t.min_p)
      .flag("accept-truncated-text", t.accept_truncated_text)
      .text("prompts", path(t.prompts))
      .number("max-prompts", t.max_prompts)
      .number("samples", t.samples)
      .text("data", path(t.data))
      .text("validation", path(t.validation))
      .number("validation-share", t.validation_share)
      .text("template", t.chat_template)
      .flag("raw", t.raw)
      .number("max-length", t.max_length, "tokens")
      .text("too-long", recipe_word(t.too_long))
      .number("max-new-tokens", t.max_new_tokens, "tokens")
      .text("teacher-cache", t.answers)
      .number("teacher-cache-mb", t.answers_mb, "MiB")
      .words("tools", t.tools)
      .number("tool-rounds", t.tool_rounds)
      .number("tool-tokens", t.tool_tokens, "tokens")
      .flag("replay-routing", t.replay_routing);
}

KDLIB_FUNC void describe_training(SettingsWriter& w, const RecipeTraining& t) {
  w.number("steps", t.steps)
      .number("batch", t.batch)
      .number("micro-batches", t.micro_batches)
      .text("reduce", recipe_word(t.reduce))
      .number("write-batch", t.write_batch)
      .number("teacher-ahead", t.teacher_ahead, "steps")
      .number("learning-rate", t.learning_rate)
      .text("schedule", recipe_word(t.schedule))
      .number("warmup", t.warmup, "steps")
      .number("warmup-ratio", t.warmup_ratio)
      .number("weight-decay", t.weight_decay)
      .number("beta1", t.beta1)
      .number("beta2", t.beta2)
      .number("clip", t.clip)
      .flag("recompute", t.recompute)
      .number("workspace", t.workspace, "MiB")
      .number("gradient-threshold", t.gradient_threshold)
      .text("groups", t.groups_file)
      .text("stages", t.stages_file);
}

KDLIB_FUNC std::size_t place_of_word(const char* name, std::span<const char* const> known, const std::string& word) {
  std::string words;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (word == known[i]) return i;
    words += concat(words.empty() ? "" : ", ", known[i]);
  }
  fail<ConfigError>("[recipe] ", name, " is '", word, "'; it must be one of ", words);
}

}  // namespace detail

KDLIB_FUNC const char* recipe_word(RecipeTrains value) { return detail::word_of(value); }
KDLIB_FUNC const char* recipe_word(RecipeAdapterStart value) { return detail::word_of(value); }
KDLIB_FUNC const char* recipe_word(RecipeSchedule value) { return detail::word_of(value); }
KDLIB_FUNC const char* recipe_word(RecipeResume value) { return detail::word_of(value); }
KDLIB_FUNC const char* recipe_word(StraightThrough value) { return detail::word_of(value); }
KDLIB_FUNC const char* recipe_word(TooLong value) { return detail::word_of(value); }
KDLIB_FUNC const char* recipe_word(SaveRule value) { return detail::word_of(value); }
KDLIB_FUNC const char* recipe_word(TopKMass value) { return detail::word_of(value); }
KDLIB_FUNC const char* recipe_word(Reduction value) { return detail::word_of(value); }

KDLIB_FUNC QuantizeSettings RecipeStudent::rounding() const {
  QuantizeSettings settings = format;
  if (settings.kind == PackedKind::mxfp4) settings.group_size = 32;
  return settings;
}

KDLIB_FUNC LoraSettings RecipeSettings::adapter() const {
  LoraSettings settings = student.adapter;
  settings.seed = seed;
  return settings;
}

KDLIB_FUNC std::string DescribedSetting::text() const {
  std::string out;
  for (const std::string& value : values) out += (out.empty() ? "" : " ") + value;
  return out;
}

KDLIB_FUNC std::vector<DescribedSetting> describe(const RecipeSettings& s) {
  detail::SettingsWriter w;
  detail::describe_models(w, s);
  w.words("loss", {s.objective.loss.text()});
  detail::describe_text(w, s.text);
  detail::describe_training(w, s.training);
  w.text("out", s.output.folder)
      .number("save-every", s.output.save_every, "steps")
      .number("keep", s.output.keep)
      .number("evaluate-every", s.output.evaluate_every, "steps")
      .text("save", recipe_word(s.output.save))
      .text("export", s.output.gguf ? "gguf" : "none")
      .number("memory-floor", s.output.memory_floor)
      .text("tensorboard", s.output.tensorboard)
      .text("resume", recipe_word(s.output.resume))
      .number("seed", s.seed);
  for (const DescribedSetting& setting : s.recorded) w.add(setting);
  return w.take();
}

KDLIB_FUNC bool free_recipe_setting(const std::string& key) {
  constexpr std::string_view words =
      " out threads keep save-every resume export dry-run json device config preset teacher-cache "
      "teacher-cache-mb tensorboard teacher-api teacher-key teacher-in-flight comm-timeout memory-floor "
      "shard-optimizer ranks teacher-ranks teacher-ahead link latency ";
  return words.find(concat(" ", key, " ")) != std::string_view::npos;
}

KDLIB_NAMESPACE_END

#endif
