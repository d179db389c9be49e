// SPDX-License-Identifier: Apache-2.0
// A distillation as a library call: from two models and some text to an adapter or a model, with checkpoints, metrics
// and a result. A session prints nothing, catches no signal and does not change the thread pool.
#ifndef KDLIB_RECIPE_SESSION_HPP
#define KDLIB_RECIPE_SESSION_HPP

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/eval/agreement.hpp"
#include "kdlib/eval/perplexity.hpp"
#include "kdlib/eval/teacher_loss.hpp"
#include "kdlib/eval/token_divergence.hpp"
#include "kdlib/loss/any_sum.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/model/compensate.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/recipe/events.hpp"
#include "kdlib/recipe/inputs.hpp"
#include "kdlib/recipe/machines.hpp"
#include "kdlib/recipe/objective.hpp"
#include "kdlib/recipe/plan.hpp"
#include "kdlib/recipe/run_folder.hpp"
#include "kdlib/recipe/run_place.hpp"
#include "kdlib/recipe/session_parts.hpp"
#include "kdlib/recipe/text.hpp"
#include "kdlib/teacher/any_hidden.hpp"
#include "kdlib/teacher/by_row.hpp"
#include "kdlib/teacher/cached.hpp"
#include "kdlib/teacher/cached_hidden.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/teacher/none.hpp"
#include "kdlib/teacher/ranked.hpp"
#include "kdlib/teacher/remembered.hpp"
#include "kdlib/teacher/remote.hpp"
#include "kdlib/teacher/remote_probes.hpp"
#include "kdlib/teacher/top_k_of.hpp"
#include "kdlib/teacher/vocabulary.hpp"
#include "kdlib/train/ranked_store.hpp"
#include "kdlib/train/stage.hpp"
#include "kdlib/train/trainer.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// One of several teachers that lines of text name: a model, a cache or servers.
template <class D, class T>
struct NamedTeacher {
  std::string name, place, text;                  // "math", "models/math", and its name in notes
  Decoder<D, T>* model = nullptr;                 // the model, if in memory
  const OpenedCache* cache = nullptr;             // the cache, if it is one
  std::optional<RemoteTeacherSettings> remote{};  // servers, which were asked who they are
  std::int64_t ids = 0;                           // number of ids that it shares with the student
  // The signal that is taken from this teacher: one of the three is set.
  std::optional<AnyHiddenTeacher<D, T>> hidden{};
  std::optional<AnyTeacher<typename CachedTeacher<D, T>::targets_type>> top_k{};
  std::optional<AnyTeacher<SampledTargets>> sampled{};

  bool gives(RemoteWant want) const {
    if (remote) return want != RemoteWant::hidden || remote->dialect == Dialect::kdlib;
    return want == RemoteWant::top_k || (want == RemoteWant::hidden && (model != nullptr || cache->hidden));
  }
};
}  // namespace detail

/// A stage as a session runs it.
struct SessionStage {
  RecipeStage stage;                // without a name if the run has no stages
  std::int64_t steps = 0, end = 0;  // steps of the stage; steps of the run up to its end
  GroupSelection selection;

  /// Returns the name of the measurement at the end of the stage.
  std::string row_name() const { return "after " + stage.name; }
};

/// How run() ended.
struct SessionOutcome {
  bool finished = false;      // `result` is set
  bool was_finished = false;  // by an earlier run: there was nothing to do
  bool stopped = false;       // on request; a new session with the same settings continues
  bool low_memory = false;    // stopped because memory ran short (RecipeOutput::memory_floor)
  std::int64_t step = 0;      // number of steps done in all
  RecipeResult result{};
};

/// What another thread may ask for at any time.
struct SessionStatus {
  SessionPhase phase = SessionPhase::waiting;
  std::int64_t step = 0, steps = 0;  // steps done; steps of the run
  double loss = 0;                   // of the last step
  double tokens_per_s = 0;           // of the last step
  double seconds = 0;                // of all steps so far
  bool stopping = false;             // request_stop() was called
};

