// SPDX-License-Identifier: Apache-2.0
// Bodies of rescored_mix.hpp.
#ifndef KDLIB_DATA_RESCORED_MIX_INL_HPP
#define KDLIB_DATA_RESCORED_MIX_INL_HPP

#include <charconv>
#include <cmath>
#include <utility>

#include "kdlib/data/rescore.hpp"
#include "kdlib/data/rescored_mix.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_FUNC std::pair<double, double> mean_and_deviation(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double x : values) sum += x;
  const double mean = values.empty() ? 0 : sum / static_cast<double>(values.size());
  for (const double x : values) squares += (x - mean) * (x - mean);
  return {mean, values.empty() ? 0 : std::sqrt(squares / static_cast<double>(values.size()))};
}

/// A | B | C ... of a cursor of several parts.
KDLIB_FUNC std::vector<std::string> cursor_parts(const SourceCursor& cursor) {
  std::vector<std::string> parts(1);
  for (const char c : cursor) {
    if (c == '|') parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}
}  // namespace detail

KDLIB_FUNC RescoredMix::RescoredMix(IndexedDataset plain, IndexedDataset rescored, RescoredMixSettings settings)
    : plain_(std::move(plain)), rescored_(std::move(rescored)), settings_(settings), weights_(settings.confidence) {
  require<ConfigError>(rescored_.shards().has_log_probs(), "[RescoredMix] ", rescored_.shards().root(),
                       " has no teacher's log-probabilities: give the folder that rescore wrote");
  require<ConfigError>(settings.micro_batches >= 1, "[RescoredMix] ", settings.micro_batches, " batches a step");
  is_shared_step(0, settings.share);  // refuses a share out of range
}

KDLIB_FUNC std::optional<TokenBatch> RescoredMix::next() {
  if (batches_ % settings_.micro_batches == 0) {
    require<ConfigError>(step_.empty() || weighed_,
                         "[RescoredMix] the rescored step before was trained without "
                         "weigh_rows(): call it behind SpanWeights::weigh in every step");
    step_.clear();
    weighed_ = false;
  }
  IndexedDataset& source = rescored_step() ? rescored_ : plain_;
  std::optional<TokenBatch> batch = source.next();
  if (!batch) return batch;
  if (rescored_step()) step_.insert(step_.end(), source.last_documents().begin(), source.last_documents().end());
  ++batches_;
  return batch;
}

KDLIB_FUNC SourceCursor RescoredMix::cursor() const {
  return concat("mix ", batches_, "|", plain_.cursor(), "|", rescored_.cursor(), "|", weights_.state());
}

KDLIB_FUNC void RescoredMix::seek(const SourceCursor& cursor) {
  const std::vector<std::string> parts = detail::cursor_parts(cursor);
  std::int64_t batches = -1;
  const auto read = [&batches](std::string_view number) {
    const char* end = number.data() + number.size();
    return std::from_chars(number.data(), end, batches).ptr == end && batches >= 0;
  };
  require<ConfigError>(parts.size() == 4 && parts[0].starts_with("mix ") && read(std::string_view(parts[0]).substr(4)),
                       "[cursor] '", cursor,
                       "' is no place in a mix of plain and rescored documents: resume with the settings of the first "
                       "run, or start in another folder");
  plain_.seek(parts[1]);
  rescored_.seek(parts[2]);
  weights_.restore(parts[3]);
  batches_ = batches;
  step_.clear();
}

KDLIB_FUNC SourceDescription RescoredMix::describe() const {
  SourceDescription list = {{"source", "rescored_mix"}};
  append_fields(list, "source", settings_);
  for (const IndexedDataset* part : {&plain_, &rescored_})
    for (const auto& [key, value] : part->describe())
      list.emplace_back(concat(part == &plain_ ? "plain." : "rescored.", key), value);
  return list;
}

KDLIB_FUNC void RescoredMix::weigh_rows(std::span<TokenBatch> step) {
  weighed_ = true;
  metrics_ = {{"train/kind", step_.empty() ? 0.0 : 1.0}};
  if (step_.empty()) return;
  std::vector<float> log_probs;
  std::vector<std::int32_t> spans;
  std::vector<double> means;
  std::size_t d = 0;
  const auto each_row = [&](auto&& f) {  // f(batch, token, log-probability) for rows of all documents, in order
    d = 0;
    for (TokenBatch& batch : step)
      for (std::int64_t b = 0; b < batch.documents(); ++b, ++d) {
        require<InputError>(d < step_.size() && step_[d].source == batch.sources[static_cast<std::size_t>(b)],
                            "[RescoredMix] weigh_rows() needs the batches that this source gave out for the step");
        const auto first = static_cast<std::size_t>(batch.offsets[static_cast<std::size_t>(b)]);
        for (std::size_t t = 0; t < step_[d].ids.size(); ++t)
          if (step_[d].loss[t] != 0) f(batch, first + t, step_[d].log_probs[t]);
      }
  };
  std::size_t document = ~std::size_t{0};
  std::int64_t count = 0;
  each_row([&](TokenBatch& batch, std::size_t token, float x) {
    if (document != d) means.push_back(0), count = 0, document = d;
    means.back() += (static_cast<double>(x) - means.back()) / static_cast<double>(++count);
    log_probs.push_back(x);
    spans.push_back(batch.spans[token]);
  });
  weights_.begin_step(log_probs, spans);
  std::vector<double> weights;
  each_row([&](TokenBatch& batch, std::size_t token, float x) {
    weights.push_back(weights_.weight(x, batch.spans[token]));
    batch.weights[token] *= static_cast<float>(weights.back());
  });
  measure(log_probs, spans, weights, means);
}

KDLIB_FUNC void RescoredMix::measure(const std::vector<float>& log_probs, const std::vector<std::int32_t>& spans,
                                     const std::vector<double>& weights, const std::vector<double>& example_means) {
  const auto put = [this](const std::string& name, double value) { metrics_.emplace_back(name, value); };
  const auto [example, example_sd] = detail::mean_and_deviation(example_means);
  put("teacher/example_logp", example);
  put("teacher/example_logp_sd", example_sd);
  double sum = 0, low = 0, high = 0;
  const ConfidenceSettings& c = settings_.confidence;
  for (const double w : weights) {
    sum += w;
    low += w <= c.least ? 1 : 0;
    high += w >= c.most ? 1 : 0;
  }
  const auto n = static_cast<double>(log_probs.size());
  put("train/confidence_center", weights_.center());
  put("train/confidence_mean", sum / n);
  put("train/confidence_low", low / n);
  put("train/confidence_high", high / n);
  for (std::int32_t s = 0; s < 2; ++s) {
    const std::string name = s == 0 ? "reasoning" : "final";
    std::vector<double> values;
    std::array<double, log_prob_bounds.size()> bins{};
    for (std::size_t r = 0; r < log_probs.size(); ++r) {
      if (spans[r] != s) continue;
      values.push_back(static_cast<double>(log_probs[r]));
      bins[log_prob_bin(values.back())] += 1;
    }
    if (values.empty()) continue;
    const auto [mean, deviation] = detail::mean_and_deviation(values);
    put("teacher/logp/" + name, mean);
    put("teacher/logp_sd/" + name, deviation);
    for (std::size_t i = 0; i < bins.size(); ++i)
      put(concat("teacher/logp_bin", i, "/", name), bins[i] / static_cast<double>(values.size()));
  }
}

KDLIB_NAMESPACE_END

#endif
