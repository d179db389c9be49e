// SPDX-License-Identifier: Apache-2.0
// Bodies of distil.hpp.
#ifndef KDLIB_TOOLS_DISTIL_INL_HPP
#define KDLIB_TOOLS_DISTIL_INL_HPP

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdio>

#include "kdlib/tools/distil.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Settings that may differ between the attempts of one run: they change no number of it.
inline bool free_distil_setting(const std::string& key) {
  for (const char* name : {"out", "threads", "keep", "save-every", "resume", "dry-run", "device", "config", "preset"})
    if (key == name) return true;
  return false;
}

/// Refuses a folder whose config.yaml was written by another command, naming the key.
inline void check_same_config(const std::string& path, const Options& options) {
  const std::vector<FileSetting> before = read_yaml_settings(path);
  const auto text = [](const FileSetting& s) {
    std::string out;
    for (const std::string& value : s.values) out += (out.empty() ? "" : ",") + value;
    return out;
  };
  for (const auto& [key, value] : options.settings()) {
    if (free_distil_setting(key)) continue;
    for (const FileSetting& old : before)
      require<ConfigError>(old.key != key || text(old) == value, "[distil] ", path, " has ", key, ": ", text(old),
                           ", this command has ", value,
                           ": continue with the old value, use another --out, or start over with --resume no");
  }
}

/// Keeps a second process out of a folder for as long as it lives; the system lets go when the process ends, however it
/// does.
class FolderLock {
 public:
  FolderLock() = default;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  void take(const std::string& folder) {
    fd_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require<IoError>(fd_ >= 0, "[distil] ", folder, " cannot be opened as a folder");
    require<IoError>(::flock(fd_, LOCK_EX | LOCK_NB) == 0, "[distil] ", folder,
                     " is in use by another process; wait for it or choose another --out");
  }

 private:
  int fd_ = -1;
};

/// Removes what killed processes left of files that were not complete. Only under the lock of the folder.
inline void remove_temporary_files(const std::string& folder) {
  for (const std::string& name : list_directory(folder)) {
    const std::string path = join_path(folder, name);
    if (is_directory(path)) remove_temporary_files(path);
    else if (name.find(".tmp-") != std::string::npos) remove_tree(path);
  }
}

/// Calls f(loss) with the loss that the settings name. Strings become types here and nowhere else.
template <class F>
auto with_loss(const DistilSettings& s, F&& f) {
  const auto temperature = static_cast<float>(s.temperature);
  const bool t_squared = s.t_squared.value_or(s.temperature != 1);
  if (s.loss == "forward_kl" || (s.loss == "jsd" && s.beta == 0))
    return f(ForwardKl{.temperature = temperature, .t_squared = t_squared});
  if (s.loss == "reverse_kl" || (s.loss == "jsd" && s.beta == 1))
    return f(ReverseKl{.temperature = temperature, .t_squared = t_squared});
  return f(JensenShannon{.beta = static_cast<float>(s.beta), .temperature = temperature, .t_squared = t_squared});
}

/// What a run trains and what it will leave behind.
inline std::string trained_text(const DistilSettings& s) {
  if (s.train == "lora" && s.quantize == "none") return "an adapter; adapter/ holds it in PEFT's form";
  if (s.train == "lora")
    return "an adapter beside frozen codes; adapter/ holds it in PEFT's form, base/ the codes that it belongs to";
  if (s.quantize == "none") return "every weight; model/ holds them";
  const char* what = s.train == "qat_lora" ? "an adapter inside the rounding, Q(W + s B A)"
                     : s.train == "all"    ? "every weight, linear layers through their codes"
                                           : "the scales of the codes";
  return concat(
      what, "; model/ holds the values of the codes in float32, exactly those that were trained, packed/ the codes");
}

/// A rate of the kind that the settings name, as one type.
struct DistilSchedule {
  std::string kind;
  WarmupLinear linear{};
  WarmupCosine cosine{};

  double operator()(std::int64_t step) const {
    if (kind == "linear") return linear(step);
    if (kind == "cosine") return cosine(step);
    return step < linear.warmup ? linear.peak * static_cast<double>(step + 1) / static_cast<double>(linear.warmup)
                                : linear.peak;
  }
  SettingsList describe() const {
    SettingsList list = kind == "cosine" ? cosine.describe() : linear.describe();
    list.emplace_back("schedule.kind", kind);
    return list;
  }
};

