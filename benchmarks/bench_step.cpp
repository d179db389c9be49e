// SPDX-License-Identifier: Apache-2.0
// A training step on a real model: live float32 teacher, float32 student (weights rounded to int4, kept in float32)
// with LoRA r = 16 on all linear layers, batch 4 x 256, forward KL over every position, AdamW, clipping. The peer is
// benchmarks/peers/trl_step.py, which takes the same ids (--ids) and prints the same loss at step 0. Checked before it
// is timed: the loss of head_loss against float64 on the last rows.
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdio>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/kdlib.hpp"
#include "kdlib/tools/options.hpp"

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cpu, float>;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

/// The ids of peers/common.py: splitmix64 of (seed << 32) + index + 1, modulo the vocabulary less its first three ids.
std::int32_t peer_id(std::uint64_t seed, std::int64_t index, std::int64_t vocabulary) {
  std::uint64_t z = ((seed << 32) + static_cast<std::uint64_t>(index) + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<std::int32_t>(3 + z % static_cast<std::uint64_t>(vocabulary - 3));
}

/// Rounds every linear weight by the recipe's rule: groups of 64 columns, scale = max|w| / 7.5, codes -8 to 7.
void round_linear_weights(Model& model) {
  for (kd::Linear<kd::Cpu, float>* linear : model.linears()) {
    kd::Parameter<float, kd::Cpu>* weight = model.find_parameter(linear->path + ".weight");
    kd::require<kd::Error>(weight != nullptr, "[bench_step] no weight ", linear->path);
    kd::Tensor<float, kd::Cpu> copy = weight->value.clone();
    kd::parallel_for(copy.count() / 64, 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t g = begin; g < end; ++g) {
        float* w = copy.data() + g * 64;
        float largest = 0;
        for (int i = 0; i < 64; ++i) largest = std::max(largest, std::fabs(w[i]));
        const float scale = std::max(largest / 7.5f, 1.17549435e-38f), inverse = 1.0f / scale;
        for (int i = 0; i < 64; ++i) w[i] = std::min(7.0f, std::max(-8.0f, std::nearbyintf(w[i] * inverse))) * scale;
      }
    });
    weight->value = copy;
  }
}

/// Mean forward KL of the last rows in double precision, from the same hidden states.
double reference_loss(const Model& teacher, const Model& student, const kd::Tensor<float, kd::Cpu>& teacher_hidden,
                      const kd::Tensor<float, kd::Cpu>& hidden, std::int64_t rows) {
  const std::int64_t v = teacher.vocab_size(), h = teacher.hidden_size(), first = hidden[0] - rows;
  double sum = 0;
  std::vector<double> t(static_cast<std::size_t>(v)), s(t.size());
  for (std::int64_t r = first; r < hidden[0]; ++r) {
    double lt = 0, ls = 0;
    for (std::int64_t c = 0; c < v; ++c) {
      double a = 0, b = 0;
      for (std::int64_t k = 0; k < h; ++k) {
        a += static_cast<double>(teacher_hidden.data()[r * h + k]) *
             static_cast<double>(teacher.head().weight.data()[c * h + k]);
        b += static_cast<double>(hidden.data()[r * h + k]) *
             static_cast<double>(student.head().weight.data()[c * h + k]);
      }
      t[static_cast<std::size_t>(c)] = a, s[static_cast<std::size_t>(c)] = b;
      lt += std::exp(a), ls += std::exp(b);
    }
    for (std::size_t c = 0; c < t.size(); ++c) sum += std::exp(t[c]) / lt * (t[c] - std::log(lt) - s[c] + std::log(ls));
  }
  return sum / static_cast<double>(rows);
}

}  // namespace

