// SPDX-License-Identifier: Apache-2.0
// The steps of a program before it opens a file or starts a thread.
#ifndef KDLIB_TOOLS_PROCESS_START_HPP
#define KDLIB_TOOLS_PROCESS_START_HPP

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Exit status of a run that saved and stopped because memory ran short (EX_TEMPFAIL).
inline constexpr int low_memory_status = 75;

/// Sets up the process. If one of the descriptors 0, 1 and 2 is closed, it is opened on /dev/null; otherwise the next
/// file that is opened, perhaps the metrics, would become stderr and receive its messages. A file-size limit (ulimit
/// -f) becomes an error of write, which names the file, instead of a signal that ends the process without a message.
/// Matrix products get kernels that fit the CPU (choose_blas_kernels).
void start_process();

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/process_start_inl.hpp"
#endif

#endif
