// SPDX-License-Identifier: Apache-2.0
// A training step on a real model: live teacher, student (weights rounded to int4, kept as scalars), both in float32 or
// bfloat16, with LoRA r = 16 on all linear layers, batch 4 x 256, forward KL over every position, AdamW, clipping. With
// --new-tokens the ids are prompts, the student writes behind them first, and what it wrote is marked by reverse KL: a
// whole on-policy step. The peer is benchmarks/peers/trl_step.py, which takes the same ids (--ids) and prints the same
// loss at step 0. Checked before it is timed: the loss of head_loss against float64 on the last rows.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/kdlib.hpp"
#include "kdlib/tools/blas_kernels.hpp"
#include "kdlib/tools/options.hpp"

namespace kd = kdlib;

namespace {

template <class T>
using Model = kd::Decoder<kd::Cpu, T>;

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
template <class T>
void round_linear_weights(Model<T>& model) {
  for (kd::Linear<kd::Cpu, T>* linear : model.linears()) {
    kd::Parameter<T, kd::Cpu>* weight = model.find_parameter(linear->path + ".weight");
    kd::require<kd::Error>(weight != nullptr, "[bench_step] no weight ", linear->path);
    kd::Tensor<T, kd::Cpu> copy = weight->value.clone();
    kd::parallel_for(copy.count() / 64, 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t g = begin; g < end; ++g) {
        T* w = copy.data() + g * 64;
        float largest = 0;
        for (int i = 0; i < 64; ++i) largest = std::max(largest, std::fabs(static_cast<float>(w[i])));
        const float scale = std::max(largest / 7.5f, 1.17549435e-38f), inverse = 1.0f / scale;
        for (int i = 0; i < 64; ++i) {
          const float code = std::nearbyintf(static_cast<float>(w[i]) * inverse);
          w[i] = static_cast<T>(std::min(7.0f, std::max(-8.0f, code)) * scale);
        }
      }
    });
    weight->value = copy;
  }
}

/// Mean forward KL (`reverse`: reverse KL) of the last rows in double precision, from the same hidden states.
template <class T>
double reference_loss(const Model<T>& teacher, const Model<T>& student, const kd::Tensor<T, kd::Cpu>& teacher_hidden,
                      const kd::Tensor<T, kd::Cpu>& hidden, std::int64_t rows, bool reverse) {
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
    for (std::size_t c = 0; c < t.size(); ++c) {
      const double log_t = t[c] - std::log(lt), log_s = s[c] - std::log(ls);
      sum += reverse ? std::exp(log_s) * (log_s - log_t) : std::exp(log_t) * (log_t - log_s);
    }
  }
  return sum / static_cast<double>(rows);
}

struct Settings {
  std::string model, ids, student = "rounded", dtype = "float32";
  int steps = 4, batch = 4, length = 256, new_tokens = 0, rank = 16, threads = 0;
  double rate = 1e-3, alpha = 32;
  bool recompute = false, teacher_alone = false;
  std::uint64_t seed = 1;

  Settings(int argc, char** argv) {
    kd::Options options{"bench_step", "Times one training step; prints a JSON line a step and a summary."};
    options.add("model", model, "MODEL", "teacher and student")
        .required()
        .add("ids", ids, "FILE",
             "lines of {\"ids\": [...]}, the same at every step (default: the formula of peers/common.py)")
        .add("student", student, "KIND", "the rounded student's weights: scalars, or codes")
        .choices({"rounded", "float32", "int4"})
        .add("dtype", dtype, "TYPE", "scalars of both models")
        .choices({"float32", "bfloat16"})
        .add("steps", steps, "N", "measured steps, after one warm-up")
        .at_least(1)
        .add("batch", batch, "N", "sequences")
        .at_least(1)
        .add("length", length, "N", "tokens of a sequence")
        .at_least(2)
        .add("new-tokens", new_tokens, "N",
             "a whole on-policy step: the ids are prompts, the student writes N tokens behind each (temperature 1, no "
             "end), which are what counts, and the loss is reverse KL; 0: the ids are given text")
        .at_least(0)
        .add("rank", rank, "N", "LoRA rank")
        .at_least(1)
        .add("alpha", alpha, "X", "LoRA alpha")
        .above(0)
        .add("rate", rate, "X", "learning rate")
        .at_least(0)
        .add("recompute", recompute, "activation recomputation")
        .add("teacher-alone", teacher_alone, "time the teacher's forward pass with the logits of every row instead")
        .common(threads, seed);
    options.parse(argc, argv);
  }
};

kd::TokenBatch batch_of(const Settings& settings, std::int64_t vocabulary) {
  if (!settings.ids.empty()) return kd::read_documents(settings.ids, nullptr, {.vocabulary = vocabulary});
  kd::TokenBatch tokens;
  std::vector<std::int32_t> row(static_cast<std::size_t>(settings.length));
  for (int b = 0; b < settings.batch; ++b) {
    for (int i = 0; i < settings.length; ++i)
      row[static_cast<std::size_t>(i)] = peer_id(settings.seed, b * settings.length + i, vocabulary);
    tokens.append(row);
  }
  return tokens;
}

