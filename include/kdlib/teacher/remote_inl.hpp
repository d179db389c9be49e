// SPDX-License-Identifier: Apache-2.0
// Bodies of remote.hpp: the teacher itself.
#ifndef KDLIB_TEACHER_REMOTE_INL_HPP
#define KDLIB_TEACHER_REMOTE_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/temporary_folder.hpp"
#include "kdlib/teacher/remote.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Values on the device, converted from float.
template <class T, class D>
Tensor<T, D> tensor_of(std::span<const float> values, Shape shape) {
  Tensor<T, D> out(shape);
  if constexpr (std::is_same_v<T, float>) {
    Memory<D>::from_host(out.data(), values.data(), values.size() * sizeof(float));
  } else {
    std::vector<T> host(values.size());
    std::transform(values.begin(), values.end(), host.begin(), [](float x) { return static_cast<T>(x); });
    Memory<D>::from_host(out.data(), host.data(), host.size() * sizeof(T));
  }
  return out;
}

/// The chosen rows of [R, width] values.
template <class V>
std::vector<V> chosen_rows(const std::vector<V>& values, std::int64_t width, std::span<const std::int64_t> chosen) {
  std::vector<V> out;
  out.reserve(chosen.size() * static_cast<std::size_t>(width));
  for (const std::int64_t r : chosen)
    out.insert(out.end(), values.begin() + r * width, values.begin() + (r + 1) * width);
  return out;
}

/// Where `wanted` stand in `have`, both rising; nothing where one is missing.
std::vector<std::int64_t> places_of(std::span<const std::int64_t> wanted, std::span<const std::int64_t> have);

}  // namespace detail

template <class Targets>
RemoteTeacher<Targets>::RemoteTeacher(const RemoteTeacherSettings& settings, std::unique_ptr<HttpTransport> transport,
                                      RemoteClock clock)
    : client_(std::make_shared<RemoteClient>(settings, want, std::move(transport), std::move(clock))) {
  if constexpr (hidden) fetch_head();
}

template <class Targets>
RemoteTeacher<Targets>& RemoteTeacher<Targets>::operator=(const RemoteTeacher& other) {
  forget_announced();
  client_ = other.client_;
  head_ = other.head_;
  rows_ = 0;
  return *this;
}

/// The head travels as a cache has it, so that a head in the blocks of its model's file stays in them.
template <class Targets>
void RemoteTeacher<Targets>::fetch_head() {
  const RemoteFacts& facts = client_->facts();
  const detail::TemporaryFolder folder("[RemoteTeacher] no folder can be made for the head", "kdlib_head");
  const std::string file = join_path(folder.path(), "head.safetensors");
  write_file_atomically(file, client_->ask({"GET", "/v1/teacher/head", {}}));
  head_ = std::make_shared<CachedHead<T, D>>(read_cache_head<T, D>(file, facts.vocabulary, facts.hidden_size));
}

template <class Targets>
void RemoteTeacher<Targets>::forget_announced() {
  for (RemoteClient::Ticket& ticket : announced_) client_->forget(ticket);
  announced_.clear();
}

template <class Targets>
void RemoteTeacher<Targets>::announce(const TokenBatch& batch) {
  // Batches that were announced and never asked for: a step that was given back. They are few, and not kept for ever.
  constexpr std::size_t most = 1024;
  if (announced_.size() >= most) {
    client_->forget(announced_.front());
    announced_.pop_front();
  }
  announced_.push_back(client_->send(batch));
}

template <class Targets>
void RemoteTeacher<Targets>::prepare(const TokenBatch& batch) {
  rows_ = 0;
  const std::vector<std::int64_t> token = batch.rows().token;
  if (token.empty()) return;
  std::vector<std::int64_t> chosen;
  auto at = announced_.begin();
  for (; at != announced_.end(); ++at) {
    if (at->batch.ids != batch.ids || at->batch.offsets != batch.offsets) continue;
    chosen = detail::places_of(token, at->token);  // weights may have become 0 since
    if (!chosen.empty()) break;
  }
  RemoteClient::Ticket ticket;
  if (at != announced_.end()) {
    ticket = std::move(*at);
    announced_.erase(at);
  } else {
    ticket = client_->send(batch);
    chosen = detail::places_of(token, ticket.token);
  }
  client_->wait(ticket);
  keep(*ticket.rows, chosen);
}

template <class Targets>
void RemoteTeacher<Targets>::keep(const RemoteRows& rows, std::span<const std::int64_t> chosen) {
  const auto count = static_cast<std::int64_t>(chosen.size());
  const RemoteNeeds& needs = client_->needs();
  if constexpr (samples) {
    label_ = detail::chosen_rows(rows.label, 1, chosen);
  } else if constexpr (top_k) {
    const std::vector<std::int32_t> ids = detail::chosen_rows(rows.ids, needs.top_k, chosen);
    ids_ = Tensor<std::int32_t, D>(Shape{count, needs.top_k});
    Memory<D>::from_host(ids_.data(), ids.data(), ids.size() * sizeof(std::int32_t));
    log_probs_ = detail::tensor_of<T, D>(detail::chosen_rows(rows.log_probs, needs.top_k, chosen), ids_.shape());
    log_tail_ = detail::tensor_of<T, D>(detail::chosen_rows(rows.log_tail, 1, chosen), Shape{count});
  } else if (count == rows.rows) {  // all, in order: the usual case
    hidden_ = detail::tensor_of<T, D>(rows.hidden, Shape{count, needs.hidden_size});
  } else {
    hidden_ = detail::tensor_of<T, D>(detail::chosen_rows(rows.hidden, needs.hidden_size, chosen),
                                      Shape{count, needs.hidden_size});
  }
  rows_ = count;
}

template <class Targets>
Targets RemoteTeacher<Targets>::targets(std::int64_t begin, std::int64_t count) const {
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= rows_, "[RemoteTeacher] rows ", begin, " to ",
                      begin + count, " of ", rows_, ": prepare(batch) comes first, targets stay within its rows");
  const RemoteNeeds& needs = client_->needs();
  if constexpr (samples) {
    return SampledTargets{std::span<const float>(label_.data(), static_cast<std::size_t>(rows_))}.rows(begin, count);
  } else if constexpr (top_k) {
    if (rows_ == 0)
      return {View<const std::int32_t, D>(nullptr, Shape{0, needs.top_k}),
              View<const T, D>(nullptr, Shape{0, needs.top_k}), View<const T, D>(nullptr, Shape{0})};
    return {ids_.rows(begin, count), log_probs_.rows(begin, count), log_tail_.rows(begin, count)};
  } else {
    if (rows_ == 0) return {View<const T, D>(nullptr, Shape{0, needs.hidden_size}), head_->view()};
    return {hidden_.rows(begin, count), head_->view()};
  }
}

template <class Targets>
SettingsList RemoteTeacher<Targets>::describe() const {
  const RemoteFacts& facts = client_->facts();
  SettingsList list{{"teacher", concat("remote ", setting_text(want))},
                    {"teacher.vocabulary", setting_text(vocab_size())},
                    {"teacher.model", facts.model_hash.empty() ? facts.model : facts.model_hash}};
  if constexpr (top_k) list.emplace_back("teacher.top_k", setting_text(client_->needs().top_k));
  if constexpr (hidden) list.emplace_back("teacher.precision", setting_text(client_->needs().precision));
  return list;
}

KDLIB_NAMESPACE_END

#endif
