// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: the order of the phases. Measuring and training are in session_training_inl.hpp, what
// is written in session_files_inl.hpp.
#ifndef KDLIB_RECIPE_SESSION_INL_HPP
#define KDLIB_RECIPE_SESSION_INL_HPP

#include <algorithm>
#include <cmath>
#include <utility>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/quant/stored_matrix.hpp"
#include "kdlib/recipe/session.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class D, class T>
WeightsInFile weights_in_file(const Decoder<D, T>& model) {
  WeightsInFile sum;
  for (const PackedWeight<D, T>& w : model.packed_weights()) {
    const auto* stored = dynamic_cast<const StoredMatrix<T, D>*>(w.matrix);
    if (stored == nullptr) continue;
    sum.weights += static_cast<double>(stored->rows() * stored->columns());
    sum.bytes += static_cast<double>(stored->bytes());
  }
  return sum;
}

/// "model.layers.1.self_attn.q_proj.weight [0, 0..63] holds NaN" for the first weight of a linear map that is not
/// finite; empty where all are. Columns by groups of 64.
template <class D, class T>
std::string first_not_finite(const Decoder<D, T>& model) {
  for (const Linear<D, T>* l : model.linears()) {
    const std::shared_ptr<const PackedMatrix<T, D>> packed = l->packed();
    if (l->weight() == nullptr && packed == nullptr) continue;
    const Tensor<T, D> weight = packed != nullptr ? packed->decode_all() : l->weight()->value;
    const std::vector<T> values = host_copy<T, D>(weight);
    const std::int64_t columns = weight[1];
    for (std::int64_t i = 0; i < weight.count(); ++i) {
      const auto value = static_cast<double>(values[static_cast<std::size_t>(i)]);
      if (std::isfinite(value)) continue;
      const std::int64_t column = i % columns / 64 * 64;
      return concat(l->path, ".weight [", i / columns, ", ", column, "..", std::min(column + 64, columns) - 1,
                    "] holds ", std::isnan(value) ? "NaN" : "an infinity");
    }
  }
  return "";
}

}  // namespace detail

template <class D, class T>
Session<D, T>::Session(RecipeSettings settings, SessionEvents* events)
    : s_(std::move(settings)), events_(events != nullptr ? *events : silent_), folder_(s_.output.folder) {
  check_recipe(s_);
  if (s_.models.apart()) checking_settings([this] { return top_k_terms(); });  // --mass fits the loss
}

template <class D, class T>
SessionStatus Session<D, T>::status() const {
  const std::lock_guard<std::mutex> lock(status_mutex_);
  SessionStatus status = status_;
  status.stopping = stop_.load();
  return status;
}

template <class D, class T>
void Session<D, T>::enter(SessionPhase phase) {
  {
    const std::lock_guard<std::mutex> lock(status_mutex_);
    status_.phase = phase;
  }
  events_.on_phase(phase);
  check_stop();
}

template <class D, class T>
void Session<D, T>::note(const std::string& text) {
  events_.on_note(text);
}

template <class D, class T>
SessionOutcome Session<D, T>::run() {
  require<Error>(!std::exchange(ran_, true),
                 "[Session] run() was called before, or plan() on a device that counts: ", "make another session");
  const StopScope scope(&stop_);
  SessionOutcome outcome;
  try {
    outcome = run_phases();
  } catch (const StopRequested&) {
    require<RankError>(ranks_.size() == 1 || status().phase == SessionPhase::finishing,
                       "[ranks] stopped on request before the first step; the same command starts again");
    outcome.stopped = true;
    outcome.step = status().step;
    note(status().phase == SessionPhase::finishing
             ? "stopped after the last step; everything is saved: the same command continues"
             : "stopped before the first step; the same command starts again");
  } catch (...) {
    const StopScope shield(nullptr);
    folder_.release();
    enter(SessionPhase::failed);
    throw;
  }
  outcome.low_memory = outcome.stopped && low_memory_;
  const StopScope shield(nullptr);
  folder_.release();
  enter(outcome.stopped ? SessionPhase::stopped : SessionPhase::finished);
  return outcome;
}

template <class D, class T>
SessionOutcome Session<D, T>::run_phases() {
  SessionOutcome outcome;
  enter(SessionPhase::checking);
  check_run_place(s_);
  if constexpr (requires { Kernels<D, T>::take_buffers(); }) Kernels<D, T>::take_buffers();
  // A finished run needs its inputs no more. Any other is refused before the models are even read.
  if (!(ranks_.leads() && folder_.has("result.json"))) check_before_loading();
  inputs_ = input_hashes(s_);
  if (any_rank_finished(outcome)) return outcome;
  double device_memory = 0;
  if constexpr (requires { Memory<D>::available(); }) device_memory = Memory<D>::available();
  load();
  require_memory(device_memory);
  prepare_folder();  // after loading: a wrong path leaves nothing behind and removes nothing
  measure_before();
  if (ranks_.leads()) write_base();
  const RunResult run = train();
  outcome.step = run.step;
  outcome.stopped = run.stopped;
  if (run.stopped) {
    note(concat("stopped at step ", run.step, " of ", total_steps(),
                "; everything is saved: the same command continues"));
    return outcome;
  }
  if (ranks_.leads()) outcome.result = finish(run);
  outcome.finished = true;
  return outcome;
}

