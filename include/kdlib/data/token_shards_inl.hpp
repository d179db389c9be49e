// SPDX-License-Identifier: Apache-2.0
// Bodies of token_shards.hpp.
#ifndef KDLIB_DATA_TOKEN_SHARDS_INL_HPP
#define KDLIB_DATA_TOKEN_SHARDS_INL_HPP

#include <algorithm>
#include <cmath>
#include <utility>

#include "kdlib/core/dtype.hpp"
#include "kdlib/data/token_shards.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// The shard's files that a manifest names have its beginning: "train/shard_00_tokens.bin" -> "train/shard_00".
KDLIB_FUNC std::string shard_prefix(std::string_view file) {
  constexpr std::string_view end = "_tokens.idx";
  return file.size() > end.size() && file.substr(file.size() - end.size()) == end
             ? std::string(file.substr(0, file.size() - end.size()))
             : std::string();
}

KDLIB_FUNC std::shared_ptr<const IndexedFile> open_indexed(const std::string& prefix, IndexedType type) {
  auto file = std::make_shared<const IndexedFile>(prefix);
  require<FormatError>(file->type() == type, "[token files] ", prefix, ".idx: numbers have type ",
                       static_cast<int>(file->type()), "; type ", static_cast<int>(type), " is needed");
  require<FormatError>(file->documents() == file->sequences(), "[token files] ", prefix, ".idx: ", file->sequences(),
                       " sequences in ", file->documents(), " documents; a sequence is a document here");
  return file;
}
}  // namespace detail

KDLIB_FUNC TokenShards TokenShards::open(const std::string& root, const std::string& split, bool verify) {
  TokenShards out;
  out.root_ = root;
  out.read_manifest(root, split, verify);
  return out;
}

KDLIB_FUNC void TokenShards::read_manifest(const std::string& root, const std::string& split, bool verify) {
  const std::string path = join_path(root, "manifest.json");
  require<IoError>(path_exists(path), "[token files] ", path,
                   " is not there: token files are whole when it is; run the program that makes them again");
  const Json manifest = Json::parse_file(path);
  const bool parts = split == "parts";
  const std::string schema = parts ? "synth_rescored_v1" : "synth_kd_v1";
  const std::string found = manifest.string_or("schema", "");
  require<FormatError>(found == schema, "[token files] ", path, ": the schema is '", printable(found), "'; '", schema,
                       "' is needed for ", split);
  run_ = manifest.at("run").as_string();
  const Json tokenizer = manifest.at("made_of").at("tokenizer");
  tokenizer_ = tokenizer.at("content").as_string();
  end_of_document_ = static_cast<std::int32_t>(tokenizer.at("end_of_document").as_int());
  for (const Json& id : tokenizer.at("effort_ids")) effort_ids_.push_back(static_cast<std::int32_t>(id.as_int()));
  if (!parts) chat_template_ = manifest.at("made_of").at("settings").string_or("chat_template", "");
  fingerprint_.add(run_);
  fingerprint_.add(split);
  for (const Json& shard : manifest.at("shards")) {
    std::string problem;
    for (const auto& [name, hash] : shard.at("files").members()) {
      if (!parts && name.substr(0, split.size() + 1) != split + "/") continue;
      const std::string file = join_path(root, name);
      require<FormatError>(is_regular_file(file), "[token files] ", path, " names ", name, ", which is not there");
      require<FormatError>(!verify || file_hash(file) == hash.as_string(), "[token files] ", file,
                           " does not have the bytes of the hash in ", path);
      if (name.size() > 11 && name.substr(name.size() - 11) == "_rows.jsonl") row_files_.push_back(file);
      const std::string prefix = detail::shard_prefix(name);
      if (prefix.empty()) continue;
      const std::string at = join_path(root, prefix);
      Shard opened{prefix, detail::open_indexed(at + "_tokens", IndexedType::i32),
                   detail::open_indexed(at + "_lossmask", IndexedType::u8),
                   detail::open_indexed(at + "_span", IndexedType::u8), nullptr};
      if (parts)
        opened.log_probs = detail::open_indexed(
            at + "_teacherlogp", manifest.at("store").as_string() == "f32" ? IndexedType::f32 : IndexedType::u16);
      add(std::move(opened), path);
    }
  }
  has_log_probs_ = parts;
  const std::int64_t said = parts ? manifest.at("documents").as_int() : manifest.at(split).at("documents").as_int();
  require<FormatError>(said == documents(), "[token files] ", path, ": ", split, " has ", said,
                       " documents there, and its files have ", documents());
  require<FormatError>(documents() > 0, "[token files] ", path, ": ", split, " has no documents");
}

KDLIB_FUNC TokenShards TokenShards::of_prefixes(const std::vector<std::string>& prefixes, std::int32_t end) {
  require<ConfigError>(!prefixes.empty(), "[token files] no data set is named");
  TokenShards out;
  out.has_masks_ = false;
  out.end_of_document_ = end;
  for (const std::string& prefix : prefixes) {
    out.fingerprint_.add(prefix);
    out.add({prefix, detail::open_indexed(prefix, IndexedType::i32), nullptr, nullptr, nullptr}, prefix);
  }
  return out;
}

