// SPDX-License-Identifier: Apache-2.0
// What compress_model.hpp writes beside the weights, and the hash of its text.
#ifndef KDLIB_CHECKPOINT_COMPRESS_REPORT_INL_HPP
#define KDLIB_CHECKPOINT_COMPRESS_REPORT_INL_HPP

#include <string>

#include "kdlib/checkpoint/compress_model.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string calibration_hash(const TokenBatch& text) {
  if (text.documents() == 0) return {};
  return Sha256()
      .add(text.ids.data(), text.ids.size() * sizeof(text.ids[0]))
      .add(text.offsets.data(), text.offsets.size() * sizeof(text.offsets[0]))
      .digest();
}

KDLIB_FUNC void write_compress_report(const std::string& out, const std::string& run_hash,
                                      const CompressModelSettings& settings, const CompressPlan& plan,
                                      const CompressModelReport& report) {
  JsonWriter json(JsonStyle{2, NonFinite::refuse});
  json.begin_object()
      .member("run_hash", run_hash)
      .member("form", setting_text(settings.search.form))
      .member("rank", plan.rank)
      .member("expert_values", plan.plain_values)
      .member("kept_values", plan.kept_values);
  json.key("maps").begin_array();
  for (const MapReport& m : report.maps)
    json.begin_object()
        .member("layer", m.layer)
        .member("map", setting_text(m.map))
        .member("relative", m.relative)
        .member("relative_plain", m.relative_plain)
        .end_object();
  json.end_array().key("layers").begin_array();
  for (const LayerReport& l : report.layers) {
    json.begin_object().member("layer", l.layer).member("aligned", l.aligned).member("spread_before", l.before);
    json.member("spread_after", l.after);
    if (l.output_error >= 0) json.member("output_error", l.output_error);
    json.end_object();
  }
  json.end_array().end_object();
  write_file_atomically(join_path(out, "compress_report.json"), json.text());
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
