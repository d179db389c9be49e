// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: what is measured, how the training is set up, and what it will need.
#ifndef KDLIB_RECIPE_SESSION_TRAINING_INL_HPP
#define KDLIB_RECIPE_SESSION_TRAINING_INL_HPP

#include "kdlib/recipe/session.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
std::string Session<D, T>::environment_text() {
  std::string out;
  for (const auto& [key, value] : run_environment<D, T>())
    if (key != "program") out += (out.empty() ? "" : ", ") + key + " " + value;
  return out;
}

/// Without whole distributions to compare with: the objective and the perplexity; what compares is NaN.
template <class D, class T>
EvaluationRow Session<D, T>::measure_alone(const char* name, Model& model, const EvaluationSettings& settings) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  EvaluationRow row{name, none, none, none, none, 0, none, none, 0};
  row.perplexity = perplexity(model, held_out_, settings).value();
  const LossSum loss = held_out_loss(model, settings);
  row.objective = loss.mean();
  row.tokens = loss.weight;
  row.forward_kl_error = row.reverse_kl_error = row.top1_error = row.objective_error = none;
  if (measurement_) row.tasks = measurement_(model);
  return row;
}

template <class D, class T>
EvaluationRow Session<D, T>::measure(const char* name, Model& model, const AnyCommunicator& ranks) {
  const EvaluationSettings settings = evaluation_settings(ranks);
  if (!held_out_teacher_) return measure_alone(name, model, settings);
  using Targets = HiddenTargets<T, D>;
  const LossExpression measured = measured_objective(s_.objective.loss);
  const Agreement a = with_loss<Targets>(measured.terms, [&](const auto& loss) {
    return agreement(model, *held_out_teacher_, held_out_, settings, loss);
  });
  EvaluationRow row{name,         a.forward_kl,      a.reverse_kl,      a.top1,   a.top5,
                    a.perplexity, a.student_entropy, a.teacher_entropy, a.tokens, a.loss};
  row.forward_kl_error = a.forward_kl_error;
  row.reverse_kl_error = a.reverse_kl_error;
  row.top1_error = a.top1_error;
  row.objective_error = a.loss_error;
  if (measurement_) row.tasks = measurement_(model);
  return row;
}

/// The teacher beside itself: what is zero or one by definition is exactly that.
template <class D, class T>
EvaluationRow Session<D, T>::measure_teacher() {
  EvaluationRow row = measure("teacher", *teacher_, ranks_);
  row.forward_kl = row.reverse_kl = row.forward_kl_error = row.reverse_kl_error = row.top1_error = 0;
  row.top1 = row.top5 = 1;
  if (is_divergence(s_.objective)) row.objective = 0;
  return row;
}

/// Adds the student's distance from the teacher at each token of the shown texts.
template <class D, class T>
void Session<D, T>::add_token_maps(RecipeResult& result, const char* name) {
  if (!held_out_teacher_) return;
  const std::int64_t count = std::min<std::int64_t>(3, held_out_.documents());
  for (std::int64_t b = 0; b < count; ++b) {
    TokenBatch document;
    detail::append_part(document, held_out_, b, 0, held_out_.length(b));
    if (static_cast<std::int64_t>(result.token_maps.size()) <= b)
      result.token_maps.push_back({text_->token_texts(document.ids), {}});
    std::vector<double> values = token_divergence(*student_, *held_out_teacher_, document, evaluation_settings());
    result.token_maps[static_cast<std::size_t>(b)].values.emplace_back(name, std::move(values));
  }
}

/// Adds a model's greedy answers to the shown prompts.
template <class D, class T>
void Session<D, T>::add_answers(RecipeResult& result, const char* who, Model& model) {
  const std::vector<std::string> answers = text_->answers(model, text_->shown_prompts(3));
  for (std::size_t i = 0; i < answers.size(); ++i) result.samples[i].answers.emplace_back(who, answers[i]);
}

/// Takes what an earlier attempt measured; other ranks take the first one's word for it. False where it is to be made
/// again.
template <class D, class T>
bool Session<D, T>::measured_before(std::size_t shown) {
  std::optional<RecipeResult> before;
  if (ranks_.leads()) {
    std::string damage;
    before = read_whole_result(path("before.json"), teacher_ ? 2 : 1, damage);
    const bool other = before && before->samples.size() != shown;
    if (other || !before)
      note(concat(other ? concat(path("before.json"), " has other samples") : damage, ": it is made again"));
    if (other) before.reset();
  }
  if (!ranks_.any(before.has_value())) return false;
  before_ = before ? std::move(*before) : RecipeResult{};
  if (before_.rows.empty()) before_.rows.emplace_back();  // of another rank: the first one's values count
  return true;
}

