// SPDX-License-Identifier: Apache-2.0
// Bodies of asynchronous.hpp.
#ifndef KDLIB_ROLLOUT_ASYNCHRONOUS_INL_HPP
#define KDLIB_ROLLOUT_ASYNCHRONOUS_INL_HPP

#include <algorithm>
#include <charconv>

#include "kdlib/core/clock.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/rollout/asynchronous.hpp"

KDLIB_NAMESPACE_BEGIN

template <class Student>
AsynchronousRollouts<Student>::AsynchronousRollouts(Student& writer, ScoreDocument score, IndexedDataset anchor,
                                                    RolloutForm form, std::shared_ptr<ScoredTexts> scored,
                                                    AsynchronousSettings settings,
                                                    std::function<void(const std::string&)> message)
    : writer_(writer),
      anchor_(std::move(anchor)),
      form_(std::move(form)),
      scored_(std::move(scored)),
      settings_(std::move(settings)),
      curriculum_(settings_.curriculum),
      prompts_(anchor_.shards(), form_.prompt_end, settings_.max_prompt_length),
      writer_order_(prompts_.count(), settings_.seed),
      trainer_order_(writer_order_) {
  require<ConfigError>(settings_.micro_batches >= 1 && settings_.micro_batches <= settings_.curriculum.rollouts,
                       "[rollouts] ", settings_.micro_batches, " batches a step of ", settings_.curriculum.rollouts,
                       " texts");
  buffer_ = std::make_unique<PlanBuffer>(curriculum_, work(std::move(score), std::move(message)), settings_.plans);
}

template <class Student>
std::vector<std::int32_t> AsynchronousRollouts<Student>::prompt_of(const RolloutTicket& ticket,
                                                                   ShuffledOrder& order) const {
  return prompts_.at(order.at(ticket.number), ticket.mode);
}

template <class Student>
RolloutWork AsynchronousRollouts<Student>::work(ScoreDocument score, std::function<void(const std::string&)> message) {
  RolloutWork w;
  w.message = std::move(message);
  w.take_weights = [this](std::int64_t version) { take_weights(version); };
  w.write_together = [this](std::span<const RolloutTicket> tickets, const RolloutWork::Done& done) {
    write(tickets, done);
  };
  w.score = [this, score = std::move(score), order = writer_order_](const RolloutTicket& ticket,
                                                                    const RolloutText& text) mutable {
    std::vector<std::int32_t> ids = prompt_of(ticket, order);
    const std::size_t begin = ids.size();
    ids.insert(ids.end(), text.ids.begin(), text.ids.end());
    const std::vector<double> all = score(ids);
    require<ShapeError>(all.size() + 1 == ids.size(), "[rollouts] the teacher gave ", all.size(),
                        " log-probabilities for ", ids.size(), " tokens");
    return std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(begin) - 1, all.end());
  };
  w.forget = [this](std::int64_t oldest) {
    const std::lock_guard<std::mutex> lock(weights_mutex_);
    std::erase_if(weights_, [oldest](const auto& kept) { return kept.first < oldest; });
  };
  return w;
}

/// In the writer's thread.
template <class Student>
void AsynchronousRollouts<Student>::take_weights(std::int64_t version) {
  std::shared_ptr<const Weights> weights;
  {
    const std::lock_guard<std::mutex> lock(weights_mutex_);
    for (const auto& [number, kept] : weights_)
      if (number == version) weights = kept;
  }
  require(weights != nullptr, "[rollouts] the weights of version ", version, " are gone");
  std::size_t i = 0;
  for (Parameter<T, D>* p : writer_.parameters()) {
    const Tensor<T, D>& value = weights->at(i++);
    if (value.count() == 0) continue;
    require<ShapeError>(value.shape() == p->value.shape(), "[rollouts] ", p->name, " is ", value.shape(),
                        " in the student and ", p->value.shape(), " in the writer");
    Memory<D>::copy(p->value.data(), value.data(), static_cast<std::size_t>(value.bytes()));
    p->values_changed();
  }
}

