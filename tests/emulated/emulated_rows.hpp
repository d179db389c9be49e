// SPDX-License-Identifier: Apache-2.0
// Rows that lie on the host, run by the CUDA row engine on the emulated device.
#ifndef KDLIB_TESTS_EMULATED_EMULATED_ROWS_HPP
#define KDLIB_TESTS_EMULATED_EMULATED_ROWS_HPP

#include <vector>

#include "kdlib/backend/cuda/rows.cuh"

namespace kdlib_tests {

/// A host array on the device for the length of a call.
template <class X>
class OnDevice {
 public:
  OnDevice(const X* host, std::int64_t count) : buffer_(host == nullptr ? 0 : count) {
    if (host != nullptr)
      kdlib::Memory<kdlib::Cuda>::from_host(buffer_.data(), host, static_cast<std::size_t>(count) * sizeof(X));
  }
  X* data() const { return buffer_.data(); }
  void to(X* host) const {
    kdlib::Memory<kdlib::Cuda>::to_host(host, buffer_.data(), static_cast<std::size_t>(buffer_.count()) * sizeof(X));
  }

 private:
  kdlib::Buffer<X, kdlib::Cuda> buffer_;
};

/// RowKernels<Cuda, T>::run on blocks of `threads`, for a task that is on the host, and `results`, too.
template <class T, class Loss>
void emulate_rows(const Loss& loss, kdlib::RowTask<T> task, kdlib::RowResult* results, int threads = 64) {
  const auto count = [&](std::int64_t stride) { return (task.rows - 1) * stride + task.columns; };
  const bool in_place = task.gradient == task.student;
  T* const gradient = task.gradient;
  const OnDevice<T> student(task.student, count(task.student_stride)),
      teacher(task.teacher, count(task.teacher_stride)),
      own(in_place ? nullptr : gradient, count(task.gradient_stride));
  task.student = student.data(), task.teacher = teacher.data();
  task.gradient = gradient == nullptr ? nullptr : in_place ? student.data() : own.data();
  const std::int64_t support = task.rows * task.support_size;
  const OnDevice<std::int32_t> labels(task.labels, task.rows), ids(task.support_ids, support);
  const OnDevice<float> weights(task.weights, task.rows), behaviour(task.behaviour, task.rows),
      teacher_label(task.teacher_label, task.rows);
  const OnDevice<T> log_probs(task.support_log_probs, support), log_tail(task.support_log_tail, task.rows);
  task.labels = labels.data(), task.weights = weights.data(), task.behaviour = behaviour.data(),
  task.teacher_label = teacher_label.data(), task.support_ids = ids.data(), task.support_log_probs = log_probs.data(),
  task.support_log_tail = log_tail.data();
  const OnDevice<kdlib::RowResult> out(results, task.rows);
  kdlib::detail::launch_rows(loss, task, out.data(), nullptr, threads);
  out.to(results);
  if (gradient != nullptr) (in_place ? student : own).to(gradient);
}

}  // namespace kdlib_tests

#endif
