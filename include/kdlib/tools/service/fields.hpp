// SPDX-License-Identifier: Apache-2.0
// Fields of requests as tables: one table validates what comes in and makes the OpenAPI document.
#ifndef KDLIB_TOOLS_SERVICE_FIELDS_HPP
#define KDLIB_TOOLS_SERVICE_FIELDS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/tools/service/message.hpp"

KDLIB_NAMESPACE_BEGIN

/// The type of a field of the interface.
enum class FieldType : std::uint8_t { text, name, path, integer, number, boolean, texts, messages, models, settings };

/// One field of a body or a query. `name` fields are identifiers: a letter or digit, then letters, digits, "_", "-",
/// "." (80 at most). `settings` is an object of flags of distil (flag_table.hpp).
struct ApiField {
  std::string name;
  FieldType type = FieldType::text;
  std::string help;
  bool required = false;
  std::optional<double> least{}, most{};  // of numbers; of texts the number of elements
  std::vector<std::string> choices{};     // of texts
  std::size_t longest = 4096;             // characters of a text
};

class FlagTable;

/// Refuses (422, every problem named) unknown fields, missing ones, other types and values out of range.
void check_body(const Json& body, const std::vector<ApiField>& fields, const FlagTable& flags);
/// The same for the texts of a query: its numbers must read as numbers.
void check_query(const std::vector<std::pair<std::string, std::string>>& query, const std::vector<ApiField>& fields);
/// The JSON schema of an object with these fields.
void write_schema(JsonWriter& json, const std::vector<ApiField>& fields, const FlagTable& flags);
/// The JSON schema of one field.
void write_field_schema(JsonWriter& json, const ApiField& field, const FlagTable& flags);
/// A letter or digit, then letters, digits, "_", "-", ".": 80 at most.
bool is_plain_name(std::string_view text);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/fields_inl.hpp"
#endif

#endif
