// SPDX-License-Identifier: Apache-2.0
// Arbitrary text as what a model wrote: calls of tools are read or named as broken, never an exception. Also the
// calculator, which refuses with a reason.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "kdlib/core/error.hpp"
#include "kdlib/rollout/tool_host.hpp"
#include "kdlib/text/tool_calls.hpp"

using namespace kdlib;

namespace {

ToolCallFormat format(const std::string& calls) {
  return ToolCallFormat::of(ChatTemplate::jinja(JinjaTemplate(
      "{% for m in messages %}{{ m.role }}{{ tools|length }}{% if m.tool_calls %}" + calls + "{% endif %}{% endfor %}",
      "fuzz")));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const ToolCallFormat formats[] = {
      ToolCallFormat::of(ChatTemplate::qwen3()), ToolCallFormat::of(ChatTemplate::harmony()),
      format("[C][{% for c in m.tool_calls %}{{ c.function|tojson }}{% if not loop.last %},{% endif %}{% endfor %}]"),
      format("{% if m.tool_calls|length > 1 %}{{ raise_exception('one') }}{% endif %}{{ "
             "m.tool_calls[0].function|tojson }}")};
  if (size > 65536) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const ToolCallFormat& f : formats)
    for (const WrittenCall& call : f.read(text))
      if (call.problem.empty() && !Json::parse(call.call.arguments, "fuzz").is_object()) std::abort();
  try {
    if (calculate(text).empty()) std::abort();
  } catch (const InputError&) {
  }
  return 0;
}
