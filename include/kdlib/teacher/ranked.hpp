// SPDX-License-Identifier: Apache-2.0
// A teacher that separate ranks hold. These ranks send the hidden states of micro-batches to the ranks that train. A
// rank is one process of a job of several processes.
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

/// Which ranks train (students) and which hold the teacher. The last `teachers` of all ranks hold the teacher: teacher
/// number t serves the students whose rank modulo `teachers` is t.
struct TeacherRanks {
  AnyCommunicator all{};  // all ranks; it must offer send and receive
  int teachers = 0;       // number of ranks that hold the teacher; 0: each student has its own teacher

  int students() const { return all.size() - teachers; }
  bool teaches() const { return all.rank() >= students(); }
  /// For a student: the rank of the teacher that serves this student.
  int own_teacher() const { return students() + all.rank() % teachers; }
  /// For a teacher: the ranks of the students that this teacher serves.
  std::vector<int> own_students() const;
  /// Throws ConfigError if no rank is left to train, or if there are more teachers than students.
  void check() const;
  /// Returns a communicator of the ranks that have the same role as this rank. Every rank must call the function.
  AnyCommunicator role() { return all.split(teaches() ? 1 : 0, all.rank()); }
};

/// The student's end of the connection to its teacher. Requests are answered in the order in which they were sent.
class TeacherLink {
 public:
  TeacherLink(AnyCommunicator all, int teacher) : all_(std::move(all)), teacher_(teacher) {}
  TeacherLink(const TeacherLink&) = delete;
  TeacherLink& operator=(const TeacherLink&) = delete;

  /// Returns what the teacher says of itself. The first call asks the teacher; later calls return the same bytes.
  const Bytes& facts();
  /// Sends a batch and returns the number of the request.
  std::uint64_t ask(const TokenBatch& batch);
  /// Waits for the answer to request `number` and returns this answer. RankError: the teacher is gone, or does not
  /// answer within the deadline.
  Bytes wait(std::uint64_t number);
  /// Says that nobody will wait for request `number`; its answer is dropped.
  void forget(std::uint64_t number);
  /// Receives all answers that are still on their way and tells the teacher that this student asks nothing more.
  void end();

  /// Number of requests so far.
  std::uint64_t asked() const { return next_; }
  /// Returns, since the last call, the seconds that this student has waited for answers and the seconds that its
  /// teacher has waited for requests.
  std::pair<double, double> take_seconds();

 private:
  void receive_next();
  std::vector<std::pair<std::uint64_t, Bytes>>::iterator answer(std::uint64_t number);

  AnyCommunicator all_;
  int teacher_;
  bool ended_ = false;
  Bytes facts_;
  std::uint64_t next_ = 0;
  std::deque<std::uint64_t> open_;                        // requests without an answer so far
  std::vector<std::pair<std::uint64_t, Bytes>> answers_;  // answers that nobody has taken yet
  std::vector<std::uint64_t> forgotten_;
  double waited_ = 0, idle_ = 0;
};

/// A TeacherSource whose model is on another rank. Its targets are equal to those of a LiveTeacher, bit for bit. Copies
/// share the link and the head and start without announced or prepared batches.
template <class D, class T>
class RankTeacher {
 public:
  using targets_type = HiddenTargets<T, D>;

  /// Asks the teacher for its vocabulary, head and description. FormatError: another program answers.
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
  /// Keeps ids at or above `ids` outside the softmax, as Decoder::set_real_vocabulary does.
  void set_real_vocabulary(std::int64_t ids) { head_->real_vocabulary = ids; }

  /// Sends the batch and returns at once, so that the teacher works while the student goes on.
  void announce(const TokenBatch& batch);
  /// Waits for the rows of the batch. A batch that was not announced is sent now.
  void prepare(const TokenBatch& batch);
  /// Returns rows [begin, begin + count) of the prepared batch, valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;
  /// Returns "dp/teacher_wait_seconds", the time that this student waited for its teacher, and
  /// "dp/teacher_idle_seconds", the time that the teacher waited for requests.
  std::vector<std::pair<std::string, double>> step_metrics();
  /// Returns the description of the LiveTeacher on the other rank, so that a run can be continued with the teacher
  /// beside the student, and the other way round.
  SettingsList describe() const { return description_; }

 private:
  struct Announced {
    std::vector<std::int32_t> ids;
    std::vector<std::int64_t> offsets, token;  // token: indices of the tokens whose rows were asked for
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

/// The teacher's end of the connections: answers the requests of its students until all students have ended. The
/// weights of `model` are only read. RankError: receive() failed.
template <class M>
void serve_students(M& model, const TeacherRanks& ranks);

KDLIB_NAMESPACE_END

#include "kdlib/teacher/ranked_inl.hpp"

#endif
