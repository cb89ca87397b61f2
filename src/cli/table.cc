#include "cli/table.h"

#include <algorithm>

#include "common/check.h"

namespace datom::cli {
namespace {

constexpr std::size_t kGap = 2;

// Characters, not bytes: continuation bytes of UTF-8 take no room.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

void trim_end(std::string& line) {
  line.resize(line.find_last_not_of(' ') + 1);
}

}  // namespace

void Table::add(std::vector<std::string> cells) {
  DATOM_CHECK(cells.size() == columns_.size());
  for (std::string& cell : cells) {
    if (cell.empty()) cell = "-";
  }
  rows_.push_back(std::move(cells));
}

std::string Table::line(const std::vector<std::string>& cells,
                        const std::vector<std::size_t>& widths) const {
  std::string text;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string padding(widths[i] - width(cells[i]), ' ');
    if (i > 0) text.append(kGap, ' ');
    text += columns_[i].align == Align::right ? padding + cells[i] : cells[i] + padding;
  }
  trim_end(text);
  return text + "\n";
}

std::string Table::text() const {
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    widths.push_back(width(titles[i]));
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text = line(titles, widths);
  for (const auto& row : rows_) text += line(row, widths);
  return text;
}

void Facts::add(std::string name, std::string value) {
  facts_.emplace_back(std::move(name), value.empty() ? "-" : std::move(value));
}

std::string Facts::text() const {
  std::size_t longest = 0;
  for (const auto& [name, value] : facts_) longest = std::max(longest, width(name));
  std::string text;
  for (const auto& [name, value] : facts_) {
    text += name + (name.empty() ? " " : ":") + std::string(longest - width(name) + kGap, ' ') +
            value + "\n";
  }
  return text;
}

}  // namespace datom::cli
