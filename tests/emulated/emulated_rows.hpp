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

/// RowKernels<Cuda, T>::run on blocks of `threads`, for a task whose logits and gradient are on the host.
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
  kdlib::detail::run_rows(loss, task, results, threads);
  if (gradient != nullptr) (in_place ? student : own).to(gradient);
}

}  // namespace kdlib_tests

#endif
