// SPDX-License-Identifier: Apache-2.0
// Bodies of ReasoningRun.
#ifndef KDLIB_TOOLS_REASONING_RUN_INL_HPP
#define KDLIB_TOOLS_REASONING_RUN_INL_HPP

#include "kdlib/checkpoint/save_model.hpp"
#include "kdlib/core/clock.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/loss/anchored_policy_gradient.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/teacher/scored.hpp"
#include "kdlib/teacher/vocabulary.hpp"
#include "kdlib/tools/known_configs.hpp"
#include "kdlib/tools/random_models.hpp"
#include "kdlib/tools/reasoning_run.hpp"
#include "kdlib/train/trainer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Shows steps, measures, and keeps texts under way beside checkpoints.
template <class Model>
class ReasoningHooks final : public RunHooks {
 public:
  ReasoningHooks(Model& student, ReasoningEvaluation<Model>& evaluation, Progress& progress, std::string folder,
                 AsynchronousRollouts<Model>* own)
      : student_(student), evaluation_(evaluation), progress_(progress), folder_(std::move(folder)), own_(own) {}
  void on_start(std::int64_t step, std::int64_t) override {
    if (own_ != nullptr && step > 0) own_->restore(Directory(folder_).checkpoint_path(step));
  }
  void on_step(const StepReport& report) override { progress_.show(report); }
  Evaluation evaluate(std::int64_t step) override { return evaluation_(student_, step); }
  void write_files(const std::string& folder, std::int64_t, bool best) override {
    if (own_ != nullptr && !best) own_->save(folder);
  }
  void on_message(const std::string& text) override { progress_.note(text); }

 private:
  Model& student_;
  ReasoningEvaluation<Model>& evaluation_;
  Progress& progress_;
  std::string folder_;
  AsynchronousRollouts<Model>* own_;
};

}  // namespace detail

template <class D, class T>
ReasoningRun<D, T>::ReasoningRun(ReasoningSettings settings) : s_(std::move(settings)) {
  check_reasoning_settings(s_);
  teacher_known_ = !s_.teacher.empty() || s_.has_stage("2a");
  if (s_.rescored.empty()) s_.rescored = place("rescored");
  s_.confidence.center_by_span = s_.center == "span";
}

template <class D, class T>
std::string ReasoningRun<D, T>::place(const std::string& name) const {
  return join_path(s_.out, name);
}

template <class D, class T>
int ReasoningRun<D, T>::run() {
  const auto lock = OutputLock::folder(s_.out, "[vpmoe_student] ");
  if (s_.random_weights) make_random_models();
  if (s_.has_stage("1") && !train(1)) return stopped_status();
  if (s_.has_stage("2a")) rescore();
  if (s_.has_stage("2b") && !train(2)) return stopped_status();
  if (s_.has_stage("3") && !train(3)) return stopped_status();
  progress_.finish();
  write_reasoning_report(s_.out);
  return 0;
}

template <class D, class T>
void ReasoningRun<D, T>::make_model(const char* name, const DecoderConfig& config, std::uint64_t seed) const {
  const std::string folder = place(concat("random/", name)), partial = folder + ".partial";
  if (path_exists(folder)) return;
  const Tokenizer tokenizer = Tokenizer::from_pretrained(s_.tokenizer);
  DecoderConfig sized = config;
  sized.vocab_size = tokenizer.vocab_size();
  sized.context_length = 1024;
  const auto ret = tokenizer.token_to_id("<|return|>"), end = ret ? ret : tokenizer.eos_id();
  require<ConfigError>(end.has_value(), "[vpmoe_student] ", s_.tokenizer,
                       " names no token that ends a text (<|return|>, or its eos token)");
  sized.eos_ids = {*end};
  remove_tree(partial);
  Model::from_config(sized, seed).save_pretrained(partial);
  save_tokenizer(tokenizer, partial, sized.context_length);
  rename_path(partial, folder);
}

template <class D, class T>
void ReasoningRun<D, T>::make_random_models() {
  detail::ready_random_models("[vpmoe_student] ", place("random"),
                              concat("seed ", s_.seed, " ", content_hash(s_.tokenizer), "\n"),
                              "seed or tokenizer; use another --out");
  if (s_.teacher.empty()) {
    make_model("teacher", tiny_config(gpt_oss_20b_config()), s_.seed);
    s_.teacher = place("random/teacher");
  }
  if (s_.student.empty()) {
    make_model("student", tiny_config(vpmoe_config()), s_.seed + 1);
    s_.student = place("random/student");
  }
}

