// SPDX-License-Identifier: Apache-2.0
// The unit that reads Boost.Beast's HTTP.
#include "kdlib/tools/service/http_server_inl.hpp"
