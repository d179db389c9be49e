// SPDX-License-Identifier: Apache-2.0
// evaluate: any number of models in one table: perplexity, divergence from a reference model, calibration, multiple
// choice.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/eval/calibration.hpp>
#include <kdlib/model/adapter.hpp>
#include <kdlib/tools/choice_tasks.hpp>
#include <kdlib/tools/evaluation_table.hpp>
#include <kdlib/tools/model_files.hpp>
#include <kdlib/tools/model_folders.hpp>
#include <kdlib/tools/model_options.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/output_lock.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/progress.hpp>
#include <kdlib/tools/task_evaluation.hpp>
#include <kdlib/tools/task_text.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace kd = kdlib;

namespace {

struct Settings {
  std::vector<std::string> models, adapters, names, tasks;
  std::string chat_template, device = "cpu", dtype = "auto";
  std::string data, reference, json, items, bos = "auto", too_long = "refuse";
  std::int64_t limit = 0, shots = 0, batch = 4096, context = 0;
  int threads = 0;
  std::uint64_t seed = 1;
};

kd::Options make_options(Settings& s) {
  kd::Options o{"evaluate", "Measures models on local text and writes one table. Nothing is drawn at random."};
  kd::Options& models = o.group("Models");
  models
      .add("models", s.models, "MODEL",
           "Hugging Face directories, GGUF files, or folders of finished runs of distil, separated by spaces")
      .required()
      .add("adapters", s.adapters, "DIR",
           "LoRA adapters in PEFT's format, one for each model or all for the one model; `none` for none")
      .add("names", s.names, "NAME", "columns of the table (default: the last part of the path)")
      .add("reference", s.reference, "MODEL", "the model that kl and agreement compare with, as --models");
  kd::add_type_options(models, s.device, s.dtype);
  o.group("Tasks")
      .add("tasks", s.tasks, "NAME",
           "perplexity, wikitext, kl, agreement, calibration, hellaswag, arc_easy, arc_challenge, winogrande, mmlu")
      .names()
      .required()
      .add("data", s.data, "DIR",
           "folder of the tasks' files: <task>.jsonl; held_out.jsonl for kl, agreement and calibration")
      .required();
  kd::add_template_option(o, s.chat_template)
      .add("too-long", s.too_long, "RULE",
           "held-out text longer than --context: refuse it, cut its end off, or drop it (the others' texts are read in "
           "windows, as the harness does)")
      .choices({"refuse", "cut", "drop"})
      .add("limit", s.limit, "N", "first documents of each task (mmlu: of each subject); 0: all")
      .at_least(0)
      .add("shots", s.shots, "N", "solved examples in front of each question, the first of <task>.fewshot.jsonl")
      .at_least(0)
      .add("bos", s.bos, "WHEN", "begin every text with the tokenizer's first token; auto: as its files say")
      .choices({"auto", "on", "off"})
      .add("context", s.context, "N", "longest input; 0: the model's", "tokens")
      .at_least(0)
      .add("batch", s.batch, "N", "run together", "tokens")
      .at_least(1);
  o.group("Output")
      .add("json", s.json, "FILE", "all numbers as JSON")
      .add("items", s.items, "FILE", "every question as a JSON line: log-likelihoods, gold, acc, acc_norm");
  return o.common(s.threads, s.seed);
}

/// One column of the table, loaded.
template <class Model>
struct LoadedModel {
  kd::ModelResult result;
  std::optional<kd::Tokenizer> tokenizer;
  std::optional<Model> model;
};

template <class Model>
class Evaluation {
 public:
  using Subject = LoadedModel<Model>;
  using Reference = kd::RememberedTeacher<Model>;

  /// Finds all models and files before the first is measured.
  Evaluation(const Settings& s, std::vector<std::string> columns) : s_(s), columns_(std::move(columns)) {
    for (std::size_t i = 0; i < columns_.size(); ++i)
      places_.push_back(kd::find_model_there(s.models[s.models.size() == 1 ? 0 : i],
                                             !s.adapters.empty() && s.adapters[i] != "none" ? s.adapters[i] : ""));
    if (wants("kl") || wants("agreement")) reference_place_ = kd::find_model_there(s.reference);
    kd::check_task_files(s.tasks, s.data, {s.limit, s.shots});
  }

  std::vector<kd::ModelResult> run() {
    if (wants("kl") || wants("agreement")) load_reference();
    const std::size_t columns = columns_.size();
    std::vector<kd::ModelResult> results;
    for (std::size_t i = 0; i < columns; ++i) {
      Subject subject = load(i);
      compared_.reset();
      progress_.note(kd::concat("model ", i + 1, " of ", columns, ": ", subject.result.name));
      start_ = std::chrono::steady_clock::now();
      for (const std::string& task : s_.tasks) subject.result.tasks.push_back(measure(subject, task));
      subject.result.seconds = seconds();
      results.push_back(std::move(subject.result));
    }
    return results;
  }