/// The model that a stage starts from: the one before, else --student.
template <class D, class T>
std::string ReasoningRun<D, T>::start_of(int stage) const {
  const std::string before = place(concat("stage", stage - 1, "/model"));
  if (stage > 1 && path_exists(before)) return before;
  require<ConfigError>(!s_.student.empty(), "[vpmoe_student] stage ", stage, " starts from ", before,
                       ", which is not there: run stage ", stage - 1, " first, or give --student");
  return s_.student;
}

template <class D, class T>
ScoreDocument ReasoningRun<D, T>::scorer() {
  if (!teacher_) {
    const auto tokenizer = find_model_tokenizer(s_.teacher);
    require<ConfigError>(tokenizer.has_value(), "[vpmoe_student] ", s_.teacher,
                         " has no tokenizer, by which its ids are known to be those of the token files");
    TokenShards::open(s_.data, "train").require_tokenizer(*tokenizer);
    teacher_.emplace(Model::from_pretrained(s_.teacher, {.trainable = false}));
  }
  return [this](std::span<const std::int32_t> ids) {
    TokenBatch batch;
    batch.append(ids);
    batch.check(teacher_->vocab_size());
    return token_log_probs(*teacher_, batch);
  };
}

template <class D, class T>
void ReasoningRun<D, T>::rescore() {
  RescoreSettings r;
  r.out = s_.rescored;
  r.fraction = s_.rescore_fraction;
  r.min_reasoning = s_.min_reasoning;
  r.teacher = content_hash(s_.teacher);
  r.dtype = "float";
  r.message = [this](const std::string& text) { note(text); };
  make_directories(r.out);
  if (r.out == place("rescored")) remove_stale_temporaries_below(r.out);  // else workers of other machines may write
  const ScoreDocument score = scorer();
  const double begin = steady_seconds();
  const RescoreResult result = rescore_documents(TokenShards::open(s_.data, "train"), r, score);
  progress_.note(concat("stage 2a: ", result.selected, " documents in ", result.parts, " parts, ", result.scored,
                        " tokens scored now, in ", duration_text(steady_seconds() - begin)));
}

/// The parts of stage 2b, which must be those of this run's files, teacher and selection.
template <class D, class T>
TokenShards ReasoningRun<D, T>::open_rescored(const TokenShards& files) {
  require<ConfigError>(path_exists(join_path(s_.rescored, "manifest.json")), "[vpmoe_student] ", s_.rescored,
                       " has no manifest.json, so that stage 2a is not done: run --stage 2a, or rescore");
  TokenShards parts = TokenShards::open(s_.rescored, "parts");
  parts.require_tokenizer(*tokenizer_);
  const RescoredOrigin origin = RescoredOrigin::read(s_.rescored);
  RescoredNeeds needs;
  needs.token_files = files.run();
  if (s_.fraction_given) needs.fraction = s_.rescore_fraction;
  if (s_.min_reasoning_given) needs.min_reasoning = s_.min_reasoning;
  const bool named = origin.teacher.starts_with("server model ");  // by a server that knows no hash of its model
  if (teacher_known_ && !named) needs.teacher = content_hash(s_.teacher);
  origin.require_same(needs);
  if (needs.teacher.empty())
    note(concat("the parts in ", s_.rescored, " were scored by ", printable(origin.teacher),
                named ? ", a name that no --teacher can be compared with"
                      : "; give --teacher, and another one's parts are refused"));
  return parts;
}

template <class D, class T>
AsynchronousSettings ReasoningRun<D, T>::rollout_settings() const {
  AsynchronousSettings a;
  a.plans = s_.plans;
  a.curriculum.rollouts = s_.rollouts;
  a.curriculum.tokens = s_.opd_tokens;
  a.curriculum.seed = a.seed = s_.seed;
  const std::vector<double> caps = reasoning_numbers("caps", s_.caps, 3, 1);
  for (std::size_t m = 0; m < 3; ++m) a.curriculum.caps[m] = static_cast<std::int64_t>(caps[m]);
  a.micro_batches = s_.micro_batches;
  a.max_prompt_length = s_.max_prompt_length;
  return a;
}

