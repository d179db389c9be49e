// SPDX-License-Identifier: Apache-2.0
// Bodies of generate.hpp.
#ifndef KDLIB_ROLLOUT_GENERATE_INL_HPP
#define KDLIB_ROLLOUT_GENERATE_INL_HPP

#include <algorithm>
#include <limits>

#include "kdlib/core/clock.hpp"
#include "kdlib/rollout/decode_graphs_inl.hpp"
#include "kdlib/rollout/draw_tokens_inl.hpp"
#include "kdlib/rollout/generate.hpp"
#include "kdlib/tensor/take_rows.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

template <class M>
std::int64_t context_length_of(const M& model, std::int64_t wanted) {
  std::int64_t length = std::numeric_limits<std::int64_t>::max();
  if constexpr (requires { model.config().context_length; }) {
    if (model.config().context_length > 0) length = model.config().context_length;
  }
  return wanted > 0 ? std::min(wanted, length) : length;
}

/// One call of generate.
template <class M>
class Writer {
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  using Cache = decltype(std::declval<const M&>().make_cache(std::int64_t{}, std::int64_t{}));
  using Ahead = AheadDecoder<M, Cache>;

 public:
  Writer(M& model, std::span<const WritingRequest> requests, const Sampler& sampler, const GenerateSettings& settings)
      : model_(model),
        requests_(requests),
        sampler_(sampler),
        settings_(settings),
        context_(context_length_of(model, settings.context_length)) {
    sampler.check();
    require<ConfigError>(settings.batch >= 1, "[generate] batch is ", settings.batch, "; it must be 1 or more");
    for (const WritingRequest& r : requests) check_prompt(r.prompt, r.source, vocabulary(), context_);
    completions_.resize(requests.size());
    progress_.sequences = static_cast<std::int64_t>(requests.size());
  }

  std::vector<Completion> run() {
    if (requests_.empty()) return {};
    const RecordingScope recording(*this, settings_.record_routing);
    const std::int64_t slots = std::min(settings_.batch, progress_.sequences);
    Cache cache = model_.make_cache(slots, capacity());
    for (std::int64_t s = slots; s-- > 0;) free_.push_back(static_cast<std::int32_t>(s));
    Ahead ahead(model_, cache, sampler_, settings_.graphs);  // behind RecordingScope: the model records by now
    while (next_ < requests_.size() || !running_.empty()) {
      while (next_ < requests_.size() && !free_.empty()) admit(cache);
      if (!running_.empty() && !continue_ahead(cache, ahead)) continue_all(cache);
      if (settings_.progress) settings_.progress(progress_);
    }
    return std::move(completions_);
  }

 private:
  /// Lets the model record its routing for as long as it lives.
  class RecordingScope {
   public:
    RecordingScope(Writer& writer, bool on) : model_(writer.model_), on_(on) {
      if (!on_) return;
      if constexpr (requires { model_.set_pending_routing(&writer.pending_); })
        model_.set_pending_routing(&writer.pending_);
      else if constexpr (requires { model_.set_routing(&writer.routing_); }) model_.set_routing(&writer.routing_);
      else fail<ConfigError>("[generate] record_routing is set, but the model has no set_routing(record); unset it");
    }
    RecordingScope(const RecordingScope&) = delete;
    RecordingScope& operator=(const RecordingScope&) = delete;
    ~RecordingScope() {
      if constexpr (requires(RoutingRecord * none) { model_.set_routing(none); })
        if (on_) model_.set_routing(nullptr);
    }

   private:
    M& model_;
    bool on_;
  };
  struct Running {
    std::size_t request;
    std::int32_t slot;
    std::size_t waiting = 1;    // ids at the end of the text that are not run yet
    std::int64_t document = 0;  // of the batch that runs now: its own, or the first sample's of the same prompt
  };

  std::int64_t vocabulary() const { return model_.head().columns(); }

