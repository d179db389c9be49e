// SPDX-License-Identifier: Apache-2.0
// A teacher whose class is chosen at run time. A program that holds every teacher as an AnyTeacher compiles its
// training once for all teachers that give the same type of targets.
#ifndef KDLIB_TEACHER_ANY_HIDDEN_HPP
#define KDLIB_TEACHER_ANY_HIDDEN_HPP

#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource that wraps any other TeacherSource whose targets_type is `Targets`. LiveTeacher, RememberedTeacher,
/// CachedHiddenTeacher and RemoteTeacher give HiddenTargets; CachedTeacher and RemoteTeacher give TopKTargets; a
/// TeacherByRow gives the targets of its teachers. A copy of an AnyTeacher copies the wrapped teacher.
template <class Targets>
class AnyTeacher {
 public:
  using targets_type = Targets;

  template <class X>
  requires std::same_as<typename X::targets_type, targets_type>
  explicit AnyTeacher(X teacher) : inside_(std::make_unique<Inside<X>>(std::move(teacher))) {}
  AnyTeacher(const AnyTeacher& other) : inside_(other.inside_->copy()) {}
  AnyTeacher& operator=(const AnyTeacher& other) {
    inside_ = other.inside_->copy();
    return *this;
  }
  AnyTeacher(AnyTeacher&&) noexcept = default;
  AnyTeacher& operator=(AnyTeacher&&) noexcept = default;

  std::int64_t vocab_size() const { return inside_->vocab_size(); }
  /// Tells a teacher that works ahead (RemoteTeacher) of a batch that will be prepared later. Other teachers ignore the
  /// call.
  void announce(const TokenBatch& batch) { inside_->announce(batch); }
  void prepare(const TokenBatch& batch) { inside_->prepare(batch); }
  targets_type targets(std::int64_t begin, std::int64_t count) const { return inside_->targets(begin, count); }
  /// The runs of rows that one call of targets() can answer. An empty list means that one call answers all rows.
  std::vector<RowRun> row_runs() const { return inside_->row_runs(); }
  /// Returns the step metrics of the wrapped teacher, or an empty list if that teacher has none.
  std::vector<std::pair<std::string, double>> step_metrics() { return inside_->step_metrics(); }
  SettingsList describe() const { return inside_->describe(); }

 private:
  struct Base {
    virtual ~Base() = default;
    virtual std::unique_ptr<Base> copy() const = 0;
    virtual std::int64_t vocab_size() const = 0;
    virtual void announce(const TokenBatch& batch) = 0;
    virtual void prepare(const TokenBatch& batch) = 0;
    virtual targets_type targets(std::int64_t begin, std::int64_t count) const = 0;
    virtual std::vector<RowRun> row_runs() const = 0;
    virtual std::vector<std::pair<std::string, double>> step_metrics() = 0;
    virtual SettingsList describe() const = 0;
  };
  template <class X>
  struct Inside final : Base {
    explicit Inside(X teacher) : x(std::move(teacher)) {}
    std::unique_ptr<Base> copy() const override { return std::make_unique<Inside>(x); }
    std::int64_t vocab_size() const override { return x.vocab_size(); }
    void announce(const TokenBatch& batch) override {
      if constexpr (requires { x.announce(batch); }) x.announce(batch);
    }
    void prepare(const TokenBatch& batch) override { x.prepare(batch); }
    targets_type targets(std::int64_t begin, std::int64_t count) const override { return x.targets(begin, count); }
    std::vector<RowRun> row_runs() const override {
      if constexpr (requires { x.row_runs(); }) return x.row_runs();
      else return {};
    }
    std::vector<std::pair<std::string, double>> step_metrics() override {
      if constexpr (requires { x.step_metrics(); }) return x.step_metrics();
      else return {};
    }
    SettingsList describe() const override { return x.describe(); }
    X x;
  };

  std::unique_ptr<Base> inside_;
};

/// A wrapper around any teacher that gives hidden states.
template <class D, class T>
using AnyHiddenTeacher = AnyTeacher<HiddenTargets<T, D>>;

KDLIB_NAMESPACE_END

#endif
