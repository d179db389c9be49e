// SPDX-License-Identifier: Apache-2.0
// Greedy generation with the KV cache at several batch sizes, beside the memory bandwidth that bounds batch 1. The peer
// is benchmarks/peers/hf_generate.py, which takes the same prompts (--write-prompts) and writes the same ids
// (--write-ids). Checked before it is timed: the ids that decoding chose are the argmax of the full forward pass.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/rollout/head_logits.hpp"
#include "kdlib/tools/blas_kernels.hpp"
#include "kdlib/tools/model_files.hpp"
#include "kdlib/tools/options.hpp"

namespace kd = kdlib;

namespace {

template <class T>
using Model = kd::Decoder<kd::Cpu, T>;
using Ids = std::vector<std::int32_t>;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Bytes per second of reading 128 MiB (more than the caches hold) with all threads, best of five.
double read_bandwidth() {
  const kd::Tensor<float, kd::Cpu> weight = kd::Tensor<float, kd::Cpu>::zeros(kd::Shape{32, 1 << 20});
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double begin = now();
    volatile double sink = kd::Kernels<kd::Cpu, float>::sum_squares(weight.data(), weight.count());
    (void)sink;
    best = std::max(best, static_cast<double>(weight.count()) * sizeof(float) / (now() - begin));
  }
  return best;
}

/// Bytes that one decoding step must read: every weight but the embedding's rows that are not looked up (the tied head
/// reads them all).
template <class T>
double step_bytes(Model<T>& model) {
  double bytes = kd::weight_bytes(model);
  if (model.config().tied_head) return bytes;
  if (const kd::Parameter<T, kd::Cpu>* p = model.find_parameter("model.embed_tokens.weight"))
    bytes -= static_cast<double>(p->value.bytes());
  for (const auto& w : model.packed_weights())
    if (w.name == "model.embed_tokens.weight") bytes -= static_cast<double>(w.matrix->bytes());
  return bytes;
}

std::int32_t largest(const float* row, std::int64_t n) {
  return static_cast<std::int32_t>(std::max_element(row, row + n) - row);
}

/// The most probable next id after each document's last token.
template <class T>
Ids next_ids(const Model<T>& model, const kd::Tensor<T, kd::Cpu>& hidden, const kd::TokenBatch& batch) {
  using K = kd::Kernels<kd::Cpu, T>;
  const std::int64_t b = batch.documents(), h = hidden[1];
  std::vector<std::int64_t> last;
  for (std::int64_t i = 0; i < b; ++i) last.push_back(batch.offsets[static_cast<std::size_t>(i + 1)] - 1);
  kd::Tensor<T, kd::Cpu> rows(kd::Shape{b, h});
  K::gather_rows(hidden.data(), last.data(), b, h, rows.data());
  const auto logits = kd::head_logits(model.head(), std::as_const(rows).view());
  Ids ids(static_cast<std::size_t>(b));
  kd::parallel_for(b, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      ids[static_cast<std::size_t>(i)] = largest(logits.data() + i * logits[1], logits[1]);
  });
  return ids;
}

struct Run {
  std::vector<Ids> written;
  double prefill = 0, decode = 0;  // seconds
};

template <class T>
Run generate(Model<T>& model, const std::vector<Ids>& prompts, int new_tokens) {
  Run run;
  std::int64_t longest = 0;
  kd::TokenBatch batch;
  Ids slots;
  for (const Ids& p : prompts) {
    batch.append(p);
    longest = std::max(longest, static_cast<std::int64_t>(p.size()));
    slots.push_back(static_cast<std::int32_t>(slots.size()));
  }
  auto cache = model.make_cache(static_cast<std::int64_t>(prompts.size()), longest + new_tokens);
  double begin = now();
  Ids ids = next_ids(model, model.decode(cache, batch, slots), batch);
  run.prefill = now() - begin;
  run.written.resize(prompts.size());
  begin = now();
  for (int step = 0;; ++step) {
    for (std::size_t i = 0; i < ids.size(); ++i) run.written[i].push_back(ids[i]);
    if (step + 1 >= new_tokens) break;
    kd::TokenBatch one;
    for (const std::int32_t id : ids) one.append(Ids{id});
    ids = next_ids(model, model.decode(cache, one, slots), one);
  }
  run.decode = now() - begin;
  return run;
}

/// Share of written ids that are the argmax of one full forward pass over prompt and text.
template <class T>
double check_ids(Model<T>& model, const std::vector<Ids>& prompts, const Run& run) {
  double equal = 0, count = 0;
  for (std::size_t i = 0; i < prompts.size() && i < 2; ++i) {
    Ids text = prompts[i];
    text.insert(text.end(), run.written[i].begin(), run.written[i].end() - 1);
    kd::TokenBatch batch;
    batch.append(text);
    const auto hidden = model.forward(batch);
    const std::int64_t n = static_cast<std::int64_t>(run.written[i].size());
    const auto logits = kd::head_logits(model.head(), hidden.rows(hidden[0] - n, n));
    for (std::int64_t t = 0; t < n; ++t, ++count)
      equal += largest(logits.data() + t * logits[1], logits[1]) == run.written[i][static_cast<std::size_t>(t)];
  }
  return equal / count;
}

struct Settings {
  std::string model, prompts, quantize = "none", weights = "file", dtype = "float32";
  std::vector<std::string> batches;
  int new_tokens = 128, prompt_tokens = 32, threads = 0, repeats = 3;
  std::uint64_t seed = 1;