inline DistilSchedule make_schedule(const DistilSettings& s) {
  return {s.schedule,
          {.peak = s.learning_rate, .warmup = std::min(s.warmup, s.steps), .total = s.steps},
          {.peak = s.learning_rate, .warmup = std::min(s.warmup, s.steps), .total = s.steps}};
}

}  // namespace detail

/// One run: state of the phases, and the hooks that the trainer calls.
template <class D, class T>
class DistilRun final : public RunHooks {
 public:
  using Model = Decoder<D, T>;

  DistilRun(const DistilSettings& settings, const Options& options) : s_(settings), options_(options) {}

  int run();

  /// After run(): what it trained and measured on; nullptr and an empty batch where there was nothing left to do.
  Model* student() { return student_ ? &*student_ : nullptr; }
  const TokenBatch& held_out() const { return held_out_; }

  void on_step(const StepReport& report) override { progress_.show(report); }
  void on_message(const std::string& text) override { progress_.note(text); }
  Evaluation evaluate(std::int64_t step) override;
  void write_files(const std::string& folder, std::int64_t, bool) override { write_student(folder); }

 private:
  std::string path(const char* name) const { return join_path(s_.out, name); }
  bool finished_before();
  void prepare_folder();
  void load();
  void prepare_student();
  void write_merged(DistilResult& result);
  void plan();
  EvaluationRow measure(const char* name);
  void measure_before();
  RunResult train();
  void write_student(const std::string& folder);
  void write_base();
  std::string write_codes(const char* name, bool base);
  void write_tokenizer(const char* name);
  void finish(const RunResult& run);
  void writing(const char* what, const GenerationProgress& p);
  int stopped_status() const { return 128 + signals_.signal(); }
  std::string student_name() const;
  static std::string environment_text();

  const DistilSettings& s_;
  const Options& options_;
  Progress progress_;
  StopSignals signals_;
  detail::FolderLock lock_;
  std::optional<Model> teacher_, student_;
  std::optional<DistilText<Model>> text_;
  std::optional<RememberedTeacher<Model>> held_out_teacher_;
  TokenBatch held_out_;
  DistilResult before_;
  std::optional<EvaluationRow> last_;  // newest evaluation and its step
  std::int64_t last_step_ = -1;
  std::string quantized_, packed_;  // the format; the form of the files that hold it, empty where none do
  bool shares_weights_ = false;
};

template <class D, class T>
bool DistilRun<D, T>::finished_before() {
  if (s_.resume == "no" || s_.dry_run || !path_exists(path("config.yaml"))) return false;
  detail::check_same_config(path("config.yaml"), options_);
  if (!path_exists(path("result.json")) || !path_exists(path("report.html"))) return false;
  const DistilResult result = read_result_json(path("result.json"));
  progress_.note(concat("this run is finished: ", s_.out, " (--resume no starts it over)"));
  std::fputs(result_table(result).c_str(), stdout);
  return true;
}

template <class D, class T>
void DistilRun<D, T>::prepare_folder() {
  make_directories(s_.out);
  lock_.take(s_.out);
  detail::remove_temporary_files(s_.out);
  if (s_.resume == "no")
    for (const char* name : {"result.json", "report.html", "before.json", "config.yaml", "metrics.jsonl", "checkpoints",
                             "best", "text", "validation_text", "adapter", "model", "base", "packed"})
      remove_tree(path(name));
  if (!path_exists(path("config.yaml"))) write_file_atomically(path("config.yaml"), options_.yaml());
}

template <class D, class T>
void DistilRun<D, T>::load() {
  progress_.note(concat("loading ", s_.teacher));
  const bool shares = s_.student_path() == s_.teacher && s_.train != "all";
  // What is trained through codes needs its weights in memory; a teacher that shares them has them there, too.
  const WeightStorage of_student = s_.train == "lora" ? WeightStorage::in_file : WeightStorage::decoded;
  teacher_.emplace(Model::from_pretrained(
      s_.teacher, {.trainable = false, .weights = shares ? of_student : WeightStorage::in_file}));
  std::optional<Tokenizer> tokenizer = find_model_tokenizer(s_.teacher);
  if (tokenizer) check_tokenizer_fits(*tokenizer, teacher_->vocab_size());
  if (shares) {
    student_.emplace(teacher_->share());
    shares_weights_ = true;
  } else {
    student_.emplace(
        Model::from_pretrained(s_.student_path(), {.trainable = s_.train == "all", .weights = of_student}));
    const std::optional<Tokenizer> other = find_model_tokenizer(s_.student_path());
    const std::int64_t ids = common_vocabulary({teacher_->vocab_size(), tokenizer ? &*tokenizer : nullptr},
                                               {student_->vocab_size(), other ? &*other : nullptr});
    teacher_->set_real_vocabulary(ids);
    student_->set_real_vocabulary(ids);
  }
  for (const Model* model : {&*teacher_, &*student_})
    for (const std::string& note : model->notes()) progress_.note(note);
  prepare_student();
  text_.emplace(s_, *teacher_, std::move(tokenizer),
                [this](const char* what, const GenerationProgress& p, std::int64_t) { writing(what, p); });
}

