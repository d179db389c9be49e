// SPDX-License-Identifier: Apache-2.0
// Ranks are equal programs that train one student together. A communicator moves bytes between the ranks and never adds
// numbers. kdlib itself decides the order of every sum, so the order is the same on every transport.
#ifndef KDLIB_CORE_COMMUNICATOR_HPP
#define KDLIB_CORE_COMMUNICATOR_HPP

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kdlib/core/byte_pack.hpp"

KDLIB_NAMESPACE_BEGIN

/// Another rank is gone, has called abort() or did not answer before the deadline. The run cannot go on. The next start
/// resumes from the last checkpoint with the ranks that exist then.
class RankError : public Error {
 public:
  using Error::Error;
};

/// The operations of a communicator. All ranks must call them in the same order.
///   exchange(in, out)    `in` and `out` have size() equal blocks: block i of `in` goes to rank i, block i of `out`
///                        comes from rank i
///   gather_all(in, out)  `in` is the block of this rank; `out` receives the blocks of all ranks in their order
///   broadcast(bytes, r)  sends the bytes of rank r to all ranks
///   barrier()            waits until every rank has called it
///   split(colour, key)   returns the communicator of the ranks with the same colour, ordered by key, then rank
///   abort(code)          ends the run on all ranks; noexcept
/// A communicator may also send messages between two ranks. Ranks that hold a teacher need this (teacher/ranked.hpp):
///   send(bytes, r)       sends a message to rank r; copies the bytes and returns at once
///   receive(r)           waits for the oldest message of rank r, or of any rank if r = -1; returns {sender, bytes}
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

/// Holds any communicator behind one type, so that a trainer is compiled once. An empty AnyCommunicator is a single
/// rank. Copies share the communicator.
class AnyCommunicator {
 public:
  AnyCommunicator() = default;
  template <class C>
  requires(!std::same_as<C, AnyCommunicator> && Communicator<C>) AnyCommunicator(C c)  // NOLINT: implicit on purpose
      : rank_(c.rank()), size_(c.size()), body_(std::make_shared<detail::CommunicatorBodyOf<C>>(std::move(c))) {}

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// True on the rank that reads and writes the files of the run, rank 0.
  bool leads() const { return rank_ == 0; }

  void exchange(std::span<const std::byte> in, std::span<std::byte> out);
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out);
  void broadcast(std::span<std::byte> bytes, int root);
  void barrier();
  AnyCommunicator split(int colour, int key);
  void abort(int code) noexcept {
    if (body_) body_->abort(code);
  }
  /// Sends or receives a message. ConfigError: there is only one rank, or the communicator sends no messages.
  void send(std::span<const std::byte> bytes, int to);
  std::pair<int, Bytes> receive(int from);

  /// Returns the bytes of all ranks in the order of ranks. The ranks may give different numbers of bytes.
  std::vector<Bytes> gather_parts(std::span<const std::byte> mine);
  /// Returns the bytes of rank `root` on every rank. The bytes that other ranks pass are ignored.
  Bytes broadcast_bytes(Bytes bytes, int root = 0);
  /// Returns whether `mine` is true on any rank.
  bool any(bool mine);

 private:
  int rank_ = 0, size_ = 1;
  std::shared_ptr<detail::CommunicatorBody> body_;
};

/// A communicator of one rank: every operation is a copy or does nothing.
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

/// Ranks that are threads of one process, for tests and for a teacher beside the student on one device. run_ranks() or
/// make() makes the communicators of all ranks at once.
class ThreadCommunicator {
 public:
  /// Returns one communicator for each of `ranks` threads (>= 1). An operation throws RankError if it waits longer than
  /// `timeout_seconds` (> 0) for another rank. ConfigError: a number is out of its range.
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
  /// After abort(), every operation that waits or begins on any rank throws RankError.
  void abort(int code) noexcept;

 private:
  ThreadCommunicator(std::shared_ptr<detail::ThreadRoom> room, int rank) : room_(std::move(room)), rank_(rank) {}

  std::shared_ptr<detail::ThreadRoom> room_;
  int rank_;
};

/// Calls body(communicator) in `ranks` threads. If one thread throws, the others are aborted. When all threads have
/// ended, the first exception that is no RankError is thrown again, or else the first RankError.
void run_ranks(int ranks, const std::function<void(ThreadCommunicator)>& body, double timeout_seconds = 600);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/communicator_inl.hpp"
#endif

#endif
