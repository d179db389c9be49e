// SPDX-License-Identifier: Apache-2.0
// Token files: shards that are whole or not there, what is refused, and the data set that reads them. The bytes of an
// index are those of the format's description (Megatron-LM, indexed_dataset.py).
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "data/cut_tokenizers.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/data/indexed_dataset.hpp"
#include "kdlib/data/token_files.hpp"
#include "support/catch.hpp"
#include "support/fault_hook.hpp"

using namespace kdlib;
using namespace kdlib_tests;

static_assert(DataSource<IndexedDataset>);

namespace {

std::string bundled_rows() {
  const char* source = ::getenv("KDLIB_SOURCE_DIR");
  return (source != nullptr ? std::string(source) : std::string(".")) + "/examples/data/synth_rows.jsonl";
}

std::string line(const std::string& key, const std::string& query = "Why?", const std::string& thought = "Because.",
                 const std::string& answer = "So.") {
  return "{\"synth_id\":\"" + key + "\",\"query\":\"" + query + "\",\"synthetic_reasoning\":\"" + thought +
         "\",\"synthetic_answer\":\"" + answer + "\"}\n";
}

/// Names and bytes of all files of a folder.
std::map<std::string, std::string> contents(const std::string& root) {
  std::map<std::string, std::string> out;
  for (const char* folder : {"", "train", "valid", "shards", "parts"}) {
    const std::string path = join_path(root, folder);
    if (!is_directory(path)) continue;
    for (const std::string& name : list_directory(path))
      if (is_regular_file(join_path(path, name))) out[join_path(folder, name)] = read_file(join_path(path, name));
  }
  return out;
}

TokenFileSettings settings_for(const std::string& input, const std::string& out) {
  TokenFileSettings s;
  s.inputs = {input};
  s.out = out;
  return s;
}

TokenFileSettings bundled(const std::string& out) {
  TokenFileSettings s = settings_for(bundled_rows(), out);
  s.split = "0.1";
  s.shard_rows = 64;
  s.rows.max_length = 400;
  return s;
}

/// numpy's view of the same files, by a reader that shares no code with this library.
void check_with_numpy(const std::string& root) {
  const TemporaryDirectory folder;
  const char* source = ::getenv("KDLIB_SOURCE_DIR");
  const std::string command = "python3 '" + std::string(source != nullptr ? source : ".") +
                              "/benchmarks/peers/megatron_reader.py' '" + root + "' > '" + (folder / "answer") +
                              "' 2>&1";
  const int status = ::system(command.c_str());
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == 77 || code == 127) WARN("the numpy check did not run: python3 with numpy is not here");
  else CHECK(read_file(folder / "answer") + std::to_string(code) == read_file(folder / "answer") + "0");
}

/// A data set of `n` rows in shards of `shard_rows`.
void write_rows(const TemporaryDirectory& folder, int n, std::int64_t shard_rows) {
  std::string text;
  for (int i = 0; i < n; ++i)
    text += line("row " + std::to_string(i), "Why " + std::to_string(i) + "?", std::string(1 + i % 7, 'a') + " b c");
  write_file_atomically(folder / "rows.jsonl", text);
  TokenFileSettings s = settings_for(folder / "rows.jsonl", folder / "out");
  s.shard_rows = shard_rows;
  s.split = "0";
  write_token_files(cut_tokenizer(), s);
}

}  // namespace

