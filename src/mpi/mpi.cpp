// SPDX-License-Identifier: Apache-2.0
// kdlib::mpi: the bodies of kdlib/mpi.hpp.
#include "kdlib/mpi.hpp"

#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <list>

#include "kdlib/core/clock.hpp"

KDLIB_NAMESPACE_BEGIN
namespace {

void check(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail<RankError>("[ranks] lost rank: ", what, ": MPI says ", text);
}

int count_of(std::size_t bytes, const char* what) {
  require<ShapeError>(bytes <= static_cast<std::size_t>(std::numeric_limits<int>::max()), "[", what, "] a block of ",
                      bytes, " bytes; MPI takes at most 2147483647 at once");
  return static_cast<int>(bytes);
}

constexpr std::size_t message_piece = std::size_t{1} << 30;
constexpr int size_tag = 7, bytes_tag = 8;

bool is_running() {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  return started != 0 && ended == 0;
}

}  // namespace

struct MpiCommunicator::Handle {
  /// A piece of a message on its way.
  struct Sent {
    Bytes bytes;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  MPI_Comm comm = MPI_COMM_NULL;
  bool owned = false;
  std::list<Sent> sent;

  ~Handle() {
    if (owned && is_running()) MPI_Comm_free(&comm);
  }
};

MpiCommunicator::MpiCommunicator(std::shared_ptr<Handle> handle, double timeout_seconds)
    : handle_(std::move(handle)), timeout_(timeout_seconds) {
  MPI_Comm_set_errhandler(handle_->comm, MPI_ERRORS_RETURN);
  check(MPI_Comm_rank(handle_->comm, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(handle_->comm, &size_), "MPI_Comm_size");
}

MpiCommunicator MpiCommunicator::world(double timeout_seconds) {
  require<ConfigError>(timeout_seconds > 0, "[mpi] the deadline is ", timeout_seconds, " seconds; it must be above 0");
  int started = 0;
  MPI_Initialized(&started);
  if (started == 0) {
    int threads = 0;  // other threads compute; one speaks MPI
    require<RankError>(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &threads) == MPI_SUCCESS,
                       "[mpi] MPI does not start");
  }
  auto handle = std::make_shared<Handle>();
  handle->comm = MPI_COMM_WORLD;
  return MpiCommunicator(std::move(handle), timeout_seconds);
}

void MpiCommunicator::finish() {
  if (is_running()) MPI_Finalize();
}

/// Polls: at first without a pause, then with longer and longer ones, so that ranks that share a core get on.
template <class Done>
void MpiCommunicator::poll(const char* what, Done&& done) {
  const double deadline = steady_seconds() + timeout_;
  for (std::int64_t polls = 0;; ++polls) {
    if (done()) return;
    if (polls < 200) continue;
    if (polls < 2000) {
      ::sched_yield();
      continue;
    }
    require<RankError>(steady_seconds() < deadline, "[ranks] lost rank: rank ", rank_, " of ", size_, " waited ",
                       timeout_, " seconds for another in ", what,
                       " (--comm-timeout); it was killed, is stopped, or its host cannot be reached");
    const timespec pause{0, 50'000 + std::min<std::int64_t>(polls, 20'000) * 25};
    ::nanosleep(&pause, nullptr);
  }
}

void MpiCommunicator::wait(void* request, const char* what) {
  auto* pending = static_cast<MPI_Request*>(request);
  poll(what, [&] {
    int done = 0;
    check(MPI_Test(pending, &done, MPI_STATUS_IGNORE), what);
    return done != 0;
  });
}

