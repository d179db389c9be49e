// SPDX-License-Identifier: Apache-2.0
// synth: rows of a question, a thought and an answer to token files with masks, for training and rescoring.
#include <charconv>
#include <cstdio>

#if defined(KDLIB_WITH_ARROW)
#include "kdlib/arrow.hpp"
#endif
#include "kdlib/core/parallel.hpp"
#include "kdlib/data/token_files.hpp"
#include "kdlib/tools/options.hpp"
#include "kdlib/tools/output_lock.hpp"
#include "kdlib/tools/process_start.hpp"
#include "kdlib/tools/progress.hpp"

namespace kd = kdlib;

namespace {

struct Settings {
  kd::TokenFileSettings files;
  std::string tokenizer, too_long = "cut";
  std::vector<std::string> effort;
  int threads = 0;
  std::uint64_t seed = 1;
};

void add_options(kd::Options& options, Settings& s) {
  kd::RowSettings& rows = s.files.rows;
  options
      .add("input", s.files.inputs, "FILE|DIR",
           "JSON lines or, where Apache Arrow is built in, Parquet with synth_id, query, synthetic_reasoning and "
           "synthetic_answer; a folder: its .jsonl and .parquet files")
      .required();
  options
      .add("tokenizer", s.tokenizer, "DIR|FILE",
           "a Hugging Face folder, a tokenizer.json, a tokenizer.model or a GGUF file")
      .required();
  options.add("out", s.files.out, "DIR", "the token files; what is whole there is kept").required();
  options.add("template", rows.chat_template, "NAME|FILE",
              "write rows by a chat template with <think>...</think> instead of Harmony");
  options.add("split", s.files.split, "SHARE", "of the rows, by the hash of their keys: for validation");
  options.add("max-length", rows.max_length, "N", "of a document", "tokens").at_least(16);
  options.add("too-long", s.too_long, "RULE", "longer documents: the thought is cut from its beginning, or dropped")
      .choices({"cut", "drop"});
  options.add("effort", s.effort, "WORD",
              "low, medium, high, or by-length A,B: thoughts below A tokens are low, below "
              "B medium");
  options.add("identity", rows.identity, "TEXT", "of Harmony's system message");
  options.add("cutoff", rows.cutoff, "YYYY-MM", "of Harmony's system message");
  options.add("date", rows.date, "YYYY-MM-DD", "of Harmony's system message; none by default, never today's");
  options.add("instructions", rows.instructions, "TEXT", "of the developer, the same for all rows");
  options.add("content-spans", rows.content_spans, "spans hold contents without headers and terminators");
  options.add("languages", rows.languages, "NAME", "rows of these alone").names();
  options.add("exercises", rows.exercises, "NAME", "rows of these alone").names();
  options.add("max-rows", s.files.max_rows, "N", "rows that are read; 0: all").at_least(0);
  options.add("shard-rows", s.files.shard_rows, "N", "input rows of a shard").at_least(1);
  options.common(s.threads, s.seed);
}

/// `--effort high`, or `--effort by-length 128,512`.
void read_effort(Settings& s) {
  if (s.effort.empty()) return;
  kd::RowSettings& rows = s.files.rows;
  rows.effort = s.effort.front();
  const bool by_length = rows.effort == "by-length";
  kd::require<kd::UsageError>(s.effort.size() == (by_length ? 2u : 1u),
                              "--effort takes low, medium, high, or by-length with two limits, such as by-length "
                              "128,512");
  if (!by_length) return;
  const std::string& limits = s.effort[1];
  const char* end = limits.data() + limits.size();
  const auto low = std::from_chars(limits.data(), end, rows.low_below);
  const bool comma = low.ec == std::errc() && low.ptr != end && *low.ptr == ',';
  const auto medium = comma ? std::from_chars(low.ptr + 1, end, rows.medium_below) : low;
  kd::require<kd::UsageError>(comma && medium.ec == std::errc() && medium.ptr == end,
                              "--effort by-length takes two "
                              "limits, such as 128,512, not '",
                              limits, "'");
}

void run(Settings& s) {
  if (s.threads > 0) kd::set_thread_count(s.threads);
  s.files.rows.too_long = s.too_long == "cut" ? kd::LongRow::cut : kd::LongRow::drop;
  read_effort(s);
  const auto lock = kd::OutputLock::folder(s.files.out, "[synth] ");
  const auto tokenizer = kd::Tokenizer::from_pretrained(s.tokenizer);
  std::int64_t rows = 0;
#if defined(KDLIB_WITH_ARROW)
  s.files.open_parquet = kd::parquet_rows;
#endif
  s.files.message = [](const std::string& text) {
    std::fprintf(stderr, "note: %s\n", kd::terminal_text(text).c_str());
  };
  s.files.progress = [&rows](std::int64_t more, std::int64_t bytes) {
    const std::int64_t before = rows;
    rows += more;
    if (rows / 10000 != before / 10000)
      std::fprintf(stderr, "%lld rows, %.1f MB\n", static_cast<long long>(rows), static_cast<double>(bytes) * 1e-6);
  };
  const kd::TokenFileCounts counts = kd::write_token_files(tokenizer, s.files);
  const std::string skips = counts.skipped();
  std::printf("%s\n", kd::concat(counts.rows, " rows, ", counts.documents, " documents (", counts.truncated,
                                 " cut): train ", counts.split_documents[0], " with ", counts.split_tokens[0],
                                 " tokens, valid ", counts.split_documents[1], " with ", counts.split_tokens[1],
                                 " tokens", skips.empty() ? "" : "; skipped: ", skips)
                          .c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Settings s;
  kd::Options options{"synth", "Turns rows of a question, a thought and an answer (PleIAs/SYNTH) into token files."};
  add_options(options, s);
  options.parse(argc, argv);
  run(s);
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
