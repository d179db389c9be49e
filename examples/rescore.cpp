// SPDX-License-Identifier: Apache-2.0
// rescore: a teacher's log-probability of every token of token files that counts, in parts that workers share.
#include <charconv>
#include <cstdio>

#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/data/rescore.hpp>
#include <kdlib/eval/perplexity.hpp>
#include <kdlib/io/content_hash.hpp>
#include <kdlib/tools/model_options.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/output_lock.hpp>
#include <kdlib/tools/process_start.hpp>

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cpu, float>;

struct Settings {
  std::string data, teacher, store = "f16", worker = "1/1";
  kd::RescoreSettings rescore;
  std::int64_t verify = 0;
  int threads = 0;
  std::uint64_t seed = 1;
};

void add_options(kd::Options& options, Settings& s) {
  options.add("data", s.data, "DIR", "token files that synth wrote; their split train is scored").required();
  options.add("teacher", s.teacher, "DIR|FILE", "a Hugging Face folder or a GGUF file").required();
  options.add("out", s.rescore.out, "DIR", "the parts; what is whole there is kept").required();
  options.add("fraction", s.rescore.fraction, "SHARE", "of the documents, by the hash of their keys");
  options.add("strata", s.rescore.strata, "LANGUAGE/EXERCISE=SHARE",
              "other shares, * for any; the first that fits goes before --fraction");
  options.add("min-reasoning", s.rescore.min_reasoning, "N", "of the thought", "tokens").at_least(0);
  options.add("store", s.store, "TYPE", "of the log-probabilities").choices({"f16", "f32"});
  options.add("part-documents", s.rescore.part_documents, "N", "documents of a part").at_least(1);
  options.add("worker", s.worker, "I/N", "this one of N workers on the same folder; I from 1");
  options.add("verify", s.verify, "N", "score N documents of whole parts again and compare; makes nothing").at_least(0);
  options.common(s.threads, s.seed);
}

void read_worker(Settings& s) {
  const char *begin = s.worker.data(), *end = begin + s.worker.size();
  std::int64_t worker = 0;
  const auto first = std::from_chars(begin, end, worker);
  const bool slash = first.ec == std::errc() && first.ptr != end && *first.ptr == '/';
  const auto second = slash ? std::from_chars(first.ptr + 1, end, s.rescore.workers) : first;
  kd::require<kd::UsageError>(
      slash && second.ec == std::errc() && second.ptr == end && worker >= 1 && worker <= s.rescore.workers,
      "--worker is '", s.worker, "'; I/N with I from 1 to N is needed, such as 2/4");
  s.rescore.worker = worker - 1;
}

std::vector<double> score(Model& model, std::span<const std::int32_t> ids) {
  kd::TokenBatch batch;
  batch.append(ids);
  batch.check(model.vocab_size());
  return kd::token_log_probs(model, batch);
}

void run(Settings& s) {
  read_worker(s);
  kd::start_threads(s.threads);
  const auto tokenizer = kd::find_model_tokenizer(s.teacher);
  kd::require<kd::ConfigError>(tokenizer.has_value(), "[rescore] ", s.teacher,
                               " has no tokenizer, by which its ids are known to be those of the token files");
  if (s.verify > 0) {
    const kd::TokenShards parts = kd::TokenShards::open(s.rescore.out, "parts", true);
    parts.require_tokenizer(*tokenizer);
    auto model = Model::from_pretrained(s.teacher);
    const double largest = kd::verify_rescored(
        parts, s.verify, 2e-3, [&model](std::span<const std::int32_t> ids) { return score(model, ids); });
    std::printf("%lld documents scored again: largest difference %.2e\n", static_cast<long long>(s.verify), largest);
    return;
  }
  const kd::TokenShards files = kd::TokenShards::open(s.data, "train");
  files.require_tokenizer(*tokenizer);
  kd::make_directories(s.rescore.out);
  std::string name = s.worker;
  name[name.find('/')] = '_';
  const auto lock = kd::OutputLock::file(kd::join_path(s.rescore.out, "worker_" + name), "[rescore] ");
  auto model = Model::from_pretrained(s.teacher);
  s.rescore.teacher = kd::content_hash(s.teacher);
  s.rescore.dtype = "float";
  s.rescore.store_f32 = s.store == "f32";
  s.rescore.message = [](const std::string& text) {
    std::fprintf(stderr, "note: %s\n", kd::terminal_text(text).c_str());
  };
  const kd::RescoreResult result = kd::rescore_documents(
      files, s.rescore, [&model](std::span<const std::int32_t> ids) { return score(model, ids); });
  std::printf("%lld of %lld documents in %lld parts; this worker made %lld with %lld tokens that count; %s\n",
              static_cast<long long>(result.selected), static_cast<long long>(files.documents()),
              static_cast<long long>(result.parts), static_cast<long long>(result.made_parts),
              static_cast<long long>(result.scored),
              result.complete ? "all parts are there" : "parts of other workers are missing");
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Settings s;
  kd::Options options{"rescore", "Scores token files by a teacher: the log-probability of every token that counts."};
  add_options(options, s);
  options.parse(argc, argv);
  run(s);
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
