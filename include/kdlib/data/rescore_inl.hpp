// SPDX-License-Identifier: Apache-2.0
// Bodies of rescore.hpp.
#ifndef KDLIB_DATA_RESCORE_INL_HPP
#define KDLIB_DATA_RESCORE_INL_HPP

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

#include "kdlib/core/dtype.hpp"
#include "kdlib/core/settings_error.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/data/rescore.hpp"
#include "kdlib/data/token_run.hpp"
#include "kdlib/io/blake2b.hpp"
#include "kdlib/io/content_hash.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::size_t log_prob_bin(double x) {
  std::size_t i = 0;
  while (i + 1 < log_prob_bounds.size() && x <= log_prob_bounds[i + 1]) ++i;
  return i;
}

namespace detail {

/// One of RescoreSettings::strata.
struct Stratum {
  std::string language, exercise;
  HashShare share;
};

KDLIB_FUNC std::vector<Stratum> read_strata(const RescoreSettings& s) {
  std::vector<Stratum> out;
  for (const std::string& text : s.strata) {
    const std::size_t equals = text.rfind('='), slash = text.find('/');
    require<SettingsError>(equals != std::string::npos && slash != std::string::npos && slash < equals, "[rescore] '",
                           printable(text), "' is no stratum; LANGUAGE/EXERCISE=SHARE is needed, such as de/*=0.3");
    out.push_back({text.substr(0, slash), text.substr(slash + 1, equals - slash - 1),
                   HashShare(text.substr(equals + 1), concat("[rescore] the share of '", text, "'"))});
  }
  out.push_back({"*", "*", HashShare(s.fraction, "[rescore] the share of documents (--fraction)")});
  return out;
}

/// Sums over the tokens of one span.
struct SpanStatistics {
  std::int64_t n = 0;
  double sum = 0, squares = 0;
  std::array<std::int64_t, log_prob_bounds.size()> bins{};
  void add(double x) {
    ++n;
    sum += x;
    squares += x * x;
    ++bins[log_prob_bin(x)];
  }
};

KDLIB_FUNC float checked_log_prob(double x, const std::string& key, std::size_t position) {
  require<FormatError>(std::isfinite(x) && x <= 1e-3 && x >= -1000, "[rescore] the teacher's log-probability of token ",
                       position, " of '", printable(key), "' is ", x,
                       "; a number from -1000 to 0 is needed (the model's weights or its arithmetic are not in order)");
  return static_cast<float>(std::min(x, 0.0));
}

KDLIB_FUNC std::string part_name(std::int64_t p) { return numbered("part", p, 5); }
KDLIB_FUNC std::string part_prefix(std::int64_t p) { return concat("parts/", part_name(p)); }
KDLIB_FUNC std::vector<std::string> part_files(std::int64_t p) { return document_files(part_prefix(p), true); }

/// The files of one part while it is made.
class PartWriter {
 public:
  PartWriter(const std::string& prefix, bool f32)
      : f32_(f32), documents_(prefix), log_probs_(prefix + "_teacherlogp", f32 ? IndexedType::f32 : IndexedType::u16) {}

  /// `scores[t]` of token t + 1. Answers the tokens that count.
  std::int64_t add(StoredDocument& d, RowRecord row, std::int32_t end, const std::vector<double>& scores) {
    const std::size_t n = d.ids.size();
    require<ShapeError>(scores.size() + 1 == n, "[rescore] the teacher gave ", scores.size(),
                        " log-probabilities for the ", n, " tokens of '", printable(row.key), "'");
    std::vector<float> stored(n + 1, 0.0f);
    double sum = 0;
    std::int64_t count = 0;
    for (std::size_t t = 0; t + 1 < n; ++t) {
      const float x = checked_log_prob(scores[t], row.key, t + 1);
      if (d.loss[t] == 0) continue;
      stored[t] = f32_ ? x : static_cast<float>(f16(x));
      if (d.span[t] > 0) statistics[d.span[t] - 1u].add(stored[t]);
      sum += stored[t];
      ++count;
    }
    require<FormatError>(count > 0, "[rescore] no token of '", printable(row.key), "' counts");
    d.ids.push_back(end);
    d.loss.push_back(0);
    d.span.push_back(0);
    if (f32_) {
      log_probs_.add(stored.data(), n + 1);
    } else {
      std::vector<std::uint16_t> bits;
      for (const float x : stored) bits.push_back(f16(x).bits);
      log_probs_.add(bits.data(), n + 1);
    }
    row.effort = row.effort_at >= 0 ? "medium" : "";
    JsonWriter json;
    write_record(json.begin_object(), row);
    json.member("teacher_logp_mean", sum / static_cast<double>(count)).end_object();
    documents_.add(d.ids, d.loss, d.span, json.text());
    return count;
  }
  void commit() {
    log_probs_.commit();
    documents_.commit();
  }