/// The first rank looks at its folder and tells the others.
template <class D, class T>
bool Session<D, T>::any_rank_finished(SessionOutcome& outcome) {
  const bool finished = ranks_.any(ranks_.leads() && finished_before(outcome));
  outcome.finished = outcome.was_finished = finished;
  return finished;
}

template <class D, class T>
void Session<D, T>::prepare_folder() {
  const bool start_over = s_.output.resume == RecipeResume::no;
  std::string names;
  if (start_over)
    for (const std::string& name : folder_.earlier_files()) names += (names.empty() ? "" : ", ") + name;
  if (!names.empty()) note(concat("--resume no removes what an earlier run left in ", folder_.path(), ": ", names));
  folder_.prepare(describe(s_), start_over);
  folder_.outputs().claim(names_while_training(s_));
  if (!folder_.has("inputs.json")) write_file_atomically(path("inputs.json"), inputs_text(inputs_));
}

/// Answers true, with result and step, where the folder holds a finished run of these settings.
template <class D, class T>
bool Session<D, T>::finished_before(SessionOutcome& outcome) {
  if (s_.output.resume == RecipeResume::no || !folder_.has("config.yaml")) return false;
  folder_.check_same(describe(s_));
  if (folder_.has("inputs.json")) check_same_inputs(path("inputs.json"), inputs_, s_);
  if (!folder_.has("result.json")) return false;
  folder_.open();
  if (!exports_are_whole()) return false;
  if (s_.output.gguf && !folder_.has("model.gguf")) {
    note(concat(path("model.gguf"), " is asked for now: it is written from the last checkpoint"));
    return false;
  }
  std::string damage;
  std::optional<RecipeResult> result = read_whole_result(path("result.json"), 3, damage);
  if (!result) {
    note(concat(damage, ": it is made again from the last checkpoint"));
    return false;
  }
  outcome.result = std::move(*result);
  outcome.step = outcome.result.steps;
  note(concat("this run is finished: ", folder_.path(), " (--resume no starts it over)"));
  events_.on_result(outcome.result);
  return true;
}

/// Whether what a finished run exported has the bytes that it wrote. What is missing is written again from the last
/// checkpoint; what has other bytes may be somebody's work and is left alone. FormatError.
template <class D, class T>
bool Session<D, T>::exports_are_whole() {
  const RunOutputs::Damage damage = folder_.outputs().damage();
  const auto first = [this](const std::vector<std::string>& files) {
    return concat(path(files[0].c_str()),
                  files.size() > 1 ? concat(" and ", files.size() - 1, " more files") : std::string());
  };
  require<FormatError>(
      damage.changed.empty(), "[distil] this run is finished, but ",
      damage.changed.empty() ? "" : first(damage.changed),
      " has other bytes than were written (damaged or edited): move it away and give the same command; "
      "it is written again from the last checkpoint");
  if (damage.missing.empty()) return true;
  require<FormatError>(!Directory(folder_.path()).steps().empty(), "[distil] ", first(damage.missing),
                       " of this finished run is missing, and so are the checkpoints from which it could be written "
                       "again: --resume no makes the run again");
  note(concat(first(damage.missing), " is missing: it is written again from the last checkpoint"));
  return false;
}

template <class D, class T>
RecipePlan Session<D, T>::plan(const Accelerator* machine) {
  const StopScope scope(&stop_);
  if constexpr (CountsMemory<D>)
    if (machine == nullptr) return plan_counted();
  if (!s_.models.apart()) require_taught();  // who is there instead is known once they are opened
  if (!text_) load();
  require_taught();
  const DecoderConfig& teacher = teacher_->config();
  return machine == nullptr ? plan_on(measured_machine<D, T>(teacher), true)
                            : plan_on(assumed_machine(*machine, teacher), false);
}

template <class D, class T>
void Session<D, T>::require_taught() const {
  require<SettingsError>(
      s_.models.taught(), "[distil] ",
      other_name_.empty()  ? std::string()
      : s_.models.by_row() ? concat("the teachers are ", other_name_, "; ")
                           : concat("the teacher is ", other_name_, "; "),
      "a plan of a run without a teacher in memory is not built: --dry-run needs --teacher MODEL and "
      "no --cache");
}

