// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine: one thread block a row, any row loss. Read by nvcc, or by any compiler for the emulated device.
#ifndef KDLIB_BACKEND_CUDA_ROWS_CUH
#define KDLIB_BACKEND_CUDA_ROWS_CUH

#include "kdlib/backend/cuda/launch.hpp"
#include "kdlib/backend/cuda/rows.hpp"
#include "kdlib/backend/cuda/rows_body_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t row_support_limit = 1024;  // ids a row: every thread looks at all of them

/// As RowKernels<Cuda, T>::launch, with `threads` a block; 0 are those of the kernel.
template <class T, class Loss>
void launch_rows(const Loss& loss, const RowTask<T>& task, RowResult* results, void* stream, int threads) {
  if (task.rows == 0) return;
  require<ShapeError>(task.rows <= 0x7FFFFFFF && task.columns <= 0x7FFFFFFF, "[rows] ", task.rows, " rows of ",
                      task.columns, " entries are more than one launch takes");
  if constexpr (reads_support<Loss>)
    require<ShapeError>(task.support_size <= row_support_limit, "[rows] ", task.support_size,
                        " ids a row: the CUDA row engine takes at most ", row_support_limit,
                        "; keep fewer, or use the CPU backend");
  const RowKernel<Loss, T> kernel{loss, task, results};
  launch(kernel, {.blocks = task.rows, .threads = threads, .shared_bytes = kernel.shared_bytes()}, stream);
}

}  // namespace detail

template <class T>
template <class Loss>
void RowKernels<Cuda, T>::launch(const Loss& loss, const RowTask<T>& task, RowResult* results, void* stream) {
  detail::launch_rows(loss, task, results, stream, 0);
}
template <class T>
template <class Loss>
void RowKernels<Cuda, T>::run(const Loss& loss, const RowTask<T>& task, RowResult* results) {
  detail::launch_rows(loss, task, results, nullptr, 0);
}

KDLIB_NAMESPACE_END

/// Compiles the row engine for one loss and storage type, at namespace scope of a .cu file.
#define KDLIB_INSTANTIATE_LOSS(Loss, T)                                                                      \
  template void ::kdlib::RowKernels<::kdlib::Cuda, T>::run<Loss>(const Loss&, const ::kdlib::RowTask<T>&,    \
                                                                 ::kdlib::RowResult*);                       \
  template void ::kdlib::RowKernels<::kdlib::Cuda, T>::launch<Loss>(const Loss&, const ::kdlib::RowTask<T>&, \
                                                                    ::kdlib::RowResult*, void*)

#endif
