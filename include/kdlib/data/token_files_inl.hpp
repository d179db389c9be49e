// SPDX-License-Identifier: Apache-2.0
// Bodies of token_files.hpp.
#ifndef KDLIB_DATA_TOKEN_FILES_INL_HPP
#define KDLIB_DATA_TOKEN_FILES_INL_HPP

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "kdlib/core/parallel.hpp"
#include "kdlib/core/settings_error.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/data/row_lines.hpp"
#include "kdlib/data/token_files.hpp"
#include "kdlib/io/blake2b.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/indexed_file.hpp"
#include "kdlib/io/jsonl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// A row of a block, from its line to its document.
struct RowWork {
  RowLines::Line line;
  ReasoningRow row;
  RowDocument document;
  RowSkip skip = RowSkip::none;
};

KDLIB_FUNC RowSkip render_row(const RowRenderer& renderer, RowWork& task, const std::string& place) {
  try {
    return renderer.render(task.row, task.document);
  } catch (const InputError& error) {  // a template does not know which line it was given
    fail<InputError>("[synth] ", place, ": ", error.what());
  }
}

KDLIB_FUNC void render_task(const RowRenderer& renderer, const std::string& path, RowWork& task) {
  const std::string place = concat(path, ":", task.line.row);
  if (task.line.given) {
    task.row = std::move(*task.line.given);
    task.skip = render_row(renderer, task, place);
    return;
  }
  const bool utf8 = find_invalid_utf8(task.line.text) == std::string_view::npos;
  std::string text = utf8 ? std::move(task.line.text) : replace_invalid_utf8(task.line.text);
  task.row = reasoning_row_from_json(Json::parse(std::move(text), place));
  task.skip = !utf8 && !task.row.key.empty() ? RowSkip::not_utf8 : RowSkip::none;
  if (task.skip == RowSkip::none) task.skip = render_row(renderer, task, place);
}

/// Its document goes to files, with the id that ends it.
KDLIB_FUNC void write_document(DocumentWriter& writer, RowWork& task, const std::string& path, std::int32_t end) {
  const ReasoningRow& row = task.row;
  RowDocument& d = task.document;
  const std::vector<std::uint8_t> loss = label_aligned(d.loss), span = label_aligned(d.span);
  d.ids.push_back(end);
  JsonWriter json;
  json.begin_object();
  write_record(json, {.key = row.key,
                      .file = std::string(file_name(path)),
                      .language = row.language,
                      .exercise = row.exercise,
                      .effort = d.effort,
                      .row = task.line.row,
                      .tokens = static_cast<std::int64_t>(d.ids.size()),
                      .prompt = d.prompt,
                      .reasoning = d.reasoning,
                      .final = d.final,
                      .effort_at = d.effort_at,
                      .truncated = d.truncated});
  writer.add(d.ids, loss, span, json.end_object().text());
}

/// Makes one shard: the next `rows` rows of the input.
class ShardJob {
 public:
  ShardJob(const RowRenderer& renderer, const TokenFileSettings& settings, const HashShare& validates, std::int64_t k)
      : renderer_(renderer), settings_(settings), validates_(validates), name_(shard_name(k)) {}

  TokenFileCounts make(RowLines& lines, std::int64_t rows) {
    constexpr std::int64_t block = 256;
    std::vector<RowWork> tasks;
    while (counts_.rows < rows) {
      check_stop();
      tasks.clear();
      for (RowWork task; std::min(block, rows - counts_.rows) > static_cast<std::int64_t>(tasks.size());) {
        if (!lines.next(task.line)) break;
        tasks.push_back(std::move(task));
        task = RowWork{};
      }
      if (tasks.empty()) break;
      parallel_for(static_cast<std::int64_t>(tasks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          RowWork& task = tasks[static_cast<std::size_t>(i)];
          render_task(renderer_, lines.path(task.line.file), task);
        }
      });
      for (RowWork& task : tasks) add(task, lines);
      if (settings_.progress) settings_.progress(static_cast<std::int64_t>(tasks.size()), lines.bytes());
    }
    for (auto& writer : writers_)
      if (writer) writer->commit();
    return counts_;
  }

 private:
  void add(RowWork& task, const RowLines& lines) {
    ++counts_.rows;
    if (task.skip != RowSkip::none) {
      ++counts_.skips[static_cast<std::size_t>(task.skip)];
      return;
    }
    const std::string& path = lines.path(task.line.file);
    const std::uint64_t hash = blake2b64(task.row.key);
    const auto [at, fresh] = seen_.emplace(hash, std::make_pair(task.line.file, task.line.row));
    require<FormatError>(fresh, "[synth] ", path, ":", task.line.row, ": the key '", printable(task.row.key),
                         "' stands at ", lines.path(at->second.first), ":", at->second.second, " already");
    const std::size_t split = validates_.has(hash) ? 1 : 0;
    if (!writers_[split]) {
      const std::string folder = join_path(settings_.out, split_names[split]);
      make_directories(folder);
      writers_[split].emplace(join_path(folder, name_));
    }
    counts_.truncated += task.document.truncated ? 1 : 0;
    write_document(*writers_[split], task, path, renderer_.end_of_document());
    ++counts_.documents;
    ++counts_.split_documents[split];
    counts_.split_tokens[split] += static_cast<std::int64_t>(task.document.ids.size());
  }

  const RowRenderer& renderer_;
  const TokenFileSettings& settings_;
  const HashShare& validates_;
  std::string name_;
  std::array<std::optional<DocumentWriter>, 2> writers_;  // made when the first document comes
  std::unordered_map<std::uint64_t, std::pair<std::size_t, std::int64_t>> seen_;
  TokenFileCounts counts_;
};

