// SPDX-License-Identifier: Apache-2.0
// The part of bits.cpp about what a run's bits depend on: conversions, drawn tokens, optimiser steps, schedules,
// angles.
#ifndef KDLIB_TESTS_BITS_BITS_OF_RUNS_HPP
#define KDLIB_TESTS_BITS_BITS_OF_RUNS_HPP

namespace {

/// x rounded to `bits` significant bits, exponents from `least` on: exact in double.
double shortened(double x, int bits, int least) {
  if (x == 0) return x;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), least) - bits + 1);
  return std::nearbyint(x / unit) * unit;
}

void check_conversions() {
  const Rng rng(13, RngPurpose::test);
  std::vector<float> half, half_right, brain, brain_right, uniform, uniform_right;
  for (std::uint32_t i = 0; i < 60000; ++i) {
    const float x = static_cast<float>(std::ldexp(2 * rng.uniform(i) - 1, static_cast<int>(rng.bits(i) % 44) - 28));
    half.push_back(static_cast<float>(f16(x)));
    const double h = shortened(static_cast<double>(x), 11, -14);
    half_right.push_back(std::fabs(h) > 65504 ? std::copysign(std::numeric_limits<float>::infinity(), x)
                                              : static_cast<float>(h == 0 ? std::copysign(0.0, x) : h));
    brain.push_back(static_cast<float>(bf16(x)));
    brain_right.push_back(static_cast<float>(shortened(static_cast<double>(x), 8, -126)));
  }
  expect_same("float to f16", half, half_right);
  expect_same("float to bf16", brain, brain_right);
  Fingerprint print;
  print.take(half), print.take(brain);
  for (std::uint32_t b = 0; b < 65536; ++b)
    print.take(static_cast<float>(f16::from_bits(static_cast<std::uint16_t>(b))));
  for (std::uint32_t i = 0; i < 1000; ++i) print.take(rng.uniform(i));
  print_line("conversions and uniform numbers", print);
}

/// The sampler's exponential, by its coefficients, in exact arithmetic.
float exact_weight(float logit, float largest, float inverse_temperature) {
  const float x = mul(sub(logit, largest), inverse_temperature), y = x < -87.3f ? -87.3f : x;
  const float n = nearest(mul(y, 1.44269504f));
  const float r = sub(sub(y, mul(n, 0.693145752f)), mul(n, 1.42860677e-6f));
  float p = 1.98756915e-4f;
  for (const float c : {1.39819995e-3f, 8.33345184e-3f, 4.16657962e-2f, 1.66666655e-1f, 5.00000012e-1f})
    p = add(mul(p, r), c);
  p = add(add(mul(mul(p, r), r), r), 1.0f);
  return x < -87.3f ? 0.0f : narrow(std::ldexp(static_cast<double>(p), static_cast<int>(n)));
}

