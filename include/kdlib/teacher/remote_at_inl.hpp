// SPDX-License-Identifier: Apache-2.0
// Bodies of remote_at.hpp.
#ifndef KDLIB_TEACHER_REMOTE_AT_INL_HPP
#define KDLIB_TEACHER_REMOTE_AT_INL_HPP

#include <algorithm>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/teacher/remote_at.hpp"
#include "kdlib/teacher/remote_dialects_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC HttpRequest at_request(std::span<const ScoredDocument> documents, std::span<const std::int32_t> ids,
                                  std::size_t width) {
  JsonWriter json;
  json.begin_object().member("want", "at").key("documents").begin_array();
  for (const ScoredDocument& document : documents) {
    json.begin_object().member("ids", document.ids).member("rows", document.rows).key("at").begin_array();
    for (std::size_t r = 0; r < document.rows.size(); ++r, ids = ids.subspan(width)) json.value(ids.first(width));
    json.end_array().end_object();
  }
  return {"POST", "/v1/teacher/rows", json.end_array().end_object().text()};
}

}  // namespace detail

KDLIB_FUNC std::vector<float> remote_log_probs_at(RemoteClient& client, const TokenBatch& batch,
                                                  std::span<const std::int32_t> ids, std::int64_t width) {
  const RemoteFacts& facts = client.facts();
  require<ConfigError>(facts.dialect == Dialect::kdlib, "[RemoteTeacher] ", client.name(), " speaks ",
                       setting_text(facts.dialect),
                       ", which tells no tokens that the client chose: use serve "
                       "--teacher");
  const auto rows = static_cast<std::int64_t>(batch.rows().token.size());
  require<ShapeError>(width >= 1 && static_cast<std::int64_t>(ids.size()) == rows * width, "[RemoteTeacher] ",
                      ids.size(), " ids for ", rows, " rows of ", width);
  for (const std::int32_t id : ids)
    require<InputError>(id >= 0 && id < facts.vocabulary, "[RemoteTeacher] id ", id,
                        " is asked for, and the teacher has ", facts.vocabulary);
  if (rows == 0) return {};
  const std::vector<ScoredDocument> documents = scored_documents(batch);
  const std::string where = client.settings().urls[0] + "/v1/teacher/rows";
  const std::string body = client.ask(detail::at_request(documents, ids, static_cast<std::size_t>(width)));
  const SafetensorsHeader file = parse_safetensors(std::as_bytes(std::span(body)), where);
  const RemoteNeeds needs;
  const detail::RowChecker checker(needs, where, 0);
  detail::check_metadata(file, checker, "documents", scored_hash(documents), "the answer is about other tokens");
  detail::check_metadata(file, checker, "model", facts.model_hash, "the server has another teacher than at the start");
  const std::vector<std::uint64_t> extents{static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(width)};
  const auto echoed = read_as<std::int32_t>(detail::answer_tensor(file, checker, "ids", extents));
  if (!std::equal(echoed.begin(), echoed.end(), ids.begin())) checker.refuse("the answer is about other ids");
  std::vector<float> out = read_as<float>(detail::answer_tensor(file, checker, "log_probs", extents));
  for (const float value : out)
    if (!(value <= 1e-3f)) checker.refuse("a log-probability is NaN or above 0");
  return out;
}

KDLIB_NAMESPACE_END

#endif