/// A step of decoding reads all weights once, however many texts it writes, so several tickets are written together.
template <class Student>
void AsynchronousRollouts<Student>::write(std::span<const RolloutTicket> tickets, const RolloutWork::Done& done) {
  struct Ticket {
    std::vector<std::int32_t> prompt;
    std::string source;
    std::vector<RolloutText> texts;
    std::int64_t missing;
  };
  std::vector<Ticket> all;
  std::vector<WritingRequest> requests;
  std::vector<std::pair<std::size_t, std::size_t>> places;  // ticket and text of a request
  for (const RolloutTicket& t : tickets)
    all.push_back({prompt_of(t, writer_order_), concat("ticket ", t.number),
                   std::vector<RolloutText>(static_cast<std::size_t>(t.samples)), t.samples});
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t s = 0; s < all[i].texts.size(); ++s) {
      requests.push_back({all[i].prompt, static_cast<std::uint32_t>(tickets[i].number), static_cast<std::uint32_t>(s),
                          all[i].source, tickets[i].cap});
      places.emplace_back(i, s);
    }
  GenerateSettings how{.batch = static_cast<std::int64_t>(requests.size()), .context_length = settings_.context_length};
  how.progress = [this](const GenerationProgress&) {
    if (buffer_ && buffer_->stopping()) throw StopRequested("the rollouts end");
  };
  how.finished = [&](std::size_t request, const Completion& c) {
    Ticket& ticket = all[places[request].first];
    RolloutText& text = ticket.texts[places[request].second];
    text.ids = c.ids;
    text.log_probs = c.full_log_probs;
    text.stopped = c.stopped;
    if (--ticket.missing == 0) done(places[request].first, std::move(ticket.texts));
  };
  const Sampler sampler{.seed = settings_.seed, .stop_ids = form_.stop_ids};
  generate(writer_, std::span<const WritingRequest>(requests), sampler, how);
}

template <class Student>
void AsynchronousRollouts<Student>::publish(Student& student, std::int64_t step) {
  if (buffer_->wants_weights(step)) {
    auto weights = std::make_shared<Weights>();
    for (Parameter<T, D>* p : student.parameters())
      weights->push_back(p->trainable ? p->value.clone() : Tensor<T, D>{});
    const std::lock_guard<std::mutex> lock(weights_mutex_);
    std::erase_if(weights_, [step](const auto& kept) { return kept.first >= step; });
    weights_.emplace_back(step, std::move(weights));
  }
  buffer_->publish(step, static_cast<double>(tokens_));
}

template <class Student>
void AsynchronousRollouts<Student>::finish_taken() {
  if (!taken_is_trained()) return;
  buffer_->finish_step(taken_, steady_seconds() - taken_at_);
  tokens_ += taken_tokens_;
  taken_ = -1;
}

template <class Student>
std::optional<TokenBatch> AsynchronousRollouts<Student>::next(Student& student) {
  const std::int64_t step = batches_ / settings_.micro_batches, part = batches_ % settings_.micro_batches;
  const bool own = buffer_->is_rollout_step(step);
  if (part == 0) {
    finish_taken();
    scored_->begin_step(own);
    metrics_ = {{"train/kind", own ? 1.0 : 0.0}};
    publish(student, step);
  }
  if (!own) return anchor_batch();
  if (part == 0) {
    const RolloutPlan& plan = buffer_->take(step);
    plan_batch_ = batch_of(plan);
    measure(plan);
    taken_ = step;
    taken_at_ = steady_seconds();
  }
  const std::int64_t n = plan_batch_.documents(), begin = part * n / settings_.micro_batches,
                     end = (part + 1) * n / settings_.micro_batches;
  ++batches_;
  return plan_batch_.part(begin, end - begin);
}

template <class Student>
std::optional<TokenBatch> AsynchronousRollouts<Student>::anchor_batch() {
  std::optional<TokenBatch> batch = anchor_.next();
  if (!batch) return batch;
  batch->behaviour_log_probs.assign(batch->ids.size(), 0.0f);  // read by no unscored row
  ++batches_;
  return batch;
}

template <class Student>
TokenBatch AsynchronousRollouts<Student>::batch_of(const RolloutPlan& plan) {
  TokenBatch batch;
  taken_tokens_ = 0;
  for (const RolloutTicket& ticket : plan.tickets) {
    const std::vector<std::int32_t> prompt = prompt_of(ticket, trainer_order_);
    for (std::size_t s = 0; s < ticket.texts.size(); ++s) {
      const RolloutText& text = ticket.texts[s];
      const std::string source = concat("ticket ", ticket.number, " text ", s);
      Completion completion;
      completion.ids = text.ids;
      completion.log_probs = completion.full_log_probs = text.log_probs;
      const std::size_t before = batch.ids.size();
      append_completion(batch, prompt, completion, source);
      const std::vector<std::int32_t> spans = form_.spans(text.ids);
      batch.spans.resize(batch.ids.size(), -1);
      std::vector<float> teacher(batch.ids.size() - before, 0.0f);
      for (std::size_t i = 0; i < text.ids.size(); ++i) {  // the row of an id is the one in front of it
        batch.spans[before + prompt.size() + i - 1] = spans[i];
        teacher[prompt.size() + i - 1] = text.teacher[i];
      }
      scored_->add(source, std::move(teacher));
      taken_tokens_ += static_cast<std::int64_t>(text.ids.size());
    }
  }
  return batch;
}

