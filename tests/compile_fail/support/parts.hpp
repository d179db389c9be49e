// SPDX-License-Identifier: Apache-2.0
// Right parts for the programs that must not compile: each file gets one of them wrong.
#ifndef KDLIB_TESTS_COMPILE_FAIL_SUPPORT_PARTS_HPP
#define KDLIB_TESTS_COMPILE_FAIL_SUPPORT_PARTS_HPP

#include "kdlib/loss/losses.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/toy_model.hpp"

#if !defined(WITHOUT_BACKEND)
template <>
struct kdlib::Kernels<kdlib::Cpu, float> {};  // stands for kdlib/backend/cpu.hpp, which takes longer to read
#endif

struct Batches {  // a DataSource
  std::optional<kdlib::TokenBatch> next() { return std::nullopt; }
  kdlib::SourceCursor cursor() const { return ""; }
  void seek(const kdlib::SourceCursor&) {}
};

using Model = kdlib_tests::ToyModel<float>;
using Teacher = kdlib::LiveTeacher<Model>;
using RightObjective = kdlib::Objective<Teacher, kdlib::ForwardKl>;

template <class Student = Model, class Source = Batches, class Objective = RightObjective,
          class Optimizer = kdlib::AdamW, class Schedule = kdlib::ConstantRate>
constexpr std::size_t trainer_size() {
  return sizeof(kdlib::Trainer<Student, Source, Objective, Optimizer, Schedule>);
}

#endif
