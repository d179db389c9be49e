// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/settings.hpp.
#ifndef KDLIB_RECIPE_SETTINGS_INL_HPP
#define KDLIB_RECIPE_SETTINGS_INL_HPP

#include <charconv>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/loss/any_sum.hpp"
#include "kdlib/recipe/remote_check_inl.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/rollout/sampler.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The words of an enumeration in the order of its values.
template <class E>
struct RecipeWords;
template <>
struct RecipeWords<RecipeTrains> {
  static constexpr const char* name = "train";
  static constexpr const char* list[] = {"lora", "qat_lora", "all", "scales"};
};
template <>
struct RecipeWords<RecipeAdapterStart> {
  static constexpr const char* name = "lora-init";
  static constexpr const char* list[] = {"auto", "zero", "compensate"};
};
template <>
struct RecipeWords<RecipeSchedule> {
  static constexpr const char* name = "schedule";
  static constexpr const char* list[] = {"constant", "linear", "cosine"};
};
template <>
struct RecipeWords<RecipeResume> {
  static constexpr const char* name = "resume";
  static constexpr const char* list[] = {"auto", "no"};
};
template <>
struct RecipeWords<TooLong> {
  static constexpr const char* name = "too-long";
  static constexpr const char* list[] = {"refuse", "cut", "drop"};
};
template <>
struct RecipeWords<SaveRule> {
  static constexpr const char* name = "save";
  static constexpr const char* list[] = {"last", "best", "all"};
};
template <>
struct RecipeWords<StraightThrough> {
  static constexpr const char* name = "straight-through";
  static constexpr const char* list[] = {"identity", "clipped"};
};

template <>
struct RecipeWords<Reduction> {
  static constexpr const char* name = "reduce";
  static constexpr const char* list[] = {"auto", "tree", "fast"};
};
template <>
struct RecipeWords<TopKMass> {
  static constexpr const char* name = "mass";
  static constexpr const char* list[] = {"tail", "renormalised", "raw", "sampled"};
};

template <class E>
const char* word_of(E value) {
  return RecipeWords<E>::list[static_cast<std::size_t>(value)];
}

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
    list_.push_back({key, {shortest_number_text(value)}, Form::plain, unit});
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

inline std::vector<std::string> target_words(const LoraSettings& adapter) {
  std::vector<std::string> words = adapter.targets.names;
  if (adapter.targets.all) words.emplace_back("all-linear");
  if (adapter.routers) words.emplace_back("routers");
  return words;
}