/// Rounds and adapts the student as the settings say.
template <class D, class T>
void DistilRun<D, T>::prepare_student() {
  const bool inside = s_.train == "qat_lora", codes = s_.quantize != "none";
  if (inside) add_lora(*student_, s_.adapter());
  if (codes) {
    const QuantizeSettings format = s_.quantizer();
    const StudentSettings training{
        .trains = inside                 ? TrainedPart::adapter
                  : s_.train == "scales" ? TrainedPart::scales
                                         : TrainedPart::weights,
        .straight_through = s_.straight_through == "clipped" ? StraightThrough::clipped : StraightThrough::identity};
    const QuantizeReport report =
        s_.train == "lora" ? quantize_linear(*student_, format) : quantize_student(*student_, format, training);
    quantized_ = concat(describe(format), ": ", report.matrices, " matrices in ",
                        detail::number_text("%.1f", static_cast<double>(report.bytes) / 1048576.0),
                        " MiB, relative error ", detail::number_text("%.4f", report.relative_error));
    progress_.note(concat("student rounded to ", quantized_));
  }
  if (s_.train == "all" && !codes)
    for (const Linear<D, T>* l : student_->linears())
      require<ConfigError>(l->packed == nullptr, "[distil] ", s_.student_path(), " holds ", l->path,
                           " packed: its weights cannot be trained; use --train lora");
  if (s_.train == "lora") add_lora(*student_, s_.adapter());
  progress_.note(concat("trained: ", detail::trained_text(s_)));
}

template <class D, class T>
void DistilRun<D, T>::writing(const char* what, const GenerationProgress& p) {
  const double seconds = p.prompt_seconds + p.decoding_seconds;
  if (p.finished < p.sequences) {
    progress_.show(
        p.finished, p.sequences, seconds,
        concat(what, ", ", p.new_tokens, " tokens",
               seconds > 0
                   ? concat(", ", static_cast<std::int64_t>(static_cast<double>(p.new_tokens) / seconds), " tokens/s")
                   : ""));
  } else {
    progress_.finish();
  }
  if (signals_.signal() != 0) throw StopRequested("stopped while text was written");
}

template <class D, class T>
std::string DistilRun<D, T>::environment_text() {
  std::string out;
  for (const auto& [key, value] : run_environment<D, T>())
    if (key != "program") out += (out.empty() ? "" : ", ") + key + " " + value;
  return out;
}

template <class D, class T>
void DistilRun<D, T>::plan() {
  const DecoderConfig& teacher = teacher_->config();
  const PlanMachine machine =
      s_.device == "cpu" ? measured_machine<D, T>(teacher) : assumed_machine(find_accelerator(s_.device), teacher);
  std::printf("%s",
              plan_distil(s_, {teacher, student_->config(), shares_weights_, text_->mean_prompt_tokens()}, machine)
                  .text()
                  .c_str());
  std::printf("  %s\n", environment_text().c_str());
}

template <class D, class T>
EvaluationRow DistilRun<D, T>::measure(const char* name) {
  const Agreement a =
      agreement(*student_, *held_out_teacher_, held_out_, {.workspace_bytes = std::int64_t{s_.workspace} << 20});
  return {name,         a.forward_kl,      a.reverse_kl,      a.top1,  a.top5,
          a.perplexity, a.student_entropy, a.teacher_entropy, a.tokens};
}

