// SPDX-License-Identifier: Apache-2.0
// Connects ranks (the processes that train together) that each have a GPU of their own, over NVLink, InfiniBand or
// sockets. This is the optional component `nccl` (CMake option KDLIB_NCCL): link kdlib::nccl, which defines
// KDLIB_WITH_NCCL and holds the bodies.
#ifndef KDLIB_NCCL_HPP
#define KDLIB_NCCL_HPP

#include <array>
#include <cstddef>
#include <memory>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN

/// The id that all ranks of one communicator share. One rank makes the id, and the program brings it to the others by
/// any means.
struct NcclId {
  std::array<std::byte, 128> bytes{};
};

/// A communicator (core/communicator.hpp) on NCCL 2.18 or later. NCCL is called without blocking: every wait polls
/// until the deadline. RankError: another rank does not answer in time, or NCCL reports an error; the message names the
/// operation, and only abort() may be called afterwards. The bytes that callers pass are on the host and are copied
/// through device memory. This communicator sends no messages between two ranks, so ranks that hold a teacher need MPI.
/// NCCL refuses two ranks on one device. Not thread-safe.
class NcclCommunicator {
 public:
  /// Makes a new id. BackendError: NCCL gives none.
  static NcclId make_id();
  /// Makes rank `rank` (0 <= rank < ranks) on CUDA device `device` (>= 0) with a deadline of `timeout_seconds` (> 0)
  /// for every wait. All ranks must call make(). ConfigError: a number is out of its range.
  static NcclCommunicator make(const NcclId& id, int rank, int ranks, int device, double timeout_seconds = 600);
  /// Connects the ranks of another communicator, such as MpiCommunicator. Rank 0 makes the id, and `ranks` brings it to
  /// all.
  static NcclCommunicator over(AnyCommunicator& ranks, int device, double timeout_seconds = 600);

  int rank() const;
  int size() const;
  void exchange(std::span<const std::byte> in, std::span<std::byte> out);
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out);
  void broadcast(std::span<std::byte> bytes, int root);
  void barrier();
  NcclCommunicator split(int colour, int key);
  /// Gives up all exchanges that are under way and ends this process with exit status `code`. Other ranks end when
  /// their wait for this rank reaches the deadline.
  void abort(int code) noexcept;

 private:
  struct Handle;
  explicit NcclCommunicator(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

  std::shared_ptr<Handle> handle_;
};

KDLIB_NAMESPACE_END

#endif