  std::int64_t cap_of(const WritingRequest& r) const {
    return r.max_new_tokens > 0 ? r.max_new_tokens : sampler_.max_new_tokens;
  }

  /// The last token of a sequence is never run, so a slot needs one place less than the sequence has tokens.
  std::int64_t capacity() const {
    std::int64_t most = 0;
    for (const WritingRequest& r : requests_) {
      const auto prompt = static_cast<std::int64_t>(r.prompt.size());
      const std::int64_t given = settings_.reply ? settings_.reply_tokens : 0;
      most = std::max(most, prompt + std::min(cap_of(r) + given, context_ - prompt) - 1);
    }
    return most;
  }

  /// Runs as many waiting prompts as there are free slots and the limit of tokens allows.
  void admit(Cache& cache) {
    const double start = steady_seconds();
    TokenBatch batch;
    std::vector<Running> admitted;
    while (next_ < requests_.size() && !free_.empty()) {
      const auto length = static_cast<std::int64_t>(requests_[next_].prompt.size());
      const bool shared = !admitted.empty() && shares_prompt(next_);
      if (!shared && !admitted.empty() && batch.tokens() + length > settings_.prompt_tokens) break;
      if (!shared) batch.append(requests_[next_].prompt);
      admitted.push_back({next_++, free_.back(), 1, batch.documents() - 1});
      free_.pop_back();
    }
    progress_.prompt_tokens += batch.tokens();
    step(cache, batch, admitted);
    progress_.prompt_seconds += steady_seconds() - start;
  }

  /// Where the device draws tokens: as many steps as every sequence has room for, at most `steps_ahead`, and one wait.
  /// False where that is not possible or gains nothing.
  bool continue_ahead(Cache& cache, [[maybe_unused]] Ahead& ahead) {
    if constexpr (DecodesAhead<M, Cache>) {
      std::int64_t steps = steps_ahead;
      for (const Running& r : running_) steps = r.waiting == 1 ? std::min(steps, room_of(r)) : 1;
      if (steps < 2) return false;
      const double start = steady_seconds();
      const std::vector<Running> all = std::move(running_);
      running_.clear();
      std::vector<std::int32_t> last, slots;
      for (const Running& r : all) last.push_back(completions_[r.request].ids.back()), slots.push_back(r.slot);
      std::vector<double> uniform;
      for (std::int64_t t = 0; t < steps; ++t)
        for (const Running& r : all) uniform.push_back(uniform_for(r.request, t));
      pending_ = {};
      const auto rows = ahead.decode(last, slots, uniform, pending_);
      for (std::size_t i = 0; i < all.size(); ++i) {
        std::int64_t t = 0;
        while (t < steps && take(all[i], token_of(rows[static_cast<std::size_t>(t) * all.size() + i]))) ++t;
        progress_.new_tokens += std::min(t + 1, steps);
        if (settings_.record_routing)
          for (std::int64_t run = 0; run < std::min(t + 1, steps); ++run)
            keep_routing(static_cast<std::size_t>(run), all[i].request, static_cast<std::int64_t>(i), 1);
        Running r = all[i];
        if (t < steps && !go_on(r)) {
          finish(cache, r);
          continue;
        }
        if (t < steps) cache.truncate(r.slot, cache.length(r.slot) - steps + t + 1);  // what was run before the end
        running_.push_back(r);
      }
      progress_.decoding_seconds += steady_seconds() - start;
      return true;
    } else {
      return false;
    }
  }

  void finish(Cache& cache, const Running& r) {
    cache.truncate(r.slot, 0);
    free_.push_back(r.slot);
    ++progress_.finished;
    if (settings_.finished) settings_.finished(r.request, completions_[r.request]);
  }

  /// Request i > 0 has the prompt of the one before it, and the cache can give it what that one's pass leaves there.
  bool shares_prompt(std::size_t i) const {
    if constexpr (!requires(Cache & c, std::int32_t slot) { c.copy(slot, slot); }) return false;
    const std::span<const std::int32_t> a = requests_[i - 1].prompt, b = requests_[i].prompt;
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
  }