/// Rows "teacher" and "rounded" (or "student before"), once in the life of the folder.
template <class D, class T>
void Session<D, T>::measure_before() {
  enter(SessionPhase::measuring);
  held_out_ = text_->validation();
  find_held_out_signals();
  const auto shown = text_->shown_prompts(3);
  const bool again = ranks_.any(ranks_.leads() && folder_.has("before.json"));
  if (again && measured_before(shown.size())) return;
  const char* name = s_.student.rounded ? "rounded" : "student before";
  note("measuring the student before training");
  const bool measurable = held_out_teacher_ || held_out_top_k_ || !s_.models.apart();
  before_.objective = measurable ? objective_text(s_.objective) : "cross_entropy";
  before_.rows.clear();
  if (teacher_) before_.rows.push_back(measure_teacher());
  before_.rows.push_back(measure(name, *student_, ranks_));
  add_token_maps(before_, name);
  before_.samples.clear();
  for (const auto& prompt : shown) before_.samples.push_back({prompt.text, {}});
  if (teacher_) add_answers(before_, "teacher", *teacher_);
  add_answers(before_, name, *student_);
  save_before();
  if (again && original_ && ranks_.any(ranks_.leads() && folder_.has("checkpoints")))
    compensate();  // a row that a run which goes on has not
}

/// Starts the adapter where it undoes most of the rounding, and measures that as a row of its own.
template <class D, class T>
void Session<D, T>::compensate() {
  const TokenBatch text = text_->calibration(2048);
  note(concat("the adapter starts where it undoes the rounding, for the inputs of ", text.tokens(), " tokens"));
  std::optional<CompensateReport> made;
  try {
    made = compensate_rounding(*student_, *original_, text, {.seed = s_.seed});
  } catch (const StopRequested&) {
    if (ranks_.size() == 1) throw;
  }
  // All ranks stop here, or all go on to measure together.
  if (ranks_.any(!made)) throw StopRequested("[distil] a rank was asked to stop");
  const CompensateReport& report = *made;
  before_.rows.resize(teacher_ ? 2 : 1);  // an attempt that ended before its first checkpoint left a third
  before_.rows.push_back(measure("compensated", *student_, ranks_));
  save_before();
  note(concat("rounding error of the outputs of ", report.maps,
              " maps: ", detail::number_text("%.3f", 100 * report.error_before), " % -> ",
              detail::number_text("%.3f", 100 * report.error_after), " % of their energy"));
}

/// The adapter of a run that goes on comes from its checkpoint.
template <class D, class T>
void Session<D, T>::on_start(std::int64_t step, std::int64_t) {
  forget_stage_rows(step);
  if (step == 0 && original_) {
    const StopScope scope(&stop_);
    try {
      compensate();
    } catch (const StopRequested&) {  // the run ends before its first step, and the next start does it again
    }
  }
  original_.reset();
}

template <class D, class T>
Evaluation Session<D, T>::evaluate(std::int64_t step) {
  const StopScope scope(&stop_);  // an evaluation that is cut short is made good when the run goes on
  EvaluationRow row = step == 0 ? before_.rows.back() : measure("distilled", *student_, ranks_);
  const bool plain = before_.objective == "forward_kl";
  note(concat("step ", step, ": held-out ",
              plain ? "" : concat(before_.objective, " ", detail::number_text("%.4f", row.objective), ", "),
              held_out_teacher_ ? concat("forward KL ", detail::number_text("%.4f", row.forward_kl),
                                         ", top-1 agreement ", detail::number_text("%.3f", row.top1))
                                : concat("perplexity ", detail::number_text("%.3f", row.perplexity))));
  events_.on_evaluation(step, row);
  Evaluation out;
  out.values = {{"evaluation/objective", row.objective}, {"evaluation/perplexity", row.perplexity}};
  if (held_out_teacher_)
    out.values.insert(out.values.end(), {{"evaluation/forward_kl", row.forward_kl},
                                         {"evaluation/reverse_kl", row.reverse_kl},
                                         {"evaluation/top1_agreement", row.top1},
                                         {"evaluation/top5_overlap", row.top5}});
  for (const auto& [name, value] : row.tasks) out.values.emplace_back("tasks/" + name, value);
  if (const ResponseUse* use = text_->answers_use())
    out.values.insert(out.values.end(), {{"teacher_cache/hit_rate", use->hit_rate()},
                                         {"teacher_cache/saved_seconds", use->saved_seconds}});
  for (const std::string& text : text_->take_answer_notes()) note(text);
  out.best_by = row.objective;
  keep_stage_row(step, row);
  last_ = std::move(row);
  last_step_ = step;
  return out;
}

template <class D, class T>
void Session<D, T>::on_step(const StepReport& of_stage) {
  StepReport report = of_stage;
  report.steps = total_steps();
  {
    const std::lock_guard<std::mutex> lock(status_mutex_);
    status_.step = report.step;
    status_.steps = report.steps;
    status_.loss = report.loss;
    status_.tokens_per_s = report.tokens_per_s;
    status_.seconds = report.seconds;
  }
  events_.on_step(report);
}

