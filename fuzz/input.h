// Takes an input apart: numbers and pieces from the front, zeros once it is used up.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "common/bytes.h"

namespace datom::fuzz {

class Input {
 public:
  explicit Input(ByteView bytes) : left_(bytes) {}

  bool empty() const { return left_.empty(); }

  template <typename Integer>
  Integer number() {
    Integer value = 0;
    const ByteView taken = piece(sizeof value);
    std::memcpy(&value, taken.data(), taken.size());
    return value;
  }
  std::uint8_t byte() { return number<std::uint8_t>(); }

  // At most that many bytes.
  ByteView piece(std::size_t size) {
    const ByteView taken = left_.first(std::min(size, left_.size()));
    left_ = left_.subspan(taken.size());
    return taken;
  }
  ByteView rest() { return piece(left_.size()); }

 private:
  ByteView left_;
};

// Puts together what Input takes apart.
class Output {
 public:
  template <typename Integer>
  Output& number(Integer value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Output& text(std::string_view value) {
    text_ += value;
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace datom::fuzz