/// Its size, then its bytes in pieces that MPI can take; messages of one rank do not overtake each other.
void MpiCommunicator::send(std::span<const std::byte> bytes, int to) {
  std::erase_if(handle_->sent, [](Handle::Sent& sent) {
    int done = 0;
    check(MPI_Test(&sent.request, &done, MPI_STATUS_IGNORE), "send");
    return done != 0;
  });
  const auto post = [&](std::span<const std::byte> piece, int tag) {
    Handle::Sent& sent = handle_->sent.emplace_back();
    sent.bytes.assign(piece.begin(), piece.end());
    check(MPI_Isend(sent.bytes.data(), count_of(piece.size(), "send"), MPI_BYTE, to, tag, handle_->comm, &sent.request),
          "send");
  };
  const std::uint64_t size = bytes.size();
  post(std::as_bytes(std::span(&size, 1)), size_tag);
  for (std::size_t at = 0; at < bytes.size(); at += message_piece)
    post(bytes.subspan(at, std::min(message_piece, bytes.size() - at)), bytes_tag);
}

std::pair<int, Bytes> MpiCommunicator::receive(int from) {
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status status{};
  poll("receive", [&] {
    int there = 0;
    check(MPI_Improbe(from < 0 ? MPI_ANY_SOURCE : from, size_tag, handle_->comm, &there, &message, &status), "receive");
    return there != 0;
  });
  std::uint64_t size = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Imrecv(&size, static_cast<int>(sizeof size), MPI_BYTE, &message, &request), "receive");
  wait(&request, "receive");
  Bytes bytes(size);
  for (std::size_t at = 0; at < bytes.size(); at += message_piece) {
    const int count = count_of(std::min(message_piece, bytes.size() - at), "receive");
    check(MPI_Irecv(bytes.data() + at, count, MPI_BYTE, status.MPI_SOURCE, bytes_tag, handle_->comm, &request),
          "receive");
    wait(&request, "receive");
  }
  return {status.MPI_SOURCE, std::move(bytes)};
}

void MpiCommunicator::exchange(std::span<const std::byte> in, std::span<std::byte> out) {
  const auto ranks = static_cast<std::size_t>(size_);
  require<ShapeError>(in.size() % ranks == 0 && in.size() == out.size(), "[exchange] ", in.size(), " bytes go in and ",
                      out.size(), " come out of ", size_, " ranks: the blocks are not equal");
  const int count = count_of(in.size() / ranks, "exchange");
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ialltoall(in.data(), count, MPI_BYTE, out.data(), count, MPI_BYTE, handle_->comm, &request), "exchange");
  wait(&request, "exchange");
}

void MpiCommunicator::gather_all(std::span<const std::byte> in, std::span<std::byte> out) {
  require<ShapeError>(in.size() * static_cast<std::size_t>(size_) == out.size(), "[gather_all] ", in.size(),
                      " bytes go in and ", out.size(), " come out of ", size_, " ranks: the blocks are not equal");
  const int count = count_of(in.size(), "gather_all");
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallgather(in.data(), count, MPI_BYTE, out.data(), count, MPI_BYTE, handle_->comm, &request), "gather_all");
  wait(&request, "gather_all");
}

void MpiCommunicator::broadcast(std::span<std::byte> bytes, int root) {
  constexpr std::size_t piece = std::size_t{1} << 30;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    MPI_Request request = MPI_REQUEST_NULL;
    const int count = count_of(std::min(piece, bytes.size() - at), "broadcast");
    check(MPI_Ibcast(bytes.data() + at, count, MPI_BYTE, root, handle_->comm, &request), "broadcast");
    wait(&request, "broadcast");
  }
}

void MpiCommunicator::barrier() {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibarrier(handle_->comm, &request), "barrier");
  wait(&request, "barrier");
}

MpiCommunicator MpiCommunicator::split(int colour, int key) {
  barrier();  // polled: MPI_Comm_split itself has no deadline
  auto handle = std::make_shared<Handle>();
  check(MPI_Comm_split(handle_->comm, colour, key, &handle->comm), "split");
  handle->owned = true;
  return MpiCommunicator(std::move(handle), timeout_);
}

void MpiCommunicator::abort(int code) noexcept {
  ::signal(SIGALRM, SIG_DFL);
  ::alarm(10);  // MPI_Abort waits for mpirun, which may be out of reach
  if (is_running()) MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

KDLIB_NAMESPACE_END
