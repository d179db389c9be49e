# SPDX-License-Identifier: Apache-2.0
# The installed headers. Written by scripts/update-headers; the test checks/headers compares it with the tree.
set(KDLIB_HEADERS
  include/kdlib/config.hpp
  include/kdlib/core/dtype.hpp
  include/kdlib/core/error.hpp
  include/kdlib/core/parallel.hpp
  include/kdlib/core/parallel_inl.hpp
  include/kdlib/core/rng.hpp
  include/kdlib/core/shape.hpp
  include/kdlib/io/atomic_file.hpp
  include/kdlib/io/atomic_file_inl.hpp
  include/kdlib/io/mapped_file.hpp
  include/kdlib/io/mapped_file_inl.hpp
  include/kdlib/io/paths.hpp
  include/kdlib/io/paths_inl.hpp
  include/kdlib/io/system_inl.hpp
  include/kdlib/tensor/buffer.hpp
  include/kdlib/tensor/device.hpp
  include/kdlib/tensor/parameter.hpp
  include/kdlib/tensor/tensor.hpp
  include/kdlib/tensor/token_batch.hpp
  include/kdlib/tensor/token_batch_inl.hpp
  include/kdlib/tensor/view.hpp
  include/kdlib/version.hpp
)
list(TRANSFORM KDLIB_HEADERS PREPEND "${PROJECT_SOURCE_DIR}/")
