// SPDX-License-Identifier: Apache-2.0
// kdlib::functions: the functions without template parameters of tools/ that kdlib.hpp brings: arguments and reports.
#include "kdlib/tools/args_inl.hpp"
#include "kdlib/tools/report_inl.hpp"
