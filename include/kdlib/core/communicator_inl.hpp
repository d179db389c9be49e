// SPDX-License-Identifier: Apache-2.0
// Bodies of communicator.hpp.
#ifndef KDLIB_CORE_COMMUNICATOR_INL_HPP
#define KDLIB_CORE_COMMUNICATOR_INL_HPP

#include <algorithm>
#include <condition_variable>  // with std::chrono::duration; <chrono> itself brings streams into every program
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void check_blocks(const char* what, std::size_t in, std::size_t out, std::size_t blocks_of_in, int ranks) {
  const auto n = static_cast<std::size_t>(ranks);
  require<ShapeError>(in % blocks_of_in == 0 && in / blocks_of_in * n == out, "[", what, "] ", in, " bytes go in and ",
                      out, " come out of ", ranks, " ranks: the blocks are not equal");
}

KDLIB_FUNC void refuse_messages() {
  fail<ConfigError>(
      "[ranks] this communicator sends no messages between two ranks (send, receive), which ranks that "
      "hold a teacher need");
}

/// Where threads meet: each lays down what it has, waits for all, reads the others', and waits again.
class ThreadRoom {
 public:
  ThreadRoom(int ranks, double timeout_seconds)
      : timeout_(timeout_seconds), ranks_(ranks), laid_(static_cast<std::size_t>(ranks)) {}

  int size() const { return ranks_; }
  double timeout() const { return timeout_; }

  /// Calls read(spans) when every rank has laid down its span.
  template <class F>
  void meet(int rank, std::span<const std::byte> mine, F&& read) {
    laid_[static_cast<std::size_t>(rank)] = mine;
    wait();
    read(static_cast<const std::vector<std::span<const std::byte>>&>(laid_));
    wait();
  }

  void abort(int code) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    aborted_ = true;
    code_ = code;
    changed_.notify_all();
    for (const auto& [colour, room] : children_) room->abort(code);
  }

  void post(int from, int to, std::span<const std::byte> bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    require<RankError>(!aborted_, "[ranks] another rank has ended the run (code ", code_, ")");
    require<ConfigError>(to >= 0 && to < ranks_, "[send] rank ", to, " of ", ranks_, " ranks");
    letters_[to].push_back({from, Bytes(bytes.begin(), bytes.end())});
    changed_.notify_all();
  }
  std::pair<int, Bytes> take(int rank, int from) {
    std::unique_lock<std::mutex> lock(mutex_);
    std::vector<std::pair<int, Bytes>>& letters = letters_[rank];
    const auto found = [&] {
      return std::find_if(letters.begin(), letters.end(),
                          [from](const auto& letter) { return from < 0 || letter.first == from; });
    };
    changed_.wait_for(lock, std::chrono::duration<double>(timeout_),
                      [&] { return aborted_ || found() != letters.end(); });
    require<RankError>(!aborted_, "[ranks] another rank has ended the run (code ", code_, ")");
    const auto at = found();
    if (at == letters.end()) {
      aborted_ = true;
      changed_.notify_all();
      fail<RankError>("[ranks] lost rank: no message came within ", timeout_, " seconds");
    }
    std::pair<int, Bytes> letter = std::move(*at);
    letters.erase(at);
    return letter;
  }

  /// The room of a colour, made by whoever asks first; forget_children() when all have it.
  std::shared_ptr<ThreadRoom> child(int colour, int ranks) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::shared_ptr<ThreadRoom>& room = children_[{splits_, colour}];
    if (!room) room = std::make_shared<ThreadRoom>(ranks, timeout_);
    return room;
  }
  void next_split() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++splits_;
  }

 private:
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const std::uint64_t round = round_;
    if (!aborted_ && ++arrived_ == ranks_) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    const bool met =
        changed_.wait_for(lock, std::chrono::duration<double>(timeout_), [&] { return aborted_ || round_ != round; });
    require<RankError>(!aborted_ || round_ != round, "[ranks] another rank has ended the run (code ", code_, ")");
    if (!met) {
      aborted_ = true;
      changed_.notify_all();
      fail<RankError>("[ranks] lost rank: ", ranks_ - arrived_, " of ", ranks_, " ranks did not come within ", timeout_,
                      " seconds");
    }
  }

  const double timeout_;
  const int ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::span<const std::byte>> laid_;
  std::map<std::pair<int, int>, std::shared_ptr<ThreadRoom>> children_;
  std::map<int, std::vector<std::pair<int, Bytes>>> letters_;  // by receiver: who wrote, what
  int arrived_ = 0, code_ = 0, splits_ = 0;
  std::uint64_t round_ = 0;
  bool aborted_ = false;
};

}  // namespace detail

