#include "common/bytes.h"

#include <array>
#include <atomic>
#include <bit>
#include <new>
#include <utility>

#include "common/check.h"
#include "common/page_memory.h"
#include "common/sanitizer.h"

namespace datom {

static_assert(std::endian::native == std::endian::little);

// The count and where the memory begins; slices point into the same memory.
struct Buffer::Block {
  std::atomic<std::size_t> holders{1};
  std::byte* memory = nullptr;
  std::size_t size = 0;   // of the memory
  Block* next = nullptr;  // in a Cache

  class Cache;
  // With one holder. Throws std::bad_alloc.
  static Block* take(std::size_t size);
  // Without any.
  static void give_back(Block* block);
  static std::byte* allocate(std::size_t capacity);
  static void release(Block* block);
};

namespace {

// Capacities of blocks that are kept for the next buffer: four to a doubling. What is larger comes
// from the allocator, and goes back to it.
constexpr std::size_t kLargestKept = 8 << 20;
constexpr std::size_t kStepsPerDoubling = 4;

std::size_t capacity_for(std::size_t size) {
  const std::size_t blocks = size == 0 ? 1 : (size + kBlockSize - 1) / kBlockSize;
  if (size > kLargestKept) return blocks * kBlockSize;
  if (blocks <= kStepsPerDoubling) return blocks * kBlockSize;
  const std::size_t step = std::bit_floor(blocks - 1) / kStepsPerDoubling;
  return (blocks + step - 1) / step * step * kBlockSize;
}

// REQUIRES: a capacity of capacity_for(), at most kLargestKept.
std::size_t class_of(std::size_t capacity) {
  const std::size_t blocks = capacity / kBlockSize;
  if (blocks <= kStepsPerDoubling) return blocks - 1;
  const auto doublings = static_cast<std::size_t>(std::bit_width(blocks - 1)) - 3;
  const std::size_t step = std::size_t{1} << doublings;
  return kStepsPerDoubling * (doublings + 1) + (blocks / step - kStepsPerDoubling) - 1;
}

}  // namespace

// Blocks that a thread has freed and will want again: an allocation of aligned memory costs as much
// as the rest of a small request, and fresh large memory a page fault for every 4 KiB.
class Buffer::Block::Cache {
 public:
  ~Cache() {
    is_gone = true;
    for (Block*& first : free_) {
      while (first != nullptr) release(std::exchange(first, first->next));
    }
  }

  // nullptr if there is none.
  Block* take(std::size_t capacity) {
    if (capacity > kLargestKept) return nullptr;
    const std::size_t of = class_of(capacity);
    wanted_[of] = ++takes_;
    Block*& first = free_[of];
    if (first == nullptr) return nullptr;
    Block* const block = std::exchange(first, first->next);
    kept(capacity) -= capacity;
    return block;
  }

  // False if it is one too many. In the place of sizes that nobody has wanted for longer.
  bool give(Block* block) {
    const std::size_t capacity = block->size;
    if (kIsAddressSanitized || capacity > kLargestKept) return false;
    while (kept(capacity) + capacity > (is_small(capacity) ? kMostSmall : kMostLarge)) {
      Block* const other = take_longest_unwanted(block);
      if (other == nullptr) return false;
      release(other);
    }
    kept(capacity) += capacity;
    Block*& first = free_[class_of(capacity)];
    block->next = std::exchange(first, block);
    return true;
  }

  // Of this thread; nullptr when the thread ends and has none any more.
  static Cache* mine() {
    thread_local Cache cache;
    return is_gone ? nullptr : &cache;
  }

 private:
  // A thread keeps at most so many bytes, so that a burst of small ones leaves room for large ones.
  static constexpr std::size_t kMostSmall = 8 << 20;
  static constexpr std::size_t kMostLarge = 24 << 20;
  static constexpr std::size_t kClasses = 40;

  static bool is_small(std::size_t capacity) { return capacity <= 64 << 10; }

  // One that counts as `block` does and whose size was wanted longer ago; nullptr if there is none.
  Block* take_longest_unwanted(const Block* block) {
    std::size_t found = class_of(block->size);
    for (std::size_t of = 0; of < kClasses; ++of) {
      const bool kin = free_[of] != nullptr && is_small(free_[of]->size) == is_small(block->size);
      if (kin && wanted_[of] < wanted_[found]) found = of;
    }
    if (found == class_of(block->size)) return nullptr;
    Block* const other = free_[found];
    free_[found] = other->next;
    kept(other->size) -= other->size;
    return other;
  }
  std::size_t& kept(std::size_t capacity) { return is_small(capacity) ? small_ : large_; }

  inline static thread_local bool is_gone = false;

  std::array<Block*, kClasses> free_{};
  std::array<std::uint64_t, kClasses> wanted_{};  // the number of the last take
  std::uint64_t takes_ = 0;
  std::size_t small_ = 0;
  std::size_t large_ = 0;
};

Buffer::Block* Buffer::Block::take(std::size_t size) {
  const std::size_t capacity = kIsAddressSanitized ? size : capacity_for(size);
  Cache* const cache = Cache::mine();
  Block* block = cache == nullptr || kIsAddressSanitized ? nullptr : cache->take(capacity);
  if (block != nullptr) {
    block->holders.store(1, std::memory_order_relaxed);
    return block;
  }
  block = new Block;
  try {
    block->memory = allocate(capacity);
  } catch (...) {
    delete block;
    throw;
  }
  block->size = capacity;
  return block;
}

std::byte* Buffer::Block::allocate(std::size_t capacity) {
  if (!kIsAddressSanitized) return PageMemory::shared().take(capacity);
  return static_cast<std::byte*>(
      ::operator new(capacity == 0 ? 1 : capacity, std::align_val_t{kBlockSize}));
}

void Buffer::Block::release(Block* block) {
  if (kIsAddressSanitized) {
    ::operator delete(block->memory, std::align_val_t{kBlockSize});
  } else {
    PageMemory::shared().give_back(block->memory, block->size);
  }
  delete block;
}

void Buffer::Block::give_back(Block* block) {
  Cache* const cache = Cache::mine();
  if (cache == nullptr || !cache->give(block)) release(block);
}

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
  Block::give_back(block_);
}

Buffer Buffer::allocate(std::size_t size) {
  Buffer buffer;
  buffer.block_ = Block::take(size);
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
