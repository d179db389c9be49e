// SPDX-License-Identifier: Apache-2.0
// Bodies of write_cache.hpp.
#ifndef KDLIB_TEACHER_WRITE_CACHE_INL_HPP
#define KDLIB_TEACHER_WRITE_CACHE_INL_HPP

#include <chrono>
#include <cmath>
#include <cstdint>

#include "kdlib/core/parallel.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/teacher/cache_head.hpp"
#include "kdlib/teacher/top_k_row.hpp"
#include "kdlib/teacher/write_cache.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// "document 3 of the text (d.jsonl:4)": where row `row` of a batch stands.
std::string row_place(const TokenBatch& batch, std::int64_t row);

template <class T>
void check_finite_rows(const std::vector<T>& values, std::int64_t width, const TokenBatch& batch, const char* what) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(static_cast<double>(values[i])))
      fail<Error>("[teacher cache] the teacher's ", what, " at ",
                  row_place(batch, static_cast<std::int64_t>(i) / width),
                  " is not a finite number: nothing that holds it is written");
}

/// Asks for pages of 2 MiB where the system gives them on demand: a row of logits is longer than a page of 4 KiB, so
/// that a product that writes some columns of many rows meets a new page at each row (with a head in its file's format
/// a seventh of the product's time).
void ask_for_large_pages(void* at, std::size_t bytes);

/// Logits of many rows, chunk by chunk, in memory that is kept for the next call: to take it from the system for each
/// batch costs as much as a pass over it.
template <class T, class D>
class LogitChunks {
  using L = logit_t<D, T>;
  static constexpr bool in_place = std::is_same_v<D, Cpu>;  // the host reads the product where it lies

 public:
  /// visit(row, its `columns` logits on the host, which it may overwrite) for each row of hidden states, by several
  /// threads at once. Logits are computed in chunks within the workspace.
  template <class F>
  void visit(const HeadView<T, D>& head, View<const T, D> hidden, std::int64_t columns, std::int64_t workspace_bytes,
             F&& visit) {
    const std::int64_t R = hidden[0],
                       chunk = std::min(R, head_loss_chunk(R, columns, in_place ? 1 : 2, sizeof(L), workspace_bytes));
    if (logits_.count() < chunk * columns) {
      logits_ = {};  // before the larger one is taken
      logits_ = Buffer<L, D>(chunk * columns);
      if constexpr (in_place)
        ask_for_large_pages(logits_.data(), static_cast<std::size_t>(chunk * columns) * sizeof(L));
    }
    const auto width = static_cast<std::size_t>(columns);
    if constexpr (!in_place) host_.resize(static_cast<std::size_t>(chunk) * width);
    for (std::int64_t begin = 0; begin < R; begin += chunk) {
      const std::int64_t count = std::min(chunk, R - begin);
      write_head_logits<T, D>(head, hidden.rows(begin, count), View<L, D>(logits_.data(), Shape{count, columns}));
      L* values = logits_.data();
      if constexpr (!in_place) {
        values = host_.data();
        Memory<D>::to_host(values, logits_.data(), static_cast<std::size_t>(count) * width * sizeof(L));
      }
      parallel_for(count, 1, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t r = first; r < last; ++r) visit(begin + r, std::span<L>(values + r * columns, width));
      });
    }
  }

 private:
  Buffer<L, D> logits_;
  std::vector<L> host_;  // of devices alone
};

/// The same for one call.
template <class T, class D, class F>
void visit_logits(const HeadView<T, D>& head, View<const T, D> hidden, std::int64_t columns,
                  std::int64_t workspace_bytes, F&& visit) {
  LogitChunks<T, D>().visit(head, hidden, columns, workspace_bytes, visit);
}

/// The columns of kind logprobs for the rows of one batch.
template <class T, class D>
void append_top_k(const HeadView<T, D>& head, View<const T, D> hidden, const TokenBatch& batch, const CacheMeta& meta,
                  std::int64_t workspace_bytes, LogitChunks<T, D>& logits,
                  std::vector<std::vector<std::byte>>& columns) {
  const TokenBatch::Rows rows = batch.rows();
  const CacheSettings& s = meta.settings;
  std::vector<TopKRow> found(static_cast<std::size_t>(hidden[0]));
  logits.visit(head, hidden, meta.facts.columns(), workspace_bytes, [&](std::int64_t r, auto row) {
    const auto at = static_cast<std::size_t>(r);
    found[at] = top_k_row(row, s.top_k, s.temperatures, rows.label[at]);
  });
  const DType store = store_dtype(s.store);
  const auto temperatures = static_cast<std::int64_t>(s.temperatures.size());
  for (std::size_t r = 0; r < found.size(); ++r) {
    const TopKRow& row = found[r];
    if (!row.finite)
      fail<Error>("[teacher cache] a logit of the teacher at ", row_place(batch, static_cast<std::int64_t>(r)),
                  " is not a finite number: nothing that holds it is written");
    append_values(columns[0], store, row.log_probs.data(), s.top_k);
    append_values<std::int32_t>(columns[1], row.ids.data(), s.top_k);
    append_values<float>(columns[2], row.log_norm.data(), temperatures);
    append_values<float>(columns[3], row.log_tail.data(), temperatures);
    append_values<float>(columns[4], &row.label_log_prob, 1);
  }
}