  const std::string& items() const { return items_; }

 private:
  bool wants(const char* task) const { return std::find(s_.tasks.begin(), s_.tasks.end(), task) != s_.tasks.end(); }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  std::string file(const std::string& name) const { return kd::join_path(s_.data, name); }

  Subject load(std::size_t i) const {
    Subject subject;
    kd::ModelResult& r = subject.result;
    r.model = places_[i].model;
    r.adapter = places_[i].adapter;
    r.name = columns_[i];
    subject.tokenizer = kd::find_model_tokenizer(r.model);
    subject.model.emplace(Model::from_pretrained(
        r.model, {.trainable = false, .weights = kd::frozen_storage<typename Model::device_type>}));
    if (subject.tokenizer) kd::check_tokenizer_fits(*subject.tokenizer, subject.model->vocab_size());
    kd::show_notes(subject.model->notes());
    if (!r.adapter.empty()) kd::show_notes(kd::load_adapter(*subject.model, r.adapter));
    return subject;
  }

  void load_reference() {
    const kd::ModelPlace& place = reference_place_;
    reference_tokenizer_ = kd::find_model_tokenizer(place.model);
    reference_.emplace(Model::from_pretrained(
        place.model, {.trainable = false, .weights = kd::frozen_storage<typename Model::device_type>}));
    kd::show_notes(reference_->notes());
    if (!place.adapter.empty()) kd::show_notes(kd::load_adapter(*reference_, place.adapter));
    teacher_.emplace(*reference_);
  }

  kd::LikelihoodSettings likelihood_settings(const std::string& task) {
    kd::LikelihoodSettings how{.tokens = s_.batch, .context_length = s_.context};
    const auto begin = std::chrono::steady_clock::now();
    how.progress = [this, task, begin](std::int64_t done, std::int64_t total) {
      progress_.show(done, total, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
                     task);
      if (done == total) progress_.finish();
    };
    return how;
  }

  kd::ScoringTokens scoring_tokens(const Subject& subject, bool needs_text) const {
    kd::require<kd::ConfigError>(subject.tokenizer.has_value() || !needs_text, "[evaluate] ", subject.result.model,
                                 " has no tokenizer: only lines of ids can be read");
    return kd::scoring_tokens(subject.tokenizer, subject.model->config(), subject.result.model, s_.bos);
  }

  kd::TaskResult measure(Subject& subject, const std::string& task) {
    if (task == "perplexity" || task == "wikitext") return perplexity(subject, task);
    if (task == "kl" || task == "agreement") return compare(subject, task);
    if (task == "calibration") return calibrate(subject);
    return choose(subject, task);
  }

  kd::TaskResult perplexity(Subject& subject, const std::string& task);
  kd::TaskResult compare(Subject& subject, const std::string& task);
  kd::TaskResult calibrate(Subject& subject);
  kd::TaskResult choose(Subject& subject, const std::string& task);
  kd::TokenBatch held_out(const Subject& subject);

