// SPDX-License-Identifier: Apache-2.0
// Ranks that each have a GPU of their own and exchange over NVLink, InfiniBand or sockets: the component `nccl`, opt-in
// (KDLIB_NCCL; link kdlib::nccl, which defines KDLIB_WITH_NCCL and holds the bodies).
#ifndef KDLIB_NCCL_HPP
#define KDLIB_NCCL_HPP

#include <array>
#include <cstddef>
#include <memory>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN

/// What the ranks of one communicator have in common: made by one of them, brought to the others by any means.
struct NcclId {
  std::array<std::byte, 128> bytes{};
};

/// A communicator of NCCL (2.18 or later), without blocking calls: every wait is a poll against the deadline.
/// RankError, naming it, where another rank does not come or NCCL reports an error; nothing but abort() may follow.
/// Bytes are on the host and go through memory of the device. It sends no messages between two ranks (teacher ranks
/// need MPI). NCCL refuses two ranks on one device. Not thread-safe.
class NcclCommunicator {
 public:
  /// BackendError: NCCL does not answer.
  static NcclId make_id();
  /// Rank `rank` of `ranks` on `device`; all ranks call it. ConfigError: numbers out of range.
  static NcclCommunicator make(const NcclId& id, int rank, int ranks, int device, double timeout_seconds = 600);
  /// The ranks of another communicator (MpiCommunicator), which brings the id to all.
  static NcclCommunicator over(AnyCommunicator& ranks, int device, double timeout_seconds = 600);

  int rank() const;
  int size() const;
  void exchange(std::span<const std::byte> in, std::span<std::byte> out);
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out);
  void broadcast(std::span<std::byte> bytes, int root);
  void barrier();
  NcclCommunicator split(int colour, int key);
  /// Gives up what is on its way and ends this process with `code`; the others end when they miss it.
  void abort(int code) noexcept;

 private:
  struct Handle;
  explicit NcclCommunicator(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

  std::shared_ptr<Handle> handle_;
};

KDLIB_NAMESPACE_END

#endif