template <class Student>
void AsynchronousRollouts<Student>::measure(const RolloutPlan& plan) {
  RolloutCounts counts;
  for (const RolloutTicket& t : plan.tickets)
    for (const RolloutText& text : t.texts) counts.add(t.mode, text.ids, text.stopped, form_);
  metrics_.emplace_back("curriculum/fraction", plan.point.fraction);
  for (auto& entry : counts.metrics()) metrics_.push_back(std::move(entry));
  const PlanBufferReport r = buffer_->report();
  for (const auto& [name, value] : {std::pair<const char*, double>{"staleness", static_cast<double>(r.staleness)},
                                    {"ready", static_cast<double>(r.ready)},
                                    {"open", static_cast<double>(r.open)},
                                    {"level", static_cast<double>(r.level)},
                                    {"wait_seconds", r.wait_seconds},
                                    {"write_seconds", r.write_seconds},
                                    {"score_seconds", r.score_seconds}})
    metrics_.emplace_back(concat("buffer/", name), value);
}

template <class Student>
std::vector<std::pair<std::string, double>> AsynchronousRollouts<Student>::step_metrics() const {
  std::vector<std::pair<std::string, double>> out = metrics_;
  const ScoredRowSums& sums = scored_->sums();
  const double rows = sums.rows[0] + sums.rows[1];
  if (rows == 0) return out;
  for (std::size_t s = 0; s < 2; ++s)
    if (sums.rows[s] > 0)
      out.emplace_back(s == 0 ? "train/gap/reasoning" : "train/gap/final", sums.gap[s] / sums.rows[s]);
  out.emplace_back("train/ratio", sums.ratio / rows);
  out.emplace_back("train/mismatch", sums.mismatch / rows);
  return out;
}

template <class Student>
SourceCursor AsynchronousRollouts<Student>::cursor() const {
  return concat("rollouts ", batches_, " ", tokens(), "|", anchor_.cursor());
}

template <class Student>
void AsynchronousRollouts<Student>::seek(const SourceCursor& cursor) {
  const std::size_t bar = cursor.find('|'), space = cursor.find(' ', 9);
  std::int64_t batches = -1, tokens = -1;
  const auto read = [&cursor](std::size_t begin, std::size_t end, std::int64_t& out) {
    return std::from_chars(cursor.data() + begin, cursor.data() + end, out).ptr == cursor.data() + end && out >= 0;
  };
  require<ConfigError>(cursor.starts_with("rollouts ") && bar != std::string::npos && space < bar &&
                           read(9, space, batches) && read(space + 1, bar, tokens),
                       "[cursor] '", cursor,
                       "' is no place in rollouts: resume with the settings of the first run, or start in another "
                       "folder");
  anchor_.seek(cursor.substr(bar + 1));
  batches_ = batches;
  tokens_ = tokens;
  taken_ = -1;  // a plan that was taken stays in the buffer until its step is trained
}

template <class Student>
SourceDescription AsynchronousRollouts<Student>::describe() const {
  SourceDescription list = {{"source", "rollouts"}};
  append_fields(list, "source", settings_.plans);
  list.emplace_back("source.micro_batches", setting_text(settings_.micro_batches));
  list.emplace_back("source.max_prompt_length", setting_text(settings_.max_prompt_length));
  list.emplace_back("source.context_length", setting_text(settings_.context_length));
  list.emplace_back("source.seed", setting_text(settings_.seed));
  for (const auto& [key, value] : curriculum_.describe()) list.emplace_back(key, value);
  for (const auto& [key, value] : anchor_.describe()) list.emplace_back("anchor." + key, value);
  return list;
}

template <class Student>
void AsynchronousRollouts<Student>::save(const std::string& folder) {
  finish_taken();
  buffer_->save(folder);
}

KDLIB_NAMESPACE_END

#endif
