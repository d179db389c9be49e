// SPDX-License-Identifier: Apache-2.0
// Several teachers side by side, for example one for mathematics and one for code: each document is marked by the
// teacher that is named for this document (multi-teacher on-policy distillation).
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

/// A table that says which teacher marks a document. The key is the name of the document in TokenBatch::sources
/// ("prompts.jsonl:12"). A text that a student wrote carries the name of the line of its prompt.
class TeacherNames {
 public:
  /// `otherwise` names the teacher of all documents that are not listed. If `otherwise` is empty, such documents are
  /// refused.
  explicit TeacherNames(std::string otherwise = {}) : otherwise_(std::move(otherwise)) {}

  void set(std::string source, std::string teacher);
  /// Reads the member "teacher" of each line of a JSON Lines file: {"teacher": "math", ...}. IoError: there is no such
  /// file. FormatError: a line is broken, or its "teacher" is not a text. InputError: a line has no "teacher", and the
  /// constructor got no `otherwise`.
  void read(const std::string& path);
  /// Returns the number of listed documents that ask for this teacher.
  std::int64_t count(const std::string& teacher) const;
  /// Throws InputError, naming the document, if a listed document asks for a teacher that is not in `teachers`.
  void require_among(const std::vector<std::string>& teachers) const;
  /// Returns the name of the teacher for document number `document` of the batch. InputError: the document has no name
  /// or is not listed, and there is no `otherwise`.
  const std::string& of(const TokenBatch& batch, std::int64_t document) const;
  /// Returns a checksum (SHA-256) of the whole table, so that a resumed run notices if the choice of teachers has
  /// changed.
  std::string digest() const;

 private:
  using Entry = std::pair<std::string, std::string>;
  std::vector<Entry>::const_iterator find(const std::string& source) const;

  std::vector<Entry> of_;  // sorted by the name of the document
  std::string otherwise_;
};

namespace detail {

/// Collects rows of several teachers in one memory. The general template is for types of targets that cannot be copied
/// row by row (`mixes` is false).
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

  /// Makes room for `rows` rows. `like` is the answer of one of the teachers: all other teachers must have the same K
  /// and temperature.
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

/// A TeacherSource made of several teachers of one type. The rows of each document come from the teacher that `names`
/// gives for this document; documents of different teachers may stand in one micro-batch. SampledTargets and
/// TopKTargets (with one K and one temperature) of several teachers are copied into one answer. Other targets have a
/// separate head for each teacher, so that one answer can hold rows of one teacher only; row_runs() says which rows
/// these are.
template <class Teacher>
class TeacherByRow {
 public:
  using targets_type = typename Teacher::targets_type;
  static constexpr bool mixes = detail::MixedRows<targets_type>::mixes;

  /// ConfigError: `teachers` is empty, a name is empty or given twice, or the vocabularies differ in size.
  TeacherByRow(std::vector<std::pair<std::string, Teacher>> teachers, TeacherNames names);
  /// A copy has copies of the teachers and starts without a prepared batch.
  TeacherByRow(const TeacherByRow& other)
      : teachers_(other.teachers_), names_(other.names_), marked_(other.teachers_.size(), 0) {}
  TeacherByRow& operator=(const TeacherByRow& other) { return *this = TeacherByRow(other); }
  TeacherByRow(TeacherByRow&&) noexcept = default;
  TeacherByRow& operator=(TeacherByRow&&) noexcept = default;

  std::int64_t vocab_size() const { return teachers_.front().second.vocab_size(); }
  /// Gives each teacher its part of the batch in advance, if the teachers work ahead (RemoteTeacher).
  void announce(const TokenBatch& batch);
  void prepare(const TokenBatch& batch);
  /// Returns rows [begin, begin + count) of the prepared batch, valid until the next prepare(). InputError: the rows
  /// belong to several teachers whose targets (hidden states or logits) cannot be mixed.
  targets_type targets(std::int64_t begin, std::int64_t count) const;
  /// The runs of rows of one teacher that one call of targets() can answer. An empty list means that one call answers
  /// all rows.
  std::vector<RowRun> row_runs() const;
  /// "teacher/<name>/rows": the number of rows that each teacher has marked since the last call.
  std::vector<std::pair<std::string, double>> step_metrics();
  SettingsList describe() const;

 private:
  struct Part {
    std::vector<std::int64_t> documents{};  // their numbers in the whole batch
    TokenBatch batch{};                     // these documents alone; empty if they are the whole batch

    bool is_whole(const TokenBatch& all) const {
      return static_cast<std::int64_t>(documents.size()) == all.documents();
    }
  };
  /// The documents of each teacher, in order.
  std::vector<Part> parts_of(const TokenBatch& batch) const;
  /// Neighbouring rows of the whole batch that one teacher marks. In the teacher's own batch these rows begin at row
  /// `from`.
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
  std::vector<std::int64_t> marked_;  // rows of each teacher since the last step_metrics()
  std::size_t alone_ = 0;  // the teacher that marks the whole prepared batch; teachers_.size() if there are several
  std::int64_t rows_ = 0;
  std::vector<Run> runs_;  // only for a batch with several teachers; in the order of rows
  detail::MixedRows<targets_type> mixed_;
};

KDLIB_NAMESPACE_END

#include "kdlib/teacher/by_row_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/teacher_names_inl.hpp"
#endif

#endif
