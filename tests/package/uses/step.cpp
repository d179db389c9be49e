// SPDX-License-Identifier: Apache-2.0
// A step of distillation between two models of random weights, header-only: the fused loss is that of the formula in
// double precision on the whole logits, and less after the step.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace kd = kdlib;
using Model = kd::Decoder<kd::Cpu, float>;

/// Mean forward KL of the counted rows, from the logits of both models.
static double by_formula(Model& teacher, Model& student, const kd::TokenBatch& batch) {
  const auto logits_of = [&](Model& model) {
    const kd::Tensor<float, kd::Cpu> hidden = model.forward(batch);
    return kd::head_logits(model.head(), std::as_const(hidden).view());
  };
  const auto t = logits_of(teacher), s = logits_of(student);
  const std::int64_t v = t[1];
  double sum = 0;
  const auto rows = batch.rows();
  for (const std::int64_t row : rows.token) {
    double a = 0, b = 0;
    for (std::int64_t i = 0; i < v; ++i) {
      a += std::exp(static_cast<double>(t.data()[row * v + i]));
      b += std::exp(static_cast<double>(s.data()[row * v + i]));
    }
    for (std::int64_t i = 0; i < v; ++i) {
      const double p = static_cast<double>(t.data()[row * v + i]) - std::log(a);
      sum += std::exp(p) * (p - static_cast<double>(s.data()[row * v + i]) + std::log(b));
    }
  }
  return sum / static_cast<double>(rows.token.size());
}

struct Text {  // a DataSource: the same batch again and again
  kd::TokenBatch batch;
  std::optional<kd::TokenBatch> next() { return batch; }
  kd::SourceCursor cursor() const { return ""; }
  void seek(const kd::SourceCursor&) {}
};

int main() try {
  kd::DecoderConfig config;
  config.vocab_size = 96, config.hidden_size = 32, config.intermediate_size = 64, config.layers = 1;
  config.query_heads = 4, config.kv_heads = 2, config.head_size = 8, config.tied_head = true;
  config.initializer_range = 0.3;
  Model teacher = Model::from_config(config, 1), student = Model::from_config(config, 2);
  Text text;
  text.batch.append(std::vector<std::int32_t>{5, 17, 80, 3, 41, 9, 66, 12});
  text.batch.append(std::vector<std::int32_t>{90, 2, 33, 33, 7});

  const double before = by_formula(teacher, student, text.batch);
  kd::MemoryMetrics metrics;
  kd::Trainer trainer{student, text, kd::Objective{kd::LiveTeacher{teacher}, kd::ForwardKl{}}, kd::AdamW{},
                      kd::ConstantRate{1e-3}};
  trainer.run({.steps = 1}, metrics);
  const double reported = metrics.series("train/loss").at(0).second, after = by_formula(teacher, student, text.batch);
  std::printf("kdlib %s: forward KL %.6f (%.6f by the formula), after a step %.6f\n", KDLIB_VERSION_STRING, reported,
              before, after);
  return std::fabs(reported - before) < 1e-5 * before && after < before ? 0 : 1;
} catch (const kd::Error& error) {
  return kd::report(error);
}