void check_sampler() {
  const Rng rng(14, RngPurpose::test);
  std::vector<float> logits(5003);
  for (std::size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>(40 * rng.uniform(static_cast<std::uint32_t>(i)) - (i % 97 == 0 ? 100 : 20));
  Fingerprint print, with_log;
  for (const double temperature : {1.0, 0.7, 1.3})
    for (const double top_p : {1.0, 0.9, 0.5}) {
      Sampler sampler;
      sampler.temperature = temperature;
      sampler.top_p = top_p;
      SamplerWorkspace workspace;
      for (std::uint32_t i = 0; i < 200; ++i) {
        const SampledToken token = sample_token<float>(sampler, logits, rng.uniform(100000 + i), workspace);
        print.take(token.id);
        with_log.take(token.log_prob), with_log.take(token.full_log_prob);
        sampler.min_p = 0.01;
        with_log.take(sample_token<float>(sampler, logits, rng.uniform(200000 + i), workspace).id);
        sampler.min_p = 0;
      }
      const float largest = *std::max_element(logits.begin(), logits.end());
      std::vector<float> right;
      for (const float x : logits) right.push_back(exact_weight(x, largest, static_cast<float>(1 / temperature)));
      if (top_p < 1) continue;
      sample_token<float>(sampler, logits, 0.5, workspace);
      expect_same("sampling weights", workspace.weights, right);
      print.take(workspace.weights), print.take(workspace.block_sums);
    }
  print_line("drawn tokens", print);
  print_line("libm log-probabilities and min-p", with_log);
}

/// AdamW and y += alpha x on T, at every vector level, against the formulas of optim/adamw.hpp operation by operation.
template <class T>
void check_optimiser(const std::string& name) {
  const std::int64_t n = 1003;
  const Rng rng(15, RngPurpose::test);
  std::vector<T> gradient, first, second, value;
  for (std::uint32_t i = 0; i < n; ++i) {
    gradient.push_back(static_cast<T>(rng.uniform(4 * i) - 0.5));
    first.push_back(static_cast<T>(rng.uniform(4 * i + 1) - 0.5));
    second.push_back(static_cast<T>(rng.uniform(4 * i + 2)));
    value.push_back(static_cast<T>(rng.uniform(4 * i + 3) - 0.5));
  }
  AdamWStep step;
  step.rate = 3e-4, step.weight_decay = 0.1, step.gradient_scale = 0.7;
  step.correction1 = 1 - 0.729, step.correction2 = 0.003;
  const T b1 = static_cast<T>(0.9), b2 = static_cast<T>(0.999), rest1 = static_cast<T>(1.0 - 0.9),
          rest2 = static_cast<T>(1.0 - 0.999), keep = static_cast<T>(add(1.0, -mul(step.rate, step.weight_decay))),
          rate = static_cast<T>(step.rate / step.correction1),
          root2 = static_cast<T>(1.0 / std::sqrt(step.correction2)), epsilon = static_cast<T>(1e-8);
  std::vector<T> m, v, w, sum;
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    const T g = mul(gradient[i], static_cast<T>(0.7));
    m.push_back(add(mul(b1, first[i]), mul(rest1, g)));
    v.push_back(add(mul(b2, second[i]), mul(rest2, mul(g, g))));
    w.push_back(add(mul(value[i], keep), -div(mul(rate, m[i]), add(mul(root(v[i]), root2), epsilon))));
    sum.push_back(add(value[i], mul(static_cast<T>(-0.3), gradient[i])));
  }
  for (const CpuLevel level : levels_here()) {
    set_cpu_level(level);
    std::vector<T> m2 = first, v2 = second, w2 = value, sum2 = value;
    Kernels<Cpu, T>::adamw(step, n, gradient.data(), m2.data(), v2.data(), w2.data());
    Kernels<Cpu, T>::axpy(n, static_cast<T>(-0.3), gradient.data(), sum2.data());
    expect_same("adamw, first moment", m2, m);
    expect_same("adamw, second moment", v2, v);
    expect_same("adamw, value", w2, w);
    expect_same("axpy", sum2, sum);
  }
  Fingerprint print;
  print.take(m), print.take(v), print.take(w), print.take(sum);
  print_line("optimiser steps in " + name, print);
}

/// Rates and angles: their formulas use the C library, so only different flags are compared.
void print_formulas() {
  Fingerprint rates, angles;
  const WarmupLinear linear{.peak = 3e-4, .warmup = 7, .total = 1000, .final = 1.7e-5};
  const WarmupCosine cosine{.peak = 3e-4, .warmup = 7, .total = 1000, .final = 1.7e-5};
  for (std::int64_t step = 0; step < 1001; ++step) rates.take(linear(step)), rates.take(cosine(step));
  print_line("libm rates of schedules", rates);
  for (const RopeScalingKind kind : {RopeScalingKind::linear, RopeScalingKind::llama3, RopeScalingKind::yarn}) {
    RopeSettings s;
    s.kind = kind, s.theta = 5e5, s.factor = 8.3, s.original_length = 4096;
    angles.take(rope_frequencies(s, 128)), angles.take(rope_table_scale(s));
    const RopeTable<float, Cpu> table = make_rope_table<Cpu, float>(s, 128, 300);
    for (std::int64_t i = 0; i < table.cosine.count(); ++i)
      angles.take(table.cosine.data()[i]), angles.take(table.sine.data()[i]);
  }
  print_line("libm angles of rotary embeddings", angles);
}

}  // namespace

#endif
