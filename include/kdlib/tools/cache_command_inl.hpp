// SPDX-License-Identifier: Apache-2.0
// Bodies of cache_command.hpp.
#ifndef KDLIB_TOOLS_CACHE_COMMAND_INL_HPP
#define KDLIB_TOOLS_CACHE_COMMAND_INL_HPP

#include <algorithm>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/writable_folder.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/teacher/cache_segment.hpp"
#include "kdlib/tools/cache_command.hpp"
#include "kdlib/tools/model_folders.hpp"
#include "kdlib/tools/option_values_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The words of the command line that settings do not hold as they are.
struct CacheWords {
  std::string kind = "logprobs", store = "auto", order = "file", worker = "1/1", format = "safetensors";
  std::vector<std::string> temperatures{"1,2"};
};

template <class N>
N cache_number(const std::string& text, const char* option) {
  N value{};
  require<UsageError>(read_number(text, value), option, " has '", text, "', which is no number");
  return value;
}

KDLIB_TOOLS_FUNC std::vector<double> temperature_list(const std::vector<std::string>& words) {
  std::vector<double> out;
  for (const std::string& word : separated_names(words)) out.push_back(cache_number<double>(word, "--temperatures"));
  return out;
}

KDLIB_TOOLS_FUNC void add_cache_text(Options& o, CacheCommand& c, CacheWords& w) {
  o.group("Text")
      .add("teacher", c.teacher, "MODEL",
           "Hugging Face directory, GGUF file, the folder of a finished run whose result is a model, or http(s) "
           "URL[,URL...] of servers that have it; without it --out is checked alone")
      .add("data", c.data, "FILE", "given text, JSON lines: {\"text\"}, {\"messages\"}, {\"ids\", \"loss_mask\"}")
      .add("out", c.out, "DIR", "folder of the cache; what is there of the same settings is kept")
      .required()
      .add("merge", c.merge, "LIST",
           "complete caches of one teacher that become one in --out, in the order of their texts; no teacher is loaded")
      .add("distillkit", c.distillkit, "F.yaml",
           "--data holds rows of DistillKit's compressed logits as JSON lines, of this configuration: they become a "
           "cache, and no teacher is loaded")
      .add("seed-cache", c.seed_cache, "DIR",
           "HDF5 files of MoE_Factorize_Compress for the text of --data: they become a cache, and no teacher is loaded")
      .add("seed-order", c.seed_order, "ORDER", "how that program's workers shared the text")
      .choices({"contiguous", "interleaved"})
      .add("tokenizer", c.tokenizer, "DIR|FILE",
           "of --distillkit's, --seed-cache's or a server's ids: recorded, so that a student's is compared with it")
      .add("max-length", c.max_length, "N", "longest text", "tokens")
      .at_least(2)
      .add("too-long", c.too_long, "RULE", "longer text: refuse it, cut its end off, or drop it")
      .choices({"refuse", "cut", "drop"})
      .add("max-samples", c.max_samples, "N", "only the first N texts; 0: all")
      .at_least(0)
      .add("template", c.chat_template, "NAME|FILE", "chat template for turns (default: the tokenizer's)")
      .add("order", w.order, "ORDER",
           "file, or run: the order in which distil of the same --seed reads its --data, so that with the same --batch "
           "the teacher sees the very batches of the run's first epoch")
      .choices({"file", "run"});
}

KDLIB_TOOLS_FUNC void add_cache_signal(Options& o, CacheCommand& c, CacheWords& w) {
  CacheSettings& s = c.settings;
  o.group("Signal")
      .add("kind", w.kind, "KIND",
           "hidden: hidden states and the head, for losses over the whole vocabulary; logprobs: the most probable "
           "tokens and the exact mass of the others")
      .choices({"hidden", "logprobs"})
      .add("store", w.store, "TYPE", "scalar type in the files: f32, bf16 (hidden), f16 (logprobs); auto: f32 or f16")
      .choices({"auto", "f32", "bf16", "f16"})
      .add("top-k", s.top_k, "N", "logprobs: tokens of a row")
      .at_least(1)
      .add("temperatures", w.temperatures, "LIST", "logprobs: where the mass of the others is known: 1,2")
      .add("batch", s.batch, "N", "texts of a forward pass")
      .at_least(1)
      .add("segment", s.segment, "N", "texts of a file, which is the least that is kept when it is stopped")
      .at_least(1)
      .add("worker", w.worker, "I/N", "makes the I-th of N parts (from 1): several processes share the work")
      .add("format", w.format, "NAME", "of the files")
      .choices({"safetensors", "hdf5"})
      .add("compress", c.settings.gzip, "N", "hdf5: level of gzip; 0: none")
      .at_least(0)
      .at_most(9)
      .add("workspace", c.workspace, "N", "memory for chunks of logits", "MiB")
      .at_least(1)
      .add("verify", c.verify, "N",
           "at the end: compare all checksums, and N texts with what the teacher gives when it is asked again")
      .at_least(0);
}

