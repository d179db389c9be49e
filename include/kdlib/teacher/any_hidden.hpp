// SPDX-License-Identifier: Apache-2.0
// A teacher of hidden states whose kind is known at run time only: programs compile their training once for all of
// them.
#ifndef KDLIB_TEACHER_ANY_HIDDEN_HPP
#define KDLIB_TEACHER_ANY_HIDDEN_HPP

#include <concepts>
#include <memory>
#include <utility>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource with HiddenTargets around any other one (LiveTeacher, RememberedTeacher, CachedHiddenTeacher). A
/// copy copies what is inside.
template <class D, class T>
class AnyHiddenTeacher {
 public:
  using targets_type = HiddenTargets<T, D>;

  template <class X>
  requires std::same_as<typename X::targets_type, targets_type>
  explicit AnyHiddenTeacher(X teacher) : inside_(std::make_unique<Inside<X>>(std::move(teacher))) {}
  AnyHiddenTeacher(const AnyHiddenTeacher& other) : inside_(other.inside_->copy()) {}
  AnyHiddenTeacher& operator=(const AnyHiddenTeacher& other) {
    inside_ = other.inside_->copy();
    return *this;
  }
  AnyHiddenTeacher(AnyHiddenTeacher&&) noexcept = default;
  AnyHiddenTeacher& operator=(AnyHiddenTeacher&&) noexcept = default;

  std::int64_t vocab_size() const { return inside_->vocab_size(); }
  void prepare(const TokenBatch& batch) { inside_->prepare(batch); }
  targets_type targets(std::int64_t begin, std::int64_t count) const { return inside_->targets(begin, count); }
  SettingsList describe() const { return inside_->describe(); }

 private:
  struct Base {
    virtual ~Base() = default;
    virtual std::unique_ptr<Base> copy() const = 0;
    virtual std::int64_t vocab_size() const = 0;
    virtual void prepare(const TokenBatch& batch) = 0;
    virtual targets_type targets(std::int64_t begin, std::int64_t count) const = 0;
    virtual SettingsList describe() const = 0;
  };
  template <class X>
  struct Inside final : Base {
    explicit Inside(X teacher) : x(std::move(teacher)) {}
    std::unique_ptr<Base> copy() const override { return std::make_unique<Inside>(x); }
    std::int64_t vocab_size() const override { return x.vocab_size(); }
    void prepare(const TokenBatch& batch) override { x.prepare(batch); }
    targets_type targets(std::int64_t begin, std::int64_t count) const override { return x.targets(begin, count); }
    SettingsList describe() const override { return x.describe(); }
    X x;
  };

  std::unique_ptr<Base> inside_;
};

KDLIB_NAMESPACE_END

#endif