TEST_CASE("an index of two documents has the bytes of the format", "[data][token_files]") {
  const TemporaryDirectory folder;
  IndexedWriter writer(folder / "x", IndexedType::i32);
  const std::vector<std::int32_t> a{1, 2, 3}, b{4, 5};
  writer.add(a.data(), 3);
  writer.add(b.data(), 2);
  CHECK_FALSE(path_exists(folder / "x.bin"));
  writer.commit();
  const unsigned char expected[] = {0x4D, 0x4D, 0x49, 0x44, 0x49, 0x44, 0x58, 0, 0,  1, 0, 0, 0, 0, 0, 0, 0, 4, 2, 0, 0,
                                    0,    0,    0,    0,    0,    3,    0,    0, 0,  0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0,
                                    0,    0,    0,    0,    0,    0,    0,    0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                    0,    0,    0,    1,    0,    0,    0,    0, 0,  0, 0, 2, 0, 0, 0, 0, 0, 0, 0};
  static_assert(sizeof expected == 82);
  CHECK(read_file(folder / "x.idx") == std::string(reinterpret_cast<const char*>(expected), sizeof expected));
  const IndexedFile file(folder / "x");
  std::vector<std::int32_t> ids;
  file.get(1, ids);
  CHECK(ids == b);
  std::vector<std::uint8_t> bytes;
  CHECK_THROWS_AS(file.get(0, bytes), ConfigError);
  // Damage: each byte that the header and the tables depend on.
  const std::string good = read_file(folder / "x.idx");
  const std::pair<std::size_t, char> damages[] = {{0, 'X'}, {9, 2},   {17, 9},  {17, 0}, {18, 3}, {26, 2},
                                                  {34, 9},  {37, -1}, {42, 13}, {58, 1}, {74, 1}};
  for (const auto& [at, value] : damages) {
    CAPTURE(at, int{value});
    std::string bad = good;
    bad[at] = value;
    write_file_atomically(folder / "x.idx", bad);
    CHECK_THROWS_AS(IndexedFile(folder / "x"), FormatError);
  }
  for (const std::size_t size : {0, 33, 81, 83}) {
    CAPTURE(size);
    write_file_atomically(folder / "x.idx", (good + "xx").substr(0, size));
    CHECK_THROWS_AS(IndexedFile(folder / "x"), Error);
  }
}

TEST_CASE("the bundled rows become token files, byte-equal on a rerun and however they were cut off",
          "[data][token_files]") {
  const TemporaryDirectory folder;
  TokenFileSettings s = bundled(folder / "out");
  const TokenFileCounts counts = write_token_files(cut_tokenizer(), s);
  CHECK(counts.rows == 200);
  CHECK(counts.documents == 188);
  CHECK(counts.truncated == 2);
  CHECK(counts.skips == std::array<std::int64_t, 9>{0, 2, 2, 2, 2, 2, 2, 0, 0});
  CHECK(counts.split_documents[0] + counts.split_documents[1] == 188);
  CHECK(counts.split_documents[1] > 5);
  const auto files = contents(folder / "out");
  CHECK(files.count("manifest.json") == 1);
  CHECK(files.count("shards/shard_03.json") == 1);
  check_with_numpy(folder / "out");
  SECTION("a rerun changes nothing") {
    write_token_files(cut_tokenizer(), s);
    CHECK(contents(folder / "out") == files);
  }
  SECTION("with one thread and without what a shard lost") {
    remove_tree(folder / "out/manifest.json");
    remove_tree(folder / "out/shards/shard_01.json");
    remove_tree(folder / "out/train/shard_02_span.bin");
    write_file_atomically(folder / "out/train/shard_00_rows.jsonl", "{}\n");
    std::vector<std::string> messages;
    s.message = [&](const std::string& text) { messages.push_back(text); };
    const int threads = thread_count();
    set_thread_count(1);
    write_token_files(cut_tokenizer(), s);
    set_thread_count(threads);
    CHECK(contents(folder / "out") == files);
    REQUIRE(messages.size() == 2);
    CHECK_THAT(messages[0], contains("shard_00") && contains("does not have the bytes"));
    CHECK_THAT(messages[1], contains("shard_02") && contains("is missing"));
  }
  SECTION("another run's shards are refused") {
    s.rows.effort = "high";
    CHECK_THROWS_WITH(write_token_files(cut_tokenizer(), s), contains("is a shard of the run") && contains("--out"));
    CHECK(contents(folder / "out") == files);
  }
}

TEST_CASE("token files know their tokenizer, and rows.jsonl agrees with the documents", "[data][token_files]") {
  const TemporaryDirectory folder;
  write_token_files(cut_tokenizer(), bundled(folder / "out"));
  const TokenShards shards = TokenShards::open(folder / "out", "train", true);
  CHECK_NOTHROW(shards.require_tokenizer(cut_tokenizer()));
  CHECK_THROWS_WITH(shards.require_tokenizer(cut_tokenizer("qwen3")), contains("qwen3") && contains("other text"));
  const std::vector<RowRecord> records = shards.records();
  REQUIRE(static_cast<std::int64_t>(records.size()) == shards.documents());
  StoredDocument d;
  for (std::int64_t i = 0; i < shards.documents(); ++i) {
    shards.get(i, d);
    const RowRecord& r = records[static_cast<std::size_t>(i)];
    REQUIRE(static_cast<std::int64_t>(d.ids.size()) + 1 == r.tokens);
    REQUIRE(d.ids[static_cast<std::size_t>(r.effort_at)] == 14093);
    REQUIRE(d.loss[static_cast<std::size_t>(r.prompt) - 1] == 1);
    REQUIRE(check_harmony(cut_tokenizer(), std::span<const std::int32_t>(d.ids), {.reasoning_row = true}).ok);
  }
}