/// The columns of one batch.
template <class M, class T = typename M::scalar_type, class D = typename M::device_type>
void append_batch(LiveTeacher<M>& teacher, const TokenBatch& batch, const CacheMeta& meta, std::int64_t workspace_bytes,
                  LogitChunks<T, D>& logits, std::vector<std::vector<std::byte>>& columns) {
  teacher.prepare(batch);
  if (teacher.rows() == 0) return;
  const HiddenTargets<T, D> targets = teacher.targets(0, teacher.rows());
  if (meta.settings.kind == CacheKind::logprobs)
    return append_top_k<T, D>(targets.head, targets.hidden, batch, meta, workspace_bytes, logits, columns);
  const std::vector<T> host = host_copy<T, D>(targets.hidden);
  check_finite_rows(host, targets.hidden[1], batch, "hidden state");
  append_values(columns[0], store_dtype(meta.settings.store), host.data(), static_cast<std::int64_t>(host.size()));
}

}  // namespace detail

template <class M>
CacheFacts facts_of(const M& model) {
  CacheFacts facts;
  const auto head = model.head();
  facts.vocabulary = model.vocab_size();
  facts.real_vocabulary = head.real_vocabulary == head.weight[0] ? 0 : head.real_vocabulary;
  facts.hidden_size = head.weight[1];
  facts.scalar = dtype_name(dtype_of<typename M::scalar_type>());
  return facts;
}

namespace detail {

/// The open segments of one worker: `reader(batches)` gives what appends a batch of them after another to the columns
/// and answers its rows. Seconds count from `start`.
template <class Reader>
CacheProgress write_open_segments(CacheWriter& writer, std::int64_t worker, const CacheObserver& observer,
                                  std::chrono::steady_clock::time_point start, Reader&& reader) {
  const auto seconds = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const std::vector<std::int64_t> open = writer.open_segments(worker);
  CacheProgress progress;
  for (const std::int64_t s : open)
    progress.documents += static_cast<std::int64_t>(writer.documents_of(worker, s).size());
  for (const std::int64_t s : open) {
    std::vector<std::vector<std::byte>> columns(cache_columns(writer.meta()).size());
    const std::vector<TokenBatch> batches = writer.batches_of(worker, s);
    auto take = reader(batches);
    for (const TokenBatch& batch : batches) {
      check_stop();
      progress.rows += take(batch, columns);
      progress.done += batch.documents();
      progress.tokens += batch.tokens();
      progress.seconds = seconds();
      if (observer) observer(progress);
    }
    for (const std::vector<std::byte>& column : columns) progress.bytes += static_cast<std::int64_t>(column.size());
    writer.write_segment(worker, s, columns);
  }
  writer.finish();
  progress.seconds = seconds();
  return progress;
}

}  // namespace detail

template <class M>
CacheProgress write_teacher_cache(M& model, CacheWriter& writer, std::int64_t worker,
                                  const WriteCacheSettings& settings) {
  const CacheMeta& meta = writer.meta();
  const CacheFacts facts = facts_of(model);
  require<ConfigError>(facts.vocabulary == meta.facts.vocabulary && facts.hidden_size == meta.facts.hidden_size,
                       "[teacher cache] ", writer.folder(), " is for a teacher of ", meta.facts.vocabulary,
                       " tokens and hidden size ", meta.facts.hidden_size, ", this one has ", facts.vocabulary, " and ",
                       facts.hidden_size);
  const auto start = std::chrono::steady_clock::now();
  const std::string head = join_path(writer.folder(), "head.safetensors");
  if (meta.settings.kind == CacheKind::hidden && !path_exists(head)) write_cache_head(head, model.head());
  LiveTeacher<M> teacher{model};
  detail::LogitChunks<typename M::scalar_type, typename M::device_type> logits;
  const auto take = [&](const TokenBatch& batch, std::vector<std::vector<std::byte>>& columns) {
    detail::append_batch(teacher, batch, meta, settings.workspace_bytes, logits, columns);
    return teacher.rows();
  };
  return detail::write_open_segments(writer, worker, settings.progress, start,
                                     [&](const std::vector<TokenBatch>&) { return take; });
}

KDLIB_NAMESPACE_END

#endif
