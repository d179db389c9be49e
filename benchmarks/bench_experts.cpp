// SPDX-License-Identifier: Apache-2.0
// A mixture of experts: time of the forward pass against total and active experts. Checks a result against one product
// a token first.
#include <chrono>
#include <cmath>
#include <cstdio>

#include "kdlib/autograd/experts.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/tools/blas_kernels.hpp"

namespace {
namespace kd = kdlib;
using Tensor = kd::Tensor<float, kd::Cpu>;
using K = kd::Kernels<kd::Cpu, float>;

Tensor random(kd::Shape shape, std::uint32_t row, double scale) {
  Tensor t(shape);
  const kd::Rng rng(1, kd::RngPurpose::test, 0, row);
  for (std::int64_t i = 0; i < t.count(); ++i)
    t.data()[i] = static_cast<float>(scale * (2 * rng.uniform(static_cast<std::uint32_t>(i)) - 1));
  return t;
}

struct Mixture {
  std::int64_t tokens, hidden, inner, experts, active;
  Tensor x = random({tokens, hidden}, 0, 1), logits = random({tokens, experts}, 1, 3);
  kd::Parameter<float, kd::Cpu> gate_up{"gate_up", random({experts, 2 * inner, hidden}, 2, 0.1), {}, false, true};
  kd::Parameter<float, kd::Cpu> down{"down", random({experts, hidden, inner}, 3, 0.1), {}, false, true};
  kd::RouterRule rule{experts, active, true};

  Tensor forward() {
    kd::Tape<float, kd::Cpu> silent(false);
    const auto routing = kd::route(silent, rule, kd::Var<float, kd::Cpu>{logits, nullptr});
    kd::ExpertOperand<float, kd::Cpu> w;
    w.gate_up = &gate_up;
    w.down = &down;
    return kd::experts(silent, w, routing, kd::Var<float, kd::Cpu>{x, nullptr}, kd::Var<float, kd::Cpu>{x, nullptr})
        .value;
  }

  /// Largest difference from one token at a time, over the first tokens.
  double error(const Tensor& y) {
    double worst = 0;
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens * active));
    std::vector<float> weights(ids.size()), u(static_cast<std::size_t>(2 * inner)), a(static_cast<std::size_t>(inner));
    K::route(rule, logits.data(), tokens, ids.data(), weights.data());
    for (std::int64_t t = 0; t < (tokens < 8 ? tokens : 8); ++t) {
      std::vector<float> sum(x.data() + t * hidden, x.data() + (t + 1) * hidden);
      for (std::int64_t j = t * active; j < (t + 1) * active; ++j) {
        const std::int64_t e = ids[static_cast<std::size_t>(j)];
        K::gemm(false, true, 1, 2 * inner, hidden, 1.0f, x.data() + t * hidden, hidden,
                gate_up.value.data() + e * 2 * inner * hidden, hidden, 0.0f, u.data(), 2 * inner);
        K::swiglu(u.data(), u.data() + inner, inner, a.data());
        K::gemm(false, true, 1, hidden, inner, weights[static_cast<std::size_t>(j)], a.data(), inner,
                down.value.data() + e * hidden * inner, inner, 1.0f, sum.data(), hidden);
      }
      for (std::int64_t i = 0; i < hidden; ++i)
        worst = std::fmax(worst,
                          std::fabs(static_cast<double>(sum[static_cast<std::size_t>(i)] - y.data()[t * hidden + i])));
    }
    return worst;
  }
};

}  // namespace

int main() {
  kd::choose_blas_kernels();
  std::printf("threads %d, %s\n%7s %8s %7s %9s %9s %10s\n", kd::thread_count(), K::environment().c_str(), "tokens",
              "experts", "active", "ms", "GFLOP/s", "error");
  for (const std::int64_t tokens : {1, 1024})
    for (const auto& shape :
         {std::pair{8, 2}, std::pair{32, 2}, std::pair{128, 2}, std::pair{32, 1}, std::pair{32, 4}, std::pair{32, 8}}) {
      Mixture m{tokens, 512, 384, shape.first, shape.second};
      const double error = m.error(m.forward());
      if (!(error < 1e-3)) {
        std::fprintf(stderr, "the result is wrong by %g\n", error);
        return 1;
      }
      double best = 1e9;
      for (int run = 0; run < 10; ++run) {
        const auto start = std::chrono::steady_clock::now();
        m.forward();
        best = std::fmin(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      }
      const double flops = 2.0 * static_cast<double>(tokens * m.active * 3 * m.hidden * m.inner);
      std::printf("%7lld %8d %7d %9.3f %9.1f %10.1e\n", static_cast<long long>(tokens), shape.first, shape.second,
                  best * 1e3, flops / best * 1e-9, error);
    }
}
