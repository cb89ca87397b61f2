// Bytes in memory: spans, little-endian fields, and Buffer, the reference-counted memory that
// travels between socket, journal and peers without being copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace datom {

using ByteView = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

inline constexpr std::size_t kBlockSize = 4096;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Little-endian integers at any alignment. REQUIRES: the integer's bytes are there.
template <typename Integer>
Integer load_le(const std::byte* from) {
  Integer value;
  std::memcpy(&value, from, sizeof value);
  return value;  // every machine datom runs on is little-endian; bytes.cc asserts it
}
template <typename Integer>
void store_le(std::byte* to, Integer value) {
  std::memcpy(to, &value, sizeof value);
}

// Whether every byte is zero. 4 KiB take about 50 ns.
bool all_zero(ByteView bytes);

// A part of a piece of memory whose last holder frees it. The memory is aligned to 4 KiB, so that
// it can be read and written O_DIRECT. Copies share; the count is atomic, the bytes are not: one
// holder fills a buffer before it hands it on, and nobody writes it afterwards.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer& other);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer other) noexcept;
  ~Buffer();

  // Uninitialised memory of `size` bytes. Throws std::bad_alloc.
  static Buffer allocate(std::size_t size);
  static Buffer zeroed(std::size_t size);
  static Buffer copy_of(ByteView bytes);

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const std::byte* data() const { return data_; }
  std::byte* mutable_data() { return data_; }
  ByteView view() const { return {data_, size_}; }
  MutableBytes mutable_view() { return {data_, size_}; }

  // The same memory, bytes [offset, offset + length). REQUIRES: inside this buffer.
  Buffer slice(std::size_t offset, std::size_t length) const;

 private:
  struct Block;
  Block* block_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace datom
