// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: the stages of a run, which parameters each of them trains, and the training itself.
#ifndef KDLIB_RECIPE_SESSION_STAGES_INL_HPP
#define KDLIB_RECIPE_SESSION_STAGES_INL_HPP

#include <deque>

#include "kdlib/recipe/run_metrics.hpp"
#include "kdlib/recipe/session.hpp"

KDLIB_NAMESPACE_BEGIN

/// The stages of the settings against the student's parameters: what fits none of them, or trains nothing, is refused
/// before anything is written. A run without stages is one without a name.
template <class D, class T>
void Session<D, T>::plan_stages() {
  std::vector<GroupSelection::Named> names;
  for (const Parameter<T, D>* p : student_->parameters())
    if (p->trainable) names.emplace_back(p->name, p->value.count()), trainable_.push_back(p->name);
  const RecipeTraining& t = s_.training;
  std::vector<RecipeStage> stages = t.stages;
  if (stages.empty()) stages.push_back({.name = "", .steps = t.steps, .groups = t.groups});
  std::int64_t end = 0;
  for (RecipeStage& stage : stages) {
    const std::string place =
        stage.name.empty() ? t.groups_place() : concat(t.stages_place(), ": stage '", stage.name, "'");
    const std::int64_t steps = stage_steps(stage, text_->examples(), t.batch * t.micro_batches);
    end += steps;
    GroupSelection selection(stage.groups, names, place);
    const std::string intro = stage.name.empty() ? std::string() : concat("stage ", stage.name, ": ");
    if (!stage.name.empty()) note(concat(intro, steps, " steps"));
    if (!stage.groups.empty())
      for (const std::string& text : selection.notes()) note(intro + text);
    stages_.push_back({std::move(stage), steps, end, std::move(selection)});
  }
}

/// Adds the measurement at the end of a stage to the rows of the result. It is written before the stage's last
/// checkpoint, so a run that goes on behind that one finds it.
template <class D, class T>
void Session<D, T>::keep_stage_row(std::int64_t step, const EvaluationRow& measured) {
  for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
    if (stages_[i].end != step) continue;
    EvaluationRow row = measured;
    row.model = stages_[i].row_name();
    std::erase_if(before_.rows, [&row](const EvaluationRow& old) { return old.model == row.model; });
    before_.rows.push_back(std::move(row));
    save_before();
  }
}

/// Drops rows of stages that the run is still to end: those of an attempt whose checkpoints are gone.
template <class D, class T>
void Session<D, T>::forget_stage_rows(std::int64_t step) {
  for (const SessionStage& stage : stages_)
    if (stage.end > step)
      std::erase_if(before_.rows, [&stage](const EvaluationRow& row) { return row.model == stage.row_name(); });
}

template <class D, class T>
RunSettings Session<D, T>::step_settings(std::int64_t steps) const {
  const RecipeTraining& t = s_.training;
  RunSettings run;
  run.steps = steps;
  run.micro_batches = t.micro_batches;
  run.clip_norm = t.clip;
  run.recompute = t.recompute;
  run.workspace_bytes = t.workspace << 20;
  run.gradient_threshold = t.gradient_threshold;
  run.replay_routing = s_.text.replay_routing;
  run.teacher_ahead = t.teacher_ahead;
  run.stop = &stop_;
  return run;
}

template <class D, class T>
RunSettings Session<D, T>::run_settings(const SessionStage& stage) {
  const bool last = &stage == &stages_.back();
  RunSettings run = step_settings(stage.steps);
  run.save_every = s_.output.save_every;
  run.keep = s_.output.keep;
  run.save = last || s_.output.save != SaveRule::best ? s_.output.save : SaveRule::last;
  run.evaluate_every = s_.output.evaluate_every > 0 ? s_.output.evaluate_every : total_steps();
  run.evaluate_first = true;
  for (const DescribedSetting& setting : describe(s_))
    if (!free_recipe_setting(setting.key)) run.settings.emplace_back("--" + setting.key, setting.text());
  for (const auto& [name, hash] : inputs_) run.settings.emplace_back("content of --" + name, hash);
  if (!s_.training.stages.empty()) run.settings.emplace_back("stages", stages_text(s_.training.stages));
  run.hooks = this;
  run.ranks = rank_settings();
  return run;
}

/// The training itself, against a teacher of any kind.
template <class D, class T>
template <class Teacher>
RunResult Session<D, T>::train_against(const Teacher& teacher, const LossExpression& objective) {
  using Targets = typename Teacher::targets_type;
  auto source = text_->source();
  RankedSink<RunMetrics> sink(ranks_, path("metrics.jsonl"), s_.output.tensorboard);
  RankedStore<Directory> store{ranks_, folder_.path()};
  RecipeTraining t = s_.training;
  t.learning_rate = s_.peak_rate();
  const AdamW optimizer{.beta1 = t.beta1, .beta2 = t.beta2, .weight_decay = t.weight_decay};
  return with_loss<Targets>(objective.terms, [&](const auto& loss) {  // the choice becomes a type here alone
    const auto trainer_of = [&](const SessionStage& stage) {
      return Trainer{*student_, source, Objective{teacher, loss}, optimizer,
                     recipe_rate(stage_training(t, stage.stage, stage.steps))};
    };
    using TrainerType = decltype(trainer_of(stages_.front()));
    std::deque<TrainerType> trainers;  // stages borrow them
    for (const SessionStage& stage : stages_) trainers.push_back(trainer_of(stage));
    if (t.stages.empty())
      return trainers.front().run(run_settings(stages_.front()), sink, store, stages_.front().selection,
                                  StageContext{.carried = trainable_});
    std::vector<TrainStage<TrainerType, GroupSelection>> list;
    for (std::size_t i = 0; i < stages_.size(); ++i)
      list.emplace_back(stages_[i].stage.name, trainers[i], run_settings(stages_[i]), stages_[i].selection,
                        stages_[i].stage.restart_text ? StageData::restart : StageData::go_on);
    return StageList{std::move(list)}.run(sink, store, trainable_).back();
  });
}

KDLIB_NAMESPACE_END

#endif
