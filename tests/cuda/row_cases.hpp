// SPDX-License-Identifier: Apache-2.0
// Rows for a row engine other than the CPU's, and the comparison with the CPU engine in double on the same rounded
// inputs.
#ifndef KDLIB_TESTS_CUDA_ROW_CASES_HPP
#define KDLIB_TESTS_CUDA_ROW_CASES_HPP

#include <algorithm>
#include <type_traits>

#include "loss/row_reference.hpp"

namespace kdlib_tests {

/// What a case holds beside its logits.
struct RowCase {
  std::int64_t columns = 0;
  bool teacher_rows = true;  // else the teacher's log-probability of the label
  bool in_place = true;      // the gradient over the student's logits
  bool gradient = true;
  bool masked_columns = true;  // -infinity in both models
  bool sure_row = true;        // a row where both models are sure of one entry
  std::int64_t support = 0;    // K; ids of -1 and ids that come twice among them
  double support_temperature = 1;
  std::int64_t padding = 0;  // of each row: phases of rows against 16 bytes change with it
};

template <class T>
struct RowData {
  static constexpr std::int64_t rows = 4;
  std::int64_t stride;
  std::vector<T> student, teacher, log_probs, log_tail;
  std::vector<std::int32_t> labels, ids;
  std::vector<float> weights = {0.5f, 0.0f, 2.0f, 1.0f}, behaviour = {-1.5f, -2.0f, -0.5f, -3.0f},
                     teacher_label = {-1.0f, -2.0f, -0.25f, -4.0f};

  explicit RowData(const RowCase& c) : stride(c.columns + c.padding) {
    Normal random(static_cast<std::uint64_t>(c.columns * 64 + c.support));
    const auto v = c.columns;
    for (std::vector<T>* z : {&student, &teacher}) {
      z->assign(static_cast<std::size_t>(rows * stride), T(99.0f));  // the padding must not be read
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = 0; i < v; ++i) {
          const bool masked = c.masked_columns && v > 5 && (i == 3 || (v > 64 && i > v - 7 && i < v - 1));
          (*z)[static_cast<std::size_t>(r * stride + i)] =
              masked ? T(-INFINITY) : static_cast<T>(3 * random() + (c.sure_row && r == 2 && i == v - 1 ? 25 : 0));
        }
    }
    labels = {1, 0, static_cast<std::int32_t>(v - 1), static_cast<std::int32_t>(v / 2 == 3 ? 1 : v / 2)};
    if (c.support > 0) fill_support(c, random);
  }
  kdlib::RowTask<T> task(const RowCase& c) const {
    kdlib::RowTask<T> t;
    t.rows = rows, t.columns = c.columns;
    t.student_stride = t.teacher_stride = t.gradient_stride = stride;
    t.student = student.data();
    if (c.support > 0)
      t.support_ids = ids.data(), t.support_log_probs = log_probs.data(), t.support_log_tail = log_tail.data(),
      t.support_size = c.support;
    else if (c.teacher_rows) t.teacher = teacher.data();
    else t.teacher_label = teacher_label.data();
    t.labels = labels.data(), t.weights = weights.data(), t.behaviour = behaviour.data();
    t.scale = 0.5, t.metrics = true, t.jensen_shannon = true;
    return t;
  }
  /// The same numbers in double.
  RowData<double> wide(const RowCase& c) const {
    RowData<double> d(c);
    const auto copy = [](const std::vector<T>& from, std::vector<double>& to) {
      to.clear();
      for (const T x : from) to.push_back(static_cast<double>(x));
    };
    copy(student, d.student), copy(teacher, d.teacher), copy(log_probs, d.log_probs), copy(log_tail, d.log_tail);
    return d;
  }

 private:
  void fill_support(const RowCase& c, Normal& random) {
    for (std::int64_t r = 0; r < rows; ++r) {
      Row z;
      for (std::int64_t i = 0; i < c.columns; ++i)
        z.push_back(static_cast<double>(teacher[static_cast<std::size_t>(r * stride + i)]));
      const Row b = log_softmax(z, c.support_temperature);
      std::vector<std::int32_t> row;
      for (std::int64_t k = 0; k < c.support; ++k) {
        auto id = static_cast<std::int32_t>(random.below(c.columns));
        while (std::isinf(b[static_cast<std::size_t>(id)])) id = static_cast<std::int32_t>(random.below(c.columns));
        if (k % 7 == 5) id = -1;
        if (k % 5 == 4) id = row[static_cast<std::size_t>(k - 2)];  // twice; the mass is split below
        row.push_back(id);
      }
      double inside = 0;
      for (std::int64_t k = 0; k < c.support; ++k) {
        const auto id = row[static_cast<std::size_t>(k)];
        const auto times_there = std::count(row.begin(), row.end(), id);
        const double log_p = id < 0 ? 0 : b[static_cast<std::size_t>(id)] - std::log(static_cast<double>(times_there));
        if (id >= 0) inside += std::exp(log_p);
        ids.push_back(id), log_probs.push_back(static_cast<T>(log_p));
      }
      log_tail.push_back(static_cast<T>(inside < 1 ? std::log1p(-inside) : -INFINITY));
    }
  }
};

