// SPDX-License-Identifier: Apache-2.0
// The HTTP interface of the service, without sockets. One table of endpoints serves to find the handler of a request,
// to check the request and to document the interface.
#ifndef KDLIB_TOOLS_SERVICE_SERVICE_API_HPP
#define KDLIB_TOOLS_SERVICE_SERVICE_API_HPP

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kdlib/tools/service/compare.hpp"
#include "kdlib/tools/service/fields.hpp"
#include "kdlib/tools/service/flag_table.hpp"
#include "kdlib/tools/service/guard.hpp"
#include "kdlib/tools/service/message.hpp"
#include "kdlib/tools/service/run_events.hpp"
#include "kdlib/tools/service/run_store.hpp"
#include "kdlib/tools/service/safe_path.hpp"
#include "kdlib/tools/service/service_settings.hpp"
#include "kdlib/tools/service/start_request.hpp"

KDLIB_NAMESPACE_BEGIN

class ServiceApi;

/// One request in the form for handlers: parts of the path, the checked query and the checked body.
struct ApiCall {
  const ServiceRequest& request;
  std::vector<std::pair<std::string, std::string>> path;
  Json body{};

  std::string part(std::string_view name) const;
  std::string query(std::string_view name, const std::string& otherwise = "") const;
  std::int64_t query_int(std::string_view name, std::int64_t otherwise) const;
};

/// One line of the table of endpoints.
struct ApiEndpoint {
  std::string method, path, summary;  // path: "/api/v1/runs/{id}/log"
  std::vector<ApiField> query{};
  bool has_body = false;
  std::vector<ApiField> body{};
  std::vector<int> statuses{};  // statuses of HTTP besides those that every request may get; the first is the usual one
  std::string type = "application/json";
  bool open = false;  // true: the endpoint needs no token
  ServiceAnswer (ServiceApi::*handler)(const ApiCall&) = nullptr;
};

/// A file of the web page that is embedded in the program.
struct PageFile {
  const char *path, *type;
  const unsigned char* data;
  std::size_t size;
};

/// The whole service except the sockets. Only one thread may use an object; the functions ServiceAnswer::later may run
/// on other threads.
class ServiceApi {
 public:
  /// `submit` must run work on another thread; `clock` returns seconds of a clock that never goes back. IoError: the
  /// folder of runs, a root or a program cannot be used.
  ServiceApi(const ServiceSettings& settings, std::vector<PageFile> page,
             std::function<void(std::function<void()>)> submit, std::function<double()> clock);

  /// Answers any request. Never throws.
  ServiceAnswer handle(const ServiceRequest& request);
  void tick() { store_.tick(clock_()); }

  /// Checks a request for a WebSocket before the socket is opened. Returns an answer 403 or 404, or nothing if the
  /// request is allowed.
  std::optional<ServiceAnswer> check_socket(const ServiceRequest& request);
  /// Returns the events for a WebSocket, given the socket's first message {"token", "from_step"}. Returns nullptr if
  /// the token is wrong or the message has another form.
  std::shared_ptr<RunEvents> open_socket(const ServiceRequest& request, const std::string& first_message);

  std::string openapi() const;

 private:
  std::vector<ApiEndpoint> make_endpoints() const;
  std::vector<ApiEndpoint> make_run_endpoints() const;
  ServiceAnswer answer(const ServiceRequest& request);
  ServiceAnswer dispatch(const ApiEndpoint& endpoint, ApiCall& call);
  ServiceAnswer page(const ServiceRequest& request) const;

  ServiceAnswer health(const ApiCall&);
  ServiceAnswer document(const ApiCall&);
  ServiceAnswer list_settings(const ApiCall&);
  ServiceAnswer list_presets(const ApiCall&);
  ServiceAnswer list_files(const ApiCall&);
  ServiceAnswer start(const ApiCall&);
  ServiceAnswer fine_tune(const ApiCall&);
  ServiceAnswer estimate(const ApiCall&);
  ServiceAnswer start_run(const ApiCall&, bool fine_tune);
  ServiceAnswer stop(const ApiCall&);
  ServiceAnswer stop_answer(const std::string& id);
  ServiceAnswer resume(const ApiCall&);
  ServiceAnswer status(const ApiCall&);
  ServiceAnswer metrics(const ApiCall&);
  ServiceAnswer list_runs(const ApiCall&);
  ServiceAnswer show_run(const ApiCall&);
  ServiceAnswer delete_run(const ApiCall&);
  ServiceAnswer run_config(const ApiCall&);
  ServiceAnswer run_log(const ApiCall&);
  ServiceAnswer run_result(const ApiCall&);
  ServiceAnswer run_files(const ApiCall&);
  ServiceAnswer make_ticket(const ApiCall&);
  ServiceAnswer download(const ApiCall&);
  ServiceAnswer events(const ApiCall&);
  ServiceAnswer series(const ApiCall&);
  ServiceAnswer compare(const ApiCall&);
  ServiceAnswer comparison(const ApiCall&);

  std::string chosen_run(const std::string& asked) const;
  void write_run(JsonWriter& json, const RunRecord& record);
  StartContext context() const { return {flags_, roots_, settings_, store_.runs()}; }
  ServiceAnswer file_answer(const std::string& path, const std::string& type, bool sandbox) const;

  /// The results of the last estimates, which the answer to a start with the same arguments repeats.
  struct Estimates {
    struct Known {
      std::vector<std::string> arguments;
      double seconds, bytes;
    };
    std::mutex mutex{};
    int running = 0;
    std::vector<Known> known{};
  };

  struct Ticket {
    std::string id, run, path;
    double until;
  };

  const ServiceSettings& settings_;
  std::vector<PageFile> page_;
  std::function<void(std::function<void()>)> submit_;
  std::function<double()> clock_;
  RunStore store_;
  AllowedRoots roots_;
  FlagTable flags_;
  ServiceGuard guard_;
  Comparisons comparisons_;
  std::vector<Ticket> tickets_;
  std::shared_ptr<Estimates> estimates_ = std::make_shared<Estimates>();
  std::vector<ApiEndpoint> endpoints_;
};

/// Writes one line of metrics.jsonl, with the names of the interface, as members of the JSON object that is open.
void write_interface_metrics(JsonWriter& json, const Json& line, bool reverse);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/service_api_inl.hpp"
#include "kdlib/tools/service/service_files_inl.hpp"
#include "kdlib/tools/service/service_openapi_inl.hpp"
#include "kdlib/tools/service/service_status_inl.hpp"
#include "kdlib/tools/service/service_table_inl.hpp"
#endif

#endif