/// Memory that runs short: one checkpoint and a warning, then an end with everything saved, before the system kills the
/// process.
template <class D, class T>
bool Session<D, T>::wants_checkpoint(const StepReport& report) {
  const double floor = s_.output.memory_floor, share = floor > 0 ? memory_share_() : 1;
  if (share >= floor) return false;
  const std::string less = "resume with half of --batch and twice --micro-batches: the gradient is the same";
  if (share < 0.4 * floor) {
    low_memory_ = true;
    note(concat("memory runs short (", detail::number_text("%.1f", 100 * share),
                " % free): the run saves and stops after step ", report.step, "; ", less));
    request_stop();
    return false;
  }
  if (std::exchange(memory_warned_, true)) return false;
  note(concat("memory runs short (", detail::number_text("%.1f", 100 * share), " % free): saves step ", report.step,
              ", and will stop below ", detail::number_text("%.1f", 40 * floor), " %; ", less));
  return true;
}

template <class D, class T>
void Session<D, T>::on_checkpoint(std::int64_t step) {
  events_.on_checkpoint(step);
}

template <class D, class T>
RunResult Session<D, T>::train() {
  enter(SessionPhase::training);
  const LossExpression& loss = s_.objective.loss;
  if (cache_ && cache_->top_k) return train_against(top_k_teacher(*cache_->top_k), top_k_terms());
  if (cache_) return train_against(hidden_teacher(*cache_->hidden), loss);
  if (other_hidden_) return train_against(*other_hidden_, loss);
  if (other_top_k_) return train_against(*other_top_k_, top_k_terms());
  if (other_sampled_) return train_against(*other_sampled_, loss);
  if (!teacher_) return train_against(NoTeacher{student_->vocab_size()}, loss);
  return train_against(AnyHiddenTeacher<D, T>{LiveTeacher<Model>{*teacher_}}, loss);
}

template <class D, class T>
std::string Session<D, T>::student_name() const {
  const RecipeModels& models = s_.models;
  const std::string base = models.student_path() == models.teacher ? "a copy of the teacher" : models.student_path();
  return rounded_.empty() ? base : concat(base, ", ", rounded_);
}

template <class D, class T>
void Session<D, T>::add_facts(RecipeResult& result, const RunResult& run) const {
  const std::string decoded = concat(" (weights decoded to ", dtype_text<T>(), ")");
  const std::string alone = other_name_.empty() ? "none" : other_name_;
  const std::string teacher = s_.models.taught() ? s_.models.teacher + decoded : alone;
  result.facts = {{"teacher", cache_ ? detail::cache_text(cache_->files()) : teacher}, {"student", student_name()}};
  for (const DescribedSetting& setting : describe(s_)) result.facts.emplace_back("--" + setting.key, setting.text());
  for (const auto& [key, value] : run_environment<D, T>()) result.facts.emplace_back(key, value);
  result.facts.emplace_back("wall time of the steps", duration_text(run.seconds));
  if constexpr (CountsMemory<D>) {
    const CountedMemory memory = Memory<D>::counted();
    result.facts.emplace_back(concat(D::name, " memory at most in use"),
                              concat(memory.peak, " bytes, ", memory.reserved, " taken"));
  }
  if (const ResponseUse* use = text_->answers_use()) result.facts.emplace_back("teacher's answers", use->text());
}

/// `here`: the machine has the files mapped; another one would hold its own copies.
template <class D, class T>
RecipePlan Session<D, T>::plan_on(const PlanMachine& machine, bool here) const {
  PlannedModels models{teacher_->config(), student_->config(), shares_weights_, text_->mean_prompt_tokens()};
  if (here) {
    models.teacher_file = detail::weights_in_file(*teacher_);
    models.student_file = detail::weights_in_file(*student_);
  }
  RecipeSettings planned = s_;
  planned.training.steps = total_steps();
  return plan_recipe(planned, models, machine);
}

/// Refuses a run that a device with memory of its own cannot hold, of which `available` bytes were free before
/// loading. The host's memory is the system's to give.
template <class D, class T>
void Session<D, T>::require_memory(double available) const {
  if (available <= 0 || !s_.models.taught()) return;  // no plan is built of a run without a teacher in memory
  PlanMachine machine;
  machine.name = concat("this machine's ", D::name, " device");
  machine.flops = machine.bandwidth = 1;  // rates do not matter here
  machine.memory = available;
  detail::set_scalar_type<D, T>(machine);
  plan_on(machine, true)
      .require_fit("[distil] ",
                   "Give a smaller --batch (with more --micro-batches), --max-length or --workspace, or use a larger "
                   "device; --dry-run shows the whole plan");
}

KDLIB_NAMESPACE_END

#endif
