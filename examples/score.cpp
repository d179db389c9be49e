// SPDX-License-Identifier: Apache-2.0
// score: the log-probability of every token of given text; on request all logits and hidden states.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/eval/perplexity.hpp>
#include <kdlib/tools/model_options.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/output_lock.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/progress.hpp>
#include <kdlib/tools/remote_start.hpp>

#include <chrono>
#include <cmath>

namespace kd = kdlib;

namespace {

/// Hidden states [T, H] of one line.
template <class Model>
using HiddenOf = kd::Tensor<typename Model::scalar_type, typename Model::device_type>;

struct Settings {
  kd::ModelOptions model;
  kd::RemoteOptions remote;
  std::string input, out, logits, hidden, chat_template, tokenizer;
  int threads = 0;
  std::uint64_t seed = 1;
};

kd::Options make_options(Settings& s) {
  kd::Options options{"score",
                      "Writes for each line of text a line {\"ids\": [...], \"log_probs\": [...]}: the natural-log "
                      "probability of every token after the first."};
  s.model.add_to(options, true);
  kd::add_type_options(options, s.model.device, s.model.dtype);
  options
      .add("input", s.input, "FILE",
           "lines {\"ids\": [...]}, {\"text\": \"...\"} or {\"messages\": [...]} that end with the assistant")
      .required();
  kd::add_template_option(options, s.chat_template)
      .add("out", s.out, "FILE", "the answer, JSON lines")
      .required()
      .add("logits", s.logits, "FILE", "safetensors file for <line, from 0>.logits [T, V], float32")
      .add("hidden", s.hidden, "FILE",
           "safetensors file for <line, from 0>.hidden [T, H] after the final norm, float32");
  s.remote.add_to(options);
  options
      .add("tokenizer", s.tokenizer, "DIR|FILE", "with --model URL[,URL...]: the model's, for lines that are not ids")
      .group("General");
  return options.common(s.threads, s.seed);
}

std::vector<kd::TextLine> read_lines(const Settings& s, const kd::Tokenizer* tokenizer, std::int64_t context_length,
                                     std::int64_t vocabulary) {
  const kd::TextSettings text{.chat_template = s.chat_template,
                              .context_length = context_length,
                              .needs_rows = false,
                              .vocabulary = vocabulary};
  kd::TextCounts counts;
  std::vector<kd::TextLine> lines = kd::read_text_lines(s.input, tokenizer, text, &counts);
  kd::check_template_is_read("score", s.chat_template, counts.turns, s.input);
  for (const kd::TextLine& line : lines)
    kd::require<kd::InputError>(line.kind == kd::TextLineKind::given_text, "[score] ", line.source,
                                " is a prompt without an answer: give {\"ids\": [...]} or {\"text\": \"...\"}");
  return lines;
}

/// What is shown while lines are scored, and the rate and perplexity at the end.
class Meter {
 public:
  explicit Meter(std::size_t lines) : lines_(static_cast<std::int64_t>(lines)) {}
  void add(const std::vector<double>& log_probs) {
    for (const double x : log_probs) sum_ += x;
    tokens_ += static_cast<std::int64_t>(log_probs.size());
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    progress_.show(++done_, lines_, seconds_, kd::concat(tokens_, " tokens"));
  }
  void finish() {
    progress_.finish();
    std::fprintf(stderr, "%lld tokens scored, %.1f tokens/s, perplexity %.4f\n", static_cast<long long>(tokens_),
                 seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0.0,
                 tokens_ > 0 ? std::exp(-sum_ / static_cast<double>(tokens_)) : 1.0);
  }

