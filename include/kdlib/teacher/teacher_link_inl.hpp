// SPDX-License-Identifier: Apache-2.0
// How ranks that train ask ranks that hold the teacher (ranked.hpp).
#ifndef KDLIB_TEACHER_TEACHER_LINK_INL_HPP
#define KDLIB_TEACHER_TEACHER_LINK_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/core/clock.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/teacher/ranked.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// What the teacher's forward pass and its choice of rows depend on.
KDLIB_FUNC Bytes packed_batch(const TokenBatch& batch) {
  BytePacker out;
  out.add(TeacherRequest::rows).add_list(batch.ids).add_list(batch.offsets).add_list(batch.weights);
  return out.add_list(batch.positions).take();
}

KDLIB_FUNC TokenBatch unpacked_batch(ByteUnpacker& in) {
  TokenBatch batch;
  batch.ids = in.list<std::int32_t>();
  batch.offsets = in.list<std::int64_t>();
  batch.weights = in.list<float>();
  batch.positions = in.list<std::int32_t>();
  return batch;
}

}  // namespace detail

KDLIB_FUNC std::vector<int> TeacherRanks::own_students() const {
  std::vector<int> out;
  for (int r = all.rank() - students(); r < students(); r += teachers) out.push_back(r);
  return out;
}

KDLIB_FUNC void TeacherRanks::check() const {
  require<ConfigError>(teachers >= 1 && students() >= teachers, "[ranks] of ", all.size(), " ranks ", teachers,
                       " are to hold the teacher: as many or more must be left to train");
}

KDLIB_FUNC const Bytes& TeacherLink::facts() {
  if (!facts_.empty()) return facts_;
  all_.send(BytePacker().add(detail::TeacherRequest::facts).take(), teacher_);
  const std::uint64_t number = next_++;
  open_.push_back(number);
  return facts_ = wait(number);
}

KDLIB_FUNC std::uint64_t TeacherLink::ask(const TokenBatch& batch) {
  all_.send(detail::packed_batch(batch), teacher_);
  open_.push_back(next_);
  return next_++;
}

KDLIB_FUNC void TeacherLink::receive_next() {
  const double begin = steady_seconds();
  Bytes bytes = all_.receive(teacher_).second;
  waited_ += steady_seconds() - begin;
  const std::uint64_t number = open_.front();
  open_.pop_front();
  if (std::erase(forgotten_, number) == 0) answers_.emplace_back(number, std::move(bytes));
}

KDLIB_FUNC std::vector<std::pair<std::uint64_t, Bytes>>::iterator TeacherLink::answer(std::uint64_t number) {
  return std::find_if(answers_.begin(), answers_.end(), [number](const auto& a) { return a.first == number; });
}

KDLIB_FUNC Bytes TeacherLink::wait(std::uint64_t number) {
  while (answer(number) == answers_.end()) {
    require<Error>(!open_.empty(), "[RankTeacher] nobody asked for answer ", number);
    receive_next();
  }
  const auto at = answer(number);
  Bytes bytes = std::move(at->second);
  answers_.erase(at);
  ByteUnpacker in(bytes);
  idle_ += in.get<double>();
  bytes.erase(bytes.begin(), bytes.begin() + sizeof(double));
  return bytes;
}

KDLIB_FUNC void TeacherLink::forget(std::uint64_t number) {
  const auto at = answer(number);
  if (at == answers_.end()) forgotten_.push_back(number);
  else answers_.erase(at);
}

KDLIB_FUNC void TeacherLink::end() {
  if (std::exchange(ended_, true)) return;
  while (!open_.empty()) receive_next();
  all_.send(BytePacker().add(detail::TeacherRequest::end).take(), teacher_);
}

KDLIB_FUNC std::pair<double, double> TeacherLink::take_seconds() {
  return {std::exchange(waited_, 0.0), std::exchange(idle_, 0.0)};
}

KDLIB_NAMESPACE_END

#endif