KDLIB_FUNC void SelfCommunicator::gather_all(std::span<const std::byte> in, std::span<std::byte> out) {
  detail::check_blocks("gather_all", in.size(), out.size(), 1, 1);
  if (!in.empty() && in.data() != out.data()) std::memmove(out.data(), in.data(), in.size());
}

KDLIB_FUNC void AnyCommunicator::exchange(std::span<const std::byte> in, std::span<std::byte> out) {
  if (body_) body_->exchange(in, out);
  else SelfCommunicator().exchange(in, out);
}
KDLIB_FUNC void AnyCommunicator::gather_all(std::span<const std::byte> in, std::span<std::byte> out) {
  if (body_) body_->gather_all(in, out);
  else SelfCommunicator().gather_all(in, out);
}
KDLIB_FUNC void AnyCommunicator::broadcast(std::span<std::byte> bytes, int root) {
  if (body_) body_->broadcast(bytes, root);
}
KDLIB_FUNC void AnyCommunicator::barrier() {
  if (body_) body_->barrier();
}
KDLIB_FUNC void AnyCommunicator::send(std::span<const std::byte> bytes, int to) {
  if (body_) body_->send(bytes, to);
  else detail::refuse_messages();
}
KDLIB_FUNC std::pair<int, Bytes> AnyCommunicator::receive(int from) {
  if (!body_) detail::refuse_messages();
  return body_->receive(from);
}
KDLIB_FUNC AnyCommunicator AnyCommunicator::split(int colour, int key) {
  AnyCommunicator out;
  if (!body_) return out;
  out.body_ = body_->split(colour, key);
  out.rank_ = out.body_->rank();
  out.size_ = out.body_->size();
  return out;
}

KDLIB_FUNC std::vector<Bytes> AnyCommunicator::gather_parts(std::span<const std::byte> mine) {
  const auto ranks = static_cast<std::size_t>(size_);
  const std::size_t size = mine.size();
  std::vector<std::size_t> sizes(ranks);
  gather_all(std::as_bytes(std::span(&size, 1)), std::as_writable_bytes(std::span(sizes)));
  const std::size_t most = *std::max_element(sizes.begin(), sizes.end());
  Bytes block(most), all(most * ranks);
  if (size > 0) std::memcpy(block.data(), mine.data(), size);
  if (most > 0) gather_all(block, all);
  std::vector<Bytes> out(ranks);
  for (std::size_t r = 0; r < ranks; ++r) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(r * most);
    out[r].assign(begin, begin + static_cast<std::ptrdiff_t>(sizes[r]));
  }
  return out;
}

KDLIB_FUNC Bytes AnyCommunicator::broadcast_bytes(Bytes bytes, int root) {
  std::size_t size = bytes.size();
  broadcast(std::as_writable_bytes(std::span(&size, 1)), root);
  if (rank_ != root) bytes.assign(size, std::byte{});
  if (size > 0) broadcast(bytes, root);
  return bytes;
}

KDLIB_FUNC bool AnyCommunicator::any(bool mine) {
  const unsigned char flag = mine ? 1 : 0;
  std::vector<unsigned char> all(static_cast<std::size_t>(size_));
  gather_all(std::as_bytes(std::span(&flag, 1)), std::as_writable_bytes(std::span(all)));
  return std::find(all.begin(), all.end(), 1) != all.end();
}

KDLIB_FUNC std::vector<ThreadCommunicator> ThreadCommunicator::make(int ranks, double timeout_seconds) {
  require<ConfigError>(ranks >= 1 && timeout_seconds > 0, "[ranks] ", ranks, " ranks with a deadline of ",
                       timeout_seconds, " seconds: both must be above 0");
  const auto room = std::make_shared<detail::ThreadRoom>(ranks, timeout_seconds);
  std::vector<ThreadCommunicator> out;
  for (int r = 0; r < ranks; ++r) out.push_back(ThreadCommunicator(room, r));
  return out;
}

