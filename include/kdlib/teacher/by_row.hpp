// SPDX-License-Identifier: Apache-2.0
// Several teachers, each for documents of its own: one for mathematics, one for code. Multi-teacher on-policy
// distillation.
#ifndef KDLIB_TEACHER_BY_ROW_HPP
#define KDLIB_TEACHER_BY_ROW_HPP

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/loss/top_k.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Which teacher marks a document, by the name that the document has in TokenBatch::sources ("prompts.jsonl:12").
/// Text that a student wrote has the name of its prompt's line.
class TeacherNames {
 public:
  /// `otherwise`: the teacher of documents that are not listed; empty: there is none, and they are refused.
  explicit TeacherNames(std::string otherwise = {}) : otherwise_(std::move(otherwise)) {}

  void set(std::string source, std::string teacher);
  /// Lines of a JSON Lines file that say {"teacher": "math", ...}. IoError: no such file. FormatError: a broken line, a
  /// "teacher" that is no text. InputError: a line without one where no other teacher is named.
  void read(const std::string& path);
  /// How many lines ask for this teacher.
  std::int64_t count(const std::string& teacher) const;
  /// InputError naming the line: it asks for a teacher that is not among these.
  void require_among(const std::vector<std::string>& teachers) const;
  /// InputError: the document has no name, or none that is listed.
  const std::string& of(const TokenBatch& batch, std::int64_t document) const;
  /// All that decides, so that a run does not go on with another choice.
  std::string digest() const;

 private:
  using Entry = std::pair<std::string, std::string>;
  std::vector<Entry>::const_iterator find(const std::string& source) const;

  std::vector<Entry> of_;  // sorted by source
  std::string otherwise_;
};

namespace detail {

/// Rows of several teachers side by side, of kinds of targets that can be copied row by row.
template <class Targets>
struct MixedRows {
  static constexpr bool mixes = false;
};

template <>
struct MixedRows<SampledTargets> {
  static constexpr bool mixes = true;

  void begin(std::int64_t rows, const SampledTargets&) { log_probs.assign(static_cast<std::size_t>(rows), 0.0f); }
  void take(const SampledTargets& from, std::int64_t to) {
    std::copy(from.log_probs.begin(), from.log_probs.end(), log_probs.begin() + to);
  }
  SampledTargets targets() const { return {log_probs}; }

  std::vector<float> log_probs{};  // [rows]
};

template <class T, class D>
struct MixedRows<TopKTargets<T, D>> {
  static constexpr bool mixes = true;

  /// `like`: rows of one of the teachers, whose K and temperature all must have.
  void begin(std::int64_t rows, const TopKTargets<T, D>& like) {
    k = like.ids[1], temperature = like.temperature;
    ids = Tensor<std::int32_t, D>(Shape{rows, k});
    log_probs = Tensor<T, D>(Shape{rows, k});
    log_tail = Tensor<T, D>(Shape{rows});
  }
  void take(const TopKTargets<T, D>& from, std::int64_t to) {
    require<ConfigError>(from.ids[1] == k && from.temperature == temperature, "[TeacherByRow] one teacher gives ", k,
                         " tokens a row at temperature ", temperature, ", another ", from.ids[1], " at ",
                         from.temperature, ": give all the same");
    const std::int64_t count = from.ids[0];
    if (count == 0) return;
    const auto bytes = [](std::int64_t n, std::size_t each) { return static_cast<std::size_t>(n) * each; };
    Memory<D>::copy(ids.data() + to * k, from.ids.data(), bytes(count * k, sizeof(std::int32_t)));
    Memory<D>::copy(log_probs.data() + to * k, from.log_probs.data(), bytes(count * k, sizeof(T)));
    Memory<D>::copy(log_tail.data() + to, from.log_tail.data(), bytes(count, sizeof(T)));
  }
  TopKTargets<T, D> targets() const { return {ids.view(), log_probs.view(), log_tail.view(), temperature}; }

  std::int64_t k = 0;
  float temperature = 1;
  Tensor<std::int32_t, D> ids{};         // [rows, k]
  Tensor<T, D> log_probs{}, log_tail{};  // [rows, k] and [rows]
};

}  // namespace detail

/// A TeacherSource made of others with the same targets. Each document's rows come from the teacher that `names` gives
/// it. Documents mix freely in a micro-batch. SampledTargets and TopKTargets (with one K and one temperature) lie side
/// by side in one answer; other targets have a head each, so that one answer covers rows of one teacher alone
/// (row_runs()).
template <class Teacher>
class TeacherByRow {
 public:
  using targets_type = typename Teacher::targets_type;
  static constexpr bool mixes = detail::MixedRows<targets_type>::mixes;

  /// ConfigError: no teacher, a name that is empty or given twice, vocabularies that differ.
  TeacherByRow(std::vector<std::pair<std::string, Teacher>> teachers, TeacherNames names);
  /// A copy has copies of the teachers and starts without a prepared batch.
  TeacherByRow(const TeacherByRow& other)
      : teachers_(other.teachers_), names_(other.names_), marked_(other.teachers_.size(), 0) {}
  TeacherByRow& operator=(const TeacherByRow& other) { return *this = TeacherByRow(other); }
  TeacherByRow(TeacherByRow&&) noexcept = default;
  TeacherByRow& operator=(TeacherByRow&&) noexcept = default;

  std::int64_t vocab_size() const { return teachers_.front().second.vocab_size(); }
  /// Passed on, each teacher's part of the batch, to teachers that work ahead (RemoteTeacher).
  void announce(const TokenBatch& batch);
  void prepare(const TokenBatch& batch);
  /// Rows [begin, begin + count) of the prepared batch; valid until the next prepare(). InputError: they belong to
  /// several teachers that give hidden states or logits.
  targets_type targets(std::int64_t begin, std::int64_t count) const;
  /// What targets() answers at once: runs of rows of one teacher; empty: all rows.
  std::vector<RowRun> row_runs() const;
  /// "teacher/<name>/rows": how many rows each teacher has marked since the last call.
  std::vector<std::pair<std::string, double>> step_metrics();
  SettingsList describe() const;

 private:
  struct Part {
    std::vector<std::int64_t> documents{};  // of the whole batch
    TokenBatch batch{};                     // they alone; empty where they are the whole batch

    bool is_whole(const TokenBatch& all) const {
      return static_cast<std::int64_t>(documents.size()) == all.documents();
    }
  };
  /// The documents of each teacher, in order.
  std::vector<Part> parts_of(const TokenBatch& batch) const;
  /// Rows of the whole batch that one teacher marks, which has them from `from` on.
  struct Run {
    RowRun rows{};
    std::size_t teacher = 0;
    std::int64_t from = 0;
  };
  std::int64_t prepare_part(std::size_t teacher, const TokenBatch& batch);
  std::vector<Run> runs_of(const TokenBatch& batch, const std::vector<Part>& parts) const;
  void gather();

  std::vector<std::pair<std::string, Teacher>> teachers_;
  TeacherNames names_;
  std::vector<std::int64_t> marked_;  // of each teacher, since step_metrics()
  std::size_t alone_ = 0;             // the teacher of the whole prepared batch, or teachers_.size()
  std::int64_t rows_ = 0;
  std::vector<Run> runs_;  // of a batch with several teachers, in the order of rows
  detail::MixedRows<targets_type> mixed_;
};

KDLIB_NAMESPACE_END

#include "kdlib/teacher/by_row_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/teacher_names_inl.hpp"
#endif

#endif