 private:
  kd::Progress progress_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::int64_t lines_, done_ = 0, tokens_ = 0;
  double sum_ = 0, seconds_ = 0;
};

/// Scores line by line and keeps hidden states where they are asked for.
template <class Model>
std::vector<std::vector<double>> score(Model& model, const std::vector<kd::TextLine>& lines,
                                       std::vector<HiddenOf<Model>>* kept) {
  std::vector<std::vector<double>> log_probs;
  Meter meter(lines.size());
  for (const kd::TextLine& line : lines) {
    kd::TokenBatch batch;
    batch.append(line.ids);
    const HiddenOf<Model> hidden = model.forward(batch);
    const kd::TokenBatch::Rows rows = batch.rows();
    log_probs.push_back(kd::row_log_probs(model.head(), hidden.rows(0, hidden[0] - 1), rows.label));
    if (kept != nullptr) kept->push_back(hidden);
    meter.add(log_probs.back());
  }
  meter.finish();
  return log_probs;
}

/// The same by servers: requests go ahead of the line that is waited for.
std::vector<std::vector<double>> score(kd::RemoteTeacher<kd::SampledTargets>& teacher,
                                       const std::vector<kd::TextLine>& lines) {
  const kd::RemoteTeacherSettings& r = teacher.client().settings();
  const std::size_t ahead = 2 * static_cast<std::size_t>(r.in_flight) * r.urls.size();
  const auto batch_of = [&](std::size_t i) {
    kd::TokenBatch batch;
    batch.append(lines[i].ids);
    return batch;
  };
  std::vector<std::vector<double>> log_probs;
  Meter meter(lines.size());
  for (std::size_t i = 0, sent = 0; i < lines.size(); ++i) {
    for (; sent < lines.size() && sent < i + ahead; ++sent) teacher.announce(batch_of(sent));
    const kd::TokenBatch batch = batch_of(i);
    teacher.prepare(batch);
    const auto targets = teacher.targets(0, batch.tokens() - 1);
    log_probs.emplace_back(targets.log_probs.begin(), targets.log_probs.end());
    meter.add(log_probs.back());
  }
  meter.finish();
  return log_probs;
}

template <class Hidden>
void write_hidden(const std::string& path, const std::vector<Hidden>& hidden) {
  kd::SafetensorsWriter writer{path};
  for (std::size_t i = 0; i < hidden.size(); ++i)
    writer.add_from(kd::concat(i, ".hidden"), kd::DType::f32, hidden[i].shape(), [&rows = hidden[i]](auto& file) {
      const auto values = kd::host_copy(rows.view());
      const std::vector<float> wide(values.begin(), values.end());
      file.write(wide.data(), wide.size() * sizeof(float));
    });
  writer.commit();
}

/// Logits are formed while they are written, some rows at a time: the file may be larger than memory.
template <class Model>
void write_logits(const std::string& path, const Model& model, const std::vector<HiddenOf<Model>>& hidden) {
  kd::SafetensorsWriter writer{path};
  for (std::size_t i = 0; i < hidden.size(); ++i)
    writer.add_from(kd::concat(i, ".logits"), kd::DType::f32, kd::Shape{hidden[i][0], model.head().columns()},
                    [&model, &rows = hidden[i]](kd::AtomicFile& file) {
                      constexpr std::int64_t chunk = 64;
                      for (std::int64_t begin = 0; begin < rows[0]; begin += chunk) {
                        const auto logits =
                            kd::head_logits(model.head(), rows.rows(begin, std::min(chunk, rows[0] - begin)));
                        const std::vector<float> wide(logits.data(), logits.data() + logits.count());
                        file.write(wide.data(), wide.size() * sizeof(float));
                      }
                    });
  writer.commit();
}

/// Two answers in one file would leave one of them, and an answer over the input none.
void check_places(const Settings& s) {
  const std::pair<const char*, const std::string*> places[] = {
      {"--input", &s.input}, {"--out", &s.out}, {"--logits", &s.logits}, {"--hidden", &s.hidden}};
  for (const auto& a : places)
    for (const auto& b : places)
      kd::require<kd::UsageError>(
          &a >= &b || a.second->empty() || b.second->empty() || !kd::same_place(*a.second, *b.second), a.first, " and ",
          b.first, " are one file: ", *a.second);
  for (const auto& out : places) {
    if (out.second == &s.input) continue;
    kd::require<kd::UsageError>(!kd::would_replace(*out.second, s.model.model), out.first, " ", *out.second,
                                " is --model or lies in it: choose another path");
    kd::require<kd::UsageError>(!kd::would_replace(*out.second, s.model.adapter), out.first, " ", *out.second,
                                " is --adapter or lies in it: choose another path");
  }
}

void write_answer(const std::string& path, const std::vector<kd::TextLine>& lines,
                  const std::vector<std::vector<double>>& log_probs) {
  kd::AtomicFile out{path};
  for (std::size_t i = 0; i < lines.size(); ++i) {
    kd::JsonWriter line;
    line.begin_object().member("ids", lines[i].ids).member("log_probs", log_probs[i]).end_object();
    out.write(line.text() + "\n");
  }
  out.commit();
}

/// What cannot be written is refused before a model is read or a server asked.
std::vector<kd::OutputLock> lock_outputs(const Settings& s) {
  std::vector<kd::OutputLock> locks;
  for (const std::string& out : {s.out, s.logits, s.hidden})
    if (!out.empty()) locks.push_back(kd::OutputLock::file(out, "[score] "));
  return locks;
}

template <class Model>
void run(const Settings& s) {
  const std::vector<kd::OutputLock> locks = lock_outputs(s);
  kd::start_threads(s.threads);
  const auto tokenizer = kd::find_model_tokenizer(s.model.model);
  auto model = kd::load_model<Model>(s.model, tokenizer);
  const std::vector<kd::TextLine> lines =
      read_lines(s, tokenizer ? &*tokenizer : nullptr, model.config().context_length, model.vocab_size());
  std::vector<HiddenOf<Model>> hidden;
  const auto log_probs = score(model, lines, s.logits.empty() && s.hidden.empty() ? nullptr : &hidden);
  if (!s.hidden.empty()) write_hidden(s.hidden, hidden);
  if (!s.logits.empty()) write_logits(s.logits, model, hidden);
  write_answer(s.out, lines, log_probs);
}

void run_remote(Settings& s) {
  const std::vector<kd::OutputLock> locks = lock_outputs(s);
  const std::optional<kd::Tokenizer> tokenizer = kd::named_tokenizer(s.tokenizer);
  kd::RemoteTeacher<kd::SampledTargets> teacher(kd::remote_settings(s.remote, s.model.model, tokenizer, s.seed));
  kd::probe_for_program(teacher.client(), tokenizer);
  const std::vector<kd::TextLine> lines =
      read_lines(s, tokenizer ? &*tokenizer : nullptr, teacher.client().facts().context_length, teacher.vocab_size());
  write_answer(s.out, lines, score(teacher, lines));
}

/// Options of a model in this process, and of one on servers.
void check_needs(const Settings& s, const kd::Options& options) {
  const bool asks = kd::names_servers(s.model.model);
  options.check_needs({{{"adapter", "weights", "merge", "device", "dtype", "threads"},
                        !asks,
                        "the model of --model URL is on a server"},
                       {{"logits", "hidden"}, !asks, "servers give the log-probability of each token alone"},
                       {{"tokenizer"}, asks, "it belongs to --model URL; a model has its own"},
                       s.remote.needs(asks, "it belongs to --model URL")});
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Settings s;
  kd::Options options = make_options(s);
  options.parse(argc, argv);
  check_needs(s, options);
  check_places(s);
  if (kd::names_servers(s.model.model)) {
    run_remote(s);
    return kd::finish();
  }
  s.model.resolve(options);
  kd::require_given_file("[score] --input", s.input, "a file of JSON lines");
  kd::with_model_type("score", s.model.device, s.model.dtype,
                      [&]<class Model>(std::type_identity<Model>) { run<Model>(s); });
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
