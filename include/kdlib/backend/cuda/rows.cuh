// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine: one thread block a row, any row loss. nvcc only.
#ifndef KDLIB_BACKEND_CUDA_ROWS_CUH
#define KDLIB_BACKEND_CUDA_ROWS_CUH

#include "kdlib/backend/cuda/context.cuh"
#include "kdlib/backend/cuda/rows.hpp"
#include "kdlib/backend/cuda/rows_body_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr int row_threads = 256;
constexpr std::int64_t row_support_limit =
    1024;  // ids a row: their slots fit the shared memory every device gives without asking

/// The block as the device has it.
class DeviceBlock {
 public:
  __device__ explicit DeviceBlock(const BlockShared& shared) : shared_(shared) {}
  __device__ std::int64_t thread() const { return threadIdx.x; }
  __device__ std::int64_t size() const { return row_threads; }
  __device__ int warp_size() const { return 32; }
  __device__ void barrier() const { __syncthreads(); }
  __device__ const BlockShared& shared() const { return shared_; }
  /// x of the lane `offset` further on; the own where there is none.
  template <class X>
  __device__ X shuffle_down(const X& x, int offset) const {
    static_assert(sizeof(X) % sizeof(unsigned) == 0);
    constexpr int words = sizeof(X) / sizeof(unsigned);
    unsigned word[words];
    memcpy(word, &x, sizeof(X));
#pragma unroll
    for (int k = 0; k < words; ++k) word[k] = __shfl_down_sync(0xFFFFFFFFu, word[k], static_cast<unsigned>(offset));
    X out;
    memcpy(&out, word, sizeof(X));
    return out;
  }

 private:
  BlockShared shared_;
};

template <class Loss, class T>
__global__ void __launch_bounds__(row_threads) row_kernel(const Loss loss, const RowTask<T> task, RowResult* results) {
  __shared__ alignas(16) unsigned char slots[row_threads / 32 * block_slot_bytes];
  __shared__ alignas(16) unsigned char leaves[sizeof(BlockLeaf) * (leaf_count<Loss> + 1)];
  extern __shared__ double support[];
  DeviceBlock block({slots, reinterpret_cast<BlockLeaf*>(leaves), BlockSupport::at(support, task.support_size)});
  BlockRow<DeviceBlock, T> row(block, task, blockIdx.x);
  row.run(loss, results[blockIdx.x]);
}

/// Host arrays on the device for the length of a call.
template <class X>
class Uploaded {
 public:
  Uploaded(const X* host, std::int64_t n) : buffer_(host == nullptr ? 0 : n) {
    if (buffer_.count() > 0) Memory<Cuda>::from_host(buffer_.data(), host, static_cast<std::size_t>(n) * sizeof(X));
  }
  const X* data() const { return buffer_.data(); }

 private:
  Buffer<X, Cuda> buffer_;
};

}  // namespace detail

template <class T>
template <class Loss>
void RowKernels<Cuda, T>::launch(const Loss& loss, const RowTask<T>& task, RowResult* results, void* stream) {
  if (task.rows == 0) return;
  require<ShapeError>(task.rows <= 0x7FFFFFFF && task.columns <= 0x7FFFFFFF, "[rows] ", task.rows, " rows of ",
                      task.columns, " entries are more than one launch takes");
  std::size_t support_bytes = 0;
  if constexpr (reads_support<Loss>) {
    require<ShapeError>(task.support_size <= detail::row_support_limit, "[rows] ", task.support_size,
                        " ids a row: the CUDA row engine takes at most ", detail::row_support_limit,
                        "; keep fewer, or use the CPU backend");
    support_bytes = static_cast<std::size_t>((task.support_size * detail::BlockSupport::slot_bytes + 7) / 8 * 8);
  }
  detail::row_kernel<Loss, T>
      <<<static_cast<unsigned>(task.rows), detail::row_threads, support_bytes, static_cast<cudaStream_t>(stream)>>>(
          loss, task, results);
  detail::check_cuda(cudaGetLastError(), "row_kernel");
}

template <class T>
template <class Loss>
void RowKernels<Cuda, T>::run(const Loss& loss, const RowTask<T>& task, RowResult* results) {
  const detail::Uploaded<std::int32_t> labels(task.labels, task.rows),
      ids(task.support_ids, task.rows * task.support_size);
  const detail::Uploaded<float> weights(task.weights, task.rows), behaviour(task.behaviour, task.rows),
      teacher(task.teacher_label, task.rows);
  const detail::Uploaded<T> log_probs(task.support_log_probs, task.rows * task.support_size),
      log_tail(task.support_log_tail, task.rows);
  RowTask<T> device = task;
  device.labels = labels.data(), device.weights = weights.data(), device.behaviour = behaviour.data(),
  device.teacher_label = teacher.data();
  device.support_ids = ids.data(), device.support_log_probs = log_probs.data(),
  device.support_log_tail = log_tail.data();
  Buffer<RowResult, Cuda> out(task.rows);
  launch(loss, device, out.data(), nullptr);
  Memory<Cuda>::to_host(results, out.data(), static_cast<std::size_t>(task.rows) * sizeof(RowResult));
}

KDLIB_NAMESPACE_END

/// Compiles the row engine for one loss and storage type, at namespace scope of a .cu file.
#define KDLIB_INSTANTIATE_LOSS(Loss, T)                                                                      \
  template void ::kdlib::RowKernels<::kdlib::Cuda, T>::run<Loss>(const Loss&, const ::kdlib::RowTask<T>&,    \
                                                                 ::kdlib::RowResult*);                       \
  template void ::kdlib::RowKernels<::kdlib::Cuda, T>::launch<Loss>(const Loss&, const ::kdlib::RowTask<T>&, \
                                                                    ::kdlib::RowResult*, void*)

#endif