KDLIB_TOOLS_FUNC void words_to_cache(const CacheWords& w, CacheCommand& c) {
  CacheSettings& s = c.settings;
  if (w.format == "hdf5") {
    s.container = CacheContainer::hdf5;
    static_cast<void>(hdf5_functions("--format hdf5"));
  }
  s.kind = w.kind == "hidden" ? CacheKind::hidden : CacheKind::logprobs;
  s.store = w.store == "bf16"                                                          ? CacheStore::bf16
            : w.store == "f16" || (w.store == "auto" && s.kind == CacheKind::logprobs) ? CacheStore::f16
                                                                                       : CacheStore::f32;
  s.temperatures = temperature_list(w.temperatures);
  s.shuffled = w.order == "run";
  s.seed = c.seed;
  const std::size_t slash = w.worker.find('/');
  require<UsageError>(slash != std::string::npos, "--worker is ", w.worker, "; it is I/N, as 2/4");
  c.worker = cache_number<std::int64_t>(w.worker.substr(0, slash), "--worker") - 1;
  s.workers = cache_number<std::int64_t>(w.worker.substr(slash + 1), "--worker");
  require<UsageError>(c.worker >= 0 && c.worker < s.workers, "--worker is ", w.worker, "; I goes from 1 to N");
  s.check();
}

}  // namespace detail

KDLIB_TOOLS_FUNC void CacheCommand::parse(int argc, const char* const* argv) {
  detail::CacheWords words;
  Options options("cache_logits",
                  "Runs a teacher over given text once and keeps what students learn from: distil --cache DIR.");
  detail::add_cache_text(options, *this, words);
  detail::add_cache_signal(options, *this, words);
  remote.add_to(options);
  options.group("General").common(threads, seed);
  options.parse(argc, argv);
  require<UsageError>(teacher.empty() == (data.empty() || !distillkit.empty() || !seed_cache.empty()),
                      "--teacher MODEL and --data FILE belong together, or --distillkit and --data");
  require<UsageError>(distillkit.empty() || (teacher.empty() && !data.empty()),
                      "--distillkit reads what --data FILE holds of a teacher: leave out --teacher");
  require<UsageError>(seed_cache.empty() || (teacher.empty() && !data.empty() && distillkit.empty()),
                      "--seed-cache holds what a teacher said of --data FILE: leave out --teacher and --distillkit");
  require<UsageError>(tokenizer.empty() || !distillkit.empty() || !seed_cache.empty() || is_remote(),
                      "--tokenizer belongs to --distillkit, --seed-cache and --teacher URL");
  require<UsageError>(!options.given("seed-order") || !seed_cache.empty(), "--seed-order belongs to --seed-cache");
  require<UsageError>(merge.empty() || teacher.empty(),
                      "--merge makes a cache of caches: leave out --teacher and --data");
  if (options.given("segment")) merge_segment = settings.segment;
  std::vector<const char*> making;  // what only counts where something is made
  for (const OptionItem& item : options.items())
    if (item.name != "out" && item.name != "threads" && item.name != "seed") making.push_back(item.name.c_str());
  options.check_needs(
      {{making, !(check_alone() && merge.empty()),
        "without --teacher and --data the checksums of --out are compared, and "
        "nothing is made"},
       {{"top-k", "temperatures", "workspace"}, words.kind == "logprobs", "it belongs to --kind logprobs"},
       {{"workspace"}, !is_remote(), "servers form the logits"},
       remote.needs(is_remote(), "it belongs to --teacher URL"),
       {{"compress"}, words.format == "hdf5", "it belongs to --format hdf5"}});
  if (is_remote() && !options.given("temperatures")) words.temperatures = {"1"};  // servers know no other
  if (!is_remote()) teacher = find_whole_model(teacher);
  checking_settings([&] { detail::words_to_cache(words, *this); });
  if (!check_alone() || !merge.empty()) check_writable_folder(out, "[cache_logits] --out");
}

KDLIB_TOOLS_FUNC std::string cache_summary(const CacheMeta& meta, const std::string& folder,
                                           const CacheProgress& done) {
  const double rows = static_cast<double>(std::max<std::int64_t>(done.rows, 1));
  std::string out =
      concat(folder, ": ", setting_text(meta.settings.kind), ", ", meta.documents, " texts, ", meta.rows, " rows, ",
             meta.complete ? "complete" : "not complete yet: other workers' parts are missing", "\n");
  if (done.documents == 0) return out + "no teacher was asked: nothing was missing\n";
  return out + concat("made now: ", done.done, " texts, ", done.tokens, " tokens in ",
                      detail::number_text("%.1f", done.seconds), " s, ",
                      detail::number_text("%.1f", static_cast<double>(done.tokens) / done.seconds), " tokens/s, ",
                      detail::number_text("%.1f", static_cast<double>(done.bytes) / 1048576.0), " MiB, ",
                      detail::number_text("%.1f", static_cast<double>(done.bytes) / rows), " bytes a row\n");
}

KDLIB_NAMESPACE_END

#endif