TEST_CASE("what cannot become token files is refused by file and row", "[data][token_files]") {
  const TemporaryDirectory folder;
  const auto refusal = [&](const std::string& text, std::int64_t shard_rows = 100) {
    write_file_atomically(folder / "rows.jsonl", text);
    TokenFileSettings s = settings_for(folder / "rows.jsonl", folder / "out");
    s.shard_rows = shard_rows;
    std::string message = "none";
    try {
      write_token_files(cut_tokenizer(), s);
    } catch (const Error& error) {
      message = error.what();
    }
    CHECK_FALSE(path_exists(folder / "out/manifest.json"));
    remove_tree(folder / "out");
    return message;
  };
  CHECK_THAT(refusal(line("a") + "{\"synth_id\":\n"), contains("rows.jsonl:2"));
  CHECK_THAT(refusal(line("a") + "\n{\"synth_id\":\"b\",\"query\":3}\n"), contains("rows.jsonl:3: query"));
  CHECK_THAT(refusal("[]\n"), contains("rows.jsonl:1") && contains("no object"));
  CHECK_THAT(refusal(line("a") + line("b") + line("a")), contains("rows.jsonl:3") && contains("rows.jsonl:1 already"));
  CHECK_THAT(refusal(line("a") + line("b") + line("a"), 1),
             contains("'a'") && contains("rows.jsonl:1") && contains("rows.jsonl:3"));
  CHECK_THAT(refusal(""), contains("no rows"));
  CHECK_THAT(refusal(line("a", " ") + line("")), contains("none of 2 rows") && contains("1 no_id, 1 empty_query"));
  TokenFileSettings s = settings_for(folder / "absent.jsonl", folder / "out");
  CHECK_THROWS_AS(write_token_files(cut_tokenizer(), s), IoError);
  s.inputs = {folder / "rows.parquet"};
  CHECK_THROWS_WITH(write_token_files(cut_tokenizer(), s), contains("Parquet") && contains("pyarrow"));
  s.inputs = {folder.path()};
  remove_tree(folder / "rows.jsonl");
  CHECK_THROWS_WITH(write_token_files(cut_tokenizer(), s), contains("no .jsonl"));
}

TEST_CASE("a full disk or a kill at any call leaves only whole shards, and a rerun completes them",
          "[data][token_files]") {
  const TemporaryDirectory folder;
  std::string text;
  for (int i = 0; i < 6; ++i) text += line("row " + std::to_string(i));
  write_file_atomically(folder / "rows.jsonl", text);
  const auto settings = [&](const std::string& out) {
    TokenFileSettings s = settings_for(folder / "rows.jsonl", folder / out);
    s.shard_rows = 3;
    s.split = "0";
    return s;
  };
  const OneThread threads;  // the pool's would not be in the children
  reset_fault_counts();
  write_token_files(cut_tokenizer(), settings("whole"));
  const std::map<std::string, long> calls = {
      {"write", fault_count("write")}, {"fsync", fault_count("fsync")}, {"rename", fault_count("rename")}};
  const auto whole = contents(folder / "whole");
  for (const auto& [kind, count] : calls) {
    REQUIRE(count >= 12);  // six files of two shards, their records and the manifest
    for (const char* how : {"kill", "enospc"})
      for (long n = 1; n <= count; n += 1 + count / 6) {
        CAPTURE(kind, n, how);
        const int status = status_of_child([&, kind = kind] {
          const Fault fault(concat(kind, ":", n, ":", how));
          try {
            write_token_files(cut_tokenizer(), settings("cut"));
          } catch (const IoError&) {
            ::_exit(3);
          }
        });
        if (std::string(how) == "kill") REQUIRE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
        else REQUIRE((WIFEXITED(status) && WEXITSTATUS(status) == 3));
        for (const auto& [name, bytes] : contents(folder / "cut"))
          if (name.find(".tmp-") == std::string::npos) REQUIRE(whole.at(name) == bytes);
        write_token_files(cut_tokenizer(), settings("cut"));
        remove_stale_temporaries_below(folder / "cut");
        REQUIRE(contents(folder / "cut") == whole);
        remove_tree(folder / "cut");
      }
  }
}

