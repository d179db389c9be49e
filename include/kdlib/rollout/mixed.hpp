// SPDX-License-Identifier: Apache-2.0
// A mix of given (or teacher-written) text and text that the student writes: a coin decides for each step.
#ifndef KDLIB_ROLLOUT_MIXED_HPP
#define KDLIB_ROLLOUT_MIXED_HPP

#include <type_traits>

#include "kdlib/core/communicator.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/rollout/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The coin of Mixed, which chooses between student-written and given text.
struct MixedSettings {
  double lambda = 0.5;             // [0, 1]: share of steps on student-written text
  std::uint64_t seed = 1;          // seed of the coin
  std::int64_t micro_batches = 1;  // batches of one step, which share one coin

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"lambda", "", "in [0, 1]", "share of steps on student-written text"}, self.lambda);
    f(FieldInfo{"seed", "", "", "of the coin"}, self.seed);
    f(FieldInfo{"micro_batches", "", ">= 1", "batches of one step, which share one coin"}, self.micro_batches);
  }
};

/// The coin of a step: true if the student writes. It depends only on seed and step, so it is the same in every process
/// and after a resume. It is never true for lambda = 0 and always for lambda = 1.
bool student_writes(double lambda, std::uint64_t seed, std::int64_t step);

/// A RolloutSource made of a DataSource and a RolloutSource. Only the part that the coin chose moves on, so no text is
/// skipped. Lvalue sources are borrowed, temporaries are kept. Source: on-policy generalised knowledge distillation,
/// Agarwal et al. 2024, where lambda is the student's share.
template <class Offline, class Online>
class Mixed {
  using OfflineSource = std::remove_reference_t<Offline>;
  static_assert(DataSource<OfflineSource>,
                "kdlib: the first argument of Mixed is not a DataSource (next(), cursor(), seek(cursor)): give a "
                "kd::DocumentDataset, a kd::TeacherWritten or see kdlib/data/concepts.hpp");

 public:
  /// Throws ConfigError if lambda is outside [0, 1] or micro_batches < 1.
  Mixed(Offline&& offline, Online&& online, MixedSettings settings = {});

  template <class Student>
  std::optional<TokenBatch> next(Student& student);
  /// Passes over one batch; returns false at the end. Throws ConfigError if the part that the coin chose is not a
  /// SkippableSource.
  bool skip();
  /// Calls OnPolicy::write_step for those of the next `batches` batches that the student writes.
  template <class Student>
  void write_step(Student& student, std::int64_t batches, std::int64_t group, AnyCommunicator& ranks);
  SourceCursor cursor() const;
  void seek(const SourceCursor& cursor);
  SourceDescription describe() const;

  /// Throws ConfigError if the loss does not fit what a part of the mix writes. A part that is never chosen does not
  /// count.
  void check_loss(const SampledTextUse& use) const {
    if constexpr (requires { offline_.check_loss(use); })
      if (settings_.lambda < 1) offline_.check_loss(use);
    if constexpr (requires { online_.check_loss(use); })
      if (settings_.lambda > 0) online_.check_loss(use);
  }
  /// True if the student's part records routing, or if that part cannot tell.
  bool records_routing() const {
    if constexpr (requires { online_.records_routing(); }) return online_.records_routing();
    else return true;
  }
  /// True if the student writes the next batch.
  bool next_is_student_written() const { return is_student_written(0); }

 private:
  bool is_student_written(std::int64_t ahead) const {
    return student_writes(settings_.lambda, settings_.seed, (batches_ + ahead) / settings_.micro_batches);
  }

  Offline offline_;
  Online online_;
  MixedSettings settings_;
  std::int64_t batches_ = 0;
};

template <class Offline, class Online>
Mixed(Offline&&, Online&&, MixedSettings) -> Mixed<Offline, Online>;
template <class Offline, class Online>
Mixed(Offline&&, Online&&) -> Mixed<Offline, Online>;

KDLIB_NAMESPACE_END

#include "kdlib/rollout/mixed_inl.hpp"

#endif