  std::array<SpanStatistics, 2> statistics{};

 private:
  bool f32_;
  DocumentWriter documents_;
  IndexedWriter log_probs_;
};

/// The work of one worker.
class RescoreJob {
 public:
  RescoreJob(const TokenShards& shards, const RescoreSettings& settings, const ScoreDocument& score)
      : shards_(shards), settings_(settings), score_(score), rows_(shards.records()) {
    require<SettingsError>(settings.workers >= 1 && settings.worker >= 0 && settings.worker < settings.workers,
                           "[rescore] worker ", settings.worker + 1, " of ", settings.workers,
                           "; the first is 1 and the last their number");
    require<SettingsError>(settings.part_documents >= 1, "[rescore] a part of ", settings.part_documents, " documents");
    require<ConfigError>(!rows_.empty(), "[rescore] ", shards.root(),
                         " has no rows.jsonl, which says what documents are: give the folder that synth wrote");
    select();
    describe();
  }

  RescoreResult run() {
    RescoreResult result;
    result.selected = static_cast<std::int64_t>(chosen_.size());
    result.parts = (result.selected + settings_.part_documents - 1) / settings_.part_documents;
    make_directories(join_path(settings_.out, "parts"));
    refuse_other_run("[rescore] ", join_path(settings_.out, "parts"), run_hash_, "a part",
                     "teacher, token files or selection", description_);
    for (std::int64_t p = settings_.worker; p < result.parts; p += settings_.workers) {
      std::string problem;
      if (is_whole(p, problem)) continue;
      if (!problem.empty() && settings_.message)
        settings_.message(concat("[rescore] ", part_name(p), " is made again: ", problem));
      result.scored += make(p);
      ++result.made_parts;
    }
    result.complete = true;
    for (std::int64_t p = 0; result.complete && p < result.parts; ++p) {
      std::string problem;  // this worker's own parts are whole by now
      result.complete = p % settings_.workers == settings_.worker || is_whole(p, problem);
    }
    if (result.complete) write_file_atomically(join_path(settings_.out, "manifest.json"), manifest(result.parts));
    return result;
  }

 private:
  void select() {
    const std::vector<Stratum> strata = read_strata(settings_);
    for (std::size_t d = 0; d < rows_.size(); ++d) {
      const RowRecord& row = rows_[d];
      if (row.truncated || row.reasoning < settings_.min_reasoning) continue;
      const auto fits = [&row](const Stratum& s) {
        return (s.language == "*" || s.language == row.language) && (s.exercise == "*" || s.exercise == row.exercise);
      };
      if (std::find_if(strata.begin(), strata.end(), fits)->share.has("rescore:" + row.key))
        chosen_.push_back(static_cast<std::int64_t>(d));
    }
    require<ConfigError>(!chosen_.empty(), "[rescore] of ", rows_.size(), " documents none is selected by the share ",
                         settings_.fraction, " and ", settings_.min_reasoning,
                         " tokens of thought: raise the share, or lower --min-reasoning");
  }

