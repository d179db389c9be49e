// SPDX-License-Identifier: Apache-2.0
// Ranks: equal programs that train one student together. A communicator moves bytes between them and never adds
// numbers, so the order of every sum belongs to the library and is the same on every transport.
#ifndef KDLIB_CORE_COMMUNICATOR_HPP
#define KDLIB_CORE_COMMUNICATOR_HPP

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kdlib/core/byte_pack.hpp"

KDLIB_NAMESPACE_BEGIN

/// Another rank is gone, has called abort() or did not answer within the deadline. The run cannot go on; the next start
/// resumes from the last checkpoint with the ranks there are.
class RankError : public Error {
 public:
  using Error::Error;
};

/// Every operation is called by all ranks in the same order.
///   exchange(in, out)    both of size() equal blocks: block i of `in` goes to rank i, block i of `out` came from it
///   gather_all(in, out)  `in` is this rank's block, `out` everybody's in the order of ranks
///   broadcast(bytes, r)  rank r's bytes to all
///   split(colour, key)   those of one colour, ordered by key, then rank
///   abort(code)          noexcept: all ranks end
/// A communicator may also send messages between two ranks, which ranks that hold a teacher need (teacher/ranked.hpp):
///   send(bytes, r)       to rank r; returns at once, the bytes are copied
///   receive(r)           {its rank, bytes} of the oldest message of rank r, or of any rank (r = -1), waited for
template <class C>
concept Communicator = std::copy_constructible<C> &&
    requires(C& c, const C& k, std::span<const std::byte> in, std::span<std::byte> out, int n) {
  { k.rank() } -> std::convertible_to<int>;
  { k.size() } -> std::convertible_to<int>;
  c.exchange(in, out);
  c.gather_all(in, out);
  c.broadcast(out, n);
  c.barrier();
  { c.split(n, n) } -> std::same_as<C>;
  c.abort(n);
};

namespace detail {
[[noreturn]] void refuse_messages();

struct CommunicatorBody {
  virtual ~CommunicatorBody() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void exchange(std::span<const std::byte> in, std::span<std::byte> out) = 0;
  virtual void gather_all(std::span<const std::byte> in, std::span<std::byte> out) = 0;
  virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
  virtual void barrier() = 0;
  virtual std::unique_ptr<CommunicatorBody> split(int colour, int key) = 0;
  virtual void abort(int code) noexcept = 0;
  virtual void send(std::span<const std::byte> bytes, int to) = 0;
  virtual std::pair<int, Bytes> receive(int from) = 0;
};
template <class C>
struct CommunicatorBodyOf final : CommunicatorBody {
  explicit CommunicatorBodyOf(C c) : communicator(std::move(c)) {}
  int rank() const override { return communicator.rank(); }
  int size() const override { return communicator.size(); }
  void exchange(std::span<const std::byte> in, std::span<std::byte> out) override { communicator.exchange(in, out); }
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out) override {
    communicator.gather_all(in, out);
  }
  void broadcast(std::span<std::byte> bytes, int root) override { communicator.broadcast(bytes, root); }
  void barrier() override { communicator.barrier(); }
  std::unique_ptr<CommunicatorBody> split(int colour, int key) override {
    return std::make_unique<CommunicatorBodyOf>(communicator.split(colour, key));
  }
  void abort(int code) noexcept override { communicator.abort(code); }
  void send(std::span<const std::byte> bytes, int to) override {
    if constexpr (requires { communicator.send(bytes, to); }) communicator.send(bytes, to);
    else refuse_messages();
  }
  std::pair<int, Bytes> receive(int from) override {
    if constexpr (requires { communicator.receive(from); }) return communicator.receive(from);
    else refuse_messages();
  }
  C communicator;
};
}  // namespace detail

/// Any communicator behind one type, so that a trainer is compiled once. Without one: a single rank. Copies share it.
class AnyCommunicator {
 public:
  AnyCommunicator() = default;
  template <class C>
  requires(!std::same_as<C, AnyCommunicator> && Communicator<C>) AnyCommunicator(C c)  // NOLINT: implicit on purpose
      : rank_(c.rank()), size_(c.size()), body_(std::make_shared<detail::CommunicatorBodyOf<C>>(std::move(c))) {}

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// The rank that reads and writes the run's files.
  bool leads() const { return rank_ == 0; }

  void exchange(std::span<const std::byte> in, std::span<std::byte> out);
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out);
  void broadcast(std::span<std::byte> bytes, int root);
  void barrier();
  AnyCommunicator split(int colour, int key);
  void abort(int code) noexcept {
    if (body_) body_->abort(code);
  }
  /// ConfigError: there is one rank alone, or the communicator sends no messages.
  void send(std::span<const std::byte> bytes, int to);
  std::pair<int, Bytes> receive(int from);

  /// Everybody's bytes, of any number, in the order of ranks.
  std::vector<Bytes> gather_parts(std::span<const std::byte> mine);
  /// The root's bytes; those of other ranks are not looked at.
  Bytes broadcast_bytes(Bytes bytes, int root = 0);
  /// Whether any rank says yes.
  bool any(bool mine);

 private:
  int rank_ = 0, size_ = 1;
  std::shared_ptr<detail::CommunicatorBody> body_;
};

/// One rank: every operation is a copy.
class SelfCommunicator {
 public:
  int rank() const { return 0; }
  int size() const { return 1; }
  void exchange(std::span<const std::byte> in, std::span<std::byte> out) { gather_all(in, out); }
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out);
  void broadcast(std::span<std::byte>, int) {}
  void barrier() {}
  SelfCommunicator split(int, int) { return {}; }
  void abort(int) noexcept {}
};

namespace detail {
class ThreadRoom;
}

/// Threads of one process as ranks: for tests, and for a teacher beside the student on one device. Made by
/// run_ranks() or all at once by make().
class ThreadCommunicator {
 public:
  /// One for each of `ranks` threads (>= 1). RankError of an operation that waits longer than `timeout_seconds` (> 0)
  /// for another rank.
  static std::vector<ThreadCommunicator> make(int ranks, double timeout_seconds = 600);

  int rank() const { return rank_; }
  int size() const;
  void exchange(std::span<const std::byte> in, std::span<std::byte> out);
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out);
  void broadcast(std::span<std::byte> bytes, int root);
  void barrier();
  ThreadCommunicator split(int colour, int key);
  void send(std::span<const std::byte> bytes, int to);
  std::pair<int, Bytes> receive(int from);
  /// Every operation that waits or begins anywhere throws RankError.
  void abort(int code) noexcept;

 private:
  ThreadCommunicator(std::shared_ptr<detail::ThreadRoom> room, int rank) : room_(std::move(room)), rank_(rank) {}

  std::shared_ptr<detail::ThreadRoom> room_;
  int rank_;
};

/// Calls body(communicator) in `ranks` threads. Where one throws, the others are aborted; the first exception that is
/// no RankError (or the first) is thrown again when all have ended.
void run_ranks(int ranks, const std::function<void(ThreadCommunicator)>& body, double timeout_seconds = 600);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/communicator_inl.hpp"
#endif

#endif