inline void check_metrics(const kdlib::RowMetrics& got, const kdlib::RowMetrics& want, double margin) {
  CHECK(got.weight == want.weight);
  CHECK(got.teacher_weight == want.teacher_weight);
  CHECK(got.label_weight == want.label_weight);
  CHECK(got.student_entropy == Approx(want.student_entropy).margin(margin));
  CHECK(got.teacher_entropy == Approx(want.teacher_entropy).margin(margin));
  CHECK(got.forward_kl == Approx(want.forward_kl).margin(margin));
  CHECK(got.reverse_kl == Approx(want.reverse_kl).margin(margin));
  CHECK(got.top1_agreement == want.top1_agreement);
  CHECK(got.top5_overlap == want.top5_overlap);
  CHECK(got.top5_contains == want.top5_contains);
  CHECK(got.label_log_prob == Approx(want.label_log_prob).margin(margin));
  CHECK(got.label_top1 == want.label_top1);
  CHECK(got.label_rank == want.label_rank);
  CHECK(got.support_weight == want.support_weight);
  CHECK(got.teacher_support_mass == Approx(want.teacher_support_mass).margin(margin));
  CHECK(got.student_support_mass == Approx(want.student_support_mass).margin(margin));
  CHECK(got.tail_loss == Approx(want.tail_loss).margin(margin));
  CHECK(got.js_weight == want.js_weight);
  CHECK(got.js == Approx(want.js).margin(margin));
  CHECK(got.clamp_weight == want.clamp_weight);
  CHECK(got.clamped == want.clamped);
}

/// `engine(loss, task, results)` runs the rows; task.gradient is over the student's logits where c.in_place.
template <class T, class Loss, class Engine>
void compare_rows(const Loss& loss, const RowCase& c, Engine&& engine) {
  const RowData<T> data(c);
  const RowData<double> wide = data.wide(c);
  constexpr std::int64_t rows = RowData<T>::rows;
  std::vector<double> want_gradient(wide.student.size(), 0.0);
  std::vector<T> logits = data.student, gradient(data.student.size(), T(0.0f));
  kdlib::RowResult want[rows], got[rows];
  kdlib::RowTask<double> reference = wide.task(c);
  reference.gradient = want_gradient.data();
  kdlib::RowKernels<kdlib::Cpu, double>::run(loss, reference, want);
  kdlib::RowTask<T> task = data.task(c);
  task.student = logits.data();
  if (c.gradient) task.gradient = c.in_place ? logits.data() : gradient.data();
  engine(loss, task, got);
  for (std::int64_t r = 0; r < rows; ++r) {
    INFO("V = " << c.columns << ", K = " << c.support << ", padding " << c.padding << ", row " << r);
    const auto i = static_cast<std::size_t>(r);
    CHECK(agrees<T>(got[i].value, want[i].value, std::max(1.0, std::abs(want[i].value))));
    check_metrics(got[i].metrics, want[i].metrics, std::is_same_v<T, double> ? 1e-9 : 1e-5);
    if (!c.gradient) continue;
    const std::vector<T>& out = c.in_place ? logits : gradient;
    double largest = 0, worst = 0;
    auto at = static_cast<std::size_t>(r * data.stride);
    for (std::int64_t k = 0; k < c.columns; ++k) {
      const auto j = static_cast<std::size_t>(r * data.stride + k);
      largest = std::max(largest, std::abs(want_gradient[j]));
      const double d = std::abs(static_cast<double>(out[j]) - want_gradient[j]);
      if (!(d <= worst)) worst = d, at = j;
    }
    INFO("entry " << at << ": " << static_cast<double>(out[at]) << ", expected " << want_gradient[at] << ", largest "
                  << largest);
    CHECK(agrees<T>(static_cast<double>(out[at]), want_gradient[at], largest));
    for (std::int64_t k = c.columns; k < data.stride; ++k)
      CHECK(static_cast<double>(out[static_cast<std::size_t>(r * data.stride + k)]) ==
            (c.in_place ? 99.0 : 0.0));  // the padding is not written
  }
}

}  // namespace kdlib_tests

#endif