  void describe() {
    const Json source = Json::parse_file(join_path(shards_.root(), "manifest.json"));
    const Json tokenizer = source.at("made_of").at("tokenizer");
    end_ = static_cast<std::int32_t>(tokenizer.at("end_of_document").as_int());
    JsonWriter json;
    json.begin_object().key("tokenizer").begin_object();
    json.member("content", tokenizer.at("content").as_string());
    json.member("sha256", tokenizer.at("sha256").as_string());
    json.member("vocabulary", tokenizer.at("vocabulary").as_int());
    json.member("end_of_document", end_).member("effort_ids", shards_.effort_ids()).end_object();
    json.member("token_files", shards_.run()).member("teacher", settings_.teacher).member("dtype", settings_.dtype);
    json.member("fraction", settings_.fraction).member("strata", settings_.strata);
    json.member("min_reasoning", settings_.min_reasoning).member("part_documents", settings_.part_documents);
    json.member("store", settings_.store_f32 ? "f32" : "f16").end_object();
    description_ = json.text();
    run_hash_ = Sha256().add(description_).digest();
  }

  std::string record_path(std::int64_t p) const { return join_path(settings_.out, part_prefix(p) + ".json"); }

  bool is_whole(std::int64_t p, std::string& problem) const {
    const std::string path = record_path(p);
    return path_exists(path) && files_are_whole(settings_.out, Json::parse_file(path).at("files"), problem);
  }

  /// A document as the teacher reads it.
  StoredDocument document(std::int64_t number) const {
    StoredDocument d;
    shards_.get(number, d);
    const std::int64_t at = rows_[static_cast<std::size_t>(number)].effort_at;
    if (at >= 0) d.ids[static_cast<std::size_t>(at)] = shards_.effort_ids().at(1);
    return d;
  }

  std::int64_t make(std::int64_t p) {
    remove_tree(record_path(p));
    for (const std::string& name : part_files(p)) remove_tree(join_path(settings_.out, name));
    PartWriter writer(join_path(settings_.out, part_prefix(p)), settings_.store_f32);
    const std::int64_t begin = p * settings_.part_documents;
    const auto end = std::min(begin + settings_.part_documents, static_cast<std::int64_t>(chosen_.size()));
    std::int64_t scored = 0;
    std::deque<StoredDocument> ahead;
    for (std::int64_t i = begin, next = begin; i < end; ++i) {
      check_stop();
      for (; next < end && next <= i + settings_.ahead; ++next) {
        ahead.push_back(document(chosen_[static_cast<std::size_t>(next)]));
        if (settings_.announce) settings_.announce(ahead.back().ids);
      }
      const RowRecord& row = rows_[static_cast<std::size_t>(chosen_[static_cast<std::size_t>(i)])];
      const std::vector<double> scores = score_(ahead.front().ids);
      scored += writer.add(ahead.front(), row, end_, scores);
      ahead.pop_front();
      if (settings_.progress) settings_.progress(1, static_cast<std::int64_t>(scores.size()));
    }
    writer.commit();
    JsonWriter json(JsonStyle{.indent = 1});
    json.begin_object().member("schema", "synth_part_v1").member("run", run_hash_).member("part", p);
    json.key("made_of").raw(description_);
    json.member("documents", end - begin).member("teacher_reasoning_mode", "medium");
    for (std::size_t s = 0; s < 2; ++s) {
      const SpanStatistics& x = writer.statistics[s];
      json.key(s == 0 ? "reasoning" : "final").begin_object().member("n", x.n).member("sum", x.sum);
      json.member("sum_of_squares", x.squares).member("histogram", x.bins).end_object();
    }
    json.key("files");
    write_file_hashes(json, settings_.out, part_files(p));
    write_file_atomically(record_path(p), json.end_object().text());
    return scored;
  }

  std::string manifest(std::int64_t parts) const {
    JsonWriter json(JsonStyle{.indent = 1});
    json.begin_object().member("schema", "synth_rescored_v1").member("run", run_hash_);
    json.key("made_of").raw(description_);
    json.member("store", settings_.store_f32 ? "f32" : "f16");
    json.member("documents", static_cast<std::int64_t>(chosen_.size()));
    json.key("shards").begin_array();
    for (std::int64_t p = 0; p < parts; ++p) {
      json.begin_object().member("name", part_name(p)).key("files").begin_object();
      for (const auto& [name, hash] : Json::parse_file(record_path(p)).at("files").members())
        json.member(name, hash.as_string());
      json.end_object().end_object();
    }
    return json.end_array().end_object().text();
  }

