// SPDX-License-Identifier: Apache-2.0
// As much of NCCL as src/nccl/nccl.cpp uses, over threads of one process: what is sent arrives, calls take a while, and a
// communicator can be told to hang or to report a lost rank.
#ifndef KDLIB_TESTS_SUPPORT_FAKE_NCCL_H
#define KDLIB_TESTS_SUPPORT_FAKE_NCCL_H

#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cuda_runtime_api.h"
#include "kdlib/core/communicator.hpp"

enum ncclResult_t { ncclSuccess, ncclRemoteError, ncclInvalidUsage, ncclInProgress };
enum ncclDataType_t { ncclUint8 };
struct ncclUniqueId {
  char internal[128];
};
struct ncclConfig_t {
  int blocking = 1;
};
#define NCCL_CONFIG_INITIALIZER \
  {}

struct FakeNcclComm {
  explicit FakeNcclComm(kdlib::ThreadCommunicator c) : ranks(std::move(c)) {}
  kdlib::ThreadCommunicator ranks;
  int asks = 0;  // for how long the state is "in progress"
};
using ncclComm_t = FakeNcclComm*;

namespace fake_nccl {
/// What all communicators do from now on.
inline thread_local bool hangs = false, loses = false;
inline thread_local std::vector<std::pair<const char*, std::size_t>> sends;
inline thread_local std::vector<char*> receives;
inline thread_local ncclComm_t grouped = nullptr;
inline std::mutex mutex;
inline std::map<std::string, std::vector<kdlib::ThreadCommunicator>> rooms;

inline std::span<const std::byte> bytes(const void* data, std::size_t size) {
  return {static_cast<const std::byte*>(data), size};
}
inline std::span<std::byte> room(void* data, std::size_t size) { return {static_cast<std::byte*>(data), size}; }
/// The answer of a call that is not done when it returns.
inline ncclResult_t begun(ncclComm_t comm) {
  comm->asks = 3;
  return ncclInProgress;
}
}  // namespace fake_nccl

inline const char* ncclGetErrorString(ncclResult_t error) {
  return error == ncclRemoteError ? "remote process exited" : "invalid usage";
}
inline ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int number = 0;
  const std::lock_guard<std::mutex> lock(fake_nccl::mutex);
  std::memset(id, 0, sizeof *id);
  id->internal[0] = static_cast<char>(++number);
  return ncclSuccess;
}
inline ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;  // a call that blocks has no deadline
  const std::lock_guard<std::mutex> lock(fake_nccl::mutex);
  auto& all = fake_nccl::rooms[std::string(id.internal, sizeof id.internal)];
  if (all.empty()) all = kdlib::ThreadCommunicator::make(ranks, 20);
  *comm = new FakeNcclComm(all.at(static_cast<std::size_t>(rank)));
  return fake_nccl::begun(*comm);
}
inline ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = fake_nccl::loses ? ncclRemoteError : fake_nccl::hangs || comm->asks-- > 0 ? ncclInProgress : ncclSuccess;
  return ncclSuccess;
}
inline ncclResult_t ncclGroupStart() { return ncclSuccess; }
inline ncclResult_t ncclSend(const void* from, std::size_t size, ncclDataType_t, int, ncclComm_t comm, cudaStream_t) {
  fake_nccl::sends.emplace_back(static_cast<const char*>(from), size);
  fake_nccl::grouped = comm;
  return ncclSuccess;
}
inline ncclResult_t ncclRecv(void* to, std::size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t) {
  fake_nccl::receives.push_back(static_cast<char*>(to));
  return ncclSuccess;
}
inline ncclResult_t ncclGroupEnd() {
  std::vector<char> out, in;
  for (const auto& [data, size] : fake_nccl::sends) out.insert(out.end(), data, data + size);
  in.resize(out.size());
  if (!fake_nccl::hangs && !fake_nccl::loses)
    fake_nccl::grouped->ranks.exchange(fake_nccl::bytes(out.data(), out.size()), fake_nccl::room(in.data(), in.size()));
  const std::size_t block = fake_nccl::sends.front().second;
  for (std::size_t r = 0; r < fake_nccl::receives.size(); ++r)
    std::memcpy(fake_nccl::receives[r], in.data() + r * block, block);
  fake_nccl::sends.clear();
  fake_nccl::receives.clear();
  return fake_nccl::begun(fake_nccl::grouped);
}
inline ncclResult_t ncclAllGather(const void* from, void* to, std::size_t size, ncclDataType_t, ncclComm_t comm,
                                  cudaStream_t) {
  const auto ranks = static_cast<std::size_t>(comm->ranks.size());
  if (!fake_nccl::hangs && !fake_nccl::loses)
    comm->ranks.gather_all(fake_nccl::bytes(from, size), fake_nccl::room(to, size * ranks));
  return fake_nccl::begun(comm);
}
inline ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t size, ncclDataType_t, int root,
                                  ncclComm_t comm, cudaStream_t) {
  if (from != to) return ncclInvalidUsage;
  comm->ranks.broadcast(fake_nccl::room(to, size), root);
  return fake_nccl::begun(comm);
}
inline ncclResult_t ncclCommSplit(ncclComm_t comm, int colour, int key, ncclComm_t* part, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;
  *part = new FakeNcclComm(comm->ranks.split(colour, key));
  return fake_nccl::begun(comm);
}
inline ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) { return *rank = comm->ranks.rank(), ncclSuccess; }
inline ncclResult_t ncclCommCount(ncclComm_t comm, int* ranks) { return *ranks = comm->ranks.size(), ncclSuccess; }
inline ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }
inline ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}
inline ncclResult_t ncclCommAbort(ncclComm_t comm) { return ncclCommDestroy(comm); }

#endif
