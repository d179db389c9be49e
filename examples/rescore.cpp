// SPDX-License-Identifier: Apache-2.0
// rescore: a teacher's log-probability of every token of token files that counts, in parts that workers share.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>

#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/data/rescore.hpp>
#include <kdlib/eval/perplexity.hpp>
#include <kdlib/io/content_hash.hpp>
#include <kdlib/tools/model_options.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/output_lock.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/remote_start.hpp>

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cpu, float>;

struct Settings {
  std::string data, teacher, tokenizer, store = "f16", worker = "1/1";
  kd::RemoteOptions remote;
  kd::RescoreSettings rescore;
  std::int64_t verify = 0;
  int threads = 0;
  std::uint64_t seed = 1;

  bool is_remote() const { return kd::names_servers(teacher); }
};

void add_options(kd::Options& options, Settings& s) {
  options.add("data", s.data, "DIR", "token files that synth wrote; their split train is scored").required();
  options
      .add("teacher", s.teacher, "DIR|FILE|URL[,URL...]",
           "a Hugging Face folder or a GGUF file; or servers that have it in memory (serve --teacher, vLLM, SGLang)")
      .required();
  options.add("out", s.rescore.out, "DIR", "the parts; what is whole there is kept").required();
  options.add("fraction", s.rescore.fraction, "SHARE", "of the documents, by the hash of their keys");
  options.add("strata", s.rescore.strata, "LANGUAGE/EXERCISE=SHARE",
              "other shares, * for any; the first that fits goes before --fraction");
  options.add("min-reasoning", s.rescore.min_reasoning, "N", "of the thought", "tokens").at_least(0);
  options.add("store", s.store, "TYPE", "of the log-probabilities").choices({"f16", "f32"});
  options.add("part-documents", s.rescore.part_documents, "N", "documents of a part").at_least(1);
  options.add("worker", s.worker, "I/N", "this one of N workers on the same folder; I from 1");
  options.add("verify", s.verify, "N", "score N documents of whole parts again and compare; makes nothing").at_least(0);
  s.remote.add_to(options);
  options.add("tokenizer", s.tokenizer, "DIR|FILE",
              "the teacher's, by which ids are known to be those of the token files");
  options.group("General").common(s.threads, s.seed);
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

/// What scores documents: a model in this process, or one that servers have.
class Scorer {
 public:
  explicit Scorer(Settings& s, const kd::Tokenizer& tokenizer) {
    if (s.is_remote()) open_servers(s, tokenizer);
    else model_ = std::make_unique<Model>(Model::from_pretrained(s.teacher, {.trainable = false}));
  }

  std::vector<double> operator()(std::span<const std::int32_t> ids) {
    const kd::TokenBatch batch = batch_of(ids);
    if (model_ != nullptr) return kd::token_log_probs(*model_, batch);
    remote_->prepare(batch);
    const auto targets = remote_->targets(0, batch.tokens() - 1);
    return {targets.log_probs.begin(), targets.log_probs.end()};
  }
  /// Tells the rescoring who scores, and lets servers begin early.
  void describe(Settings& s) {
    kd::RescoreSettings& r = s.rescore;
    r.teacher = model_ != nullptr ? kd::content_hash(s.teacher) : name_;
    r.dtype = model_ != nullptr ? "float" : "served";
    if (model_ != nullptr) return;
    r.ahead = 2 * settings_.in_flight * static_cast<std::int64_t>(settings_.urls.size());
    r.announce = [this](std::span<const std::int32_t> ids) { remote_->announce(batch_of(ids)); };
  }
  /// Of verify_rescored.
  double limit() const { return model_ != nullptr ? 2e-3 : 2e-2; }

 private:
  using Remote = kd::RemoteTeacher<kd::SampledTargets>;

  void open_servers(Settings& s, const kd::Tokenizer& tokenizer) {
    settings_ = kd::remote_settings(s.remote, s.teacher, tokenizer, s.seed);
    remote_.emplace(settings_);
    kd::RemoteClient& client = remote_->client();
    kd::probe_for_program(client, tokenizer);
    const kd::RemoteFacts& facts = client.facts();
    name_ = facts.model_hash.empty() ? kd::concat("server model ", facts.model) : facts.model_hash;
  }
  kd::TokenBatch batch_of(std::span<const std::int32_t> ids) const {
    kd::TokenBatch batch;
    batch.append(ids);
    batch.check(model_ != nullptr ? model_->vocab_size() : remote_->vocab_size());
    return batch;
  }

  std::unique_ptr<Model> model_;
  kd::RemoteTeacherSettings settings_;
  std::optional<Remote> remote_;
  std::string name_;
};

kd::Tokenizer tokenizer_of(const Settings& s) {
  kd::require<kd::UsageError>(s.is_remote() || s.tokenizer.empty(),
                              "--tokenizer belongs to a teacher on another machine; a model has its own");
  kd::require<kd::UsageError>(!s.is_remote() || !s.tokenizer.empty(),
                              "give --tokenizer, the teacher's: by it ids are known to be those of the token files");
  if (s.is_remote()) return kd::Tokenizer::from_pretrained(s.tokenizer);
  const auto tokenizer = kd::find_model_tokenizer(s.teacher);
  kd::require<kd::ConfigError>(tokenizer.has_value(), "[rescore] ", s.teacher,
                               " has no tokenizer, by which its ids are known to be those of the token files");
  return *tokenizer;
}

void verify(Settings& s, const kd::Tokenizer& tokenizer) {
  const kd::TokenShards parts = kd::TokenShards::open(s.rescore.out, "parts", true);
  parts.require_tokenizer(tokenizer);
  Scorer scorer(s, tokenizer);
  const double largest = kd::verify_rescored(parts, s.verify, scorer.limit(), std::ref(scorer));
  std::printf("%lld documents scored again: largest difference %.2e\n", static_cast<long long>(s.verify), largest);
}

void run(Settings& s) {
  read_worker(s);
  kd::start_threads(s.threads);
  const kd::Tokenizer tokenizer = tokenizer_of(s);
  if (s.verify > 0) return verify(s, tokenizer);
  const kd::TokenShards files = kd::TokenShards::open(s.data, "train");
  files.require_tokenizer(tokenizer);
  kd::make_directories(s.rescore.out);
  std::string name = s.worker;
  name[name.find('/')] = '_';
  const auto lock = kd::OutputLock::file(kd::join_path(s.rescore.out, "worker_" + name), "[rescore] ");
  Scorer scorer(s, tokenizer);
  scorer.describe(s);
  s.rescore.store_f32 = s.store == "f32";
  s.rescore.message = [](const std::string& text) {
    std::fprintf(stderr, "note: %s\n", kd::terminal_text(text).c_str());
  };
  const kd::RescoreResult result = kd::rescore_documents(files, s.rescore, std::ref(scorer));
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
  options.check_needs({s.remote.needs(s.is_remote(), "it belongs to --teacher URL"),
                       {{"fraction", "strata", "min-reasoning", "store", "part-documents", "worker"},
                        s.verify == 0,
                        "--verify makes nothing"}});
  run(s);
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