inline void describe_models(SettingsWriter& w, const RecipeSettings& s) {
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

inline void describe_text(SettingsWriter& w, const RecipeText& t) {
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

inline void describe_training(SettingsWriter& w, const RecipeTraining& t) {
  w.number("steps", t.steps)
      .number("batch", t.batch)
      .number("micro-batches", t.micro_batches)
      .text("reduce", recipe_word(t.reduce))
      .number("write-batch", t.write_batch)
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
      .text("groups", t.groups_file)
      .text("stages", t.stages_file);
}

}  // namespace detail

inline const char* recipe_word(RecipeTrains value) { return detail::word_of(value); }
inline const char* recipe_word(RecipeAdapterStart value) { return detail::word_of(value); }
inline const char* recipe_word(RecipeSchedule value) { return detail::word_of(value); }
inline const char* recipe_word(RecipeResume value) { return detail::word_of(value); }
inline const char* recipe_word(StraightThrough value) { return detail::word_of(value); }
inline const char* recipe_word(TooLong value) { return detail::word_of(value); }
inline const char* recipe_word(SaveRule value) { return detail::word_of(value); }
inline const char* recipe_word(TopKMass value) { return detail::word_of(value); }
inline const char* recipe_word(Reduction value) { return detail::word_of(value); }

template <class E>
E recipe_value(const std::string& word) {
  std::string words;
  std::size_t at = 0;
  for (const char* known : detail::RecipeWords<E>::list) {
    if (word == known) return static_cast<E>(at);
    words += concat(words.empty() ? "" : ", ", known);
    ++at;
  }
  fail<ConfigError>("[recipe] ", detail::RecipeWords<E>::name, " is '", word, "'; it must be one of ", words);
}

inline QuantizeSettings RecipeStudent::rounding() const {
  QuantizeSettings settings = format;
  if (settings.kind == PackedKind::mxfp4) settings.group_size = 32;
  return settings;
}

inline LoraSettings RecipeSettings::adapter() const {
  LoraSettings settings = student.adapter;
  settings.seed = seed;
  return settings;
}

inline std::string DescribedSetting::text() const {
  std::string out;
  for (const std::string& value : values) out += (out.empty() ? "" : " ") + value;
  return out;
}

inline std::vector<DescribedSetting> describe(const RecipeSettings& s) {
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

inline bool free_recipe_setting(const std::string& key) {
  for (const char* name : {"out",           "threads",
                           "keep",          "save-every",
                           "resume",        "export",
                           "dry-run",       "json",
                           "device",        "dtype",
                           "config",        "preset",
                           "teacher-cache", "teacher-cache-mb",
                           "tensorboard",   "teacher-api",
                           "teacher-key",   "teacher-in-flight",
                           "comm-timeout",  "memory-floor"})
    if (key == name) return true;
  return false;
}

namespace detail {

/// Refuses pairs of sampler and loss that teach another objective than the stated one (decision 004).
inline void check_written_text(const RecipeSettings& s) {
  const RecipeText& text = s.text;
  SampledTextUse use{.corrects_by_ratio = true, .accepts_truncated_text = text.accept_truncated_text};
  for (const AnyTerm& term : s.objective.loss.terms)
    term.loss.visit([&](const auto& loss) { add_use(use, sampled_text_use(loss)); });
  const Sampler sampler{
      .temperature = text.sample_temperature, .top_k = text.top_k, .top_p = text.top_p, .min_p = text.min_p};
  require<ConfigError>(use.reads_sampled_tokens || use.accepts_truncated_text || !sampler.truncates(),
                       "[distil] --top-k, --top-p and --min-p change the distribution that the student writes from, "
                       "while the loss is over the whole one: it would be averaged over other contexts than the "
                       "student's own. Leave them out, or say --accept-truncated-text");
  check_sampling_matches_loss(sampler, use);
}

}  // namespace detail

namespace detail {
/// Plain fine-tuning: what needs a teacher is refused.
inline void check_untaught(const RecipeSettings& s) {
  const auto needs = [](bool there, const auto&... what) {
    require<ConfigError>(there, "[distil] no teacher is named (--teacher MODEL); without one ", what...);
  };
  needs(!s.models.student.empty(), "--student MODEL is needed: plain fine-tuning");
  for (const AnyTerm& term : s.objective.loss.terms)
    needs(term.loss.needs() == LossNeeds::labels, "the loss can be --loss cross_entropy, not ", term.loss.name());
  needs(!s.text.data.empty(), "--data FILE is needed: given text");
  needs(s.text.lambda == 0, "--lambda must be 0: nothing marks the student's own text");
  needs(s.models.teacher_adapter.empty(), "there is no model for --teacher-adapter");
}

/// From a cache: what only a teacher in memory could do is refused. Which losses the cache can serve is known when it
/// is opened.
inline void check_cached(const RecipeSettings& s) {
  const auto needs = [](bool there, const auto&... what) {
    require<ConfigError>(there, "[distil] --cache stands for the teacher; ", what...);
  };
  needs(!s.models.student_path().empty(), "--student MODEL is needed");
  needs(s.text.lambda == 0, "--lambda must be 0: nothing marks the student's own text");
  needs(s.models.teacher_adapter.empty(), "--teacher-adapter belongs to cache_logits");
  needs(s.text.from_cache || !s.text.data.empty(), "--data FILE is needed, or the text of the cache (from_cache)");
  needs(s.models.cache.validation.empty() || s.text.validation_share == 0,
        "--validation-cache and --validation-share both say what is held out: give one of them");
  needs(s.models.cache.mass != TopKMass::sampled, "--mass sampled belongs to caches of drawn tokens");
}
}  // namespace detail

namespace detail {
inline void check_course(const RecipeTraining& t) {
  require<ConfigError>(t.write_batch >= 0, "[distil] --write-batch is ", t.write_batch,
                       "; it must be 0 (a micro-batch's prompts) or more");
  require<ConfigError>(t.warmup_ratio >= 0 && t.warmup_ratio <= 1, "[distil] --warmup-ratio is ",
                       setting_text(t.warmup_ratio), "; it must be from 0 to 1");
  require<ConfigError>(t.warmup >= 0 && (t.warmup <= t.steps || t.warmup_ratio > 0), "[distil] --warmup is ", t.warmup,
                       " of --steps ", t.steps, "; it must be from 0 to the number of steps");
}

inline void check_models(const RecipeSettings& s) {
  if (s.models.is_remote()) check_remote(s);
  else if (s.models.cached()) check_cached(s);
  else if (!s.models.taught()) check_untaught(s);
}

inline void check_rules(const RecipeSettings& s) {
  const RecipeStudent& student = s.student;
  const RecipeText& text = s.text;
  const bool lora = student.trains == RecipeTrains::lora;
  for (const DescribedSetting& setting : describe(s))
    for (const std::string& value : setting.values) {
      const std::size_t at = find_invalid_utf8(value);
      require<ConfigError>(at == std::string_view::npos, "[distil] --", setting.key, " ", printable(value),
                           " is not UTF-8 at byte ", at, ", which no file of a run can hold: rename it");
    }
  require<ConfigError>(!student.adapts() || (student.adapter.rank >= 1 && student.adapter.rank <= 65535),
                       "[distil] --lora-rank is ", student.adapter.rank, "; it must be from 1 to 65535");
  check_models(s);
  require<ConfigError>(s.models.cached() || (s.models.cache.validation.empty() && !s.text.from_cache),
                       "[distil] --validation-cache belongs to --cache");
  require<ConfigError>(text.validation_share >= 0 && text.validation_share < 1, "[distil] --validation-share is ",
                       text.validation_share, "; it must be 0 or above and below 1");
  require<ConfigError>(text.validation_share == 0 || text.validation.empty() || text.validation.bundled,
                       "[distil] --validation and --validation-share both say what is held out: give one of them");
  if (student.rounded) check_quantize_settings(student.rounding());
  require<ConfigError>(s.training.groups.empty() || s.training.stages.empty(),
                       "[distil] --groups and --stages are both given: write the groups into the stages");
  check_groups(s.training.groups, s.training.groups_place());
  check_stages(s.training.stages, s.training.stages_place());
  require<ConfigError>(
      (student.trains != RecipeTrains::qat_lora && student.trains != RecipeTrains::scales) || student.rounded,
      "[distil] --train ", recipe_word(student.trains), " trains through codes; --quantize none has none");
  require<ConfigError>(student.trains != RecipeTrains::qat_lora || !student.adapter.routers,
                       "[distil] --lora-targets routers belongs to --train lora: routers are not rounded");
  require<ConfigError>(student.start != RecipeAdapterStart::compensate || (lora && student.rounded),
                       "[distil] --lora-init compensate undoes a rounding beside which an adapter is trained: it "
                       "belongs to --train lora with --quantize");
  require<ConfigError>(s.models.student_adapter.empty() || student.adapts(),
                       "[distil] --student-adapter is trained on: it belongs to --train lora and qat_lora, not to ",
                       recipe_word(student.trains));
  require<ConfigError>(s.models.student_adapter.empty() || student.start != RecipeAdapterStart::compensate,
                       "[distil] --student-adapter says where the adapter starts; leave out --lora-init compensate");
  require<ConfigError>(text.samples >= 1 && s.training.batch % text.samples == 0, "[distil] --samples is ",
                       text.samples, "; it must be 1 or more and divide --batch ", s.training.batch);
  check_course(s.training);
  check_weights(s.objective.loss);
  require<ConfigError>(!student.merge || (lora && student.rounded),
                       "[distil] --merge belongs to --train lora with --quantize");
  require<ConfigError>(!text.replay_routing || text.lambda > 0,
                       "[distil] --replay-routing follows the experts that wrote the student's text; with --lambda 0 "
                       "the student writes none: leave it out, or --replay-routing=off");
  require<ConfigError>(!text.writes() || text.max_new_tokens < text.max_length, "[distil] --max-new-tokens ",
                       text.max_new_tokens, " leaves no room for a prompt within --max-length ", text.max_length);
  require<ConfigError>(text.tools.empty() || text.writes(),
                       "[distil] --tools answers what models write, and all text is given: leave it out");
  require<ConfigError>(text.tool_rounds >= 1 && text.tool_tokens >= 1, "[distil] --tool-rounds is ", text.tool_rounds,
                       ", --tool-tokens is ", text.tool_tokens, "; both must be 1 or more");
  require<ConfigError>(text.answers_mb >= 1, "[distil] --teacher-cache-mb is ", text.answers_mb,
                       "; it must be 1 or more");
  require<ConfigError>(text.data.empty() || text.lambda < 1,
                       "[distil] --data is the offline part's text; with --lambda 1 it would never be read");
  if (!s.models.cached() && !s.models.is_remote())
    require_targets(LossNeeds::vocabulary, s.objective.loss.terms);  // a live teacher gives them
  if (text.lambda > 0) check_written_text(s);
}
}  // namespace detail

inline void check_recipe(const RecipeSettings& s) {
  checking_settings([&s] { detail::check_rules(s); });
}

KDLIB_NAMESPACE_END

#endif
