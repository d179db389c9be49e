// SPDX-License-Identifier: Apache-2.0
// kdlib::nccl: the bodies of kdlib/nccl.hpp.
#include "kdlib/nccl.hpp"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kdlib/core/clock.hpp"

KDLIB_NAMESPACE_BEGIN
namespace {

static_assert(sizeof(ncclUniqueId) == sizeof(NcclId::bytes), "another NCCL than kdlib/nccl.hpp knows");

void check(ncclResult_t status, const char* what) {
  if (status == ncclSuccess || status == ncclInProgress) return;
  fail<RankError>("[ranks] lost rank: ", what, ": NCCL says ", ncclGetErrorString(status));
}

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail<BackendError>("[nccl] ", what, ": ", cudaGetErrorString(status));
}

}  // namespace

struct NcclCommunicator::Handle {
  /// Memory of the device that grows.
  class DeviceBytes {
   public:
    DeviceBytes() = default;
    DeviceBytes(const DeviceBytes&) = delete;
    DeviceBytes& operator=(const DeviceBytes&) = delete;
    ~DeviceBytes() { cudaFree(data_); }

    char* at_least(std::size_t size) {
      if (size <= size_) return data_;
      cudaFree(data_);
      data_ = nullptr;
      size_ = 0;
      check(cudaMalloc(reinterpret_cast<void**>(&data_), size), "memory for messages");
      size_ = size;
      return data_;
    }

   private:
    char* data_ = nullptr;
    std::size_t size_ = 0;
  };

  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  int rank = 0, ranks = 1, device = 0;
  double timeout = 600;
  bool lost = false;
  DeviceBytes in, out;

  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (comm != nullptr) {
      if (!lost && ncclCommFinalize(comm) == ncclSuccess) ncclCommDestroy(comm);
      else ncclCommAbort(comm);
    }
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  /// Polls until done() says so; `what` names the operation.
  template <class Done>
  void poll(const char* what, Done&& done) {
    const double deadline = steady_seconds() + timeout;
    for (std::int64_t polls = 0; !done(); ++polls) {
      if (polls < 200) continue;
      ::sched_yield();
      if (steady_seconds() < deadline) continue;
      lost = true;
      fail<RankError>("[ranks] lost rank: rank ", rank, " of ", ranks, " waited ", timeout, " seconds for another in ",
                      what, " (--comm-timeout); it was killed, is stopped, or its host cannot be reached");
    }
  }

  /// What NCCL has been told is on its stream, or refused.
  void settle(ncclComm_t which, const char* what) {
    poll(what, [&] {
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(which, &state);
      lost = (asked != ncclSuccess) || (state != ncclSuccess && state != ncclInProgress);
      check(asked, what);
      check(state, what);
      return state != ncclInProgress;
    });
  }

  /// The stream has done everything.
  void drain(const char* what) {
    poll(what, [&] {
      const cudaError_t state = cudaStreamQuery(stream);
      if (state == cudaErrorNotReady) {
        ncclResult_t error = ncclSuccess;  // a rank that is lost is told here, and the stream would wait for ever
        check(ncclCommGetAsyncError(comm, &error), what);
        lost = error != ncclSuccess && error != ncclInProgress;
        check(error, what);
        return false;
      }
      check(state, what);
      return true;
    });
  }

  void upload(char* to, std::span<const std::byte> from) {
    check(cudaMemcpyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice, stream), "copy to the device");
  }
  void download(std::span<std::byte> to, const char* from) {
    check(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, stream), "copy from the device");
  }
  void use() const { check(cudaSetDevice(device), "device"); }
};

NcclId NcclCommunicator::make_id() {
  ncclUniqueId unique;
  const ncclResult_t status = ncclGetUniqueId(&unique);
  require<BackendError>(status == ncclSuccess, "[nccl] no id: ", ncclGetErrorString(status));
  NcclId id;
  std::memcpy(id.bytes.data(), &unique, sizeof unique);
  return id;
}

NcclCommunicator NcclCommunicator::make(const NcclId& id, int rank, int ranks, int device, double timeout_seconds) {
  require<ConfigError>(rank >= 0 && rank < ranks && device >= 0 && timeout_seconds > 0, "[nccl] rank ", rank, " of ",
                       ranks, " on device ", device, " with a deadline of ", timeout_seconds, " seconds");
  auto handle = std::make_shared<Handle>();
  handle->rank = rank;
  handle->ranks = ranks;
  handle->device = device;
  handle->timeout = timeout_seconds;
  handle->use();
  check(cudaStreamCreateWithFlags(&handle->stream, cudaStreamNonBlocking), "stream");
  ncclUniqueId unique;
  std::memcpy(&unique, id.bytes.data(), sizeof unique);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check(ncclCommInitRankConfig(&handle->comm, ranks, unique, rank, &config), "start");
  handle->settle(handle->comm, "start");
  return NcclCommunicator(std::move(handle));
}

