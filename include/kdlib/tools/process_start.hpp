// SPDX-License-Identifier: Apache-2.0
// What a program sets up before it opens a file or starts a thread.
#ifndef KDLIB_TOOLS_PROCESS_START_HPP
#define KDLIB_TOOLS_PROCESS_START_HPP

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "kdlib/config.hpp"
#include "kdlib/tools/blas_kernels.hpp"

KDLIB_NAMESPACE_BEGIN

/// Exit status of a run that saved and stopped because memory ran short (EX_TEMPFAIL).
inline constexpr int low_memory_status = 75;

/// Descriptors 0, 1 and 2 that the caller closed are opened on /dev/null: else the next file that is opened, the
/// metrics perhaps, becomes stderr and gets its messages. A file-size limit (ulimit -f) becomes an error of write,
/// which names the file, instead of a signal that ends the process without a word. Products get kernels that fit the
/// CPU (choose_blas_kernels).
inline void start_process() {
  choose_blas_kernels();
  for (int descriptor = 0; descriptor <= 2; ++descriptor)
    if (::fcntl(descriptor, F_GETFD) == -1)
      static_cast<void>(::open("/dev/null", descriptor == 0 ? O_RDONLY : O_WRONLY));
  ::signal(SIGXFSZ, SIG_IGN);
}

KDLIB_NAMESPACE_END

#endif