/// The whole work: what is there already, what is missing, the manifest.
class TokenFileJob {
 public:
  TokenFileJob(const Tokenizer& tokenizer, const TokenFileSettings& settings)
      : settings_(settings),
        renderer_(tokenizer, settings.rows),
        validates_(settings.split, "[synth] the share of rows that validate (--split)"),
        files_(token_file_inputs(settings.inputs, settings.open_parquet != nullptr)),
        lines_(files_, settings.open_parquet) {
    require<SettingsError>(settings.shard_rows >= 1, "[synth] a shard of ", settings.shard_rows,
                           " rows; it needs 1 or more");
    require<SettingsError>(settings.max_rows >= 0, "[synth] max_rows is ", settings.max_rows, "; 0 means all");
    describe(tokenizer);
  }

  TokenFileCounts run() {
    make_directories(join_path(settings_.out, "shards"));
    refuse_other_run("[synth] ", join_path(settings_.out, "shards"), run_hash_, "a shard",
                     "input, tokenizer or settings");
    for (std::int64_t k = 0, done = 0; !lines_.at_end(); ++k) {
      std::int64_t rows = settings_.shard_rows;
      if (settings_.max_rows > 0) rows = std::min(rows, settings_.max_rows - done);
      if (rows <= 0) break;
      done += rows;
      records_.push_back(shard(k, rows));
      total_ += counts_of(records_.back());
    }
    require<InputError>(total_.rows > 0, "[synth] ", files_.front(), " and the other inputs have no rows");
    require<InputError>(total_.documents > 0, "[synth] none of ", total_.rows,
                        " rows gave a document: ", total_.skipped());
    refuse_double_keys();
    write_file_atomically(join_path(settings_.out, "manifest.json"), manifest());
    return total_;
  }

 private:
  void describe(const Tokenizer& tokenizer) {
    SettingsList list;
    append_fields(list, "rows", renderer_.settings());
    JsonWriter json;
    json.begin_object().member("schema", "synth_kd_v1").key("settings").begin_object();
    for (const auto& [key, value] : list) json.member(key.substr(5), value);
    json.member("languages", settings_.rows.languages).member("exercises", settings_.rows.exercises);
    json.member("split", settings_.split).member("shard_rows", settings_.shard_rows);
    json.member("max_rows", settings_.max_rows);
    if (const std::string& file = settings_.rows.chat_template; is_regular_file(file))
      json.member("chat_template_sha256", file_hash(file));
    json.end_object();
    const std::string& source = tokenizer.source();
    const std::string model = is_regular_file(source) ? source : join_path(source, "tokenizer.json");
    json.key("tokenizer").begin_object().member("content", hex_digits(tokenizer.content_hash()));
    json.member("sha256", is_regular_file(model) ? file_hash(model) : std::string());
    json.member("vocabulary", tokenizer.vocab_size()).member("end_of_document", renderer_.end_of_document());
    json.member("effort_ids", renderer_.effort_ids()).end_object();
    json.key("inputs").begin_array();
    for (const std::string& file : files_)
      json.begin_object()
          .member("file", file_name(file))
          .member("bytes", file_size(file))
          .member("sha256", file_hash(file))
          .end_object();
    json.end_array().end_object();
    description_ = json.text();
    run_hash_ = Sha256().add(description_).digest();
  }

  std::string record_path(std::int64_t k) const {
    return join_path(join_path(settings_.out, "shards"), shard_name(k) + ".json");
  }

  static std::vector<std::string> files_of(std::string_view split, std::int64_t k) {
    return document_files(concat(split, "/", shard_name(k)), false);
  }

  Json shard(std::int64_t k, std::int64_t rows) {
    const std::string path = record_path(k);
    if (path_exists(path)) {
      const Json record = Json::parse_file(path);
      std::string problem;
      if (files_are_whole(settings_.out, record.at("files"), problem)) {
        RowLines::Line line;
        for (std::int64_t i = 0; i < rows && lines_.next(line); ++i)
          if (i % 4096 == 0) check_stop();
        return record;
      }
      message(concat("[synth] ", shard_name(k), " is made again: ", problem));
      remove_tree(path);
    }
    for (const char* split : split_names)  // what a run that was cut off left of this shard
      for (const std::string& name : files_of(split, k)) remove_tree(join_path(settings_.out, name));
    ShardJob job(renderer_, settings_, validates_, k);
    const TokenFileCounts counts = job.make(lines_, rows);
    write_file_atomically(path, record(k, counts));
    return Json::parse_file(path);
  }

