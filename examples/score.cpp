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

#include <chrono>
#include <cmath>

namespace kd = kdlib;

namespace {

/// Hidden states [T, H] of one line.
template <class Model>
using HiddenOf = kd::Tensor<typename Model::scalar_type, typename Model::device_type>;

struct Settings {
  kd::ModelOptions model;
  std::string input, out, logits, hidden, chat_template;
  int threads = 0;
  std::uint64_t seed = 1;
};

kd::Options make_options(Settings& s) {
  kd::Options options{"score",
                      "Writes for each line of text a line {\"ids\": [...], \"log_probs\": [...]}: the natural-log "
                      "probability of every token after the first."};
  s.model.add_to(options);
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
  return options.common(s.threads, s.seed);
}

template <class Model>
std::vector<kd::TextLine> read_lines(const Settings& s, const kd::Tokenizer* tokenizer, const Model& model) {
  const kd::TextSettings text{.chat_template = s.chat_template,
                              .context_length = model.config().context_length,
                              .needs_rows = false,
                              .vocabulary = model.vocab_size()};
  kd::TextCounts counts;
  std::vector<kd::TextLine> lines = kd::read_text_lines(s.input, tokenizer, text, &counts);
  kd::check_template_is_read("score", s.chat_template, counts.turns, s.input);
  for (const kd::TextLine& line : lines)
    kd::require<kd::InputError>(line.kind == kd::TextLineKind::given_text, "[score] ", line.source,
                                " is a prompt without an answer: give {\"ids\": [...]} or {\"text\": \"...\"}");
  return lines;
}

/// Scores line by line and keeps hidden states where they are asked for.
template <class Model>
std::vector<std::vector<double>> score(Model& model, const std::vector<kd::TextLine>& lines,
                                       std::vector<HiddenOf<Model>>* kept) {
  std::vector<std::vector<double>> log_probs;
  kd::Progress progress;
  const auto start = std::chrono::steady_clock::now();
  double sum = 0, seconds = 0;
  std::int64_t tokens = 0;
  for (const kd::TextLine& line : lines) {
    kd::TokenBatch batch;
    batch.append(line.ids);
    const HiddenOf<Model> hidden = model.forward(batch);
    const kd::TokenBatch::Rows rows = batch.rows();
    log_probs.push_back(kd::row_log_probs(model.head(), hidden.rows(0, hidden[0] - 1), rows.label));
    if (kept != nullptr) kept->push_back(hidden);
    for (const double x : log_probs.back()) sum += x;
    tokens += static_cast<std::int64_t>(rows.label.size());
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    progress.show(static_cast<std::int64_t>(log_probs.size()), static_cast<std::int64_t>(lines.size()), seconds,
                  kd::concat(tokens, " tokens"));
  }
  progress.finish();
  std::fprintf(stderr, "%lld tokens scored, %.1f tokens/s, perplexity %.4f\n", static_cast<long long>(tokens),
               seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0,
               tokens > 0 ? std::exp(-sum / static_cast<double>(tokens)) : 1.0);
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

template <class Model>
void run(const Settings& s) {
  std::vector<kd::OutputLock> locks;  // what cannot be written is refused before the model is read
  for (const std::string& out : {s.out, s.logits, s.hidden})
    if (!out.empty()) locks.push_back(kd::OutputLock::file(out, "[score] "));
  kd::start_threads(s.threads);
  const auto tokenizer = kd::find_model_tokenizer(s.model.model);
  auto model = kd::load_model<Model>(s.model, tokenizer);
  const std::vector<kd::TextLine> lines = read_lines(s, tokenizer ? &*tokenizer : nullptr, model);
  std::vector<HiddenOf<Model>> hidden;
  const auto log_probs = score(model, lines, s.logits.empty() && s.hidden.empty() ? nullptr : &hidden);
  if (!s.hidden.empty()) write_hidden(s.hidden, hidden);
  if (!s.logits.empty()) write_logits(s.logits, model, hidden);
  kd::AtomicFile out{s.out};
  for (std::size_t i = 0; i < lines.size(); ++i) {
    kd::JsonWriter line;
    line.begin_object().member("ids", lines[i].ids).member("log_probs", log_probs[i]).end_object();
    out.write(line.text() + "\n");
  }
  out.commit();
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Settings s;
  kd::Options options = make_options(s);
  options.parse(argc, argv);
  check_places(s);
  s.model.resolve(options);
  kd::with_model_type("score", s.model.device, s.model.dtype,
                      [&]<class Model>(std::type_identity<Model>) { run<Model>(s); });
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
