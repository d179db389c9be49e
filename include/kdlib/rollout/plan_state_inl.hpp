// SPDX-License-Identifier: Apache-2.0
// What a checkpoint keeps of a PlanBuffer: rollouts.json with plans and tickets, rollouts.safetensors with their texts.
#ifndef KDLIB_ROLLOUT_PLAN_STATE_INL_HPP
#define KDLIB_ROLLOUT_PLAN_STATE_INL_HPP

#include <cstring>
#include <mutex>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/rollout/plan_buffer_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// Texts of all tickets, one behind the other.
struct RolloutArrays {
  std::vector<std::int32_t> ids, lengths;  // a length for each text
  std::vector<float> log_probs, teacher;   // [ids]; 0 where nothing is scored
};

KDLIB_FUNC void write_ticket(JsonWriter& json, const RolloutTicket& t, RolloutArrays& arrays) {
  std::vector<int> stopped;
  for (const RolloutText& text : t.texts) {
    arrays.lengths.push_back(static_cast<std::int32_t>(text.ids.size()));
    arrays.ids.insert(arrays.ids.end(), text.ids.begin(), text.ids.end());
    arrays.log_probs.insert(arrays.log_probs.end(), text.log_probs.begin(), text.log_probs.end());
    arrays.teacher.insert(arrays.teacher.end(), text.teacher.begin(), text.teacher.end());
    arrays.teacher.resize(arrays.ids.size(), 0.0f);
    stopped.push_back(text.stopped ? 1 : 0);
  }
  json.begin_object().member("number", t.number).member("mode", setting_text(t.mode));
  json.member("cap", t.cap).member("samples", t.samples).member("state", setting_text(t.state));
  json.member("version", t.version).member("stopped", stopped).end_object();
}

template <class X>
std::vector<X> array_of(const SafetensorsFile& file, const char* name) {
  const auto bytes = file.at(name).data;
  std::vector<X> out(bytes.size() / sizeof(X));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(X));
  return out;
}

/// Gives the texts of the arrays to tickets, in the order in which they were written.
class RolloutArrayReader {
 public:
  explicit RolloutArrayReader(const std::string& path) : path_(path) {
    const SafetensorsFile file(path);
    arrays_ = {array_of<std::int32_t>(file, "ids"), array_of<std::int32_t>(file, "lengths"),
               array_of<float>(file, "log_probs"), array_of<float>(file, "teacher")};
    require<FormatError>(arrays_.log_probs.size() == arrays_.ids.size() && arrays_.teacher.size() == arrays_.ids.size(),
                         "[rollouts] ", path, ": ", arrays_.ids.size(), " ids, ", arrays_.log_probs.size(),
                         " log-probabilities and ", arrays_.teacher.size(), " of the teacher");
  }

  RolloutText next(bool scored, bool stopped) {
    require<FormatError>(text_ < arrays_.lengths.size() && arrays_.lengths[text_] > 0 &&
                             static_cast<std::size_t>(arrays_.lengths[text_]) <= arrays_.ids.size() - at_,
                         "[rollouts] ", path_, ": text ", text_, " is not in the arrays");
    const auto n = static_cast<std::ptrdiff_t>(arrays_.lengths[text_++]), at = static_cast<std::ptrdiff_t>(at_);
    RolloutText text;
    text.ids.assign(arrays_.ids.begin() + at, arrays_.ids.begin() + at + n);
    text.log_probs.assign(arrays_.log_probs.begin() + at, arrays_.log_probs.begin() + at + n);
    if (scored) text.teacher.assign(arrays_.teacher.begin() + at, arrays_.teacher.begin() + at + n);
    text.stopped = stopped;
    at_ += static_cast<std::size_t>(n);
    return text;
  }

 private:
  std::string path_;
  RolloutArrays arrays_;
  std::size_t text_ = 0, at_ = 0;
};