  std::string record(std::int64_t k, const TokenFileCounts& c) const {
    JsonWriter json(JsonStyle{.indent = 1});
    json.begin_object().member("schema", "synth_shard_v1").member("run", run_hash_).member("shard", k);
    write_counts(json, c);
    std::vector<std::string> names;
    for (std::size_t s = 0; s < 2; ++s)
      if (c.split_documents[s] > 0)
        for (const std::string& name : files_of(split_names[s], k)) names.push_back(name);
    json.key("files");
    write_file_hashes(json, settings_.out, names);
    return json.end_object().text();
  }

  std::string manifest() const {
    JsonWriter json(JsonStyle{.indent = 1});
    json.begin_object().member("schema", "synth_kd_v1").member("run", run_hash_);
    json.key("made_of").raw(description_);
    json.member("split_rule", concat("valid: u(key) < ", validates_.threshold(),
                                     ", u the big-endian number of the 8-byte BLAKE2b digest"));
    write_counts(json, total_);
    json.key("shards").begin_array();
    for (std::size_t k = 0; k < records_.size(); ++k) {
      const TokenFileCounts c = counts_of(records_[k]);
      json.begin_object().member("name", shard_name(static_cast<std::int64_t>(k)));
      json.member("documents", c.split_documents).member("tokens", c.split_tokens).key("files").begin_object();
      for (const auto& [name, hash] : records_[k].at("files").members()) json.member(name, hash.as_string());
      json.end_object().end_object();
    }
    return json.end_array().end_object().text();
  }

  /// Keys of different shards: 8 bytes a document.
  void refuse_double_keys() const {
    std::vector<std::uint64_t> hashes;
    const auto each = [this](auto&& f) {
      for (std::size_t k = 0; k < records_.size(); ++k)
        for (const auto& [name, hash] : records_[k].at("files").members()) {
          if (name.find("_rows.jsonl") == std::string_view::npos) continue;
          JsonlReader reader(join_path(settings_.out, name));
          while (const auto row = reader.next()) f(*row);
        }
    };
    if (records_.size() < 2) return;  // ShardJob has looked
    each([&](const Json& row) { hashes.push_back(blake2b64(row.at("key").as_string())); });
    std::sort(hashes.begin(), hashes.end());
    const auto twice = std::adjacent_find(hashes.begin(), hashes.end());
    if (twice == hashes.end()) return;
    std::string places, key;
    each([&](const Json& row) {
      if (blake2b64(row.at("key").as_string()) != *twice) return;
      key = row.at("key").as_string();
      places += concat(places.empty() ? "" : " and at ", row.at("file").as_string(), ":", row.at("row").as_int());
    });
    fail<FormatError>("[synth] the key '", printable(key), "' stands at ", places,
                      ": keys name documents and must differ; remove a row and the shards of both from --out");
  }

  void message(const std::string& text) const {
    if (settings_.message) settings_.message(text);
  }

  const TokenFileSettings& settings_;
  RowRenderer renderer_;
  HashShare validates_;
  std::vector<std::string> files_;
  RowLines lines_;
  std::string description_, run_hash_;
  std::vector<Json> records_;
  TokenFileCounts total_;
};

}  // namespace detail

KDLIB_FUNC std::vector<std::string> token_file_inputs(const std::vector<std::string>& inputs, bool parquet) {
  const auto refuse_parquet = [parquet](const std::string& path) {
    require<ConfigError>(parquet || !detail::is_parquet(path), "[synth] ", path,
                         " is a Parquet file, and this program was built without Apache Arrow (KDLIB_ARROW), so that "
                         "it reads JSON lines alone; convert it first: python3 -c 'import json, sys, pyarrow.parquet "
                         "as p; [print(json.dumps(r, ensure_ascii=False)) for b in "
                         "p.ParquetFile(sys.argv[1]).iter_batches() for r in b.to_pylist()]' ",
                         path, " > ", path.substr(0, path.size() - 8), ".jsonl");
  };
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    refuse_parquet(input);
    if (!is_directory(input)) {
      file_size(input);  // refused before any work where it is not there
      files.push_back(input);
      continue;
    }
    const std::size_t before = files.size();
    std::string refused;
    for (const std::string& name : list_directory(input)) {
      if (name.ends_with(".jsonl") || (parquet && detail::is_parquet(name))) files.push_back(join_path(input, name));
      else if (detail::is_parquet(name) && refused.empty()) refused = join_path(input, name);
    }
    if (files.size() == before && !refused.empty()) refuse_parquet(refused);
    require<ConfigError>(files.size() > before, "[synth] the folder ", input, " has no .jsonl file",
                         parquet ? " and no .parquet file" : "");
  }
  require<SettingsError>(!files.empty(), "[synth] there is no input: name a .jsonl file or a folder of them");
  return files;
}

KDLIB_FUNC TokenFileCounts write_token_files(const Tokenizer& tokenizer, const TokenFileSettings& settings) {
  require<SettingsError>(!settings.out.empty(), "[synth] no folder is named for the token files");
  return detail::TokenFileJob(tokenizer, settings).run();
}

KDLIB_NAMESPACE_END

#endif