/// What needs no model is checked first: paths, and what a cache gives against the loss.
template <class D, class T>
void Session<D, T>::check_before_loading() {
  check_inputs_are_there(s_);
  if (s_.models.cached()) open_caches();
}

template <class D, class T>
void Session<D, T>::load() {
  if (text_) return;  // plan() has loaded it
  check_before_loading();
  enter(SessionPhase::loading);
  std::optional<Tokenizer> tokenizer;
  load_models(tokenizer);
  for (const std::optional<Model>* model : {&teacher_, &student_})
    if (*model)
      for (const std::string& text : (*model)->notes()) note(text);
  warn_of_equal_models();
  prepare_student();
  const auto writing = [this](const WritingReport& report) {
    events_.on_writing(report);
    check_stop();
  };
  text_.emplace(s_, writer(), std::move(tokenizer), context_length(), writing, cached_text());
  for (const std::string& text : text_->notes()) note(text);
  if (rank_settings().active()) text_->share_with(ranks_);
  plan_stages();
  const RecipeModels& models = s_.models;
  if (s_.text.answers.empty() || !models.taught() || counts_) return;
  std::string hash = input_hash("teacher", models.teacher);
  if (!models.teacher_adapter.empty()) hash += " " + input_hash("teacher-adapter", models.teacher_adapter);
  text_->keep_answers(std::move(hash));
}

/// The content_hash of an input: that of run(), where it was made.
template <class D, class T>
std::string Session<D, T>::input_hash(std::string_view name, const std::string& place) const {
  for (const auto& [known, hash] : inputs_)
    if (known == name) return hash;
  return content_hash(place);
}

/// Tokens of a prompt and its answer: what the settings say, within what both models were made for.
template <class D, class T>
std::int64_t Session<D, T>::context_length() const {
  std::int64_t length = s_.text.max_length;
  for (const std::optional<Model>* model : {&teacher_, &student_})
    if (*model && (*model)->config().context_length > 0) length = std::min(length, (*model)->config().context_length);
  return length;
}

/// Rounds and adapts the student as the settings say.
template <class D, class T>
void Session<D, T>::prepare_student() {
  enter(SessionPhase::rounding);
  const RecipeTrains trains = s_.student.trains;
  if (trains == RecipeTrains::qat_lora) add_adapter();
  if (s_.compensates()) original_.emplace(student_->share());
  if (s_.student.rounded) round_student();
  if (trains == RecipeTrains::all && !s_.student.rounded)
    for (const Linear<D, T>* l : student_->linears())
      require<ConfigError>(l->packed() == nullptr, "[distil] ", s_.models.student_path(), " holds ", l->path,
                           " packed: its weights cannot be trained; use --train lora");
  if (trains == RecipeTrains::lora) add_adapter();
  note(concat("trained: ", detail::trained_text(s_.student)));
}

/// A new adapter, or the user's.
template <class D, class T>
void Session<D, T>::add_adapter() {
  const std::string& given = s_.models.student_adapter;
  if (given.empty()) {
    add_lora(*student_, s_.adapter());
    return;
  }
  note(concat("the student's adapter is ", given));
  for (const std::string& text : load_adapter(*student_, given)) note(text);
}

template <class D, class T>
void Session<D, T>::round_student() {
  const RecipeTrains trains = s_.student.trains;
  const QuantizeSettings format = s_.student.rounding();
  const StudentSettings training{.trains = trains == RecipeTrains::qat_lora ? TrainedPart::adapter
                                           : trains == RecipeTrains::scales ? TrainedPart::scales
                                                                            : TrainedPart::weights,
                                 .straight_through = s_.student.straight_through};
  const QuantizeReport report =
      trains == RecipeTrains::lora ? quantize_linear(*student_, format) : quantize_student(*student_, format, training);
  rounded_ = concat(describe(format), ": ", report.matrices, " matrices in ", detail::mebibytes_text(report.bytes),
                    " MiB, relative error ", detail::number_text("%.4f", report.relative_error));
  note(concat("student rounded to ", rounded_));
}

KDLIB_NAMESPACE_END

#include "kdlib/recipe/session_cache_inl.hpp"
#include "kdlib/recipe/session_counted_inl.hpp"
#include "kdlib/recipe/session_files_inl.hpp"
#include "kdlib/recipe/session_models_inl.hpp"
#include "kdlib/recipe/session_named_inl.hpp"
#include "kdlib/recipe/session_ranked_inl.hpp"
#include "kdlib/recipe/session_remote_inl.hpp"
#include "kdlib/recipe/session_stages_inl.hpp"
#include "kdlib/recipe/session_training_inl.hpp"

#endif