  void continue_all(Cache& cache) {
    const double start = steady_seconds();
    TokenBatch batch;
    std::vector<Running> all = std::move(running_);
    running_.clear();
    for (Running& r : all) {
      r.document = batch.documents();
      batch.append(std::span<const std::int32_t>(completions_[r.request].ids).last(r.waiting));
    }
    step(cache, batch, all);
    progress_.decoding_seconds += steady_seconds() - start;
  }

  /// Decodes one batch, draws a token for each of its sequences, and keeps those that go on.
  void step(Cache& cache, const TokenBatch& batch, const std::vector<Running>& sequences) {
    std::vector<std::int32_t> slots;
    for (const Running& r : sequences)
      if (r.document == static_cast<std::int64_t>(slots.size())) slots.push_back(r.slot);
    pending_ = {};
    const Tensor<T, D> hidden = model_.decode(cache, batch, slots);
    if constexpr (requires { cache.copy(slots[0], slots[0]); })
      for (const Running& r : sequences)
        if (const std::int32_t from = slots[static_cast<std::size_t>(r.document)]; from != r.slot)
          cache.copy(from, r.slot);
    std::vector<double> uniform;
    for (const Running& r : sequences) uniform.push_back(uniform_for(r.request));
    const Tensor<T, D> last = last_rows(hidden, batch, sequences);
    const std::vector<SampledToken> tokens = drawer_.draw(model_, sampler_, last.view(), uniform, pending_);
    if (settings_.record_routing)
      for (const Running& r : sequences)
        keep_routing(0, r.request, batch.offsets[static_cast<std::size_t>(r.document)], batch.length(r.document));
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      Running r = sequences[i];
      r.waiting = 1;
      if (take(r, tokens[i]) || go_on(r)) running_.push_back(r);
      else finish(cache, r);
    }
    progress_.new_tokens += static_cast<std::int64_t>(sequences.size());
  }

  /// Of the passes that ran last: what the tokens [begin, begin + count) of one chose belongs to a request.
  void keep_routing(std::size_t pass, std::size_t request, std::int64_t begin, std::int64_t count) {
    const RoutingRecord& record = pass < pending_.passes().size() ? pending_.passes()[pass] : routing_;
    require<ConfigError>(!record.empty(),
                         "[generate] record_routing is set, but the model has no mixture of experts; unset it");
    completions_[request].routing.append(record, begin, count);
  }

  /// The hidden state that each sequence's next token is drawn from.
  Tensor<T, D> last_rows(const Tensor<T, D>& hidden, const TokenBatch& batch,
                         const std::vector<Running>& sequences) const {
    const auto count = static_cast<std::int64_t>(sequences.size());
    if (batch.tokens() == count && batch.documents() == count) return hidden;
    std::vector<std::int64_t> last;
    for (const Running& r : sequences) last.push_back(batch.offsets[static_cast<std::size_t>(r.document + 1)] - 1);
    Tensor<T, D> rows(Shape{count, hidden[1]});
    take_rows<T, D>(hidden, last, rows);
    return rows;
  }

  /// The random number of the token that is written behind `later` others.
  double uniform_for(std::size_t request, std::int64_t later = 0) const {
    const Rng rng(sampler_.seed, settings_.purpose, requests_[request].step, requests_[request].row);
    return rng.uniform(static_cast<std::uint32_t>(completions_[request].ids.size() + static_cast<std::size_t>(later)));
  }

  /// Adds a token to its sequence; true when the sequence goes on.
  bool take(const Running& r, const SampledToken& token) {
    Completion& c = completions_[r.request];
    c.ids.push_back(token.id);
    c.log_probs.push_back(token.log_prob);
    c.full_log_probs.push_back(token.full_log_prob);
    c.stopped = std::find(sampler_.stop_ids.begin(), sampler_.stop_ids.end(), token.id) != sampler_.stop_ids.end();
    if (!c.given.empty()) c.given.push_back(0);
    return !c.stopped && has_room(r, 0);
  }

  /// Tokens that a sequence may still write.
  std::int64_t room_of(const Running& r) const {
    const Completion& c = completions_[r.request];
    const auto given = std::count(c.given.begin(), c.given.end(), std::uint8_t{1});
    const auto length = static_cast<std::int64_t>(c.ids.size());
    return std::min(cap_of(requests_[r.request]) - (length - given),
                    context_ - length - static_cast<std::int64_t>(requests_[r.request].prompt.size()));
  }

  /// A further token may be written behind `more` given ones.
  bool has_room(const Running& r, std::int64_t more) const {
    const Completion& c = completions_[r.request];
    const auto given = std::count(c.given.begin(), c.given.end(), std::uint8_t{1});
    const auto length = static_cast<std::int64_t>(c.ids.size());
    return length - given < cap_of(requests_[r.request]) && (more == 0 || given + more <= settings_.reply_tokens) &&
           static_cast<std::int64_t>(requests_[r.request].prompt.size()) + length + more < context_;
  }

  /// Puts the reply behind a text that has stopped; false where it is complete.
  bool go_on(Running& r) {
    Completion& c = completions_[r.request];
    if (!settings_.reply || !c.stopped || !has_room(r, 0)) return false;
    const std::vector<std::int32_t> reply = settings_.reply(r.request, c);
    if (reply.empty() || !has_room(r, static_cast<std::int64_t>(reply.size()))) return false;
    for (const std::int32_t id : reply)
      require<InputError>(id >= 0 && id < vocabulary(), "[generate] a reply has the id ", id,
                          ", outside the model's vocabulary of ", vocabulary());
    c.given.resize(c.ids.size(), 0);
    c.ids.insert(c.ids.end(), reply.begin(), reply.end());
    c.given.resize(c.ids.size(), 1);
    c.log_probs.resize(c.ids.size(), 0.0f);
    c.full_log_probs.resize(c.ids.size(), 0.0f);
    c.stopped = false;
    r.waiting += reply.size();
    return true;
  }

  M& model_;
  std::span<const WritingRequest> requests_;
  const Sampler& sampler_;
  const GenerateSettings& settings_;
  std::int64_t context_;
  std::vector<Completion> completions_;
  std::vector<Running> running_;
  std::vector<std::int32_t> free_;
  std::size_t next_ = 0;
  TokenDrawer<M> drawer_;
  PendingRouting<D> pending_;  // of the passes that ran last, where the model leaves it on its device
  RoutingRecord routing_;      // else
  GenerationProgress progress_;
};

}  // namespace detail

template <class M>
std::vector<Completion> generate(M& model, std::span<const WritingRequest> requests, const Sampler& sampler,
                                 const GenerateSettings& settings) {
  static_assert(GenerativeModel<M>,
                "kdlib: generate needs a model with make_cache, decode and head; see kdlib/rollout/concepts.hpp");
  static_assert(HasKernels<typename M::device_type, typename M::scalar_type>,
                "kdlib: no backend for the model's device and scalar type: include kdlib/backend/cpu.hpp (float, "
                "double) or kdlib/backend/cuda.hpp before "
                "generate is used");
  return detail::Writer<M>(model, requests, sampler, settings).run();
}

template <class M>
std::vector<Completion> generate(M& model, const std::vector<std::vector<std::int32_t>>& prompts,
                                 const Sampler& sampler, const GenerateSettings& settings) {
  std::vector<WritingRequest> requests;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    requests.push_back({prompts[i], 0, static_cast<std::uint32_t>(i), {}});
  return generate(model, std::span<const WritingRequest>(requests), sampler, settings);
}

KDLIB_NAMESPACE_END

#endif