/// One run in RecipeSettings::output.folder, which holds config.yaml, metrics.jsonl, checkpoints/, best/, adapter/ or
/// model/, base/ or packed/ and result.json. If run() throws, the folder stays in a state from which the same settings
/// continue. Sessions of one process may run one after the other, or at the same time on their own threads. They share
/// the thread pool, and each takes the pool when it is free. The folder belongs to one session at a time.
template <class D, class T>
class Session final : private RunHooks {
 public:
  using Model = Decoder<D, T>;
  using TopKTeacher = AnyTeacher<typename CachedTeacher<D, T>::targets_type>;
  using SampledTeacher = AnyTeacher<SampledTargets>;
  using Named = detail::NamedTeacher<D, T>;

  /// `events` is borrowed. Throws SettingsError if the settings contradict each other.
  explicit Session(RecipeSettings settings, SessionEvents* events = nullptr);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Adds a measurement of the teacher and of the student wherever held-out text is measured. Each value goes to the
  /// metrics as "tasks/<name>" and into the rows of the result. It must depend on the model alone. Call this before
  /// run().
  using Measurement = std::function<std::vector<std::pair<std::string, double>>(Model&)>;
  void measure_also(Measurement measurement) { measurement_ = std::move(measurement); }

  /// Makes this session one of several ranks (RunSettings::ranks). All ranks run the same settings except for the
  /// folder: the folder of the first rank is that of the run; the folder of another rank is scratch, to be removed
  /// afterwards. Call this before run(). Every rank trains and measures; the first rank returns a result. A request to
  /// stop before the first step gives RankError, since other ranks may wait: abort the communicator.
  void share_with(AnyCommunicator ranks) { ranks_ = std::move(ranks); }

  /// Takes the teacher from other ranks (RecipeModels::on_ranks), which run serve_teacher_rank(). Call this before
  /// run(). The caller ends the link afterwards.
  void ask_ranks(std::shared_ptr<TeacherLink> link) { teacher_link_ = std::move(link); }

  /// Sets the function that is asked after each step for the free share of memory, instead of free_memory_share(). Call
  /// this before run().
  void watch_memory_by(std::function<double()> share) { memory_share_ = std::move(share); }

  /// Returns what the run will need, on this machine, whose rates are measured, or on `machine`. Loads the models and
  /// writes nothing. On a device type that can count memory (Memory<D>::DryRun) the first steps are run in the dry run,
  /// too; this needs no such device. Afterwards run() is refused, since nothing real was loaded.
  RecipePlan plan(const Accelerator* machine = nullptr);
  /// Runs the distillation; may be called once. Throws IoError, ConfigError, InputError, FormatError or TrainingError.
  SessionOutcome run();

  /// May be called from any thread or a signal handler. run() and plan() end at the next kernel, line or piece of a
  /// file, with everything saved; a step or an evaluation that had begun is made again later. plan() then throws
  /// StopRequested.
  void request_stop() noexcept { stop_.store(true); }
  /// The flag that request_stop() sets.
  std::atomic<bool>& stop_flag() noexcept { return stop_; }
  /// May be called from any thread.
  SessionStatus status() const;

  const RecipeSettings& settings() const { return s_; }
  /// The trained model. nullptr before it is loaded, and if an earlier run had finished.
  Model* student() { return student_ ? &*student_ : nullptr; }
  Model* teacher() { return teacher_ ? &*teacher_ : nullptr; }
  /// The text on which models are measured. Empty if an earlier run had finished.
  const TokenBatch& held_out() const { return held_out_; }
  /// Returns "threads 2, device cpu, ...": the facts that decide the last bits of numbers.
  static std::string environment_text();