KDLIB_FUNC RolloutTicket read_ticket(const Json& json, RolloutArrayReader& texts) {
  RolloutTicket t;
  t.number = json.at("number").as_int();
  const auto mode = enum_value<ReasoningMode>(json.at("mode").as_string());
  if (!mode) json.at("mode").refuse("is no mode of reasoning");
  t.mode = *mode;
  t.cap = json.at("cap").as_int();
  t.samples = json.at("samples").as_int();
  const auto state = enum_value<TicketState>(json.at("state").as_string());
  if (!state) json.at("state").refuse("is no state of a ticket");
  t.state = *state;
  const Json stopped = json.at("stopped");
  for (const Json& flag : stopped) t.texts.push_back(texts.next(t.state == TicketState::scored, flag.as_int() != 0));
  if (t.state == TicketState::open) return t;  // written again, perhaps by newer weights
  if (static_cast<std::int64_t>(t.texts.size()) != t.samples) stopped.refuse("has not a flag for each text");
  t.version = json.at("version").as_int();
  return t;
}

}  // namespace detail

KDLIB_FUNC void PlanBuffer::save(const std::string& folder) {
  drain();
  const std::lock_guard<std::mutex> lock(threads_->mutex);
  detail::RolloutArrays arrays;
  JsonWriter json(JsonStyle{.indent = 1});
  json.begin_object().member("schema", "rollouts_v1").member("next_ticket", next_ticket_).member("opened", opened_);
  json.member("published", published_).member("level", pressure_.level()).key("plans").begin_array();
  for (const auto& plan : plans_) {
    json.begin_object().member("step", plan->step).member("version", plan->version).member("level", plan->level);
    json.member("fraction", plan->point.fraction).member("shares", plan->point.shares);
    json.member("caps", plan->point.caps).member("samples", plan->point.samples).key("tickets").begin_array();
    for (const RolloutTicket& ticket : plan->tickets) detail::write_ticket(json, ticket, arrays);
    json.end_array().end_object();
  }
  json.end_array().end_object();
  SafetensorsWriter writer{join_path(folder, "rollouts.safetensors")};
  const auto shape = [](const auto& list) { return Shape{static_cast<std::int64_t>(list.size())}; };
  writer.add("ids", shape(arrays.ids), std::span<const std::int32_t>(arrays.ids));
  writer.add("lengths", shape(arrays.lengths), std::span<const std::int32_t>(arrays.lengths));
  writer.add("log_probs", shape(arrays.log_probs), std::span<const float>(arrays.log_probs));
  writer.add("teacher", shape(arrays.teacher), std::span<const float>(arrays.teacher));
  writer.commit();
  write_file_atomically(join_path(folder, "rollouts.json"), json.text());
}

KDLIB_FUNC void PlanBuffer::restore(const std::string& folder) {
  require<ConfigError>(!threads_->writer.joinable(), "[rollouts] restore() comes before the first publish()");
  const Json state = Json::parse_file(join_path(folder, "rollouts.json"));
  if (state.string_or("schema", "") != "rollouts_v1") state.refuse("is no state of rollouts");
  detail::RolloutArrayReader texts(join_path(folder, "rollouts.safetensors"));
  next_ticket_ = state.at("next_ticket").as_int();
  opened_ = state.at("opened").as_int();
  published_ = state.at("published").as_int();
  pressure_.set_level(static_cast<int>(state.at("level").as_int()));
  plans_.clear();
  for (const Json& saved : state.at("plans")) {
    auto plan = std::make_unique<RolloutPlan>();
    plan->step = saved.at("step").as_int();
    plan->version = saved.at("version").as_int();
    plan->level = static_cast<int>(saved.at("level").as_int());
    plan->point.fraction = saved.at("fraction").as_double();
    plan->point.samples = saved.at("samples").as_int();
    for (std::size_t i = 0; i < 3; ++i) {
      plan->point.shares[i] = saved.at("shares")[i].as_double();
      plan->point.caps[i] = saved.at("caps")[i].as_int();
    }
    bool open = false;
    for (const Json& ticket : saved.at("tickets")) {
      plan->tickets.push_back(detail::read_ticket(ticket, texts));
      open = open || plan->tickets.back().state == TicketState::open;
    }
    plan->point.tickets = static_cast<std::int64_t>(plan->tickets.size());
    if (open) plan->version = -1;  // its weights are gone; those that are published next write what is open
    plans_.push_back(std::move(plan));
  }
}

KDLIB_NAMESPACE_END

#endif