TEST_CASE("a data set of token files gives every document once an epoch, whole, within its budget",
          "[data][token_files]") {
  const TemporaryDirectory folder;
  write_rows(folder, 23, 5);
  const TokenShards shards = TokenShards::open(folder / "out", "train");
  REQUIRE(shards.documents() == 23);
  std::int64_t longest = 0;
  std::map<std::string, std::vector<std::int32_t>> documents;
  for (StoredDocument d; documents.size() < 23;) {
    shards.get(static_cast<std::int64_t>(documents.size()), d);
    longest = std::max(longest, static_cast<std::int64_t>(d.ids.size()));
    CHECK(d.ids.back() == 200002);
    documents[d.source] = d.ids;
  }
  CHECK(documents.count("train/shard_04:2") == 1);
  const IndexedSettings settings{.tokens = 2 * longest + 3, .seed = 7, .epochs = 2};
  IndexedDataset source(shards, settings);
  std::map<std::string, int> times;
  std::vector<SourceCursor> cursors;
  std::vector<TokenBatch> batches;
  for (;;) {
    cursors.push_back(source.cursor());
    auto batch = source.next();
    if (!batch) break;
    batch->check(201088);
    CHECK(batch->tokens() <= settings.tokens);
    CHECK(batch->documents() >= 2);
    for (std::int64_t b = 0; b < batch->documents(); ++b) {
      const TokenBatch one = batch->document(b);
      CHECK(one.ids == documents.at(one.sources[0]));
      CHECK(one.weights.back() == 0);
      ++times[one.sources[0]];
    }
    CHECK(batch->rows().span.size() == batch->rows().token.size());
    for (const std::int32_t span : batch->rows().span) CHECK((span == 0 || span == 1));
    batches.push_back(std::move(*batch));
  }
  CHECK(times.size() == 23);
  for (const auto& [name, n] : times) CHECK(n == 2);
  IndexedDataset second(TokenShards::open(folder / "out", "train"), settings);
  for (const std::size_t from : {std::size_t{3}, std::size_t{0}, batches.size() - 1}) {
    second.seek(cursors[from]);
    for (std::size_t i = from; i < batches.size(); ++i) {
      CHECK(second.cursor() == cursors[i]);
      CHECK(second.next()->ids == batches[i].ids);
    }
  }
  IndexedDataset other(shards, {.tokens = 500, .seed = 7});
  CHECK_THROWS_AS(other.seek(cursors[1]), ConfigError);
  IndexedDataset small(shards, {.tokens = 2});  // each document is longer: a batch of its own
  CHECK(small.next()->documents() == 1);
}

TEST_CASE("token files that contradict each other are refused by name", "[data][token_files]") {
  const TemporaryDirectory folder;
  write_rows(folder, 6, 3);
  const std::string root = folder / "out", manifest = read_file(root + "/manifest.json");
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = manifest;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    write_file_atomically(root + "/manifest.json", text.replace(at, from.size(), to));
  };
  CHECK_NOTHROW(TokenShards::open(root, "train", true));
  CHECK_THROWS_WITH(TokenShards::open(root, "valid"), contains("valid has no documents"));
  CHECK_THROWS_WITH(TokenShards::open(root, "parts"), contains("synth_rescored_v1"));
  changed("shard_01_span.bin", "shard_01_gone.bin");
  CHECK_THROWS_WITH(TokenShards::open(root, "train"), contains("names train/shard_01_gone.bin, which is not there"));
  changed("\"documents\": 6,\n  \"tokens\"", "\"documents\": 7,\n  \"tokens\"");
  CHECK_THROWS_WITH(TokenShards::open(root, "train"), contains("7") && contains("6"));
  write_file_atomically(root + "/manifest.json", manifest);
  const std::string mask = root + "/train/shard_00_lossmask", good = read_file(mask + ".bin");
  std::string bad = good;
  bad[0] = 2;
  write_file_atomically(mask + ".bin", bad);
  const TokenShards shards = TokenShards::open(root, "train");
  StoredDocument d;
  CHECK_THROWS_WITH(shards.get(0, d), contains("train/shard_00:0: token 0 has loss mask 2"));
  CHECK_THROWS_WITH(TokenShards::open(root, "train", true), contains("shard_00_lossmask.bin") && contains("hash"));
  write_file_atomically(mask + ".bin", good);
  write_file_atomically(mask + ".idx", read_file(root + "/train/shard_01_lossmask.idx"));
  CHECK_THROWS_WITH(TokenShards::open(root, "train"), contains("shard_00_lossmask"));
  remove_tree(root + "/manifest.json");
  CHECK_THROWS_WITH(TokenShards::open(root, "train"), contains("manifest.json") && contains("whole when it is"));
}