/// The seconds of a step's parts.
struct StepTimes {
  double write = 0, teacher = 0, forward = 0, loss = 0, backward = 0, update = 0;
  double total() const { return write + teacher + forward + loss + backward + update; }
};

/// One training step, in parts that can be timed, always on the same batch or prompts.
template <class T>
class Step {
 public:
  Step(Model<T>& teacher, Model<T>& student, const Settings& settings)
      : teacher_(teacher),
        student_(student),
        settings_(settings),
        given_(batch_of(settings, teacher.vocab_size())),
        tokens_(given_),
        rows_(tokens_.rows()),
        trained_(kd::trainable_parameters(student)),
        optimizer_(kd::AdamW{}.template state<T, kd::Cpu>(trained_)) {}

  /// Given tokens, or those that were written.
  std::int64_t tokens() const {
    return settings_.new_tokens > 0 ? static_cast<std::int64_t>(rows_.token.size()) : tokens_.tokens();
  }
  double loss() const { return loss_; }
  double norm() const { return norm_; }

  StepTimes run() {
    StepTimes times;
    student_.zero_gradients();
    double begin = now();
    const auto lap = [&begin] {
      const double last = std::exchange(begin, now());
      return begin - last;
    };
    if (settings_.new_tokens > 0) write();
    times.write = lap();
    teacher_rows_ = counted_rows(teacher_.forward(tokens_));
    times.teacher = lap();
    student_rows_ = counted_rows(student_.forward_training(tokens_, {.recompute = settings_.recompute}));
    times.forward = lap();
    Tensor gradient_rows(student_rows_.shape());
    loss_ = loss_of(student_rows_.view(), std::as_const(teacher_rows_).view(), {rows_.label, rows_.weight, {}},
                    1.0 / tokens_.weight(), gradient_rows.view(), student_.head_parameter());
    times.loss = lap();
    Tensor gradient = Tensor::zeros({tokens_.tokens(), student_.hidden_size()});
    Kernels::scatter_add_rows(gradient_rows.data(), rows_.token.data(), gradient_rows[0], gradient_rows[1],
                              gradient.data());
    student_.backward(std::as_const(gradient).view());
    times.backward = lap();
    norm_ = kd::gradient_norm(trained_);
    optimizer_.step(settings_.rate, norm_ > 1 ? 1 / norm_ : 1);
    times.update = lap();
    return times;
  }

  /// Compares the loss of the last step's last four rows with float64.
  void check() const {
    constexpr std::int64_t checked = 4;
    const std::int64_t first = student_rows_[0] - checked;
    const double got = loss_of(student_rows_.rows(first, checked), teacher_rows_.rows(first, checked),
                               {std::span<const std::int32_t>(rows_.label).last(checked),
                                std::span<const float>(rows_.weight).last(checked),
                                {}},
                               1.0, kd::View<T, kd::Cpu>{}, static_cast<kd::Parameter<T, kd::Cpu>*>(nullptr));
    const double expected =
        reference_loss(teacher_, student_, teacher_rows_, student_rows_, checked, settings_.new_tokens > 0);
    kd::require<kd::Error>(std::fabs(got - expected) <= 1e-5 * std::fabs(expected) + 1e-6, "[bench_step] the loss is ",
                           got, ", float64 says ", expected);
  }

 private:
  using Tensor = kd::Tensor<T, kd::Cpu>;
  using Kernels = kd::Kernels<kd::Cpu, T>;
  static constexpr kd::HeadLossSettings head_settings{
      .workspace_bytes = std::int64_t{128} << 20, .metrics = true, .row_values = false};

  /// The mean of the rows: forward KL of given text, reverse KL of what the student wrote.
  double loss_of(kd::View<const T, kd::Cpu> student, kd::View<const T, kd::Cpu> teacher, const kd::RowInputs& rows,
                 double scale, kd::View<T, kd::Cpu> gradient, kd::Parameter<T, kd::Cpu>* head) const {
    const kd::HiddenTargets<T, kd::Cpu> targets{teacher, teacher_.head()};
    const auto mean = [&](const auto& loss) {
      return kd::head_loss(loss, student_.head(), student, targets, rows, scale, gradient, head, head_settings)
          .loss.mean();
    };
    return settings_.new_tokens > 0 ? mean(kd::ReverseKl{}) : mean(kd::ForwardKl{});
  }

  /// The student writes behind each prompt; other random numbers in each step.
  void write() {
    std::vector<kd::WritingRequest> requests;
    for (std::int64_t b = 0; b < given_.documents(); ++b) {
      const auto begin = static_cast<std::size_t>(given_.offsets[static_cast<std::size_t>(b)]);
      const auto length = static_cast<std::size_t>(given_.length(b));
      requests.push_back({.prompt = std::span<const std::int32_t>(given_.ids).subspan(begin, length),
                          .step = step_,
                          .row = static_cast<std::uint32_t>(b)});
    }
    ++step_;
    const kd::Sampler sampler{.max_new_tokens = settings_.new_tokens, .seed = settings_.seed};
    const std::vector<kd::Completion> texts =
        kd::generate(student_, std::span<const kd::WritingRequest>(requests), sampler, {.batch = given_.documents()});
    tokens_ = {};
    for (std::size_t b = 0; b < texts.size(); ++b) kd::append_completion(tokens_, requests[b].prompt, texts[b]);
    rows_ = tokens_.rows();
  }

