// SPDX-License-Identifier: Apache-2.0
// The sockets of the service: HTTP, Server-Sent Events and WebSockets. Only its body knows Boost.Beast, and only
// src/tools/service_http.cpp includes the body.
#ifndef KDLIB_TOOLS_SERVICE_HTTP_SERVER_HPP
#define KDLIB_TOOLS_SERVICE_HTTP_SERVER_HPP

#include <functional>
#include <string>
#include <vector>

#include "kdlib/tools/service/service_api.hpp"

KDLIB_NAMESPACE_BEGIN

/// Serves until SIGINT or SIGTERM; children go on. `ready` gets the port once it listens. IoError: the port is in use.
/// SettingsError: the host is no address. Answers the exit status.
int run_http_server(const ServiceSettings& settings, std::vector<PageFile> page,
                    const std::function<void(int port)>& ready);

/// The same for one function that answers everything (TeacherServer::handle); there are no pages, events or sockets of
/// the web. `handle` is called by one thread, what it leaves for later by two.
int run_http_server(const ServiceSettings& settings, std::function<ServiceAnswer(const ServiceRequest&)> handle,
                    const std::function<void(int port)>& ready);

KDLIB_NAMESPACE_END

#endif
