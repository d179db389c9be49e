// SPDX-License-Identifier: Apache-2.0
// Tables of the fields of requests. The same table checks a request and makes the OpenAPI document.
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

/// The type of a field.
enum class FieldType : std::uint8_t { text, name, path, integer, number, boolean, texts, messages, models, settings };

/// One field of the body or the query of a request. A field of type `name` is an identifier: a letter or digit, then
/// letters, digits, "_", "-", "." (at most 80 characters). A field of type `settings` is an object of flags of distil
/// (flag_table.hpp).
struct ApiField {
  std::string name;
  FieldType type = FieldType::text;
  std::string help;
  bool required = false;
  std::optional<double> least{}, most{};  // bounds of a number, or of the number of elements of a list
  std::vector<std::string> choices{};     // allowed values of a text; empty: any
  std::size_t longest = 4096;             // most characters of a text
};

class FlagTable;

/// Throws ServiceProblem 422, which names every problem, for unknown fields, missing fields, wrong types and values out
/// of range.
void check_body(const Json& body, const std::vector<ApiField>& fields, const FlagTable& flags);
/// Checks the fields of a query in the same way. Fields with numbers must be readable as numbers.
void check_query(const std::vector<std::pair<std::string, std::string>>& query, const std::vector<ApiField>& fields);
/// Writes the JSON schema of an object with these fields.
void write_schema(JsonWriter& json, const std::vector<ApiField>& fields, const FlagTable& flags);
/// Writes the JSON schema of one field.
void write_field_schema(JsonWriter& json, const ApiField& field, const FlagTable& flags);
/// True if a text is a letter or digit, followed by letters, digits, "_", "-" or "." (at most 80 characters).
bool is_plain_name(std::string_view text);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/fields_inl.hpp"
#endif

#endif
