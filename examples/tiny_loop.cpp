// SPDX-License-Identifier: Apache-2.0
// Distillation without Trainer: each part of the library is used by hand, a few steps on models of random weights.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>

namespace kd = kdlib;

template <class D, class T>
double distil(kd::Decoder<D, T>& teacher, kd::Decoder<D, T>& student, const kd::TokenBatch& batch, int steps) {
  kd::LiveTeacher live{teacher};
  auto optimizer = kd::AdamW{.beta2 = 0.95}.state<T, D>(kd::trainable_parameters(student));
  const kd::WarmupLinear schedule{.peak = 5e-3, .warmup = 2, .total = steps};
  const auto rows = batch.rows();  // tokens whose next token counts
  const auto count = static_cast<std::int64_t>(rows.token.size());
  double loss = 0;
  for (int step = 0; step < steps; ++step) {
    student.zero_gradients();
    live.prepare(batch);                                                // the teacher's hidden states of these rows
    const kd::Tensor<T, D> hidden = student.forward_training(batch);    // [N, H], recorded
    kd::Tensor<T, D> at_rows(kd::Shape{count, student.hidden_size()});  // [R, H]
    kd::Tensor<T, D> gradient(at_rows.shape());
    kd::Kernels<D, T>::gather_rows(hidden.data(), rows.token.data(), count, student.hidden_size(), at_rows.data());

    // Logits, divergence and gradient in one pass; [R, V] never exists. The normaliser is fixed before: 1 / weight of
    // all rows.
    const auto result = kd::head_loss(kd::ForwardKl{}, student.head(), std::as_const(at_rows).view(),
                                      live.targets(0, count), {.labels = rows.label, .weights = rows.weight},
                                      1 / batch.weight(), gradient.view(), student.head_parameter());
    loss = result.loss.mean();

    auto hidden_gradient = kd::Tensor<T, D>::zeros(hidden.shape());
    kd::Kernels<D, T>::scatter_add_rows(gradient.data(), rows.token.data(), count, student.hidden_size(),
                                        hidden_gradient.data());
    student.backward(std::as_const(hidden_gradient).view());

    const auto clip = kd::measure_clip(student.parameters(), 1.0);
    optimizer.step(schedule(step), clip.factor);
    std::printf("step %2d  loss %.4f  gradient norm %.3f  rate %.4f\n", step + 1, loss, clip.norm, schedule(step));
  }
  return loss;
}

int main() try {
  using Model = kd::Decoder<kd::Cpu, float>;
  kd::DecoderConfig config;
  config.vocab_size = 256, config.hidden_size = 64, config.intermediate_size = 128, config.layers = 2;
  config.query_heads = 4, config.kv_heads = 2, config.head_size = 16, config.tied_head = true,
  config.initializer_range = 0.2;
  auto teacher = Model::from_config(config, 1), student = Model::from_config(config, 2);

  kd::TokenBatch batch;  // documents laid end to end; no padding anywhere
  const kd::Rng random(7, kd::RngPurpose::test);
  for (std::uint32_t document = 0; document < 4; ++document) {
    std::vector<std::int32_t> ids(12 + 5 * document);
    for (std::uint32_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>(random.below(100 * document + i, 256));
    batch.append(ids);
  }
  return distil(teacher, student, batch, 20) < 1.0 ? 0 : 1;
} catch (const kd::Error& error) {
  return kd::report(error);
}
