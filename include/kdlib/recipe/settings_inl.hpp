// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/settings.hpp: what settings contradict each other.
#ifndef KDLIB_RECIPE_SETTINGS_INL_HPP
#define KDLIB_RECIPE_SETTINGS_INL_HPP

#include "kdlib/core/settings_error.hpp"
#include "kdlib/loss/any_sum.hpp"
#include "kdlib/recipe/remote_check_inl.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/recipe/settings_text_inl.hpp"
#include "kdlib/rollout/sampler.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Refuses pairs of sampler and loss that teach another objective than the stated one (decision 004).
KDLIB_FUNC void check_written_text(const RecipeSettings& s) {
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
KDLIB_FUNC void check_untaught(const RecipeSettings& s) {
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
KDLIB_FUNC void check_cached(const RecipeSettings& s) {
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
KDLIB_FUNC void check_course(const RecipeTraining& t) {
  require<ConfigError>(t.write_batch >= 0, "[distil] --write-batch is ", t.write_batch,
                       "; it must be 0 (a micro-batch's prompts) or more");
  require<ConfigError>(t.warmup_ratio >= 0 && t.warmup_ratio <= 1, "[distil] --warmup-ratio is ",
                       setting_text(t.warmup_ratio), "; it must be from 0 to 1");
  require<ConfigError>(t.warmup >= 0 && (t.warmup <= t.steps || t.warmup_ratio > 0), "[distil] --warmup is ", t.warmup,
                       " of --steps ", t.steps, "; it must be from 0 to the number of steps");
}

KDLIB_FUNC void check_models(const RecipeSettings& s) {
  require<ConfigError>(s.models.by_row() || s.models.otherwise.empty(),
                       "[distil] --teacher-otherwise is one of --teachers, and there are none");
  if (s.models.on_ranks) check_on_ranks(s);
  else if (s.models.by_row()) check_named(s);
  else if (s.models.is_remote()) check_remote(s);
  else if (s.models.cached()) check_cached(s);
  else if (!s.models.taught()) check_untaught(s);
}

KDLIB_FUNC void check_rules(const RecipeSettings& s) {
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
      "[distil] --train ", recipe_word(student.trains),
      " trains through codes, and nothing is rounded: give --quantize KIND");
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
  if (!s.models.apart()) require_targets(LossNeeds::vocabulary, s.objective.loss.terms);  // a live teacher gives them
  if (text.lambda > 0) check_written_text(s);
}
}  // namespace detail

KDLIB_FUNC void check_recipe(const RecipeSettings& s) {
  checking_settings([&s] { detail::check_rules(s); });
}

KDLIB_NAMESPACE_END

#endif