KDLIB_FUNC void TokenShards::add(Shard shard, const std::string& place) {
  for (const auto* other : {&shard.loss, &shard.span, &shard.log_probs})
    if (*other) require_same_places(*shard.tokens, **other);
  const IndexedFile& tokens = *shard.tokens;
  fingerprint_.add(tokens.documents());
  fingerprint_.add(tokens.total());
  require<FormatError>(tokens.total() > 0 || tokens.documents() == 0, "[token files] ", place, ": ", shard.name,
                       " has documents without tokens");
  tokens_ += tokens.total();
  starts_.push_back(starts_.back() + tokens.documents());
  shards_.push_back(std::move(shard));
}

KDLIB_FUNC void TokenShards::get(std::int64_t d, StoredDocument& out) const {
  require<ConfigError>(d >= 0 && d < documents(), "[token files] document ", d, " of ", documents());
  const auto s = static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), d) - starts_.begin() - 1);
  const Shard& shard = shards_[s];
  const std::int64_t i = d - starts_[s];
  out.source = concat(shard.name, ":", i);
  shard.tokens->get(i, out.ids);
  for (std::size_t t = 0; t < out.ids.size(); ++t)
    require<FormatError>(out.ids[t] >= 0, "[token files] ", out.source, ": token ", t, " is ", out.ids[t]);
  if (!out.ids.empty() && out.ids.back() == end_of_document_) out.ids.pop_back();
  const std::size_t n = out.ids.size();
  require<FormatError>(n > 0, "[token files] ", out.source, " has no token");
  if (has_masks_) {
    shard.loss->get(i, out.loss);
    shard.span->get(i, out.span);
  } else {
    out.loss.assign(n, 1);
    out.loss.back() = 0;
    out.span.assign(n, 0);
  }
  out.loss.resize(n);
  out.span.resize(n);
  for (std::size_t t = 0; t < n; ++t)
    require<FormatError>(out.loss[t] <= 1 && out.span[t] <= 2, "[token files] ", out.source, ": token ", t,
                         " has loss mask ", static_cast<int>(out.loss[t]), " and span ", static_cast<int>(out.span[t]),
                         "; 0 or 1 and 0 to 2 are needed");
  require<FormatError>(out.loss.back() == 0, "[token files] ", out.source,
                       ": the mask of its last token counts a token that is not there");
  out.log_probs.clear();
  if (!shard.log_probs) return;
  if (shard.log_probs->type() == IndexedType::f32) {
    shard.log_probs->get(i, out.log_probs);
  } else {
    std::vector<std::uint16_t> bits;
    shard.log_probs->get(i, bits);
    for (const std::uint16_t b : bits) out.log_probs.push_back(static_cast<float>(f16::from_bits(b)));
  }
  out.log_probs.resize(n);
  for (std::size_t t = 0; t < n; ++t)
    require<FormatError>(out.loss[t] == 0 || (std::isfinite(out.log_probs[t]) && out.log_probs[t] <= 0),
                         "[token files] ", out.source, ": the teacher's log-probability of token ", t + 1, " is ",
                         out.log_probs[t], "; a finite number, 0 at most, is needed");
}

KDLIB_FUNC std::vector<RowRecord> TokenShards::records() const {
  std::vector<RowRecord> out;
  for (const std::string& file : row_files_) {
    JsonlReader reader(file);
    while (const auto row = reader.next()) {
      RowRecord r;
      r.key = row->at("key").as_string();
      r.file = row->at("file").as_string();
      r.language = row->at("language").as_string();
      r.exercise = row->at("exercise").as_string();
      r.effort = row->at("effort").as_string();
      r.row = row->at("row").as_int();
      r.tokens = row->at("tokens").as_int();
      r.prompt = row->at("prompt").as_int();
      r.reasoning = row->at("reasoning").as_int();
      r.final = row->at("final").as_int();
      r.effort_at = row->at("effort_at").as_int();
      r.truncated = row->at("truncated").as_int() != 0;
      if (r.prompt < 1 || r.prompt >= r.tokens) row->at("prompt").refuse("is not inside the document");
      if (r.effort_at >= r.prompt) row->at("effort_at").refuse("is not inside the prompt");
      out.push_back(std::move(r));
    }
  }
  require<FormatError>(row_files_.empty() || static_cast<std::int64_t>(out.size()) == documents(), "[token files] ",
                       root_, ": ", out.size(), " lines in rows.jsonl for ", documents(), " documents");
  return out;
}

KDLIB_FUNC void TokenShards::require_tokenizer(const Tokenizer& tokenizer) const {
  const std::string now = hex_digits(tokenizer.content_hash());
  require<ConfigError>(tokenizer_.empty() || tokenizer_ == now, "[token files] ", root_,
                       " was made with a tokenizer of content ", tokenizer_, ", and ", tokenizer.source(), " has ", now,
                       ": the same ids would mean other text. Use the model whose tokenizer made the files, or make "
                       "them again");
}

KDLIB_FUNC void append_document(TokenBatch& batch, const StoredDocument& document) {
  std::vector<float> weights(document.ids.size());
  std::vector<std::int32_t> spans(document.ids.size());
  for (std::size_t t = 0; t < weights.size(); ++t) {
    weights[t] = document.loss[t] != 0 ? 1.0f : 0.0f;
    spans[t] = document.loss[t] != 0 ? static_cast<std::int32_t>(document.span[t]) - 1 : -1;
  }
  batch.append(document.ids, weights, spans);
  batch.sources.resize(static_cast<std::size_t>(batch.documents()));
  batch.sources.back() = document.source;
}

KDLIB_NAMESPACE_END

#endif