  const Settings& s_;
  const std::vector<std::string> columns_;  // names
  std::vector<kd::ModelPlace> places_;      // of the columns
  kd::ModelPlace reference_place_;
  kd::Progress progress_;
  std::chrono::steady_clock::time_point start_;
  std::optional<kd::Tokenizer> reference_tokenizer_;
  std::optional<Model> reference_;
  std::optional<Reference> teacher_;
  std::optional<kd::Agreement> compared_;  // of the present model: kl and agreement are one pass
  std::string items_;
};

/// Rolling windows over each text; words and bytes are those of the text in the file, before it is detokenised.
template <class Model>
kd::TaskResult Evaluation<Model>::perplexity(Subject& subject, const std::string& task) {
  const std::string path = file(task + ".jsonl");
  std::vector<std::vector<std::int32_t>> texts;
  double words = 0, bytes = 0, tokens = 0;
  bool ids_alone = false;
  kd::ScoringTokens scoring;
  for (kd::JsonlReader lines(path); const std::optional<kd::Json> json = lines.next();) {
    if (s_.limit > 0 && static_cast<std::int64_t>(texts.size()) == s_.limit) break;
    const bool has_ids = task == "perplexity" && json->contains("ids");
    scoring = scoring_tokens(subject, !has_ids);
    std::vector<std::int32_t>& ids = texts.emplace_back();
    if (has_ids) {
      for (const kd::Json& id : json->at("ids")) ids.push_back(static_cast<std::int32_t>(id.as_int()));
      ids_alone = true;
    } else {
      const std::string_view text = json->at(task == "wikitext" ? "page" : "text").as_string();
      words += static_cast<double>(kd::count_words(text));
      bytes += static_cast<double>(text.size());
      ids = scoring.begin;
      scoring.tokenizer->encode_append(task == "wikitext" ? kd::wikitext_text(text) : std::string(text), ids);
    }
    tokens += static_cast<double>(ids.size());
  }
  kd::require<kd::InputError>(tokens > 0, "[evaluate] ", path, " holds no text");
  const std::vector<double> values = kd::rolling_log_likelihoods(
      *subject.model, std::span<const std::vector<std::int32_t>>(texts), scoring.first, likelihood_settings(task));
  double sum = 0;
  std::vector<double> lengths;
  for (std::size_t i = 0; i < values.size(); ++i)
    sum += values[i], lengths.push_back(static_cast<double>(texts[i].size()));
  const double token_perplexity = std::exp(-sum / tokens);
  const auto per = [&](double units) { return ids_alone ? std::nan("") : std::exp(-sum / units); };
  return {task,
          {{"token_perplexity", token_perplexity, token_perplexity * kd::ratio_error(values, lengths)},
           {"byte_perplexity", per(bytes)},
           {"word_perplexity", per(words)},
           {"bits_per_byte", std::log2(per(bytes))}},
          {{"log_likelihood", sum},
           {"documents", static_cast<double>(texts.size())},
           {"tokens", tokens},
           {"words", ids_alone ? 0 : words},
           {"bytes", ids_alone ? 0 : bytes}}};
}

template <class Model>
kd::TokenBatch Evaluation<Model>::held_out(const Subject& subject) {
  const kd::TextSettings how{.chat_template = s_.chat_template,
                             .context_length = s_.context > 0 ? s_.context : subject.model->config().context_length,
                             .too_long = kd::too_long_rule(s_.too_long),
                             .vocabulary = subject.model->vocab_size()};
  kd::TextCounts counts;
  const std::string path = file("held_out.jsonl");
  std::vector<kd::TextLine> lines =
      kd::read_text_lines(path, subject.tokenizer ? &*subject.tokenizer : nullptr, how, &counts);
  kd::check_template_is_read("evaluate", s_.chat_template, counts.turns, path);
  if (const std::string note = counts.note(path, how.context_length); !note.empty()) progress_.note(note);
  if (s_.limit > 0 && static_cast<std::int64_t>(lines.size()) > s_.limit)
    lines.resize(static_cast<std::size_t>(s_.limit));
  kd::TokenBatch documents;
  for (const kd::TextLine& line : lines) {
    kd::require<kd::InputError>(line.kind == kd::TextLineKind::given_text, "[evaluate] ", line.source,
                                " is a prompt without an answer: held-out text needs both");
    kd::append_line(documents, line);
  }
  return documents;
}

template <class Model>
kd::TaskResult Evaluation<Model>::compare(Subject& subject, const std::string& task) {
  if (!compared_) {
    Model& model = *subject.model;
    const auto tokenizer = [](const std::optional<kd::Tokenizer>& t) { return t ? &*t : nullptr; };
    const kd::SharedVocabulary shared =
        kd::share_vocabulary({reference_->vocab_size(), tokenizer(reference_tokenizer_)},
                             {model.vocab_size(), tokenizer(subject.tokenizer)});
    kd::show_notes(shared.notes);
    reference_->set_real_vocabulary(shared.ids);
    model.set_real_vocabulary(shared.ids);
    compared_ = kd::agreement(model, *teacher_, held_out(subject));
    model.set_real_vocabulary(model.vocab_size());  // other tasks look at every row of the head, as the harness does
  }
  const kd::Agreement& a = *compared_;
  if (task == "kl")
    return {task,
            {{"forward", a.forward_kl, a.forward_kl_error}, {"reverse", a.reverse_kl, a.reverse_kl_error}},
            {{"tokens", a.tokens}}};
  return {task,
          {{"top1", a.top1, a.top1_error}, {"top5", a.top5, a.top5_error}, {"top5_contains", a.top5_contains}},
          {{"tokens", a.tokens}}};
}

template <class Model>
kd::TaskResult Evaluation<Model>::calibrate(Subject& subject) {
  const kd::Calibration c = kd::calibration(*subject.model, held_out(subject));
  return {"calibration",
          {{"error", c.error}, {"confidence", c.confidence}, {"accuracy", c.accuracy}},
          {{"tokens", c.tokens}}};
}

template <class Model>
kd::TaskResult Evaluation<Model>::choose(Subject& subject, const std::string& name) {
  const kd::ChoiceTask task = kd::read_choice_task(name, s_.data, {s_.limit, s_.shots});
  const std::vector<std::vector<kd::ScoredText>> texts = kd::encode_choices(scoring_tokens(subject, true), task);
  const auto values = kd::log_likelihoods(*subject.model, std::span<const std::vector<kd::ScoredText>>(texts),
                                          likelihood_settings(name));
  kd::ChoiceSummary summary(task);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const kd::ChoiceScore score = summary.add(i, values[i]);
    kd::JsonWriter line;
    line.begin_object()
        .member("model", subject.result.name)
        .member("task", name)
        .member("source", task.documents[i].source)
        .member("log_likelihoods", values[i]);
    line.member("gold", task.documents[i].key.gold).member("acc", score.acc);
    if (task.normalised) line.member("acc_norm", score.acc_norm);
    items_ += line.end_object().text() + "\n";
  }
  const kd::MeanError acc = summary.acc(), norm = summary.acc_norm();
  kd::TaskResult result{name, {{"acc", acc.mean, acc.error}}, {{"documents", static_cast<double>(acc.count)}}};
  if (task.normalised) result.numbers.push_back({"acc_norm", norm.mean, norm.error});
  return result;
}

