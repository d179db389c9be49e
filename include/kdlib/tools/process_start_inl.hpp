// SPDX-License-Identifier: Apache-2.0
// Bodies of process_start.hpp.
#ifndef KDLIB_TOOLS_PROCESS_START_INL_HPP
#define KDLIB_TOOLS_PROCESS_START_INL_HPP

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "kdlib/tools/blas_kernels.hpp"
#include "kdlib/tools/process_start.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC void start_process() {
  choose_blas_kernels();
  for (int descriptor = 0; descriptor <= 2; ++descriptor)
    if (::fcntl(descriptor, F_GETFD) == -1)
      static_cast<void>(::open("/dev/null", descriptor == 0 ? O_RDONLY : O_WRONLY));
  ::signal(SIGXFSZ, SIG_IGN);
}

KDLIB_NAMESPACE_END

#endif