KDLIB_FUNC int ThreadCommunicator::size() const { return room_->size(); }

KDLIB_FUNC void ThreadCommunicator::exchange(std::span<const std::byte> in, std::span<std::byte> out) {
  const auto ranks = static_cast<std::size_t>(size());
  detail::check_blocks("exchange", in.size(), out.size(), ranks, size());
  const std::size_t block = in.size() / ranks, mine = static_cast<std::size_t>(rank_);
  room_->meet(rank_, in, [&](const auto& laid) {
    for (std::size_t r = 0; r < ranks; ++r) {
      require<ShapeError>(laid[r].size() == in.size(), "[exchange] rank ", r, " brings ", laid[r].size(),
                          " bytes and rank ", rank_, " ", in.size());
      if (block > 0) std::memcpy(out.data() + r * block, laid[r].data() + mine * block, block);
    }
  });
}

KDLIB_FUNC void ThreadCommunicator::gather_all(std::span<const std::byte> in, std::span<std::byte> out) {
  detail::check_blocks("gather_all", in.size(), out.size(), 1, size());
  room_->meet(rank_, in, [&](const auto& laid) {
    for (std::size_t r = 0; r < laid.size(); ++r) {
      require<ShapeError>(laid[r].size() == in.size(), "[gather_all] rank ", r, " brings ", laid[r].size(),
                          " bytes and rank ", rank_, " ", in.size());
      if (!in.empty()) std::memcpy(out.data() + r * in.size(), laid[r].data(), in.size());
    }
  });
}

KDLIB_FUNC void ThreadCommunicator::broadcast(std::span<std::byte> bytes, int root) {
  room_->meet(rank_, bytes, [&](const auto& laid) {
    const std::span<const std::byte> from = laid.at(static_cast<std::size_t>(root));
    require<ShapeError>(from.size() == bytes.size(), "[broadcast] rank ", root, " sends ", from.size(),
                        " bytes and rank ", rank_, " takes ", bytes.size());
    if (rank_ != root && !bytes.empty()) std::memcpy(bytes.data(), from.data(), bytes.size());
  });
}

KDLIB_FUNC void ThreadCommunicator::barrier() {
  room_->meet(rank_, {}, [](const auto&) {});
}

KDLIB_FUNC ThreadCommunicator ThreadCommunicator::split(int colour, int key) {
  const int mine[2] = {colour, key};
  std::vector<int> all(2 * static_cast<std::size_t>(size()));
  gather_all(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  int ranks = 0, place = 0;
  for (int r = 0; r < size(); ++r) {
    const auto at = 2 * static_cast<std::size_t>(r);
    if (all[at] != colour) continue;
    ++ranks;
    if (all[at + 1] < key || (all[at + 1] == key && r < rank_)) ++place;
  }
  ThreadCommunicator out(room_->child(colour, ranks), place);
  barrier();
  if (rank_ == 0) room_->next_split();
  barrier();
  return out;
}

KDLIB_FUNC void ThreadCommunicator::send(std::span<const std::byte> bytes, int to) { room_->post(rank_, to, bytes); }
KDLIB_FUNC std::pair<int, Bytes> ThreadCommunicator::receive(int from) { return room_->take(rank_, from); }

KDLIB_FUNC void ThreadCommunicator::abort(int code) noexcept { room_->abort(code); }

KDLIB_FUNC void run_ranks(int ranks, const std::function<void(ThreadCommunicator)>& body, double timeout_seconds) {
  std::vector<ThreadCommunicator> all = ThreadCommunicator::make(ranks, timeout_seconds);
  std::mutex mutex;
  std::exception_ptr cause, lost;
  std::vector<std::thread> threads;
  for (ThreadCommunicator& communicator : all)
    threads.emplace_back([&] {
      try {
        body(communicator);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        std::exception_ptr& kept = [&]() -> std::exception_ptr& {
          try {
            throw;
          } catch (const RankError&) {
            return lost;
          } catch (...) {
            return cause;
          }
        }();
        if (!kept) kept = std::current_exception();
        communicator.abort(1);
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (cause) std::rethrow_exception(cause);
  if (lost) std::rethrow_exception(lost);
}

KDLIB_NAMESPACE_END

#endif