template <class D, class T>
void DistilRun<D, T>::measure_before() {
  held_out_ = text_->validation();
  held_out_teacher_.emplace(*teacher_);
  if (path_exists(path("before.json"))) {
    before_ = read_result_json(path("before.json"));
    return;
  }
  const char* name = s_.quantize == "none" ? "student before" : "rounded";
  progress_.note("measuring the student before training");
  const EvaluationRow rounded = measure(name);
  EvaluationRow teacher{"teacher", 0, 0, 1, 1, 0, rounded.teacher_entropy, rounded.teacher_entropy, rounded.tokens};
  teacher.perplexity = perplexity(*teacher_, held_out_, {.workspace_bytes = std::int64_t{s_.workspace} << 20}).value();
  before_.rows = {teacher, rounded};
  const auto shown = text_->shown_prompts(3);
  const std::vector<std::string> by_teacher = text_->answers(*teacher_, shown),
                                 by_student = text_->answers(*student_, shown);
  for (std::size_t i = 0; i < shown.size(); ++i)
    before_.samples.push_back({shown[i].text, {{"teacher", by_teacher[i]}, {name, by_student[i]}}});
  write_file_atomically(path("before.json"), result_json(before_));
}

template <class D, class T>
Evaluation DistilRun<D, T>::evaluate(std::int64_t step) {
  EvaluationRow row = step == 0 ? before_.rows.back() : measure("distilled");
  progress_.note(concat("step ", step, ": held-out forward KL ", detail::number_text("%.4f", row.forward_kl),
                        ", top-1 agreement ", detail::number_text("%.3f", row.top1)));
  Evaluation out;
  out.values = {{"evaluation/forward_kl", row.forward_kl},
                {"evaluation/reverse_kl", row.reverse_kl},
                {"evaluation/top1_agreement", row.top1},
                {"evaluation/top5_overlap", row.top5},
                {"evaluation/perplexity", row.perplexity}};
  out.best_by = row.forward_kl;
  last_ = std::move(row);
  last_step_ = step;
  return out;
}

template <class D, class T>
void DistilRun<D, T>::write_tokenizer(const char* name) {
  write_tokenizer_files(s_.student_path(), find_model_tokenizer(s_.student_path()), student_->config().context_length,
                        path(name));
}

/// The student's codes as they are; answers the form.
template <class D, class T>
std::string DistilRun<D, T>::write_codes(const char* name, bool base) {
  const PackedSaveReport report = save_packed(*student_, path(name), {.without_adapter = base});
  write_tokenizer(name);
  return concat("in the form of ", packed_form_name(report.form), ", ",
                detail::number_text("%.1f", static_cast<double>(report.bytes) / 1048576.0), " MiB, the rest in ",
                report.dtype);
}

/// The rounded student without its adapter: frozen, so it is there from the first step on, also for the adapters of
/// checkpoints. A model that no directory can describe (a GGUF file with frequencies of its own) is trained all the
/// same; programs then refuse the folder of the run by name.
template <class D, class T>
void DistilRun<D, T>::write_base() {
  if (s_.train != "lora" || s_.quantize == "none") return;
  try {
    packed_ = write_codes("base", true);
  } catch (const ConfigError& error) {
    remove_tree(path("base"));
    progress_.note(concat("base/ is not written, adapter/ alone will be: ", error.what()));
  }
}

template <class D, class T>
void DistilRun<D, T>::write_student(const std::string& folder) {
  if (s_.train == "lora")
    save_adapter(*student_, join_path(folder, "adapter"),
                 {.base_model_name_or_path = packed_.empty() ? s_.student_path() : path("base")});
  else
    student_->save_pretrained(
        join_path(folder, "model"),
        {.dtype = s_.quantize == "none" ? "" : "float32"});  // 16 bits would round the codes' values
}

template <class D, class T>
RunResult DistilRun<D, T>::train() {
  RunSettings run;
  run.steps = s_.steps;
  run.micro_batches = s_.micro_batches;
  run.clip_norm = s_.clip;
  run.save_every = s_.save_every;
  run.keep = s_.keep;
  run.evaluate_every = s_.evaluate_every > 0 ? s_.evaluate_every : s_.steps;
  run.evaluate_first = true;
  run.recompute = s_.recompute;
  run.workspace_bytes = std::int64_t{s_.workspace} << 20;
  run.replay_routing = s_.replay_routing;
  for (const auto& [key, value] : options_.settings())
    if (!detail::free_distil_setting(key)) run.settings.emplace_back("--" + key, value);
  run.hooks = this;
  run.stop = signals_.flag();
  return detail::with_loss(s_, [&](const auto& loss) {
    Trainer trainer{*student_, text_->source(), Objective{LiveTeacher{*teacher_}, loss},
                    AdamW{.beta1 = s_.beta1, .beta2 = s_.beta2, .weight_decay = s_.weight_decay},
                    detail::make_schedule(s_)};
    return trainer.run(run, JsonLines{path("metrics.jsonl")}, Directory{s_.out});
  });
}

