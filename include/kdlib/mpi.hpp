// SPDX-License-Identifier: Apache-2.0
// Ranks as processes that mpirun or srun started: the component `mpi`, opt-in (KDLIB_MPI; link kdlib::mpi, which
// defines KDLIB_WITH_MPI and holds the bodies).
#ifndef KDLIB_MPI_HPP
#define KDLIB_MPI_HPP

#include <memory>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN

/// Processes of one MPI job. Every wait is a poll against the deadline: RankError, naming it, where another rank does
/// not come (killed, stopped, its host cut off) or MPI reports an error. Nothing but abort() may follow a RankError:
/// MPI_Finalize would wait for the lost rank. Not thread-safe: one thread of a process uses it.
class MpiCommunicator {
 public:
  /// All processes of the job; starts MPI on the first call. `timeout_seconds` > 0.
  static MpiCommunicator world(double timeout_seconds = 600);
  /// Ends MPI where it was started: every rank calls it when no communicator is used any more.
  static void finish();

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Blocks of at most 2 GiB - 1 byte.
  void exchange(std::span<const std::byte> in, std::span<std::byte> out);
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out);
  void broadcast(std::span<std::byte> bytes, int root);
  void barrier();
  MpiCommunicator split(int colour, int key);
  void send(std::span<const std::byte> bytes, int to);
  std::pair<int, Bytes> receive(int from);
  /// MPI_Abort: ends this process and, through mpirun, all others with exit status `code`.
  void abort(int code) noexcept;

 private:
  struct Handle;
  MpiCommunicator(std::shared_ptr<Handle> handle, double timeout_seconds);
  void wait(void* request, const char* what);
  template <class Done>
  void poll(const char* what, Done&& done);

  std::shared_ptr<Handle> handle_;
  double timeout_;
  int rank_ = 0, size_ = 1;
};

KDLIB_NAMESPACE_END

#endif