template <class D, class T>
RunSettings ReasoningRun<D, T>::run_settings(int stage, const std::string& start) const {
  const std::vector<double> steps = reasoning_numbers("steps", s_.steps, 3, 1),
                            weights = reasoning_numbers("span-weights", s_.span_weights, 2, 0);
  RunSettings r;
  r.steps = static_cast<std::int64_t>(steps[static_cast<std::size_t>(stage - 1)]);
  r.micro_batches = s_.micro_batches;
  r.clip_norm = s_.clip_norm;
  r.save_every = s_.save_every;
  r.evaluate_every = s_.evaluate_every;
  r.evaluate_first = s_.evaluate_every > 0;
  r.spans = {{"reasoning", weights[0]}, {"final", weights[1]}};
  r.settings = {{"stage", std::to_string(stage)},
                {"start", content_hash(start)},
                {"balance", setting_text(s_.balance)},
                {"evaluate_every", std::to_string(s_.evaluate_every)}};
  if (stage == 3) r.settings.emplace_back("scoring_teacher", content_hash(s_.teacher));
  r.stop = signals_.flag();
  return r;
}

template <class D, class T>
bool ReasoningRun<D, T>::train(int stage) {
  const std::string folder = place(concat("stage", stage));
  if (path_exists(join_path(folder, "model"))) return note(concat("stage ", stage, " is done")), true;
  const std::string start = start_of(stage);
  tokenizer_ = find_model_tokenizer(start);
  require<ConfigError>(tokenizer_.has_value(), "[vpmoe_student] ", start,
                       " has no tokenizer, by which its ids are known to be those of the token files");
  const TokenShards files = TokenShards::open(s_.data, "train");
  files.require_tokenizer(*tokenizer_);
  progress_.note(concat("stage ", stage, " from ", start));
  Model student = Model::from_pretrained(start);
  check_tokenizer_fits(*tokenizer_, student.vocab_size());
  if (s_.balance > 0 && student.experts() > 0) student.set_router_policy({.balance = s_.balance});
  make_directories(folder);
  const IndexedSettings order{.tokens = s_.batch_tokens, .seed = s_.seed};
  IndexedDataset plain(files, order);
  std::optional<RescoredMix> mix;
  std::optional<Model> writer;
  std::optional<AsynchronousRollouts<Model>> own;
  std::optional<ReasoningSource<Model>> source;
  if (stage == 1) source.emplace(plain, scored_);
  if (stage == 2) {
    mix.emplace(std::move(plain), IndexedDataset(open_rescored(files), order),
                RescoredMixSettings{s_.rescored_share, s_.micro_batches, s_.confidence});
    source.emplace(*mix, scored_);
  } else if (stage == 3) {
    writer.emplace(Model::from_pretrained(start, {.trainable = false}));
    const auto message = [](const std::string& text) {  // from any thread, so not by way of the bar
      std::fprintf(stderr, "note: %s\n", terminal_text(text).c_str());
    };
    own.emplace(*writer, scorer(), std::move(plain), RolloutForm::of(files, *tokenizer_), scored_, rollout_settings(),
                message);
    source.emplace(*own);
  }
  ReasoningEvaluation<Model> evaluation(s_, *tokenizer_, files, [this](const std::string& text) { note(text); });
  evaluation.remember_start(student);
  detail::ReasoningHooks<Model> hooks(student, evaluation, progress_, folder, own ? &*own : nullptr);
  RunSettings settings = run_settings(stage, start);
  settings.hooks = &hooks;
  const RunResult result = train_with(stage, student, *source, std::move(settings));
  if (result.stopped) return note("stopped; the same command goes on"), false;
  write_model(stage, student, result);
  return true;
}

template <class D, class T>
RunResult ReasoningRun<D, T>::train_with(int stage, Model& student, ReasoningSource<Model>& source,
                                         RunSettings settings) {
  const std::string folder = place(concat("stage", stage));
  const StopScope stop(signals_.flag());  // waiting for texts ends, too
  const std::int64_t warmup = std::min(s_.warmup, settings.steps);
  const WarmupCosine rate{
      .peak = stage == 3 ? s_.rollout_learning_rate : s_.learning_rate, .warmup = warmup, .total = settings.steps};
  Trainer trainer{student, source, Objective{ScoredTeacher{scored_, student.vocab_size()}, AnchoredPolicyGradient{}},
                  AdamW{}, rate};
  return trainer.run(settings, JsonLines{join_path(folder, "metrics.jsonl")}, Directory{folder});
}

template <class D, class T>
void ReasoningRun<D, T>::write_model(int stage, Model& student, const RunResult& result) {
  const std::string folder = place(concat("stage", stage, "/model")), partial = folder + ".partial";
  remove_tree(partial);
  save_model(student, partial, start_of(stage));
  rename_path(partial, folder);
  progress_.note(concat("stage ", stage, ": ", result.step, " steps, loss ", setting_text(result.loss), ", in ",
                        duration_text(result.seconds), "; ", folder));
}

KDLIB_NAMESPACE_END

#endif
