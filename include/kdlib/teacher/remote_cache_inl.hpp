// SPDX-License-Identifier: Apache-2.0
// Bodies of remote_cache.hpp.
#ifndef KDLIB_TEACHER_REMOTE_CACHE_INL_HPP
#define KDLIB_TEACHER_REMOTE_CACHE_INL_HPP

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <memory>

#include "kdlib/core/stop.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/teacher/remote_cache.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC CacheFacts facts_of(RemoteClient& client) {
  const RemoteFacts& r = client.facts();
  CacheFacts facts;
  facts.teacher = r.model.empty() ? std::string("a server's model") : r.model;
  facts.teacher_hash = r.model_hash.empty() ? concat("server model ", r.model) : r.model_hash;
  facts.vocabulary = r.vocabulary > 0 ? r.vocabulary : client.needs().vocabulary;
  facts.hidden_size = std::max<std::int64_t>(1, r.hidden_size);  // who does not say it gives none
  facts.scalar = "served";
  return facts;
}

KDLIB_FUNC void check_remote_cache(RemoteClient& client, const CacheSettings& settings) {
  const bool top_k = settings.kind == CacheKind::logprobs;
  require<ConfigError>(!top_k || settings.temperatures == std::vector<double>{1}, "[teacher cache] ", client.name(),
                       " gives log-probabilities at temperature 1, not at ",
                       detail::temperatures_text(settings.temperatures),
                       ": the mass of the other tokens is known there alone");
  require<ConfigError>(!top_k || client.facts().dialect != Dialect::llama_cpp, "[teacher cache] ", client.name(),
                       " (llama.cpp) does not tell a token that is not among the ", settings.top_k,
                       " most probable ones: use serve --teacher FILE.gguf");
  const RemoteNeeds& needs = client.needs();
  require<ConfigError>(
      needs.want == (top_k ? RemoteWant::top_k : RemoteWant::hidden) && (!top_k || needs.top_k == settings.top_k),
      "[teacher cache] the client asks for ", setting_text(needs.want), " (", needs.top_k,
      " tokens), and the cache holds ", setting_text(settings.kind), " (", settings.top_k, ")");
}

namespace detail {

/// Rows as they came into the columns of a cache.
KDLIB_FUNC void append_remote_rows(const RemoteRows& rows, const TokenBatch& batch, const CacheMeta& meta,
                                   std::vector<std::vector<std::byte>>& columns) {
  const CacheSettings& s = meta.settings;
  const DType store = store_dtype(s.store);
  if (s.kind == CacheKind::hidden)
    return append_values(columns[0], store, rows.hidden.data(), static_cast<std::int64_t>(rows.hidden.size()));
  const std::vector<std::int64_t> token = batch.rows().token;
  for (std::size_t i = 0; i < rows.ids.size(); ++i)
    require<Error>(rows.ids[i] >= 0, "[teacher cache] among the ", s.top_k, " most probable tokens at ",
                   batch.place_of(token[i / static_cast<std::size_t>(s.top_k)]),
                   " the server lists one without probability or outside the vocabulary: ask for fewer (top_k)");
  for (std::size_t r = 0; r < rows.label.size(); ++r)
    require<Error>(!std::isnan(rows.label[r]), "[teacher cache] the server does not tell the token at ",
                   batch.place_of(token[r]));
  const std::vector<float> norm(rows.label.size(), 0.0f);  // of temperature 1: log-probabilities are normalised
  append_values(columns[0], store, rows.log_probs.data(), static_cast<std::int64_t>(rows.log_probs.size()));
  append_values<std::int32_t>(columns[1], rows.ids.data(), static_cast<std::int64_t>(rows.ids.size()));
  append_values<float>(columns[2], norm.data(), static_cast<std::int64_t>(norm.size()));
  append_values<float>(columns[3], rows.log_tail.data(), static_cast<std::int64_t>(rows.log_tail.size()));
  append_values<float>(columns[4], rows.label.data(), static_cast<std::int64_t>(rows.label.size()));
}

KDLIB_FUNC void append_remote_batch(RemoteClient& client, const TokenBatch& batch, const CacheMeta& meta,
                                    std::vector<std::vector<std::byte>>& columns) {
  RemoteClient::Ticket ticket = client.send(batch);
  client.wait(ticket);
  append_remote_rows(*ticket.rows, batch, meta, columns);
}

/// Batches on their way, in order; those that nobody waited for are forgotten.
class SentBatches {
 public:
  SentBatches(RemoteClient& client, const std::vector<TokenBatch>& batches)
      : client_(client),
        batches_(batches),
        most_(static_cast<std::size_t>(client.settings().in_flight) * client.settings().urls.size()) {}
  SentBatches(const SentBatches&) = delete;
  SentBatches& operator=(const SentBatches&) = delete;
  ~SentBatches() {
    for (RemoteClient::Ticket& ticket : sent_) client_.forget(ticket);
  }
  /// The rows of the next batch.
  std::shared_ptr<RemoteRows> next() {
    for (; sent_.size() < most_ && next_ < batches_.size(); ++next_) sent_.push_back(client_.send(batches_[next_]));
    RemoteClient::Ticket ticket = std::move(sent_.front());
    sent_.pop_front();
    client_.wait(ticket);
    return ticket.rows;
  }

 private:
  RemoteClient& client_;
  const std::vector<TokenBatch>& batches_;
  std::deque<RemoteClient::Ticket> sent_;
  std::size_t most_, next_ = 0;
};

}  // namespace detail

KDLIB_FUNC CacheProgress write_remote_cache(RemoteClient& client, CacheWriter& writer, std::int64_t worker,
                                            const WriteCacheSettings& settings) {
  const CacheMeta& meta = writer.meta();
  check_remote_cache(client, meta.settings);
  const auto start = std::chrono::steady_clock::now();
  const std::string head = join_path(writer.folder(), "head.safetensors");
  if (meta.settings.kind == CacheKind::hidden && !path_exists(head))
    write_file_atomically(head, client.ask({"GET", "/v1/teacher/head", {}}));
  return detail::write_open_segments(
      writer, worker, settings.progress, start, [&](const std::vector<TokenBatch>& batches) {
        return [&meta, sent = std::make_unique<detail::SentBatches>(client, batches)](
                   const TokenBatch& batch, std::vector<std::vector<std::byte>>& columns) {
          const std::shared_ptr<RemoteRows> rows = sent->next();
          detail::append_remote_rows(*rows, batch, meta, columns);
          return rows->rows;
        };
      });
}

KDLIB_NAMESPACE_END

#endif
