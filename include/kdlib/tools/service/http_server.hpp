// SPDX-License-Identifier: Apache-2.0
// The sockets of the service: HTTP, Server-Sent Events and WebSockets. Only http_server_inl.hpp uses Boost.Beast, and
// only src/tools/service_http.cpp includes that file.
#ifndef KDLIB_TOOLS_SERVICE_HTTP_SERVER_HPP
#define KDLIB_TOOLS_SERVICE_HTTP_SERVER_HPP

#include <functional>
#include <string>
#include <vector>

#include "kdlib/tools/service/service_api.hpp"

KDLIB_NAMESPACE_BEGIN

/// Serves until SIGINT or SIGTERM arrives; child processes go on. `ready` is called with the port when the server
/// listens. Returns the exit status. IoError: the port is in use. SettingsError: the host is not an address.
int run_http_server(const ServiceSettings& settings, std::vector<PageFile> page,
                    const std::function<void(int port)>& ready);

/// Serves with one function that answers all requests (TeacherServer::handle), without pages, events and WebSockets.
/// One thread calls `handle`; two threads call the functions ServiceAnswer::later.
int run_http_server(const ServiceSettings& settings, std::function<ServiceAnswer(const ServiceRequest&)> handle,
                    const std::function<void(int port)>& ready);

KDLIB_NAMESPACE_END

#endif