template <class D, class T>
std::string DistilRun<D, T>::student_name() const {
  const std::string base = s_.student_path() == s_.teacher ? "a copy of the teacher" : s_.student_path();
  return quantized_.empty() ? base : concat(base, ", ", quantized_);
}

/// Rounds the adapter into the codes: not the function that was trained, so its loss is measured and told.
template <class D, class T>
void DistilRun<D, T>::write_merged(DistilResult& result) {
  const double trained = result.rows.back().forward_kl;
  const QuantizeReport report = merge_into_codes(*student_);
  const EvaluationRow row = measure("merged");
  student_->save_pretrained(path("model"), {.dtype = "float32"});
  const std::string text =
      concat("held-out forward KL ", detail::number_text("%.4f", trained), " -> ",
             detail::number_text("%.4f", row.forward_kl), ", top-1 agreement ",
             detail::number_text("%.3f", result.rows.back().top1), " -> ", detail::number_text("%.3f", row.top1),
             ", relative error of the sum ", detail::number_text("%.4f", report.relative_error));
  progress_.note(concat("warning: model/ holds weights and adapter rounded together, which is not what was trained: ",
                        text, "; --train qat_lora trains what is exported"));
  result.facts.emplace_back("model/, adapter rounded into the codes", text);
}

template <class D, class T>
void DistilRun<D, T>::finish(const RunResult& run) {
  DistilResult result = before_;
  result.steps = run.step;
  result.seconds = run.seconds;
  result.best_step = run.best_step;
  result.rows.push_back(last_ && last_step_ == run.step ? *last_ : measure("distilled"));
  result.rows.back().model = "distilled";
  const auto shown = text_->shown_prompts(3);
  const std::vector<std::string> answers = text_->answers(*student_, shown);
  for (std::size_t i = 0; i < answers.size(); ++i) result.samples[i].answers.emplace_back("distilled", answers[i]);
  result.facts = {{"teacher", s_.teacher + " (weights decoded to " + (sizeof(T) == 4 ? "float32)" : "float64)")},
                  {"student", student_name()}};
  for (const auto& [key, value] : options_.settings()) result.facts.emplace_back("--" + key, value);
  for (const auto& [key, value] : run_environment<D, T>()) result.facts.emplace_back(key, value);
  result.facts.emplace_back("wall time of the steps", duration_text(run.seconds));
  write_student(s_.out);
  const bool lora = s_.train == "lora", codes = s_.quantize != "none";
  if (!lora) write_tokenizer("model");
  if (!lora && codes) packed_ = write_codes("packed", false);
  if (codes)
    result.facts.emplace_back(lora ? "base/, the student's codes" : "packed/, the student's codes",
                              packed_.empty() ? "not written" : packed_);
  if (s_.merge) write_merged(result);
  write_file_atomically(path("report.html"), render_html(distil_report(result, path("metrics.jsonl"))));
  write_file_atomically(path("result.json"), result_json(result));
  progress_.note(concat("wrote ", path(lora ? "adapter" : "model"), ", ",
                        packed_.empty() ? "" : path(lora ? "base" : "packed") + ", ", path("report.html"), ", ",
                        path("metrics.jsonl"), ", ", path("result.json")));
  std::fputs(result_table(result).c_str(), stdout);
}

template <class D, class T>
int DistilRun<D, T>::run() {
  if (finished_before()) return 0;
  load();
  if (s_.dry_run) return plan(), 0;
  prepare_folder();  // after loading: a wrong path leaves nothing behind
  try {
    measure_before();
    write_base();
    const RunResult result = train();
    if (!result.stopped) {
      finish(result);
      return 0;
    }
    progress_.note(
        concat("stopped at step ", result.step, " of ", s_.steps, "; everything is saved: the same command continues"));
  } catch (const StopRequested&) {
    progress_.note("stopped before the first step; the same command starts again");
  }
  progress_.finish();
  return stopped_status();
}

template <class D, class T>
int run_distil(int argc, const char* const* argv) {
  DistilSettings settings;
  Options options = distil_options(settings);
  options.parse(argc, argv);
  check_distil_settings(settings, options);
  if (settings.threads > 0) set_thread_count(settings.threads);
  return DistilRun<D, T>(settings, options).run();
}

KDLIB_NAMESPACE_END

#endif
