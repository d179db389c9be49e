// SPDX-License-Identifier: Apache-2.0
// A loss of your own: the squared Hellinger distance 1 - sum sqrt(p_s p_t), mixed with cross-entropy and fused with the
// head. It gets what the built-in losses have: SIMD, chunks (no [tokens, vocabulary] anywhere), temperature, weights,
// metrics. For CUDA the same struct compiles under nvcc, with one line KDLIB_INSTANTIATE_LOSS(Hellinger, float) in a
// .cu file.
#include <cstdio>

#include "kdlib/autograd/grad_check.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/loss/losses.hpp"

namespace kd = kdlib;

struct Hellinger {
  static constexpr bool reads_teacher = true;
  float temperature = 1;
  bool t_squared = true;

  template <class P>  // a number, or a pack of them
  KDLIB_INLINE kd::EntryLoss<P> entry(const kd::RowStatistics&, const kd::Entry<P>& x) const {
    const P difference = kd::sqrt(x.p_s) - kd::sqrt(x.p_t);
    const P value = P(0.5) * difference * difference;       // sums to 1 - sum sqrt(p_s p_t), each term >= 0
    return {value, P(0.5) * kd::sqrt(x.p_s) * difference};  // its derivative by log p_s, up to multiples of p_s
  }
};

int main() {
  using T = double;
  const std::int64_t rows = 4, vocabulary = 1000, width = 16;
  const auto random = [](kd::Shape shape, std::uint32_t stream) {
    kd::Tensor<T, kd::Cpu> t(shape);
    const kd::Rng rng(7, kd::RngPurpose::test, 0, stream);
    for (std::int64_t i = 0; i < t.count(); ++i) t.data()[i] = rng.uniform(static_cast<std::uint32_t>(i)) - 0.5;
    return t;
  };
  const auto head = random({vocabulary, width}, 1), teacher_head = random({vocabulary, width}, 2),
             teacher_hidden = random({rows, width}, 3);
  auto hidden = random({rows, width}, 4), gradient = random({rows, width}, 5);
  const std::int32_t labels[rows] = {3, 14, 15, 92};

  const auto loss = kd::Sum{kd::Term{0.9, Hellinger{.temperature = 2}}, kd::Term{0.1, kd::CrossEntropy{}}};
  const kd::HiddenTargets<T, kd::Cpu> teacher{teacher_hidden.view(), {.weight = teacher_head.view()}};
  const auto value = [&](kd::View<T, kd::Cpu> out) {
    return kd::head_loss(loss, kd::HeadView<T, kd::Cpu>{.weight = head.view()}, hidden.view(), teacher,
                         {.labels = labels}, 1.0 / rows, out, nullptr)
        .loss.mean();
  };
  const double at = value(gradient.view());  // writes the gradient, too
  const double error =
      kd::gradient_error(hidden.data(), gradient.data(), hidden.count(), 1e-5, [&] { return value({}); });
  std::printf("loss %.6f; largest relative error of the gradient against finite differences %.1e\n", at, error);
  return error < 1e-8 ? 0 : 1;
}
