// SPDX-License-Identifier: Apache-2.0
// The unit that reads Boost.Beast's WebSockets.
#include "kdlib/tools/service/socket_session_inl.hpp"