  const TokenShards& shards_;
  const RescoreSettings& settings_;
  const ScoreDocument& score_;
  std::vector<RowRecord> rows_;
  std::vector<std::int64_t> chosen_;
  std::string description_, run_hash_;
  std::int32_t end_ = -1;
};

}  // namespace detail

KDLIB_FUNC RescoreResult rescore_documents(const TokenShards& shards, const RescoreSettings& settings,
                                           const ScoreDocument& score) {
  require<SettingsError>(!settings.out.empty(), "[rescore] no folder is named for the parts");
  return detail::RescoreJob(shards, settings, score).run();
}

KDLIB_FUNC RescoredOrigin RescoredOrigin::read(const std::string& root) {
  const Json made_of = Json::parse_file(join_path(root, "manifest.json")).at("made_of");
  RescoredOrigin out;
  out.root = root;
  out.token_files = made_of.at("token_files").as_string();
  out.teacher = made_of.at("teacher").as_string();
  out.fraction = made_of.at("fraction").as_string();
  out.min_reasoning = made_of.at("min_reasoning").as_int();
  return out;
}

KDLIB_FUNC void RescoredOrigin::require_same(const RescoredNeeds& needs) const {
  const auto same = [this](bool equal, std::string_view what, const auto& there, const auto& here,
                           std::string_view otherwise) {
    require<ConfigError>(equal, "[rescore] the parts in ", root, " have ", what, " '", there, "', and '", here,
                         "' is needed: ", otherwise);
  };
  same(needs.token_files.empty() || needs.token_files == token_files, "documents of the token files", token_files,
       needs.token_files, "train on the files that were scored, or score these (in another folder)");
  same(needs.teacher.empty() || needs.teacher == teacher, "log-probabilities of the teacher", printable(teacher),
       printable(needs.teacher), "name the teacher that scored them, or let this one score (in another folder)");
  same(needs.fraction.empty() || needs.fraction == fraction ||
           HashShare(needs.fraction, "[rescore] the share of documents").threshold() ==
               HashShare(fraction, "[rescore] the share of documents").threshold(),
       "the share of documents (--fraction)", printable(fraction), printable(needs.fraction),
       "leave the share out, or score with it (in another folder)");
  same(!needs.min_reasoning || *needs.min_reasoning == min_reasoning, "the least thought (--min-reasoning)",
       min_reasoning, needs.min_reasoning.value_or(0), "leave it out, or score with it (in another folder)");
}

KDLIB_FUNC double verify_rescored(const TokenShards& parts, std::int64_t count, double limit,
                                  const ScoreDocument& score) {
  require<ConfigError>(parts.has_log_probs(), "[rescore] ", parts.root(), " has no teacher's log-probabilities");
  const std::vector<RowRecord> rows = parts.records();
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  for (std::size_t d = 0; d < rows.size(); ++d) order.emplace_back(blake2b64("verify:" + rows[d].key), d);
  std::sort(order.begin(), order.end());
  if (count < static_cast<std::int64_t>(order.size()))
    order.resize(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)));
  double largest = 0;
  StoredDocument d;
  for (const auto& [hash, number] : order) {
    parts.get(static_cast<std::int64_t>(number), d);
    const std::vector<double> again = score(d.ids);
    require<ShapeError>(again.size() + 1 == d.ids.size(), "[rescore] ", again.size(), " log-probabilities for ",
                        d.ids.size(), " tokens");
    for (std::size_t t = 0; t < again.size(); ++t) {
      if (d.loss[t] == 0) continue;
      const double x = std::min(again[t], 0.0), difference = std::abs(x - static_cast<double>(d.log_probs[t]));
      require<FormatError>(difference <= limit * std::max(1.0, std::abs(x)), "[rescore] token ", t + 1, " of '",
                           printable(rows[number].key), "' is stored as ", d.log_probs[t], " and scored again as ", x,
                           "; the largest difference allowed is ", limit, " * max(1, |x|)");
      largest = std::max(largest, difference);
    }
  }
  return largest;
}

KDLIB_NAMESPACE_END

#endif
