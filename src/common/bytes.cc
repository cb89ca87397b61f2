#include "common/bytes.h"

#include <atomic>
#include <bit>
#include <new>
#include <utility>

#include "common/check.h"

namespace datom {

static_assert(std::endian::native == std::endian::little);

// The count and where the memory begins; slices point into the same memory.
struct Buffer::Block {
  std::atomic<std::size_t> holders{1};
  std::byte* memory = nullptr;
};

bool all_zero(ByteView bytes) {
  std::size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) {
    std::uint64_t words[4];
    std::memcpy(words, bytes.data() + i, sizeof words);
    if ((words[0] | words[1] | words[2] | words[3]) != 0) return false;
  }
  for (; i < bytes.size(); ++i) {
    if (bytes[i] != std::byte{0}) return false;
  }
  return true;
}

Buffer::Buffer(const Buffer& other) : block_(other.block_), data_(other.data_), size_(other.size_) {
  if (block_ != nullptr) block_->holders.fetch_add(1, std::memory_order_relaxed);
}

Buffer::Buffer(Buffer&& other) noexcept
    : block_(std::exchange(other.block_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer other) noexcept {
  std::swap(block_, other.block_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Buffer::~Buffer() {
  if (block_ == nullptr) return;
  if (block_->holders.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  ::operator delete(block_->memory, std::align_val_t{kBlockSize});
  delete block_;
}

Buffer Buffer::allocate(std::size_t size) {
  Buffer buffer;
  buffer.block_ = new Block;
  try {
    buffer.block_->memory =
        static_cast<std::byte*>(::operator new(size == 0 ? 1 : size, std::align_val_t{kBlockSize}));
  } catch (...) {
    delete std::exchange(buffer.block_, nullptr);
    throw;
  }
  buffer.data_ = buffer.block_->memory;
  buffer.size_ = size;
  return buffer;
}

Buffer Buffer::zeroed(std::size_t size) {
  Buffer buffer = allocate(size);
  std::memset(buffer.data_, 0, size);
  return buffer;
}

Buffer Buffer::copy_of(ByteView bytes) {
  Buffer buffer = allocate(bytes.size());
  if (!bytes.empty()) std::memcpy(buffer.data_, bytes.data(), bytes.size());
  return buffer;
}

Buffer Buffer::slice(std::size_t offset, std::size_t length) const {
  DATOM_CHECK(offset <= size_ && length <= size_ - offset);
  Buffer part(*this);
  part.data_ += offset;
  part.size_ = length;
  return part;
}

}  // namespace datom