int main(int argc, char** argv) try {
  std::string model_path, ids_path, student_kind = "float32";
  int steps = 4, batch = 4, length = 256, rank = 16, threads = 0;
  double rate = 1e-3, alpha = 32;
  bool recompute = false;
  std::uint64_t seed = 1;
  kd::Options options{"bench_step", "Times one training step; prints a JSON line a step and a summary."};
  options.add("model", model_path, "MODEL", "teacher and student")
      .required()
      .add("ids", ids_path, "FILE",
           "lines of {\"ids\": [...]}, the same at every step (default: the formula of peers/common.py)")
      .add("student", student_kind, "KIND", "how the rounded student's weights are kept")
      .choices({"float32", "int4"})
      .add("steps", steps, "N", "measured steps, after one warm-up")
      .at_least(1)
      .add("batch", batch, "N", "sequences")
      .at_least(1)
      .add("length", length, "N", "tokens of a sequence")
      .at_least(2)
      .add("rank", rank, "N", "LoRA rank")
      .at_least(1)
      .add("alpha", alpha, "X", "LoRA alpha")
      .above(0)
      .add("rate", rate, "X", "learning rate")
      .at_least(0)
      .add("recompute", recompute, "activation recomputation")
      .common(threads, seed);
  options.parse(argc, argv);
  if (threads > 0) kd::set_thread_count(threads);

  const double load_begin = now();
  Model teacher = Model::from_pretrained(model_path);
  teacher.set_trainable(false);
  std::printf("{\"name\":\"load\",\"seconds\":%.3f}\n", now() - load_begin);
  Model student = Model::from_pretrained(model_path);
  if (student_kind == "int4") kd::quantize_linear(student, {});
  else round_linear_weights(student);
  kd::add_lora(student, {.rank = rank, .alpha = alpha, .seed = seed});

  kd::TokenBatch tokens;
  if (!ids_path.empty()) {
    tokens = kd::read_documents(ids_path, nullptr, {.vocabulary = teacher.vocab_size()});
  } else {
    std::vector<std::int32_t> row(static_cast<std::size_t>(length));
    for (int b = 0; b < batch; ++b) {
      for (int i = 0; i < length; ++i)
        row[static_cast<std::size_t>(i)] = peer_id(seed, b * length + i, teacher.vocab_size());
      tokens.append(row);
    }
  }
  const kd::TokenBatch::Rows rows = tokens.rows();
  const double scale = 1.0 / tokens.weight();
  const kd::RowInputs inputs{rows.label, rows.weight, {}};
  const std::int64_t h = student.hidden_size(), r = static_cast<std::int64_t>(rows.token.size());
  const kd::HeadLossSettings settings{.workspace_bytes = std::int64_t{128} << 20, .metrics = true, .row_values = false};

  std::vector<kd::Parameter<float, kd::Cpu>*> trained;
  for (auto* p : student.parameters())
    if (p->trainable) trained.push_back(p);
  auto optimizer = kd::AdamW{}.state<float, kd::Cpu>(trained);
  using K = kd::Kernels<kd::Cpu, float>;
  std::vector<double> seconds;
  double last = 0;
  for (int step = 0; step <= steps; ++step) {
    const double begin = now();
    student.zero_gradients();
    kd::Tensor<float, kd::Cpu> teacher_rows({r, h}), student_rows({r, h}), gradient_rows({r, h});
    {
      const kd::Tensor<float, kd::Cpu> hidden = teacher.forward(tokens);
      K::gather_rows(hidden.data(), rows.token.data(), r, h, teacher_rows.data());
    }
    const double after_teacher = now();
    {
      const kd::Tensor<float, kd::Cpu> hidden = student.forward_training(tokens, {.recompute = recompute});
      K::gather_rows(hidden.data(), rows.token.data(), r, h, student_rows.data());
    }
    const double after_student = now();
    const kd::HiddenTargets<float, kd::Cpu> targets{std::as_const(teacher_rows).view(), teacher.head()};
    const kd::HeadLossResult result =
        kd::head_loss(kd::ForwardKl{}, student.head(), std::as_const(student_rows).view(), targets, inputs, scale,
                      gradient_rows.view(), student.head_parameter(), settings);
    const double after_loss = now();
    if (step == 0) {
      kd::TokenBatch::Rows tail = rows;
      const std::int64_t checked = 4;
      const auto few = [&](const kd::Tensor<float, kd::Cpu>& x) { return x.rows(r - checked, checked); };
      const std::span<const float> ones = std::span<const float>(rows.weight).last(checked);
      const kd::HeadLossResult part =
          kd::head_loss(kd::ForwardKl{}, student.head(), few(student_rows),
                        kd::HiddenTargets<float, kd::Cpu>{few(teacher_rows), teacher.head()},
                        kd::RowInputs{std::span<const std::int32_t>(rows.label).last(checked), ones, {}}, 1.0,
                        kd::View<float, kd::Cpu>{}, static_cast<kd::Parameter<float, kd::Cpu>*>(nullptr), settings);
      const double expected = reference_loss(teacher, student, teacher_rows, student_rows, checked),
                   got = part.loss.mean();
      kd::require<kd::Error>(std::fabs(got - expected) <= 1e-5 * std::fabs(expected) + 1e-6,
                             "[bench_step] the loss is ", got, ", float64 says ", expected);
    }
    kd::Tensor<float, kd::Cpu> gradient = kd::Tensor<float, kd::Cpu>::zeros({tokens.tokens(), h});
    K::scatter_add_rows(gradient_rows.data(), rows.token.data(), r, h, gradient.data());
    student.backward(std::as_const(gradient).view());
    const double after_backward = now();
    const double norm = kd::gradient_norm(trained);
    optimizer.step(rate, norm > 1 ? 1 / norm : 1);
    const double taken = now() - begin;
    last = result.loss.mean();
    std::printf(
        "{\"step\":%d,\"loss\":%.7f,\"seconds\":%.3f,\"teacher\":%.3f,\"forward\":%.3f,\"loss_seconds\":%.3f,"
        "\"backward\":%.3f,\"update\":%.3f,\"grad_norm\":%.5f}\n",
        step, last, taken, after_teacher - begin, after_student - after_teacher, after_loss - after_student,
        after_backward - after_loss, now() - after_backward, norm);
    std::fflush(stdout);
    if (step > 0) seconds.push_back(taken);
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "{\"name\":\"kdlib "
      "%s\",\"threads\":%d,\"tokens_per_s\":%.2f,\"seconds\":%.3f,\"peak_rss_bytes\":%lld,\"peak_tensor_bytes\":%lld,"
      "\"loss\":%.7f,\"backend\":\"%s\"}\n",
      student_kind.c_str(), kd::thread_count(), static_cast<double>(tokens.tokens()) / median, median,
      static_cast<long long>(peak_rss_bytes()), static_cast<long long>(kd::memory_use<kd::Cpu>().peak.load()), last,
      kd::cpu_blas_name());
  return 0;
} catch (const std::exception& error) {
  return kd::report(error);
}
