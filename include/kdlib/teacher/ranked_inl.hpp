// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher/ranked.hpp.
#ifndef KDLIB_TEACHER_RANKED_INL_HPP
#define KDLIB_TEACHER_RANKED_INL_HPP

#include <algorithm>
#include <cstring>
#include <set>

#include "kdlib/core/clock.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/temporary_folder.hpp"
#include "kdlib/teacher/ranked.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

enum class TeacherRequest : std::uint8_t { facts, rows, end };

TokenBatch unpacked_batch(ByteUnpacker& in);

/// Vocabulary, width, description and head.
template <class M>
Bytes packed_facts(M& model, const SettingsList& description) {
  BytePacker out;
  out.add(static_cast<std::int64_t>(model.vocab_size())).add(static_cast<std::int64_t>(model.head().weight[1]));
  out.add(description.size());
  for (const auto& [key, value] : description) out.add(std::string_view(key)).add(std::string_view(value));
  const TemporaryFolder folder("[ranks] no folder can be made for the teacher's head", "kdlib_head");
  const std::string file = join_path(folder.path(), "head.safetensors");
  write_cache_head(file, model.head());
  return out.add(std::string_view(read_file(file))).take();
}

}  // namespace detail

template <class D, class T>
RankTeacher<D, T>::RankTeacher(std::shared_ptr<TeacherLink> link) : link_(std::move(link)) {
  ByteUnpacker in(link_->facts());
  vocabulary_ = in.get<std::int64_t>();
  const auto width = in.get<std::int64_t>();
  description_.resize(in.get<std::size_t>());
  for (auto& [key, value] : description_) key = in.text(), value = in.text();
  const detail::TemporaryFolder folder("[ranks] no folder can be made for the teacher's head", "kdlib_head");
  const std::string file = join_path(folder.path(), "head.safetensors");
  write_file_atomically(file, in.text());
  head_ = std::make_shared<CachedHead<T, D>>(read_cache_head<T, D>(file, vocabulary_, width));
}

template <class D, class T>
void RankTeacher<D, T>::announce(const TokenBatch& batch) {
  std::vector<std::int64_t> token = batch.rows().token;
  if (token.empty()) return;
  constexpr std::size_t most = 1024;  // of steps that were given back
  if (announced_.size() >= most) {
    link_->forget(announced_.front().number);
    announced_.pop_front();
  }
  announced_.push_back({batch.ids, batch.offsets, std::move(token), link_->ask(batch)});
}

template <class D, class T>
void RankTeacher<D, T>::prepare(const TokenBatch& batch) {
  rows_ = 0;
  const std::vector<std::int64_t> token = batch.rows().token;
  if (token.empty()) return;
  const auto at = std::find_if(announced_.begin(), announced_.end(), [&](const Announced& a) {
    return a.ids == batch.ids && a.offsets == batch.offsets &&
           std::includes(a.token.begin(), a.token.end(), token.begin(),
                         token.end());  // weights may have become 0 since
  });
  std::vector<std::int64_t> asked = token;
  std::uint64_t number = 0;
  if (at != announced_.end()) {
    number = at->number;
    asked = std::move(at->token);
    announced_.erase(at);
  } else {
    number = link_->ask(batch);
  }
  Bytes bytes = link_->wait(number);
  const auto rows = static_cast<std::int64_t>(token.size()), width = head_->shape[1];
  const std::size_t row = static_cast<std::size_t>(width) * sizeof(T);
  require<FormatError>(bytes.size() == asked.size() * row, "[RankTeacher] ", bytes.size(), " bytes came for ",
                       asked.size(), " rows of ", width, " numbers: the ranks run different programs");
  for (std::size_t i = 0, from = 0; i < token.size() && asked.size() != token.size(); ++i, ++from) {
    while (asked[from] != token[i]) ++from;
    std::memmove(bytes.data() + i * row, bytes.data() + from * row, row);
  }
  hidden_ = Tensor<T, D>(Shape{rows, width});
  Memory<D>::from_host(hidden_.data(), bytes.data(), token.size() * row);
  rows_ = rows;
}

template <class D, class T>
typename RankTeacher<D, T>::targets_type RankTeacher<D, T>::targets(std::int64_t begin, std::int64_t count) const {
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= rows_, "[RankTeacher] rows ", begin, " to ",
                      begin + count, " of ", rows_, ": prepare(batch) comes first, targets stay within its rows");
  return {View<const T, D>(hidden_.data(), Shape{rows_, head_->shape[1]}).rows(begin, count), head_->view()};
}

template <class D, class T>
std::vector<std::pair<std::string, double>> RankTeacher<D, T>::step_metrics() {
  const auto [waited, idle] = link_->take_seconds();
  return {{"dp/teacher_wait_seconds", waited}, {"dp/teacher_idle_seconds", idle}};
}

template <class M>
void serve_students(M& model, const TeacherRanks& ranks) {
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  AnyCommunicator all = ranks.all;
  LiveTeacher<M> teacher{model};
  const SettingsList description = teacher.describe();
  const std::vector<int> own = ranks.own_students();
  for (std::set<int> open(own.begin(), own.end()); !open.empty();) {
    const double begin = steady_seconds();
    auto [student, bytes] = all.receive(-1);
    BytePacker answer;
    answer.add(steady_seconds() - begin);
    ByteUnpacker in(bytes);
    const auto request = in.get<detail::TeacherRequest>();
    if (request == detail::TeacherRequest::end) {
      open.erase(student);
      continue;
    }
    if (request == detail::TeacherRequest::facts) {
      const Bytes facts = detail::packed_facts(model, description);
      answer.append(facts.data(), facts.size());
    } else {
      teacher.prepare(detail::unpacked_batch(in));
      const std::vector<T> rows = host_copy<T, D>(teacher.targets(0, teacher.rows()).hidden);
      answer.append(rows.data(), rows.size() * sizeof(T));
    }
    all.send(answer.take(), student);
  }
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/teacher_link_inl.hpp"
#endif

#endif