 private:
  void on_start(std::int64_t step, std::int64_t steps) override;
  void on_step(const StepReport& report) override;
  bool wants_checkpoint(const StepReport& report) override;
  void on_message(const std::string& text) override { note(text); }
  Evaluation evaluate(std::int64_t step) override;
  void write_files(const std::string& folder, std::int64_t, bool) override { write_student(folder); }
  void on_checkpoint(std::int64_t step) override;

  RecipePlan plan_on(const PlanMachine& machine, bool here) const;
  void require_taught() const;
  /// The settings that every run has in a step, a counted run included.
  RunSettings step_settings(std::int64_t steps) const;
  RecipePlan plan_counted();
  void train_counted(std::int64_t steps);
  void require_memory(double available) const;
  SessionOutcome run_phases();
  RankSettings rank_settings() const {
    return {ranks_, s_.training.reduce, s_.training.write_batch, s_.training.shard_optimizer};
  }
  bool finished_before(SessionOutcome& outcome);
  bool any_rank_finished(SessionOutcome& outcome);
  bool measured_before(std::size_t shown);
  bool exports_are_whole();
  void prepare_folder();
  void load();
  void load_models(std::optional<Tokenizer>& tokenizer);
  std::string equal_models() const;
  void warn_of_equal_models();
  std::string input_hash(std::string_view name, const std::string& place) const;
  void check_before_loading();
  void open_caches();
  void check_caches(const std::optional<Tokenizer>& tokenizer);
  void open_remote(const std::optional<Tokenizer>& tokenizer);
  void open_ranked(const std::optional<Tokenizer>& tokenizer);
  RemoteTeacherSettings remote_settings(const std::string& urls, const std::optional<Tokenizer>& tokenizer) const;
  void probe(RemoteClient& client, const std::optional<Tokenizer>& tokenizer);
  void open_named(const std::optional<Tokenizer>& tokenizer);
  Named open_one_named(const RecipeNamedTeacher& place, const std::optional<Tokenizer>& tokenizer);
  void open_named_cache(Named& named, const std::string& folder, const std::optional<Tokenizer>& tokenizer);
  void open_named_model(Named& named, const std::string& path, const std::optional<Tokenizer>& tokenizer);
  void read_teacher_names();
  void take_hidden(Named& named, const std::optional<Tokenizer>& tokenizer);
  void take_top_k(Named& named, const TopKOfSettings& how, const std::optional<Tokenizer>& tokenizer);
  void take_sampled(Named& named, const std::optional<Tokenizer>& tokenizer);
  TopKOfSettings named_top_k_settings() const;
  void choose_named_targets(const std::optional<Tokenizer>& tokenizer);
  template <class Targets>
  AnyTeacher<Targets> by_row(std::vector<std::pair<std::string, AnyTeacher<Targets>>> teachers) const;
  void find_named_held_out();
  const Named& named_of(const std::string& source) const;
  void check_top_k_temperature(std::int64_t top_k) const;
  std::int64_t shared_with_cache(const TeacherCache& files, const Tokenizer& own, CacheUse& use);
  std::vector<TextLine> lines_of_cache(const TeacherCache& cache) const;
  CachedText cached_text() const;
  void find_held_out_signals();
  TopKTeacher top_k_teacher(const TopKCache& cache) const;
  LossExpression top_k_terms() const { return top_k_objective(s_.objective.loss, s_.models.cache.mass); }
  AnyHiddenTeacher<D, T> hidden_teacher(const TeacherCache& cache) const;
  LossSum held_out_loss(Model& model, const EvaluationSettings& settings);
  void prepare_student();
  void add_adapter();
  void round_student();
  /// The model that writes text and whose tokenizer the text has.
  Model& writer() { return teacher_ ? *teacher_ : *student_; }
  std::int64_t context_length() const;
  EvaluationRow measure(const char* name, Model& model, const AnyCommunicator& ranks = {});
  EvaluationRow measure_alone(const char* name, Model& model, const EvaluationSettings& settings);
  EvaluationRow measure_teacher();
  void add_token_maps(RecipeResult& result, const char* name);
  void measure_before();
  void compensate();
  void save_before() { write_file_atomically(path("before.json"), result_json(before_)); }
  void plan_stages();
  std::int64_t total_steps() const { return stages_.back().end; }
  void keep_stage_row(std::int64_t step, const EvaluationRow& measured);
  void forget_stage_rows(std::int64_t step);
  RunSettings run_settings(const SessionStage& stage);
  template <class Teacher>
  RunResult train_against(const Teacher& teacher, const LossExpression& objective);
  RunResult train();
  void add_answers(RecipeResult& result, const char* who, Model& model);
  RecipeResult finish(const RunResult& run);
  void add_facts(RecipeResult& result, const RunResult& run) const;
  void write_student(const std::string& folder);
  void write_base();
  std::string write_codes(const char* name, bool base);
  void write_tokenizer(const char* name);
  void write_merged(RecipeResult& result);
  std::vector<std::string> write_gguf();
  std::string student_name() const;
  /// `ranks` measure together. Without ranks this one measures alone.
  EvaluationSettings evaluation_settings(const AnyCommunicator& ranks = {}) const {
    return {.workspace_bytes = std::int64_t{s_.training.workspace} << 20, .ranks = ranks};
  }
  std::string path(const char* name) const { return folder_.file(name); }
  void enter(SessionPhase phase);
  void note(const std::string& text);

