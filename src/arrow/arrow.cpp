// SPDX-License-Identifier: Apache-2.0
// kdlib::arrow: the bodies of kdlib/arrow.hpp.
#include "kdlib/arrow.hpp"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>

#include <array>
#include <memory>
#include <numeric>
#include <string_view>
#include <utility>

KDLIB_NAMESPACE_BEGIN
namespace {

/// A column of the file and the field of a row that it fills.
struct Column {
  const char* name;
  std::string ReasoningRow::*field;
  bool needed;
};
constexpr std::array<Column, 7> columns{{{"synth_id", &ReasoningRow::key, true},
                                         {"query", &ReasoningRow::query, true},
                                         {"synthetic_reasoning", &ReasoningRow::reasoning, true},
                                         {"synthetic_answer", &ReasoningRow::answer, true},
                                         {"language", &ReasoningRow::language, false},
                                         {"exercise", &ReasoningRow::exercise, false},
                                         {"constraints", &ReasoningRow::constraints, false}}};

class ParquetReader {
 public:
  explicit ParquetReader(const std::string& path) : path_(path) {
    file_size(path);  // IoError where it is not there
    guarded([&] { open(); });
  }

  bool next(ReasoningRow& row) {
    while (batch_ == nullptr || at_ == batch_->num_rows()) {
      at_ = 0;
      guarded([&] { check(batches_->ReadNext(&batch_)); });
      if (batch_ == nullptr) return false;
    }
    for (std::size_t c = 0; c < columns.size(); ++c) {
      std::string& out = row.*columns[c].field;
      if (places_[c] < 0) out.clear();
      else out = text(*batch_->column(places_[c]), at_, columns[c].name);
    }
    ++at_;
    ++row_;
    return true;
  }

 private:
  /// Arrow throws where Parquet's own layers find damage.
  template <class F>
  void guarded(F&& f) {
    try {
      f();
    } catch (const ::parquet::ParquetException& error) {
      fail<FormatError>("[parquet] ", path_, ": ", error.what());
    }
  }
  void check(const ::arrow::Status& status) const {
    if (status.ok()) return;
    if (status.IsIOError()) fail<IoError>("[parquet] ", path_, ": ", status.message());
    fail<FormatError>("[parquet] ", path_, row_ == 0 ? "" : concat(" behind row ", row_), ": ", status.ToString());
  }
  template <class T>
  T value(::arrow::Result<T> result) const {
    check(result.status());
    return std::move(result).ValueUnsafe();
  }

  void open() {
    ::parquet::ReaderProperties pages;
    pages.enable_buffered_stream();
    ::parquet::ArrowReaderProperties how(false);
    how.set_batch_size(1024);
    how.set_pre_buffer(false);
    ::parquet::arrow::FileReaderBuilder builder;
    check(builder.Open(value(::arrow::io::ReadableFile::Open(path_)), pages));
    builder.properties(how);
    check(builder.Build(&file_));
    const auto& schema = *file_->parquet_reader()->metadata()->schema();
    std::vector<int> chosen, groups(static_cast<std::size_t>(file_->num_row_groups()));
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const int leaf = schema.ColumnIndex(std::string(columns[c].name));
      require<FormatError>(leaf >= 0 || !columns[c].needed, "[parquet] ", path_, " has no column ", columns[c].name,
                           "; rows need synth_id, query, synthetic_reasoning and synthetic_answer");
      if (leaf >= 0) chosen.push_back(leaf);
    }
    std::iota(groups.begin(), groups.end(), 0);
    batches_ = value(file_->GetRecordBatchReader(groups, chosen));
    for (std::size_t c = 0; c < columns.size(); ++c) places_[c] = batches_->schema()->GetFieldIndex(columns[c].name);
  }

  /// Row i of a column, empty where it is null.
  std::string_view text(const ::arrow::Array& array, std::int64_t i, const char* name) const {
    using ::arrow::Type;
    if (array.IsNull(i)) return {};
    switch (array.type_id()) {
      case Type::STRING:
      case Type::BINARY:
        return static_cast<const ::arrow::BinaryArray&>(array).GetView(i);
      case Type::LARGE_STRING:
      case Type::LARGE_BINARY:
        return static_cast<const ::arrow::LargeBinaryArray&>(array).GetView(i);
      case Type::STRING_VIEW:
      case Type::BINARY_VIEW:
        return static_cast<const ::arrow::BinaryViewArray&>(array).GetView(i);
      case Type::DICTIONARY: {
        const auto& words = static_cast<const ::arrow::DictionaryArray&>(array);
        return text(*words.dictionary(), words.GetValueIndex(i), name);
      }
      case Type::NA:
        return {};
      default:
        fail<FormatError>("[parquet] ", path_, ": the column ", name, " holds ", array.type()->ToString(),
                          "; text is needed");
    }
  }

  std::string path_;
  std::unique_ptr<::parquet::arrow::FileReader> file_;
  std::unique_ptr<::arrow::RecordBatchReader> batches_;  // of the file: goes first
  std::shared_ptr<::arrow::RecordBatch> batch_;
  std::array<int, columns.size()> places_{};
  std::int64_t at_ = 0, row_ = 0;
};

}  // namespace

NextRow parquet_rows(const std::string& path) {
  return [reader = std::make_shared<ParquetReader>(path)](ReasoningRow& row) { return reader->next(row); };
}

KDLIB_NAMESPACE_END
