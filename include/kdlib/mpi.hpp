// SPDX-License-Identifier: Apache-2.0
// Connects ranks (the processes that train together) that mpirun or srun started. This is the optional component `mpi`
// (CMake option KDLIB_MPI): link kdlib::mpi, which defines KDLIB_WITH_MPI and holds the bodies.
#ifndef KDLIB_MPI_HPP
#define KDLIB_MPI_HPP

#include <memory>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN

/// A communicator (core/communicator.hpp) of the processes of one MPI job. Every wait polls until the deadline.
/// RankError: another rank does not answer in time (it was killed or stopped, or its host cannot be reached), or MPI
/// reports an error; the message names the operation. Only abort() may be called after a RankError, because
/// MPI_Finalize would wait for the lost rank. Not thread-safe: only one thread of a process may use this class.
class MpiCommunicator {
 public:
  /// Returns the communicator of all processes of the job and starts MPI on the first call. ConfigError unless
  /// `timeout_seconds`, the deadline of every wait, is above 0.
  static MpiCommunicator world(double timeout_seconds = 600);
  /// Ends MPI if MPI was started. Every rank calls finish() when no communicator is used any more.
  static void finish();

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// ShapeError: a block has more than 2 GiB - 1 byte, here and in gather_all().
  void exchange(std::span<const std::byte> in, std::span<std::byte> out);
  void gather_all(std::span<const std::byte> in, std::span<std::byte> out);
  void broadcast(std::span<std::byte> bytes, int root);
  void barrier();
  MpiCommunicator split(int colour, int key);
  void send(std::span<const std::byte> bytes, int to);
  std::pair<int, Bytes> receive(int from);
  /// Calls MPI_Abort, which ends this process and, through mpirun, all others with exit status `code`.
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
