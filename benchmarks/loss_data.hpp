// SPDX-License-Identifier: Apache-2.0
// What bench_losses computes on: shapes, logits or hidden states, and the same as files for the peers.
#ifndef KDLIB_BENCHMARKS_LOSS_DATA_HPP
#define KDLIB_BENCHMARKS_LOSS_DATA_HPP

#include <sys/stat.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kdlib/core/parallel.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/io/atomic_file.hpp"

namespace loss_data {

namespace kd = kdlib;

struct Shape {
  std::int64_t rows, vocabulary, width = 0, teacher_width = 0;

  std::string text() const {
    if (width == 0) return std::to_string(rows) + "x" + std::to_string(vocabulary);
    return std::to_string(rows) + "_" + std::to_string(vocabulary) + "_" + std::to_string(width) + "_" +
           std::to_string(teacher_width);
  }
};
inline const Shape row_shapes[] = {{128, 49152}, {64, 151936}, {32, 201088}};
inline const Shape fused_shapes[] = {{256, 49152, 576, 576},   {1024, 49152, 576, 576}, {256, 49152, 576, 2048},
                                     {1024, 49152, 576, 2048}, {256, 151936, 896, 896}, {1024, 151936, 896, 896}};

inline std::vector<float> normal(std::int64_t n, double deviation, std::uint32_t row) {
  std::vector<float> x(static_cast<std::size_t>(n));
  const kd::Rng rng(1, kd::RngPurpose::test, 0, row);
  kd::parallel_for(n, 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto k = static_cast<std::uint32_t>(i);
      const double u = (rng.bits(2 * k) + 0.5) * 0x1p-32, v = (rng.bits(2 * k + 1) + 0.5) * 0x1p-32;
      x[static_cast<std::size_t>(i)] =
          static_cast<float>(deviation * std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v));
    }
  });
  return x;
}

/// Logits of standard deviation 3 with five peaks a row, the teacher the student plus noise; or hidden states and heads
/// that give such logits.
struct Data {
  Shape shape;
  std::vector<float> student, teacher, student_head, teacher_head;  // student, teacher: logits, or hidden states
  std::vector<std::int32_t> labels;

  explicit Data(const Shape& s) : shape(s) {
    const kd::Rng rng(2, kd::RngPurpose::test, 0, 9);
    const auto v = static_cast<std::uint64_t>(s.vocabulary);
    for (std::int64_t r = 0; r < s.rows; ++r)
      labels.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint32_t>(r), v)));
    if (s.width > 0) {
      student = normal(s.rows * s.width, 1, 1);
      teacher = normal(s.rows * s.teacher_width, 1, 2);
      student_head = normal(s.vocabulary * s.width, 3 / std::sqrt(static_cast<double>(s.width)), 3);
      teacher_head = normal(s.vocabulary * s.teacher_width, 3 / std::sqrt(static_cast<double>(s.teacher_width)), 4);
      return;
    }
    student = normal(s.rows * s.vocabulary, 3, 1);
    for (std::int64_t r = 0; r < s.rows; ++r)
      for (std::uint32_t k = 0; k < 5; ++k)
        student[static_cast<std::size_t>(r * s.vocabulary) +
                rng.below(100000 + 5 * static_cast<std::uint32_t>(r) + k, v)] += 8;
    teacher = normal(s.rows * s.vocabulary, 1, 2);
    for (std::size_t i = 0; i < teacher.size(); ++i) teacher[i] += student[i];
  }
};

/// The data of the shape asked for last: cases of one shape follow each other.
inline const Data& data_of(const Shape& shape) {
  static std::unique_ptr<Data> held;
  if (!held || held->shape.text() != shape.text()) {
    held.reset();
    held = std::make_unique<Data>(shape);
  }
  return *held;
}

inline void write_data(const std::string& folder) {
  std::string cases;
  const auto write = [&](const std::string& name, const char* key, const auto& values) {
    kd::AtomicFile file(folder + "/" + name + "/" + key + ".bin");
    file.write(values.data(), values.size() * sizeof(values[0]));
    file.commit();
    cases += std::string(", \"") + key + "\": \"" + name + "/" + key + ".bin\"";
  };
  const auto add = [&](const Shape& shape) {
    const Data data(shape);
    const bool fused = shape.width > 0;
    const std::string name = (fused ? "fused_" : "rows_") + shape.text();
    ::mkdir(folder.c_str(), 0777);
    ::mkdir((folder + "/" + name).c_str(), 0777);
    cases += std::string(cases.empty() ? "" : ",\n") + "  {\"name\": \"" + name + "\", \"kind\": \"" +
             (fused ? "fused" : "rows") + "\", \"rows\": " + std::to_string(shape.rows) +
             ", \"vocabulary\": " + std::to_string(shape.vocabulary) + ", \"temperature\": 1.0";
    if (fused)
      cases += ", \"student_width\": " + std::to_string(shape.width) +
               ", \"teacher_width\": " + std::to_string(shape.teacher_width);
    write(name, fused ? "student_hidden" : "student", data.student);
    write(name, fused ? "teacher_hidden" : "teacher", data.teacher);
    if (fused) write(name, "student_head", data.student_head), write(name, "teacher_head", data.teacher_head);
    write(name, "labels", data.labels);
    cases += "}";
  };
  for (const Shape& shape : row_shapes) add(shape);
  for (const Shape& shape : fused_shapes) add(shape);
  kd::write_file_atomically(folder + "/meta.json", "{\"seed\": 1, \"cases\": [\n" + cases + "]}\n");
}

}  // namespace loss_data

#endif
