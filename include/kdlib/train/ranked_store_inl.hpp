// SPDX-License-Identifier: Apache-2.0
// Bodies of ranked_store.hpp.
#ifndef KDLIB_TRAIN_RANKED_STORE_INL_HPP
#define KDLIB_TRAIN_RANKED_STORE_INL_HPP

#include "kdlib/train/ranked_store.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void pack_settings(BytePacker& out, const SettingsList& list) {
  out.add(list.size());
  for (const auto& [key, value] : list) out.add(std::string_view(key)).add(std::string_view(value));
}
KDLIB_FUNC SettingsList unpack_settings(ByteUnpacker& in) {
  SettingsList list(in.get<std::size_t>());
  for (auto& [key, value] : list) key = in.text(), value = in.text();
  return list;
}

KDLIB_FUNC void pack_tensors(BytePacker& out, const std::vector<HostTensor>& tensors) {
  out.add(tensors.size());
  for (const HostTensor& tensor : tensors)
    out.add(std::string_view(tensor.name)).add(tensor.dtype).add(tensor.shape).add(tensor.bytes);
  for (const HostTensor& tensor : tensors) out.append(tensor.data.get(), tensor.bytes);
}
KDLIB_FUNC std::vector<HostTensor> unpack_tensors(ByteUnpacker& in) {
  std::vector<HostTensor> tensors(in.get<std::size_t>());
  for (HostTensor& tensor : tensors) {
    tensor.name = in.text();
    tensor.dtype = in.get<DType>();
    tensor.shape = in.get<Shape>();
    tensor.bytes = in.get<std::size_t>();
  }
  for (HostTensor& tensor : tensors) {
    const std::byte* from = in.next(tensor.bytes);
    auto copy = std::make_shared<Bytes>(from, from + tensor.bytes);
    tensor.data = std::shared_ptr<const void>(copy, copy->data());
  }
  return tensors;
}

/// Calls f(member) for the members that are numbers.
template <class State, class F>
void each_number(State& s, F&& f) {
  f(s.first_step), f(s.finished), f(s.step), f(s.skipped_steps), f(s.optimizer_steps), f(s.tokens), f(s.seconds);
  f(s.loss), f(s.best_step), f(s.best_value), f(s.evaluated_step), f(s.evaluation_pending);
}

}  // namespace detail

KDLIB_FUNC Bytes pack_state(const TrainState& state) {
  BytePacker out;
  for (const std::string* text : {&state.stage, &state.finish_reason, &state.source_cursor})
    out.add(std::string_view(*text));
  detail::each_number(state, [&](const auto& number) { out.add(number); });
  detail::pack_settings(out, state.settings);
  detail::pack_settings(out, state.environment);
  detail::pack_tensors(out, state.parameters);
  detail::pack_tensors(out, state.moments);
  return out.take();
}

KDLIB_FUNC TrainState unpack_state(std::span<const std::byte> bytes) {
  ByteUnpacker in(bytes);
  TrainState state;
  for (std::string* text : {&state.stage, &state.finish_reason, &state.source_cursor}) *text = in.text();
  detail::each_number(state, [&](auto& number) { number = in.get<std::remove_reference_t<decltype(number)>>(); });
  state.settings = detail::unpack_settings(in);
  state.environment = detail::unpack_settings(in);
  state.parameters = detail::unpack_tensors(in);
  state.moments = detail::unpack_tensors(in);
  return state;
}

KDLIB_NAMESPACE_END

#endif
