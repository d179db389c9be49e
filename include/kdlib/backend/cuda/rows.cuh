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

/// The block as the device has it.
template <class C>
class DeviceBlock {
 public:
  __device__ explicit DeviceBlock(BlockShared<C> shared) : shared_(shared) {}
  __device__ std::int64_t thread() const { return threadIdx.x; }
  __device__ std::int64_t size() const { return blockDim.x; }
  __device__ void barrier() const { __syncthreads(); }
  __device__ BlockShared<C> shared() const { return shared_; }

 private:
  BlockShared<C> shared_;
};

template <class Loss, class T>
__global__ void __launch_bounds__(row_threads) row_kernel(const Loss loss, const RowTask<T> task, RowResult* results) {
  using C = accumulate_t<T>;
  __shared__ BlockState<C> states[row_threads];
  __shared__ double numbers[row_threads];
  DeviceBlock<C> block({states, numbers});
  BlockRow<DeviceBlock<C>, T> row(block, task, blockIdx.x);
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
  require<ShapeError>(task.rows <= 0x7FFFFFFF, "[rows] ", task.rows, " rows are more than one launch takes");
  detail::row_kernel<Loss, T><<<static_cast<unsigned>(task.rows), detail::row_threads, 0, static_cast<cudaStream_t>(stream)>>>(loss, task, results);
  detail::check_cuda(cudaGetLastError(), "row_kernel");
}

template <class T>
template <class Loss>
void RowKernels<Cuda, T>::run(const Loss& loss, const RowTask<T>& task, RowResult* results) {
  const detail::Uploaded<std::int32_t> labels(task.labels, task.rows);
  const detail::Uploaded<float> weights(task.weights, task.rows), behaviour(task.behaviour, task.rows), teacher(task.teacher_label, task.rows);
  RowTask<T> device = task;
  device.labels = labels.data(), device.weights = weights.data(), device.behaviour = behaviour.data(), device.teacher_label = teacher.data();
  Buffer<RowResult, Cuda> out(task.rows);
  launch(loss, device, out.data(), nullptr);
  Memory<Cuda>::to_host(results, out.data(), static_cast<std::size_t>(task.rows) * sizeof(RowResult));
}

KDLIB_NAMESPACE_END

/// Compiles the row engine for one loss and storage type, at namespace scope of a .cu file.
#define KDLIB_INSTANTIATE_LOSS(Loss, T)                                                                                        \
  template void ::kdlib::RowKernels<::kdlib::Cuda, T>::run<Loss>(const Loss&, const ::kdlib::RowTask<T>&, ::kdlib::RowResult*); \
  template void ::kdlib::RowKernels<::kdlib::Cuda, T>::launch<Loss>(const Loss&, const ::kdlib::RowTask<T>&, ::kdlib::RowResult*, void*)

#endif
