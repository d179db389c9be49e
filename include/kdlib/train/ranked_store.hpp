// SPDX-License-Identifier: Apache-2.0
// Checkpoints and metrics of a run on several ranks: the first rank keeps the files, and all ranks get what is read
// from them.
#ifndef KDLIB_TRAIN_RANKED_STORE_HPP
#define KDLIB_TRAIN_RANKED_STORE_HPP

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/core/byte_pack.hpp"
#include "kdlib/core/communicator.hpp"
#include "kdlib/train/state.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
void pack_settings(BytePacker& out, const SettingsList& list);
SettingsList unpack_settings(ByteUnpacker& in);
void pack_tensors(BytePacker& out, const std::vector<HostTensor>& tensors);
std::vector<HostTensor> unpack_tensors(ByteUnpacker& in);
}  // namespace detail

/// Turns a state, tensors included, into bytes and back.
Bytes pack_state(const TrainState& state);
TrainState unpack_state(std::span<const std::byte> bytes);

/// A CheckpointStore whose files the first rank keeps: RankedStore<Directory>{communicator, path}. Every rank must call
/// every operation. What the first rank reads is sent to all ranks, so that the others need no access to the files.
template <class Store>
class RankedStore {
 public:
  static constexpr bool is_of_ranks = true;

  /// Makes the store from `arguments` on the first rank only.
  template <class... Arguments>
  explicit RankedStore(AnyCommunicator communicator, Arguments&&... arguments)
      : communicator_(std::move(communicator)) {
    if (communicator_.leads()) store_.emplace(std::forward<Arguments>(arguments)...);
  }

  template <class... Extra>
  void save(const TrainState& state, Extra&&... extra) {
    if (store_) store_->save(state, std::forward<Extra>(extra)...);
  }
  std::optional<TrainState> latest() { return shared(store_ ? store_->latest() : std::nullopt); }
  std::optional<TrainState> best() { return shared(store_ ? store_->best() : std::nullopt); }
  template <class... Extra>
  void save_best(const TrainState& state, Extra&&... extra) {
    if (store_) store_->save_best(state, std::forward<Extra>(extra)...);
  }
  void set_damaged_aside() {
    if (store_) store_->set_damaged_aside();
  }
  void prune(std::int64_t keep) {
    if (store_) store_->prune(keep);
  }
  void clear() {
    if (store_) store_->clear();
  }
  /// Returns the notes of the store on the first rank, and nothing on other ranks.
  std::vector<std::string> notes() const { return store_ ? store_->notes() : std::vector<std::string>(); }

 private:
  std::optional<TrainState> shared(std::optional<TrainState> state) {
    if (communicator_.size() == 1 || !communicator_.any(state.has_value())) return state;
    const Bytes bytes = communicator_.broadcast_bytes(state ? pack_state(*state) : Bytes());
    return state ? std::move(state) : unpack_state(bytes);
  }

  AnyCommunicator communicator_;
  std::optional<Store> store_;
};

/// A MetricSink whose numbers only the first rank writes: RankedSink<JsonLines>{communicator, path}.
template <class Sink>
class RankedSink {
 public:
  static constexpr bool is_of_ranks = true;

  template <class... Arguments>
  explicit RankedSink(const AnyCommunicator& communicator, Arguments&&... arguments) {
    if (communicator.leads()) sink_.emplace(std::forward<Arguments>(arguments)...);
  }

  void scalar(std::string_view name, std::int64_t step, double value) {
    if (sink_) sink_->scalar(name, step, value);
  }
  void flush() {
    if (sink_) sink_->flush();
  }
  void rewind(std::int64_t step) {
    if (sink_) sink_->rewind(step);
  }

 private:
  std::optional<Sink> sink_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/train/ranked_store_inl.hpp"
#endif

#endif