  Tensor counted_rows(const Tensor& hidden) const {
    Tensor rows({static_cast<std::int64_t>(rows_.token.size()), hidden[1]});
    Kernels::gather_rows(hidden.data(), rows_.token.data(), rows[0], rows[1], rows.data());
    return rows;
  }

  Model<T>& teacher_;
  Model<T>& student_;
  const Settings& settings_;
  const kd::TokenBatch given_;
  kd::TokenBatch tokens_;
  kd::TokenBatch::Rows rows_;
  std::uint32_t step_ = 0;
  std::vector<kd::Parameter<T, kd::Cpu>*> trained_;
  kd::AdamW::State<T, kd::Cpu> optimizer_;
  Tensor teacher_rows_, student_rows_;
  double loss_ = 0, norm_ = 0;
};

/// Times the teacher's forward pass and the logits of all rows, 256 MiB of them at a time, into the same memory.
template <class T>
void time_teacher(Model<T>& teacher, const Settings& settings) {
  const kd::TokenBatch tokens = batch_of(settings, teacher.vocab_size());
  const std::int64_t v = teacher.vocab_size(), h = teacher.hidden_size(), chunk = (std::int64_t{64} << 20) / v;
  kd::Tensor<float, kd::Cpu> logits({chunk, v});
  std::vector<double> seconds;
  std::int64_t rows = 0;
  for (int i = 0; i <= settings.steps; ++i) {
    const double begin = now();
    const kd::Tensor<T, kd::Cpu> hidden = teacher.forward(tokens);
    rows = hidden[0];
    for (std::int64_t r = 0; r < rows; r += chunk)
      kd::Kernels<kd::Cpu, T>::gemm(false, true, std::min(chunk, rows - r), v, h, 1, hidden.data() + r * h, h,
                                    teacher.head().weight.data(), h, 0, logits.data(), v);
    if (i > 0) seconds.push_back(now() - begin);
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf("{\"name\":\"teacher with logits\",\"threads\":%d,\"tokens_per_s\":%.2f,\"seconds\":%.3f}\n",
              kd::thread_count(), static_cast<double>(rows) / median, median);
}

template <class T>
int bench(const Settings& settings) {
  const double load_begin = now();
  Model<T> teacher = Model<T>::from_pretrained(settings.model);
  teacher.set_trainable(false);
  std::printf("{\"name\":\"load\",\"seconds\":%.3f}\n", now() - load_begin);
  if (settings.teacher_alone) {
    time_teacher(teacher, settings);
    return 0;
  }
  Model<T> student = Model<T>::from_pretrained(settings.model);
  if (settings.student == "int4") kd::quantize_linear(student, {});
  else round_linear_weights(student);
  kd::add_lora(student, {.rank = settings.rank, .alpha = settings.alpha, .seed = settings.seed});

  Step<T> step(teacher, student, settings);
  std::vector<double> seconds;
  for (int i = 0; i <= settings.steps; ++i) {
    const StepTimes times = step.run();
    if (i == 0) step.check();
    else seconds.push_back(times.total());
    std::printf(
        "{\"step\":%d,\"loss\":%.7f,\"seconds\":%.3f,\"write\":%.3f,\"teacher\":%.3f,\"forward\":%.3f,\"loss_seconds\":"
        "%.3f,"
        "\"backward\":%.3f,\"update\":%.3f,\"grad_norm\":%.5f}\n",
        i, step.loss(), times.total(), times.write, times.teacher, times.forward, times.loss, times.backward,
        times.update, step.norm());
    std::fflush(stdout);
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "{\"name\":\"kdlib "
      "%s\",\"dtype\":\"%s\",\"threads\":%d,\"tokens_per_s\":%.2f,\"seconds\":%.3f,\"peak_rss_bytes\":%lld,\"peak_"
      "tensor_bytes\":%lld,"
      "\"loss\":%.7f,\"backend\":\"%s\"}\n",
      settings.student.c_str(), settings.dtype.c_str(), kd::thread_count(), static_cast<double>(step.tokens()) / median,
      median, static_cast<long long>(peak_rss_bytes()), static_cast<long long>(kd::memory_use<kd::Cpu>().peak.load()),
      step.loss(), kd::Kernels<kd::Cpu, T>::environment().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  kd::choose_blas_kernels();
  const Settings settings(argc, argv);
  if (settings.threads > 0) kd::set_thread_count(settings.threads);
  return settings.dtype == "bfloat16" ? bench<kd::bf16>(settings) : bench<float>(settings);
} catch (const std::exception& error) {
  return kd::report(error);
}
