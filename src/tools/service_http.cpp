// SPDX-License-Identifier: Apache-2.0
// The one translation unit that reads Boost.Beast.
#include "kdlib/tools/service/http_server_inl.hpp"