NcclCommunicator NcclCommunicator::over(AnyCommunicator& ranks, int device, double timeout_seconds) {
  NcclId id;
  if (ranks.leads()) id = make_id();
  ranks.broadcast(id.bytes, 0);
  return make(id, ranks.rank(), ranks.size(), device, timeout_seconds);
}

int NcclCommunicator::rank() const { return handle_->rank; }
int NcclCommunicator::size() const { return handle_->ranks; }

void NcclCommunicator::exchange(std::span<const std::byte> in, std::span<std::byte> out) {
  Handle& h = *handle_;
  const auto ranks = static_cast<std::size_t>(h.ranks);
  require<ShapeError>(in.size() % ranks == 0 && in.size() == out.size(), "[exchange] ", in.size(), " bytes go in and ",
                      out.size(), " come out of ", h.ranks, " ranks: the blocks are not equal");
  const std::size_t block = in.size() / ranks;
  if (block == 0) return;
  h.use();
  char* from = h.in.at_least(in.size());
  char* to = h.out.at_least(out.size());
  h.upload(from, in);
  check(ncclGroupStart(), "exchange");
  for (std::size_t r = 0; r < ranks; ++r) {
    check(ncclSend(from + r * block, block, ncclUint8, static_cast<int>(r), h.comm, h.stream), "exchange");
    check(ncclRecv(to + r * block, block, ncclUint8, static_cast<int>(r), h.comm, h.stream), "exchange");
  }
  check(ncclGroupEnd(), "exchange");
  h.settle(h.comm, "exchange");
  h.drain("exchange");  // before the copy, which would wait for the stream without a deadline
  h.download(out, to);
  h.drain("exchange");
}

void NcclCommunicator::gather_all(std::span<const std::byte> in, std::span<std::byte> out) {
  Handle& h = *handle_;
  require<ShapeError>(in.size() * static_cast<std::size_t>(h.ranks) == out.size(), "[gather_all] ", in.size(),
                      " bytes go in and ", out.size(), " come out of ", h.ranks, " ranks: the blocks are not equal");
  if (in.empty()) return;
  h.use();
  char* from = h.in.at_least(in.size());
  char* to = h.out.at_least(out.size());
  h.upload(from, in);
  check(ncclAllGather(from, to, in.size(), ncclUint8, h.comm, h.stream), "gather_all");
  h.settle(h.comm, "gather_all");
  h.drain("gather_all");
  h.download(out, to);
  h.drain("gather_all");
}

void NcclCommunicator::broadcast(std::span<std::byte> bytes, int root) {
  Handle& h = *handle_;
  require<ConfigError>(root >= 0 && root < h.ranks, "[broadcast] rank ", root, " of ", h.ranks, " ranks");
  h.use();
  constexpr std::size_t piece = std::size_t{1} << 30;  // bounds the device's memory
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    const std::span<std::byte> part = bytes.subspan(at, std::min(piece, bytes.size() - at));
    char* there = h.in.at_least(part.size());
    if (h.rank == root) h.upload(there, part);
    check(ncclBroadcast(there, there, part.size(), ncclUint8, root, h.comm, h.stream), "broadcast");
    h.settle(h.comm, "broadcast");
    h.drain("broadcast");
    if (h.rank != root) h.download(part, there);
    h.drain("broadcast");
  }
}

void NcclCommunicator::barrier() {
  const std::byte here{1};
  Bytes all(static_cast<std::size_t>(size()));
  gather_all(std::span(&here, 1), all);
}

NcclCommunicator NcclCommunicator::split(int colour, int key) {
  require<ConfigError>(colour >= 0, "[split] colour ", colour, "; NCCL takes 0 or above");
  Handle& h = *handle_;
  h.use();
  auto part = std::make_shared<Handle>();
  part->device = h.device;
  part->timeout = h.timeout;
  check(cudaStreamCreateWithFlags(&part->stream, cudaStreamNonBlocking), "stream");
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check(ncclCommSplit(h.comm, colour, key, &part->comm, &config), "split");
  h.settle(h.comm, "split");
  part->settle(part->comm, "split");
  check(ncclCommUserRank(part->comm, &part->rank), "split");
  check(ncclCommCount(part->comm, &part->ranks), "split");
  return NcclCommunicator(std::move(part));
}

void NcclCommunicator::abort(int code) noexcept {
  if (handle_->comm != nullptr) ncclCommAbort(handle_->comm);
  std::_Exit(code);
}

KDLIB_NAMESPACE_END
