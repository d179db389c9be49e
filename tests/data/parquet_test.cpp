// SPDX-License-Identifier: Apache-2.0
// Rows of Parquet files by Apache Arrow. The files are pyarrow's (scripts/make_parquet_reference.py); rows.parquet has
// the bundled rows that are UTF-8, so that its token files have the bytes of those of the JSON lines.
#include "kdlib/arrow.hpp"

#include "data/toy_harmony.hpp"
#include "kdlib/io/jsonl.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using namespace kdlib;
using namespace kdlib_tests;

#if defined(KDLIB_WITH_ARROW)
namespace {

const std::string reference = source_dir() + "/tests/reference/parquet/";

TokenFileCounts write_files(const std::string& input, const std::string& out, std::int64_t shard_rows = 64) {
  TokenFileSettings s;
  s.inputs = {input};
  s.out = out;
  s.split = "0.1";
  s.shard_rows = shard_rows;
  s.rows.identity = "Toy.";
  s.open_parquet = parquet_rows;
  return write_token_files(toy_harmony(), s);
}

/// The bundled rows without the two lines that are no UTF-8, which no Parquet column of text can hold.
void write_lines(const std::string& path) {
  std::string text;
  LineReader lines(source_dir() + "/examples/data/synth_rows.jsonl");
  while (const auto line = lines.next())
    if (find_invalid_utf8(*line) == std::string_view::npos) text += std::string(*line) + "\n";
  write_file_atomically(path, text);
}

}  // namespace

TEST_CASE("rows of a Parquet file become the token files of the same rows as JSON lines", "[data][parquet]") {
  const TemporaryDirectory folder;
  write_lines(folder / "rows.jsonl");
  const TokenFileCounts lines = write_files(folder / "rows.jsonl", folder / "lines");
  const TokenFileCounts rows = write_files(reference + "rows.parquet", folder / "rows");
  CHECK(rows.rows == 198);
  CHECK(rows.documents == lines.documents);
  CHECK(rows.skips == lines.skips);
  int compared = 0;
  for (const char* split : {"train", "valid"})
    for (const std::string& name : list_directory(join_path(folder / "lines", split))) {
      if (name.ends_with(".jsonl")) continue;  // these name the input file
      CAPTURE(split, name);
      CHECK(read_file(join_path(join_path(folder / "rows", split), name)) ==
            read_file(join_path(join_path(folder / "lines", split), name)));
      ++compared;
    }
  CHECK(compared >= 7 * 6);  // four shards of train, and of valid those that have a row
  const std::vector<RowRecord> a = TokenShards::open(folder / "rows", "train").records(),
                               b = TokenShards::open(folder / "lines", "train").records();
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].key == b[i].key);
    CHECK(a[i].row == b[i].row);
    CHECK(a[i].file == "rows.parquet");
  }
  // A shard that was lost is made again from the middle of the file; a folder has both kinds by name.
  remove_tree(folder / "rows/shards/shard_02.json");
  remove_tree(folder / "rows/train/shard_02_tokens.bin");
  write_files(reference + "rows.parquet", folder / "rows");
  CHECK(read_file(folder / "rows/train/shard_02_tokens.bin") == read_file(folder / "lines/train/shard_02_tokens.bin"));
  CHECK(token_file_inputs({reference}, true).size() == 4);
}

TEST_CASE("columns of text are read in every form, nulls are empty, other columns are not read", "[data][parquet]") {
  const NextRow next = parquet_rows(reference + "kinds.parquet");
  std::vector<ReasoningRow> rows;
  for (ReasoningRow row; next(row);) rows.push_back(row);
  REQUIRE(rows.size() == 5);
  CHECK(rows[0].key == "a");
  CHECK(rows[1].language == "de");
  CHECK(rows[1].query == "Warum?");
  CHECK(rows[2].key.empty());
  CHECK(rows[3].language.empty());
  CHECK(rows[3].reasoning.empty());
  CHECK(rows[4].query == "\xFF");
  CHECK(rows[4].constraints.empty());  // no such column
  const TemporaryDirectory folder;
  const TokenFileCounts counts = write_files(reference + "kinds.parquet", folder / "out");
  CHECK(counts.documents == 2);
  CHECK(counts.skips[static_cast<std::size_t>(RowSkip::no_id)] == 1);
  CHECK(counts.skips[static_cast<std::size_t>(RowSkip::not_utf8)] == 1);
  CHECK(counts.skips[static_cast<std::size_t>(RowSkip::empty_reasoning)] == 1);
}

TEST_CASE("Parquet files that cannot be rows are refused by file and column", "[data][parquet]") {
  const TemporaryDirectory folder;
  const auto error = [](const std::string& path) {
    return refusal([&] {
      const NextRow next = parquet_rows(path);
      for (ReasoningRow row; next(row);) continue;
    });
  };
  CHECK_THAT(error(reference + "missing.parquet"), contains("missing.parquet has no column synth_id"));
  CHECK_THAT(error(reference + "number.parquet"), contains("the column query holds int64; text is needed"));
  CHECK_THAT(error(folder / "none.parquet"), contains("none.parquet") && contains("No such file"));
  const std::string good = read_file(reference + "rows.parquet");
  write_file_atomically(folder / "cut.parquet", good.substr(0, good.size() / 2));
  CHECK_THAT(error(folder / "cut.parquet"), contains("[parquet] ") && contains("cut.parquet"));
  std::string damaged = good;
  for (std::size_t i = 200; i < 260; ++i) damaged[i] = 'x';
  write_file_atomically(folder / "damaged.parquet", damaged);
  CHECK_THAT(error(folder / "damaged.parquet"), contains("[parquet] ") && contains("damaged.parquet"));
}

#else

TEST_CASE("rows of a Parquet file become the token files of the same rows as JSON lines", "[data][parquet]") {
  KDLIB_SKIP("this build has no Apache Arrow: run scripts/arrow and configure again (KDLIB_ARROW)");
}

#endif