/// Options that no task of the list reads.
void check_needs(const Settings& s, const kd::Options& options) {
  const auto any = [&s](std::initializer_list<const char*> tasks) {
    return std::any_of(s.tasks.begin(), s.tasks.end(), [&](const std::string& task) {
      return std::any_of(tasks.begin(), tasks.end(), [&](const char* name) { return task == name; });
    });
  };
  const auto& choices = kd::choice_task_names();
  const bool choose = std::any_of(s.tasks.begin(), s.tasks.end(), [&](const std::string& task) {
    return std::find(choices.begin(), choices.end(), task) != choices.end();
  });
  const bool held_out = any({"kl", "agreement", "calibration"}), windows = choose || any({"perplexity", "wikitext"});
  options.check_needs({{{"reference"}, any({"kl", "agreement"}), "it belongs to --tasks kl and agreement"},
                       {{"template", "too-long"}, held_out, "it belongs to --tasks kl, agreement and calibration"},
                       {{"shots", "items"}, choose, "no task of --tasks is multiple choice"},
                       {{"bos", "batch"}, windows, "it belongs to perplexity, wikitext and multiple choice"}});
}

void check(const Settings& s) {
  for (const std::string& task : s.tasks) {
    bool known = false;
    for (const char* other : {"perplexity", "wikitext", "kl", "agreement", "calibration"})
      known = known || task == other;
    const auto& choices = kd::choice_task_names();
    kd::require<kd::UsageError>(known || std::find(choices.begin(), choices.end(), task) != choices.end(),
                                "there is no task ", task, "; see --help");
    kd::require<kd::UsageError>((task != "kl" && task != "agreement") || !s.reference.empty(), "--tasks ", task,
                                " needs --reference MODEL");
  }
  kd::require<kd::UsageError>(s.adapters.empty() || s.models.size() == 1 || s.adapters.size() == s.models.size(),
                              "--adapters: ", s.adapters.size(), " for ", s.models.size(),
                              " models; give one for each (`none` for none), or several for one model");
  const std::string task = kd::doubled_value(s.tasks);
  kd::require<kd::UsageError>(task.empty(), "--tasks has ", task, " twice");
}

/// An answer over an input would leave none of it, two answers in one file would leave one.
void check_places(const Settings& s) {
  kd::require<kd::UsageError>(s.json.empty() || s.items.empty() || !kd::same_place(s.json, s.items),
                              "--json and --items are one file: ", s.json);
  for (const std::string& out : {s.json, s.items}) {
    const auto check = [&out](const std::string& input) {
      kd::require<kd::UsageError>(!kd::would_replace(out, input), "the output ", out, " lies in the input ", input,
                                  ": choose another path");
    };
    for (const std::string& model : s.models) check(model);
    for (const std::string& adapter : s.adapters) check(adapter);
    check(s.reference);
    for (const std::string& task : s.tasks) check(kd::join_path(s.data, task + ".jsonl"));
    check(kd::join_path(s.data, "held_out.jsonl"));
  }
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Settings s;
  kd::Options options = make_options(s);
  options.parse(argc, argv);
  check(s);
  check_needs(s, options);
  check_places(s);
  std::vector<std::string> columns = kd::column_names(s.models, s.adapters, s.names);
  std::vector<kd::OutputLock> locks;  // what cannot be written is refused before any model is read
  for (const std::string& out : {s.json, s.items})
    if (!out.empty()) locks.push_back(kd::OutputLock::file(out, "[evaluate] "));
  kd::start_threads(s.threads);
  kd::with_model_type("evaluate", s.device, s.dtype, [&]<class Model>(std::type_identity<Model>) {
    Evaluation<Model> evaluation(s, std::move(columns));
    const std::vector<kd::ModelResult> results = evaluation.run();
    std::fputs(kd::evaluation_table(results).c_str(), stdout);
    if (!s.json.empty()) kd::write_file_atomically(s.json, kd::evaluation_json(results, options.settings()));
    if (!s.items.empty()) kd::write_file_atomically(s.items, evaluation.items());
  });
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