  Settings(int argc, char** argv) {
    kd::Options options{"bench_generate", "Times greedy generation; prints a JSON line for each batch size."};
    options.add("model", model, "MODEL", "Hugging Face directory or GGUF file")
        .required()
        .add("prompts", prompts, "FILE",
             "lines of {\"prompt_ids\": [...]} (default: --prompt-tokens pseudo-random ids)")
        .add("prompt-tokens", prompt_tokens, "N", "length of the made-up prompts")
        .at_least(1)
        .add("new-tokens", new_tokens, "N", "tokens that each sequence writes")
        .at_least(2)
        .add("batch", batches, "N", "batch sizes (default: 1 16)")
        .add("quantize", quantize, "KIND", "round the linear maps")
        .choices({"none", "int4"})
        .add("weights", weights, "PLACE", "where matrices lie: in the mapped file as it is, or decoded in memory")
        .choices({"file", "memory"})
        .add("dtype", dtype, "TYPE", "scalars of the model")
        .choices({"float32", "bfloat16"})
        .add("repeats", repeats, "N", "the best is printed")
        .at_least(1)
        .common(threads, seed);
    options.parse(argc, argv);
    if (batches.empty()) batches = {"1", "16"};
  }
};

/// The prompts of the file; none without one.
std::vector<Ids> read_prompts(const std::string& path) {
  std::vector<Ids> prompts;
  if (path.empty()) return prompts;
  kd::JsonlReader reader(path);
  while (const auto line = reader.next()) {
    Ids& ids = prompts.emplace_back();
    for (const kd::Json& id : line->at("prompt_ids")) ids.push_back(static_cast<std::int32_t>(id.as_int()));
  }
  kd::require<kd::ConfigError>(!prompts.empty(), "[bench_generate] ", path, " has no line");
  return prompts;
}

/// `size` of the given prompts, again from the first where there are fewer; where none is given they are made up.
std::vector<Ids> prompts_of(const std::vector<Ids>& given, const Settings& settings, int size,
                            std::int64_t vocabulary) {
  std::vector<Ids> out;
  for (int b = 0; b < size; ++b) {
    if (!given.empty()) {
      out.push_back(given[static_cast<std::size_t>(b) % given.size()]);
      continue;
    }
    Ids& ids = out.emplace_back();
    for (int i = 0; i < settings.prompt_tokens; ++i)
      ids.push_back(static_cast<std::int32_t>((b * 7919 + i * 104729 + static_cast<int>(settings.seed)) % vocabulary));
  }
  return out;
}

/// The fastest of --repeats generations, the first of which is checked.
template <class T>
Run best_of(Model<T>& model, const std::vector<Ids>& prompts, const Settings& settings, double& agreement) {
  Run best = generate(model, prompts, settings.new_tokens);
  agreement = check_ids(model, prompts, best);
  // In bfloat16 two tokens often have nearly one logit, and rows alone are summed in another order than a whole text.
  kd::require<kd::Error>(agreement > (std::is_same_v<T, float> ? 0.98 : 0.85), "[bench_generate] only ", agreement,
                         " of the ids are the argmax of the full forward pass");
  for (int r = 1; r < settings.repeats; ++r) {
    Run run = generate(model, prompts, settings.new_tokens);
    if (run.decode + run.prefill < best.decode + best.prefill) best = std::move(run);
  }
  return best;
}

template <class T>
void bench(const Settings& settings) {
  const std::vector<Ids> given = read_prompts(settings.prompts);
  const double start = now();
  Model<T> model = Model<T>::from_pretrained(
      settings.model, {.trainable = false, .weights = kd::weight_storage(settings.weights, false)});
  const double load_seconds = now() - start;
  const double bandwidth = read_bandwidth();
  if (settings.quantize == "int4") kd::quantize_linear(model);
  for (const std::string& text : settings.batches) {
    const int size = std::atoi(text.c_str());
    kd::require<kd::ConfigError>(size > 0, "[bench_generate] --batch ", text, " is not a positive number");
    const std::vector<Ids> prompts = prompts_of(given, settings, size, model.vocab_size());
    double agreement = 0;
    const Run best = best_of(model, prompts, settings, agreement);
    std::int64_t prompt_count = 0;
    for (const Ids& p : prompts) prompt_count += static_cast<std::int64_t>(p.size());
    const double written = static_cast<double>(size) * settings.new_tokens, steps = settings.new_tokens - 1;
    std::printf(
        "{\"name\":\"kdlib\",\"dtype\":\"%s\",\"batch\":%d,\"quantize\":\"%s\",\"weights\":\"%s\",\"load_seconds\":%."
        "3f,\"prompt_"
        "tokens\":%lld,\"new_tokens\":%d,\"prefill_tokens_per_s\":%.1f,"
        "\"decode_tokens_per_s\":%.1f,\"tokens_per_s\":%.1f,\"weights_read_gb_per_s\":%.2f,\"read_bandwidth_gb_per_s\":"
        "%.2f,"
        "\"equal_to_full_forward\":%.4f}\n",
        settings.dtype.c_str(), size, settings.quantize.c_str(), settings.weights.c_str(), load_seconds,
        static_cast<long long>(prompt_count), settings.new_tokens, static_cast<double>(prompt_count) / best.prefill,
        size * steps / best.decode, written / (best.decode + best.prefill),
        step_bytes(model) * steps / best.decode * 1e-9, bandwidth * 1e-9, agreement);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  kd::choose_blas_kernels();
  const Settings settings(argc, argv);
  if (settings.threads > 0) kd::set_thread_count(settings.threads);
  if (settings.dtype == "bfloat16") bench<kd::bf16>(settings);
  else bench<float>(settings);
} catch (const kd::Error& error) {
  return kd::report(error);
}
