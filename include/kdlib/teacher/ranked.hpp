// SPDX-License-Identifier: Apache-2.0
// A teacher that ranks of its own hold: they serve the hidden states of micro-batches to the ranks that train.
#ifndef KDLIB_TEACHER_RANKED_HPP
#define KDLIB_TEACHER_RANKED_HPP

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/communicator.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/loss/targets.hpp"
#include "kdlib/teacher/cache_head.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/live.hpp"

KDLIB_NAMESPACE_BEGIN

/// Who trains and who holds the teacher: of all ranks the last `teachers` hold it, each for the students whose rank is
/// its own place modulo `teachers`.
struct TeacherRanks {
  AnyCommunicator all{};  // with send and receive
  int teachers = 0;       // 0: each student has its teacher beside it

  int students() const { return all.size() - teachers; }
  bool teaches() const { return all.rank() >= students(); }
  /// Of a student.
  int own_teacher() const { return students() + all.rank() % teachers; }
  /// Of a teacher.
  std::vector<int> own_students() const;
  /// ConfigError: no rank is left to train, or there are more teachers than students.
  void check() const;
  /// The ranks of this one's role. Every rank calls it.
  AnyCommunicator role() { return all.split(teaches() ? 1 : 0, all.rank()); }
};

/// A student's side. Requests are answered in the order in which they were sent.
class TeacherLink {
 public:
  TeacherLink(AnyCommunicator all, int teacher) : all_(std::move(all)), teacher_(teacher) {}
  TeacherLink(const TeacherLink&) = delete;
  TeacherLink& operator=(const TeacherLink&) = delete;

  /// What the teacher says of itself, once.
  const Bytes& facts();
  /// Sends a batch and answers its number.
  std::uint64_t ask(const TokenBatch& batch);
  /// The answer to it, waited for. RankError: the teacher is gone, or does not answer within the deadline.
  Bytes wait(std::uint64_t number);
  /// Nobody waits for it any more.
  void forget(std::uint64_t number);
  /// Tells the teacher that this student asks nothing more; takes what is still on its way.
  void end();

  /// Requests so far.
  std::uint64_t asked() const { return next_; }
  /// Seconds that this student has waited, and its teacher for requests, since the last call.
  std::pair<double, double> take_seconds();

 private:
  void receive_next();
  std::vector<std::pair<std::uint64_t, Bytes>>::iterator answer(std::uint64_t number);

  AnyCommunicator all_;
  int teacher_;
  bool ended_ = false;
  Bytes facts_;
  std::uint64_t next_ = 0;
  std::deque<std::uint64_t> open_;                        // sent, not answered
  std::vector<std::pair<std::uint64_t, Bytes>> answers_;  // that nobody has taken yet
  std::vector<std::uint64_t> forgotten_;
  double waited_ = 0, idle_ = 0;
};

/// A TeacherSource with the targets of a LiveTeacher, bit for bit, whose model is on another rank. Copies share the
/// link and the head and start without announced or prepared batches.
template <class D, class T>
class RankTeacher {
 public:
  using targets_type = HiddenTargets<T, D>;

  /// Asks who the teacher is, for its head and its description. FormatError: another program answers.
  explicit RankTeacher(std::shared_ptr<TeacherLink> link);
  RankTeacher(const RankTeacher& other)
      : link_(other.link_), head_(other.head_), description_(other.description_), vocabulary_(other.vocabulary_) {}
  RankTeacher& operator=(const RankTeacher& other) { return *this = RankTeacher(other); }
  RankTeacher(RankTeacher&&) noexcept = default;
  RankTeacher& operator=(RankTeacher&&) noexcept = default;
  ~RankTeacher() {
    for (const Announced& a : announced_) link_->forget(a.number);
  }

  std::int64_t vocab_size() const { return vocabulary_; }
  /// As Decoder::set_real_vocabulary: ids from `ids` on stay outside the softmax.
  void set_real_vocabulary(std::int64_t ids) { head_->real_vocabulary = ids; }

  /// Sends the batch and returns: the teacher works while the student goes on.
  void announce(const TokenBatch& batch);
  /// Waits for the rows of the batch, or sends it now.
  void prepare(const TokenBatch& batch);
  /// Rows [begin, begin + count) of the prepared batch; valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;
  /// "dp/teacher_wait_seconds", of this student, and "dp/teacher_idle_seconds", of its teacher.
  std::vector<std::pair<std::string, double>> step_metrics();
  /// The teacher's own: a run goes on beside it, and the other way round.
  SettingsList describe() const { return description_; }

 private:
  struct Announced {
    std::vector<std::int32_t> ids;
    std::vector<std::int64_t> offsets, token;  // token: the rows that were asked for
    std::uint64_t number = 0;
  };

  std::shared_ptr<TeacherLink> link_;
  std::shared_ptr<CachedHead<T, D>> head_;
  SettingsList description_;
  std::int64_t vocabulary_ = 0;
  std::deque<Announced> announced_;
  Tensor<T, D> hidden_;  // [rows_, H]
  std::int64_t rows_ = 0;
};

/// A teacher's side: answers its students until all have ended. `model` is read alone. RankError as receive().
template <class M>
void serve_students(M& model, const TeacherRanks& ranks);

KDLIB_NAMESPACE_END

#include "kdlib/teacher/ranked_inl.hpp"

#endif