  const RecipeSettings s_;
  SessionEvents silent_;
  SessionEvents& events_;
  RunFolder folder_;
  Measurement measurement_;
  AnyCommunicator ranks_;
  std::shared_ptr<TeacherLink> teacher_link_;
  SettingsList inputs_;  // content hashes by option
  std::atomic<bool> stop_{false};
  std::function<double()> memory_share_ = free_memory_share;
  bool memory_warned_ = false, low_memory_ = false;
  mutable std::mutex status_mutex_;
  SessionStatus status_;
  std::optional<Model> teacher_, student_;
  std::optional<Model> original_;  // the student before rounding, while the start of the adapter is searched
  std::optional<RecipeTexts<Model>> text_;
  std::optional<detail::OpenedCache> cache_, validation_cache_;
  std::optional<AnyHiddenTeacher<D, T>> held_out_teacher_;  // whole distributions on the held-out text
  std::optional<TopKTeacher> held_out_top_k_;               // or only the top-k
  // A teacher on other machines, or several teachers: one of the three is set.
  std::optional<AnyHiddenTeacher<D, T>> other_hidden_;
  std::optional<TopKTeacher> other_top_k_;
  std::optional<SampledTeacher> other_sampled_;
  std::string other_name_;
  // For several teachers. Models and caches keep their addresses.
  std::deque<Model> named_models_;
  std::deque<detail::OpenedCache> named_caches_;
  std::vector<Named> named_;
  TeacherNames teacher_names_;
  std::int64_t real_vocabulary_ = 0;    // number of ids of a cache that count; 0: all
  std::vector<SessionStage> stages_;    // in order, at least one once the models are loaded
  std::vector<std::string> trainable_;  // what checkpoints hold: a compensated start is not made twice
  TokenBatch held_out_;
  RecipeResult before_;
  std::optional<EvaluationRow> last_;  // newest evaluation; last_step_ is its step
  std::int64_t last_step_ = -1;
  bool ran_ = false;
  bool counts_ = false;           // plan_counted(): written text means nothing and is not kept
  std::string rounded_, packed_;  // the format; the form of the files that hold it, or empty
  bool shares_weights_ = false;
};

/// Runs a rank that holds the teacher: loads the teacher and serves its students until all have ended. `note` is told
/// what is odd in the files.
template <class D, class T>
void serve_teacher_rank(const RecipeModels& models, const TeacherRanks& ranks,
                        const std::function<void(const std::string&)>& note);

KDLIB_NAMESPACE_END

#include "kdlib/recipe/session_inl.hpp"

#endif
